"""reorder: loops of one nest change places."""

from __future__ import annotations

from tcompiler.ir.loop.analysis import accesses
from tcompiler.ir.loop.grammar import Block, For, Function, Stmt
from tcompiler.ir.scalar.grammar import Var
from tcompiler.schedule.affine.coverage import stays_inside
from tcompiler.schedule.affine.dependence import conflict, injective_below
from tcompiler.schedule.legality import At, Result, condition, primitive, refuse
from tcompiler.schedule.tree import blocks_under, fed_iters, feeds, loop_named, replace, tree

DISTINCT = condition("reorder.distinct", "there are at least two loops, and all are different")
SERIAL = condition("reorder.serial", "the loops are serial")
CHAIN = condition("reorder.chain", "each loop of the nest is all that the one around it runs")
ORDERED = condition(
    "reorder.ordered",
    "loops that feed an ordered iter keep their order; the others of such a nest feed spatial iters alone, and their "
    "iterations share no element",
)
ONCE = condition("reorder.once", "the loops of the nest visit each point of a block that updates once")
INIT = condition("reorder.init", "no loop of the nest feeds both a spatial and a reduce iter of a block with an init")
INDEPENDENT = condition(
    "reorder.independent", "no block reads or writes what another block writes in a different iteration of the nest"
)


@primitive
def reorder(function: Function, *loops: str) -> Result:
    """Puts loops of one nest into the given order, outermost first; loops between them keep their places.

    ``reorder("k", "i")``::

        for i in range(8):                   for k in range(16):
            for j in range(4):                   for j in range(4):
                for k in range(16):    →             for i in range(8):
                    with block("B"): …                   with block("B"): …

    A block's own iterations may always change places: spatial ones are independent, reductions commute. An init runs
    where the reduce iters are 0, which stays the first point: so no loop may mix spatial and reduce iters then. A loop
    that runs in order may do so for one element after the other, or for all of them at each of its steps.

    Args:
        function: The function.
        loops: Serial loops of one nest, in their new order.

    Raises:
        ScheduleError: If the loops are not two or more different serial loops of one nest, what runs in order would
            not any more, or exchanges data with other iterations, a reduction visits points more than once or mixes
            iters before its init, or different blocks exchange data between iterations.
    """
    targets = [loop_named(function, name) for name in loops]
    if len(set(targets)) != len(targets) or len(targets) < 2:
        found = f"{len(set(targets))} different loops in {len(targets)} names"
        refuse(DISTINCT, targets[0] if targets else None, found, "name two loops or more, each once")
    for t in targets:
        if t.kind != "serial":
            refuse(SERIAL, t, f"the loop {t.var.name} is {t.kind}", "reorder first, then choose kinds")
    depth = {t: len(tree(function).loops_above(t)) for t in targets}
    old = sorted(targets, key=depth.__getitem__)
    nest = _nest(old)
    if old == targets:
        return Result(function)
    body = nest[-1].body
    variables = [s.var for s in nest]
    outer = [s.var for s in tree(function).loops_above(nest[0])]
    blocks = blocks_under(body)
    places = iter(targets)
    order = [next(places) if s in depth else s for s in nest]
    for block in blocks:
        _check_block(function, block, nest, variables)
    ordered = [s for s in nest if any("ordered" in feeds(b, s.var) for b in blocks)]
    if ordered:
        _check_order(function, body, nest, order, ordered, outer)
    elif len(blocks) > 1:
        shared = conflict(
            function,
            body,
            outer,
            variables,
            lambda buffer: stays_inside(function, body, [*outer, *variables], buffer),
            lambda block: True,
        )
        if shared is not None:
            refuse(
                INDEPENDENT,
                shared.second,
                f"{shared.first.name} and {shared.second.name} share {shared.buffer} across iterations",
                "move one of the blocks out of the nest, or keep the order",
            )
    new: Stmt = body
    for s in reversed(order):
        new = For(s.var, s.kind, new, s.annotations)
    return Result(replace(function, nest[0], new))


def _nest(old: list[For]) -> list[For]:
    """The loops from the outermost to the innermost of those given."""
    nest = [old[0]]
    for inner in old[1:]:
        while nest[-1] is not inner:
            below = nest[-1].body
            if not isinstance(below, For):
                refuse(
                    CHAIN,
                    nest[-1],
                    f"{inner.var.name} is not in one nest with {old[0].var.name}: "
                    f"{nest[-1].var.name} does not run one loop alone",
                    "name loops of one nest",
                )
                raise AssertionError("no nest")
            nest.append(below)
    return nest


def _check_order(
    function: Function, body: Stmt, nest: list[For], order: list[For], ordered: list[For], outer: list[Var]
) -> None:
    """Refuses where what runs in order would not, for an element that its iterations share."""
    if [s for s in order if s in ordered] != ordered:
        names = " and ".join(s.var.name for s in ordered)
        refuse(ORDERED, ordered[0], f"{names} would change places", "keep the order of these loops")
    blocks = blocks_under(body)
    others = [s for s in nest if s not in ordered]
    for block in blocks:
        for s in others:
            if not feeds(block, s.var) <= {"spatial"}:
                found = f"the loop {s.var.name} feeds {', '.join(fed_iters(block, s.var))} of {block.name}"
                refuse(ORDERED, s, found, "reorder only loops on one side of the ordered ones")
    varying = [s.var for s in others]
    shared = conflict(function, body, outer, varying, lambda buffer: False, lambda block: False) if varying else None
    if shared is not None:
        x, y = shared.first.name, shared.second.name
        who = f"{x} touches" if x == y else f"{x} and {y} touch"
        names = " and ".join(v.name for v in varying)
        refuse(
            ORDERED,
            At(shared.second, "ordered("),
            f"{who} the same elements of {shared.buffer} in different iterations of {names}",
            "reorder only loops on one side of the ordered ones",
        )


def _check_block(function: Function, block: Block, nest: list[For], variables: list[Var]) -> None:
    for s in nest:
        kinds = feeds(block, s.var)
        if block.init is not None and len(kinds) > 1:
            refuse(
                INIT,
                At(block, "with init()"),
                f"the loop {s.var.name} feeds {' and '.join(fed_iters(block, s.var))} of {block.name}",
                f'decompose_reduction("{block.name}", …) first, so that the init has loops of its own',
            )
    if accesses(block).updates and injective_below(function, block, variables) is not True:
        refuse(
            ONCE,
            block,
            f"{block.name} may update one point more than once",
            "reorder before the block is placed where it recomputes",
        )
