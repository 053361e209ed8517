"""Tensors that lie within others: slices are looked at where they are, and parts of a concatenation are written there.

A slice along axes, and a concatenation, copy nothing if whoever reads the one and writes the other walks memory in the
steps of the tensor around. Grouping decides which nodes are such views, `ChooseLayouts` gives all tensors of one memory
one order of axes, and `PlaceParts` gives them layouts with the steps of the outermost tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node, TensorType
from tcompiler.ir.layout import Layout, permutation
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Select, as_int, index, sub
from tcompiler.transform.definitions import Definitions, Operators, is_view


def slice_starts(program: Program) -> tuple[int, ...] | None:
    """Where the only output begins in the only input, if it is a box of it; None for other programs."""
    scope = _only_scope(program)
    if scope is None or len(program.inputs) != 1 or not isinstance(scope.values[0], Load):
        return None
    return _starts(scope.values[0], scope)


def part_starts(program: Program) -> dict[str, tuple[int, ...]] | None:
    """Where each input begins in the only output, if they are its parts, side by side; None for other programs."""
    scope = _only_scope(program)
    if scope is None or not isinstance(scope.values[0], Select):
        return None
    shapes = {t.name: t.shape for t in program.inputs}
    found: dict[str, tuple[int, ...]] = {}
    axis = [k for k, a in enumerate(scope.axes) if _splits(scope.values[0], a)]
    whole = [as_int(a.extent) for a in scope.axes]
    if len(axis) != 1 or None in whole:
        return None
    pending: list[tuple[Scalar, int, int]] = [(scope.values[0], 0, whole[axis[0]] or 0)]
    while pending:
        value, first, last = pending.pop()
        if isinstance(value, Select):
            cond = value.cond
            middle = as_int(cond.b) if isinstance(cond, Binary) and cond.op == "lt" else None
            if not isinstance(cond, Binary) or cond.a is not scope.axes[axis[0]] or middle is None:
                return None
            if not first < middle < last:
                return None
            pending += [(value.a, first, middle), (value.b, middle, last)]
            continue
        starts = _starts(value, scope) if isinstance(value, Load) else None
        if not isinstance(value, Load) or starts is None or value.buffer in found:
            return None
        sizes = [as_int(e) for e in shapes[value.buffer]]
        mine = [last - first if k == axis[0] else e for k, e in enumerate(whole)]
        if sizes != mine or [-s for s in starts] != [first if k == axis[0] else 0 for k in range(len(whole))]:
            return None
        found[value.buffer] = tuple(-s for s in starts)
    return found if len(found) == len(program.inputs) else None


def _only_scope(program: Program) -> Compute | None:
    if len(program.scopes) != 1 or len(program.outputs) != 1:
        return None
    scope = program.scopes[0]
    return scope if isinstance(scope, Compute) and not scope.reduce_axes and len(scope.values) == 1 else None


def _starts(load: Load, scope: Compute) -> tuple[int, ...] | None:
    """What is added to every axis of a scope in a load's indices; None where they are anything else."""
    if len(load.indices) != len(scope.axes):
        return None
    result = []
    for i, a in zip(load.indices, scope.axes, strict=True):
        apart = as_int(i) if as_int(a.extent) == 1 and as_int(i) is not None else as_int(simplify(sub(i, a)))
        if apart is None:
            return None
        result.append(apart)
    return tuple(result)


def _splits(value: Scalar, axis: Scalar) -> bool:
    return isinstance(value, Select) and isinstance(value.cond, Binary) and value.cond.a is axis


def axes_order(type_: TensorType) -> tuple[int, ...]:
    """The axis at each position in memory, of a type whose layout only orders and pads axes."""
    if type_.layout is None:
        return tuple(range(len(type_.shape)))
    inputs = type_.layout.map.inputs
    return tuple(next(k for k, v in enumerate(inputs) if v is o) for o in type_.layout.map.outputs)


def strides_of(type_: TensorType) -> tuple[int, ...]:
    """Elements from one index to the next along each axis."""
    physical = type_.dims() if type_.layout is None else TensorType(type_.dtype, type_.layout.shape).dims()
    result = [0] * len(type_.shape)
    step = 1
    for axis, extent in zip(reversed(axes_order(type_)), reversed(physical), strict=True):
        result[axis] = step
        step *= extent
    return tuple(result)


def with_strides(type_: TensorType, order: Sequence[int], strides: Sequence[int]) -> TensorType | None:
    """A type whose axes lie in an order, so many elements apart.

    Args:
        type_: Element type and logical shape.
        order: The axis at each position in memory, outermost first.
        strides: Elements from one index to the next along each axis.

    Returns:
        The type; None where the steps of an axis are no multiple of those of the next one inside, or too short.
    """
    dims = type_.dims()
    physical = {a: dims[a] for a in order}
    inner: int | None = None
    single: int | None = None
    for a in reversed(order):
        if dims[a] == 1:
            single = a if single is None else single
            continue
        if inner is None:
            if strides[a] != 1:
                if single is None:
                    return None
                physical[single] = strides[a]  # one column of several
        else:
            if strides[a] % strides[inner] or strides[a] // strides[inner] < dims[inner]:
                return None
            physical[inner] = strides[a] // strides[inner]
        inner = a
    shape = tuple(index(physical[a]) for a in order)
    plain = TensorType(type_.dtype, type_.shape)
    if tuple(order) == tuple(range(len(dims))) and shape == plain.shape:
        return plain
    return TensorType(type_.dtype, type_.shape, Layout(permutation(order), shape, False))


