"""asin, acos, atan and atan2: odd polynomials after a reduction by addition theorems."""

from __future__ import annotations

from tcompiler.backends.llvm.math import coefficients
from tcompiler.backends.llvm.math.emit import Emitter, Value
from tcompiler.backends.llvm.math.logarithm import INFINITY
from tcompiler.backends.llvm.math.trigonometric import PI_2_PARTS

_TAN_PI_8 = 0.41421356237309503
_TAN_3PI_8 = 2.414213562373095
_HUGE = {"f32": 2.0**125, "f64": 2.0**1021}


def _asin_parts(e: Emitter, x: Value) -> tuple[Value, Value, Value]:
    """Whether |x| is over 1/2, and s, t with asin(s) = s + t: s is |x|, or sqrt((1 - |x|)/2) over 1/2."""
    a = e.abs(x)
    large = a.gt(0.5)
    z = e.select(large, (1.0 - a) * 0.5, a * a)
    s = e.select(large, e.sqrt(z), a)
    return large, s, s * (z * e.poly(z, coefficients.ASIN[x.dtype]))


def asin(e: Emitter, x: Value) -> Value:
    """The arc sine; over 1/2 as pi/2 - 2·asin(sqrt((1 - |x|)/2)). NaN beyond 1."""
    high, low, _ = PI_2_PARTS[x.dtype]
    large, s, t = _asin_parts(e, x)
    difference, error = e.fast_two_sum(s.like(high), s * -2.0)
    far = difference + (error - (t * 2.0 - low))
    return e.copysign(e.select(large, far, s + t), x)


def acos(e: Emitter, x: Value) -> Value:
    """The arc cosine: pi/2 - asin(x), and 2·asin(sqrt((1 - |x|)/2)) or pi minus that over 1/2. NaN beyond 1."""
    high, low, _ = PI_2_PARTS[x.dtype]
    large, s, t = _asin_parts(e, x)
    near = high - (e.copysign(s, x) + (e.copysign(t, x) - low))
    double = (s + t) * 2.0
    far = e.select(x.lt(0.0), 2.0 * high - (double - 2.0 * low), double)
    return e.select(large, far, near)


def _ratio(e: Emitter, numerator: Value, denominator: Value) -> Value:
    """The arc tangent of a quotient of numbers that are not negative, not both 0 and not both infinite.

    With the addition theorem for pi/4 or pi/2 the argument shrinks to tan(pi/8) at most, for one division in all.
    """
    high, low, _ = PI_2_PARTS[numerator.dtype]
    middle = numerator.gt(denominator * _TAN_PI_8)
    large = numerator.gt(denominator * _TAN_3PI_8)
    top = e.select(large, -denominator, e.select(middle, numerator - denominator, numerator))
    bottom = e.select(large, numerator, e.select(middle, numerator + denominator, denominator))
    offset_high = e.select(large, high, e.select(middle, high / 2, numerator.like(0.0)))
    offset_low = e.select(large, low, e.select(middle, low / 2, numerator.like(0.0)))
    v = top / bottom
    z = v * v
    return offset_high + (v + e.mad(v * z, e.poly(z, coefficients.ATAN[v.dtype]), offset_low))


def atan(e: Emitter, x: Value) -> Value:
    """The arc tangent."""
    return e.copysign(_ratio(e, e.abs(x), x.like(1.0)), x)


def atan2(e: Emitter, y: Value, x: Value) -> Value:
    """The angle of the point (x, y), with the special cases of C (ISO C Annex F.10.1.4)."""
    high, low, _ = PI_2_PARTS[x.dtype]
    top, bottom = e.abs(y), e.abs(x)
    # Only whether each is infinite matters once one is; huge ones shrink, for their sum must not overflow.
    infinite = top.eq(INFINITY) | bottom.eq(INFINITY)
    huge = top.gt(_HUGE[x.dtype]) | bottom.gt(_HUGE[x.dtype])
    shrink = e.select(huge, x.like(0.25), 1.0)
    top = e.select(infinite, e.select(top.eq(INFINITY), x.like(1.0), 0.0), top * shrink)
    bottom = e.select(infinite, e.select(bottom.eq(INFINITY), x.like(1.0), 0.0), bottom * shrink)
    bottom = e.select(top.eq(0.0) & bottom.eq(0.0), 1.0, bottom)
    angle = _ratio(e, top, bottom)
    angle = e.select(x.bits().lt(0), 2.0 * high - (angle - 2.0 * low), angle)
    angle = e.select(x.is_nan() | y.is_nan(), float("nan"), angle)
    return e.copysign(angle, y)
