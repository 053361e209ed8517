"""What is known of a floating-point value from the expression alone."""

from __future__ import annotations

from math import inf

from tcompiler.ir.scalar.grammar import Binary, Const, Scalar, Select, Unary
from tcompiler.ir.scalar.interpret import const_value

DEPTH = 8
"""Nodes on a path that are looked at."""


def at_most(node: Scalar, depth: int = DEPTH) -> float:
    """A number that the value never exceeds, unless it is NaN; infinity where nothing is known."""
    if depth == 0:
        return inf
    match node:
        case Const():
            value = float(const_value(node))
            return value if value == value else inf
        case Binary(op="min", a=a, b=b):
            return min(at_most(a, depth - 1), at_most(b, depth - 1))
        case Binary(op="max", a=a, b=b) | Select(a=a, b=b):
            return max(at_most(a, depth - 1), at_most(b, depth - 1))
        case Unary(op="neg", a=Unary(op="abs")):
            return 0.0
        case Unary(op="neg", a=Binary(op="mul", a=a, b=b)) if a is b:
            return 0.0
        case _:
            return inf
