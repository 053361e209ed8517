"""A contraction, a chain over its rows, and a contraction over these rows again (attention): in blocks of rows.

The matrix between the contractions is never written out: for a block of its rows that fits a cache, the first
contraction's tiles, the chain, then the second contraction's tiles. Where rows are too long for that, and the chain is
a softmax's, columns go in blocks too (`rolling.py`).

    for outer …: [pack both lane operands]  for block of rows:
        scores = tiles of the first contraction (a block of rows × all columns)
        for row: the chain over rows (maximum, exponentials, sum, shares)
        tiles of the second contraction, epilogue in the tile

Nothing here knows what the chain computes: only that the second contraction reduces over what a row of it is.
The idea of keeping attention's scores close to the core is that of FlashAttention (T. Dao et al. 2022); a block of
whole rows needs no rescaling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from tcompiler.ir.loop.analysis import find_block, touched
from tcompiler.ir.loop.grammar import Update, buffer_table
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, postorder
from tcompiler.ir.scalar.reducers import reducer_name
from tcompiler.schedule.rules.accesses import Operand, shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.placement import gather_rows, inline_again
from tcompiler.schedule.rules.reduction import pack_inside, schedule_inside
from tcompiler.schedule.rules.rolling import roll, schedule_rolled
from tcompiler.schedule.rules.rows import schedule_row_blocks
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target

TILE = 6
"""Rows of a register tile, usually."""
ROWS = 24
"""Rows of a block: some tiles high, so that a panel is read from far once for several of them."""
ROLLED = 96
"""The same where columns go in blocks too, which leaves more room: operands pass by once for each block of rows."""
PANEL = 16
"""Lanes of a register tile, usually."""
SHARE = 3
"""The part of the level 2 cache that a block's intermediate rows may fill; panels of operands pass through the rest."""


def schedule_chain(sch: Schedule, target: Target, threads: int) -> bool:
    """Schedules a function that is a contraction, a chain over its rows and a contraction over these.

    Args:
        sch: The schedule, every block in a nest of its own.
        target: The machine.
        threads: Threads that the kernel may use.

    Returns:
        False, with nothing changed, where the function is not of that form or the rule does not fit.
    """
    found = [b for b in sch.blocks() if contracts(sch, b)]
    forms = (True, False) if len(found) == 2 else ()
    return any(attempt(sch, _chain, sch, found[0], found[1], target, threads, rolling) for rolling in forms)


def contracts(sch: Schedule, block: str) -> bool:
    """Whether a block sums products of elements of two tensors."""
    leaf = find_block(sch.function, block).body
    if not isinstance(leaf, Update) or len(leaf.values) != 1 or reducer_name(leaf.reducer) != "sum":
        return False
    value = leaf.values[0]
    return isinstance(value, Binary) and value.op == "mul" and len({*_loaded(value.a), *_loaded(value.b)}) > 1


def _loaded(value: Scalar) -> set[str]:
    return {n.buffer for n in postorder(value) if isinstance(n, Load)}


def _chain(sch: Schedule, first: str, second: str, target: Target, threads: int, rolling: bool) -> bool:
    """Schedules a chain with columns in blocks, where rows are too long, or with whole rows."""
    for name in sch.blocks()[: sch.blocks().index(first)]:
        sch.compute_inline(name)
    shape = shape_of(sch.function, find_block(sch.function, second))
    if shape is None or 0 in shape.extents.values() or len(shape.reduce) != 1:
        return False
    lane = shape.innermost()
    chained = _chained(sch, first, second, shape.operands)
    if lane is None or chained is None or chained.moves(lane) or chained.strides.get(shape.reduce[0]) != 1:
        return False
    rows = [
        v
        for v in shape.spatial
        if shape.extents[v] > 1 and chained.moves(v) and not all(o.moves(v) for o in shape.operands)
    ]
    if not rows:
        return False
    row = min(rows, key=lambda v: chained.strides.get(v) or 0)
    loop_of = {i.var: sch.loop_of(second, k) for k, i in enumerate(sch.iters(second))}
    lead = [loop_of[v] for v in shape.spatial if v is not row and v is not lane and shape.extents[v] > 1]
    units = [loop_of[v] for v in shape.spatial if v is not row and v is not lane and shape.extents[v] == 1]
    # axes that share what is laid out along lanes (heads with common keys and values) go inside
    apart = [loop_of[v] for v in shape.spatial if loop_of[v] in lead and all(o.moves(v) for o in shape.operands)]
    lead = [*apart, *(n for n in lead if n not in apart)]
    batch = prod(shape.extents[v] for v in shape.spatial if loop_of[v] in apart)
    height, columns = _height(sch, chained, shape.extents[row], shape.extents[shape.reduce[0]], target, rolling)
    if rolling and not columns:
        return False
    blocks, inner = sch.split(loop_of[row], [None, height])
    sch.reorder(*units, *lead, blocks, inner, loop_of[lane], loop_of[shape.reduce[0]])
    for name in units:
        sch.elide(name)
    for name in sch.blocks()[1 : sch.blocks().index(second)]:
        if second not in sch.consumers(name):
            inline_again(sch, name)
    at = sch.blocks().index(second)
    before, after = sch.blocks()[:at], sch.blocks()[at + 1 :]
    for name in after:
        sch.reverse_compute_at(name, blocks)
    for name in reversed(before):
        sch.compute_at(name, blocks)
    chain = [b for b in before if b != first]
    rolled = roll(sch, first, chain, second, blocks, columns) if columns else None
    if rolling and rolled is None:
        return False
    whole = batch % threads == 0 or batch >= 4 * threads
    pack_at = apart[-1] if apart and whole else ""
    lanes: dict[str, int] = {}
    for name in (first, second):
        known = set(sch.blocks())
        made, tails = pack_inside(sch, name, target, pack_at)
        if not made:
            return False
        lanes |= made
        for copy in [b for b in sch.blocks() if b not in known and b not in made and not pack_at]:
            parallelize(sch, copy, sch.own_loops(copy)[:1], 1 << 30, threads)
        for loop in tails:
            if loop:
                peel_tails(sch, loop)
    if rolled is None and chain and not _gather(sch, first, chain, second):
        return False
    names = sch.blocks_under(blocks)
    if rolled is not None:
        rolled = replace(rolled, names=names, inside=sch.blocks_under(rolled.columns))
    # not after the tail is cut off, whose blocks share buffers with the others
    parallelize(sch, second, apart if whole and apart else [blocks], shape.points(), threads, [blocks])
    pieces = [names]
    if shape.extents[row] % height:
        _, tail = sch.peel(blocks)
        pieces.append(sch.blocks_under(tail))
    for piece in pieces:
        named = dict(zip(names, piece, strict=True))
        if rolled is not None and not schedule_rolled(sch, rolled, named, lanes, target):
            return False
        if rolled is None and not _piece(sch, named, lanes, target):
            return False
    return True


