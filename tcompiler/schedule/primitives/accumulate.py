"""stage_accumulate: a reduction accumulates in a buffer of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tcompiler.ir.loop.analysis import accesses, touched
from tcompiler.ir.loop.grammar import SCOPES, Block, Buffer, For, Function, IterVar, Seq, Stmt, Store, Update, seq
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, as_int, conjunction, index, loop_var
from tcompiler.ir.scalar.rewrite import free_vars, loads, substitute
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import ZERO, Axis, axis_of, bound_indices
from tcompiler.schedule.primitives.motion import (
    and_parts,
    child_towards,
    lanes_above,
    loops,
    rebuilt,
    retarget,
    simple_body,
    with_iters,
)
from tcompiler.schedule.primitives.reduction import Quoted, decomposed, spatial_predicate
from tcompiler.schedule.tree import block_named, blocks_under, fresh, loop_named, names_used, tree

UPDATE = condition(
    "stage_accumulate.update", "the block's body is one Update, and it has spatial and reduce iters only"
)
TARGET = condition("stage_accumulate.target", "all targets of the Update have the same indices")
OWN = condition("stage_accumulate.own_target", "nothing else under the loop reads or writes the target")
ABOVE = condition("stage_accumulate.above", "the loop surrounds the block")
SCOPE = condition("stage_accumulate.scope", "the scope is a private one: shared, local, register or fragment")
LANES = condition("stage_accumulate.lanes", "neither the loop nor one around it is vectorized")
PARALLEL = condition("stage_accumulate.parallel", "no loop between the given one and the block is parallel")
SEPARATE = condition("stage_accumulate.separate", "no loop around the block feeds both spatial and reduce iters")
GUARD = condition(
    "stage_accumulate.predicate",
    "where the predicate depends on reduce loops it holds at the first point of the reduction",
)
FED = condition("stage_accumulate.fed", "every loop between the given one and the block feeds an iter of it")
DISTINCT = condition(
    "stage_accumulate.distinct",
    "where reduce loops stay outside, spatial iterations inside the outermost of them init different elements",
)
EXTENT = condition(
    "stage_accumulate.extent", "the loops inside the given one that make up the tile have constant extents"
)


class _Tile(NamedTuple):
    """The tile of the target that one iteration of the loop updates.

    Attributes:
        axes: Its coordinates, made of loops inside the loop; extents are greater than 1.
        units: Loop variables that are always 0.
    """

    axes: tuple[Axis, ...]
    units: tuple[Var, ...]


@primitive
def stage_accumulate(function: Function, block: str, loop: str, scope: str) -> Result:
    """Makes a reduction accumulate in a buffer that holds the tile of one iteration of a loop.

    Before:

        for i0 in range(10):
            for k in range(32):
                for i1 in range(6):
                    with block("C"):
                        vi = spatial(60, i0 * 6 + i1); vk = reduce(32, k)
                        with init(): C[vi] = f32(0.0)
                        C[vi] += A[vi, vk]

    After ``stage_accumulate("C", "i0", "register")``:

        C_acc = alloc(f32[6], scope="register")
        for i0 in range(10):
            for C_acc_init_ax0 in range(6):
                with block("C_acc_init"):
                    a0 = spatial(6, C_acc_init_ax0); C_acc[a0] = f32(0.0)
            for k in range(32):
                for i1 in range(6):
                    with block("C"):
                        vi = spatial(60, i0 * 6 + i1); vk = reduce(32, k); a0 = spatial(6, i1)
                        C_acc[a0] += A[vi, vk]
            for C_write_ax0 in range(6):
                with block("C_write"):
                    vi = spatial(60, i0 * 6 + C_write_ax0); a0 = spatial(6, C_write_ax0)
                    C[vi] = C_acc[a0]

    The tile has an axis per dimension of the target in which loops inside the given one run, in the order of the
    dimensions; a loop that makes up dimensions in another way than a digit makes up a number (one of a fused index,
    say) is an axis of its own, at the first of them. What the predicate says of spatial loops holds for init and
    write-back too, so that a peel cuts all three alike.

    If the block has an init and all its reduce loops are inside the loop, the accumulator starts from the init and
    the write-back is a Store. Otherwise it starts from the reducer's identity and the write-back is an Update, over
    the outer reduce loops, which has the block's init.

    Args:
        function: The function.
        block: The reduction.
        loop: The loop around it in whose body init, loops and write-back stand.
        scope: Scope of the accumulator.

    Returns:
        The new function and the names of the accumulator's init block, `{block}_acc_init`, and of the write-back
        block, `{block}_write`.

    Raises:
        ScheduleError: If a condition of stage_accumulate does not hold.
    """
    b, around = block_named(function, block), loop_named(function, loop)
    update = _checked(function, b, around, scope)
    above = tree(function).loops_above(b)
    reduced = {
        v
        for it, binding in zip(b.iters, b.bindings, strict=True)
        if it.kind == "reduce"
        for v in free_vars(binding)
        if v.extent is not None
    }
    at = above.index(around) if around in above else 0
    outer_reduce = [s for s in above[: at + 1] if s.var in reduced]
    if b.init is not None and outer_reduce:
        # the write-back starts a sum after its first part, which is legal where the init could come before all parts
        decomposed(function, b, outer_reduce[0], Quoted(SEPARATE, SEPARATE, GUARD, DISTINCT, None))
    tile = _tile(b, update, [s.var for s in above[at + 1 :]])
    predicate = spatial_predicate(b, reduced, GUARD)

    used = names_used(function)
    used.update(it.var.name for it in b.iters)
    stored = [t.buffer for t in update.targets]
    accumulators = dict(zip(stored, fresh(used, [f"{name}_acc" for name in stored]), strict=True))
    buffers = tuple(
        Buffer(name, t.dtype, tuple(index(a.extent) for a in tile.axes), None, scope)
        for t, name in zip(update.targets, accumulators.values(), strict=True)
    )
    coordinates = tuple(
        IterVar(loop_var(name, axis.extent), "spatial")
        for name, axis in zip(fresh(used, [f"a{k}" for k in range(len(tile.axes))]), tile.axes, strict=True)
    )
    inside = tuple(c.var for c in coordinates)

    def staged(name: str, indices: tuple[Scalar, ...]) -> tuple[str, tuple[Scalar, ...]]:
        return accumulators[name], inside

    maker = _Maker(b, tile, predicate, coordinates, used)
    if b.init is not None and not outer_reduce:
        first = retarget(b.init, accumulators.keys(), staged, reads=False)
    else:
        first = seq(
            *[
                Store(accumulators[t.buffer], inside, e)
                for t, e in zip(update.targets, update.reducer.identity, strict=True)
            ]
        )
    init_name, write_name = fresh(used, [f"{block}_acc_init", f"{block}_write"])
    init = maker.nest(init_name, first, (), plain=_independent(first, inside))
    values = tuple(Load(accumulators[t.buffer], t.dtype, inside) for t in update.targets)
    if b.init is not None and not outer_reduce:
        last: Stmt = seq(*[Store(t.buffer, t.indices, v) for t, v in zip(update.targets, values, strict=True)])
    else:
        last = Update(update.targets, update.reducer, values)
    write = maker.nest(write_name, last, outer_reduce, plain=False, start=b.init if outer_reduce else None)
    accumulate = with_iters(
        b,
        zip(coordinates, [a.value for a in tile.axes], strict=True),
        retarget(b.body, accumulators.keys(), staged, reads=False),
        None,
    )
    child = child_towards(function, around, b)
    function = rebuilt(
        function,
        {b: accumulate},
        before={child: init},
        after={child: write},
        buffers=(*function.buffers, *buffers),
    )
    return Result(function, (init_name, write_name))


class _Maker:
    """Makes the nests around the tile's init and write-back."""

    def __init__(
        self, b: Block, tile: _Tile, predicate: Sequence[Scalar], coordinates: Sequence[IterVar], used: set[str]
    ) -> None:
        self.b = b
        self.tile = tile
        self.predicate = predicate
        self.coordinates = coordinates
        self.used = used

    def nest(
        self, name: str, body: Stmt, outer_reduce: Sequence[For], *, plain: bool, start: Stmt | None = None
    ) -> Stmt:
        """Loops over the tile around a block.

        Args:
            name: Of the block; its loops are `{name}_ax{k}`.
            body: Over the block's spatial iters and the tile's coordinates.
            outer_reduce: Loops outside that become reduce iters.
            plain: The body names coordinates only: no other iter vars are needed.
            start: The block's init.
        """
        axes = self.tile.axes
        names = fresh(self.used, [f"{name}_ax{k}" for k in range(len(axes))])
        variables = [loop_var(n, a.extent) for n, a in zip(names, axes, strict=True)]
        iters: list[IterVar] = []
        bindings: list[Scalar] = []
        digits: dict[Scalar, Scalar] = dict.fromkeys(self.tile.units, ZERO)
        for axis, var in zip(axes, variables, strict=True):
            digits.update(axis.decode(var))
        predicate = and_parts(self.predicate, digits)
        if not plain:
            for it, binding in zip(self.b.iters, self.b.bindings, strict=True):
                if it.kind == "spatial":
                    iters.append(it)
                    bindings.append(simplify(substitute(binding, digits)))
            for s, n in zip(outer_reduce, fresh(self.used, [f"v_{s.var.name}" for s in outer_reduce]), strict=True):
                iters.append(IterVar(Var(n, s.var.dtype, s.var.extent), "reduce"))
                bindings.append(s.var)
        iters.extend(self.coordinates)
        bindings.extend(variables)
        return loops(variables, Block(name, tuple(iters), tuple(bindings), body, conjunction(*predicate), start))


