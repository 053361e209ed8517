"""What the structural primitives make, in text; that they keep the meaning is for the random schedules."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.schedule import Schedule
from tcompiler.schedule.affine.dependence import injective_below
from tcompiler.schedule.tree import tree
from tests.schedule.programs import PROGRAMS

COPY = """
@loop.function
def copy(X: f32[1000], Y: out(f32[1000])):
    for i in range(1000):
        with block("Y"):
            vi = spatial(1000, i)
            Y[vi] = X[vi]
"""


def body(sch: Schedule) -> str:
    """The text of a function behind its header, outdented."""
    return textwrap.dedent(print_function(sch.function).split(":\n", 1)[1]).strip()


def expected(text: str) -> str:
    return textwrap.dedent(text).strip()


def start(text: str) -> Schedule:
    return Schedule(parse_function(text), debug=True)


def test_split_guards_what_does_not_divide() -> None:
    sch = start(COPY)
    assert sch.split("i", [None, 6]) == ("i_0", "i_1")
    assert body(sch) == expected("""
        for i_0 in range(167):
            for i_1 in range(6):
                with block("Y", where=i_0 * 6 + i_1 < 1000):
                    vi = spatial(1000, i_0 * 6 + i_1)
                    Y[vi] = X[vi]
    """)


def test_split_that_divides_has_no_guard() -> None:
    sch = start(COPY)
    assert sch.split("i", [4, None, 5]) == ("i_0", "i_1", "i_2")
    assert body(sch) == expected("""
        for i_0 in range(4):
            for i_1 in range(50):
                for i_2 in range(5):
                    with block("Y"):
                        vi = spatial(1000, i_0 * 250 + i_1 * 5 + i_2)
                        Y[vi] = X[vi]
    """)


def test_fuse_undoes_split() -> None:
    sch = start(COPY)
    sch.split("i", [None, 8])
    assert sch.fuse("i_0", "i_1") == ("i_0_i_1",)
    assert body(sch) == expected("""
        for i_0_i_1 in range(1000):
            with block("Y"):
                vi = spatial(1000, i_0_i_1)
                Y[vi] = X[vi]
    """)


def test_a_fused_tile_of_two_dimensions_stays_injective() -> None:
    sch = Schedule(PROGRAMS["chain"](), debug=True)
    (fused,) = sch.fuse("i", "j")
    sch.split(fused, [None, 4])
    t = tree(sch.function)
    block = t.blocks["T"]
    assert injective_below(sch.function, block, [s.var for s in t.loops_above(block)]) is True


def test_split_of_a_symbolic_loop_evaluates_for_every_size() -> None:
    sch = Schedule(PROGRAMS["matmul_symbolic"](), debug=True)
    sch.split("i", [None, 6])
    assert sch.extent("i_0") is None
    rng = np.random.default_rng(0)
    b = rng.standard_normal((48, 32)).astype(np.float32)
    for m in (0, 1, 6, 7):
        a = rng.standard_normal((m, 48)).astype(np.float32)
        np.testing.assert_allclose(evaluate(sch.function, {"A": a, "B": b}, {"m": m})["C"], a @ b, rtol=1e-4, atol=1e-4)


def test_reorder_leaves_loops_between_in_place() -> None:
    sch = Schedule(PROGRAMS["matmul"](), debug=True)
    assert sch.reorder("k", "i") == ()
    assert sch.loops("C") == ["k", "j", "i"]


def test_reorder_takes_private_data_along() -> None:
    # each iteration of i writes all of T before it reads it, so i and an outer loop may change places
    sch = start("""
@loop.function
def rows(X: f32[3, 4, 8], Y: out(f32[3, 4, 8])):
    T = alloc(f32[8])
    for n in range(3):
        for i in range(4):
            for j in range(8):
                with block("T"):
                    vn = spatial(3, n)
                    vi = spatial(4, i)
                    vj = spatial(8, j)
                    T[vj] = X[vn, vi, vj] * f32(2.0)
            for k in range(8):
                with block("Y"):
                    vn = spatial(3, n)
                    vi = spatial(4, i)
                    vk = spatial(8, k)
                    Y[vn, vi, vk] = T[7 - vk]
