"""Errors of the vector functions over dense samples, against numpy in f64 (for f32) and mpmath (for f64)."""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.math_kernels import Array, compiled, ulp_errors_f32
from tcompiler.backends.llvm.math import FUNCTIONS, ulp_bound
from tests.backends.math_errors import ulp_errors_f64

Floats = NDArray[np.float64]


def _sigmoid(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1.0 + small)


REFERENCES_F32: dict[str, Callable[..., Floats]] = {
    "exp": np.exp,
    "exp_below": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "sigmoid": _sigmoid,
    "log": np.log,
    "log2": np.log2,
    "log1p": np.log1p,
    "erf": np.vectorize(math.erf, otypes=[float]),
    "tanh": np.tanh,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "pow": np.power,
}
UNARY = [name for name, function in FUNCTIONS.items() if function.arity == 1]
FIRST = {"exp", "exp_below", "log", "tanh", "erf", "sin", "cos"}


def floats(step: int, first: int = 0) -> NDArray[np.float32]:
    """Every step-th of all floats by their bits: both signs, denormals, infinities, NaNs."""
    bits = np.arange(first, 1 << 32, step, dtype=np.uint64).astype(np.uint32)
    return bits.view(np.float32)


def inside(name: str, x: Array) -> Array:
    """The arguments that a function is made for."""
    kept: Array = x[~(x > FUNCTIONS[name].highest.get("f64" if x.dtype == np.float64 else "f32", np.inf))]
    return kept


def reference_f32(name: str, *arguments: Array) -> Floats:
    with np.errstate(all="ignore"):
        return REFERENCES_F32[name](*(a.astype(np.float64) for a in arguments))


def test_every_function_is_tested() -> None:
    assert set(REFERENCES_F32) == set(FUNCTIONS)


@pytest.mark.parametrize("name", UNARY)
def test_f32(name: str) -> None:
    x = inside(name, floats(1009 if name in FIRST else 4093))
    errors = ulp_errors_f32(compiled(name, "f32", 8)(x), reference_f32(name, x))
    worst = int(np.argmax(errors))
    assert errors[worst] <= ulp_bound(name, "f32"), f"{errors[worst]} ulp at {x[worst]!r}"


@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_lanes_do_not_change_the_result(name: str, lanes: int) -> None:
    for dtype in ("f32", "f64"):
        x: Array = floats(1_000_003)
        if dtype == "f64":
            with np.errstate(invalid="ignore"):
                x = x.astype(np.float64) * 1.000000000000123
        x = inside(name, x)
        y = x[::-1].copy() if FUNCTIONS[name].arity == 2 else None
        np.testing.assert_array_equal(compiled(name, dtype, lanes)(x, y), compiled(name, dtype, 2)(x, y))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f32_without_fused_multiply_add(name: str) -> None:
    x = inside(name, floats(50_021, 7))
    y = (floats(50_021, 11)[::-1].copy(),) if FUNCTIONS[name].arity == 2 else ()
    got = compiled(name, "f32", 4, False)(x, *y)
    errors = ulp_errors_f32(got, reference_f32(name, x, *y))
    worst = int(np.argmax(errors))
    assert errors[worst] <= ulp_bound(name, "f32") + 0.5, f"{errors[worst]} ulp at {x[worst]!r}"


def test_pow_f32() -> None:
    rng = np.random.default_rng(5)
    base = np.exp(rng.uniform(-87, 88, 400_000)).astype(np.float32)
    with np.errstate(divide="ignore"):
        exponent = (rng.uniform(-104, 89, base.size) / np.log(base.astype(np.float64))).astype(np.float32)
    near_one = (1 + rng.uniform(-1, 1, 200_000) * 2.0 ** rng.integers(-24, -1, 200_000)).astype(np.float32)
    large = rng.uniform(-4e6, 4e6, near_one.size).astype(np.float32)
    whole = rng.integers(-20, 21, 100_000).astype(np.float32)
    signed = rng.uniform(-30, 30, whole.size).astype(np.float32)
    any_bits = floats(40_009), floats(40_009, 3)[::-1].copy()
    pairs = [(base, exponent), (near_one, large), (signed, whole), any_bits]
    for x, y in pairs:
        errors = ulp_errors_f32(compiled("pow", "f32", 8)(x, y), reference_f32("pow", x, y))
        worst = int(np.argmax(errors))
        assert errors[worst] <= ulp_bound("pow", "f32"), f"{errors[worst]} ulp at {x[worst]!r}, {y[worst]!r}"


