"""Transposes sink: an operator that looks at elements only is computed before its operands are transposed.

So the transposes around layers that a model keeps in another order (channels last between convolutions) meet their
inverses and cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tcompiler.errors import CompileError
from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.graph.grammar import Attr, Node
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, as_int, children, postorder
from tcompiler.ops.registry import get
from tcompiler.transform.editing import Editor, ints


def sink(editor: Editor, node: Node) -> str | None:
    """Computes a node before the transposes of its operands.

    Args:
        editor: The graph under construction.
        node: The node; its operands are transposes of one order, constants, or single elements.

    Returns:
        The transposed result that stands for the node's, None if the node stays.
    """
    transposes = [t for i in node.inputs if i and (t := _before(editor, i)) is not None]
    if len(node.outputs) != 1 or not transposes:
        return None
    perm = _perm(transposes[0])
    if any(_perm(t) != perm for t in transposes):
        return None
    moved = _MOVED.get(node.op)
    if moved is None and {key for key, _ in node.attrs} >= _KEPT_AXES:
        return _sink_reduction(editor, node, transposes[0].inputs[0], perm)
    if len(perm) != len(node.outputs[0].type.shape):
        return None
    if moved is None and (
        transposes[0].outputs[0].type.shape != node.outputs[0].type.shape
        or not is_pointwise(editor, node.op, editor.inputs(node), dict(node.attrs))
    ):
        return None
    if node.op in ALONG_ROWS and _one_axis(node, perm)["axis"] != len(perm) - 1:
        return None
    operands = []
    for name in node.inputs:
        before = _operand(editor, name, perm, broadcasts=moved is None)
        if before is None:
            return None
        operands.append(before)
    attrs = dict(node.attrs) if moved is None else {**dict(node.attrs), **moved(node, perm)}
    if moved is None and not is_pointwise(editor, node.op, operands, attrs):
        return None  # one axis or another means something to it (channels)
    inner = editor.emit(node.op, operands, attrs, like=node)
    return editor.emit("transpose", (inner,), {"perm": perm}, like=node)


def _sink_reduction(editor: Editor, node: Node, source: str, perm: tuple[int, ...]) -> str | None:
    """Reduces the axes where they lie before the transpose."""
    axes = [perm[a % len(perm)] for a in ints(node, "axes")]
    keepdims = node.attr("keepdims") is True
    attrs = {**dict(node.attrs), "axes": tuple(sorted(axes))}
    kept = perm if keepdims else tuple(p for p in perm if p not in axes)
    order = tuple(sorted(kept).index(p) for p in kept)
    inner = editor.emit(node.op, (source,), attrs, like=node)
    if order == tuple(range(len(order))):
        return inner
    return editor.emit("transpose", (inner,), {"perm": order}, like=node)


_KEPT_AXES = {"axes", "keepdims"}


def _one_axis(node: Node, perm: tuple[int, ...]) -> dict[str, Attr]:
    axis = node.attr("axis", -1)
    assert isinstance(axis, int)
    return {"axis": perm[axis % len(perm)]}


def _slice_axes(node: Node, perm: tuple[int, ...]) -> dict[str, Attr]:
    return {"axes": tuple(perm[a % len(perm)] for a in ints(node, "axes"))}


def _pad_widths(node: Node, perm: tuple[int, ...]) -> dict[str, Attr]:
    pads, rank = ints(node, "pads"), len(perm)
    where = [perm.index(k) for k in range(rank)]
    return {"pads": (*(pads[w] for w in where), *(pads[rank + w] for w in where))}


_MOVED: dict[str, Callable[[Node, tuple[int, ...]], dict[str, Attr]]] = {
    "softmax": _one_axis,
    "log_softmax": _one_axis,
    "concat": _one_axis,
    "cumsum": _one_axis,
    "cumprod": _one_axis,
    "slice": _slice_axes,
    "pad": _pad_widths,
}
"""Operators that name axes: their attributes when it is done before a transpose by `perm`."""

ALONG_ROWS = frozenset({"softmax", "log_softmax", "cumsum", "cumprod"})
"""Of these, those that pass over an axis more than once, or in order: it had better be contiguous."""


def _before(editor: Editor, name: str) -> Node | None:
    """The transpose that defines an operand which nothing else reads."""
    node = editor.producers.get(editor.resolve(name))
    return node if node is not None and node.op == "transpose" and editor.used_once(name) else None


def _perm(node: Node) -> tuple[int, ...]:
    return ints(node, "perm")


def _operand(editor: Editor, name: str, perm: tuple[int, ...], broadcasts: bool) -> str | None:
    """An operand as it is before the transpose, None where that would take a copy."""
    if not name:
        return ""
    transpose = _before(editor, name)
    if transpose is not None:
        return transpose.inputs[0]
    now = editor.resolve(name)
    dims, data = editor.dims(now), editor.array(now)
    if dims is not None and broadcasts and all(e == 1 for e in dims):
        return now
    if data is None or (not broadcasts and data.ndim != len(perm)):
        return None
    wide = data.reshape((1,) * (len(perm) - data.ndim) + data.shape)
    return editor.constant(np.ascontiguousarray(wide.transpose(np.argsort(perm))))


def is_pointwise(editor: Editor, op: str, inputs: Sequence[str], attrs: Mapping[str, Attr]) -> bool:
    """Whether an operator combines elements at one place of (broadcast) operands, whatever the place.

    Args:
        editor: The graph under construction.
        op: The operator's name.
        inputs: Its operands by their names now; it may be one that the operator would not take.
        attrs: Its attributes.
    """
    if any(editor.dims(i) is None for i in inputs if i):
        return False
    try:
        program = get(op).define([editor.types[i] if i else None for i in inputs], attrs)
    except CompileError:
        return False
    return pointwise(program)


def pointwise(program: Program) -> bool:
    """Whether a program combines elements at one place of (broadcast) operands, whatever the place."""
    if len(program.outputs) != 1:
        return False
    for scope in program.scopes:
        if not isinstance(scope, Compute) or scope.reduce_axes:
            return False
        loads = [n for n in postorder(*scope.values) if isinstance(n, Load)]
        for load in loads:
            tail = scope.axes[len(scope.axes) - len(load.indices) :]
            if len(load.indices) > len(scope.axes):
                return False
            if any(i is not a and as_int(i) != 0 for i, a in zip(load.indices, tail, strict=True)):
                return False
        if any(isinstance(n, Var) for n in _outside_loads(scope)):
            return False
    return True


def _outside_loads(scope: Compute) -> list[Scalar]:
    """The nodes of a scope's values, without what indexes loads."""
    found: list[Scalar] = []
    pending: list[Scalar] = list(scope.values)
    seen: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        found.append(node)
        if not isinstance(node, Load):
            pending += children(node)
    return found
