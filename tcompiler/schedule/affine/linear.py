"""Index expressions as linear sums over atoms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tcompiler.ir.scalar import canonical
from tcompiler.ir.scalar.grammar import Scalar, add, index


def linear(node: Scalar) -> tuple[Mapping[Scalar, int], int]:
    """An i64 expression as a sum of coefficient times atom and a constant.

    Atoms are whatever is not linear: variables, quotients, remainders, minima, loads.
    """
    form = canonical.linear(node)
    return form.terms, form.const


def total(terms: Iterable[tuple[Scalar, int]]) -> Scalar:
    """The expression of a sum of (atom, coefficient) pairs."""
    result: Scalar = index(0)
    for atom, by in terms:
        result = add(result, atom * by)
    return result
