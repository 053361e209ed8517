"""pow with the special cases of C (ISO C Annex F.10.4.4): 2^(y·log2|x|), then the sign and the exceptions."""

from __future__ import annotations

from tcompiler.backends.llvm.math import coefficients
from tcompiler.backends.llvm.math.emit import Emitter, Value
from tcompiler.backends.llvm.math.exponential import rounding_magic
from tcompiler.backends.llvm.math.logarithm import INFINITY, split


def special_cases(e: Emitter, x: Value, y: Value, magnitude: Value) -> Value:
    """pow(x, y) from `magnitude` = pow(|x|, y), in which a zero, an infinite or a NaN |x| or y is already right."""
    half = y * 0.5
    integral = e.trunc(y).eq(y)
    odd = integral & e.trunc(half).ne(half)
    result = e.select(odd, e.copysign(magnitude, x), magnitude)
    result = e.select(x.lt(0.0) & x.gt(-INFINITY) & ~integral, float("nan"), result)
    # |x| = 1 with infinite y, and NaN beside x = 1 or y = 0.
    result = e.select(e.abs(x).eq(1.0) & e.abs(y).eq(INFINITY), 1.0, result)
    return e.select(x.eq(1.0) | y.eq(0.0), 1.0, result)


def pow_f32(e: Emitter, x: Value, y: Value) -> Value:
    """pow of f32, computed in f64, where log2 to 2^-42 and 2^r to 2^-29 round to within a hair of half an ulp."""
    a = e.abs(x).cast("fpext", "double")
    k, f = split(e, a, denormals=False)
    s = f / (f + 2.0)
    log2 = e.mad(s, e.poly(s * s, coefficients.POWF_LOG2["f64"]), k)
    log2 = e.select(a.lt(INFINITY), log2, a)
    log2 = e.select(a.eq(0.0), -INFINITY, log2)
    p = e.clamp(y.cast("fpext", "double") * log2, -160.0, 130.0)
    magic = rounding_magic("f64") + 1023
    shifted = p + magic
    r = p - (shifted - magic)
    scale = (shifted.bits() << 52).as_float()
    magnitude = (e.poly(r, coefficients.POWF_EXP2["f64"]) * scale).cast("fptrunc", "float")
    return special_cases(e, x, y, magnitude)
