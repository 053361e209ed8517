"""Concatenations: a nest for each part, with nothing to choose inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tcompiler as tc
import tcompiler.frontend.builder as tb
from tcompiler.ir.loop.text import parse_function
from tcompiler.schedule.rules.pieces import MOST

RNG = np.random.default_rng(3)


def compiled(function: Any, arrays: list[np.ndarray]) -> Any:
    return tc.compile(tb.trace(function, *(tb.spec("f32", a.shape) for a in arrays)), threads=1)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 17, 8), (16, 0, 5, 1), (7,) * 11])
def test_every_part_has_a_nest_of_its_own(axis: int, sizes: tuple[int, ...]) -> None:
    arrays = []
    for size in sizes:
        shape = [2, 5, 9]
        shape[axis] = size
        arrays.append(RNG.standard_normal(shape).astype(np.float32))

    def function(*parts: Any) -> Any:
        return tb.relu(tb.concatenate(list(parts), axis) * 2)

    model = compiled(function, arrays)
    np.testing.assert_array_equal(model(*arrays), np.maximum(np.concatenate(arrays, axis) * 2, 0))
    woven = axis == 2 and sizes == (1, 1)  # elements that lie in turn are interleaved in registers
    assert ("select(" in model.text("scheduled")) == woven


def test_parts_along_two_axes() -> None:
    arrays = [RNG.standard_normal(s).astype(np.float32) for s in ((4, 3), (4, 6), (5, 9))]

    def function(a: Any, b: Any, c: Any) -> Any:
        return tb.concatenate([tb.concatenate([a, b], 1), c], 0)

    model = compiled(function, arrays)
    a, b, c = arrays
    np.testing.assert_array_equal(model(*arrays), np.concatenate([np.concatenate([a, b], 1), c]))
    assert "select(" not in model.text("scheduled")


def test_a_choice_by_data_is_no_part() -> None:
    arrays = [RNG.standard_normal(s).astype(np.float32) for s in ((3, 7), (3, 7), (7,))]

    def function(a: Any, b: Any, c: Any) -> Any:
        return tb.where(a < c, a * b, c)

    a, b, c = arrays
    np.testing.assert_array_equal(compiled(function, arrays)(*arrays), np.where(a < c, a * b, c))


@pytest.mark.parametrize("count", [100, MOST + 50])
def test_many_parts(count: int) -> None:
    """Neither the text of so many choices nor the code for them nests too deep."""
    x = RNG.standard_normal((count, 6)).astype(np.float32)

    def function(x: Any) -> Any:
        return tb.concatenate([tb.exp(x[k : k + 1]) if k % 2 else x[k : k + 1].T.T for k in range(count)][::-1])

    model = compiled(function, [x])
    want = np.where(np.arange(count)[:, None] % 2, np.exp(x), x)[::-1]
    np.testing.assert_allclose(model(x), want, rtol=1e-6)
    for kernel in model.kernels:
        text = model.text("scheduled", kernel["name"])
        parse_function(text)
