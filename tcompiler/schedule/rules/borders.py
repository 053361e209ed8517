"""Taps that lie in an image's padding: tiles at its borders leave them out, each with the rows that a tap has there.

Of 7 × 7 places under 3 × 3 taps that is a fifth of the multiply-adds, of 14 × 14 a tenth. A tile that is a box of
places meets every tap with a box of rows, so that nothing is computed in vain; rows that run on from line to line do
not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.scalar.grammar import TRUE, Var
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
PIECES = 8
"""Pieces of an axis that code is written for, where nothing else is said."""


def find_borders(sch: Schedule, block: str, shape: Shape, pieces: int = PIECES) -> dict[Var, Spans]:
    """The spatial iter vars along which windows reach into zeros, each with what its taps have inside.

    Args:
        sch: The schedule.
        block: A reduction.
        shape: Its iterations and accesses.
        pieces: Pieces of an axis that code is written for, at most.
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
    return {v: tuple(s) for v, s in ends.items() if _worth(s, shape.extents[v], pieces)}


def inside_share(spans: Spans, extent: int) -> float:
    """The share of an axis's taps that are inside.

    Args:
        spans: What each tap has inside.
        extent: Places along the axis.
    """
    return sum(last - first for first, last in spans) / (extent * len(spans))


def _worth(spans: list[tuple[int, int]], extent: int, pieces: int) -> bool:
    turns = {p for s in spans for p in s if 0 < p < extent}
    return inside_share(tuple(spans), extent) <= 1 - LEAST and len(turns) < pieces


def skip_borders(
    sch: Schedule, block: str, axes: Collection[Var], cut: Callable[[], None], decided: bool = False
) -> bool:
    """Leaves out of a contraction what it would multiply with the zeros around an operand.

    Args:
        sch: The schedule; the block accumulates in a tile, whose rows are unrolled.
        block: The block with the Update.
        axes: Iter vars along which it reaches into zeros.
        cut: Cuts off the tails of loops, which is done before borders are.
        decided: Whether masks of loops that are written out are left to the code generator, which decides each of
            their iterations: shorter schedules for the same code.

    Returns:
        False where nothing can be left out.
    """
    names = sorted({v.name for v in axes})
    some = False
    for name in _copies(sch, block):
        along = [v for v in names if _peelable(sch, name, v)]
        if along:
            sch.skip_zeros(name, along)
            some = True
    if not some:
        return False
    cut()
    masked = _masked(sch, block, decided)
    while masked:
        loops = [(n, turns(loop_named(sch.function, n))) for n in sch.loops(masked[0])]
        loop, points = next((x for x in loops if x[1]), ("", []))
        if not loop or not attempt(sch, peel_at, sch, loop, points):
            return False
        masked = _masked(sch, block, decided)
    return True


def _copies(sch: Schedule, block: str) -> list[str]:
    return copies_of(block, sch.blocks())


def _masked(sch: Schedule, block: str, decided: bool) -> list[str]:
    def left(name: str) -> bool:
        predicate = find_block(sch.function, name).predicate
        if not decided:
            return predicate is not TRUE
        return any(sch.kind(v.name) != "unrolled" for v in free_vars(predicate))

    return [n for n in _copies(sch, block) if left(n)]


def _peelable(sch: Schedule, block: str, var: str) -> bool:
    """Whether pieces of the loops of an iter var may run one after the other."""
    b = find_block(sch.function, block)
    loops = {n.name for it, x in zip(b.iters, b.bindings, strict=True) if it.var.name == var for n in free_vars(x)}
    return all(sch.kind(n) != "vectorized" for n in loops if n in sch.loop_names())
