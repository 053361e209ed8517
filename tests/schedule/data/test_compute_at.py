"""compute_at: producers under their consumers' loops, with halos, tails and chains; buffers shrink."""

from __future__ import annotations

import pytest

from tcompiler.schedule import Schedule
from tests.schedule import programs
from tests.schedule.data.checking import body, buffer, check, shape, text
from tests.schedule.programs import parsed

STENCIL = """
@loop.function
def stencil(X: f32[20], Y: out(f32[18])):
    B = alloc(f32[20])
    for i in range(20):
        with block("B"):
            vi = spatial(20, i)
            B[vi] = X[vi] * f32(2.0)
    for o in range(18):
        for r in range(3):
            with block("Y"):
                vo = spatial(18, o)
                vr = reduce(3, r)
                with init():
                    Y[vo] = f32(0.0)
                Y[vo] += B[vo + vr]
"""


def test_the_text_of_a_stencil_with_halo_and_tail() -> None:
    before = parsed(STENCIL)
    sch = Schedule(before, debug=True)
    sch.split("o", [None, 4])
    assert sch.compute_at("B", "o_0") == ()
    expected = """
    B = alloc(f32[6], scope="local")
    for o_0 in range(5):
        for B_ax0 in range(6):
            with block("B", where=o_0 * 4 + B_ax0 < 20):
                vi = spatial(20, o_0 * 4 + B_ax0)
                v_o_0 = spatial(5, o_0)
                B[vi - v_o_0 * 4] = X[vi] * f32(2.0)
        for o_1 in range(4):
            for r in range(3):
                with block("Y", where=o_0 * 4 + o_1 < 18):
                    vo = spatial(18, o_0 * 4 + o_1)
                    vr = reduce(3, r)
                    v_o_0 = spatial(5, o_0)
                    with init():
                        Y[vo] = f32(0.0)
                    Y[vo] += B[vo + vr - v_o_0 * 4]
    """
    assert body(sch.function) == text(expected)
    check(before, sch)


@pytest.mark.parametrize("loop", ["o_0", "o_1", "r"])
def test_at_every_depth_and_under_a_parallel_loop(loop: str) -> None:
    before = parsed(STENCIL)
    sch = Schedule(before, debug=True)
    sch.split("o", [None, 4])
    sch.compute_at("B", loop)
    assert shape(sch.function, "B") == {"o_0": (6,), "o_1": (3,), "r": (1,)}[loop]
    sch.parallel("o_0")
    check(before, sch)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("loop", ["h_0", "h_1", "w", "c"])
def test_the_padded_input_of_a_convolution(loop: str, stride: int) -> None:
    before = parsed(programs.conv(1, 3, 7, 5, 2, 3, stride))
    sch = Schedule(before, debug=True)
    sch.split("h", [None, 4])
    sch.reorder("h_0", "k")
    sch.compute_at("P", loop)
    check(before, sch)
    rows = {"h_0": 3 * stride + 3, "h_1": 3, "w": 3, "c": 3}[loop]
    channels = 1 if loop == "c" else 2
    columns = 3 if loop in ("w", "c") else 4 * stride + 3
    assert shape(sch.function, "P") == (1, channels, rows, columns)
    assert buffer(sch.function, "P").scope == "local"


def test_a_reduction_moves_whole() -> None:
    before = parsed(programs.softmax(5, 7))
    sch = Schedule(before, debug=True)
    for block in ("S", "E", "M"):
        sch.compute_at(block, "i3")
    check(before, sch)
    assert [shape(sch.function, b) for b in ("M", "E", "S")] == [(1,), (1, 7), (1,)]
    sch.parallel("i3")
    check(before, sch)


def test_a_chain_of_producers() -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    sch.split("p", [None, 4])
    sch.compute_at("U", "p_0")
    sch.compute_at("T", "p_0")
    assert shape(sch.function, "T") == shape(sch.function, "U") == (6, 4)
    sch.parallel("p_0")
    check(before, sch)


def test_a_producer_moves_on_inwards_after_its_buffer_shrank() -> None:
    before = parsed(STENCIL)
    sch = Schedule(before, debug=True)
    sch.split("o", [None, 4])
    sch.compute_at("B", "o_0")
    sch.compute_at("B", "o_1")
    assert shape(sch.function, "B") == (3,)
    check(before, sch)


def test_several_consumers_under_one_loop() -> None:
    before = parsed(
        """
@loop.function
def two(X: f32[10, 9], Y: out(f32[10, 8]), Z: out(f32[10, 9])):
    T = alloc(f32[10, 9])
    for i in range(10):
        for j in range(9):
            with block("T"):
                vi = spatial(10, i)
                vj = spatial(9, j)
                T[vi, vj] = X[vi, vj] + f32(1.0)
    for p in range(10):
        for q in range(8):
            with block("Y"):
                vp = spatial(10, p)
                vq = spatial(8, q)
                Y[vp, vq] = T[vp, vq + 1] - T[vp, vq]
        for s in range(9):
            with block("Z"):
                vp = spatial(10, p)
                vs = spatial(9, s)
                Z[vp, vs] = T[vp, 8 - vs]
"""
    )
    sch = Schedule(before, debug=True)
    sch.compute_at("T", "p")
    assert shape(sch.function, "T") == (1, 9)
    check(before, sch)


def test_a_blocked_layout_is_computed_by_blocks() -> None:
    before = parsed(programs.chain(6, 12))
    sch = Schedule(before, debug=True)
    sch.transform_layout("U", "lambda i, j: (j // 4, i, j % 4)")
    sch.split("p", [None, 4])
    sch.compute_at("U", "p_0")
    assert shape(sch.function, "U") == (1, 6, 4)
    assert sch.extent("U_ax1") == 4
    check(before, sch)


def test_symbolic_extents() -> None:
    before = parsed(
        """
@loop.function
def rows(n: i64, X: f32[n, 9], Y: out(f32[n, 9])):
    T = alloc(f32[n, 9])
    for i in range(n):
        for j in range(9):
            with block("T"):
                vi = spatial(n, i)
                vj = spatial(9, j)
                T[vi, vj] = X[vi, vj] * f32(3.0)
    for p in range(n):
        for q in range(9):
            with block("Y"):
                vp = spatial(n, p)
                vq = spatial(9, q)
                Y[vp, vq] = T[vp, vq] + f32(1.0)
"""
    )
    sch = Schedule(before, debug=True)
    sch.compute_at("T", "p")
    assert shape(sch.function, "T") == (1, 9)
    check(before, sch, {"n": 5})


def test_a_cache_of_an_operand_at_a_tile_loop() -> None:
    before = parsed(programs.matmul(13, 11, 7))
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 6])
    sch.split("k", [None, 3])
    sch.reorder("i_0", "k_0", "j", "i_1", "k_1")
    (copy,) = sch.cache_read("C", "A", "global")
    sch.compute_at(copy, "k_0")
    assert shape(sch.function, "A_cache") == (6, 3)
    sch.parallel("i_0")
    check(before, sch)


def test_what_was_moved_under_a_parallel_loop_stays_shared_there() -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    sch.parallel("q")
    sch.compute_at("U", "p")
    check(before, sch)
