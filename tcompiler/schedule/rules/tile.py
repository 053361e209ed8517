"""The register tile: how many rows and lanes accumulate at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

FMA_LATENCY = 4
"""Cycles from an FMA's operands to its result, on every core since Skylake and Zen."""
PIPES = 2
"""FMAs, and loads, that a core starts in a cycle."""
NEAR_BYTES = 20.0
"""Bytes per cycle that arrive from the level 2 cache, sustained."""
FAR_BYTES = 8.0
"""Bytes per cycle that arrive from beyond it."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and lanes of an accumulator tile."""

    rows: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Registers:
    """What a tile has to fit into.

    Attributes:
        width: Lanes of a vector register.
        count: Vector registers.
        vector_bytes: Bytes of one.
        near_bytes: Bytes of a panel that stay close to the core: half of the level 2 cache.
    """

    width: int
    count: int
    vector_bytes: int
    near_bytes: int


def step_cycles(rows: int, vectors: int, shared: bool, panel_bytes: int, registers: Registers) -> float:
    """Cycles of one reduction step of a tile, at the least.

    Args:
        rows: Rows of the tile.
        vectors: Vectors per row.
        shared: Whether all rows share the lane operand; otherwise it is read for every row.
        panel_bytes: Bytes of the lane operand that the whole reduction reads.
        registers: The machine.
    """
    fmas = rows * vectors
    read = vectors if shared else rows * vectors
    loads = rows + read if shared else read + vectors
    speed = NEAR_BYTES if panel_bytes <= registers.near_bytes else FAR_BYTES
    streamed = read * registers.vector_bytes / speed
    return max(fmas / PIPES, loads / PIPES, streamed, FMA_LATENCY)


@lru_cache(maxsize=4096)
def choose_tile(rows: int, columns: int, depth: int, registers: Registers, shared: bool) -> Tile:
    """The tile that covers rows × columns in the fewest cycles per reduction step, its tails included.

    Every accumulator, the vectors of one row of the shared operand and one broadcast element take a register each.

    Args:
        rows: Extent of the row loop.
        columns: Extent of the vectorized loop.
        depth: Steps of the reduction.
        registers: The machine.
        shared: Whether all rows share the lane operand.
    """
    best: tuple[float, int, Tile] | None = None
    width = registers.width
    for vectors in (2, 1, 4):
        lanes = min(vectors * width, columns)
        if vectors > 1 and -(-lanes // width) <= vectors // 2:
            continue
        most = (registers.count - 1 - vectors) // vectors
        for mr in range(1, min(rows, most) + 1):
            cost = 0.0
            for count, r in ((rows // mr, mr), (1, rows % mr)):
                for panels, n in ((columns // lanes, lanes), (1, columns % lanes)):
                    if r and n and count and panels:
                        v = -(-n // width)
                        panel = depth * v * registers.vector_bytes
                        cost += count * panels * step_cycles(r, v, shared, panel, registers)
            key = (cost, -mr * vectors)
            if best is None or key < best[:2]:
                best = (*key, Tile(mr, lanes))
    return best[2] if best is not None else Tile(1, min(width, columns))
