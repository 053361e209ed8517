"""Transposed convolutions to few filters: sums over whole planes of the data, one row of a plane behind the other.

Vectors that run along the few filters stay half empty, and so do those along the rows of a small image. Rows of an
image with zeros between them are one long axis, along which every tap is a shift: a sum over it has as many places as
the image and its zeros, and fills all vectors but the last one. What lies between two rows is computed in vain. All
residues of a place are filters of their own, as they read the same data where positions are counted from a multiple of
the stride (`residues.aligned`); the result interleaves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, conjunction, const, floordiv, floormod, index, less
from tcompiler.ops.convolution import spatial_names
from tcompiler.ops.define import Definition, Handle, accumulator, cast, inside, plus, select
from tcompiler.ops.define import product as multiplied
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.residues import Aligned, Residues, aligned, axis_attributes, kernel_classes
from tcompiler.ops.types import expect_kind, fail, integer, integers, known, present, required, same_dtype, show


@dataclass(frozen=True, slots=True)
class Planes:
    """How the places of the data lie in a plane.

    Attributes:
        first: The first place of each axis that a tap reads, counted from the first position.
        rows: Places along each axis from one to the next of the axis around it, zeros between them included.
        pitches: Elements of the plane from one place of each axis to the next.
        counts: Quotients of positions along each axis.
        elements: Elements of a plane of the data, in whole rows.
        places: Elements of a plane of sums.
    """

    first: tuple[int, ...]
    rows: tuple[int, ...]
    pitches: tuple[int, ...]
    counts: tuple[int, ...]
    elements: int
    places: int


def planes(
    axes: Sequence[Sequence[Residues]], strides: Sequence[int], aligned_sizes: Sequence[int], data: Sequence[int]
) -> Planes:
    """The plane of the data that all classes of residues read.

    Args:
        axes: The classes of each axis.
        strides: Strides.
        aligned_sizes: Positions of each axis, whole steps.
        data: Extents of the data.
    """
    counts = tuple(e // s for e, s in zip(aligned_sizes, strides, strict=True))
    first = tuple(min(r.start for r in classes if r.taps) for classes in axes)
    last = [n - 1 + max(r.last for r in classes if r.taps) for n, classes in zip(counts, axes, strict=True)]
    reach = [z - a + 1 for a, z in zip(first, last, strict=True)]
    rows = []
    for a, z, e, many, n in zip(first, last, data, reach, counts, strict=True):
        # zeros behind a row are those in front of the next one
        shared = min(max(-a, 0), max(z - e + 1, 0)) if z >= 0 and a < e else 0
        rows.append(max(many - shared, n))
    pitches = [1]
    for n in reversed(rows[1:]):
        pitches.insert(0, pitches[0] * n)
    span = sum((n - 1) * p for n, p in zip(reach, pitches, strict=True)) + 1
    row = rows[-1] if len(rows) > 1 else 1
    places = sum((n - 1) * p for n, p in zip(counts, pitches, strict=True)) + 1
    return Planes(first, tuple(rows), tuple(pitches), counts, -(-span // row) * row, places)


def _type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = required(types, 0)
    same_dtype("conv_planes", present(types))
    expect_kind("conv_planes", x, "number")
    each = axis_attributes("conv_planes", x, attrs)
    groups, biased = integer(attrs, "groups"), bool(attrs["biased"])
    channels = known("conv_planes", x.shape[1], "the number of channels")
    filters = integer(attrs, "filters")
    if groups < 1 or channels % groups or filters < 1 or filters % groups:
        fail(f"conv_planes: data {show(x)}, {filters} filters: expected channels and filters in {groups} groups")
    axes, _ = _classes(attrs)
    classes = [c for c in product(*axes) if all(r.taps for r in c)]
    if len(types) != 1 + len(classes) + biased:
        fail(f"conv_planes: {len(types)} inputs: expected the data, {len(classes)} weights and {int(biased)} bias")
    for k, combination in enumerate(classes):
        part = required(types, 1 + k)
        rows = filters * prod(r.count for r in combination)
        shape = (rows, channels // groups, *(r.taps for r in combination))
        if part.shape != tuple(map(index, shape)):
            fail(f"conv_planes: weight {k} is {show(part)}, expected the shape {shape}")
    if biased and required(types, len(types) - 1).shape != (index(filters),):
        fail(f"conv_planes: bias {show(required(types, len(types) - 1))}, expected one for each of {filters} filters")
    return (TensorType(x.dtype, (x.shape[0], index(filters), *map(index, each[0]))),)


def _classes(attrs: Attrs) -> tuple[list[tuple[Residues, ...]], Aligned]:
    taps, strides, dilations, pads, sizes = (
        integers(attrs, key) for key in ("taps", "strides", "dilations", "pads", "sizes")
    )
    at = aligned(strides, pads, sizes)
    return kernel_classes(taps, strides, dilations, at.pads, at.sizes), at


def _define(types: Types, attrs: Attrs) -> Program:
    """The data in planes, a sum over them for each combination of classes, and the result that interleaves them."""
    (out,) = _type(types, attrs)
    d = Definition("conv_planes", types, ("x", "weight"))
    x = d.input(0)
    rank = len(x.shape) - 2
    groups, strides = integer(attrs, "groups"), integers(attrs, "strides")
    filters = integer(attrs, "filters") // groups
    bias = d.input(len(types) - 1) if attrs["biased"] else None
    axes, at = _classes(attrs)
    data = [known("conv_planes", e, "an extent") for e in x.shape[2:]]
    plane = planes(axes, strides, at.sizes, data)
    xp = _laid_out(d, x, data, plane)
    weights = iter(range(1, len(types)))
    sums = [
        _sum(d, xp, d.input(next(weights)), classes, plane, groups) if all(r.taps for r in classes) else None
        for classes in product(*axes)
    ]
    zero = const(accumulator(out.dtype), 0)

    def finish(n: Scalar, k: Scalar, *point: Scalar) -> Scalar:
        moved = [i + skipped for i, skipped in zip(point, at.skipped, strict=True)]
        residues = [floormod(i, index(s)) for i, s in zip(moved, strides, strict=True)]
        place: Scalar = index(0)
        for i, s, pitch in zip(moved, strides, plane.pitches, strict=True):
            place = place + floordiv(i, index(s)) * pitch

        def taken(depth: int, chosen: tuple[Residues, ...], left: Sequence[Handle | None]) -> Scalar:
            if depth == rank:
                (values,) = left
                if values is None:
                    return zero
                row = k if groups == 1 else floormod(k, index(filters))
                for p, r in zip(residues, chosen, strict=True):
                    row = row * r.count + (p - r.first if r.count > 1 else 0)
                group = [floordiv(k, index(filters))] if groups > 1 else []
                return values[[n, *group, row, place]]
            classes, each = axes[depth], len(left) // len(axes[depth])
            parts = [taken(depth + 1, (*chosen, r), left[m * each : (m + 1) * each]) for m, r in enumerate(classes)]
            value = parts[-1]
            for r, part in reversed([*zip(classes, parts, strict=True)][:-1]):
                value = select(less(residues[depth], index(r.first + r.count)), part, value)
            return value

        value = taken(0, (), sums)
        if bias is not None:
            value = plus(value, cast(accumulator(out.dtype), bias[k]))
        return cast(out.dtype, value)

    return d.program(d.compute("y", out.shape, finish, ["n", "k", *spatial_names(rank, ("d", "h", "w"))]))


def _laid_out(d: Definition, x: Handle, data: Sequence[int], plane: Planes) -> Handle:
    """The data as planes, with zeros around them and between their rows."""

    def body(n: Scalar, c: Scalar, at: Scalar) -> Scalar:
        places = []
        for m, (pitch, rows, first) in enumerate(zip(plane.pitches, plane.rows, plane.first, strict=True)):
            digit = at if pitch == 1 else floordiv(at, index(pitch))
            places.append((floormod(digit, index(rows)) if m else digit) + first)
        guard = conjunction(*(inside(i, index(e)) for i, e in zip(places, data, strict=True)))
        return select(guard, x[[n, c, *places]], 0)

    return d.compute("plane", (x.shape[0], x.shape[1], index(plane.elements)), body)


def _sum(d: Definition, x: Handle, w: Handle, classes: Sequence[Residues], plane: Planes, groups: int) -> Handle:
    """The sums of a combination of classes at all places of a plane."""
    rank, zero = len(classes), index(0)
    rows = known("conv_planes", w.shape[0], "a weight's extent") // groups
    channels = known("conv_planes", w.shape[1], "the number of channels")
    live = [m for m in range(rank) if classes[m].taps > 1]
    names = spatial_names(rank, ("t", "r", "s"))
    over = [("c", channels), *((names[m], classes[m].taps) for m in live)]

    def body(n: Scalar, *point: Scalar) -> Scalar:
        g, point = (point[0], point[1:]) if groups > 1 else (zero, point)
        row, place, c, *taps = point
        steps = iter(taps)
        tap = [next(steps) if m in live else zero for m in range(rank)]
        for t, r, first, pitch in zip(tap, classes, plane.first, plane.pitches, strict=True):
            place = place + (t * r.step + (r.start - first)) * pitch
        return multiplied((x[[n, g * channels + c, place]], w[[g * rows + row, c, *tap]]))

    shape = [x.shape[0], *([index(groups)] if groups > 1 else []), index(rows), index(plane.places)]
    axes = ["n", *(["g"] if groups > 1 else []), "k", "q"]
    return d.reduce("sum", "planes", shape, [index(e) for _, e in over], body, axes, [name for name, _ in over])


register(
    Operator(
        "conv_planes",
        ("x", "weights*"),
        _type,
        _define,
        {
            "sizes": Attribute("ints", ()),
            "pads": Attribute("ints", ()),
            "strides": Attribute("ints", ()),
            "dilations": Attribute("ints", ()),
            "taps": Attribute("ints", ()),
            "groups": Attribute("int", 1),
            "filters": Attribute("int", 1),
            "biased": Attribute("bool", False),
        },
    )
)
