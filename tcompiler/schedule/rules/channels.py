"""Windows over channels that lie apart, as those of images in NCHW: vectors of channels, brought side by side first.

Lanes along a window's axis are as many as an image is wide: 7 columns leave more than half of a vector of 16 empty, and
what lies in the padding is computed, too. Channels fill vectors, and every tap is inside an image or not for all of
them. So a vector's channels are transposed into a copy of their own, a few planes that stay in the level 1 cache, a
tile of columns slides over that copy, and its sums are transposed in registers as they are stored:

    for channels (vectors): copy = transposed planes
        for lines …: for strip of columns:
            acc = 0;  for r, s: for columns (unrolled): for lanes: acc += copy[line + r, column + s] · w[r, s]

That takes as many transposed vectors as elements, whatever the window has of taps; it is done where taps are many. A
few channels behind the last full vector are left to lanes along the image. Lines that fill little more than half a
vector take as many shuffles and stores as longer ones: tiles of a small image run on from line to line then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import ceil, inf, prod

from tcompiler.backends.llvm.linear import linear
from tcompiler.ir.loop.analysis import find_block, touched
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.schedule.rules.attempt import attempt, copies_of, peel_tails
from tcompiler.schedule.rules.body import inline_epilogues, lanes_and_rows, lanes_innermost
from tcompiler.schedule.rules.borders import LINES, PIECE, cut_tiles, find_borders, inside_share, skip_borders
from tcompiler.schedule.rules.elementwise import schedule_map
from tcompiler.schedule.rules.lanes import MARGIN
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.rules.windows import (
    Windows,
    even_tile,
    find_windows,
    is_padding,
    lay_out,
    schedule_windows,
    tap_order,
)
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.model import pace
from tcompiler.target.target import Target
from tcompiler.target.tile import Spans

BITS = 32
"""Of an element: how long others take to be transposed was not measured."""
BROUGHT = 0.5
"""Cycles for each time that a vector of elements is shuffled as it is transposed from planes in memory into a copy that
stays in the level 1 cache with what it is made of: twice the lanes, once more."""
RETURNED = 3.5
"""Cycles for each line that a copy loses from that cache, the more the fuller it is."""
STORED = 0.375
"""Cycles for each time that a vector of sums is shuffled as these are transposed in registers, stored rows side by side
included."""
SLID, APART, CROSSED, SHARED = (1.05, 0.0), (1.4, 2.5), (1.8, 4.0), (1.7, 0.0)
"""Loads for a multiply-add whose lanes slide over an image (its weight and a part of a vector of data), and cycles
around all taps of a vector: where lanes read elements side by side, every other one of one vector, and of several; of
several that neighbouring taps share, as they do where vectors are shuffled at will."""
WRITTEN_OUT = 256
"""Multiply-adds of a tile that are written out."""
LONG = 1024
"""Multiply-adds of a tile's columns along a line, up to which all taps of the line are written out in any case."""
FEWER, FEW = 0.7, 0.8
"""Share of what storing lines takes that tiles which run on from line to line have to get along with, as their taps
share less of what they load; and where registers are so few that taps of lines share little, too."""
EACH = 1.5
"""Lines of LLVM's text for a multiply-add of vectors that others have loaded, too."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was decided.

    Attributes:
        found: What slides, lanes along the channels.
        rows: Columns of a tile.
        through: Whether tiles run on from line to line, all of an image written out.
        taps: Taps along a line that are written out one after the other.
        skipped: Axes along which taps that lie outside are left out.
        left: Channels behind the last full vector that are left to lanes along the image; 0 where all are in vectors.
        cycles: What all takes on one thread, about.
    """

    found: Windows
    rows: int
    through: bool
    taps: int
    skipped: tuple[Var, ...]
    left: int
    cycles: float


