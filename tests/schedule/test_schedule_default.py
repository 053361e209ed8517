"""The default schedule of shapes at the edge: what it makes verifies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.ir.loop.grammar import For, walk
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.pipeline import Compilation, compose_programs, lower_programs, run_graph_passes, schedule_functions
from tcompiler.target.named import get, host

CASES: dict[str, tuple[Callable[..., object], list[tuple[str, tuple[int, ...]]]]] = {
    "a row of lanes under loops of one iteration": (lambda a, b: a @ b, [("i64", (37,)), ("i64", (1, 37, 1))]),
    "rows that do not exist": (lambda a, b: a @ b, [("i64", (1, 1, 0, 31)), ("i64", (1, 3, 31, 17))]),
    "a sum of one row": (lambda a: tc.sum(a, axis=-1), [("f32", (1, 1, 1000))]),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", list(CASES))
def test_schedule_verifies(name: str, threads: int) -> None:
    fn, operands = CASES[name]
    specs = {f"x{k}": tc.spec(dtype, shape) for k, (dtype, shape) in enumerate(operands)}
    c = Compilation(tc.trace(lambda **named: fn(*named.values()), **specs), host(), threads)
    for stage in (run_graph_passes, compose_programs, lower_programs, schedule_functions):
        stage(c)
    for kernel in c.kernels.values():
        assert kernel.schedule is not None
        function = kernel.schedule.function
        verify(function)
        assert print_function(parse_function(print_function(function))) == print_function(function)


@pytest.mark.parametrize("dtype", ["u8", "f16", "f32"])
@pytest.mark.parametrize("channels", [4, 8, 16, 32])
def test_channels_are_brought_last(channels: int, dtype: str) -> None:
    module = tc.trace(lambda x: tc.transpose(x, (0, 2, 3, 1)), x=tc.spec(dtype, (1, channels, 5, 36)))
    model = tc.compile(module)
    x = (
        np.random.default_rng(0)
        .integers(0, 99, (1, channels, 5, 36))
        .astype({"u8": "uint8", "f16": "float16", "f32": "float32"}[dtype])
    )
    np.testing.assert_array_equal(model(x), x.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("channels, joined", [(8, True), (16, True), (32, False)])
def test_rows_that_would_be_put_together_from_short_pieces_are_tiles(channels: int, joined: bool) -> None:
    module = tc.trace(lambda x: tc.transpose(x, (0, 2, 3, 1)), x=tc.spec("u8", (1, channels, 9, 37)))
    c = Compilation(module, get("znver5"), 1)
    for stage in (run_graph_passes, compose_programs, lower_programs, schedule_functions):
        stage(c)
    (kernel,) = c.kernels.values()
    assert kernel.schedule is not None
    lanes = max(
        as_int(n.var.extent) or 0
        for n in walk(kernel.schedule.function.body)
        if isinstance(n, For) and n.kind == "vectorized"
    )
    assert (lanes > channels) == joined


@pytest.mark.parametrize("shape", [(1, 128, 96), (3, 61, 50), (2, 7, 130)])
def test_normalized_rows_that_are_written_across_go_in_tiles(shape: tuple[int, int, int]) -> None:
    """Four rows, or all of a few, are read side by side and turned in registers, not gathered element by element."""
    scale, shift = np.linspace(0.5, 1.5, 2 * shape[-1], dtype=np.float32).reshape(2, -1)
    module = tc.trace(
        lambda x, s, t: tc.transpose(tc.layer_norm(x, s, t, axis=-1), (0, 2, 1)),
        **{n: tc.spec("f32", e) for n, e in (("x", shape), ("s", shape[-1:]), ("t", shape[-1:]))},
    )
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    wide = x.astype(np.float64)
    wide = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5) * scale + shift
    for threads in (1, 2):
        found = tc.compile(module, threads=threads)(x, scale, shift)
        np.testing.assert_allclose(found, wide.transpose(0, 2, 1), rtol=1e-4, atol=1e-5)
    c = Compilation(module, get("znver5"), 1)
    for stage in (run_graph_passes, compose_programs, lower_programs, schedule_functions):
        stage(c)
    (kernel,) = c.kernels.values()
    assert kernel.schedule is not None
    last = [
        n for n in walk(kernel.schedule.function.body) if isinstance(n, For) and n.kind in ("unrolled", "vectorized")
    ]
    assert [n.kind for n in last[-2:]] == ["unrolled", "vectorized"] and as_int(last[-2].var.extent) in (2, 3, 4, 7)
