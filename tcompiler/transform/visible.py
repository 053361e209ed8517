"""What a constant mask hides for good is not computed: causal attention, windows, packed sequences.

    softmax(q @ k + mask) @ v        with -inf in the mask

A score of -inf has no share in its row. Where a block of rows is hidden from all columns before a first or behind a
last one, those columns of the scores, of the mask and the rows of v that belong to them are left out: the rows are cut
into pieces, each with its own columns, and the results are joined where they lie.

Everything follows from definitions: a contraction that reduces over the rows of what a map with a constant, and a chain
over rows for which -inf does not count, make of another contraction. What hidden scores would be is not asked: an
infinity or a NaN among keys or values that a row may not see does not reach it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.graph.grammar import Attr, ConstantStore, Graph, Node
from tcompiler.ir.scalar.grammar import Binary, Cast, Const, Load, Scalar, Select, Unary, postorder
from tcompiler.transform.definitions import Definitions, Operators, contraction, factors, permutes
from tcompiler.transform.editing import Editor
from tcompiler.transform.transposes import pointwise

LOWEST = -1e30
"""Masks that are no infinity: a score this low has no share either, as the exponential of what is far below."""
STEP = 48
"""Rows of a piece are a multiple of this, whole tiles of the products on both sides."""
PIECES = 6
"""Most pieces: each is a kernel of its own, and lays out the columns that it sees."""
WORTH = 0.85
"""Part of the scores that may be left for the cut to pay."""
POINTS = 1 << 12
"""Scores of a head from which on they are worth a kernel for each piece."""
ALIGNED = 16
"""Columns begin and end at multiples of this, as far as there are columns."""

Piece = tuple[int, int, int, int]
"""Start and end of rows, start and end of the columns that they see."""


@dataclass(frozen=True)
class LeaveOutHidden:
    """Cuts masked contractions into blocks of rows that read what they see.

    Attributes:
        operators: The operator table.
    """

    operators: Operators
    name: str = "leave-out-hidden"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with the pieces; what they replace is dead code."""
        if not graph.constants:
            return graph
        finder = _Finder(graph, store, Definitions(graph, self.operators))
        found: dict[str, _Chain] = {}
        for node in graph.nodes:
            chain = finder.ending_in(node)
            if chain is not None:
                found[chain.last.name] = chain
        if not found:
            return graph
        editor = Editor(graph, store)
        for node in graph.nodes:
            chain = found.get(node.name)
            if chain is None:
                editor.keep(node)
            else:
                editor.forward(node.outputs[0].name, chain.emit(editor))
        return editor.finish()


