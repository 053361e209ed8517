"""Small graphs like the pieces of networks: what is fused, kept apart, laid out and shared is decided on them."""

from __future__ import annotations

import math

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.convolution import conv
from tests.fuzz.families.elementwise import broadcast, smooth
from tests.fuzz.families.movement import rearranged, slice_of
from tests.fuzz.families.table import family


@family("image_graph", opsets=(22, 13), weight=10)
def image_graph(d: Draw) -> None:
    """Two to eight nodes on images: convolutions, norms, pools, residual adds, concats, padding, upsampling."""
    side = (d.dim(16), d.dim(16))
    pool = [d.input((d.choice((1, 1, 2, 3)), d.dim(24), *side))]
    for _ in range(d.integer(2, 8)):
        pool.append(_image_step(d, pool))
    d.result(pool[-1])
    if d.chance(0.3):
        other = d.choice(pool[1:])
        if other.name != pool[-1].name:
            d.result(other)


def _image_step(d: Draw, pool: list[Value]) -> Value:
    x = pool[-1] if d.chance(0.8) else d.choice(pool)
    alike = [v for v in pool if v.shape == x.shape]
    pick = d.integer(0, 11)
    if pick <= 3:
        return conv(d, x)
    if pick == 4:
        shape = (x.shape[1],)
        operands = (d.weight(shape, kind=k) for k in ("normal", "normal", "normal", "positive"))
        return d.node("BatchNormalization", x, *operands)
    if pick == 5:
        return d.node(d.choice(("Add", "Mul", "Max")), x, d.choice(alike))
    if pick == 6:
        joined = [v for v in pool if v.shape[0] == x.shape[0] and v.shape[2:] == x.shape[2:]]
        other = d.choice(joined)
        if x.shape[1] + other.shape[1] <= 64:
            return d.node("Concat", x, other, axis=1)
    if pick == 7 and min(x.shape[2:]) >= 2:
        op = d.choice(("MaxPool", "AveragePool"))
        return d.node(op, x, kernel_shape=[2, 2], strides=[2, 2] if d.chance(0.6) else [1, 1])
    if pick == 8 and math.prod(x.shape) <= 4000:
        scales = d.constant([1, 1, 2, 2], "float32")
        return d.node(
            "Resize", x, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )
    if pick == 9:
        amounts = [0, 0, d.integer(0, 2), d.integer(0, 2), 0, 0, d.integer(0, 2), d.integer(0, 2)]
        return d.node("Pad", x, d.constant(amounts))
    if pick == 10:
        gate = d.node("Sigmoid", d.node("GlobalAveragePool", x))
        return d.node("Mul", x, gate)
    return smooth(d, x)


@family("sequence_graph", opsets=(22, 17), weight=10)
def sequence_graph(d: Draw) -> None:
    """Two to eight nodes on sequences: products, norms, softmaxes, heads, residual adds."""
    width = d.choice((1, 3, 8, 12, 16, 24, 31, 32))
    x = d.input((d.choice((1, 1, 2, 3)), d.dim(20), width))
    pool = [x]
    for _ in range(d.integer(2, 8)):
        pool.append(_sequence_step(d, pool))
    d.result(pool[-1])


