"""parallel: the iterations of a loop run on threads."""

from __future__ import annotations

from tcompiler.ir.loop.grammar import Function
from tcompiler.schedule.legality import Result, condition, primitive
from tcompiler.schedule.primitives import kinds
from tcompiler.schedule.tree import loop_named

SERIAL = condition("parallel.serial", "the loop is serial")
SPATIAL = condition("parallel.spatial", "the loop feeds spatial iters only")
NESTING = condition("parallel.nesting", "no parallel or vectorized loop is around it, and no parallel one inside")
PRIVATE = condition(
    "parallel.private", "an iteration writes all that is read of the buffers of a private scope that it writes"
)
INDEPENDENT = condition(
    "parallel.independent", "no iteration touches what another one writes, except in buffers that are private to it"
)


@primitive
def parallel(function: Function, loop: str) -> Result:
    """Lets the iterations of a loop run at once, on threads.

    ``parallel("i")``::

        for i in range(64):                  for i in parallel(64):
            with block("B"): …         →         with block("B"): …

    A buffer that is not of scope "global" is private to an iteration: each must write what it reads of it, and nothing
    is read outside.

    Args:
        function: The function.
        loop: A serial loop.

    Raises:
        ScheduleError: If the loop has a kind, it feeds a reduce or ordered iter, it is inside a vectorized or
            parallel loop or around a parallel one, a buffer of a private scope passes data between iterations or out
            of the loop, or iterations touch what others write.
    """
    target = loop_named(function, loop)
    kinds.require_serial(SERIAL, target)
    kinds.require_spatial(SPATIAL, target)
    kinds.require_nesting(NESTING, function, target, {"parallel", "vectorized"}, {"parallel"})
    kinds.require_private(PRIVATE, function, target)
    kinds.require_independent(INDEPENDENT, function, target, privatized=True)
    return kinds.with_kind(function, target, "parallel")
