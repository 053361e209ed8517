"""decompose_reduction: the init of a reduction becomes a block of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tcompiler.ir.loop.analysis import accesses, touched
from tcompiler.ir.loop.grammar import Block, For, Function, LoopKind
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Scalar, Var, as_int, conjunction, conjuncts
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.schedule.affine.dependence import injective_below
from tcompiler.schedule.affine.digits import injective
from tcompiler.schedule.legality import At, Condition, Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import ZERO, bound_indices
from tcompiler.schedule.primitives.motion import loops, rebuilt
from tcompiler.schedule.tree import block_named, blocks_under, fresh, loop_named, names_used, tree

INIT = condition("decompose_reduction.init", "the block has an init")
ABOVE = condition("decompose_reduction.above", "the loop surrounds the block")
OUTSIDE = condition("decompose_reduction.outside", "no loop outside the given one feeds a reduce iter of the block")
SEPARATE = condition(
    "decompose_reduction.separate", "no loop from the given one inwards feeds both spatial and reduce iters"
)
GUARD = condition(
    "decompose_reduction.predicate",
    "where the predicate depends on reduce loops it holds at the first point of the reduction",
)

DISTINCT = condition(
    "decompose_reduction.distinct",
    "different spatial iterations inside the loop init different elements, which nothing else there writes",
)
PRIVATE = condition(
    "decompose_reduction.private",
    "no parallel loop from the given one inwards, where the target is a buffer private to its iterations",
)


class Quoted(NamedTuple):
    """The conditions that `decomposed` quotes, those of decompose_reduction or of a primitive that uses it.

    `private` is None where the caller knows that no buffer is lost.
    """

    outside: Condition
    separate: Condition
    guard: Condition
    distinct: Condition
    private: Condition | None


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
    return Result(*decomposed(function, b, around, Quoted(OUTSIDE, SEPARATE, GUARD, DISTINCT, PRIVATE)))


def decomposed(function: Function, b: Block, around: For, quoted: Quoted) -> tuple[Function, tuple[str]]:
    """decompose_reduction for callers that quote conditions of their own.

    Args:
        function: The function.
        b: The block.
        around: The loop.
        quoted: The conditions.

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
                quoted.outside,
                s,
                f"{s.var.name}, outside {around.var.name}, feeds a reduce iter of {b.name}",
                f"choose {s.var.name} or a loop outside it",
            )
    for s in above[at:]:
        if s.var in reduced and s.var in spatial:
            refuse(
                quoted.separate,
                s,
                f"{s.var.name} feeds spatial and reduce iters of {b.name}",
                "fuse spatial loops with spatial loops only",
            )
    predicate = spatial_predicate(b, reduced, quoted.guard)
    copied = [s for s in above[at:] if s.var in spatial]
    _hoistable(function, b, around, copied, quoted)
    used = names_used(function)
    (name,) = fresh(used, [f"{b.name}_init"])
    fresh_names = fresh(used, [f"{name}_{s.var.name}" for s in copied])
    variables = [Var(n, s.var.dtype, s.var.extent) for n, s in zip(fresh_names, copied, strict=True)]
    kinds: list[LoopKind] = [s.kind for s in copied]
    renamed: dict[Scalar, Scalar] = dict(zip([s.var for s in copied], variables, strict=True))
    # Loops of one iteration that feed nothing stay behind; a predicate may name them.
    renamed.update({s.var: ZERO for s in above[at:] if s.var not in spatial | reduced})
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
    return rebuilt(function, {b: rest}, before={around: loops(variables, init, kinds)}), (name,)


def _hoistable(function: Function, b: Block, around: For, copied: Sequence[For], quoted: Quoted) -> None:
    """Refuses where an init before the loop would be lost or overwritten before the block uses it."""
    above = tree(function).loops_above(b)
    inner = above[above.index(around) if around in above else 0 :]
    fed = {v for binding in b.bindings for v in free_vars(binding)}
    targets = dict.fromkeys(accesses(b).writes)
    for s in inner:
        if s.var not in fed and as_int(s.var.extent) != 1:
            refuse(
                quoted.distinct,
                s,
                f"{s.var.name} feeds no iter of {b.name}, which runs anew in each of its iterations",
                f"choose a loop inside {s.var.name}",
            )
    once: bool | None = None
    for w in targets:
        if injective(bound_indices(b, w.indices), frozenset(s.var for s in copied)) is True:
            continue
        plain = {i for i in w.indices if isinstance(i, Var)}
        if all(it.var in plain or it.kind != "spatial" or as_int(it.var.extent) == 1 for it in b.iters):
            once = injective_below(function, b, [s.var for s in inner]) is True if once is None else once
            if once:
                continue
        refuse(
            quoted.distinct,
            b,
            f"iterations of {', '.join(s.var.name for s in copied)} may init one element of {w.buffer} in turn",
            "choose a loop inside those",
        )
    names = {w.buffer for w in targets}
    for other in blocks_under(around):
        clash = sorted(names & touched(other).writes)
        if other is not b and clash:
            refuse(
                quoted.distinct,
                other,
                f"{other.name}, under {around.var.name} too, writes {clash[0]}",
                f"choose a loop that does not surround {other.name}",
            )
    if quoted.private is not None and any(x.name in names and x.scope != "global" for x in function.buffers):
        for s in copied:
            if s.kind == "parallel" or s.kind.startswith("blockIdx"):
                refuse(
                    quoted.private,
                    s,
                    f"{s.var.name} is {s.kind}, and what {b.name} writes is private to its iterations",
                    f"choose a loop inside {s.var.name}",
                )


def spatial_predicate(b: Block, reduced: set[Var], guard: Condition) -> list[Scalar]:
    """The conjuncts of a block's predicate that hold for its spatial iters alone.

    The others must hold where all reduce iters are 0, so that init runs wherever an update does.

    Args:
        b: A reduction.
        reduced: The loop variables that feed its reduce iters.
        guard: Quoted where a conjunct of the others does not.
    """
    first: dict[Scalar, Scalar] = dict.fromkeys(reduced, ZERO)
    at_first = all(
        it.kind == "spatial" or as_int(simplify(substitute(binding, first))) == 0
        for it, binding in zip(b.iters, b.bindings, strict=True)
    )
    result = []
    for c in conjuncts(b.predicate):
        if free_vars(c).isdisjoint(reduced):
            result.append(c)
        elif not (at_first and prove(simplify(substitute(c, first)), result) is True):
            refuse(
                guard,
                At(b, "where="),
                f"the predicate of {b.name} leaves out points by {', '.join(sorted(v.name for v in free_vars(c)))}",
                "peel the predicate first",
            )
    return result
