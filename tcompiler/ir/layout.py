"""Layouts: quasi-affine bijections from logical indices to physical ones, perhaps padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tcompiler.ir.scalar.grammar import Interned, Scalar, Var


@dataclass(frozen=True, slots=True, eq=False)
class IndexMap(Interned):
    """A map from index tuples to index tuples: ``lambda n, c, h, w: (n, c // 8, h, w, c % 8)``.

    Attributes:
        inputs: Variables that stand for the source indices (i64, no extent).
        outputs: One expression over the inputs per target index.
    """

    inputs: tuple[Var, ...]
    outputs: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Layout(Interned):
    """How a logical tensor lies in memory: a map to physical indices, and the physical shape.

    Attributes:
        map: Logical indices to physical indices; injective on the logical shape.
        shape: Physical shape, row-major in memory. It may hold more elements than the logical tensor (padding).
        zero_padding: Whether physical elements that no logical index maps to are zero; otherwise they are
            unspecified and never reach a kept result.
    """

    map: IndexMap
    shape: tuple[Scalar, ...]
    zero_padding: bool


def index_map(rank: int, outputs: Sequence[Scalar], inputs: Sequence[Var]) -> IndexMap:
    """An IndexMap from given variables; rank is checked against the inputs.

    Raises:
        ValueError: If the number of inputs is not the rank.
    """
    if len(inputs) != rank:
        raise ValueError(f"an index map of rank {rank} needs {rank} inputs, got {len(inputs)}")
    return IndexMap(tuple(inputs), tuple(outputs))


def permutation(axes: Sequence[int]) -> IndexMap:
    """The map that moves source axis axes[k] to position k."""
    from tcompiler.ir.scalar.grammar import parameter

    inputs = tuple(parameter(f"d{k}") for k in range(len(axes)))
    return IndexMap(inputs, tuple(inputs[a] for a in axes))
