"""Folding batch normalization, and other per-channel scales and shifts, into the weights before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node
from tcompiler.transform.editing import Editor

Array64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FoldBatchNorms:
    """Turns y = (w ⊛ x + b) · scale + shift into y = (w · scale) ⊛ x + (b · scale + shift).

    A batch normalization with constant statistics, a product by a constant per channel and a sum with one count as
    such a scale and shift. New weights are computed in f64 and rounded once. A batch normalization with nothing before
    it to take it becomes a product and a sum.

    Attributes:
        loose: Whether batch normalizations that nothing takes become a product and a sum.
    """

    loose: bool = True
    name: str = "fold-batch-norms"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with the scales and shifts folded."""
        editor = Editor(graph, store)
        for node in graph.nodes:
            if not self._fold(editor, node):
                editor.keep(node)
        return editor.finish()

    def _fold(self, editor: Editor, node: Node) -> bool:
        """Folds one node; False if it stays as it is."""
        found = _affine(editor, node)
        if found is None:
            return False
        source, scale, shift = found
        before = editor.producers.get(source)
        if before is not None and _single_use(editor, node, source):
            folded = _into(editor, before, scale, shift)
            if folded is not None:
                editor.forward(node.outputs[0].name, folded)
                return True
        if node.op != "batch_norm" or not self.loose:
            return False
        x = editor.types[source]
        if not (_finite(scale.astype(x.dtype.numpy)) and _finite(shift.astype(x.dtype.numpy))):
            return False
        shape = (-1, *([1] * (len(x.shape) - 2)))
        dtype = x.dtype.numpy
        product = editor.emit("mul", (source, editor.constant(scale.reshape(shape).astype(dtype))), like=node)
        result = editor.emit("add", (product, editor.constant(shift.reshape(shape).astype(dtype))), like=node)
        editor.forward(node.outputs[0].name, result)
        return True


def _single_use(editor: Editor, node: Node, source: str) -> bool:
    """Whether this node alone reads its data."""
    old = next(i for i in node.inputs if editor.resolve(i) == source)
    return editor.used_once(old)


def _affine(editor: Editor, node: Node) -> tuple[str, Array64, Array64] | None:
    """The data, scale and shift per channel of a node that is one, channels being axis 1."""
    inputs = editor.inputs(node)
    if node.op == "batch_norm":
        arrays = [editor.array(i) for i in inputs[1:]]
        if any(a is None for a in arrays):
            return None
        gamma, beta, mean, variance = (np.asarray(a, dtype=np.float64) for a in arrays)
        epsilon = node.attr("epsilon", 1e-5)
        assert isinstance(epsilon, float)
        with np.errstate(all="ignore"):
            scale = gamma / np.sqrt(variance + epsilon)
            return inputs[0], scale, beta - mean * scale
    if node.op in ("mul", "add"):
        for k in (1, 0):
            constant, source = editor.array(inputs[k]), inputs[1 - k]
            values = None if constant is None else _per_channel(editor, constant, source)
            if values is not None:
                one, zero = np.ones_like(values), np.zeros_like(values)
                return (source, values, zero) if node.op == "mul" else (source, one, values)
    return None


def _per_channel(editor: Editor, constant: NDArray[Any], source: str) -> Array64 | None:
    """One value per channel from a constant that broadcasts over data with channels in axis 1."""
    dims = editor.dims(source)
    if dims is None or len(dims) < 2 or not editor.types[source].dtype.is_float or constant.ndim > len(dims):
        return None
    shape = (1,) * (len(dims) - constant.ndim) + constant.shape
    if any(e != 1 for k, e in enumerate(shape) if k != 1) or shape[1] not in (1, dims[1]):
        return None
    return np.broadcast_to(constant.reshape(-1).astype(np.float64), (dims[1],)).copy()


def _into(editor: Editor, node: Node, scale: Array64, shift: Array64) -> str | None:
    """The node with a scale and shift in its weights, or None if it cannot take them."""
    if node.op == "reshape":
        return _into_reshaped(editor, node, scale, shift)
    if node.op not in ("conv", "conv_transpose", "gemm", "matmul"):
        return None
    inputs = (*node.inputs, "", "")[:3]
    weight = editor.array(inputs[1])
    bias = editor.array(inputs[2]) if inputs[2] else None
    t = editor.types[node.outputs[0].name]
    if weight is None or (inputs[2] and bias is None) or not t.dtype.is_float or len(t.shape) < 2:
        return None
    attrs = dict(node.attrs)
    op = node.op
    factor: Array64
    match op:
        case "conv":
            factor = scale.reshape(-1, *([1] * (weight.ndim - 1)))
        case "conv_transpose":
            # A weight is (channels, filters of a group, taps…): which filter a column is depends on the row's group.
            groups = node.attr("groups", 1)
            assert isinstance(groups, int)
            each = np.repeat(scale.reshape(groups, -1), weight.shape[0] // groups, axis=0)
            factor = each.reshape(*each.shape, *([1] * (weight.ndim - 2)))
        case _:
            if weight.ndim != 2 or len(t.shape) != 2 or (bias is not None and bias.size not in (1, shift.size)):
                return None
            alpha, beta = attrs.pop("alpha", 1.0), attrs.pop("beta", 1.0)
            assert isinstance(alpha, float) and isinstance(beta, float)
            factor = alpha * (scale.reshape(-1, 1) if attrs.get("trans_b") else scale)
            bias = None if bias is None else bias.astype(np.float64).reshape(-1) * beta
            op = "gemm"
    with np.errstate(all="ignore"):
        total = shift if bias is None else np.broadcast_to(bias.astype(np.float64), shift.shape) * scale + shift
        new_bias = total.astype(t.dtype.numpy)
        same = bool((factor == 1).all())
        new_weight = weight if same else (weight * factor).astype(t.dtype.numpy)
    if not _finite(new_bias) or not (same or _finite(new_weight)):
        return None
    w = inputs[1] if same else editor.constant(new_weight)
    return editor.emit(op, (inputs[0], w, editor.constant(new_bias)), attrs, like=node)


def _into_reshaped(editor: Editor, node: Node, scale: Array64, shift: Array64) -> str | None:
    """A product by a matrix whose rows are counted in another way behind it: its columns are the channels still."""
    product = editor.producers.get(node.inputs[0])
    shape = node.outputs[0].type.shape
    if product is None or product.op != "matmul" or editor.uses[node.inputs[0]] != 1 or len(shape) != 2:
        return None
    weight, made = editor.array(product.inputs[1]), product.outputs[0].type
    if weight is None or weight.ndim != 2 or made.shape[-1] is not shape[-1]:
        return None
    with np.errstate(all="ignore"):
        matrix, bias = (a.astype(made.dtype.numpy) for a in (weight * scale, shift))
    if not (_finite(matrix) and _finite(bias)):
        return None
    y = editor.emit("matmul", (product.inputs[0], editor.constant(matrix)), like=node)
    y = editor.emit("add", (y, editor.constant(bias)), like=node)
    return editor.emit("reshape", (y,), dict(node.attrs), like=node)


def _finite(a: NDArray[Any]) -> bool:
    """Whether folding has neither overflowed nor met a NaN."""
    return bool(np.isfinite(a.astype(np.float64)).all())
