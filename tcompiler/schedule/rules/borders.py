"""Taps that lie in an image's padding: tiles at its borders leave them out, each with the rows that a tap has there.

Of 7 × 7 places under 3 × 3 taps that is a fifth of the multiply-adds, of 14 × 14 a tenth. A tile that is a box of
places meets every tap with a box of rows, so that nothing is computed in vain; rows that run on from line to line do
not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import groupby
from math import ceil, prod

from tcompiler.ir.loop.analysis import blocks, find_block
from tcompiler.ir.loop.grammar import Update
from tcompiler.ir.scalar.grammar import Var, conjuncts
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.bounds import bounds_of, turns
from tcompiler.schedule.primitives.skip_zeros import zero_outside
from tcompiler.schedule.rules.accesses import Shape
from tcompiler.schedule.rules.attempt import attempt, copies_of, peel_at
from tcompiler.schedule.schedule import Schedule
from tcompiler.schedule.tree import loop_named
from tcompiler.target.tile import Spans

LEAST = 0.01
"""Share of its taps that an axis has to have outside to be worth the code of its borders."""
LINES = 16000
"""Lines of LLVM's text for all sums of a kernel with borders, where taps' pieces can be made to take no more."""
ELEMENT = 4
"""Those for an element that is read into all lanes; a multiply-add is one."""
PIECE = 80
"""Those for a piece's loops and addresses, with what cutting it off takes in time, which is as much again."""