def _independent(stmt: Stmt, coordinates: Sequence[Var]) -> bool:
    """Whether stores read nothing and name nothing but coordinates."""
    parts = stmt.stmts if isinstance(stmt, Seq) else (stmt,)
    return all(isinstance(s, Store) and not loads(s.value) and free_vars(s.value) <= set(coordinates) for s in parts)


def _tile(b: Block, update: Update, inner: Sequence[Var]) -> _Tile:
    spatial = {
        v for it, binding in zip(b.iters, b.bindings, strict=True) if it.kind == "spatial" for v in free_vars(binding)
    }
    running = [v for v in inner if v in spatial]
    extents: dict[Var, int] = {}
    for var in running:
        extent = as_int(var.extent)
        if extent is None:
            refuse(
                EXTENT,
                b,
                f"{var.name}, which makes up the tile, has the extent {var.extent!r}",
                "choose a loop inside it, or split it",
            )
        else:
            extents[var] = extent
    bound = bound_indices(b, update.targets[0].indices)
    among = frozenset(running)
    often = [v for node in bound for v in free_vars(node) & among]
    axes: list[Axis] = []
    done: set[Var] = set()
    for node in bound:
        split = axis_of(node, among)
        if split is not None and all(often.count(v) == 1 for v, _ in split[1].parts):
            axes.append(split[1])
            done.update(v for v, _ in split[1].parts)
            continue
        # a loop that steps through the target is an axis of its own, in its place among the target's dimensions
        steps = [v for v in running if v in free_vars(node) and v not in done]
        axes += [Axis(((v, 1),), extents[v]) for v in steps]
        done.update(steps)
    axes += [Axis(((v, 1),), extents[v]) for v in running if v not in done]
    # a predicate may name loops of one iteration that feed nothing, too
    units = tuple(v for v in inner if as_int(v.extent) == 1)
    return _Tile(tuple(a for a in axes if a.extent > 1), units)


