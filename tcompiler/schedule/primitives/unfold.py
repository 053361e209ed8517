"""unfold: an iter var that is computed from loops becomes one iter var for each of them."""

from __future__ import annotations

from tcompiler.ir.loop.grammar import Block, Function, IterKind, IterVar
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import TRUE, Scalar, Var, loop_var
from tcompiler.ir.scalar.rewrite import free_vars, substituter
from tcompiler.schedule.bodies import map_expressions, map_regions
from tcompiler.schedule.legality import At, Result, condition, primitive, refuse
from tcompiler.schedule.tree import block_named, fresh, replace, tree

WHOLE = condition("unfold.whole", "the block has no predicate")
PRODUCT = condition("unfold.product", "no loop feeds two iter vars")
SPATIAL = condition("unfold.spatial", "iter vars that are more than one loop are spatial")


@primitive
def unfold(function: Function, block: str) -> Result:
    """Gives a block one iter var for each loop that feeds it, so that its body speaks of the loops one by one.

    ``unfold("B")``::

        for h in range(8):                            for h in range(8):
            for p in range(2):                            for p in range(2):
                with block("B"):                              with block("B"):
                    vi = spatial(16, h * 2 + p)       →           v_h = spatial(8, h)
                    B[vi] = A[vi % 2, vi // 2]                    v_p = spatial(2, p)
                                                                  B[v_h * 2 + v_p] = A[v_p, v_h]

    The body is simplified, so that quotients and remainders of what loops were split by are gone from it.

    Args:
        function: The function.
        block: The block. Iter vars that are a loop, or that none feeds, stay as they are.

    Raises:
        ScheduleError: If the block has a predicate, a loop feeds two of its iter vars, or one that is not spatial is
            bound to more than a loop.
    """
    target = block_named(function, block)
    if target.predicate is not TRUE:
        refuse(WHOLE, At(target, "where="), f"{block} runs where a predicate holds", "peel what it masks")
    around = [loop.var for loop in tree(function).loops_above(target)]
    taken = {i.var.name for i in target.iters}
    fed: set[Var] = set()
    iters: list[IterVar] = []
    bindings: list[Scalar] = []
    mapping: dict[Scalar, Scalar] = {}
    for it, binding in zip(target.iters, target.bindings, strict=True):
        loops = [v for v in around if v in free_vars(binding)]
        twice = next((v for v in loops if v in fed), None)
        if twice is not None:
            refuse(PRODUCT, target, f"{twice.name} feeds {it.var.name} and another iter var", "choose another block")
        fed.update(loops)
        if not loops or binding in loops:
            iters.append(it)
            bindings.append(binding)
            continue
        if it.kind != "spatial":
            refuse(SPATIAL, At(target, f"{it.var.name} ="), f"{it.var.name} is {it.kind}", "choose another block")
        own = {v: loop_var(fresh(taken, [f"v_{v.name}"])[0], _extent(v)) for v in loops}
        kind: IterKind = "spatial"
        iters += [IterVar(v, kind) for v in own.values()]
        bindings += loops
        mapping[it.var] = substituter(dict(own.items()))(binding)
    put = substituter(mapping)

    def rewritten(node: Scalar) -> Scalar:
        new = put(node)
        return new if new is node else simplify(new)

    changed = Block(
        target.name,
        tuple(iters),
        tuple(bindings),
        map_expressions(target.body, rewritten),
        target.predicate,
        None if target.init is None else map_expressions(target.init, rewritten),
        target.opaque,
        map_regions(target.reads, rewritten),
        map_regions(target.writes, rewritten),
        target.annotations,
    )
    return Result(replace(function, target, changed) if mapping else function)


def _extent(loop: Var) -> Scalar:
    assert loop.extent is not None
    return loop.extent
