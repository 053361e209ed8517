"""vectorize: the iterations of a loop become lanes."""

from __future__ import annotations

from tcompiler.ir.loop.grammar import Function
from tcompiler.schedule.legality import Result, condition, primitive
from tcompiler.schedule.primitives import kinds
from tcompiler.schedule.tree import loop_named

SERIAL = condition("vectorize.serial", "the loop is serial")
CONSTANT = condition("vectorize.constant", "the loop's extent is a constant")
SPATIAL = condition("vectorize.spatial", "the loop feeds spatial iters only")
NESTING = condition("vectorize.nesting", "no vectorized loop is around it, and no parallel or vectorized one inside")
INDEPENDENT = condition("vectorize.independent", "no iteration touches what another one writes")


@primitive
def vectorize(function: Function, loop: str) -> Result:
    """Runs the iterations of a loop in lockstep, as lanes of vectors.

    ``vectorize("j")``::

        for j in range(16):                  for j in vectorized(16):
            with block("B"): …         →         with block("B"): …

    Args:
        function: The function.
        loop: A serial loop of constant extent.

    Raises:
        ScheduleError: If the loop has a kind, its extent is not constant, it feeds a reduce or ordered iter, it is
            inside a vectorized loop or around a vectorized or parallel one, or its iterations exchange data.
    """
    target = loop_named(function, loop)
    kinds.require_serial(SERIAL, target)
    kinds.require_constant(CONSTANT, target)
    kinds.require_spatial(SPATIAL, target)
    kinds.require_nesting(NESTING, function, target, {"vectorized"}, {"vectorized", "parallel"})
    kinds.require_independent(INDEPENDENT, function, target, privatized=False)
    return kinds.with_kind(function, target, "vectorized")
