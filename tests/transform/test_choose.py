"""The cheapest assignment: elimination against trying all of them."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcompiler.transform.layouts.choose import Table, minimise


def table(*variables: str, costs: list[object]) -> Table:
    return Table(variables, np.array(costs, dtype=np.float64))


def cost(tables: list[Table], values: dict[str, int]) -> float:
    return float(sum(t.costs[tuple(values[v] for v in t.variables)] for t in tables))


def cheapest(sizes: dict[str, int], tables: list[Table]) -> float:
    names = list(sizes)
    return min(cost(tables, dict(zip(names, p, strict=True))) for p in product(*(range(sizes[n]) for n in names)))


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, int], list[Table]]:
    """Chains with branches and joins, as networks have them, and a few tables across."""
    count = draw(st.integers(1, 7))
    sizes = {f"v{k}": draw(st.integers(1, 3)) for k in range(count)}
    seed = draw(st.integers(0, 1 << 16))
    rng = np.random.default_rng(seed)
    tables = []
    for _ in range(draw(st.integers(0, 2 * count))):
        arity = min(draw(st.integers(1, 3)), count)
        chosen = [f"v{k}" for k in draw(st.permutations(range(count)))[:arity]]
        shape = [sizes[v] for v in chosen]
        costs = rng.integers(0, 9, shape).astype(np.float64)
        if draw(st.booleans()):
            # never the first value of all: something stays possible
            costs[tuple(rng.random(shape) < 0.2 for _ in range(1))] = inf
            costs[(0,) * arity] = 1.0
        tables.append(Table(tuple(chosen), costs))
    return sizes, tables


@settings(max_examples=300, deadline=None)
@given(problems())
def test_elimination_finds_the_minimum(problem: tuple[dict[str, int], list[Table]]) -> None:
    sizes, tables = problem
    found = minimise(sizes, tables)
    assert set(found.values) == set(sizes)
    assert found.cost == cost(tables, dict(found.values)) == cheapest(sizes, tables) == found.bound


@settings(max_examples=200, deadline=None)
@given(problems(), st.sampled_from([1, 2, 4]))
def test_small_tables_bound_the_minimum(problem: tuple[dict[str, int], list[Table]], limit: int) -> None:
    sizes, tables = problem
    found = minimise(sizes, tables, limit)
    best = cheapest(sizes, tables)
    assert found.bound <= best <= found.cost == cost(tables, dict(found.values))
    if found.cost > found.bound:
        for name, n in sizes.items():
            for k in range(n):
                assert cost(tables, {**found.values, name: k}) >= found.cost


def test_of_equals_the_first_is_taken() -> None:
    sizes = {"a": 2, "b": 3}
    assert minimise(sizes, []).values == {"a": 0, "b": 0}
    assert minimise(sizes, [table("a", "b", costs=[[5, 2, 7], [2, 9, 9]])]).cost == 2
    assert minimise(sizes, [table("b", costs=[3, 1, 1])]).values == {"a": 0, "b": 1}


@pytest.mark.parametrize("wide", [False, True])
def test_long_graphs_are_quick_and_wide_ones_bounded(wide: bool) -> None:
    """A thousand layers with residuals; with every pair of twenty values tied the limit is what keeps tables small."""
    rng = np.random.default_rng(3)
    n = 20 if wide else 1000
    pairs = [(a, b) for a in range(n) for b in range(a)] if wide else [(k, k - j) for k in range(n) for j in (1, 2)]
    tables = [Table((f"v{a}", f"v{b}"), rng.random((4, 4))) for a, b in pairs if b >= 0]
    found = minimise({f"v{k}": 4 for k in range(n)}, tables)
    assert found.bound <= found.cost
    assert (found.bound == pytest.approx(found.cost)) != wide
