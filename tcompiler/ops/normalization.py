"""Normalizations and softmaxes, computed in the accumulator type and rounded once."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.ir.dtypes import DType
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Binary, Reducer, Scalar, Select, Var, as_int, const, floordiv, index
from tcompiler.ir.scalar.reducers import smallest
from tcompiler.ops.define import (
    Definition,
    Handle,
    accumulator,
    binary,
    broadcast_read,
    cast,
    inside,
    minus,
    over,
    plus,
    select,
    times,
    unary,
)
from tcompiler.ops.reduction import scaled, split
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import (
    axis_of,
    broadcast,
    expect_kind,
    fail,
    integer,
    known,
    number,
    present,
    required,
    same_dtype,
    show,
    show_shape,
)


def _float_type(op: str, types: Types) -> TensorType:
    """The type of the data, for operators on floats whose inputs share one type."""
    same_dtype(op, present(types))
    x = required(types, 0)
    expect_kind(op, x, "float")
    return TensorType(x.dtype, x.shape)


def _softmax_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = _float_type("softmax", types)
    axis_of("softmax", integer(attrs, "axis"), len(x.shape))
    return (x,)


def _softmax(types: Types, attrs: Attrs) -> Program:
    """exp(x - max) / sum(exp(x - max)); the maximum keeps the exponentials from overflowing."""
    return _exponentials("softmax", types, attrs, log=False)


def _log_softmax(types: Types, attrs: Attrs) -> Program:
    """(x - max) - log(sum(exp(x - max)))."""
    return _exponentials("log_softmax", types, attrs, log=True)


def _greatest(dtypes: Sequence[DType]) -> Reducer:
    """The greatest number; NaN is passed over, as the exponential of a NaN is one whatever is taken off it."""
    (dtype,) = dtypes
    a, b = Var("a0", dtype, None), Var("b0", dtype, None)
    return Reducer((a,), (b,), (Select(Binary("gt", b, a), b, a),), (smallest(dtype),))


def _exponentials(name: str, types: Types, attrs: Attrs, log: bool) -> Program:
    d = Definition(name, types, ("x",))
    x = d.input(0)
    axis = axis_of(name, integer(attrs, "axis"), len(x.shape))
    parts = split(name, x.shape, (axis,), keepdims=False)
    wide = accumulator(x.dtype)

    def kept(at: Sequence[Scalar]) -> list[Scalar]:
        return [*at[:axis], *at[axis + 1 :]]

    def largest(*at: Scalar) -> tuple[Scalar]:
        return (cast(wide, x[parts.at(at)]),)

    (most,) = d.reduce_tuple(_greatest, ("most",), parts.shape, parts.over, largest)

    def centered(at: Sequence[Scalar]) -> Scalar:
        return minus(cast(wide, x[at]), most[kept(at)])

    def power(at: Sequence[Scalar]) -> Scalar:
        # nothing is greater than the maximum: said again, so that code for exp knows it
        return unary("exp", binary("min", centered(at), const(wide, 0.0)))

    if log:
        total = d.reduce("sum", "total", parts.shape, parts.over, lambda *at: power(parts.at(at)))
        # one logarithm for a row
        shift = d.compute("shift", parts.shape, lambda *at: unary("log", total[at]))
        y = d.compute("y", x.shape, lambda *at: cast(x.dtype, minus(centered(at), shift[kept(at)])))
        return d.program(y)
    e = d.compute("e", x.shape, lambda *at: power(at))
    total = d.reduce("sum", "total", parts.shape, parts.over, lambda *at: e[parts.at(at)])
    # one division for a row: no total is less than 1
    share = d.compute("share", parts.shape, lambda *at: over(const(wide, 1.0), total[at]))
    y = d.compute("y", x.shape, lambda *at: cast(x.dtype, times(e[at], share[kept(at)])))
    return d.program(y)


register(Operator("softmax", ("x",), _softmax_type, _softmax, {"axis": Attribute("int", -1)}))
register(Operator("log_softmax", ("x",), _softmax_type, _log_softmax, {"axis": Attribute("int", -1)}))


def _batch_norm_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = _float_type("batch_norm", types)
    if len(x.shape) < 2:
        fail(f"batch_norm: data is {show(x)}, expected rank 2 or more (N, C, …)")
    for t, what in zip(present(types)[1:], ("scale", "bias", "mean", "variance"), strict=True):
        if t.shape != (x.shape[1],):
            fail(f"batch_norm: {what} is {show(t)} for data {show(x)}, expected one value per channel")
    return (x,)


def _batch_norm(types: Types, attrs: Attrs) -> Program:
    """(x - mean) · (scale · rsqrt(variance + epsilon)) + bias, with stored statistics."""
    d = Definition("batch_norm", types, ("x", "scale", "bias", "mean", "variance"))
    x, scale, bias, mean, variance = d.inputs()
    wide = accumulator(x.dtype)

    def factor(c: Scalar) -> Scalar:
        spread = plus(cast(wide, variance[c]), number(attrs, "epsilon"))
        return times(cast(wide, scale[c]), unary("rsqrt", spread))

    f = d.compute("factor", (x.shape[1],), factor)

    def body(*at: Scalar) -> Scalar:
        c = at[1]
        return cast(x.dtype, plus(times(minus(cast(wide, x[at]), cast(wide, mean[c])), f[c]), cast(wide, bias[c])))

    return d.program(d.compute("y", x.shape, body))


register(
    Operator(
        "batch_norm",
        ("x", "scale", "bias", "mean", "variance"),
        _batch_norm_type,
        _batch_norm,
        {"epsilon": Attribute("float", 1e-5)},
    )
)


def _moments(d: Definition, x: Handle, axes: Sequence[int], epsilon: float) -> tuple[Handle, Handle]:
    """Mean and 1 / sqrt(variance + epsilon) over some axes, in two passes (no cancellation)."""
    parts = split("layer_norm", x.shape, axes, keepdims=False)
    wide = accumulator(x.dtype)
    n = len(parts.shape)
    total = d.reduce("sum", "total", parts.shape, parts.over, lambda *at: cast(wide, x[parts.at(at)]))
    mean = d.compute("mean", parts.shape, lambda *at: scaled(total[at], parts.over))

    def square(*at: Scalar) -> Scalar:
        c = minus(cast(wide, x[parts.at(at)]), mean[at[:n]])
        return times(c, c)

    squares = d.reduce("sum", "squares", parts.shape, parts.over, square)
    inverse = d.compute(
        "inverse",
        parts.shape,
        lambda *at: unary("rsqrt", plus(scaled(squares[at], parts.over), epsilon)),
    )
    return mean, inverse


def _affine(value: Scalar, scale: Scalar | None, bias: Scalar | None) -> Scalar:
    if scale is not None:
        value = times(value, cast(value.dtype, scale))
    return value if bias is None else plus(value, cast(value.dtype, bias))


def _trailing_type(op: str, types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    """Scale and bias broadcast to the data."""
    x = _float_type(op, types)
    axis_of(op, integer(attrs, "axis"), len(x.shape))
    for t, what in zip(types[1:], ("scale", "bias"), strict=False):
        if t is not None and (len(t.shape) > len(x.shape) or broadcast(op, (x, t)) != x.shape):
            fail(f"{op}: {what} is {show(t)}, expected a shape that broadcasts to {show_shape(x.shape)}")
    return (x,)


def _layer_norm_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return _trailing_type("layer_norm", types, attrs)


def _layer_norm(types: Types, attrs: Attrs) -> Program:
    """Ba, Kiros and Hinton, Layer Normalization, 2016: over the axis and all after it."""
    d = Definition("layer_norm", types, ("x", "scale", "bias"))
    x, scale, bias = d.input(0), d.optional(1), d.optional(2)
    axis = axis_of("layer_norm", integer(attrs, "axis"), len(x.shape))
    mean, inverse = _moments(d, x, range(axis, len(x.shape)), number(attrs, "epsilon"))

    def body(*at: Scalar) -> Scalar:
        value = times(minus(cast(mean.dtype, x[at]), mean[at[:axis]]), inverse[at[:axis]])
        s = None if scale is None else broadcast_read(scale, at, x.shape)
        b = None if bias is None else broadcast_read(bias, at, x.shape)
        return cast(x.dtype, _affine(value, s, b))

    return d.program(d.compute("y", x.shape, body))


register(
    Operator(
        "layer_norm",
        ("x", "scale?", "bias?"),
        _layer_norm_type,
        _layer_norm,
        {"axis": Attribute("int", -1), "epsilon": Attribute("float", 1e-5)},
    )
)


def _rms_norm_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return _trailing_type("rms_norm", types, attrs)


def _rms_norm(types: Types, attrs: Attrs) -> Program:
    """Zhang and Sennrich, Root Mean Square Layer Normalization, 2019: over the axis and all after it."""
    d = Definition("rms_norm", types, ("x", "scale"))
    x, scale = d.input(0), d.optional(1)
    axis = axis_of("rms_norm", integer(attrs, "axis"), len(x.shape))
    parts = split("rms_norm", x.shape, range(axis, len(x.shape)), keepdims=False)
    wide = accumulator(x.dtype)

    def square(*at: Scalar) -> Scalar:
        value = cast(wide, x[parts.at(at)])
        return times(value, value)

    squares = d.reduce("sum", "squares", parts.shape, parts.over, square)
    inverse = d.compute(
        "inverse",
        parts.shape,
        lambda *at: unary("rsqrt", plus(scaled(squares[at], parts.over), number(attrs, "epsilon"))),
    )

    def body(*at: Scalar) -> Scalar:
        value = times(cast(wide, x[at]), inverse[at[:axis]])
        return cast(x.dtype, _affine(value, None if scale is None else broadcast_read(scale, at, x.shape), None))

    return d.program(d.compute("y", x.shape, body))


register(
    Operator(
        "rms_norm",
        ("x", "scale?"),
        _rms_norm_type,
        _rms_norm,
        {"axis": Attribute("int", -1), "epsilon": Attribute("float", 1e-5)},
    )
)


def _group_norm_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = _float_type("group_norm", types)
    if len(x.shape) < 3:
        fail(f"group_norm: data is {show(x)}, expected rank 3 or more (N, C, spatial…)")
    channels, groups = known("group_norm", x.shape[1], "the number of channels"), integer(attrs, "groups")
    if groups < 1 or channels % groups:
        fail(f"group_norm: data is {show(x)}, groups {groups}: expected a divisor of {channels} channels")
    for t, what in zip(types[1:], ("scale", "bias"), strict=True):
        if t is not None and t.shape != (x.shape[1],):
            fail(f"group_norm: {what} is {show(t)} for data {show(x)}, expected one value per channel")
    return (x,)


def _group_norm(types: Types, attrs: Attrs) -> Program:
    """Wu and He, Group Normalization, 2018; one group per channel is instance normalization."""
    d = Definition("group_norm", types, ("x", "scale", "bias"))
    x, scale, bias = d.input(0), d.optional(1), d.optional(2)
    groups = integer(attrs, "groups")
    size = known("group_norm", x.shape[1], "the number of channels") // groups
    spatial = x.shape[2:]
    wide = accumulator(x.dtype)
    shape, box = (x.shape[0], index(groups)), (*([] if size == 1 else [index(size)]), *spatial)

    def read(n: Scalar, g: Scalar, reduced: Sequence[Scalar]) -> Scalar:
        if size == 1:
            return cast(wide, x[[n, g, *reduced]])
        return cast(wide, x[[n, g * size + reduced[0], *reduced[1:]]])

    total = d.reduce("sum", "total", shape, box, lambda n, g, *r: read(n, g, r))
    mean = d.compute("mean", shape, lambda *at: scaled(total[at], box))

    def square(n: Scalar, g: Scalar, *r: Scalar) -> Scalar:
        c = minus(read(n, g, r), mean[n, g])
        return times(c, c)

    squares = d.reduce("sum", "squares", shape, box, square)
    inverse = d.compute(
        "inverse", shape, lambda *at: unary("rsqrt", plus(scaled(squares[at], box), number(attrs, "epsilon")))
    )

    def body(*at: Scalar) -> Scalar:
        c = at[1]
        g = floordiv(c, index(size))
        value = times(minus(cast(wide, x[at]), mean[at[0], g]), inverse[at[0], g])
        return cast(x.dtype, _affine(value, None if scale is None else scale[c], None if bias is None else bias[c]))

    return d.program(d.compute("y", x.shape, body))


register(
    Operator(
        "group_norm",
        ("x", "scale?", "bias?"),
        _group_norm_type,
        _group_norm,
        {"groups": Attribute("int"), "epsilon": Attribute("float", 1e-5)},
    )
)


def _lrn_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = _float_type("lrn", types)
    if len(x.shape) < 2:
        fail(f"lrn: data is {show(x)}, expected rank 2 or more (N, C, …)")
    if integer(attrs, "size") < 1:
        fail(f"lrn: size is {integer(attrs, 'size')}, expected at least 1")
    return (x,)


def _raised(base: Scalar, exponent: float) -> Scalar:
    """A power: by square roots where the exponent is one, two or three quarters, in a fifth of a function's time."""
    if exponent not in (0.25, 0.5, 0.75):
        return binary("pow", base, exponent)
    root = unary("sqrt", base)
    if exponent == 0.5:
        return root
    return times(root, unary("sqrt", root)) if exponent == 0.75 else unary("sqrt", root)


