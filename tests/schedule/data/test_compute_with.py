"""compute_with: texts, which of the loops moves, tails, and what a reduction on the way changes."""

from __future__ import annotations

import pytest

from tcompiler.ir.loop.text import parse_function
from tcompiler.schedule import Schedule
from tests.schedule.data.checking import body, check, text


def two(n: int = 6, between: str = "") -> Schedule:
    source = f"""
    @loop.function
    def two(A: f32[{n}], B: out(f32[{n}]), C: out(f32[{n}]), S: out(f32[2])):
        for i in range({n}):
            with block("B"):
                vi = spatial({n}, i)
                B[vi] = A[vi] * f32(2.0)
        {between or "for u in range(1):"}
            with block("S"):
                vu = spatial(1, u)
                S[vu] = f32(1.0)
        for j in range({n}):
            with block("C"):
                vj = spatial({n}, j)
                C[vj] = A[vj] + B[vj]
        for w in range(1):
            with block("T"):
                vw = spatial(1, w)
                S[vw + 1] = A[vw]
    """
    return Schedule(parse_function(text(source)), debug=True)


def test_the_text() -> None:
    sch = two()
    assert sch.compute_with("i", "j") == ()
    assert body(sch.function) == text("""
    for i in range(6):
        with block("B"):
            vi = spatial(6, i)
            B[vi] = A[vi] * f32(2.0)
        with block("C"):
            vj = spatial(6, i)
            C[vj] = A[vj] + B[vj]
    for u in range(1):
        with block("S"):
            vu = spatial(1, u)
            S[vu] = f32(1.0)
    for w in range(1):
        with block("T"):
            vw = spatial(1, w)
            S[vw + 1] = A[vw]
    """)
    check(two().function, sch)


def test_the_first_moves_where_the_other_cannot() -> None:
    source = """
    @loop.function
    def late(A: f32[6], B: out(f32[6]), C: out(f32[6])):
        T = alloc(f32[6])
        for i in range(6):
            with block("B"):
                vi = spatial(6, i)
                B[vi] = A[vi] * f32(2.0)
        for u in range(6):
            with block("T"):
                vu = spatial(6, u)
                T[vu] = A[vu] + f32(1.0)
        for j in range(6):
            with block("C"):
                vj = spatial(6, j)
                C[vj] = T[5 - vj] + B[vj]
    """
    sch = Schedule(parse_function(text(source)), debug=True)
    sch.compute_with("i", "j")
    assert sch.blocks() == ["T", "B", "C"] and sch.loops("C") == ["i"]
    check(parse_function(text(source)), sch)


@pytest.mark.parametrize("n", [7, 12, 13])
def test_both_with_the_same_tail(n: int) -> None:
    sch = two(n)
    for loop in ("i", "j"):
        sch.split(loop, [None, 4])
    sch.compute_with("i_0", "j_0")
    sch.compute_with("i_1", "j_1")
    sch.vectorize("i_1")
    check(two(n).function, sch)


ROWS = """
@loop.function
def rows(X: f32[5, 7], Y: out(f32[5, 7])):
    S = alloc(f32[5])
    for i in range(5):
        for k in range(7):
            with block("S"):
                vi = spatial(5, i)
                vk = reduce(7, k)
                with init():
                    S[vi] = f32(0.0)
                S[vi] += X[vi, vk]
    for i1 in range(5):
        for k1 in range(7):
            with block("Y"):
                vi = spatial(5, i1)
                vk = spatial(7, k1)
                Y[vi, vk] = X[vi, vk] * S[vi]
"""


def test_rows_of_a_reduction_and_of_its_reader() -> None:
    sch = Schedule(parse_function(ROWS), debug=True)
    sch.compute_with("i", "i1")
    sch.compact("S", "i")
    check(parse_function(ROWS), sch)
