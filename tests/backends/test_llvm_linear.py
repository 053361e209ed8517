"""Linear forms of index expressions, against the values of the expressions themselves."""

from __future__ import annotations

import random

import pytest

from tcompiler.backends.llvm.linear import Linear, linear
from tcompiler.ir.scalar.grammar import Scalar, Var, index
from tcompiler.ir.scalar.interpret import Value, interpret

X, J, K, B = (Var(name, index(0).dtype, index(extent)) for name, extent in (("i", 7), ("j", 12), ("k", 5), ("b", 9)))


def _read(buffer: str, indices: tuple[int, ...]) -> Value:
    raise AssertionError(f"{buffer}{indices} is read")


def _any(rng: random.Random, depth: int) -> Scalar:
    if depth == 0 or rng.random() < 0.15:
        return rng.choice([X, J, K, B, index(rng.randrange(-3, 9))])
    a, b = _any(rng, depth - 1), _any(rng, depth - 1)
    match rng.randrange(6):
        case 0 | 1:
            return a + b
        case 2:
            return a - b
        case 3:
            return a * rng.randrange(-3, 6) if rng.random() < 0.8 else a * b
        case 4:
            return a // rng.randrange(1, 9)
        case _:
            return a % rng.randrange(1, 9)


@pytest.mark.parametrize("seed", range(60))
def test_forms_have_the_values_of_their_expressions(seed: int) -> None:
    rng = random.Random(seed)
    node = _any(rng, 4)
    # an iter var that stands for a sum of loop variables, and an unrolled one for a number
    env: dict[Scalar, Linear] = {B: Linear(1, {X: 1, K: 3}), K: Linear(rng.randrange(5), {})}
    sums: dict[Scalar, Linear] = {}
    form = linear(node, env, sums)
    assert all(form.terms.values())
    again = linear(node, env, sums)
    assert (again.const, again.terms) == (form.const, form.terms)
    for _ in range(20):
        i, j, k = rng.randrange(7), rng.randrange(12), rng.randrange(5)
        loops: dict[Var, Value] = {X: i, J: j, K: k}
        inner: dict[Var, Value] = {X: i, J: j, K: env[K].const, B: 1 + i + 3 * k}
        assert interpret(form.expression(), loops, _read) == interpret(node, inner, _read)


def test_what_cancels_is_no_term() -> None:
    form = linear((X * 4 + J) - (X * 2 + J) - X * 2 + 3, {})
    assert (form.const, form.terms) == (3, {})


def test_an_iter_var_may_stand_for_another_of_the_same_name() -> None:
    assert linear(X + J, {X: Linear(0, {J: 2})}).terms == {J: 3}
    assert linear(X * J, {X: Linear(4, {})}).terms == {J: 4}


def test_digits_of_one_number() -> None:
    form = linear((X * 12 + J) // 12 * 100 + (X * 12 + J) % 12, {})
    assert (form.const, form.terms) == (0, {X: 100, J: 1})
