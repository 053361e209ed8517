"""Predicted cycles and traffic of schedules, against counts by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcompiler.cost.predict import predict
from tcompiler.ir.loop.text import parse_function
from tcompiler.schedule import Schedule
from tcompiler.target.model import Core, core
from tcompiler.target.named import get
from tests.schedule import programs

CORE = core(get("znver3"))


def caches(l1: int, l2: int = 1 << 30, l3: int = 1 << 30) -> Core:
    """The core with other caches."""
    return replace(CORE, capacities={"L1": l1, "L2": l2, "L3": l3})


def tiled(rows: int = 6) -> Schedule:
    """A product of 24 × 64 and 64 × 32 in register tiles of `rows` × 16, its right side packed."""
    sch = Schedule(parse_function(programs.matmul(24, 32, 64)))
    sch.split("i", [None, rows])
    sch.split("j", [None, 16])
    sch.reorder("i_0", "j_0", "k", "i_1", "j_1")
    sch.transform_layout("B", "lambda k, n: (n // 16, k, n % 16)")
    sch.stage_accumulate("C", "j_0", "register")
    for loop in ("C_acc_init_ax0", "C_write_ax0", "i_1"):
        sch.unroll(loop)
    for loop in ("C_acc_init_ax1", "C_write_ax1", "j_1"):
        sch.vectorize(loop)
    return sch


def test_a_register_tile_computes_at_the_peak() -> None:
    # in each of 4 × 2 tiles: 64 steps of 12 multiply-adds on two pipes; 12 stores; the zeros; loops
    found = predict(tiled().function, CORE)
    assert found.cycles == pytest.approx(8 * (64 * 6 + 12), rel=0.05)


def test_a_small_tile_waits_for_its_sums() -> None:
    # four vectors in two cycles would do, but each sum waits four for itself
    found = predict(tiled(2).function, CORE)
    assert found.cycles == pytest.approx(24 * (64 * 4 + 4), rel=0.05)


def test_threads_share_parallel_loops() -> None:
    sch = tiled()
    alone = predict(sch.function, CORE, 4).cycles
    sch.parallel("i_0")
    assert predict(sch.function, CORE, 4).cycles == pytest.approx(alone / 4)
    assert predict(sch.function, CORE, 3).cycles == pytest.approx(alone / 2)


def test_a_broken_stride_is_read_lane_by_lane() -> None:
    text = """
    @loop.function
    def f(A: f32[64, 8], B: out(f32[8, 64])):
        for i in range(8):
            for j_0 in range(8):
                for j_1 in vectorized(8):
                    with block("B"):
                        vi = spatial(8, i)
                        vj = spatial(64, j_0 * 8 + j_1)
                        B[vi, vj] = A[{0}]
    """
    along = text.replace("A: f32[64, 8]", "A: f32[8, 64]").format("vi, vj")
    # a store a cycle, against eight loads on two ports
    assert predict(parse_function(_dedented(along)), CORE).cycles == pytest.approx(64 * 1, abs=10)
    assert predict(parse_function(_dedented(text.format("vj, vi"))), CORE).cycles == pytest.approx(64 * 4, abs=10)


def _dedented(text: str) -> str:
    return "\n".join(line[4:] for line in text.strip("\n").splitlines())


def test_traffic_of_a_product_in_order() -> None:
    # 64 × 32 × 48: rows of A, all of B for each of them, C once
    f = programs.PROGRAMS["matmul"]()
    a, b, c = (4 * n for n in (64 * 48, 48 * 32, 64 * 32))
    assert predict(f, caches(1 << 20)).traffic["L2"] == a + b + c
    # a row of A, of C and all of B fit: each is brought once
    assert predict(f, caches(b + 4 * 48 + 4 * 32)).traffic["L2"] == a + b + c
    # B does not: it comes anew for each of 64 rows; a column of it is a line in every row
    column = 48 * 64
    found = predict(f, caches(column + 4 * 48 + 64)).traffic["L2"]
    assert found == pytest.approx(64 * (b + 4 * 48 + 4 * 32))


def test_traffic_of_a_blocked_product() -> None:
    sch = Schedule(programs.PROGRAMS["matmul"]())
    sch.split("j", [None, 16])
    sch.reorder("j_0", "i", "j_1", "k")
    a, b, c = (4 * n for n in (64 * 48, 48 * 32, 64 * 32))
    # half of B stays while all rows of A pass: A comes twice
    found = predict(sch.function, caches(b // 2 + 4 * 48 + 64 + 64)).traffic["L2"]
    assert found == 2 * (a + b // 2 + c // 2)
    assert predict(sch.function, caches(1 << 20)).footprint == a + b + c


def test_indices_that_share_a_loop() -> None:
    text = """
@loop.function
def f(A: f32[28, 28, 16], B: out(f32[784, 16])):
    for p in range(784):
        for c in range(16):
            with block("B"):
                vp = spatial(784, p)
                vc = spatial(16, c)
                B[vp, vc] = A[vp // 28, vp % 28, vc]
"""
    assert predict(parse_function(text), CORE).footprint == 2 * 4 * 784 * 16


def test_functions_and_divisions_cost_more_than_sums() -> None:
    def elementwise(value: str) -> float:
        text = f"""
@loop.function
def f(A: f32[1024], B: out(f32[1024])):
    for i_0 in range(128):
        for i_1 in vectorized(8):
            with block("B"):
                vi = spatial(1024, i_0 * 8 + i_1)
                B[vi] = {value}
"""
        return predict(parse_function(text), CORE).cycles

    plain, quotient, function = (elementwise(v) for v in ("A[vi] + f32(1.0)", "A[vi] / f32(3.0)", "exp(A[vi])"))
    assert plain < quotient < function
