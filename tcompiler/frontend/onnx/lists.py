"""Converters: sequences of tensors, whose length and order are known while the model is read; and optional values."""

from __future__ import annotations

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.data import element_type
from tcompiler.frontend.onnx.node import NodeView, Result, TensorList, converts


def _place(node: NodeView, k: int, count: int) -> int:
    """A position given by an input, counted from the front; `count` positions there are."""
    at = node.integer(k, "position")
    if not -count <= at < count:
        raise CompileError(f"position {at} in {node.sequence(0)!r}, expected {-count} to {count - 1}")
    return at % count


@converts("SequenceEmpty")
def _empty(node: NodeView) -> Result:
    element_type(node.int_attr("dtype", 1), "an element")
    return TensorList(())


@converts("SequenceConstruct")
def _construct(node: NodeView) -> Result:
    return TensorList(tuple(node.all()))


@converts("SequenceLength")
def _length(node: NodeView) -> Result:
    return node.constant(len(node.sequence(0).items), "int64")


@converts("SequenceAt")
def _at(node: NodeView) -> Result:
    items = node.sequence(0).items
    return items[_place(node, 1, len(items))]


@converts("SequenceErase")
def _erase(node: NodeView) -> Result:
    items = node.sequence(0).items
    at = len(items) - 1 if len(node.inputs) < 2 else _place(node, 1, len(items))
    return TensorList((*items[:at], *items[at + 1 :]))


@converts("SequenceInsert")
def _insert(node: NodeView) -> Result:
    items = node.sequence(0).items
    if len(items) >= node.limits.nodes:
        raise CompileError(f"a sequence of more than {node.limits.nodes} tensors, the limit on nodes")
    at = node.integer(2, "position") if node.optional(2) is not None else len(items)
    if not -len(items) <= at <= len(items):
        raise CompileError(f"position {at} in {node.sequence(0)!r}, expected {-len(items)} to {len(items)}")
    at = at + len(items) if at < 0 else at
    return TensorList((*items[:at], node.x(1), *items[at:]))


@converts("SplitToSequence")
def _split(node: NodeView) -> Result:
    x = node.x()
    axis = node.int_attr("axis", 0)
    if not -x.ndim <= axis < x.ndim:
        raise CompileError(f"attribute 'axis' is {axis} for {x!r}")
    extent = x.shape[axis]
    keep = bool(node.int_attr("keepdims", 1))
    sizes = None if node.optional(1) is None else node.integers(1, "split")
    if sizes is None:
        sizes = [1] * extent
    elif node.x(1).ndim == 0:
        keep, each = True, sizes[0]
        if each < 1:
            raise CompileError(f"parts of {each} elements, expected 1 or more")
        sizes = [min(each, extent - k) for k in range(0, extent, each)]
    else:
        keep = True
    if any(s < 0 for s in sizes) or sum(sizes) != extent or len(sizes) > node.limits.nodes:
        raise CompileError(f"split sizes are {sizes[:8]} for axis {axis} of {x!r}")
    parts = fn.split(x, [sum(sizes[:k]) for k in range(1, len(sizes))], axis) if sizes else []
    return TensorList(tuple(parts if keep else (fn.squeeze(p, axis) for p in parts)))


@converts("ConcatFromSequence")
def _concat(node: NodeView) -> Result:
    items = node.sequence(0).items
    if not items:
        raise CompileError("the sequence is empty, so the shape of the result is unknown")
    axis = node.int_attr("axis")
    return fn.stack(items, axis) if node.int_attr("new_axis", 0) else fn.concatenate(items, axis)


@converts("OptionalHasElement")
def _has_element(node: NodeView) -> Result:
    return node.constant(bool(node.inputs) and node.inputs[0] is not None)


@converts("OptionalGetElement")
def _get_element(node: NodeView) -> Result:
    return node.item(0)
