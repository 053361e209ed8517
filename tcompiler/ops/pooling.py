"""Pooling over windows of the trailing axes: maximum, average, and Lp."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, as_int, conjunction, index
from tcompiler.ir.scalar.reducers import named_reducer
from tcompiler.ops.convolution import padded, window_attribute, window_extent
from tcompiler.ops.define import (
    Definition,
    Handle,
    accumulator,
    binary,
    cast,
    inside,
    over,
    select,
    times,
    unary,
)
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import expect_kind, fail, flag, integer, integers, required, show

_STAGE = 6
"""Taps that writing what a pool finds is as much work as."""
_LAST = (1 << 63) - 1
"""An index behind all others."""


class _Window:
    """The geometry of a pool: kernel, strides, dilations, and pads with what rounding up adds at the end.

    With ceil_mode a window may begin inside the padded data and end outside; one that would begin in the padding
    after the data is left out. `edge` is how far windows reach past the padding, per axis.
    """

    def __init__(self, op: str, x: TensorType, attrs: Attrs) -> None:
        self.kernel = integers(attrs, "kernel")
        self.rank = rank = len(self.kernel)
        if rank < 1 or rank > len(x.shape) or any(k < 1 for k in self.kernel):
            fail(f"{op}: kernel is {self.kernel} for data {show(x)}, expected 1 or more extents of at least 1")
        self.strides = window_attribute(op, attrs, "strides", rank, 1, 1)
        self.dilations = window_attribute(op, attrs, "dilations", rank, 1, 1)
        pads = window_attribute(op, attrs, "pads", 2 * rank, 0, 0)
        self.before, self.after = pads[:rank], pads[rank:]
        self.spatial = x.shape[len(x.shape) - rank :]
        self.lead = x.shape[: len(x.shape) - rank]
        outputs, edge = [], []
        for k, extent in enumerate(self.spatial):
            total = self.before[k] + self.after[k]
            out = window_extent(extent, self.kernel[k], self.strides[k], self.dilations[k], total)
            extra = 0
            value, size = as_int(out), as_int(extent)
            if flag(attrs, "ceil_mode"):
                if value is None or size is None:
                    fail(f"{op}: data is {show(x)}, expected constant extents with ceil_mode")
                span = self.dilations[k] * (self.kernel[k] - 1) + 1
                last = value * self.strides[k]
                if last + span > size + total > last + span - self.strides[k] and last < size + self.before[k]:
                    value += 1
                    extra = last + span - size - total
                    out = index(value)
            if value is not None and value < 1:
                fail(f"{op}: data {show(x)}, kernel {self.kernel}: the window does not fit into axis {k} of the window")
            outputs.append(out)
            edge.append(extra)
        self.shape = (*self.lead, *outputs)
        self.edge = tuple(edge)

    def stages(self) -> list[int]:
        """The axes, in order, along which windows are reduced one after the other; none where that does not pay.

        What one stage finds serves several windows of the next one.
        """
        now, out = [as_int(e) for e in self.spatial], [as_int(e) for e in self.shape[len(self.lead) :]]
        if None in now or None in out:
            return []
        still = [(self.kernel[k], self.strides[k], self.before[k], self.reach[k]) for k in range(self.rank)]
        axes = [k for k in reversed(range(self.rank)) if still[k] != (1, 1, 0, 0)]
        steps = 0
        for k in axes:
            now[k] = out[k]
            steps += math.prod(n or 0 for n in now) * (self.kernel[k] + _STAGE)
        points = math.prod(n or 0 for n in out)
        return axes if steps < points * (math.prod(self.kernel) + _STAGE) else []

    def source(self, at: Sequence[Scalar]) -> list[Scalar]:
        """Indices into padded data from the output's indices followed by the window's."""
        rank, n = self.rank, len(self.shape)
        lead, points, taps = at[: n - rank], at[n - rank : n], at[n:]
        return [
            *lead,
            *(i * s + t * gap for i, s, t, gap in zip(points, self.strides, taps, self.dilations, strict=True)),
        ]

    @property
    def reach(self) -> tuple[int, ...]:
        """Padding after the data, rounding included."""
        return tuple(a + e for a, e in zip(self.after, self.edge, strict=True))


def _pooled(
    d: Definition,
    x: Handle,
    w: _Window,
    reducer: str,
    name: str,
    fill: float,
    element: Callable[[Scalar], Scalar],
) -> Handle:
    """What a reducer makes of the windows' elements: of all axes at once, or along one after the other.

    Args:
        d: The definition.
        x: The data.
        w: The windows.
        reducer: The reducer.
        name: The result's name.
        fill: What padding counts as.
        element: What is reduced of an element.
    """
    stages = w.stages()
    if not stages:
        xp = padded(d, x, w.before, w.reach, fill)
        return d.reduce(reducer, name, w.shape, [index(k) for k in w.kernel], lambda *at: element(xp[w.source(at)]))
    for k in stages:
        x = _pooled_along(d, x, w, k, reducer, name if k == stages[-1] else f"{name}{k}", fill, element)
        element = _same
    return x


def _same(element: Scalar) -> Scalar:
    return element


def _pooled_along(
    d: Definition,
    x: Handle,
    w: _Window,
    axis: int,
    reducer: str,
    name: str,
    fill: float,
    element: Callable[[Scalar], Scalar],
) -> Handle:
    """Windows along one axis alone; arguments as for `_pooled`."""

    def alone(pads: Sequence[int]) -> list[int]:
        return [pads[axis] if k == axis else 0 for k in range(w.rank)]

    at = len(w.lead) + axis
    xp = padded(d, x, alone(w.before), alone(w.reach), fill, f"{name}_pad")
    shape = (*x.shape[:at], w.shape[at], *x.shape[at + 1 :])

    def body(*i: Scalar) -> Scalar:
        place = i[at] * w.strides[axis] + i[-1] * w.dilations[axis]
        return element(xp[[*i[:at], place, *i[at + 1 : -1]]])

    return d.reduce(reducer, name, shape, [index(w.kernel[axis])], body)


_ATTRIBUTES = {
    "kernel": Attribute("ints"),
    "strides": Attribute("ints", ()),
    "pads": Attribute("ints", ()),
    "dilations": Attribute("ints", ()),
    "ceil_mode": Attribute("bool", False),
}


def _max_pool_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = required(types, 0)
    expect_kind("max_pool", x, "number")
    return (TensorType(x.dtype, _Window("max_pool", x, attrs).shape),)


def _lowest(dtype: dt.DType) -> float:
    if dtype.is_float:
        return -math.inf
    return 0 if dtype.kind == "uint" else -(1 << (dtype.bits - 1))


def _max_pool(types: Types, attrs: Attrs) -> Program:
    d = Definition("max_pool", types, ("x",))
    x, w = d.input(0), _Window("max_pool", required(types, 0), attrs)
    return d.program(_pooled(d, x, w, "max", "y", _lowest(x.dtype), _same))


register(Operator("max_pool", ("x",), _max_pool_type, _max_pool, _ATTRIBUTES))


def _argmax_pool_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = required(types, 0)
    expect_kind("argmax_pool", x, "number")
    return (TensorType(dt.i64, _Window("argmax_pool", x, attrs).shape),)


def _argmax_pool(types: Types, attrs: Attrs) -> Program:
    """Where each maximum of a max_pool lies, as an index into the flattened tensor: the first of equal ones."""
    d = Definition("argmax_pool", types, ("x",))
    x, w = d.input(0), _Window("argmax_pool", required(types, 0), attrs)
    guarded = any(w.before) or any(w.reach)

    def body(*at: Scalar) -> tuple[Scalar, Scalar]:
        place = w.source(at)
        lead, points = place[: len(w.lead)], place[len(w.lead) :]
        points = [p - b for p, b in zip(points, w.before, strict=True)]
        flat = _flattened([*lead, *points], x.shape)
        value = x[[*lead, *points]]
        if guarded:
            guard = conjunction(*(inside(p, e) for p, e in zip(points, w.spatial, strict=True)))
            # Padding loses against the lowest of the data too, which it equals.
            value, flat = select(guard, value, _lowest(x.dtype)), select(guard, flat, _LAST)
        return value, flat

    _, at = d.reduce_tuple(
        lambda dtypes: named_reducer("argmax", *dtypes), ("best", "at"), w.shape, [index(k) for k in w.kernel], body
    )
    if not flag(attrs, "column_major"):
        return d.program(at)

    def turned(*place: Scalar) -> Scalar:
        # Column-major order turns the spatial axes around and leaves the leading ones in front.
        rest, points = at[place], []
        for extent in reversed(w.spatial):
            points.append(rest % extent)
            rest = rest // extent
        return _flattened([rest, *points], [index(1), *reversed(w.spatial)])

    return d.program(d.compute("y", w.shape, turned))


def _flattened(at: Sequence[Scalar], shape: Sequence[Scalar]) -> Scalar:
    """The index into a tensor as one of its flattened form."""
    flat: Scalar = index(0)
    for p, extent in zip(at, shape, strict=True):
        flat = flat * extent + p
    return flat


register(
    Operator(
        "argmax_pool",
        ("x",),
        _argmax_pool_type,
        _argmax_pool,
        {**_ATTRIBUTES, "column_major": Attribute("bool", False)},
    )
)


def _average_pool_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = required(types, 0)
    expect_kind("average_pool", x, "float")
    return (TensorType(x.dtype, _Window("average_pool", x, attrs).shape),)


def _taps_inside(w: _Window, k: int, i: Scalar, extent: Scalar, before: int, after: int) -> Scalar:
    """How many taps of a window lie in [0, extent), along one axis.

    Args:
        w: The windows.
        k: The axis.
        i: The window's number along it.
        extent: Elements.
        before: How far the first windows begin before them.
        after: How far the last ones reach past them.
    """
    start, step = i * w.strides[k] - before, w.dilations[k]
    first = binary("max", index(0), (step - 1 - start) // step) if before else index(0)
    last: Scalar = index(w.kernel[k])
    if after:
        last = binary("min", last, (extent - 1 - start) // step + 1)
    reach = (w.kernel[k] - 1) * step
    return last - first if max(before, after) <= reach else binary("max", last - first, index(0))


def _average_pool(types: Types, attrs: Attrs) -> Program:
    d = Definition("average_pool", types, ("x",))
    x, w = d.input(0), _Window("average_pool", required(types, 0), attrs)
    wide = accumulator(x.dtype)
    total = _pooled(d, x, w, "sum", "total", 0.0, lambda e: cast(wide, e))
    # What counts is the data, or data and pads; what rounding up reaches beyond the pads never counts.
    include = flag(attrs, "count_include_pad")
    sides: list[tuple[Scalar, int, int]] = []
    for k in range(w.rank):
        before, after = (0, w.edge[k]) if include else (w.before[k], w.reach[k])
        sides.append((w.spatial[k] + (w.before[k] + w.after[k] if include else 0), before, after))
    fixed = math.prod(
        size for size, (_, before, after) in zip(w.kernel, sides, strict=True) if not before and not after
    )

    def mean(*at: Scalar) -> Scalar:
        places = at[len(w.lead) :]
        varying = [_taps_inside(w, k, places[k], *side) for k, side in enumerate(sides) if side[1] or side[2]]
        if not varying:
            return cast(x.dtype, times(total[at], 1.0 / fixed))
        count: Scalar = index(fixed)
        for n in varying:
            count = times(count, n)
        return cast(x.dtype, times(total[at], over(1.0, cast(wide, count))))

    return d.program(d.compute("y", w.shape, mean))


register(
    Operator(
        "average_pool",
        ("x",),
        _average_pool_type,
        _average_pool,
        {**_ATTRIBUTES, "count_include_pad": Attribute("bool", False)},
    )
)


def _lp_pool_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = required(types, 0)
    expect_kind("lp_pool", x, "float")
    if integer(attrs, "p") < 1:
        fail(f"lp_pool: p is {integer(attrs, 'p')}, expected at least 1")
    return (TensorType(x.dtype, _Window("lp_pool", x, attrs).shape),)


def _lp_pool(types: Types, attrs: Attrs) -> Program:
    d = Definition("lp_pool", types, ("x",))
    x, w = d.input(0), _Window("lp_pool", required(types, 0), attrs)
    wide, p = accumulator(x.dtype), integer(attrs, "p")
    xp = padded(d, x, w.before, w.reach, 0.0)

    def power(*at: Scalar) -> Scalar:
        value = cast(wide, xp[w.source(at)])
        return times(value, value) if p == 2 else binary("pow", unary("abs", value), float(p))

    total = d.reduce("sum", "total", w.shape, [index(k) for k in w.kernel], power)

    def root(*at: Scalar) -> Scalar:
        value = total[at]
        return cast(x.dtype, unary("sqrt", value) if p == 2 else binary("pow", value, 1.0 / p))

    return d.program(d.compute("y", w.shape, root))


register(Operator("lp_pool", ("x",), _lp_pool_type, _lp_pool, {**_ATTRIBUTES, "p": Attribute("int", 2)}))
