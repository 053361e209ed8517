"""decompose_padding: a padded copy becomes a fill and a copy of what is inside."""

from __future__ import annotations

from tcompiler.ir.loop.grammar import Block, Function, IterVar, LoopKind, Store
from tcompiler.ir.scalar.grammar import Binary, Const, Scalar, Select, Var, as_int, conjuncts, index
from tcompiler.ir.scalar.rewrite import free_vars, loads
from tcompiler.schedule.affine.linear import linear
from tcompiler.schedule.legality import At, Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import Span
from tcompiler.schedule.primitives.motion import loops, own_domain, rebuilt, regenerated
from tcompiler.schedule.tree import block_named, blocks_under, fresh, loop_named, names_used, tree

PADDING = condition(
    "decompose_padding.padding",
    "the block stores select(inside, value, constant), at every point of its domain, and reads nothing that it writes",
)
BOX = condition("decompose_padding.box", "inside is a conjunction of v < n, v >= n and the like, v an iter var")
ABOVE = condition("decompose_padding.above", "the loop surrounds the block")
OWN = condition(
    "decompose_padding.own", "the loop and those inside it surround this block alone, and none is vectorized or bound"
)
TIED = condition("decompose_padding.tied", "no iter var is fed by loops on both sides of the given one's header")


@primitive
def decompose_padding(function: Function, block: str, loop: str) -> Result:
    """Fills a buffer with the padding's constant and then copies what is inside, without asking at each element.

    Before:

        for i in range(10):
            for j in range(12):
                with block("P"):
                    vi = spatial(10, i); vj = spatial(12, j)
                    P[vi, vj] = select((vj >= 1) & (vj < 11), X[vi, vj - 1], f32(0.0))

    After ``decompose_padding("P", "j")``:

        for i in range(10):
            for P_fill_ax1 in range(12):
                with block("P_fill"):
                    vi = spatial(10, i); vj = spatial(12, P_fill_ax1)
                    P[vi, vj] = f32(0.0)
            for P_ax1 in range(10):
                with block("P"):
                    vi = spatial(10, i); vj = spatial(12, 1 + P_ax1)
                    P[vi, vj] = X[vi, vj - 1]

    Args:
        function: The function.
        block: The padded copy.
        loop: A loop around it; the fill comes right before the copy, in the body of what is around this loop.

    Returns:
        The new function and the name of the block that fills, `{block}_fill`.

    Raises:
        ScheduleError: If a condition of decompose_padding does not hold.
    """
    b, around = block_named(function, block), loop_named(function, loop)
    above = tree(function).loops_above(b)
    if around not in above:
        names = ", ".join(s.var.name for s in above) or "no loops"
        refuse(ABOVE, around, f"{loop} does not surround {block}", f"choose one of {names}")
        return Result(function)
    store = b.body
    whole = not own_domain(b) and all(it.kind == "spatial" for it in b.iters) and b.init is None and not b.opaque
    if not whole or not isinstance(store, Store) or not isinstance(store.value, Select):
        refuse(PADDING, b, f"{block} stores no select, or not at every point", "choose a padded copy that is whole")
        return Result(function)
    select = store.value
    if not isinstance(select.b, Const) or any(r.buffer == store.buffer for r in loads(select.a)):
        refuse(PADDING, b, f"the padding of {block} is no constant", "choose a padded copy that is whole")
    spans = _spans(b, select.cond)
    inner = above[above.index(around) :]
    for s in inner:
        if blocks_under(s) != [b] or s.kind not in ("serial", "unrolled", "parallel"):
            refuse(
                OWN,
                s,
                f"{s.var.name} is {s.kind} and surrounds {', '.join(x.name for x in blocks_under(s))}",
                "decompose before loops get kinds and other blocks move in",
            )
    running = {s.var for s in inner}
    kept: set[Scalar] = set()
    for it, binding in zip(b.iters, b.bindings, strict=True):
        named = {v for v in free_vars(binding) if v.extent is not None}
        if named.isdisjoint(running):
            kept.add(it.var)
        elif not named <= running:
            refuse(
                TIED,
                At(b, f"{it.var.name} = "),
                f"{it.var.name} is fed by loops outside {loop} too",
                "choose a loop outside all that feed it",
            )
    used = names_used(function)
    (name,) = fresh(used, [f"{block}_fill"])
    fill, variables = regenerated(
        Block(name, b.iters, b.bindings, Store(store.buffer, store.indices, select.b)), {}, kept, used
    )
    conditions = [c for c in conjuncts(select.cond) if free_vars(c) <= kept]
    copy, copied = regenerated(
        Block(block, b.iters, b.bindings, Store(store.buffer, store.indices, select.a), annotations=b.annotations),
        {v: s for v, s in spans.items() if v not in kept},
        kept,
        used,
        conditions,
    )
    kinds: list[LoopKind] = ["serial"] * len(copied)
    return Result(
        rebuilt(
            function,
            {around: loops(copied, copy, kinds)},
            before={around: loops(variables, fill)},
        ),
        (name,),
    )


def _spans(b: Block, cond: Scalar) -> dict[Scalar, Span]:
    """The interval of each iter var that a condition leaves."""
    low: dict[Var, int] = {}
    high: dict[Var, int] = {}
    by_var = {it.var: it for it in b.iters}
    for c in conjuncts(cond):
        bound = _bound(c, by_var)
        if bound is None:
            refuse(BOX, b, f"{c!r} bounds no iter var by a constant", "peel instead")
            continue
        var, least, most = bound
        if least is not None:
            low[var] = max(low.get(var, 0), least)
        if most is not None:
            high[var] = min(high.get(var, most), most)
    spans: dict[Scalar, Span] = {}
    for it in b.iters:
        extent = as_int(it.var.extent)
        if extent is None or (it.var not in low and it.var not in high):
            continue
        first, last = low.get(it.var, 0), min(high.get(it.var, extent - 1), extent - 1)
        spans[it.var] = Span(index(first), index(max(0, last - first + 1)))
    return spans


def _bound(c: Scalar, iters: dict[Var, IterVar]) -> tuple[Var, int | None, int | None] | None:
    """A comparison as an interval of one iter var: the var, its least and its largest value."""
    if not isinstance(c, Binary) or c.op not in ("lt", "le", "gt", "ge"):
        return None
    terms, offset = linear(c.a - c.b)
    if len(terms) != 1:
        return None
    ((var, by),) = terms.items()
    if var not in iters or by not in (1, -1) or not isinstance(var, Var):
        return None
    # by * v + offset op 0
    strict = c.op in ("lt", "gt")
    if (c.op in ("lt", "le")) == (by > 0):
        return var, None, (-offset if by > 0 else offset) - strict
    return var, (-offset if by > 0 else offset) + strict, None
