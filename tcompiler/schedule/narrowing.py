"""Which values an expression can have, as far as its types and constants tell: may it be kept in a narrower type?"""

from __future__ import annotations

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import Block, Function, Intrinsic, Store, Update, buffer_table, walk
from tcompiler.ir.scalar.grammar import Binary, Cast, Const, Scalar, Select, Unary, postorder

_EXACT_IN = {dt.f16: {dt.f32, dt.f64}, dt.bf16: {dt.f32, dt.f64}, dt.f32: {dt.f64}}
"""Floats whose every value another type has as well."""


def representable(node: Scalar, dtype: DType) -> bool:
    """Whether every value of an expression, cast to a type and back, is the same value.

    Args:
        node: The expression.
        dtype: The type to keep it in.
    """
    if node.dtype is dtype:
        return True
    if node.dtype.is_float and dtype.is_float:
        return _float_fits(node, dtype)
    if not (node.dtype.is_integer and dtype.is_integer):
        return False
    low, high = value_range(node)
    least, most = _limits(dtype)
    return least <= low and high <= most


def value_range(node: Scalar) -> tuple[int, int]:
    """The least and the largest value of an integer expression, where it does not wrap around; else its type's."""
    ranges: dict[Scalar, tuple[int, int]] = {}
    for n in postorder(node):
        if n.dtype.is_integer:
            whole = _limits(n.dtype)
            low, high = _range(n, ranges)
            ranges[n] = (low, high) if whole[0] <= low and high <= whole[1] else whole
    return ranges[node]


def buffer_range(function: Function, name: str) -> tuple[int, int]:
    """The least and the largest value that a buffer of integers can hold, by what is stored there; else its type's."""
    whole = _limits(buffer_table(function)[name].dtype)
    if name in function.inputs:
        return whole
    low, high = whole[1], whole[0]
    for s in walk(function.body):
        if isinstance(s, Block) and name in touched(s).writes and s.opaque:
            return whole
        if isinstance(s, Update) and any(t.buffer == name for t in s.targets):
            return whole
        if isinstance(s, Intrinsic) and any(r.buffer == name for r in s.writes):
            return whole
        if isinstance(s, Store) and s.buffer == name:
            least, most = value_range(s.value)
            low, high = min(low, least), max(high, most)
    return (low, high) if low <= high else whole


def _limits(dtype: DType) -> tuple[int, int]:
    if dtype.kind == "uint":
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def _range(n: Scalar, known: dict[Scalar, tuple[int, int]]) -> tuple[int, int]:
    match n:
        case Const():
            return int(n.value), int(n.value)
        case Cast(a=a) if a in known:
            return known[a]
        case Cast(a=a) if a.dtype is dt.bool_:
            return 0, 1
        case Select(a=a, b=b):
            return min(known[a][0], known[b][0]), max(known[a][1], known[b][1])
        case Unary(op="neg", a=a):
            return -known[a][1], -known[a][0]
        case Binary(op=op, a=a, b=b) if a in known and b in known:
            (p, q), (r, s) = known[a], known[b]
            match op:
                case "add":
                    return p + r, q + s
                case "sub":
                    return p - s, q - r
                case "mul":
                    corners = (p * r, p * s, q * r, q * s)
                    return min(corners), max(corners)
                case "min":
                    return min(p, r), min(q, s)
                case "max":
                    return max(p, r), max(q, s)
                case _:
                    pass
        case _:
            pass
    return _limits(n.dtype)


def _float_fits(node: Scalar, dtype: DType) -> bool:
    if node.dtype in _EXACT_IN.get(dtype, ()):
        match node:
            case Cast(a=a):
                return a.dtype is dtype or (dtype in _EXACT_IN and _float_fits(a, dtype))
            case Select(a=a, b=b):
                return _float_fits(a, dtype) and _float_fits(b, dtype)
            case Const():
                return float(node.value) in (0.0, 1.0, -1.0)
            case _:
                return False
    return dtype in _EXACT_IN.get(node.dtype, ())
