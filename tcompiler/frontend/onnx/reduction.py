"""Converters: reductions and pools."""

from __future__ import annotations

import functools
import math

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.linear import window_pads
from tcompiler.frontend.onnx.node import CONVERTERS, REACH, NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor, apply
from tcompiler.ir import dtypes as dt
from tcompiler.ir.graph.grammar import Attr

_REDUCTIONS = {
    "ReduceSum": ("sum", 13),
    "ReduceProd": ("prod", 18),
    "ReduceMax": ("amax", 18),
    "ReduceMin": ("amin", 18),
    "ReduceMean": ("mean", 18),
    "ReduceSumSquare": ("sum_square", 18),
    "ReduceL1": ("l1_norm", 18),
    "ReduceL2": ("l2_norm", 18),
    "ReduceLogSum": ("log_sum", 18),
    "ReduceLogSumExp": ("log_sum_exp", 18),
}


def _reduce(op: str, since: int, node: NodeView) -> Result:
    """A reduction; its axes are an attribute before opset `since` and an input from then on."""
    x = node.x()
    keepdims = bool(node.int_attr("keepdims", 1))
    axes: list[int] | None = None
    if node.opset < since:
        axes = node.ints_attr("axes", list(range(x.ndim)))
    else:
        keep_all = bool(node.int_attr("noop_with_empty_axes", 0))
        axes = node.integers(1, "axes") if node.optional(1) is not None else []
        if not axes:
            if keep_all:
                return apply(op, x, axes=(), keepdims=keepdims) if op not in ("sum", "prod", "amax", "amin") else x
            axes = list(range(x.ndim))
    if x.dtype is dt.bool_ and op in ("amax", "amin"):
        op = "any" if op == "amax" else "all"
    if x.dtype.is_integer and op in ("l2_norm", "log_sum", "log_sum_exp"):
        return fn.astype(apply(op, fn.astype(x, dt.f64), axes=tuple(axes), keepdims=keepdims), x.dtype)
    return apply(op, x, axes=tuple(axes), keepdims=keepdims)


for _name, (_op, _since) in _REDUCTIONS.items():
    CONVERTERS["", _name] = functools.partial(_reduce, _op, _since)


@converts("ArgMax", "ArgMin")
def _arg(node: NodeView) -> Result:
    return apply(
        node.op.lower(),
        node.x(),
        axis=node.int_attr("axis", 0),
        keepdims=bool(node.int_attr("keepdims", 1)),
        last=bool(node.int_attr("select_last_index", 0)),
    )


def _spatial(x: SymbolicTensor) -> tuple[int, ...]:
    if x.ndim < 3:
        raise CompileError(f"data is {x!r}, expected rank 3 or more (N, C, spatial…)")
    return tuple(range(2, x.ndim))


@converts("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: NodeView) -> Result:
    op = "mean" if node.op == "GlobalAveragePool" else "amax"
    return apply(op, node.x(), axes=_spatial(node.x()), keepdims=True)


@converts("GlobalLpPool")
def _global_lp_pool(node: NodeView) -> Result:
    x = node.x()
    _spatial(x)
    return apply("lp_pool", x, kernel=x.shape[2:], p=node.int_attr("p", 2))


@converts("MaxPool", "AveragePool", "LpPool")
def _pool(node: NodeView) -> Result:
    x = node.x()
    kernel = node.ints_attr("kernel_shape")
    if not kernel or len(kernel) != x.ndim - 2 or not all(1 <= k <= REACH for k in kernel):
        raise CompileError(f"attribute 'kernel_shape' is {kernel} for {x!r}, expected {x.ndim - 2} extents")
    rank = len(kernel)
    strides, dilations = node.per_axis("strides", rank, 1, least=1), node.per_axis("dilations", rank, 1, least=1)
    window: dict[str, Attr] = {
        "kernel": tuple(kernel),
        "strides": tuple(strides),
        "pads": window_pads(node, x, kernel, strides, dilations),
        "dilations": tuple(dilations),
        "ceil_mode": bool(node.int_attr("ceil_mode", 0)),
    }
    if node.op == "AveragePool":
        return apply("average_pool", x, count_include_pad=bool(node.int_attr("count_include_pad", 0)), **window)
    if node.op == "LpPool":
        return apply("lp_pool", x, p=node.int_attr("p", 2), **window)
    column_major = bool(node.int_attr("storage_order", 0))
    y = apply("max_pool", x, **window)
    if not any(node.outputs[1:]):
        return y
    return [y, apply("argmax_pool", x, column_major=column_major, **window)]


@converts("MaxUnpool")
def _max_unpool(node: NodeView) -> Result:
    """Values scattered to the flat places where a MaxPool found them."""
    x, at = node.x(0), node.x(1)
    kernel = node.ints_attr("kernel_shape")
    rank = len(kernel)
    if x.ndim != rank + 2 or at.shape != x.shape or not all(1 <= k <= REACH for k in kernel):
        raise CompileError(
            f"data is {x!r} and places are {at!r} for a kernel {kernel}, expected rank {rank + 2} for both"
        )
    strides, pads = node.per_axis("strides", rank, 1, least=1), node.per_axis("pads", 2 * rank, 0)
    inferred = [
        (e - 1) * s - pads[k] - pads[rank + k] + kernel[k]
        for k, (e, s) in enumerate(zip(x.shape[2:], strides, strict=True))
    ]
    shape = [*x.shape[:2], *inferred]
    node.limits.check_shape(shape, "the result")
    if node.optional(2) is not None:
        target = node.integers(2, "output_shape")
        node.limits.check_shape(target, "the result")
        if len(target) != x.ndim or target[:2] != shape[:2]:
            raise CompileError(
                f"input 2 (output_shape) is {target} for {x!r}, expected {x.ndim} extents that begin with {shape[:2]}"
            )
        if math.prod(target) != math.prod(shape):
            at = _moved(node, at, shape, target)
        shape = target
    zeros = fn.broadcast_to(node.constant(0, x.dtype.numpy), (math.prod(shape),))
    return fn.reshape(apply("scatter_elements", zeros, fn.reshape(at, -1), fn.reshape(x, -1)), shape)


def _moved(node: NodeView, at: SymbolicTensor, source: list[int], target: list[int]) -> SymbolicTensor:
    """Flat places of one shape as flat places of another of the same rank."""
    result = node.constant(0, at.dtype.numpy)
    stride_from, stride_to = 1, 1
    for s, t in zip(reversed(source), reversed(target), strict=True):
        coordinate = fn.mod(fn.floor_divide(at, stride_from), s)
        result = fn.add(result, fn.multiply(coordinate, stride_to))
        stride_from, stride_to = stride_from * s, stride_to * t
    return result