def schedule_channels(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str]) -> bool:
    """Schedules a sum over the taps of windows in vectors of channels that lie apart, where that is quicker.

    Args:
        sch: The schedule; the block stands in a loop nest of its own.
        block: A block with an Update.
        target: The machine.
        threads: Threads that the kernel may use.
        constants: Names of inputs whose layout may be chosen, as they are packed once.

    Returns:
        False, with nothing changed, where the rule does not fit or does not pay.
    """
    slid = find_windows(sch, block)
    if slid is None or slid.lane not in slid.along:
        return False
    width = target.vector_lanes(BITS)
    tried = [
        _plan(sch, block, slid, v, left, target, threads)
        for v in slid.shape.spatial
        for left in {0, slid.shape.extents[v] % width}
    ]
    plans = sorted((p for p in tried if p is not None), key=lambda p: p.cycles)
    return any(
        attempt(sch, _schedule_all, sch, block, p, target, threads, constants)
        for p in plans
        if p.cycles <= MARGIN * _sliding(slid, target)
    )


def _plan(sch: Schedule, block: str, slid: Windows, lane: Var, left: int, target: Target, threads: int) -> _Plan | None:
    """A tile with lanes along an axis that no window slides along, its last `left` apart; None where there is none."""
    extents, buffers = slid.shape.extents, buffer_table(sch.function)
    apart = lane not in slid.along and lane in slid.data.indices and extents[lane] - left > 1
    found = find_windows(sch, block, lane) if apart else None
    if found is None or found.row is None or {buffers[o].dtype.bits for o in _moved(found)} != {BITS}:
        return None
    rows = even_tile(extents[found.row], _most_rows(found, target))
    along = extents[tap_order(found)[-1]]
    at_once = along if rows * along <= LONG else even_tile(along, WRITTEN_OUT // rows)
    borders = find_borders(sch, block, found.shape)
    taps = prod(extents[v] for v in found.shape.reduce)
    places = prod(extents[v] for v in found.along)
    through = _through(found, target) if places * taps <= LONG else 0
    if through:
        rows, at_once, spans = through, along, borders
    else:
        kept = [c for n in range(len(borders) + 1) for c in combinations(borders.items(), n)]
        fitting = [s for s in map(dict, kept) if not s or _lines(found, rows, at_once, s) <= LINES]
        spans = min(fitting, key=lambda s: prod(inside_share(taps, extents[v]) for v, taps in s.items()))
    inside = taps * prod(inside_share(s, extents[v]) for v, s in spans.items())
    width = target.vector_lanes(BITS)
    whole = all(v in spans for v in found.along)
    sizes = buffers[_source(sch, block, found) if whole else found.data.buffer].shape
    planes = prod(e for v, e in extents.items() if v in found.shape.spatial and v not in found.along and v is not lane)
    vectors = ceil((extents[lane] - left) / width)
    read = prod(
        as_int(e) or 1
        for i, e in zip(found.data.indices, sizes, strict=True)
        if any(v in linear(i, {}).terms for v in found.along)
    )
    size = read * width * BITS // 8
    if size > target.l2_bytes // 2:
        return None
    tiles = ceil(places / rows) if through else places // extents[found.row] * ceil(extents[found.row] / rows)
    stored = tiles * ceil(rows / width) * width
    gone = min(size / target.l1_bytes, 1.0) * width * BITS / 8 / target.line_bytes
    shuffles = width.bit_length() - 1
    moved = read * (BROUGHT * shuffles + gone * RETURNED) + stored * STORED * shuffles
    each = places * inside * pace(target).fma + moved
    uneven = ceil(vectors * planes / threads) * threads / (vectors * planes)
    rest = _sliding(slid, target) * left / extents[lane]
    return _Plan(found, rows, bool(through), at_once, tuple(spans), left, each * vectors * planes * uneven + rest)


def _moved(found: Windows) -> tuple[str, str]:
    """What is transposed."""
    return found.data.buffer, found.shape.target.buffer


def _source(sch: Schedule, block: str, found: Windows) -> str:
    """What the windows' data are when padding is not copied with them."""
    for name in sch.producers(block):
        if is_padding(sch, name, block):
            (source,) = touched(find_block(sch.function, name)).reads
            return source
    return found.data.buffer


def _sliding(slid: Windows, target: Target) -> float:
    """Cycles of the same windows with lanes along the axis that the output is contiguous in."""
    extents = slid.shape.extents
    taps = prod(extents[v] for v in slid.shape.reduce)
    places = prod(extents[v] for v in slid.shape.spatial) // extents[slid.lane]
    width, step = target.vector_lanes(BITS), abs(slid.data.strides.get(slid.lane) or 1)
    whole, rest = divmod(extents[slid.lane], width)
    crossed = SHARED if target.has("avx512vl") else CROSSED
    total = 0.0
    for count, lanes in (n for n in ((whole, width), (1, rest)) if all(n)):
        loads, around = SLID if step == 1 else APART if lanes * step <= width else crossed
        total += count * (taps * loads * pace(target).load + around)
    return places * total


def _lines(found: Windows, rows: int, at_once: int, borders: Mapping[Var, Spans]) -> float:
    """Lines of LLVM's text with given borders, all loops over taps written out that may be; none where they cannot."""
    assert found.row is not None
    extents, size, lines, pieces = found.shape.extents, rows, EACH, 1
    innermost, axes = tap_order(found)[-1], {tap: v for v, tap in found.along.items()}
    for tap in [t for t in reversed(tap_order(found)) if t in axes]:
        v = axes[tap]
        spans = borders.get(v, ((0, extents[v]),) * extents[tap])
        cut = cut_tiles(spans, extents[v], rows if v is found.row else 1)
        size *= extents[tap]
        if tap is innermost and at_once < extents[tap]:
            if v in borders:
                return inf
            lines *= (rows if v is found.row else 1) * at_once
        elif tap is innermost or size <= WRITTEN_OUT:
            lines *= sum(last - first for tile in cut for first, last in tile)
        else:
            lines *= sum(max(last - first for first, last in tile) for tile in cut)
        pieces *= len(cut)
    return lines + pieces * PIECE


def _most_rows(found: Windows, target: Target) -> int:
    """Columns of a tile whose sums are in registers, and the elements that the next taps read again."""
    assert found.row is not None
    forms = [linear(i, {}).terms for i in found.data.indices]
    step = next(form[found.row] for form in forms if found.row in form)
    return max((target.vector_registers - 2) // (1 + step), 1)


def _through(found: Windows, target: Target) -> int:
    """Places of tiles that run on from line to line, where storing these takes less; 0 where it does not."""
    assert found.row is not None
    extents, lines = found.shape.extents, [v for v in found.along if v is not found.row]
    if len(lines) != 1 or found.shape.target.strides.get(lines[0]) != extents[found.row]:
        return 0
    width, most = target.vector_lanes(BITS), _most_rows(found, target)
    count, line = extents[lines[0]], extents[found.row]
    rows = even_tile(count * line, min(most + 1, width))  # one more fits, where the next taps read memory again
    share = FEWER if target.has("avx512vl") else FEW
    return rows if _stored(count * line, rows) <= share * count * _stored(line, even_tile(line, most)) else 0


def _stored(places: int, rows: int) -> int:
    """What transposing and storing so many places takes, in tiles of so many: powers of two are shuffled."""
    return sum(1 << (min(rows, places - k) - 1).bit_length() for k in range(0, places, rows))


def _schedule_all(
    sch: Schedule, block: str, plan: _Plan, target: Target, threads: int, constants: Collection[str]
) -> bool:
    """Schedules the channels, those behind the last full vector in a nest of their own."""
    if not plan.left:
        return _schedule(sch, block, plan, target, threads, constants)
    for name in sch.producers(block):
        if is_padding(sch, name, block):
            sch.compute_inline(name)
    iters = sch.iters(block)
    (at,) = (k for k, i in enumerate(iters) if i.var is plan.found.lane)
    loops = [sch.loop_of(block, k) for k in range(len(iters))]
    sch.reorder(loops[at], *loops[:at], *loops[at + 1 :])
    _, behind = sch.peel(loops[at], [plan.found.shape.extents[plan.found.lane] - plan.left])
    (rest,) = sch.blocks_under(behind)
    slid = find_windows(sch, block)
    full = _plan(sch, block, slid, sch.iters(block)[at].var, 0, target, threads) if slid is not None else None
    # the weights are laid out for the vectors, and read one by one behind them
    return (
        full is not None
        and _schedule(sch, block, full, target, threads, constants)
        and schedule_windows(sch, rest, target, threads, ())
    )


def _schedule(sch: Schedule, block: str, plan: _Plan, target: Target, threads: int, constants: Collection[str]) -> bool:
    lane = plan.found.lane
    apart = [n for n in copies_of(block, sch.blocks()) if n != block]
    if not lay_out(sch, plan.found, constants):
        return False
    pads = [n for n in sch.producers(block) if is_padding(sch, n, block)]
    whole = all(v in plan.skipped for v in plan.found.along)
    for name in pads if whole else ():
        sch.compute_inline(name)
    found = find_windows(sch, block, lane)
    assert found is not None
    assert found.row is not None
    copy = pads[0] if pads and not whole else sch.cache_read(block, found.data.buffer, "local")[0]
    found = find_windows(sch, block, lane)
    assert found is not None
    assert found.row is not None
    shape, data = found.shape, found.data
    loop_of = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
    width = target.vector_lanes(BITS)
    strips, lanes = sch.split(loop_of[lane], [None, min(shape.extents[lane], width)])
    others = [v for v in shape.spatial if v is not lane and v is not found.row]
    if plan.through:
        (line,) = [v for v in others if v in found.along]
        others.remove(line)
        sch.reorder(loop_of[line], loop_of[found.row])
        (loop_of[found.row],) = sch.fuse(loop_of[line], loop_of[found.row])
    tiles, tile = sch.split(loop_of[found.row], [None, plan.rows])
    taps = [loop_of[v] for v in tap_order(found)]
    parts = ""
    if plan.taps < shape.extents[tap_order(found)[-1]]:
        parts, taps[-1] = sch.split(taps[-1], [None, plan.taps])
        taps.insert(-1, parts)
    units = [loop_of[v] for v in others if shape.extents[v] == 1]
    around = [loop_of[v] for v in others if v not in found.along and shape.extents[v] > 1]
    lines = [loop_of[v] for v in others if v in found.along and shape.extents[v] > 1]
    sch.reorder(*units, *around, strips, *lines, tiles, *taps, tile, lanes)
    for name in units:
        sch.elide(name)
    sch.compute_at(copy, strips)
    names = [f"d{k}" for k in range(len(data.indices))]
    at = data.indices.index(lane)
    order = [*names[:at], *names[at + 1 :], names[at]]
    sch.transform_layout(data.buffer, f"lambda {', '.join(names)}: ({', '.join(order)})", False)
    init, write = sch.stage_accumulate(block, tiles, "register")
    lanes_innermost(sch, block, lanes, init, write)
    inline_epilogues(sch, write)
    lanes_and_rows(sch, init)
    if plan.through:
        # places of several lines lie side by side in memory, too
        places, channels = sch.own_loops(write)
        sch.reorder(channels, places)
        sch.unroll(channels)
        sch.vectorize(places)
    else:
        lanes_and_rows(sch, write)
    sch.vectorize(lanes)
    for name in (tile, tiles) if plan.through else (tile,):
        sch.unroll(name)
    size = plan.rows
    for name in reversed(taps):
        size *= sch.extent(name) or 1
        if name != taps[-1] and size > WRITTEN_OUT:
            break
        sch.unroll(name)
    parallelize(sch, block, [*around, strips], shape.points(), threads, keep=[strips])

    def cut() -> None:
        for name in (strips, tiles, parts):
            if name:
                peel_tails(sch, name)

    if not plan.skipped or not attempt(sch, skip_borders, sch, block, plan.skipped, cut, True, False, apart):
        cut()
    for name in copies_of(copy, sch.blocks()):
        schedule_map(sch, name, target, 1)
    return True
