"""Index expressions as linear sums over atoms."""

from __future__ import annotations

from collections.abc import Iterable

from tcompiler.ir.scalar.grammar import Binary, Const, Scalar, Unary, Var, add, as_int, index

_linear: dict[Scalar, tuple[dict[Scalar, int], int]] = {}


def linear(node: Scalar) -> tuple[dict[Scalar, int], int]:
    """An i64 expression as a sum of coefficient times atom and a constant; do not change the result, it is kept.

    Atoms are whatever is not linear: variables, quotients, remainders, minima, loads.
    """
    found = _linear.get(node)
    if found is not None:
        return found
    terms: dict[Scalar, int] = {}
    constant = 0
    stack = [(node, 1)]
    while stack:
        n, by = stack.pop()
        if type(n) is Var:
            terms[n] = terms.get(n, 0) + by
            continue
        if isinstance(n, Const):
            constant += by * int(n.value)
            continue
        if isinstance(n, Binary):
            if n.op == "add":
                stack += [(n.b, by), (n.a, by)]
                continue
            if n.op == "sub":
                stack += [(n.b, -by), (n.a, by)]
                continue
            if n.op == "mul":
                a, b = as_int(n.a), as_int(n.b)
                if b is not None:
                    stack.append((n.a, by * b))
                    continue
                if a is not None:
                    stack.append((n.b, by * a))
                    continue
        elif isinstance(n, Unary) and n.op == "neg":
            stack.append((n.a, -by))
            continue
        terms[n] = terms.get(n, 0) + by
    result = _linear[node] = ({n: c for n, c in terms.items() if c}, constant)
    return result


def total(terms: Iterable[tuple[Scalar, int]], constant: int = 0) -> Scalar:
    """The expression of a linear sum."""
    result: Scalar = index(0)
    for atom, by in terms:
        result = add(result, atom * by)
    return add(result, constant)
