"""The register tile: how many rows and lanes accumulate at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import gcd

from tcompiler.target.model import Pace, pace
from tcompiler.target.target import LINE_BYTES, Target

NEVER = 1 << 60
"""More bytes than there are."""

SCATTER = 2.5
"""Cycles for an element of a vector that is stored by itself."""
LINES_COST = 1.03
"""What a tile over two axes of rows has to save before it is worth its tails' code."""
THREE_COST = 1.05
"""What three vectors to a row have to save: they read half as much again of the shared operand as two."""
ADDRESSES = 10
"""Rows with addresses of their own that the integer registers hold, beside the panel's and the loops'."""
ADDRESS_CYCLES = 4.0
"""Cycles in which a row's address follows from its number."""
WAY_BYTES = 4096
"""Addresses this far apart share a set of the level 1 cache, which is looked up by the offset within a page."""
FORESEEN = 1024
"""Bytes from one read to the next up to which a processor foresees it."""
ELSE = 2
"""Ways of a set of the level 1 cache that what else a tile touches wants, beside lines that all fall into that set."""

Spans = tuple[tuple[int, int], ...]
"""For each tap of a window, the first of the places where it reads inside an image, and the first one behind them."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and lanes of an accumulator tile.

    Attributes:
        rows: Rows along the row axis.
        lanes: Lanes.
        lines: Rows along the second row axis: the tile has rows × lines rows altogether.
        cost: Cycles that a reduction step of all tiles takes.
        flat: Whether both row axes are fused into one, and rows run on from line to line.
    """

    rows: int
    lanes: int
    lines: int = 1
    cost: float = 0.0
    flat: bool = False


@dataclass(frozen=True, slots=True)
class Registers:
    """What a tile has to fit into.

    Attributes:
        width: Lanes of a vector register.
        count: Vector registers.
        vector_bytes: Bytes of one.
        near_bytes: Bytes of a panel that stay close to the core: over half of the level 2 cache; 0 where what is read
            streams by in any case.
        part_bytes: Bytes that a panel of three vectors may have.
        ways: Ways of a set of the level 1 cache.
        pace: What the core sustains.
    """

    width: int
    count: int
    vector_bytes: int
    near_bytes: int
    part_bytes: int
    ways: int
    pace: Pace

    @staticmethod
    def of(target: Target, width: int, near_bytes: int, part_bytes: int) -> Registers:
        """Those of a machine.

        Args:
            target: The machine.
            width: Lanes of a vector register.
            near_bytes: As the attribute.
            part_bytes: As the attribute.
        """
        size = target.vector_bits // 8
        return Registers(width, target.vector_registers, size, near_bytes, part_bytes, cache_ways(target), pace(target))


def near_bytes(target: Target) -> int:
    """Bytes of a panel that stay close to the core while tiles read it: over half of the level 2 cache."""
    return target.l2_bytes * 5 // 8


