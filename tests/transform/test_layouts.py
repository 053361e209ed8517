"""Layouts over whole graphs: the cheapest of all assignments, few copies, and results that stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tcompiler as tc
from tcompiler.frontend.module import GraphModule
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.graph.grammar import Graph, values
from tcompiler.ir.graph.text import parse_graph, print_graph
from tcompiler.ir.graph.verify import verify
from tcompiler.ir.scalar.grammar import Scalar
from tcompiler.ops.registry import get
from tcompiler.pipeline import graph_passes
from tcompiler.target.named import NAMED
from tcompiler.transform.definitions import Definitions
from tcompiler.transform.group import VIEW
from tcompiler.transform.layouts import ChooseLayouts
from tcompiler.transform.layouts.candidates import Candidates
from tcompiler.transform.layouts.choose import minimise
from tcompiler.transform.layouts.costs import Costs
from tcompiler.transform.layouts.tables import Tables

MACHINE = NAMED["x86-64-v3"]
LAST = (0, 2, 3, 1)


def weights(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(shape)
    return (rng.standard_normal(shape) / np.sqrt(max(prod(shape[1:]), 1))).astype(np.float32)


def grouped(module: GraphModule) -> Graph:
    """A graph as the choice of layouts finds it."""
    graph = module.graph
    for p in graph_passes(MACHINE):
        if isinstance(p, ChooseLayouts):
            break
        graph = p.run(graph, module.constants)
    return graph


def laid(fn: Callable[..., Any], *shape: int) -> Graph:
    """The graph of a function of one image after the choice."""
    module = tc.trace(fn, x=tc.spec("f32", shape))
    return ChooseLayouts(get, MACHINE).run(grouped(module), module.constants)


def orders(graph: Graph) -> dict[str, tuple[int, ...] | None]:
    """The order of the axes of what each kernel writes, by its last operator; None for row-major."""
    found = {}
    for n in graph.nodes:
        layout = n.outputs[0].type.layout
        inputs: tuple[Scalar, ...] = () if layout is None else layout.map.inputs
        found[n.name] = None if layout is None else tuple(inputs.index(o) for o in layout.map.outputs)
    return found


def copies(graph: Graph) -> list[str]:
    return [n.name for n in graph.nodes if n.op == "identity"]


def conv(x: Any, columns: int, channels: int, size: int = 1, **options: Any) -> Any:
    pad = (size // 2,) * 4
    return tc.conv(x, weights(columns, channels, size, size), pads=pad, **options)


def two_layers(x: Any) -> Any:
    return conv(tc.relu(conv(x, 64, 32, 3)), 64, 64, 3)


def test_between_layers_channels_are_last_and_one_copy_ends_them() -> None:
    graph = laid(two_layers, 1, 32, 30, 30)
    assert list(orders(graph).values()) == [LAST, LAST, LAST, None]
    assert len(copies(graph)) == 1


def narrow(x: Any) -> Any:
    for _ in range(3):
        x = tc.relu(conv(x, 12, 12, 3))
    return x


def test_few_channels_are_walked_along_rows() -> None:
    """Twelve channels fill three quarters of two vectors, rows of 128 all of them."""
    graph = laid(narrow, 1, 12, 128, 128)
    assert set(orders(graph).values()) == {None} and not copies(graph)


def halves(x: Any) -> Any:
    return tc.relu(conv(x, 24, 24, 3))


def test_a_place_behind_full_vectors_is_no_reason_to_walk_channels() -> None:
    """33 places are two vectors and one place, whose filters fill vectors: no copies around half empty ones."""
    graph = laid(halves, 1, 24, 33, 33)
    assert set(orders(graph).values()) == {None} and not copies(graph)


def in_groups(x: Any) -> Any:
    return tc.relu(conv(x, 64, 16, 3, groups=4))


def test_filters_of_a_group_are_no_phases_of_a_place() -> None:
    """Sixteen filters of a group fill vectors, so channels are last; places of a group would not be interleaved."""
    graph = laid(in_groups, 1, 64, 28, 28)
    assert list(orders(graph).values()) == [LAST, LAST, None]
    assert len(copies(graph)) == 1


def pool_then_rows(x: Any) -> Any:
    y = tc.max_pool(tc.relu(conv(x, 64, 3, 3)), (3, 3), strides=(2, 2))
    return tc.reshape(y, (1, -1)) @ weights(64 * 10 * 4, 10)


def test_a_copy_stands_where_it_is_smallest() -> None:
    """Not before the pooling, and no pooling that gathers its channels."""
    graph = laid(pool_then_rows, 1, 3, 22, 9)
    (name,) = copies(graph)
    assert next(n for n in graph.nodes if n.name == name).outputs[0].type.dims() == (1, 64, 10, 4)


def one_pixel(x: Any) -> Any:
    return tc.relu(conv(tc.mean(conv(x, 64, 32), (2, 3), keepdims=True), 50, 64))


def test_axes_of_one_element_need_no_copy() -> None:
    assert not copies(laid(one_pixel, 1, 32, 7, 7))


def read_inside_and_outside(x: Any) -> tuple[Any, Any]:
    y = conv(x, 16, 8, 3)
    return y, tc.relu(y)


BLOCKS = ("conv", "narrow", "strided", "grouped", "relu", "pool", "join", "residual", "scale", "mean")


def network(plan: list[tuple[str, int]], x: Any) -> Any:
    """A network of blocks, each of which reads an earlier value, perhaps with another one of the same shape."""
    made = [x]

    def shape(v: Any) -> tuple[int, ...]:
        return tuple(int(e) for e in v.shape)

    for kind, pick in plan:
        y = made[-1 - pick % min(len(made), 3)]
        _, c, h, w = shape(y)
        mates = [m for m in made if shape(m) == shape(y)]
        beside = [m for m in made if shape(m)[2:] == (h, w)]
        match kind:
            case "conv":
                y = conv(y, 16 + pick, c, 3)
            case "narrow":
                y = conv(y, 3 + pick, c)
            case "strided":
                y = conv(y, 8, c, 3, strides=(2, 2))
            case "grouped":
                y = conv(y, c, 1, 3, groups=c)
            case "relu":
                y = tc.relu(y)
            case "pool":
                y = tc.max_pool(y, (2, 2)) if min(h, w) > 2 else y
            case "join":
                y = tc.concat([y, beside[pick % len(beside)], tc.tanh(y)], axis=1)
            case "residual":
                y = tc.relu(y + mates[pick % len(mates)])
            case "scale":
                y = y * tc.reshape(tc.mean(y, (2, 3)), (1, c, 1, 1))
            case _:
                y = y - tc.mean(y, (1,), keepdims=True)
        made.append(y)
    return made[-1], tc.tanh(made[len(made) // 2])


plans = st.lists(st.tuples(st.sampled_from(BLOCKS), st.integers(0, 7)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(plans)
def test_no_assignment_costs_less(plan: list[tuple[str, int]]) -> None:
    module = tc.trace(lambda x: network(plan, x), x=tc.spec("f32", (1, 5, 9, 8)))
    graph = grouped(module)
    t = Tables(Candidates(graph, Definitions(graph, get), 4), Costs(MACHINE))
    found = minimise(t.sizes, t.tables)
    open_ = [v for v, n in t.sizes.items() if n > 1]
    assert found.cost == found.bound < np.inf
    if prod(t.sizes[v] for v in open_) > 5000:
        return
    at = {v: k for k, v in enumerate(open_)}
    best = min(
        sum(float(x.costs[tuple(p[at[v]] if v in at else 0 for v in x.variables)]) for x in t.tables)
        for p in product(*(range(t.sizes[v]) for v in open_))
    )
    assert found.cost == pytest.approx(best)


@settings(max_examples=25, deadline=None)
@given(plans)
def test_results_are_those_of_the_graph(plan: list[tuple[str, int]]) -> None:
    check(lambda x: network(plan, x), 1, 5, 9, 8)


@pytest.mark.parametrize("fn", [two_layers, pool_then_rows, one_pixel, read_inside_and_outside])
def test_results(fn: Callable[..., Any]) -> None:
    channels = {two_layers: 32, pool_then_rows: 3, one_pixel: 32, read_inside_and_outside: 8}[fn]
    check(fn, 1, channels, 22, 9)


def check(fn: Callable[..., Any], *shape: int) -> None:
    module = tc.trace(fn, x=tc.spec("f32", shape))
    graph = ChooseLayouts(get, MACHINE).run(grouped(module), module.constants)
    verify(graph, operators=get, constants=module.constants)
    types = dict(values(graph))
    assert all(types[v.name].layout is None for v in graph.outputs)
    for n in graph.nodes:
        assert n.group == VIEW or all(v.type.layout is None or len(v.type.shape) > 2 for v in n.outputs)
    x = weights(*shape)
    wanted = evaluate(module.graph, {module.graph.inputs[0].name: x}, operators=get, constants=module.constants)
    got = tc.compile(module, threads=2)(x)
    for a, v in zip(got if isinstance(got, tuple) else (got,), module.graph.outputs, strict=True):
        np.testing.assert_allclose(a, wanted[v.name], rtol=2e-4, atol=1e-4)


def wide_rows(x: Any) -> Any:
    """Rows of 1024 elements, a way of a cache apart, read by a product and by what is none."""
    y = tc.relu(x @ weights(8, 1024))
    z = y @ weights(1024, 24)
    return z, tc.max(y, 1), tc.softmax(y, axis=-1)


def wide_channels(x: Any) -> Any:
    y = tc.relu(conv(tc.relu(conv(x, 40, 8)), 1024, 40))
    return tc.mean(tc.relu(conv(y, 40, 1024)), (2, 3)), tc.mean(tc.max_pool(y, (2, 2)), (2, 3))


NEAR = replace(MACHINE, name="near", l2_bytes=4096)
"""Nothing of the tests' size fits its level 2 cache."""


