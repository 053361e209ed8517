"""The canonical form is never wrong: against every point of small boxes, for thousands of random expressions."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tcompiler.ir import dtypes as dt
from tcompiler.ir.scalar.canonical import bounds, simplify
from tcompiler.ir.scalar.evaluate import evaluate
from tcompiler.ir.scalar.grammar import (
    FALSE,
    TRUE,
    Binary,
    Cast,
    Load,
    Scalar,
    Select,
    Unary,
    Var,
    index,
    loop_var,
    parameter,
)
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.text import parse_scalar, print_scalar

N = parameter("n")
VARIABLES = (loop_var("i", 3), loop_var("j", 4), loop_var("k", 5), loop_var("m", N), N)
TABLE = {"T": np.array([5, -3, 0, 7], np.int64)}


def _boxes() -> list[dict[Var, NDArray[np.int64]]]:
    """All points of the variables' box, for several values of the parameter, as flat arrays."""
    boxes = []
    for n in (0, 1, 2, 7):
        extents = [3, 4, 5, n]
        points = np.array(list(itertools.product(*map(range, extents))), np.int64).reshape(-1, 4)
        env = {v: points[:, k] for k, v in enumerate(VARIABLES[:4])}
        boxes.append({**env, N: np.full(len(points), n, np.int64)})
    return boxes


def _joined() -> Mapping[Var, NDArray[np.int64]]:
    boxes = _boxes()
    return {v: np.concatenate([b[v] for b in boxes]) for v in VARIABLES}


POINTS = _joined()
COUNT = len(POINTS[N])


def _values(node: Scalar) -> NDArray[Any]:
    return np.broadcast_to(evaluate(node, POINTS, TABLE), (COUNT,))


def _index(r: random.Random, depth: int) -> Scalar:
    if depth == 0 or r.random() < 0.2:
        return r.choice(VARIABLES) if r.random() < 0.7 else index(r.randint(-6, 9))
    op = r.choice(("add", "add", "sub", "mul", "floordiv", "floormod", "floordiv", "floormod", "min", "max", "other"))
    if op == "other":
        kind = r.randrange(5)
        if kind == 0:
            return Select(_condition(r, depth - 1), _index(r, depth - 1), _index(r, depth - 1))
        if kind == 1:
            return Cast(dt.i64, _condition(r, depth - 1))
        if kind == 2:
            return Load("T", dt.i64, (Binary("floormod", _index(r, depth - 1), index(4)),))
        if kind == 3:
            return Unary(r.choice(("neg", "abs", "sign")), _index(r, depth - 1))
        return Binary(r.choice(("truncdiv", "truncmod")), _index(r, depth - 1), index(r.randint(-3, 6)))
    a = _index(r, depth - 1)
    if op == "mul":
        return Binary(op, a, index(r.randint(-4, 7)) if r.random() < 0.85 else _index(r, depth - 1))
    if op.startswith("floor"):
        divisor = r.randint(1, 8) if r.random() < 0.9 else r.randint(-3, 0)
        return Binary(op, a, index(divisor) if r.random() < 0.9 else _index(r, 1))
    return Binary(op, a, _index(r, depth - 1))


def _condition(r: random.Random, depth: int) -> Scalar:
    if depth > 0 and r.random() < 0.35:
        op = r.choice(("and", "or", "xor", "not", "select"))
        if op == "not":
            return Unary("not", _condition(r, depth - 1))
        if op == "select":
            return Select(*(_condition(r, depth - 1) for _ in range(3)))
        return Binary(op, _condition(r, depth - 1), _condition(r, depth - 1))
    if r.random() < 0.05:
        return r.choice((TRUE, FALSE))
    op = r.choice(("eq", "ne", "lt", "le", "gt", "ge"))
    return Binary(op, _index(r, depth), _index(r, max(depth - 1, 0)))