def find_borders(sch: Schedule, block: str, shape: Shape) -> dict[Var, Spans]:
    """The spatial iter vars along which windows reach into zeros, each with what its taps have inside.

    Args:
        sch: The schedule.
        block: A reduction.
        shape: Its iterations and accesses.
    """
    ends: dict[Var, list[tuple[int, int]]] = {}
    for c in zero_outside(sch.function, find_block(sch.function, block)):
        places = [v for v in shape.spatial if v in free_vars(c)]
        taps = [v for v in shape.reduce if v in free_vars(c)]
        form = bounds_of(c)
        if len(places) != 1 or len(taps) > 1 or len(form) != 1 or form[0].terms.keys() != {*places, *taps}:
            continue
        (place,), (bound,) = places, form
        by, extent = bound.terms[place], shape.extents[place]
        spans = ends.setdefault(place, [(0, extent)] * (shape.extents[taps[0]] if taps else 1))
        for k, (first, last) in enumerate(spans):
            rest = bound.constant + (bound.terms[taps[0]] * k if taps else 0)
            if by > 0:
                spans[k] = first, max(first, min(last, -rest // by + 1))
            else:
                spans[k] = min(last, max(first, -(-rest // -by))), last
    # where all taps of all places lie outside, there is no border to tell apart
    return {v: tuple(s) for v, s in ends.items() if 0 < inside_share(tuple(s), shape.extents[v]) <= 1 - LEAST}


def inside_share(spans: Spans, extent: int) -> float:
    """The share of an axis's taps that are inside.

    Args:
        spans: What each tap has inside.
        extent: Places along the axis.
    """
    return sum(last - first for first, last in spans) / (extent * len(spans))


def cut_tiles(spans: Spans, extent: int, step: int) -> list[Spans]:
    """The tiles along an axis that code is written for: of neighbours that meet all taps alike, one.

    Args:
        spans: What each tap has inside.
        extent: Places along the axis.
        step: Places in a tile.

    Returns:
        For each of them what taps have inside of it.
    """
    found: list[Spans] = []
    for start in range(0, extent, step):
        stop = min(start + step, extent)
        places = [(max(a, start) - start, min(b, stop) - start) for a, b in spans]
        tile = tuple((a, b) if a < b else (0, 0) for a, b in places)
        if not found or tile != found[-1]:
            found.append(tile)
    return found


def lines_left(sch: Schedule, lanes: int) -> float:
    """Lines of text for each sum that is still to be scheduled: those that are scheduled have taken theirs.

    Args:
        sch: The schedule; a sum without vectors is still to be scheduled.
        lanes: Lanes of a vector.
    """
    taken, waiting = 0, 0
    for name in [b.name for b in blocks(sch.function) if isinstance(b.body, Update)]:
        kinds = {loop: sch.kind(loop) for loop in sch.loops(name)}
        unrolled, across = ([sch.extent(n) or 1 for n in kinds if kinds[n] == k] for k in ("unrolled", "vectorized"))
        if across:
            taken += PIECE + prod(unrolled) * (ELEMENT + ceil(prod(across) / lanes))
        else:
            waiting += 1
    return max(LINES - taken, 0) / max(waiting, 1)


def steps_written(
    borders: Mapping[Var, Spans], extents: Mapping[Var, int], tile: Mapping[Var, int], vectors: int, lines: float
) -> float:
    """How many steps of a reduction may be written out in each of the pieces that borders cut its tiles into.

    No whole one where there are too many pieces.

    Args:
        borders: What taps have inside along the axes with borders.
        extents: Places along axes.
        tile: Places in a tile along the axes that it has rows of.
        vectors: Vectors of lanes.
        lines: Lines of text that there may be.
    """
    rows = pieces = 1
    for v in {**borders, **tile}:
        # neighbouring taps with the same places inside are one loop
        cut = [groupby(t) for t in cut_tiles(borders.get(v, ((0, extents[v]),)), extents[v], tile.get(v, 1))]
        sizes = [last - first for taps in cut for (first, last), _ in taps if first < last]
        rows *= sum(sizes)
        pieces *= len(sizes)
    return (lines - pieces * PIECE) / (rows * (ELEMENT + vectors))


def skip_borders(
    sch: Schedule,
    block: str,
    axes: Collection[Var],
    cut: Callable[[], None],
    decided: bool = False,
    asked: bool = False,
    apart: Collection[str] = (),
) -> bool:
    """Leaves out of a contraction what it would multiply with the zeros around an operand.

    Args:
        sch: The schedule; the block accumulates in a tile, whose rows are unrolled.
        block: The block with the Update.
        axes: Iter vars along which it reaches into zeros.
        cut: Cuts off the tails of loops, which is done before borders are.
        decided: Whether masks of loops that are written out are left to the code generator, which decides each of
            their iterations: shorter schedules for the same code.
        asked: Whether masks of loops none of which is written out are left to it, which asks them in the innermost.
        apart: Blocks that were cut off before, and are scheduled by themselves.

    Returns:
        False where nothing can be left out.
    """
    names = sorted({v.name for v in axes})
    some = False
    for name in _copies(sch, block, apart):
        along = [v for v in names if _peelable(sch, name, v)]
        if along:
            sch.skip_zeros(name, along)
            some = True
    if not some:
        return False
    cut()
    masked = _masked(sch, block, decided, asked, apart)
    while masked:
        name = next(iter(masked))
        loops = [(n, turns(loop_named(sch.function, n))) for n in sch.loops(name) if n in masked[name]]
        loop, points = next((x for x in loops if x[1]), ("", []))
        if not loop or not attempt(sch, peel_at, sch, loop, points):
            return False
        masked = _masked(sch, block, decided, asked, apart)
    return True


def _copies(sch: Schedule, block: str, apart: Collection[str]) -> list[str]:
    return [n for n in copies_of(block, sch.blocks()) if n not in apart]


def _masked(sch: Schedule, block: str, decided: bool, asked: bool, apart: Collection[str]) -> dict[str, set[str]]:
    """The blocks with masks that loops are to be cut for, and these loops."""
    found: dict[str, set[str]] = {}
    for name in _copies(sch, block, apart):
        for c in conjuncts(find_block(sch.function, name).predicate):
            loops = {v.name for v in free_vars(c)}
            written = [n for n in loops if sch.kind(n) == "unrolled"]
            if not ((decided and len(written) == len(loops)) or (asked and not written)):
                found.setdefault(name, set()).update(loops)
    return found


def _peelable(sch: Schedule, block: str, var: str) -> bool:
    """Whether pieces of the loops of an iter var may run one after the other."""
    b = find_block(sch.function, block)
    loops = {n.name for it, x in zip(b.iters, b.bindings, strict=True) if it.var.name == var for n in free_vars(x)}
    return all(sch.kind(n) != "vectorized" for n in loops if n in sch.loop_names())
