"""decompose_reduction: the init of a reduction becomes a block of its own."""

from __future__ import annotations

from tcompiler.ir.scalar.canonical import prove, simplify

from tcompiler.ir.loop.grammar import Block, For, Function, LoopKind, seq
from tcompiler.ir.scalar.grammar import Scalar, Var, conjunction, greater_equal, less
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.schedule.legality import At, Condition, Result, condition, primitive, refuse
from tcompiler.schedule.primitives.motion import loops
from tcompiler.schedule.tree import block_named, conjuncts, fresh, loop_named, names_used, replace, tree

INIT = condition("decompose_reduction.init", "the block has an init")
ABOVE = condition("decompose_reduction.above", "the loop surrounds the block")
OUTSIDE = condition("decompose_reduction.outside", "no loop outside the given one feeds a reduce iter of the block")
ALONE = condition(
    "decompose_reduction.separate", "no loop from the given one inwards feeds both spatial and reduce iters"
)
GUARD = condition(
    "decompose_reduction.predicate",
    "where the predicate depends on reduce loops it only keeps reduce iters inside their domains",
)


@primitive
def decompose_reduction(function: Function, block: str, loop: str) -> Result:
    """Makes the init of a reduction a block of its own, in front of a loop.

    Before:

        for i in range(64):
            for k in range(32):
                with block("C"):
                    vi = spatial(64, i); vk = reduce(32, k)
                    with init(): C[vi] = f32(0.0)
                    C[vi] += A[vi, vk]

    After ``decompose_reduction("C", "k")``:

        for i in range(64):
            with block("C_init"):
                vi = spatial(64, i); C[vi] = f32(0.0)
            for k in range(32):
                with block("C"):
                    vi = spatial(64, i); vk = reduce(32, k); C[vi] += A[vi, vk]

    The loops from the given one inwards that feed spatial iters are copied, kinds included, as `{init block}_{loop}`.

    Args:
        function: The function.
        block: The reduction.
        loop: A loop around it; the init comes right before this loop.

    Returns:
        The new function and the name of the init block, `{block}_init`.

    Raises:
        ScheduleError: If a condition of decompose_reduction does not hold.
    """
    b, around = block_named(function, block), loop_named(function, loop)
    if b.init is None:
        refuse(INIT, b, f"{block} has no init", "choose a reduction that was not decomposed yet")
    return Result(*decomposed(function, b, around, OUTSIDE, ALONE, GUARD))


def decomposed(
    function: Function, b: Block, around: For, outside: Condition, alone: Condition, guard: Condition
) -> tuple[Function, tuple[str]]:
    """decompose_reduction for callers that quote conditions of their own.

    Args:
        function: The function.
        b: The block.
        around: The loop.
        outside: Quoted where a loop outside feeds a reduce iter.
        alone: Quoted where an inner loop feeds both kinds of iters.
        guard: Quoted where the predicate ties reduce loops.

    Returns:
        The new function and the name of the init block.
    """
    above = tree(function).loops_above(b)
    if around not in above:
        refuse(
            ABOVE,
            around,
            f"{around.var.name} does not surround {b.name}",
            f"choose one of {', '.join(s.var.name for s in above) or 'no loops'}",
        )
    at = above.index(around) if around in above else 0
    spatial: set[Var] = set()
    reduced: set[Var] = set()
    for it, binding in zip(b.iters, b.bindings, strict=True):
        (spatial if it.kind == "spatial" else reduced).update(v for v in free_vars(binding) if v.extent is not None)
    for s in above[:at]:
        if s.var in reduced:
            refuse(
                outside,
                s,
                f"{s.var.name}, outside {around.var.name}, feeds a reduce iter of {b.name}",
                f"choose {s.var.name} or a loop outside it",
            )
    for s in above[at:]:
        if s.var in reduced and s.var in spatial:
            refuse(
                alone,
                s,
                f"{s.var.name} feeds spatial and reduce iters of {b.name}",
                "fuse spatial loops with spatial loops only",
            )
    predicate = spatial_predicate(b, reduced, guard)
    used = names_used(function)
    (name,) = fresh(used, [f"{b.name}_init"])
    copied = [s for s in above[at:] if s.var in spatial]
    fresh_names = fresh(used, [f"{name}_{s.var.name}" for s in copied])
    variables = [Var(n, s.var.dtype, s.var.extent) for n, s in zip(fresh_names, copied, strict=True)]
    kinds: list[LoopKind] = [s.kind for s in copied]
    renamed: dict[Scalar, Scalar] = dict(zip([s.var for s in copied], variables, strict=True))
    kept = [k for k, it in enumerate(b.iters) if it.kind == "spatial"]
    assert b.init is not None
    init = Block(
        name,
        tuple(b.iters[k] for k in kept),
        tuple(substitute(b.bindings[k], renamed) for k in kept),
        b.init,
        conjunction(*(substitute(c, renamed) for c in predicate)),
    )
    rest = Block(
        b.name,
        b.iters,
        b.bindings,
        b.body,
        b.predicate,
        None,
        b.opaque,
        b.reads,
        b.writes,
        b.annotations,
    )
    function = replace(function, b, rest)
    where = loop_named(function, around.var.name)
    return replace(function, where, seq(loops(variables, init, kinds), where)), (name,)


def spatial_predicate(b: Block, reduced: set[Var], guard: Condition) -> list[Scalar]:
    """The conjuncts of a block's predicate that hold for its spatial iters alone.

    Args:
        b: A reduction.
        reduced: The loop variables that feed its reduce iters.
        guard: Quoted where another conjunct does more than keep reduce iters inside their domains.
    """
    facts: list[Scalar] | None = None
    result = []
    for c in conjuncts(b.predicate):
        if free_vars(c).isdisjoint(reduced):
            result.append(c)
            continue
        if facts is None:
            facts = [
                simplify(f)
                for it, binding in zip(b.iters, b.bindings, strict=True)
                if it.kind != "spatial" and it.var.extent is not None
                for f in (less(binding, it.var.extent), greater_equal(binding, 0))
            ]
        if c not in facts and prove(c, facts) is not True:
            refuse(
                guard,
                At(b, "where="),
                f"the predicate of {b.name} leaves out points by {', '.join(sorted(v.name for v in free_vars(c)))}",
                "peel the predicate first",
            )
    return result
