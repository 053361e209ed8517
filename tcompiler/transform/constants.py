"""Constant folding: what depends on constants alone is computed once, at compile time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tcompiler.ir.graph.grammar import ConstantStore, Graph, Value
from tcompiler.ops.evaluate import evaluate
from tcompiler.transform.editing import Editor


@dataclass(frozen=True, slots=True)
class FoldConstants:
    """Evaluates nodes whose inputs are all constants.

    Attributes:
        small: A result of at most this many elements is always folded.
        growth: A larger one only if it has at most this many times the elements of its inputs, so that a model does
            not grow by its broadcasts.
        largest: A result of more elements than this is never folded.
    """

    small: int = 1 << 14
    growth: float = 1.0
    largest: int = 1 << 28
    name: str = "fold-constants"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with the results as constants."""
        editor = Editor(graph, store)
        for node in graph.nodes:
            names = editor.inputs(node)
            arrays = [editor.array(n) if n else None for n in names]
            # A copy of a constant is an output's own buffer, or goes away in canonical form.
            if (
                node.op == "identity"
                or any(n and a is None for n, a in zip(names, arrays, strict=True))
                or not self._fits(node.outputs, arrays)
            ):
                editor.keep(node)
                continue
            for v, result in zip(node.outputs, evaluate(node.op, arrays, dict(node.attrs)), strict=True):
                editor.forward(v.name, editor.constant(result))
        return editor.finish()

    def _fits(self, outputs: Sequence[Value], arrays: Sequence[NDArray[Any] | None]) -> bool:
        """Whether the results are worth keeping in memory."""
        given = sum(a.size for a in arrays if a is not None)
        for v in outputs:
            size = math.prod(v.type.dims())
            if size > self.largest or (size > self.small and size > self.growth * given):
                return False
        return True
