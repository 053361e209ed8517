"""Constant folding: what depends on constants alone is computed once, at compile time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tcompiler.ir.graph.grammar import ConstantStore, Graph, Value
from tcompiler.ops.evaluate import evaluate, type_of, work
from tcompiler.transform.editing import Editor


@dataclass(frozen=True, slots=True)
class FoldConstants:
    """Evaluates nodes whose inputs are all constants.

    Attributes:
        small: A result of at most this many elements is always folded.
        growth: A larger one only if it has at most this many times the elements of its inputs, so that a model does
            not grow by its broadcasts.
        largest: A result of more elements than this is never folded.
        most: All results together have at most this many times the elements of the model's own constants, and as many
            as `spare` more: every one of them stays in memory.
        work: Evaluating them takes at most as many elements' work as there are in the model's constants times this,
            and `spare` more.
        leave: Operators that are not evaluated: what they are made of is still wanted.
    """

    small: int = 1 << 14
    growth: float = 1.0
    largest: int = 1 << 28
    most: int = 8
    work: int = 64
    spare: int = 1 << 25
    leave: frozenset[str] = frozenset()
    name: str = "fold-constants"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with the results as constants."""
        editor = Editor(graph, store)
        given = sum(math.prod(c.type.dims()) for c in graph.constants)
        room, strength = self.most * given + self.spare, self.work * given + self.spare
        for node in graph.nodes:
            if not any(editor.uses[v.name] for v in node.outputs):
                editor.keep(node)
                continue
            names = editor.inputs(node)
            arrays = [editor.array(n) if n else None for n in names]
            # A copy of a constant is an output's own buffer, or goes away in canonical form.
            if (
                node.op == "identity"
                or node.op in self.leave
                or any(n and a is None for n, a in zip(names, arrays, strict=True))
                or not self._fits(node.outputs, names, arrays)
            ):
                editor.keep(node)
                continue
            size = sum(math.prod(v.type.dims()) for v in node.outputs)
            cost = work(node.op, [None if a is None else type_of(a) for a in arrays], dict(node.attrs))
            if size > room or cost > strength:
                editor.keep(node)
                continue
            room, strength = room - size, strength - cost
            for v, result in zip(node.outputs, evaluate(node.op, arrays, dict(node.attrs)), strict=True):
                editor.forward(v.name, editor.constant(result))
        return editor.finish()

    def _fits(self, outputs: Sequence[Value], names: Sequence[str], arrays: Sequence[NDArray[Any] | None]) -> bool:
        """Whether the results are worth keeping in memory."""
        # one that is read twice is there once
        given = sum({n: a.size for n, a in zip(names, arrays, strict=True) if a is not None}.values())
        for v in outputs:
            size = math.prod(v.type.dims())
            if size > self.largest or (size > self.small and size > self.growth * given):
                return False
        return True
