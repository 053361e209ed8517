"""The last columns of a contraction with lanes along the places that rows stand for, as those of an image's line.

Where what rows read lies side by side from place to place, or a few elements apart, a vector of places meets one
weight after the other, in all its lanes. Tiles have rows of such vectors along the next axis, whose taps read much of
what the rows beside them read:

    for lines …: for vector of places …:
        acc[rows, columns] = 0
        for steps …: for taps along the rows: acc[rows, columns] += x[rows + tap, places] · weight[columns, tap]

Where the rows of the other columns' tiles are such places, both share a loop over blocks of rows (`reduction.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, lcm, prod

from tcompiler.backends.llvm.linear import linear
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var
from tcompiler.schedule.rules.accesses import Operand, Shape
from tcompiler.schedule.rules.attempt import peel_tails
from tcompiler.schedule.rules.body import BODY, lanes_and_rows, lanes_innermost
from tcompiler.schedule.rules.plan import own_shape
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.rules.windows import ROWS, even_tile
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target
from tcompiler.target.tile import SCATTER, Registers

ALONE = 1.35
"""How many times as fast what is read comes from a cache if little is computed with it."""


@dataclass(frozen=True, slots=True)
class _Places:
    """Axes of a contraction to last columns.

    Attributes:
        lane: The axis of lanes.
        row: The axis of a tile's rows; None where these are more vectors of lanes.
        tap: The axis of the reduction that slides along the rows, if one does.
        apart: Elements from one lane to the next in what is read.
        tall: Rows of a tile.
    """

    lane: Var
    row: Var | None
    tap: Var | None
    apart: int
    tall: int


def places_cycles(shape: Shape, column: Var, columns: int, registers: Registers) -> float:
    """Cycles that last columns take with lanes along places; infinite where nothing lies so.

    Args:
        shape: The contraction.
        column: Its axis of columns.
        columns: How many are left.
        registers: The machine.
    """
    found = _find(shape, column, columns, registers)
    if found is None:
        return inf
    pace, extents = registers.pace, shape.extents
    (rows,) = (o for o in shape.operands if not o.moves(column))
    vectors = -(-extents[found.lane] // registers.width)
    length = extents[found.row] if found.row is not None else vectors
    taps = extents[found.tap] if found.tap is not None else 1
    tiles = [(length // found.tall, found.tall), (1, length % found.tall)]
    total = 0.0
    for count, tall in (t for t in tiles if all(t)):
        fmas, read = tall * taps * columns, tall * taps
        if found.row is not None and found.tap is not None and fmas <= BODY:
            across, tap = rows.strides[found.row] or 0, rows.strides[found.tap] or 0
            read = len({across * i + tap * k for i in range(tall) for k in range(taps)})
        loads, shuffles = read * found.apart + taps * columns, read * (found.apart - 1)
        alone = max((fmas + shuffles) * pace.fma, loads * pace.load, taps * pace.chain)
        total += count * (alone + max(alone, (fmas + loads + shuffles) * pace.shared)) / 2
    lines = prod(extents[v] for v in shape.spatial if v not in (column, found.lane, found.row))
    times = prod(extents[v] for v in shape.reduce) // taps * (vectors if found.row is not None else 1)
    results = columns * prod(extents[v] for v in shape.spatial if v is not column)
    stored = 1 / registers.width if shape.target.strides.get(found.lane) == 1 else SCATTER
    # what is read comes in the order of memory while little is computed: one hides behind the other
    return max(total * lines * times, streamed_cycles(shape, rows, registers) / ALONE) + results * stored


def streamed_cycles(shape: Shape, read: Operand, registers: Registers) -> float:
    """Cycles in which all that is read comes from a cache, once.

    Args:
        shape: A contraction.
        read: One of its operands.
        registers: The machine.
    """
    size = registers.vector_bytes // registers.width
    for i in read.indices:
        size *= 1 + sum(abs(c) * (shape.extents[v] - 1) for v, c in linear(i, {}).terms.items() if v in shape.extents)
    return size / (registers.pace.near_bytes if size <= registers.near_bytes else registers.pace.far_bytes)


def rows_beside(shape: Shape, column: Var, columns: int, row: Var, rows: int, registers: Registers) -> int:
    """Rows of whole tiles whose places are whole vectors for last columns as well; 0 where these lie otherwise.

    Args:
        shape: The contraction.
        column: Its axis of columns.
        columns: How many are left.
        row: The axis of rows of the tiles before them.
        rows: Rows of such a tile.
        registers: The machine.
    """
    found = _find(shape, column, columns, registers)
    if found is None or found.lane is not row or found.row is not None:
        return 0
    both = lcm(rows, registers.width)
    most = max(1, ROWS * registers.width // both)
    # a single place that is left over would have no lanes
    return next((n * both for n in range(most, 0, -1) if shape.extents[row] % (n * both) != 1), 0)


def schedule_last_places(sch: Schedule, block: str, target: Target, threads: int) -> None:
    """Schedules a contraction to a few columns by the loops that are its own, with lanes along places.

    Args:
        sch: The schedule.
        block: What `cut_last_columns` returned, or a piece of it.
        target: The machine.
        threads: Threads that the kernel may use for these loops.
    """
    shape = own_shape(sch, block)
    assert shape is not None
    own = sch.own_loops(block)
    loops = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
    loop_of = {v: n for v, n in loops.items() if n in own}
    columns = own[0]
    column = next(v for v, n in loop_of.items() if n == columns)
    width = target.vector_lanes(buffer_table(sch.function)[shape.target.buffer].dtype.bytes * 8)
    found = _find(shape, column, shape.extents[column], Registers.of(target, width, 0, 0))
    assert found is not None
    others = [v for v in shape.spatial if v not in (column, found.lane, found.row)]
    for v in others:
        if shape.extents[v] == 1 and v in loop_of:
            sch.elide(loop_of.pop(v))
    strips, lanes = sch.split(loop_of[found.lane], [None, width])
    cut = [strips]
    if found.row is not None:
        tiles, rows = sch.split(loop_of[found.row], [None, found.tall])
        cut.insert(0, tiles)
    else:
        strips, rows = sch.split(strips, [None, found.tall])
        cut = [strips]
    outer = [*(n for v in others if (n := loop_of.get(v))), *cut]
    taps = [v for v in shape.reduce if v is not found.tap]
    taps += [found.tap] if found.tap is not None else []
    steps = [n for v in taps if (n := loop_of.get(v))]
    sch.reorder(*outer, *steps, columns, rows, lanes)
    init, write = sch.stage_accumulate(block, outer[-1], "register")
    lanes_innermost(sch, block, lanes, init, write)
    lanes_and_rows(sch, init)
    lanes_and_rows(sch, write)
    sch.vectorize(lanes)
    sch.unroll(rows)
    sch.unroll(columns)
    body = found.tall * shape.extents[column]
    for name in reversed(steps):
        body *= sch.extent(name) or 1
        if body > BODY:
            break
        sch.unroll(name)
    if threads > 1:
        parallelize(sch, block, outer, shape.points(), threads, keep=cut)
    for name in reversed(cut):
        peel_tails(sch, name)


def _find(shape: Shape, column: Var, columns: int, registers: Registers) -> _Places | None:
    """The axes of lanes and rows; None where what is read does not lie along one as lanes need it."""
    moved = [o for o in shape.operands if o.moves(column)]
    others = [o for o in shape.operands if not o.moves(column)]
    if len(moved) != 1 or len(others) != 1:
        return None
    (read,) = others
    free = [v for v in shape.spatial if v is not column and shape.extents[v] > 1 and not moved[0].moves(v)]
    along = sorted((v for v in free if read.strides.get(v)), key=lambda v: abs(read.strides[v] or 0))
    if not along or any(read.moves(v) and read.strides[v] is None for v in shape.extents):
        return None
    lane, row = along[0], along[1] if len(along) > 1 else None
    apart = abs(read.strides[lane] or 0)
    if 2 * apart > registers.width:
        return None
    length = shape.extents[row] if row is not None else -(-shape.extents[lane] // registers.width)
    tall = even_tile(length, max(1, min(ROWS, (registers.count - 1) // (columns + 1))))
    return _Places(lane, row, _tap(shape, read, row), apart, tall)


def _tap(shape: Shape, read: Operand, row: Var | None) -> Var | None:
    """The axis of the reduction that is added to that of the rows, where places are read."""
    if row is None:
        return None
    terms = [linear(i, {}).terms for i in read.indices]
    return next((v for v in shape.reduce if any(row in t and v in t for t in terms)), None)
