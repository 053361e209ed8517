"""exp and tanh: e^x = 2^n · e^r with |r| <= ln(2)/2, and a polynomial for e^r."""

from __future__ import annotations

from tcompiler.backends.llvm.math import coefficients
from tcompiler.backends.llvm.math.emit import EXPONENT_BIAS, MANTISSA, Emitter, Value

LOG2_E = 1.4426950408889634
# ln(2) in two parts, the first so short that its product with any exponent n is exact.
LN2_HIGH = {"f32": 0.693145751953125, "f64": 0.6931471805598903}
LN2_LOW = {"f32": 1.428606765330187e-06, "f64": 5.497923018708371e-14}
# Beyond these e^x is 0 or infinity whatever the rounding.
EXP_RANGE = {"f32": (-104.0, 89.0), "f64": (-746.0, 710.0)}


def rounding_magic(dtype: str) -> float:
    """1.5·2^mantissa: adding it rounds a float to an integer and leaves that integer in the low bits of the sum."""
    return 1.5 * 2.0 ** MANTISSA[dtype]


def reduced_exp(e: Emitter, x: Value, bias: int) -> tuple[Value, Value]:
    """e^x = mantissa · 2^n.

    Args:
        e: Where to emit.
        x: The exponent, within the range of the type.
        bias: Added to n in the second result.

    Returns:
        The mantissa e^r in [0.7, 1.42], and an integer whose low bits hold n + bias.
    """
    dtype = x.dtype
    magic = rounding_magic(dtype) + bias
    shifted = e.mad(x, LOG2_E, magic)
    n = shifted - magic
    r = e.mad(n, -LN2_LOW[dtype], e.mad(n, -LN2_HIGH[dtype], x))
    tail = e.mad(r * r, e.poly(r, coefficients.EXP[dtype]), r)
    return tail + 1.0, shifted.bits()


def exp(e: Emitter, x: Value) -> Value:
    """e^x. The power of two is applied in two halves, so that denormal results round once and 2^128 does not occur."""
    dtype = x.dtype
    mantissa, exponent = reduced_exp(e, e.clamp(x, *EXP_RANGE[dtype]), 2 * EXPONENT_BIAS[dtype])
    half = exponent >> 1
    rest = exponent - half
    return mantissa * (half << MANTISSA[dtype]).as_float() * (rest << MANTISSA[dtype]).as_float()


def exp_normal(e: Emitter, x: Value) -> Value:
    """e^x where the result is a normal number: one multiplication by 2^n."""
    mantissa, exponent = reduced_exp(e, x, EXPONENT_BIAS[x.dtype])
    return mantissa * (exponent << MANTISSA[x.dtype]).as_float()


def tanh(e: Emitter, x: Value) -> Value:
    """tanh: an odd polynomial below 1; above, 1 - w·P(w) with w = e^-2|x|, which needs no division."""
    dtype = x.dtype
    a = e.abs(x)
    z = a * a
    near = e.mad(z * e.poly(z, coefficients.TANH[dtype]), a, a)
    limit = a._operand({"f32": 10.0, "f64": 20.0}[dtype])
    w = exp_normal(e, e.select(limit.lt(a), limit, a) * -2.0)
    far = e.mad(-w, e.poly(w, coefficients.TANH_TAIL[dtype]), 1.0)
    return e.copysign(e.select(a.lt(1.0), near, far), x)
