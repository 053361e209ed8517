"""The reducers that have names: sum, prod, min, max, any, all over one dtype; argmin and argmax over (value, index)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.scalar.grammar import (
    Binary,
    Const,
    Reducer,
    Scalar,
    Select,
    Unary,
    Var,
    const,
    map_children,
    postorder,
)

_INT64_MAX = (1 << 63) - 1


def smallest(dtype: DType) -> Const:
    """The value that every other one is at least: minus infinity, or the smallest integer, or False."""
    if dtype.is_float:
        return const(dtype, float("-inf"))
    return const(dtype, -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0)


def largest(dtype: DType) -> Const:
    """The value that every other one is at most: infinity, or the largest integer, or True."""
    if dtype.is_float:
        return const(dtype, float("inf"))
    return const(dtype, (1 << (dtype.bits - 1)) - 1 if dtype.kind == "int" else (1 << dtype.bits) - 1)


_SIMPLE: dict[str, tuple[str, Callable[[DType], Const], tuple[str, ...]]] = {
    # name: the combining operation, its identity, the kinds of dtype that it takes
    "sum": ("add", lambda d: const(d, 0), ("float", "int", "uint")),
    "prod": ("mul", lambda d: const(d, 1), ("float", "int", "uint")),
    "min": ("min", largest, ("float", "int", "uint")),
    "max": ("max", smallest, ("float", "int", "uint")),
    "any": ("or", lambda d: const(d, 0), ("bool", "int", "uint")),
    "all": ("and", lambda d: const(d, -1), ("bool", "int", "uint")),
}

REDUCER_NAMES: tuple[str, ...] = (*_SIMPLE, "argmin", "argmax")
"""Every name that named_reducer knows."""


@cache
def named_reducer(name: str, *dtypes: DType) -> Reducer:
    """The reducer with a name, over tuples with these element types.

    sum, prod, min, max, any (or, bitwise on integers) and all (and) take one dtype; argmin and argmax take a value's
    dtype and i64, the index. Of equal values the one with the smaller index wins, and the first NaN wins over every
    number, as in numpy. The identity of a float sum is 0.0: a sum of nothing but -0.0 is 0.0.

    Raises:
        ValueError: If there is no such name, or it does not take these dtypes.
    """
    if name in ("argmin", "argmax"):
        if len(dtypes) != 2 or dtypes[1] is not dt.i64 or not (dtypes[0].is_float or dtypes[0].is_integer):
            raise ValueError(f"{name} combines a number and an i64 index, not {_listed(dtypes)}")
        return _arg_reducer(name, dtypes[0])
    if name not in _SIMPLE:
        raise ValueError(f"no reducer is named {name!r}; there are {', '.join(REDUCER_NAMES)}")
    op, identity, kinds = _SIMPLE[name]
    if len(dtypes) != 1 or dtypes[0].kind not in kinds:
        raise ValueError(f"{name} combines single values of kind {' or '.join(kinds)}, not {_listed(dtypes)}")
    (dtype,) = dtypes
    a, b = Var("a0", dtype, None), Var("b0", dtype, None)
    return Reducer((a,), (b,), (Binary(op, a, b),), (identity(dtype),))


def _listed(dtypes: Sequence[DType]) -> str:
    return f"({', '.join(d.name for d in dtypes)})"


def _arg_reducer(name: str, dtype: DType) -> Reducer:
    a0, a1 = Var("a0", dtype, None), Var("a1", dt.i64, None)
    b0, b1 = Var("b0", dtype, None), Var("b1", dt.i64, None)
    earlier = Binary("lt", b1, a1)
    better = Binary("lt" if name == "argmin" else "gt", b0, a0)
    take: Scalar = Binary("or", better, Binary("and", Binary("eq", b0, a0), earlier))
    if dtype.is_float:
        first_nan = Binary("or", Unary("not", Unary("isnan", a0)), earlier)
        take = Binary("or", take, Binary("and", Unary("isnan", b0), first_nan))
    worst = largest(dtype) if name == "argmin" else smallest(dtype)
    combine = (Select(take, b0, a0), Select(take, b1, a1))
    return Reducer((a0, a1), (b0, b1), combine, (worst, const(dt.i64, _INT64_MAX)))


@cache
def reducer_name(reducer: Reducer) -> str | None:
    """The name of a reducer that is one of the named ones, whatever its variables are called; else None."""
    dtypes = tuple(c.dtype for c in reducer.identity)
    arity = len(dtypes)
    if not (len(reducer.lhs) == len(reducer.rhs) == len(reducer.combine) == arity):
        return None
    if tuple(v.dtype for v in reducer.lhs) != dtypes or tuple(v.dtype for v in reducer.rhs) != dtypes:
        return None
    if len({*reducer.lhs, *reducer.rhs}) != 2 * arity or any(v.extent is not None for v in reducer.lhs + reducer.rhs):
        return None
    renamed: Reducer | None = None
    for name in REDUCER_NAMES:
        if (name in ("argmin", "argmax")) != (arity == 2):
            continue
        try:
            named = named_reducer(name, *dtypes)
        except ValueError:
            continue
        if renamed is None:
            renamed = _renamed(reducer, named.lhs, named.rhs)
        if named is renamed:
            return name
    return None


def is_maximum(reducer: Reducer) -> bool:
    """Whether a reducer takes the larger of two numbers; which of two equal ones, and what of a NaN, is left open."""
    if reducer_name(reducer) == "max":
        return True
    if len(reducer.combine) != 1 or reducer.identity[0] is not smallest(reducer.identity[0].dtype):
        return False
    (a,), (b,), (chosen,) = reducer.lhs, reducer.rhs, reducer.combine
    larger = (Binary("gt", b, a), Binary("ge", b, a), Binary("lt", a, b), Binary("le", a, b))
    return isinstance(chosen, Select) and chosen.cond in larger and (chosen.a, chosen.b) == (b, a)


def _renamed(reducer: Reducer, lhs: tuple[Var, ...], rhs: tuple[Var, ...]) -> Reducer:
    new: dict[Scalar, Scalar] = dict(zip(reducer.lhs + reducer.rhs, lhs + rhs, strict=True))
    for node in postorder(*reducer.combine):
        if node not in new:
            new[node] = map_children(node, new.__getitem__)
    return Reducer(lhs, rhs, tuple(new[c] for c in reducer.combine), reducer.identity)
