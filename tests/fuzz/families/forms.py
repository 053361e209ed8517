"""Models as exporters write them: attributes of early operator sets, other layouts around operators, bf16."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.convolution import conv
from tests.fuzz.families.elementwise import smooth
from tests.fuzz.families.table import family


@family("early_forms", opsets=(7, 8, 9, 11, 12), weight=4)
def early_forms(d: Draw) -> None:
    """What are inputs today were attributes: axes, pads, bounds, splits."""
    x = d.input(d.shape(2, 4, 2000, zero=0))
    for _ in range(d.integer(1, 3)):
        x = _early(d, x)
    d.result(x)


def _early(d: Draw, x: Value) -> Value:
    pick = d.integer(0, 7)
    if pick == 0:
        if d.opset >= 11:
            return d.node("Clip", x, d.constant(-0.5, "float32"))
        return d.node("Clip", x, min=d.choice((None, -0.5)), max=d.choice((None, 0.7)))
    if pick == 1:
        amounts = [d.integer(0, 3) for _ in range(2 * x.rank)]
        if d.opset >= 11:
            return d.node("Pad", x, d.constant(amounts), d.constant(1.5, "float32"))
        return d.node("Pad", x, pads=amounts, mode="constant", value=1.5)
    if pick == 2:
        return d.node("Squeeze", d.node("Unsqueeze", x, axes=[d.integer(0, x.rank)]))
    if pick == 3 and x.rank > 1:
        axes = sorted(int(a) for a in d.rng.permutation(x.rank)[: d.integer(1, x.rank)])
        op = d.choice(("ReduceSum", "ReduceMean", "ReduceMax"))
        return d.node(op, x, axes=axes, keepdims=1)
    if pick == 4:
        return d.node(d.choice(("Softmax", "LogSoftmax")), x, axis=d.integer(0, x.rank - 1))
    if pick == 5:
        axis = d.integer(0, x.rank - 1)
        n = x.shape[axis]
        if n > 1:
            cut = d.integer(1, n - 1)
            return d.node_of("Split", 2, x, axis=axis, split=[cut, n - cut])[d.integer(0, 1)]
    if pick == 6:
        return d.node("Dropout", x)
    return d.node("Sum", x, smooth(d, x))


@family("other_layout", opsets=(22, 13), weight=4)
def other_layout(d: Draw) -> None:
    """Channels last outside, channels first inside: transposes that cancel, sink or stay."""
    x = d.input((d.choice((1, 2)), d.dim(12), d.dim(12), d.dim(17)))
    first = d.node("Transpose", x, perm=[0, 3, 1, 2])
    for _ in range(d.integer(1, 4)):
        pick = d.integer(0, 4)
        if pick <= 1:
            first = conv(d, first)
        elif pick == 2:
            last = d.node("Transpose", first, perm=[0, 2, 3, 1])
            last = d.node(d.choice(("Add", "Mul")), last, d.weight(last.shape[-1:]))
            first = d.node("Transpose", last, perm=[0, 3, 1, 2])
        elif pick == 3:
            first = smooth(d, first)
        elif min(first.shape[2:]) > 1:
            first = d.node(d.choice(("MaxPool", "AveragePool")), first, kernel_shape=[2, 2], strides=[2, 1])
    y = d.node("Transpose", first, perm=d.choice(([0, 2, 3, 1], [0, 2, 3, 1], [0, 3, 1, 2], [1, 0, 3, 2])))
    if d.chance(0.3):
        y = d.node("Reshape", y, d.constant([y.shape[0], -1]))
    if d.chance(0.3):
        d.result(smooth(d, first))
    d.result(y)


@family("bfloat", opsets=(22, 16), weight=3)
def bfloat(d: Draw) -> None:
    """One or two operators in bf16 between casts."""
    x = d.input(d.shape(1, 4, 1500, zero=0))
    y = d.node("Cast", x, to=TensorProto.BFLOAT16)
    for _ in range(d.integer(1, 2)):
        pick = d.integer(0, 5)
        if pick == 0:
            y = d.node(d.choice(("Relu", "Tanh", "Sigmoid", "Neg", "Abs")), y)
        elif pick == 1:
            other = d.node("Cast", d.weight(y.shape[-1:]), to=TensorProto.BFLOAT16)
            y = d.node(d.choice(("Add", "Mul", "Sub")), y, other)
        elif pick == 2 and y.rank and y.shape[-1] <= 200:
            weights = d.node("Cast", d.weight((y.shape[-1], d.dim(20)), kind="unit"), to=TensorProto.BFLOAT16)
            y = d.node("MatMul", y, weights)
        elif pick == 3 and y.rank:
            y = d.node("ReduceSum", y, d.constant([d.integer(0, y.rank - 1)]))
        elif pick == 4 and y.rank:
            y = d.node("Softmax", y, axis=-1)
        elif y.rank:
            y = d.node("Transpose", y)
    d.result(d.node("Cast", y, to=TensorProto.FLOAT))


@family("long", opsets=(22, 18), weight=3)
def long(d: Draw) -> None:
    """Tens of thousands of elements, so that threads share the work and loops have full bodies and tails."""
    size = d.choice((16384, 16385, 20011, 32768, 40000, 50021))
    shape = d.choice(((size,), (1, size), (3, size // 3), (size // 7, 7), (size // 33, 33), (2, size // 34, 17)))
    x = d.input(shape)
    pick = d.integer(0, 6)
    if pick == 0:
        y = smooth(d, d.node("Mul", x, d.weight(shape[-1:])))
    elif pick == 1:
        y = d.node(d.choice(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2")), x, d.constant(d.axes(x.rank)))
    elif pick == 2:
        y = d.node("Softmax", x, axis=d.axis(x.rank))
    elif pick == 3:
        y = d.node("Transpose", x)
        y = smooth(d, y) if d.chance(0.5) else y
    elif pick == 4:
        y = d.node("LayerNormalization", x, d.weight(shape[-1:]), axis=-1, epsilon=1e-2)
    elif pick == 5:
        y = d.node("CumSum", x, d.constant(d.axis(x.rank)))
    else:
        axis = d.integer(0, x.rank - 1)
        y = d.node("Concat", x, smooth(d, x), d.node("Neg", x), axis=axis)
    d.result(y)


@family("decided", opsets=(22, 13), weight=2)
def decided(d: Draw) -> None:
    """Arithmetic on constants that is done when compiling, beside the same on data."""
    shape = d.shape(1, 3, 300, zero=0)
    a, b = d.constant(d.array(shape, "float32", "coarse"), "float32"), d.input(shape, kind="coarse")
    for _ in range(d.integer(1, 4)):
        op = d.choice(("Add", "Mul", "Sub", "Max", "Relu", "Neg", "Transpose", "Concat"))
        if op in ("Relu", "Neg") or op == "Transpose":
            a, b = d.node(op, a), d.node(op, b)
        elif op == "Concat":
            if math.prod(a.shape) < 1000:
                a, b = d.node(op, a, a, axis=0), d.node(op, b, b, axis=0)
        else:
            c = d.constant(np.asarray(d.array(a.shape[-1:], "float32", "coarse")), "float32")
            a, b = d.node(op, a, c), d.node(op, b, c)
    made = [v for v in (a, b) if v.name.startswith("v")]
    joined = d.node("Add", a, b)
    d.result(joined, *made)
