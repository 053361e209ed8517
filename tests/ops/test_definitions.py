"""Definitions of contractions, reductions and movements against numpy, on odd sizes; all operators have a test."""

import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tcompiler.ir.expr.hash import structural_hash
from tcompiler.ir.expr.verify import verify
from tcompiler.ops import registry
from tcompiler.ops.evaluate import evaluate, type_of
from tests.ops.checking import close, f32, run

RNG = np.random.default_rng(20240611)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 7), (7, 3)),
        ((1, 1), (1, 1)),
        ((7,), (7,)),
        ((7,), (7, 3)),
        ((5, 7), (7,)),
        ((4, 5, 7), (7, 3)),
        ((2, 1, 5, 7), (3, 7, 2)),
        ((5, 0), (0, 3)),
        ((0, 7), (7, 3)),
    ],
)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = f32(*a), f32(*b)
    close(run("matmul", [x, y]), np.matmul(x.astype(np.float64), y))
    i, j = (RNG.integers(-9, 9, s).astype(np.int32) for s in (a, b))
    np.testing.assert_array_equal(run("matmul", [i, j]), np.matmul(i, j))


def test_matmul_of_halves_accumulates_in_f32() -> None:
    ones = np.ones((1, 4096), np.float16)
    assert run("matmul", [ones, ones.T.copy()]).item() == 4096
    x, y = f32(3, 50).astype(ml_dtypes.bfloat16), f32(50, 2).astype(ml_dtypes.bfloat16)
    close(run("matmul", [x, y]), x.astype(np.float64) @ y.astype(np.float64), 1e-2)


