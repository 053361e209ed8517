"""Contractions chained over rows: scores, what is made of their rows, and a contraction over these rows again.

Attention is `softmax(q @ k) @ v`: the matrix in the middle is as large as both sequences together allow, is read once
and never again. Where one group makes it, a second works on its rows and a third reduces over them, they become one
group, so that one kernel can keep a few rows at a time close to the core. What is only put in another order for such a
group, or for a single contraction, belongs to it as well: it lays its operands out anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node
from tcompiler.ir.scalar.grammar import Const, Load, Var, as_int, postorder
from tcompiler.target.target import HIDES_A_COPY
from tcompiler.transform.definitions import Definitions, Operators, contraction, factors, is_map, permutes, points
from tcompiler.transform.group import VIEW

FEWEST_ROWS = 4
"""Rows that share what is laid out for them; below, each matrix is read once anyway."""
FEWEST_COLUMNS = 16
"""Columns below which rows of scores fill no vectors."""


@dataclass(frozen=True)
class ChainContractions:
    """Joins groups of contraction, rows and contraction.

    Attributes:
        operators: The operator table.
    """

    operators: Operators
    name: str = "chain"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """Sets the groups of a grouped graph anew."""
        definitions = Definitions(graph, self.operators)
        groups: dict[str, list[Node]] = {}
        for n in graph.nodes:
            if n.group is not None and n.group != VIEW:
                groups.setdefault(n.group, []).append(n)
        found = _Finder(graph, definitions, groups)
        renamed: dict[str, str] = {}
        for name, nodes in groups.items():
            parts = found.before(nodes)
            if parts:
                renamed |= dict.fromkeys([*parts, *found.moved(parts[0], name)], name)
        for name in groups:
            if name not in renamed and name not in renamed.values():
                renamed |= dict.fromkeys(found.absorbed(name), name)
        if not renamed:
            return graph
        joined = tuple(replace(n, group=renamed.get(n.group or "", n.group)) for n in graph.nodes)
        return replace(graph, nodes=joined)


class _Finder:
    """Looks for chains that end in a group."""

    def __init__(self, graph: Graph, definitions: Definitions, groups: dict[str, list[Node]]) -> None:
        self.definitions = definitions
        self.groups = groups
        self.constants = {c.name for c in graph.constants}
        self.outputs = {v.name for v in graph.outputs}
        self.group_of = {v.name: n.group or "" for n in graph.nodes for v in n.outputs}
        self.readers: dict[str, list[Node]] = {}
        for n in graph.nodes:
            for value in dict.fromkeys(n.inputs):
                self.readers.setdefault(value, []).append(n)

    def before(self, nodes: Sequence[Node]) -> list[str]:
        """The groups of the scores and of their rows, if a group's first node reduces over such rows."""
        second = contraction(self.definitions.program(nodes[0]))
        if second is None or not all(is_map(self.definitions.program(n)) for n in nodes[1:]):
            return []
        operands = self.definitions.operand_names(nodes[0])
        for load in factors(second):
            value = operands.get(load.buffer, "")
            middle = self.group_of.get(value, VIEW)
            if middle == VIEW or middle == nodes[0].group or not self._inner(value, nodes[0].group):
                continue
            if not _over_rows(second, load) or self._fixed(second, operands):
                continue
            first = self._scores(middle, value)
            if first:
                return [first, middle]
        return []

    def moved(self, *groups: str) -> list[str]:
        """The groups that only permute what the first nodes of some groups read: done while it is laid out anyway."""
        result = []
        for group in groups:
            for value in dict.fromkeys(self.groups[group][0].inputs):
                maker = self.groups.get(self.group_of.get(value, VIEW), [])
                if len(maker) == 1 and self._inner(value, group) and permutes(self.definitions.program(maker[0])):
                    result.append(self.group_of[value])
        return result

    def absorbed(self, group: str) -> list[str]:
        """The groups that only permute what a contraction reads, if it does not read that so often that a copy pays."""
        node = self.groups[group][0]
        program = self.definitions.program(node)
        if contraction(program) is None:
            return []
        read = {self.group_of.get(i, VIEW): prod(self.definitions.types[i].dims()) for i in node.inputs if i}
        return [g for g in self.moved(group) if points(program) <= HIDES_A_COPY * read[g]]

    def _inner(self, value: str, group: str | None) -> bool:
        """Whether a value is read in one group only."""
        return value not in self.outputs and all(n.group == group for n in self.readers.get(value, []))

    def _fixed(self, scope: Compute, operands: dict[str, str]) -> bool:
        """Whether an operand is known at compile time: it is laid out once, for a kernel of its own."""
        return any(operands.get(f.buffer) in self.constants for f in factors(scope))

    def _scores(self, group: str, result: str) -> str:
        """The group that makes what a group works on row by row, "" if there is none."""
        nodes = self.groups[group]
        programs = [self.definitions.program(n) for n in nodes]
        if any(contraction(p) is not None for p in programs) or all(is_map(p) for p in programs):
            return ""
        if any(not self._inner(v.name, group) for n in nodes for v in n.outputs if v.name != result):
            return ""
        made = {v.name for n in nodes for v in n.outputs}
        for value in dict.fromkeys(i for n in nodes for i in n.inputs if i and i not in made):
            first = self.group_of.get(value, VIEW)
            if first == VIEW or not self._inner(value, group):
                continue
            maker = self.groups[first]
            scope = contraction(self.definitions.program(maker[0]))
            rest = all(is_map(self.definitions.program(n)) for n in maker[1:])
            inside = all(self._inner(v.name, first) for n in maker for v in n.outputs if v.name != value)
            if scope is None or not rest or not inside:
                continue
            shape = self.definitions.types[value].dims()
            fits = len(shape) > 1 and shape[-1] >= FEWEST_COLUMNS and shape[-2] >= FEWEST_ROWS
            wide = self.definitions.types[value].dtype.name in ("f32", "f64")
            same = self.definitions.types[result].dims() == shape
            fixed = self._fixed(scope, self.definitions.operand_names(maker[0]))
            if fits and wide and same and not fixed and all(_by_rows(p, len(shape)) for p in programs):
                return first
        return ""


def _over_rows(scope: Compute, load: Load) -> bool:
    """Whether a contraction reduces over the last axis of an operand, whose other axes are its own."""
    (axis,) = scope.reduce_axes
    others = load.indices[:-1]
    return load.indices[-1] is axis and all(isinstance(i, Const | Var) and i is not axis for i in others)


def _by_rows(program: Program, rank: int) -> bool:
    """Whether every scope is pointwise or reduces over the last axis of what it reads."""
    for scope in program.scopes:
        if not isinstance(scope, Compute):
            return False
        if not scope.reduce_axes:
            continue
        live = [a for a in scope.reduce_axes if as_int(a.extent) != 1]
        for n in postorder(*scope.values):
            if isinstance(n, Load) and live and (len(n.indices) != rank or n.indices[-1] is not live[-1]):
                return False
        if len(live) > 1:
            return False
    return True
