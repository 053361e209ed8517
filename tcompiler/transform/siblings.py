"""Contractions that read one tensor become one: queries, keys and values, the narrow branches of a module.

Siblings have the same operator, attributes and data, and constant weights that differ along the axis which only the
weights have: their columns. What follows them one by one (a bias, an activation) is taken along where it is the same
for all. The data are read once, tiles are filled that a few columns would leave half empty, and threads start once;
who reads a sibling's result reads a slice of the common one, where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node
from tcompiler.ir.scalar.grammar import Load, as_int, postorder
from tcompiler.transform.definitions import Definitions, Operators, is_map, is_view
from tcompiler.transform.editing import Editor
from tcompiler.transform.layouts import columns
from tcompiler.transform.parts import part_starts, readers

_WIDE = 256
"""Columns that fill tiles by themselves: products of 768 each in one were 2% slower on one thread and no faster on two,
where branches of 16 to 128 filters in one were 1% faster on both."""


@dataclass(slots=True)
class _Sibling:
    """A contraction and the maps that follow it.

    Attributes:
        nodes: The contraction, then the maps.
        axis: The columns' axis in the result.
        extent: Columns.
    """

    nodes: list[Node]
    axis: int
    extent: int

    @property
    def result(self) -> str:
        """The last map's result."""
        return self.nodes[-1].outputs[0].name


