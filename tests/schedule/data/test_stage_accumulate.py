"""stage_accumulate: tiles in registers, tails, partial sums, general reducers."""

from __future__ import annotations

import pytest

from tcompiler.ir.loop.verify import verify
from tcompiler.schedule import Schedule
from tests.schedule import programs
from tests.schedule.data.checking import body, buffer, check, shape, text
from tests.schedule.programs import parsed


def _tiled(m: int, n: int, k: int, rows: int, columns: int) -> Schedule:
    sch = Schedule(parsed(programs.matmul(m, n, k)), debug=True)
    sch.split("i", [None, rows])
    sch.split("j", [None, columns])
    sch.reorder("i_0", "j_0", "k", "i_1", "j_1")
    return sch


def test_the_text_of_a_tile() -> None:
    sch = _tiled(12, 8, 5, 6, 4)
    assert sch.stage_accumulate("C", "j_0", "register") == ("C_acc_init", "C_write")
    expected = """
    C_acc = alloc(f32[6, 4], scope="register")
    for i_0 in range(2):
        for j_0 in range(2):
            for C_acc_init_ax0 in range(6):
                for C_acc_init_ax1 in range(4):
                    with block("C_acc_init"):
                        a0 = spatial(6, C_acc_init_ax0)
                        a1 = spatial(4, C_acc_init_ax1)
                        C_acc[a0, a1] = f32(0.0)
            for k in range(5):
                for i_1 in range(6):
                    for j_1 in range(4):
                        with block("C"):
                            vi = spatial(12, i_0 * 6 + i_1)
                            vj = spatial(8, j_0 * 4 + j_1)
                            vk = reduce(5, k)
                            a0 = spatial(6, i_1)
                            a1 = spatial(4, j_1)
                            C_acc[a0, a1] += A[vi, vk] * B[vk, vj]
            for C_write_ax0 in range(6):
                for C_write_ax1 in range(4):
                    with block("C_write"):
                        vi = spatial(12, i_0 * 6 + C_write_ax0)
                        vj = spatial(8, j_0 * 4 + C_write_ax1)
                        a0 = spatial(6, C_write_ax0)
                        a1 = spatial(4, C_write_ax1)
                        C[vi, vj] = C_acc[a0, a1]
    """
    assert body(sch.function) == text(expected)


@pytest.mark.parametrize(("m", "n", "k"), [(12, 8, 5), (13, 11, 7), (5, 3, 1), (1, 1, 1), (6, 17, 2)])
def test_tiles_and_tails(m: int, n: int, k: int) -> None:
    sch = _tiled(m, n, k, 6, 4)
    before = parsed(programs.matmul(m, n, k))
    sch.stage_accumulate("C", "j_0", "local")
    check(before, sch)
    assert shape(sch.function, "C_acc") == (6, 4)


def test_a_register_tile_has_constant_indices_once_expanded() -> None:
    sch = _tiled(12, 16, 5, 6, 16)
    sch.stage_accumulate("C", "j_0", "register")
    for rows, lanes in (("i_1", "j_1"), ("C_acc_init_ax0", "C_acc_init_ax1"), ("C_write_ax0", "C_write_ax1")):
        sch.vectorize(lanes)
        sch.unroll(rows)
    verify(sch.function)
    check(parsed(programs.matmul(12, 16, 5)), sch)


def test_loops_that_make_up_one_dimension_become_one_axis() -> None:
    sch = Schedule(parsed(programs.matmul(24, 8, 5)), debug=True)
    sch.split("i", [None, 2, 3])
    sch.reorder("i_0", "i_2", "k", "i_1")
    sch.stage_accumulate("C", "i_0", "local")
    assert shape(sch.function, "C_acc") == (6, 8)
    check(parsed(programs.matmul(24, 8, 5)), sch)


def test_a_split_of_the_inner_loop_that_does_not_divide() -> None:
    sch = _tiled(13, 11, 7, 6, 4)
    sch.split("i_1", [None, 4])
    sch.stage_accumulate("C", "j_0", "local")
    check(parsed(programs.matmul(13, 11, 7)), sch)


def test_fused_loops_are_axes_of_their_own() -> None:
    before = parsed(programs.conv(1, 4, 6, 5, 2, 3, 1))
    sch = Schedule(before, debug=True)
    sch.fuse("h", "w")
    sch.split("h_w", [None, 7])
    sch.reorder("n", "k", "h_w_0", "c", "r", "s", "h_w_1")
    sch.stage_accumulate("S", "h_w_0", "local")
    assert shape(sch.function, "S_acc") == (7,)
    check(before, sch)


