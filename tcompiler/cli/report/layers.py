"""A layered drawing of an acyclic graph: boxes in rows, every wire downward.

After K. Sugiyama, S. Tagawa, M. Toda, *Methods for visual understanding of hierarchical system structures* (1981): rows
by longest path, orders within rows by barycentres, and places by weighted least squares, where long wires weigh more
(E. Gansner et al., *A technique for drawing directed graphs*, 1993). A wire with many ends is one trunk with branches.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import networkx as nx

Point = tuple[float, float]

LIMIT = 30_000
BOX_GAP, WIRE_GAP, ROW_GAP, MARGIN = 26.0, 12.0, 40.0, 16.0
_ORDER_SWEEPS, _PLACE_SWEEPS, _ONE_SIDED, _CENTRED = 10, 60, 8, 0.1


@dataclass(frozen=True, slots=True)
class Wire:
    """A value: from the box that makes it to the boxes that read it."""

    source: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """One end of a wire: the points of a path from the source (or the branching point) to `target`, row by row.

    Between points 2k and 2k + 1 the path goes straight down, through a row; from there to 2k + 2 it crosses a gap.
    """

    wire: int
    target: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Where everything lies: the top left corner of every box, and the wires' paths."""

    places: Mapping[str, Point]
    routes: Sequence[Route]
    width: float
    height: float


@dataclass(slots=True)
class _Item:
    """A box, or a place where a wire passes through a row (then it has no name)."""

    name: str
    row: int
    width: float
    up: list[tuple[int, float]] = field(default_factory=list)
    down: list[tuple[int, float]] = field(default_factory=list)
    x: float = 0.0


def arrange(sizes: Mapping[str, tuple[float, float]], wires: Sequence[Wire]) -> Drawing | None:
    """Lays out a graph.

    Args:
        sizes: Width and height of every box.
        wires: The edges; together they have no cycle.

    Returns:
        The drawing, or None if boxes and the rows that wires pass through are more than LIMIT.
    """
    if not sizes:
        return Drawing({}, (), 2 * MARGIN, 2 * MARGIN)
    if len(sizes) > LIMIT:
        return None
    ranks = _ranks(sizes, wires)
    passed = (max((ranks[t] for t in w.targets), default=0) - ranks[w.source] for w in wires)
    if len(sizes) + sum(passed) > LIMIT:
        return None
    items, trunks = _items(sizes, wires, ranks)
    rows = _order(items, max(ranks.values()) + 1)
    _place(items, rows)
    _straighten(items, rows, trunks)
    left = min(i.x - i.width / 2 for i in items)
    for item in items:
        item.x += MARGIN - left
    width = max(i.x + i.width / 2 for i in items) + MARGIN
    tops, bottoms, y = [], [], MARGIN
    for row in rows:
        height = max((sizes[items[k].name][1] for k in row if items[k].name), default=0.0)
        tops.append(y)
        bottoms.append(y + height)
        y += height + ROW_GAP
    places: dict[str, Point] = {}
    for item in items:
        if item.name:
            w, h = sizes[item.name]
            places[item.name] = (item.x - w / 2, (tops[item.row] + bottoms[item.row] - h) / 2)
    routes = _routes(items, trunks, wires, sizes, places, (tops, bottoms))
    return Drawing(places, routes, width, y - ROW_GAP + MARGIN)


