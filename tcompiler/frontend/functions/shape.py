"""Shapes and indices: what moves elements and computes nothing."""

from __future__ import annotations

import itertools
import operator as python_operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import CompileError
from tcompiler.frontend.functions.operands import Axis, astype, axes_of
from tcompiler.frontend.tensor import ArrayLike, SymbolicTensor, apply, lift, promote, writer_of
from tcompiler.ir import dtypes as dt
from tcompiler.ir.scalar.grammar import as_int


def reshape(x: ArrayLike, shape: int | Sequence[int]) -> SymbolicTensor:
    """The elements in another shape; one extent may be -1."""
    target = (shape,) if isinstance(shape, (int, np.integer)) else shape
    return apply("reshape", lift(writer_of(x), x), shape=tuple(int(e) for e in target))


def ravel(x: ArrayLike) -> SymbolicTensor:
    """The elements in one axis."""
    return reshape(x, -1)


def transpose(x: ArrayLike, axes: Sequence[int] | None = None) -> SymbolicTensor:
    """The axes in another order, reversed by default."""
    t = lift(writer_of(x), x)
    perm = tuple(reversed(range(t.ndim))) if axes is None else tuple(int(a) % max(t.ndim, 1) for a in axes)
    return apply("transpose", t, perm=perm)


def swapaxes(x: ArrayLike, a: int, b: int) -> SymbolicTensor:
    """Two axes exchanged."""
    t = lift(writer_of(x), x)
    perm = list(range(t.ndim))
    perm[a], perm[b] = perm[b], perm[a]
    return transpose(t, perm)


def moveaxis(x: ArrayLike, source: int, destination: int) -> SymbolicTensor:
    """One axis moved to another place."""
    t = lift(writer_of(x), x)
    perm = list(range(t.ndim))
    axis = perm.pop(source)
    perm.insert(destination % t.ndim, axis)
    return transpose(t, perm)


def concatenate(parts: Sequence[ArrayLike], axis: int = 0) -> SymbolicTensor:
    """Tensors joined along an axis."""
    return apply("concat", *promote(*parts), axis=axis)


concat = concatenate


def stack(parts: Sequence[ArrayLike], axis: int = 0) -> SymbolicTensor:
    """Tensors joined along a new axis."""
    return concatenate([expand_dims(p, axis) for p in promote(*parts)], axis)


