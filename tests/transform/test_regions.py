"""Elementwise nodes that start from one value and meet again join the group that makes the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.errors import InternalError
from tcompiler.ops.registry import get
from tcompiler.transform import regions
from tcompiler.transform.group import Group

RNG = np.random.default_rng(9)
W = RNG.standard_normal((12, 9)).astype(np.float32)
SQUARE = RNG.standard_normal((7, 7)).astype(np.float32)


def twice(x: Any) -> Any:
    """Reads the sums twice."""
    y = x @ W
    return y * tc.sigmoid(y)


def nested(x: Any) -> Any:
    """One region within another."""
    y = x @ W
    z = y + tc.tanh(y)
    return z * tc.exp(y) * tc.sigmoid(z)


def beside_another_product(x: Any) -> Any:
    """Within the region another product is read, whose group the nodes must not join."""
    y = x @ W
    return tc.tanh(y) + y * (tc.exp(x) @ W)


def in_another_order(x: Any) -> Any:
    """A transposed read is not at the same point."""
    y = (x @ W)[:, :7]
    y = y @ SQUARE
    return y + tc.transpose(y, (1, 0))


def escapes(x: Any) -> tuple[Any, ...]:
    """What is computed on the way is a result."""
    y = x @ W
    s = tc.sigmoid(y)
    return y * s, s


def reduced(x: Any) -> Any:
    """One reader is no map."""
    y = x @ W
    return y - tc.sum(y, 1, keepdims=True)


@pytest.mark.parametrize(
    "fn, kernels",
    [(twice, 1), (nested, 1), (beside_another_product, 3), (in_another_order, 3), (escapes, 3), (reduced, 3)],
)
def test_groups(fn: Callable[..., Any], kernels: int) -> None:
    module = tc.trace(fn, x=tc.spec("f32", (7, 12)))
    graph = Group(get).run(module.graph, module.constants)
    assert len({n.group for n in graph.nodes} - {"view"}) == kernels
    x = RNG.standard_normal((7, 12)).astype(np.float32)
    got = tc.compile(module, threads=1)(x)
    want = fn_numpy(fn, x.astype(np.float64))
    for a, b in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def fn_numpy(fn: Callable[..., Any], x: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same in float64."""
    y = x @ W.astype(np.float64)
    s = 1 / (1 + np.exp(-y))
    z = y + np.tanh(y)
    q = y[:, :7] @ SQUARE.astype(np.float64)
    results: dict[str, tuple[np.ndarray, ...]] = {
        "twice": (y * s,),
        "nested": (z * np.exp(y) / (1 + np.exp(-z)),),
        "beside_another_product": (np.tanh(y) + y * (np.exp(x) @ W.astype(np.float64)),),
        "in_another_order": (q + q.T,),
        "escapes": (y * s, s),
        "reduced": (y - y.sum(1, keepdims=True),),
    }
    return results[fn.__name__]


def test_a_region_larger_than_a_group_stays_apart() -> None:
    def many(x: Any) -> Any:
        y = x @ W
        z = y
        for _ in range(5):
            z = tc.tanh(z) * y
        return z

    module = tc.trace(many, x=tc.spec("f32", (7, 12)))
    graph = Group(get, limit=10).run(module.graph, module.constants)
    assert graph.nodes[0].group != graph.nodes[1].group
    graph = Group(get, limit=11).run(module.graph, module.constants)
    assert len({n.group for n in graph.nodes}) == 1


def turned(x: Any) -> Any:
    """Rows in the opposite order, of one row."""
    y = tc.exp(tc.sum(x, 1, keepdims=True))
    return y * tc.sigmoid(y)[::-1]


def swapped(x: Any) -> Any:
    """Axes in another order, of one element each."""
    y = tc.exp(tc.sum(x, 1, keepdims=True))
    return y * tc.transpose(tc.sigmoid(y), (1, 0))


@pytest.mark.parametrize("fn", [turned, swapped])
def test_nothing_in_a_region_is_only_looked_at(fn: Callable[..., Any]) -> None:
    # a group would read its own result, as if it came from elsewhere
    module = tc.trace(fn, x=tc.spec("f32", (1, 5)))
    graph = Group(get).run(module.graph, module.constants)
    group = {v.name: n.group for n in graph.nodes for v in n.outputs}
    for n in graph.nodes:
        if n.group == "view":
            makers, users = group[n.inputs[0]], {m.group for m in graph.nodes if n.outputs[0].name in m.inputs}
            assert makers not in users
    x = RNG.standard_normal((1, 5)).astype(np.float32)
    y = np.exp(x.astype(np.float64).sum(1, keepdims=True))
    np.testing.assert_allclose(tc.compile(module, threads=1)(x), y / (1 + np.exp(-y)), rtol=1e-5)


def test_a_group_that_reads_its_own_result_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "is_view", lambda program: False)
    monkeypatch.setattr(regions, "slice_starts", lambda program: None)
    module = tc.trace(turned, x=tc.spec("f32", (1, 5)))
    with pytest.raises(InternalError, match=r"reads v\d+, which no step before it has written"):
        tc.compile(module, threads=1)
