"""Quantizing and dequantizing, and integer products as quantized models have them."""

from __future__ import annotations

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.convolution import window
from tests.fuzz.families.table import family


def _scale(d: Draw, count: int | None) -> Value:
    """Powers of two, so that what is divided by them is exact and ties are ties everywhere."""
    shape = () if count is None else (count,)
    return d.constant(2.0 ** d.rng.integers(-4, 1, shape), "float32")


@family("quantize", opsets=(21, 13), weight=4)
def quantize(d: Draw) -> None:
    """There and perhaps back again, per tensor or per channel."""
    d.exact = True
    x = d.input(d.shape(1, 4, 3000), "float32", "coarse")
    axis = d.integer(0, x.rank - 1) if d.chance(0.4) else None
    count = None if axis is None else x.shape[axis]
    dtype = d.choice(("uint8", "int8"))
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    attrs = {} if axis is None else {"axis": axis - x.rank if d.chance(0.3) else axis}
    scale = _scale(d, count)
    zero = d.constant(d.rng.integers(low, high + 1, () if count is None else (count,)), dtype)
    if d.chance(0.15):
        zero, dtype = None, "uint8"
    y = d.node("QuantizeLinear", x, scale, zero, **attrs)
    if d.chance(0.6):
        y = d.node("DequantizeLinear", y, scale, zero, **attrs)
        if d.chance(0.5):
            y = d.node("Relu", y)
    d.result(y)


@family("integer_conv", opsets=(22, 10), weight=2)
def integer_conv(d: Draw) -> None:
    """Integer convolutions small enough for onnxruntime's pairwise 16-bit sums."""
    d.exact = True
    w = window(d, d.choice((1, 2, 2)), 150)
    inside, outside = d.dim(9), d.dim(17)
    x = d.given(d.rng.integers(0, 100, (d.choice((1, 2)), inside, *w.space)).astype("uint8"))
    weights = d.constant(d.rng.integers(0, 100, (outside, inside, *w.kernel)), "uint8")
    attrs = {"pads": list(w.pads), "strides": list(w.strides), "dilations": list(w.dilations)}
    zero = d.constant(d.integer(0, 20), "uint8") if d.chance(0.6) else None
    d.result(d.node("ConvInteger", x, weights, *([zero] if zero else []), **attrs))


@family("quantized_net", opsets=(21, 13), weight=3)
def quantized_net(d: Draw) -> None:
    """A product between quantized operands as exporters write it: dequantize, compute, add."""
    m, n, k = d.dim(33), d.dim(33), d.dim(33)
    scale, other = _scale(d, None), _scale(d, None)
    codes = d.given(d.rng.integers(0, 256, (m, k)).astype("uint8"))
    x = d.node("DequantizeLinear", codes, scale, d.constant(d.integer(0, 255), "uint8"))
    weights = d.constant(d.rng.integers(-127, 128, (k, n)), "int8")
    w = d.node("DequantizeLinear", weights, other, d.constant(0, "int8"))
    y = d.node("MatMul", x, w)
    if d.chance(0.6):
        y = d.node("Add", y, d.weight((n,)))
    if d.chance(0.6):
        y = d.node("Relu", y)
    d.result(y)
