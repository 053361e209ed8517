"""Quantization: numbers on a grid of integers, by a scale and a zero point (Jacob et al., 2018; ONNX's operators)."""

from __future__ import annotations

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar
from tcompiler.ops.define import Definition, broadcast_read, cast, minus, over, plus, times, unary
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import broadcast, element_type, expect_kind, fail, present, required, show


def _check_shapes(op: str, types: Types) -> None:
    x, params = required(types, 0), present(types[1:])
    if broadcast(op, (x, *params)) != x.shape:
        fail(
            f"{op}: data {show(x)} with {', '.join(map(show, params))}: expected parameters that broadcast to the data"
        )


def _quantize_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, scale, to = required(types, 0), required(types, 1), element_type(attrs, "to")
    expect_kind("quantize", x, "float")
    if scale.dtype is not x.dtype or to.is_float or to is dt.bool_:
        fail(f"quantize: data {show(x)}, scale {show(scale)} to {to.name}: expected one float type, to integers")
    zero = types[2] if len(types) > 2 else None
    if zero is not None and zero.dtype is not to:
        fail(f"quantize: the zero point is {show(zero)}, expected {to.name}")
    _check_shapes("quantize", types)
    return (TensorType(to, x.shape),)


def _quantize(types: Types, attrs: Attrs) -> Program:
    """saturate(round(x / scale) + zero), halves to even."""
    (out,) = _quantize_type(types, attrs)
    d = Definition("quantize", types, ("x", "scale", "zero"))
    x, scale, *zero = d.inputs()

    def body(*at: Scalar) -> Scalar:
        value = unary("round", over(x[at], broadcast_read(scale, at, out.shape)))
        if zero:
            value = plus(value, cast(value.dtype, broadcast_read(zero[0], at, out.shape)))
        return cast(out.dtype, value)

    return d.program(d.compute("y", out.shape, body))


def _dequantize_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, scale = required(types, 0), required(types, 1)
    expect_kind("dequantize", scale, "float")
    if x.dtype.is_float or x.dtype is dt.bool_:
        fail(f"dequantize: data {show(x)}, expected integers")
    zero = types[2] if len(types) > 2 else None
    if zero is not None and zero.dtype is not x.dtype:
        fail(f"dequantize: the zero point is {show(zero)}, expected {x.dtype.name}")
    _check_shapes("dequantize", types)
    return (TensorType(scale.dtype, x.shape),)


def _dequantize(types: Types, attrs: Attrs) -> Program:
    """(x - zero) · scale; the difference is taken in i32."""
    (out,) = _dequantize_type(types, attrs)
    d = Definition("dequantize", types, ("x", "scale", "zero"))
    x, scale, *zero = d.inputs()

    def body(*at: Scalar) -> Scalar:
        value = cast(dt.i32, x[at])
        if zero:
            value = minus(value, cast(dt.i32, broadcast_read(zero[0], at, out.shape)))
        return times(cast(out.dtype, value), broadcast_read(scale, at, out.shape))

    return d.program(d.compute("y", out.shape, body))


register(Operator("quantize", ("x", "scale", "zero?"), _quantize_type, _quantize, {"to": Attribute("dtype")}))
register(Operator("dequantize", ("x", "scale", "zero?"), _dequantize_type, _dequantize))
