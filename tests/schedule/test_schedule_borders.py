"""Taps in the padding: what the primitive masks, what tiles at borders compute, and that sums come out."""

from __future__ import annotations

import re
from itertools import product
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
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.ir.scalar.interpret import interpret
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule import Schedule
from tcompiler.schedule.bounds import turns
from tcompiler.schedule.rules.borders import LINES
from tcompiler.schedule.tree import loop_named, tree
from tcompiler.target.model import pace
from tcompiler.target.named import get
from tcompiler.target.tile import NEVER, Registers, choose_tile
from tests.schedule.data.checking import check
from tests.schedule.programs import PROGRAMS
from tests.schedule.test_schedule_contractions import check as compare
from tests.schedule.test_schedule_contractions import normal, write


def points(function: Function) -> int:
    """How often Updates run; what masks them has to depend on loops alone that are not written out."""
    t = tree(function)
    total = 0
    for b in t.blocks.values():
        if isinstance(b.body, Update):
            loops = {s.var: as_int(s.var.extent) or 0 for s in t.loops_above(b)}
            masks = [v for v in loops if v in free_vars(b.predicate)]
            assert all(s.kind in ("serial", "parallel") for s in t.loops_above(b) if s.var in masks)
            places = product(*(range(loops[v]) for v in masks))
            inside = sum(bool(interpret(b.predicate, dict(zip(masks, p, strict=True)), _nothing)) for p in places)
            total += inside * prod(e for v, e in loops.items() if v not in masks)
    return total


def _nothing(buffer: str, indices: tuple[int, ...]) -> int:
    raise AssertionError(f"a mask reads {buffer}")


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


def test_few_rows_take_three_vectors_also_in_parts(tmp_path: Path) -> None:
    """Four rows of seven and three: six accumulators wait for each other, nine do not."""
    x, w = normal(1, 400, 7, 7), normal(96, 400, 3, 3) / np.float32(60)
    path = write(tmp_path / "m.onnx", [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], {"x": x}, {"w": w})
    text = "".join(api.compile_stages(path, "scheduled", target="znver3", threads=1).texts.values())
    assert re.search(r"_acc = alloc\(f32\[4, 24\]", text)
    (expected,) = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    compare(path, {"x": x}, expected)


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
    "seven": ((7, 7), 3, 1, 1, 1, 45),
    "fourteen": ((14, 14), 3, 1, 1, 1, 64),
    "wide taps": ((9, 6), 5, 2, 1, 1, 31),
    "every other": ((13, 14), 3, 1, 2, 1, 24),
    "apart": ((11, 8), 3, 2, 1, 2, 32),
    "more around than needed": ((5, 7), 3, 2, 1, 1, 16),
    "along a line": ((12,), 3, 1, 1, 1, 40),
    "volumes": ((4, 5, 6), 3, 1, 1, 1, 29),
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


MANY = {
    # size of the image, kernel, stride, dilation, channels, filters
    "volumes of seven": ((8, 7, 8), (7, 7, 7), 1, 1, 6, 19),
    "volumes of five": ((6, 8, 8), (5, 5, 5), 1, 1, 32, 33),
    "apart": ((10, 9, 10), (5, 5, 5), 1, 2, 4, 16),
    "every other": ((11, 12, 9), (7, 7, 7), 2, 1, 5, 24),
    "long lines": ((13, 31), (3, 29), 1, 1, 8, 48),
    "large": ((14, 15), (11, 11), 1, 1, 16, 48),
    "columns": ((33, 6), (31, 1), 1, 1, 12, 32),
    "apart in planes": ((28, 20), (7, 7), 1, 4, 8, 32),
}


@pytest.mark.parametrize("name", MANY)
def test_many_taps_make_bounded_code_and_are_left_out_nevertheless(tmp_path: Path, name: str) -> None:
    size, kernel, stride, dilation, channels, filters = MANY[name]
    rank, pads = len(size), [(k - 1) * dilation // 2 for k in kernel]
    x, w = normal(1, channels, *size), normal(filters, channels, *kernel) / np.float32(prod(kernel) ** 0.5)
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], pads=[*pads, *pads], strides=[stride] * rank, dilations=[dilation] * rank
    )
    path = write(tmp_path / "m.onnx", [node], {"x": x}, {"w": w})
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    for threads in (1, 2):
        found = np.asarray(tc.compile(path, threads=threads)(x))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=3e-5 * float(np.abs(expected).max()))
    taps = [
        sum(0 <= o * stride - p + t * dilation < n for o in range(m) for t in range(k))
        for n, m, k, p in zip(size, expected.shape[2:], kernel, pads, strict=True)
    ]
    everything = channels * expected.size * prod(kernel)
    for target in ("znver3", "znver5"):
        texts = api.compile_stages(path, "llvm", target=target, threads=1).texts
        assert sum(v.count("\n") for k, v in texts.items() if k.startswith("llvm/")) < 1.2 * LINES
        done = sum(points(parse_function(v)) for k, v in texts.items() if k.startswith("scheduled/conv"))
        assert done < 0.95 * everything
        # along rows of a tile they are left out where code allows it, along the other axes everywhere
        least = channels * filters * prod(taps)
        assert done <= least * max(m * k / t for m, k, t in zip(expected.shape[2:], kernel, taps, strict=True))


APART = """
@loop.function
def apart(X: f32[10], W: f32[3], Y: out(f32[10])):
    for z in range(10):
        with block("Z"):
            vz = spatial(10, z)
            Y[vz] = f32(0.0)
    for i in range(10):
        for r in range(3):
            with block("Y", where=(i + r * 3 >= 3) & (i + r * 3 < 13)):
                vi = spatial(10, i)
                vr = reduce(3, r)
                Y[vi] += X[vi + vr * 3 - 3] * W[vr]
"""


def test_places_between_taps_that_are_apart_are_one_piece() -> None:
    sch = Schedule(parse_function(APART), debug=True)
    assert turns(loop_named(sch.function, "i")) == [3, 7]
    sch.peel("i", [3, 7])
    assert all(turns(loop_named(sch.function, n)) == [] for n in sch.loop_names() if n.startswith("i"))
    check(parse_function(APART), sch)


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


@pytest.mark.parametrize("side", [1, 2])
def test_no_tap_of_a_window_need_lie_inside(tmp_path: Path, side: int) -> None:
    # of one column, taps at -3, -1, 1 and 3 meet nothing at all
    x, w, b = normal(1, 6, 19, side), normal(24, 6, 4, 4), normal(24)
    attributes = {"dilations": [2, 2], "pads": [3, 3, 3, 3], "strides": [2, 2]}
    model = write(
        tmp_path / "m.onnx",
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)],
        {"x": x},
        {"w": w, "b": b},
    )
    expected = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    for target in ("cpu", "x86-64-v3"):
        for threads in (1, 2):
            found = np.asarray(tc.compile(model, target, threads)(x))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
