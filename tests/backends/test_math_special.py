"""Values at which the vector functions have one right answer: zeros, infinities, NaN, exact results."""

import ctypes
import math
import platform
import sys

import numpy as np
import pytest

from benchmarks.math_kernels import compiled
from tcompiler.backends.llvm.math import FUNCTIONS

INF, NAN = math.inf, math.nan
# Those that keep the sign of a zero; all but expm1 and log1p are odd.
ODD = ("expm1", "log1p", "erf", "tanh", "sinh", "asinh", "atanh", "sin", "tan", "asin", "atan")
UNARY = [name for name, function in FUNCTIONS.items() if function.arity == 1]

SPECIAL: dict[str, list[tuple[float, float]]] = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (1e9, INF), (-1e9, 0.0)],
    "exp_below": [(0.0, 1.0), (-0.0, 1.0), (-INF, 0.0), (-1e9, 0.0)],
    "exp2": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (10.0, 1024.0), (-3.0, 0.125), (0.5, math.sqrt(2))],
    "expm1": [(INF, INF), (-INF, -1.0), (-1e9, -1.0), (1e9, INF)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (INF, 1.0), (-INF, 0.0), (1e9, 1.0), (-1e9, 0.0)],
    "log": [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-INF, NAN), (-1.0, NAN), (-1e-44, NAN)],
    "log2": [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-INF, NAN), (-1.0, NAN), (64.0, 6.0)],
    "log1p": [(-1.0, -INF), (INF, INF), (-INF, NAN), (-1.5, NAN)],
    "erf": [(INF, 1.0), (10.0, 1.0)],
    "tanh": [(INF, 1.0), (30.0, 1.0)],
    "sinh": [(INF, INF), (1e9, INF)],
    "cosh": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, INF), (1e9, INF)],
    "asinh": [(INF, INF)],
    "acosh": [(1.0, 0.0), (INF, INF), (0.5, NAN), (-1e9, NAN), (-INF, NAN), (-1.0, NAN)],
    "atanh": [(1.0, INF), (-1.0, -INF), (1.5, NAN), (INF, NAN), (-INF, NAN)],
    "sin": [(INF, NAN), (-INF, NAN)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN)],
    "tan": [(INF, NAN), (-INF, NAN)],
    "asin": [(1.0, math.pi / 2), (1.5, NAN), (INF, NAN), (-INF, NAN)],
    "acos": [(1.0, 0.0), (-1.0, math.pi), (0.0, math.pi / 2), (-0.0, math.pi / 2), (1.5, NAN), (-1.5, NAN), (INF, NAN)],
    "atan": [(INF, math.pi / 2), (-INF, -math.pi / 2), (1.0, math.pi / 4)],
}  # fmt: skip
EDGES = [0.0, 1.0, INF, NAN, 2.0, 3.0, 0.5, 2.5, 1e-45, 3e38, 2.0**24 - 1, 2.0**24, 1e30, 1.0000001, 0.9999999]
EDGES_F64 = [0.0, 1.0, INF, NAN, 2.0, 3.0, 0.5, 2.5, 5e-324, 1e308, 2.0**53 - 1, 2.0**53, 1e30, 1 + 2**-52, 1 - 2**-53]


def number(dtype: str) -> type[np.floating]:
    return np.float32 if dtype == "f32" else np.float64


def assert_same(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal, NaN where NaN is wanted, and of the same sign where not NaN."""
    np.testing.assert_array_equal(got, wanted)
    known = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(got)[known], np.signbit(wanted)[known])


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name: str, dtype: str, lanes: int) -> None:
    cases = [*SPECIAL[name], (NAN, NAN), (-NAN, NAN)]
    if name in ODD:
        cases += [(0.0, 0.0), (-0.0, -0.0)]
    x, wanted = (np.array(column, number(dtype)) for column in zip(*cases, strict=True))
    assert_same(compiled(name, dtype, lanes)(x), wanted)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", [n for n in ODD if n != "erf"])
def test_denormals_pass_through_functions_of_slope_one(name: str, dtype: str) -> None:
    kind = number(dtype)
    smallest = np.finfo(kind).smallest_subnormal
    x = (np.array([1, 2, 3, 5, 1001, 123457]) * smallest).astype(kind)
    x = np.concatenate([x, -x])
    assert_same(compiled(name, dtype, 4)(x), x)


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="needs Linux on x86-64")
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", ["exp", "exp_below"])
def test_zeros_are_exact_products(name: str, dtype: str) -> None:
    # a product that rounds to 0 takes a processor a hundred cycles: masked scores of a softmax are such exponents
    masked, run = np.array([-INF, -1e9, -2000.0, -1e30] * 2, dtype=number(dtype)), compiled(name, dtype, 8)
    underflow, environment = 0x10, ctypes.CDLL("libm.so.6")

    def underflows(x: np.ndarray) -> tuple[np.ndarray, bool]:
        environment.feclearexcept(underflow)
        result = run(x)
        return result, bool(environment.fetestexcept(underflow))  # before numpy clears it

    found, flag = underflows(masked)
    assert not flag
    np.testing.assert_array_equal(found, 0)
    denormal = np.full(8, -100.0 if dtype == "f32" else -740.0, dtype=number(dtype))
    assert underflows(denormal)[1]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_denormal_results(dtype: str) -> None:
    kind = number(dtype)
    info = np.finfo(kind)
    lowest = int(np.log2(float(info.smallest_normal))) - info.nmant
    exponents = np.arange(lowest - 3, lowest + 40).astype(kind)
    with np.errstate(under="ignore"):
        wanted = np.ldexp(kind(1), exponents.astype(int)).astype(kind)
    assert_same(compiled("exp2", dtype, 4)(exponents), wanted)
    base = np.full_like(exponents, 2)
    assert_same(compiled("pow", dtype, 4)(base, exponents), wanted)
    assert np.count_nonzero(wanted) == 40
    x = wanted[3:]
    assert_same(compiled("log2", dtype, 4)(x), exponents[3:])


@pytest.mark.parametrize("fma", [True, False])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", ["pow", "atan2"])
def test_pairs_of_special_values(name: str, dtype: str, fma: bool) -> None:
    kind = number(dtype)
    edges = np.array(EDGES if dtype == "f32" else EDGES_F64, kind)
    edges = np.concatenate([edges, -edges])
    x, y = (a.ravel() for a in np.meshgrid(edges, edges))
    function = np.power if name == "pow" else np.arctan2
    with np.errstate(all="ignore"):
        wanted = function(x.astype(np.float64), y.astype(np.float64)).astype(kind)
    got = compiled(name, dtype, 8, fma)(x, y)
    # Numbers that are neither special nor exact may differ in the last place.
    with np.errstate(invalid="ignore"):
        rounded = np.isfinite(wanted) & (np.abs(got - wanted) <= np.spacing(np.abs(wanted)))
    assert_same(np.where(rounded, wanted, got), wanted)
    np.testing.assert_array_equal(np.signbit(got)[rounded], np.signbit(wanted)[rounded])


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_whole_powers_are_exact(dtype: str) -> None:
    kind = number(dtype)
    x, y = (a.ravel().astype(kind) for a in np.meshgrid(np.arange(-12, 13), np.arange(0, 6)))
    assert_same(compiled("pow", dtype, 4)(x, y), x**y)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", [n for n in ODD if n not in ("expm1", "log1p")])
def test_odd_functions_are_odd(name: str, dtype: str) -> None:
    x = np.linspace(0, 3, 1000).astype(number(dtype))
    np.testing.assert_array_equal(compiled(name, dtype, 8)(-x), -compiled(name, dtype, 8)(x))
