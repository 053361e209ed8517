"""exp and its kin: e^x = 2^n · e^r with |r| <= ln(2)/2, and a polynomial for e^r."""

from __future__ import annotations

from tcompiler.backends.llvm.math import coefficients
from tcompiler.backends.llvm.math.emit import EXPONENT_BIAS, MANTISSA, Emitter, Value

LOG2_E = 1.4426950408889634
# ln(2) in two parts, the first so short that its product with any exponent n is exact.
LN2_HIGH = {"f32": 0.693145751953125, "f64": 0.6931471805598903}
LN2_LOW = {"f32": 1.428606765330187e-06, "f64": 5.497923018708371e-14}
# Beyond these the results are 0 and infinity, whatever the rounding. At the lower ones a power of two is 0 itself: a
# product that rounds to 0, of two numbers that are none, takes a processor a hundred cycles.
EXP_RANGE = {"f32": (-176.0, 89.0), "f64": (-1418.2, 710.0)}
BELOW_LOWEST = {"f32": -104.6, "f64": -746.0}
# Up to these, e^x = (e^r·2^-ROOM)·2^(n + ROOM), where either factor is a normal number however small e^x is.
ROOM = {"f32": 24, "f64": 53}
BELOW = {"f32": 64.0, "f64": 640.0}
EXP2_RANGE = {"f32": (-151.0, 128.0), "f64": (-1076.0, 1024.0)}
# Below these e^x - 1 rounds to -1.
EXPM1_LOWEST = {"f32": -18.0, "f64": -38.0}


def rounding_magic(dtype: str) -> float:
    """1.5·2^mantissa: adding it rounds a float to an integer and leaves that integer in the low bits of the sum."""
    return 1.5 * 2.0 ** MANTISSA[dtype]


def reduced_expm1(e: Emitter, x: Value, bias: int, low: Value | None = None) -> tuple[Value, Value]:
    """e^x = 2^n·(1 + tail).

    Args:
        e: Where to emit.
        x: The exponent, within the range of the type.
        bias: Added to n in the second result.
        low: What is missing in x, if its exponent is known more precisely.

    Returns:
        The tail e^r - 1, between -0.3 and 0.42, and n + bias as the float `magic` + n + bias.
    """
    dtype = x.dtype
    magic = rounding_magic(dtype) + bias
    shifted = e.mad(x, LOG2_E, magic)
    n = shifted - magic
    # r is the exact `head` and a small correction; added last, the head's digits are not rounded twice.
    head = e.mad(n, -LN2_HIGH[dtype], x)
    correction = n * -LN2_LOW[dtype] if low is None else e.mad(n, -LN2_LOW[dtype], low)
    r = head + correction
    return head + e.mad(r * r, e.poly(r, coefficients.EXP[dtype]), correction), shifted


def power_of_two(shifted: Value) -> Value:
    """2^n from `magic` + n + bias, where that is a normal number."""
    return (shifted.bits() << MANTISSA[shifted.dtype]).as_float()


def two_powers(shifted: Value) -> tuple[Value, Value]:
    """Two normal numbers whose product is 2^n, from `magic` + n + twice the bias, for any n of a result.

    With the power applied in two halves a denormal result is rounded once, and 2^128 does not occur. The magic number's
    own bits are shifted out.
    """
    mantissa = MANTISSA[shifted.dtype]
    exponent = shifted.bits()
    half = exponent >> 1
    return (half << mantissa).as_float(), ((exponent - half) << mantissa).as_float()


def reduced_exp(e: Emitter, x: Value, bias: int, scale: float = 1.0) -> tuple[Value, Value]:
    """e^x = 2^n·p, with fewer operations than `reduced_expm1` and the same error: p has no small values to keep.

    Args:
        e: Where to emit.
        x: The exponent, within the range of the type.
        bias: Added to n in the second result.
        scale: A power of two.

    Returns:
        p·scale, with p between 0.7 and 1.42, and n + bias as the float `magic` + n + bias.
    """
    dtype = x.dtype
    magic = rounding_magic(dtype) + bias
    shifted = e.mad(x, LOG2_E, magic)
    n = shifted - magic
    r = e.mad(n, -LN2_LOW[dtype], e.mad(n, -LN2_HIGH[dtype], x))
    return e.horner(r, [scale * c for c in (1.0, 1.0, *coefficients.EXP[dtype])]), shifted


def exp(e: Emitter, x: Value, low: Value | None = None) -> Value:
    """e^x, or e^(x + low)."""
    x = e.clamp(x, *EXP_RANGE[x.dtype])
    bias = 2 * EXPONENT_BIAS[x.dtype]
    if low is None:
        p, shifted = reduced_exp(e, x, bias)
        power, rest = two_powers(shifted)
        return p * power * rest
    tail, shifted = reduced_expm1(e, x, bias, low)
    power, rest = two_powers(shifted)
    return e.mad(tail, power, power) * rest


def exp_below(e: Emitter, x: Value) -> Value:
    """e^x of x <= BELOW: with no overflow to think of, one power of two does, and a denormal is still rounded once."""
    dtype = x.dtype
    lowest = x.like(BELOW_LOWEST[dtype])
    x = e.select(lowest.gt(x), lowest, x)
    p, shifted = reduced_exp(e, x, EXPONENT_BIAS[dtype] + ROOM[dtype], 2.0 ** -ROOM[dtype])
    return p * power_of_two(shifted)


def exp_normal(e: Emitter, x: Value) -> Value:
    """e^x where the result is a normal number: one multiplication by 2^n."""
    tail, shifted = reduced_expm1(e, x, EXPONENT_BIAS[x.dtype])
    power = power_of_two(shifted)
    return e.mad(tail, power, power)


def half_exp(e: Emitter, x: Value) -> Value:
    """e^x / 2 of x >= 0, infinite only where e^x / 2 itself overflows."""
    tail, shifted = reduced_expm1(e, e.clamp(x, 0.0, EXP_RANGE[x.dtype][1] + 1.0), 2 * EXPONENT_BIAS[x.dtype] - 1)
    power, rest = two_powers(shifted)
    return e.mad(tail, power, power) * rest


def exp2(e: Emitter, x: Value) -> Value:
    """2^x; exact for integers."""
    dtype = x.dtype
    magic = rounding_magic(dtype) + 2 * EXPONENT_BIAS[dtype]
    x = e.clamp(x, *EXP2_RANGE[dtype])
    shifted = x + magic
    r = x - (shifted - magic)
    power, rest = two_powers(shifted)
    return e.mad(r * power, e.poly(r, coefficients.EXP2[dtype]), power) * rest


def expm1(e: Emitter, x: Value) -> Value:
    """e^x - 1, precise near 0: 2^n·tail + (2^n - 1), where the second is exact or the first is small beside it."""
    dtype = x.dtype
    bias = EXPONENT_BIAS[dtype] - 1
    tail, shifted = reduced_expm1(e, e.clamp(x, EXPM1_LOWEST[dtype], EXP_RANGE[dtype][1]), bias)
    half = power_of_two(shifted)
    result = e.mad(half, tail, half - 0.5) * 2.0
    return e.copysign(e.select(half.eq(0.5), tail, result), x)


def sigmoid(e: Emitter, x: Value) -> Value:
    """1/(1 + e^-x), as e^x/(1 + e^x) where x < 0, so that nothing overflows and small results keep their digits."""
    small = exp_below(e, -e.abs(x))
    numerator = e.select(x.lt(0.0), small, 1.0)
    return numerator / (small + 1.0)
