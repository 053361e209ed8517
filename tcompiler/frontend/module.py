"""What a front end hands to the compiler: a graph with its constants."""

from __future__ import annotations

from dataclasses import dataclass

from tcompiler.ir.graph.grammar import ConstantStore, Graph


@dataclass(frozen=True, slots=True, eq=False)
class GraphModule:
    """A model.

    Attributes:
        graph: Its graph.
        constants: The data of the graph's constants.
    """

    graph: Graph
    constants: ConstantStore
