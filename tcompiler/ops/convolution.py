"""Convolutions of any number of spatial axes, forward and transposed.

A padded convolution is two scopes: the padded input, and a sum of products that reads it without a guard; what a
schedule does with the padding is the schedule's affair. Groups are an axis of their own, and reduced axes of extent 1
are left out, so that a 1×1 convolution is a matrix product and a depthwise one a sum over its taps alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, as_int, conjunction, equal, floordiv, floormod, index
from tcompiler.ops.define import Definition, Handle, accumulator, cast, inside, plus, product, select
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import (
    ONE,
    expect_kind,
    fail,
    integer,
    integers,
    known,
    present,
    required,
    same_dtype,
    show,
)

_OUTER = ("d", "h", "w")
_TAPS = ("t", "r", "s")


def spatial_names(count: int, names: Sequence[str]) -> list[str]:
    """Names for spatial axes: the last ones of a familiar list, numbered where it is too short."""
    return list(names[len(names) - count :]) if count <= len(names) else [f"{names[-1]}{k}" for k in range(count)]


def window_attribute(op: str, attrs: Attrs, key: str, rank: int, default: int, least: int) -> tuple[int, ...]:
    """A per-axis attribute; left empty it is the default for every axis."""
    values = integers(attrs, key) or (default,) * rank
    if len(values) != rank or any(v < least for v in values):
        fail(f"{op}: {key} is {values}, expected {rank} integers of at least {least}")
    return values


def window_extent(extent: Scalar, kernel: int, stride: int, dilation: int, pad: int) -> Scalar:
    """How many windows fit: (extent + pad - dilation·(kernel-1) - 1) // stride + 1."""
    return floordiv(extent + (pad - dilation * (kernel - 1) - 1), index(stride)) + 1


def padded(
    d: Definition, x: Handle, before: Sequence[int], after: Sequence[int], fill: float, name: str = "pad"
) -> Handle:
    """The trailing axes of x with a fill around them, as a scope; x itself where there is nothing to add."""
    if not any(before) and not any(after):
        return x
    lead = len(x.shape) - len(before)
    shape = (*x.shape[:lead], *(e + (b + a) for e, b, a in zip(x.shape[lead:], before, after, strict=True)))

    def body(*axes: Scalar) -> Scalar:
        at = [i - b for i, b in zip(axes[lead:], before, strict=True)]
        guard = conjunction(
            *(inside(i, e, b > 0, a > 0) for i, e, b, a in zip(at, x.shape[lead:], before, after, strict=True))
        )
        return select(guard, x[[*axes[:lead], *at]], fill)

    return d.compute(name, shape, body)


def _taken(d: Definition, x: Handle, shape: Sequence[Scalar], strides: Sequence[int], pads: Sequence[int]) -> Handle:
    """Every stride-th element of the trailing axes of x, zero where the padding is."""
    before, after = pads[: len(strides)], pads[len(strides) :]

    def body(n: Scalar, c: Scalar, *axes: Scalar) -> Scalar:
        at = [i * s - b for i, s, b in zip(axes, strides, before, strict=True)]
        sides = zip(at, x.shape[2:], before, after, strict=True)
        guard = conjunction(*(inside(i, e, b > 0, a > 0) for i, e, b, a in sides))
        return select(guard, x[[n, c, *at]], 0)

    return d.compute("taken", (*x.shape[:2], *shape), body)


def _check(op: str, types: Types, attrs: Attrs, transposed: bool) -> tuple[TensorType, TensorType, int]:
    """What both kinds of convolution ask of their inputs; returns data, weight and the number of spatial axes."""
    x, w, b = required(types, 0), required(types, 1), types[2]
    same_dtype(op, present(types))
    expect_kind(op, x, "number")
    rank = len(x.shape) - 2
    if rank < 1 or len(w.shape) != rank + 2:
        fail(f"{op}: data is {show(x)} and weight {show(w)}, expected (N, C, spatial…) and a weight of the same rank")
    groups = integer(attrs, "groups")
    channels, filters = known(op, x.shape[1], "the number of channels"), known(op, w.shape[0], "a weight's extent")
    if groups < 1:
        fail(f"{op}: groups is {groups}, expected at least 1")
    if transposed:
        if channels != filters or channels % groups:
            fail(f"{op}: data {show(x)}, weight {show(w)}, groups {groups}: expected a weight of {channels} rows")
    else:
        per_group = known(op, w.shape[1], "a weight's extent")
        if channels != per_group * groups or filters % groups:
            fail(
                f"{op}: data {show(x)}, weight {show(w)}, groups {groups}: expected {channels} channels to be "
                f"{per_group} per group, and {filters} filters to divide into groups"
            )
    outputs = known(op, w.shape[1], "a weight's extent") * groups if transposed else filters
    if b is not None and b.shape != (index(outputs),):
        fail(f"{op}: bias is {show(b)}, expected one value for each of the {outputs} filters")
    for e in w.shape[2:]:
        if known(op, e, "a weight's extent") < 1:
            fail(f"{op}: weight is {show(w)}, expected spatial extents of at least 1")
    return x, w, rank


