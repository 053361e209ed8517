"""Depthwise convolutions of small planes: right beside onnxruntime, in vectors of channels where that pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import tcompiler as tc
from tcompiler import api
from tcompiler.schedule.rules.borders import LINES

CASES = [
    # data, kernel, stride, pads, dilation, and whether channels are lanes with AVX-512
    ((1, 48, 7, 7), (7, 7), 1, (3, 3), 1, True),
    ((1, 33, 7, 7), (5, 5), 1, (2, 2), 1, True),
    ((3, 30, 6, 9), (5, 5), 1, (2, 2), 1, True),
    ((2, 32, 14, 14), (11, 11), 1, (5, 5), 1, True),
    ((1, 40, 11, 10), (5, 7), 1, (1, 3), 1, True),
    ((1, 64, 14, 13), (7, 7), 2, (3, 3), 1, True),
    ((1, 32, 9, 9), (5, 5), 1, (4, 4), 2, True),
    ((1, 30, 10, 8), (5, 5), 1, (0, 0), 1, True),
    ((1, 31, 8, 12), (6, 6), 3, (2, 0), 1, True),
    ((1, 16, 14, 9), (29, 29), 1, (14, 14), 1, True),
    ((1, 32, 14, 13), (21, 21), 1, (10, 10), 1, True),
    ((1, 32, 28, 20), (13, 13), 1, (6, 6), 1, True),
    ((1, 31, 1, 100), (1, 201), 1, (0, 100), 1, True),
    ((1, 31, 1, 400), (1, 201), 1, (0, 100), 1, False),
    ((1, 16, 1, 200), (1, 63), 1, (0, 62), 2, True),
    ((1, 49, 20, 19), (7, 7), 1, (3, 3), 1, True),
    ((2, 37, 12, 21), (7, 5), 1, (3, 2), 1, True),
    ((1, 35, 26, 29), (9, 9), 2, (4, 4), 1, True),
    ((1, 480, 5, 9), (3, 3), 1, (1, 1), 1, True),
    ((2, 241, 9, 9), (3, 3), 1, (1, 1), 1, True),
    ((1, 240, 7, 9), (3, 4), 1, (2, 3), 1, True),
    ((1, 240, 6, 9), (3, 3), 1, (2, 2), 2, True),
    ((1, 240, 9, 13), (3, 3), 2, (1, 1), 1, True),
    ((1, 240, 9, 17), (3, 3), 2, (1, 1), 1, False),
    ((1, 3, 40, 40), (5, 5), 1, (2, 2), 1, False),
    ((1, 32, 14, 14), (3, 3), 1, (1, 1), 1, False),
    ((1, 96, 14, 14), (3, 3), 2, (1, 1), 1, True),
    ((1, 96, 16, 16), (3, 3), 2, (1, 1), 1, False),
    ((1, 96, 22, 22), (3, 3), 2, (1, 1), 1, False),
    ((1, 96, 18, 18), (3, 3), 1, (1, 1), 1, False),
    ((1, 96, 18, 18), (5, 5), 1, (2, 2), 1, True),
    ((1, 96, 19, 38), (5, 5), 2, (2, 2), 1, True),
]


def model(data: tuple[int, ...], kernel: tuple[int, int], stride: int, pads: tuple[int, int], dilation: int) -> bytes:
    """A depthwise convolution with what follows it in networks: a bias, a residual and ReLU."""
    rng = np.random.default_rng(0)
    channels = data[1]
    conv = helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["z"],
        group=channels,
        kernel_shape=kernel,
        strides=[stride] * 2,
        pads=[*pads, *pads],
        dilations=[dilation] * 2,
    )
    nodes = [conv, helper.make_node("Abs", ["z"], ["r"]), helper.make_node("Add", ["r", "z"], ["y"])]
    given = {"w": (channels, 1, *kernel), "b": (channels,)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, data)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in given.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True).SerializeToString()


@pytest.mark.parametrize(("data", "kernel", "stride", "pads", "dilation", "lanes"), CASES)
def test_depthwise(
    data: tuple[int, ...],
    kernel: tuple[int, int],
    stride: int,
    pads: tuple[int, int],
    dilation: int,
    lanes: bool,
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model(data, kernel, stride, pads, dilation))
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal(data).astype(np.float32)
    (expected,) = session.run(None, {"x": x})
    for threads in (1, 2):
        found = np.asarray(tc.compile(path, threads=threads)(x))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))
    texts = api.compile_stages(path, "llvm", target="znver5", threads=1).texts
    (text,) = [v for k, v in texts.items() if k.startswith("scheduled/")]
    assert sum(v.count("\n") for k, v in texts.items() if k.startswith("llvm/")) < LINES
    assert ('scope="local"' in text) == lanes


def test_taps_outside_are_left_out(tmp_path: Path) -> None:
    """Every tap of a line or column that lies in the padding is gone from the code, and the padding is not copied."""
    path = tmp_path / "m.onnx"
    path.write_bytes(model((1, 16, 7, 7), (7, 7), 1, (3, 3), 1))
    texts = api.compile_stages(path, "llvm", target="znver5", threads=1).texts
    code = "\n".join(v for k, v in texts.items() if k.startswith("llvm/"))
    inside = sum(0 <= w + s - 3 < 7 for w in range(7) for s in range(7))
    assert code.count("call <16 x float> @llvm.fmuladd") == 7 * inside  # of every line one tap's line, in a loop
    assert not any("pad = alloc" in v for k, v in texts.items() if k.startswith("scheduled/"))


@pytest.mark.parametrize(
    ("size", "target", "through"),
    [
        ((5, 9), "znver5", True),
        ((9, 9), "znver5", True),
        ((6, 18), "znver5", True),
        ((7, 7), "znver5", False),
        ((7, 10), "znver5", False),
        ((5, 9), "znver3", True),
        ((9, 9), "znver3", True),
        ((5, 15), "znver3", False),
    ],
)
def test_tiles_run_on_from_line_to_line_where_lines_are_little_more_than_half_a_vector(
    tmp_path: Path, size: tuple[int, int], target: str, through: bool
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model((1, 480, *size), (3, 3), 1, (1, 1), 1))
    texts = api.compile_stages(path, "llvm", target=target, threads=1).texts
    code = "\n".join(v for k, v in texts.items() if k.startswith("llvm/"))
    inside = (3 * size[0] - 2) * (3 * size[1] - 2)
    lanes = 16 if target == "znver5" else 8
    assert (code.count(f"call <{lanes} x float> @llvm.fmuladd") == inside) == through


@pytest.mark.parametrize(("channels", "left"), [(48, 0), (49, 1), (51, 3), (63, 0)])
def test_a_few_channels_behind_full_vectors_take_lanes_along_the_image(
    tmp_path: Path, channels: int, left: int
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model((1, channels, 28, 28), (7, 7), 1, (3, 3), 1))
    texts = api.compile_stages(path, "scheduled", target="znver5", threads=1).texts
    (trace,) = [v for k, v in texts.items() if k.startswith("trace/")]
    (text,) = [v for k, v in texts.items() if k.startswith("scheduled/")]
    assert (f"[{channels - left}])" in trace) == bool(left)
    # the bias and what follows it are in the tiles of both nests
    assert "conv_0_acc = alloc" not in text
