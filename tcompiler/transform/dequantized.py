"""Products of dequantized tensors as products of their integers, scaled behind.

Σ sx·(x - zx) · sw·(w - zw) = sx·sw · Σ (x - zx)·(w - zw): exporters write a quantized model as floats between pairs of
quantize and dequantize, and mean the right side (B. Jacob et al., "Quantization and training of neural networks for
efficient integer-arithmetic-only inference", 2018). The sum is then exact, where that of the floats rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tcompiler.ir import dtypes as dt
from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node
from tcompiler.transform.editing import Editor, ints, rewrite_nodes

_LARGEST = 255 * 255
"""Of a product of two bytes less their zero points."""


@dataclass(frozen=True, slots=True)
class MultiplyIntegers:
    """Convolutions and matrix products of dequantized bytes multiply the bytes."""

    name: str = "multiply-integers"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with scales behind the products."""
        return rewrite_nodes(graph, store, _integer_product)


@dataclass(frozen=True, slots=True)
class _Bytes:
    """An operand scale · (x - zero): its parts by name; one element each, or shaped to x. Zero may be absent."""

    x: str
    scale: str
    zero: str


def _integer_product(editor: Editor, node: Node) -> str | None:
    if node.op not in ("conv", "matmul", "gemm") or node.outputs[0].type.dtype is not dt.f32:
        return None
    inputs = editor.inputs(node)
    turned = (False, False)
    if node.op == "gemm":
        if node.attr("alpha", 1.0) != 1.0 or (len(inputs) > 2 and node.attr("beta", 1.0) != 1.0):
            return None
        turned = (node.attr("trans_a", False) is True, node.attr("trans_b", False) is True)
    x, w = (_bytes(editor, name, turn) for name, turn in zip(inputs[:2], turned, strict=True))
    if x is None or w is None or editor.dims(x.scale) != ():
        return None
    shape, rank = editor.dims(w.x), len(node.outputs[0].type.shape)
    if shape is None or len(shape) < 2:
        return None
    depth = prod(shape[1:]) if node.op == "conv" else shape[-2]
    scale = _behind(editor, node, w, shape, rank)
    if scale is None or depth * _LARGEST >= 1 << 31:
        return None
    if any(p.zero and editor.dims(p.zero) not in ((), editor.dims(p.scale)) for p in (x, w)):
        return None
    op, attrs = (node.op, dict(node.attrs)) if node.op == "conv" else ("matmul", {})
    product = editor.emit(op, (_integers(editor, x, node), _integers(editor, w, node)), attrs, like=node)
    factor = editor.emit("mul", (scale, x.scale), like=node)
    value = editor.emit("mul", (editor.emit("cast", (product,), {"to": dt.f32}, like=node), factor), like=node)
    if len(inputs) > 2 and inputs[2]:
        bias = inputs[2]
        if node.op == "conv":
            bias = editor.emit("reshape", (bias,), {"shape": (-1, *([1] * (rank - 2)))}, like=node)
        value = editor.emit("add", (value, bias), like=node)
    return value


def _bytes(editor: Editor, name: str, turned: bool) -> _Bytes | None:
    """What a value, or the transposed of a matrix, is dequantized from, by a transpose perhaps; None if it is not."""
    node = editor.producers.get(name)
    order: tuple[int, ...] | None = (1, 0) if turned else None
    if node is not None and node.op == "transpose" and not turned:
        order, node = ints(node, "perm"), editor.producers.get(node.inputs[0])
    if node is None or node.op != "dequantize" or editor.types[node.inputs[0]].dtype not in (dt.i8, dt.u8):
        return None
    if node.outputs[0].type.dtype is not dt.f32:
        return None
    x, scale, zero = node.inputs[0], node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else ""
    if order is None:
        return _Bytes(x, scale, zero)

    def moved(part: str) -> str:
        return editor.emit("transpose", (part,), {"perm": order}) if part and editor.dims(part) != () else part

    return _Bytes(moved(x), moved(scale), moved(zero))


def _integers(editor: Editor, part: _Bytes, like: Node) -> str:
    wide = editor.emit("cast", (part.x,), {"to": dt.i32}, like=like)
    if not part.zero:
        return wide
    return editor.emit("sub", (wide, editor.emit("cast", (part.zero,), {"to": dt.i32}, like=like)), like=like)


def _behind(editor: Editor, node: Node, w: _Bytes, shape: tuple[int, ...], rank: int) -> str | None:
    """The scale of the second factor, shaped to the product; None where it varies within a sum."""
    dims = editor.dims(w.scale)
    if dims == ():
        return w.scale
    at = 0 if node.op == "conv" else len(shape) - 1
    if dims is None or len(dims) != len(shape) or any(e != 1 for k, e in enumerate(dims) if k != at):
        return None
    columns = (-1, *([1] * (rank - 2))) if node.op == "conv" else (-1,)
    return editor.emit("reshape", (w.scale,), {"shape": columns}, like=node)
