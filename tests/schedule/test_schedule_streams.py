"""Short axes that move to or from the innermost place: right for every size and type, and in streams where they fit."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.ir.loop.grammar import For, walk
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.pipeline import Compilation, compose_programs, lower_programs, run_graph_passes, schedule_functions
from tcompiler.schedule.schedule import replay
from tcompiler.target.named import get

DTYPES = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "u8": np.uint8, "i64": np.int64, "bool": np.bool_}
RNG = np.random.default_rng(7)


def numbers(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return RNG.integers(0, 2 if dtype == "bool" else 100, shape).astype(DTYPES[dtype])


def tiles(module: Any, target: str) -> set[tuple[int, int]]:
    """The extents of unrolled loops right around vectorized ones, and of these; the trace is replayed on the way."""
    c = Compilation(module, get(target), 1)
    for stage in (run_graph_passes, compose_programs, lower_programs, schedule_functions):
        stage(c)
    found: set[tuple[int, int]] = set()
    for kernel in c.kernels.values():
        sch = kernel.schedule
        assert sch is not None
        assert replay(sch.start, sch.trace).trace.to_python() == sch.trace.to_python()
        for n in walk(sch.function.body):
            if isinstance(n, For) and n.kind == "unrolled" and isinstance(n.body, For) and n.body.kind == "vectorized":
                found.add((as_int(n.var.extent) or 0, as_int(n.body.var.extent) or 0))
    return found


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 17])
@pytest.mark.parametrize("target", ["host", "x86-64-v3"])
def test_channels_first_and_last(dtype: str, channels: int, target: str) -> None:
    for size in ((9, 37), (1, 5), (16, 16)):
        for shape, order in (((2, channels, *size), (0, 2, 3, 1)), ((2, *size, channels), (0, 3, 1, 2))):
            x = numbers(dtype, shape)
            graph = tc.trace(partial(tc.transpose, axes=order), x=tc.spec(dtype, shape))
            model = tc.compile(graph, target, threads=2)
            np.testing.assert_array_equal(model(x), x.transpose(order))


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_any_axes(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rank = int(draw.integers(2, 6))
    shape = [int(n) for n in draw.choice([1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17], rank)]
    shape[int(draw.integers(rank))] = int(draw.choice([0, 1, 31, 64, 97, 131, 257]))
    order = tuple(int(k) for k in draw.permutation(rank))
    dtype = str(draw.choice(list(DTYPES)))
    x = numbers(dtype, tuple(shape))
    model = tc.compile(tc.trace(lambda x: tc.transpose(x, order), x=tc.spec(dtype, tuple(shape))), threads=2)
    np.testing.assert_array_equal(model(x), x.transpose(order))


@pytest.mark.parametrize("target, lanes", [("znver5", 16), ("znver3", 8)])
@pytest.mark.parametrize("count", [2, 3, 4, 7, 8])
def test_streams_go_in_vectors_along_them(count: int, target: str, lanes: int) -> None:
    last = tc.trace(lambda x: tc.transpose(x, (1, 0)), x=tc.spec("f32", (count, 1000)))
    first = tc.trace(lambda x: tc.transpose(x, (1, 0)), x=tc.spec("f32", (1000, count)))
    assert (count, lanes) in tiles(last, target) and (count, lanes) in tiles(first, target)


def test_more_streams_than_registers_hold_are_tiles() -> None:
    module = tc.trace(lambda x: tc.transpose(x, (1, 0)), x=tc.spec("f32", (1000, 12)))
    assert (12, 16) in tiles(module, "znver5") and (12, 8) not in tiles(module, "znver3")


@pytest.mark.parametrize("size", [(5, 7), (32, 33)])
def test_images_of_bytes(size: tuple[int, int]) -> None:
    """The first step of many vision models: bytes, colours last, to scaled floats, colours first; and back."""
    shape = (2, *size, 3)
    x, scale, shift = numbers("u8", shape), np.float32([0.5, 0.25, 2.0]), np.float32([-1, 2, 3])
    s, t = scale.reshape(1, 3, 1, 1), shift.reshape(1, 3, 1, 1)
    named = {n: tc.spec("f32", (1, 3, 1, 1)) for n in ("s", "t")}
    module = tc.trace(
        lambda x, s, t: tc.cast(tc.transpose(x, (0, 3, 1, 2)), "f32") * s + t, x=tc.spec("u8", shape), **named
    )
    floats = x.transpose(0, 3, 1, 2).astype(np.float32) * s + t
    np.testing.assert_array_equal(tc.compile(module, threads=1)(x, s, t), floats)
    assert (3, 64) in tiles(module, "znver5") or size == (5, 7)
    module = tc.trace(
        lambda y, s, t: tc.cast(tc.transpose((y - t) / s, (0, 2, 3, 1)), "u8"),
        y=tc.spec("f32", floats.shape),
        **named,
    )
    np.testing.assert_array_equal(tc.compile(module, threads=1)(floats, s, t), x)


@pytest.mark.parametrize("target", ["znver5", "znver3"])
def test_some_of_the_streams(target: str) -> None:
    """Three colours of four, to planes and as they lie."""
    x = numbers("u8", (2, 5, 131, 4))
    spec = tc.spec("u8", x.shape)
    module = tc.trace(lambda x: tc.transpose(x[:, :, :, 1:4], (0, 3, 1, 2)), x=spec)
    np.testing.assert_array_equal(tc.compile(module, threads=1)(x), x[..., 1:].transpose(0, 3, 1, 2))
    assert any(count == 3 for count, _ in tiles(module, target))
    module = tc.trace(lambda x: x[:, :, :, :3] + x[:, :, :, 1:], x=spec)
    np.testing.assert_array_equal(tc.compile(module, threads=1)(x), x[..., :3] + x[..., 1:])
    assert any(count == 3 for count, _ in tiles(module, target))


@pytest.mark.parametrize("widths", [(1, 1), (1, 1, 1), (2, 1), (3, 4), (1,) * 9, (2, 3, 0, 1), (20, 1)])
@pytest.mark.parametrize("rows", [1, 2, 13, 130])
def test_parts_side_by_side(widths: tuple[int, ...], rows: int) -> None:
    arrays = [numbers("f32", (3, rows, n)) for n in widths]
    module = tc.trace(
        lambda **parts: tc.concatenate(list(parts.values()), 2),
        **{f"x{k}": tc.spec("f32", a.shape) for k, a in enumerate(arrays)},
    )
    np.testing.assert_array_equal(tc.compile(module, threads=1)(*arrays), np.concatenate(arrays, 2))
    if max(widths) <= 4 and rows == 130:
        assert (sum(widths), 16) in tiles(module, "znver5")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("block", [2, 3, 4])
def test_places_of_blocks(block: int, seed: int) -> None:
    """Depth to space and back: every block of places from channels, which are read or written in turn."""
    draw = np.random.default_rng(seed)
    c, h, w = (int(n) for n in draw.integers(1, [4, 6, 40]))
    small, large = (1, c * block * block, h, w), (1, c, h * block, w * block)
    split = (1, c, block, block, h, w)
    up, down = (0, 1, 4, 2, 5, 3), (0, 1, 3, 5, 2, 4)
    x = numbers("f32", small)
    back = (1, c, h, block, w, block)
    module = tc.trace(lambda x: tc.reshape(tc.transpose(tc.reshape(x, split), up), large), x=tc.spec("f32", small))
    y = tc.compile(module, threads=1)(x)
    np.testing.assert_array_equal(y, x.reshape(split).transpose(up).reshape(large))
    module = tc.trace(lambda x: tc.reshape(tc.transpose(tc.reshape(x, back), down), small), x=tc.spec("f32", large))
    np.testing.assert_array_equal(tc.compile(module, threads=1)(np.asarray(y)), x)
