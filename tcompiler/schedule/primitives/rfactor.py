"""rfactor: partial results of a reduction, one for each iteration of a reduce loop."""

from __future__ import annotations

from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterVar, Store, Update, buffer_table, seq
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, conjunction, conjuncts
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.schedule.legality import At, Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import ZERO
from tcompiler.schedule.primitives.motion import loops, reads_own_target, rebuilt
from tcompiler.schedule.tree import block_named, blocks_under, fresh, loop_named, names_used, tree

REDUCTION = condition("rfactor.reduction", "the block is one Update with an init, whose values do not read its targets")
ABOVE = condition("rfactor.above", "the loop surrounds the block")
OWN = condition(
    "rfactor.own",
    "the loop, and every loop from the outermost one that feeds a reduce iter inwards, is serial, feeds "
    "reduce iters only and surrounds no other block",
)
REST = condition("rfactor.rest", "another loop feeds the reduce iters too")
GUARD = condition(
    "rfactor.predicate",
    "where the predicate depends on reduce loops it holds at the first iteration of those that remain",
)


@primitive
def rfactor(function: Function, block: str, loop: str) -> Result:
    """Reduces each iteration of a reduce loop by itself, so that the loop becomes spatial, and then their results.

    Before:

        for i in range(64):
            for k_0 in range(4):
                for k_1 in range(8):
                    with block("C"):
                        vi = spatial(64, i); vk = reduce(32, k_0 * 8 + k_1)
                        with init(): C[vi] = f32(0.0)
                        C[vi] += A[vi, vk]

    After ``rfactor("C", "k_1")``:

        for i in range(64):
            for k_0 in range(4):
                for k_1 in range(8):
                    with block("C_rf"):
                        vi = spatial(64, i); v_k_1 = spatial(8, k_1); v_k_0 = reduce(4, k_0)
                        with init(): C_rf[vi, v_k_1] = f32(0.0)
                        C_rf[vi, v_k_1] += A[vi, v_k_0 * 8 + v_k_1]
            for k_1_c in range(8):
                with block("C"):
                    vi = spatial(64, i); v_k_1 = reduce(8, k_1_c)
                    with init(): C[vi] = f32(0.0)
                    C[vi] += C_rf[vi, v_k_1]

    A reducer combines in any order and association, so the result is the same up to rounding. Suriana, Adams and Kamil,
    "Parallel associative reductions in Halide" (2017).

    Args:
        function: The function.
        block: The reduction.
        loop: A loop around it that feeds its reduce iters.

    Returns:
        The new function and the names of the block of partial results, `{block}_rf`, and of the loop that combines
        them, `{loop}_c`.

    Raises:
        ScheduleError: If a condition of rfactor does not hold.
    """
    b, factored = block_named(function, block), loop_named(function, loop)
    above = tree(function).loops_above(b)
    if factored not in above:
        names = ", ".join(s.var.name for s in above) or "no loops"
        refuse(ABOVE, factored, f"{loop} does not surround {block}", f"choose one of {names}")
    update = b.body
    if b.init is None or not isinstance(update, Update) or reads_own_target(b):
        refuse(REDUCTION, b, f"{block} is not one Update with an init", "choose a reduction that is still whole")
    assert isinstance(update, Update) and b.init is not None
    spatial: set[Var] = set()
    reduced: set[Var] = set()
    for it, binding in zip(b.iters, b.bindings, strict=True):
        (spatial if it.kind == "spatial" else reduced).update(v for v in free_vars(binding) if v.extent is not None)
    first = next((k for k, s in enumerate(above) if s.var in reduced), len(above))
    inner = above[min(first, above.index(factored) if factored in above else first) :]
    for s in inner:
        problem = _not_own(b, s)
        if problem:
            refuse(
                OWN,
                s,
                f"{s.var.name} {problem}",
                "reorder the spatial loops outwards, and factor before other blocks move in",
            )
    rest = [s for s in inner if s is not factored]
    if not rest:
        refuse(REST, factored, f"{loop} is the only loop of the reduction", f'split("{loop}", …) first')
    guards = _guards(b, reduced, rest)

    used = names_used(function)
    (name,) = fresh(used, [f"{block}_rf"])
    (combining,) = fresh(used, [f"{loop}_c"])
    targets = update.targets
    partial = fresh(used, [f"{t.buffer}_rf" for t in targets])
    inside = {it.var.name for it in b.iters}
    new_iters = {s.var: _iter(s, inside) for s in inner}
    lane = new_iters[factored.var]
    table = buffer_table(function)
    extent = factored.var.extent
    assert extent is not None
    buffers = tuple(
        Buffer(n, t.dtype, (*table[t.buffer].shape, extent), None, table[t.buffer].scope)
        for n, t in zip(partial, targets, strict=True)
    )
    kept = [k for k, it in enumerate(b.iters) if it.kind == "spatial"]
    over: dict[Scalar, Scalar] = {s.var: new_iters[s.var] for s in inner}
    points: dict[Scalar, Scalar] = {
        it.var: simplify(substitute(binding, over))
        for it, binding in zip(b.iters, b.bindings, strict=True)
        if it.kind == "reduce"
    }
    places = [Load(n, t.dtype, (*t.indices, lane)) for n, t in zip(partial, targets, strict=True)]
    identity = update.reducer.identity
    first_block = Block(
        name,
        (
            *(b.iters[k] for k in kept),
            IterVar(lane, "spatial"),
            *(IterVar(new_iters[s.var], "reduce") for s in rest),
        ),
        (*(b.bindings[k] for k in kept), factored.var, *(s.var for s in rest)),
        Update(tuple(places), update.reducer, tuple(substitute(v, points) for v in update.values)),
        b.predicate,
        seq(*(Store(p.buffer, p.indices, e) for p, e in zip(places, identity, strict=True))),
        annotations=b.annotations,
    )
    again = Var(combining, factored.var.dtype, extent)
    second_block = Block(
        block,
        (*(b.iters[k] for k in kept), IterVar(lane, "reduce")),
        (*(b.bindings[k] for k in kept), again),
        Update(targets, update.reducer, tuple(places)),
        conjunction(*guards),
        b.init,
    )
    outermost = inner[0]
    return Result(
        rebuilt(
            function,
            {b: first_block},
            after={outermost: loops([again], second_block)},
            buffers=(*function.buffers, *buffers),
        ),
        (name, combining),
    )