@dataclass(frozen=True)
class _Chain:
    """One masked chain.

    Attributes:
        definitions: The definitions of the graph's nodes.
        makers: Who makes each value.
        inner: The first contraction, what is made of its result, and the map with the mask, up to the second one.
        second: The contraction over rows.
        last: The node whose result the pieces stand for: the second contraction, or a permutation of its result.
        pieces: Start and end of rows, and of the columns that they see.
    """

    definitions: Definitions
    makers: Mapping[str, Node]
    inner: frozenset[str]
    second: Node
    last: Node
    pieces: tuple[Piece, ...]

    def emit(self, editor: Editor) -> str:
        """Emits the pieces, and returns the value that they make together."""
        scope = _scope(self.definitions.program(self.second))
        (rows,) = (f for f in self._loads(self.second) if self._inside(f[0]))
        row = rows[1].indices[-2]
        parts = []
        for first, end, low, high in self.pieces:
            ranges = {row: (first, end), scope.reduce_axes[0]: (low, high)}
            part = self._on_parts(editor, self.second, ranges)
            if self.last is not self.second:
                part = editor.emit(self.last.op, (part,), dict(self.last.attrs), like=self.last)
            parts.append(part)
        axis = _place(scope.axes, row)
        if self.last is not self.second:
            moved = _scope(self.definitions.program(self.last))
            (load,) = (v for v in moved.values if isinstance(v, Load))
            axis = _place(moved.axes, load.indices[axis])
        return parts[0] if len(parts) == 1 else editor.emit("concat", parts, {"axis": axis}, like=self.last)

    def _loads(self, node: Node) -> list[tuple[str, Load]]:
        """A contraction's operands, and how it reads them."""
        names = {v: k for k, v in self.definitions.operand_names(node).items()}
        load_of = {f.buffer: f for f in factors(_scope(self.definitions.program(node)))}
        return [(value, load_of[names[value]]) for value in node.inputs]

    def _inside(self, value: str) -> bool:
        node = self.makers.get(value)
        return node is not None and node.name in self.inner

    def _on_parts(self, editor: Editor, node: Node, ranges: Mapping[Scalar, tuple[int, int]]) -> str:
        """A contraction whose axes go over a part of their ranges."""
        inputs = []
        for value, load in self._loads(node):
            cuts = {k: ranges[i] for k, i in enumerate(load.indices) if i in ranges}
            inputs.append(self._cut(editor, value, cuts))
        return editor.emit(node.op, inputs, dict(node.attrs), like=node)

    def _cut(self, editor: Editor, value: str, cuts: Mapping[int, tuple[int, int]]) -> str:
        """A part of a value; no more of the chain is computed for it."""
        shape = self.definitions.types[value].dims()
        node = self.makers.get(value)
        cuts = {k: c for k, c in cuts.items() if shape[k] != 1}
        if node is not None and node.name in self.inner:
            program = self.definitions.program(node)
            if contraction(program) is not None:
                made = _scope(program).axes
                return self._on_parts(editor, node, {made[k]: c for k, c in cuts.items()})
            inputs = []
            for operand in node.inputs:
                offset = len(shape) - len(self.definitions.types[operand].shape)
                inputs.append(self._cut(editor, operand, {k - offset: c for k, c in cuts.items() if k >= offset}))
            return editor.emit(node.op, inputs, dict(node.attrs), like=node)
        cuts = {k: c for k, c in cuts.items() if c != (0, shape[k])}
        if not cuts:
            return editor.resolve(value)
        data = editor.array(editor.resolve(value))
        if data is not None:
            box = tuple(slice(*cuts.get(k, (0, n))) for k, n in enumerate(shape))
            return editor.constant(np.ascontiguousarray(data[box]))
        if node is not None and permutes(self.definitions.program(node)):
            # a slice of what is permuted is read where it lies
            scope = _scope(self.definitions.program(node))
            (load,) = (v for v in scope.values if isinstance(v, Load))
            source = self._cut(
                editor, node.inputs[0], {_place(load.indices, scope.axes[k]): c for k, c in cuts.items()}
            )
            return editor.emit(node.op, (source,), dict(node.attrs), like=node)
        axes = tuple(sorted(cuts))
        attrs: dict[str, Attr] = {
            "axes": axes,
            "starts": tuple(cuts[a][0] for a in axes),
            "sizes": tuple(cuts[a][1] - cuts[a][0] for a in axes),
            "steps": (1,) * len(axes),
        }
        return editor.emit("slice", (editor.resolve(value),), attrs, like=node)


