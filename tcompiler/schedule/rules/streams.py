"""Maps with a short axis that is innermost where they write, or read, and not where they read, or write.

Colours of pixels, the phases of an upsampled line, the parts of a concatenation of single elements: lanes run along
the long axis around it, of which the short one makes streams, and these are dealt out and interleaved in registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tcompiler.backends.llvm.streams import are_streams
from tcompiler.ir.dtypes import DType
from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var
from tcompiler.schedule.rules.accesses import Shape, shape_of
from tcompiler.schedule.rules.attempt import peel_tails
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target

ROW_BYTES = 16
"""Bytes of a row from which on it is read and written as it lies, if its elements keep their order."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """How a map goes through streams.

    Attributes:
        among: The short axis: which stream.
        along: The long one: which element of it, in lanes.
        lanes: How many lanes.
    """

    among: Var
    along: Var
    lanes: int


def weaves(sch: Schedule, block: str, target: Target) -> bool:
    """Whether a map writes elements in turn that it takes from here and there: all of them in one nest, then."""
    shape = shape_of(sch.function, find_block(sch.function, block))
    if shape is None or shape.reduce:
        return False
    found = find_streams(sch, shape, loops_by_iter(sch, block), target)
    return found is not None and shape.target.strides.get(found.along) == shape.extents[found.among]


def loops_by_iter(sch: Schedule, block: str) -> dict[Var, str]:
    """The loop that each iter var is, in the order of the iter vars."""
    names = [sch.loop_of(block, k) for k in range(len(sch.iters(block)))]
    return {i.var: name for i, name in zip(sch.iters(block), names, strict=True) if name}


def find_streams(sch: Schedule, shape: Shape, loop_of: Mapping[Var, str], target: Target) -> Dealt | None:
    """The axes of a map that reads or writes streams; None where it does neither, or lies in rows that will do."""
    whole = [v for v in shape.spatial if v in loop_of and sch.extent(loop_of[v]) == shape.extents[v]]
    buffers = buffer_table(sch.function)
    held = target.vector_registers // 2  # as many again are needed while they are dealt out
    for o in (shape.target, *shape.operands):
        dtype = buffers[o.buffer].dtype
        for among in [v for v in whole if o.strides.get(v) == 1 and are_streams(shape.extents[v], dtype)]:
            count = shape.extents[among]
            steps = range(count, count + 1 if o is shape.target else 2 * count)
            along = next((v for v in whole if o.strides.get(v) in steps and shape.extents[v] > count), None)
            if along is not None and count <= held:
                lanes = _lanes(sch, shape, along, held // count, target)
                if _fits(sch, shape, among, along, lanes):
                    return Dealt(among, along, lanes)
    return None


def _fits(sch: Schedule, shape: Shape, among: Var, along: Var, lanes: int) -> bool:
    """Whether all accesses are of vectors along the streams, and some that are read are not of the rows written."""
    buffers, count = buffer_table(sch.function), shape.extents[among]
    rows: list[tuple[DType, int]] = []
    for a in (shape.target, *shape.operands):
        step = a.strides.get(along, 0)
        if step == 1 or (step == 0 and a is not shape.target):
            continue
        dtype = buffers[a.buffer].dtype
        if step is None or a.strides.get(among) != 1 or not are_streams(step, dtype):
            return False
        if a is shape.target and step != count:
            return False
        rows.append((dtype, step))
    if shape.target.strides.get(along) == 1:
        return True
    short = all(step * dtype.bytes <= ROW_BYTES for dtype, step in rows[1:])
    turned = len(rows) <= len(shape.operands)
    return short and (turned or (shape.extents[along] >= lanes and any(step != count for _, step in rows)))


def _lanes(sch: Schedule, shape: Shape, along: Var, each: int, target: Target) -> int:
    """Lanes: a vector of the narrowest type, if as many of the widest take no more than `each` registers."""
    buffers = buffer_table(sch.function)
    bits = [8 * buffers[a.buffer].dtype.bytes for a in (shape.target, *shape.operands) if a.moves(along)]
    widest = target.vector_lanes(max(bits))
    lanes = target.vector_lanes(min(bits))
    while lanes > max(each, 1) * widest:
        lanes //= 2
    return lanes


def deal_out(
    sch: Schedule, block: str, along: str, among: str, outer: Sequence[str], lanes: int, points: int, threads: int
) -> None:
    """Puts streams side by side: vectors along the long loop, the short one written out around them.

    Args:
        sch: The schedule.
        block: The block.
        along: The loop along the streams.
        among: The loop over them.
        outer: The loops around both.
        lanes: Lanes of a vector.
        points: Iterations of the nest.
        threads: Threads that it may use.
    """
    first, vector = sch.split(along, [None, lanes])
    sch.reorder(first, among, vector)
    sch.unroll(among)
    sch.vectorize(vector)
    parallelize(sch, block, [*outer, first], points, threads, keep=[first])
    peel_tails(sch, first)
