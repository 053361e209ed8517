"""The register tile: how many rows and lanes accumulate at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

FMA_LATENCY = 4
"""Cycles from an FMA's operands to its result, on every core since Skylake and Zen."""
PIPES = 2
"""FMAs, and loads, that a core starts in a cycle."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and lanes of an accumulator tile."""

    rows: int
    lanes: int


def step_cycles(rows: int, vectors: int, shared: int) -> float:
    """Cycles of one reduction step of a tile, at the least.

    Args:
        rows: Rows of the tile.
        vectors: Vectors per row.
        shared: Vector operands that all rows share (0 or 1); the others are read for every row.
    """
    fmas = rows * vectors
    loads = rows + vectors if shared else rows * vectors + vectors
    return max(fmas / PIPES, loads / PIPES, FMA_LATENCY)


@lru_cache(maxsize=4096)
def choose_tile(rows: int, columns: int, width: int, registers: int, shared: int = 1) -> Tile:
    """The tile that covers rows × columns in the fewest cycles per reduction step, its tails included.

    Every accumulator, the vectors of one row of the shared operand and one broadcast element take a register each.

    Args:
        rows: Extent of the row loop.
        columns: Extent of the vectorized loop.
        width: Lanes of a machine vector.
        registers: Vector registers.
        shared: As in step_cycles.
    """
    best: tuple[float, int, Tile] | None = None
    for vectors in (4, 2, 1):
        lanes = min(vectors * width, columns)
        if vectors > 1 and -(-lanes // width) <= vectors // 2:
            continue
        most = (registers - 1 - vectors) // vectors
        for mr in range(1, min(rows, most) + 1):
            cost = 0.0
            for count, r in ((rows // mr, mr), (1, rows % mr)):
                for panels, n in ((columns // lanes, lanes), (1, columns % lanes)):
                    if r and n and count and panels:
                        cost += count * panels * step_cycles(r, -(-n // width), shared)
            key = (cost, -mr * vectors, Tile(mr, lanes))
            if best is None or key[:2] < best[:2]:
                best = key
    if best is None:
        return Tile(1, min(width, columns))
    return best[2]
