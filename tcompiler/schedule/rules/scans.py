"""Scans of elements that go their own ways (cumulative sums): in order along an axis, in vectors across it.

Where the result is contiguous across the scan, lanes are neighbours in memory, and the state stays in a near cache or
in registers while all steps are done:

    for rows …: for strips: state = init
        for t: for lanes (vectorized): state = f(state, x[t, lane]);  y[t, lane] = state

Where it is contiguous along the scan, lanes are rows. A tile of a few rows and steps is read as it lies in memory,
transposed in registers, and transposed back behind the scan:

    for rows: state = init;  for t0:
        for t1 (unrolled): for rows (vectorized): state = f(state, x[row, t]);  tile[t1, row] = state
        for rows (unrolled): for t1 (vectorized): y[row, t] = tile[t1, row]

Every element is computed in the same order as it would be alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tcompiler.ir.loop.analysis import accesses, find_block, touched
from tcompiler.ir.loop.grammar import Seq, Store, buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.rules.accesses import Operand, operand_of, shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import LINE_BYTES, Target

REGISTERS = 8
"""Vectors of a state that stay in registers."""
STRIP_BYTES = 4096
"""Bytes of a strip whose state stays in the nearest cache, with room for what is read and written."""
LEAST_BYTES = 512
"""Bytes of a strip that are walked at the speed of longer ones."""
SHARES = 4
"""Strips for each thread, so that the last one, which is shorter, does not count."""
VECTORS = 4
"""Vectors that are computed between two jumps."""
ROWS = 8
"""Rows of a tile at most."""


def schedule_scan(sch: Schedule, block: str, target: Target, threads: int) -> bool:
    """Schedules a block that changes a state element by element, in order along one axis.

    Args:
        sch: The schedule; the block stands in a nest of its own.
        block: The block.
        target: The machine.
        threads: Threads that the kernel may use.

    Returns:
        False, with nothing changed, where the rule does not fit.
    """
    node = find_block(sch.function, block)
    stores = node.body.stmts if isinstance(node.body, Seq) else (node.body,)
    if [i.kind for i in node.iters].count("ordered") != 1 or not all(isinstance(s, Store) for s in stores):
        return False
    return attempt(sch, _across, sch, block, target, threads) or attempt(sch, _along, sch, block, target, threads)


def _across(sch: Schedule, block: str, target: Target, threads: int) -> bool:
    """Lanes across the scan, where what is written lies along them; what is made of it is computed in the same step."""
    results = _results(sch, block)
    for reader in [r for b in results for r in _only_reader(sch, b)]:
        attempt(sch, sch.reverse_compute_inline, reader)
    written = _written(sch, block)
    loop_of, step = _loops(sch, block)
    lane = next((v for v in loop_of if written and all(o.strides.get(v) == 1 for o in written)), None)
    if lane is None or step is None:
        return False
    dtype = buffer_table(sch.function)[written[0].buffer].dtype
    width = target.vector_lanes(dtype.bytes * 8)
    extent = sch.extent(loop_of[lane]) or 0
    if extent < 2:
        return False
    rest = [n for v, n in loop_of.items() if v is not lane]
    rows = prod(sch.extent(n) or 1 for n in rest)
    strip = min(extent, STRIP_BYTES // dtype.bytes)
    if extent <= REGISTERS * width:
        strip = extent
    elif threads > 1 and rows < SHARES * threads:
        parts = -(-SHARES * threads // rows)
        least = max(LEAST_BYTES // dtype.bytes, width)
        strip = min(strip, max(least, -(-extent // parts)))
    if strip < extent:
        # strips of about the same length, in whole vectors
        even = -(-extent // -(-extent // strip))
        strip = -(-even // (VECTORS * width)) * VECTORS * width
    outer, inner = sch.split(loop_of[lane], [None, strip])
    sch.reorder(*rest, outer, step, inner)
    _begin_at(sch, block, outer)
    registers = strip <= REGISTERS * width
    lanes = strip if registers else min(strip, VECTORS * width)
    firsts = []
    for name in sch.blocks_under(outer):
        last = sch.loops(name)[-1]
        if (sch.extent(last) or 1) > lanes:
            first, last = sch.split(last, [None, lanes])
            firsts.append(first)
        sch.vectorize(last)
    if registers:
        _keep(sch, block, _states(sch, block))
    parallelize(sch, block, [*rest, outer], _points(sch, block), threads, keep=[outer])
    peel_tails(sch, outer)
    for name in firsts:
        peel_tails(sch, name)
    return True


def _along(sch: Schedule, block: str, target: Target, threads: int) -> bool:
    """Lanes that are rows, or one row after the other, where what is written lies along the scan."""
    results = _results(sch, block)
    readers = [r for b in results for r in _only_reader(sch, b)]
    loop_of, step = _loops(sch, block)
    steps = sch.extent(step) if step is not None else None
    if step is None or steps is None:
        return False
    spatial = list(loop_of.values())
    width = min(ROWS, target.vector_lanes(32))
    rows = prod(sch.extent(n) or 1 for n in spatial)
    if len(readers) != len(results) or rows < 2 or steps < 2:
        for reader in readers:
            attempt(sch, sch.reverse_compute_inline, reader)
        if not spatial:
            _keep(sch, block, _states(sch, block))
            return True
        _begin_at(sch, block, spatial[-1])
        _keep(sch, block, _states(sch, block))
        parallelize(sch, block, spatial, _points(sch, block), threads)
        return True
    row = spatial[-1]
    if len(spatial) > 1 and (sch.extent(row) or 1) % width:
        row = sch.fuse(*spatial)[0]
        spatial = [row]
    outer, lane = sch.split(row, [None, min(width, sch.extent(row) or 1)])
    bytes_ = max((buffer_table(sch.function)[b].dtype.bytes for b in results), default=1)
    # a line of each row: rows that are a power of two apart share few lines of a cache, so each is used at once
    first, inner = sch.split(step, [None, min(max(ROWS, LINE_BYTES // bytes_), steps)])
    sch.reorder(*spatial[:-1], outer, first, inner, lane)
    _begin_at(sch, block, outer)
    for reader in readers:
        sch.reverse_compute_at(reader, first)
    for name in sch.blocks_under(outer):
        if name in readers:
            *_, across, along = _in_memory_order(sch, name)
            sch.unroll(across)
            sch.vectorize(along)
        elif name != block:
            sch.vectorize(sch.loops(name)[-1])
    sch.vectorize(lane)
    sch.unroll(inner)
    _keep(sch, block, [*_states(sch, block), *results])
    parallelize(sch, block, [*spatial[:-1], outer], _points(sch, block), threads, keep=[outer])
    for name in (outer, first):
        peel_tails(sch, name)
    return True


def _in_memory_order(sch: Schedule, name: str) -> list[str]:
    """The innermost two loops of a map, so that what it writes is contiguous along the last one."""
    loops = sch.loops(name)
    shape = shape_of(sch.function, find_block(sch.function, name))
    if shape is None:
        return loops
    positions = {i.var: k for k, i in enumerate(sch.iters(name))}
    along = [sch.loop_of(name, positions[v]) for v in shape.spatial if shape.target.strides.get(v) == 1]
    last = next((n for n in along if n in loops[-2:]), loops[-1])
    if last != loops[-1]:
        sch.reorder(last, loops[-1])
        sch.reorder(loops[-1], last)
    return [n for n in loops if n != last] + [last]


def _loops(sch: Schedule, block: str) -> tuple[dict[Var, str], str | None]:
    """The loops of the iter vars across the scan, of more than one iteration, and the loop of its steps."""
    found: dict[Var, str] = {}
    step = None
    for k, i in enumerate(sch.iters(block)):
        loop = sch.loop_of(block, k)
        if i.kind == "ordered":
            step = loop or None
        elif loop and sch.extent(loop) != 1:
            found[i.var] = loop
        elif loop:
            sch.elide(loop)
    return found, step


def _results(sch: Schedule, block: str) -> list[str]:
    """What a scan writes and does not read: its results, as the states are read."""
    a = accesses(find_block(sch.function, block))
    states = {r.buffer for r in a.reads}
    return list(dict.fromkeys(w.buffer for w in a.writes if w.buffer not in states))


def _written(sch: Schedule, block: str) -> list[Operand]:
    """How a scan's results are written."""
    buffers = buffer_table(sch.function)
    results = _results(sch, block)
    found = [w for w in accesses(find_block(sch.function, block)).writes if w.buffer in results]
    return [o for o in (operand_of(buffers, w) for w in found) if o is not None]


