"""unroll: a loop is expanded before code generation."""

from __future__ import annotations

from tcompiler.ir.loop.grammar import Function
from tcompiler.schedule.legality import Result, condition, primitive
from tcompiler.schedule.primitives import kinds
from tcompiler.schedule.tree import loop_named

SERIAL = condition("unroll.serial", "the loop is serial")
CONSTANT = condition("unroll.constant", "the loop's extent is a constant")


@primitive
def unroll(function: Function, loop: str) -> Result:
    """Marks a loop to be expanded, so that its variable is a constant in every copy of the body.

    ``unroll("i")``::

        for i in range(6):                   for i in unrolled(6):
            with block("B"): …         →         with block("B"): …

    Args:
        function: The function.
        loop: A serial loop of constant extent.

    Raises:
        ScheduleError: If the loop has a kind, or its extent is not a constant.
    """
    target = loop_named(function, loop)
    kinds.require_serial(SERIAL, target)
    kinds.require_constant(CONSTANT, target)
    return kinds.with_kind(function, target, "unrolled")
