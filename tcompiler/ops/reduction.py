"""Reductions over axes, plain and with a map before or after, and arg-reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, Select, as_int, const, index
from tcompiler.ops.define import Definition, accumulator, binary, cast, minus, over, plus, select, times, unary
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import (
    ONE,
    axes_of,
    axis_of,
    elements,
    expect_kind,
    fail,
    flag,
    integer,
    integers,
    required,
    show,
)


@dataclass(frozen=True, slots=True)
class Split:
    """A shape taken apart into the axes that a reduction keeps and those that it reduces.

    Attributes:
        shape: The result's extents: kept axes, and with keepdims a 1 for every reduced one.
        over: The reduced extents.
        axes: The reduced axes.
        rank: Rank of the source.
        keepdims: Whether reduced axes stay as extents of 1.
    """

    shape: tuple[Scalar, ...]
    over: tuple[Scalar, ...]
    axes: tuple[int, ...]
    rank: int
    keepdims: bool

    def at(self, indices: Sequence[Scalar]) -> list[Scalar]:
        """The source's indices from those of the result followed by those of the reduction."""
        points, reduced = list(indices[: len(self.shape)]), iter(indices[len(self.shape) :])
        kept = iter(points)
        result = []
        for a in range(self.rank):
            if a in self.axes:
                if self.keepdims:
                    next(kept)
                result.append(next(reduced))
            else:
                result.append(next(kept))
        return result


def split(op: str, shape: Sequence[Scalar], axes: Sequence[int], keepdims: bool) -> Split:
    """Takes a shape apart; axes may be negative."""
    chosen = axes_of(op, axes, len(shape))
    kept = tuple(ONE if a in chosen else e for a, e in enumerate(shape) if keepdims or a not in chosen)
    return Split(kept, tuple(shape[a] for a in chosen), chosen, len(shape), keepdims)


def count(extents: Sequence[Scalar], dtype: dt.DType) -> Scalar:
    """The number of points of a box as a value."""
    total = elements(extents)
    value = as_int(total)
    return cast(dtype, total) if value is None else const(dtype, value)


def scaled(total: Scalar, extents: Sequence[Scalar]) -> Scalar:
    """A sum divided by the number of points: a multiplication by the reciprocal for floats."""
    n = elements(extents)
    value = as_int(n)
    if not total.dtype.is_float:
        return binary("truncdiv", total, count(extents, total.dtype))
    if value is None:
        return over(total, cast(total.dtype, n))
    # An empty mean is 0 · inf = NaN, as in numpy.
    return times(total, const(total.dtype, 1 / value if value else float("inf")))


@dataclass(frozen=True, slots=True)
class _Form:
    kind: str
    reducer: str
    before: Callable[[Scalar], Scalar] = lambda x: x
    after: Callable[[Scalar, Sequence[Scalar]], Scalar] = lambda total, extents: total
    wide: bool = True


def _square(x: Scalar) -> Scalar:
    return times(x, x)


_FORMS = {
    "sum": _Form("number", "sum"),
    "prod": _Form("number", "prod"),
    "amax": _Form("number", "max", wide=False),
    "amin": _Form("number", "min", wide=False),
    "all": _Form("bool", "all", wide=False),
    "any": _Form("bool", "any", wide=False),
    "mean": _Form("number", "sum", after=scaled),
    "sum_square": _Form("number", "sum", _square),
    "l1_norm": _Form("number", "sum", lambda x: unary("abs", x)),
    "l2_norm": _Form("float", "sum", _square, lambda total, extents: unary("sqrt", total)),
    "log_sum": _Form("float", "sum", after=lambda total, extents: unary("log", total)),
}