@pytest.mark.parametrize(("fn", "shape", "rows"), [(wide_rows, (1, 6, 8), 1040), (wide_channels, (1, 8, 15, 13), 1040)])
def test_rows_a_way_apart_are_spread(fn: Callable[..., Any], shape: tuple[int, ...], rows: int) -> None:
    """What lies between them reaches no result, whoever reads them."""
    module = tc.trace(fn, x=tc.spec("f32", shape))
    graph = ChooseLayouts(get, NEAR).run(grouped(module), module.constants)
    verify(graph, operators=get, constants=module.constants)
    assert rows in [t.layout.shape[-1].value for t in dict(values(graph)).values() if t.layout]
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)
    x = weights(*shape)
    wanted = evaluate(module.graph, {module.graph.inputs[0].name: x}, operators=get, constants=module.constants)
    for a, v in zip(tc.compile(module, target=NEAR, threads=2)(x), module.graph.outputs, strict=True):
        np.testing.assert_allclose(a, wanted[v.name], rtol=2e-4, atol=1e-4)


def test_rows_stay_together_where_nothing_is_won() -> None:
    """In the level 2 cache, in rows of another length, in what is looked at in another shape, in results."""
    assert not spread(MACHINE, wide_rows, 1, 6, 8)
    assert not spread(NEAR, lambda x: tc.relu(x @ weights(8, 1008)) @ weights(1008, 24), 1, 6, 8)
    assert not spread(NEAR, lambda x: tc.reshape(tc.relu(x @ weights(8, 1024)), (6, 1024)) @ weights(1024, 24), 1, 6, 8)
    assert not spread(NEAR, lambda x: tc.relu(x @ weights(8, 1024)), 1, 6, 8)


def spread(target: Any, fn: Callable[..., Any], *shape: int) -> list[str]:
    """The values with room between their rows."""
    module = tc.trace(fn, x=tc.spec("f32", shape))
    types = dict(values(ChooseLayouts(get, target).run(grouped(module), module.constants)))
    return [n for n, t in types.items() if t.layout and prod(e.value for e in t.layout.shape) > prod(t.dims())]
