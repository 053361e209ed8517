"""Definitions of pointwise operators against numpy, on odd sizes."""

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tcompiler.ir.dtypes import DTYPES
from tests.ops.checking import close, f32, run

RNG = np.random.default_rng(20240611)


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
