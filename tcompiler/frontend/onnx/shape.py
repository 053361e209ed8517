"""Converters: operators that move elements, shape arithmetic, and constants."""

from __future__ import annotations

import math

import numpy as np

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.data import element_type
from tcompiler.frontend.onnx.node import REACH, NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor, apply, lift
from tcompiler.ir import dtypes as dt


def _axes(axes: list[int], rank: int) -> list[int]:
    """Axes counted from the front, checked."""
    for a in axes:
        if not -rank <= a < rank:
            raise CompileError(f"axis {a} is out of range for rank {rank}")
    result = [a % rank for a in axes]
    if len(set(result)) != len(result):
        raise CompileError(f"axes {axes} name one axis twice")
    return result


@converts("Constant")
def _constant(node: NodeView) -> Result:
    if node.has("value"):
        return node.constant(node.tensor_attr("value"))
    if node.has("value_float"):
        return node.constant(node.float_attr("value_float"), np.float32)
    if node.has("value_floats"):
        return node.constant(node.floats_attr("value_floats"), np.float32)
    if node.has("value_int"):
        return node.constant(node.int_attr("value_int"), np.int64)
    if node.has("value_ints"):
        return node.constant(node.ints_attr("value_ints"), np.int64)
    raise CompileError("expected one of the attributes value, value_float, value_floats, value_int, value_ints")


def _filled(node: NodeView, value: SymbolicTensor, shape: list[int]) -> SymbolicTensor:
    if any(e < 0 for e in shape):
        raise CompileError(f"the shape is {shape}, expected extents of at least 0")
    return fn.broadcast_to(value, shape)


@converts("ConstantOfShape")
def _constant_of_shape(node: NodeView) -> Result:
    value = node.tensor_attr("value").reshape(-1) if node.has("value") else np.zeros(1, np.float32)
    if value.size != 1:
        raise CompileError(f"attribute 'value' has {value.size} elements, expected one")
    return _filled(node, node.constant(value.reshape(())), node.integers(0, "shape"))


@converts("Shape")
def _shape(node: NodeView) -> Result:
    shape = node.x().shape
    start = node.int_attr("start", 0)
    end = node.int_attr("end", len(shape))
    return node.constant(np.array(shape[slice(*_bounds(start, end, len(shape)))], dtype=np.int64))


def _bounds(start: int, end: int, rank: int) -> tuple[int, int]:
    start, end = (b + rank if b < 0 else b for b in (start, end))
    return min(max(start, 0), rank), min(max(end, 0), rank)


@converts("Size")
def _size(node: NodeView) -> Result:
    return node.constant(node.x().size, np.int64)


