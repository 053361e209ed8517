"""The sizes of tiles and blocks of dot-product instructions, by the cycles that they take."""

from __future__ import annotations

from tcompiler.backends.llvm.instructions import FROM_MEMORY, INSTRUCTIONS
from tcompiler.target.model import pace
from tcompiler.target.target import Target

LATENCY = 6
"""Cycles from one accumulation to the next on the same register, where one instruction multiplies and adds: those of
bf16, and of bytes with what a step waits for beside it."""
ADDED = 3.2
"""Products and additions of integers that a core starts in a cycle, where they are instructions of their own."""
LOADED = 1 / 16
"""Cycles that a load takes from the instructions beside it."""
LOOP = 0.8
"""Cycles of a step that no instruction hides."""
LOAD = 0.65
"""Cycles for each load, broadcasts and operands alike."""
SHARED = 0.32
"""Cycles for each instruction, while the core's other thread is as busy."""
SHARED_LOAD = 0.72
"""Cycles for each load then."""
STREAMED = 0.8
"""Part of what may arrive from the level 2 cache that panels do, beside what else is read."""


def dot_tile(rows: int, columns: int, mapped: str, lanes: int, target: Target) -> tuple[str, int, int]:
    """The instruction, rows and vectors of the accumulators' tile with the fewest cycles, the tails included.

    A row's element in all lanes and the product before it is added take registers too, as do the vectors of a step
    where the instruction cannot read them from memory.

    Args:
        rows: How many rows there are.
        columns: How many columns.
        mapped: The instruction, which there may be in another form that reads memory.
        lanes: Its lanes.
        target: The machine.
    """
    best: tuple[float, str, int, int] | None = None
    for name in (mapped, FROM_MEMORY.get(mapped, "")):
        for vectors in (2, 1, 3, 4, 5, 6) if name else ():
            # what sums pairs of 16 bits multiplies them by ones
            taken = 2 + (INSTRUCTIONS[name].operations(target) > 2) + (0 if INSTRUCTIONS[name].memory else vectors)
            panels = -(-columns // (vectors * lanes))
            for height in range(1, min(rows, (target.vector_registers - taken) // vectors) + 1):
                pieces = ((rows // height, height), (1, rows % height))
                cost = panels * sum(n * _step_cycles(h, vectors, lanes, name, target) for n, h in pieces if h)
                if best is None or cost < best[0]:
                    best = (cost, name, height, vectors)
    assert best is not None
    return best[1:]


def _step_cycles(height: int, vectors: int, lanes: int, name: str, target: Target) -> float:
    """Cycles of one step of a tile.

    Where one instruction multiplies and adds there is time to issue the others. Else it is the mean of a core alone
    and of one that works for two threads: instructions and loads take about twice as long then, products do not.
    """
    instruction, pairs = INSTRUCTIONS[name], height * vectors
    operations, read = instruction.operations(target), pairs if instruction.memory else vectors
    loads = height + read
    streamed = vectors * lanes * 4 / (STREAMED * pace(target).near_bytes)
    if operations == 1:
        return max(pairs / 2 + LOOP + loads * LOADED, loads / 2, streamed, LATENCY)
    alone = max(pairs * operations / ADDED, pairs * (operations - 1) * pace(target).fma, loads * LOAD, streamed)
    issued = pairs * operations + 1 + (height if instruction.memory else loads)
    return (alone + max(issued * SHARED, loads * SHARED_LOAD, streamed)) / 2


def block_size(tiles: int, whole: int, near: int, threads: int) -> int:
    """Tiles of a block of rows: at most so many as stay near, and so that threads end together.

    What is left over for a smaller block, and the tile that is not whole, is done by one thread.

    Args:
        tiles: All tiles.
        whole: Those of all rows.
        near: How many a block may have.
        threads: How many threads share the whole blocks.
    """
    if threads == 1:
        return -(-tiles // -(-tiles // near))
    return min(range(near, near // 2, -1), key=lambda n: -(-(whole // n) // threads) * n + tiles - whole // n * n)


def even_size(count: int, most: int) -> int:
    """How many of a number of things to take at once: at most so many, and all times equally many, if it can be."""
    for size in range(most, most // 2, -1):
        if count % size == 0:
            return size
    return -(-count // -(-count // most))