""")
    sch.reorder("i", "n")
    assert sch.loops("Y") == ["i", "n", "k"]


def test_peel_cuts_the_tail_off() -> None:
    sch = start(COPY)
    sch.split("i", [None, 6])
    assert sch.peel("i_0") == ("i_0", "i_0_t")
    assert body(sch) == expected("""
        for i_0 in range(166):
            for i_1 in range(6):
                with block("Y"):
                    vi = spatial(996, i_0 * 6 + i_1)
                    Y[vi] = X[vi]
        for i_0_t in range(1):
            for i_1_t in range(4):
                with block("Y_t"):
                    vi = spatial(4, i_0_t * 6 + i_1_t)
                    Y[vi + 996] = X[vi + 996]
    """)
    sch.elide("i_0_t")
    assert sch.loops("Y_t") == ["i_1_t"]


def test_unfold_speaks_of_the_loops_one_by_one() -> None:
    sch = start("""
@loop.function
def shuffle(X: f32[2, 8], Y: out(f32[16])):
    for i in range(16):
        with block("Y"):
            vi = spatial(16, i)
            Y[vi] = X[vi % 2, vi // 2]
""")
    sch.split("i", [None, 2])
    assert sch.unfold("Y") == ()
    assert body(sch) == expected("""
        for i_0 in range(8):
            for i_1 in range(2):
                with block("Y"):
                    v_i_0 = spatial(8, i_0)
                    v_i_1 = spatial(2, i_1)
                    Y[v_i_0 * 2 + v_i_1] = X[v_i_1, v_i_0]
    """)


def test_peel_where_no_iteration_is_whole_tightens_the_loop() -> None:
    sch = start(COPY)
    sch.split("i", [None, 2000])
    assert sch.peel("i_0") == ("i_0",)
    assert sch.extent("i_1") == 1000
    assert "where" not in body(sch)


def test_peel_at_points_takes_the_guards_of_padding_away() -> None:
    sch = start("""
@loop.function
def border(X: f32[9], Y: out(f32[9])):
    for i in range(9):
        with block("Y"):
            vi = spatial(9, i)
            Y[vi] = select((vi >= 1) & (vi < 8), X[vi - 1] + X[vi + 1], f32(0.0))
""")
    assert sch.peel("i", [1, 8]) == ("i", "i_t", "i_t_2")
    assert body(sch) == expected("""
        for i in range(1):
            with block("Y"):
                vi = spatial(1, i)
                Y[vi] = f32(0.0)
        for i_t in range(7):
            with block("Y_t"):
                vi = spatial(7, i_t)
                Y[vi + 1] = X[vi] + X[vi + 2]
        for i_t_2 in range(1):
            with block("Y_t_2"):
                vi = spatial(1, i_t_2)
                Y[vi + 8] = f32(0.0)
    """)


def test_peel_leaves_out_what_never_runs() -> None:
    sch = start(COPY)
    sch.split("i", [12, 100])
    assert sch.peel("i_0", [10]) == ("i_0",)
    assert sch.extent("i_0") == 10
    assert sch.blocks() == ["Y"]


@pytest.mark.parametrize(
    ("primitive", "kind"), [("parallel", "parallel"), ("vectorize", "vectorized"), ("unroll", "unrolled")]
)
def test_kinds(primitive: str, kind: str) -> None:
    sch = Schedule(PROGRAMS["matmul"](), debug=True)
    assert getattr(sch, primitive)("j") == ()
    assert [sch.kind(n) for n in sch.loops("C")] == ["serial", kind, "serial"]


def test_iterations_that_use_a_private_buffer_run_in_parallel() -> None:
    sch = Schedule(PROGRAMS["shared_row"](), debug=True)
    sch.set_scope("T", "local")
    sch.parallel("i")
    assert sch.kind("i") == "parallel"


def test_new_names_avoid_those_in_use() -> None:
    sch = start(COPY.replace("for i in", "for i_0 in").replace(", i)", ", i_0)"))
    assert sch.split("i_0", [None, 10]) == ("i_0_0", "i_0_1")
    (fused,) = sch.fuse("i_0_0", "i_0_1")
    assert sch.split(fused, [None, 10]) == ("i_0_0_i_0_1_0", "i_0_0_i_0_1_1")
    sch = Schedule(PROGRAMS["chain"](), debug=True)
    sch.split("i", [None, 2])
    assert sch.peel("i_0", [1]) == ("i_0", "i_0_t")
    assert sch.peel("i_0_t", [1]) == ("i_0_t", "i_0_t_t")


def test_peel_leaves_out_what_works_for_nobody() -> None:
    sch = Schedule(PROGRAMS["softmax"](), debug=True)
    sch.split("i3", [7, 1])
    sch.compute_at("S", "i3_0")
    assert sch.peel("i3_0", [5]) == ("i3_0",)
    assert sch.extent("i3_0") == 5
    assert sch.blocks() == ["M", "E", "S", "Y"]