@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("c", [None, (), (3,), (5, 1), (5, 3)])
def test_gemm(trans_a: bool, trans_b: bool, c: tuple[int, ...] | None) -> None:
    a, b = f32(5, 7), f32(7, 3)
    bias = None if c is None else f32(*c)
    inputs = [a.T.copy() if trans_a else a, b.T.copy() if trans_b else b, bias]
    extra = 0 if bias is None else bias.astype(np.float64)
    close(run("gemm", inputs, trans_a=trans_a, trans_b=trans_b), a.astype(np.float64) @ b + extra)
    scaled = run("gemm", inputs, trans_a=trans_a, trans_b=trans_b, alpha=0.5, beta=-2.0)
    close(scaled, 0.5 * (a.astype(np.float64) @ b) - 2 * extra)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ik,kj->ij", [(5, 7), (7, 3)]),
        ("ij,jk", [(5, 7), (7, 3)]),
        ("bij,bjk->bik", [(2, 5, 7), (2, 7, 3)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 5, 7), (2, 3, 4, 7)]),
        ("ij->ji", [(3, 5)]),
        ("ij->", [(3, 5)]),
        ("ii->i", [(5, 5)]),
        ("ii", [(5, 5)]),
        ("i,j->ij", [(3,), (5,)]),
        ("...ij,...jk->...ik", [(2, 1, 5, 7), (3, 7, 2)]),
        ("...,...", [(2, 3), (3,)]),
        ("ab,bc,cd->ad", [(2, 3), (3, 5), (5, 7)]),
        ("ij,ij,jk,k->i", [(3, 5), (3, 5), (5, 2), (2,)]),
        ("aij,bjk->abk", [(1, 3, 5), (2, 5, 2)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = [f32(*s) for s in shapes]
    close(run("einsum", arrays, equation=equation), np.einsum(equation, *(a.astype(np.float64) for a in arrays)), 5e-6)


def hashed(op: str, *shapes: tuple[int, ...], **attrs: Any) -> str:
    return structural_hash(registry.get(op).define([type_of(np.zeros(s, np.float32)) for s in shapes], attrs))


def test_one_program_for_one_contraction() -> None:
    plain = hashed("matmul", (5, 7), (7, 3))
    assert hashed("einsum", (5, 7), (7, 3), equation="ik,kj->ij") == plain
    assert hashed("einsum", (5, 7), (7, 3), equation="XY, YZ -> XZ") == plain
    assert hashed("gemm", (5, 7), (7, 3)) == plain
    batched = hashed("matmul", (2, 5, 7), (2, 7, 3))
    assert hashed("einsum", (2, 5, 7), (2, 7, 3), equation="bik,bkj->bij") == batched
    assert hashed("einsum", (2, 5, 7), (2, 7, 3), equation="...ik,...kj->...ij") == batched
    transposed = hashed("gemm", (5, 7), (3, 7), trans_b=True)
    assert hashed("einsum", (5, 7), (3, 7), equation="ik,jk->ij") == transposed
    assert len({plain, batched, transposed, hashed("matmul", (5, 7), (7, 4))}) == 4


REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "sum": np.sum,
    "prod": np.prod,
    "mean": np.mean,
    "amax": np.max,
    "amin": np.min,
    "sum_square": lambda x, **k: np.sum(x * x, **k),
    "l1_norm": lambda x, **k: np.sum(np.abs(x), **k),
    "l2_norm": lambda x, **k: np.sqrt(np.sum(x * x, **k)),
    "log_sum": lambda x, **k: np.log(np.sum(x, **k)),
    "log_sum_exp": lambda x, **k: np.log(np.sum(np.exp(x), **k)),
}


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(op: str, keepdims: bool) -> None:
    x = np.abs(f32(3, 1, 7)) + 0.1
    for axes in ((0,), (2,), (-1, 0), (0, 1, 2), ()):
        want = REDUCTIONS[op](x.astype(np.float64), axis=axes, keepdims=keepdims)
        close(run(op, [x], axes=axes, keepdims=keepdims), want, 1e-5)


def test_reductions_of_nothing_and_of_integers() -> None:
    empty = f32(2, 0)
    assert run("sum", [empty], axes=(1,)).tolist() == [0, 0]
    assert run("prod", [empty], axes=(1,)).tolist() == [1, 1]
    assert run("amax", [empty], axes=(1,)).tolist() == [-np.inf, -np.inf]
    assert np.isnan(run("mean", [empty], axes=(1,))).all()
    x = RNG.integers(-9, 9, (3, 5)).astype(np.int32)
    np.testing.assert_array_equal(run("sum", [x], axes=(1,)), x.sum(1, dtype=np.int32))
    np.testing.assert_array_equal(run("all", [x > 0], axes=(0,)), (x > 0).all(0))
    np.testing.assert_array_equal(run("any", [x > 0], axes=(0,)), (x > 0).any(0))
    assert np.isnan(run("amax", [np.array([1, np.nan], np.float32)], axes=(0,)))


def test_log_sum_exp_does_not_overflow() -> None:
    x = np.array([[1000, 1000], [-np.inf, -np.inf], [np.inf, 0]], np.float32)
    close(run("log_sum_exp", [x], axes=(1,)), [1000 + math.log(2), -np.inf, np.inf])


@pytest.mark.parametrize("op", ["argmax", "argmin"])
def test_arg_reductions(op: str) -> None:
    x = RNG.integers(0, 3, (3, 7, 2)).astype(np.float32)
    reference = np.argmax if op == "argmax" else np.argmin
    for axis in (0, 1, -1):
        np.testing.assert_array_equal(run(op, [x], axis=axis), reference(x, axis))
        np.testing.assert_array_equal(run(op, [x], axis=axis, keepdims=True), reference(x, axis, keepdims=True))
        last = x.shape[axis] - 1 - reference(np.flip(x, axis), axis)
        np.testing.assert_array_equal(run(op, [x], axis=axis, last=True), last)
    x[1, 3] = np.nan
    np.testing.assert_array_equal(run(op, [x], axis=1), reference(x, 1))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_softmax() -> None:
    x = 50 * f32(3, 7, 2)
    y = x.astype(np.float64)
    for axis in (0, 1, -1):
        close(run("softmax", [x], axis=axis), softmax(y, axis))
        close(run("log_softmax", [x], axis=axis), np.log(softmax(y, axis) + 1e-300), 1e-5)
    close(run("softmax", [f32(4, 1)]), np.ones((4, 1)))


def test_normalizations() -> None:
    x, scale, bias, mean, variance = f32(2, 6, 5, 3), f32(6), f32(6), f32(6), np.abs(f32(6))
    y = x.astype(np.float64)
    wide = [p.astype(np.float64).reshape(6, 1, 1) for p in (scale, bias, mean, variance)]
    want = (y - wide[2]) / np.sqrt(wide[3] + 1e-3) * wide[0] + wide[1]
    close(run("batch_norm", [x, scale, bias, mean, variance], epsilon=1e-3), want, 1e-5)
    grouped = y.reshape(2, 3, 2 * 5 * 3)
    grouped = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
    close(run("group_norm", [x, scale, bias], groups=3), grouped.reshape(x.shape) * wide[0] + wide[1], 1e-5)
    single = (y - y.mean((2, 3), keepdims=True)) / np.sqrt(y.var((2, 3), keepdims=True) + 1e-5)
    close(run("group_norm", [x], groups=6), single, 1e-5)
    s, b = f32(5, 3), f32(3)
    trailing = (y - y.mean((2, 3), keepdims=True)) / np.sqrt(y.var((2, 3), keepdims=True) + 1e-5)
    close(run("layer_norm", [x, s, b], axis=2), trailing * s + b, 1e-5)
    last = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
    close(run("layer_norm", [x, None, b]), last + b, 1e-5)
    close(run("rms_norm", [x, b]), y / np.sqrt((y * y).mean(-1, keepdims=True) + 1e-5) * b, 1e-5)
    padded = np.pad(y * y, ((0, 0), (1, 1), (0, 0), (0, 0)))
    around = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    close(run("lrn", [x], size=3, alpha=0.3, beta=0.75, bias=2.0), y / (2 + 0.1 * around) ** 0.75, 1e-5)
    x[0, :, 0, 0] = 0
    y = x.astype(np.float64)
    for p in (1, 2):
        norm = np.linalg.norm(y, p, axis=1, keepdims=True)
        close(run("lp_normalize", [x], axis=1, p=p), np.where(norm == 0, 0, y / np.where(norm == 0, 1, norm)), 1e-5)


def test_layer_norm_does_not_cancel() -> None:
    x = (1e4 + f32(1, 256)).astype(np.float32)
    y = x.astype(np.float64)
    want = (y - y.mean()) / np.sqrt(y.var() + 1e-5)
    close(run("layer_norm", [x]), want, 5e-2)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((6, 4), (24,)),
        ((24,), (2, 3, 4)),
        ((2, 3, 4), (6, 4)),
        ((2, 3, 4), (4, 6)),
        ((3, 5, 7), (7, 15)),
        ((1, 6, 1), (2, 1, 3)),
        ((), (1, 1)),
        ((2, 0, 3), (0, 5)),
        ((4, 6, 5), (2, 2, 3, 2, 5)),
        ((6, 35), (14, 15)),
        ((12, 7), (3, -1, 7)),
    ],
)
def test_reshape(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    x = f32(*source)
    np.testing.assert_array_equal(run("reshape", [x], shape=target), x.reshape(target))


def test_data_movement() -> None:
    x = f32(3, 5, 7)
    np.testing.assert_array_equal(run("transpose", [x], perm=(2, 0, 1)), x.transpose(2, 0, 1))
    np.testing.assert_array_equal(run("transpose", [np.float32(3)], perm=()), np.float32(3))
    parts = [f32(2, n, 3) for n in (1, 0, 4, 2)]
    np.testing.assert_array_equal(run("concat", parts, axis=1), np.concatenate(parts, 1))
    np.testing.assert_array_equal(run("concat", parts[1:2], axis=-2), parts[1])
    got = run("slice", [x], axes=(0, 2), starts=(2, 1), sizes=(2, 3), steps=(-1, 2))
    np.testing.assert_array_equal(got, x[2:0:-1, :, 1:7:2])
    assert run("slice", [x], axes=(1,), starts=(0,), sizes=(0,)).shape == (3, 0, 7)
    np.testing.assert_array_equal(
        run("expand", [x[:, :1]], shape=(2, 3, 4, 7)), np.broadcast_to(x[:, :1], (2, 3, 4, 7))
    )
    np.testing.assert_array_equal(run("tile", [x], repeats=(2, 1, 3)), np.tile(x, (2, 1, 3)))
    for k in (-2, 0, 1):
        np.testing.assert_array_equal(run("trilu", [x], k=k), np.triu(x, k))
        np.testing.assert_array_equal(run("trilu", [x], k=k, upper=False), np.tril(x, k))


def test_pad() -> None:
    x = f32(3, 5)
    for mode in ("constant", "edge", "reflect", "wrap"):
        np.testing.assert_array_equal(run("pad", [x], pads=(1, 0, 2, 4), mode=mode), np.pad(x, ((1, 2), (0, 4)), mode))
    np.testing.assert_array_equal(
        run("pad", [x], pads=(-1, 1, 0, -2), value=9.0), np.pad(x[1:, :3], ((0, 0), (1, 0)), constant_values=9)
    )
    np.testing.assert_array_equal(run("pad", [x], pads=(0, 7, 0, 8), mode="wrap"), np.pad(x, ((0, 0), (7, 8)), "wrap"))


def test_gathers() -> None:
    x = f32(3, 5, 7)
    at = np.array([[1, -1], [0, -5]])
    np.testing.assert_array_equal(run("gather", [x, at], axis=1), np.take(x, at, 1))
    np.testing.assert_array_equal(run("gather", [x, np.int32(2)], axis=-1), x[..., 2])
    places = RNG.integers(-5, 5, (3, 4, 7))
    np.testing.assert_array_equal(run("gather_elements", [x, places], axis=1), np.take_along_axis(x, places, 1))
    tuples = np.array([[[0, -1]], [[2, 3]]])
    np.testing.assert_array_equal(run("gather_nd", [x, tuples]), x[tuples[..., 0], tuples[..., 1]])
    batched = np.array([[1], [0], [4]])
    want = np.stack([x[k, batched[k, 0]] for k in range(3)])
    np.testing.assert_array_equal(run("gather_nd", [x, batched], batch_dims=1), want)
    one_hot = run("one_hot", [np.array([[1, -1]]), np.array([2, 9], np.int32)], depth=3, axis=1)
    assert one_hot.tolist() == [[[2, 2], [9, 2], [2, 9]]]


def test_a_gather_outside_reads_the_nearest() -> None:
    x = np.arange(5, dtype=np.float32)
    assert run("gather", [x, np.array([9, -9])]).tolist() == [4, 0]


def test_scatters() -> None:
    x = f32(4, 3)
    at = np.array([[1, -1, 0], [0, 3, 1]])
    u = f32(2, 3)
    for reduction, ufunc in (("add", np.add), ("mul", np.multiply), ("max", np.maximum), ("min", np.minimum)):
        want = x.copy()
        ufunc.at(want, (at, np.arange(3)[None]), u)
        close(run("scatter_elements", [x, at, u], reduction=reduction), want)
    want = x.copy()
    np.put_along_axis(want, at, u, 0)
    np.testing.assert_array_equal(run("scatter_elements", [x, at, u]), want)
    want = x.copy()
    want[[2, 0]] = u
    np.testing.assert_array_equal(run("scatter_nd", [x, np.array([[2], [-4]]), u]), want)
    # What points outside is dropped.
    np.testing.assert_array_equal(run("scatter_nd", [x, np.array([[9], [-9]]), u]), x)


def test_cumulative() -> None:
    x = f32(3, 7, 2)
    for axis in (0, 1, -1):
        for reverse in (False, True):
            y = np.flip(x, axis) if reverse else x
            for op, reference, neutral in (("cumsum", np.cumsum, 0), ("cumprod", np.cumprod, 1)):
                full = reference(y.astype(np.float64), axis)
                shifted = np.roll(full, 1, axis)
                shifted[(*([slice(None)] * (axis % 3)), 0)] = neutral
                for exclusive, want in ((False, full), (True, shifted)):
                    got = run(op, [x], axis=axis, reverse=reverse, exclusive=exclusive)
                    close(got, np.flip(want, axis) if reverse else want, 1e-5)
    assert run("cumsum", [f32(2, 0)], axis=1).shape == (2, 0)
    np.testing.assert_array_equal(run("cumsum", [np.arange(5)], axis=0), [0, 1, 3, 6, 10])


def test_top_k() -> None:
    x = RNG.integers(0, 4, (3, 7, 2)).astype(np.float32)
    for axis in (0, 1, -1):
        for largest in (True, False):
            k = x.shape[axis] - 1
            attrs = {"k": k, "axis": axis, "largest": largest}
            types = [type_of(x)]
            verify(registry.get("top_k").define(types, attrs))
            values, at = evaluate("top_k", [x], attrs)
            order = np.argsort(-x if largest else x, axis, kind="stable")
            want = np.take(order, range(k), axis)
            np.testing.assert_array_equal(at, want)
            np.testing.assert_array_equal(values, np.take_along_axis(x, want, axis))


def test_reverse_sequence() -> None:
    x = f32(5, 3, 2)
    lengths = np.array([1, 5, 3])
    want = x.copy()
    for b, n in enumerate(lengths):
        want[:n, b] = x[:n, b][::-1]
    np.testing.assert_array_equal(run("reverse_sequence", [x, lengths]), want)


def test_every_operator_is_covered() -> None:
    """An operator that no file of definitions' tests names is not tested."""
    named = set()
    for path in Path(__file__).parent.glob("test_definitions*.py"):
        texts = (n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant))
        named |= {text for text in texts if isinstance(text, str)}
    assert sorted(set(registry.names()) - named) == []
