"""Operators that move elements: slices, pads, concats, splits, transposes, reshapes, tiles."""

from __future__ import annotations

import math

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.table import family

DTYPES = ("float32",) * 6 + ("float64", "float16", "int64", "int32", "uint8", "bool")


@family("slice", opsets=(22, 13, 10, 9), weight=8)
def slice_(d: Draw) -> None:
    x = d.input(d.shape(1, 4, 3000), d.choice(DTYPES))
    if x.dtype == "float32" and d.chance(0.3):
        x = d.node("Relu", x)
    y = slice_of(d, x)
    if x.dtype == "float32" and d.chance(0.3):
        y = d.node("Mul", y, d.input(y.shape))
    d.exact = len(d.nodes) == 1
    d.result(y)


def slice_of(d: Draw, x: Value) -> Value:
    """A slice: any starts and ends, before and behind the data too, and steps of either sign where there are steps."""
    axes = [int(a) for a in d.rng.permutation(x.rank)[: d.integer(1, x.rank)]]
    if d.opset < 10:
        axes.sort()  # what onnx infers shapes for
    starts, ends, steps = [], [], []
    for a in axes:
        n = x.shape[a]
        step = d.choice((1, 1, 1, 2, 3, -1, -1, -2, -3)) if d.opset >= 10 else 1
        low, high = sorted((d.integer(-2, n + 2), d.integer(-2, n + 2)))
        start, end = (low, high) if step > 0 else (high, low)
        start = max(start, 0) if d.opset >= 10 else min(max(start, 0), n)
        if end < 0:
            end = -(2**62) if step < 0 else 0
        if d.chance(0.3) and 0 < start < n:
            start -= n
        if d.chance(0.3) and 0 < end < n:
            end -= n
        elif d.chance(0.1):
            end = 2**63 - 1 if step > 0 else -(2**63)
        starts.append(start)
        ends.append(end)
        steps.append(step)
    shown = [a - x.rank if d.chance(0.3) else a for a in axes]
    if d.opset < 10:
        return d.node("Slice", x, starts=starts, ends=ends, axes=axes)
    if shown == list(range(x.rank)) and d.chance(0.5):
        return d.node("Slice", x, d.constant(starts), d.constant(ends), None, d.constant(steps))
    if all(s == 1 for s in steps) and d.chance(0.5):
        return d.node("Slice", x, d.constant(starts), d.constant(ends), d.constant(shown))
    return d.node("Slice", x, d.constant(starts), d.constant(ends), d.constant(shown), d.constant(steps))