def test_atan2_f32() -> None:
    rng = np.random.default_rng(6)
    y, x = (rng.normal(size=400_000) * 2.0 ** rng.integers(-20, 20, 400_000) for _ in range(2))
    wide = floats(8_009), floats(8_009, 3)[::-1].copy()
    for top, bottom in [(y.astype(np.float32), x.astype(np.float32)), wide]:
        errors = ulp_errors_f32(compiled("atan2", "f32", 8)(top, bottom), reference_f32("atan2", top, bottom))
        assert errors.max() <= ulp_bound("atan2", "f32")


def _spread(rng: np.random.Generator, low: float, high: float, count: int) -> Floats:
    """Of both signs, their magnitudes spread evenly over the exponents."""
    return np.exp(rng.uniform(math.log(low), math.log(high), count)) * rng.choice([-1.0, 1.0], count)


def _any_finite(rng: np.random.Generator, count: int) -> Floats:
    bits = rng.integers(0, 1 << 63, count, dtype=np.uint64).view(np.float64)
    return bits[np.isfinite(bits)]


def _samples(name: str, count: int = 500) -> Floats:
    rng = np.random.default_rng(7)
    uniform, tiny = rng.uniform, _spread(rng, 1e-300, 1.0, count)
    ranges: dict[str, list[Floats]] = {
        "exp": [uniform(-745, 709, count), uniform(-2, 2, count), tiny],
        "exp_below": [uniform(-745, 640, count), uniform(-2, 2, count), tiny],
        "exp2": [uniform(-1075, 1024, count), uniform(-2, 2, count), tiny],
        "expm1": [uniform(-40, 709, count), uniform(-2, 2, count), tiny],
        "sigmoid": [uniform(-745, 40, count), uniform(-6, 6, count), tiny],
        "log": [_any_finite(rng, count), uniform(0.5, 2, count), 1 + _spread(rng, 1e-16, 0.1, count)],
        "log2": [_any_finite(rng, count), uniform(0.5, 2, count), 1 + _spread(rng, 1e-16, 0.1, count)],
        "log1p": [_any_finite(rng, count), uniform(-0.999, 3, count), tiny],
        "erf": [uniform(0.9, 1.2, count), uniform(-6, 6, count), tiny],
        "tanh": [uniform(0.9, 1.2, count), uniform(-20, 20, count), tiny],
        "sinh": [uniform(-710, 710, count), uniform(-2, 2, count), tiny],
        "cosh": [uniform(-710, 710, count), uniform(-2, 2, count), tiny],
        "asinh": [_any_finite(rng, count), uniform(-2, 2, count), tiny, _spread(rng, 1e-3, 1e20, count)],
        "acosh": [_spread(rng, 1, 1e20, count), 1 + np.abs(_spread(rng, 1e-16, 3, count))],
        "atanh": [uniform(-1, 1, count), tiny],
        "asin": [uniform(-1, 1, count), tiny, _spread(rng, 0.4, 0.6, count)],
        "acos": [uniform(-1, 1, count), tiny, _spread(rng, 0.4, 1, count)],
        "atan": [uniform(-5, 5, count), tiny, _any_finite(rng, count)],
    }
    near_zeros = np.pi / 2 * np.arange(1, count)
    # The f64 that comes nearest to a multiple of pi/2.
    nearest = np.array([6381956970095103.0 * 2.0**797])
    angles = [uniform(-10, 10, count), _spread(rng, 1e-300, 2e9, count), _any_finite(rng, count), near_zeros, nearest]
    return np.concatenate(ranges.get(name, angles))


