"""Reductions, norms, softmaxes, scans and pooling as ONNX models of one node, over axes of all kinds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Reduction:
    """One node.

    Attributes:
        op: The ONNX operator.
        shape: Of its first input, f32.
        axes: The second input of operators that take axes (or an axis, or a count) there; None if it has none.
        attributes: Of the node.
        vectors: Lengths of further inputs, which are constants: scales, biases, statistics.
        outputs: How many results it has.
        note: Tells cases of one operator and shape apart.
    """

    op: str
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    vectors: tuple[int, ...] = ()
    outputs: int = 1
    note: str = ""

    @property
    def name(self) -> str:
        """Operator, shape and axes."""
        axes = self.axes if self.axes is not None else ()
        if "axis" in self.attributes:
            axes = (self.attributes["axis"],)
        over = f"_over_{'_'.join(map(str, axes))}" if axes else ""
        return f"{self.op}_{'x'.join(map(str, self.shape))}{over}{self.note}"

    def model(self) -> onnx.ModelProto:
        """The model: from x to y and, where there are more results, y1 and so on."""
        rng = np.random.default_rng(0)
        constants, names = [], ["x"]
        if self.axes is not None:
            value = np.array(self.axes[0] if self.op == "CumSum" else self.axes, np.int64)
            constants.append(numpy_helper.from_array(value, "axes"))
            names.append("axes")
        for k, length in enumerate(self.vectors):
            # the last of a batch norm's inputs are variances
            values = np.abs(rng.standard_normal(length, np.float32)) + np.float32(0.5)
            constants.append(numpy_helper.from_array(values, f"v{k}"))
            names.append(f"v{k}")
        results = ["y", *(f"y{k}" for k in range(1, self.outputs))]
        node = helper.make_node(self.op, names, results, **self.attributes)
        types = [TensorProto.FLOAT] * self.outputs
        if self.op.startswith("Arg"):
            types[0] = TensorProto.INT64
        if self.op == "TopK":
            types[1] = TensorProto.INT64
        graph = helper.make_graph(
            [node],
            "reduction",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(results, types, strict=True)],
            constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        return onnx.shape_inference.infer_shapes(made, strict_mode=True)

    @property
    def opset(self) -> int:
        """The oldest of ONNX's versions that has the node as it is written here."""
        return {"RMSNormalization": 23, "GroupNormalization": 21}.get(self.op, 18)


def moved_bytes(model: onnx.ModelProto) -> int:
    """Bytes of a model's input and outputs: the least that it must move."""
    total = 0
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type
        size = 8 if kind.elem_type == TensorProto.INT64 else 4
        total += size * math.prod(d.dim_value for d in kind.shape.dim)
    return total


_IMAGE = (1, 64, 112, 112)
_TOKENS = (8, 128, 768)


def cases() -> Iterator[Reduction]:
    """Every case: contiguous axes last, first, in the middle and several; odd, tiny and huge extents."""
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceLogSumExp"):
        yield Reduction(op, (1024, 1024), (1,), {"keepdims": 0})
        yield Reduction(op, (1024, 1024), (0,), {"keepdims": 0})
    for shape, axes in _sums():
        yield Reduction("ReduceSum", shape, axes, {"keepdims": 0})
    for axes in ((2,), (1,)):
        yield Reduction("ReduceMax", (61, 127, 253), axes, {"keepdims": 0})
    for op in ("ArgMax", "ArgMin"):
        yield Reduction(op, (1024, 1000), attributes={"axis": 1, "keepdims": 0})
    yield Reduction("ArgMax", (1, 21, 256, 256), attributes={"axis": 1, "keepdims": 0})
    yield Reduction("ArgMax", (1, 50257), attributes={"axis": 1, "keepdims": 0})
    for op in ("Softmax", "LogSoftmax"):
        yield Reduction(op, (128, 1000), attributes={"axis": 1})
        yield Reduction(op, (1, 21, 128, 128), attributes={"axis": 1})
    yield Reduction("Softmax", (4096, 16), attributes={"axis": 1})
    yield Reduction("Softmax", (1000, 33), attributes={"axis": 1})
    yield Reduction("LayerNormalization", _TOKENS, attributes={"axis": -1}, vectors=(768, 768))
    yield Reduction("LayerNormalization", (1, 197, 1023), attributes={"axis": -1}, vectors=(1023, 1023))
    yield Reduction("RMSNormalization", _TOKENS, attributes={"axis": -1}, vectors=(768,))
    yield Reduction("InstanceNormalization", (1, 64, 56, 56), vectors=(64, 64))
    yield Reduction("GroupNormalization", (1, 64, 56, 56), attributes={"num_groups": 8}, vectors=(64, 64))
    yield Reduction(
        "BatchNormalization", (4, 64, 28, 28), attributes={"training_mode": 1}, vectors=(64,) * 4, outputs=3
    )
    for axis in (1, 0):
        yield Reduction("CumSum", (512, 1024), (axis,))
    yield Reduction("CumSum", (1, 100003), (1,))
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    yield Reduction("MaxPool", _IMAGE, attributes=window)
    yield Reduction("MaxPool", (1, 64, 56, 56), attributes={"kernel_shape": [2, 2], "strides": [2, 2]})
    yield Reduction("MaxPool", (1, 480, 14, 14), attributes={**window, "strides": [1, 1]}, note="_s1")
    yield Reduction("AveragePool", _IMAGE, attributes=window)
    yield Reduction("AveragePool", (1, 64, 56, 56), attributes={"kernel_shape": [2, 2], "strides": [2, 2]})
    yield Reduction("LpPool", (1, 64, 56, 56), attributes={"kernel_shape": [2, 2], "strides": [2, 2]})
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        yield Reduction(op, (1, 2048, 7, 7))
    yield Reduction("GlobalAveragePool", (1, 64, 112, 112))
    yield Reduction("TopK", (64, 1000), (5,), outputs=2)
    yield Reduction("TopK", (1, 50257), (40,), outputs=2)


def _sums() -> Sequence[tuple[tuple[int, ...], tuple[int, ...]]]:
    return (
        ((1, 4194304), (1,)),
        ((1, 100003), (1,)),
        ((100003, 1), (0,)),
        ((61, 127, 253), (2,)),
        ((61, 127, 253), (1,)),
        ((61, 127, 253), (0,)),
        ((61, 127, 253), (0, 2)),
        ((61, 127, 253), (0, 1)),
        ((61, 127, 253), (0, 1, 2)),
        ((8, 64, 56, 56), (0, 2, 3)),
        ((65536, 7), (1,)),
        ((65536, 3), (0,)),
        ((3, 65536), (0,)),
        ((32, 512, 16), (1,)),
    )
