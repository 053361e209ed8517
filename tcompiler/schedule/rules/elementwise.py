"""Maps without a reduction: vectors along the axis in which the output is contiguous, the rest on threads."""

from __future__ import annotations

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var
from tcompiler.schedule.rules.accesses import Shape, element_strides, shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target

ACROSS = 16
"""Elements of a cache line, or more: how far a transposition goes across its lanes before it goes along."""


def schedule_map(sch: Schedule, block: str, target: Target, threads: int) -> bool:
    """Schedules a block that only stores, in a nest of its own.

    Returns:
        False, with nothing changed, where the rule does not fit.
    """
    return attempt(sch, _schedule, sch, block, target, threads)


def _schedule(sch: Schedule, block: str, target: Target, threads: int) -> bool:
    shape = shape_of(sch.function, find_block(sch.function, block))
    if shape is None or shape.reduce or 0 in shape.extents.values():
        return False
    loop_of = _loops_by_iter(sch, block)
    if _flat(sch, shape) and len(loop_of) > 1:
        if sch.loops(block) != [*loop_of.values()]:
            sch.reorder(*loop_of.values())
        (loop,) = sch.fuse(*loop_of.values())
        outer: list[str] = []
        extent = shape.points()
    else:
        lane = shape.innermost()
        if lane is None:
            parallelize(sch, block, list(loop_of.values()), shape.points(), threads)
            return True
        loop = loop_of[lane]
        outer = [n for v, n in loop_of.items() if v is not lane]
        extent = shape.extents[lane]
        across = _across(shape, lane)
        if across is not None and across in loop_of and shape.extents[lane] > 1:
            _tiled(sch, block, shape, lane, across, target, threads)
            return True
        if outer and sch.loops(block)[-1] != loop:
            sch.reorder(*outer, loop)
    vectorize_tail(sch, block, loop, extent, shape, outer, target, threads)
    return True


def _loops_by_iter(sch: Schedule, block: str) -> dict[Var, str]:
    """The loop that each iter var is, in the order of the iter vars."""
    names = [sch.loop_of(block, k) for k in range(len(sch.iters(block)))]
    return {i.var: name for i, name in zip(sch.iters(block), names, strict=True) if name}


def _across(shape: Shape, lane: Var) -> Var | None:
    """The axis along which an operand is contiguous that is not along the lanes: its cache lines are shared by it."""
    for o in shape.operands:
        if o.moves(lane) and o.strides.get(lane) != 1:
            for v in shape.spatial:
                if v is not lane and o.strides.get(v) == 1 and shape.extents[v] >= ACROSS:
                    return v
    return None


def _tiled(sch: Schedule, block: str, shape: Shape, lane: Var, across: Var, target: Target, threads: int) -> None:
    """A transposition in tiles: what one iteration leaves of a cache line, the next ones take."""
    loop_of = _loops_by_iter(sch, block)
    bits = buffer_table(sch.function)[shape.target.buffer].dtype.bytes * 8
    width = min(max(target.vector_lanes(bits), 2), shape.extents[lane])
    first, lanes = sch.split(loop_of[lane], [None, width])
    strips, strip = sch.split(loop_of[across], [None, ACROSS])
    outer = [n for v, n in loop_of.items() if v is not lane and v is not across]
    sch.reorder(*outer, strips, first, strip, lanes)
    sch.vectorize(lanes)
    parallelize(sch, block, [*outer, strips], shape.points(), threads, keep=[strips])
    for name in (strips, first):
        peel_tails(sch, name)


def vectorize_tail(
    sch: Schedule, block: str, loop: str, extent: int, shape: Shape, outer: list[str], target: Target, threads: int
) -> None:
    """Splits a loop into vectors, peels its tail and puts the rest on threads."""
    bits = buffer_table(sch.function)[shape.target.buffer].dtype.bytes * 8
    width = max(target.vector_lanes(bits), target.vector_lanes(32))
    if extent <= width:
        sch.vectorize(loop)
        parallelize(sch, block, outer, shape.points(), threads)
        return
    first, lanes = sch.split(loop, [None, width])
    sch.vectorize(lanes)
    parallelize(sch, block, [*outer, first], shape.points(), threads, keep=[first])
    if extent % width:
        peel_tails(sch, first)


def _flat(sch: Schedule, shape: Shape) -> bool:
    """Whether all accesses walk memory in step, so that the whole nest is one long loop."""
    buffers = buffer_table(sch.function)
    moving = [v for v in shape.spatial if shape.extents[v] > 1]
    step = 1
    for v in reversed(shape.spatial):
        if shape.extents[v] > 1:
            if shape.target.strides.get(v) != step:
                return False
            step *= shape.extents[v]
    for o in shape.operands:
        if element_strides(buffers[o.buffer]) is None:
            return False
        if any(o.strides.get(v, 0) for v in moving) and any(
            o.strides.get(v) != shape.target.strides.get(v) for v in moving
        ):
            return False
    return True
