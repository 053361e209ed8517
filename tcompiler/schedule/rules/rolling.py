"""Softmax between two contractions, a block of columns at a time: no whole row of scores is ever held.

    for block of rows:
        maximum = -inf; sum = 0; result = 0
        for block of columns:
            scores = tiles of the first contraction (a block of rows × a block of columns)
            for row: maximum so far, what became too large by it is scaled down; exponentials, and their sum
            result += tiles of the second contraction
        result times 1 / sum

The primitive `rolling_update` knows why this is the same (M. Milakov, N. Gimelshein 2018; T. Dao et al. 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Block, Update, buffer_table
from tcompiler.ir.scalar.reducers import is_maximum
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.elementwise import schedule_map
from tcompiler.schedule.rules.reduction import schedule_inside
from tcompiler.schedule.rules.rows import schedule_row_blocks
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target


@dataclass(frozen=True, slots=True)
class Rolled:
    """The blocks under a loop over blocks of rows.

    Attributes:
        names: All of them, in order.
        columns: The loop over blocks of columns.
        inside: Those under it.
        rows: The blocks of its loop over rows.
        wide: Those of them that scale rows of the result.
        tail: Whether the last block of columns is a smaller one.
    """

    names: list[str]
    columns: str
    inside: list[str]
    rows: list[str]
    wide: list[str]
    tail: bool


def roll(sch: Schedule, first: str, chain: Sequence[str], second: str, blocks: str, size: int) -> Rolled | None:
    """Walks the columns between two contractions in blocks.

    Args:
        sch: The schedule; all blocks stand under the loop over blocks of rows, in nests of their own.
        first: The first contraction.
        chain: The blocks between, in order: a maximum, maps of it and sums, and what is made of the sums.
        second: The second contraction.
        blocks: The loop over blocks of rows.
        size: Columns of a block.

    Returns:
        The blocks as they are then; None if the chain is of another form.

    Raises:
        ScheduleError: If a primitive finds so.
    """
    nodes = {b: find_block(sch.function, b) for b in chain}
    peaks = [b for b, node in nodes.items() if _maximum(node)]
    sums = [b for b, node in nodes.items() if node.init is not None and b not in peaks]
    if len(peaks) != 1 or not sums:
        return None
    maps = [b for b in chain[: max(map(list(chain).index, sums), default=0)] if nodes[b].init is None]
    reduced = sch.own_loops(second)[-1]
    tail = (sch.extent(reduced) or 0) % size > 0
    columns, part = sch.split(reduced, [None, size])
    own = [n for n in sch.own_loops(second) if n not in (columns, part)]
    sch.reorder(columns, *own, part)
    walked = {}
    for name in (*peaks, *sums):
        *rows, loop = sch.own_loops(name)
        walked[name], _ = sch.split(loop, [None, size])
        partial, combining = sch.rfactor(name, walked[name])
        sch.compute_with(walked[name], combining)
        sch.compact(sch.written_by(partial), walked[name])
        sch.reorder(walked[name], *rows)
    for name in sums:
        sch.compute_with(columns, walked[name])
    for name in reversed(maps):
        sch.compute_at(name, columns)
    peak = peaks[0]
    made = sch.rolling_update(peak, walked[peak], columns)
    columns = walked[peak]
    sch.compute_at(first, columns)
    inside = sch.blocks_under(columns)
    around = _row_loop(sch, peak, columns)
    for name in [b for b in inside if b not in (first, second)]:
        loop = _row_loop(sch, name, columns)
        if loop != around:
            sch.compute_with(around, loop)
    for name in made:
        attempt(sch, sch.compact, sch.written_by(name), around)
    wide = [b for b in sch.blocks_under(around) if b in made and len(sch.own_loops(b)) > 0]
    return Rolled(sch.blocks_under(blocks), columns, sch.blocks_under(columns), sch.blocks_under(around), wide, tail)


def _maximum(block: Block) -> bool:
    return isinstance(block.body, Update) and len(block.body.values) == 1 and is_maximum(block.body.reducer)


def _row_loop(sch: Schedule, block: str, columns: str) -> str:
    """The loop over rows around a block in the loop over blocks of columns."""
    loops = sch.loops(block)
    return loops[loops.index(columns) + 1]


def schedule_rolled(
    sch: Schedule, rolled: Rolled, named: Mapping[str, str], lanes: Mapping[str, int], target: Target
) -> bool:
    """Schedules the blocks of one block of rows.

    Args:
        sch: The schedule.
        rolled: The blocks.
        named: What they are called in this piece.
        lanes: The contractions, and lanes of their tiles.
        target: The machine.
    """
    loops = sch.loops(named[rolled.inside[0]])
    columns = loops[loops.index(_around(sch, named, rolled)) + 1]
    pieces = [[named[b] for b in rolled.inside]]
    known = set(sch.loop_names())
    for loop in sch.peel(columns) if rolled.tail else ():
        if loop not in known:
            pieces.append(sch.blocks_under(loop))
    for piece in pieces:
        now = dict(zip(rolled.inside, piece, strict=True))
        rows = [now[b] for b in rolled.rows]
        shared = [n for n in sch.loops(rows[0]) if set(sch.blocks_under(n)) >= set(rows)]
        for name in rolled.wide:
            _vectors(sch, now[name], shared, target)
        schedule_row_blocks(sch, rows[-1], shared, target, 1, rows)
        if not all(schedule_inside(sch, now[name], target, n) for name, n in lanes.items()):
            return False
    for name in rolled.names:
        if name not in rolled.inside and named[name] in sch.blocks():
            schedule_map(sch, named[name], target, 1)
    return True


def _around(sch: Schedule, named: Mapping[str, str], rolled: Rolled) -> str:
    """The innermost loop around all blocks of a piece."""
    everything = set(named.values())
    return [n for n in sch.loops(named[rolled.inside[0]]) if everything <= set(sch.blocks_under(n))][-1]


def _vectors(sch: Schedule, name: str, shared: Sequence[str], target: Target) -> None:
    """Vectorizes what scales a row."""
    own = [n for n in sch.loops(name) if n not in shared]
    width = target.vector_lanes(buffer_table(sch.function)[sch.written_by(name)].dtype.bits)
    if (sch.extent(own[-1]) or 0) <= width:
        sch.vectorize(own[-1])
        return
    first, lanes = sch.split(own[-1], [None, width])
    sch.vectorize(lanes)
    peel_tails(sch, first)
