"""reverse_compute_at: a consumer moves under a loop of its producers."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from tcompiler.ir.loop.analysis import accesses, touched
from tcompiler.ir.loop.grammar import Block, For, Function, Seq
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, as_int, conjuncts, greater_equal, index, less, parameter, sub
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.schedule.affine.coverage import stays_inside
from tcompiler.schedule.affine.linear import linear
from tcompiler.schedule.legality import At, Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import ZERO, Axis, Span, axis_of, bound_indices, clip, inner_loops
from tcompiler.schedule.primitives.motion import (
    bound_to,
    buffer_of,
    guarded_only_by_domain,
    lanes_above,
    nest,
    order,
    readers,
    rebuilt,
    regenerated,
    shared_loops,
    simple_body,
    untied,
    whole,
    writers,
    written_once,
)
from tcompiler.schedule.primitives.placing import placed
from tcompiler.schedule.tree import block_named, blocks_under, loop_named, names_used, tree

WHOLE = condition(
    "reverse_compute_at.whole",
    "the block has spatial and reduce iters only, does not read what it writes, and inits what it updates",
)
WRITER = condition("reverse_compute_at.sole_writer", "the block is the only writer of what it writes")
PRODUCERS = condition(
    "reverse_compute_at.producers",
    "a producer of the block is under the loop, and so is every writer of what that producer writes",
)
DOMAIN = condition("reverse_compute_at.domain", "the block's predicate only keeps its iter vars inside their domains")
FINISHED = condition(
    "reverse_compute_at.finished",
    "every producer under the loop has all its reduce loops inside the loop, and ordered ones too, or each of their "
    "steps makes elements of its own",
)
TILE = condition(
    "reverse_compute_at.tile",
    "an iteration of the loop makes a known tile of what the block reads, and the block reads tiled dimensions by "
    "plain iter vars",
)
MADE = condition(
    "reverse_compute_at.made", "every iteration of the block reads, in tiled dimensions, elements that are made"
)
INPUTS = condition(
    "reverse_compute_at.inputs", "everything else that the block reads is complete before the loop's nest"
)
BETWEEN = condition(
    "reverse_compute_at.between", "nothing between the loop's nest and the block touches what the block writes"
)
PRIVATE = condition(
    "reverse_compute_at.private",
    "no parallel loop that the block was not in before surrounds it where it writes a private buffer",
)
LANES = condition("reverse_compute_at.lanes", "neither the loop nor one around it is vectorized")
REDUCTION = condition(
    "reverse_compute_at.reduction", "each iteration of the loop makes all that one reduction of the block reads"
)


TIED = condition(
    "reverse_compute_at.tied",
    "iter vars that share loops, or that what is written does not depend on, keep the loops that feed them",
)


@primitive
def reverse_compute_at(function: Function, block: str, loop: str) -> Result:
    """Moves a consumer under a loop of its producers, where it consumes what one iteration of the loop makes.

    Before:

        for i0 in range(8):
            for i1 in range(8):
                with block("B"):  vi = spatial(64, i0 * 8 + i1); B[vi] = f(A[vi])
        for i in range(64):
            with block("C"):  vi = spatial(64, i); C[vi] = g(B[vi])

    After ``reverse_compute_at("C", "i0")``:

        for i0 in range(8):
            for i1 in range(8):
                with block("B"):  ...  B[vi - v_i0 * 8] = f(A[vi])
            for C_ax0 in range(8):
                with block("C"):  vi = spatial(64, i0 * 8 + C_ax0); v_i0 = spatial(8, i0); C[vi] = g(B[vi - v_i0 * 8])

    The block's loops are made anew, `{block}_ax{k}` for the k-th iter var, over the tile that the producers make; what
    their predicates leave out, the block leaves out. A buffer that is used under the loop only shrinks to the tile and
    becomes private to the iteration (see `compaction.compacted`).

    Args:
        function: The function.
        block: The consumer.
        loop: A loop around producers; the block is placed in its body, after the last of them.

    Returns:
        The new function, and no names.

    Raises:
        ScheduleError: If a condition of reverse_compute_at does not hold.
    """
    b, around = block_named(function, block), loop_named(function, loop)
    whole(WHOLE, b, "move")
    written_once(WRITER, function, b, "move it")
    guarded_only_by_domain(DOMAIN, b, "move")
    lanes_above(LANES, function, around, "loops")
    produced = _producers(function, b, around)
    stay = shared_loops(function, b, around)
    _private(function, b, around, stay)
    _between(function, b, around, stay)
    spans, conditions = _tile(function, b, around, produced)
    _reductions_inside(b, around, spans)

    kept = bound_to(b, {s.var for s in stay}) - spans.keys()
    untied(TIED, b, spans, kept)
    used = names_used(function)
    moved, variables = regenerated(b, spans, kept, used, conditions)
    shrinking = [n for n in produced if not _used_otherwise(function, b, around, n)]
    return Result(placed(function, b, around, moved, variables, produced, shrinking, used, produces=False))


def _used_otherwise(function: Function, b: Block, around: For, buffer: str) -> bool:
    """Whether a block beside the producers and this consumer reads what other iterations of the loop may have made."""
    if all(r is b or buffer in touched(r).writes for r in readers(function, buffer)):
        return False
    inside = [*(s.var for s in tree(function).loops_above(around)), around.var]
    others = [r for r in readers(function, buffer) if r is not b]
    return not all(r in blocks_under(around) for r in others) or not _fresh(function, b, around, inside, buffer)


def _fresh(function: Function, b: Block, around: For, inside: Sequence[Var], buffer: str) -> bool:
    """Whether all but this consumer read only what the same iteration wrote."""
    without = rebuilt(function, {nest(function, b): Seq(())})
    body = loop_named(without, around.var.name).body
    return stays_inside(without, body, inside, buffer)


def _producers(function: Function, b: Block, around: For) -> list[str]:
    """The buffers that the block reads and that are made under the loop."""
    under = set(blocks_under(around))
    at = order(function)
    loop = around.var.name
    first = min((at[x.name] for x in under), default=0)
    produced = []
    for name in sorted(touched(b).reads):
        makers = [w for w in writers(function, name) if w is not b]
        inside = [w for w in makers if w in under]
        if inside:
            produced.append(name)
            for other in makers:
                if other not in under:
                    refuse(
                        PRODUCERS,
                        other,
                        f"{other.name} writes {name} and is not under {loop}",
                        "choose a loop around all writers",
                    )
            continue
        for other in makers:
            stay = shared_loops(function, other, b)
            if at[other.name] > first or any(s not in stay for s in shared_loops(function, other, around)):
                refuse(
                    INPUTS,
                    other,
                    f"{other.name} writes {name}, which {b.name} reads, and is not complete before {loop}",
                    f"move {other.name} before the nest of {loop}, or inline it",
                )
    if not produced or b in under:
        refuse(
            PRODUCERS,
            around,
            f"no block under {loop} makes what {b.name} reads"
            if b not in under
            else f"{b.name} is under {loop} already",
            "choose a loop around a producer",
        )
    for name in produced:
        for other in writers(function, name):
            if at[other.name] > at[b.name]:
                refuse(
                    PRODUCERS,
                    other,
                    f"{other.name} writes {name} after {b.name} has read it",
                    "choose a block whose producers come before it",
                )
    for name in produced:
        for other in writers(function, name):
            for it, binding in zip(other.iters, other.bindings, strict=True):
                if it.kind == "spatial" or (it.kind == "ordered" and _steps_apart(other, name, it.var)):
                    continue
                for outer in (*tree(function).loops_above(around), around):
                    if outer.var in free_vars(binding):
                        refuse(
                            FINISHED,
                            outer,
                            f"{outer.var.name} feeds {it.var.name}, a {it.kind} iter of {other.name}: {name} is not "
                            f"finished inside it",
                            "choose a loop outside that one",
                        )
    return produced


def _steps_apart(maker: Block, buffer: str, var: Var) -> bool:
    """Whether a block writes other elements of a buffer for each value of an iter var, and none of them twice."""
    a = accesses(maker)
    if not simple_body(maker) or any(r.buffer == buffer for r in (*a.reads, *a.updates)):
        return False
    return all(any(_plain_in(i, var) for i in w.indices) for w in a.writes if w.buffer == buffer)


def _plain_in(index_: Scalar, var: Var) -> bool:
    terms, _ = linear(index_)
    return set(terms) == {var} and abs(terms[var]) == 1


def _private(function: Function, b: Block, around: For, stay: Sequence[For]) -> None:
    """Refuses where a buffer that is private to iterations of a parallel loop would be used outside of these."""
    for name in sorted(touched(b).writes):
        if buffer_of(function, name).scope != "global":
            for s in (*tree(function).loops_above(around), around):
                if s.kind == "parallel" and s not in stay:
                    refuse(
                        PRIVATE,
                        s,
                        f"{s.var.name} is parallel, and {name}, which {b.name} writes, would be private to it",
                        f"move {b.name} before {s.var.name} is made parallel",
                    )


def _between(function: Function, b: Block, around: For, stay: Sequence[For]) -> None:
    at = order(function)
    start = min(at[x.name] for x in blocks_under(around))
    targets = touched(b).writes
    reads = touched(b).reads
    for other in tree(function).blocks.values():
        if other is b:
            continue
        both = touched(other)
        clash = sorted(targets & (both.reads | both.writes))
        if clash and start <= at[other.name] < at[b.name]:
            refuse(
                BETWEEN,
                other,
                f"{other.name} touches {clash[0]}, which {b.name} writes, before {b.name}",
                f"move {other.name} first",
            )
        elif clash and any(s not in stay for s in shared_loops(function, other, b)):
            refuse(
                BETWEEN,
                other,
                f"{other.name} uses {clash[0]} in the same iteration of {shared_loops(function, other, b)[-1].var.name}"
                f" as {b.name}",
                f"move {other.name} first",
            )
        again = sorted(reads & both.writes)
        inside = other in blocks_under(around)
        if again and not inside and start <= at[other.name] < at[b.name]:
            refuse(
                INPUTS,
                other,
                f"{other.name} writes {again[0]}, which {b.name} reads, between {around.var.name} and {b.name}",
                f"move {other.name} first",
            )


def _tile(
    function: Function, b: Block, around: For, produced: Sequence[str]
) -> tuple[dict[Scalar, Span], list[Scalar]]:
    """What one iteration of the loop lets the block consume.

    Returns:
        Spans of the block's iter vars, over the loops around, and the producers' conditions on them, over iter vars.
    """
    inner = inner_loops(around.body)
    spans: dict[Scalar, Span] = {}
    conditions: dict[Scalar, None] = {}
    for name in produced:
        made: _Made | None = None
        for maker in writers(function, name):
            for access in accesses(maker).writes:
                if access.buffer == name:
                    tile = _made(maker, access.indices, inner, around)
                    if made is not None and not made.same(tile):
                        refuse(
                            TILE,
                            maker,
                            f"the writers of {name} make different parts of it in an iteration of {around.var.name}",
                            "choose a loop outside, in whose iterations they make the same",
                        )
                    made = tile
        for load in accesses(b).reads:
            if load.buffer == name and made is not None:
                _consume(b, around, load, made, spans, conditions)
    return spans, list(conditions)


class _Made(NamedTuple):
    """The tile of a buffer that one iteration of a loop makes.

    Attributes:
        tiles: Per dimension, the start and the axis; None where each iteration makes all that is ever made.
        conditions: The producer's conditions on the tile, over loops.
        ranges: Per dimension, the first element that is ever made and how many are; None where that is not known.
    """

    tiles: tuple[tuple[Scalar, Axis] | None, ...]
    conditions: tuple[Scalar, ...]
    ranges: tuple[tuple[int, Scalar] | None, ...]

    def same(self, other: _Made) -> bool:
        """Whether two producers make the same elements."""
        return self._elements() == other._elements()

    def _elements(self) -> tuple[list[object], set[Scalar]]:
        spans: list[object] = [None if t is None else (t[0], t[1].extent) for t in self.tiles]
        digits: dict[Scalar, Scalar] = {
            v: parameter(f"{k}.{weight}") for k, t in enumerate(self.tiles) if t is not None for v, weight in t[1].parts
        }
        return spans, {substitute(c, digits) for c in self.conditions}


def _made(maker: Block, indices: tuple[Scalar, ...], inner: Set[Var], around: For) -> _Made:
    bound = bound_indices(maker, indices)
    tiles: list[tuple[Scalar, Axis] | None] = []
    tiled: set[Var] = set()
    untiled: set[Var] = set()
    for k, node in enumerate(bound):
        running = {v for v in free_vars(node) if v.extent is not None}
        if running <= inner:
            untiled |= running
            tiles.append(None)
            continue
        split = axis_of(node, inner)
        if split is None or not tiled.isdisjoint(running & inner):
            refuse(
                TILE,
                maker,
                f"dimension {k} of what {maker.name} writes is {node!r} there, of which no tile is known",
                "choose a loop outside those that make up that dimension",
            )
        tiled |= running & inner
        tiles.append(split)
    if not tiled.isdisjoint(untiled):
        var = min(tiled & untiled, key=lambda v: v.name)
        refuse(
            TILE,
            maker,
            f"{var.name} makes up several dimensions of what {maker.name} writes",
            "choose a loop outside it",
        )
    stepped = {it.var for it in maker.iters if it.kind == "ordered" and any(_plain_in(i, it.var) for i in indices)}
    facts = [
        c
        for it, binding in zip(maker.iters, maker.bindings, strict=True)
        if it.kind != "spatial" and it.var.extent is not None and it.var not in stepped
        for c in (less(binding, it.var.extent), greater_equal(binding, 0))
    ]
    conditions = []
    for c in conjuncts(maker.predicate):
        running = {v for v in free_vars(c) if v.extent is not None}
        if running <= inner - tiled or prove(c, facts) is True:
            continue
        if not running & inner <= tiled:
            refuse(
                TILE,
                At(maker, "where="),
                f"the predicate of {maker.name} ties loops inside {around.var.name} that make up no tile to others",
                "peel it, or choose a loop outside",
            )
        conditions.append(c)
    return _Made(tuple(tiles), tuple(conditions), tuple(map(_range, indices)))


def _range(node: Scalar) -> tuple[int, Scalar] | None:
    """The first value and the number of values of an index of the form `v + c` or `c - v` over the domain of v."""
    terms, constant = linear(node)
    if not terms:
        return constant, index(1)
    atom, by = next(iter(terms.items()))
    if len(terms) == 1 and by == 1 and isinstance(atom, Var) and atom.extent is not None:
        return constant, atom.extent
    steps = as_int(atom.extent) if isinstance(atom, Var) and atom.extent is not None else None
    if len(terms) == 1 and by == -1 and steps is not None:
        return constant - steps + 1, index(steps)
    return None


def _within(read: tuple[int, Scalar] | None, made: tuple[int, Scalar] | None) -> bool:
    """Whether a range lies in another one."""
    if read is None or made is None:
        return False
    n, most = as_int(read[1]), as_int(made[1])
    if n is None or most is None:
        return read == made
    return made[0] <= read[0] and read[0] + n <= made[0] + most


def _consume(
    b: Block, around: For, load: Load, made: _Made, spans: dict[Scalar, Span], conditions: dict[Scalar, None]
) -> None:
    """Adds what reading a tile by a load means for the block's iter vars."""
    digits: dict[Scalar, Scalar] = {}
    for k, (node, tile) in enumerate(zip(load.indices, made.tiles, strict=True)):
        if tile is None:
            continue
        start, axis = tile
        terms, constant = linear(node)
        var = next(iter(terms), None)
        if not isinstance(var, Var) or len(terms) != 1 or abs(terms[var]) != 1:
            refuse(
                TILE,
                b,
                f"{b.name} reads dimension {k} of {load.buffer} at {node!r}, and an iteration of {around.var.name} "
                f"makes a part of that dimension",
                "choose a loop outside those that make up that dimension",
            )
            continue
        first = sub(start, constant) if terms[var] > 0 else sub(constant - axis.extent + 1, start)
        span = Span(simplify(first), index(axis.extent))
        old = spans.setdefault(var, span)
        if old.start is not span.start or old.extent is not span.extent:
            refuse(
                TILE,
                b,
                f"{b.name} reads different parts of what {around.var.name} makes by the one iter var {var.name}",
                "choose a loop outside those that make up that dimension",
            )
        if not _within(_range(node), made.ranges[k]):
            refuse(
                MADE,
                b,
                f"{b.name} reads dimension {k} of {load.buffer} at {node!r}, and not all of these elements are made: "
                f"the iterations that guard such a read would be lost",
                "choose a loop outside those that make up that dimension",
            )
        coordinate = sub(node, start)
        # A block runs over its whole domain where the tile is as large: then these alone keep it inside the tile.
        conditions[greater_equal(coordinate, 0)] = None
        conditions[less(coordinate, axis.extent)] = None
        digits.update(axis.decode(coordinate))
    for c in made.conditions:
        conditions[substitute(c, digits)] = None


def _reductions_inside(b: Block, around: For, spans: dict[Scalar, Span]) -> None:
    for it in b.iters:
        if it.kind == "reduce" and it.var in spans and clip(spans[it.var], it.var.extent).start is not ZERO:
            refuse(
                REDUCTION,
                around,
                f"an iteration of {around.var.name} makes a part of what {b.name} reduces over {it.var.name}",
                "choose a loop outside those that make up that dimension",
            )
