"""Rewriting a graph node by node: what the passes share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir.dtypes import from_numpy
from tcompiler.ir.graph.grammar import (
    Attr,
    Constant,
    ConstantStore,
    Graph,
    Node,
    TensorType,
    Value,
    tensor_type,
)
from tcompiler.ops.registry import get


class GraphPass(Protocol):
    """A pass over graphs: a name, its options as fields, and `run`."""

    @property
    def name(self) -> str:
        """Its name on the command line and in reports."""
        ...

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The rewritten graph; the same object if nothing changed. New constants go into the store."""
        ...


class Editor:
    """Builds a graph from another one: nodes are visited in order and kept, replaced or left out.

    Args:
        graph: The graph to be rewritten.
        store: Its constants' data.
    """

    def __init__(self, graph: Graph, store: ConstantStore) -> None:
        self.graph = graph
        self.store = store
        self.changed = False
        self.nodes: list[Node] = []
        self.producers: dict[str, Node] = {}
        self.types: dict[str, TensorType] = {v.name: v.type for v in graph.inputs}
        self._constants: dict[str, Constant] = {c.name: c for c in graph.constants}
        self.types.update((c.name, c.type) for c in graph.constants)
        self._by_content = {(c.sha256, c.type.dtype.name, c.type.shape): c.name for c in reversed(graph.constants)}
        self._renamed: dict[str, str] = {}
        self.uses = Counter(i for n in graph.nodes for i in n.inputs if i)
        self.uses.update(v.name for v in graph.outputs)
        self._outputs = {v.name for v in graph.outputs}
        self._taken = {*self.types, *(v.name for n in graph.nodes for v in n.outputs)}
        self._node_names = {n.name for n in graph.nodes}
        self._count = 0

    def resolve(self, name: str) -> str:
        """What a value of the old graph is called now."""
        return self._renamed.get(name, name)

    def inputs(self, node: Node) -> tuple[str, ...]:
        """A node's inputs by their names now."""
        return tuple(self._renamed.get(i, i) for i in node.inputs)

    def used_once(self, name: str) -> bool:
        """Whether one node reads a value of the old graph, once, and it is no output."""
        return self.uses[name] == 1 and name not in self._outputs

    def array(self, name: str) -> NDArray[Any] | None:
        """A constant's data, None for other values."""
        constant = self._constants.get(name)
        return None if constant is None else self.store.typed(constant)

    def dims(self, name: str) -> tuple[int, ...] | None:
        """A value's shape, None where it is symbolic."""
        try:
            return self.types[name].dims()
        except ValueError:
            return None

    def fresh(self, prefix: str, taken: set[str]) -> str:
        """A name that is not in use."""
        while True:
            name = f"{prefix}{self._count}"
            self._count += 1
            if name not in taken:
                taken.add(name)
                return name

    def constant(self, array: NDArray[Any]) -> str:
        """A constant with this data; one of the same bytes and type is shared."""
        t = tensor_type(from_numpy(array.dtype), array.shape)
        digest = self.store.put(array)
        key = (digest, t.dtype.name, t.shape)
        name = self._by_content.get(key)
        if name is None:
            name = self._by_content[key] = self.fresh("k", self._taken)
            self._constants[name] = Constant(name, digest, t)
            self.types[name] = t
        return name

    def keep(self, node: Node) -> None:
        """Takes a node over, with its inputs by their names now."""
        inputs = self.inputs(node)
        if inputs != node.inputs:
            node = replace(node, inputs=inputs)
        self._append(node)

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        for v in node.outputs:
            self.types[v.name] = v.type
            self.producers[v.name] = node

    def emit(
        self, op: str, inputs: Sequence[str], attrs: Mapping[str, Attr] | None = None, like: Node | None = None
    ) -> str:
        """A new node of one output.

        Args:
            op: The operator's name.
            inputs: Values by their names now; empty where absent.
            attrs: Attributes by name.
            like: The node that it stands for; it takes over that node's group.

        Returns:
            The name of its output.
        """
        self.changed = True
        attributes = dict(attrs or {})
        (t,) = get(op).infer([self.types[i] if i else None for i in inputs], attributes)
        out = Value(self.fresh("t", self._taken), t)
        node = Node(
            op,
            self.fresh(f"{op}_t", self._node_names),
            tuple(inputs),
            (out,),
            tuple(sorted(attributes.items())),
            like.group if like is not None else None,
        )
        self._append(node)
        return out.name

    def drop(self, node: Node) -> None:
        """Takes back a new node that nothing reads."""
        self.nodes.remove(node)
        for v in node.outputs:
            del self.producers[v.name]

    def forward(self, old: str, new: str) -> None:
        """Lets readers of an old value read a new one; the node that defined the old one is left out."""
        self.changed = True
        self._renamed[old] = new

    def finish(self) -> Graph:
        """The rewritten graph, the old object if nothing changed."""
        if not self.changed:
            return self.graph
        outputs: list[Value] = []
        free = set(self.producers)
        for v in self.graph.outputs:
            name = self.resolve(v.name)
            if name not in free:
                # An input, a constant, or an output already: an output needs a buffer of its own.
                name = self.emit("identity", (name,))
            free.discard(name)
            outputs.append(Value(name, self.types[name], v.label))
        used = {i for n in self.nodes for i in n.inputs}
        constants = tuple(c for c in self._constants.values() if c.name in used)
        return replace(self.graph, constants=constants, nodes=tuple(self.nodes), outputs=tuple(outputs))


def ints(node: Node, key: str) -> tuple[int, ...]:
    """An attribute that is a list of integers, empty where the node does not give it."""
    value = node.attr(key, ())
    assert isinstance(value, tuple)
    return tuple(v for v in value if isinstance(v, int))


def scalar_value(array: NDArray[Any] | None) -> float | int | None:
    """The value of an array whose elements are all the same, else None."""
    if array is None or array.size == 0 or array.dtype == np.bool_:
        return None
    first = array.reshape(-1)[0]
    if array.size > 1 and not bool((array == first).all()):
        return None
    value: float | int = first.item() if array.dtype.kind != "V" else float(first)
    return value


def rewrite_nodes(graph: Graph, store: ConstantStore, rule: Callable[[Editor, Node], str | None]) -> Graph:
    """Replaces the nodes of one output that a rule has something better for.

    Args:
        graph: The graph.
        store: Its constants' data.
        rule: Takes the editor and a node, emits what stands for it, and returns the name of that value; None keeps the
            node.

    Returns:
        The rewritten graph, the same object if the rule kept every node.
    """
    editor = Editor(graph, store)
    for node in graph.nodes:
        result = rule(editor, node)
        if result is None:
            editor.keep(node)
        else:
            editor.forward(node.outputs[0].name, result)
    return editor.finish()