def far_bytes(target: Target) -> int:
    """Bytes of an operand from which on it comes from memory whenever it passes by: a core's share of all caches."""
    return max(target.l3_bytes // 3, 4 * target.l2_bytes)


def hides_lines(target: Target) -> bool:
    """Whether a tile computes for as long as a panel's vectors and a line of its rows take to arrive, at every step.

    Rows that lie side by side across the reduction have a line of memory for each step, of which they need a part. With
    16 registers of 256 bits a step of six rows is over before that has come from the level 2 cache; with 32 of 512 bits
    it takes twice as long.

    Args:
        target: The machine.
    """
    sustained, size = pace(target), target.vector_bits // 8
    rows = (target.vector_registers - 3) // 2
    lines = LINE_BYTES + (rows - 1) * 4  # on average, of rows of four bytes that begin anywhere
    return rows * 2 * sustained.fma > (2 * size + lines) / sustained.near_bytes


def step_cycles(
    rows: int, vectors: int, shared: bool, panel_bytes: int, registers: Registers, loaded: bool = False
) -> float:
    """Cycles of one reduction step of a tile: the mean of a core alone and of one that works for two threads.

    The latter is no faster, so that what hides behind the multiply-adds of a wide core costs nothing here.

    Args:
        rows: Rows of the tile.
        vectors: Vectors per row.
        shared: Whether all rows share the lane operand; otherwise it is read for every row.
        panel_bytes: Bytes of the lane operand that the whole reduction reads.
        registers: The machine.
        loaded: Whether loads count even where they hide behind the multiply-adds.
    """
    fmas = rows * vectors
    read = vectors if shared else rows * vectors
    loads = rows + read if shared else read + vectors
    pace = registers.pace
    speed = pace.near_bytes if panel_bytes <= registers.near_bytes else pace.far_bytes
    streamed = read * registers.vector_bytes / speed
    alone = max(fmas * pace.fma, loads * pace.load, streamed, pace.chain)
    busy = max((fmas + loads) * pace.shared, streamed, pace.chain)
    return (alone + (busy if loaded else max(alone, busy))) / 2


@lru_cache(maxsize=4096)
def choose_tile(
    rows: int,
    columns: int,
    depth: int,
    registers: Registers,
    shared: bool,
    lines: int = 1,
    apart: int = 0,
    fixed: int = 0,
    together: bool = False,
    taps: tuple[Spans, Spans] = ((), ()),
    loaded: bool = True,
) -> Tile:
    """The tile that covers lines × rows × columns in the fewest cycles per reduction step, its tails included.

    Every accumulator, the vectors of one row of the shared operand and one broadcast element take a register each.

    Args:
        rows: Extent of the row loop.
        columns: Extent of the vectorized loop.
        depth: Steps of the reduction.
        registers: The machine.
        shared: Whether all rows share the lane operand.
        lines: Extent of a second loop over rows; short rows fill a tile together with their neighbours.
        apart: Bytes that divide the distance between any two rows in memory.
        fixed: Lanes that the tile has to have, as its operand is laid out for them; 0 for any.
        together: Whether all of `lines` had better be in one tile, if registers allow it.
        taps: Where taps outside an image are left out: what each has inside along the rows, and along the lines.
        loaded: Whether the tile with fewer loads is taken where several do as many multiply-adds: wide ones copy, or
            read where they lie, longer runs of an operand that is not laid out beforehand.
    """
    best: tuple[float, int, int, Tile] | None = None
    width = registers.width
    streams = not registers.near_bytes and rows == 1
    for vectors in (2, 1, 4, 8, 16) if streams else (2, 1, 3, 4):
        if vectors == 3 and depth * 3 * registers.vector_bytes > registers.part_bytes:
            continue
        lanes = min(vectors * width, columns)
        if lanes != fixed if fixed else vectors > 1 and -(-lanes // width) <= vectors // 2:
            continue
        # a few accumulators out of registers are hidden by what comes from memory, which had better come in order
        most = max((registers.count - 1 - vectors) // vectors, int(streams and vectors <= registers.count))
        panels = [(c, -(-n // width)) for c, n in _pieces(columns, lanes)]
        for mr in range(1, min(rows, most) + 1):
            if together and lines <= most and mr * lines > most:
                continue
            for ml in range(lines if together and lines <= most else 1, min(lines, most // mr) + 1):
                if mr * ml > max(room(apart, registers.ways), 1):
                    continue
                cost = weighed = 0.0
                for (many, v), (tall, lined), (count, r) in product(
                    panels, _pieces(lines, ml, taps[1]), _pieces(rows, mr, taps[0])
                ):
                    panel = depth * v * registers.vector_bytes
                    times = many * tall * count
                    cost += times * step_cycles(r * lined, v, shared, panel, registers)
                    weighed += times * step_cycles(r * lined, v, shared, panel, registers, loaded)
                more = (1.0 if ml == 1 else LINES_COST) * (THREE_COST if vectors == 3 else 1.0)
                key = (round(weighed * more, 6), -mr * ml * vectors, -mr)  # sums in other orders are equal, too
                if best is None or key < best[:3]:
                    best = (*key, Tile(mr, lanes, ml, cost * more))
    return best[3] if best is not None else Tile(1, min(width, columns))


def choose_flat_tile(
    rows: int, columns: int, depth: int, registers: Registers, lines: int, apart: int, loaded: bool = True
) -> Tile | None:
    """The tile over one axis that both row axes are fused into: few tails, but an address of its own for every row.

    Args:
        rows: Extent of the row loop.
        columns: Extent of the vectorized loop.
        depth: Steps of the reduction.
        registers: The machine.
        lines: Extent of the loop over rows around it.
        apart: Bytes that divide the distance between any two rows in memory.
        loaded: As for `choose_tile`.

    Returns:
        The tile; None where it would need more addresses than there are registers for.
    """
    tile = choose_tile(rows * lines, columns, depth, registers, True, 1, apart, loaded=loaded)
    addresses = -(-rows * lines * columns // tile.lanes) * ADDRESS_CYCLES / depth
    return replace(tile, cost=tile.cost + addresses, flat=True) if tile.rows <= ADDRESSES else None


def cache_ways(target: Target) -> int:
    """Ways of a set of the level 1 cache."""
    return target.l1_bytes // WAY_BYTES


def room(apart: int, ways: int) -> int:
    """How many lines of memory that are so many bytes apart may be in use at once and stay in the level 1 cache.

    Args:
        apart: The bytes.
        ways: Ways of a set of the cache.
    """
    return (ways - ELSE) * (WAY_BYTES // gcd(apart, WAY_BYTES))


@lru_cache(maxsize=4096)
def fullest_set(axes: tuple[tuple[int, int], ...], run: int, way: int = WAY_BYTES) -> int:
    """Lines of memory in the fullest set of a cache, of runs that begin at every point of some axes.

    Distances a little off a multiple of a way crowd a few sets as the multiple itself does.

    Args:
        axes: Bytes from a point of an axis to the next, and points along it.
        run: Bytes of a run; what is less than a line at its end does not count.
        way: Bytes from one address to the next of the same set; those of the level 1 cache by default.
    """
    starts = {sum(at) // LINE_BYTES for at in product(*(range(0, apart * points, apart) for apart, points in axes))}
    lines = {start + k for start in starts for k in range(max(run // LINE_BYTES, 1))}
    return max(Counter(line % (way // LINE_BYTES) for line in lines).values())


def _pieces(extent: int, tile: int, taps: Spans = ()) -> list[tuple[float, int]]:
    """How often which part of a tile occurs along an axis: the whole tiles and the rest, on average over taps."""
    if not taps:
        return [(c, n) for c, n in ((extent // tile, tile), (1, extent % tile)) if c and n]
    found: dict[int, float] = {}
    for start in range(0, extent, tile):
        for first, last in taps:
            rows = min(start + tile, last) - max(start, first)
            if rows > 0:
                found[rows] = found.get(rows, 0.0) + 1 / len(taps)
    return [(c, n) for n, c in found.items()]
