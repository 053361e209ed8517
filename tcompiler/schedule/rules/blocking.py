"""Blocks of rows: how much of a contraction's row operand stays in the level 2 cache while the panels go by.

A contraction reads its shared operand panel by panel and its rows tile by tile. With all rows under one panel, rows
that are more than the cache holds come from beyond it once per panel; with rows in blocks that the cache holds, they
come once, and the shared operand once per block. What it costs either way is counted here, after Goto and van de Geijn,
"Anatomy of High-Performance Matrix Multiplication" (2008), but for windows and any number of row axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from tcompiler.backends.llvm.linear import linear
from tcompiler.ir.loop.teams import makespan
from tcompiler.ir.scalar.grammar import Var
from tcompiler.schedule.rules.accesses import Operand
from tcompiler.target.model import Pace
from tcompiler.target.target import LINE_BYTES

HELD = 0.7
"""Share of the level 2 cache that rows and a panel may fill."""
PASSING = 200 << 10
"""Bytes of a larger cache that are enough for what passes by beside all rows and a panel, which no others follow."""
FAR = 0.625
"""Share of what comes from beyond the level 2 cache that arrives, or leaves for it, while others use it too."""
GOOD = 0.945
"""Share of the multiply-adds that a core sustains that a good tile attains."""
SHORT = 32
"""Steps of a reduction up to which writing its result shows beside computing it."""
TAIL = 1.02
"""What a last block of another size costs, in code and in the caches of instructions."""


@dataclass(frozen=True, slots=True)
class RowAxis:
    """A loop over rows: an iter var, or the tiles of one.

    Attributes:
        var: The iter var.
        step: Its values per iteration of the loop.
        extent: Iterations.
    """

    var: Var
    step: int
    extent: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A contraction, as far as blocking depends on it.

    Attributes:
        extents: Extents of all iter vars.
        rows: The row loops, outermost first.
        streamed: The operands that rows move.
        shapes: Extents of their buffers' dimensions, by buffer.
        element: Bytes of an element.
        columns: Panels.
        panels: The same, a last one of fewer columns counted as the part of one that it is.
        panel: Bytes of one.
        copied: Whether a producer writes the row operand, which a block can have next to it.
        batches: Contractions of this size.
        cache: Bytes of the level 2 cache.
        width: Lanes of a vector register.
        pace: What the core sustains.
        threads: Threads to share the work.
        slowness: How much more cycles the tile takes than another one would.
        chunks: Parts of the reduction, one after the other; extents and panels are those of one.
        fused: Whether the last two row loops become one, which only equal blocks of lines allow.
        written: Bytes that go past the cache for every part of the reduction, where there are several.
        lane: The axis of lanes, if the result is contiguous along it.
        stretch: Bytes that a row of a tile writes side by side.
        depth: Steps of the reduction.
    """

    extents: dict[Var, int]
    rows: tuple[RowAxis, ...]
    streamed: tuple[Operand, ...]
    shapes: dict[str, tuple[int, ...]]
    element: int
    columns: int
    panels: float
    panel: int
    copied: bool
    batches: int
    cache: int
    width: int
    pace: Pace
    threads: int
    slowness: float = 1.0
    chunks: int = 1
    fused: bool = False
    written: int = 0
    lane: Var | None = None
    stretch: int = 0
    depth: int = 0

    def footprint(self, extents: dict[Var, int]) -> int:
        """Bytes of the row operands that iter vars of these extents touch."""
        total = 0
        for operand in self.streamed:
            size = self.element
            for index, bound in zip(operand.indices, self.shapes[operand.buffer], strict=True):
                reach = 1
                for atom, factor in linear(index, {}).terms.items():
                    if not isinstance(atom, Var):
                        reach = bound
                    elif atom in extents:
                        reach += abs(factor) * (extents[atom] - 1)
                size *= min(reach, bound)
            total += size
        return total


@dataclass(frozen=True, slots=True)
class Blocking:
    """Which row loop is cut, and how.

    Attributes:
        at: The position of the loop that is cut.
        size: Its iterations in a block; all of them where nothing is cut.
        by_block: Whether blocks, rather than panels, come out evenly for the threads.
    """

    at: int
    size: int
    by_block: bool