def _register_form(name: str, form: _Form) -> None:
    def rule(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
        x = required(types, 0)
        expect_kind(name, x, form.kind)
        return (TensorType(x.dtype, split(name, x.shape, integers(attrs, "axes"), flag(attrs, "keepdims")).shape),)

    def definition(types: Types, attrs: Attrs) -> Program:
        d = Definition(name, types, ("x",))
        x = d.input(0)
        parts = split(name, x.shape, integers(attrs, "axes"), flag(attrs, "keepdims"))
        wide = accumulator(x.dtype) if form.wide else x.dtype

        def body(*at: Scalar) -> Scalar:
            return form.before(cast(wide, x[parts.at(at)]))

        def finish(*at: Scalar) -> Scalar:
            return cast(x.dtype, form.after(total[at], parts.over))

        total = d.reduce(form.reducer, "total", parts.shape, parts.over, body)
        variables = tuple(index(0) for _ in parts.shape)
        # A scope of its own only where there is something to do after the reduction.
        if finish(*variables) is total[variables]:
            return d.program(total)
        return d.program(d.compute("y", parts.shape, finish))

    attributes = {"axes": Attribute("ints"), "keepdims": Attribute("bool", False)}
    register(Operator(name, ("x",), rule, definition, attributes))


for _name, _form in _FORMS.items():
    _register_form(_name, _form)


def _log_sum_exp_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = required(types, 0)
    expect_kind("log_sum_exp", x, "float")
    parts = split("log_sum_exp", x.shape, integers(attrs, "axes"), flag(attrs, "keepdims"))
    return (TensorType(x.dtype, parts.shape),)


def _log_sum_exp(types: Types, attrs: Attrs) -> Program:
    """The maximum is taken out first, so that no exponential overflows; an infinite maximum is not subtracted."""
    d = Definition("log_sum_exp", types, ("x",))
    x = d.input(0)
    parts = split("log_sum_exp", x.shape, integers(attrs, "axes"), flag(attrs, "keepdims"))
    wide = accumulator(x.dtype)
    most = d.reduce("max", "most", parts.shape, parts.over, lambda *at: cast(wide, x[parts.at(at)]))
    shift = d.compute(
        "shift",
        parts.shape,
        lambda *at: Select(unary("isinf", most[at]), const(wide, 0.0), most[at]),
    )
    n = len(parts.shape)

    def power(*at: Scalar) -> Scalar:
        # nothing is greater than the maximum, if it is finite: said again, so that code for exp knows it
        return unary("exp", binary("min", minus(cast(wide, x[parts.at(at)]), shift[at[:n]]), const(wide, 0.0)))

    total = d.reduce("sum", "total", parts.shape, parts.over, power)

    def finish(*at: Scalar) -> Scalar:
        value = plus(unary("log", total[at]), shift[at])
        return cast(x.dtype, Select(unary("isinf", most[at]), most[at], value))

    y = d.compute("y", parts.shape, finish)
    return d.program(y)


register(
    Operator(
        "log_sum_exp",
        ("x",),
        _log_sum_exp_type,
        _log_sum_exp,
        {"axes": Attribute("ints"), "keepdims": Attribute("bool", False)},
    )
)


def _arg_type(name: str) -> Callable[[Types, Attrs], tuple[TensorType, ...]]:
    def rule(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
        x = required(types, 0)
        expect_kind(name, x, "number")
        axis = axis_of(name, integer(attrs, "axis"), len(x.shape))
        if as_int(x.shape[axis]) == 0:
            fail(f"{name}: input is {show(x)}, expected at least one element along axis {axis}")
        return (TensorType(dt.i64, split(name, x.shape, (axis,), flag(attrs, "keepdims")).shape),)

    return rule


def _arg_definition(name: str) -> Callable[[Types, Attrs], Program]:
    def definition(types: Types, attrs: Attrs) -> Program:
        """The extreme value first, then the first (or last) place where it is: two plain reductions.

        A place is counted in i32 where that holds the extent, as vectors then have as many places as values.
        """
        d = Definition(name, types, ("x",))
        x = d.input(0)
        axis = axis_of(name, integer(attrs, "axis"), len(x.shape))
        parts = split(name, x.shape, (axis,), flag(attrs, "keepdims"))
        last, extent = flag(attrs, "last"), as_int(x.shape[axis])
        place = dt.i32 if extent is not None and extent < 1 << 31 else dt.i64
        nowhere = const(place, -1 if last else (1 << (place.bits - 1)) - 1)
        n = len(parts.shape)
        best = d.reduce(name.removeprefix("arg"), "best", parts.shape, parts.over, lambda *i: x[parts.at(i)])

        def found(*i: Scalar) -> Scalar:
            value, extreme = x[parts.at(i)], best[i[:n]]
            here = binary("eq", value, extreme)
            if value.dtype.is_float:
                # a NaN is more extreme than any number
                here = binary("or", here, unary("isnan", value))
            return select(here, cast(place, i[-1]), nowhere)

        at = d.reduce("max" if last else "min", "at", parts.shape, parts.over, found)
        if place is dt.i64:
            return d.program(at)
        return d.program(d.compute("y", parts.shape, lambda *i: cast(dt.i64, at[i])))

    return definition


for _name in ("argmax", "argmin"):
    register(
        Operator(
            _name,
            ("x",),
            _arg_type(_name),
            _arg_definition(_name),
            {"axis": Attribute("int"), "keepdims": Attribute("bool", False), "last": Attribute("bool", False)},
        )
    )
