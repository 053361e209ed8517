"""Transposed convolutions by the residues of their result's positions: an exact sum for every class of positions.

Position o = s·q + p of an axis with stride s meets tap k of dilation d where d·k ≡ p + pad (mod s), at input position
(o + pad - d·k) / s = q + e(p, k). Neighbouring residues p with the same number of taps at the same places form a class:
a dense convolution of stride 1 with weights of its own, which multiplies nothing by a zero. The result takes every
position from the class of its residues.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import gcd, prod

from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, Var, conjunction, const, floordiv, floormod, index, less, loop_var
from tcompiler.ops.convolution import spatial_names
from tcompiler.ops.define import Definition, Handle, accumulator, cast, inside, plus, select
from tcompiler.ops.define import product as multiplied
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import expect_kind, fail, integer, integers, known, present, required, same_dtype, show

MOST_CLASSES = 16
"""Sums of one operator: beyond, neighbouring classes share one, with zeros among its weights."""
VECTOR = 8
"""Filters that fill a vector register: with fewer, vectors lie along the data's last axis."""


@dataclass(frozen=True, slots=True)
class Residues:
    """Residues of one axis that meet as many taps at the same places of the data.

    Attributes:
        first: The first residue.
        count: How many, one after the other.
        start: The place of the first tap, counted from the quotient q.
        taps: Taps, at rising places of the data; 0 where a stride is longer than what the kernel reaches.
        step: The distance between two of them.
    """

    first: int
    count: int
    start: int
    taps: int
    step: int

    @property
    def last(self) -> int:
        """The place of the last tap."""
        return self.start + self.step * (self.taps - 1)

    def joined(self, other: Residues) -> Residues:
        """A class of both: of the next residues too, with taps wherever one of them has some."""
        if not self.taps or not other.taps:
            with_taps = other if other.taps else self
            return replace(with_taps, first=self.first, count=self.count + other.count)
        start, last = min(self.start, other.start), max(self.last, other.last)
        step = self.step if (self.start - other.start) % self.step == 0 else 1
        return Residues(self.first, self.count + other.count, start, (last - start) // step + 1, step)


def tap_places(residue: int, taps: int, stride: int, dilation: int, pad: int) -> dict[int, int]:
    """The taps that a residue meets, by their place in the data counted from the quotient."""
    found = [(k, residue + pad - dilation * k) for k in range(taps)]
    return {distance // stride: k for k, distance in found if distance % stride == 0}


def axis_classes(taps: int, stride: int, dilation: int, pad: int, size: int) -> tuple[Residues, ...]:
    """The classes of one axis.

    Args:
        taps: Taps of the kernel.
        stride: Stride.
        dilation: Dilation.
        pad: Positions of the full result that are left out in front.
        size: Extent of the result; a class holds residues of equally many positions.
    """
    classes: list[Residues] = []
    step = dilation // gcd(dilation, stride)
    for p in range(min(stride, size)):
        places = tap_places(p, taps, stride, dilation, pad)
        start, count = (min(places), len(places)) if places else (0, 0)
        last = classes[-1] if classes else None
        if last is not None and (last.start, last.taps) == (start, count) and p != size % stride:
            classes[-1] = replace(last, count=last.count + 1)
        else:
            classes.append(Residues(p, 1, start, count, step))
    if not any(r.taps for r in classes):
        return tuple(replace(r, taps=1) for r in classes)  # nothing meets a tap: zeros stand for them
    return tuple(classes)


def kernel_classes(
    taps: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int], sizes: Sequence[int]
) -> list[tuple[Residues, ...]]:
    """The classes of every axis, joined until there are no more than MOST_CLASSES combinations of them."""
    axes = [list(axis_classes(*each)) for each in zip(taps, strides, dilations, pads, sizes, strict=True)]
    while prod(map(len, axes)) > MOST_CLASSES:
        longest = max(axes, key=len)
        pairs = [(a.joined(b), a, b) for a, b in pairwise(longest)]
        costs = [j.count * j.taps - a.count * a.taps - b.count * b.taps for j, a, b in pairs]
        at = costs.index(min(costs))
        longest[at : at + 2] = [pairs[at][0]]
    return [tuple(a) for a in axes]


def combinations(
    taps: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int], sizes: Sequence[int]
) -> Iterable[tuple[Residues, ...]]:
    """The combinations of classes that an operator with these attributes takes weights for, in their order."""
    return (c for c in product(*kernel_classes(taps, strides, dilations, pads, sizes)) if _summed(c))


