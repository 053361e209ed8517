"""What every operation does to numpy values; the interpreter and the evaluator share it and differ in traversal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.scalar.grammar import COMPARISONS

Array = NDArray[Any]

_erf64 = np.frompyfunc(math.erf, 1, 1)

_UNARY: dict[str, Callable[[Array], Array]] = {
    "neg": np.negative,
    "abs": np.abs,
    # np.sign of -0.0 is 0.0
    "sign": lambda a: np.where(a == 0, a, np.sign(a)),
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "trunc": np.trunc,
    "isnan": np.isnan,
    "isinf": np.isinf,
}
_EXACT = frozenset({"neg", "abs", "sign", "not", "sqrt", "floor", "ceil", "round", "trunc", "isnan", "isinf"})
_BITS: dict[str, Callable[[Array, Array], Array]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
_COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def unary(op: str, dtype: DType, a: Array) -> Array:
    """Applies a unary operation to values of a dtype."""
    with np.errstate(all="ignore"):
        if op == "not":
            return np.logical_not(a) if dtype is dt.bool_ else np.invert(a)
        if dtype in (dt.f16, dt.bf16):
            wide = unary(op, dt.f32, a.astype(np.float32))
            return wide if wide.dtype == np.bool_ else wide.astype(dtype.numpy)
        if op == "neg" and dtype.kind == "uint":
            return np.subtract(dtype.numpy.type(0), a)
        if op == "rsqrt":
            return np.divide(dtype.numpy.type(1), np.sqrt(a))
        if op in _EXACT:
            return np.asarray(_UNARY[op](a))
        # functions are computed in double and rounded once, so that scalars and vectors agree
        x = np.asarray(a, dtype=np.float64)
        if op == "erf":
            result = np.asarray(_erf64(x), dtype=np.float64)
        elif op == "sigmoid":
            result = np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))
            result = np.where(np.isnan(x), x, result)
        else:
            result = np.asarray(_UNARY[op](x))
        return result.astype(dtype.numpy)


def binary(op: str, dtype: DType, a: Array, b: Array) -> Array:
    """Applies a binary operation to values of one dtype."""
    with np.errstate(all="ignore"):
        if op in COMPARISONS:
            return np.asarray(_COMPARE[op](a, b))
        if op in _BITS:
            return np.asarray(_BITS[op](a, b))
        if dtype in (dt.f16, dt.bf16):
            return binary(op, dt.f32, a.astype(np.float32), b.astype(np.float32)).astype(dtype.numpy)
        match op:
            case "add":
                return np.add(a, b)
            case "sub":
                return np.subtract(a, b)
            case "mul":
                return np.multiply(a, b)
            case "div":
                return np.divide(a, b)
            case "min":
                return np.minimum(a, b)
            case "max":
                return np.maximum(a, b)
            case "shl" | "shr":
                amount = np.bitwise_and(b, dtype.numpy.type(dtype.bits - 1))
                shift = np.left_shift if op == "shl" else np.right_shift
                return np.asarray(shift(a, amount))
            case "atan2":
                return np.asarray(np.arctan2(np.float64(a), np.float64(b)).astype(dtype.numpy))
            case "pow":
                return _power(dtype, a, b)
        if dtype.is_float:
            return _float_division(op, a, b)
        return _integer_division(op, dtype, a, b)


def _power(dtype: DType, a: Array, b: Array) -> Array:
    if dtype.is_float:
        return np.asarray(np.power(np.float64(a), np.float64(b))).astype(dtype.numpy)
    one = dtype.numpy.type(1)
    a, b = np.broadcast_arrays(a, b)
    result, base, exponent = np.full_like(a, one), a.copy(), b.view(_unsigned(dtype)).copy()
    for _ in range(dtype.bits):
        odd = (exponent & exponent.dtype.type(1)).astype(bool)
        result = np.where(odd, result * base, result)
        base = base * base
        exponent = exponent >> exponent.dtype.type(1)
    if dtype.kind == "uint":
        return result
    unit = np.where((b & one).astype(bool), a, one)
    negative = np.where((a == 1) | (a == -1), unit, dtype.numpy.type(0))
    return np.where(b < 0, negative, result).astype(dtype.numpy)


def _unsigned(dtype: DType) -> np.dtype[Any]:
    return np.dtype(f"uint{dtype.bits}")


def _float_division(op: str, a: Array, b: Array) -> Array:
    if op == "floordiv":
        return np.floor(np.divide(a, b))
    rest = np.fmod(a, b)
    if op == "truncmod":
        return rest
    wrong = (rest != 0) & ((rest < 0) != (b < 0))
    return np.where(wrong, rest + b, rest).astype(np.asarray(a).dtype)


def _integer_division(op: str, dtype: DType, a: Array, b: Array) -> Array:
    a, b = np.broadcast_arrays(np.asarray(a), np.asarray(b))
    zero, one = dtype.numpy.type(0), dtype.numpy.type(1)
    if dtype.kind == "uint":
        safe = np.where(b == 0, one, b)
        value = a // safe if op.endswith("div") else a % safe
        return np.where(b == 0, zero, value).astype(dtype.numpy)
    minus = b == -1
    safe = np.where((b == 0) | minus, one, b)
    if op.startswith("floor"):
        quotient, rest = a // safe, a % safe
    else:
        rest = np.fmod(a, safe)
        quotient = (a - rest) // safe
    value = np.where(minus, zero - a, quotient) if op.endswith("div") else np.where(minus, zero, rest)
    return np.where(b == 0, zero, value).astype(dtype.numpy)


def cast(a: Array, source: DType, to: DType) -> Array:
    """Converts values of a dtype to another one."""
    if source is to:
        return a
    with np.errstate(all="ignore"):
        if to is dt.bool_:
            return np.asarray(a != 0)
        if source.is_float and not to.is_float:
            x = np.trunc(np.asarray(a, dtype=np.float64))
            info = np.iinfo(to.name.replace("i", "int", 1).replace("u", "uint", 1))
            low, high = float(info.min), float(info.max)
            # float(max) of i64 rounds up to 2^63, which does not fit: what reaches it saturates
            inside = (x >= low) & (x < high) if high > 2**53 else (x >= low) & (x <= high)
            result = np.where(inside, x, 0).astype(to.numpy)
            result = np.where(x >= high, to.numpy.type(info.max), result)
            return np.where(x < low, to.numpy.type(info.min), result).astype(to.numpy)
        if to is dt.bf16 and source.bits >= 32 and source is not dt.f32:
            # two roundings (f64 to f32 to bf16) would differ from one
            return _round_to_bf16(np.asarray(a, dtype=np.float64))
        return np.asarray(a).astype(to.numpy)


def _round_to_bf16(x: Array) -> Array:
    """Rounds doubles to bf16 once, to nearest even: by rounding to odd in f32 first."""
    single = x.astype(np.float32)
    bits = single.view(np.uint32)
    inexact = (single.astype(np.float64) != x) & np.isfinite(single)
    away = np.abs(single.astype(np.float64)) > np.abs(x)
    truncated = np.where(inexact & away, bits - np.uint32(1), bits)
    odd = np.where(inexact, truncated | np.uint32(1), bits).astype(np.uint32)
    return odd.view(np.float32).astype(dt.bf16.numpy)
