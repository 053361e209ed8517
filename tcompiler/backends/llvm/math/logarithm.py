"""log and its kin: x = 2^k · (1 + f) with |f| <= 1/3, and a polynomial in f (f32) or in f/(2 + f) (f64)."""

from __future__ import annotations

import struct

from tcompiler.backends.llvm.math import coefficients
from tcompiler.backends.llvm.math.emit import MANTISSA, Emitter, Value
from tcompiler.backends.llvm.math.exponential import LN2_HIGH, LN2_LOW

INFINITY = float("inf")
MIN_NORMAL = {"f32": 2.0**-126, "f64": 2.0**-1022}
# 1 + f runs over [2/3, 4/3): the interval around 1 that is symmetric in f.
_TWO_THIRDS_BITS = {
    "f32": struct.unpack("<i", struct.pack("<f", 2 / 3))[0],
    "f64": struct.unpack("<q", struct.pack("<d", 2 / 3))[0],
}
_LOG2_E_HIGH = {"f32": 1.4426950216293335, "f64": 1.4426950408889634}
_LOG2_E_LOW = {"f32": 1.9259629911266175e-08, "f64": 2.0355273740931033e-17}


def split(e: Emitter, x: Value, denormals: bool = True) -> tuple[Value, Value]:
    """x = 2^k · (1 + f).

    Args:
        e: Where to emit.
        x: Positive and finite; anything else gives numbers without meaning.
        denormals: Whether x can be denormal.

    Returns:
        k as a float, and f in [-1/3, 1/3], exactly.
    """
    dtype = x.dtype
    mantissa = MANTISSA[dtype]
    small = x.lt(MIN_NORMAL[dtype])
    if denormals:
        x = e.select(small, x * 2.0**mantissa, x)
    offset = x.bits() - _TWO_THIRDS_BITS[dtype]
    f = ((offset & ((1 << mantissa) - 1)) + _TWO_THIRDS_BITS[dtype]).as_float() - 1.0
    if dtype == "f32":
        k = offset.sar(mantissa).cast("sitofp", "float")
        return (e.select(small, k - float(mantissa), k) if denormals else k), f
    # AVX2 has neither an arithmetic shift of i64 nor a conversion to f64: bias k and place it below the point of 2^52.
    bias = 1024
    above = (offset + (bias << mantissa)) >> mantissa
    two_52 = 2.0**52
    placed = (above | e.constant(two_52, "double").bits()).as_float()
    base = e.constant(two_52 + bias, "double")
    return placed - (e.select(small, base + float(mantissa), base) if denormals else base), f


def special(e: Emitter, x: Value, result: Value) -> Value:
    """Replaces `result` where x is not positive and finite: log(0) = -inf, log(inf) = inf, otherwise NaN."""
    result = e.select(x.lt(INFINITY), result, x)
    result = e.select(x.eq(0.0), -INFINITY, result)
    return e.select(x.lt(0.0), float("nan"), result)


def curvature(e: Emitter, f: Value) -> Value:
    """log(1 + f) - f."""
    square = f * f
    if f.dtype == "f32":
        return square * e.poly(f, coefficients.LOG["f32"])
    s = f / (f + 2.0)
    z = s * s
    half = square * 0.5
    return s * e.mad(z, e.poly(z, coefficients.LOG_QUOTIENT["f64"]), half) - half


def _combine(e: Emitter, k: Value, f: Value, rest: Value) -> Value:
    """k·ln(2) + f + rest.

    k·ln(2) + f is kept as an exact sum a + b: near |k| = 1 the two cancel and their rounding would show.
    """
    high = LN2_HIGH[f.dtype]
    a = e.mad(k, high, f)
    b = f + e.mad(k, high, -a)
    return a + (b + e.mad(k, LN2_LOW[f.dtype], rest))


def log(e: Emitter, x: Value) -> Value:
    """The natural logarithm."""
    k, f = split(e, x)
    return special(e, x, _combine(e, k, f, curvature(e, f)))


def log2(e: Emitter, x: Value) -> Value:
    """The binary logarithm; exact for powers of two."""
    dtype = x.dtype
    k, f = split(e, x)
    scaled, error = e.two_product(f, _LOG2_E_HIGH[dtype])
    rest = e.mad(curvature(e, f), _LOG2_E_HIGH[dtype], e.mad(f, _LOG2_E_LOW[dtype], error))
    a, b = e.fast_two_sum(k, scaled)
    return special(e, x, a + (b + rest))


def log1p(e: Emitter, x: Value) -> Value:
    """log(1 + x), precise near 0: the rounding error of 1 + x comes back as a correction of the first order."""
    total, error = e.two_sum(x.like(1.0), x)
    k, f = split(e, total, denormals=False)
    result = _combine(e, k, f, curvature(e, f) + error / total)
    return e.copysign(special(e, total, result), x)
