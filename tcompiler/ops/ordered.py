"""Operators along an axis in order: cumulative sums and products, and the largest or smallest elements."""

from __future__ import annotations

from collections.abc import Callable

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Sort
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, as_int, const, index, less, loop_var, maximum, minimum
from tcompiler.ops.define import Definition, accumulator, cast, make_axes, plus, select, times
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import axis_of, expect_kind, fail, flag, integer, required, show


def _cumulative_type(name: str) -> Callable[[Types, Attrs], tuple[TensorType, ...]]:
    def rule(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
        x = required(types, 0)
        expect_kind(name, x, "number")
        axis_of(name, integer(attrs, "axis"), len(x.shape))
        return (TensorType(x.dtype, x.shape),)

    return rule


def _cumulative(name: str, neutral: int) -> Callable[[Types, Attrs], Program]:
    def definition(types: Types, attrs: Attrs) -> Program:
        """A scan whose state is the running value; the results after each step are stacked."""
        d = Definition(name, types, ("x",))
        x = d.input(0)
        axis = axis_of(name, integer(attrs, "axis"), len(x.shape))
        exclusive, reverse = flag(attrs, "exclusive"), flag(attrs, "reverse")
        wide, extent = accumulator(x.dtype), x.shape[axis]
        rest = (*x.shape[:axis], *x.shape[axis + 1 :])
        step = loop_var("t", extent)
        start = d.compute("start", rest, lambda *i: const(wide, neutral))
        state = d.declare("state", wide, rest)
        after = d.declare("after", wide, rest)
        stacked = d.declare("stacked", wide, (extent, *rest))
        axes = make_axes(rest, [f"i{k}" for k in range(len(rest))])
        place: Scalar = extent - 1 - step if reverse else step
        value = cast(wide, x[[*axes[:axis], place, *axes[axis:]]])
        combined = plus(state[axes], value) if name == "cumsum" else times(state[axes], value)
        states, results = [state.tensor], [after.tensor.name]
        if exclusive:
            # what the state was before the step is stacked
            states.insert(0, d.declare("before", wide, rest).tensor)
            results.insert(0, state.tensor.name)
        scope = Compute((after.tensor,), axes, (), None, (combined,))
        last = [d.declare("last", wide, rest).tensor] if exclusive else []
        d.scope(
            Scan(
                (stacked.tensor, *last),
                step,
                tuple(states),
                (start.tensor.name,) * len(states),
                (scope,),
                tuple(results),
                (True, False)[: len(states)],
            )
        )

        def body(*i: Scalar) -> Scalar:
            at = extent - 1 - i[axis] if reverse else i[axis]
            return cast(x.dtype, stacked[[at, *i[:axis], *i[axis + 1 :]]])

        return d.program(d.compute("y", x.shape, body))

    return definition


for _name, _neutral in (("cumsum", 0), ("cumprod", 1)):
    register(
        Operator(
            _name,
            ("x",),
            _cumulative_type(_name),
            _cumulative(_name, _neutral),
            {
                "axis": Attribute("int"),
                "exclusive": Attribute("bool", False),
                "reverse": Attribute("bool", False),
            },
        )
    )


def _top_k_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, k = required(types, 0), integer(attrs, "k")
    expect_kind("top_k", x, "number")
    axis = axis_of("top_k", integer(attrs, "axis"), len(x.shape))
    extent = as_int(x.shape[axis])
    if k < 0 or (extent is not None and k > extent):
        fail(f"top_k: k is {k} for axis {axis} of {show(x)}, expected 0 to its extent")
    shape = (*x.shape[:axis], index(k), *x.shape[axis + 1 :])
    return TensorType(x.dtype, shape), TensorType(dt.i64, shape)


def _top_k(types: Types, attrs: Attrs) -> Program:
    """The first k of a sort; of equal elements the one that comes first."""
    value_type, _ = _top_k_type(types, attrs)
    d = Definition("top_k", types, ("x",))
    x = d.input(0)
    axis = axis_of("top_k", integer(attrs, "axis"), len(x.shape))
    values = d.declare("y", x.dtype, value_type.shape)
    at = d.declare("at", dt.i64, value_type.shape)
    d.scope(Sort((values.tensor, at.tensor), x.tensor.name, axis, flag(attrs, "largest")))
    return d.program(values, at)


register(
    Operator(
        "top_k",
        ("x",),
        _top_k_type,
        _top_k,
        {"k": Attribute("int"), "axis": Attribute("int", -1), "largest": Attribute("bool", True)},
    )
)


def _reverse_sequence_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, lengths = required(types, 0), required(types, 1)
    time = axis_of("reverse_sequence", integer(attrs, "time_axis"), len(x.shape))
    batch = axis_of("reverse_sequence", integer(attrs, "batch_axis"), len(x.shape))
    if time == batch or lengths.shape != (x.shape[batch],) or not lengths.dtype.is_integer:
        fail(
            f"reverse_sequence: lengths are {show(lengths)} for {show(x)}, time axis {time} and batch axis {batch}; "
            f"expected two axes and one integer for each element of the batch"
        )
    return (TensorType(x.dtype, x.shape),)


def _reverse_sequence(types: Types, attrs: Attrs) -> Program:
    """The first lengths[b] steps of each sequence in reverse, the others in place."""
    d = Definition("reverse_sequence", types, ("x", "lengths"))
    x, lengths = d.inputs()
    time = axis_of("reverse_sequence", integer(attrs, "time_axis"), len(x.shape))
    batch = axis_of("reverse_sequence", integer(attrs, "batch_axis"), len(x.shape))

    def body(*i: Scalar) -> Scalar:
        length = minimum(maximum(cast(dt.i64, lengths[i[batch]]), 0), x.shape[time])
        at = select(less(i[time], length), length - 1 - i[time], i[time])
        return x[[*i[:time], at, *i[time + 1 :]]]

    return d.program(d.compute("y", x.shape, body))


register(
    Operator(
        "reverse_sequence",
        ("x", "lengths"),
        _reverse_sequence_type,
        _reverse_sequence,
        {"time_axis": Attribute("int", 0), "batch_axis": Attribute("int", 1)},
    )
)
