"""Constant factors of integer products moved to around zero, where they fit a narrower range.

Σ x·w = Σ x·(w - c) + c·Σ x. Weights whose zero point is not in their middle come within the signed bytes so, of which
an instruction multiplies four at once, or without it those of seven bits within ±64, where products of bytes can be
summed by twos in 16 bits; Σ x is computed once for all columns. Sums of i32 wrap around, so
that holds for all values (R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018,
section 3.1.1, takes zero points apart in the same way).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir import dtypes as dt
from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node
from tcompiler.target.target import Target
from tcompiler.transform.editing import Editor, rewrite_nodes
from tcompiler.transform.narrow import SMALL

LEAST = 32
"""Columns from which on one more sum, that of the other factor, does not weigh."""
ROWS = 8
"""Rows from which on it is the products that take the time, rather than reading the weights."""
_BYTES = (-128, 127)
"""What fits a signed byte."""


@dataclass(frozen=True, slots=True)
class CenterConstants:
    """Subtracts the middle from constant factors that all fit the narrower range around it, though not around zero.

    Attributes:
        target: The machine, whose instructions say which range that is.
    """

    target: Target
    name: str = "center-constants"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with weights around zero, and behind the products what that changes."""
        limits = _BYTES if self.target.vnni else (-SMALL, SMALL)
        return rewrite_nodes(graph, store, partial(_center, limits=limits))


def _center(editor: Editor, node: Node, limits: tuple[int, int]) -> str | None:
    if node.op not in ("conv", "matmul") or node.outputs[0].type.dtype is not dt.i32 or node.attr("groups", 1) != 1:
        return None
    x, w, *rest = editor.inputs(node)
    weights, dims = editor.array(w), editor.dims(x)
    if weights is None or weights.ndim < 2 or weights.size == 0 or dims is None or len(dims) < 2:
        return None
    columns = weights.shape[0 if node.op == "conv" else -1]
    if columns < LEAST or prod(node.outputs[0].type.dims()) < ROWS * columns:
        return None
    low, high = int(weights.min()), int(weights.max())
    if limits[0] <= low <= high <= limits[1] or high - low > limits[1] - limits[0]:
        return None
    middle = (low - limits[0] + high - limits[1]) // 2
    centred = editor.constant((weights.astype(np.int64) - middle).astype(np.int32))
    product = editor.emit(node.op, (x, centred, *rest), dict(node.attrs), like=node)
    shift = editor.emit(
        "mul", (_sums(editor, node, x, weights), editor.constant(np.array(middle, np.int32))), like=node
    )
    return editor.emit("add", (product, shift), like=node)


def _sums(editor: Editor, node: Node, x: str, weights: NDArray[np.generic]) -> str:
    """What every column multiplies, summed: of windows first over channels, which are many."""
    x = _again(editor, x, node)
    if node.op == "matmul":
        return editor.emit("sum", (x,), {"axes": (-1,), "keepdims": True}, like=node)
    summed = editor.emit("sum", (x,), {"axes": (1,), "keepdims": True}, like=node)
    ones = editor.constant(np.ones((1, 1, *weights.shape[2:]), np.int32))
    return editor.emit("conv", (summed, ones), dict(node.attrs), like=node)


def _again(editor: Editor, name: str, like: Node) -> str:
    """A value that widens bytes, widened once more: every product does that in its own kernel."""
    node = editor.producers.get(name)
    if node is None or not (node.op == "cast" or (node.op == "add" and editor.array(node.inputs[1]) is not None)):
        return name
    return editor.emit(node.op, (_again(editor, node.inputs[0], like), *node.inputs[1:]), dict(node.attrs), like=like)