def _lrn(types: Types, attrs: Attrs) -> Program:
    """Krizhevsky, Sutskever and Hinton, ImageNet Classification, 2012: across neighbouring channels."""
    d = Definition("lrn", types, ("x",))
    x = d.input(0)
    size = integer(attrs, "size")
    channels, wide = as_int(x.shape[1]), accumulator(x.dtype)
    before, after = (size - 1) // 2, size // 2
    if channels is not None:
        # a window that is wider than there are channels has nothing but zeros there
        before, after = min(before, max(channels - 1, 0)), min(after, max(channels - 1, 0))

    def square(*at: Scalar) -> Scalar:
        n, c, *rest, k = at
        channel = c + k - before
        value = cast(wide, x[[n, channel, *rest]])
        return select(inside(channel, x.shape[1]), times(value, value), 0.0)

    squares = d.reduce("sum", "squares", x.shape, (index(before + after + 1),), square)

    def body(*at: Scalar) -> Scalar:
        base = plus(times(squares[at], number(attrs, "alpha") / size), number(attrs, "bias"))
        return cast(x.dtype, over(cast(wide, x[at]), _raised(base, number(attrs, "beta"))))

    return d.program(d.compute("y", x.shape, body))


register(
    Operator(
        "lrn",
        ("x",),
        _lrn_type,
        _lrn,
        {
            "size": Attribute("int"),
            "alpha": Attribute("float", 1e-4),
            "beta": Attribute("float", 0.75),
            "bias": Attribute("float", 1.0),
        },
    )
)


