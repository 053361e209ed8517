"""Taps in the padding: what the primitive masks, what tiles at borders compute, and that sums come out."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

import tcompiler as tc
from tcompiler import api
from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Function, Update
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.scalar.grammar import TRUE, as_int
from tcompiler.schedule import Schedule
from tcompiler.schedule.bounds import turns
from tcompiler.schedule.tree import loop_named, tree
from tcompiler.target.model import pace
from tcompiler.target.named import get
from tcompiler.target.tile import NEVER, Registers, choose_tile
from tests.schedule.data.checking import check
from tests.schedule.programs import PROGRAMS
from tests.schedule.test_schedule_contractions import normal, write


def points(function: Function) -> int:
    """How often Updates run that are not masked."""
    t = tree(function)
    found = [b for b in t.blocks.values() if isinstance(b.body, Update)]
    assert all(b.predicate is TRUE for b in found)
    return sum(prod(as_int(s.var.extent) or 0 for s in t.loops_above(b)) for b in found)


@pytest.mark.parametrize("along", [["vh", "vw"], ["vh"], ["vw"]])
def test_taps_outside_are_masked_and_peeled(along: list[str]) -> None:
    start = PROGRAMS["conv"]()
    sch = Schedule(start, debug=True)
    sch.decompose_reduction("S", "c")
    sch.skip_zeros("S", along)
    check(start, sch)
    assert "where=" in print_function(sch.function)
    for loop in [n for v, names in (("vh", "hr"), ("vw", "ws")) if v in along for n in names]:
        for name in [n for n in sch.loop_names() if n == loop or n.startswith(f"{loop}_t")]:
            if cuts := turns(loop_named(sch.function, name)):
                sch.peel(name, cuts)
    check(start, sch)
    # of 7 lines and 5 columns, three taps each, two are outside
    lines, columns = 19 if "vh" in along else 21, 13 if "vw" in along else 15
    assert points(sch.function) == 3 * 2 * lines * columns


@pytest.mark.parametrize("loop", ["n", "k", "h"])
def test_zeros_of_a_producer_that_moved(loop: str) -> None:
    start = PROGRAMS["conv"]()
    sch = Schedule(start, debug=True)
    sch.compute_at("P", loop)
    sch.decompose_reduction("S", "c")
    sch.skip_zeros("S", ["vh", "vw"])
    where = str(find_block(sch.function, "S").predicate)
    assert ("h + r >= 1" in where or "r + h >= 1" in where) and "w + s >= 1" in where
    check(start, sch)


def test_zeros_by_a_guard_of_the_sum_itself() -> None:
    start = PROGRAMS["padded"]()
    sch = Schedule(start, debug=True)
    sch.stage_accumulate("Y", "h", "register")
    sch.skip_zeros("Y", ["vh"])
    sch.peel("h", [1, 10])
    check(start, sch)


def test_turns_are_where_predicates_begin_and_end_to_hold() -> None:
    sch = Schedule(PROGRAMS["conv"](), debug=True)
    sch.split("h", [None, 2])
    sch.decompose_reduction("S", "c")
    sch.skip_zeros("S", ["vh", "vw"])
    # lines 0 and 1, with a tap outside of line 0; lines 6 and 7, of which 7 is none
    assert turns(loop_named(sch.function, "h_0")) == [1, 3]
    assert turns(loop_named(sch.function, "w")) == [1, 4]
    assert turns(loop_named(sch.function, "k")) == []


def test_a_tile_for_the_rows_that_taps_have_inside() -> None:
    registers = Registers(16, 32, 64, NEVER, 1 << 20, 12, pace(get("znver5")))
    seven = ((1, 7), (0, 7), (0, 6))
    tile = choose_tile(7, 64, 512, registers, True, 7, taps=(seven, seven))
    whole = choose_tile(7, 64, 512, registers, True, 7)
    assert tile.cost < 0.87 * whole.cost


@pytest.mark.parametrize(("rows", "columns", "depth"), [(784, 512, 128), (197, 768, 768), (14, 256, 2304)])
def test_loads_that_hide_cost_nothing_where_operands_are_laid_out_once(rows: int, columns: int, depth: int) -> None:
    wide = Registers(16, 32, 64, 5 << 17, 5 << 17, 12, pace(get("znver5")))
    hidden = choose_tile(rows, columns, depth, wide, True, loaded=False)
    counted = choose_tile(rows, columns, depth, wide, True)
    # both do as many multiply-adds at once, but for their tails
    assert hidden.cost <= counted.cost <= 1.05 * hidden.cost
    assert counted.lanes == 64
    # where issuing instructions is what two threads wait for, loads count in any case
    narrow = Registers(8, 16, 32, 5 << 16, 5 << 16, 8, pace(get("znver3")))
    assert choose_tile(rows, columns, depth, narrow, True, loaded=False) == choose_tile(
        rows, columns, depth, narrow, True
    )


CASES = {
    "seven": ((7, 7), 3, 1, 1, 1, 37),
    "fourteen": ((14, 14), 3, 1, 1, 1, 64),
    "wide taps": ((9, 6), 5, 2, 1, 1, 33),
    "every other": ((13, 14), 3, 1, 2, 1, 24),
    "apart": ((11, 8), 3, 2, 1, 2, 32),
    "more around than needed": ((5, 7), 3, 2, 1, 1, 16),
    "along a line": ((12,), 3, 1, 1, 1, 40),
    "volumes": ((4, 5, 6), 3, 1, 1, 1, 19),
}


@pytest.mark.parametrize("name", CASES)
def test_convolutions_leave_out_what_lies_outside(tmp_path: Path, name: str) -> None:
    size, kernel, pad, stride, dilation, filters = CASES[name]
    rank, channels = len(size), 48
    x, w = normal(2, channels, *size), normal(filters, channels, *[kernel] * rank) / np.float32(kernel * 7)
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], pads=[pad] * 2 * rank, strides=[stride] * rank, dilations=[dilation] * rank
    )
    path = write(tmp_path / "m.onnx", [node], {"x": x}, {"w": w})
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    for threads in (1, 2):
        found = np.asarray(tc.compile(path, threads=threads)(x))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))
    taps = [
        sum(0 <= o * stride - pad + t * dilation < n for o in range(m) for t in range(kernel))
        for n, m in zip(size, expected.shape[2:], strict=True)
    ]
    for target in ("x86-64-v3", "znver5"):
        texts = api.compile_stages(path, "scheduled", target=target, threads=1).texts
        if any("sch.skip_zeros(" in v for k, v in texts.items() if k.startswith("trace/")):
            kernel_of = [parse_function(v) for k, v in texts.items() if k.startswith("scheduled/conv")]
            assert sum(points(f) for f in kernel_of) == 2 * channels * filters * prod(taps)
        else:
            assert target != "znver5" or rank == 1


@pytest.mark.parametrize(("size", "filters"), [((14, 14), 512), ((13, 15), 520)])
def test_parts_of_a_reduction_are_rows_of_taps_where_their_panels_stay_near(
    tmp_path: Path, size: tuple[int, int], filters: int
) -> None:
    x, w = normal(1, 512, *size), normal(filters, 512, 3, 3) / np.float32(21)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, strides=[2, 2])
    path = write(tmp_path / "m.onnx", [node], {"x": x}, {"w": w})
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    for threads in (1, 2):
        found = np.asarray(tc.compile(path, threads=threads)(x))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))
    texts = api.compile_stages(path, "scheduled", target="znver5", threads=1).texts
    text = "\n".join(v for k, v in texts.items() if k.startswith("trace/"))
    assert 'sch.skip_zeros("' in text and '_r", [1])' in text, text
