"""Converters: quantized tensors, and products of integers."""

from __future__ import annotations

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.data import element_type
from tcompiler.frontend.onnx.linear import conv_attributes
from tcompiler.frontend.onnx.node import NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor, apply
from tcompiler.ir import dtypes as dt


def _spread(node: NodeView, x: SymbolicTensor, p: SymbolicTensor) -> SymbolicTensor:
    """A scale or zero point for every element of x: one, one per slice of an axis, or one per block of it."""
    axis, block = node.int_attr("axis", 1), node.int_attr("block_size", 0)
    if p.ndim == 0 or p.size == 1:
        return fn.reshape(p, ())
    if not -x.ndim <= axis < x.ndim:
        raise CompileError(f"attribute 'axis' is {axis} for {x!r}, expected {-x.ndim} to {x.ndim - 1}")
    axis %= x.ndim
    if block == 0:
        if p.ndim != 1 or p.shape[0] != x.shape[axis]:
            raise CompileError(f"scale or zero point is {p!r} for axis {axis} of {x!r}")
        return fn.reshape(p, [-1 if k == axis else 1 for k in range(x.ndim)])
    if p.ndim != x.ndim or -(-x.shape[axis] // block) != p.shape[axis]:
        raise CompileError(f"scale or zero point is {p!r} for blocks of {block} along axis {axis} of {x!r}")
    shape = list(p.shape)
    wide = fn.broadcast_to(fn.expand_dims(p, axis + 1), [*shape[: axis + 1], block, *shape[axis + 1 :]])
    full = fn.reshape(wide, [*shape[:axis], shape[axis] * block, *shape[axis + 1 :]])
    return full[(*([slice(None)] * axis), slice(0, x.shape[axis]))]


@converts("QuantizeLinear")
def _quantize(node: NodeView) -> Result:
    node.ignore("saturate", "precision")
    x, scale, zero = node.x(0), node.x(1), node.optional(2)
    code = node.int_attr("output_dtype", 0)
    to = zero.dtype if zero is not None else element_type(code, "the result") if code else dt.u8
    wide = x if x.dtype.bits >= scale.dtype.bits and x.dtype.is_float else fn.astype(x, scale.dtype)
    spread = fn.astype(_spread(node, x, scale), wide.dtype)
    return apply("quantize", wide, spread, None if zero is None else _spread(node, x, zero), to=to)


@converts("DequantizeLinear")
def _dequantize(node: NodeView) -> Result:
    x, scale, zero = node.x(0), node.x(1), node.optional(2)
    code = node.int_attr("output_dtype", 0)
    value = apply("dequantize", x, _spread(node, x, scale), None if zero is None else _spread(node, x, zero))
    return fn.astype(value, element_type(code, "the result")) if code else value


def _centered(x: SymbolicTensor, zero: SymbolicTensor | None, axis: int | None = None) -> SymbolicTensor:
    """x - zero in i32; a zero point of several values belongs to an axis."""
    if x.dtype not in (dt.i8, dt.u8):
        raise CompileError(f"an operand is {x!r}, expected i8 or u8")
    wide = fn.astype(x, dt.i32)
    if zero is None:
        return wide
    if axis is not None and zero.size > 1 and zero.ndim == 1:
        zero = fn.reshape(zero, [-1 if k == axis % x.ndim else 1 for k in range(x.ndim)])
    elif zero.size == 1:
        zero = fn.reshape(zero, ())
    return apply("sub", wide, fn.astype(zero, dt.i32))


@converts("MatMulInteger")
def _matmul_integer(node: NodeView) -> Result:
    return apply("matmul", _centered(node.x(0), node.optional(2), -2), _centered(node.x(1), node.optional(3), -1))


@converts("ConvInteger")
def _conv_integer(node: NodeView) -> Result:
    x, w = node.x(0), node.x(1)
    attributes = conv_attributes(node, x, w)
    return apply("conv", _centered(x, node.optional(2)), _centered(w, node.optional(3), 0), None, **attributes)


def _requantized(
    node: NodeView, acc: SymbolicTensor, a: SymbolicTensor, b: SymbolicTensor, axis: int, at: int
) -> SymbolicTensor:
    """An i32 product times scale_a · scale_b / scale_y, rounded, plus y's zero point; inputs at, at + 1."""
    scale = node.x(at)
    if b.size > 1 and b.ndim == 1:
        b = fn.reshape(b, [-1 if k == axis % acc.ndim else 1 for k in range(acc.ndim)])
    elif b.size == 1:
        b = fn.reshape(b, ())
    a, scale = (fn.reshape(p, ()) if p.size == 1 else p for p in (a, scale))
    factor = fn.divide(fn.multiply(fn.astype(a, dt.f32), fn.astype(b, dt.f32)), fn.astype(scale, dt.f32))
    value = apply("round", apply("mul", fn.astype(acc, dt.f32), factor))
    zero = node.x(at + 1)
    shift = fn.reshape(zero, ()) if zero.size == 1 else zero
    return fn.astype(apply("add", value, fn.astype(shift, dt.f32)), zero.dtype)


@converts("QLinearMatMul")
def _qlinear_matmul(node: NodeView) -> Result:
    a, b = _centered(node.x(0), node.x(2), -2), _centered(node.x(3), node.x(5), -1)
    return _requantized(node, apply("matmul", a, b), node.x(1), node.x(4), -1, 6)


@converts("QLinearConv")
def _qlinear_conv(node: NodeView) -> Result:
    x, w = node.x(0), node.x(3)
    attributes = conv_attributes(node, x, w)
    acc = apply("conv", _centered(x, node.x(2)), _centered(w, node.x(5), 0), node.optional(8), **attributes)
    return _requantized(node, acc, node.x(1), node.x(4), 1, 6)