@dataclass(frozen=True, slots=True)
class Aligned:
    """Positions counted from a multiple of the stride, so that all residues of a place that meet taps read the same.

    Attributes:
        pads: Positions that are left out in front, whole steps alone.
        skipped: Further positions in front that the result leaves out, less than a step of each axis.
        sizes: Positions of whole steps, the skipped ones included, that cover the result.
    """

    pads: tuple[int, ...]
    skipped: tuple[int, ...]
    sizes: tuple[int, ...]


def aligned(strides: Sequence[int], pads: Sequence[int], sizes: Sequence[int]) -> Aligned:
    """The aligned positions of a result: its strides, the positions that it leaves out in front, and its sizes."""
    skipped = tuple(p % s for p, s in zip(pads, strides, strict=False))
    return Aligned(
        tuple(p - k for p, k in zip(pads, skipped, strict=False)),
        skipped,
        tuple(-(-(e + k) // s) * s for e, k, s in zip(sizes, skipped, strides, strict=True)),
    )


def _summed(combination: Iterable[Residues]) -> bool:
    """Whether positions of a combination of classes meet taps on every axis; the sum of others is zero."""
    return all(r.taps for r in combination)


def axis_attributes(op: str, x: TensorType, attrs: Attrs) -> list[tuple[int, ...]]:
    """Sizes, pads, strides, dilations and taps of a transposed convolution that is done by residues.

    Args:
        op: The operator's name, for messages.
        x: Type of the data: batch, channels, spatial axes.
        attrs: The operator's attributes.

    Returns:
        The five, each with one number for each spatial axis.

    Raises:
        CompileError: If one has another length, or anything but a pad is below 1.
    """
    rank = len(x.shape) - 2
    each = [integers(attrs, key) for key in ("sizes", "pads", "strides", "dilations", "taps")]
    if rank < 1 or any(len(v) != rank for v in each) or min(*each[0], *each[2], *each[3], *each[4]) < 1:
        fail(
            f"{op}: data {show(x)}, sizes {each[0]}, pads {each[1]}, strides {each[2]}, dilations {each[3]}, "
            f"taps {each[4]}: expected one of each for each of the {rank} spatial axes, and only pads below 1"
        )
    return each


def _type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, w = required(types, 0), required(types, 1)
    same_dtype("conv_residues", present(types))
    expect_kind("conv_residues", x, "number")
    each = axis_attributes("conv_residues", x, attrs)
    groups, biased = integer(attrs, "groups"), bool(attrs["biased"])
    channels = known("conv_residues", x.shape[1], "the number of channels")
    filters = known("conv_residues", w.shape[0], "the number of filters")
    if groups < 1 or channels % groups or filters % groups:
        fail(f"conv_residues: data {show(x)}, weight {show(w)}: expected channels and filters in {groups} groups")
    classes = [c for c in product(*_classes(attrs)) if _summed(c)]
    if len(types) != 1 + len(classes) + biased:
        fail(f"conv_residues: {len(types)} inputs: expected the data, {len(classes)} weights and {int(biased)} bias")
    for k, combination in enumerate(classes):
        part = required(types, 1 + k)
        shape = (filters, channels // groups, *(r.count for r in combination), *(r.taps for r in combination))
        if part.shape != tuple(map(index, shape)):
            fail(f"conv_residues: weight {k} is {show(part)}, expected the shape {shape}")
    if biased and required(types, len(types) - 1).shape != (index(filters),):
        fail(f"conv_residues: bias {show(required(types, len(types) - 1))}, expected one for each of {filters} filters")
    return (TensorType(x.dtype, (x.shape[0], index(filters), *map(index, each[0]))),)


def _classes(attrs: Attrs) -> list[tuple[Residues, ...]]:
    keys = ("taps", "strides", "dilations", "pads", "sizes")
    return kernel_classes(*(integers(attrs, key) for key in keys))


def _define(types: Types, attrs: Attrs) -> Program:
    """One sum for each combination of classes, and the result that takes each position from one of them."""
    (out,) = _type(types, attrs)
    d = Definition("conv_residues", types, ("x", "weight"))
    x = d.input(0)
    rank = len(x.shape) - 2
    groups, strides, sizes = integer(attrs, "groups"), integers(attrs, "strides"), integers(attrs, "sizes")
    bias = d.input(len(types) - 1) if attrs["biased"] else None
    axes = _classes(attrs)
    filters = known("conv_residues", out.shape[1], "the number of filters") // groups
    data = [known("conv_residues", e, "an extent") for e in x.shape[2:]]
    before = [-min(r.start for r in classes if r.taps) for classes in axes]
    after = [
        max((size - 1 - r.first) // s + r.last for r in classes if r.taps) - (e - 1)
        for classes, size, s, e in zip(axes, sizes, strides, data, strict=True)
    ]
    moved = any((*before, *after))
    xp = _padded(d, x, before, after, filters >= VECTOR) if moved else x
    counts = [
        [(size - 1 - r.first) // s + 1 for r in classes] for classes, size, s in zip(axes, sizes, strides, strict=True)
    ]
    kinds = [
        _Sum(chosen, groups, filters, many, moved)
        for chosen, many in zip(product(*axes), product(*counts), strict=True)
    ]
    weights = iter(range(1, len(types)))
    sums = [
        (kind, kind.define(d, xp, d.input(next(weights)), before) if _summed(kind.classes) else None) for kind in kinds
    ]

    zero = const(accumulator(out.dtype), 0)

    def finish(n: Scalar, k: Scalar, *at: Scalar) -> Scalar:
        value = _taken(sums, axes, strides, n, k, at, zero, 0)
        if bias is not None:
            value = plus(value, cast(accumulator(out.dtype), bias[k]))
        return cast(out.dtype, value)

    return d.program(d.compute("y", out.shape, finish, ["n", "k", *spatial_names(rank, ("d", "h", "w"))]))


def _padded(d: Definition, x: Handle, before: Sequence[int], after: Sequence[int], last: bool) -> Handle:
    """The data with zeros around them, what a sum reads side by side: channels last, or around the last axis alone."""

    def body(n: Scalar, *axes: Scalar) -> Scalar:
        c, own = (axes[-1], axes[:-1]) if last else (axes[-2], (*axes[:-2], axes[-1]))
        at = [i - b for i, b in zip(own, before, strict=True)]
        sides = zip(at, x.shape[2:], before, after, strict=True)
        guard = conjunction(*(inside(i, e, b > 0, a > 0) for i, e, b, a in sides))
        return select(guard, x[[n, c, *at]], 0)

    sizes = [e + (b + a) for e, b, a in zip(x.shape[2:], before, after, strict=True)]
    inner = [*sizes, x.shape[1]] if last else [*sizes[:-1], x.shape[1], sizes[-1]]
    return d.compute("pad", (x.shape[0], *inner), body)


@dataclass(frozen=True, slots=True)
class _Sum:
    """The sums of one combination of classes, and which of its axes they have: those of one value are left out.

    Attributes:
        classes: One for each spatial axis.
        groups: Groups.
        filters: Filters of a group; last among the axes where they fill vectors.
        counts: Quotients along each spatial axis.
        moved: Whether the data's channels are next to, or behind, their last spatial axis.
    """

    classes: tuple[Residues, ...]
    groups: int
    filters: int
    counts: tuple[int, ...]
    moved: bool

    def ordered(self, g: Scalar, k: Scalar, residues: Sequence[Scalar], quotients: Sequence[Scalar]) -> list[Scalar]:
        """The indices that there are axes for, in their order."""
        own = [k] if self.filters > 1 or self.groups == 1 else []
        inner = [*(p for p, r in zip(residues, self.classes, strict=True) if r.count > 1), *quotients]
        group = [g] if self.groups > 1 else []
        return [*group, *inner, *own] if self.filters >= VECTOR else [*group, *own, *inner]

    def define(self, d: Definition, x: Handle, w: Handle, before: Sequence[int]) -> Handle:
        """The scope that computes them from the padded data and the combination's weights."""
        rank, zero = len(self.classes), index(0)
        channels = known("conv_residues", w.shape[1], "the number of channels")
        names = [f"p{m}" for m in range(rank)]
        g, k = loop_var("g", self.groups), loop_var("k", self.filters)
        residues = [loop_var(name, r.count) for name, r in zip(names, self.classes, strict=True)]
        quotients = [
            loop_var(name, e) for name, e in zip(spatial_names(rank, ("d", "h", "w")), self.counts, strict=True)
        ]
        axes = [v for v in self.ordered(g, k, residues, quotients) if isinstance(v, Var)]
        live = [m for m in range(rank) if self.classes[m].taps > 1]
        taps = spatial_names(rank, ("t", "r", "s"))
        deep = [("c", channels)] if channels > 1 or not live else []
        reduced = [*deep, *((taps[m], self.classes[m].taps) for m in live)]

        def body(n: Scalar, *point: Scalar) -> Scalar:
            here: dict[Scalar, Scalar] = dict(zip(axes, point, strict=False))
            over = iter(point[len(axes) :])
            c = next(over) if deep else zero
            tap = [next(over) if m in live else zero for m in range(rank)]
            group, own = here.get(g, zero), here.get(k, zero)
            at = [
                here[q] + (r.start + b) + t * r.step
                for q, r, b, t in zip(quotients, self.classes, before, tap, strict=True)
            ]
            filters = [here.get(p, zero) for p in residues]
            place = [group * channels + c, *at]
            if self.moved:
                place = [*at, place[0]] if self.filters >= VECTOR else [*at[:-1], place[0], at[-1]]
            return multiplied((x[[n, *place]], w[[group * self.filters + own, c, *filters, *tap]]))

        extents = [v.extent for v in axes if v.extent is not None]
        shape, over = [x.shape[0], *extents], [index(e) for _, e in reduced]
        labels = ["n", *(v.name for v in axes)]
        return d.reduce("sum", "residues", shape, over, body, labels, [name for name, _ in reduced])


def _taken(
    sums: Sequence[tuple[_Sum, Handle | None]],
    axes: Sequence[Sequence[Residues]],
    strides: Sequence[int],
    n: Scalar,
    k: Scalar,
    at: Sequence[Scalar],
    zero: Scalar,
    depth: int,
) -> Scalar:
    """A position's sum: of the combination of classes that its residues belong to, found axis by axis; or zero."""
    if depth == len(axes):
        ((kind, values),) = sums
        if values is None:
            return zero
        g, own = floordiv(k, index(kind.filters)), floormod(k, index(kind.filters))
        quotients = [floordiv(i, index(s)) for i, s in zip(at, strides, strict=True)]
        residues = [floormod(i, index(s)) - r.first for i, s, r in zip(at, strides, kind.classes, strict=True)]
        return values[
            [n, *kind.ordered(g if kind.filters > 1 else k, own if kind.groups > 1 else k, residues, quotients)]
        ]
    classes, each = axes[depth], len(sums) // len(axes[depth])
    residue = floormod(at[depth], index(strides[depth]))
    parts = [
        _taken(sums[m * each : (m + 1) * each], axes, strides, n, k, at, zero, depth + 1) for m in range(len(classes))
    ]
    value = parts[-1]
    for r, part in reversed([*zip(classes, parts, strict=True)][:-1]):
        value = select(less(residue, index(r.first + r.count)), part, value)
    return value


register(
    Operator(
        "conv_residues",
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
            "biased": Attribute("bool", False),
        },
    )
)
