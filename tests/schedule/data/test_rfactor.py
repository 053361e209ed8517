"""rfactor: text, tails, several targets, and the schedule of partial results that the default rules make of it."""

from __future__ import annotations

import pytest

from tcompiler.ir.loop.text import parse_function
from tcompiler.schedule import Schedule
from tcompiler.schedule.rules.partials import reduce_in_lanes
from tcompiler.target.named import get
from tests.schedule.data.checking import body, check, text


def rows(n: int, k: int) -> Schedule:
    source = f"""
    @loop.function
    def rows(X: f32[{n}, {k}], Y: out(f32[{n}])):
        for i in range({n}):
            for k in range({k}):
                with block("Y"):
                    vi = spatial({n}, i)
                    vk = reduce({k}, k)
                    with init():
                        Y[vi] = f32(0.0)
                    Y[vi] += X[vi, vk]
    """
    return Schedule(parse_function(text(source)), debug=True)


def test_the_text() -> None:
    sch = rows(5, 19)
    sch.split("k", [None, 8])
    assert sch.rfactor("Y", "k_1") == ("Y_rf", "k_1_c")
    expected = """
    Y_rf_2 = alloc(f32[5, 8])
    for i in range(5):
        for k_0 in range(3):
            for k_1 in range(8):
                with block("Y_rf", where=k_0 * 8 + k_1 < 19):
                    vi = spatial(5, i)
                    v_k_1 = spatial(8, k_1)
                    v_k_0 = reduce(3, k_0)
                    with init():
                        Y_rf_2[vi, v_k_1] = f32(0.0)
                    Y_rf_2[vi, v_k_1] += X[vi, v_k_0 * 8 + v_k_1]
        for k_1_c in range(8):
            with block("Y"):
                vi = spatial(5, i)
                v_k_1 = reduce(8, k_1_c)
                with init():
                    Y[vi] = f32(0.0)
                Y[vi] += Y_rf_2[vi, v_k_1]
    """
    assert body(sch.function) == text(expected)
    check(rows(5, 19).function, sch)


@pytest.mark.parametrize("loop", ["k_0", "k_1", "k_2"])
def test_any_loop_of_the_reduction(loop: str) -> None:
    sch = rows(3, 24)
    sch.split("k", [2, 3, 4])
    sch.rfactor("Y", loop)
    check(rows(3, 24).function, sch)


def test_twice() -> None:
    sch = rows(3, 24)
    sch.split("k", [2, 3, 4])
    sch.rfactor("Y", "k_1")
    sch.split("k_1_c", [None, 1])
    sch.rfactor("Y", "k_1_c_1")
    check(rows(3, 24).function, sch)


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("k", [8, 9, 31, 32, 33, 64, 97])
def test_partial_results_in_lanes(n: int, k: int) -> None:
    sch = rows(n, k)
    assert reduce_in_lanes(sch, "Y", get("x86-64-v3"))
    assert [sch.kind(loop) for loop in sch.loops("Y_rf")][-1] == "vectorized"
    assert {b.scope for b in sch.function.buffers if "rf" in b.name} == {"register"}
    check(rows(n, k).function, sch)


def test_a_short_axis_is_left_alone() -> None:
    sch = rows(4, 7)
    assert not reduce_in_lanes(sch, "Y", get("x86-64-v3"))
    assert not sch.trace.steps


ARGMAX = """
@loop.function
def argmax(X: f32[3, 40], V: out(f32[3]), I: out(i64[3])):
    for i in range(3):
        for k in range(40):
            with block("V"):
                vi = spatial(3, i)
                vk = reduce(40, k)
                with init():
                    V[vi] = f32(-inf)
                    I[vi] = -1
                V[vi], I[vi] = argmax.update(X[vi, vk], vk)
"""


def test_pairs_of_value_and_position() -> None:
    """Ties between lanes go to the first position, as they do in order."""
    sch = Schedule(parse_function(ARGMAX), debug=True)
    assert reduce_in_lanes(sch, "V", get("x86-64-v3"))
    check(parse_function(ARGMAX), sch)


def test_axes_that_lie_behind_each_other_become_one() -> None:
    source = """
@loop.function
def pool(X: f32[2, 5, 7], Y: out(f32[2])):
    for i in range(2):
        for h in range(5):
            for w in range(7):
                with block("Y"):
                    vi = spatial(2, i)
                    vh = reduce(5, h)
                    vw = reduce(7, w)
                    with init():
                        Y[vi] = f32(0.0)
                    Y[vi] += X[vi, vh, vw]
"""
    sch = Schedule(parse_function(source), debug=True)
    assert reduce_in_lanes(sch, "Y", get("x86-64-v3"))
    assert "fuse" in {s.primitive for s in sch.trace.steps}
    check(parse_function(source), sch)


def test_a_piece_of_partial_results_knows_its_domain() -> None:
    # the last piece runs a part of what the split made: what is computed anew reads no more than that
    sch = rows(3, 6)
    start = sch.function
    sch.split("k", [None, 4, 3])
    sch.rfactor("Y", "k_0")
    sch.peel("k_0", None)
    sch.compute_at("Y_rf", "i")
    check(start, sch)
