"""Last columns of a contraction that fill no vector: lanes along the reduction, or along the places of rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

import tcompiler as tc
from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.grammar import Function
from tcompiler.ir.loop.text import parse_function
from tcompiler.schedule.schedule import Schedule
from tests.schedule.test_schedule_contractions import affine, check, normal, product, traces, write


def cut(trace: str, columns: int) -> bool:
    """Whether so many columns were left in front of the last ones, whose sums are in lanes."""
    return f"[{columns}])" in trace and "sch.rfactor(" in trace


MATMUL = helper.make_node("MatMul", ["a", "b"], ["y"])
MATMULS = [
    # batch, rows, depth, columns, whether the second factor is a constant
    ((), 511, 63, 33, False),
    ((), 37, 255, 34, True),
    ((), 24, 300, 49, False),
    ((), 41, 97, 36, True),
    ((3,), 29, 95, 65, False),
    ((2, 2), 12, 129, 35, True),
]


@pytest.mark.parametrize(("batch", "rows", "depth", "columns", "constant"), MATMULS)
def test_products(tmp_path: Path, batch: tuple[int, ...], rows: int, depth: int, columns: int, constant: bool) -> None:
    x, w, bias, more = (
        normal(*batch, rows, depth),
        normal(*batch, depth, columns),
        normal(columns),
        normal(*batch, rows, columns),
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node("Add", ["q", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    inputs = {"x": x, **({} if constant else {"w": w}), "r": more}
    path = write(tmp_path / "m.onnx", nodes, inputs, {"b": bias, **({"w": w} if constant else {})})
    check(path, inputs, np.maximum(x.astype(np.float64) @ w.astype(np.float64) + bias + more, 0))
    assert cut(traces(path, "znver5"), columns // 16 * 16)


CONVOLUTIONS: dict[str, tuple[tuple[int, int], int, int, int, dict[str, Any]]] = {
    # image, channels, filters, kernel, other attributes
    "taps": ((9, 11), 31, 33, 3, {"pads": [1, 1, 1, 1]}),
    "strides": ((13, 14), 63, 65, 3, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "groups": ((5, 9), 132, 132, 3, {"group": 4, "pads": [1, 1, 1, 1]}),
    "one place after the other": ((7, 31), 50, 49, 1, {}),
    "apart": ((15, 10), 24, 34, 3, {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "a channel over": ((9, 12), 68, 132, 3, {"group": 4, "pads": [1, 1, 1, 1]}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(tmp_path: Path, name: str) -> None:
    image, channels, filters, kernel, given = CONVOLUTIONS[name]
    group = given.get("group", 1)
    x, w = normal(2, channels, *image), normal(filters, channels // group, kernel, kernel) / np.float32(kernel * 7)
    node = helper.make_node("Conv", ["x", "w", "b"], ["c"], **given)
    path = write(
        tmp_path / "m.onnx", [node, helper.make_node("Relu", ["c"], ["y"])], {"x": x}, {"w": w, "b": normal(filters)}
    )
    (expected,) = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    check(path, {"x": x}, expected)


PLACES: dict[str, tuple[tuple[int, ...], int, int, int, dict[str, Any]]] = {
    # image, channels, filters, kernel, other attributes
    "a first layer": ((47, 81), 3, 65, 7, {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
    "four filters": ((48, 65), 3, 36, 5, {"strides": [2, 2], "pads": [2, 2, 2, 2]}),
    "taps apart": ((41, 99), 3, 33, 7, {"strides": [2, 2], "pads": [3, 3, 3, 3], "dilations": [2, 2]}),
    "strides of three": ((40, 140), 5, 33, 5, {"strides": [1, 3], "pads": [0, 1, 2, 3]}),
    "a line": ((1999,), 4, 33, 9, {"strides": [2], "pads": [4, 4]}),
    "a volume": ((5, 23, 70), 3, 49, 3, {"strides": [2, 2, 2], "pads": [1, 1, 1, 1, 1, 1]}),
    "side by side": ((30, 36), 12, 65, 3, {"pads": [1, 1, 1, 1]}),
    "groups of few channels": ((56, 58), 24, 68, 5, {"strides": [2, 2], "pads": [2, 2, 2, 2], "group": 4}),
    "half a vector of a group": ((14, 15), 160, 160, 3, {"pads": [1, 1, 1, 1], "group": 4}),
    "four filters of a group, of every second place": (
        (28, 29),
        144,
        144,
        3,
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 4},
    ),
    "lines that fill vectors no better": ((10, 28), 112, 224, 3, {"pads": [1, 1, 1, 1], "group": 4}),
    "less than a vector": ((19, 27), 32, 136, 3, {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 8}),
}


@pytest.mark.parametrize("name", PLACES)
def test_lanes_along_places(tmp_path: Path, name: str) -> None:
    image, channels, filters, kernel, given = PLACES[name]
    group = given.get("group", 1)
    x, w = normal(2, channels, *image), normal(filters, channels // group, *(kernel for _ in image)) / np.float32(9)
    node = helper.make_node("Conv", ["x", "w", "b"], ["c"], **given)
    path = write(
        tmp_path / "m.onnx", [node, helper.make_node("Relu", ["c"], ["y"])], {"x": x}, {"w": w, "b": normal(filters)}
    )
    (expected,) = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    check(path, {"x": x}, expected)
    text = traces(path, "znver5")
    assert f"[{filters // group // 16 * 16}])" in text and "sch.rfactor(" not in text


def test_rows_lie_along_the_reduction_where_last_columns_are_summed_along_it(tmp_path: Path) -> None:
    # a seventeenth place would take a vector of its own, and one filter's sums run along 128 channels
    x, w = normal(1, 128, 17, 17), normal(65, 128, 3, 3) / np.float32(35)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    path = write(tmp_path / "m.onnx", [node], {"x": x}, {"w": w})
    (expected,) = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    check(path, {"x": x}, expected)
    assert cut(traces(path, "znver5"), 64)


LINES = [
    # image, channels, filters, kernel, and the places of a line behind full vectors that have lanes along the filters
    ((13, 33), 8, 24, 5, 1),
    ((9, 97), 16, 12, 3, 1),
    ((5, 50), 11, 40, 3, 2),
    ((6, 47), 11, 40, 3, 0),
]


@pytest.mark.parametrize(("image", "channels", "filters", "kernel", "left"), LINES)
def test_last_places_of_a_line_have_lanes_along_the_filters(
    tmp_path: Path, image: tuple[int, int], channels: int, filters: int, kernel: int, left: int
) -> None:
    x, w = normal(2, channels, *image), normal(filters, channels, kernel, kernel) / np.float32(kernel * 5)
    node = helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[kernel // 2] * 4)
    path = write(
        tmp_path / "m.onnx", [node, helper.make_node("Relu", ["c"], ["y"])], {"x": x}, {"w": w, "b": normal(filters)}
    )
    (expected,) = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    check(path, {"x": x}, expected)
    text = traces(path, "znver5")
    assert (f"[{image[1] - left}])" in text) == bool(left)
    # the weights are laid out a second time, filters side by side
    assert (', "c0", "global")' in text) == bool(left)


@pytest.mark.parametrize(("equation", "rows", "columns"), [("ji,jk->ik", 513, 33), ("bji,bjk->bik", 200, 65)])
def test_rows_that_lie_side_by_side(tmp_path: Path, equation: str, rows: int, columns: int) -> None:
    path = product(tmp_path / "m.onnx", equation, {"b": 3, "i": rows, "j": 203, "k": columns}, None)
    text = traces(path, "znver5")
    assert f"[{columns // 16 * 16}])" in text and "sch.rfactor(" not in text


def test_infinities_beside_a_narrow_vector_of_channels_stay_where_they_are(tmp_path: Path) -> None:
    # less than half a vector of a group's channels is in use: the next group's are not multiplied by zero
    x, w = normal(1, 68, 6, 6), normal(132, 17, 1, 1)
    x[:, 17] = np.inf
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=4)
    path = write(tmp_path / "m.onnx", [node], {"x": x}, {"w": w})
    found = np.asarray(tc.compile(path, threads=1)(x))
    assert np.isfinite(found[:, :33]).all() and np.isinf(found[:, 33:66]).all()


@pytest.mark.parametrize(
    ("channels", "filters", "size", "kernel"), [(63, 65, (7, 9), 4), (64, 33, (14, 14), 4), (64, 65, (8, 8), 3)]
)
def test_transposed_convolutions(
    tmp_path: Path, channels: int, filters: int, size: tuple[int, int], kernel: int
) -> None:
    # rows of a tile are some of the result's positions only, every second one
    x, w = normal(1, channels, *size), normal(channels, filters, kernel, kernel) / np.float32(30)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])
    path = write(tmp_path / "m.onnx", [node], {"x": x}, {"w": w})
    (expected,) = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    check(path, {"x": x}, expected)
    assert f"[{filters // 16 * 16}])" in traces(path, "znver5")


def test_borders_are_left_out_beside_last_columns(tmp_path: Path) -> None:
    x, w = normal(1, 63, 9, 9), normal(33, 63, 3, 3) / np.float32(30)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    text = traces(write(tmp_path / "m.onnx", [node], {"x": x}, {"w": w}), "znver5")
    assert cut(text, 32) and "sch.skip_zeros(" in text


@pytest.mark.parametrize(("depth", "columns"), [(12, 33), (200, 32), (200, 44), (200, 9)])
def test_vectors_that_are_full_enough_stay(tmp_path: Path, depth: int, columns: int) -> None:
    a, b = normal(64, depth), normal(depth, columns)
    path = write(tmp_path / "m.onnx", [helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b}, {})
    assert "sch.rfactor(" not in traces(path, "znver5")


def test_columns_of_constants_are_copied_once(tmp_path: Path) -> None:
    x, w = normal(1, 63, 9, 9), normal(33, 63, 3, 3) / np.float32(30)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    path = write(tmp_path / "m.onnx", [node], {"x": x}, {"w": w})
    model = tc.compile(path, threads=1, target="znver5")
    (kernel,) = (k for k in model.kernels if k["name"].startswith("conv"))
    calls = [c for c in model.manifest["calls"] if c["kernel"] == kernel["symbol"]]
    assert [a[0] for a in calls[0]["args"]].count("const") == 2  # the panels, and the last column


def test_columns_with_lanes_along_a_line_are_copied_once(tmp_path: Path) -> None:
    x, w = normal(1, 134, 33, 33), normal(77, 134, 3, 3) / np.float32(35)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    path = write(tmp_path / "m.onnx", [node], {"x": x}, {"w": w})
    (expected,) = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    check(path, {"x": x}, expected)
    text = traces(path, "znver5")
    assert 'sch.cache_read("v1_block_t", "c0", "global")' in text
    assert 'sch.compute_at("c0_copy"' not in text


@pytest.mark.parametrize("rows", [128, 129, 130, 133, 135, 137, 139])
def test_last_columns_of_a_tile_of_rows_stand_behind_its_others(tmp_path: Path, rows: int) -> None:
    path = affine(tmp_path / "m.onnx", rows, 99, 33)
    a, b = normal(3, rows, 99), normal(3, 99, 33)
    check(batch := write(tmp_path / "b.onnx", [MATMUL], {"a": a, "b": b}, {}), {"a": a, "b": b}, np.matmul(a, b))
    for model in path, batch:
        tiles, _ = traces(model, "znver5").split("[32])", 1)
        assert re.search(r'sch.split\("\w+_m", \[None, 1[34]\]\)', tiles)


@pytest.mark.parametrize(("image", "rows"), [((55, 57), 112), ((47, 43), 96), ((64, 3), 96), ((17, 17), 112)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("filters", [65, 68])
def test_last_columns_along_places_stand_behind_the_others_of_a_block_of_rows(
    tmp_path: Path, image: tuple[int, int], rows: int, batch: int, filters: int
) -> None:
    x, w = normal(batch, 255, *image), normal(filters, 255, 1, 1) / np.float32(9)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, {"x": x}, {"w": w, "b": normal(filters)})
    (expected,) = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    check(path, {"x": x}, expected)
    blocks, _ = traces(path, "znver5").split("[64])", 1)
    assert re.search(rf'sch.split\("\w+_hw", \[None, {rows}\]\)', blocks)


def test_threads_share_what_is_left_of_rows_after_its_last_columns(tmp_path: Path) -> None:
    a, b, c = normal(1, 113, 241), normal(241, 194), normal(1, 113, 194)
    nodes = [helper.make_node("MatMul", ["a", "b"], ["m"]), helper.make_node("Add", ["m", "c"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, {"a": a, "c": c}, {"b": b})
    check(path, {"a": a, "c": c}, a.astype(np.float64) @ b + c)
    text = traces(path, "znver5", threads=2)
    assert text.index("sch.split(") < text.index("sch.peel(")


def test_no_block_of_rows_leaves_a_single_place_over(tmp_path: Path) -> None:
    x, w = normal(1, 255, 7, 55), normal(18, 255, 1, 1)
    path = write(tmp_path / "m.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], {"x": x}, {"w": w})
    # 385 places would be blocks of 128 and one place, which has no lanes: last columns are a nest of their own
    text = traces(path)
    assert text.index("sch.peel(") < text.index("sch.split(")


def test_last_columns_of_a_deep_reduction_stand_behind_all_others(tmp_path: Path) -> None:
    text = traces(affine(tmp_path / "m.onnx", 60, 12000, 17), "znver5")
    assert cut(text, 16)
    assert text.index("sch.peel(") < text.index("sch.split(")


@pytest.mark.parametrize(("columns", "copies"), [(65, 1), (129, 2)])
def test_rows_that_a_panel_fills_but_for_a_part_of_a_vector_are_no_panels(
    tmp_path: Path, columns: int, copies: int
) -> None:
    a, b = normal(400, 300), normal(300, columns)
    path = write(tmp_path / "m.onnx", [helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b}, {})
    check(path, {"a": a, "b": b}, a.astype(np.float64) @ b.astype(np.float64))
    assert traces(path, "znver5").count("sch.cache_read(") == copies


def part(where: str, bounds: str) -> Function:
    """Sums of rows whose lanes are a split that does not come out even, and what adds the lanes up."""
    return parse_function(f"""
