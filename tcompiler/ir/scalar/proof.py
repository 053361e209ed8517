"""Does a condition on indices hold, always or never, where some facts do? By canonical forms and sums of few facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import gcd

from tcompiler.ir import dtypes as dt
from tcompiler.ir.scalar.canonical import Linear, compare_zero, linear, simplify
from tcompiler.ir.scalar.grammar import COMPARISONS, TRUE, Binary, Const, Scalar, Unary


def prove(cond: Scalar, facts: Sequence[Scalar] = ()) -> bool | None:
    """Whether a condition always holds (True), never does (False), or neither is known (None).

    Args:
        cond: A condition: comparisons of i64 expressions and connectives.
        facts: Conditions that may be taken to hold: conjunctions of comparisons are used, others ignored.
    """
    known = [*_inequalities(facts)]
    return _prove(simplify(cond), known)


def _prove(cond: Scalar, facts: list[Linear]) -> bool | None:
    match cond:
        case Const():
            return cond is TRUE
        case Binary(op="and", a=a, b=b) if cond.dtype is dt.bool_:
            x, y = _prove(a, facts), _prove(b, facts)
            if x is False or y is False:
                return False
            return True if x and y else None
        case Binary(op="or", a=a, b=b) if cond.dtype is dt.bool_:
            x, y = _prove(a, facts), _prove(b, facts)
            if x or y:
                return True
            return False if x is False and y is False else None
        case Unary(op="not", a=a):
            x = _prove(a, facts)
            return None if x is None else not x
        case Binary(op=op, a=a, b=b) if op in COMPARISONS and a.dtype is dt.i64:
            return _prove_comparison(op, linear(a).plus(linear(b), -1), facts)
    return None


def _prove_comparison(op: str, difference: Linear, facts: list[Linear]) -> bool | None:
    known = compare_zero(op, *difference.bounds())
    if known is not None or not facts:
        return known
    at_least = _nonnegative(difference, facts)
    at_most = _nonnegative(difference.scaled(-1), facts)
    above = _nonnegative(difference.plus(Linear(-1, {})), facts)
    below = _nonnegative(difference.scaled(-1).plus(Linear(-1, {})), facts)
    match op:
        case "ge":
            return True if at_least else False if below else None
        case "lt":
            return True if below else False if at_least else None
        case "gt":
            return True if above else False if at_most else None
        case "le":
            return True if at_most else False if above else None
        case "eq":
            return True if at_least and at_most else False if above or below else None
        case _:
            return False if at_least and at_most else True if above or below else None


def _inequalities(facts: Iterable[Scalar]) -> list[Linear]:
    """Forms that the facts say are at least 0."""
    result: list[Linear] = []
    stack = [simplify(f) for f in facts]
    while stack:
        fact = stack.pop()
        if not isinstance(fact, Binary):
            continue
        if fact.op == "and":
            stack += [fact.a, fact.b]
        elif fact.op in COMPARISONS and fact.a.dtype is dt.i64:
            d = linear(fact.a).plus(linear(fact.b), -1)
            if fact.op in ("ge", "eq"):
                result.append(d)
            if fact.op in ("le", "eq"):
                result.append(d.scaled(-1))
            if fact.op == "gt":
                result.append(d.plus(Linear(-1, {})))
            if fact.op == "lt":
                result.append(d.scaled(-1).plus(Linear(-1, {})))
    return result


def _nonnegative(x: Linear, facts: list[Linear], depth: int = 2) -> bool:
    """Whether x >= 0 follows from the ranges and a positive combination of up to `depth` facts."""
    low, _ = x.bounds()
    if low is not None and low >= 0:
        return True
    if depth == 0:
        return False
    for k, fact in enumerate(facts):
        tried: set[tuple[int, int]] = set()
        for atom, c in x.terms.items():
            f = fact.terms.get(atom, 0)
            if f == 0 or (f > 0) != (c > 0):
                continue
            common = gcd(c, f)
            p, q = abs(c) // common, abs(f) // common
            if (p, q) in tried:
                continue
            tried.add((p, q))
            # q * x = p * fact + rest, so x >= 0 if the rest is
            if _nonnegative(x.scaled(q).plus(fact, -p), facts[:k] + facts[k + 1 :], depth - 1):
                return True
    return False
