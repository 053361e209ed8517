"""Operands of the functions: their element types, and axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tcompiler.frontend.tensor import ArrayLike, DTypeLike, SymbolicTensor, apply, lift, to_dtype, writer_of
from tcompiler.ir import dtypes as dt

Axis = int | Sequence[int] | None


def to_float(x: ArrayLike) -> SymbolicTensor:
    """An operand of a function on floats; integers become f64, as in numpy."""
    t = lift(writer_of(x), x)
    return t if t.dtype.is_float else apply("cast", t, to=dt.f64)


def to_truth(x: ArrayLike) -> SymbolicTensor:
    """An operand as bool: whether it is not zero."""
    return astype(lift(writer_of(x), x), dt.bool_)


def astype(x: ArrayLike, dtype: DTypeLike) -> SymbolicTensor:
    """The tensor converted to another element type."""
    t, to = lift(writer_of(x), x), to_dtype(dtype)
    return t if t.dtype is to else apply("cast", t, to=to)


cast = astype


def axes_of(x: SymbolicTensor, axis: Axis) -> tuple[int, ...]:
    """The axes that numpy's axis argument names: all for None."""
    if axis is None:
        return tuple(range(x.ndim))
    return (int(axis),) if isinstance(axis, (int, np.integer)) else tuple(int(a) for a in axis)


__all__ = [
    "astype",
    "cast",
]
