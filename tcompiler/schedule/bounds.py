"""Predicates as bounds of sums of loop variables, and where along a loop they turn."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

from tcompiler.ir.loop.grammar import For
from tcompiler.ir.scalar.canonical import bounds, linear
from tcompiler.ir.scalar.grammar import Binary, Scalar, Var, as_int, conjuncts
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.tree import blocks_under


class Bound(NamedTuple):
    """A condition ``sum of terms + constant <= 0``."""

    terms: dict[Scalar, int]
    constant: int


_found: dict[Scalar, list[Bound]] = {}


def bounds_of(predicate: Scalar) -> list[Bound]:
    """The conjuncts of a predicate that are linear comparisons."""
    found = _found.get(predicate)
    if found is None:
        found = _found[predicate] = []
        for c in conjuncts(predicate):
            if isinstance(c, Binary) and c.op in ("lt", "le", "gt", "ge"):
                a, b = (c.a, c.b) if c.op in ("lt", "le") else (c.b, c.a)
                form = linear(a - b)
                found.append(Bound(form.terms, form.const + (c.op in ("lt", "gt"))))
    return found


def rest_of(bound: Bound, var: Var) -> tuple[int, int, int] | None:
    """The variable's coefficient and the bounds of everything else in the sum; None where they are not known."""
    by = bound.terms.get(var)
    if by is None:
        return None
    low = high = bound.constant
    for atom, scale in bound.terms.items():
        if atom is var:
            continue
        lo, hi = bounds(atom)
        if lo is None or hi is None or var in free_vars(atom):
            return None
        if scale < 0:
            lo, hi = hi, lo
        low, high = low + scale * lo, high + scale * hi
    return by, low, high


def turns(loop: For) -> list[int]:
    """Where to cut a loop so that each piece meets, or misses, every linear predicate below as one.

    Args:
        loop: A loop of constant extent.

    Returns:
        The first iterations of pieces, rising: a predicate that holds in one of its iterations, wherever the loops
        inside stand, holds there in all of them.
    """
    extent = as_int(loop.var.extent) or 0
    points: set[int] = set()
    for block in blocks_under(loop.body):
        for bound in bounds_of(block.predicate):
            rest = rest_of(bound, loop.var)
            if rest is None:
                continue
            by, low, high = rest
            # taps that are apart leave places between them that meet the same ones
            apart = gcd(*(c for atom, c in bound.terms.items() if atom is not loop.var)) or 1
            points.update(-r // by + 1 if by > 0 else -(-r // -by) for r in range(low, high + 1, apart))
    return sorted(p for p in points if 0 < p < extent)
