"""Dead code elimination and common subexpressions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node
from tcompiler.transform.editing import Editor


@dataclass(frozen=True, slots=True)
class EliminateDeadCode:
    """Leaves out nodes whose results nothing reads, and constants that no node reads."""

    name: str = "eliminate-dead-code"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph without them; inputs stay, they are the model's signature."""
        live = {v.name for v in graph.outputs}
        nodes: list[Node] = []
        for node in reversed(graph.nodes):
            if any(v.name in live for v in node.outputs):
                nodes.append(node)
                live.update(node.inputs)
        constants = tuple(c for c in graph.constants if c.name in live)
        if len(nodes) == len(graph.nodes) and len(constants) == len(graph.constants):
            return graph
        return replace(graph, nodes=tuple(reversed(nodes)), constants=constants)


_COMMUTATIVE = frozenset({"add", "mul", "min", "max", "bitwise_and", "bitwise_or", "bitwise_xor", "eq", "ne"})


@dataclass(frozen=True, slots=True)
class ShareCommonSubexpressions:
    """Lets nodes that compute the same share one result."""

    name: str = "share-common-subexpressions"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph in which every (operator, inputs, attributes) occurs once."""
        editor = Editor(graph, store)
        first_constant: dict[tuple[object, ...], str] = {}
        for c in graph.constants:
            content = (c.sha256, c.type.dtype.name, c.type.shape)
            if (name := first_constant.setdefault(content, c.name)) != c.name:
                editor.forward(c.name, name)
        seen: dict[tuple[object, ...], Node] = {}
        for node in graph.nodes:
            inputs = editor.inputs(node)
            if node.op in _COMMUTATIVE:
                inputs = tuple(sorted(inputs))
            # repr tells 0.0 from -0.0 and True from 1, which == does not.
            key = (node.op, inputs, repr(node.attrs), node.group, len(node.outputs))
            first = seen.setdefault(key, node)
            if first is node:
                editor.keep(node)
            else:
                for mine, theirs in zip(node.outputs, first.outputs, strict=True):
                    editor.forward(mine.name, theirs.name)
        return editor.finish()
