"""Which slices and concatenations copy nothing: the book that grouping keeps about tensors within tensors."""

from __future__ import annotations

from collections.abc import Container

from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.graph.grammar import Graph, Node, TensorType
from tcompiler.transform.definitions import Definitions, is_view
from tcompiler.transform.parts import axes_order, part_starts, readers, reshaped, slice_starts, strides_of, with_strides


class Memories:
    """Decides node by node, in order, what becomes a view.

    Args:
        graph: The graph.
        definitions: The definitions of its nodes.
    """

    def __init__(self, graph: Graph, definitions: Definitions) -> None:
        self._definitions = definitions
        self._readers = readers(graph)
        self._outputs = {v.name for v in graph.outputs}
        self._constants = {c.name for c in graph.constants}
        self._computed = {
            v.name
            for n in graph.nodes
            if all(isinstance(s, Compute) for s in definitions.program(n).scopes)
            for v in n.outputs
        }
        self._joined: set[str] = set()
        """Values that are a concatenation of parts in place."""
        self._taken: set[str] = set()
        """Values that lie within another one."""
        self._partial: dict[str, TensorType] = {}
        """Slices and what looks at them, as they lie if all axes keep their order."""

    def reshapes(self, node: Node) -> bool:
        """Whether a look at the same elements in another shape is one where the source lies; notes the result."""
        source, out = self._partial.get(node.inputs[0]), node.outputs[0]
        if source is None:
            if node.inputs[0] in self._constants:
                self._constants.add(out.name)
            return True
        changed = reshaped(source, out.type)
        if changed is None or out.name in self._outputs:
            return False
        self._partial[out.name] = changed
        return True

    def slices(self, node: Node, program: Program) -> bool:
        """Whether a node takes a box out of a tensor that is computed, to be read where it lies; notes the result."""
        starts = slice_starts(program)
        if starts is None or is_view(program):
            return False
        source, out = node.inputs[0], node.outputs[0]
        if source in self._constants or out.name in self._outputs or 0 in out.type.dims():
            return False
        around = self._partial.get(source, self._definitions.types[source])
        inside = with_strides(out.type, axes_order(around), strides_of(around))
        if inside is None:
            return False
        self._partial[out.name] = inside
        return True

    def joins(self, node: Node, program: Program, made_by: Container[str]) -> bool:
        """Whether a node's operands can be computed right where they stand in its result; notes that they will be.

        Args:
            node: A node.
            program: Its definition.
            made_by: The values that kernels make.
        """
        if part_starts(program) is None or 0 in node.outputs[0].type.dims() or len({*node.inputs}) < len(node.inputs):
            return False
        for part in node.inputs:
            if part in self._outputs or part in self._taken or part in self._partial:
                return False
            if part not in self._joined and not (part in made_by and part in self._computed):
                return False
            if any(is_view(self._definitions.program(r)) for r in self._readers[part]):
                return False
        self._taken |= set(node.inputs)
        self._joined.add(node.outputs[0].name)
        return True
