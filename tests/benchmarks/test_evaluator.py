"""The PyTorch evaluator beside onnxruntime, one node at a time, in the operator sets where they mean something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks import models
from tcompiler.cli.bench.onnx_torch import TorchModel

RNG = np.random.default_rng(5)
IMAGE = RNG.standard_normal((2, 6, 7, 5)).astype(np.float32)
MATRIX = RNG.standard_normal((3, 5)).astype(np.float32)
WEIGHT = np.float32([[0.1], [0.2], [0.3]])


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES: list[tuple[str, str, int, list[Any], dict[str, Any], int]] = [
    ("softmax before set 13 flattens", "Softmax", 9, [IMAGE], {"axis": 2}, 1),
    ("softmax since set 13", "Softmax", 13, [IMAGE], {"axis": 2}, 1),
    ("log softmax before set 13", "LogSoftmax", 11, [IMAGE], {}, 1),
    ("dropout", "Dropout", 9, [IMAGE], {}, 1),
    ("odd lrn", "LRN", 9, [IMAGE], {"size": 5, "alpha": 0.3, "beta": 0.6, "bias": 1.5}, 1),
    ("prelu", "PRelu", 16, [MATRIX, WEIGHT], {}, 1),
    ("pad by an attribute", "Pad", 9, [MATRIX], {"pads": [1, 0, 2, 1], "value": 0.5}, 1),
    ("pad", "Pad", 18, [MATRIX, ints(1, 0, 2, 1), np.float32(0.5)], {}, 1),
    ("pad of some axes", "Pad", 18, [IMAGE, ints(1, 2), np.float32(0), ints(-1)], {}, 1),
    ("reflected pad", "Pad", 18, [IMAGE, ints(0, 0, 3, 1, 0, 0, 2, 4)], {"mode": "reflect"}, 1),
    ("edge pad", "Pad", 18, [IMAGE, ints(0, 2, 3, 0, 0, 0, 2, 0)], {"mode": "edge"}, 1),
    (
        "average without asymmetric padding",
        *("AveragePool", 18, [IMAGE], {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1], "strides": [2, 1]}, 1),
    ),
    (
        "average with asymmetric padding",
        *("AveragePool", 18, [IMAGE], {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1], "count_include_pad": 1}, 1),
    ),
    ("same average", "AveragePool", 18, [IMAGE], {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER"}, 1),
    ("slice by attributes", "Slice", 9, [IMAGE], {"starts": [1, -3], "ends": [9, -1], "axes": [1, 3]}, 1),
    ("split by an attribute", "Split", 11, [IMAGE], {"axis": 1, "split": [1, 2, 3]}, 3),
    ("split into equal parts", "Split", 11, [IMAGE], {"axis": 1}, 2),
    ("clip by attributes", "Clip", 9, [IMAGE], {"min": -0.5, "max": 0.75}, 1),
    ("clip by one input", "Clip", 13, [IMAGE, np.float32(-0.5)], {}, 1),
    ("constant of a shape", "ConstantOfShape", 9, [ints(2, 3)], {}, 1),
    ("range", "Range", 13, [np.int64(7), np.int64(-3), np.int64(-2)], {}, 1),
    ("upper triangle", "Trilu", 14, [MATRIX, np.int64(1)], {}, 1),
    ("lower triangle", "Trilu", 14, [MATRIX], {"upper": 0}, 1),
    ("cumulative sum", "CumSum", 14, [MATRIX, np.int64(1)], {"exclusive": 1, "reverse": 1}, 1),
    ("last largest", "ArgMax", 13, [np.float32([[1, 3, 3], [2, 2, 0]])], {"axis": 1, "select_last_index": 1}, 1),
    ("first smallest", "ArgMin", 13, [np.float32([[1, 0, 0], [2, 2, 0]])], {"axis": 1, "keepdims": 0}, 1),
    ("gathered elements", "GatherElements", 13, [MATRIX, ints(0, -1, 2).reshape(3, 1)], {"axis": 1}, 1),
    ("gathered points", "GatherND", 13, [MATRIX, ints(0, 1, 2, -1).reshape(2, 2)], {}, 1),
    ("tile", "Tile", 13, [MATRIX, ints(2, 3)], {}, 1),
    ("einsum", "Einsum", 12, [MATRIX, MATRIX], {"equation": "i j, k j -> k i"}, 1),
    ("truncating remainder", "Mod", 13, [np.float32([-5, 5]), np.float32([3, -3])], {"fmod": 1}, 1),
    ("instance norm", "InstanceNormalization", 13, [IMAGE, MATRIX.ravel()[:6], MATRIX.ravel()[3:9]], {}, 1),
    ("norm of rows", "ReduceL2", 13, [MATRIX], {"axes": [1]}, 1),
]


@pytest.mark.parametrize(("label", "op", "opset", "inputs", "attributes", "outputs"), CASES, ids=lambda v: str(v)[:32])
def test_one_node(label: str, op: str, opset: int, inputs: list[Any], attributes: dict[str, Any], outputs: int) -> None:
    arrays = [np.asarray(x) for x in inputs]
    names = [f"y{k}" for k in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, [f"x{k}" for k in range(len(arrays))], names, **attributes)],
        "g",
        [
            helper.make_tensor_value_info("x0", helper.np_dtype_to_tensor_dtype(arrays[0].dtype), arrays[0].shape),
        ],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names],
        [numpy_helper.from_array(x, f"x{k}") for k, x in enumerate(arrays) if k],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    for value in model.graph.output:
        value.ClearField("type")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x0": arrays[0]})
    given = torch.from_numpy(arrays[0].copy())
    for floats in (torch.float32, torch.float64):
        results = TorchModel(model, floats=floats)(given)
        for y, e in zip(results, expected, strict=True):
            assert tuple(y.shape) == e.shape
            assert y.is_floating_point() == np.issubdtype(e.dtype, np.floating)
            assert models.relative_l2(y.numpy(), e) < 1e-6
