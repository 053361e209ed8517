"""Grouping: which nodes become one kernel.

A reduction starts a group; elementwise nodes that consume a group's only result, point by point, join it; so do
elementwise producers of a node that reads its rows a few times (softmax, norms), those that widen integers for
a contraction, which takes narrow ones better, and those that only permute what a contraction reads about once (a
vector times a matrix), which had better read it where it lies. A result that several elementwise nodes read counts as
read once where they come together again, as in `x * sigmoid(x)`. Nodes that only look at the same memory in another
shape make no kernel.
A group runs where its last node stood: nobody reads its inner values, so all that it needs is there by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node, TensorType
from tcompiler.ir.scalar.grammar import Binary, Load, postorder
from tcompiler.transform.definitions import (
    Definitions,
    Operators,
    is_map,
    is_view,
    permutes,
    points,
    reads_pointwise,
)
from tcompiler.transform.memories import Memories
from tcompiler.transform.regions import closed_regions

VIEW = "view"
"""The group of nodes that make no kernel."""
SHARED = 4
"""How often a contraction may read an operand that it takes as it lies in memory, in another order of axes."""


@dataclass(slots=True)
class _Group:
    name: str
    place: int
    result: str
    maps_only: bool
    size: int
    source_bits: int = 0
    """Of the widest element type that it reads, single elements aside."""


@dataclass(frozen=True)
class Group:
    """Sets every node's group.

    Attributes:
        operators: The operator table.
        limit: Most nodes in a group.
    """

    operators: Operators
    limit: int = 64
    name: str = "group"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """Groups the nodes of a graph."""
        definitions = Definitions(graph, self.operators)
        uses = _uses(graph)
        groups: dict[str, _Group] = {}
        made_by: dict[str, str] = {}
        names: list[str] = []
        outputs = {v.name for v in graph.outputs}
        constants = {c.name for c in graph.constants}
        sources = {v.name for v in graph.inputs} | constants
        roots: dict[str, str] = {}
        swallowed: dict[str, str] = {}
        memory = Memories(graph, definitions)
        regions = closed_regions(graph, definitions, self.limit)
        entered: dict[str, _Group | None] = {}
        widenings = _widenings(graph, definitions, uses, outputs)
        moved: set[str] = set()
        for node in graph.nodes:
            program = definitions.program(node)
            if is_view(program) and self._may_alias(node, outputs, sources, roots) and memory.reshapes(node):
                names.append(VIEW)
                roots[node.outputs[0].name] = roots.get(node.inputs[0], node.inputs[0])
                continue
            if memory.slices(node, program):
                names.append(VIEW)
                roots[node.outputs[0].name] = roots.get(node.inputs[0], node.inputs[0])
                continue
            if memory.joins(node, program, made_by):
                names.append(VIEW)
                continue
            joined = self._region(regions.of(node), regions.sizes, groups, made_by, entered)
            if joined is None:
                joined = self._join(node, program, definitions, uses, groups, made_by, outputs)
                if joined is not None and node.outputs[0].name in widenings:
                    # it stays apart from what makes the narrow numbers, which are all that memory has to hold
                    narrow = joined.maps_only and joined.source_bits < node.outputs[0].type.dtype.bits
                    joined = joined if narrow else None
            if joined is None:
                joined = _Group(f"g{len(groups)}", len(groups), "", is_map(program), 0)
                groups[joined.name] = joined
            for value in definitions.operand_names(node).values():
                group = groups.get(made_by.get(value, ""))
                if group is joined:
                    continue
                if (
                    group is not None
                    and (group.result, uses[value]) == (value, 1)
                    and value not in outputs
                    and (is_map(program) or _is_contraction(program))
                    and (
                        _widens(group, definitions, value)
                        or (value in moved and _shares_little(program, definitions, value))
                    )
                    and joined.size + group.size < self.limit
                ):
                    swallowed[group.name] = joined.name
                    joined.size += group.size
                    joined.source_bits = max(joined.source_bits, group.source_bits)
                elif _elements(definitions.types[value]) > 1:
                    joined.source_bits = max(joined.source_bits, definitions.types[value].dtype.bits)
            if joined.size == 0 and permutes(program):
                moved.add(node.outputs[0].name)
            joined.maps_only = joined.maps_only and is_map(program)
            joined.size += 1
            joined.result = node.outputs[0].name if len(node.outputs) == 1 else ""
            for v in node.outputs:
                made_by[v.name] = joined.name
            names.append(joined.name)
        for n in reversed(list(swallowed)):
            swallowed[n] = swallowed.get(swallowed[n], swallowed[n])
        names = [swallowed.get(n, n) for n in names]
        order: dict[str, None] = {}
        for n in reversed(names):
            order.setdefault(n)
        renamed = {n: f"g{k}" for k, n in enumerate(n for n in reversed(order) if n != VIEW)} | {VIEW: VIEW}
        nodes = tuple(replace(n, group=renamed[g]) for n, g in zip(graph.nodes, names, strict=True))
        return replace(graph, nodes=nodes)

    def _may_alias(self, node: Node, outputs: set[str], sources: set[str], roots: Mapping[str, str]) -> bool:
        """A result that leaves the model needs memory of its own, apart from inputs, constants and other results."""
        value, root = node.outputs[0].name, roots.get(node.inputs[0], node.inputs[0])
        if value not in outputs:
            return True
        if root in sources or root in outputs:
            return False
        return not any(roots.get(o) == root for o in outputs)

    def _region(
        self,
        roots: Sequence[str],
        sizes: Mapping[str, int],
        groups: Mapping[str, _Group],
        made_by: Mapping[str, str],
        entered: dict[str, _Group | None],
    ) -> _Group | None:
        """The group of the value that a node's region starts from; the whole region joins it, or none of it does."""
        for root in roots:
            if root not in entered:
                group = groups.get(made_by.get(root, ""))
                fits = group is not None and group.result == root and group.size + sizes[root] <= self.limit
                entered[root] = group if fits else None
            if entered[root] is not None:
                return entered[root]
        return None

    def _join(
        self,
        node: Node,
        program: Program,
        definitions: Definitions,
        uses: Mapping[str, int],
        groups: Mapping[str, _Group],
        made_by: Mapping[str, str],
        outputs: set[str],
    ) -> _Group | None:
        """The group that a node joins: a reduction's before a map's, a later one before an earlier one."""
        candidates: list[tuple[bool, int, _Group]] = []
        for inner, value in definitions.operand_names(node).items():
            group = groups.get(made_by.get(value, ""))
            if group is None or group.result != value or uses[value] != 1 or value in outputs:
                continue
            if group.size >= self.limit:
                continue
            fits = (
                reads_pointwise(program, inner)
                if is_map(program)
                else group.maps_only and _rereads_little(program, definitions, value)
            )
            if fits:
                candidates.append((not group.maps_only, group.place, group))
        return max(candidates, key=lambda c: c[:2])[2] if candidates else None


