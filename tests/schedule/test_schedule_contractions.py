"""Contractions as the rule schedules them: which shape takes which path, and that every path computes the sum."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import tcompiler as tc
from tcompiler import api

Array = npt.NDArray[np.float32]
RNG = np.random.default_rng(5)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def write(path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, Array], weights: dict[str, Array]) -> Path:
    graph = helper.make_graph(
        nodes,
        "contraction",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(made, strict_mode=True), path)
    return path


def traces(path: Path, target: str = "x86-64-v3", threads: int = 1) -> str:
    """How the operators are scheduled for a machine of known caches."""
    texts = api.compile_stages(path, "scheduled", target=target, threads=threads).texts
    return "\n".join(v for k, v in texts.items() if k.startswith("trace/"))


def check(path: Path, inputs: dict[str, Array], expected: npt.NDArray[np.floating]) -> None:
    for threads in (1, 2):
        found = np.asarray(tc.compile(path, threads=threads)(*inputs.values()))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))


def affine(path: Path, rows: int, depth: int, columns: int) -> Path:
    """relu(a @ b + c), compared with numpy in float64."""
    a, b, c = normal(rows, depth), normal(depth, columns), normal(columns)
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["p"]),
        helper.make_node("Add", ["p", "c"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    write(path, nodes, {"a": a}, {"b": b, "c": c})
    check(path, {"a": a}, np.maximum(a.astype(np.float64) @ b.astype(np.float64) + c, 0))
    return path


@pytest.mark.parametrize(("rows", "depth", "columns"), [(5, 6007, 40), (13, 9216, 33), (2, 12289, 17)])
def test_a_long_reduction_is_done_in_parts(tmp_path: Path, rows: int, depth: int, columns: int) -> None:
    # a panel of 16 columns is 64 bytes for each step: more than five eighths of a level 2 cache of 256 or 512 KB
    text = traces(affine(tmp_path / "m.onnx", rows, depth, columns))
    splits = [line for line in text.splitlines() if line.startswith('sch.split("gemm_t1_acc_k"')]
    sizes = [int(line.split("None, ")[1].split("]")[0]) for line in splits]
    assert any(depth / 8 < size < depth for size in sizes), text


@pytest.mark.parametrize(("rows", "columns", "lanes"), [(16, 38, 24), (12, 71, 24), (48, 64, 16), (8, 24, 24)])
def test_three_vectors_where_two_leave_lanes_idle(tmp_path: Path, rows: int, columns: int, lanes: int) -> None:
    text = traces(affine(tmp_path / "m.onnx", rows, 50, columns))
    assert f'sch.split("gemm_t1_acc_n", [None, {lanes}])' in text


def convolutions(path: Path, image: tuple[int, ...], channels: int, filters: int, kernel: int, **given: int) -> Path:
    """1×1, which writes channels last, then another with its bias, and 1×1 again."""
    n, before, *size = image
    pads, stride, dilation = ([given.get(k, d)] * 2 for k, d in (("pad", 0), ("stride", 1), ("dilation", 1)))
    weights = {
        "w0": normal(channels, before, 1, 1),
        "w1": normal(filters, channels, kernel, kernel) / np.float32(kernel * channels**0.5),
        "b1": normal(filters),
        "w2": normal(3, filters, 1, 1),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["p"]),
        helper.make_node("Conv", ["p", "w1", "b1"], ["q"], pads=pads * 2, strides=stride, dilations=dilation),
        helper.make_node("Relu", ["q"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["y"]),
    ]
    inputs = {"x": normal(n, before, *size)}
    write(path, nodes, inputs, weights)
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, inputs)
    check(path, inputs, expected)
    return path


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(
    ("size", "kernel", "flat"),
    [((9, 9), 3, True), ((17, 11), 5, True), ((7, 7), 1, False), ((5, 11), 3, False)],
)
def test_rows_run_on_from_line_to_line(
    tmp_path: Path, images: int, size: tuple[int, int], kernel: int, flat: bool
) -> None:
    # of 7 in a line, five and two; a 1×1 kernel has one axis of pixels, and 9 in a line are five and four
    text = traces(convolutions(tmp_path / "m.onnx", (images, 5, *size), 37, 64, kernel))
    fused = [line for line in text.splitlines() if line.startswith('sch.fuse("conv_1_acc_h')]
    assert bool(fused) == flat, text


def test_rows_do_not_run_on_where_panels_would_pass_more_often_than_the_cache_holds(tmp_path: Path) -> None:
    # tiles of 5 rows and four vectors read 636 KB each, those of 13 and two 318
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1] * 4)
    path = write(tmp_path / "m.onnx", [node], {"x": normal(1, 276, 25, 26)}, {"w": normal(241, 276, 3, 3)})
    text = traces(path, "znver5")
    assert 'sch.fuse("v1_laid_h"' not in text
    assert 'sch.split("v1_laid_k", [None, 32])' in text


def test_threads_share_the_panels_of_each_part_of_a_reduction(tmp_path: Path) -> None:
    # seven panels and a last one, which threads begin with together; of seven lines one has four and one three
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)
    path = write(tmp_path / "m.onnx", [node], {"x": normal(1, 559, 7, 6)}, {"w": normal(510, 559, 3, 3)})
    text = traces(path, "znver5", threads=2)
    assert 'sch.peel("v1_laid_r"' in text  # the parts
    assert re.findall(r'sch.parallel\("(v1_laid_\w+)"', text) == ["v1_laid_k_0"]


def test_a_copy_that_all_panels_read_stays_with_its_thread(tmp_path: Path) -> None:
    # two blocks of four panels of places, each with its copy, against 42 tiles of filters that would read one block's
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    path = write(tmp_path / "m.onnx", [node], {"x": normal(1, 512, 28, 28)}, {"w": normal(256, 512, 1, 1)})
    assert re.findall(r'sch.parallel\("(v1_\w+)"', traces(path, "znver5", threads=2))[0] == "v1_hw_0_0"


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_windows_that_overlap_stay_a_loop(tmp_path: Path, stride: int, dilation: int) -> None:
    path = tmp_path / "m.onnx"
    x, w = normal(1, 3, 41, 47), normal(65, 3, 7, 7)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[stride] * 2, pads=[3] * 4, dilations=[dilation] * 2)
    write(path, [node], {"x": x}, {"w": w})
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    check(path, {"x": x}, expected)


@pytest.mark.parametrize(
    ("stride", "dilation", "unrolled"),
    [(2, 1, False), (2, 3, False), (2, 2, False), (8, 1, True), (1, 7, True)],
)
def test_elements_are_kept_for_the_next_step_where_registers_are_left(
    tmp_path: Path, stride: int, dilation: int, unrolled: bool
) -> None:
    # six rows of four vectors leave four registers; an element comes again `stride` steps on, `dilation` rows before
    path = tmp_path / "m.onnx"
    x, w = normal(1, 3, 64, 390), normal(64, 3, 7, 7)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[stride] * 2, dilations=[dilation] * 2)
    text = traces(write(path, [node], {"x": x}, {"w": w}), "x86-64-v4")
    assert bool(re.search(r'sch.unroll\("\w+_s"\)', text)) == unrolled


@pytest.mark.parametrize("channels", [256, 259])
def test_the_next_panel_is_asked_for_while_images_are_small(tmp_path: Path, channels: int) -> None:
    text = traces(convolutions(tmp_path / "m.onnx", (1, 5, 7, 7), channels, 256, 3, pad=1))
    assert "sch.prefetch(" in text


def test_a_residual_is_asked_for_before_the_sum(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    inputs = {"a": normal(301, 70), "r": normal(301, 1031)}
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["p"]),
        helper.make_node("Add", ["p", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    weights = {"b": normal(70, 1031)}
    write(path, nodes, inputs, weights)
    product = inputs["a"].astype(np.float64) @ weights["b"].astype(np.float64)
    check(path, inputs, np.maximum(product + inputs["r"], 0))
    assert '_write", "v1"' in "".join(line for line in traces(path).splitlines() if "prefetch" in line)


def product(path: Path, equation: str, sizes: dict[str, int], constant: int | None) -> Path:
    """An einsum of two factors, one of them perhaps a constant, compared with numpy in float64."""
    left = equation.split("->")[0]
    factors = [normal(*(sizes[a] for a in axes)) for axes in left.split(",")]
    nodes = [helper.make_node("Einsum", ["x0", "x1"], ["y"], equation=equation)]
    named = {f"x{k}": f for k, f in enumerate(factors)}
    weights = {k: v for k, v in named.items() if k == f"x{constant}"}
    inputs = {k: v for k, v in named.items() if k not in weights}
    write(path, nodes, inputs, weights)
    check(path, inputs, np.einsum(equation, *(f.astype(np.float64) for f in factors)))
    return path


@pytest.mark.parametrize("columns", [7, 9, 17, 33, 49])
def test_lanes_leave_an_axis_that_does_not_fill_them(tmp_path: Path, columns: int) -> None:
    text = traces(product(tmp_path / "m.onnx", "ij,jk->ik", {"i": 256, "j": 311, "k": columns}, 0))
    assert 'sch.transform_layout("v1_acc", "lambda d0, d1: (d1, d0)", False)' in text
    text = traces(product(tmp_path / "e.onnx", "ij,jk->ik", {"i": 256, "j": 311, "k": 64}, 0))
    assert '"v1_acc"' not in text


@pytest.mark.parametrize(("rows", "depth"), [(256, 311), (61, 311), (61, 9067)])
def test_rows_are_written_in_vectors_where_they_lie_side_by_side(tmp_path: Path, rows: int, depth: int) -> None:
    text = traces(product(tmp_path / "m.onnx", "ij,jk->ik", {"i": rows, "j": depth, "k": 33}, 0))
    assert 'sch.transform_layout("v1_acc", "lambda d0, d1: (d1, d0)", False)' in text
    assert 'sch.unroll("v1_block_write_ax0")\nsch.vectorize("v1_block_write_ax1")' in text


@pytest.mark.parametrize(("columns", "turned"), [(2052, True), (2048, False)])
def test_lanes_that_crowd_a_set_of_the_cache_are_no_better(tmp_path: Path, columns: int, turned: bool) -> None:
    # a line is written for each lane; lines at even distances leave the cache before they are full
    text = traces(product(tmp_path / "m.onnx", "ij,jk->ik", {"i": 16, "j": 56, "k": columns}, 0))
    assert ('"v1_acc"' in text) == turned


@pytest.mark.parametrize("size", [(55, 56), (57, 55)])
def test_what_a_stride_thins_out_is_laid_out_ahead_of_all_rows(tmp_path: Path, size: tuple[int, int]) -> None:
    # a block of rows need not begin where a line of pixels does
    path, x, w = tmp_path / "m.onnx", normal(1, 256, *size), normal(256, 256, 1, 1)
    write(path, [helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2])], {"x": x}, {"w": w})
    check(path, {"x": x}, np.einsum("nchw,kc->nkhw", x[:, :, ::2, ::2].astype(np.float64), w[:, :, 0, 0]))
    assert 'sch.compute_at("conv_0_taken_block"' not in traces(path)


@pytest.mark.parametrize(
    ("equation", "constant", "copied"),
    [("ji,jk->ik", None, True), ("ji,jk->ik", 1, True), ("ij,jk->ik", None, False), ("ji,jk->ik", 0, False)],
)
def test_rows_side_by_side_in_lines_far_apart_are_packed(
    tmp_path: Path, equation: str, constant: int | None, copied: bool
) -> None:
    text = traces(product(tmp_path / "m.onnx", equation, {"i": 57, "j": 523, "k": 160}, constant))
    assert ('_block", "v0", "global")' in text) == copied


@pytest.mark.parametrize(
    ("rows", "depth", "pixels", "copied"),
    [(61, 64, 3136, False), (24, 64, 783, False), (61, 64, 4096, True), (61, 300, 257, True)],
)
def test_a_panel_that_the_cache_holds_is_read_where_it_lies(
    tmp_path: Path, rows: int, depth: int, pixels: int, copied: bool
) -> None:
    # 32 or 64 lanes to a step; at 4096 pixels all steps fall into the same few sets
    path = product(tmp_path / "m.onnx", "ij,jk->ik", {"i": rows, "j": depth, "k": pixels}, 0)
    text = traces(path, "znver5")
    assert ("sch.cache_read(" in text) == copied, text
    assert ('sch.prefetch("v1_block", "v0"' in text) == (pixels == 3136)
    # runs of a line, as AVX2's, are copied side by side
    assert (rows, depth) != (61, 64) or "sch.cache_read(" in traces(path)


@pytest.mark.parametrize(("pixels", "copied"), [(47025, True), (40001, False)])
def test_a_panel_from_memory_is_copied_in_longer_runs(tmp_path: Path, pixels: int, copied: bool) -> None:
    # 63 rows of so many places are 11.8 and 10.1 MB, of a level 3 cache of 32 MB a third
    x, w = normal(1, 63, 1, pixels), normal(65, 63, 1, 1)
    path = write(tmp_path / "m.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], {"x": x}, {"w": w})
    assert ('"v0", "local")' in traces(path, "znver5")) == copied


@pytest.mark.parametrize(("pixels", "copied"), [(63 * 65, True), (64 * 64, True), (65 * 67, False)])
def test_rows_almost_a_way_apart_crowd_a_cache_as_well(tmp_path: Path, pixels: int, copied: bool) -> None:
    path = product(tmp_path / "m.onnx", "ij,jk->ik", {"i": 61, "j": 32, "k": pixels}, 0)
    assert ("sch.cache_read(" in traces(path, "znver5")) == copied


@pytest.mark.parametrize("lanes", [1001, 1143])
def test_copies_into_panels_have_vectors_at_their_ends_as_well(tmp_path: Path, lanes: int) -> None:
    path = product(tmp_path / "m.onnx", "ij,jk->ik", {"i": 100, "j": 203, "k": lanes}, None)
    for threads in (1, 2):
        texts = api.compile_stages(path, "scheduled", target="znver5", threads=threads).texts
        lines = "\n".join(v for k, v in texts.items() if k.startswith("scheduled/")).splitlines()
        copies = [k for k, line in enumerate(lines) if re.search(r'with block\("v\d_copy', line)]
        assert copies and all(" in vectorized(" in lines[k - 1] for k in copies)


@pytest.mark.parametrize(("rows", "copied"), [(1024, True), (1023, False)])
def test_lines_at_even_distances_crowd_a_cache_sooner(tmp_path: Path, rows: int, copied: bool) -> None:
    text = traces(product(tmp_path / "m.onnx", "ji,jk->ik", {"i": rows, "j": 40, "k": 134}, None))
    assert ('_block", "v0", "global")' in text) == copied


@pytest.mark.parametrize("batch", [3, 8, 13])
@pytest.mark.parametrize("equation", ["ijb,bjk->bik", "jib,bjk->bik"])
def test_rows_with_the_batch_inside_are_read_along_it(tmp_path: Path, equation: str, batch: int) -> None:
    text = traces(product(tmp_path / "m.onnx", equation, {"b": batch, "i": 67, "j": 523, "k": 144}, None))
    assert '_block", "v0", "global")' in text
    assert 'sch.unroll("v0_copy_ax2' in text
    assert 'sch.compute_at("v0_copy"' not in text


@pytest.mark.parametrize("equation", ["ij,jk->ik", "ijd,djk->ik", "jdi,djk->ik"])
def test_a_long_reduction_of_two_inputs_is_done_in_parts(tmp_path: Path, equation: str) -> None:
    sizes = {"i": 31, "j": 1511 if "d" in equation else 9067, "d": 6, "k": 41}
    text = traces(product(tmp_path / "m.onnx", equation, sizes, None))
    assert any(f'sch.reorder("{part}"' in text for part in ("v2_j_0", "v2_d")), text


def test_rows_across_memory_are_copied_part_by_part(tmp_path: Path) -> None:
    text = traces(product(tmp_path / "m.onnx", "jdi,djk->ik", {"i": 64, "j": 1511, "d": 6, "k": 70}, None))
    rows = re.search(r'sch.cache_read\("v2_block", "(v[01])", "global"\)', text)
    assert rows and re.search(rf'sch.compute_at\("{rows[1]}_copy", "v2_(d|j_0)"\)', text), text


@pytest.mark.parametrize("equation", ["bmhk,nkbh->hnmb", "bmk,bkn->nmb"])
def test_a_batch_that_lies_innermost_behind_a_map_has_no_lanes(tmp_path: Path, equation: str) -> None:
    text = traces(product(tmp_path / "m.onnx", equation, {"b": 5, "h": 3, "m": 54, "n": 45, "k": 11}, None))
    assert re.search(r'sch.vectorize\("t[02]_[mn]_1"\)', text), text


def test_a_factor_that_a_loop_around_panels_does_not_move_is_copied_once(tmp_path: Path) -> None:
    # both factors have the batch, which lanes run along, and one of them no rows
    text = traces(product(tmp_path / "m.onnx", "hkbm,bknh->hmnb", {"b": 9, "h": 3, "m": 54, "n": 45, "k": 11}, None))
    assert 'sch.vectorize("v2_b_1")' in text
    assert 'sch.compute_at("v0_copy"' in text
    assert "v1_copy" in text and 'sch.compute_at("v1_copy"' not in text


@pytest.mark.parametrize("size", [(5, 15, 11), (4, 14, 12), (3, 5, 40)])
def test_places_that_a_stride_thins_out_are_known_line_by_line(tmp_path: Path, size: tuple[int, int, int]) -> None:
    # a 1x1x1 kernel has one axis of places, made of three
    path, x, w = tmp_path / "m.onnx", normal(1, 14, *size), normal(22, 7, 1, 1, 1)
    write(path, [helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2, 2], group=2)], {"x": x}, {"w": w})
    taken = x[:, :, ::2, ::2, ::2].astype(np.float64).reshape(2, 7, -1)
    places = [(e + 1) // 2 for e in size]
    check(path, {"x": x}, np.einsum("gcp,gkc->gkp", taken, w.reshape(2, 11, 7)).reshape(1, 22, *places))
    assert 'sch.unfold("conv_0_taken_block")' in traces(path)


@pytest.mark.parametrize(("size", "apart"), [((21, 33), True), ((22, 13), True), ((21, 7), False)])
def test_rows_that_a_stride_thins_out_are_read_row_by_row(tmp_path: Path, size: tuple[int, int], apart: bool) -> None:
    # a 1x1 kernel has one axis of pixels, of which a row fills more than half a vector, or stays with others
    path, x, w = tmp_path / "m.onnx", normal(1, 19, *size), normal(37, 19, 1, 1)
    write(path, [helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2])], {"x": x}, {"w": w})
    check(path, {"x": x}, np.einsum("nchw,kc->nkhw", x[:, :, ::2, ::2].astype(np.float64), w[:, :, 0, 0]))
    text = traces(path)
    assert ("sch.unfold(" in text) == apart, text


@pytest.mark.parametrize(("columns", "taps"), [(32, 3), (31, 3), (31, 5)])
def test_taps_that_lanes_slide_along_are_written_out_where_registers_are_left(
    tmp_path: Path, columns: int, taps: int
) -> None:
    path, x, w = tmp_path / "m.onnx", normal(1, 20, columns + taps - 1, columns + taps - 1), normal(84, 20, taps, taps)
    write(path, [helper.make_node("Conv", ["x", "w"], ["y"])], {"x": x}, {"w": w})
    windows = np.lib.stride_tricks.sliding_window_view(x[0].astype(np.float64), (taps, taps), (1, 2))
    check(path, {"x": x}, np.einsum("chwrs,kcrs->khw", windows, w.astype(np.float64))[None])
    for target, written_out in (("znver5", False), ("x86-64-v3", True)):
        assert (
            '_s")' in "".join(line for line in traces(path, target).splitlines() if "unroll" in line)
        ) == written_out


@pytest.mark.parametrize("depth", [17, 23, 31])
def test_a_tile_that_fills_the_registers_takes_some_steps_to_a_jump(tmp_path: Path, depth: int) -> None:
    text = traces(affine(tmp_path / "m.onnx", 40, depth, 24))
    assert 'sch.split("gemm_t1_acc_k", [None, 4])' in text, text


@pytest.mark.parametrize("depth, split", [(11, False), (63, False), (12, True), (67, True)])
def test_wide_steps_of_a_short_reduction_leave_no_tail(tmp_path: Path, depth: int, split: bool) -> None:
    text = traces(affine(tmp_path / "m.onnx", 96, depth, 128), "znver5")
    assert ('sch.split("gemm_t1_acc_k", [None, 4])' in text) == split, text


def test_a_short_reduction_writes_its_result_in_blocks_of_rows(tmp_path: Path) -> None:
    # 1001 columns of 300 rows are more than the level 2 cache, and every other panel shares lines with the next one
    a, b = normal(300, 8), normal(8, 1001)
    write(tmp_path / "m.onnx", [helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": a}, {"b": b})
    check(tmp_path / "m.onnx", {"a": a}, a.astype(np.float64) @ b.astype(np.float64))
    (order,) = [line for line in traces(tmp_path / "m.onnx").splitlines() if line.startswith("sch.reorder(")]
    assert order.index('_m_0_0"') < order.index('_n_0"') < order.index('_m_0_1"')


@pytest.mark.parametrize(("depth", "panels"), [(3, 125), (64, 8)])
def test_narrow_panels_are_laid_out_together(tmp_path: Path, depth: int, panels: int) -> None:
    a, b = normal(100, depth), normal(depth, 2000)
    write(tmp_path / "m.onnx", [helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b}, {})
    check(tmp_path / "m.onnx", {"a": a, "b": b}, a.astype(np.float64) @ b.astype(np.float64))
    text = traces(tmp_path / "m.onnx")
    assert f'_n_0", [None, {panels}])' in text


def test_lanes_run_along_data_that_lies_so(tmp_path: Path) -> None:
    """Two filters of a transposed convolution, nine residues: the places of a plane fill vectors."""
    x, w = normal(1, 8, 10, 13), normal(8, 2, 9, 9)
    write(
        tmp_path / "m.onnx", [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[3, 3])], {"x": x}, {"w": w}
    )
    (expected,) = ort.InferenceSession((tmp_path / "m.onnx").read_bytes()).run(None, {"x": x})
    check(tmp_path / "m.onnx", {"x": x}, expected)
    vectors = [line for line in traces(tmp_path / "m.onnx").splitlines() if line.startswith('sch.vectorize("')]
    assert any("planes_q_1" in line for line in vectors), vectors


@pytest.mark.parametrize(("rows", "alone"), [(12, True), (90, True), (300, False)])
def test_a_transposed_factor_that_is_read_a_few_times_needs_no_copy(tmp_path: Path, rows: int, alone: bool) -> None:
    a, b = normal(3, rows, 50), normal(3, 70, 50)
    nodes = [
        helper.make_node("Transpose", ["b"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "t"], ["y"]),
    ]
    write(tmp_path / "m.onnx", nodes, {"a": a, "b": b}, {})
    check(tmp_path / "m.onnx", {"a": a, "b": b}, a.astype(np.float64) @ b.astype(np.float64).transpose(0, 2, 1))
    texts = api.compile_stages(tmp_path / "m.onnx", "scheduled", target="x86-64-v3", threads=1).texts
    assert (sum(k.startswith("trace/") for k in texts) == 1) is alone


TRANSPOSED = [
    # data, filters of a group, strides (and taps), groups, whether phases are interleaved
    ((1, 17, 13, 21), 3, (2, 2), 1, True),
    ((1, 5, 4, 59), 9, (3, 2), 1, True),
    ((2, 24, 9, 40), 10, (1, 3), 2, True),
    ((1, 64, 6, 40), 16, (2, 4), 1, True),
    ((1, 256, 29, 31), 128, (2, 2), 1, True),
    ((1, 40, 5, 5), 64, (2, 2), 1, False),
    ((1, 33, 7, 7), 3, (2, 2), 1, True),
    ((1, 301, 31, 35), 1, (2, 2), 1, True),
]


@pytest.mark.parametrize(("data", "filters", "strides", "groups", "interleaved"), TRANSPOSED)
def test_phases_of_a_place_are_stored_side_by_side(
    tmp_path: Path, data: tuple[int, ...], filters: int, strides: tuple[int, int], groups: int, interleaved: bool
) -> None:
    """A transposed convolution whose taps are its strides, with a bias and a map behind it."""
    x, w, b = normal(*data), normal(data[1], filters, *strides), normal(filters * groups)
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w", "b"], ["s"], strides=list(strides), group=groups),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    path = write(tmp_path / "m.onnx", nodes, {"x": x}, {"w": w, "b": b})
    parts = [
        np.einsum("nchw,ckrs->nkhrws", each.astype(np.float64), taps.astype(np.float64))
        for each, taps in zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
    ]
    sums = np.concatenate(parts, 1).reshape(data[0], -1, data[2] * strides[0], data[3] * strides[1])
    check(path, {"x": x}, np.maximum(sums + b[:, None, None], 0))
    dealt = rf"_acc.*(d\d) % {strides[1]}, \1 // {strides[1]}\)"
    assert (re.search(dealt, traces(path)) is not None) == interleaved


def test_panels_from_memory_meet_rows_of_a_part_that_are_copied(tmp_path: Path) -> None:
    # 7 MB of weights: more than a third of 16 MB, and four times 512 KB
    text = traces(affine(tmp_path / "m.onnx", 61, 1201, 1533))
    part = re.search(r'sch\.split\("(\w+_k)", \[None, (\d+)\]\)', text)
    assert part is not None and 1201 / 8 < int(part[2]) <= 601, text
    assert re.search(rf'sch\.compute_at\("\w+_copy", "{part[1]}_0"\)', text), text
    assert f'sch.peel("{part[1]}_0", [1])' in text
    # the sums are asked for by the parts that add to them
    assert re.search(r'sch\.prefetch\("\w+_write_t", "', text), text


def test_both_factors_from_memory_are_laid_out_in_front(tmp_path: Path) -> None:
    sizes = {"i": 1231, "j": 1301, "k": 1157}
    text = traces(product(tmp_path / "m.onnx", "ij,jk->ik", sizes, None))
    assert 'sch.compute_at("v0_copy"' in text
    assert "v1_copy" in text and 'sch.compute_at("v1_copy"' not in text


@pytest.mark.parametrize(
    ("target", "threads", "passing"), [("znver5", 2, True), ("znver5", 4, False), ("znver3", 1, False)]
)
def test_rows_that_wide_panels_need_slowly_pass_by_as_they_lie(
    tmp_path: Path, target: str, threads: int, passing: bool
) -> None:
    # an element of each row for four vectors' sums on the one, for two vectors' on the other
    path = tmp_path / "m.onnx"
    nodes = [helper.make_node("MatMul", ["a", "b"], ["y"])]
    write(path, nodes, {n: np.empty((2000, 2000), np.float32) for n in "ab"}, {})
    texts = api.compile_stages(path, "scheduled", target=target, threads=threads).texts
    text = "\n".join(v for k, v in texts.items() if k.startswith("trace/"))
    assert ('sch.compute_at("v1_copy"' in text) == passing
    assert ('cache_read("v2_block", "v0"' not in text) == passing


@pytest.mark.parametrize(("image", "at_once"), [((127, 129), 10), ((63, 65), 8), ((64, 96), 8)])
def test_panels_that_are_packed_at_once_make_the_shares_of_threads_alike(
    tmp_path: Path, image: tuple[int, int], at_once: int
) -> None:
    # eleven panels fit at once: 256 are 26 turns of ten, about, and need no nest for what is left of them
    x, w = normal(1, 11, *image), normal(57, 11, 1, 1)
    path = write(tmp_path / "m.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], {"x": x}, {"w": w})
    (expected,) = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    check(path, {"x": x}, expected)
    texts = api.compile_stages(path, "scheduled", target="znver5", threads=2).texts
    (text,) = (v for k, v in texts.items() if k.startswith("trace/"))
    assert f'_hw_0", [None, {at_once}])' in text and not re.search(r'sch\.peel\("\w+_hw", ', text)


@pytest.mark.parametrize(("depth", "columns", "copied"), [(1024, 780, True), (1000, 780, False), (1024, 300, False)])
def test_rows_in_the_same_sets_are_copied_side_by_side(tmp_path: Path, depth: int, columns: int, copied: bool) -> None:
    text = traces(affine(tmp_path / "m.onnx", 67, depth, columns))
    assert ("_copy" in text) == copied


@pytest.mark.parametrize(("rows", "size", "along"), [(32, 1024, "m"), (48, 3000, "n")])
def test_lanes_run_along_a_matrix_that_comes_from_memory(tmp_path: Path, rows: int, size: int, along: str) -> None:
    """With lanes along a few rows no copy of the matrix is needed, but it is read piece by piece, far apart."""
    a, b = normal(rows, size), normal(size, size)
    write(tmp_path / "m.onnx", [helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b}, {})
    check(tmp_path / "m.onnx", {"a": a, "b": b}, a.astype(np.float64) @ b.astype(np.float64))
    lines = traces(tmp_path / "m.onnx", "znver5").splitlines()
    assert any(line.startswith('sch.vectorize("') and f"_{along}_1" in line for line in lines), lines


@pytest.mark.parametrize(
    ("target", "rows", "depth", "lanes", "asked"),
    [
        ("znver3", 40, 4600, 16, True),
        ("znver5", 1050, 2300, 64, False),
        ("znver5", 40, 2300, 32, True),
        ("znver5", 40, 1150, 64, True),
    ],
)
def test_the_next_panel_is_asked_for_if_it_does_not_push_what_is_in_use_out(
    tmp_path: Path, target: str, rows: int, depth: int, lanes: int, asked: bool
) -> None:
    # wide panels of somewhat more than half the level 2 cache, and of half as much; few rows leave room for narrow ones
    text = traces(product(tmp_path / "m.onnx", "ij,jk->ik", {"i": rows, "j": depth, "k": 512}, 1), target)
    assert re.findall(r'sch.split\("\w+_k", \[None, (\d+)\]', text) == [str(lanes)]
    assert ("sch.prefetch(" in text) == asked


@pytest.mark.parametrize(("rows", "columns", "along"), [(2048, 70, "m"), (1024, 33, "m"), (37, 64, "n"), (91, 130, "")])
@pytest.mark.parametrize("perm", [(0, 2, 1), (2, 0, 1), (2, 1, 0)])
def test_lanes_are_chosen_by_the_order_in_which_a_map_behind_writes(
    tmp_path: Path, rows: int, columns: int, along: str, perm: tuple[int, ...]
) -> None:
    """A transpose becomes part of the tiles' stores: rows that are far apart there had better be rows of a tile."""
    a, b, c = normal(2, rows, 32), normal(32, columns), normal(columns)
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["p"]),
        helper.make_node("Add", ["p", "c"], ["s"]),
        helper.make_node("Transpose", ["s"], ["y"], perm=perm),
    ]
    write(tmp_path / "m.onnx", nodes, {"a": a}, {"b": b, "c": c})
    check(tmp_path / "m.onnx", {"a": a}, (a.astype(np.float64) @ b.astype(np.float64) + c).transpose(perm))
    lines = traces(tmp_path / "m.onnx").splitlines()
    lanes = [line for line in lines if re.fullmatch(r'sch.vectorize\("v1_(b0m|m|n)_1"\)', line)]
    assert lanes and (perm[-1] == 0 or all(f"{along}_1" in line for line in lanes)), lanes


