"""Fewer rows than threads: a row is cut into parts, which are reduced by different threads and then combined in order.

    for part in parallel(parts):  partial[part] = reduction of the part, in lanes
    for part in range(parts):     total ⊕= partial[part]

The parts depend on the row's length alone, so the result is the same whoever reduces them, and however many do.
"""

from __future__ import annotations

from math import prod

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Buffer, Store, buffer_table
from tcompiler.ir.scalar.grammar import TRUE
from tcompiler.schedule.rules.accesses import shape_of
from tcompiler.schedule.rules.attempt import attempt
from tcompiler.schedule.rules.partials import VECTORS, contiguous_axes, reduce_in_lanes
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target

PARTS = 16
"""Parts of a row: enough that cores of unequal speed finish at about the same time."""
LONG = 32768
"""Elements of a row from which on cutting it pays: less is done before another thread has begun."""


def has_long_rows(sch: Schedule, threads: int) -> bool:
    """Whether all reductions are of fewer rows than there are threads, and of long ones.

    Args:
        sch: The schedule, every block in a nest of its own.
        threads: Threads that the kernel may use.
    """
    reductions = [b for b in sch.blocks() if find_block(sch.function, b).init is not None]
    return threads > 1 and all(_is_long(sch, b, threads) for b in reductions)


def write_over_rows(sch: Schedule, last: str) -> None:
    """Keeps rows that lead to a map where the map writes its result."""
    for name in sch.producers(last):
        buffer = sch.get(sch.written_by(name))
        if isinstance(buffer, Buffer) and isinstance(find_block(sch.function, name).body, Store):
            attempt(sch, sch.write_over, last, buffer.name)


def reduce_in_parts(sch: Schedule, block: str, target: Target, threads: int) -> bool:
    """Shares a reduction of few long rows among threads.

    Args:
        sch: The schedule; the block stands in a nest of its own.
        block: A block with an Update.
        target: The machine.
        threads: Threads that the kernel may use.

    Returns:
        False, with nothing changed, where there are rows enough or the rule does not fit.
    """
    return threads > 1 and _is_long(sch, block, threads) and attempt(sch, _parts, sch, block, target)


def _is_long(sch: Schedule, block: str, threads: int) -> bool:
    shape = shape_of(sch.function, find_block(sch.function, block))
    if shape is None or not shape.reduce:
        return False
    rows = prod(shape.extents[v] for v in shape.spatial)
    return rows < threads and shape.points() >= LONG


def _parts(sch: Schedule, block: str, target: Target) -> bool:
    shape = shape_of(sch.function, find_block(sch.function, block))
    axes = contiguous_axes(shape) if shape is not None else []
    if shape is None or not axes:
        return False
    loop_of = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
    if "" in loop_of.values():
        return False
    reduced = [loop_of[v] for v in shape.reduce if v not in axes]
    chain = [loop_of[v] for v in axes]
    spatial = [loop_of[v] for v in shape.spatial]
    if sch.loops(block) != [*spatial, *reduced, *chain]:
        sch.reorder(*spatial, *reduced, *chain)
    outer = sch.fuse(*reduced)[0] if len(reduced) > 1 else next(iter(reduced), "")
    inner = sch.fuse(*chain)[0] if len(chain) > 1 else chain[0]
    if outer and (sch.extent(outer) or 0) >= PARTS:
        part, _ = sch.split(outer, [None, (sch.extent(outer) or 0) // PARTS])
    else:
        extent = sch.extent(inner) or 0
        step = VECTORS * target.vector_lanes(buffer_table(sch.function)[shape.target.buffer].dtype.bits)
        if extent < PARTS * step:
            return False
        part, inner = sch.split(inner, [None, extent // PARTS // step * step])
        if outer:
            sch.reorder(part, outer, inner)
    partial, _ = sch.rfactor(block, part)
    pieces = [part]
    if find_block(sch.function, partial).predicate is not TRUE:
        attempt(sch, _peeled, sch, part, pieces)
    for piece in pieces:
        for name in sch.blocks_under(piece):
            reduce_in_lanes(sch, name, target)
    return attempt(sch, sch.parallel, pieces[0])


def _peeled(sch: Schedule, part: str, pieces: list[str]) -> None:
    pieces[:] = sch.peel(part)
