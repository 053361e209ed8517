"""Canonical form: nodes that do nothing are removed, and chains of shape changes become one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.transform import quantization, reshapes, shared, transposes, weights
from tcompiler.transform.editing import Editor, ints, rewrite_nodes, scalar_value

Rule = Callable[[Editor, Node], str | None]
"""What a node's result can be read from instead: a value's name, or None if the node stays."""


@dataclass(frozen=True, slots=True)
class Canonicalise:
    """Applies the rules below to every node, from the inputs on; the result of one is seen by the next.

    identity; a cast, reshape, transpose, expand, slice, tile, pad or concat that changes nothing; reshape of a
    reshape; transpose of a transpose; a transpose that moves extents of 1 only; operators of transposes that can go
    first (see transposes.py) or of reshapes (see reshapes.py); products by large transposed constants (see weights.py)
    and by what is repeated (see shared.py);
    dequantized data that are quantized again or only moved (see quantization.py); a reduction whose kept axes are
    reshaped away; a gather of places at even distances; a slice of a slice; products by 1, differences of 0; powers
    with small constant exponents; division by a power of two.
    """

    name: str = "canonicalise"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph in canonical form."""
        return rewrite_nodes(graph, store, _apply)


def _apply(editor: Editor, node: Node) -> str | None:
    """Applies the rule for a node, then those for what it put in its place."""
    result: str | None = None
    while True:
        count = len(editor.nodes)
        better = _better(editor, node)
        if better is None:
            break
        if result is not None:
            editor.drop(node)
        result = better
        if len(editor.nodes) <= count or editor.nodes[-1].outputs[0].name != better:
            break
        node = editor.nodes[-1]
    return result


def _better(editor: Editor, node: Node) -> str | None:
    rule = _RULES.get(node.op)
    better = None if rule is None else rule(editor, node)
    if better is None:
        better = quantization.sink(editor, node)
    if better is None and node.op not in ("transpose", "reshape", "identity"):
        better = transposes.sink(editor, node) or reshapes.sink(editor, node)
    return better


def _data(editor: Editor, node: Node) -> str:
    return editor.resolve(node.inputs[0])


def _identity(editor: Editor, node: Node) -> str | None:
    source = _data(editor, node)
    outputs = [v.name for v in editor.graph.outputs]
    # An output that only copies an input, a constant or another output is a buffer of its own and stays.
    if node.outputs[0].name in outputs and (source not in editor.producers or source in map(editor.resolve, outputs)):
        return None
    return source


def _same_type(editor: Editor, node: Node) -> str | None:
    """For operators that change nothing when the type stays."""
    source, out = _data(editor, node), node.outputs[0].type
    t = editor.types[source]
    return _identity(editor, node) if t.dtype is out.dtype and t.shape == out.shape else None


def _reshape(editor: Editor, node: Node) -> str | None:
    same = _same_type(editor, node)
    if same is not None:
        return same
    before = editor.producers.get(_data(editor, node))
    if before is None:
        return None
    if before.op == "reshape":
        source = before.inputs[0]
        if editor.types[source].shape == node.outputs[0].type.shape:
            return source
        return editor.emit("reshape", (source,), {"shape": ints(node, "shape")}, like=node)
    if before.op in _REDUCTIONS and before.attr("keepdims") is True and editor.used_once(node.inputs[0]):
        attrs = {**dict(before.attrs), "keepdims": False}
        rank = len(editor.types[before.inputs[0]].shape)
        axes = [a % rank for a in (ints(before, "axes") if before.op not in _ARG else (_int(before, "axis"),))]
        kept = tuple(e for k, e in enumerate(editor.types[before.inputs[0]].shape) if k not in axes)
        if kept == node.outputs[0].type.shape:
            return editor.emit(before.op, before.inputs, attrs, like=before)
    return None


_ARG = ("argmax", "argmin")
_REDUCTIONS = frozenset(
    {*_ARG, "sum", "prod", "amax", "amin", "mean", "all", "any", "sum_square", "l1_norm", "l2_norm", "log_sum"}
)


def _int(node: Node, key: str) -> int:
    value = node.attr(key)
    assert isinstance(value, int)
    return value


def _transpose(editor: Editor, node: Node) -> str | None:
    source, perm = _data(editor, node), ints(node, "perm")
    if perm == tuple(range(len(perm))):
        return _identity(editor, node)
    before = editor.producers.get(source)
    if before is not None and before.op == "transpose":
        inner = ints(before, "perm")
        composed = tuple(inner[p] for p in perm)
        if composed == tuple(range(len(composed))):
            return before.inputs[0]
        return editor.emit("transpose", (before.inputs[0],), {"perm": composed}, like=node)
    dims = editor.dims(source)
    moved = None if dims is None else [p for p in perm if dims[p] != 1]
    if dims is not None and moved == sorted(moved or []):
        return editor.emit("reshape", (source,), {"shape": tuple(dims[p] for p in perm)}, like=node)
    return None


