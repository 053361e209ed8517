"""Convolutions and transposed convolutions in one to three dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.table import family

DTYPES = ("float32",) * 8 + ("float64", "float16")


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel, strides, dilations and pads of a window, for data whose extents are given with it."""

    space: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]


def window(d: Draw, rank: int, elements: int, dilate: bool = True) -> Window:
    """A window and data that it fits into, padding included."""
    kernel = tuple(d.choice((1, 1, 2, 3, 3, 3, 4, 5, 7) if rank < 3 else (1, 2, 3)) for _ in range(rank))
    strides = tuple(d.choice((1, 1, 1, 2, 3)) for _ in range(rank))
    dilations = tuple(d.choice((1, 1, 1, 2, 3)) if dilate else 1 for _ in range(rank))
    pads = tuple(d.integer(0, k - 1) if d.chance(0.5) else 0 for k in (*kernel, *kernel))
    limit = max(int(elements ** (1 / rank)) * 2, 2)
    space = []
    for k in range(rank):
        need = max((kernel[k] - 1) * dilations[k] + 1 - pads[k] - pads[rank + k], 1)
        space.append(max(d.dim(limit), need))
    while math.prod(space) > max(elements, 2 * math.prod(kernel)):
        k = max(range(rank), key=lambda k: space[k])
        need = max((kernel[k] - 1) * dilations[k] + 1 - pads[k] - pads[rank + k], 1)
        if space[k] <= need:
            break
        space[k] = max(space[k] // 2, need)
    return Window(tuple(space), kernel, strides, dilations, pads)


def attributes(d: Draw, w: Window) -> dict[str, object]:
    """The window as attributes, defaults left out now and then, its pads explicit or automatic."""
    rank = len(w.kernel)
    attrs: dict[str, object] = {}
    if w.strides != (1,) * rank or d.chance(0.3):
        attrs["strides"] = list(w.strides)
    if w.dilations != (1,) * rank or d.chance(0.3):
        attrs["dilations"] = list(w.dilations)
    if any(w.pads):
        attrs["pads"] = list(w.pads)
    elif d.chance(0.5) and all(s >= (k - 1) * e + 1 for s, k, e in zip(w.space, w.kernel, w.dilations, strict=True)):
        # with dilation onnxruntime refuses, and onnx's reference leaves it out of its sums
        same = w.dilations == (1,) * rank
        attrs["auto_pad"] = d.choice(("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET") if same else ("VALID", "NOTSET"))
    return attrs


def channels(d: Draw) -> tuple[int, int, int]:
    """Groups, channels in and channels out of a group."""
    pick = d.rng.random()
    if pick < 0.08:
        return 1, d.choice((48, 64, 65, 128)), d.choice((63, 64, 96, 130))
    if pick < 0.6:
        return 1, d.dim(33), d.dim(40)
    if pick < 0.8:
        return d.choice((2, 3, 4, 7, 8, 16, 17, 32)), 1, d.choice((1, 1, 1, 2))
    return d.choice((2, 3, 4)), d.dim(8), d.dim(8)


def conv(d: Draw, x: Value | None = None, dtype: str = "float32") -> Value:
    """A convolution of drawn data, or of a value of rank 3 to 5."""
    if x is None:
        rank = d.choice((1, 2, 2, 2, 2, 3))
        w = window(d, rank, 600)
        groups, inside, outside = channels(d)
        x = d.input((d.choice((1, 1, 1, 2, 3, 5)), groups * inside, *w.space), dtype)
    else:
        rank = x.rank - 2
        kernel = tuple(d.choice([k for k in (1, 1, 2, 3, 5) if k <= e]) for e in x.shape[2:])
        same = d.chance(0.6)
        begin = [(k - 1) // 2 if same else 0 for k in kernel]
        end = [(k - 1) - b if same else 0 for k, b in zip(kernel, begin, strict=True)]
        strides = (1,) * rank if same else tuple(d.choice((1, 2)) for _ in range(rank))
        w = Window(x.shape[2:], kernel, strides, (1,) * rank, (*begin, *end))
        groups = d.choice([g for g in (1, 1, 1, 2, 4, x.shape[1]) if x.shape[1] % g == 0])
        inside, outside = x.shape[1] // groups, d.dim(20) if groups == 1 else d.choice((1, 2))
    attrs = attributes(d, w)
    if groups != 1 or d.chance(0.2):
        attrs["group"] = groups
    if d.chance(0.6):
        attrs["kernel_shape"] = list(w.kernel)
    weights = d.weight((groups * outside, inside, *w.kernel), dtype)
    bias = d.weight((groups * outside,), dtype) if d.chance(0.5) else None
    return d.node("Conv", x, weights, bias, **attrs)


@family("conv", opsets=(22, 11, 8), weight=12)
def conv_alone(d: Draw) -> None:
    d.result(conv(d, dtype=d.choice(DTYPES)))


@family("conv_epilogue", opsets=(22, 13), weight=8)
def conv_epilogue(d: Draw) -> None:
    """What networks put behind a convolution: norm, residual, activation."""
    y = conv(d)
    if d.chance(0.4) and 0 not in y.shape:
        shape = (y.shape[1],)
        scale, shift, mean, variance = (d.weight(shape, kind=k) for k in ("normal", "normal", "normal", "positive"))
        y = d.node("BatchNormalization", y, scale, shift, mean, variance, epsilon=1e-3)
    if d.chance(0.5):
        other = y.shape if d.chance(0.6) else (1, y.shape[1], *([1] * (y.rank - 2)))
        y = d.node(d.choice(("Add", "Mul", "Sub")), y, d.input(other))
    op = d.choice(("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "Clip", "Elu", ""))
    if op == "HardSwish" and d.opset < 14:
        op = "Relu"
    if op == "Clip":
        y = d.node("Clip", y, d.constant(0, "float32"), d.constant(6, "float32"))
    elif op:
        y = d.node(op, y)
    d.result(y)


@family("conv_transpose", opsets=(22, 11), weight=8)
def conv_transpose(d: Draw) -> None:
    rank = d.choice((1, 2, 2, 2, 3))
    w = window(d, rank, 200)
    dtype = d.choice(DTYPES)
    groups, inside, outside = channels(d)
    extents = range(rank)
    attrs: dict[str, object] = {"strides": list(w.strides), "dilations": list(w.dilations)}
    if groups != 1:
        attrs["group"] = groups
    if d.chance(0.5):
        attrs["kernel_shape"] = list(w.kernel)
    # a stride allows so much more at the end
    extra = [d.integer(0, w.strides[k] - 1) if d.chance(0.3) else 0 for k in extents]
    full = [(w.space[k] - 1) * w.strides[k] + (w.kernel[k] - 1) * w.dilations[k] + 1 for k in extents]
    fits = all(full[k] + extra[k] - w.pads[k] - w.pads[rank + k] > 0 for k in extents)
    pick = d.rng.random()
    if pick < 0.15 and all(f >= e * s for f, e, s in zip(full, w.space, w.strides, strict=True)):
        attrs["auto_pad"] = d.choice(("SAME_UPPER", "SAME_LOWER"))
    elif pick < 0.3:
        attrs["output_shape"] = [max(full[k] - d.integer(0, w.kernel[k] - 1), 1) for k in extents]
    elif fits:
        attrs["pads"] = list(w.pads)
        if any(extra):
            attrs["output_padding"] = extra
    x = d.input((d.choice((1, 1, 2, 3)), groups * inside, *w.space), dtype)
    weights = d.weight((groups * inside, outside, *w.kernel), dtype)
    bias = d.weight((groups * outside,), dtype) if d.chance(0.5) else None
    y = d.node("ConvTranspose", x, weights, bias, **attrs)
    if d.chance(0.3):
        y = d.node(d.choice(("Relu", "Tanh")), y)
    d.result(y)
