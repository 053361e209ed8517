"""Converters: elementwise operators."""

from __future__ import annotations

import functools

import numpy as np

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.data import element_type
from tcompiler.frontend.onnx.node import CONVERTERS, NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor, apply
from tcompiler.ir import dtypes as dt

_UNARY = {
    "Abs": "abs",
    "Neg": "neg",
    "Sign": "sign",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Erf": "erf",
    "Sin": "sin",
    "Cos": "cos",
    "Tan": "tan",
    "Asin": "asin",
    "Acos": "acos",
    "Atan": "atan",
    "Sinh": "sinh",
    "Cosh": "cosh",
    "Asinh": "asinh",
    "Acosh": "acosh",
    "Atanh": "atanh",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "IsNaN": "isnan",
    "Not": "invert",
    "BitwiseNot": "invert",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Mish": "mish",
    "HardSwish": "hard_swish",
}
_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "And": "bitwise_and",
    "Or": "bitwise_or",
    "Xor": "bitwise_xor",
    "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
    "Equal": "eq",
    "Less": "lt",
    "Greater": "gt",
    "LessOrEqual": "le",
    "GreaterOrEqual": "ge",
}


def _unary(op: str, node: NodeView) -> Result:
    return apply(op, node.x())


def _operands(node: NodeView) -> tuple[SymbolicTensor, SymbolicTensor]:
    """Both operands; before opset 7 the second is laid along the first from `axis` on, if `broadcast` is set."""
    a, b = node.x(0), node.x(1)
    if node.opset < 7:
        axis = node.int_attr("axis", a.ndim - b.ndim)
        if node.int_attr("broadcast", 0):
            axis = axis + a.ndim if axis < 0 else axis
            if not 0 <= axis <= a.ndim - b.ndim:
                raise CompileError(f"attribute 'axis' is {axis} for {a!r} and {b!r}")
            b = fn.reshape(b, (*b.shape, *([1] * (a.ndim - axis - b.ndim))))
    return a, b


def _binary(op: str, node: NodeView) -> Result:
    return apply(op, *_operands(node))


for _name, _op in _UNARY.items():
    CONVERTERS["", _name] = functools.partial(_unary, _op)
for _name, _op in _BINARY.items():
    CONVERTERS["", _name] = functools.partial(_binary, _op)


@converts("Div")
def _div(node: NodeView) -> Result:
    a, b = _operands(node)
    return apply("div" if a.dtype.is_float else "truncdiv", a, b)


@converts("Mod")
def _mod(node: NodeView) -> Result:
    return apply("truncmod" if node.int_attr("fmod", 0) else "floormod", node.x(0), node.x(1))


@converts("Pow")
def _pow(node: NodeView) -> Result:
    a, b = _operands(node)
    if a.dtype.is_integer and b.dtype.is_float:
        return fn.astype(apply("pow", fn.astype(a, dt.f64), fn.astype(b, dt.f64)), a.dtype)
    return apply("pow", a, fn.astype(b, a.dtype))


@converts("PRelu")
def _prelu(node: NodeView) -> Result:
    x, slope = node.x(0), node.x(1)
    if node.opset < 7 and slope.ndim == 1 and x.ndim > 1 and slope.shape[0] != 1:
        # Before opset 7 there was one slope for each channel, whatever the rank of the data.
        slope = fn.reshape(slope, (-1, *([1] * (x.ndim - 2))))
    return apply("prelu", x, slope)


@converts("BitShift")
def _bit_shift(node: NodeView) -> Result:
    direction = node.string_attr("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise CompileError(f"attribute 'direction' is '{direction}', expected LEFT or RIGHT")
    return apply("shl" if direction == "LEFT" else "shr", node.x(0), node.x(1))


@converts("Min", "Max", "Sum", "Mean")
def _fold(node: NodeView) -> Result:
    parts = node.all()
    op = {"Min": "min", "Max": "max", "Sum": "add", "Mean": "add"}[node.op]
    total = functools.reduce(lambda a, b: apply(op, a, b), parts)
    if node.op == "Mean":
        total = apply("mul", total, node.constant(1 / len(parts), total.dtype.numpy))
    return total


@converts("LeakyRelu")
def _leaky_relu(node: NodeView) -> Result:
    return apply("leaky_relu", node.x(), alpha=node.float_attr("alpha", 0.01))


@converts("Elu", "Celu", "ThresholdedRelu", "Swish")
def _alpha(node: NodeView) -> Result:
    op = {"ThresholdedRelu": "thresholded_relu"}.get(node.op, node.op.lower())
    return apply(op, node.x(), alpha=node.float_attr("alpha", 1.0))


@converts("Selu")
def _selu(node: NodeView) -> Result:
    alpha = node.float_attr("alpha", 1.67326319217681884765625)
    return apply("selu", node.x(), alpha=alpha, gamma=node.float_attr("gamma", 1.05070102214813232421875))


@converts("HardSigmoid")
def _hard_sigmoid(node: NodeView) -> Result:
    return apply("hard_sigmoid", node.x(), alpha=node.float_attr("alpha", 0.2), beta=node.float_attr("beta", 0.5))


@converts("Shrink")
def _shrink(node: NodeView) -> Result:
    return apply("shrink", node.x(), lambd=node.float_attr("lambd", 0.5), bias=node.float_attr("bias", 0.0))


@converts("Gelu")
def _gelu(node: NodeView) -> Result:
    return apply("gelu", node.x(), approximate=node.string_attr("approximate", "none"))


@converts("Gelu", domain="com.microsoft")
def _gelu_microsoft(node: NodeView) -> Result:
    return apply("gelu", node.x(), approximate="none")


@converts("IsInf")
def _isinf(node: NodeView) -> Result:
    positive, negative = node.int_attr("detect_positive", 1), node.int_attr("detect_negative", 1)
    return apply("isinf", node.x(), positive=bool(positive), negative=bool(negative))


@converts("Clip")
def _clip(node: NodeView) -> Result:
    x = node.x()
    if node.opset < 11:
        low, high = node.float_attr("min", -np.inf), node.float_attr("max", np.inf)
        if low > -np.inf:
            x = apply("max", x, node.constant(low, x.dtype.numpy))
        return apply("min", x, node.constant(high, x.dtype.numpy)) if high < np.inf else x
    bounds = node.optional(1), node.optional(2)
    if bounds[0] is not None:
        x = apply("max", x, bounds[0])
    return x if bounds[1] is None else apply("min", x, bounds[1])


@converts("Cast")
def _cast(node: NodeView) -> Result:
    node.ignore("saturate", "round_mode")
    return fn.astype(node.x(), element_type(node.int_attr("to"), "the result"))


@converts("CastLike")
def _cast_like(node: NodeView) -> Result:
    node.ignore("saturate", "round_mode")
    return fn.astype(node.x(0), node.x(1).dtype)


@converts("Where")
def _where(node: NodeView) -> Result:
    return apply("where", node.x(0), node.x(1), node.x(2))


@converts("Identity")
def _identity(node: NodeView) -> Result:
    return node.item(0)


@converts("Dropout")
def _dropout(node: NodeView) -> Result:
    node.ignore("ratio", "seed", "is_test")
    if node.optional(2) is not None and node.array(2, "training_mode").any():
        raise CompileError("training_mode is set; export the model for inference")
    x = node.x()
    mask = node.constant(True)
    return [x, fn.broadcast_to(mask, x.shape) if len(node.outputs) > 1 else None]
