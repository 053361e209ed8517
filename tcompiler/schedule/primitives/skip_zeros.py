"""skip_zeros: a sum leaves out the terms that padding makes zero."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.ir.loop.grammar import Block, Function, Store, Update
from tcompiler.ir.scalar.canonical import linear, simplify
from tcompiler.ir.scalar.grammar import Cast, Const, Load, Scalar, Select, Var, add, as_int, conjunction, conjuncts, sub
from tcompiler.ir.scalar.reducers import reducer_name
from tcompiler.ir.scalar.rewrite import free_vars, loads, substitute
from tcompiler.schedule.affine.coverage import stays_inside
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.primitives.motion import shared_loops, writers
from tcompiler.schedule.primitives.reindex import factors
from tcompiler.schedule.tree import block_named, replace, with_header

SUM = condition("skip_zeros.sum", "the block is a sum of one Update, begun elsewhere")
PADDED = condition(
    "skip_zeros.padded",
    "a factor is select(inside, value, 0), or a load of what one block alone writes such values to, each at a place "
    "of its own, and inside has conditions on the given iter vars, which load nothing",
)


@primitive
def skip_zeros(function: Function, block: str, along: Sequence[str]) -> Result:
    """Lets a sum run only where no factor of its terms lies in the zeros around an operand.

    Before:

        for i in range(6):
            with block("P"):
                vi = spatial(6, i)
                P[vi] = select((vi >= 1) & (vi < 5), X[vi - 1], f32(0.0))
        …
        for i in range(4):
            for r in range(3):
                with block("Y"):
                    vi = spatial(4, i); vr = reduce(3, r)
                    Y[vi] += P[vi + vr] * W[vr]

    After ``skip_zeros("Y", ["vi"])``:

        for i in range(4):
            for r in range(3):
                with block("Y", where=(i + r >= 1) & (i + r < 5)):
                    vi = spatial(4, i); vr = reduce(3, r)
                    Y[vi] += P[vi + vr] * W[vr]

    Peels of loops over places and taps then leave out what is masked. An infinity or a NaN times such a zero, which
    would be a NaN, is left out as well: a tap that lies outside has no part in a result.

    Args:
        function: The function.
        block: The sum.
        along: Spatial iter vars. Conditions that name one, and no other spatial one, are taken.

    Returns:
        The new function, and no names.

    Raises:
        ScheduleError: If a condition of skip_zeros does not hold.
    """
    b = block_named(function, block)
    update = b.body
    if not isinstance(update, Update) or len(update.values) != 1 or b.init is not None or b.opaque:
        refuse(SUM, b, f"{block} is no Update of one element without an init", "stage or decompose the reduction first")
        return Result(function)
    if reducer_name(update.reducer) != "sum":
        refuse(SUM, b, f"{block} is no sum", "choose a sum")
    places = {it.var for it in b.iters if it.kind == "spatial"}
    taken = {v for v in places if v.name in along}
    inside = [c for c in zero_outside(function, b) if (named := free_vars(c) & places) and named <= taken]
    if not inside:
        names = ", ".join(along)
        refuse(PADDED, b, f"no factor of {block} is known to be zero outside some {names}", "skip before peels")
    bound: dict[Scalar, Scalar] = {it.var: x for it, x in zip(b.iters, b.bindings, strict=True)}
    predicate = conjunction(b.predicate, *[simplify(substitute(c, bound)) for c in inside])
    return Result(replace(function, b, with_header(b, b.bindings, predicate)))


def zero_outside(function: Function, block: Block) -> list[Scalar]:
    """The conditions, over a sum's iter vars, outside of which its terms are zero."""
    update = block.body
    if not isinstance(update, Update) or len(update.values) != 1 or reducer_name(update.reducer) != "sum":
        return []
    return [c for f in factors(update.values[0]) for c in _inside(function, block, f)]


def _inside(function: Function, block: Block, factor: Scalar) -> list[Scalar]:
    """The conditions outside of which a factor is zero, over the iter vars of its block."""
    while isinstance(factor, Cast):
        factor = factor.a
    if isinstance(factor, Select):
        plain = isinstance(factor.b, Const) and factor.b.value == 0 and not loads(factor.cond)
        return conjuncts(factor.cond) if plain else []
    if not isinstance(factor, Load) or factor.buffer in function.inputs:
        return []
    found = writers(function, factor.buffer)
    store = found[0].body if len(found) == 1 else None
    if not isinstance(store, Store) or not isinstance(store.value, Select):
        return []
    at = _written_at(function, found[0], store, block, factor)
    return [substitute(c, at) for c in _inside(function, found[0], store.value) if free_vars(c) <= set(at)]


def _written_at(function: Function, writer: Block, store: Store, reader: Block, load: Load) -> dict[Scalar, Scalar]:
    """The writer's iter vars where it wrote what is loaded, over the reader's; {} where that is not known."""
    bound = dict(zip(reader.bindings, (it.var for it in reader.iters), strict=True))
    same: dict[Scalar, Scalar] = {
        it.var: bound[x]
        for it, x in zip(writer.iters, writer.bindings, strict=True)
        if x in bound and as_int(it.var.extent) != 1
    }
    at: dict[Scalar, Scalar] = {}
    moved = False
    for index, place in zip(store.indices, load.indices, strict=True):
        form = linear(index)
        own = [v for v in form.terms if v not in same]
        if len(own) != 1 or own[0] in at or form.terms[own[0]] != 1 or not isinstance(own[0], Var):
            return {}
        moved = moved or index is not own[0]
        at[own[0]] = simplify(add(sub(place, substitute(index, same)), own[0]))
    if moved:
        # it lies where the loops around both put it, if it is of the same iteration
        around = shared_loops(function, writer, reader)
        if not around or not stays_inside(function, around[-1].body, [s.var for s in around], load.buffer):
            return {}
    return at
