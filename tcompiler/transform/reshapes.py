"""Reshapes sink: an operator that looks at elements only is computed in its operand's shape, and reshaped after.

A product is often reshaped before a bias, an activation or a residual sum; behind them the reshape is in nobody's way,
and they end in the tile that computes the product.
"""

from __future__ import annotations

from tcompiler.ir.graph.grammar import Node
from tcompiler.ir.scalar.grammar import Scalar, as_int
from tcompiler.transform.editing import Editor
from tcompiler.transform.transposes import ALONG_ROWS, is_pointwise

_IMAGE = 4
"""Dimensions of a tensor that may be better off with its channels last: it is not reshaped for another one's sake."""


def sink(editor: Editor, node: Node) -> str | None:
    """Computes a node before the reshapes of its operands.

    Args:
        editor: The graph under construction.
        node: The node; one of its operands at least is a reshape from another shape to the result's, others are of
            the result's shape, or broadcast along dimensions that the reshape leaves alone.

    Returns:
        The reshaped result that stands for the node's, None if the node stays.
    """
    if len(node.outputs) != 1:
        return None
    inputs = editor.inputs(node)
    shape = node.outputs[0].type.shape
    reshaped = [i for i in inputs if i and _reshapes(editor, i) and _shape(editor, i) == shape]
    sources = [editor.producers[i].inputs[0] for i in reshaped]
    if (
        not sources
        or sources[0] not in editor.producers
        or _is_transposed(editor, sources[0])
        or any(as_int(e) is None for e in shape)
    ):
        return None
    inner = _shape(editor, sources[0])
    along = _along_rows(node, len(shape), len(inner))
    if any(as_int(e) is None for e in inner):
        return None
    if along is None and not is_pointwise(editor, node.op, inputs, dict(node.attrs)):
        return None
    if editor.types[sources[0]].dtype is not node.outputs[0].type.dtype:
        return None  # what widens or narrows has partners that it looks for
    same = 0
    while same < min(len(shape), len(inner)) and shape[-1 - same] is inner[-1 - same]:
        same += 1
    if along is not None and same == 0:
        return None
    operands: list[str] = []
    changed: list[int] = []
    for k, name in enumerate(inputs):
        now = _shape(editor, name) if name else ()
        if name in reshaped and _shape(editor, editor.producers[name].inputs[0]) == inner:
            operands.append(editor.producers[name].inputs[0])
        elif name and now == shape and same < len(shape):
            if editor.array(name) is None and (max(len(shape), len(inner)) >= _IMAGE or _is_transposed(editor, name)):
                return None
            changed.append(k)
            operands.append(name)
        elif len(now) <= same or (len(now) <= len(inner) and all(as_int(e) == 1 for e in now)):
            operands.append(name)
        elif len(now) > same and all(as_int(e) == 1 for e in now[: len(now) - same]):
            unit = (1,) * max(0, min(len(now), len(inner)) - same)
            kept = (*unit, *(as_int(e) or 0 for e in now[len(now) - same :]))
            operands.append(editor.emit("reshape", (name,), {"shape": kept}, like=node))
        else:
            return None
    target = tuple(as_int(e) or 0 for e in inner)
    for k in changed:
        data = editor.array(operands[k])
        if data is not None:
            operands[k] = editor.constant(data.reshape(target))
        else:
            operands[k] = editor.emit("reshape", (operands[k],), {"shape": target}, like=node)
    attrs = dict(node.attrs) if along is None else {**dict(node.attrs), "axis": along}
    if along is None and not is_pointwise(editor, node.op, operands, attrs):
        return None  # one axis or another means something to it (channels, paddings)
    result = editor.emit(node.op, operands, attrs, like=node)
    return editor.emit("reshape", (result,), {"shape": tuple(as_int(e) or 0 for e in shape)}, like=node)


def _along_rows(node: Node, rank: int, inner: int) -> int | None:
    """The axis, at another rank, of an operator that passes over the last axis of its operand only."""
    axis = node.attr("axis")
    return inner - 1 if node.op in ALONG_ROWS and axis in (-1, rank - 1) else None


def _shape(editor: Editor, name: str) -> tuple[Scalar, ...]:
    return editor.types[name].shape


def _reshapes(editor: Editor, name: str) -> bool:
    node = editor.producers.get(name)
    return node is not None and node.op == "reshape"


def _is_transposed(editor: Editor, name: str) -> bool:
    """Whether a value is a transpose's, which would rather sink itself."""
    node = editor.producers.get(name)
    return node is not None and node.op == "transpose"
