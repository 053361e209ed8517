"""Layouts of the tensors inside a program: they follow those of its outputs, then those of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tcompiler.ir.expr.folds import Fold, folded
from tcompiler.ir.expr.grammar import Compute, Program, Tensor, tensors
from tcompiler.ir.layout import IndexMap, Layout, permutation
from tcompiler.ir.scalar.canonical import linear
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, as_int, parameter, postorder
from tcompiler.ir.scalar.rewrite import free_vars

_LINE = 16
"""Elements of a cache line: fewer channels are not worth being moved side by side."""


def propagate(program: Program, layouts: Mapping[str, Layout], lines: bool = True) -> dict[str, Layout]:
    """Gives inner tensors the axis order of what they are computed to or from, axis by axis.

    Args:
        program: A program.
        layouts: Layouts of its inputs and outputs; orders of axes are propagated, other layouts stay where they are.
        lines: Whether padded data of planes may keep an image's lines.

    Returns:
        Layouts of inputs, outputs and inner tensors.
    """
    result = dict(layouts)
    table = tensors(program)
    fixed = {t.name for t in program.inputs} | set(program.outputs)
    orders = {name: order for name, layout in layouts.items() if (order := _order(layout)) is not None}

    def set_order(name: str, order: tuple[int, ...]) -> None:
        if name in fixed or name in orders or len(table[name].shape) != len(order):
            return
        orders[name] = order
        shape = table[name].shape
        result[name] = Layout(permutation(order), tuple(shape[a] for a in order), False)

    folds = {name: fold for name, fold in folded(program).items() if name not in fixed}
    for scope in reversed(program.scopes):
        if not isinstance(scope, Compute):
            continue
        name = scope.tensors[0].name
        order = orders.get(name)
        for load in _aligned(scope) if order and not scope.reduce_axes else ():
            set_order(load.buffer, order or ())
        if name in folds:
            fold, reader = folds[name], folds[name].reader
            order = orders.get(reader)
            result[name] = _folded_layout(fold, table[name].shape, order)
        for load in _contracted(scope, folds.get(name), table) if order and scope.reduce_axes else ():
            kept = _by_lines(load, order or (), program, orders) if lines else order
            set_order(load.buffer, kept or ())
    for scope in program.scopes:
        if isinstance(scope, Compute):
            for load in _aligned(scope):
                if load.buffer in orders:
                    for t in scope.tensors:
                        set_order(t.name, orders[load.buffer])
    return result


def _order(layout: Layout) -> tuple[int, ...] | None:
    """The source axis at each physical position, if the layout only reorders axes."""
    inputs = layout.map.inputs
    if len(layout.map.outputs) != len(inputs) or any(o not in inputs for o in layout.map.outputs):
        return None
    return tuple(inputs.index(o) for o in layout.map.outputs if isinstance(o, Var))


def _folded_layout(fold: Fold, shape: tuple[Scalar, ...], order: Sequence[int] | None) -> Layout:
    """The layout of a folded tensor: its elements lie where its reader's do, the reader's axes being in some order."""
    inputs = tuple(parameter(f"d{n}") for n in range(len(shape)))
    point = [inputs[p[0]] if len(p) == 1 else inputs[p[0]] * shape[p[1]] + inputs[p[1]] for p in fold.parts]
    sizes = [shape[p[0]] if len(p) == 1 else shape[p[0]] * shape[p[1]] for p in fold.parts]
    axes = range(len(point)) if order is None else order
    return Layout(IndexMap(inputs, tuple(point[a] for a in axes)), tuple(sizes[a] for a in axes), False)


def _contracted(scope: Compute, fold: Fold | None, table: Mapping[str, Tensor]) -> list[Load]:
    """Loads of tensors that have a reduced axis in place of one of the scope's, and its other axes one by one.

    What is summed over then lies where the sums will, side by side: channels last, for a convolution's padded data.
    Of the two axes of a fold (groups and filters) the outer one may be in the reduced axis' index.
    """
    parts = fold.parts if fold is not None else tuple((k,) for k in range(len(scope.axes)))
    found = []
    for n in postorder(*scope.values):
        if not isinstance(n, Load) or len(n.indices) != len(parts):
            continue
        other: list[frozenset[Var]] = []
        for i, dims in zip(n.indices, parts, strict=True):
            used, mine = free_vars(i), [scope.axes[p] for p in dims]
            if mine[-1] not in used and as_int(mine[-1].extent) != 1 and not _slides(i, mine[0], len(dims)):
                other.append(used - {mine[0]})
        if len(other) == 1 and len(other[0]) == 1 and other[0] <= set(scope.reduce_axes):
            (channels,) = other[0]
            size = as_int(channels.extent)
            if size is None or size >= _LINE:
                found.append(n)
    return found


def _by_lines(
    load: Load, order: tuple[int, ...], program: Program, orders: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """The order of axes for what a sum reads: its last axis goes before that of an image's lines, if it has some.

    What lies in lines is moved as lines then, each with those of all channels behind it, and not transposed, and a step
    of the sum meets neighbours that others meet again. Narrow numbers are multiplied in pairs of channels.
    """
    plain = tuple(range(len(order)))
    inputs = {t.name for t in program.inputs}
    made = [s for s in program.scopes if isinstance(s, Compute) and s.tensors[0].name == load.buffer]
    moved = [x for s in made for x in _aligned(s) if x.buffer in inputs]
    lines = len(order) > 3 and order[-2] == plain[-1] and all(orders.get(x.buffer, plain) == plain for x in moved)
    slides = all(isinstance(v, Var) for i in load.indices for v in linear(i).terms)  # and not by phases
    wide = load.dtype.is_float and load.dtype.bytes > 2
    return (*order[:-2], order[-1], order[-2]) if moved and lines and slides and wide else order


def _slides(i: Scalar, outer: Var, parts: int) -> bool:
    """Whether an index goes along with the outer one of two axes in steps that overlap, as windows do."""
    return parts == 2 and linear(i).terms.get(outer) == 1


def _aligned(scope: Compute) -> list[Load]:
    """Loads of tensors whose dimensions are the scope's axes, one by one."""
    found = []
    for n in postorder(*scope.values):
        if isinstance(n, Load) and len(n.indices) == len(scope.axes):
            pairs = zip(n.indices, scope.axes, strict=True)
            if all(i is a or a in free_vars(i) or as_int(a.extent) == 1 for i, a in pairs):
                found.append(n)
    return found
