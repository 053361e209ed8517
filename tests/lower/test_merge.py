"""Axes that only occur side by side become one; the elements stay where they are in memory."""

from __future__ import annotations

import numpy as np
import pytest

from tcompiler.ir.expr.evaluate import evaluate
from tcompiler.ir.expr.grammar import Program, tensors
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.expr.verify import verify
from tcompiler.ir.layout import Layout, permutation
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.lower.function import lower
from tcompiler.lower.merge import merge_axes

POINTWISE = """@expr.program
def pointwise(x: f32[2, 3, 4, 5], w: f32[6, 3], b: f32[6]):
    acc = reduce(sum, f32[2, 6, 4, 5], (3,), lambda n, k, h, i, c: x[n, c, h, i] * w[k, c])
    y = compute(f32[2, 6, 4, 5], lambda n, k, h, i: max(acc[n, k, h, i] + b[k], f32(0.0)))
    return y
"""
STEPS = """@expr.program
def steps(x: f32[3, 7, 9], w: f32[6, 3]):
    t = compute(f32[3, 4, 5], lambda c, h, i: x[c, h * 2, i * 2])
    y = reduce(sum, f32[6, 4, 5], (3,), lambda k, h, i, c: t[c, h, i] * w[k, c])
    return y
"""
WINDOW = """@expr.program
def window(x: f32[2, 3, 6, 7], w: f32[6, 3, 3, 3]):
    y = reduce(sum, f32[2, 6, 4, 5], (3, 3, 3), lambda n, k, h, i, c, r, s: x[n, c, h + r, i + s] * w[k, c, r, s])
    return y
"""
POOL = """@expr.program
def pool(x: f32[2, 3, 4, 5]):
    y = reduce(sum, f32[2, 3], (4, 5), lambda n, c, h, i: x[n, c, h, i])
    return y
"""
TRANSPOSED = """@expr.program
def transposed(x: f32[4, 5], y: f32[5, 4]):
    z = reduce(sum, f32[()], (4, 5), lambda i, j: x[i, j] * y[j, i])
    return z
"""
POSITION = """@expr.program
def position(x: f32[4, 5]):
    z = reduce(max, f32[()], (4, 5), lambda i, j: select(i < 2, x[i, j], f32(0.0)))
    return z
"""
PART = """@expr.program
def part(x: f32[4, 6]):
    z = reduce(max, f32[()], (4, 5), lambda i, j: x[i, j])
    return z
"""

COPY = """@expr.program
def copy(x: f32[4, 5, 3, 2]):
    y = compute(f32[3, 2, 4, 5], lambda a, b, c, d: x[c, d, a, b])
    return y
"""
REVERSED = """@expr.program
def backwards(x: f32[4, 5, 3]):
    y = compute(f32[3, 5, 4], lambda a, b, c: x[c, b, a])
    return y
"""


def shapes(program: Program) -> dict[str, list[int | None]]:
    return {name: [as_int(e) for e in t.shape] for name, t in tensors(program).items()}


def merged(source: str, layouts: dict[str, Layout] | None = None) -> Program:
    """The merged program, which gives the same values."""
    before = parse_program(source)
    after, _ = merge_axes(before, layouts or {})
    verify(after)
    assert print_program(parse_program(print_program(after))) == print_program(after)
    rng = np.random.default_rng(0)
    arrays = {t.name: rng.standard_normal([as_int(e) for e in t.shape]).astype(np.float32) for t in before.inputs}
    flat = {t.name: arrays[t.name].reshape([as_int(e) or 0 for e in t.shape]) for t in after.inputs}
    expected, found = evaluate(before, arrays), evaluate(after, flat)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name].reshape(array.shape), array, rtol=1e-6, atol=1e-6)
    return after


def test_a_pointwise_convolution_is_a_batch_of_matrix_products() -> None:
    assert shapes(merged(POINTWISE)) == {
        "x": [2, 3, 20],
        "w": [6, 3],
        "b": [6],
        "acc": [2, 6, 20],
        "y": [2, 6, 20],
    }


def test_channels_last_too() -> None:
    program = parse_program(POINTWISE)
    order = (0, 2, 3, 1)
    layouts = {
        n: Layout(permutation(order), tuple(t.shape[a] for a in order), False)
        for n, t in tensors(program).items()
        if len(t.shape) == 4
    }
    function = lower(program, layouts)
    assert {b.name: [as_int(e) for e in b.shape] for b in function.buffers} == {
        "x": [2, 20, 3],
        "w": [6, 3],
        "b": [6],
        "acc": [2, 20, 6],
        "y": [2, 20, 6],
    }


def test_a_map_computes_its_axes_from_the_merged_one() -> None:
    after = merged(STEPS)
    assert shapes(after) == {"x": [3, 7, 9], "w": [6, 3], "t": [3, 20], "y": [6, 20]}


def test_windows_stay() -> None:
    program = parse_program(WINDOW)
    assert merge_axes(program, {})[0] is program


def test_reduce_axes_merge() -> None:
    assert shapes(merged(POOL)) == {"x": [6, 20], "y": [6]}


def test_a_transposition_of_many_axes_is_one_of_two() -> None:
    after = merged(COPY)
    assert shapes(after) == {"x": [20, 6], "y": [6, 20]}


@pytest.mark.parametrize("source", [TRANSPOSED, POSITION, PART, REVERSED])
def test_axes_used_apart_stay(source: str) -> None:
    program = parse_program(source)
    assert merge_axes(program, {})[0] is program


def test_a_layout_that_keeps_dimensions_apart() -> None:
    program = parse_program(POOL)
    x = program.inputs[0]
    apart = Layout(permutation((0, 2, 1, 3)), tuple(x.shape[a] for a in (0, 2, 1, 3)), False)
    after, layouts = merge_axes(program, {"x": apart})
    assert after is program and layouts == {"x": apart}