def test_partial_sums_are_added_to_what_the_first_of_them_sets() -> None:
    before = parsed(programs.matmul(7, 5, 11))
    sch = Schedule(before, debug=True)
    sch.split("k", [None, 4])
    sch.reorder("i", "k_0", "k_1", "j")
    names = sch.stage_accumulate("C", "k_0", "local")
    assert names == ("C_acc_init", "C_write")
    expected = """
    C_acc = alloc(f32[5], scope="local")
    for i in range(7):
        for k_0 in range(3):
            for C_acc_init_ax0 in range(5):
                with block("C_acc_init"):
                    a0 = spatial(5, C_acc_init_ax0)
                    C_acc[a0] = f32(0.0)
            for k_1 in range(4):
                for j in range(5):
                    with block("C", where=k_0 * 4 + k_1 < 11):
                        vi = spatial(7, i)
                        vj = spatial(5, j)
                        vk = reduce(11, k_0 * 4 + k_1)
                        a0 = spatial(5, j)
                        C_acc[a0] += A[vi, vk] * B[vk, vj]
            for C_write_ax0 in range(5):
                with block("C_write"):
                    vi = spatial(7, i)
                    vj = spatial(5, C_write_ax0)
                    v_k_0 = reduce(3, k_0)
                    a0 = spatial(5, C_write_ax0)
                    with init():
                        C[vi, vj] = f32(0.0)
                    C[vi, vj] += C_acc[a0]
    """
    assert body(sch.function) == text(expected)
    check(before, sch)


def test_after_the_init_was_decomposed_the_tile_is_added() -> None:
    before = parsed(programs.matmul(7, 6, 11))
    sch = Schedule(before, debug=True)
    sch.split("j", [None, 4])
    sch.reorder("j_0", "k", "j_1")
    sch.decompose_reduction("C", "i")
    sch.stage_accumulate("C", "j_0", "local")
    check(before, sch)


def test_a_scalar_accumulator() -> None:
    before = parsed(programs.matmul(3, 5, 4))
    sch = Schedule(before, debug=True)
    sch.stage_accumulate("C", "j", "register")
    assert shape(sch.function, "C_acc") == ()
    check(before, sch)


def test_a_reducer_of_two_targets() -> None:
    before = parsed(
        """
@loop.function
def argmax(X: f32[7, 11], M: out(f32[7]), I: out(i64[7])):
    for i in range(7):
        for k in range(11):
            with block("M"):
                vi = spatial(7, i)
                vk = reduce(11, k)
                with init():
                    M[vi] = f32(-inf)
                    I[vi] = 9223372036854775807
                M[vi], I[vi] = argmax.update(X[vi, vk], vk)
"""
    )
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 3])
    sch.reorder("k", "i_1")
    assert sch.stage_accumulate("M", "i_0", "local") == ("M_acc_init", "M_write")
    assert shape(sch.function, "M_acc") == shape(sch.function, "I_acc") == (3,)
    check(before, sch)


def test_an_init_that_is_no_identity_starts_the_accumulator() -> None:
    before = parsed(
        """
@loop.function
def biased(X: f32[7, 11], b: f32[7], Y: out(f32[7])):
    for i in range(7):
        for k in range(11):
            with block("Y"):
                vi = spatial(7, i)
                vk = reduce(11, k)
                with init():
                    Y[vi] = b[vi]
                Y[vi] += X[vi, vk]
"""
    )
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 4])
    sch.reorder("k", "i_1")
    sch.stage_accumulate("Y", "i_0", "local")
    check(before, sch)


def test_the_epilogue_goes_into_the_write_back() -> None:
    before = parsed(programs.matmul_relu(13, 11, 7))
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 6])
    sch.split("j", [None, 4])
    sch.reorder("i_0", "j_0", "k", "i_1", "j_1")
    sch.stage_accumulate("C", "j_0", "register")
    sch.reverse_compute_inline("D")
    check(before, sch)
    assert [b.name for b in sch.function.buffers] == ["A", "B", "bias", "D", "C_acc"]
    assert sch.blocks() == ["C_acc_init", "C", "C_write"]


def test_below_a_parallel_loop() -> None:
    before = parsed(programs.matmul(13, 11, 7))
    sch = _tiled(13, 11, 7, 6, 4)
    sch.stage_accumulate("C", "j_0", "register")
    sch.parallel("i_0")
    check(before, sch)
    assert buffer(sch.function, "C_acc").scope == "register"
