"""Chains over rows (softmax, norms): every block of a row in one iteration of the loops over rows."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.ir.loop.analysis import accesses, find_block
from tcompiler.ir.loop.grammar import Buffer, buffer_table
from tcompiler.ir.scalar.grammar import Scalar
from tcompiler.ir.scalar.rewrite import loads
from tcompiler.schedule.rules.accesses import shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.partials import FEW, reduce_in_lanes
from tcompiler.schedule.rules.placement import CHEAP, bytes_of, operations
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target

UNROLLED = 4
"""Vectors of a cheap map that are computed between two jumps."""


def schedule_row_blocks(
    sch: Schedule,
    last: str,
    shared: Sequence[str],
    target: Target,
    threads: int,
    among: Sequence[str] | None = None,
) -> None:
    """Vectorizes the maps and reductions of a row and puts the rows on threads.

    Args:
        sch: The schedule, with the blocks gathered under the loops over rows.
        last: The block whose loops they are.
        shared: These loops, outermost first.
        target: The machine.
        threads: Threads that the kernel may use.
        among: The blocks; None for all under the first of the loops.
    """
    blocks = sch.blocks_under(shared[0]) if among is None else list(among)
    for name in blocks:
        attempt(sch, _keep_in_register, sch, sch.written_by(name))
    if among is None:
        _write_over(sch, last, shared)
    work = 1
    for loop in sch.loops(last):
        work *= sch.extent(loop) or 1
    for name in blocks:
        own = [n for n in sch.loops(name) if n not in shared]
        if own and find_block(sch.function, name).init is None:
            attempt(sch, _vectors, sch, name, own, target)
        elif own:
            reduce_in_lanes(sch, name, target)
    common = [n for n in shared if set(sch.blocks_under(n)) >= set(blocks)]
    parallelize(sch, last, common, work, threads)


def _write_over(sch: Schedule, last: str, shared: Sequence[str]) -> None:
    """Keeps rows where the row that is made of them goes: two rows need less of the caches than three.

    Args:
        sch: The schedule.
        last: The block that writes the result.
        shared: The loops over rows.
    """
    for name in sch.producers(last):
        buffer = sch.written_by(name)
        node = sch.get(buffer)
        if name in sch.blocks_under(shared[0]) and isinstance(node, Buffer) and node.scope != "register":
            attempt(sch, sch.write_over, last, buffer)


def _keep_in_register(sch: Schedule, buffer: str) -> bool:
    """One element of a row (its maximum, its sum) needs no memory."""
    if buffer in sch.function.outputs or bytes_of(sch, buffer) > buffer_table(sch.function)[buffer].dtype.bytes:
        return False
    if any(loads(i) for at in _places(sch, buffer) for i in at):
        return False
    sch.set_scope(buffer, "register")
    return True


def _places(sch: Schedule, buffer: str) -> list[tuple[Scalar, ...]]:
    """Where blocks use a buffer."""
    found = [accesses(find_block(sch.function, b)) for b in sch.blocks()]
    used = [(x.buffer, x.indices) for a in found for x in (*a.reads, *a.updates)]
    used += [(x.buffer, x.indices) for a in found for x in a.writes]
    return [indices for name, indices in used if name == buffer]


def _vectors(sch: Schedule, name: str, own: Sequence[str], target: Target) -> bool:
    """Vectorizes the innermost of a map's own loops, if the map is contiguous along it."""
    shape = shape_of(sch.function, find_block(sch.function, name))
    if shape is None:
        return False
    lane = shape.innermost()
    loop = own[-1]
    extent = sch.extent(loop)
    if lane is None or extent is None or extent < 2:
        return False
    width = target.vector_lanes(buffer_table(sch.function)[shape.target.buffer].dtype.bytes * 8)
    if extent <= width:
        sch.vectorize(loop)
        return True
    at_once = UNROLLED if operations(find_block(sch.function, name)) <= CHEAP else FEW
    if extent >= at_once * width:
        width *= at_once
    first, lanes = sch.split(loop, [None, width])
    sch.vectorize(lanes)
    if extent % width:
        peel_tails(sch, first)
    return True
