"""reverse_compute_at: consumers under their producers' loops, over exactly what an iteration makes."""

from __future__ import annotations

import pytest

from tcompiler.schedule import Schedule
from tests.schedule import programs
from tests.schedule.data.checking import body, buffer, check, shape, text
from tests.schedule.programs import parsed

PAIR = """
@loop.function
def pair(X: f32[18], Y: out(f32[18])):
    B = alloc(f32[18])
    for i in range(18):
        with block("B"):
            vi = spatial(18, i)
            B[vi] = X[vi] * f32(2.0)
    for o in range(18):
        with block("Y"):
            vo = spatial(18, o)
            Y[vo] = B[vo] + f32(1.0)
"""


def test_the_text_of_a_tail() -> None:
    before = parsed(PAIR)
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 4])
    assert sch.reverse_compute_at("Y", "i_0") == ()
    expected = """
    B = alloc(f32[4], scope="local")
    for i_0 in range(5):
        for i_1 in range(4):
            with block("B", where=i_0 * 4 + i_1 < 18):
                vi = spatial(18, i_0 * 4 + i_1)
                v_i_0 = spatial(5, i_0)
                B[vi - v_i_0 * 4] = X[vi] * f32(2.0)
        for Y_ax0 in range(4):
            with block("Y", where=i_0 * 4 + Y_ax0 < 18):
                vo = spatial(18, i_0 * 4 + Y_ax0)
                v_i_0 = spatial(5, i_0)
                Y[vo] = B[vo - v_i_0 * 4] + f32(1.0)
    """
    assert body(sch.function) == text(expected)
    check(before, sch)


def test_the_guard_of_a_split_inside_is_kept() -> None:
    before = parsed(PAIR)
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 6])
    sch.split("i_1", [None, 4])
    sch.reverse_compute_at("Y", "i_0")
    assert shape(sch.function, "B") == (8,)
    check(before, sch)


@pytest.mark.parametrize("loop", ["i_0", "j_0"])
@pytest.mark.parametrize(("m", "n", "k"), [(13, 11, 7), (12, 8, 3), (5, 2, 1)])
def test_an_epilogue_per_tile(loop: str, m: int, n: int, k: int) -> None:
    before = parsed(programs.matmul_relu(m, n, k))
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 6])
    sch.split("j", [None, 4])
    sch.reorder("i_0", "j_0", "k", "i_1", "j_1")
    sch.reverse_compute_at("D", loop)
    sch.parallel("i_0")
    check(before, sch)
    assert buffer(sch.function, "C").scope == "local"


def test_behind_a_staged_accumulator() -> None:
    before = parsed(programs.matmul_relu(13, 11, 7))
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 6])
    sch.reorder("i_0", "k", "i_1", "j")
    sch.stage_accumulate("C", "i_0", "local")
    sch.reverse_compute_at("D", "i_0")
    assert shape(sch.function, "C") == (6, 11)
    check(before, sch)


def test_a_reduction_whose_row_is_made_whole() -> None:
    before = parsed(programs.softmax(5, 7))
    sch = Schedule(before, debug=True)
    sch.reverse_compute_at("S", "i1")
    assert shape(sch.function, "E") == (5, 7)  # Y reads it outside
    sch.reverse_compute_at("Y", "i1")
    assert shape(sch.function, "S") == (1,)
    check(before, sch)


def test_a_transposing_consumer() -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    sch.split("l", [None, 4])
    sch.reorder("l_0", "k", "l_1")
    sch.reverse_compute_at("Y", "l_0")
    assert shape(sch.function, "U") == (6, 4)
    check(before, sch)


def test_a_dimension_of_fused_loops_that_runs_whole_inside() -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    sch.split("k", [2, None])
    sch.fuse("k_1", "l")
    with pytest.raises(Exception, match=r"reverse_compute_at\.tile"):
        sch.reverse_compute_at("Y", "k_0")
    sch.split("p", [None, 5])
    check(before, sch)


def test_other_consumers_outside_keep_the_buffer_whole() -> None:
    before = parsed(programs.softmax(5, 7))
    sch = Schedule(before, debug=True)
    sch.reverse_compute_at("E", "i0")
    assert shape(sch.function, "M") == (1,)
    assert shape(sch.function, "E") == (5, 7)
    check(before, sch)


def test_under_a_loop_whose_inner_loop_is_parallel() -> None:
    before = parsed(PAIR)
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 4])
    sch.parallel("i_1")
    sch.reverse_compute_at("Y", "i_0")
    assert buffer(sch.function, "B").scope == "global"
    check(before, sch)


def test_a_copy_back_comes_closer() -> None:
    before = parsed(programs.matmul(13, 11, 7))
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 6])
    sch.reorder("i_0", "k", "i_1", "j")
    (copy,) = sch.cache_write("C", "C", "global")
    sch.reverse_compute_at(copy, "i_0")
    assert shape(sch.function, "C_cache") == (6, 11)
    check(before, sch)
