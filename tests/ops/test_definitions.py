"""Every operator's definition against numpy, on odd sizes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from tcompiler.ir.dtypes import DTYPES
from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.expr.hash import structural_hash
from tcompiler.ir.expr.interpret import interpret
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.expr.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.ops import registry
from tcompiler.ops.evaluate import evaluate, type_of
from tcompiler.ops.residues import combinations

RNG = np.random.default_rng(20240611)
COVERED: set[str] = set()


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(op: str, inputs: Sequence[np.ndarray | None], **attrs: Any) -> np.ndarray:
    """The single result of an operator; its definition is verified on the way."""
    COVERED.add(op)
    operator = registry.get(op)
    types = [None if a is None else type_of(a) for a in inputs]
    program = operator.define(types, attrs)
    verify(program)
    assert structural_hash(parse_program(print_program(program))) == structural_hash(program)
    (out,) = operator.infer(types, attrs)
    (result,) = evaluate(op, inputs, attrs)
    assert result.shape == out.dims()
    assert result.dtype == out.dtype.numpy
    if points(program) <= 400:
        # The interpreter checks every read: one that should have been guarded is an error there.
        names = [t.name for t in program.inputs]
        slow = interpret(program, dict(zip(names, [a for a in inputs if a is not None], strict=True)))
        tolerance = 1e-2 if result.dtype.itemsize == 2 else 1e-5
        np.testing.assert_allclose(
            slow[program.outputs[0]].astype(np.float64), result.astype(np.float64), rtol=tolerance, atol=tolerance
        )
    return result


def points(program: Program) -> int:
    """Iterations over all pointwise and reducing scopes."""
    scopes = [s for s in program.scopes if isinstance(s, Compute)]
    return sum(math.prod(as_int(a.extent) or 0 for a in (*s.axes, *s.reduce_axes)) for s in scopes)


def close(got: np.ndarray, want: Any, tolerance: float = 2e-6) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance)


erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# operator: reference in f64, attributes, and the range that inputs are drawn from
UNARY: dict[str, tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any], tuple[float, float]]] = {
    "neg": (np.negative, {}, (-4, 4)),
    "abs": (np.abs, {}, (-4, 4)),
    "sign": (np.sign, {}, (-4, 4)),
    "exp": (np.exp, {}, (-4, 4)),
    "exp2": (np.exp2, {}, (-4, 4)),
    "expm1": (np.expm1, {}, (-1, 1)),
    "log": (np.log, {}, (0.1, 9)),
    "log2": (np.log2, {}, (0.1, 9)),
    "log1p": (np.log1p, {}, (-0.5, 1)),
    "sqrt": (np.sqrt, {}, (0, 9)),
    "rsqrt": (lambda x: 1 / np.sqrt(x), {}, (0.1, 9)),
    "tanh": (np.tanh, {}, (-3, 3)),
    "sigmoid": (sigmoid, {}, (-9, 9)),
    "erf": (erf, {}, (-3, 3)),
    "sin": (np.sin, {}, (-9, 9)),
    "cos": (np.cos, {}, (-9, 9)),
    "tan": (np.tan, {}, (-1, 1)),
    "asin": (np.arcsin, {}, (-1, 1)),
    "acos": (np.arccos, {}, (-1, 1)),
    "atan": (np.arctan, {}, (-9, 9)),
    "sinh": (np.sinh, {}, (-3, 3)),
    "cosh": (np.cosh, {}, (-3, 3)),
    "asinh": (np.arcsinh, {}, (-9, 9)),
    "acosh": (np.arccosh, {}, (1, 9)),
    "atanh": (np.arctanh, {}, (-0.9, 0.9)),
    "floor": (np.floor, {}, (-9, 9)),
    "ceil": (np.ceil, {}, (-9, 9)),
    "round": (np.rint, {}, (-9, 9)),
    "trunc": (np.trunc, {}, (-9, 9)),
    "reciprocal": (lambda x: 1 / x, {}, (0.1, 9)),
    "relu": (lambda x: np.maximum(x, 0), {}, (-4, 4)),
    "gelu": (lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))), {}, (-4, 4)),
    "silu": (lambda x: x * sigmoid(x), {}, (-4, 4)),
    "swish": (lambda x: x * sigmoid(1.5 * x), {"alpha": 1.5}, (-4, 4)),
    "mish": (lambda x: x * np.tanh(np.log1p(np.exp(x))), {}, (-4, 4)),
    "softplus": (lambda x: np.log1p(np.exp(x)), {}, (-9, 9)),
    "softsign": (lambda x: x / (1 + np.abs(x)), {}, (-4, 4)),
    "leaky_relu": (lambda x: np.where(x < 0, 0.1 * x, x), {"alpha": 0.1}, (-4, 4)),
    "elu": (lambda x: np.where(x < 0, 2 * np.expm1(x), x), {"alpha": 2.0}, (-4, 4)),
    "selu": (lambda x: 1.05 * np.where(x > 0, x, 1.6 * np.expm1(x)), {"alpha": 1.6, "gamma": 1.05}, (-4, 4)),
    "celu": (lambda x: np.maximum(x, 0) + np.minimum(2 * np.expm1(x / 2), 0), {"alpha": 2.0}, (-4, 4)),
    "hard_sigmoid": (lambda x: np.clip(0.25 * x + 0.5, 0, 1), {"alpha": 0.25, "beta": 0.5}, (-4, 4)),
    "hard_swish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), {}, (-4, 4)),
    "thresholded_relu": (lambda x: np.where(x > 1.5, x, 0), {"alpha": 1.5}, (-4, 4)),
    "shrink": (
        lambda x: np.where(x < -1, x + 0.25, np.where(x > 1, x - 0.25, 0)),
        {"lambd": 1.0, "bias": 0.25},
        (-4, 4),
    ),
}


@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str) -> None:
    reference, attrs, (low, high) = UNARY[op]
    for shape in ((), (1,), (7,), (3, 5), (2, 0, 3), (2, 1, 13)):
        x = RNG.uniform(low, high, shape).astype(np.float32)
        close(run(op, [x], **attrs), reference(x.astype(np.float64)), 5e-6)


def test_gelu_by_tanh() -> None:
    x = f32(5, 7)
    y = x.astype(np.float64)
    want = 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    close(run("gelu", [x], approximate="tanh"), want)


def test_nan_passes_through_relu_and_sign() -> None:
    x = np.array([np.nan, -np.inf, np.inf, -0.0], np.float32)
    np.testing.assert_array_equal(run("relu", [x]), np.array([np.nan, 0, np.inf, 0], np.float32))
    np.testing.assert_array_equal(run("sign", [x]), np.array([np.nan, -1, 1, 0], np.float32))


def test_softplus_and_sigmoid_do_not_overflow() -> None:
    x = np.array([-200, 200], np.float32)
    close(run("softplus", [x]), [0, 200])
    close(run("sigmoid", [x]), [0, 1])


def test_predicates() -> None:
    x = np.array([np.nan, -np.inf, np.inf, 1], np.float32)
    assert run("isnan", [x]).tolist() == [True, False, False, False]
    assert run("isinf", [x]).tolist() == [False, True, True, False]
    assert run("isinf", [x], negative=False).tolist() == [False, False, True, False]
    assert run("isinf", [x], positive=False).tolist() == [False, True, False, False]
    assert run("isinf", [x], positive=False, negative=False).tolist() == [False] * 4
    assert run("invert", [run("isnan", [x])]).tolist() == [False, True, True, True]


BINARY: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "floordiv": np.floor_divide,
    "floormod": np.mod,
    "truncmod": np.fmod,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
SHAPES = [((3, 5), (3, 5)), ((3, 1), (5,)), ((), (2, 3)), ((2, 1, 7), (4, 1)), ((0, 3), (1, 3)), ((1,), (1, 1))]


@pytest.mark.parametrize("op", BINARY)
def test_binary_broadcasts(op: str) -> None:
    for a_shape, b_shape in SHAPES:
        for dtype in (np.float32, np.int32, np.int64):
            a = RNG.integers(-9, 9, a_shape).astype(dtype)
            b = (RNG.integers(1, 9, b_shape) * RNG.choice([-1, 1], b_shape)).astype(dtype)
            np.testing.assert_array_equal(run(op, [a, b]), BINARY[op](a, b))


def test_float_binaries() -> None:
    a, b = np.abs(f32(3, 7)) + 0.1, f32(7)
    close(run("div", [a, b]), a / b)
    close(run("pow", [a, b]), a.astype(np.float64) ** b, 5e-6)
    close(run("atan2", [b, b[::-1].copy()]), np.arctan2(b, b[::-1]))
    close(run("prelu", [b, np.float32([0.25])]), np.where(b < 0, 0.25 * b, b))


def test_integer_binaries() -> None:
    a, b = np.array([7, -7, 7, -7, 5], np.int32), np.array([2, 2, -2, -2, 0], np.int32)
    assert run("truncdiv", [a, b]).tolist() == [3, -3, -3, 3, 0]
    u, s = np.array([200, 3, 255], np.uint8), np.array([3, 1, 7], np.uint8)
    np.testing.assert_array_equal(run("shl", [u, s]), np.left_shift(u, s))
    np.testing.assert_array_equal(run("shr", [u, s]), np.right_shift(u, s))
    x, far = np.array([-8, 4, -1, 7], np.int8), np.array([8, 127, -1, 2], np.int8)
    assert run("shl", [x, far]).tolist() == [0, 0, 0, 28]
    assert run("shr", [x, far]).tolist() == [-1, 0, -1, 1]
    for op, reference in (
        ("bitwise_and", np.bitwise_and),
        ("bitwise_or", np.bitwise_or),
        ("bitwise_xor", np.bitwise_xor),
    ):
        np.testing.assert_array_equal(run(op, [a, b]), reference(a, b))
        np.testing.assert_array_equal(run(op, [a > 0, b > 0]), reference(a > 0, b > 0))


def test_where_cast_identity() -> None:
    c, a, b = f32(3, 1) > 0, f32(3, 5), f32(5)
    np.testing.assert_array_equal(run("where", [c, a, b]), np.where(c, a, b))
    from tcompiler.ir import dtypes as dt

    x = np.array([-1.9, 0, 2.5, 300], np.float32)
    assert run("cast", [x], to=dt.i32).tolist() == [-1, 0, 2, 300]
    assert run("cast", [x], to=dt.bool_).tolist() == [True, False, True, True]
    np.testing.assert_array_equal(run("cast", [x], to=dt.bf16), x.astype(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(run("identity", [x]), x)


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


def windows(x: np.ndarray, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> np.ndarray:
    """(lead…, outputs…, kernel…) from padded data, by slicing."""
    rank = len(kernel)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    axes = tuple(range(x.ndim - rank, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axes)
    outer = (*([slice(None)] * (x.ndim - rank)), *(slice(None, None, s) for s in strides))
    return view[(*outer, *(slice(None, None, d) for d in dilations))]


def convolution(
    x: np.ndarray,
    w: np.ndarray,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> np.ndarray:
    rank = x.ndim - 2
    around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    view = windows(np.pad(x.astype(np.float64), around), w.shape[2:], strides, dilations)
    parts = []
    for g in range(groups):
        size, filters = w.shape[1], w.shape[0] // groups
        part = view[:, g * size : (g + 1) * size]
        over = [1, *range(2 + rank, 2 + 2 * rank)]
        weight = w[g * filters : (g + 1) * filters].astype(np.float64)
        y = np.tensordot(part, weight, (over, list(range(1, weight.ndim))))
        parts.append(np.moveaxis(y, -1, 1))
    return np.concatenate(parts, 1)


@pytest.mark.parametrize(
    ("x", "w", "strides", "pads", "dilations", "groups"),
    [
        ((2, 3, 7, 9), (5, 3, 3, 2), (2, 1), (1, 0, 2, 1), (1, 2), 1),
        ((1, 4, 5, 5), (6, 2, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
        ((2, 5, 7, 6), (5, 1, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 5),
        ((1, 3, 4, 6), (6, 1, 2, 2), (1, 1), (0, 0, 0, 0), (1, 1), 3),
        ((2, 4, 5, 3), (3, 4, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
        ((1, 3, 5, 3), (3, 1, 1, 1), (2, 1), (0, 0, 0, 0), (1, 1), 3),
        ((1, 2, 11), (3, 2, 3), (2,), (2, 1), (3,), 1),
        ((1, 2, 4, 5, 3), (3, 2, 2, 3, 1), (1, 2, 1), (0, 1, 0, 1, 0, 0), (1, 1, 1), 1),
        ((0, 2, 5), (3, 2, 3), (1,), (0, 0), (1,), 1),
    ],
)
def test_conv(
    x: tuple[int, ...],
    w: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
) -> None:
    data, weight, bias = f32(*x), f32(*w), f32(w[0])
    attrs = {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    want = convolution(data, weight, **attrs)
    close(run("conv", [data, weight], **attrs), want, 1e-5)
    shape = (1, -1, *([1] * (len(x) - 2)))
    close(run("conv", [data, weight, bias], **attrs), want + bias.reshape(shape), 1e-5)


@pytest.mark.parametrize(
    ("x", "taps", "strides", "pads", "sizes"),
    [
        ((1, 3, 4, 5), (2, 2), (2, 2), (1, 1), (8, 10)),
        ((2, 2, 3, 4), (1, 3), (3, 1), (0, 2), (9, 4)),
        ((1, 2, 5), (3,), (4,), (5,), (13,)),
    ],
)
def test_conv_phases(
    x: tuple[int, ...], taps: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    """Every phase of the result is a convolution with weights of its own."""
    data, weight, bias = f32(*x), f32(3, x[1], *strides, *taps), f32(3)
    want = np.zeros((x[0], 3, *sizes))
    for n, k, *at in np.ndindex(*want.shape):
        phase = tuple(y % s for y, s in zip(at, strides, strict=True))
        for c, *tap in np.ndindex(x[1], *taps):
            source = tuple(
                y // s + (q + p) // s - t + 1 + j
                for y, p, q, s, t, j in zip(at, pads, phase, strides, taps, tap, strict=True)
            )
            if all(0 <= i < e for i, e in zip(source, x[2:], strict=True)):
                want[(n, k, *at)] += float(data[(n, c, *source)]) * weight[(k, c, *phase, *tap)]
    close(run("conv_phases", [data, weight], sizes=sizes, pads=pads), want, 1e-5)
    wide = want + bias.reshape(1, -1, *([1] * len(sizes)))
    close(run("conv_phases", [data, weight, bias], sizes=sizes, pads=pads), wide, 1e-5)


@pytest.mark.parametrize(
    ("x", "taps", "strides", "dilations", "pads", "sizes", "groups"),
    [
        ((1, 4, 5), (3,), (2,), (1,), (1,), (10,), 2),
        ((2, 2, 4, 3), (3, 2), (2, 3), (1, 2), (0, 1), (9, 10), 1),
        ((1, 2, 3, 5), (2, 9), (1, 4), (1, 1), (0, 3), (4, 21), 1),
        ((1, 2, 3, 4), (2, 1), (3, 2), (1, 1), (1, 0), (8, 7), 2),
    ],
)
def test_conv_residues(
    x: tuple[int, ...],
    taps: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    sizes: tuple[int, ...],
    groups: int,
) -> None:
    """Every class of residues has weights of its own, and reads the data one beside the other."""
    filters, channels = 2 * groups, x[1] // groups
    classes = list(combinations(taps, strides, dilations, pads, sizes))
    data, bias = f32(*x), f32(filters)
    weights = [f32(filters, channels, *(r.count for r in c), *(r.taps for r in c)) for c in classes]
    want = np.zeros((x[0], filters, *sizes))
    for n, k, *at in np.ndindex(*want.shape):
        residues = [y % s for y, s in zip(at, strides, strict=True)]
        found = (
            (c, w)
            for c, w in zip(classes, weights, strict=True)
            if all(r.first <= p < r.first + r.count for r, p in zip(c, residues, strict=True))
        )
        chosen, weight = next(found, ((), None))
        if weight is None:
            continue  # residues that meet no tap have a sum of zero
        own = [p - r.first for r, p in zip(chosen, residues, strict=True)]
        for c, *tap in np.ndindex(channels, *(r.taps for r in chosen)):
            places = [y // s + r.start + t * r.step for y, s, r, t in zip(at, strides, chosen, tap, strict=True)]
            if all(0 <= i < e for i, e in zip(places, x[2:], strict=True)):
                read = float(data[(n, k // 2 * channels + c, *places)])
                want[(n, k, *at)] += read * weight[(k, c, *own, *tap)]
    attrs = {"taps": taps, "strides": strides, "dilations": dilations, "pads": pads, "sizes": sizes, "groups": groups}
    close(run("conv_residues", [data, *weights], **attrs), want, 1e-5)
    wide = want + bias.reshape(1, -1, *([1] * len(sizes)))
    close(run("conv_residues", [data, *weights, bias], biased=True, **attrs), wide, 1e-5)


@pytest.mark.parametrize(
    ("x", "w", "strides", "pads", "dilations", "groups", "extra"),
    [
        ((2, 4, 5, 4), (4, 3, 3, 2), (2, 3), (1, 0, 2, 1), (1, 1), 2, (1, 2)),
        ((1, 3, 5), (3, 2, 4), (1,), (0, 0), (2,), 1, (0,)),
        ((1, 4, 3, 3), (4, 1, 2, 2), (2, 2), (0, 0, 0, 0), (1, 1), 4, (0, 0)),
        ((1, 2, 4), (2, 3, 1), (1,), (0, 0), (1,), 1, (0,)),
        ((1, 2, 4), (2, 3, 2), (3,), (-1, -2), (1,), 1, (0,)),
    ],
)
def test_conv_transpose(
    x: tuple[int, ...],
    w: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
    extra: tuple[int, ...],
) -> None:
    """The gradient of a convolution: every element of the data adds its multiple of the weight."""
    data, weight = f32(*x), f32(*w)
    rank, filters = len(x) - 2, w[1] * groups
    full = [
        (e - 1) * s + d * (k - 1) + 1 + o for e, s, d, k, o in zip(x[2:], strides, dilations, w[2:], extra, strict=True)
    ]
    total = np.zeros((x[0], filters, *full))
    each = x[1] // groups
    for n, c, *at in np.ndindex(*x):
        g = c // each
        place = tuple(
            slice(i * s, i * s + d * (k - 1) + 1, d) for i, s, d, k in zip(at, strides, dilations, w[2:], strict=True)
        )
        total[(n, slice(g * w[1], (g + 1) * w[1]), *place)] += float(data[(n, c, *at)]) * weight[c]
    around = [(0, 0), (0, 0), *((max(-b, 0), max(-a, 0)) for b, a in zip(pads[:rank], pads[rank:], strict=True))]
    total = np.pad(total, around)
    cut = tuple(
        slice(max(b, 0), e - max(a, 0)) for b, a, e in zip(pads[:rank], pads[rank:], total.shape[2:], strict=True)
    )
    want = total[(slice(None), slice(None), *cut)]
    got = run(
        "conv_transpose",
        [data, weight],
        strides=strides,
        pads=pads,
        dilations=dilations,
        groups=groups,
        output_padding=extra,
    )
    close(got, want, 1e-5)


@pytest.mark.parametrize(
    ("kernel", "strides", "pads", "dilations"),
    [
        ((3, 2), (2, 3), (1, 0, 1, 1), (1, 1)),
        ((2, 2), (1, 1), (0, 0, 0, 0), (2, 3)),
        ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
        ((11, 10), (1, 1), (0, 0, 0, 0), (1, 1)),
    ],
)
def test_pools(
    kernel: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...], dilations: tuple[int, ...]
) -> None:
    x = f32(1, 3, 11, 10)
    around = [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])]
    attrs = {"kernel": kernel, "strides": strides, "pads": pads, "dilations": dilations}

    def view(data: np.ndarray, fill: float) -> np.ndarray:
        return windows(np.pad(data.astype(np.float64), around, constant_values=fill), kernel, strides, dilations)

    close(run("max_pool", [x], **attrs), view(x, -np.inf).max((-1, -2)))
    total, count = view(x, 0).sum((-1, -2)), view(np.ones_like(x), 0).sum((-1, -2))
    close(run("average_pool", [x], **attrs), total / count)
    close(run("average_pool", [x], count_include_pad=True, **attrs), total / math.prod(kernel))
    close(run("lp_pool", [x], **attrs), np.sqrt((view(x, 0) ** 2).sum((-1, -2))))
    close(run("lp_pool", [x], p=3, **attrs), np.cbrt((np.abs(view(x, 0)) ** 3).sum((-1, -2))))
    places = np.arange(x.size, dtype=np.float64).reshape(x.shape)
    flat, at = view(x, -np.inf).reshape(*total.shape, -1), view(places, -1).reshape(*total.shape, -1)
    want = np.take_along_axis(at, flat.argmax(-1)[..., None], -1)[..., 0]
    np.testing.assert_array_equal(run("argmax_pool", [x], **attrs), want.astype(np.int64))


def test_pools_round_up() -> None:
    x = np.arange(1, 8, dtype=np.float32).reshape(1, 1, 7)
    attrs = {"kernel": (3,), "strides": (3,), "ceil_mode": True}
    assert run("max_pool", [x], **attrs).reshape(-1).tolist() == [3, 6, 7]
    assert run("average_pool", [x], **attrs).reshape(-1).tolist() == [2, 5, 7]
    # A window that would begin in the padding at the end is left out.
    narrow = {"kernel": (2,), "strides": (3,), "pads": (0, 1), "ceil_mode": True}
    assert run("max_pool", [x[..., :6]], **narrow).shape == (1, 1, 2)


@pytest.mark.parametrize("column_major", [False, True])
def test_argmax_pool_takes_the_first_of_equal_ones_and_never_padding(column_major: bool) -> None:
    x = np.zeros((1, 2, 3, 4), np.uint8)
    x[0, 1, 1, 0] = x[0, 1, 0, 2] = 1
    got = run("argmax_pool", [x], kernel=(2, 3), pads=(1, 1, 0, 0), column_major=column_major)
    places = np.arange(24).reshape(x.shape)
    if column_major:
        places = np.arange(24).reshape(1, 2, 4, 3).swapaxes(2, 3)
    around = [(0, 0), (0, 0), (1, 0), (1, 0)]
    values = windows(np.pad(x.astype(int), around, constant_values=-1), (2, 3), (1, 1), (1, 1)).reshape(1, 2, 3, 3, 6)
    at = windows(np.pad(places, around), (2, 3), (1, 1), (1, 1)).reshape(1, 2, 3, 3, 6)
    np.testing.assert_array_equal(got, np.take_along_axis(at, values.argmax(-1)[..., None], -1)[..., 0])


def test_max_pool_of_integers() -> None:
    x = RNG.integers(-100, 100, (1, 1, 5, 5)).astype(np.int8)
    got = run("max_pool", [x], kernel=(3, 3), pads=(1, 1, 1, 1))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-128)
    np.testing.assert_array_equal(got, windows(padded, (3, 3), (1, 1), (1, 1)).max((-1, -2)))


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
            COVERED.add("top_k")
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


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_quantization(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    x = (RNG.standard_normal((3, 5)) * 40).astype(np.float32)
    x[0, :4] = [0.5, 1.5, -0.5, 1e9]
    for scale, zero in ((np.float32(1), dtype(3)), (np.float32([0.1, 1, 2, 3, 0.25]), np.arange(5).astype(dtype))):
        want = np.clip(np.round(x / scale) + zero.astype(np.float32), limits.min, limits.max).astype(dtype)
        got = run(
            "quantize", [x, scale, zero], to=DTYPES[np.dtype(dtype).name.replace("uint", "u").replace("int", "i")]
        )
        np.testing.assert_array_equal(got, want)
        back = run("dequantize", [got, scale, zero])
        close(back, (want.astype(np.int32) - zero) * scale)
    plain = run("dequantize", [np.arange(6).astype(dtype).reshape(2, 3), np.float32(0.5), None])
    close(plain, np.arange(6).reshape(2, 3) / 2)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("edges", [False, True])
def test_sample(mode: str, padding: str, edges: bool) -> None:
    x = f32(2, 3, 4, 5)
    grid = RNG.uniform(-1.9, 1.9, (2, 3, 2, 2)).astype(np.float32)
    sizes = np.array([5, 4], np.float32)
    places = (grid + 1) / 2 * (sizes - 1) if edges else ((grid + 1) * sizes - 1) / 2
    want = torch.nn.functional.grid_sample(
        torch.from_numpy(x),
        torch.from_numpy(grid),
        {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[mode],
        padding,
        edges,
    )
    close(run("sample", [x, places[..., ::-1].copy()], mode=mode, padding=padding, edges=edges), want, 1e-5)


def test_sample_of_rows_in_one_and_three_dimensions() -> None:
    x = f32(3, 2, 7)
    at = np.array([[[0.5], [6.0]], [[2.25], [-0.5]]], np.float32)
    got = run("sample", [x, at, np.array([2, 0])], padding="border")
    want = np.stack([x[2][:, [0, 6]], x[0][:, [2, 0]]])
    want[0, :, 0] = (x[2, :, 0] + x[2, :, 1]) / 2
    want[1, :, 0] = 0.75 * x[0, :, 2] + 0.25 * x[0, :, 3]
    close(got, want, 1e-6)
    volume, grid = f32(1, 2, 3, 2, 4), RNG.uniform(-1.2, 1.2, (1, 2, 1, 2, 3)).astype(np.float32)
    places = ((grid + 1) * np.array([4, 2, 3], np.float32) - 1) / 2
    want = torch.nn.functional.grid_sample(torch.from_numpy(volume), torch.from_numpy(grid), align_corners=False)
    close(run("sample", [volume, places[..., ::-1].copy()]), want, 1e-5)


def test_sample_far_outside_and_of_nan_reads_no_foreign_memory() -> None:
    at = np.array([[[1e30], [-1e30], [np.inf], [np.nan]]], np.float32)
    got = run("sample", [f32(1, 1, 3), at], mode="nearest", padding="zeros")
    np.testing.assert_array_equal(got[0, 0, :3], [0, 0, 0])
    x = f32(1, 1, 3)
    edge = run("sample", [x, at[:, :3]], padding="border")
    np.testing.assert_array_equal(edge[0, 0], x[0, 0, [2, 0, 2]])


@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "pads", "dilations"),
    [
        ((5,), (3,), (1,), (0, 0), (1,)),
        ((5, 7), (2, 3), (2, 1), (1, 1, 1, 1), (1, 2)),
        ((4, 3), (1, 1), (3, 2), (), ()),
    ],
)
def test_fold_windows(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
) -> None:
    rank = len(shape)
    before = pads or (0,) * (2 * rank)
    gaps = dilations or (1,) * rank
    counts = [
        (e + before[k] + before[rank + k] - g * (b - 1) - 1) // s + 1
        for k, (e, b, s, g) in enumerate(zip(shape, kernel, strides, gaps, strict=True))
    ]
    x = f32(2, 3, *kernel, *counts)
    want = np.zeros((2, 3, *shape))
    for taps in np.ndindex(*kernel):
        for at in np.ndindex(*counts):
            place = [a * s + t * g - b for a, s, t, g, b in zip(at, strides, taps, gaps, before, strict=False)]
            if all(0 <= p < e for p, e in zip(place, shape, strict=True)):
                want[(..., *place)] += x[(..., *taps, *at)]
    close(
        run("fold_windows", [x], shape=shape, kernel=kernel, strides=strides, pads=pads, dilations=dilations),
        want,
        1e-6,
    )


def test_every_operator_is_covered() -> None:
    """Runs last in this file; an operator that no test above has run is not tested."""
    assert sorted(set(registry.names()) - COVERED) == []
