"""peel leaves out the copies that a piece would make for nobody, and keeps those that somebody reads later."""

from __future__ import annotations

import pytest

from tcompiler.schedule import Schedule
from tests.schedule.data.checking import check
from tests.schedule.programs import parsed

COPY = """
for i in range(6):
    with block("T"):
        vi = spatial(6, i)
        T[vi] = X[vi]
    with block("Y", where=i < 3):
        vi = spatial(6, i)
        Y[vi] = T[vi]
for r in range(3):
    with block("rest"):
        vr = spatial(3, r)
        Y[vr + 3] = f32(0.0)
"""

WRITES_FIRST = """
for j in range(6):
    with block("T2"):
        vj = spatial(6, j)
        T[vj] = X[vj] * f32(2.0)
    with block("Z"):
        vj = spatial(6, j)
        Z[vj] = T[vj]
"""

WRITES_BEFORE_ITS_LOOP = """
for k in range(6):
    with block("T2"):
        vk = spatial(6, k)
        T[vk] = X[vk] * f32(2.0)
for j in range(6):
    with block("Z"):
        vj = spatial(6, j)
        Z[vj] = T[vj]
"""

READS_WHERE_WRITTEN = """
for j in range(6):
    with block("T2", where=j >= 2):
        vj = spatial(6, j)
        T[vj] = X[vj]
    with block("Z"):
        vj = spatial(6, j)
        Z[vj] = select(vj >= 2, T[vj], f32(1.0))
"""

READS = """
for j in range(6):
    with block("Z"):
        vj = spatial(6, j)
        Z[vj] = T[vj]
"""

READS_BEFORE_WRITTEN = """
for j in range(6):
    with block("Z"):
        vj = spatial(6, j)
        Z[vj] = T[vj]
    with block("T2"):
        vj = spatial(6, j)
        T[vj] = X[vj]
"""

READS_WHERE_NOT_WRITTEN = """
for j in range(6):
    with block("T2", where=j >= 3):
        vj = spatial(6, j)
        T[vj] = X[vj]
    with block("Z"):
        vj = spatial(6, j)
        Z[vj] = select(vj >= 2, T[vj], f32(1.0))
"""

READS_THE_SECOND_TIME = """
for j in range(6):
    with block("Z"):
        vj = spatial(6, j)
        vo = spatial(2, o)
        Z[vj] = select(vo > 0, T[vj], f32(1.0))
"""


def indented(text: str, by: int) -> str:
    return "".join(" " * by + line + "\n" for line in text.strip("\n").splitlines())


def peeled(text: str, around: bool = False, places: int = 6) -> list[str]:
    """The blocks that write T once COPY's loop is cut where nobody below it reads T any more.

    Args:
        text: Statements.
        around: Run them twice, in a loop o.
        places: T's elements; if it has one, all is written there.
    """
    if places == 1:
        for index in ("vi", "vj"):
            text = text.replace(f"T[{index}]", "T[0]")
    head = f"""
@loop.function
def copies(X: f32[6], Y: out(f32[6]), Z: out(f32[6])):
    T = alloc(f32[{places}])
"""
    start = parsed(head + ("    for o in range(2):\n" if around else "") + indented(text, 8 if around else 4))
    sch = Schedule(start, debug=True)
    sch.peel("i", [3])
    check(start, sch)
    return [b for b in sch.blocks() if b.startswith("T")]


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("places", [1, 6])
def test_a_copy_goes_where_others_write_what_they_read(around: bool, places: int) -> None:
    assert peeled(COPY + WRITES_FIRST, around, places) == ["T", "T2"]
    assert peeled(COPY + READS_WHERE_WRITTEN, around, places) == ["T", "T2"]
    assert peeled(WRITES_FIRST + COPY, around, places) == ["T2", "T"]


@pytest.mark.parametrize("around", [False, True])
def test_a_copy_goes_where_an_earlier_nest_writes_what_a_later_one_reads(around: bool) -> None:
    assert peeled(COPY + WRITES_BEFORE_ITS_LOOP, around) == ["T", "T2"]
    assert peeled(WRITES_BEFORE_ITS_LOOP + COPY, around) == ["T2", "T"]


@pytest.mark.parametrize("around", [False, True])
def test_a_copy_stays_where_another_nest_reads_it(around: bool) -> None:
    assert peeled(COPY + READS, around) == ["T", "T_t"]
    assert peeled(COPY + READS_BEFORE_WRITTEN, around) == ["T", "T_t", "T2"]
    assert peeled(COPY + READS_WHERE_NOT_WRITTEN, around) == ["T", "T_t", "T2"]


def test_a_copy_stays_where_the_next_iteration_around_reads_it() -> None:
    assert peeled(READS_THE_SECOND_TIME + COPY, around=True) == ["T", "T_t"]
    assert peeled(COPY + READS_THE_SECOND_TIME, around=True) == ["T", "T_t"]


def test_a_copy_stays_where_what_is_written_first_is_overwritten() -> None:
    writes, reads = WRITES_BEFORE_ITS_LOOP.split("for j")
    assert peeled(writes + COPY + "for j" + reads) == ["T2", "T", "T_t"]


def test_who_ran_before_reads_nothing_of_a_copy() -> None:
    first = "for k in range(6):" + WRITES_BEFORE_ITS_LOOP.split("for k in range(6):")[1].split("for j")[0]
    assert peeled(first + READS + COPY) == ["T2", "T"]