@converts("Range")
def _range(node: NodeView) -> Result:
    d = node.x().dtype
    if any(node.x(k).dtype is not d for k in (1, 2)):
        raise CompileError(f"inputs are {node.x(0)!r}, {node.x(1)!r} and {node.x(2)!r}, expected one element type")
    ends = [node.scalar(k, what) for k, what in enumerate(("start", "limit", "delta"))]
    start, limit, delta = (float(a) if d.is_float else int(a) for a in ends)
    if not all(math.isfinite(v) for v in (start, limit, delta)) or delta == 0:
        raise CompileError(f"start is {start}, limit {limit} and delta {delta}, expected finite ones and a delta not 0")
    # whole numbers may be too large for a float, quotients of floats for any number
    length = (limit - start) / delta if d.is_float else -((start - limit) // delta)
    count = max(math.ceil(min(length, node.limits.elements + 1)), 0)
    steps = lift(node.writer, np.arange(node.computed(count), dtype=np.int64))
    return fn.add(fn.multiply(fn.astype(steps, d), node.x(2)), node.x(0))


@converts("EyeLike")
def _eye_like(node: NodeView) -> Result:
    x = node.x()
    if x.ndim != 2:
        raise CompileError(f"the input is {x!r}, expected rank 2")
    d = element_type(node.int_attr("dtype"), "the result") if node.has("dtype") else x.dtype
    rows, columns = x.shape
    at = [np.arange(node.computed(n), dtype=np.int64) for n in (rows, columns)]
    shift = min(max(node.int_attr("k", 0), -rows), columns)
    diagonal = fn.add(lift(node.writer, at[0].reshape(-1, 1)), shift)
    return fn.astype(apply("eq", diagonal, lift(node.writer, at[1].reshape(1, -1))), d)


@converts("Reshape")
def _reshape(node: NodeView) -> Result:
    x = node.x()
    target = node.integers(1, "shape")
    if not node.int_attr("allowzero", 0):
        for k, e in enumerate(target):
            if e == 0:
                if k >= x.ndim:
                    raise CompileError(f"shape is {target} for {x!r}: extent 0 at {k} copies an axis that is not there")
                target[k] = x.shape[k]
    if -1 in target and 0 in target and x.size == 0:
        # Any extent would do; 0 is what numpy and onnxruntime give where the rest has no element.
        target[target.index(-1)] = 0
    return fn.reshape(x, target)


@converts("Flatten")
def _flatten(node: NodeView) -> Result:
    x = node.x()
    axis = node.int_attr("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise CompileError(f"attribute 'axis' is {axis} for {x!r}, expected {-x.ndim} to {x.ndim}")
    axis = axis + x.ndim if axis < 0 else axis
    return fn.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@converts("Transpose")
def _transpose(node: NodeView) -> Result:
    x = node.x()
    perm = node.ints_attr("perm", list(reversed(range(x.ndim))))
    return apply("transpose", x, perm=tuple(perm))


@converts("Squeeze")
def _squeeze(node: NodeView) -> Result:
    x = node.x()
    if node.opset < 13:
        axes = node.ints_attr("axes") if node.has("axes") else None
    else:
        axes = node.integers(1, "axes") if node.optional(1) is not None else None
    return fn.squeeze(x, None if axes is None else _axes(axes, x.ndim))


@converts("Unsqueeze")
def _unsqueeze(node: NodeView) -> Result:
    x = node.x()
    axes = node.ints_attr("axes") if node.opset < 13 else node.integers(1, "axes")
    return fn.expand_dims(x, _axes(axes, x.ndim + len(axes)))


_PARTS = 32
"""Most parts that one node joins: a kernel looks for an element's part one after the other."""


@converts("Concat")
def _concat(node: NodeView) -> Result:
    parts, axis = node.all(), node.int_attr("axis")
    while len(parts) > _PARTS:
        parts = [apply("concat", *parts[k : k + _PARTS], axis=axis) for k in range(0, len(parts), _PARTS)]
    return apply("concat", *parts, axis=axis)


@converts("Split")
def _split(node: NodeView) -> Result:
    x = node.x()
    axis = _axes([node.int_attr("axis", 0)], x.ndim)[0]
    extent, count = x.shape[axis], len(node.outputs)
    sizes: list[int] | None = None
    if node.opset < 13:
        sizes = node.ints_attr("split") if node.has("split") else None
    elif node.optional(1) is not None:
        sizes = node.integers(1, "split")
    if sizes is None:
        parts = node.int_attr("num_outputs", count)
        if parts != count:
            raise CompileError(f"attribute 'num_outputs' is {parts}, and the node has {count} outputs")
        each = -(-extent // max(count, 1))
        sizes = [max(min(each, extent - each * k), 0) for k in range(count)]
    if len(sizes) != len(node.outputs) or sum(sizes) != extent or any(s < 0 for s in sizes):
        raise CompileError(f"split sizes are {sizes} for axis {axis} of {x!r} and {len(node.outputs)} outputs")
    return fn.split(x, [sum(sizes[:k]) for k in range(1, len(sizes))], axis)


@converts("Slice")
def _slice(node: NodeView) -> Result:
    x = node.x()
    if node.opset < 10:
        starts, ends = node.ints_attr("starts"), node.ints_attr("ends")
        axes, steps = node.ints_attr("axes", list(range(len(starts)))), [1] * len(starts)
    else:
        starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
        axes = node.integers(3, "axes") if node.optional(3) is not None else list(range(len(starts)))
        steps = node.integers(4, "steps") if node.optional(4) is not None else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise CompileError(f"starts {starts}, ends {ends}, axes {axes} and steps {steps} differ in length")
    if 0 in steps:
        raise CompileError(f"steps are {steps}, expected none to be 0")
    axes = _axes(axes, x.ndim)
    first, sizes = [], []
    for a, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # numpy's clamping is ONNX's, except that a negative end below the axis means "to the front".
        lo, hi, stride = slice(start, end if end >= -x.shape[a] or step > 0 else None, step).indices(x.shape[a])
        size = len(range(lo, hi, stride))
        first.append(lo if size else 0)
        sizes.append(size)
    steps = [s if n else 1 for s, n in zip(steps, sizes, strict=True)]
    return apply("slice", x, axes=tuple(axes), starts=tuple(first), sizes=tuple(sizes), steps=tuple(steps))


@converts("Expand")
def _expand(node: NodeView) -> Result:
    x = node.x()
    target = node.integers(1, "shape")
    try:
        shape = np.broadcast_shapes(x.shape, tuple(target))
    except ValueError:
        raise CompileError(f"{x!r} does not broadcast with the shape {target}") from None
    return x if shape == x.shape else fn.broadcast_to(x, shape)


@converts("Tile")
def _tile(node: NodeView) -> Result:
    x, repeats = node.x(), node.integers(1, "repeats")
    if len(repeats) == x.ndim and all(r >= 0 for r in repeats):
        # checked here, as an extent of the graph's is an i64
        node.limits.check_shape([e * r for e, r in zip(x.shape, repeats, strict=True)], "the result")
    return apply("tile", x, repeats=tuple(repeats))


def _pad_value(node: NodeView, x: SymbolicTensor) -> float:
    """The value of input 2 that padding has, of the data's type."""
    value = node.scalar(2, "constant_value")
    if node.x(2).dtype is not x.dtype or (x.dtype.is_integer and int(float(value)) != int(value)):
        raise CompileError(
            f"input 2 (constant_value) is {value} of {node.x(2).dtype.name}, expected one of {x.dtype.name} that a f64 "
            f"holds"
        )
    return float(value)


@converts("Pad")
def _pad(node: NodeView) -> Result:
    x = node.x()
    mode = node.string_attr("mode", "constant")
    if node.opset < 11:
        pads, value = node.ints_attr("pads"), node.float_attr("value", 0.0)
    else:
        pads = node.integers(1, "pads")
        value = _pad_value(node, x) if node.optional(2) is not None else 0.0
    if node.optional(3) is not None:
        axes = _axes(node.integers(3, "axes"), x.ndim)
        if len(pads) != 2 * len(axes):
            raise CompileError(f"pads are {pads} for axes {axes}, expected {2 * len(axes)} integers")
        full = [0] * (2 * x.ndim)
        for k, a in enumerate(axes):
            full[a], full[x.ndim + a] = pads[k], pads[len(axes) + k]
        pads = full
    if any(abs(p) > REACH for p in pads):
        raise CompileError(f"pads are {pads}, expected none larger than {REACH}")
    return apply("pad", x, pads=tuple(pads), mode=mode, value=value)


@converts("Trilu")
def _trilu(node: NodeView) -> Result:
    x = node.x()
    k = node.integer(1, "k") if node.optional(1) is not None else 0
    if x.ndim >= 2:
        # beyond the corners a diagonal keeps all or nothing, and its number may be too large to add to an index
        k = min(max(k, -x.shape[-2] - 1), x.shape[-1] + 1)
    return apply("trilu", x, k=k, upper=bool(node.int_attr("upper", 1)))


@converts("DepthToSpace")
def _depth_to_space(node: NodeView) -> Result:
    x, b = node.x(), node.int_attr("blocksize")
    mode = node.string_attr("mode", "DCR")
    if x.ndim != 4 or b < 1 or x.shape[1] % (b * b) or mode not in ("DCR", "CRD"):
        raise CompileError(f"input {x!r}, blocksize {b}, mode '{mode}': expected rank 4 and channels of blocksize²")
    n, c, h, w = x.shape
    if mode == "DCR":
        y = fn.transpose(fn.reshape(x, (n, b, b, c // (b * b), h, w)), (0, 3, 4, 1, 5, 2))
    else:
        y = fn.transpose(fn.reshape(x, (n, c // (b * b), b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return fn.reshape(y, (n, c // (b * b), h * b, w * b))


@converts("SpaceToDepth")
def _space_to_depth(node: NodeView) -> Result:
    x, b = node.x(), node.int_attr("blocksize")
    mode = node.string_attr("mode", "DCR")
    if x.ndim != 4 or b < 1 or x.shape[2] % b or x.shape[3] % b or mode not in ("DCR", "CRD"):
        raise CompileError(f"input {x!r}, blocksize {b}, mode '{mode}': expected rank 4 and extents that divide")
    n, c, h, w = x.shape
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    y = fn.transpose(fn.reshape(x, (n, c, h // b, b, w // b, b)), order)
    return fn.reshape(y, (n, c * b * b, h // b, w // b))


@converts("Gather")
def _gather(node: NodeView) -> Result:
    return apply("gather", node.x(0), node.x(1), axis=node.int_attr("axis", 0))


@converts("GatherElements")
def _gather_elements(node: NodeView) -> Result:
    return apply("gather_elements", node.x(0), node.x(1), axis=node.int_attr("axis", 0))


@converts("GatherND")
def _gather_nd(node: NodeView) -> Result:
    return apply("gather_nd", node.x(0), node.x(1), batch_dims=node.int_attr("batch_dims", 0))


@converts("Scatter", "ScatterElements")
def _scatter_elements(node: NodeView) -> Result:
    return apply(
        "scatter_elements",
        node.x(0),
        node.x(1),
        node.x(2),
        axis=node.int_attr("axis", 0),
        reduction=node.string_attr("reduction", "none"),
    )


@converts("ScatterND")
def _scatter_nd(node: NodeView) -> Result:
    return apply("scatter_nd", node.x(0), node.x(1), node.x(2), reduction=node.string_attr("reduction", "none"))


@converts("OneHot")
def _one_hot(node: NodeView) -> Result:
    depth = node.integer(1, "depth")
    at = node.x(0)
    if at.dtype.is_float:
        at = fn.astype(at, dt.i64)
    return apply("one_hot", at, node.x(2), depth=depth, axis=node.int_attr("axis", -1))
