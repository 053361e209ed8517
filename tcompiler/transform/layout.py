"""Layouts of values: every group writes what its own code and its readers want.

A contraction whose columns (the axis that only a constant operand has) are not the last axis of its result writes it
with that axis last: channels-last for convolutions. Where a result must be row-major and the data are read along its
rows anyway, as 1×1 convolutions do, it stays row-major. Elementwise groups, pooling and depthwise convolutions follow
their first input that has a layout. Results of the model, and values that are looked at in another shape, stay
row-major.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from tcompiler.ir.expr.folds import carried, folded
from tcompiler.ir.expr.grammar import Compute, Program, tensors
from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node, TensorType, Value
from tcompiler.ir.layout import Layout, permutation
from tcompiler.ir.scalar.canonical import linear
from tcompiler.ir.scalar.grammar import Binary, Load, Var, as_int, postorder
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.transform.definitions import Definitions, Operators, is_view
from tcompiler.transform.group import VIEW

_LONG_ROW = 32
"""Elements: two vectors of lanes and more, so that tails do not weigh much."""
_VECTOR = 8
"""Elements of a vector register, of the widest kind that most machines have."""
_SHORT_SUM = 4096
"""Products per element, found by measuring."""


def permuted(t: TensorType, axes: Sequence[int]) -> TensorType:
    """A type whose tensor lies in memory with its axes in another order."""
    if tuple(axes) == tuple(range(len(t.shape))):
        return TensorType(t.dtype, t.shape)
    return TensorType(t.dtype, t.shape, Layout(permutation(axes), tuple(t.shape[a] for a in axes), False))


@dataclass(frozen=True)
class ChooseLayouts:
    """Gives values layouts.

    Attributes:
        operators: The operator table.
        narrowest: A column axis shorter than this is left where it is.
    """

    operators: Operators
    narrowest: int = 4
    name: str = "choose-layouts"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """Chooses a layout for every value that a group defines."""
        definitions = Definitions(graph, self.operators)
        fixed = {v.name for v in graph.outputs}
        ties = _Ties()
        for n in graph.nodes:
            if n.group == VIEW and is_view(definitions.program(n)):
                fixed |= {*n.inputs, *(v.name for v in n.outputs)}
            elif n.group == VIEW:
                for name in n.inputs:
                    ties.tie(n.outputs[0].name, name)
        fixed = ties.closure(fixed | {v.name for v in graph.inputs})
        first, wishes = self._chosen(graph, definitions, fixed, {})
        made = {v.name for n in graph.nodes if n.group != VIEW for v in n.outputs}
        wanted = ties.common(wishes, made, definitions)
        return first if not wanted else self._chosen(graph, definitions, fixed, wanted)[0]

    def _chosen(
        self, graph: Graph, definitions: Definitions, fixed: set[str], wanted: Mapping[str, tuple[int, ...]]
    ) -> tuple[Graph, dict[str, tuple[int, ...]]]:
        """The graph with layouts, and the orders of axes that makers of values would have liked."""
        wishes: dict[str, tuple[int, ...]] = {}
        constants = {c.name for c in graph.constants}
        orders: dict[str, tuple[int, ...]] = {}
        contractions: set[str | None] = set()
        rows: set[str | None] = set()
        leaving = {n.group for n in graph.nodes if n.group != VIEW and any(v.name in fixed for v in n.outputs)}
        nodes: list[Node] = []
        for node in graph.nodes:
            outputs: list[Value] = []
            copies: list[Node] = []
            known = self._fixed_operands(node, definitions, constants)
            if columns(definitions.program(node), known) is not None:
                contractions.add(node.group)
                plain = not any(i in orders for i in node.inputs)
                if node.group in leaving and plain and _walks_rows(definitions.program(node), known):
                    rows.add(node.group)
            for value in node.outputs:
                order = None
                if len(value.type.shape) >= 3 and node.group != VIEW and node.group not in rows:
                    order = self._order(node, definitions, constants, orders)
                if order is not None and len(order) == len(value.type.shape):
                    wishes[value.name] = order
                elif node.group == VIEW and value.name not in fixed:
                    # what reads it follows the larger part, as long as nothing is decided
                    largest = max(node.inputs, key=lambda i: prod(definitions.types[i].dims()))
                    if largest in orders:
                        orders[value.name] = orders[largest]
                given = wanted.get(value.name)
                if given is not None and value.name not in fixed:
                    orders[value.name] = given
                    laid = replace(value, type=permuted(value.type, given))
                    if node.group in contractions and order is not None and order != given:
                        inner = Value(f"{value.name}_laid", permuted(value.type, order))
                        outputs.append(inner)
                        copies.append(
                            Node("identity", f"{node.name}_rows", (inner.name,), (laid,), (), f"{node.group}_rows")
                        )
                    else:
                        outputs.append(laid)
                elif order is None or len(order) != len(value.type.shape):
                    outputs.append(value)
                elif value.name not in fixed:
                    orders[value.name] = order
                    outputs.append(replace(value, type=permuted(value.type, order)))
                elif node.group in contractions and order != tuple(range(len(order))):
                    # a contraction that has to come out row-major is computed in its own order and copied
                    inner = Value(f"{value.name}_laid", permuted(value.type, order))
                    outputs.append(inner)
                    copies.append(
                        Node("identity", f"{node.name}_rows", (inner.name,), (value,), (), f"{node.group}_rows")
                    )
                else:
                    outputs.append(value)
            nodes += [replace(node, outputs=tuple(outputs)), *copies]
        return replace(graph, nodes=tuple(nodes)), wishes

    @staticmethod
    def _fixed_operands(node: Node, definitions: Definitions, constants: set[str]) -> set[str]:
        return {inner for inner, outer in definitions.operand_names(node).items() if outer in constants}

    def _order(
        self, node: Node, definitions: Definitions, constants: set[str], orders: Mapping[str, tuple[int, ...]]
    ) -> tuple[int, ...] | None:
        program = definitions.program(node)
        names = definitions.operand_names(node)
        found = columns(program, {inner for inner, outer in names.items() if outer in constants})
        rank = len(tensors(program)[program.outputs[0]].shape)
        if found is not None and self.narrowest <= found[1]:
            return (*(a for a in range(rank) if a != found[0]), found[0])
        for inner, outer in names.items():
            order = orders.get(outer)
            if order is not None and len(order) == rank and _same_axes(program, inner):
                return order
        return None


class _Ties:
    """Values that lie in one memory: their axes have one order."""

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = {}

    def tie(self, a: str, b: str) -> None:
        """Notes that two values lie in one memory."""
        one, other = self._of.setdefault(a, [a]), self._of.setdefault(b, [b])
        if one is not other:
            one += other
            self._of.update(dict.fromkeys(other, one))

    def closure(self, names: set[str]) -> set[str]:
        """Values, and those that lie in one memory with any of them."""
        return names | {member for n in names for member in self._of.get(n, ())}

    def common(
        self, wishes: Mapping[str, tuple[int, ...]], made: set[str], definitions: Definitions
    ) -> dict[str, tuple[int, ...]]:
        """For every tied value the order that most elements which kernels make in its memory are wished in."""
        result: dict[str, tuple[int, ...]] = {}
        for members in {id(m): m for m in self._of.values()}.values():
            votes: dict[tuple[int, ...], int] = {}
            for name in (m for m in members if m in made):
                dims = definitions.types[name].dims()
                order = wishes.get(name, tuple(range(len(dims))))
                votes[order] = votes.get(order, 0) + prod(dims)
            if votes:
                result |= dict.fromkeys(members, max(votes, key=lambda o: votes[o]))
        return result


def columns(program: Program, constants: set[str]) -> tuple[int, int] | None:
    """The axis of a contraction's result that only its constant operand has.

    Args:
        program: A definition.
        constants: Its inputs that are known.

    Returns:
        Its position and extent; None where there is none.
    """
    folds = folded(program)
    for scope in program.scopes:
        if not isinstance(scope, Compute) or not scope.reduce_axes:
            continue
        for value in scope.values:
            if not isinstance(value, Binary) or value.op != "mul":
                continue
            loads = [n for n in postorder(value) if isinstance(n, Load)]
            fixed = [x for x in loads if x.buffer in constants]
            free = [x for x in loads if x.buffer not in constants]
            if len(fixed) != 1 or not free:
                continue
            mine = _axes(fixed[0])
            theirs = frozenset().union(*(_axes(x) for x in free))
            only = [k for k, a in enumerate(scope.axes) if a in mine and a not in theirs]
            if len(only) != 1:
                continue
            extent = as_int(scope.axes[only[0]].extent) or 0
            fold = folds.get(scope.tensors[0].name)
            rank = len(tensors(program)[program.outputs[0]].shape)
            at = [k for k, p in enumerate(fold.parts) if p[-1] == only[0]] if fold is not None else []
            if fold is not None and at and rank == len(fold.parts):
                # what takes a part of an axis only has to fill vectors by itself
                return (at[0], extent) if extent >= _VECTOR or len(fold.parts[at[0]]) == 1 else None
            if rank == len(scope.axes):
                return only[0], extent
            place = carried(program, scope.tensors[0].name, only[0])
            if place is not None and extent >= _VECTOR:
                return place, extent
    return None


def _walks_rows(program: Program, constants: set[str]) -> bool:
    """Whether a contraction reads its data along the result's last axis, element by element, and is better left so.

    An axis that is read as it is merges with those before it. One that is read with offsets has to be long, and the
    reduction short, for else its rows of data, apart in memory, do not stay close to the core.
    """
    folds = folded(program)
    for scope in program.scopes:
        if isinstance(scope, Compute) and scope.reduce_axes:
            last = scope.axes[-1]
            fold = folds.get(scope.tensors[0].name)
            if fold is not None and len(fold.parts[-1]) > 1:
                return False
            loads = [n for n in postorder(*scope.values) if isinstance(n, Load) and n.buffer not in constants]
            if all(load.indices[-1] is last for load in loads):
                return True
            depth = prod(as_int(a.extent) or 0 for a in scope.reduce_axes if a.extent is not None)
            apart = all(linear(load.indices[-1]).terms.get(last) == 1 for load in loads)
            return apart and (as_int(last.extent) or 0) >= _LONG_ROW and depth <= _SHORT_SUM
    return False


def _axes(load: Load) -> frozenset[Var]:
    result: frozenset[Var] = frozenset()
    for i in load.indices:
        result |= free_vars(i)
    return result


def _same_axes(program: Program, name: str) -> bool:
    """Whether an input's axes are the result's: same rank, the first scope that reads it at (about) its own axes."""
    for scope in program.scopes:
        if not isinstance(scope, Compute):
            return False
        for node in postorder(*scope.values):
            if isinstance(node, Load) and node.buffer == name:
                if len(node.indices) != len(scope.axes):
                    return False
                return all(
                    i is a or a in free_vars(i) or as_int(a.extent) == 1 or as_int(i) is not None
                    for i, a in zip(node.indices, scope.axes, strict=True)
                )
    return False
