"""Contractions of one tensor become one, and mean the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.graph.verify import verify
from tcompiler.ops.registry import get
from tcompiler.transform.siblings import MergeSiblings

RNG = np.random.default_rng(3)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


Q, K, V = f32(12, 8), f32(12, 8), f32(12, 8)
BQ, BK = f32(8), f32(8)
NARROW = f32(12, 3)
LEFT, RIGHT = f32(4, 5), f32(6, 5)
C5, C7, C3 = f32(5, 5, 1, 1), f32(7, 5, 1, 1), f32(7, 5, 3, 3)
B5, B7 = f32(5), f32(7)


def projections(x: Any) -> Any:
    return tc.sum(x @ Q, 1) + tc.amax(x @ K, 1) * tc.sum(x @ V, 1)


def with_biases(x: Any) -> Any:
    return tc.sum(tc.tanh(x @ Q + BQ), 1) + tc.amax(tc.tanh(x @ K + BK), 1)


def other_activations(x: Any) -> Any:
    return tc.sum(tc.tanh(x @ Q), 1) + tc.amax(tc.sigmoid(x @ K), 1)


def transposed(x: Any) -> Any:
    """A transpose ends in the product that it follows, which would be lost."""
    return (x @ Q) @ tc.transpose(x @ K, (1, 0))


def unlike_columns(x: Any) -> Any:
    return tc.sum(x @ Q, 1) + tc.sum(x @ NARROW, 1)


def rows_of_the_left(x: Any) -> Any:
    return tc.sum(LEFT @ x, 0) + tc.sum(RIGHT @ x, 0)


def a_result_stays(x: Any) -> tuple[Any, ...]:
    return x @ Q, tc.sum(x @ K, 1)


def other_data(x: Any) -> Any:
    return tc.sum(x @ Q, 1) + tc.sum(tc.tanh(x) @ K, 1)


def images(x: Any) -> Any:
    a, b = tc.relu(tc.conv(x, C5, B5)), tc.relu(tc.conv(x, C7, B7))
    return tc.max_pool(a, (2, 2)).sum() + tc.max_pool(b, (2, 2)).sum()


def other_windows(x: Any) -> Any:
    return tc.max_pool(tc.conv(x, C7), (2, 2)).sum() + tc.max_pool(tc.conv(x, C3), (2, 2)).sum()


def parts_of_a_concatenation(x: Any) -> Any:
    return tc.relu(tc.concat([tc.conv(x, C5, B5), tc.conv(x, C7, B7)], axis=1))


def used_twice(x: Any) -> Any:
    a = x @ Q
    return tc.sum(a * tc.tanh(a), 1) + tc.amax(a, 1) + tc.sum(x @ K, 1)


CASES: list[tuple[Callable[..., Any], tuple[int, ...], int]] = [
    (projections, (7, 12), 1),
    (with_biases, (7, 12), 1),
    (other_activations, (7, 12), 2),
    (transposed, (7, 12), 2),
    (unlike_columns, (7, 12), 1),
    (rows_of_the_left, (5, 9), 1),
    (a_result_stays, (7, 12), 2),
    (other_data, (7, 12), 2),
    (images, (2, 5, 6, 6), 1),
    (other_windows, (2, 5, 6, 6), 2),
    (parts_of_a_concatenation, (2, 5, 6, 6), 2),
    (used_twice, (7, 12), 1),
]


@pytest.mark.parametrize("fn, shape, left", CASES, ids=[c[0].__name__ for c in CASES])
def test_siblings(fn: Callable[..., Any], shape: tuple[int, ...], left: int) -> None:
    module = tc.trace(fn, x=tc.spec("f32", shape))
    graph = MergeSiblings(get).run(module.graph, module.constants)
    verify(graph, operators=get, constants=module.constants)
    fixed = {c.name for c in graph.constants}
    assert sum(n.op in ("matmul", "conv") and any(i in fixed for i in n.inputs) for n in graph.nodes) == left
    x = f32(*shape)
    want = evaluate(module.graph, {module.graph.inputs[0].name: x}, operators=get, constants=module.constants)
    merged = evaluate(graph, {graph.inputs[0].name: x}, operators=get, constants=module.constants)
    for threads in (1, 2):
        got = tc.compile(module, threads=threads)(x)
        results = got if isinstance(got, tuple) else (got,)
        for a, before, after in zip(results, module.graph.outputs, graph.outputs, strict=True):
            np.testing.assert_allclose(merged[after.name], want[before.name], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(a, want[before.name], rtol=1e-3, atol=1e-3)
