"""Resized images: right beside onnxruntime, and lanes whose places are known take vectors rather than gather."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import tcompiler as tc
from tcompiler import api
from tcompiler.target.named import get


def model(shape: tuple[int, ...], sizes: tuple[int, int], **attributes: Any) -> bytes:
    """A model of one Resize to sizes of an image."""
    wanted = np.array([*shape[:2], *sizes], np.int64)
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(wanted, "sizes")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True).SerializeToString()


CASES = [
    # data, sizes: in steps that fit a vector, that fit several, none, and rows longer than what is written out
    ((1, 3, 14, 14), (28, 28)),
    ((2, 2, 7, 9), (14, 27)),
    ((1, 2, 13, 40), (20, 60)),
    ((1, 2, 11, 150), (23, 225)),
    ((1, 1, 9, 301), (5, 602)),
    ((1, 2, 21, 37), (9, 91)),
    ((1, 1, 5, 1100), (7, 1307)),
    ((1, 5, 1, 3), (1, 16)),
]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("where", ["half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize(("shape", "sizes"), CASES)
def test_resize(shape: tuple[int, ...], sizes: tuple[int, int], where: str, mode: str, tmp_path: Any) -> None:
    raw = model(shape, sizes, mode=mode, coordinate_transformation_mode=where, nearest_mode="floor")
    path = tmp_path / "m.onnx"
    path.write_bytes(raw)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    session = ort.InferenceSession(raw, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    found = np.asarray(tc.compile(path, threads=2)(x))
    if mode == "nearest":
        # places are computed in f32 there, where a place may come out just below an element
        assert np.mean(found != expected) < 0.02 if where == "align_corners" else np.array_equal(found, expected)
    else:
        # places along w elements are known to some 1e-7 w in f32
        np.testing.assert_allclose(found, expected, atol=2e-6 * max(100, *sizes))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("target", ["znver3", "znver5"])
@pytest.mark.parametrize(
    ("width", "wide", "where"),
    [
        (28, 56, "half_pixel"),
        (40, 60, "half_pixel"),
        (300, 450, "half_pixel"),
        (30, 65, "align_corners"),
        (33, 132, "half_pixel"),
    ],
)
def test_no_lane_is_gathered(width: int, wide: int, where: str, target: str, threads: int, tmp_path: Any) -> None:
    """Nor is anything left to scalars, whatever is cut off at the ends of rows and shared by threads."""
    path = tmp_path / "m.onnx"
    path.write_bytes(model((1, 21, 33, width), (132, wide), mode="linear", coordinate_transformation_mode=where))
    texts = api.compile_stages(path, "llvm", target=get(target), threads=threads).texts
    code = [text for name, text in texts.items() if name.startswith("llvm/")]
    assert code and not any("gather" in text for text in code)
    assert all("vectorized(" in text for name, text in texts.items() if name.startswith("scheduled/"))