def choose_blocking(problem: Problem) -> tuple[float, Blocking]:
    """The blocking with the fewest cycles: of computing, shared among threads, and of what moves past the cache."""
    best: tuple[float, Blocking] | None = None
    for at, size in _candidates(problem.rows, problem.fused):
        cost, blocking = _cost(problem, at, size)
        if best is None or cost < best[0] * 0.999:
            best = cost, blocking
    assert best is not None
    return best


def _candidates(rows: Sequence[RowAxis], fused: bool) -> Iterator[tuple[int, int]]:
    """Larger blocks first; one block of everything is the first."""
    line = len(rows) - 2
    for at, axis in enumerate(rows[: line + 1] if fused else rows):
        sizes = sorted({-(-axis.extent // n) for n in range(1, axis.extent + 1)}, reverse=True)
        for size in sizes:
            if fused and at == line and (size == 1 or axis.extent % size):
                continue
            if at == 0 or size < axis.extent:
                yield at, size


def _cost(problem: Problem, at: int, size: int) -> tuple[float, Blocking]:
    axis = problem.rows[at]
    blocks = -(-axis.extent // size) * prod(r.extent for r in problem.rows[:at])
    inside = dict(problem.extents)
    for r in problem.rows[:at]:
        inside[r.var] = min(r.step, inside[r.var])
    inside[axis.var] = min(size * axis.step, inside[axis.var])
    rows = problem.footprint(inside)
    shared = problem.columns * problem.panel
    capacity = HELD * problem.cache
    if blocks == 1:
        capacity = max(capacity, problem.cache - PASSING)
    far = FAR * problem.pace.far_bytes
    everything = problem.footprint(problem.extents)
    moved: float
    # parts are inside blocks: each block reads all of them anew
    if shared * (problem.chunks if blocks > 1 else 1) + rows / size <= capacity:
        moved = everything + shared
    elif rows + problem.panel <= capacity:
        moved = blocks * (rows + shared)
    else:
        moved = blocks * (rows * problem.columns + shared)
    copying = 0.0
    if problem.copied:
        near = problem.pace.near_bytes
        copying = blocks * rows / near if rows <= capacity / 2 else everything * (1 / near + 2 / far)
    if problem.depth <= SHORT and problem.lane is not None:
        # lines of the result that two panels share are written twice, unless they are still near
        written = problem.element * prod(inside[v] for v in (problem.lane, *(r.var for r in problem.rows)))
        if written > capacity:
            moved += blocks * written * LINE_BYTES / problem.stretch
    times = problem.batches * problem.chunks
    points = prod(problem.extents.values()) * problem.pace.fma / problem.width / GOOD * problem.slowness * times
    if problem.extents[axis.var] % (size * axis.step):
        points *= TAIL
    moving = (times * moved + problem.chunks * problem.written) / far / problem.threads
    copying *= times
    by_block = points / _even_blocks(problem, at, size) + moving + copying / problem.threads
    by_panel = points / _even_panels(problem) + moving + copying
    if problem.copied and problem.threads > 1:
        # one thread copies, and the others fetch the copy from its cache
        by_panel += times * blocks * rows / far
    return min(by_block, by_panel), Blocking(at, size, by_block <= by_panel)


def _even_blocks(problem: Problem, at: int, size: int) -> float:
    """The share of their time that threads work on blocks; last blocks inside a loop have turns of their own."""
    axis = problem.rows[at]
    threads = problem.threads
    outer = problem.batches * prod(r.extent for r in problem.rows[:at])
    blocks = problem.extents[axis.var] / (size * axis.step)
    whole = int(blocks)
    time = -(-outer * whole // threads) + -(-outer // threads) * (blocks - whole)
    if outer == 1:
        time = _together(blocks, threads)
    return outer * blocks / (time * threads)


def _even_panels(problem: Problem) -> float:
    """The share of their time that threads work on panels; a last one of fewer columns can be shared by its rows."""
    threads, panels = problem.threads, problem.panels
    if problem.batches > 1:
        parts = problem.batches * problem.columns
        return parts / (-(-parts // threads) * threads)
    apart = -(-int(panels) // threads) + (panels - int(panels)) / threads
    return panels / (min(_together(panels, threads), apart) * threads)


def _together(parts: float, threads: int) -> float:
    """The time of threads that begin with parts and with the rest of a last one together."""
    whole = int(parts)
    return makespan([(whole, 1.0), (int(parts > whole), parts - whole)], threads)