def _checked(function: Function, b: Block, around: For, scope: str) -> Update:
    above = tree(function).loops_above(b)
    loop = around.var.name
    if around not in above:
        refuse(
            ABOVE,
            around,
            f"{loop} does not surround {b.name}",
            f"choose one of {', '.join(s.var.name for s in above)}" if above else "choose a block in loops",
        )
    if not isinstance(b.body, Update) or not simple_body(b) or any(it.kind == "ordered" for it in b.iters):
        refuse(
            UPDATE,
            b,
            f"{b.name} is no reduction by an Update",
            "choose a reduction",
        )
    assert isinstance(b.body, Update)
    if scope not in SCOPES or scope == "global":
        refuse(SCOPE, b, f'"{scope}" is not a private scope', 'take "register" for a tile that fits the registers')
    lanes_above(LANES, function, around, "loops")
    at = above.index(around) if around in above else 0
    for s in above[at + 1 :]:
        if s.kind == "parallel":
            refuse(
                PARALLEL,
                s,
                f"{s.var.name} is parallel, and all its iterations would share the accumulator",
                f"choose {s.var.name} or a loop inside it",
            )
    update = b.body
    names = {t.buffer for t in update.targets}
    if any(t.indices != update.targets[0].indices for t in update.targets):
        refuse(TARGET, b, f"the targets of {b.name} have different indices", "stage reductions one at a time")
    if any(r.buffer in names for r in accesses(b).reads):
        refuse(OWN, b, f"{b.name} reads its target in a value", "let it write another buffer (cache_write)")
    for other in blocks_under(around):
        clash = sorted(names & (touched(other).reads | touched(other).writes))
        if other is not b and clash:
            refuse(
                OWN,
                other,
                f"{other.name}, under {loop} too, touches {clash[0]}",
                f"stage before {other.name} comes there, or choose a loop inside",
            )
    kinds: dict[Var, set[str]] = {}
    for it, binding in zip(b.iters, b.bindings, strict=True):
        for v in free_vars(binding):
            kinds.setdefault(v, set()).add(it.kind)
    for s in above[at + 1 :]:
        if s.var not in kinds and as_int(s.var.extent) != 1:
            refuse(
                FED,
                s,
                f"{s.var.name} feeds no iter of {b.name}, which runs anew in each of its iterations",
                f"choose {s.var.name} or a loop inside it",
            )
    for s in above:
        if len(kinds.get(s.var, ())) > 1:
            refuse(
                SEPARATE,
                s,
                f"{s.var.name} feeds spatial and reduce iters of {b.name}",
                "fuse spatial loops with spatial loops only",
            )
    return update
