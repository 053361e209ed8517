"""Converters: normalizations and softmaxes."""

from __future__ import annotations

import math

import numpy as np

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.node import NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor, apply
from tcompiler.ir import dtypes as dt


@converts("BatchNormalization")
def _batch_norm(node: NodeView) -> Result:
    node.ignore("momentum", "is_test")
    if node.int_attr("training_mode", 0) or any(node.outputs[1:]):
        raise CompileError("it asks for training (training_mode, or more than one output); export for inference")
    x = node.x()
    parameters = [fn.astype(node.x(k), x.dtype) for k in range(1, 5)]
    epsilon = node.float_attr("epsilon", 1e-5)
    if node.int_attr("spatial", 1) or x.ndim < 3:
        return apply("batch_norm", x, *parameters, epsilon=epsilon)
    # Before opset 9 every place of a channel could have statistics of its own: flattened, each place is a channel.
    flat = fn.reshape(x, (x.shape[0], math.prod(x.shape[1:])))
    wide = [fn.reshape(fn.broadcast_to(p, x.shape[1:]), -1) for p in parameters]
    return fn.reshape(apply("batch_norm", flat, *wide, epsilon=epsilon), x.shape)


@converts("InstanceNormalization")
def _instance_norm(node: NodeView) -> Result:
    x = node.x()
    if x.ndim < 2:
        raise CompileError(f"data is {x!r}, expected rank 2 or more (N, C, …)")
    return apply("group_norm", x, node.x(1), node.x(2), groups=x.shape[1], epsilon=node.float_attr("epsilon", 1e-5))


@converts("GroupNormalization")
def _group_norm(node: NodeView) -> Result:
    node.ignore("stash_type")
    x, scale, bias = node.x(), node.x(1), node.x(2)
    groups = node.int_attr("num_groups")
    if node.opset < 21 and scale.ndim == 1 and scale.shape[0] == groups and x.ndim > 1 and groups > 0:
        # Before opset 21 scale and bias had one value per group.
        each = x.shape[1] // groups
        scale, bias = (fn.reshape(fn.broadcast_to(fn.expand_dims(p, 1), (groups, each)), -1) for p in (scale, bias))
    return apply("group_norm", x, scale, bias, groups=groups, epsilon=node.float_attr("epsilon", 1e-5))


@converts("LayerNormalization")
def _layer_norm(node: NodeView) -> Result:
    node.ignore("stash_type")
    x = node.x()
    axis, epsilon = node.int_attr("axis", -1), node.float_attr("epsilon", 1e-5)
    y = apply("layer_norm", x, node.x(1), node.optional(2), axis=axis, epsilon=epsilon)
    if not any(node.outputs[1:]):
        return y
    axes = tuple(range(axis % x.ndim, x.ndim))
    wide = fn.astype(x, dt.f32) if x.dtype.bits < 32 else x
    mean = fn.mean(wide, axes, keepdims=True)
    centered = fn.subtract(wide, mean)
    variance = fn.mean(fn.multiply(centered, centered), axes, keepdims=True)
    return [y, mean, fn.rsqrt(fn.add(variance, epsilon))]


@converts("RMSNormalization", "SimplifiedLayerNormalization")
def _rms_norm(node: NodeView) -> Result:
    node.ignore("stash_type")
    axis, epsilon = node.int_attr("axis", -1), node.float_attr("epsilon", 1e-5)
    return apply("rms_norm", node.x(), node.x(1), axis=axis, epsilon=epsilon)


@converts("LRN")
def _lrn(node: NodeView) -> Result:
    return apply(
        "lrn",
        node.x(),
        size=node.int_attr("size"),
        alpha=node.float_attr("alpha", 1e-4),
        beta=node.float_attr("beta", 0.75),
        bias=node.float_attr("bias", 1.0),
    )


@converts("LpNormalization")
def _lp_normalize(node: NodeView) -> Result:
    return apply("lp_normalize", node.x(), axis=node.int_attr("axis", -1), p=node.int_attr("p", 2))


@converts("MeanVarianceNormalization")
def _mvn(node: NodeView) -> Result:
    x = node.x()
    axes = tuple(node.ints_attr("axes", [0, 2, 3]))
    centered = fn.subtract(x, fn.mean(x, axes, keepdims=True))
    deviation = fn.sqrt(fn.mean(fn.multiply(centered, centered), axes, keepdims=True))
    return fn.divide(centered, fn.add(deviation, 1e-9))


@converts("Softmax", "LogSoftmax", "Hardmax")
def _softmax(node: NodeView) -> Result:
    x = node.x()
    axis = node.int_attr("axis", 1 if node.opset < 13 else -1)
    if not -x.ndim <= axis < max(x.ndim, 1):
        raise CompileError(f"attribute 'axis' is {axis} for {x!r}, expected {-x.ndim} to {max(x.ndim, 1) - 1}")
    if node.opset < 13 and axis % x.ndim != x.ndim - 1:
        # Until opset 13 the axes from `axis` on were flattened into one.
        shape, axis = x.shape, axis % x.ndim
        flat = fn.reshape(x, (math.prod(shape[:axis]), math.prod(shape[axis:])))
        return fn.reshape(_along(node, flat, -1), shape)
    return _along(node, x, axis)


def _along(node: NodeView, x: SymbolicTensor, axis: int) -> SymbolicTensor:
    if node.op == "Hardmax" and 0 in x.shape:
        return x  # there is no maximum, and nothing to mark
    if node.op == "Hardmax":
        at = apply("argmax", x, axis=axis, keepdims=True)
        size = x.shape[axis]
        shape = [size if k == axis % x.ndim else 1 for k in range(x.ndim)]
        places = node.constant(np.arange(node.computed(size), dtype=np.int64).reshape(shape))
        return fn.astype(apply("eq", at, places), x.dtype)
    return apply("softmax" if node.op == "Softmax" else "log_softmax", x, axis=axis)
