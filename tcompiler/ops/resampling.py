"""A weighted sum of neighbours at places along a line: what resizing an axis by a fixed factor takes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, Select, floordiv, index, less
from tcompiler.ops.define import Definition, accumulator, cast, plus, times
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import axis_of, expect_kind, fail, integer, known, required, show


def _type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, weights = required(types, 0), types[1]
    axis = axis_of("resample", integer(attrs, "axis"), len(x.shape))
    step, unit, extent = (integer(attrs, key) for key in ("step", "unit", "extent"))
    if step < 1 or unit < 1 or extent < 1:
        fail(f"resample: step is {step}, unit {unit} and extent {extent}, expected at least 1 of each")
    if known("resample", x.shape[axis], "an extent") < 1:
        fail(f"resample: {show(x)} has no element along axis {axis} to read")
    if weights is not None:
        expect_kind("resample", x, "float")
        if weights.dtype is not x.dtype or len(weights.shape) != 2 or weights.shape[1] is not index(extent):
            fail(f"resample: weights are {show(weights)} for data {show(x)}, expected (taps, {extent}) of its type")
    return (TensorType(x.dtype, (*x.shape[:axis], index(extent), *x.shape[axis + 1 :])),)


def _define(types: Types, attrs: Attrs) -> Program:
    """y[i] = Σ x[(step·i + offset) // unit + t] · w[t, i]; the first and last elements stand for those outside."""
    (out,) = _type(types, attrs)
    d = Definition("resample", types, ("x", "weights"))
    x, weights = d.input(0), d.optional(1)
    axis = axis_of("resample", integer(attrs, "axis"), len(x.shape))
    size = known("resample", x.shape[axis], "an extent")
    step, unit, offset = (integer(attrs, key) for key in ("step", "unit", "offset"))

    def place(i: Scalar, t: int) -> Scalar:
        begin = offset + t * unit
        first, end = -(begin // step), -((begin - size * unit) // step)
        at = floordiv(i * step + begin, index(unit))
        if end < integer(attrs, "extent"):
            at = Select(less(i, end), at, index(size - 1))
        return Select(less(i, first), index(0), at) if first > 0 else at

    def body(*at: Scalar) -> Scalar:
        def tap(t: int) -> Scalar:
            return x[_replaced(at, axis, place(at[axis], t))]

        if weights is None:
            return tap(0)
        wide = accumulator(x.dtype)
        terms = [
            times(cast(wide, tap(t)), cast(wide, weights[t, at[axis]]))
            for t in range(known("resample", weights.shape[0], "the number of taps"))
        ]
        return cast(out.dtype, functools.reduce(plus, terms))

    return d.program(d.compute("y", out.shape, body))


def _replaced(at: Sequence[Scalar], axis: int, place: Scalar) -> list[Scalar]:
    return [*at[:axis], place, *at[axis + 1 :]]


register(
    Operator(
        "resample",
        ("x", "weights?"),
        _type,
        _define,
        {
            "axis": Attribute("int"),
            "extent": Attribute("int"),
            "step": Attribute("int", 1),
            "offset": Attribute("int", 0),
            "unit": Attribute("int", 1),
        },
    )
)
