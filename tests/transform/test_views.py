"""What only looks at the same memory makes no kernel, and nothing is copied for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.api import compile_stages
from tcompiler.ir.graph.grammar import tensor_type
from tcompiler.ops.registry import get
from tcompiler.transform.definitions import is_view

RNG = np.random.default_rng(4)
W = RNG.standard_normal((24, 24)).astype(np.float32)


@pytest.mark.parametrize(
    "before, after",
    [((1, 6, 8), (1, 6, 2, 4)), ((1, 6, 2, 4), (1, 6, 8)), ((1, 1, 5), (5,)), ((2, 1, 6), (12,)), ((1,), (1, 1))],
)
def test_reshapes_are_views(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    assert is_view(get("reshape").define([tensor_type("f32", before)], {"shape": after}))


def test_a_transpose_is_none() -> None:
    assert not is_view(get("transpose").define([tensor_type("f32", (1, 2, 3))], {"perm": (0, 2, 1)}))


def heads(x: Any) -> Any:
    """A product in row-major order whose rows are taken apart, and together again."""
    y = (x @ W).reshape(1, 7, 4, 6)
    return (tc.transpose(y, (0, 2, 1, 3)).transpose(0, 2, 1, 3) * 2.0).reshape(1, 7, 24) @ W


def test_products_are_not_copied_for_a_view() -> None:
    module = tc.trace(heads, x=tc.spec("f32", (1, 7, 24)))
    kernels = compile_stages(module, "expr", threads=1).kernels
    assert len(kernels) == 2
    x = RNG.standard_normal((1, 7, 24)).astype(np.float32)
    want = 2 * (x.astype(np.float64) @ W) @ W
    np.testing.assert_allclose(tc.compile(module, threads=1)(x), want, rtol=1e-4, atol=1e-4)
