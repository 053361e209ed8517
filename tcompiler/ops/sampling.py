"""Operators that read a grid at places between its points, and one that adds overlapping windows up."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import (
    TRUE,
    Scalar,
    as_int,
    conjunction,
    const,
    equal,
    floordiv,
    floormod,
    index,
    maximum,
    minimum,
)
from tcompiler.ops.convolution import window_attribute, window_extent
from tcompiler.ops.define import (
    Definition,
    accumulator,
    binary,
    cast,
    inside,
    minus,
    plus,
    select,
    summed,
    times,
    unary,
)
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import expect_kind, fail, flag, integers, known, required, show, word

_MODES = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}
_PADDINGS = ("zeros", "border", "reflection")
_KEYS = -0.75
_WRITTEN_OUT = 16
"""Up to so many taps are a sum that is written out, so that points can be computed side by side."""


def _sample_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, at, rows = required(types, 0), required(types, 1), types[2]
    expect_kind("sample", x, "float")
    expect_kind("sample", at, "float")
    rank = len(x.shape) - 2
    if rank < 1 or len(at.shape) < 2 or as_int(at.shape[-1]) != rank:
        fail(f"sample: places are {show(at)} for data {show(x)}, expected (N, …, spatial rank) for (N, C, spatial…)")
    if rows is None and at.shape[0] is not x.shape[0]:
        fail(f"sample: places are {show(at)} for data {show(x)}, expected the same first extent")
    if rows is not None and (rows.dtype not in (dt.i32, dt.i64) or rows.shape != at.shape[:1]):
        fail(f"sample: rows are {show(rows)} for places {show(at)}, expected one i32 or i64 for each of the first axis")
    for key, choices in (("mode", tuple(_MODES)), ("padding", _PADDINGS)):
        if word(attrs, key) not in choices:
            fail(f"sample: {key} is '{word(attrs, key)}', expected one of {', '.join(choices)}")
    if any(as_int(e) == 0 for e in x.shape[2:]):
        fail(f"sample: data is {show(x)}, expected spatial extents of at least 1")
    return (TensorType(x.dtype, (at.shape[0], x.shape[1], *at.shape[1:-1])),)


def _keys(distance: Scalar) -> Scalar:
    """The weight of cubic convolution at a distance of at most 2 (Keys, 1981, with a = -0.75)."""
    d, a = distance, _KEYS
    inner = plus(times(times(minus(times(d, a + 2), a + 3), d), d), 1)
    outer = minus(times(plus(times(minus(times(d, a), 5 * a), d), 8 * a), d), 4 * a)
    return select(binary("le", d, 1), inner, outer)


def _mirrored(at: Scalar, extent: Scalar, edges: bool) -> Scalar:
    """An index reflected into range, about the outer points or (not `edges`) half a step outside of them."""
    if edges:
        period = maximum((extent - 1) * 2, 1)
        m = floormod(at, period)
        return minimum(minimum(m, period - m), extent - 1)
    m = floormod(at, extent * 2)
    return minimum(m, extent * 2 - 1 - m)


def _sample(types: Types, attrs: Attrs) -> Program:
    """Interpolated elements of x at places, given in elements along each spatial axis."""
    (out,) = _sample_type(types, attrs)
    d = Definition("sample", types, ("x", "at", "rows"))
    x, at, rows = d.input(0), d.input(1), d.optional(2)
    rank = len(x.shape) - 2
    mode, padding, edges = word(attrs, "mode"), word(attrs, "padding"), flag(attrs, "edges")
    taps = _MODES[mode]
    acc = accumulator(at.dtype)

    def place(*i: Scalar) -> Scalar:
        value = cast(acc, at[i])
        if mode == "nearest":
            return unary("round", value)
        if padding == "reflection":
            return value
        # What lies further outside than any tap reaches is the same at every distance; near, weights stay exact.
        last = _choice(i[-1], [x.shape[2 + k] + 2 for k in range(rank)])
        return minimum(maximum(value, const(acc, -3)), cast(acc, last))

    places = d.compute("place", at.shape, place)
    spread = (*at.shape, index(len(taps)))
    first = taps[0]

    def corner(*i: Scalar) -> Scalar:
        return cast(dt.i64, unary("floor", places[i[:-1]])) + (i[-1] + first)

    # What belongs to a point is computed once for all channels.
    corners = d.compute("corner", spread, corner)

    def weight_at(*i: Scalar) -> Scalar:
        distance = unary("abs", minus(places[i[:-1]], cast(acc, corners[i])))
        return minus(1, distance) if mode == "linear" else _keys(distance)

    weights = None if mode == "nearest" else d.compute("weight", spread, weight_at)

    def value(n: Scalar, c: Scalar, point: Sequence[Scalar], chosen: Sequence[Scalar]) -> Scalar:
        indices, guards = [], []
        weight: Scalar | None = None
        for k, extent in enumerate(x.shape[2:]):
            key = (n, *point, index(k), chosen[k])
            tap = corners[key]
            guards.append(inside(tap, extent))
            folded = _mirrored(tap, extent, edges) if padding == "reflection" else tap
            indices.append(minimum(maximum(folded, 0), extent - 1))
            if weights is not None:
                weight = weights[key] if weight is None else times(weight, weights[key])
        row = n if rows is None else minimum(maximum(cast(dt.i64, rows[n]), 0), x.shape[0] - 1)
        wide = accumulator(x.dtype)
        element = cast(wide, x[[row, c, *indices]])
        if padding == "zeros":
            element = select(conjunction(*guards), element, 0)
        return element if weight is None else times(element, cast(wide, weight))

    if len(taps) ** rank <= _WRITTEN_OUT:

        def body(n: Scalar, c: Scalar, *point: Scalar) -> Scalar:
            every = itertools.product(range(len(taps)), repeat=rank)
            terms = [value(n, c, point, [index(t) for t in chosen]) for chosen in every]
            return cast(out.dtype, functools.reduce(plus, terms))

        return d.program(d.compute("y", out.shape, body))
    points = len(out.shape) - 2
    return d.program(
        summed(
            d,
            out.dtype,
            out.shape,
            [index(len(taps))] * rank,
            lambda n, c, *rest: value(n, c, rest[:points], rest[points:]),
        )
    )


def _choice(k: Scalar, options: list[Scalar]) -> Scalar:
    """options[k], by comparisons."""
    result = options[-1]
    for n in reversed(range(len(options) - 1)):
        result = result if options[n] is result else select(equal(k, n), options[n], result)
    return result


register(
    Operator(
        "sample",
        ("x", "at", "rows?"),
        _sample_type,
        _sample,
        {
            "mode": Attribute("str", "linear"),
            "padding": Attribute("str", "zeros"),
            "edges": Attribute("bool", False),
        },
    )
)


def _fold_geometry(types: Types, attrs: Attrs) -> tuple[tuple[int, ...], ...]:
    rank = len(integers(attrs, "shape"))
    strides = window_attribute("fold_windows", attrs, "strides", rank, 1, 1)
    pads = window_attribute("fold_windows", attrs, "pads", 2 * rank, 0, 0)
    dilations = window_attribute("fold_windows", attrs, "dilations", rank, 1, 1)
    return strides, pads, dilations


def _fold_windows_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = required(types, 0)
    expect_kind("fold_windows", x, "number")
    shape, kernel = integers(attrs, "shape"), integers(attrs, "kernel")
    rank = len(shape)
    strides, pads, dilations = _fold_geometry(types, attrs)
    if rank < 1 or len(kernel) != rank or any(e < 1 for e in (*shape, *kernel)):
        fail(f"fold_windows: shape is {shape} and kernel {kernel}, expected as many extents of at least 1")
    counts = [
        known("fold_windows", window_extent(index(e), k, s, g, pads[n] + pads[rank + n]), "the number of windows")
        for n, (e, k, s, g) in enumerate(zip(shape, kernel, strides, dilations, strict=True))
    ]
    wanted = (*kernel, *counts)
    if len(x.shape) != 2 + 2 * rank or any(as_int(e) != w for e, w in zip(x.shape[2:], wanted, strict=True)):
        fail(f"fold_windows: data is {show(x)}, expected (N, C, {', '.join(map(str, wanted))})")
    return (TensorType(x.dtype, (*x.shape[:2], *map(index, shape))),)


def _fold_windows(types: Types, attrs: Attrs) -> Program:
    """Windows (N, C, kernel…, positions…) added up where they overlap: what is cut out by a convolution, put back."""
    (out,) = _fold_windows_type(types, attrs)
    d = Definition("fold_windows", types, ("x",))
    x = d.input(0)
    kernel = integers(attrs, "kernel")
    rank = len(kernel)
    strides, pads, dilations = _fold_geometry(types, attrs)
    counts = x.shape[2 + rank :]

    def value(*axes: Scalar) -> Scalar:
        n, c, *rest = axes
        point, taps = rest[:rank], rest[rank:]
        guards: list[Scalar] = [TRUE]
        windows: list[Scalar] = []
        for i, t, stride, before, gap, count in zip(point, taps, strides, pads, dilations, counts, strict=False):
            moved = i + before - t * gap
            window = floordiv(moved, index(stride))
            guards.append(inside(window, count))
            if stride > 1:
                guards.append(equal(floormod(moved, index(stride)), 0))
            windows.append(window)
        zero = const(x.dtype, 0)
        return select(conjunction(*guards), x[[n, c, *taps, *windows]], zero)

    return d.program(summed(d, out.dtype, out.shape, [index(k) for k in kernel], value))


register(
    Operator(
        "fold_windows",
        ("x",),
        _fold_windows_type,
        _fold_windows,
        {
            "shape": Attribute("ints"),
            "kernel": Attribute("ints"),
            "strides": Attribute("ints", ()),
            "pads": Attribute("ints", ()),
            "dilations": Attribute("ints", ()),
        },
    )
)
