"""All node kinds of the scalar language, and what they mean.

    scalar = Const(dtype, bits)             a value, kept as its bit pattern
           | Var(name, dtype, extent)       a loop variable or iter var in [0, extent); a parameter if extent is None
           | Unary(op, a)                   op in UNARY
           | Binary(op, a, b)               op in BINARY; both operands have one dtype
           | Select(cond, a, b)             only the chosen side is evaluated
           | Cast(dtype, a)
           | Load(buffer, dtype, indices)   an element of a named tensor or buffer; indices are i64

Meaning:
  * Integers wrap around (two's complement); i64 is the type of every index.
  * ``floordiv`` rounds towards minus infinity and ``floormod`` has the divisor's sign; ``truncdiv`` rounds towards
    zero and ``truncmod`` has the dividend's sign. A division or modulo by zero gives 0, and the smallest integer
    divided by -1 gives itself (remainder 0): nothing traps.
  * ``div`` is IEEE division and takes floats only. Floats round to nearest even; NaN and infinities follow IEEE 754.
  * ``min`` and ``max`` of floats give NaN if either side is NaN; of -0.0 and 0.0 either may come out.
  * Comparisons with NaN are false, but ``ne`` is true. They give bool.
  * ``and``, ``or``, ``xor`` act on bools and bitwise on integers; both sides are evaluated. Shifts take the amount
    modulo the width; ``shr`` is arithmetic on signed integers and logical on unsigned ones.
  * ``round`` rounds halves to even. ``sign`` of NaN is NaN, of a zero that zero. ``abs`` of the smallest integer wraps.
  * ``sqrt`` and division are correctly rounded; exp, log, tanh, erf, sin, cos, pow and their kin have the ulp bounds
    that the backend states.
  * Casts: float to integer truncates and saturates, NaN gives 0; integer to integer wraps; anything to bool is
    ``!= 0`` (NaN is true); bool to a number is 0 or 1; float to a narrower float rounds to nearest even.
  * f16 and bf16 arithmetic is done in f32 and rounded after every operation.
  * A Load whose index is outside its tensor is an error (the interpreter checks); Select guards such reads.

Nodes are interned process-wide: structural equality is identity. 0.0 and -0.0 differ, and NaNs with different bits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType

UNARY: dict[str, str] = {
    # op: which operand kinds it takes ("float", "number" = float or integer, "bool", "bits" = bool or integer)
    "neg": "number",
    "abs": "number",
    "sign": "number",
    "not": "bits",
    "exp": "float",
    "exp2": "float",
    "expm1": "float",
    "log": "float",
    "log2": "float",
    "log1p": "float",
    "sqrt": "float",
    "rsqrt": "float",
    "tanh": "float",
    "sigmoid": "float",
    "erf": "float",
    "sin": "float",
    "cos": "float",
    "tan": "float",
    "asin": "float",
    "acos": "float",
    "atan": "float",
    "sinh": "float",
    "cosh": "float",
    "asinh": "float",
    "acosh": "float",
    "atanh": "float",
    "floor": "float",
    "ceil": "float",
    "round": "float",
    "trunc": "float",
    "isnan": "float",
    "isinf": "float",
}
"""Unary operations and the operand kind that each takes."""

BINARY: dict[str, str] = {
    "add": "number",
    "sub": "number",
    "mul": "number",
    "div": "float",
    "floordiv": "number",
    "floormod": "number",
    "truncdiv": "integer",
    "truncmod": "number",
    "min": "number",
    "max": "number",
    "pow": "number",
    "atan2": "float",
    "and": "bits",
    "or": "bits",
    "xor": "bits",
    "shl": "integer",
    "shr": "integer",
    "eq": "any",
    "ne": "any",
    "lt": "any",
    "le": "any",
    "gt": "any",
    "ge": "any",
}
"""Binary operations and the operand kind that each takes."""

COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
PREDICATES = frozenset({"isnan", "isinf"})


class _Interning(type):
    """Makes equal nodes identical: a class call looks the node up by its fields first."""

    _table: dict[tuple[Any, ...], Any]

    def __call__(cls, *args: Any) -> Any:
        try:
            return cls._table[args]
        except KeyError:
            # setdefault is atomic: two threads that build one node get one object
            return cls._table.setdefault(args, type.__call__(cls, *args))


class Interned(metaclass=_Interning):
    """Base of interned nodes; fields are given by position and must be hashable."""

    __slots__ = ()
    _table: ClassVar[dict[tuple[Any, ...], Any]]

    def __init_subclass__(cls) -> None:
        cls._table = {}


class Scalar(Interned):
    """A scalar expression. Python's operators build nodes (comparisons that Python needs are functions below)."""

    __slots__ = ()
    dtype: DType

    def __add__(self, other: Scalar | int) -> Scalar:
        return add(self, other)

    def __radd__(self, other: int) -> Scalar:
        return add(other, self)

    def __sub__(self, other: Scalar | int) -> Scalar:
        return sub(self, other)

    def __rsub__(self, other: int) -> Scalar:
        return sub(other, self)

    def __mul__(self, other: Scalar | int) -> Scalar:
        return mul(self, other)

    def __rmul__(self, other: int) -> Scalar:
        return mul(other, self)

    def __floordiv__(self, other: Scalar | int) -> Scalar:
        return floordiv(self, other)

    def __mod__(self, other: Scalar | int) -> Scalar:
        return floormod(self, other)

    def __repr__(self) -> str:
        from tcompiler.ir.scalar.text import print_scalar

        return print_scalar(self)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("scalars are interned and do not cross processes: send text")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Const(Scalar):
    """A value by its bit pattern (an unsigned integer of the dtype's width in memory)."""

    dtype: DType
    bits: int

    @property
    def value(self) -> int | float | bool:
        """The value as a Python number."""
        return bits_to_value(self.dtype, self.bits)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Var(Scalar):
    """A variable in [0, extent), or a free parameter (at least 0) where extent is None."""

    name: str
    dtype: DType
    extent: Scalar | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Unary(Scalar):
    """An operation of one operand."""

    op: str
    a: Scalar
    dtype: DType = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", dt.bool_ if self.op in PREDICATES else self.a.dtype)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Binary(Scalar):
    """An operation of two operands of one dtype."""

    op: str
    a: Scalar
    b: Scalar
    dtype: DType = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", dt.bool_ if self.op in COMPARISONS else self.a.dtype)


