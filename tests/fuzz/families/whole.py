"""Products of whole numbers: any order of adding gives the same bits, so results are equal however large they are."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.table import family

EXTENTS = (1, 2, 3, 5, 7, 8, 13, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 96, 100, 127, 128, 129, 160, 255, 256, 257)
WORK = 6_000_000
"""Multiplications of a model at most."""
TYPES = ("float32",) * 6 + ("bfloat16",) * 4 + ("float16", "float64", "int32")


def _whole(d: Draw, shape: tuple[int, ...], dtype: str, constant: bool = False) -> Value:
    """Numbers small enough for their sums to be exact in a type; bf16 holds those up to 256."""
    most = 1 if dtype in ("bfloat16", "float16") else 7
    values = d.rng.integers(-most, most + 1, shape)
    plain = "float32" if dtype == "bfloat16" else dtype
    x = d.constant(values, plain) if constant else d.given(values.astype(plain))
    return d.node("Cast", x, to=TensorProto.BFLOAT16) if dtype == "bfloat16" else x


def _behind(d: Draw, y: Value, dtype: str) -> None:
    """What networks put behind a product, and the result."""
    if d.chance(0.4):
        shape = y.shape if d.chance(0.4) else y.shape[-1:]
        y = d.node(d.choice(("Add", "Sub")), y, _whole(d, shape, dtype, d.chance(0.5)))
    if d.chance(0.4):
        y = d.node("Relu", y) if dtype != "int32" else d.node("Max", y, d.constant(0, "int32"))
    d.exact = True
    d.result(d.node("Cast", y, to=TensorProto.FLOAT) if dtype == "bfloat16" else y)


def _extent(d: Draw, most: int) -> int:
    return int(d.choice([n for n in EXTENTS if n <= max(most, 1)]))


def _image(d: Draw, rank: int) -> tuple[dict[str, list[int]], list[int], int, int, int]:
    """Attributes of a window, extents of space, groups, and channels of a group in and out."""
    kernel = d.choice(
        ([1] * rank, [3] * rank, [3] * rank, [5] * rank, [d.choice((1, 2, 3, 4, 7)) for _ in range(rank)])
    )
    strides = [d.choice((1, 1, 2, 3))] * rank if d.chance(0.7) else [d.choice((1, 2, 3)) for _ in range(rank)]
    dilations = [1] * rank if d.chance(0.8) else [d.choice((1, 2, 3)) for _ in range(rank)]
    same = d.chance(0.6)
    pads = [
        k * e // 2 if same else d.integer(0, k - 1) for _ in range(2) for k, e in zip(kernel, dilations, strict=True)
    ]
    space = [max(_extent(d, 65 if rank < 3 else 12), (k - 1) * e + 1) for k, e in zip(kernel, dilations, strict=True)]
    groups, inside, outside = 1, _extent(d, 160), _extent(d, 257)
    if d.chance(0.3):
        groups = _extent(d, 129)
        inside, outside = d.choice(((1, 1), (1, 1), (1, 2), (2, 3), (4, 4), (8, 16)))
    while groups * inside * outside * math.prod(kernel) * math.prod(space) > WORK:
        if max(space) > 20:
            space = [max(s // 2, (k - 1) * e + 1) for s, k, e in zip(space, kernel, dilations, strict=True)]
        elif groups > 1 and inside < 3:
            groups = max(groups // 2, 1)
        else:
            inside, outside = max(inside // 2, 1), max(outside * 2 // 3, 1)
        if groups * inside * outside < 8:
            break
    window = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    return window, space, groups, inside, outside


def _float(d: Draw) -> str:
    """A type that this operator set's convolutions take."""
    return str(d.choice([t for t in TYPES if t != "int32" and (t != "bfloat16" or d.opset >= 22)]))


@family("whole_conv", opsets=(22, 13), weight=5)
def whole_conv(d: Draw) -> None:
    dtype = _float(d)
    rank = d.choice((1, 2, 2, 2, 2, 3))
    window, space, groups, inside, outside = _image(d, rank)
    x = _whole(d, (d.choice((1, 1, 1, 2, 3)), groups * inside, *space), dtype)
    w = _whole(d, (groups * outside, inside, *window["kernel_shape"]), dtype, d.chance(0.8))
    bias = _whole(d, (groups * outside,), dtype, True) if d.chance(0.4) else None
    _behind(d, d.node("Conv", x, w, bias, group=groups, **window), dtype)


@family("whole_conv_transpose", opsets=(22, 11), weight=3)
def whole_conv_transpose(d: Draw) -> None:
    dtype = _float(d)
    window, space, groups, inside, outside = _image(d, d.choice((1, 2, 2, 2, 3)))
    taps = zip(window["kernel_shape"], window["dilations"], window["strides"], strict=True)
    full = [(n - 1) * s + (k - 1) * e + 1 for n, (k, e, s) in zip(space, taps, strict=True)]
    rank = len(space)
    if any(f <= window["pads"][k] + window["pads"][rank + k] for k, f in enumerate(full)):
        window["pads"] = [0] * (2 * rank)
    x = _whole(d, (d.choice((1, 1, 2)), groups * inside, *space), dtype)
    w = _whole(d, (groups * inside, outside, *window["kernel_shape"]), dtype, d.chance(0.8))
    _behind(d, d.node("ConvTranspose", x, w, group=groups, **window), dtype)