def _gather(sch: Schedule, first: str, chain: Sequence[str], second: str) -> bool:
    """Puts the blocks of a chain into one loop over rows.

    Args:
        sch: The schedule.
        first: The first contraction.
        chain: The blocks between the contractions, in order.
        second: The second contraction; what it does not read of the chain's results is for its epilogue.
    """
    last = next((b for b in reversed(chain) if second in sch.consumers(b)), chain[-1])
    around = next(iter(sch.own_loops(last)), "")
    made, rest = chain[: chain.index(last) + 1], chain[chain.index(last) + 1 :]
    attempt(sch, sch.write_over, last, sch.written_by(first))
    if not around or (len(made) > 1 and not gather_rows(sch, last, made)):
        return False
    for name in rest:
        sch.compute_with(around, sch.own_loops(name)[0])
    for name in rest:
        attempt(sch, sch.compact, sch.written_by(name), around)
    return sch.blocks_under(around) == chain


def _piece(sch: Schedule, named: Mapping[str, str], lanes: Mapping[str, int], target: Target) -> bool:
    """Schedules the blocks of one block of rows.

    Args:
        sch: The schedule.
        named: What the function's blocks are called in this piece, in order.
        lanes: The contractions, and lanes of their tiles.
        target: The machine.
    """
    alive = set(sch.blocks())
    chain = [b for name, b in named.items() if name not in lanes and b in alive]
    if chain:
        shared = [n for n in sch.loops(chain[-1]) if n not in sch.own_loops(chain[-1])]
        schedule_row_blocks(sch, chain[-1], shared, target, 1, chain)
    return all(schedule_inside(sch, named[name], target, n) for name, n in lanes.items())


def _chained(sch: Schedule, first: str, second: str, operands: Sequence[Operand]) -> Operand | None:
    """The second contraction's operand that is made from what the first one writes, by all the blocks between."""
    blocks = sch.blocks()
    between = blocks[blocks.index(first) + 1 : blocks.index(second)]
    made = {sch.written_by(first)}
    for name in between:
        if made.isdisjoint(touched(find_block(sch.function, name)).reads):
            return None
        made |= {sch.written_by(name)}
    found = [o for o in operands if o.buffer in made]
    outputs = set(sch.function.outputs)
    return found[0] if len(found) == 1 and not made & outputs and blocks[0] == first else None


def _height(sch: Schedule, chained: Operand, rows: int, columns: int, target: Target, rolling: bool) -> tuple[int, int]:
    """Rows of a block, and columns of one.

    A few tiles of rows, as far as two matrices of that many whole rows fit into their share of the cache. Where not
    even one tile of whole rows fits the cache, columns go in blocks as well: a panel of them is half the nearest cache.

    Returns:
        Both; 0 columns where rows are whole.
    """
    element = buffer_table(sch.function)[chained.buffer].dtype.bytes
    row = columns * element
    if rolling and 2 * TILE * row > target.l2_bytes:
        return _cut(rows, ROLLED, TILE), _cut(columns, target.l1_bytes // 2 // (PANEL * element), PANEL)
    most = min(ROWS, max(TILE, target.l2_bytes // SHARE // max(1, 2 * row) // TILE * TILE))
    return _cut(rows, most, TILE), 0


def _cut(extent: int, most: int, step: int) -> int:
    """The largest multiple of a step as far as a number that leaves no block of one behind, which makes no tile."""
    sizes = (*range(most, 0, -step), *range(most - 1, 0, -1))
    return min(extent, next((n for n in sizes if extent % n != 1), most))
