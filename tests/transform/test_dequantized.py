"""Products of dequantized bytes: the integers are multiplied, in one kernel, and the scales come behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

import tcompiler as tc
from tcompiler.frontend.tensor import apply, lift, writer_of
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.loop.intrinsics import DESCRIPTIONS
from tcompiler.ops.registry import get as operator
from tcompiler.transform.dequantized import MultiplyIntegers
from tests.transform.test_zero_points import folded

Array = np.ndarray


def model(op: str, x: Array, w: Array, channels: bool, bias: bool, **attributes: object) -> onnx.ModelProto:
    """relu(op(dequantized x, dequantized w)), quantized."""
    rng = np.random.default_rng(0)
    axis = 0 if op == "Conv" or attributes.get("transB") else 1
    count = w.shape[axis]
    scale = (rng.random(count) * 0.02 + 0.001).astype(np.float32) if channels else np.float32(0.01)
    constants = {
        "sx": np.float32(0.05),
        "zx": x.dtype.type(3),
        "w": w,
        "sw": np.asarray(scale),
        "zw": np.zeros(count if channels else (), w.dtype),
        "b": rng.standard_normal(count).astype(np.float32),
        "sy": np.float32(0.5),
        "zy": np.uint8(7),
    }
    operands = ["xd", "wd", *(["b"] if bias else [])]
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], **({"axis": axis} if channels else {})),
        helper.make_node(op, operands, ["p"], **attributes),
        helper.make_node("Relu", ["p"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "sy", "zy"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", T.INT8 if x.dtype == np.int8 else T.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", T.UINT8, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items() if n != "b" or bias],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def reference(m: onnx.ModelProto, x: Array) -> Array:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # as floats, which is what the nodes say: rounding apart, the integers are the same
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(m.SerializeToString(), options).run(None, {"x": x})[0]


CASES = [
    ("Conv", (1, 20, 9, 11), (13, 20, 3, 3), True, {"pads": [1, 1, 1, 1]}),
    ("Conv", (2, 8, 6, 6), (16, 8, 1, 1), False, {"strides": [2, 2]}),
    ("MatMul", (21, 40), (40, 19), True, {}),
    ("MatMul", (2, 21, 40), (40, 19), False, {}),
    ("Gemm", (9, 33), (17, 33), True, {"transB": 1}),
]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("op, x_shape, w_shape, channels, attributes", CASES)
def test_integers_are_multiplied(
    op: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    channels: bool,
    attributes: dict[str, object],
    signed: bool,
) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, x_shape).astype(np.int8) if signed else rng.integers(0, 256, x_shape).astype(np.uint8)
    w = rng.integers(-64, 65, w_shape).astype(np.int8)
    m = model(op, x, w, channels, op != "MatMul", **attributes)
    compiled = tc.compile(m, target="cpu", threads=1)
    found, expected = np.asarray(compiled(x), np.int32), reference(m, x).astype(np.int32)
    # where the value lies between two steps, the sum of floats may fall on the other side
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.01
    graph = compiled.text("graph")
    assert "dequantize(" not in graph
    (product,) = [line for line in graph.splitlines() if f"= {'conv' if op == 'Conv' else 'matmul'}(" in line]
    assert "i32[" in product
    assert any(name in compiled.text("trace") for name in DESCRIPTIONS)


def test_scales_within_a_sum_stay() -> None:
    rng = np.random.default_rng(2)
    w, scales = rng.integers(-9, 9, (6, 5)).astype(np.int8), rng.random((6, 1)).astype(np.float32)

    def product(x: Any) -> Any:
        writer = writer_of(x)
        left = apply("dequantize", x, lift(writer, np.float32(0.1)), None)
        return left @ apply("dequantize", lift(writer, w), lift(writer, scales), None)

    module = tc.trace(product, x=tc.spec("u8", (3, 6)))
    assert MultiplyIntegers().run(module.graph, module.constants) is module.graph


def test_bytes_that_several_products_read_are_widened_for_each() -> None:
    rng = np.random.default_rng(3)
    v, w = (rng.integers(-9, 9, (40, n)).astype(np.int32) for n in (5, 6))

    def both(x: Any) -> Any:
        wide = x.astype("i32")
        return wide @ v, wide @ w

    module = tc.trace(both, x=tc.spec("u8", (3, 40)))
    after = folded(module)
    assert [n.op for n in after.graph.nodes].count("cast") == 2
    x = rng.integers(0, 256, (3, 40)).astype(np.uint8)
    inputs = {module.graph.inputs[0].name: x}
    for a, b in zip(
        evaluate(module.graph, inputs, operators=operator, constants=module.constants).values(),
        evaluate(after.graph, inputs, operators=operator, constants=after.constants).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
