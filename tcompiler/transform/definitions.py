"""What graph passes read off operators' definitions, so that no pass asks for an operator's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.graph.grammar import Graph, Node, TensorType, values
from tcompiler.ir.graph.operators import OperatorLike
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Binary, Const, Load, Scalar, Var, as_int, index, postorder, sub
from tcompiler.ir.scalar.reducers import reducer_name
from tcompiler.ir.scalar.rewrite import substitute

Operators = Callable[[str], OperatorLike]
KEPT = 4096
"""Definitions that are kept from pass to pass."""
_made: dict[tuple[object, ...], Program] = {}


class Definitions:
    """The definitions of a graph's nodes; nodes with one operator, types and attributes share one, in all passes.

    Args:
        graph: The graph.
        operators: The operator table.
    """

    def __init__(self, graph: Graph, operators: Operators) -> None:
        self.types: Mapping[str, TensorType] = dict(values(graph))
        self._operators = operators
        self._programs: dict[str, Program] = {}

    def program(self, node: Node) -> Program:
        """The definition of one node at its types."""
        known = self._programs.get(node.name)
        if known is None:
            types = [self.types[i] if i else None for i in node.inputs]
            # repr tells 1 from True and 0.0 from -0.0
            shapes = (None if t is None else (t.dtype.name, t.shape) for t in types)
            key = (self._operators, node.op, repr(node.attrs), *shapes)
            known = _made.get(key)
            if known is None:
                if len(_made) >= KEPT:
                    _made.clear()
                known = _made[key] = self._operators(node.op).define(types, dict(node.attrs))
            self._programs[node.name] = known
        return known

    def operand_names(self, node: Node) -> dict[str, str]:
        """Names of the definition's inputs to names of the graph's values."""
        present = [i for i in node.inputs if i]
        return dict(zip((t.name for t in self.program(node).inputs), present, strict=True))


def is_map(program: Program) -> bool:
    """Whether every scope is pointwise."""
    return all(isinstance(s, Compute) and not s.reduce_axes for s in program.scopes)


def is_view(program: Program) -> bool:
    """Whether the output holds its only input's elements in the same row-major order."""
    if len(program.scopes) != 1 or len(program.inputs) != 1:
        return False
    scope = program.scopes[0]
    if not isinstance(scope, Compute) or scope.reduce_axes or not isinstance(scope.values[0], Load):
        return False
    load = scope.values[0]
    source = program.inputs[0]
    if load.buffer != source.name or len(scope.tensors) != 1:
        return False
    size = _elements(source.shape)
    if size is None or size != _elements(scope.tensors[0].shape):
        return False
    single: dict[Scalar, Scalar] = {a: index(0) for a in scope.axes if as_int(a.extent) == 1}
    apart = sub(_flat(load.indices, source.shape), _flat(scope.axes, scope.tensors[0].shape))
    return simplify(substitute(apart, single)) is index(0)


def contraction(program: Program) -> Compute | None:
    """The first scope, if it sums products of two tensors' elements over one axis and nothing else reduces."""
    first, *rest = program.scopes
    if not isinstance(first, Compute) or len(first.reduce_axes) != 1 or len(first.values) != 1:
        return None
    if any(not isinstance(s, Compute) or s.reduce_axes for s in rest) or first.reducer is None:
        return None
    value = first.values[0]
    if reducer_name(first.reducer) != "sum" or not isinstance(value, Binary) or value.op != "mul":
        return None
    return first if isinstance(value.a, Load) and isinstance(value.b, Load) else None


def factors(scope: Compute) -> tuple[Load, ...]:
    """The two elements whose products a contraction sums."""
    value = scope.values[0]
    assert isinstance(value, Binary)
    return tuple(v for v in (value.a, value.b) if isinstance(v, Load))


def permutes(program: Program) -> bool:
    """Whether the output holds the elements of the only input, its axes in another order."""
    if len(program.scopes) != 1 or len(program.inputs) != 1:
        return False
    scope = program.scopes[0]
    if not isinstance(scope, Compute) or scope.reduce_axes or len(scope.values) != 1:
        return False
    load = scope.values[0]
    return isinstance(load, Load) and len(load.indices) == len(scope.axes) == len({*load.indices, *scope.axes})


def _elements(shape: Sequence[Scalar]) -> int | None:
    total = 1
    for extent in shape:
        size = as_int(extent)
        if size is None:
            return None
        total *= size
    return total


def _flat(indices: Sequence[Scalar], shape: Sequence[Scalar]) -> Scalar:
    total: Scalar = index(0)
    for i, extent in zip(indices, shape, strict=True):
        total = total * extent + i
    return total


def points(program: Program) -> int:
    """Iterations over all scopes; 0 where an extent is symbolic."""
    total = 0
    for scope in program.scopes:
        if isinstance(scope, Compute):
            total += _elements([a.extent or index(0) for a in (*scope.axes, *scope.reduce_axes)]) or 0
    return total


def reads_pointwise(program: Program, name: str) -> bool:
    """Whether each output point reads one element of an input, at distinct axes (or 0 where the extent is 1).

    Such a program can be computed in the place where the input is produced.
    """
    found = False
    for scope in program.scopes:
        if not isinstance(scope, Compute) or scope.reduce_axes:
            return False
        live = {a for a in scope.axes if as_int(a.extent) != 1}
        for node in postorder(*scope.values):
            if isinstance(node, Load) and node.buffer == name:
                found = True
                variables = [i for i in node.indices if isinstance(i, Var)]
                if any(not isinstance(i, (Var, Const)) for i in node.indices) or len(set(variables)) != len(variables):
                    return False
                if not live <= set(variables):
                    return False
                shape = next(t.shape for t in program.inputs if t.name == name)
                # a guarded read of a part (a pad, a concatenation) has points that the input does not have
                if any(i.extent is not e for i, e in zip(node.indices, shape, strict=True) if isinstance(i, Var)):
                    return False
    return found
