"""Slices are looked at where they lie, parts of concatenations are computed where they stand: nothing is copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.api import compile_stages
from tcompiler.frontend.module import GraphModule
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.graph.grammar import TensorType, tensor_type
from tcompiler.ir.graph.verify import verify
from tcompiler.ops.registry import get
from tcompiler.transform.parts import part_starts, reshaped, slice_starts, strides_of, with_strides


def f32(*shape: int) -> np.ndarray:
    """The same numbers for a shape, whichever tests run."""
    return np.random.default_rng([11, *shape]).standard_normal(shape).astype(np.float32)


K = {c: f32(c, 8, 1, 1) for c in (5, 16, 24)}
K3 = f32(16, 16, 3, 3)
WIDE = f32(24, 72)
ROW = f32(24, 10)


def t(*shape: int) -> TensorType:
    return tensor_type("f32", shape)


def test_parts_and_slices_are_found_by_structure() -> None:
    concat = get("concat").define([t(2, 3, 4), t(2, 5, 4), t(2, 1, 4)], {"axis": 1})
    assert sorted((part_starts(concat) or {}).values()) == [(0, 0, 0), (0, 3, 0), (0, 8, 0)]
    box = get("slice").define([t(2, 9)], {"axes": (1,), "starts": (2,), "sizes": (3,), "steps": ()})
    assert slice_starts(box) == (0, 2)
    steps = get("slice").define([t(2, 9)], {"axes": (1,), "starts": (2,), "sizes": (3,), "steps": (2,)})
    assert slice_starts(steps) is None
    assert part_starts(box) is None and slice_starts(concat) is None
    assert part_starts(get("where").define([tensor_type("bool", (4,)), t(4), t(4)], {})) is None
    assert part_starts(get("pad").define([t(4)], {"pads": (1, 1)})) is None


@pytest.mark.parametrize(
    "shape, order, strides, possible",
    [
        ((4, 6), (0, 1), (10, 1), True),
        ((4, 6), (1, 0), (1, 5), True),
        ((4, 6), (0, 1), (5, 1), False),
        ((4, 6), (0, 1), (12, 2), False),
        ((3, 4, 6), (0, 1, 2), (25, 6, 1), False),
        ((3, 4, 6), (0, 1, 2), (30, 6, 1), True),
        ((3, 1, 6), (0, 1, 2), (30, 7, 1), True),
    ],
)
def test_steps_become_layouts(
    shape: tuple[int, ...], order: tuple[int, ...], strides: tuple[int, ...], possible: bool
) -> None:
    laid = with_strides(t(*shape), order, strides)
    assert (laid is not None) == possible
    if laid is not None:
        assert all(a == b for a, b, e in zip(strides_of(laid), strides, shape, strict=True) if e != 1)


@pytest.mark.parametrize(
    "shape, strides, after, expected",
    [
        ((4, 6), (10, 1), (4, 2, 3), (10, 3, 1)),
        ((4, 6), (12, 1), (4, 2, 3), (12, 3, 1)),
        ((4, 6), (12, 1), (1, 4, 1, 6), (None, 12, None, 1)),
        ((4, 6), (12, 1), (24,), None),
        ((2, 2, 6), (24, 12, 1), (4, 6), (12, 1)),
        ((2, 2, 6), (36, 12, 1), (4, 6), None),
    ],
)
def test_steps_in_another_shape(
    shape: tuple[int, ...], strides: tuple[int, ...], after: tuple[int, ...], expected: tuple[int | None, ...] | None
) -> None:
    laid = with_strides(t(*shape), range(len(shape)), strides)
    assert laid is not None
    changed = reshaped(laid, t(*after))
    if expected is None or expected == (10, 3, 1):
        assert changed is None  # 10 is no multiple of 3
    else:
        assert changed is not None
        assert all(a == b for a, b in zip(strides_of(changed), expected, strict=True) if b is not None)


def branches(x: Any) -> Any:
    return tc.relu(tc.concat([tc.conv(x, K[c]) for c in K], axis=1)) * 2.0


def one_is_a_result(x: Any) -> tuple[Any, ...]:
    a, b = tc.conv(x, K[16]), tc.conv(x, K[24])
    return tc.concat([a, b], axis=1), a


def twice_the_same(x: Any) -> Any:
    a = tc.conv(x, K[16])
    return tc.concat([a, a], axis=1) + 1.0


def dense(x: Any) -> Any:
    """A chain of concatenations, each a part of the next one."""
    whole = tc.conv(x, K[16])
    for _ in range(3):
        whole = tc.concat([whole, tc.conv(tc.relu(whole[:, :16]), K3, pads=(1, 1, 1, 1))], axis=1)
    return tc.relu(whole)


def with_an_input(x: Any) -> Any:
    return tc.relu(tc.concat([x, tc.conv(x, K[5])], axis=1))


def the_result_itself(x: Any) -> Any:
    return tc.concat([tc.relu(tc.conv(x, K[5])), tc.conv(x, K[24])], axis=1)


def flattened_part(x: Any) -> tuple[Any, ...]:
    a = tc.conv(x, K[16])
    return tc.relu(tc.concat([a, tc.conv(x, K[5])], axis=1)), tc.reshape(a, (-1, 7)) @ f32(7, 3) * 0.0


def pooled(x: Any) -> Any:
    return tc.max_pool(tc.concat([tc.conv(x, K[5]), tc.conv(x, K[16])], axis=1), (3, 3), strides=(2, 2))


def along_rows(x: Any) -> Any:
    return tc.exp(tc.concat([tc.tanh(x), tc.sin(x), tc.cos(x)], axis=3))


IMAGES: list[tuple[Callable[..., Any], int]] = [
    (branches, 4),
    (one_is_a_result, 3),
    (twice_the_same, 2),
    (dense, 8),
    (with_an_input, 2),
    (the_result_itself, 2),
    (flattened_part, 4),
    (pooled, 3),
    (along_rows, 4),
]
WINDOWED = (pooled, flattened_part)
"""Their windows are larger than one element."""


def split_heads(x: Any) -> Any:
    """Queries, keys and values of one product."""
    y = x @ WIDE
    q, k, v = (tc.transpose(tc.reshape(y[:, :, 24 * n : 24 * n + 24], (2, 17, 4, 6)), (0, 2, 1, 3)) for n in range(3))
    return tc.transpose(tc.softmax(q @ tc.transpose(k, (0, 1, 3, 2)), -1) @ v, (0, 2, 1, 3))


def narrow_and_wide(x: Any) -> Any:
    y = tc.tanh(x @ ROW)
    return y[:, 2:7, 3:] * y[:, 4:9, 1:8]


def of_a_slice(x: Any) -> Any:
    y = tc.tanh(x)[:, 1:8]
    return tc.sum(y[:, 2:5, 4:20] + y[:, :3, 4:20], -1)


def slice_as_result(x: Any) -> Any:
    return tc.tanh(x @ ROW)[:, 2:7, 3:]


def reshaped_slice_as_result(x: Any) -> Any:
    return tc.reshape(tc.tanh(x)[:, :, :12], (2, 17, 3, 4))


def apart_and_together(x: Any) -> Any:
    y = tc.tanh(x @ ROW)
    return tc.concat([y[:, :, :3], y[:, :, 3:]], axis=2) + 1.0


ROWS: list[tuple[Callable[..., Any], int]] = [
    (split_heads, 2),
    (narrow_and_wide, 2),
    (of_a_slice, 2),
    (slice_as_result, 2),
    (reshaped_slice_as_result, 2),
    (apart_and_together, 2),
]


def check(module: GraphModule, x: np.ndarray, kernels: int) -> None:
    """Compiled on one thread and two beside the evaluator of the graph as it was traced."""
    inputs = {module.graph.inputs[0].name: x}
    wanted = evaluate(module.graph, inputs, operators=get, constants=module.constants)
    stages = compile_stages(module, "expr", threads=1)
    verify(stages.graph, operators=get, constants=module.constants)
    assert len(stages.steps) == kernels
    for threads in (1, 2):
        got = tc.compile(module, threads=threads)(x)
        results = got if isinstance(got, tuple) else (got,)
        for a, v in zip(results, module.graph.outputs, strict=True):
            scale = max(float(np.abs(wanted[v.name]).max(initial=0.0)), 1.0)
            np.testing.assert_allclose(a, wanted[v.name], rtol=2e-4, atol=2e-5 * scale)


@pytest.mark.parametrize(
    "batch, size, fn, kernels",
    [
        (batch, size, *image)
        for batch, size in ((1, 7), (2, 7), (1, 1))
        for image in IMAGES
        if size > 1 or image[0] not in WINDOWED
    ],
)
def test_images(batch: int, size: int, fn: Callable[..., Any], kernels: int) -> None:
    module = tc.trace(fn, x=tc.spec("f32", (batch, 8, size, size)))
    check(module, f32(batch, 8, size, size), kernels)


@pytest.mark.parametrize("fn, kernels", ROWS)
def test_rows(fn: Callable[..., Any], kernels: int) -> None:
    check(tc.trace(fn, x=tc.spec("f32", (2, 17, 24))), f32(2, 17, 24), kernels)
