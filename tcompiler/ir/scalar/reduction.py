"""Reductions over numpy arrays, for the evaluators: by a ufunc, a matrix product, or any reducer as a tree.

With `widen`, floats are f64 whatever their dtype says, as in the scalar evaluator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir.scalar.evaluate import evaluate as scalar_values
from tcompiler.ir.scalar.grammar import Reducer
from tcompiler.ir.scalar.reducers import reducer_name

Array = NDArray[Any]

_UFUNCS: dict[str, np.ufunc] = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "any": np.bitwise_or,
    "all": np.bitwise_and,
}


def _ufunc(reducer: Reducer, widen: bool) -> np.ufunc | None:
    """The ufunc that combines as the reducer does; none for types that numpy would accumulate in another precision."""
    name = reducer_name(reducer)
    if name is None or (reducer.identity[0].dtype.name in ("f16", "bf16") and not widen):
        return None
    return _UFUNCS.get(name)


def combine(reducer: Reducer, lhs: Sequence[Any], rhs: Sequence[Any], widen: bool = False) -> list[Array]:
    """One combination of two tuples of arrays."""
    env = dict(zip(reducer.lhs + reducer.rhs, (*lhs, *rhs), strict=True))
    return [np.asarray(scalar_values(c, env, {}, widen)) for c in reducer.combine]


def fold(
    reducer: Reducer,
    old: Sequence[Array],
    values: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    widen: bool = False,
) -> list[Array]:
    """The old tuple combined with all values along some axes, which stay with extent 1.

    Args:
        reducer: How to combine.
        old: One array per component, of extent 1 on the axes.
        values: One array per component, broadcastable to the shape.
        shape: Extents of the whole grid.
        axes: The axes to reduce over; none of them is empty.
        widen: Whether floats are f64.
    """
    if not axes:
        return combine(reducer, old, values, widen)
    full = [np.broadcast_to(v, tuple(shape[k] if k in axes else n for k, n in enumerate(v.shape))) for v in values]
    ufunc = _ufunc(reducer, widen)
    if ufunc is not None:
        with np.errstate(all="ignore"):
            reduced = ufunc.reduce(full[0], axis=axes, dtype=full[0].dtype, keepdims=True)
        return combine(reducer, old, [reduced], widen)
    last = range(len(shape) - len(axes), len(shape))
    stacked = [np.moveaxis(v, axes, tuple(last)) for v in np.broadcast_arrays(*full)]
    kept = tuple(1 if k in axes else n for k, n in enumerate(np.broadcast_shapes(*(v.shape for v in full))))
    parts = [v.reshape(*v.shape[: len(shape) - len(axes)], -1) for v in stacked]
    while (n := parts[0].shape[-1]) > 1:
        # neighbours are combined, so that the order of the operands is kept
        even = combine(reducer, [p[..., 0 : n - 1 : 2] for p in parts], [p[..., 1:n:2] for p in parts], widen)
        even = [np.broadcast_to(e, (*p.shape[:-1], n // 2)) for e, p in zip(even, parts, strict=True)]
        parts = [np.concatenate([e, p[..., n - n % 2 :]], axis=-1) for e, p in zip(even, parts, strict=True)]
    return combine(reducer, old, [p.reshape(kept) for p in parts], widen)


def fold_groups(
    reducer: Reducer,
    memory: Sequence[Array],
    places: Sequence[Array],
    values: Sequence[Array],
    widen: bool = False,
) -> None:
    """Combines a list of tuples, in order, into elements of memory where places repeat.

    Args:
        reducer: How to combine.
        memory: One flat array per component, changed in place.
        places: Flat positions per component; those of one component repeat just where those of the others do.
        values: Values per component, as long as the places.
        widen: Whether floats are f64.
    """
    if not places[0].size:
        return
    ufunc = _ufunc(reducer, widen)
    if ufunc is not None:
        with np.errstate(all="ignore"):
            ufunc.at(memory[0], places[0], values[0])
        return
    order = np.argsort(places[0], kind="stable")
    ranked = places[0][order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    counts = np.diff(np.append(starts, ranked.size))
    for k in range(int(counts.max())):
        chosen = order[starts[counts > k] + k]
        at = [p[chosen] for p in places]
        new = combine(reducer, [m[a] for m, a in zip(memory, at, strict=True)], [v[chosen] for v in values], widen)
        for m, a, n in zip(memory, at, new, strict=True):
            m[a] = n


def contract(a: Array, b: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """The sum of a * b along some axes, which stay with extent 1, as one batched matrix product.

    Args:
        a: Broadcastable to the shape.
        b: Broadcastable to the shape.
        shape: Extents of the whole grid.
        axes: The axes to sum over.
    """
    rank = len(shape)
    in_a = {k for k in range(rank) if a.shape[k] > 1}
    in_b = {k for k in range(rank) if b.shape[k] > 1}
    # an axis that only one factor or none has is summed in that factor, or is a plain multiple
    alone_a = tuple(k for k in axes if k in in_a and k not in in_b)
    alone_b = tuple(k for k in axes if k in in_b and k not in in_a)
    times = math.prod(shape[k] for k in axes if k not in in_a and k not in in_b)
    a = a.sum(axis=alone_a, keepdims=True, dtype=a.dtype) if alone_a else a
    b = b.sum(axis=alone_b, keepdims=True, dtype=b.dtype) if alone_b else b
    summed = [k for k in axes if k in in_a and k in in_b]
    batch = [k for k in range(rank) if k not in axes and k in in_a and k in in_b]
    rows = [k for k in range(rank) if k not in axes and k in in_a and k not in in_b]
    columns = [k for k in range(rank) if k not in axes and k in in_b and k not in in_a]
    rest = [k for k in range(rank) if k not in (*summed, *batch, *rows, *columns)]

    def sizes(ks: Sequence[int]) -> list[int]:
        return [shape[k] for k in ks]

    left = a.transpose(*batch, *rows, *summed, *columns, *rest)
    right = b.transpose(*batch, *summed, *columns, *rows, *rest)
    left = left.reshape(math.prod(sizes(batch)), math.prod(sizes(rows)), math.prod(sizes(summed)))
    right = right.reshape(math.prod(sizes(batch)), math.prod(sizes(summed)), math.prod(sizes(columns)))
    with np.errstate(all="ignore"):
        product = np.matmul(left, right)
    product = product.reshape(
        *sizes(batch), *sizes(rows), *sizes(columns), *[1] * (rank - len(batch) - len(rows) - len(columns))
    )
    inverse = np.argsort([*batch, *rows, *columns, *summed, *rest])
    result: Array = product.transpose(*inverse)
    return result * np.int64(times).astype(result.dtype) if times != 1 else result
