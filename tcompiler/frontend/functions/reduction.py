"""Reductions over axes, and what is normalised by them."""

from __future__ import annotations

from tcompiler.frontend.functions.elementwise import sqrt, square, subtract
from tcompiler.frontend.functions.operands import Axis, astype, axes_of, to_float, to_truth
from tcompiler.frontend.functions.shape import reshape
from tcompiler.frontend.tensor import ArrayLike, SymbolicTensor, apply, lift, writer_of
from tcompiler.ir import dtypes as dt


def _reduction(op: str, x: SymbolicTensor, axis: Axis, keepdims: bool) -> SymbolicTensor:
    return apply(op, x, axes=axes_of(x, axis), keepdims=bool(keepdims))


def _summand(x: ArrayLike) -> SymbolicTensor:
    """numpy sums small integers and bools as i64."""
    t = lift(writer_of(x), x)
    return t if t.dtype.is_float else astype(t, dt.i64)


def sum(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The sum over axes, all by default."""
    return _reduction("sum", _summand(x), axis, keepdims)


def prod(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The product over axes, all by default."""
    return _reduction("prod", _summand(x), axis, keepdims)


def mean(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The mean over axes, all by default."""
    return _reduction("mean", to_float(x), axis, keepdims)


def var(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The variance over axes, all by default."""
    t = to_float(x)
    return mean(square(subtract(t, mean(t, axis, keepdims=True))), axis, keepdims)


def std(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The standard deviation over axes, all by default."""
    return sqrt(var(x, axis, keepdims))


def max(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The maximum over axes, all by default; NaN if there is one."""
    return _reduction("amax", lift(writer_of(x), x), axis, keepdims)


def min(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The minimum over axes, all by default; NaN if there is one."""
    return _reduction("amin", lift(writer_of(x), x), axis, keepdims)


amax = max
amin = min


def all(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """Whether all elements over axes are nonzero."""
    return _reduction("all", to_truth(x), axis, keepdims)


def any(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """Whether any element over axes is nonzero."""
    return _reduction("any", to_truth(x), axis, keepdims)


def _arg(op: str, x: ArrayLike, axis: int | None, keepdims: bool) -> SymbolicTensor:
    t = lift(writer_of(x), x)
    if axis is None:
        t, axis = reshape(t, -1), 0
    return apply(op, t, axis=int(axis), keepdims=bool(keepdims))


def argmax(x: ArrayLike, axis: int | None = None, keepdims: bool = False) -> SymbolicTensor:
    """Where the first maximum lies along an axis, or in the flattened tensor."""
    return _arg("argmax", x, axis, keepdims)


def argmin(x: ArrayLike, axis: int | None = None, keepdims: bool = False) -> SymbolicTensor:
    """Where the first minimum lies along an axis, or in the flattened tensor."""
    return _arg("argmin", x, axis, keepdims)


def logsumexp(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """log(sum(exp(x))), without overflow."""
    return _reduction("log_sum_exp", to_float(x), axis, keepdims)


def softmax(x: ArrayLike, axis: int = -1) -> SymbolicTensor:
    """exp(x) / sum(exp(x)) along an axis."""
    return apply("softmax", to_float(x), axis=axis)


def log_softmax(x: ArrayLike, axis: int = -1) -> SymbolicTensor:
    """log(softmax(x)) along an axis."""
    return apply("log_softmax", to_float(x), axis=axis)


__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "softmax",
    "std",
    "sum",
    "var",
]