def _sides(d: Draw) -> tuple[int, int, int]:
    while True:
        m, n, k = (d.choice((*EXTENTS, 300, 511, 512, 513, 600, 777, 1000, 1025)) for _ in range(3))
        if m * n * k <= WORK:
            return m, n, k


@family("whole_matmul", opsets=(22, 13), weight=5)
def whole_matmul(d: Draw) -> None:
    """Products of matrices that lie either way, of batches that broadcast."""
    dtype = d.choice(TYPES)
    m, n, k = _sides(d)
    batch = d.shape(0, 2, max(min(WORK // (m * n * k), 100_000 // max(m * k, k * n)), 1), zero=0)
    left, right = ([e if d.chance(0.7) else 1 for e in batch] for _ in range(2))
    if d.chance(0.4):
        right = right[d.integer(0, len(right)) :]
    x, y = _way(d, (*left, m, k), dtype, False), _way(d, (*right, k, n), dtype, d.chance(0.5))
    _behind(d, d.node("MatMul", x, y), dtype)


def _way(d: Draw, shape: tuple[int, ...], dtype: str, constant: bool) -> Value:
    """A value of that shape; some are transposed, as an attention's keys are."""
    if d.chance(0.6):
        return _whole(d, shape, dtype, constant)
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    if len(shape) > 2 and d.chance(0.5):
        order = [int(a) for a in d.rng.permutation(len(shape))]
    stored = [0] * len(shape)
    for place, axis in enumerate(order):
        stored[axis] = shape[place]
    return d.node("Transpose", _whole(d, tuple(stored), dtype, constant), perm=order)


@family("whole_bytes", opsets=(22, 13), weight=5)
def whole_bytes(d: Draw) -> None:
    """Products of bytes, within what pairwise 16-bit sums hold, as dynamically quantized networks have them."""
    signed = d.chance(0.25)
    kinds = ("int8" if signed else "uint8", "uint8" if not signed and d.chance(0.15) else "int8")
    image = d.chance(0.5)
    if image:
        window, space, groups, inside, outside = _image(d, d.choice((1, 2, 2, 2)))
        x = _bytes(d, (d.choice((1, 1, 2)), groups * inside, *space), kinds[0])
        w = _bytes(d, (groups * outside, inside, *window["kernel_shape"]), kinds[1], d.chance(0.8))
    else:
        m, n, k = _sides(d)
        batch = (d.integer(1, 3),) if d.chance(0.2) and m * n * k < WORK // 3 else ()
        x, w = _bytes(d, (*batch, m, k), kinds[0]), _bytes(d, (k, n), kinds[1], d.chance(0.6))
    zeros: list[Value | None] = []
    if d.chance(0.6):
        low = 0 if kinds[0] == "uint8" else -9
        zeros.append(d.constant(d.integer(low, 9), kinds[0]))
        if d.chance(0.4):
            zeros.append(d.constant(d.integer(0 if kinds[1] == "uint8" else -5, 5), kinds[1]))
    y = d.node("ConvInteger", x, w, *zeros, group=groups, **window) if image else d.node("MatMulInteger", x, w, *zeros)
    d.exact = True
    if d.chance(0.5):
        y = d.node("Mul", d.node("Cast", y, to=TensorProto.FLOAT), d.constant(0.125, "float32"))
        if d.chance(0.5):
            y = d.node("Relu", y)
    d.result(y)


def _bytes(d: Draw, shape: tuple[int, ...], dtype: str, constant: bool = False) -> Value:
    values = d.rng.integers(0, 100, shape) if dtype == "uint8" else d.rng.integers(-64, 64, shape)
    return d.constant(values, dtype) if constant else d.given(values.astype(dtype))


@family("requantized", opsets=(22, 13), weight=3)
def requantized(d: Draw) -> None:
    """QLinearConv and QLinearMatMul; scales are powers of two, so that ties are ties everywhere."""
    kind = d.choice(("uint8", "uint8", "int8"))
    if d.chance(0.5):
        window, space, groups, inside, outside = _image(d, 2)
        x = _bytes(d, (d.choice((1, 2)), groups * inside, *space), kind)
        w = _bytes(d, (groups * outside, inside, *window["kernel_shape"]), "int8", True)
        columns = groups * outside
    else:
        m, n, k = _sides(d)
        x, w, columns = _bytes(d, (m, k), kind), _bytes(d, (k, n), "int8", True), n
        window, groups = {}, 0
    each = d.chance(0.5)
    scales = (
        d.constant(2.0 ** d.integer(-4, 0), "float32"),
        d.constant(2.0 ** d.rng.integers(-6, -1, (columns,) if each else ()), "float32"),
        d.constant(2.0 ** d.integer(0, 3), "float32"),
    )
    zeros = (
        d.constant(d.integer(0, 20), kind),
        d.constant(np.zeros((columns,) if each else ()), "int8"),
        d.constant(d.integer(0, 90), kind),
    )
    operands: list[Value | None] = [x, scales[0], zeros[0], w, scales[1], zeros[1], scales[2], zeros[2]]
    d.exact = True
    if window:
        bias = d.constant(d.rng.integers(-500, 500, columns), "int32") if d.chance(0.5) else None
        d.result(d.node("QLinearConv", *operands, bias, group=groups, **window))
    else:
        d.result(d.node("QLinearMatMul", *operands))