def _sequence_step(d: Draw, pool: list[Value]) -> Value:
    x = pool[-1] if d.chance(0.8) else d.choice(pool)
    alike = [v for v in pool if v.shape == x.shape]
    pick = d.integer(0, 9)
    if pick <= 2:
        y = d.node("MatMul", x, d.weight((x.shape[-1], d.choice((x.shape[-1], d.dim(33))))))
        return d.node("Add", y, d.weight(y.shape[-1:])) if d.chance(0.6) else y
    if pick == 3:
        return d.node("LayerNormalization", x, d.weight(x.shape[-1:]), d.weight(x.shape[-1:]), axis=-1, epsilon=1e-2)
    if pick == 4:
        return d.node("Softmax", x, axis=d.axis(x.rank))
    if pick == 5:
        return d.node("Add", x, d.choice(alike))
    if pick == 6:
        scores = d.node("MatMul", x, d.node("Transpose", x, perm=[0, 2, 1]))
        scores = d.node("Mul", scores, d.constant(0.1, "float32"))
        return d.node("MatMul", d.node("Softmax", scores, axis=-1), x)
    if pick == 7:
        heads = d.choice([h for h in (1, 2, 3, 4, x.shape[-1]) if x.shape[-1] % h == 0])
        apart = d.node("Reshape", x, d.constant([0, 0, heads, x.shape[-1] // heads]))
        turned = d.node("Transpose", apart, perm=[0, 2, 1, 3])
        done = d.node(d.choice(("Tanh", "Relu", "Softmax")), turned)
        back = d.node("Transpose", done, perm=[0, 2, 1, 3])
        return d.node("Reshape", back, d.constant(list(x.shape)))
    if pick == 8:
        return (
            d.node("Sub", x, d.node("ReduceMean", x, axes=[d.integer(1, 2)], keepdims=1))
            if d.opset < 18
            else _centred(d, x)
        )
    return smooth(d, x)


def _centred(d: Draw, x: Value) -> Value:
    return d.node("Sub", x, d.node("ReduceMean", x, d.constant([d.integer(1, 2)]), keepdims=1))


@family("mixed_graph", opsets=(22, 13), weight=10)
def mixed_graph(d: Draw) -> None:
    """Two to eight nodes of movement, reduction and arithmetic, in any order and branching."""
    pool = [d.input(d.shape(1, 4, 1500, zero=0))]
    for _ in range(d.integer(2, 8)):
        x = pool[-1] if d.chance(0.7) else d.choice(pool)
        pick = d.integer(0, 8)
        y = x
        if pick <= 1:
            y = rearranged(d, x, 3000)
        elif pick == 2:
            y = smooth(d, x)
        elif pick == 3:
            y = d.node(d.choice(("Add", "Mul", "Sub", "Max")), x, d.weight(broadcast(d, x.shape)))
        elif pick == 4 and x.rank and 0 not in x.shape:
            axes = d.axes(x.rank)
            keep = d.integer(0, 1)
            if d.opset >= 13 and d.chance(0.5):
                y = d.node("ReduceSum", x, d.constant(axes), keepdims=keep)
            elif d.opset < 18:
                y = d.node(d.choice(("ReduceMean", "ReduceMax")), x, axes=axes, keepdims=keep)
            else:
                y = d.node(d.choice(("ReduceMean", "ReduceMax")), x, d.constant(axes), keepdims=keep)
        elif pick == 5 and x.rank:
            axis = d.integer(0, x.rank - 1)
            fits = [v for v in pool if v.rank == x.rank and _fits(v.shape, x.shape, axis)]
            if 2 * math.prod(x.shape) <= 4000:
                y = d.node("Concat", x, d.choice(fits), axis=axis)
        elif pick == 6 and x.rank >= 1 and 0 not in x.shape:
            y = d.node("MatMul", x, d.weight((x.shape[-1], d.dim(20)))) if x.shape[-1] <= 400 else x
        elif pick == 7 and x.rank and 0 not in x.shape:
            y = d.node("Softmax", x, axis=d.axis(x.rank))
        elif x.rank and 0 not in x.shape:
            y = slice_of(d, x)
        if y.name != x.name:
            pool.append(y)
    if len(pool) == 1:
        pool.append(d.node("Neg", pool[0]))
    d.result(pool[-1])
    if d.chance(0.3) and len(pool) > 2:
        middle = d.choice(pool[1:-1])
        d.result(middle)


def _fits(a: tuple[int, ...], b: tuple[int, ...], axis: int) -> bool:
    return all(x == y for k, (x, y) in enumerate(zip(a, b, strict=True)) if k != axis)


@family("joins", opsets=(22, 13), weight=6)
def joins(d: Draw) -> None:
    """Concats of concats, pieces of pieces, views and in-place candidates, each perhaps used again or given out."""
    shape = list(d.shape(2, 3, 300, zero=0))
    pool = [d.input(shape) for _ in range(d.integer(1, 3))]
    for _ in range(d.integer(4, 16)):
        x = d.choice(pool[-5:]) if d.chance(0.7) else d.choice(pool)
        axis = d.integer(0, x.rank - 1)
        pick = d.integer(0, 7)
        if pick <= 2:
            alike = [v for v in pool if v.rank == x.rank and _fits(v.shape, x.shape, axis)]
            parts = [d.choice(alike) for _ in range(d.integer(1, 3))]
            if sum(math.prod(p.shape) for p in (x, *parts)) <= 4000:
                pool.append(d.node("Concat", x, *parts, axis=axis))
        elif pick == 3 and x.shape[axis] > 1:
            cut = d.integer(1, x.shape[axis] - 1)
            pool += d.node_of("Split", 2, x, d.constant([cut, x.shape[axis] - cut]), axis=axis)
        elif pick == 4:
            pool.append(d.node("Reshape", x, d.constant(list(x.shape[::-1]))))
        elif pick == 5:
            alike = [v for v in pool if v.shape == x.shape]
            pool.append(d.node(d.choice(("Add", "Max", "Sub")), x, d.choice(alike)))
        elif pick == 6 and x.rank == 2:
            pool.append(d.node("Tanh", d.node("MatMul", x, d.weight((x.shape[1], d.dim(9)), kind="unit"))))
        else:
            pool.append(d.node(d.choice(("Relu", "Neg", "Tanh", "Identity")), x))
    made = [v for v in pool if v.name.startswith("v")]
    if not made:
        made = [d.node("Neg", pool[0])]
    for v in {v.name: v for v in (made[-1], *(d.choice(made) for _ in range(d.integer(0, 4))))}.values():
        d.result(v)
