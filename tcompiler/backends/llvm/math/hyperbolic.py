"""tanh, sinh, cosh and their inverses: odd polynomials near 0, exponentials and logarithms elsewhere."""

from __future__ import annotations

from tcompiler.backends.llvm.math import coefficients
from tcompiler.backends.llvm.math.emit import Emitter, Value
from tcompiler.backends.llvm.math.exponential import exp_normal, half_exp
from tcompiler.backends.llvm.math.logarithm import log1p

LN2 = 0.6931471805599453
# From here on x + sqrt(x^2 ± 1) rounds to 2x.
_LARGE = {"f32": 2.0**26, "f64": 2.0**56}


def tanh(e: Emitter, x: Value) -> Value:
    """tanh: an odd polynomial below 1; above, 1 - w·P(w) with w = e^-2|x|, which needs no division."""
    dtype = x.dtype
    a = e.abs(x)
    z = a * a
    near = e.mad(z * e.poly(z, coefficients.TANH[dtype]), a, a)
    limit = a.like({"f32": 10.0, "f64": 20.0}[dtype])
    w = exp_normal(e, e.select(limit.lt(a), limit, a) * -2.0)
    far = e.mad(-w, e.poly(w, coefficients.TANH_TAIL[dtype]), 1.0)
    return e.copysign(e.select(a.lt(1.0), near, far), x)


def sinh(e: Emitter, x: Value) -> Value:
    """sinh: an odd polynomial below 1, (e^|x| - e^-|x|)/2 above."""
    a = e.abs(x)
    z = a * a
    near = e.mad(z * e.poly(z, coefficients.SINH[x.dtype]), a, a)
    half = half_exp(e, a)
    return e.copysign(e.select(a.lt(1.0), near, half - 0.25 / half), x)


def cosh(e: Emitter, x: Value) -> Value:
    """(e^|x| + e^-|x|)/2."""
    half = half_exp(e, e.abs(x))
    return half + 0.25 / half


def asinh(e: Emitter, x: Value) -> Value:
    """log(|x| + sqrt(x^2 + 1)) with the sign of x, through log1p so that small x keep their digits."""
    a = e.abs(x)
    large = a.gt(_LARGE[x.dtype])
    square = a * a
    argument = a + square / (e.sqrt(square + 1.0) + 1.0)
    result = log1p(e, e.select(large, a, argument))
    return e.copysign(e.select(large, result + LN2, result), x)


def acosh(e: Emitter, x: Value) -> Value:
    """log(x + sqrt(x^2 - 1)), through log1p so that x near 1 keep their digits; NaN below 1."""
    large = x.gt(_LARGE[x.dtype])
    t = x - 1.0
    result = log1p(e, e.select(large, x, t + e.sqrt(e.mad(t, t, t + t))))
    return e.select(x.lt(1.0), float("nan"), e.select(large, result + LN2, result))


def atanh(e: Emitter, x: Value) -> Value:
    """log((1 + |x|)/(1 - |x|))/2 with the sign of x; NaN beyond 1."""
    a = e.abs(x)
    return e.copysign(log1p(e, (a + a) / (1.0 - a)) * 0.5, x)
