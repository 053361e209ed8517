"""peel of a loop that a reduction runs over: the piece that starts the sum has its init, the others add to it."""

from __future__ import annotations

from tcompiler.ir.loop.analysis import find_block
from tcompiler.schedule import Schedule
from tests.schedule import programs
from tests.schedule.data.checking import body, check, text
from tests.schedule.programs import parsed


def test_peel_of_a_sum_starts_it_in_the_first_piece() -> None:
    start = parsed(programs.matmul(3, 2, 5))
    sch = Schedule(start, debug=True)
    assert sch.peel("k", [1, 3]) == ("k", "k_t", "k_t_2")
    for name in ("k", "k_t", "k_t_2"):
        assert find_block(sch.function, sch.blocks_under(name)[0]).init is None
    expected = """
    for i in range(3):
        for j in range(2):
            for k in range(1):
                with block("C"):
                    vi = spatial(3, i)
                    vj = spatial(2, j)
                    vk = spatial(1, k)
                    C[vi, vj] = A[vi, vk] * B[vk, vj]
            for k_t in range(2):
                with block("C_t"):
                    vi = spatial(3, i)
                    vj = spatial(2, j)
                    vk = reduce(2, k_t)
                    C[vi, vj] += A[vi, vk + 1] * B[vk + 1, vj]
            for k_t_2 in range(2):
                with block("C_t_2"):
                    vi = spatial(3, i)
                    vj = spatial(2, j)
                    vk = reduce(2, k_t_2)
                    C[vi, vj] += A[vi, vk + 3] * B[vk + 3, vj]
    """
    assert body(check(start, sch)) == text(expected)


def test_peel_keeps_the_init_where_a_piece_begins_with_several_steps() -> None:
    start = parsed(programs.matmul(3, 2, 7))
    sch = Schedule(start, debug=True)
    sch.split("k", [None, 4])
    sch.reorder("k_0", "i", "j", "k_1")
    assert sch.peel("k_0") == ("k_0", "k_0_t")
    first, rest = (find_block(sch.function, sch.blocks_under(n)[0]) for n in ("k_0", "k_0_t"))
    assert first.init is not None and rest.init is None
    check(start, sch)


def test_sums_are_kept_and_asked_for_by_those_that_add_to_them() -> None:
    start = parsed(programs.matmul(6, 16, 9))
    sch = Schedule(start, debug=True)
    sch.split("k", [None, 3])
    sch.split("j", [None, 8])
    sch.reorder("k_0", "j_0", "i", "k_1", "j_1")
    _, write = sch.stage_accumulate("C", "i", "register")
    _, rest = sch.peel("k_0", [1])
    (added,) = (n for n in sch.blocks_under(rest) if n.startswith(write))
    assert find_block(sch.function, write).init is None
    assert find_block(sch.function, added).init is None
    *_, lanes = sch.loops(added)
    sch.vectorize(lanes)
    (steps,) = (n for n in sch.loops("C_t") if n.startswith("k_1"))
    (asked,) = sch.prefetch(added, "C", steps)
    assert sch.loops(asked) == sch.loops("C_t")[: sch.loops("C_t").index(steps)]
    assert "reads=(C[span(v_i_t, 1), span(v_j_0_t * 8, 1)],)" in body(sch.function)
    check(start, sch)