_BINARY_TABLE: dict[tuple[Any, ...], Any] = Binary._table


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Select(Scalar):
    """`a` where cond holds, else `b`; the other side is not evaluated."""

    cond: Scalar
    a: Scalar
    b: Scalar
    dtype: DType = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", self.a.dtype)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Cast(Scalar):
    """A conversion to another dtype."""

    dtype: DType
    a: Scalar


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Load(Scalar):
    """An element of the tensor or buffer with this name, as declared in the program around it."""

    buffer: str
    dtype: DType
    indices: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reducer(Interned):
    """An associative combination of tuples: (lhs, rhs) to combine, with an identity.

    Attributes:
        lhs: Variables that stand for the accumulated tuple.
        rhs: Variables that stand for the next tuple.
        combine: The combined tuple, over lhs and rhs.
        identity: The tuple e with combine(e, x) = x.
    """

    lhs: tuple[Var, ...]
    rhs: tuple[Var, ...]
    combine: tuple[Scalar, ...]
    identity: tuple[Const, ...]


def children(node: Scalar) -> tuple[Scalar, ...]:
    """The direct operands of a node (a Var's extent is not an operand)."""
    match node:
        case Const() | Var():
            return ()
        case Unary(a=a) | Cast(a=a):
            return (a,)
        case Binary(a=a, b=b):
            return (a, b)
        case Select(cond=c, a=a, b=b):
            return (c, a, b)
        case Load(indices=indices):
            return indices
    raise TypeError(f"not a scalar: {type(node).__name__}")