def exact(name: str, *arguments: float) -> mpmath.mpf:
    """The function in multiple precision; NaN outside its domain."""
    functions = {
        "exp_below": mpmath.exp,
        "exp2": lambda x: mpmath.mpf(2) ** x,
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "log2": lambda x: mpmath.log(x) / mpmath.log(2),
        "pow": lambda x, y: x**y,
    }
    function = functions.get(name) or getattr(mpmath, name)
    precision = 1200 if name in ("sin", "cos", "tan") else 250
    with mpmath.workprec(precision):
        result = function(*(mpmath.mpf(a) for a in arguments))
    return result if isinstance(result, mpmath.mpf) else mpmath.nan


@pytest.mark.parametrize("name", UNARY)
def test_f64(name: str) -> None:
    x = _samples(name)
    errors = ulp_errors_f64(compiled(name, "f64", 4)(x), [exact(name, float(v)) for v in x])
    worst = int(np.argmax(errors))
    assert errors[worst] <= ulp_bound(name, "f64"), f"{errors[worst]} ulp at {x[worst]!r}"


@pytest.mark.parametrize("name", UNARY)
def test_f64_without_fused_multiply_add(name: str) -> None:
    x = _samples(name, 100)
    errors = ulp_errors_f64(compiled(name, "f64", 2, False)(x), [exact(name, float(v)) for v in x])
    worst = int(np.argmax(errors))
    assert errors[worst] <= ulp_bound(name, "f64") + 0.5, f"{errors[worst]} ulp at {x[worst]!r}"


@pytest.mark.parametrize("fma", [True, False])
def test_pow_f64(fma: bool) -> None:
    rng = np.random.default_rng(8)
    base = np.abs(_spread(rng, 1e-307, 1e308, 1000))
    near_one = np.abs(1 + _spread(rng, 1e-15, 0.5, 1000))
    x = np.concatenate([base, near_one, rng.uniform(0.5, 2, 1000)])
    y = np.concatenate([rng.uniform(-744, 709, 2000) / np.log(x[:2000]), rng.uniform(-600, 600, 1000)])
    got = compiled("pow", "f64", 4, fma)(x, y)
    errors = ulp_errors_f64(got, [exact("pow", float(a), float(b)) for a, b in zip(x, y, strict=True)])
    worst = int(np.argmax(errors))
    assert errors[worst] <= ulp_bound("pow", "f64"), f"{errors[worst]} ulp at {x[worst]!r}, {y[worst]!r}"


def test_atan2_f64() -> None:
    rng = np.random.default_rng(9)
    y = np.concatenate([rng.uniform(-1, 1, 1000), _spread(rng, 1e-300, 1e308, 1000)])
    x = np.concatenate([rng.uniform(-1, 1, 1000), _spread(rng, 1e-300, 1e308, 1000)])
    got = compiled("atan2", "f64", 4)(y, x)
    errors = ulp_errors_f64(got, [exact("atan2", float(a), float(b)) for a, b in zip(y, x, strict=True)])
    assert errors.max() <= ulp_bound("atan2", "f64")


@pytest.mark.parametrize(("dtype", "limit"), [("f32", 2.0**17), ("f64", 2.0**30)])
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_both_reductions_meet(name: str, dtype: str, limit: float) -> None:
    """Around the limit of the fast reduction, one lane of a vector beyond it and the others not."""
    number = np.float32 if dtype == "f32" else np.float64
    x = np.full(64, 1.0, number)
    x[::3] = limit
    x[1::3] = np.nextafter(number(limit), number(np.inf))
    x[5] = -limit * 1.5
    got = compiled(name, dtype, 8)(x)
    errors = [
        abs(mpmath.mpf(float(g)) - exact(name, float(v))) / np.spacing(number(abs(g)))
        for g, v in zip(got, x, strict=True)
    ]
    assert max(errors) <= ulp_bound(name, dtype)
