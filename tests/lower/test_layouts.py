"""Layouts of the tensors inside a program."""

from __future__ import annotations

import pytest

from tcompiler.ir.expr.grammar import Program, tensors
from tcompiler.ir.expr.text import parse_program
from tcompiler.ir.layout import Layout, permutation
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.lower.function import lower
from tcompiler.target.named import NAMED
from tcompiler.target.tile import hides_lines


def convolution(channels: int, dtype: str = "f32") -> Program:
    return parse_program(f"""@expr.program
def convolution(x: {dtype}[1, {channels}, 6, 7], w: {dtype}[8, {channels}, 3, 3]):
    pad = compute({dtype}[1, {channels}, 8, 9], lambda n, c, h, i: select((h >= 1) & (h < 7) & (i >= 1) & (i < 8), x[n, c, h - 1, i - 1], {dtype}(0.0)))
    y = reduce(sum, {dtype}[1, 8, 6, 7], ({channels}, 3, 3), lambda n, k, h, i, c, r, s: pad[n, c, h + r, i + s] * w[k, c, r, s])
    return y
""")  # noqa: E501


def channels_last(program: Program, name: str) -> Layout:
    shape = tensors(program)[name].shape
    return Layout(permutation((0, 2, 3, 1)), tuple(shape[a] for a in (0, 2, 3, 1)), False)


@pytest.mark.parametrize(
    ("channels", "dtype", "shape"),
    [(16, "f32", [1, 8, 16, 9]), (3, "f32", [1, 3, 8, 9]), (16, "bf16", [1, 8, 9, 16])],
)
def test_padded_lines_of_an_image_stay_lines(channels: int, dtype: str, shape: list[int]) -> None:
    """Channels that fill a cache line lie line beside line where the result has them last.

    Fewer stay planes; narrow numbers are multiplied in pairs of channels, which then lie side by side.
    """
    program = convolution(channels, dtype)
    buffers = {b.name: [as_int(e) for e in b.shape] for b in lower(program, {"y": channels_last(program, "y")}).buffers}
    assert buffers["y"] == [1, 6, 7, 8]
    assert buffers["pad"] == shape
    assert buffers["x"] == [1, channels, 6, 7]


def test_padded_lines_are_transposed_where_steps_would_wait_for_them() -> None:
    program = convolution(16)
    function = lower(program, {"y": channels_last(program, "y")}, lines=False)
    assert {b.name: [as_int(e) for e in b.shape] for b in function.buffers}["pad"] == [1, 8, 9, 16]


@pytest.mark.parametrize(
    ("name", "hidden"), [("x86-64-v3", False), ("znver3", False), ("skylake-avx512", True), ("znver5", True)]
)
def test_wide_tiles_hide_the_lines_of_their_steps(name: str, hidden: bool) -> None:
    assert hides_lines(NAMED[name]) == hidden


def test_padded_data_lie_as_the_data_do() -> None:
    """What has channels last before it is padded has them last behind it."""
    program = convolution(16)
    layouts = {"x": channels_last(program, "x"), "y": channels_last(program, "y")}
    buffers = {b.name: [as_int(e) for e in b.shape] for b in lower(program, layouts).buffers}
    assert buffers["pad"] == [1, 8, 9, 16]
