"""Gathers, scatters and one-hot codes."""

from __future__ import annotations

import numpy as np

from tests.fuzz.draw import Array, Draw, Value
from tests.fuzz.families.table import family

DTYPES = ("float32",) * 5 + ("float64", "int64", "int32", "float16")


def places(d: Draw, shape: tuple[int, ...], extent: int) -> Array:
    """Indices into an axis, some counted from its end."""
    return np.asarray(d.rng.integers(-extent, extent, shape)).astype(d.choice(("int64", "int64", "int32")))


def _where(d: Draw, array: Array) -> Value:
    return d.given(array) if d.chance(0.7) else d.constant(array, array.dtype.name)


@family("gather", opsets=(22, 13, 11), weight=6)
def gather(d: Draw) -> None:
    op = d.choice(("Gather", "Gather", "GatherElements", "GatherND"))
    x = d.input(d.shape(1, 4, 2000, zero=0), d.choice(DTYPES))
    if op == "GatherND":
        batch = d.integer(0, x.rank - 1) if d.opset >= 12 else 0
        depth = d.integer(1, x.rank - batch)
        # onnx infers no shape for a scalar
        outer = (*x.shape[:batch], *d.shape(1 if depth == x.rank else 0, 2, 40, zero=0))
        columns = [d.rng.integers(-e, e, outer) for e in x.shape[batch : batch + depth]]
        index = d.given(np.stack(columns, axis=-1).astype(np.int64))
        y = d.node(op, x, index, batch_dims=batch or None)
    else:
        axis = d.axis(x.rank)
        extent = x.shape[axis]
        if op == "Gather":
            shape = d.shape(0, 2, 60)
        else:
            shape = tuple(d.integer(1, e) if k != axis % x.rank else d.dim(9) for k, e in enumerate(x.shape))
        y = d.node(op, x, _where(d, places(d, shape, extent)), axis=axis)
    d.exact = True
    if x.dtype == "float32" and d.chance(0.3):
        d.exact = False
        y = d.node("Tanh", y)
    d.result(y)


@family("scatter", opsets=(22, 18, 16, 11), weight=5)
def scatter(d: Draw) -> None:
    """Scatters; where several updates may meet they are added, maximised or minimised, otherwise places differ."""
    dtype = d.choice(("float32",) * 5 + ("float64", "int64", "int32"))
    x = d.input(d.shape(1, 3, 1500, zero=0), dtype)
    reductions = {11: [None], 16: [None, "add"], 18: [None, "add", "max", "min"], 22: [None, "add", "max", "min"]}
    reduction = d.choice(reductions[d.opset])
    if d.chance(0.5):
        axis = d.axis(x.rank)
        extent = x.shape[axis]
        shape = [d.integer(1, e) for e in x.shape]
        count = d.integer(1, extent)
        shape[axis] = count
        if reduction is None:
            order = np.argsort(d.rng.random([*shape[: axis % x.rank], extent, *shape[axis % x.rank + 1 :]]), axis=axis)
            index = np.take(order, np.arange(count), axis=axis).astype(np.int64)
        else:
            index = places(d, tuple(shape), extent)
        y = d.node("ScatterElements", x, _where(d, index), d.input(shape, dtype), axis=axis, reduction=reduction)
    else:
        depth = d.integer(1, x.rank)
        outer = d.shape(1, 2, 30, zero=0)
        count = int(np.prod(outer))
        total = int(np.prod(x.shape[:depth]))
        if reduction is None:
            count = min(count, total)
            outer = (count,)
            flat = d.rng.permutation(total)[:count]
        else:
            flat = d.rng.integers(0, total, count)
        index = np.stack(np.unravel_index(flat, x.shape[:depth]), axis=-1).reshape(*outer, depth).astype(np.int64)
        y = d.node("ScatterND", x, _where(d, index), d.input((*outer, *x.shape[depth:]), dtype), reduction=reduction)
    d.result(y)


@family("one_hot", opsets=(22, 11), weight=2)
def one_hot(d: Draw) -> None:
    shape = d.shape(1, 3, 300)
    depth = d.dim(20)
    index = d.given(np.asarray(d.rng.integers(-depth, depth, shape)).astype(np.int64))
    pair = d.constant([0.0, 1.0], "float32") if d.chance(0.6) else d.input((2,))
    d.result(
        d.node(
            "OneHot",
            index,
            d.constant([depth] if d.chance(0.5) else depth),
            pair,
            axis=d.integer(-len(shape) - 1, len(shape)),
        )
    )
