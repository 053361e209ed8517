"""Operators that read or write at computed places.

An index that is negative counts from the end. Reads outside are clamped to the nearest element and writes outside are
dropped, so that no index of a caller's reaches foreign memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Program, Scatter
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, Select, as_int, equal, index, less, maximum, minimum
from tcompiler.ir.scalar.reducers import named_reducer
from tcompiler.ops.define import Definition, Handle, cast, make_axes, select
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import (
    axis_of,
    fail,
    integer,
    known,
    present,
    required,
    same_dtype,
    show,
    show_shape,
    word,
)


def wrapped(at: Scalar, extent: Scalar) -> Scalar:
    """A possibly negative index counted from the front, as i64."""
    place = cast(dt.i64, at)
    return Select(less(place, 0), place + extent, place)


def clamped(at: Scalar, extent: Scalar) -> Scalar:
    """A possibly negative index counted from the front and brought into range."""
    return minimum(maximum(wrapped(at, extent), 0), extent - 1)


def _check_indices(op: str, t: TensorType) -> None:
    if t.dtype not in (dt.i32, dt.i64):
        fail(f"{op}: indices are {show(t)}, expected i32 or i64")


def _check_readable(op: str, x: TensorType, axes: Sequence[int], places: Sequence[Scalar]) -> None:
    """Refuses reads from axes without an element: there is none to clamp an index to."""
    for axis in axes:
        if as_int(x.shape[axis]) == 0 and all(as_int(e) != 0 for e in places):
            fail(f"{op}: {show(x)} has no element along axis {axis} to read")


def _gather_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, at = present(types)
    _check_indices("gather", at)
    axis = axis_of("gather", integer(attrs, "axis"), len(x.shape))
    _check_readable("gather", x, (axis,), at.shape)
    return (TensorType(x.dtype, (*x.shape[:axis], *at.shape, *x.shape[axis + 1 :])),)


def _gather(types: Types, attrs: Attrs) -> Program:
    """numpy.take: slices of x along an axis."""
    (out,) = _gather_type(types, attrs)
    d = Definition("gather", types, ("x", "at"))
    x, at = d.inputs()
    axis = axis_of("gather", integer(attrs, "axis"), len(x.shape))
    n = len(at.shape)

    def body(*i: Scalar) -> Scalar:
        place = clamped(at[i[axis : axis + n]], x.shape[axis])
        return x[[*i[:axis], place, *i[axis + n :]]]

    return d.program(d.compute("y", out.shape, body))


register(Operator("gather", ("x", "at"), _gather_type, _gather, {"axis": Attribute("int", 0)}))


def _gather_elements_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, at = present(types)
    _check_indices("gather_elements", at)
    axis = axis_of("gather_elements", integer(attrs, "axis"), len(x.shape))
    if len(at.shape) != len(x.shape) or any(
        known("gather_elements", e, "an extent") > known("gather_elements", f, "an extent")
        for k, (e, f) in enumerate(zip(at.shape, x.shape, strict=True))
        if k != axis
    ):
        fail(
            f"gather_elements: indices are {show(at)} for {show(x)}, expected the same rank and no larger extents "
            f"except along axis {axis}"
        )
    _check_readable("gather_elements", x, (axis,), at.shape)
    return (TensorType(x.dtype, at.shape),)


def _gather_elements(types: Types, attrs: Attrs) -> Program:
    """numpy.take_along_axis."""
    d = Definition("gather_elements", types, ("x", "at"))
    x, at = d.inputs()
    axis = axis_of("gather_elements", integer(attrs, "axis"), len(x.shape))

    def body(*i: Scalar) -> Scalar:
        return x[[*i[:axis], clamped(at[i], x.shape[axis]), *i[axis + 1 :]]]

    return d.program(d.compute("y", at.shape, body))


register(
    Operator("gather_elements", ("x", "at"), _gather_elements_type, _gather_elements, {"axis": Attribute("int", 0)})
)


def _tuple_axes(op: str, x: TensorType, at: TensorType, batch: int) -> int:
    """How many axes of x an index tuple names."""
    if not at.shape:
        fail(f"{op}: indices are {show(at)}, expected rank 1 or more")
    depth = known(op, at.shape[-1], "the last extent of the indices")
    if not 0 <= batch < max(len(at.shape), 1) or batch + depth > len(x.shape) or x.shape[:batch] != at.shape[:batch]:
        fail(
            f"{op}: indices are {show(at)} for {show(x)} with {batch} batch axes; expected equal batch extents and at "
            f"most {len(x.shape) - batch} indices in a tuple"
        )
    return depth


def _gather_nd_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, at = present(types)
    _check_indices("gather_nd", at)
    batch = integer(attrs, "batch_dims")
    depth = _tuple_axes("gather_nd", x, at, batch)
    _check_readable("gather_nd", x, range(batch, batch + depth), at.shape[:-1])
    return (TensorType(x.dtype, (*at.shape[:-1], *x.shape[batch + depth :])),)


def _gather_nd(types: Types, attrs: Attrs) -> Program:
    (out,) = _gather_nd_type(types, attrs)
    d = Definition("gather_nd", types, ("x", "at"))
    x, at = d.inputs()
    batch = integer(attrs, "batch_dims")
    depth = _tuple_axes("gather_nd", required(types, 0), required(types, 1), batch)
    lead = len(at.shape) - 1

    def body(*i: Scalar) -> Scalar:
        places = [clamped(at[[*i[:lead], index(k)]], x.shape[batch + k]) for k in range(depth)]
        return x[[*i[:batch], *places, *i[lead:]]]

    return d.program(d.compute("y", out.shape, body))


register(Operator("gather_nd", ("x", "at"), _gather_nd_type, _gather_nd, {"batch_dims": Attribute("int", 0)}))

_COMBINERS = {"none": None, "add": "sum", "mul": "prod", "max": "max", "min": "min"}


def _check_scatter(op: str, types: Types, attrs: Attrs) -> tuple[TensorType, TensorType, TensorType]:
    x, at, updates = present(types)
    same_dtype(op, (x, updates))
    _check_indices(op, at)
    if word(attrs, "reduction") not in _COMBINERS:
        fail(f"{op}: reduction is '{word(attrs, 'reduction')}', expected one of {', '.join(_COMBINERS)}")
    if x.dtype is dt.bool_ and word(attrs, "reduction") != "none":
        fail(f"{op}: reduction '{word(attrs, 'reduction')}' of {show(x)}, expected numbers")
    return x, at, updates


def _scatter_elements_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, at, updates = _check_scatter("scatter_elements", types, attrs)
    axis_of("scatter_elements", integer(attrs, "axis"), len(x.shape))
    if at.shape != updates.shape or len(at.shape) != len(x.shape):
        fail(
            f"scatter_elements: indices {show(at)} and updates {show(updates)} for {show(x)}, expected equal shapes "
            f"of the data's rank"
        )
    return (TensorType(x.dtype, x.shape),)


def _scattered(
    d: Definition,
    x: Handle,
    box: Sequence[Scalar],
    reduction: str,
    place: Callable[[Sequence[Scalar]], Sequence[Scalar]],
    value: Callable[[Sequence[Scalar]], Scalar],
) -> Handle:
    """x with the values of a box of points written or combined at their places."""
    axes = make_axes(box, [f"i{k}" for k in range(len(box))])
    named = _COMBINERS[reduction]
    combiner = None if named is None else named_reducer(named, x.dtype)
    out = d.declare("y", x.dtype, x.shape)
    d.scope(Scatter(out.tensor, x.tensor.name, axes, tuple(place(axes)), value(axes), combiner))
    return out


def _scatter_elements(types: Types, attrs: Attrs) -> Program:
    d = Definition("scatter_elements", types, ("x", "at", "updates"))
    x, at, updates = d.inputs()
    axis = axis_of("scatter_elements", integer(attrs, "axis"), len(x.shape))
    y = _scattered(
        d,
        x,
        at.shape,
        word(attrs, "reduction"),
        lambda i: [*i[:axis], wrapped(at[i], x.shape[axis]), *i[axis + 1 :]],
        lambda i: updates[i],
    )
    return d.program(y)


register(
    Operator(
        "scatter_elements",
        ("x", "at", "updates"),
        _scatter_elements_type,
        _scatter_elements,
        {"axis": Attribute("int", 0), "reduction": Attribute("str", "none")},
    )
)


def _scatter_nd_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, at, updates = _check_scatter("scatter_nd", types, attrs)
    depth = _tuple_axes("scatter_nd", x, at, 0)
    expected = (*at.shape[:-1], *x.shape[depth:])
    if updates.shape != expected:
        fail(f"scatter_nd: updates are {show(updates)}, expected the shape {show_shape(expected)}")
    return (TensorType(x.dtype, x.shape),)


def _scatter_nd(types: Types, attrs: Attrs) -> Program:
    d = Definition("scatter_nd", types, ("x", "at", "updates"))
    x, at, updates = d.inputs()
    depth = _tuple_axes("scatter_nd", required(types, 0), required(types, 1), 0)
    lead = len(at.shape) - 1
    y = _scattered(
        d,
        x,
        updates.shape,
        word(attrs, "reduction"),
        lambda i: [*(wrapped(at[[*i[:lead], index(k)]], x.shape[k]) for k in range(depth)), *i[lead:]],
        lambda i: updates[i],
    )
    return d.program(y)


register(
    Operator(
        "scatter_nd",
        ("x", "at", "updates"),
        _scatter_nd_type,
        _scatter_nd,
        {"reduction": Attribute("str", "none")},
    )
)


def _one_hot_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    at, values = present(types)
    rank = len(at.shape) + 1
    axis = axis_of("one_hot", integer(attrs, "axis"), rank)
    if integer(attrs, "depth") < 0:
        fail(f"one_hot: depth is {integer(attrs, 'depth')}, expected at least 0")
    if values.shape != (index(2),):
        fail(f"one_hot: values are {show(values)}, expected two: off and on")
    if at.dtype is dt.bool_:
        fail(f"one_hot: indices are {show(at)}, expected numbers")
    return (TensorType(values.dtype, (*at.shape[:axis], index(integer(attrs, "depth")), *at.shape[axis:])),)


def _one_hot(types: Types, attrs: Attrs) -> Program:
    """`on` where an index (negative ones counted from the end) names the place, `off` elsewhere."""
    (out,) = _one_hot_type(types, attrs)
    d = Definition("one_hot", types, ("at", "values"))
    at, values = d.inputs()
    axis = axis_of("one_hot", integer(attrs, "axis"), len(out.shape))

    def body(*i: Scalar) -> Scalar:
        place = wrapped(at[[*i[:axis], *i[axis + 1 :]]], out.shape[axis])
        return select(equal(place, i[axis]), values[index(1)], values[index(0)])

    return d.program(d.compute("y", out.shape, body))


register(
    Operator(
        "one_hot",
        ("at", "values"),
        _one_hot_type,
        _one_hot,
        {"depth": Attribute("int"), "axis": Attribute("int", -1)},
    )
)