def _iter(s: For, inside: set[str]) -> Var:
    (name,) = fresh(inside, [f"v_{s.var.name}"])
    return Var(name, s.var.dtype, s.var.extent)


def _not_own(b: Block, s: For) -> str:
    """What keeps a loop from being one of the reduction's own; "" if nothing does."""
    kinds = {it.kind for it, x in zip(b.iters, b.bindings, strict=True) if s.var in free_vars(x)}
    if kinds != {"reduce"}:
        return f"feeds {' and '.join(sorted(kinds)) or 'no'} iters"
    if s.kind != "serial":
        return f"is {s.kind}"
    others = [x.name for x in blocks_under(s) if x is not b]
    return f"surrounds {others[0]} too" if others else ""


def _guards(b: Block, reduced: set[Var], rest: list[For]) -> list[Scalar]:
    """The conjuncts of a predicate that speak of no reduce loop; the others must let every lane start."""
    start: dict[Scalar, Scalar] = {s.var: ZERO for s in rest}
    plain = [c for c in conjuncts(b.predicate) if free_vars(c).isdisjoint(reduced)]
    for c in conjuncts(b.predicate):
        if c not in plain and prove(simplify(substitute(c, start)), plain) is not True:
            refuse(
                GUARD,
                At(b, "where="),
                f"the predicate of {b.name} may leave out the first iteration of a lane",
                "split by a factor that the extent is at least",
            )
    return plain
