"""Parallel loops that begin together: which may, and how long that takes."""

from __future__ import annotations

import pytest

from tcompiler.ir.loop.grammar import For, Function, Seq
from tcompiler.ir.loop.teams import independent, makespan, teams
from tcompiler.ir.loop.text import parse_function


def function(first: str, second: str, hint: str = ", together=True") -> Function:
    """Two parallel loops, over the first four lines and the others, with these bodies."""
    return parse_function(f"""
@loop.function
def f(A: f32[6, 8], B: out(f32[6, 8]), C: out(f32[6, 8])):
    T = alloc(f32[8], scope="local")
    for p in parallel(4):
        for j in range(8):
            with block("b"):
                v = spatial(4, p)
                w = spatial(8, j)
                {first}
    for q in parallel(2{hint}):
        for k in range(8):
            with block("c"):
                v = spatial(2, q)
                w = spatial(8, k)
                {second}
""")


CASES = {
    "other lines": ("B[v, w] = A[v, w]", "B[v + 4, w] = A[v + 4, w]", True),
    "other buffers": ("B[v, w] = A[v, w]", "C[v, w] = A[v, w]", True),
    "the same input": ("B[v, w] = A[v, w]", "B[v + 4, w] = A[v, w]", True),
    "other lines read of what is written": ("B[v, w] = B[v, w] + A[v, w]", "B[v + 4, w] = A[0, w]", True),
    "the same line": ("B[v, w] = A[v, w]", "B[v + 3, w] = A[v, w]", False),
    "reads what the other writes": ("B[v, w] = A[v, w]", "C[v, w] = B[v + 3, w]", False),
    "writes what the other reads": ("C[v, w] = B[v + 1, w]", "B[v + 4, w] = A[v, w]", False),
    "updates the same line": ("B[v, w] = A[v, w]", "B[v + 3, w] += A[v, w]", False),
    "a place that is not known": ("B[v, w] = A[v, w]", "B[(v * v) % 6, w] = A[v, w]", False),
    "memory of their own": ("T[w] = A[v, w]", "T[w] = A[v + 1, w]", True),
}


@pytest.mark.parametrize(("first", "second", "expected"), CASES.values(), ids=CASES)
def test_loops_are_independent_where_neither_writes_what_the_other_touches(
    first: str, second: str, expected: bool
) -> None:
    f = function(first, second)
    assert isinstance(f.body, Seq)
    one, other = f.body.stmts
    assert independent(f, one, other) is expected
    assert independent(f, other, one) is expected
    assert [len(team) for team in teams(f, f.body.stmts)] == ([2] if expected else [1, 1])


def test_loops_without_a_hint_do_not_begin_together() -> None:
    first, second, _ = CASES["other lines"]
    for hint in ("", ", together=False"):
        f = function(first, second, hint)
        assert isinstance(f.body, Seq)
        assert [len(team) for team in teams(f, f.body.stmts)] == [1, 1]


def test_serial_loops_are_in_no_team() -> None:
    first, second, _ = CASES["other lines"]
    f = function(first, second)
    assert isinstance(f.body, Seq)
    one, other = f.body.stmts
    assert isinstance(other, For)
    serial = For(other.var, "serial", other.body, other.annotations)
    assert not independent(f, one, serial)
    assert [len(team) for team in teams(f, (one, serial))] == [1, 1]


@pytest.mark.parametrize(
    ("parts", "threads", "expected"),
    [
        ([(5, 1.0)], 2, 3.0),
        ([(5, 1.0), (1, 0.5)], 2, 3.0),
        ([(4, 1.0), (1, 0.5)], 2, 2.5),
        ([(1, 1.0), (12, 1.0), (1, 1.0)], 2, 7.0),
        ([(3, 2.0), (4, 0.5)], 2, 4.0),
        ([(1000, 1.0)], 3, 334.0),
        ([(0, 1.0)], 2, 0.0),
    ],
)
def test_a_team_is_done_when_its_last_thread_is(parts: list[tuple[int, float]], threads: int, expected: float) -> None:
    assert makespan(parts, threads) == pytest.approx(expected)