def _ranks(sizes: Mapping[str, tuple[float, float]], wires: Sequence[Wire]) -> dict[str, int]:
    """The row of every box: below all that it reads; what reads nothing stands right above its first reader."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(sizes)
    graph.add_edges_from((w.source, t) for w in wires for t in w.targets)
    ranks = {name: k for k, names in enumerate(nx.topological_generations(graph)) for name in names}
    for name in sizes:
        readers = [ranks[t] for t in graph.successors(name)]
        if readers and not graph.in_degree(name):
            ranks[name] = min(readers) - 1
    return ranks


def _items(
    sizes: Mapping[str, tuple[float, float]], wires: Sequence[Wire], ranks: Mapping[str, int]
) -> tuple[list[_Item], list[list[int]]]:
    """Boxes and the trunks of wires; a trunk starts with the item of its source, and has one item a row."""
    items = [_Item(name, ranks[name], size[0]) for name, size in sizes.items()]
    at = {item.name: k for k, item in enumerate(items)}
    trunks: list[list[int]] = []
    for wire in wires:
        trunk = [at[wire.source]]
        last = max((ranks[t] for t in wire.targets), default=0)
        for row in range(ranks[wire.source] + 1, last):
            items.append(_Item("", row, 2.0))
            _connect(items, trunk[-1], len(items) - 1, 8.0 if len(trunk) > 1 else 2.0)
            trunk.append(len(items) - 1)
        for target in wire.targets:
            above = trunk[ranks[target] - 1 - ranks[wire.source]]
            _connect(items, above, at[target], 1.0 if above == trunk[0] else 2.0)
        trunks.append(trunk)
    return items, trunks


def _connect(items: list[_Item], above: int, below: int, weight: float) -> None:
    items[above].down.append((below, weight))
    items[below].up.append((above, weight))


def _order(items: Sequence[_Item], count: int) -> list[list[int]]:
    """The order of items in every row: the one with the fewest crossings that sweeps of barycentres come across."""
    rows: list[list[int]] = [[] for _ in range(count)]
    for k, item in enumerate(items):
        rows[item.row].append(k)
    best, fewest = [list(row) for row in rows], _crossings(items, rows)
    for sweep in range(_ORDER_SWEEPS):
        if fewest == 0:
            break
        down = sweep % 2 == 0
        position = {k: float(p) for row in rows for p, k in enumerate(row)}
        for row in rows if down else reversed(rows):
            centres = {k: _centre(items[k].up if down else items[k].down, position, position[k]) for k in row}
            row.sort(key=lambda k: centres[k])
            position.update((k, float(p)) for p, k in enumerate(row))
        crossings = _crossings(items, rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _centre(links: Sequence[tuple[int, float]], position: Mapping[int, float], here: float) -> float:
    return sum(position[k] for k, _ in links) / len(links) if links else here


def _crossings(items: Sequence[_Item], rows: Sequence[Sequence[int]]) -> int:
    """How many pairs of links between neighbouring rows cross: inversions, counted by insertion."""
    total = 0
    for row, below in pairwise(rows):
        position = {k: p for p, k in enumerate(below)}
        ends = [p for k in row for p in sorted(position[b] for b, _ in items[k].down)]
        seen: list[int] = []
        for k, p in enumerate(ends):
            total += k - bisect_left(seen, p + 1)
            insort(seen, p)
    return total


def _place(items: Sequence[_Item], rows: Sequence[Sequence[int]]) -> None:
    """Gives every item an x: near what it is linked to, in the order of its row, without overlaps."""
    for row in rows:
        x = 0.0
        for k, before in zip(row, [None, *row], strict=False):
            x += 0.0 if before is None else _gap(items[before], items[k])
            items[k].x = x
        for k in row:
            items[k].x -= x / 2
    for sweep in range(_PLACE_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            desired, weights = [], []
            for k in row:
                item = items[k]
                links = item.up if down else item.down
                if sweep >= _ONE_SIDED or not links:
                    links = item.up + item.down
                # The middle of the drawing pulls a little, so that a long chain does not drift aside.
                weight = _CENTRED + sum(w for _, w in links)
                desired.append(sum(items[o].x * w for o, w in links) / weight)
                weights.append(weight)
            gaps = [_gap(items[a], items[b]) for a, b in pairwise(row)]
            for k, x in zip(row, separated(desired, weights, gaps), strict=True):
                items[k].x = x


def _straighten(items: Sequence[_Item], rows: Sequence[Sequence[int]], trunks: Sequence[Sequence[int]]) -> None:
    """Makes trunks straight over as many rows as their neighbours leave room for, the longest trunks first."""
    position = {k: p for row in rows for p, k in enumerate(row)}
    for trunk in sorted(trunks, key=len, reverse=True):
        run: list[int] = []
        low, high = float("-inf"), float("inf")
        for k in [*trunk[1:], None]:
            left, right = float("-inf"), float("inf")
            if k is not None:
                row, p = rows[items[k].row], position[k]
                if p > 0:
                    left = items[row[p - 1]].x + _gap(items[row[p - 1]], items[k])
                if p + 1 < len(row):
                    right = items[row[p + 1]].x - _gap(items[k], items[row[p + 1]])
            if run and (k is None or max(low, left) > min(high, right)):
                mean = sum(items[r].x for r in run) / len(run)
                for r in run:
                    items[r].x = min(max(mean, low), high)
                run, low, high = [], float("-inf"), float("inf")
            if k is not None:
                run.append(k)
                low, high = max(low, left), min(high, right)


def _gap(a: _Item, b: _Item) -> float:
    return (a.width + b.width) / 2 + (BOX_GAP if a.name and b.name else WIRE_GAP)


def separated(desired: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Places nearest to desired ones in weighted least squares, each at least a gap to the right of the one before.

    With the gaps taken off this is isotonic regression: blocks that violate the order are pooled.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    blocks: list[tuple[float, float, int]] = []
    for d, w, offset in zip(desired, weights, offsets, strict=True):
        mean, weight, count = d - offset, w, 1
        while blocks and blocks[-1][0] > mean:
            m, v, n = blocks.pop()
            mean, weight, count = (m * v + mean * weight) / (v + weight), v + weight, n + count
        blocks.append((mean, weight, count))
    means = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _routes(
    items: Sequence[_Item],
    trunks: Sequence[Sequence[int]],
    wires: Sequence[Wire],
    sizes: Mapping[str, tuple[float, float]],
    places: Mapping[str, Point],
    rows: tuple[Sequence[float], Sequence[float]],
) -> list[Route]:
    """The paths: out of the bottom of a box, through the rows, into the top of another; ports do not coincide."""
    tops, bottoms = rows
    row_of = {item.name: item.row for item in items if item.name}
    toward: dict[str, list[tuple[float, int]]] = {}
    outward: dict[str, list[tuple[float, int]]] = {}
    middle = {name: x + sizes[name][0] / 2 for name, (x, _) in places.items()}
    for k, (wire, trunk) in enumerate(zip(wires, trunks, strict=True)):
        ends = []
        for target in wire.targets:
            step = row_of[target] - 1 - row_of[wire.source]
            came = items[trunk[step]].x
            toward.setdefault(target, []).append((came, k))
            ends.append(middle[target] if step == 0 else items[trunk[1]].x)
        outward.setdefault(wire.source, []).append((sum(ends) / len(ends) if ends else middle[wire.source], k))
    into = {(k, n): x for n, found in toward.items() for k, x in _ports(found, middle[n], sizes[n][0])}
    outof = {(k, n): x for n, found in outward.items() for k, x in _ports(found, middle[n], sizes[n][0])}
    routes = []
    for k, (wire, trunk) in enumerate(zip(wires, trunks, strict=True)):
        start_row = row_of[wire.source]
        for drawn, target in enumerate(sorted(wire.targets, key=lambda t: -row_of[t])):
            step = row_of[target] - 1 - start_row
            # The longest end draws the trunk; others branch off where it leaves the row above them.
            begin = 0 if drawn == 0 else step
            points: list[Point] = []
            for at in range(begin, step + 1):
                if at == 0:
                    x = outof[k, wire.source]
                    points += [(x, places[wire.source][1] + sizes[wire.source][1]), (x, bottoms[start_row])]
                else:
                    x = items[trunk[at]].x
                    points += [(x, tops[start_row + at]), (x, bottoms[start_row + at])]
            x = into[k, target]
            points += [(x, tops[row_of[target]]), (x, places[target][1])]
            routes.append(Route(k, target, tuple(points)))
    return routes


def _ports(found: Sequence[tuple[float, int]], middle: float, width: float) -> list[tuple[int, float]]:
    """Where wires meet the edge of a box: side by side in the order of where they come from."""
    step = min(14.0, width / (len(found) + 1))
    start = middle - step * (len(found) - 1) / 2
    return [(wire, start + step * p) for p, (_, wire) in enumerate(sorted(found))]
