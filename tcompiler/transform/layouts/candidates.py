"""The orders of axes that each value of a graph may have.

A contraction whose columns (the axis that only a constant operand has) are not the last axis of its result may write it
with that axis last (channels-last for convolutions), or row-major. What maps, windows and reductions write may have the
orders of what they read at the same axes. Inputs and results of the model, and values that are looked at in another
shape, are row-major. Values that lie in one memory, as parts of a concatenation do, have one order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import Graph, Node, TensorType
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.transform.definitions import Definitions, is_map, is_view
from tcompiler.transform.group import VIEW
from tcompiler.transform.layouts.costs import Order, last_in, plain, same_places
from tcompiler.transform.layouts.sums import Sums, contraction, same_axes

MOST = 4
"""Orders that a value may have."""


class Ties:
    """Values that lie in one memory: their axes have one order."""

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = {}

    def tie(self, a: str, b: str) -> None:
        """Notes that two values lie in one memory."""
        one, other = self._of.setdefault(a, [a]), self._of.setdefault(b, [b])
        if one is not other:
            one += other
            self._of.update(dict.fromkeys(other, one))

    def members(self, name: str) -> Sequence[str]:
        """A value and those that lie in one memory with it; the first one stands for all."""
        return self._of.get(name, [name])


@dataclass(frozen=True, slots=True)
class Reader:
    """A node that makes values, as far as layouts depend on it.

    Attributes:
        node: The node.
        program: Its definition.
        sums: Its contraction of data by a constant, if it is one whose columns are wide enough.
        follows: The values that it reads at the axes of its result.
        data: The other values of three axes or more that it reads and that are not known.
    """

    node: Node
    program: Program
    sums: Sums | None
    follows: tuple[str, ...]
    data: tuple[str, ...]


class Candidates:
    """Finds what every value may be.

    Args:
        graph: A grouped graph.
        definitions: The definitions of its nodes.
        narrowest: A column axis shorter than this is left where it is.

    Attributes:
        readers: The nodes that are in kernels, in order.
        ties: Which values lie in one memory.
    """

    def __init__(self, graph: Graph, definitions: Definitions, narrowest: int) -> None:
        self._definitions = definitions
        self._constants = {c.name for c in graph.constants}
        self._narrowest = narrowest
        self._sums: dict[tuple[int, frozenset[str]], Sums | None] = {}
        self._same: dict[tuple[int, str], bool] = {}
        self.ties = Ties()
        fixed = {v.name for v in (*graph.inputs, *graph.outputs)} | self._constants
        for n in graph.nodes:
            if n.group == VIEW and is_view(definitions.program(n)):
                fixed |= {*n.inputs, *(v.name for v in n.outputs)}
            elif n.group == VIEW:
                for name in n.inputs:
                    self.ties.tie(n.outputs[0].name, name)
        self._fixed = {m for name in fixed for m in self.ties.members(name)}
        self.readers = tuple(self._reader(n) for n in graph.nodes if n.group != VIEW)
        self._orders: dict[str, list[Order]] = {}
        self._made: dict[str, list[Order]] = {}
        self._dims: dict[str, tuple[int, ...]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._leaving = _leaving(graph)
        self._summed = {r.node.group for r in self.readers if r.sums is not None}
        self._reducing = {r.node.group for r in self.readers if not is_map(r.program)}
        self._contracted = {x for r in self.readers if r.sums is not None for x in (*r.follows, *r.data)}
        self._spread()

    def type_of(self, name: str) -> TensorType:
        """A value's type."""
        return self._definitions.types[name]

    def dims_of(self, name: str) -> tuple[int, ...]:
        """A value's extents."""
        if name not in self._dims:
            self._dims[name] = self.type_of(name).dims()
        return self._dims[name]

    def variable(self, name: str) -> str:
        """The value that stands for a value's memory."""
        return self.ties.members(name)[0]

    def orders(self, name: str) -> Sequence[Order]:
        """The orders that a value may have for those who read it; the one to take among equals comes first."""
        return self._orders.get(self.variable(name)) or [plain(len(self.type_of(name).shape))]

    def summed(self, group: str | None) -> bool:
        """Whether a group has a contraction."""
        return group in self._summed

    def apart(self, name: str) -> bool:
        """Whether a kernel may write a value in an order of its own, with a copy behind it."""
        return name in self._made

    def made(self, name: str) -> Sequence[Order]:
        """The orders in which a kernel may write a value."""
        return self._made.get(name) or self.orders(name)

    def in_rows(self, name: str) -> bool:
        """Whether contractions read a value that has a memory of its own, which nobody looks at in another shape."""
        return name in self._contracted and name not in self._fixed and len(self.ties.members(name)) == 1

    def _reader(self, node: Node) -> Reader:
        program = self._definitions.program(node)
        operands = self._definitions.operand_names(node)
        known = frozenset(inner for inner, outer in operands.items() if outer in self._constants)
        at = id(program), known
        if at not in self._sums:
            self._sums[at] = contraction(program, known)
        sums = self._sums[at]
        follows: list[str] = []
        data: list[str] = []
        for inner, outer in operands.items():
            shape = self.type_of(outer).shape
            if outer in self._constants or len(shape) < 3:
                continue
            beside = id(program), inner
            if beside not in self._same:
                self._same[beside] = same_axes(program, inner)
            same = self._same[beside] and len(shape) == len(node.outputs[0].type.shape)
            (follows if same else data).append(outer)
        wide = sums is not None and sums.columns >= self._narrowest
        return Reader(node, program, sums if wide else None, tuple(follows), tuple(data))

    def _spread(self) -> None:
        """Sets the orders of all values, until no reader has one to follow that its result does not have."""
        readers, changed = list(self.readers), True
        while changed:
            changed = False
            for r in readers:
                for value in r.node.outputs:
                    changed |= self._add(r, value.name)
            readers = [r for r in readers if r.sums is None and r.follows]

    def _add(self, r: Reader, name: str) -> bool:
        rank = len(self.type_of(name).shape)
        if rank < 3 or any(as_int(e) is None for e in self.type_of(name).shape):
            return False
        found: list[Order] = []
        if r.sums is not None and len(r.node.outputs[0].type.shape) == rank:
            found.append(last_in(plain(rank), r.sums.place))
        elif r.sums is None:
            found += [o for x in r.follows for o in self.made(x) if len(o) == rank]
        found.append(plain(rank))
        changed = False
        if r.node.group in self._reducing and name in self._leaving:
            changed = self._grown(self._made.setdefault(name, []), found, self.dims_of(name))
        if name not in self._fixed:
            variable = self.variable(name)
            changed |= self._grown(self._orders.setdefault(variable, []), found, self._largest(variable))
        return changed

    def _largest(self, variable: str) -> tuple[int, ...]:
        """The shape of the largest value in a memory."""
        if variable not in self._shapes:
            self._shapes[variable] = max(map(self.dims_of, self.ties.members(variable)), key=prod)
        return self._shapes[variable]

    def _grown(self, orders: list[Order], found: Iterable[Order], dims: tuple[int, ...]) -> bool:
        """Adds orders that put elements elsewhere than those that are there."""
        before = len(orders)
        for order in found:
            rows = plain(len(order))
            if len(orders) >= MOST or order in orders:
                continue
            canonical = rows if same_places(order, rows, dims) else order
            if not any(same_places(canonical, o, dims) for o in orders):
                orders.append(canonical)
        return len(orders) > before


def _leaving(graph: Graph) -> set[str]:
    """The values that are read outside the group that makes them, and not inside it as well."""
    group = {v.name: n.group for n in graph.nodes for v in n.outputs}
    found, inside = {v.name for v in graph.outputs}, set[str]()
    for n in graph.nodes:
        for i in n.inputs:
            if i in group:
                (inside if n.group == group[i] != VIEW else found).add(i)
    return found - inside
