"""Parallel loops that one team of threads runs without meeting in between.

What a peel leaves of a parallel loop are several: whole panels and a last one, borders and what lies between them. Run
one after the other, threads wait for each other behind each of them; as one range of iterations they share all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tcompiler.ir.loop.analysis import Access, accesses, loops, region, touched
from tcompiler.ir.loop.grammar import Block, For, Function, Stmt, children
from tcompiler.ir.scalar.grammar import Scalar, as_int

TOGETHER = "together"
"""The hint on a parallel loop that it begins with the parallel loop in front of it, not behind it."""

_Span = tuple[int | None, int | None]
_Box = tuple[_Span, ...]
_Boxes = dict[str, _Box]


def teams(function: Function, stmts: Sequence[Stmt]) -> Iterator[list[Stmt]]:
    """Puts statements into groups: parallel loops that begin together, and every other statement alone.

    A hint counts only where it changes no result: where none of the loops writes what another one touches.

    Args:
        function: Where the statements stand.
        stmts: In the order in which they run.
    """
    team: list[Stmt] = []
    for s in stmts:
        joins = isinstance(s, For) and s.kind == "parallel" and any(k == TOGETHER and v for k, v in s.annotations)
        if team and not (joins and all(isinstance(t, For) and independent(function, t, s) for t in team)):
            yield team
            team = []
        team.append(s)
    if team:
        yield team


def independent(function: Function, first: Stmt, second: Stmt) -> bool:
    """Whether two parallel loops may run at the same time: neither writes an element that the other touches.

    Boxes around what is touched are compared, so the answer may be no where it could be yes. Buffers of other scopes
    than "global" are private to the iterations of a loop that writes them, and one for all of a loop that reads them
    only.

    Args:
        function: Where both stand.
        first: A statement.
        second: Another one.
    """
    if not all(isinstance(s, For) and s.kind == "parallel" for s in (first, second)):
        return False
    one, other = touched(first), touched(second)
    given = (one.reads - one.writes) & other.writes | (other.reads - other.writes) & one.writes
    if any(b.name in given and b.scope != "global" for b in function.buffers):
        return False
    (reads, writes), (other_reads, other_writes) = _touched(function, first), _touched(function, second)
    return _apart(writes, other_writes) and _apart(writes, other_reads) and _apart(reads, other_writes)


def makespan(parts: Sequence[tuple[int, float]], threads: int) -> float:
    """Time until a team is done, if who is free takes the next iteration (Graham's list schedule, 1969).

    Args:
        parts: Iterations of each loop in turn, and the time that one takes.
        threads: Threads of the team.
    """
    busy = [0.0] * threads
    for count, each in parts:
        left = count
        while left and busy[-1] - busy[0] > each:
            busy = sorted([busy[0] + each, *busy[1:]])
            left -= 1
        rounds, rest = divmod(left, threads)
        busy = sorted(t + (rounds + (k < rest)) * each for k, t in enumerate(busy))
    return busy[-1]


def _apart(one: _Boxes, other: _Boxes) -> bool:
    return all(any(map(_disjoint, one[name], other[name])) for name in one.keys() & other.keys())


def _disjoint(a: _Span, b: _Span) -> bool:
    (low, high), (other_low, other_high) = a, b
    before = high is not None and other_low is not None and high < other_low
    behind = other_high is not None and low is not None and other_high < low
    return before or behind


def _touched(function: Function, stmt: Stmt) -> tuple[_Boxes, _Boxes]:
    """Boxes around what a statement reads and around what it writes, of global buffers."""
    every = {loop.var for loop in loops(function)}
    shared = {b.name for b in function.buffers if b.scope == "global"}
    reads: _Boxes = {}
    writes: _Boxes = {}

    def grow(boxes: _Boxes, block: Block, buffer: str, first: tuple[Scalar, ...], last: tuple[Scalar, ...]) -> None:
        if buffer in shared:
            low = region(function, block, Access(buffer, first), every).ranges
            high = low if first is last else region(function, block, Access(buffer, last), every).ranges
            box = tuple((as_int(a), as_int(b + size - 1)) for (a, _), (b, size) in zip(low, high, strict=True))
            boxes[buffer] = tuple(map(_hull, boxes.get(buffer, box), box))

    pending = [stmt]
    while pending:
        block = pending.pop()
        if not isinstance(block, Block):
            pending += children(block)
            continue
        found = accesses(block)
        if not (found.writes or found.updates or found.write_regions):
            continue  # what it asks for ahead it does not use
        for boxes, elements in ((reads, found.reads), (reads, found.updates), (writes, found.writes)):
            for e in elements:
                grow(boxes, block, e.buffer, e.indices, e.indices)
        for boxes, regions in ((reads, found.read_regions), (writes, found.write_regions)):
            for r in regions:
                grow(boxes, block, r.buffer, tuple(a for a, _ in r.ranges), tuple(a + n - 1 for a, n in r.ranges))
    return reads, writes


def _hull(a: _Span, b: _Span) -> _Span:
    low = None if a[0] is None or b[0] is None else min(a[0], b[0])
    high = None if a[1] is None or b[1] is None else max(a[1], b[1])
    return low, high
