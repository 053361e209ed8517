"""An ONNX model: compile it, save it, load it again without the compiler.

Run: python examples/onnx_model.py [MODEL.onnx]   (without a path it makes a small perceptron)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import tcompiler as tc


def perceptron(path: Path) -> Path:
    """Write a two-layer perceptron with random weights, f32 [8, 64] → [8, 10]."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((64, 128), np.float32) / 8,
        "b1": rng.standard_normal(128, np.float32),
        "w2": rng.standard_normal((128, 10), np.float32) / 11,
        "b2": rng.standard_normal(10, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Tanh", ["h"], ["t"]),
            helper.make_node("Gemm", ["t", "w2", "b2"], ["y"]),
        ],
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (8, 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (8, 10))],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


with tempfile.TemporaryDirectory() as folder:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else perceptron(Path(folder) / "perceptron.onnx")
    values = onnx.load(str(source)).graph.input
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values]
    inputs = [np.random.default_rng(1).standard_normal(shape).astype(np.float32) for shape in shapes]

    model = tc.compile(str(source), target="cpu", threads=1)
    before = model(*inputs)
    saved = Path(folder) / "model.tcm"
    model.save(str(saved))
    after = tc.load(str(saved))(*inputs)

print(before)
print("the same after saving and loading:", np.array_equal(before, after))
