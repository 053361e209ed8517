"""Zero points out of integer products: what is subtracted from one factor becomes a constant of the other.

Σ (x - z)·w = Σ x·w - z·Σ w. The bytes x are then multiplied as they are, which instructions for products of bytes
take; Σ w of constant weights is known ahead (R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient
inference", 2018, section 3.1.1). Sums of i32 wrap around, so that holds for all values. Signed bytes are moved to
where unsigned ones are, as one factor of those instructions is unsigned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir import dtypes as dt
from tcompiler.ir.graph.grammar import Attr, ConstantStore, Graph, Node
from tcompiler.transform.editing import Editor, ints, rewrite_nodes, scalar_value

LEAST = 16
"""Products in a sum from which it pays to subtract once rather than every time."""
_SIGNED = 128
"""What moves signed bytes to where unsigned ones are."""


@dataclass(frozen=True, slots=True)
class FoldZeroPoints:
    """Subtracts the zero point of a product's bytes from its result, where the other factor is constant.

    Several products of the same bytes widen them each for itself.
    """

    name: str = "fold-zero-points"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with zero points behind the products."""
        return rewrite_nodes(graph, store, _fold)


@dataclass(frozen=True, slots=True)
class _Centered:
    """A factor x - zero, x widened from bytes; zero is a value of one element, absent where nothing is subtracted."""

    x: str
    zero: str | None


def _fold(editor: Editor, node: Node) -> str | None:
    if node.op not in ("conv", "matmul") or node.outputs[0].type.dtype is not dt.i32:
        return None
    inputs = editor.inputs(node)
    weights = editor.array(inputs[1])
    dims = editor.dims(inputs[0])
    if weights is None or dims is None or 0 in dims or weights.ndim < 2:
        return None
    factor = _centered(editor, inputs[0])
    if factor is None:
        return None
    signed = editor.types[factor.x].dtype is dt.i8
    if factor.zero is None and not signed:
        # a widening of its own can be part of the product's kernel
        if editor.uses[node.inputs[0]] < 2:
            return None
        wide = editor.emit("cast", (factor.x,), {"to": dt.i32}, like=node)
        return editor.emit(node.op, (wide, *inputs[1:]), dict(node.attrs), like=node)
    over = tuple(range(1, weights.ndim)) if node.op == "conv" else (weights.ndim - 2,)
    if np.prod([weights.shape[k] for k in over]) < LEAST:
        return None
    attrs: dict[str, Attr] = dict(node.attrs)
    x = factor.x
    if any(ints(node, "pads")):
        padded = _padded(editor, node, factor, attrs)
        if padded is None:
            return None
        x = padded
    wide = editor.emit("cast", (x,), {"to": dt.i32}, like=node)
    if signed:
        wide = editor.emit("add", (wide, editor.constant(np.array(_SIGNED, np.int32))), like=node)
    correction = _correction(editor, node, factor, weights, over, signed)
    bias = editor.array(inputs[2]) if len(inputs) > 2 and inputs[2] else None
    known = editor.array(correction)
    if bias is not None and known is not None:
        together = editor.constant(_wrapped(bias.astype(np.int64) - known.reshape(bias.shape)))
        return editor.emit(node.op, (wide, inputs[1], together), attrs, like=node)
    product = editor.emit(node.op, (wide, *inputs[1:]), attrs, like=node)
    return editor.emit("sub", (product, correction), like=node)


def _centered(editor: Editor, name: str) -> _Centered | None:
    """How a value is made of bytes, None if it is not."""
    node = editor.producers.get(name)
    zero = None
    if node is not None and node.op == "sub" and editor.dims(editor.resolve(node.inputs[1])) == ():
        zero = node.inputs[1]
        node = editor.producers.get(node.inputs[0])
    if node is None or node.op != "cast" or editor.types[node.inputs[0]].dtype not in (dt.i8, dt.u8):
        return None
    return _Centered(node.inputs[0], zero)


def _padded(editor: Editor, node: Node, factor: _Centered, attrs: dict[str, Attr]) -> str | None:
    """The bytes with their zero point around them, where it is known; the convolution then pads nothing itself."""
    zero = 0 if factor.zero is None else scalar_value(editor.array(factor.zero))
    low, high = (-_SIGNED, _SIGNED - 1) if editor.types[factor.x].dtype is dt.i8 else (0, 2 * _SIGNED - 1)
    if zero is None or not low <= zero <= high:
        return None
    pads = ints(node, "pads")
    rank = len(pads) // 2
    widths = (0, 0, *pads[:rank], 0, 0, *pads[rank:])
    attrs["pads"] = (0,) * len(pads)
    return editor.emit("pad", (factor.x,), {"pads": widths, "mode": "constant", "value": float(zero)}, like=node)


def _correction(
    editor: Editor, node: Node, factor: _Centered, weights: NDArray[np.generic], over: tuple[int, ...], signed: bool
) -> str:
    """(zero + 128 if signed) · Σ weights, shaped to the product's result."""
    sums = weights.astype(np.int64).sum(axis=over)
    if node.op == "conv":
        sums = sums.reshape(-1, *([1] * (weights.ndim - 2)))
    elif weights.ndim > 2:
        sums = sums[..., None, :]
    zero = 0 if factor.zero is None else scalar_value(editor.array(factor.zero))
    if zero is not None:
        return editor.constant(_wrapped((int(zero) + (_SIGNED if signed else 0)) * sums))
    assert factor.zero is not None
    shift = factor.zero
    if signed:
        shift = editor.emit("add", (shift, editor.constant(np.array(_SIGNED, np.int32))), like=node)
    return editor.emit("mul", (editor.constant(_wrapped(sums)), shift), like=node)


def _wrapped(values: NDArray[np.int64]) -> NDArray[np.int32]:
    """The lower 32 bits."""
    return np.ascontiguousarray(values).astype(np.int32)