class _Finder:
    """Looks for masked chains that end in a node."""

    def __init__(self, graph: Graph, store: ConstantStore, definitions: Definitions) -> None:
        self.definitions = definitions
        self.makers = {v.name: n for n in graph.nodes for v in n.outputs}
        self._store = store
        self._constants = {c.name: c for c in graph.constants}
        self._outputs = {v.name for v in graph.outputs}
        self._readers: dict[str, list[Node]] = {}
        for n in graph.nodes:
            for i in dict.fromkeys(n.inputs):
                self._readers.setdefault(i, []).append(n)

    def ending_in(self, node: Node) -> _Chain | None:
        """The chain that ends in a contraction, if there is one and a mask hides enough of it."""
        program = self.definitions.program(node)
        scope = contraction(program) if len(node.inputs) == 2 and len({*node.inputs}) == 2 else None
        if scope is None or len(program.scopes) != 1:
            return None
        operands = self.definitions.operand_names(node)
        for load in factors(scope):
            chain = self._alone(operands.get(load.buffer, ""))
            whole = (
                len(load.indices) > 1 and load.indices[-1] is scope.reduce_axes[0] and load.indices[-2] in scope.axes
            )
            if chain is None or not whole or len(chain.inputs) != 1 or not forgets(self.definitions.program(chain)):
                continue
            masked = self._alone(chain.inputs[0])
            visible = None if masked is None else self._visible(masked)
            path = [] if masked is None or visible is None else self._path(masked)
            pieces = cut(visible) if path and visible is not None else ()
            if pieces:
                inner = frozenset(n.name for n in (chain, *path))
                return _Chain(self.definitions, self.makers, inner, node, self._last(node), pieces)
        return None

    def _alone(self, value: str) -> Node | None:
        """The maker of a value that one node reads."""
        maker = self.makers.get(value)
        alone = maker is not None and len(self._readers[value]) == 1 and value not in self._outputs
        return maker if alone and maker is not None and len(maker.outputs) == 1 else None

    def _last(self, node: Node) -> Node:
        (out,) = node.outputs
        after = self._readers.get(out.name, [])
        alone = len(after) == 1 and out.name not in self._outputs
        return after[0] if alone and permutes(self.definitions.program(after[0])) else node

    def _path(self, masked: Node) -> list[Node]:
        """The nodes from a map back to the contraction that it is made of; none if there is no such contraction."""
        path = [masked]
        while True:
            node = path[-1]
            program = self.definitions.program(node)
            if contraction(program) is not None:
                single = len(program.scopes) == 1 and len(node.inputs) == 2 and len({*node.inputs}) == 2
                return path if single else []
            if not pointwise(program) or len(node.outputs) != 1:
                return []
            (out,) = node.outputs
            whole = [i for i in node.inputs if i and self.definitions.types[i].shape == out.type.shape]
            makers = [m for i in whole if (m := self._alone(i)) is not None]
            if "" in node.inputs or len(makers) != 1:
                return []
            path.append(makers[0])

    def _visible(self, masked: Node) -> NDArray[np.bool_] | None:
        """Which columns each row sees behind a map with a constant mask: an array of rows × columns."""
        program = self.definitions.program(masked)
        shape = masked.outputs[0].type.dims()
        if len(program.scopes) != 1 or not pointwise(program) or len(shape) < 2:
            return None
        operands = self.definitions.operand_names(masked)

        def data(node: Scalar) -> NDArray[Any] | None:
            if isinstance(node, Const):
                return np.asarray(node.value)
            constant = self._constants.get(operands.get(node.buffer, "")) if isinstance(node, Load) else None
            return None if constant is None else self._store.typed(constant)

        hidden = None
        match _scope(program).values[0]:
            case Binary(op="add", a=a, b=b):
                found = [d for d in (data(a), data(b)) if d is not None]
                hidden = found[0] <= LOWEST if len(found) == 1 else None
            case Select(cond=cond, a=a, b=b):
                where = data(cond)
                low = [(d := data(side)) is not None and bool((d <= LOWEST).all()) for side in (a, b)]
                if where is not None and low.count(True) == 1:
                    hidden = where if low[0] else ~where
        if hidden is None or hidden.ndim < 2 or hidden.shape[-1] != shape[-1] or not hidden.any():
            return None
        seen = (~hidden).reshape(-1, *hidden.shape[-2:]).any(axis=0)
        return np.broadcast_to(seen, shape[-2:])