def _only_reader(sch: Schedule, buffer: str) -> list[str]:
    """The map that a result is made for, if there is one alone."""
    found = [b for b in sch.blocks() if buffer in touched(find_block(sch.function, b)).reads]
    plain = len(found) == 1 and isinstance(find_block(sch.function, found[0]).body, Store)
    return found if plain and buffer not in sch.function.outputs else []


def _states(sch: Schedule, block: str) -> list[str]:
    a = touched(find_block(sch.function, block))
    return sorted(a.reads & a.writes)


def _begin_at(sch: Schedule, block: str, loop: str) -> None:
    """Sets the states where the scan of their elements begins."""
    states = _states(sch, block)
    for name in sch.producers(block):
        if sch.written_by(name) in states:
            sch.compute_at(name, loop)


def _keep(sch: Schedule, block: str, buffers: Sequence[str]) -> None:
    """Keeps buffers in registers whose elements are all named where loops are expanded."""
    node = find_block(sch.function, block)
    steps = {
        v.name for i, b in zip(node.iters, node.bindings, strict=True) if i.kind == "ordered" for v in free_vars(b)
    }
    for buffer in buffers:
        users = [b for b in sch.blocks() if buffer in _uses(sch, b)]
        common = set(sch.loops(block)).intersection(*(sch.loops(u) for u in users))
        moving = {n for u in users for n in sch.loops(u) if n not in common and n not in steps}
        if all(sch.kind(n) in ("unrolled", "vectorized") or sch.extent(n) == 1 for n in moving):
            attempt(sch, sch.set_scope, buffer, "register")


def _uses(sch: Schedule, block: str) -> frozenset[str]:
    found = touched(find_block(sch.function, block))
    return found.reads | found.writes


def _points(sch: Schedule, block: str) -> int:
    return prod(as_int(i.var.extent) or 1 for i in sch.iters(block))