def _lp_normalize_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = _float_type("lp_normalize", types)
    axis_of("lp_normalize", integer(attrs, "axis"), len(x.shape))
    if integer(attrs, "p") not in (1, 2):
        fail(f"lp_normalize: p is {integer(attrs, 'p')}, expected 1 or 2")
    return (x,)


def _lp_normalize(types: Types, attrs: Attrs) -> Program:
    """x over its norm along an axis; 0 where the norm is 0."""
    d = Definition("lp_normalize", types, ("x",))
    x = d.input(0)
    axis = axis_of("lp_normalize", integer(attrs, "axis"), len(x.shape))
    parts = split("lp_normalize", x.shape, (axis,), keepdims=False)
    wide, p = accumulator(x.dtype), integer(attrs, "p")

    def power(*at: Scalar) -> Scalar:
        value = cast(wide, x[parts.at(at)])
        return times(value, value) if p == 2 else unary("abs", value)

    total = d.reduce("sum", "total", parts.shape, parts.over, power)
    norm = total
    if p == 2:
        norm = d.compute("norm", parts.shape, lambda *at: unary("sqrt", total[at]))

    def body(*at: Scalar) -> Scalar:
        length = norm[[*at[:axis], *at[axis + 1 :]]]
        return cast(x.dtype, select(binary("eq", length, 0.0), 0.0, over(cast(wide, x[at]), length)))

    return d.program(d.compute("y", x.shape, body))


register(
    Operator(
        "lp_normalize",
        ("x",),
        _lp_normalize_type,
        _lp_normalize,
        {"axis": Attribute("int", -1), "p": Attribute("int", 2)},
    )
)