def _slice(editor: Editor, node: Node) -> str | None:
    before = editor.producers.get(_data(editor, node))
    if before is not None and before.op == "slice" and editor.used_once(node.inputs[0]):
        rank = len(node.outputs[0].type.shape)
        moves = _moves(before, rank)
        for axis, (start, size, step) in _moves(node, rank).items():
            first, _, each = moves.get(axis, (0, 0, 1))
            moves[axis] = first + start * each, size, step * each
        starts, sizes, steps = zip(*moves.values(), strict=True)
        attrs = {"axes": tuple(moves), "starts": starts, "sizes": sizes, "steps": steps}
        return editor.emit("slice", (before.inputs[0],), attrs, like=node)
    if any(s < 0 for s in ints(node, "steps")):
        return None
    return _same_type(editor, node)


def _moves(node: Node, rank: int) -> dict[int, tuple[int, int, int]]:
    """The start, size and step of a slice by axis."""
    axes = ints(node, "axes")
    each = zip(ints(node, "starts"), ints(node, "sizes"), ints(node, "steps") or (1,) * len(axes), strict=True)
    return {a % rank: move for a, move in zip(axes, each, strict=True)}


def _gather(editor: Editor, node: Node) -> str | None:
    """Elements at even distances along an axis are a slice, which need not be looked up one by one."""
    source, places = _data(editor, node), editor.array(node.inputs[1])
    axis = _int(node, "axis") % len(editor.types[source].shape)
    extent = as_int(editor.types[source].shape[axis])
    if places is None or places.ndim != 1 or places.size == 0 or extent is None:
        return None
    at = np.where(places < 0, places + extent, places).astype(np.int64)
    steps = np.unique(np.diff(at)) if at.size > 1 else np.ones(1, np.int64)
    if steps.size != 1 or steps[0] == 0 or at.min() < 0 or at.max() >= extent:
        return None
    attrs = {"axes": (axis,), "starts": (int(at[0]),), "sizes": (at.size,), "steps": (int(steps[0]),)}
    return editor.emit("slice", (source,), attrs, like=node)


def _pad(editor: Editor, node: Node) -> str | None:
    return None if any(ints(node, "pads")) else _identity(editor, node)


def _concat(editor: Editor, node: Node) -> str | None:
    parts = editor.inputs(node)
    axis = _int(node, "axis")
    kept = tuple(p for p in parts if as_int(editor.types[p].shape[axis]) != 0)
    if len(kept) == 1 and (kept[0] in editor.producers or len(parts) == 1):
        return kept[0] if kept[0] in editor.producers else _identity(editor, node)
    return None


def _operand(editor: Editor, node: Node, constant: int) -> tuple[str, float | int] | None:
    """The data and the one value of a constant operand, where the data already have the result's type."""
    inputs = editor.inputs(node)
    value = scalar_value(editor.array(inputs[constant]))
    source = inputs[1 - constant]
    out = node.outputs[0].type
    if value is None or editor.types[source].shape != out.shape:
        return None
    return source, value


def _neutral(value: float, sides: tuple[int, ...]) -> Rule:
    def rule(editor: Editor, node: Node) -> str | None:
        for side in sides:
            found = _operand(editor, node, side)
            if found is not None and found[1] == value and (value or math.copysign(1.0, found[1]) > 0):
                return found[0] if found[0] in editor.producers else None
        return None

    return rule


def _div(editor: Editor, node: Node) -> str | None:
    found = _operand(editor, node, 1)
    if found is None or not editor.types[found[0]].dtype.is_float:
        return None
    source, value = found
    if value == 1 and source in editor.producers:
        return source
    mantissa, exponent = math.frexp(value) if math.isfinite(value) and value else (0.0, 0)
    # The reciprocal of a power of two is exact while it and the divisor are normal numbers.
    if abs(mantissa) != 0.5 or abs(exponent) > 13 or value == 1:
        return None
    reciprocal = np.asarray(1 / value, dtype=editor.types[source].dtype.numpy)
    return editor.emit("mul", (source, editor.constant(reciprocal)), like=node)


def _pow(editor: Editor, node: Node) -> str | None:
    found = _operand(editor, node, 1)
    if found is None:
        return None
    source, value = found
    if value == 1 and source in editor.producers:
        return source
    if value == 2:
        return editor.emit("mul", (source, source), like=node)
    if value == 3:
        return editor.emit("mul", (editor.emit("mul", (source, source), like=node), source), like=node)
    if value == -1 and editor.types[source].dtype.is_float:
        return editor.emit("reciprocal", (source,), like=node)
    return None


_RULES: dict[str, Rule] = {
    "identity": _identity,
    "cast": _same_type,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _same_type,
    "slice": _slice,
    "gather": _gather,
    "tile": _same_type,
    "concat": _concat,
    "pad": _pad,
    "matmul": lambda editor, node: (
        weights.product_of_transposed(editor, node) or shared.product_of_repeated(editor, node)
    ),
    "mul": _neutral(1.0, (0, 1)),
    "sub": _neutral(0.0, (1,)),
    "div": _div,
    "pow": _pow,
    "quantize": quantization.cancel,
}