def _conv_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, w, rank = _check("conv", types, attrs, transposed=False)
    strides, pads, dilations = _geometry("conv", attrs, rank)
    spatial = []
    for k in range(rank):
        extent = window_extent(
            x.shape[2 + k], known("conv", w.shape[2 + k], ""), strides[k], dilations[k], pads[k] + pads[rank + k]
        )
        if (extent_value := as_int(extent)) is not None and extent_value < 1:
            fail(
                f"conv: data {show(x)}, weight {show(w)}, pads {pads}, dilations {dilations}: the window does not fit "
                f"into spatial axis {k}"
            )
        spatial.append(extent)
    return (TensorType(x.dtype, (x.shape[0], w.shape[0], *spatial)),)


def _geometry(op: str, attrs: Attrs, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    strides = window_attribute(op, attrs, "strides", rank, 1, 1)
    pads = window_attribute(op, attrs, "pads", 2 * rank, 0, 0)
    dilations = window_attribute(op, attrs, "dilations", rank, 1, 1)
    return strides, pads, dilations


def _conv(types: Types, attrs: Attrs) -> Program:
    (out,) = _conv_type(types, attrs)
    d = Definition("conv", types, ("x", "weight", "bias"))
    x, w, bias = d.input(0), d.input(1), d.optional(2)
    rank = len(x.shape) - 2
    strides, pads, dilations = _geometry("conv", attrs, rank)
    if all(e is ONE for e in w.shape[2:]) and any(s > 1 for s in strides):
        # a window of one element: what the strides skip is never read, and the rest is a matrix product
        xp = _taken(d, x, out.shape[2:], strides, pads)
        strides = (1,) * rank
    else:
        xp = padded(d, x, pads[:rank], pads[rank:], 0)
    groups = integer(attrs, "groups")
    per_group = known("conv", w.shape[0], "the number of filters") // groups

    def read(n: Scalar, c: Scalar, at: Sequence[Scalar], taps: Sequence[Scalar]) -> Scalar:
        return xp[[n, c, *(i * s + t * gap for i, s, t, gap in zip(at, strides, taps, dilations, strict=True))]]

    return d.program(
        _grouped_sum(d, out, read, lambda g, k, c, t: w[[g * per_group + k, c, *t]], w.shape[1:], groups, bias)
    )


def _grouped_sum(
    d: Definition,
    out: TensorType,
    data: Callable[[Scalar, Scalar, Sequence[Scalar], Sequence[Scalar]], Scalar],
    weight: Callable[[Scalar, Scalar, Scalar, Sequence[Scalar]], Scalar],
    reduced: Sequence[Scalar],
    groups: int,
    bias: Handle | None,
) -> Handle:
    """The sum over channels of a group and taps, then bias and rounding.

    Args:
        d: The definition.
        out: Type of the result (N, K, spatial…).
        data: The element of the (padded) data for n, channel, output position, taps.
        weight: The weight for group, filter within the group, channel within the group, taps.
        reduced: (channels per group, taps…).
        groups: Number of groups.
        bias: One value per filter, or None.
    """
    rank = len(out.shape) - 2
    filters = known("conv", out.shape[1], "the number of filters") // groups
    live = [k for k, e in enumerate(reduced) if e is not ONE]
    outer, taps = spatial_names(rank, _OUTER), spatial_names(rank, _TAPS)
    # One group has no group axis, one filter per group no filter axis: the channel is then the group.
    split = groups > 1 and filters > 1
    shape = (out.shape[0], index(groups), index(filters), *out.shape[2:]) if split else out.shape
    names = ["n", *(["g", "k"] if split else ["k"]), *outer]
    lead = 3 if split else 2

    def body(*axes: Scalar) -> Scalar:
        point, over = axes[: len(shape)], iter(axes[len(shape) :])
        c, *t = (next(over) if k in live else index(0) for k in range(rank + 1))
        group = index(0) if groups == 1 else point[1]
        k = point[2] if split else point[1] if groups == 1 else index(0)
        return product((data(point[0], group * reduced[0] + c, point[lead:], t), weight(group, k, c, t)))

    reduce_names = [n for k, n in enumerate(["c", *taps]) if k in live]
    plain = bias is None and not split and accumulator(out.dtype) is out.dtype
    acc = d.reduce("sum", "y" if plain else "acc", shape, [reduced[k] for k in live], body, names, reduce_names)
    if plain:
        return acc

    def finish(*axes: Scalar) -> Scalar:
        n, k, *at = axes
        value = acc[[n, floordiv(k, index(filters)), floormod(k, index(filters)), *at] if split else axes]
        if bias is not None:
            value = plus(value, cast(value.dtype, bias[k]))
        return cast(out.dtype, value)

    return d.compute("y", out.shape, finish, ["n", "k", *outer])


_CONV_ATTRIBUTES = {
    "strides": Attribute("ints", ()),
    "pads": Attribute("ints", ()),
    "dilations": Attribute("ints", ()),
    "groups": Attribute("int", 1),
}

register(Operator("conv", ("x", "w", "bias?"), _conv_type, _conv, _CONV_ATTRIBUTES))


def _transposed_geometry(
    attrs: Attrs, rank: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    strides = window_attribute("conv_transpose", attrs, "strides", rank, 1, 1)
    # Negative pads enlarge the output, as an output_shape may ask for.
    pads = window_attribute("conv_transpose", attrs, "pads", 2 * rank, 0, -(2**31))
    dilations = window_attribute("conv_transpose", attrs, "dilations", rank, 1, 1)
    extra = window_attribute("conv_transpose", attrs, "output_padding", rank, 0, 0)
    return strides, pads, dilations, extra


def _conv_transpose_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, w, rank = _check("conv_transpose", types, attrs, transposed=True)
    strides, pads, dilations, extra = _transposed_geometry(attrs, rank)
    spatial: list[Scalar] = []
    for k in range(rank):
        taps = known("conv_transpose", w.shape[2 + k], "")
        grown = (x.shape[2 + k] - 1) * strides[k]
        extent = grown + (dilations[k] * (taps - 1) + 1 + extra[k] - pads[k] - pads[rank + k])
        if (value := as_int(extent)) is not None and value < 1:
            fail(
                f"conv_transpose: data {show(x)}, weight {show(w)}, pads {pads}: spatial axis {k} of the result would "
                f"have extent {value}, expected at least 1"
            )
        spatial.append(extent)
    filters = w.shape[1] * integer(attrs, "groups")
    return (TensorType(x.dtype, (x.shape[0], filters, *spatial)),)


def _negative(extent: Scalar) -> bool:
    value = as_int(extent)
    return value is not None and value < 0


def _conv_transpose(types: Types, attrs: Attrs) -> Program:
    """A convolution of the data spread out by the strides, with the weight turned around."""
    (out,) = _conv_transpose_type(types, attrs)
    d = Definition("conv_transpose", types, ("x", "weight", "bias"))
    x, w, bias = d.input(0), d.input(1), d.optional(2)
    rank = len(x.shape) - 2
    strides, pads, dilations, _ = _transposed_geometry(attrs, rank)
    taps = [known("conv_transpose", e, "") for e in w.shape[2:]]
    before = [gap * (t - 1) - p for gap, t, p in zip(dilations, taps, pads, strict=False)]
    shape = [e + gap * (t - 1) for e, gap, t in zip(out.shape[2:], dilations, taps, strict=True)]

    def spread(*axes: Scalar) -> Scalar:
        n, c, *at = axes
        moved = [i - b for i, b in zip(at, before, strict=True)]
        source = [floordiv(i, index(s)) for i, s in zip(moved, strides, strict=True)]
        on_grid = [equal(floormod(i, index(s)), 0) for i, s in zip(moved, strides, strict=True) if s > 1]
        in_range = [
            inside(i, e, b > 0, not _negative(grown - 1 - b - e * s))
            for i, e, b, s, grown in zip(source, x.shape[2:], before, strides, shape, strict=True)
        ]
        return select(conjunction(*in_range, *on_grid), x[[n, c, *source]], 0)

    trivial = all(s == 1 for s in strides) and not any(before) and list(x.shape[2:]) == shape
    xs = x if trivial else d.compute("spread", (*x.shape[:2], *shape), spread)

    def read(n: Scalar, c: Scalar, at: Sequence[Scalar], t: Sequence[Scalar]) -> Scalar:
        return xs[[n, c, *(i + tap * gap for i, tap, gap in zip(at, t, dilations, strict=True))]]

    groups = integer(attrs, "groups")
    per_group = known("conv_transpose", x.shape[1], "the number of channels") // groups

    def weight(g: Scalar, k: Scalar, c: Scalar, t: Sequence[Scalar]) -> Scalar:
        return w[[g * per_group + c, k, *(index(e - 1) - i for e, i in zip(taps, t, strict=True))]]

    return d.program(_grouped_sum(d, out, read, weight, (index(per_group), *w.shape[2:]), groups, bias))


register(
    Operator(
        "conv_transpose",
        ("x", "w", "bias?"),
        _conv_transpose_type,
        _conv_transpose,
        {**_CONV_ATTRIBUTES, "output_padding": Attribute("ints", ())},
    )
)
