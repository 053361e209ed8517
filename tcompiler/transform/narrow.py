"""Constant factors of integer products in the narrowest type that holds their values, which instructions take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, postorder
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.transform.definitions import Definitions, Operators
from tcompiler.transform.editing import Editor

_TYPES = (np.int8, np.uint8, np.int16)
SMALL = 64
"""Sums of two products of a byte and a number up to this fit 16 bits, signed, which takes fewer instructions."""


@dataclass(frozen=True, slots=True)
class NarrowConstants:
    """Keeps a constant that is a factor of integer products in fewer bits, and widens it where it is read.

    Where all of its values are small and many products share them, a clip behind it, which changes none, says so.

    Attributes:
        operators: The operator table.
    """

    operators: Operators
    name: str = "narrow-constants"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with narrow constants and casts behind them."""
        editor = Editor(graph, store)
        definitions = Definitions(graph, self.operators)
        for node in graph.nodes:
            wide = [n for n in node.inputs if n and definitions.types[n].dtype in (dt.i32, dt.i64)]
            if wide:
                factors = _factors(definitions.program(node))
                shared = _shared(definitions.program(node))
                for inner, name in definitions.operand_names(node).items():
                    array = editor.array(name) if inner in factors and name in wide else None
                    narrow = None if array is None else _narrowed(array)
                    if narrow is not None:
                        to = definitions.types[name].dtype
                        made = editor.emit("cast", (editor.constant(narrow),), {"to": to}, like=node)
                        if inner in shared and int(np.abs(narrow.astype(np.int32)).max()) <= SMALL:
                            made = _clipped(editor, made, node)
                        editor.forward(name, made)
            editor.keep(node)
        return editor.finish()


def _narrowed(array: NDArray[Any]) -> NDArray[Any] | None:
    """The same numbers in the first type that holds them all; None for single elements, and where none does."""
    if array.size < 2:
        return None
    low, high = int(array.min()), int(array.max())
    for t in _TYPES:
        if np.iinfo(t).min <= low and high <= np.iinfo(t).max:
            return array.astype(t)
    return None


def _clipped(editor: Editor, name: str, like: Node) -> str:
    """A value within the limits, as whoever reads the definition can tell."""
    for op, bound in (("max", -SMALL), ("min", SMALL)):
        limit = editor.constant(np.array(bound, editor.types[name].dtype.numpy))
        name = editor.emit(op, (name, limit), like=like)
    return name


def _shared(program: Program) -> set[str]:
    """Inputs that are factors of products whose results lie along an axis of theirs alone: laid out ahead for that."""
    found: set[str] = set()
    for s in program.scopes:
        if not isinstance(s, Compute) or not s.reduce_axes:
            continue
        for v in s.values:
            if isinstance(v, Binary) and v.op == "mul":
                axes, left, right = frozenset(s.axes), free_vars(v.a), free_vars(v.b)
                if axes & (left - right) and axes & (right - left):
                    found |= _read(v)
    return found


def _factors(program: Program) -> set[str]:
    """Inputs that a program multiplies with others in a sum."""
    found: set[str] = set()
    for s in program.scopes:
        if isinstance(s, Compute) and s.reduce_axes:
            for v in s.values:
                if isinstance(v, Binary) and v.op == "mul":
                    found |= _read(v)
    return found & {t.name for t in program.inputs}


def _read(value: Scalar) -> set[str]:
    return {n.buffer for n in postorder(value) if isinstance(n, Load)}
