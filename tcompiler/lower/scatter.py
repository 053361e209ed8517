"""Scatters: a copy of the base, and one write after the other into it."""

from __future__ import annotations

from tcompiler.ir.expr.grammar import Scatter
from tcompiler.ir.loop.grammar import Stmt, Store, seq
from tcompiler.ir.scalar.grammar import (
    Load,
    Scalar,
    Select,
    as_int,
    conjunction,
    greater_equal,
    less,
    maximum,
    minimum,
)
from tcompiler.ir.scalar.rewrite import substitute
from tcompiler.lower.nests import Around, Nests


def lower_scatter(scope: Scatter, nests: Nests, around: Around) -> Stmt:
    """Copies the base, then writes point by point, in order.

    A point whose place is outside the tensor leaves an element as it is: its indices are clamped, so that no write
    needs a branch, and what it would have written is not read.

    Args:
        scope: The scatter.
        nests: Where loops and buffers come from.
        around: Axes of the scans around.
    """
    t = scope.tensor
    copied = nests.copy(t, scope.base, around)
    if any(as_int(e) == 0 for e in t.shape):
        return copied
    nest = nests.nest(t.name, [(a, "ordered") for a in scope.axes], around)

    def here(node: Scalar) -> Scalar:
        return substitute(nests.physical(node), nest.mapping)

    indices = [here(i) for i in scope.indices]
    inside = conjunction(*(c for i, e in zip(indices, t.shape, strict=True) for c in (greater_equal(i, 0), less(i, e))))
    clamped = tuple(maximum(minimum(i, e - 1), 0) for i, e in zip(indices, t.shape, strict=True))
    place = nests.place(t.name, clamped)
    old, value = Load(t.name, t.dtype, place), here(scope.value)
    if scope.combiner is not None:
        parts: dict[Scalar, Scalar] = {scope.combiner.lhs[0]: old, scope.combiner.rhs[0]: value}
        value = substitute(scope.combiner.combine[0], parts)
    return seq(copied, nest.block(Store(t.name, place, Select(inside, value, old))))
