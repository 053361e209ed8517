"""Operators that move elements and compute nothing: reshape, transpose, slice, concat, pad, expand, tile, trilu."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import (
    Scalar,
    Select,
    as_int,
    const,
    floordiv,
    floormod,
    greater_equal,
    index,
    less,
    maximum,
    minimum,
    mul,
)
from tcompiler.ops.convolution import padded
from tcompiler.ops.define import Definition, select
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import (
    ONE,
    Shape,
    axes_of,
    axis_of,
    broadcast,
    elements,
    fail,
    flag,
    integer,
    integers,
    number,
    present,
    required,
    same_dtype,
    show,
    show_shape,
    word,
)


def _reshape_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, target = required(types, 0), integers(attrs, "shape")
    if any(e < -1 for e in target) or target.count(-1) > 1:
        fail(f"reshape: shape is {target}, expected extents of at least 0, and -1 at most once")
    fixed = math.prod(e for e in target if e != -1)
    constant, symbols = 1, [e for e in x.shape if as_int(e) is None]
    for extent in x.shape:
        constant *= 1 if (value := as_int(extent)) is None else value
    rest: Scalar = ONE
    fits = not symbols and constant == fixed
    if -1 in target:
        fits = fixed != 0 and constant % fixed == 0
        rest = mul(elements(symbols), constant // fixed) if fits else ONE
    if not fits:
        fail(
            f"reshape: {show(x)} has {elements(x.shape)!r} elements and cannot become {list(target)}"
            f"{'' if -1 in target else f', which has {fixed}'}"
        )
    return (TensorType(x.dtype, tuple(rest if e == -1 else index(e) for e in target)),)


def regroup(source: Shape, target: Shape, at: Sequence[Scalar]) -> list[Scalar]:
    """Indices of one shape from those of another with the same elements in row-major order.

    Extents are matched from the front into the shortest groups of equal products, so that only axes that are really
    split or merged cost a division.

    Args:
        source: The shape to be read.
        target: The shape whose indices are known.
        at: One index per extent of the target.
    """
    if as_int(elements(source)) == 0:
        return [index(0) for _ in source]
    result: list[Scalar] = [index(0)] * len(source)
    left = [k for k, e in enumerate(source) if e is not ONE]
    right = [k for k, e in enumerate(target) if e is not ONE]
    while left or right:
        taken, given = [left.pop(0)] if left else [], [right.pop(0)] if right else []
        while elements(source[k] for k in taken) is not elements(target[k] for k in given):
            a, b = as_int(elements(source[k] for k in taken)), as_int(elements(target[k] for k in given))
            if a is None or b is None or not left or not right:
                # Symbolic extents that do not pair up go into one last group.
                taken, left, given, right = taken + left, [], given + right, []
                break
            if a < b:
                taken.append(left.pop(0))
            else:
                given.append(right.pop(0))
        linear: Scalar = index(0)
        for k in given:
            linear = linear * target[k] + at[k]
        stride: Scalar = ONE
        for n, k in reversed(list(enumerate(taken))):
            place = floordiv(linear, stride)
            result[k] = place if n == 0 else floormod(place, source[k])
            stride = mul(source[k], stride)
    return result


def _reshape(types: Types, attrs: Attrs) -> Program:
    (out,) = _reshape_type(types, attrs)
    d = Definition("reshape", types, ("x",))
    x = d.input(0)
    return d.program(d.compute("y", out.shape, lambda *at: x[regroup(x.shape, out.shape, at)]))


register(Operator("reshape", ("x",), _reshape_type, _reshape, {"shape": Attribute("ints")}))


def _transpose_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, perm = required(types, 0), integers(attrs, "perm")
    if sorted(perm) != list(range(len(x.shape))):
        fail(f"transpose: perm is {perm} for {show(x)}, expected an order of the axes 0 to {len(x.shape) - 1}")
    return (TensorType(x.dtype, tuple(x.shape[p] for p in perm)),)


def _transpose(types: Types, attrs: Attrs) -> Program:
    (out,) = _transpose_type(types, attrs)
    d = Definition("transpose", types, ("x",))
    x, perm = d.input(0), integers(attrs, "perm")
    return d.program(d.compute("y", out.shape, lambda *at: x[[at[perm.index(k)] for k in range(len(perm))]]))


register(Operator("transpose", ("x",), _transpose_type, _transpose, {"perm": Attribute("ints")}))


def _concat_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    parts = present(types)
    dtype = same_dtype("concat", parts)
    rank = len(parts[0].shape)
    axis = axis_of("concat", integer(attrs, "axis"), rank)
    total: Scalar = index(0)
    for t in parts:
        if len(t.shape) != rank or any(
            e is not f for k, (e, f) in enumerate(zip(t.shape, parts[0].shape, strict=True)) if k != axis
        ):
            fail(f"concat: {show(parts[0])} and {show(t)}: expected equal extents except along axis {axis}")
        total = total + t.shape[axis]
    return (TensorType(dtype, (*parts[0].shape[:axis], total, *parts[0].shape[axis + 1 :])),)


def _concat(types: Types, attrs: Attrs) -> Program:
    (out,) = _concat_type(types, attrs)
    d = Definition("concat", types, ("a",))
    axis = axis_of("concat", integer(attrs, "axis"), len(out.shape))
    parts = [p for p in d.inputs() if as_int(p.shape[axis]) != 0] or d.inputs()[:1]
    starts: list[Scalar] = [index(0)]
    for p in parts:
        starts.append(starts[-1] + p.shape[axis])

    def body(*at: Scalar) -> Scalar:
        def choose(first: int, last: int) -> Scalar:
            # halves, for the depth of an expression to stay small with many parts
            if last - first == 1:
                return parts[first][[*at[:axis], at[axis] - starts[first], *at[axis + 1 :]]]
            middle = (first + last) // 2
            return Select(less(at[axis], starts[middle]), choose(first, middle), choose(middle, last))

        return choose(0, len(parts))

    return d.program(d.compute("y", out.shape, body))


register(Operator("concat", ("parts*",), _concat_type, _concat, {"axis": Attribute("int")}))


def _slice_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = required(types, 0)
    shape = list(x.shape)
    axes, starts, sizes, steps = (integers(attrs, key) for key in ("axes", "starts", "sizes", "steps"))
    steps = steps or (1,) * len(axes)
    if not len(axes) == len(starts) == len(sizes) == len(steps):
        fail(f"slice: axes {axes}, starts {starts}, sizes {sizes} and steps {steps} differ in length")
    axes_of("slice", axes, len(x.shape))
    for axis, start, size, step in zip(axes, starts, sizes, steps, strict=True):
        extent = as_int(x.shape[axis])
        last = start + step * (size - 1)
        if (
            size < 0
            or step == 0
            or (size and (start < 0 or last < 0))
            or (size and extent is not None and max(start, last) >= extent)
        ):
            fail(
                f"slice: {size} elements from {start} in steps of {step} leave axis {axis} of {show(x)}; expected a "
                f"range within it"
            )
        shape[axis] = index(size)
    return (TensorType(x.dtype, tuple(shape)),)


def _slice(types: Types, attrs: Attrs) -> Program:
    (out,) = _slice_type(types, attrs)
    d = Definition("slice", types, ("x",))
    x = d.input(0)
    axes, starts, steps = integers(attrs, "axes"), integers(attrs, "starts"), integers(attrs, "steps")
    moves = dict(
        zip((a % len(x.shape) for a in axes), zip(starts, steps or (1,) * len(axes), strict=True), strict=True)
    )

    def body(*at: Scalar) -> Scalar:
        source = []
        for k, i in enumerate(at):
            start, step = moves.get(k, (0, 1))
            source.append(i * step + start if step > 0 else index(start) - i * -step)
        return x[source]

    return d.program(d.compute("y", out.shape, body))


register(
    Operator(
        "slice",
        ("x",),
        _slice_type,
        _slice,
        {
            "axes": Attribute("ints"),
            "starts": Attribute("ints"),
            "sizes": Attribute("ints"),
            "steps": Attribute("ints", ()),
        },
    )
)

_PAD_MODES = ("constant", "edge", "reflect", "wrap")


def _pad_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, pads, mode = required(types, 0), integers(attrs, "pads"), word(attrs, "mode")
    rank = len(x.shape)
    if len(pads) != 2 * rank:
        fail(f"pad: pads is {pads} for {show(x)}, expected {2 * rank} integers (all before, then all after)")
    if mode not in _PAD_MODES:
        fail(f"pad: mode is '{mode}', expected one of {', '.join(_PAD_MODES)}")
    shape = []
    for k, extent in enumerate(x.shape):
        before, after = pads[k], pads[rank + k]
        size = as_int(extent)
        if size is not None:
            if size + before + after < 0:
                fail(f"pad: pads {pads} take more than axis {k} of {show(x)} has")
            kept = size + min(before, 0) + min(after, 0)
            if (mode == "reflect" and max(before, after) >= max(size, 1)) or (
                mode in ("edge", "wrap") and size == 0 and max(before, after) > 0
            ):
                fail(f"pad: pads {pads} with mode '{mode}' reach past axis {k} of {show(x)} with {kept} elements")
        shape.append(extent + (before + after))
    return (TensorType(x.dtype, tuple(shape)),)


def _pad(types: Types, attrs: Attrs) -> Program:
    (out,) = _pad_type(types, attrs)
    d = Definition("pad", types, ("x",))
    x, pads, mode = d.input(0), integers(attrs, "pads"), word(attrs, "mode")
    rank = len(x.shape)
    before, after = pads[:rank], pads[rank:]
    if mode == "constant":
        return d.program(padded(d, x, before, after, number(attrs, "value"), "y"))

    def source(i: Scalar, k: int) -> Scalar:
        extent, at = x.shape[k], i - before[k]
        if before[k] <= 0 and after[k] <= 0:
            return at
        if mode == "wrap":
            return floormod(at, extent)
        if mode == "edge":
            at = maximum(at, 0) if before[k] > 0 else at
            return minimum(at, extent - 1) if after[k] > 0 else at
        if before[k] > 0:
            at = Select(less(at, 0), index(0) - at, at)
        return Select(less(at, extent), at, (extent - 1) * 2 - at) if after[k] > 0 else at

    return d.program(d.compute("y", out.shape, lambda *at: x[[source(i, k) for k, i in enumerate(at)]]))


register(
    Operator(
        "pad",
        ("x",),
        _pad_type,
        _pad,
        {"pads": Attribute("ints"), "mode": Attribute("str", "constant"), "value": Attribute("float", 0.0)},
    )
)


def _expand_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, target = required(types, 0), tuple(map(index, integers(attrs, "shape")))
    if broadcast("expand", (x, TensorType(x.dtype, target))) != target:
        fail(f"expand: {show(x)} does not broadcast to {show_shape(target)}")
    return (TensorType(x.dtype, target),)


def _expand(types: Types, attrs: Attrs) -> Program:
    (out,) = _expand_type(types, attrs)
    d = Definition("expand", types, ("x",))
    x = d.input(0)
    lead = len(out.shape) - len(x.shape)

    def body(*at: Scalar) -> Scalar:
        return x[[at[lead + k] if e is out.shape[lead + k] else index(0) for k, e in enumerate(x.shape)]]

    return d.program(d.compute("y", out.shape, body))


register(Operator("expand", ("x",), _expand_type, _expand, {"shape": Attribute("ints")}))


def _tile_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, repeats = required(types, 0), integers(attrs, "repeats")
    if len(repeats) != len(x.shape) or any(r < 0 for r in repeats):
        fail(f"tile: repeats is {repeats} for {show(x)}, expected {len(x.shape)} integers of at least 0")
    return (TensorType(x.dtype, tuple(e * r for e, r in zip(x.shape, repeats, strict=True))),)


def _tile(types: Types, attrs: Attrs) -> Program:
    (out,) = _tile_type(types, attrs)
    d = Definition("tile", types, ("x",))
    x, repeats = d.input(0), integers(attrs, "repeats")
    return d.program(
        d.compute(
            "y",
            out.shape,
            lambda *at: x[[i if r == 1 else floormod(i, e) for i, r, e in zip(at, repeats, x.shape, strict=True)]],
        )
    )


register(Operator("tile", ("x",), _tile_type, _tile, {"repeats": Attribute("ints")}))


def _trilu_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = required(types, 0)
    if len(x.shape) < 2:
        fail(f"trilu: input is {show(x)}, expected rank 2 or more")
    return (TensorType(x.dtype, x.shape),)


def _trilu(types: Types, attrs: Attrs) -> Program:
    """Keeps the elements on one side of a diagonal and the diagonal itself, zero elsewhere."""
    d = Definition("trilu", types, ("x",))
    x, k = d.input(0), integer(attrs, "k")

    def body(*at: Scalar) -> Scalar:
        row, column = at[-2] + k, at[-1]
        kept = greater_equal(column, row) if flag(attrs, "upper") else greater_equal(row, column)
        return select(kept, x[at], const(x.dtype, 0))

    return d.program(d.compute("y", x.shape, body))


register(Operator("trilu", ("x",), _trilu_type, _trilu, {"k": Attribute("int", 0), "upper": Attribute("bool", True)}))