def map_children(node: Scalar, fn: Callable[[Scalar], Scalar]) -> Scalar:
    """Applies fn to every operand; the same object comes back when nothing changed."""
    match node:
        case Const() | Var():
            return node
        case Unary(op=op, a=a):
            x = fn(a)
            return node if x is a else Unary(op, x)
        case Binary(op=op, a=a, b=b):
            x, y = fn(a), fn(b)
            return node if x is a and y is b else Binary(op, x, y)
        case Select(cond=c, a=a, b=b):
            w, x, y = fn(c), fn(a), fn(b)
            return node if w is c and x is a and y is b else Select(w, x, y)
        case Cast(dtype=d, a=a):
            x = fn(a)
            return node if x is a else Cast(d, x)
        case Load(buffer=name, dtype=d, indices=indices):
            new = tuple(map(fn, indices))
            return node if all(x is y for x, y in zip(new, indices, strict=True)) else Load(name, d, new)
    raise TypeError(f"not a scalar: {type(node).__name__}")


def postorder(*roots: Scalar) -> Iterator[Scalar]:
    """Every distinct node below the roots, operands before users; iterative, so depth does not matter."""
    seen: set[Scalar] = set()
    stack: list[tuple[Scalar, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        node, done = stack.pop()
        if done:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((c, False) for c in reversed(children(node)) if c not in seen)


_I64_MASK = 0xFFFFFFFFFFFFFFFF


def _signed(bits: int) -> int:
    return bits - 0x10000000000000000 if bits >> 63 else bits


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b if b else 0,
    "floormod": lambda a, b: a % b if b else 0,
    "min": min,
    "max": max,
}
# (op, bits of the constant): which operand the operation gives, or that the constant itself is the result
_NEUTRAL_RIGHT = frozenset({("add", 0), ("sub", 0), ("mul", 1), ("floordiv", 1)})
_ABSORBING = frozenset({("mul", 0), ("floordiv", 0), ("floormod", 0)})
_NEUTRAL_LEFT = frozenset({("add", 0), ("mul", 1)})


def _index_op(op: str, a: Scalar | int, b: Scalar | int) -> Scalar:
    """Builds an operation, folding i64 constants and neutral elements (index arithmetic stays readable)."""
    x = a if isinstance(a, Scalar) else Const(dt.i64, a & _I64_MASK)
    y = b if isinstance(b, Scalar) else Const(dt.i64, b & _I64_MASK)
    if type(y) is Const:
        if y.dtype is dt.i64:
            if type(x) is Const:
                return Const(dt.i64, _ARITHMETIC[op](_signed(x.bits), _signed(y.bits)) & _I64_MASK)
            if y.bits < 2:
                key = (op, y.bits)
                if key in _NEUTRAL_RIGHT:
                    return x
                if key in _ABSORBING:
                    return y
                if op == "floormod":
                    return Const(dt.i64, 0)
    elif type(x) is Const and x.bits < 2 and x.dtype is dt.i64:
        key = (op, x.bits)
        if key in _NEUTRAL_LEFT:
            return y
        if key in _ABSORBING:
            return x
    # a hit needs no call through the metaclass
    found: Scalar | None = _BINARY_TABLE.get((op, x, y))
    return Binary(op, x, y) if found is None else found


def add(a: Scalar | int, b: Scalar | int) -> Scalar:
    """a + b; i64 constants fold."""
    return _index_op("add", a, b)


def sub(a: Scalar | int, b: Scalar | int) -> Scalar:
    """a - b; i64 constants fold."""
    return _index_op("sub", a, b)


def mul(a: Scalar | int, b: Scalar | int) -> Scalar:
    """a * b; i64 constants fold."""
    return _index_op("mul", a, b)


def floordiv(a: Scalar | int, b: Scalar | int) -> Scalar:
    """a // b; i64 constants fold."""
    return _index_op("floordiv", a, b)


def floormod(a: Scalar | int, b: Scalar | int) -> Scalar:
    """a % b; i64 constants fold."""
    return _index_op("floormod", a, b)


def minimum(a: Scalar | int, b: Scalar | int) -> Scalar:
    """min(a, b); i64 constants fold."""
    return _index_op("min", a, b)


def maximum(a: Scalar | int, b: Scalar | int) -> Scalar:
    """max(a, b); i64 constants fold."""
    return _index_op("max", a, b)


TRUE: Const
FALSE: Const


def conjunction(*conditions: Scalar) -> Scalar:
    """All conditions hold; TRUE where there are none."""
    result: Scalar = TRUE
    for c in conditions:
        if c is TRUE or c is result:
            continue
        if c is FALSE:
            return FALSE
        result = c if result is TRUE else Binary("and", result, c)
    return result


def conjuncts(predicate: Scalar) -> list[Scalar]:
    """The conditions that a predicate joins by "and", from left to right."""
    if isinstance(predicate, Binary) and predicate.op == "and":
        return [*conjuncts(predicate.a), *conjuncts(predicate.b)]
    return [] if predicate is TRUE else [predicate]


def less(a: Scalar | int, b: Scalar | int) -> Scalar:
    """a < b over i64."""
    return _compare("lt", a, b)


def greater_equal(a: Scalar | int, b: Scalar | int) -> Scalar:
    """a >= b over i64."""
    return _compare("ge", a, b)


def equal(a: Scalar | int, b: Scalar | int) -> Scalar:
    """a == b over i64 (structural equality is `is`)."""
    return _compare("eq", a, b)


_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "lt": lambda a, b: a < b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
}


