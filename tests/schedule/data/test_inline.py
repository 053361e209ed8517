"""compute_inline and reverse_compute_inline."""

from __future__ import annotations

import pytest

from tcompiler.schedule import Schedule
from tests.schedule import programs
from tests.schedule.data.checking import body, check, text
from tests.schedule.programs import parsed


def test_a_padded_copy_is_inlined_with_its_guard() -> None:
    before = parsed(programs.conv(1, 3, 7, 5, 2, 3, 2))
    sch = Schedule(before, debug=True)
    sch.compute_inline("P")
    assert "P" not in [b.name for b in sch.function.buffers]
    assert sch.blocks() == ["S", "Y"]
    check(before, sch)


def test_the_text_of_a_chain() -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    assert sch.compute_inline("T") == ()
    sch.compute_inline("U")
    expected = """
    for p in range(11):
        for q in range(6):
            with block("Y"):
                vp = spatial(11, p)
                vq = spatial(6, q)
                Y[vp, vq] = (X[vq, vp] + b[vp]) * g[vq] - X[vq, vp]
    """
    assert body(sch.function) == text(expected)
    check(before, sch)


def test_several_consumers_and_an_init_take_the_value() -> None:
    before = parsed(
        """
@loop.function
def several(X: f32[5, 7], c: f32[1, 5], Y: out(f32[5]), Z: out(f32[7, 5])):
    T = alloc(f32[5, 7])
    B = alloc(f32[1, 5])
    for i in range(5):
        for j in range(7):
            with block("T"):
                vi = spatial(5, i)
                vj = spatial(7, j)
                T[vi, vj] = X[vi, vj] * f32(2.0)
    for b in range(5):
        with block("B"):
            v0 = spatial(1, 0)
            vb = spatial(5, b)
            B[v0, vb] = c[v0, vb] + f32(1.0)
    for p in range(5):
        for q in range(7):
            with block("Y"):
                vp = spatial(5, p)
                vq = reduce(7, q)
                with init():
                    Y[vp] = B[0, vp]
                Y[vp] += T[vp, 6 - vq]
    for s in range(7):
        for t in range(5):
            with block("Z"):
                vs = spatial(7, s)
                vt = spatial(5, t)
                Z[vs, vt] = T[vt, vs] - T[4 - vt, vs]
"""
    )
    sch = Schedule(before, debug=True)
    sch.compute_inline("T")
    sch.compute_inline("B")
    check(before, sch)
    assert sch.blocks() == ["Y", "Z"]


def test_consumers_that_are_tiled_already() -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    sch.split("p", [None, 4])
    sch.split("i", [None, 4])
    sch.compute_inline("U")
    sch.compute_inline("T")
    check(before, sch)


def test_an_epilogue_with_a_transpose_and_a_residual() -> None:
    before = parsed(
        """
@loop.function
def epilogue(A: f32[6, 5], B: f32[5, 7], bias: f32[7], R: f32[7, 6], Y: out(f32[7, 6])):
    C = alloc(f32[6, 7])
    D = alloc(f32[6, 7])
    for i in range(6):
        for j in range(7):
            for k in range(5):
                with block("C"):
                    vi = spatial(6, i)
                    vj = spatial(7, j)
                    vk = reduce(5, k)
                    with init():
                        C[vi, vj] = f32(0.0)
                    C[vi, vj] += A[vi, vk] * B[vk, vj]
    for d0 in range(6):
        for d1 in range(7):
            with block("D"):
                vi = spatial(6, d0)
                vj = spatial(7, d1)
                D[vi, vj] = C[vi, vj]
    for y0 in range(7):
        for y1 in range(6):
            with block("Y"):
                vi = spatial(7, y0)
                vj = spatial(6, y1)
                Y[vi, vj] = max(D[vj, vi] + bias[vi], f32(0.0)) + R[vi, vj]
"""
    )
    sch = Schedule(before, debug=True)
    sch.reverse_compute_inline("Y")
    expected = """
    for d0 in range(6):
        for d1 in range(7):
            with block("D"):
                vi = spatial(6, d0)
                vj = spatial(7, d1)
                Y[vj, vi] = max(C[vi, vj] + bias[vj], f32(0.0)) + R[vj, vi]
    """
    assert body(sch.function).endswith(text(expected))
    check(before, sch)


def test_main_part_and_tail_both_take_the_epilogue() -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    sch.split("l", [None, 4])
    sch.peel("l_0")
    blocks = len(sch.blocks())
    sch.reverse_compute_inline("Y")
    assert len(sch.blocks()) == blocks - 1
    check(before, sch)


def test_a_consumer_of_a_part_limits_its_producer() -> None:
    before = parsed(
        """
@loop.function
def part(X: f32[9, 8], Y: out(f32[9, 5])):
    T = alloc(f32[9, 8])
    for i in range(9):
        for j in range(8):
            with block("T"):
                vi = spatial(9, i)
                vj = spatial(8, j)
                T[vi, vj] = X[vi, vj] + f32(1.0)
    for p in range(9):
        for q in range(5):
            with block("Y"):
                vp = spatial(9, p)
                vq = spatial(5, q)
                Y[vp, vq] = T[vp, vq] * f32(2.0)
"""
    )
    sch = Schedule(before, debug=True)
    sch.reverse_compute_inline("Y")
    check(before, sch)


def test_two_parts_of_one_output() -> None:
    before = parsed(
        """
@loop.function
def concat(X: f32[4], Z: f32[3], Y: out(f32[7])):
    A = alloc(f32[4])
    B = alloc(f32[3])
    for i in range(4):
        with block("A"):
            vi = spatial(4, i)
            A[vi] = X[vi] + f32(1.0)
    for j in range(3):
        with block("B"):
            vj = spatial(3, j)
            B[vj] = Z[vj] * f32(2.0)
    for p in range(4):
        with block("Y0"):
            vp = spatial(4, p)
            Y[vp] = A[vp]
    for q in range(3):
        with block("Y1"):
            vq = spatial(3, q)
            Y[vq + 4] = B[vq]
"""
    )
    sch = Schedule(before, debug=True)
    sch.reverse_compute_inline("Y0")
    sch.reverse_compute_inline("Y1")
    assert sch.blocks() == ["A", "B"]
    check(before, sch)


@pytest.mark.parametrize("first", ["T", "Y"])
def test_both_directions_give_the_same(first: str) -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    if first == "T":
        sch.compute_inline("T")
        sch.reverse_compute_inline("Y")
    else:
        sch.reverse_compute_inline("Y")
        sch.compute_inline("T")
    check(before, sch)