def reshaped(before: TensorType, after: TensorType) -> TensorType | None:
    """The type of a tensor in a memory that is looked at in another shape.

    Args:
        before: A type whose axes lie in order, perhaps with gaps.
        after: The element type and shape of the other look.

    Returns:
        The type with the layout that makes it the same elements; None where there is none.
    """
    old = [(e, s) for e, s in zip(before.dims(), strides_of(before), strict=True) if e != 1]
    dims = after.dims()
    strides = [0] * len(dims)
    at = 0
    k = 0
    while k < len(dims):
        if dims[k] == 1:
            k += 1
            continue
        if at >= len(old):
            return None
        # the fewest dimensions on both sides that hold equally many elements
        size, wanted, last = old[at][0], dims[k], k + 1
        while size != wanted:
            if size < wanted:
                at += 1
                if at >= len(old) or old[at - 1][1] != old[at][0] * old[at][1]:
                    return None
                size *= old[at][0]
            else:
                if last >= len(dims):
                    return None
                wanted *= dims[last]
                last += 1
        step = old[at][1]
        for m in reversed(range(k, last)):
            strides[m] = step
            step *= dims[m]
        at, k = at + 1, last
    if at != len(old):
        return None
    return with_strides(after, range(len(dims)), strides)


@dataclass(frozen=True, slots=True)
class Within:
    """Where a tensor lies: in the memory of another one, so many elements from its beginning."""

    around: str
    offset: int


def places(graph: Graph, definitions: Definitions, view: str) -> dict[str, Within]:
    """Where the tensors of views lie.

    Args:
        graph: A graph with groups and layouts.
        definitions: The definitions of its nodes.
        view: The group of nodes that make no kernel.

    Returns:
        For every value that is no memory of its own, the value that it lies in: the source of a slice or a reshape,
        the concatenation that it is a part of.
    """
    result: dict[str, Within] = {}
    for node in graph.nodes:
        if node.group != view:
            continue
        program = definitions.program(node)
        parts = part_starts(program)
        if parts is not None:
            strides = strides_of(node.outputs[0].type)
            for inner, value in definitions.operand_names(node).items():
                result[value] = Within(node.outputs[0].name, _flat(parts[inner], strides))
            continue
        source = node.inputs[0]
        starts = None if is_view(program) else slice_starts(program)
        offset = 0 if starts is None else _flat(starts, strides_of(definitions.types[source]))
        result[node.outputs[0].name] = Within(source, offset)
    return result


def _flat(starts: Sequence[int], strides: Sequence[int]) -> int:
    return sum(a * s for a, s in zip(starts, strides, strict=True))


@dataclass(frozen=True)
class PlaceParts:
    """Gives parts of concatenations, slices, and what looks at them in another shape, the steps of their memory.

    Attributes:
        operators: The operator table.
        view: The group of nodes that make no kernel.
    """

    operators: Operators
    view: str
    name: str = "place-parts"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """Sets the layouts of tensors that lie within others."""
        definitions = Definitions(graph, self.operators)
        types = dict(definitions.types)
        views = [n for n in graph.nodes if n.group == self.view]
        for node in reversed(views):
            if part_starts(definitions.program(node)) is not None:
                for part in node.inputs:
                    types[part] = self._along(types[part], types[node.outputs[0].name])
        for node in views:
            program = definitions.program(node)
            out = node.outputs[0].name
            source = types[node.inputs[0]]
            if is_view(program):
                if source.layout is not None:
                    changed = reshaped(source, types[out])
                    assert changed is not None, "grouping leaves other reshapes to kernels"
                    types[out] = changed
            elif part_starts(program) is None:
                types[out] = self._along(types[out], source)
        if all(types[v.name] is v.type for n in graph.nodes for v in n.outputs):
            return graph
        nodes = tuple(replace(n, outputs=tuple(replace(v, type=types[v.name]) for v in n.outputs)) for n in graph.nodes)
        outputs = tuple(replace(v, type=types.get(v.name, v.type)) for v in graph.outputs)
        return replace(graph, nodes=nodes, outputs=outputs)

    def _along(self, type_: TensorType, around: TensorType) -> TensorType:
        """A type with the steps of the tensor that it lies in."""
        changed = with_strides(type_, axes_order(around), strides_of(around))
        assert changed is not None, "the steps of a tensor around are those of its axes"
        return changed


def readers(graph: Graph) -> Mapping[str, Sequence[Node]]:
    """The nodes that read each value."""
    result: dict[str, list[Node]] = {}
    for n in graph.nodes:
        for name in dict.fromkeys(n.inputs):
            result.setdefault(name, []).append(n)
    return result
