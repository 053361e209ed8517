"""Converters: linear algebra of small matrices, its steps written out."""

from __future__ import annotations

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.node import NodeView, Result, converts

_LARGEST = 64
"""Rows of a matrix whose determinant is written out: each takes kernels of its own."""


@converts("Det")
def _det(node: NodeView) -> Result:
    """Elimination with the largest pivot of each column; the steps are written out."""
    x = node.x()
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] > _LARGEST:
        raise CompileError(f"the input is {x!r}, expected square matrices of at most {_LARGEST} rows")
    result = fn.broadcast_to(node.constant(1, x.dtype.numpy), x.shape[:-2])
    for size in range(x.shape[-1], 0, -1):
        pivot_at = fn.argmax(fn.absolute(x[..., 0]), -1)
        places = node.constant(range(size), "int64")
        chosen = fn.expand_dims(fn.equal(fn.expand_dims(pivot_at, -1), places), -1)
        row = fn.sum(fn.where(chosen, x, 0.0), -2, keepdims=True)
        pivot = row[..., 0, 0]
        result = fn.multiply(result, fn.where(fn.equal(pivot_at, 0), pivot, fn.negative(pivot)))
        rest = fn.where(chosen, x[..., :1, :], x)[..., 1:, :]
        # A pivot of zero leaves zeros in its column: there is nothing to take away, and the result is zero already.
        divisor = fn.where(fn.equal(row[..., :1], 0.0), 1.0, row[..., :1])
        x = fn.subtract(rest[..., 1:], fn.multiply(rest[..., :1], fn.divide(row[..., 1:], divisor)))
    return result