@family("pad", opsets=(22, 18, 13), weight=5)
def pad(d: Draw) -> None:
    mode = d.choice(("constant", "constant", "constant", "reflect", "edge", "wrap" if d.opset >= 19 else "edge"))
    x = d.input(d.shape(1, 4, 2000, zero=0), d.choice(("float32",) * 4 + ("float64", "int64", "int32")))
    rank = x.rank
    amounts = []
    for k in range(2 * rank):
        n = x.shape[k % rank]
        low = -(n // 2 - 1) if mode == "constant" and n > 4 and d.chance(0.2) else 0
        high = n - 1 if mode == "reflect" else n if mode == "wrap" else 5
        amounts.append(d.integer(min(low, 0), max(min(high, 5), 0)) if d.chance(0.5) else 0)
    value = d.constant(d.choice((0, 1, -2)), x.dtype.name) if mode == "constant" and d.chance(0.6) else None
    if d.opset >= 18 and d.chance(0.3):
        axes = d.axes(rank)
        chosen = [a % rank for a in axes]
        amounts = [amounts[a] for a in chosen] + [amounts[rank + a] for a in chosen]
        y = d.node("Pad", x, d.constant(amounts), value, d.constant(axes), mode=mode)
    else:
        y = d.node("Pad", x, d.constant(amounts), value, mode=mode)
    d.exact = True
    d.result(y)


@family("concat", opsets=(22, 13), weight=5)
def concat(d: Draw) -> None:
    """Pieces of different extents side by side, then perhaps split again elsewhere."""
    shape = list(d.shape(1, 4, 1500))
    axis = d.integer(0, len(shape) - 1)
    dtype = d.choice(DTYPES)
    pieces: list[Value] = []
    for _ in range(d.integer(1, 5)):
        shape[axis] = d.dim(20, 0.05)
        piece = d.input(shape, dtype) if d.chance(0.8) else d.weight(shape, dtype)
        if dtype == "float32" and d.chance(0.4):
            piece = d.node(d.choice(("Relu", "Tanh", "Neg")), piece)
        pieces.append(piece)
    if d.chance(0.15):
        pieces.append(d.choice(pieces))
    d.exact = not d.nodes
    y = d.node("Concat", *pieces, axis=axis - len(shape) if d.chance(0.3) else axis)
    if d.chance(0.4) and 0 not in y.shape:
        d.result(*split_of(d, y))
    else:
        if dtype == "float32" and d.chance(0.4):
            d.exact = False
            y = d.node("Add", y, d.weight(y.shape[-1:]))
        d.result(y)


def split_of(d: Draw, x: Value) -> list[Value]:
    """The pieces of a split along some axis."""
    axis = d.axis(x.rank)
    n = x.shape[axis]
    cuts = sorted(d.integer(0 if d.chance(0.1) else 1, n) for _ in range(d.integer(0, 3)))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    sizes = [s for s in sizes if s] or [n]
    if d.opset >= 18 and d.chance(0.3):
        count = d.integer(1, min(n, 4))
        if -(-n // count) * (count - 1) < n:
            return d.node_of("Split", count, x, axis=axis, num_outputs=count)
    if d.opset >= 13:
        return d.node_of("Split", len(sizes), x, d.constant(sizes), axis=axis)
    return d.node_of("Split", len(sizes), x, axis=axis, split=sizes)


@family("split", opsets=(22, 18, 13, 11), weight=4)
def split(d: Draw) -> None:
    x = d.input(d.shape(1, 4, 3000, zero=0), d.choice(DTYPES))
    parts = split_of(d, x)
    d.exact = True
    if x.dtype == "float32" and d.chance(0.4):
        d.exact = False
        parts = [d.node(d.choice(("Relu", "Neg", "Sigmoid")), p) for p in parts]
    d.result(*parts)


@family("rearrange", opsets=(22, 13), weight=8)
def rearrange(d: Draw) -> None:
    """Chains of transposes, reshapes, expands, tiles, squeezes and flips."""
    y = d.input(d.shape(1, 5, 3000), d.choice(DTYPES))
    plain = True
    for _ in range(d.integer(1, 6)):
        y = rearranged(d, y)
        if y.dtype == "float32" and d.chance(0.2):
            plain = False
            y = d.node(d.choice(("Tanh", "Abs")), y)
    d.exact = plain
    d.result(y)


def rearranged(d: Draw, x: Value, elements: int = 6000) -> Value:
    """The same elements, or copies of them, elsewhere."""
    pick = d.integer(0, 7)
    rank = x.rank
    if pick <= 1 and rank:
        perm = [int(k) for k in d.rng.permutation(rank)]
        return d.node("Transpose", x, perm=perm if d.chance(0.9) else None)
    if pick == 2:
        return d.node("Reshape", x, d.constant(reshape_to(d, x.shape)))
    if pick == 3 and rank and rank < 5:
        shape = [d.integer(2, 3) if e == 1 and math.prod(x.shape) * 3 <= elements else e for e in x.shape]
        if d.chance(0.3) and math.prod(shape) * 2 <= elements:
            shape = [2, *shape]
        return d.node("Expand", x, d.constant(shape))
    if pick == 4 and rank:
        repeats = [d.choice((1, 1, 2, 3)) for _ in range(rank)]
        if math.prod(x.shape) * math.prod(repeats) <= elements:
            return d.node("Tile", x, d.constant(repeats))
    if pick == 5 and rank < 5:
        axes = sorted(int(a) for a in d.rng.permutation(rank + 1)[: d.integer(1, min(2, rank + 1))])
        return d.node("Unsqueeze", x, d.constant(axes))
    ones = [k for k, e in enumerate(x.shape) if e == 1]
    if pick == 6 and ones:
        return d.node(
            "Squeeze", x, d.constant([k - rank if d.chance(0.3) else k for k in ones if d.chance(0.7)] or [ones[0]])
        )
    if rank and 0 not in x.shape and x.dtype != "bool":
        return slice_of(d, x)
    return d.node("Flatten", x, axis=d.integer(-rank, rank)) if rank else d.node("Identity", x)


def reshape_to(d: Draw, shape: tuple[int, ...]) -> list[int]:
    """Another shape of as many elements, one extent -1 or 0 now and then."""
    if 0 in shape:
        return list(shape)
    factors: list[int] = []
    rest = math.prod(shape)
    for p in (2, 3, 5, 7, 11, 13):
        while rest % p == 0:
            factors.append(p)
            rest //= p
    factors.append(rest)
    dims = [1] * d.integer(1, 5)
    for f in factors:
        dims[d.integer(0, len(dims) - 1)] *= f
    if d.chance(0.3):
        dims[d.integer(0, len(dims) - 1)] = -1
    return dims


@family("depth_space", opsets=(22, 11), weight=2)
def depth_space(d: Draw) -> None:
    d.exact = True
    block = d.choice((1, 2, 3))
    n, c, h, w = d.choice((1, 2)), d.dim(5), d.dim(9), d.dim(9)
    if d.chance(0.5):
        y = d.node("SpaceToDepth", d.input((n, c, h * block, w * block)), blocksize=block)
    else:
        x = d.input((n, c * block * block, h, w))
        y = d.node("DepthToSpace", x, blocksize=block, mode=d.choice((None, "DCR", "CRD")))
    d.result(y)


@family("trilu", opsets=(22, 14), weight=2)
def trilu(d: Draw) -> None:
    d.exact = True
    x = d.input(d.shape(2, 4, 2000), d.choice(("float32", "float32", "int64", "float64")))
    k = d.constant(d.integer(-5, 5)) if d.chance(0.7) else None
    d.result(d.node("Trilu", x, k, upper=d.choice((None, 0, 1))))
