"""elide: a loop of one iteration gives way to its body."""

from __future__ import annotations

from tcompiler.ir.loop.grammar import Function
from tcompiler.ir.scalar.grammar import as_int, index
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.tree import loop_named, rebind, replace

SINGLE = condition("elide.single", "the loop's extent is 1")


@primitive
def elide(function: Function, loop: str) -> Result:
    """Replaces a loop of one iteration by its body.

    ``elide("i")``::

        for i in range(1):                   with block("B"):
            with block("B"):           →         vi = spatial(1, 0)
                vi = spatial(1, i)

    Args:
        function: The function.
        loop: A loop of extent 1, of any kind.

    Raises:
        ScheduleError: If the extent is not 1.
    """
    target = loop_named(function, loop)
    if as_int(target.var.extent) != 1:
        refuse(SINGLE, target, f"the extent of {loop} is {target.var.extent}", "choose a loop of one iteration")
    return Result(replace(function, target, rebind(target.body, {target.var: index(0)})))