@loop.function
def rows(X: f32[12, 21], Y: out(f32[12])):
    P = alloc(f32[12, 8])
    for i in range(12):
        for k_0 in range(3):
            for k_1 in range(8):
                with block("P", where={where}):
                    vi = spatial(12, i)
                    vl = spatial(8, k_1)
                    vk = reduce(3, k_0)
                    with init():
                        P[vi, vl] = f32(0.0)
                    P[vi, vl] += X[vi, {bounds}]
    for j_0 in range(3):
        for j_1 in range(4):
            for l in range(8):
                with block("Y"):
                    vj = spatial(12, j_0 * 4 + j_1)
                    vm = reduce(8, l)
                    with init():
                        Y[vj] = f32(0.0)
                    Y[vj] += P[vj, vm]
""")


def test_a_block_moves_with_conditions_on_its_iter_vars() -> None:
    function = part("k_0 * 8 + k_1 < 21", "vk * 8 + vl")
    sch = Schedule(function, debug=True)
    sch.compute_at("P", "j_0")
    x = {"X": normal(12, 21)}
    np.testing.assert_array_equal(evaluate(sch.function, x)["Y"], evaluate(function, x)["Y"])
    np.testing.assert_allclose(evaluate(sch.function, x)["Y"], x["X"].sum(1), rtol=1e-5, atol=1e-5)


def test_channels_lie_last_where_only_one_filter_fills_no_vector(tmp_path: Path) -> None:
    # along a line of 57 places an eighth of the lanes is idle, too
    x, w = normal(1, 63, 11, 57), normal(65, 63, 3, 3) / np.float32(30)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    path = write(tmp_path / "m.onnx", [node], {"x": x}, {"w": w})
    (expected,) = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    check(path, {"x": x}, expected)
    assert "[64])" in traces(path, "znver5")
