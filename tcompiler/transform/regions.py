"""Values that are read several times in one place: elementwise nodes that start from one value and meet again.

`x * sigmoid(x)` reads x twice, and whoever computes x may compute all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.graph.grammar import Graph, Node
from tcompiler.ir.scalar.grammar import Load, as_int, postorder
from tcompiler.transform.definitions import Definitions, is_view
from tcompiler.transform.parts import part_starts, slice_starts


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions of elementwise nodes with one way in and one way out.

    Attributes:
        roots: By the names of nodes, the values that their regions start from, the outermost first.
        sizes: By those values, the number of nodes of the region.
    """

    roots: Mapping[str, Sequence[str]]
    sizes: Mapping[str, int]

    def of(self, node: Node) -> Sequence[str]:
        """The values that the regions of a node start from."""
        return self.roots.get(node.name, ())


def closed_regions(graph: Graph, definitions: Definitions, limit: int) -> Regions:
    """Finds for every value the nodes from its readers to where they meet.

    Args:
        graph: The graph.
        definitions: The definitions of its nodes.
        limit: Most nodes in a region.

    Returns:
        The regions of those values which several nodes read, all of them element by element in the value's own shape,
        and from which everything leads to the result of one node; what is computed on the way is read nowhere else
        and is no output. Nothing in them only looks at memory.
    """
    readers: dict[str, list[int]] = {}
    for k, n in enumerate(graph.nodes):
        for name in dict.fromkeys(n.inputs):
            readers.setdefault(name, []).append(k)
    outputs = {v.name for v in graph.outputs}
    roots: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for n in graph.nodes:
        for v in n.outputs:
            if len(readers.get(v.name, ())) > 1 and v.name not in outputs:
                region = _region(v.name, graph, definitions, readers, outputs, limit)
                for k in region:
                    roots.setdefault(graph.nodes[k].name, []).append(v.name)
                if region:
                    sizes[v.name] = len(region)
    return Regions(roots, sizes)


def _region(
    root: str,
    graph: Graph,
    definitions: Definitions,
    readers: Mapping[str, Sequence[int]],
    outputs: set[str],
    limit: int,
) -> list[int]:
    """The positions of a region's nodes, empty if there is none."""
    shape = definitions.types[root].shape
    inside = {root}
    pending = list(readers[root])  # sorted, so it is a heap
    region: list[int] = []
    while pending:
        at = heappop(pending)
        if region and region[-1] == at:
            continue
        node = graph.nodes[at]
        region.append(at)
        if len(region) > limit or len(node.outputs) != 1 or node.outputs[0].type.shape != shape:
            return []
        program = definitions.program(node)
        if is_view(program) or slice_starts(program) is not None or part_starts(program) is not None:
            return []  # it may make no kernel, and stand in no group
        names = definitions.operand_names(node)
        if not all(_reads_in_place(program, inner) for inner, value in names.items() if value in inside):
            return []
        result = node.outputs[0].name
        if all(k == at for k in pending):
            return region
        if result in outputs or not readers.get(result):
            return []
        inside.add(result)
        for k in readers[result]:
            heappush(pending, k)
    return []


def _reads_in_place(program: Program, name: str) -> bool:
    """Whether every scope is a map, and reads a tensor at its own point alone."""
    for scope in program.scopes:
        if not isinstance(scope, Compute) or scope.reduce_axes:
            return False
        for n in postorder(*scope.values):
            if isinstance(n, Load) and n.buffer == name:
                if len(n.indices) != len(scope.axes):
                    return False
                if any(i is not a and as_int(a.extent) != 1 for i, a in zip(n.indices, scope.axes, strict=True)):
                    return False
    return True
