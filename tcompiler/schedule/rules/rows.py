"""Chains over rows (softmax, norms): every block of a row in one iteration of the loops over rows."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.ir.loop.analysis import accesses, find_block, touched
from tcompiler.ir.loop.grammar import Buffer, buffer_table
from tcompiler.ir.scalar.grammar import Scalar
from tcompiler.ir.scalar.rewrite import loads
from tcompiler.schedule.rules.accesses import shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.partials import in_vectors, reduce_in_lanes, vectors_at_once
from tcompiler.schedule.rules.placement import bytes_of, operations
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target

PAGE_BYTES = 4096
"""Memory side by side within which processors find out by themselves what is read next."""
WAITING = 8
"""The part of the level 2 cache that a row may fill for the next one to wait there: this one and that of an operand and
of the result are half of it."""


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
    maps: list[str] = []
    for name in blocks:
        own = [n for n in sch.loops(name) if n not in shared]
        if own and find_block(sch.function, name).init is not None:
            read = touched(find_block(sch.function, name)).reads
            sources = [m for m in maps if sch.written_by(m) in read]
            reduce_in_lanes(sch, name, target, sources[-1] if sources else "")
        elif own and attempt(sch, _vectors, sch, name, own, target):
            maps.append(name)
    together = [sch.extent(sch.loops(m)[-1]) or 0 for m in maps]
    for name in maps:
        inner = [n for n in sch.loops(name) if n not in shared]
        waiting = len(inner) > 1 and sch.kind(inner[-1]) == "serial"
        lanes = sorted({sch.loops(b)[-1] for b in sch.blocks_under(inner[-2])}) if waiting else []
        for loop in inner:
            peel_tails(sch, loop)
        in_vectors(sch, lanes, target, min(together))
    common = [n for n in shared if set(sch.blocks_under(n)) >= set(blocks)]
    parallelize(sch, last, common, work, threads)
    if among is None:
        _ask_for_next_row(sch, last, target)


def _ask_for_next_row(sch: Schedule, last: str, target: Target) -> None:
    """Asks for the next row while there is most to compute, where rows come from far and go there.

    A processor finds out by itself what is read next, but within a page, and looks ahead by fewer vectors than such a
    row has: without being asked, memory is idle while later passes over a row compute. What is read is asked for in the
    pass with the most operations before the last one, which has the result to write; where the result goes, in the pass
    that writes there first, or where that is the last one, with what is read.

    Args:
        sch: The schedule, complete.
        last: The block that writes the result.
        target: The machine.
    """
    own = set(sch.own_loops(last))
    row = next((n for n in reversed(sch.loops(last)) if n not in own), "")
    inside = [(n, sch.loops(n)) for n in sch.blocks_under(row)] if row else []
    passes = [n for n, loops in inside if loops[-3:-2] == [row] and sch.kind(loops[-2]) == "serial"]
    touches = {n: touched(find_block(sch.function, n)) for n in passes}
    buffers = buffer_table(sch.function)
    asked: list[tuple[str, str]] = []
    for name in (*sch.function.inputs, *sch.function.outputs):
        written = name in sch.function.outputs
        users = [n for n, t in touches.items() if name in (t.writes if written else t.reads)]
        if not users or len(passes) == 1 or bytes_of(sch, name) <= target.l2_bytes // 2:
            continue
        before = [n for n in users if n != last] or users
        user = users[0] if written else max(before, key=lambda n: operations(find_block(sch.function, n)))
        user, like = asked[0] if written and users == [last] and asked else (user, "")
        _, steps, lanes = sch.loops(user)[-3:]
        size = (sch.extent(steps) or 0) * (sch.extent(lanes) or 0) * buffers[name].dtype.bytes
        fits = PAGE_BYTES < size <= target.l2_bytes // WAITING and sch.kind(lanes) == "vectorized"
        if fits and attempt(sch, sch.prefetch, user, name, lanes, row, "", like) and not written:
            asked.append((user, name))


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
    """Splits the innermost of a map's own loops for vectors, if the map is contiguous along it."""
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
    together = min(vectors_at_once(find_block(sch.function, name), target), extent // width)
    _, lanes = sch.split(loop, [None, together * width])
    mark = sch.mark()
    sch.vectorize(lanes)  # refused where other blocks are inside
    sch.rewind(mark)
    return True
