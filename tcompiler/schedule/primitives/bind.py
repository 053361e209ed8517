"""bind: the iterations of a loop are those of a hardware index."""

from __future__ import annotations

from tcompiler.ir.loop.grammar import Function, LoopKind
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.primitives import kinds
from tcompiler.schedule.primitives.motion import top
from tcompiler.schedule.tree import loop_named, loops_under, tree

THREADS: tuple[LoopKind, ...] = (
    "blockIdx.x",
    "blockIdx.y",
    "blockIdx.z",
    "threadIdx.x",
    "threadIdx.y",
    "threadIdx.z",
)

KIND = condition("bind.thread", f"the hardware index is one of {', '.join(THREADS)}")
SERIAL = condition("bind.serial", "the loop is serial")
SPATIAL = condition("bind.spatial", "the loop feeds spatial iters only")
NESTING = condition(
    "bind.nesting",
    "no vectorized or parallel loop is around it, no parallel one inside, and no blockIdx loop inside a threadIdx loop",
)
TWICE = condition("bind.twice", "no loop around or inside it is bound to the same index")
EXTENT = condition("bind.extent", "loops of one nest that are bound to one threadIdx have one constant extent")
PRIVATE = condition("bind.private", "what a block of threads writes of a private buffer is all that it reads of it")
INDEPENDENT = condition(
    "bind.independent", "no iteration touches what another one writes, except in buffers that are private to it"
)


@primitive
def bind(function: Function, loop: str, thread: str) -> Result:
    """Makes the iterations of a loop those of a hardware index of a GPU, which run at once.

    ``bind("i", "blockIdx.x")``::

        for i in range(64):                  for i in blockIdx.x(64):
            with block("B"): …         →         with block("B"): …

    Buffers of a private scope belong to an iteration of the blockIdx loops, as they do under a parallel loop. A CPU
    has no such index: its code generator refuses the loop.

    Args:
        function: The function.
        loop: A serial loop.
        thread: blockIdx or threadIdx, with .x, .y or .z.

    Raises:
        ScheduleError: If a condition of bind does not hold.
    """
    target = loop_named(function, loop)
    if thread not in THREADS:
        refuse(KIND, target, f'there is no hardware index "{thread}"', f"choose one of {', '.join(THREADS)}")
        return Result(function)
    kind = next(k for k in THREADS if k == thread)
    of_block = thread.startswith("blockIdx")
    kinds.require_serial(SERIAL, target)
    kinds.require_spatial(SPATIAL, target)
    above = {"vectorized", "parallel"} | ({k for k in THREADS if not k.startswith("blockIdx")} if of_block else set())
    below = {"parallel"} if of_block else {"parallel"} | {k for k in THREADS if k.startswith("blockIdx")}
    kinds.require_nesting(NESTING, function, target, above, below)
    kinds.require_nesting(TWICE, function, target, {thread}, {thread})
    _same_extent(function, loop, thread)
    if of_block:
        kinds.require_private(PRIVATE, function, target)
    kinds.require_independent(INDEPENDENT, function, target, privatized=of_block)
    return kinds.with_kind(function, target, kind)


def _same_extent(function: Function, loop: str, thread: str) -> None:
    target = loop_named(function, loop)
    extent = as_int(target.var.extent)
    if thread.startswith("threadIdx"):
        kinds.require_constant(EXTENT, target)
        around = [s for s in tree(function).loops_above(target) if s.kind.startswith("blockIdx")]
        for s in loops_under(around[0] if around else top(function, target)):
            if s.kind == thread and as_int(s.var.extent) != extent:
                refuse(
                    EXTENT,
                    target,
                    f"{loop} has {extent} iterations, and {s.var.name}, which is {thread} too, {as_int(s.var.extent)}",
                    f'split("{loop}", [None, {as_int(s.var.extent)}]) and bind the inner loop',
                )
