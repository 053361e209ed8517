"""decompose_reduction."""

from __future__ import annotations

import pytest

from tcompiler.schedule import Schedule
from tests.schedule import programs
from tests.schedule.data.checking import body, check, text
from tests.schedule.programs import parsed


@pytest.mark.parametrize("loop", ["i_0", "j_0", "k_0", "i_1"])
def test_before_every_loop_of_a_tiled_matmul(loop: str) -> None:
    before = parsed(programs.matmul(7, 6, 5))
    sch = Schedule(before, debug=True)
    sch.split("i", [None, 3])
    sch.split("j", [None, 4])
    sch.split("k", [None, 2])
    if loop == "i_1":
        sch.reorder("i_0", "j_0", "i_1", "k_0", "k_1", "j_1")
    else:
        sch.reorder("i_0", "j_0", "k_0", "k_1", "i_1", "j_1")
    assert sch.decompose_reduction("C", loop) == ("C_init",)
    check(before, sch)


def test_the_text_with_kinds_kept() -> None:
    before = parsed(programs.matmul(7, 8, 5))
    sch = Schedule(before, debug=True)
    sch.reorder("k", "j")
    sch.vectorize("j")
    sch.decompose_reduction("C", "k")
    expected = """
    for i in range(7):
        for C_init_j in vectorized(8):
            with block("C_init"):
                vi = spatial(7, i)
                vj = spatial(8, C_init_j)
                C[vi, vj] = f32(0.0)
        for k in range(5):
            for j in vectorized(8):
                with block("C"):
                    vi = spatial(7, i)
                    vj = spatial(8, j)
                    vk = reduce(5, k)
                    C[vi, vj] += A[vi, vk] * B[vk, vj]
    """
    assert body(sch.function) == text(expected)
    check(before, sch)


def test_a_maximum() -> None:
    before = parsed(programs.pool(3, 5, 3))
    sch = Schedule(before, debug=True)
    sch.decompose_reduction("M", "h")
    check(before, sch)


def test_the_decomposed_parts_are_scheduled_on_their_own() -> None:
    before = parsed(programs.matmul(7, 8, 5))
    sch = Schedule(before, debug=True)
    sch.decompose_reduction("C", "i")
    sch.reorder("k", "j", "i")
    sch.parallel("C_init_i")
    sch.vectorize("C_init_j")
    check(before, sch)