def split(x: ArrayLike, sections: int | Sequence[int], axis: int = 0) -> list[SymbolicTensor]:
    """numpy.split: into equal sections, or at places along an axis."""
    t = lift(writer_of(x), x)
    extent = t.shape[axis]
    if isinstance(sections, int):
        if sections < 1 or extent % sections:
            raise CompileError(f"split: an axis of {extent} elements does not divide into {sections} equal sections")
        places = [extent // sections * k for k in range(1, sections)]
    else:
        places = [int(s) for s in sections]
    ends = [0, *places, extent]
    return [_narrow(t, axis, a, b) for a, b in itertools.pairwise(ends)]


def _narrow(t: SymbolicTensor, axis: int, start: int, end: int) -> SymbolicTensor:
    return apply("slice", t, axes=(axis,), starts=(start,), sizes=(max(end - start, 0),), steps=(1,))


def expand_dims(x: ArrayLike, axis: int | Sequence[int]) -> SymbolicTensor:
    """New axes of extent 1 at places of the result."""
    t = lift(writer_of(x), x)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    rank = t.ndim + len(axes)
    places = sorted(a % rank for a in axes)
    if len(set(places)) != len(axes) or not all(-rank <= a < rank for a in axes):
        raise CompileError(f"expand_dims: axes {axes} for a result of rank {rank}, expected distinct axes within it")
    shape = list(_reshapable(t))
    for a in places:
        shape.insert(a, 1)
    return reshape(t, shape)


def _reshapable(t: SymbolicTensor) -> tuple[int, ...]:
    """The shape for a reshape that keeps it: one symbolic extent may be said as -1."""
    sizes = [as_int(e) for e in t.extents]
    if sizes.count(None) > 1:
        raise CompileError(f"a reshape of {t!r}: expected at most one symbolic extent")
    return tuple(-1 if s is None else s for s in sizes)


def squeeze(x: ArrayLike, axis: Axis = None) -> SymbolicTensor:
    """Axes of extent 1 removed, all by default."""
    t = lift(writer_of(x), x)
    sizes = [as_int(e) for e in t.extents]
    axes = (
        tuple(k for k, s in enumerate(sizes) if s == 1) if axis is None else tuple(a % t.ndim for a in axes_of(t, axis))
    )
    if any(sizes[a] != 1 for a in axes):
        raise CompileError(f"squeeze: axes {axes} of {t!r}, expected extents of 1")
    return reshape(t, [s for k, s in enumerate(_reshapable(t)) if k not in axes])


def broadcast_to(x: ArrayLike, shape: Sequence[int]) -> SymbolicTensor:
    """A tensor stretched to a shape."""
    return apply("expand", lift(writer_of(x), x), shape=tuple(int(e) for e in shape))


def tile(x: ArrayLike, reps: int | Sequence[int]) -> SymbolicTensor:
    """A tensor repeated along its axes."""
    t = lift(writer_of(x), x)
    repeats = (reps,) if isinstance(reps, int) else tuple(reps)
    if len(repeats) > t.ndim:
        t = reshape(t, (1,) * (len(repeats) - t.ndim) + t.shape)
    return apply("tile", t, repeats=(1,) * (t.ndim - len(repeats)) + repeats)


def pad(
    x: ArrayLike,
    pad_width: int | Sequence[int] | Sequence[Sequence[int]],
    mode: str = "constant",
    constant_values: float = 0.0,
) -> SymbolicTensor:
    """numpy.pad with modes constant, edge, reflect and wrap."""
    t = lift(writer_of(x), x)
    widths: NDArray[np.int64] = np.broadcast_to(np.asarray(pad_width, dtype=np.int64), (t.ndim, 2))
    pads = tuple(int(w) for w in widths.T.reshape(-1))
    return apply("pad", t, pads=pads, mode=mode, value=float(constant_values))


def flip(x: ArrayLike, axis: Axis = None) -> SymbolicTensor:
    """Elements in reverse order along axes, all by default."""
    t = lift(writer_of(x), x)
    axes = axes_of(t, axis)
    sizes = tuple(t.shape[a] for a in axes)
    return apply("slice", t, axes=axes, starts=tuple(s - 1 for s in sizes), sizes=sizes, steps=(-1,) * len(axes))


def take(x: ArrayLike, indices: ArrayLike, axis: int | None = None) -> SymbolicTensor:
    """Slices along an axis, by index; an index outside reads the nearest element."""
    writer = writer_of(x, indices)
    t = lift(writer, x)
    if axis is None:
        t, axis = reshape(t, -1), 0
    return apply("gather", t, _index(writer, indices), axis=axis)


def take_along_axis(x: ArrayLike, indices: ArrayLike, axis: int) -> SymbolicTensor:
    """Elements along an axis, by an index for each; an index outside reads the nearest element."""
    writer = writer_of(x, indices)
    return apply("gather_elements", lift(writer, x), _index(writer, indices), axis=axis)


def _index(writer: Any, indices: ArrayLike) -> SymbolicTensor:
    t = lift(writer, indices)
    if not t.dtype.is_integer:
        raise CompileError(f"indices are {t!r}, expected integers")
    return t if t.dtype in (dt.i32, dt.i64) else astype(t, dt.i64)


def tril(x: ArrayLike, k: int = 0) -> SymbolicTensor:
    """Elements on and below a diagonal, zero above."""
    return apply("trilu", lift(writer_of(x), x), k=k, upper=False)


def triu(x: ArrayLike, k: int = 0) -> SymbolicTensor:
    """Elements on and above a diagonal, zero below."""
    return apply("trilu", lift(writer_of(x), x), k=k, upper=True)


def getitem(x: SymbolicTensor, key: object) -> SymbolicTensor:
    """x[key] with integers, slices, None, Ellipsis, and at most one array or tensor of indices.

    Raises:
        CompileError: If an index is out of range or of a kind that has no counterpart here.
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    used = sum(1 for k in keys if k is not None and k is not Ellipsis)
    dots = [n for n, k in enumerate(keys) if k is Ellipsis]
    if len(dots) > 1 or used > x.ndim:
        raise CompileError(f"{used} indices for {x!r}, expected at most {x.ndim} and one '...'")
    at = dots[0] if dots else len(keys)
    keys[at : at + 1] = [slice(None)] * (x.ndim - used)
    axes: list[int] = []
    starts: list[int] = []
    sizes: list[int] = []
    steps: list[int] = []
    shape: list[int] = []
    advanced: tuple[int, object] | None = None
    integers = False
    axis = 0
    for k in keys:
        if k is None:
            shape.append(1)
            continue
        extent = as_int(x.extents[axis])
        if isinstance(k, slice):
            if k != slice(None):
                start, stop, step = k.indices(_fixed(x, axis))
                size = len(range(start, stop, step))
                axes.append(axis)
                starts.append(start if size else 0)
                sizes.append(size)
                steps.append(step if size else 1)
                shape.append(size)
            else:
                shape.append(-1 if extent is None else extent)
        elif isinstance(k, (list, np.ndarray, SymbolicTensor)):
            if advanced is not None:
                raise CompileError(f"two arrays of indices for {x!r}, expected at most one")
            advanced = (len(shape), k)
            shape.append(-1 if extent is None else extent)
        else:
            place = _integer(k)
            extent = _fixed(x, axis)
            if not -extent <= place < extent:
                raise CompileError(f"index {place} is out of range for axis {axis} of {x!r}")
            integers = True
            axes.append(axis)
            starts.append(place % extent)
            sizes.append(1)
            steps.append(1)
        axis += 1
    if advanced is not None and integers:
        raise CompileError("an array of indices beside an integer index; index in two steps")
    result = x
    if axes:
        result = apply("slice", x, axes=tuple(axes), starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))
    if shape != [-1 if (s := as_int(e)) is None else s for e in result.extents]:
        result = reshape(result, shape)
    if advanced is not None:
        result = take(result, advanced[1], advanced[0])  # type: ignore[arg-type]
    return result


def _fixed(x: SymbolicTensor, axis: int) -> int:
    extent = as_int(x.extents[axis])
    if extent is None:
        raise CompileError(f"axis {axis} of {x!r} is symbolic; only ':' can index it")
    return extent


def _integer(k: object) -> int:
    try:
        return python_operator.index(k)  # type: ignore[arg-type]
    except TypeError:
        raise CompileError(
            f"an index of type {type(k).__name__}; expected an integer, a slice, None, '...' or an array of integers"
        ) from None


__all__ = [
    "broadcast_to",
    "concat",
    "concatenate",
    "expand_dims",
    "flip",
    "getitem",
    "moveaxis",
    "pad",
    "ravel",
    "reshape",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "take",
    "take_along_axis",
    "tile",
    "transpose",
    "tril",
    "triu",
]
