"""Layouts of the tensors inside a program."""

from __future__ import annotations

import pytest

from tcompiler.ir.expr.grammar import Program, tensors
from tcompiler.ir.expr.text import parse_program
from tcompiler.ir.layout import Layout, permutation
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.lower.function import lower


def convolution(channels: int) -> Program:
    return parse_program(f"""@expr.program
def convolution(x: f32[1, {channels}, 6, 7], w: f32[8, {channels}, 3, 3]):
    pad = compute(f32[1, {channels}, 8, 9], lambda n, c, h, i: select((h >= 1) & (h < 7) & (i >= 1) & (i < 8), x[n, c, h - 1, i - 1], f32(0.0)))
    y = reduce(sum, f32[1, 8, 6, 7], ({channels}, 3, 3), lambda n, k, h, i, c, r, s: pad[n, c, h + r, i + s] * w[k, c, r, s])
    return y
""")  # noqa: E501


@pytest.mark.parametrize(("channels", "shape"), [(16, [1, 8, 9, 16]), (3, [1, 3, 8, 9])])
def test_padded_data_lie_as_the_sums_do(channels: int, shape: list[int]) -> None:
    """Channels that fill a cache line go last where the result's do; fewer are not worth a transposition."""
    program = convolution(channels)
    y = tensors(program)["y"]
    last = Layout(permutation((0, 2, 3, 1)), tuple(y.shape[a] for a in (0, 2, 3, 1)), False)
    buffers = {b.name: [as_int(e) for e in b.shape] for b in lower(program, {"y": last}).buffers}
    assert buffers["y"] == [1, 6, 7, 8]
    assert buffers["pad"] == shape
    assert buffers["x"] == [1, channels, 6, 7]
