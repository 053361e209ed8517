"""Pairs of dequantize and quantize that change nothing, and operators that may as well work on the integers."""

from __future__ import annotations

import numpy as np

from tcompiler.ir.graph.grammar import Node
from tcompiler.transform.editing import Editor, ints

_MOVES = frozenset({"reshape", "transpose", "slice", "expand", "tile", "gather"})
"""Operators whose results are elements of their first operand, in other places."""
_ORDERED = frozenset({"max_pool", "amax", "amin"})
"""Operators that pick elements by their order, which a positive scale keeps."""


def cancel(editor: Editor, node: Node) -> str | None:
    """quantize(dequantize(x)) with the same scale and zero point is x.

    The product by the scale and the quotient each round once, so what should be an integer below 2^17 is off by less
    than a quarter; rounding gives it back. That takes a scale whose products are neither infinite nor denormal.

    Returns:
        The name of x, None if the node stays.
    """
    before = editor.producers.get(editor.resolve(node.inputs[0]))
    if before is None or before.op != "dequantize":
        return None
    x = before.inputs[0]
    if editor.inputs(node)[1:] != before.inputs[1:] or editor.types[x].dtype is not node.outputs[0].type.dtype:
        return None
    if editor.types[x].shape != node.outputs[0].type.shape or not _is_harmless(editor, before, x):
        return None
    return x


def sink(editor: Editor, node: Node) -> str | None:
    """Moves and compares the integers, a fourth of the bytes, and dequantizes what comes out.

    Returns:
        The dequantized result that stands for the node's, None if the node stays.
    """
    if node.op not in _MOVES | _ORDERED or not editor.used_once(node.inputs[0]):
        return None
    before = editor.producers.get(editor.resolve(node.inputs[0]))
    if before is None or before.op != "dequantize" or any(editor.dims(p) != () for p in before.inputs[1:]):
        return None
    if node.op in _ORDERED and not (_is_harmless(editor, before, before.inputs[0]) and _meets_data(editor, node)):
        return None
    inner = editor.emit(node.op, (before.inputs[0], *editor.inputs(node)[1:]), dict(node.attrs), like=node)
    return editor.emit("dequantize", (inner, *before.inputs[1:]), like=node)


def _meets_data(editor: Editor, node: Node) -> bool:
    """Whether every result is an element of the data: what stands for none differs between integers and floats."""
    dims = editor.dims(editor.resolve(node.inputs[0]))
    kernel, pads = ints(node, "kernel"), ints(node, "pads")
    narrow = all(pad < kernel[k % len(kernel)] for k, pad in enumerate(pads))
    return dims is not None and 0 not in dims and narrow and set(ints(node, "dilations")) <= {1}


def _is_harmless(editor: Editor, dequantize: Node, x: str) -> bool:
    """Whether every scale is positive, and its products with the integers are normal numbers of good precision."""
    scale = editor.array(dequantize.inputs[1])
    if scale is None or scale.dtype not in (np.float32, np.float64) or scale.size == 0:
        return False
    bits = editor.types[x].dtype.bits
    limits = np.finfo(scale.dtype)
    return bits <= 16 and bool((scale >= limits.tiny).all() and (scale <= limits.max / 2.0**18).all())
