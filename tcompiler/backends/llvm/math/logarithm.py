"""log: x = 2^k · (1 + f) with |f| <= 1/3, and a polynomial in f (f32) or in f/(2+f) (f64)."""

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


def log_special(e: Emitter, x: Value, result: Value) -> Value:
    """Replaces `result` where x is not positive and finite: log(0) = -inf, log(inf) = inf, otherwise NaN."""
    result = e.select(x.lt(INFINITY), result, x)
    result = e.select(x.eq(0.0), -INFINITY, result)
    return e.select(x.lt(0.0), float("nan"), result)


def log(e: Emitter, x: Value) -> Value:
    """The natural logarithm.

    k·ln2 + f is kept as an exact sum a + b, for near |k| = 1 the two cancel and the last roundings would show.
    """
    dtype = x.dtype
    k, f = split(e, x)
    a = e.mad(k, LN2_HIGH[dtype], f)
    b = f + e.mad(k, LN2_HIGH[dtype], -a)
    square = f * f
    if dtype == "f32":
        rest = square * e.poly(f, coefficients.LOG[dtype])
    else:
        s = f / (f + 2.0)
        z = s * s
        half = square * 0.5
        rest = s * e.mad(z, e.poly(z, coefficients.LOG_QUOTIENT[dtype]), half) - half
    return log_special(e, x, a + (b + e.mad(k, LN2_LOW[dtype], rest)))