def test_rows_are_near_in_what_is_read_as_in_what_is_written(tmp_path: Path) -> None:
    # heads lie side by side in the result, and a matrix apart in what is read
    sizes = {"b": 2, "h": 12, "q": 36, "l": 50, "d": 16}
    text = traces(product(tmp_path / "m.onnx", "bhql,bld->bqhd", sizes, None))
    assert 'sch.split("v2_q", [None,' in text and 'sch.split("v2_h", [None,' not in text


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_each_factor_has_a_batch_of_its_own(tmp_path: Path, target: str) -> None:
    # rows of one matrix's batch run on over the batch of the other
    a, b = normal(3, 1, 37, 176), normal(1, 2, 176, 39)
    write(tmp_path / "m.onnx", [helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b}, {})
    check(tmp_path / "m.onnx", {"a": a, "b": b}, a.astype(np.float64) @ b.astype(np.float64))
    text = traces(tmp_path / "m.onnx", target)
    assert "sch.stage_accumulate(" in text and "sch.rfactor(" not in text


def test_one_column_is_no_phase_of_the_rows(tmp_path: Path) -> None:
    # rows and columns have the same step
    a, b = normal(8, 1, 3, 21, 97), normal(8, 12, 3, 21, 1)
    nodes = [
        helper.make_node("Transpose", ["a"], ["t"], perm=[0, 1, 2, 4, 3]),
        helper.make_node("MatMul", ["t", "b"], ["y"]),
    ]
    write(tmp_path / "m.onnx", nodes, {"a": a}, {"b": b})
    check(tmp_path / "m.onnx", {"a": a}, a.astype(np.float64).swapaxes(3, 4) @ b.astype(np.float64))
    text = traces(tmp_path / "m.onnx", "x86-64-v4")
    assert "sch.stage_accumulate(" in text and 'sch.rfactor("v2_block",' not in text


@pytest.mark.parametrize("equation", ["acb,abcd->adbc", "abcd,acb->adbc"])
def test_a_map_of_two_orders_is_tiled_for_the_larger_operand(tmp_path: Path, equation: str) -> None:
    """Nothing is summed: tiles run along what the result and the larger operand lie along."""
    text = traces(product(tmp_path / "m.onnx", equation, {"a": 3, "b": 21, "c": 18, "d": 35}, None))
    unrolled = [line for line in text.splitlines() if line.startswith("sch.unroll(")]
    assert unrolled and all('("v2_d_' in line for line in unrolled), text
