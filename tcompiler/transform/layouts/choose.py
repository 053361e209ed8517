"""The cheapest of all assignments, where costs are a sum of small tables.

Bucket elimination (R. Dechter, "Bucket elimination: a unifying framework for reasoning", 1999): one variable after the
other is minimised away, from the tables that it occurs in, which leaves one table over its neighbours. Where that
table would be large the bucket is cut (mini-buckets, R. Dechter and I. Rish, 2003): each part is minimised by itself,
which bounds the cost from below; the assignment that comes of it is improved one variable at a time.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod

import numpy as np
from numpy.typing import NDArray

LIMIT = 4096
"""Entries of the largest table that elimination makes."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Costs that depend on a few variables.

    Attributes:
        variables: Their names, all different.
        costs: A float64 array with an axis for each, as long as the variable has values; infinite where a combination
            is impossible.
    """

    variables: tuple[str, ...]
    costs: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """An assignment.

    Attributes:
        values: The value of each variable, by number.
        cost: The sum over all tables.
        bound: No assignment costs less; equal to the cost where no bucket was cut.
    """

    values: Mapping[str, int]
    cost: float
    bound: float


def minimise(sizes: Mapping[str, int], tables: Sequence[Table], limit: int = LIMIT) -> Choice:
    """Finds the cheapest assignment; of those that cost the same, one by the order of variables and values.

    Args:
        sizes: How many values each variable has, at least 1.
        tables: The costs.
        limit: Entries of the largest table that may be made; no bound on those that are given.

    Returns:
        The cheapest assignment where no table that is needed is larger than that; otherwise one that is no worse than
        any that differs from it in one variable, and a lower bound.
    """
    buckets, bound = _eliminated(sizes, [_dropped(t, sizes) for t in tables], limit)
    values = dict.fromkeys(sizes, 0)
    for variable, bucket in reversed(buckets):
        values[variable] = int(np.argmin(_row(variable, sizes[variable], bucket, values)))
    cost = _cost(tables, values)
    if cost > bound + 1e-9 * abs(bound):
        for start in (values, dict.fromkeys(sizes, 0)):
            found = _descended(sizes, tables, start)
            if (reached := _cost(tables, found)) < cost:
                values, cost = found, reached
    return Choice(values, cost, min(bound, cost))


def _dropped(table: Table, sizes: Mapping[str, int]) -> Table:
    """A table without the variables that have one value."""
    kept = tuple(v for v in table.variables if sizes[v] > 1)
    if len(kept) == len(table.variables):
        return table
    return Table(kept, table.costs.reshape([sizes[v] for v in kept]))


def _eliminated(
    sizes: Mapping[str, int], tables: Sequence[Table], limit: int
) -> tuple[list[tuple[str, list[Table]]], float]:
    """The variables in the order in which they went, each with its bucket, and the least cost that is left."""
    number = {v: k for k, v in enumerate(sizes)}
    of: dict[str, dict[int, Table]] = {v: {} for v, n in sizes.items() if n > 1}
    bound, fresh = 0.0, 0

    def put(table: Table) -> None:
        nonlocal bound, fresh
        if not table.variables:
            bound += float(table.costs)
        for v in table.variables:
            of[v][fresh] = table
        fresh += 1

    def weight(v: str) -> int:
        return prod(sizes[u] for u in {u for t in of[v].values() for u in t.variables})

    for t in tables:
        put(t)
    queue = [(weight(v), number[v], v) for v in of]
    heapq.heapify(queue)
    buckets: list[tuple[str, list[Table]]] = []
    while queue:
        known, _, v = heapq.heappop(queue)
        if v not in of:
            continue
        now = weight(v)
        if now > known:
            heapq.heappush(queue, (now, number[v], v))
            continue
        found = of.pop(v)
        neighbours = {u for t in found.values() for u in t.variables if u != v}
        for u in neighbours:
            for k in found.keys() & of[u].keys():
                del of[u][k]
        bucket = list(found.values())
        buckets.append((v, bucket))
        for part in _parts(bucket, v, sizes, limit):
            put(_minimised(part, v, sizes))
        for u in neighbours:
            heapq.heappush(queue, (weight(u), number[u], u))
    return buckets, bound


def _parts(bucket: Sequence[Table], v: str, sizes: Mapping[str, int], limit: int) -> list[list[Table]]:
    """The tables of a bucket, together as long as the table that they leave is within the limit."""
    parts: list[tuple[set[str], list[Table]]] = []
    for t in sorted(bucket, key=lambda t: -t.costs.size):
        for scope, part in parts:
            if prod(sizes[u] for u in scope.union(t.variables) if u != v) <= limit:
                scope |= set(t.variables)
                part.append(t)
                break
        else:
            parts.append((set(t.variables), [t]))
    return [part for _, part in parts]


def _minimised(part: Sequence[Table], v: str, sizes: Mapping[str, int]) -> Table:
    """The sum of tables, at the best value of one variable."""
    scope = [v, *dict.fromkeys(u for t in part for u in t.variables if u != v)]
    total = np.zeros([sizes[u] for u in scope])
    for t in part:
        order = sorted(range(len(t.variables)), key=lambda k: scope.index(t.variables[k]))
        mine = set(t.variables)
        total = total + t.costs.transpose(order).reshape([sizes[u] if u in mine else 1 for u in scope])
    return Table(tuple(scope[1:]), total.min(axis=0))


def _row(v: str, size: int, tables: Sequence[Table], values: Mapping[str, int]) -> NDArray[np.float64]:
    """What each value of a variable costs in some tables when the others are given."""
    total = np.zeros(size)
    for t in tables:
        total = total + t.costs[tuple(slice(None) if u == v else values[u] for u in t.variables)]
    return total


def _cost(tables: Sequence[Table], values: Mapping[str, int]) -> float:
    return float(sum(t.costs[tuple(values[v] for v in t.variables)] for t in tables))


def _descended(sizes: Mapping[str, int], tables: Sequence[Table], start: Mapping[str, int]) -> dict[str, int]:
    """An assignment that no change of one variable makes cheaper."""
    values = dict(start)
    of: dict[str, list[Table]] = {v: [] for v in sizes}
    for t in tables:
        for v in t.variables:
            of[v].append(t)
    changed = True
    while changed:
        changed = False
        for v, n in sizes.items():
            row = _row(v, n, of[v], values)
            best = int(np.argmin(row))
            if row[best] < row[values[v]] - 1e-9 * (1.0 if row[values[v]] == inf else abs(row[values[v]])):
                values[v], changed = best, True
    return values
