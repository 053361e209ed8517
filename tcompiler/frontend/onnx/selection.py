"""Converters: operators whose result has as many elements as data say; the data have to be known at compile time."""

from __future__ import annotations

import numpy as np

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.node import NodeView, Result, converts
from tcompiler.frontend.tensor import apply


@converts("NonZero")
def _nonzero(node: NodeView) -> Result:
    return node.constant(np.array(np.nonzero(np.atleast_1d(node.array(0, "data")))), np.int64)


@converts("Compress")
def _compress(node: NodeView) -> Result:
    x = node.x()
    axis = node.int_attr("axis") if node.has("axis") else None
    if axis is None:
        x, axis = fn.reshape(x, -1), 0
    if not -x.ndim <= axis < x.ndim:
        raise CompileError(f"attribute 'axis' is {axis} for {x!r}, expected {-x.ndim} to {x.ndim - 1}")
    if node.x(1).size > x.shape[axis]:
        raise CompileError(f"the condition is {node.x(1)!r} for {x.shape[axis]} elements, expected no more")
    places = np.flatnonzero(node.array(1, "condition").reshape(-1))
    return apply("gather", x, node.constant(places, np.int64), axis=axis)


@converts("Unique")
def _unique(node: NodeView) -> Result:
    x = node.array(0, "data")
    ordered = bool(node.int_attr("sorted", 1))
    axis = node.int_attr("axis") if node.has("axis") else None
    if axis is None:
        x, axis = x.reshape(-1), 0
    if not -x.ndim <= axis < x.ndim:
        raise CompileError(f"attribute 'axis' is {axis} for {node.x()!r}")
    _, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not ordered:
        # In the order in which they come first.
        order = np.argsort(first)
        first, counts, inverse = first[order], counts[order], np.argsort(order)[inverse]
    kept = np.take(x, first, axis)
    return [node.constant(kept), *(node.constant(a, np.int64) for a in (first, inverse, counts))]