@pytest.mark.parametrize("seed", range(8))
def test_simplified_expressions_are_equal_everywhere(seed: int) -> None:
    r = random.Random(seed)
    for _ in range(1000):
        node = _index(r, r.randint(1, 5)) if r.random() < 0.8 else _condition(r, r.randint(1, 4))
        simple = simplify(node)
        assert simple.dtype is node.dtype
        assert simplify(simple) is simple, print_scalar(node)
        wrong = np.flatnonzero(_values(node) != _values(simple))
        assert not wrong.size, f"{print_scalar(node)} is not {print_scalar(simple)}"


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_everywhere(seed: int) -> None:
    r = random.Random(100 + seed)
    for _ in range(1000):
        node = _index(r, r.randint(1, 5))
        low, high = bounds(node)
        values = _values(node)
        assert low is None or low <= values.min(), print_scalar(node)
        assert high is None or values.max() <= high, print_scalar(node)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_proved_holds_everywhere(seed: int) -> None:
    r = random.Random(200 + seed)
    decided = 0
    for _ in range(800):
        condition = _condition(r, r.randint(0, 3))
        facts = [_condition(r, r.randint(0, 2)) for _ in range(r.randint(0, 2))]
        known = prove(condition, facts)
        if known is None:
            continue
        decided += 1
        holds = np.ones(COUNT, bool)
        for fact in facts:
            holds &= _values(fact)
        assert (_values(condition)[holds] == known).all(), (condition, facts)
    assert decided > 100


def test_sums_of_what_is_the_same_do_not_depend_on_the_order() -> None:
    r = random.Random(3)
    for _ in range(200):
        a, b, c = (_index(r, 2) for _ in range(3))
        for d in (8, 5):
            left = simplify(Binary("floordiv", Binary("add", Binary("add", a, b), c), index(d)))
            right = simplify(Binary("floordiv", Binary("add", a, Binary("add", b, c)), index(d)))
            assert left is right


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(p * 6 + q) // 6", "p"),
        ("(p * 6 + q) % 6", "q"),
        ("f // 8 * 8 + f % 8", "f"),
        ("f // 4 % 8 * 4 + f % 4", "f % 32"),
        # a fused loop that was split again: (f * 16 + r) // 49, // 7 % 7 and % 7, as their parts were simplified
        ("(f * 16 + r) // 49 * 49 + (f * 2 + (f * 2 + r) // 7) % 7 * 7 + (f * 2 + r) % 7", "f * 16 + r"),
        ("(f + (f * 4 + r) // 12) % 56 * 24 + (f * 4 + r) % 12 * 2", "f % 42 * 32 + r * 2"),
        ("(f + (f * 4 + r) // 12) % 56 * 24 + (f * 4 + q) % 12 * 2", None),
        ("(f // 4) // 8", "f // 32"),
        ("q // 6", "0"),
        ("(q + 6) // 6", "1"),
        ("q % 8", "q"),
        ("(4 * p + q) // 2", "p * 2 + q // 2"),
        ("min(q, 5)", "q"),
        ("max(q, p + 6)", "p + 6"),
        ("q + p - q", "p"),
        ("q < 6", "True"),
        ("q >= 6", "False"),
        ("select(q < 6, p, f)", "p"),
        ("select(p < 3, q, q) // 1", "q"),
        ("n // 0", "0"),
    ],
)
def test_forms(text: str, expected: str | None) -> None:
    """None stands for the text itself."""
    variables = (loop_var("p", 64), loop_var("q", 6), loop_var("f", 256), loop_var("r", 16), N)
    names: dict[str, Var] = {v.name: v for v in variables}
    assert print_scalar(simplify(parse_scalar(text, names, {}))) == (text if expected is None else expected)


def test_long_sums_overflow_no_stack() -> None:
    node: Scalar = index(0)
    for k in range(20_000):
        node = Binary("add", node, Binary("mul", VARIABLES[k % 3], index(k % 5)))
    assert simplify(node) is simplify(simplify(node))
    low, _ = bounds(node)
    assert low == 0