def cut(visible: NDArray[np.bool_]) -> tuple[Piece, ...]:
    """Cuts rows into pieces that see a part of the columns.

    Args:
        visible: Which columns each row sees.

    Returns:
        The pieces in order; none where they would save little.
    """
    rows, columns = visible.shape
    if rows * columns < POINTS:
        return ()
    step = STEP * -(-rows // (STEP * PIECES))
    pieces: list[Piece] = []
    for first in range(0, rows, step):
        part = visible[first : first + step]
        seen = np.flatnonzero(part.any(axis=0))
        low, high = 0, columns
        # a row that sees nothing is not a number, or the mean of all: either way all of its columns count
        if part.any(axis=1).all():
            low, high = int(seen[0]) // ALIGNED * ALIGNED, min(columns, -(-int(seen[-1] + 1) // ALIGNED) * ALIGNED)
        if pieces and pieces[-1][2:] == (low, high):
            pieces[-1] = (pieces[-1][0], first + len(part), low, high)
        else:
            pieces.append((first, first + len(part), low, high))
    left = sum((end - first) * (high - low) for first, end, low, high in pieces)
    return tuple(pieces) if left <= WORTH * rows * columns else ()


def forgets(program: Program) -> bool:
    """Whether an element of minus infinity in a row has no effect on the others and becomes 0 (as in a softmax).

    Args:
        program: A program of one input, which works along the last axis of it.
    """
    if len(program.inputs) != 1 or len(program.outputs) != 1 or not program.inputs[0].shape:
        return False
    rank = len(program.inputs[0].shape)
    hidden: dict[str, float | None] = {program.inputs[0].name: -inf}
    for scope in program.scopes:
        if not isinstance(scope, Compute) or len(scope.values) != 1 or len(scope.reduce_axes) > 1:
            return False
        column = scope.reduce_axes[0] if scope.reduce_axes else scope.axes[-1] if scope.axes else None
        loads = [n for n in postorder(*scope.values) if isinstance(n, Load)]
        if any(n.buffer in hidden and (len(n.indices) != rank or n.indices[-1] is not column) for n in loads):
            return False
        value = _hidden_value(scope.values[0], hidden)
        if not scope.reduce_axes:
            if any(n.buffer in hidden for n in loads):
                if len(scope.axes) != rank:
                    return False
                hidden[scope.tensors[0].name] = value
        elif scope.reducer is None or not any(n.buffer in hidden for n in loads):
            return False
        else:
            (identity,) = scope.reducer.identity
            if not isinstance(identity, Const) or value is None or value != identity.value:
                return False
    return hidden.get(program.outputs[0]) == 0.0


def _hidden_value(value: Scalar, hidden: Mapping[str, float | None]) -> float | None:
    """What an expression is in a hidden column; None where that depends on the visible ones, which are finite."""
    known: dict[Scalar, float | None] = {}
    for n in postorder(value):
        known[n] = _folded(n, known, hidden)
    return known[value]


def _folded(n: Scalar, known: Mapping[Scalar, float | None], hidden: Mapping[str, float | None]) -> float | None:
    match n:
        case Const():
            return float(n.value) if n.dtype.is_float else None
        case Load(buffer=buffer):
            return hidden.get(buffer)
        case Cast(dtype=dtype, a=a):
            return known[a] if dtype.is_float else None
        case Unary(op="exp", a=a):
            return 0.0 if known[a] == -inf else None
        case Binary(op=op, a=a, b=b):
            x, y = known[a], known[b]
            if op == "mul" and 0.0 in (x, y):
                return 0.0
            if op == "div" and x == 0.0:
                return 0.0
            if op in ("add", "sub", "min") and x == -inf and y not in (inf, -inf):
                return -inf
            if op in ("add", "min") and y == -inf and x not in (inf, -inf):
                return -inf
    return None


def _place(among: Sequence[Scalar], node: Scalar) -> int:
    return next(k for k, n in enumerate(among) if n is node)


def _scope(program: Program) -> Compute:
    (scope, *_) = program.scopes
    assert isinstance(scope, Compute)
    return scope
