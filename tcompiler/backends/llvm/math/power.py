"""pow with the special cases of C (ISO C Annex F.10.4.4): the power of |x|, then the sign and the exceptions."""

from __future__ import annotations

from tcompiler.backends.llvm.math import coefficients
from tcompiler.backends.llvm.math.emit import Emitter, Value
from tcompiler.backends.llvm.math.exponential import EXP_RANGE, LN2_HIGH, LN2_LOW, exp, rounding_magic
from tcompiler.backends.llvm.math.logarithm import INFINITY, split

_THIRD_HIGH = 0.3333333333333333
_THIRD_LOW = 1.850371707708594e-17


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
    """pow of f32, computed in f64, with log2 to 2^-42 and 2^r to 2^-32 of themselves; powers of two are exact."""
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
    power = e.mad(r, e.poly(r, coefficients.POWF_EXP2["f64"]), 1.0)
    return special_cases(e, x, y, (power * scale).cast("fptrunc", "float"))


def _accurate_log(e: Emitter, a: Value) -> tuple[Value, Value]:
    """log(a) of a positive f64 as a sum of two, to about 2^-64 of itself.

    With s = f/(2 + f): log(1 + f) = 2s·(1 + s²/3 + s⁴·P(s²)); all but P is computed in pairs (T. J. Dekker 1971).
    """
    k, f = split(e, a)
    bottom, bottom_low = e.fast_two_sum(a.like(2.0), f)
    inverse = 1.0 / bottom
    s = f * inverse
    s_low = e.fma(-s, bottom_low, e.fma(-s, bottom, f)) * inverse
    z, z_low = e.two_product(s, s)
    z_low = e.mad(s + s, s_low, z_low)
    third, third_low = e.two_product(z, _THIRD_HIGH)
    third_low = third_low + e.mad(z_low, _THIRD_HIGH, z * _THIRD_LOW)
    series, series_low = e.fast_two_sum(third, z * z * e.poly(z, coefficients.POW_LOG["f64"]))
    series_low = series_low + third_low
    double = s + s
    curve, curve_low = e.two_product(double, series)
    curve_low = curve_low + e.mad(double, series_low, (s_low + s_low) * series)
    head, head_low = e.fast_two_sum(double, curve)
    head_low = head_low + (curve_low + (s_low + s_low))
    total, total_low = e.fast_two_sum(k * LN2_HIGH["f64"], head)
    return total, total_low + e.mad(k, LN2_LOW["f64"], head_low)


def pow_f64(e: Emitter, x: Value, y: Value) -> Value:
    """pow of f64: e^(y·log|x|), the logarithm and the product each a sum of two."""
    a = e.abs(x)
    log, log_low = _accurate_log(e, a)
    log = e.select(a.lt(INFINITY), log, a)
    log = e.select(a.eq(0.0), -INFINITY, log)
    product, product_low = e.two_product(y, log)
    product_low = e.mad(y, log_low, product_low)
    # Where e^product over- or underflows for certain, the low part may be NaN.
    product_low = e.select(e.abs(product).lt(-EXP_RANGE["f64"][0]), product_low, 0.0)
    return special_cases(e, x, y, exp(e, product, product_low))