def _compare(op: str, a: Scalar | int, b: Scalar | int) -> Scalar:
    x = a if isinstance(a, Scalar) else Const(dt.i64, a & _I64_MASK)
    y = b if isinstance(b, Scalar) else Const(dt.i64, b & _I64_MASK)
    if type(x) is Const and type(y) is Const:
        return TRUE if _COMPARE[op](int(x.value), int(y.value)) else FALSE
    found: Scalar | None = _BINARY_TABLE.get((op, x, y))
    return Binary(op, x, y) if found is None else found


def index(value: int) -> Const:
    """An i64 constant."""
    return Const(dt.i64, value & _I64_MASK)


def const(dtype: DType, value: int | float | bool) -> Const:
    """A constant of any dtype; integers wrap, floats round to nearest even."""
    return Const(dtype, value_to_bits(dtype, value))


def loop_var(name: str, extent: Scalar | int) -> Var:
    """An i64 variable in [0, extent)."""
    return Var(name, dt.i64, index(extent) if isinstance(extent, int) else extent)


def parameter(name: str) -> Var:
    """A free i64 parameter, at least 0."""
    return Var(name, dt.i64, None)


def as_int(node: Scalar | None) -> int | None:
    """The value of an integer constant, else None."""
    if isinstance(node, Const) and node.dtype.kind in ("int", "uint"):
        return int(node.value)
    return None


_STRUCT = {"f32": "<f", "f64": "<d", "f16": "<e"}


def value_to_bits(dtype: DType, value: int | float | bool) -> int:
    """The bit pattern of a value in a dtype, as an unsigned integer."""
    if dtype.kind == "bool":
        return int(bool(value))
    if dtype.kind in ("int", "uint"):
        return int(value) & ((1 << dtype.bits) - 1)
    with np.errstate(all="ignore"):
        return int.from_bytes(np.asarray(value, dtype=dtype.numpy).tobytes(), "little")


def bits_to_value(dtype: DType, bits: int) -> int | float | bool:
    """The Python number with a bit pattern."""
    if dtype.kind == "bool":
        return bool(bits)
    if dtype.kind == "uint":
        return bits
    if dtype.kind == "int":
        return bits - (1 << dtype.bits) if bits >> (dtype.bits - 1) else bits
    raw = bits.to_bytes(dtype.bytes, "little")
    if dtype is dt.bf16:
        return float(struct.unpack("<f", b"\0\0" + raw)[0])
    return float(struct.unpack(_STRUCT[dtype.name], raw)[0])


TRUE = Const(dt.bool_, 1)
FALSE = Const(dt.bool_, 0)
