"""Gives every value the layout that costs least over the whole graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node, TensorType, Value
from tcompiler.ir.layout import Layout, permutation
from tcompiler.ir.scalar.grammar import index
from tcompiler.target.target import Target
from tcompiler.transform.definitions import Definitions, Operators
from tcompiler.transform.layouts.candidates import Candidates
from tcompiler.transform.layouts.choose import minimise
from tcompiler.transform.layouts.costs import Costs, plain, same_places
from tcompiler.transform.layouts.tables import Tables, made


def permuted(t: TensorType, axes: Sequence[int], between: int = 0) -> TensorType:
    """A type whose tensor lies in memory with its axes in another order, and so many elements between its rows."""
    if tuple(axes) == plain(len(t.shape)) and not between:
        return TensorType(t.dtype, t.shape)
    shape = tuple(t.shape[a] for a in axes)
    if between:
        shape = (*shape[:-1], index(t.dims()[axes[-1]] + between))
    return TensorType(t.dtype, t.shape, Layout(permutation(axes), shape, False))


@dataclass(frozen=True)
class ChooseLayouts:
    """Gives values layouts: of all combinations of candidates the one that costs least.

    Attributes:
        operators: The operator table.
        target: The machine whose model says what a choice costs.
        narrowest: A column axis shorter than this is left where it is.
    """

    operators: Operators
    target: Target
    narrowest: int = 4
    name: str = "choose-layouts"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """Chooses a layout for every value that a kernel makes."""
        candidates = Candidates(graph, Definitions(graph, self.operators), self.narrowest)
        costs = Costs(self.target)
        tables = Tables(candidates, costs)
        chosen = minimise(tables.sizes, tables.tables).values
        nodes: list[Node] = []
        for node in graph.nodes:
            outputs: list[Value] = []
            copies: list[Node] = []
            for value in node.outputs:
                order = candidates.orders(value.name)[chosen.get(candidates.variable(value.name), 0)]
                between = costs.spread(value.type, order) if candidates.in_rows(value.name) else 0
                laid = replace(value, type=permuted(value.type, order, between))
                outputs.append(laid)
                if candidates.apart(value.name):
                    own = candidates.made(value.name)[chosen.get(made(value.name), 0)]
                    if not same_places(own, order, value.type.dims()):
                        outputs[-1] = Value(f"{value.name}_laid", permuted(value.type, own))
                        source = (outputs[-1].name,)
                        copies.append(Node("identity", f"{node.name}_rows", source, (laid,), (), f"{node.group}_rows"))
            nodes += [replace(node, outputs=tuple(outputs)), *copies]
        return replace(graph, nodes=tuple(nodes))