@dataclass(frozen=True)
class MergeSiblings:
    """Makes one contraction of several that read the same tensor.

    Attributes:
        operators: The operator table.
    """

    operators: Operators
    name: str = "merge-siblings"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with siblings merged."""
        finder = _Finder(graph, Definitions(graph, self.operators))
        families: dict[str, list[_Sibling]] = {}
        gone: set[str] = set()
        for family in finder.families():
            families[family[0].nodes[0].name] = family
            gone |= {n.name for s in family for n in s.nodes}
        if not families:
            return graph
        editor = Editor(graph, store)
        for node in graph.nodes:
            if node.name in families:
                _emit(editor, families[node.name], finder)
            elif node.name not in gone:
                editor.keep(node)
        return editor.finish()


class _Finder:
    """Looks for siblings."""

    def __init__(self, graph: Graph, definitions: Definitions) -> None:
        self.graph = graph
        self.definitions = definitions
        self.readers = readers(graph)
        self.outputs = {v.name for v in graph.outputs}
        self.constants = {c.name for c in graph.constants}

    def families(self) -> list[list[_Sibling]]:
        """Siblings to be merged, in the order of the graph."""
        found: dict[object, list[_Sibling]] = {}
        for node in self.graph.nodes:
            sibling = self._sibling(node)
            if sibling is not None:
                found.setdefault(self._key(sibling.nodes[0], sibling.axis), []).append(sibling)
        return [f for s in found.values() for f in self._agreeing(s) if len(f) > 1]

    def _sibling(self, node: Node) -> _Sibling | None:
        """A contraction with constant weights and a result that a slice can stand for."""
        if len(node.outputs) != 1 or not any(i in self.constants for i in node.inputs):
            return None
        if len(self.readers.get(self._data(node), ())) < 2 or not node.outputs[0].type.dtype.is_float:
            return None
        program = self.definitions.program(node)
        fixed = {k for k, v in self.definitions.operand_names(node).items() if v in self.constants}
        found = columns(program, fixed)
        if found is None or found[1] >= _WIDE or any(self.column(program, name, found[0]) is None for name in fixed):
            return None
        return _Sibling([node], *found)

    def _data(self, node: Node) -> str:
        return next((i for i in node.inputs if i and i not in self.constants), "")

    def _key(self, node: Node, axis: int) -> object:
        """What siblings have in common."""
        program = self.definitions.program(node)
        inner = {v: k for k, v in self.definitions.operand_names(node).items()}
        described: list[object] = []
        for name in node.inputs:
            if name in self.constants:
                t = self.definitions.types[name]
                at = self.column(program, inner[name], axis)
                described.append((t.dtype.name, at, tuple(e for k, e in enumerate(t.shape) if k != at)))
            else:
                described.append(name)
        return (node.op, repr(node.attrs), axis, *described)

    def _agreeing(self, siblings: Sequence[_Sibling]) -> list[list[_Sibling]]:
        """Siblings with the same maps behind them, grouped."""
        groups: dict[object, list[_Sibling]] = {}
        for s in siblings:
            tail: list[object] = []
            while (follower := self._follower(s)) is not None:
                node, described = follower
                s.nodes.append(node)
                tail.append(described)
            after = self.readers.get(s.result, ())
            looked_at = any(is_view(self.definitions.program(n)) for n in after)
            placed = any(part_starts(self.definitions.program(n)) is not None for n in after)
            joins = len(after) == 1 and is_map(self.definitions.program(after[0])) and not looked_at
            if s.result in self.outputs or placed or joins or not after:
                continue
            # steps of the common result are only sure to be multiples of a part's where all parts are equal
            groups.setdefault((*tail, s.extent if looked_at else None), []).append(s)
        return list(groups.values())

    def _follower(self, s: _Sibling) -> tuple[Node, object] | None:
        """A map that alone reads a sibling's result, beside constants that all share or that have values by column."""
        after = self.readers.get(s.result, ())
        if len(after) != 1 or s.result in self.outputs or len(after[0].outputs) != 1:
            return None
        (node,) = after
        program = self.definitions.program(node)
        shape = self.definitions.types[s.result].shape
        if not is_map(program) or is_view(program) or node.outputs[0].type.shape != shape:
            return None
        described: list[object] = []
        for inner, name in self.definitions.operand_names(node).items():
            if name == s.result:
                described.append("result")
                continue
            t = self.definitions.types[name]
            at = self.column(program, inner, s.axis)
            if name not in self.constants or (at is None and s.extent in t.dims()):
                return None
            wide = at is not None and t.dims()[at] == s.extent
            described.append((t.dtype.name, at, tuple(e for k, e in enumerate(t.shape) if k != at)) if wide else name)
        if not self._in_place(program, self.definitions.operand_names(node), s.result):
            return None
        return node, (node.op, repr(node.attrs), *described)

    def _in_place(self, program: Program, names: dict[str, str], result: str) -> bool:
        """Whether a map reads a tensor at its own point alone."""
        for scope in program.scopes:
            assert isinstance(scope, Compute)
            for n in postorder(*scope.values):
                if isinstance(n, Load) and names.get(n.buffer) == result:
                    if len(n.indices) != len(scope.axes):
                        return False
                    if any(i is not a and as_int(a.extent) != 1 for i, a in zip(n.indices, scope.axes, strict=True)):
                        return False
        return True

    def column(self, program: Program, name: str, axis: int) -> int | None:
        """The axis of an input that is read by a result's axis and nothing else; None where there is none."""
        found: set[int] = set()
        for scope in program.scopes:
            if not isinstance(scope, Compute):
                return None
            for n in postorder(*scope.values):
                if isinstance(n, Load) and n.buffer == name:
                    if axis >= len(scope.axes):
                        return None
                    at = [k for k, i in enumerate(n.indices) if i is scope.axes[axis]]
                    if len(at) != 1:
                        return None
                    found.add(at[0])
        return found.pop() if len(found) == 1 else None


def _emit(editor: Editor, family: Sequence[_Sibling], finder: _Finder) -> None:
    """The common contraction with the maps behind it, and a slice for every sibling."""
    result = ""
    axis = family[0].axis
    for step, like in enumerate(family[0].nodes):
        program = finder.definitions.program(like)
        inner = {v: k for k, v in finder.definitions.operand_names(like).items()}
        operands: list[str] = []
        for position, name in enumerate(like.inputs):
            if step and name == family[0].nodes[step - 1].outputs[0].name:
                operands.append(result)
                continue
            at = finder.column(program, inner[name], axis) if name in finder.constants else None
            if at is None or finder.definitions.types[name].dims()[at] != family[0].extent:
                operands.append(editor.resolve(name))
                continue
            arrays = [editor.array(s.nodes[step].inputs[position]) for s in family]
            operands.append(editor.constant(np.concatenate([a for a in arrays if a is not None], axis=at)))
        result = editor.emit(like.op, operands, dict(like.attrs), like=like)
    start = 0
    for s in family:
        attrs = {"axes": (axis,), "starts": (start,), "sizes": (s.extent,), "steps": (1,)}
        editor.forward(s.result, editor.emit("slice", (result,), attrs, like=s.nodes[-1]))
        start += s.extent