def _uses(graph: Graph) -> dict[str, int]:
    result: dict[str, int] = {name: 0 for n in graph.nodes for name in n.inputs}
    for n in graph.nodes:
        for v in n.outputs:
            result.setdefault(v.name, 0)
        for name in set(n.inputs):
            result[name] += 1
    return result


def _widenings(graph: Graph, definitions: Definitions, uses: Mapping[str, int], outputs: set[str]) -> set[str]:
    """Values that elementwise nodes make of narrower integers for one contraction alone."""
    bits: dict[str, int] = {}
    for node in graph.nodes:
        out = node.outputs[0].type.dtype
        tensors = [i for i in node.inputs if i and _elements(definitions.types[i]) > 1]
        if len(tensors) == 1 and out.is_integer and is_map(definitions.program(node)):
            source = definitions.types[tensors[0]].dtype
            if source.is_integer:
                bits[node.outputs[0].name] = bits.get(tensors[0], source.bits)
    result: set[str] = set()
    for node in reversed(graph.nodes):
        if node.outputs[0].name in result or _is_contraction(definitions.program(node)):
            for i in node.inputs:
                if i in bits and uses[i] == 1 and i not in outputs and bits[i] < definitions.types[i].dtype.bits:
                    result.add(i)
    return result


def _widens(group: _Group, definitions: Definitions, value: str) -> bool:
    """Whether a group of maps makes wide integers of narrow ones."""
    made = definitions.types[value].dtype
    return group.maps_only and made.is_integer and group.source_bits < made.bits


def _elements(type_: TensorType) -> int:
    """Elements of a tensor."""
    total = 1
    for extent in type_.dims():
        total *= extent
    return total


def _is_contraction(program: Program) -> bool:
    """Whether a program sums products of two tensors."""
    return any(
        isinstance(s, Compute)
        and s.reduce_axes
        and any(isinstance(v, Binary) and v.op == "mul" and _two_tensors(v) for v in s.values)
        for s in program.scopes
    )


def _rereads_little(program: Program, definitions: Definitions, value: str) -> bool:
    """Whether a program passes over an operand a few times only (it is no contraction)."""
    elements = _elements(definitions.types[value])
    return not _is_contraction(program) and points(program) <= 8 * elements


def _shares_little(program: Program, definitions: Definitions, value: str) -> bool:
    """Whether a contraction reads an operand a few times only: copying it first costs about as much."""
    return _is_contraction(program) and points(program) <= SHARED * _elements(definitions.types[value])


def _two_tensors(value: Binary) -> bool:
    return len({n.buffer for n in postorder(value) if isinstance(n, Load)}) > 1
