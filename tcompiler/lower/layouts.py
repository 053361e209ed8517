"""Layouts of the tensors inside a program: they follow those of its outputs, then those of its inputs."""

from __future__ import annotations

from collections.abc import Mapping

from tcompiler.ir.expr.grammar import Compute, Program, tensors
from tcompiler.ir.layout import Layout, permutation
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, as_int, postorder
from tcompiler.ir.scalar.rewrite import free_vars


def propagate(program: Program, layouts: Mapping[str, Layout]) -> dict[str, Layout]:
    """Gives inner tensors the axis order of what they are computed to or from, axis by axis.

    Args:
        program: A program.
        layouts: Layouts of its inputs and outputs; orders of axes are propagated, other layouts stay where they are.

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

    for scope in reversed(program.scopes):
        if isinstance(scope, Compute) and (order := orders.get(scope.tensors[0].name)):
            for load in _contracted(scope) if scope.reduce_axes else _aligned(scope):
                set_order(load.buffer, order)
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


def _contracted(scope: Compute) -> list[Load]:
    """Loads of tensors that have a reduced axis in place of one of the scope's, and its other axes one by one.

    What is summed over then lies where the sums will, side by side: channels last, for a convolution's padded data.
    """
    found = []
    for n in postorder(*scope.values):
        if isinstance(n, Load) and len(n.indices) == len(scope.axes):
            pairs = list(zip(n.indices, scope.axes, strict=True))
            other = [i for i, a in pairs if a not in free_vars(i) and as_int(a.extent) != 1]
            if len(other) == 1 and other[0] in scope.reduce_axes and _fills_a_line(other[0]):
                found.append(n)
    return found


def _aligned(scope: Compute) -> list[Load]:
    """Loads of tensors whose dimensions are the scope's axes, one by one."""
    found = []
    for n in postorder(*scope.values):
        if isinstance(n, Load) and len(n.indices) == len(scope.axes):
            pairs = zip(n.indices, scope.axes, strict=True)
            if all(i is a or a in free_vars(i) or as_int(a.extent) == 1 for i, a in pairs):
                found.append(n)
    return found


def _fills_a_line(axis: Scalar) -> bool:
    extent = as_int(axis.extent) if isinstance(axis, Var) and axis.extent is not None else None
    return extent is None or extent >= 16
