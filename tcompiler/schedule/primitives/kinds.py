"""What parallel and vectorize ask of a loop."""

from __future__ import annotations

from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import Block, For, Function, LoopKind
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.schedule.affine.coverage import left_unread
from tcompiler.schedule.affine.dependence import conflict, injective_below
from tcompiler.schedule.legality import At, Condition, Result, refuse
from tcompiler.schedule.tree import blocks_under, fed_iters, feeds, loops_under, replace, tree


def with_kind(function: Function, target: For, kind: LoopKind) -> Result:
    """The function with a loop of another kind."""
    return Result(replace(function, target, For(target.var, kind, target.body, target.annotations)))


def require_serial(failed: Condition, target: For) -> None:
    """Refuses a loop that has a kind already."""
    if target.kind != "serial":
        refuse(failed, target, f"the loop {target.var.name} is {target.kind} already", "choose a serial loop")


def require_constant(failed: Condition, target: For) -> None:
    """Refuses a loop whose extent depends on parameters."""
    if as_int(target.var.extent) is None:
        name = target.var.name
        refuse(
            failed,
            target,
            f"the extent of {name} depends on parameters",
            f'split it, split("{name}", [None, 8]), and choose the inner loop',
        )


def require_spatial(failed: Condition, target: For) -> None:
    """Refuses a loop that feeds an iter whose iterations are not independent."""
    for block in blocks_under(target.body):
        if not feeds(block, target.var) <= {"spatial"}:
            fed = [f for f in fed_iters(block, target.var) if not f.endswith("(spatial)")]
            name = fed[0].split(" ")[0]
            refuse(
                failed,
                At(block, f"{name} = "),
                f"the loop {target.var.name} feeds {', '.join(fed)} of {block.name}",
                "choose a loop that feeds spatial iters alone",
            )


def require_nesting(failed: Condition, function: Function, target: For, above: set[str], below: set[str]) -> None:
    """Refuses a loop around or inside loops of some kinds."""
    name = target.var.name
    for s in tree(function).loops_above(target):
        if s.kind in above:
            refuse(failed, s, f"{name} is inside {s.var.name}, which is {s.kind}", "choose a loop outside of it")
    for s in loops_under(target.body):
        if s.kind in below:
            refuse(failed, s, f"{name} is around {s.var.name}, which is {s.kind}", "choose a loop inside of it")


def require_private(failed: Condition, function: Function, target: For) -> None:
    """Refuses a loop whose iterations pass data on in a buffer that would be private to each of them."""
    written = touched(target.body).writes
    for b in function.buffers:
        if b.name in written and b.scope != "global" and not left_unread(function, target, b.name):
            refuse(
                failed,
                b,
                f"{b.name} is of scope {b.scope}, and an iteration of {target.var.name} may read what it did not write",
                f'choose another loop, or set_scope("{b.name}", "global")',
            )


def require_independent(failed: Condition, function: Function, target: For, privatized: bool) -> None:
    """Refuses a loop of which one iteration may touch what another one writes.

    Args:
        failed: The condition.
        function: The function.
        target: The loop.
        privatized: Whether buffers that are not of scope "global" are private to an iteration.
    """
    scopes = {b.name: b.scope for b in function.buffers}
    outer = [s.var for s in tree(function).loops_above(target)]

    def private(buffer: str) -> bool:
        return privatized and scopes[buffer] != "global"

    def alone(block: Block) -> bool:
        return bool(feeds(block, target.var)) and injective_below(function, block, [target.var]) is True

    found = conflict(function, target.body, outer, [target.var], private, alone)
    if found is not None:
        x, y = found.first.name, found.second.name
        who = f"{x} touches" if x == y else f"{x} and {y} touch"
        remedy = (
            f'if each iteration writes all that it reads of {found.buffer}, set_scope("{found.buffer}", "local"); '
            "else choose another loop"
            if privatized and found.buffer not in function.outputs
            else "choose another loop"
        )
        refuse(
            failed,
            found.second,
            f"{who} the same elements of {found.buffer} in different iterations of {target.var.name}",
            remedy,
        )
