"""cache_read and cache_write."""

from __future__ import annotations

import pytest

from tcompiler.schedule import Schedule
from tests.schedule import programs
from tests.schedule.data.checking import body, buffer, check, shape, text
from tests.schedule.programs import parsed


def test_only_the_reader_reads_the_copy_of_what_it_touches() -> None:
    before = parsed(
        """
@loop.function
def windows(X: f32[20], Y: out(f32[5]), Z: out(f32[20])):
    for i in range(5):
        with block("Y"):
            vi = spatial(5, i)
            Y[vi] = X[vi * 2 + 3] + X[vi + 4]
    for j in range(20):
        with block("Z"):
            vj = spatial(20, j)
            Z[vj] = X[vj]
"""
    )
    sch = Schedule(before, debug=True)
    assert sch.cache_read("Y", "X", "global") == ("X_copy",)
    expected = """
    X_cache = alloc(f32[9])
    for X_copy_ax0 in range(9):
        with block("X_copy"):
            v0 = spatial(9, X_copy_ax0)
            X_cache[v0] = X[v0 + 3]
    for i in range(5):
        with block("Y"):
            vi = spatial(5, i)
            Y[vi] = X_cache[vi * 2] + X_cache[vi + 1]
    for j in range(20):
        with block("Z"):
            vj = spatial(20, j)
            Z[vj] = X[vj]
    """
    assert body(sch.function) == text(expected)
    check(before, sch)


def test_a_second_copy_gets_a_name_of_its_own() -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    assert sch.cache_read("T", "X", "global") == ("X_copy",)
    (second,) = sch.cache_read("Y", "X", "global")
    assert second != "X_copy"
    assert len({b.name for b in sch.function.buffers}) == 8
    check(before, sch)


def test_guarded_reads_outside_are_not_copied() -> None:
    before = parsed(programs.padded(2, 11))
    sch = Schedule(before, debug=True)
    sch.cache_read("Y", "X", "global")
    assert shape(sch.function, "X_cache") == (2, 11)
    check(before, sch)


def test_what_another_block_wrote() -> None:
    before = parsed(programs.softmax(5, 7))
    sch = Schedule(before, debug=True)
    (copy,) = sch.cache_read("Y", "E", "local")
    sch.compute_at(copy, "i3")
    sch.parallel("i3")
    check(before, sch)


@pytest.mark.parametrize("program", ["matmul", "conv"])
def test_a_block_writes_a_buffer_of_its_own(program: str) -> None:
    if program == "matmul":
        before, block, target = parsed(programs.matmul(5, 7, 3)), "C", "C"
    else:
        before, block, target = parsed(programs.conv(1, 2, 5, 3, 2, 3, 1)), "S", "S"
    sch = Schedule(before, debug=True)
    assert sch.cache_write(block, target, "global") == (f"{target}_copy",)
    assert shape(sch.function, f"{target}_cache") == shape(before, target)
    check(before, sch)


def test_a_packed_copy_of_an_operand() -> None:
    before = parsed(programs.matmul(5, 11, 3))
    sch = Schedule(before, debug=True)
    sch.cache_read("C", "B", "global")
    sch.transform_layout("B_cache", "lambda k, n: (n // 4, k, n % 4)")
    assert shape(sch.function, "B_cache") == (3, 3, 4)
    check(before, sch)


def test_the_scope_is_the_one_asked_for() -> None:
    sch = Schedule(parsed(programs.matmul(5, 7, 3)), debug=True)
    sch.cache_read("C", "A", "shared")
    assert buffer(sch.function, "A_cache").scope == "shared"


def test_symbolic_extents() -> None:
    before = parsed(programs.matmul("m", 5, 3))
    sch = Schedule(before, debug=True)
    sch.cache_read("C", "A", "global")
    sch.cache_write("C", "C", "global")
    check(before, sch, {"m": 4})
