"""Products of bytes and of bfloat16 numbers beside their own measured peaks, one thread and two.

Example: python -m benchmarks.low_precision --json docs/results/low_precision.json \
--markdown docs/results/low_precision.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from benchmarks.common import Case, Recorder, parser

Array = NDArray[Any]

MATMULS = ((1024, 1024, 1024), (1000, 1021, 997))
CONVS = ((64, 56), (128, 28), (256, 14))
_NOTE = (
    "Matmuls are m×k×n; convolutions are 3×3, channels by image. The second factor is a constant. Signed weights stay "
    "within ±63: beyond it, onnxruntime's kernels for AVX2 saturate sums of two products. Operations count a "
    "multiply-add as two; the peak is that of the quickest exact products: of bytes vpdpbusd, else vpmaddwd and an "
    "addition; of bytes by weights within ±64 vpdpbusd, else vpmaddubsw, vpmaddwd and an addition; of bf16 vdpbf16ps, "
    "else the multiply-add of f32."
)


def main() -> None:
    """Measure every case."""
    chosen = parser(__doc__, rounds=9, against=("onnxruntime",)).parse_args()
    recorder = Recorder("Bytes and bfloat16", chosen)
    recorder.measure(cases)
    recorder.finish(recorder.means(), _NOTE)


def cases() -> Iterator[Case]:
    """The models."""
    rng = np.random.default_rng(0)
    for m, k, n in MATMULS:
        size, name = 2 * m * k * n, f"{m}×{k}×{n}"
        a, b = _bytes(rng, m, k), _weights(rng, k, n)
        yield Case(f"MatMulInteger u8·i8 {name}", _matmul_integer(a, b), size, inputs={"x": a}, dtype="i7")
        other = _bytes(rng, k, n)
        yield Case(f"MatMulInteger u8·u8 {name}", _matmul_integer(a, other), size, inputs={"x": a}, dtype="i8")
        yield Case(f"QLinearMatMul u8·i8 {name}", _qlinear_matmul(a, b), size, inputs={"x": a}, dtype="i7")
        x = _bf16_bits(rng, m, k)
        yield Case(f"MatMul bf16 {name}", _bf16("MatMul", x, (k, n), (m, n), {}), size, inputs={"x": x}, dtype="bf16")
    for c, edge in CONVS:
        size, name = 2 * c * c * 9 * edge * edge, f"{edge}·{edge}·{c}"
        x8, w8 = _bytes(rng, 1, c, edge, edge), _weights(rng, c, c, 3, 3)
        yield Case(
            f"ConvInteger u8·u8 {name}", _conv_integer(x8, _bytes(rng, c, c, 3, 3)), size, inputs={"x": x8}, dtype="i8"
        )
        yield Case(f"QLinearConv u8·i8 {name}", _qlinear_conv(rng, x8, w8), size, inputs={"x": x8}, dtype="i7")
        x = _bf16_bits(rng, 1, c, edge, edge)
        model = _bf16("Conv", x, (c, c, 3, 3), x.shape, {"pads": [1, 1, 1, 1]})
        yield Case(f"Conv bf16 {name}", model, size, inputs={"x": x}, dtype="bf16")


def _bytes(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(0, 256, shape).astype(np.uint8)


def _weights(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(-63, 64, shape).astype(np.int8)


def _model(
    nodes: Sequence[onnx.NodeProto], x: Array, y: tuple[int, int, Sequence[int]], constants: dict[str, Array]
) -> onnx.ModelProto:
    """A model of an input x and an output y: its type, and the opset, before its shape."""
    kind, opset, shape = y
    graph = helper.make_graph(
        nodes,
        "low_precision",
        [helper.make_tensor_value_info("x", T.UINT8 if x.dtype == np.uint8 else T.BFLOAT16, x.shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _matmul_integer(a: Array, b: Array) -> onnx.ModelProto:
    constants = {"b": b, "za": np.array(121, np.uint8), "zb": np.array(3, b.dtype)}
    node = helper.make_node("MatMulInteger", ["x", "b", "za", "zb"], ["y"])
    return _model([node], a, (T.INT32, 18, (a.shape[0], b.shape[1])), constants)


def _qlinear_matmul(a: Array, b: Array) -> onnx.ModelProto:
    scales = {"sa": 0.02, "sb": 0.01, "sy": 0.5}
    constants = {n: np.array(v, np.float32) for n, v in scales.items()}
    constants |= {"za": np.array(121, np.uint8), "zb": np.array(0, np.int8), "zy": np.array(110, np.uint8), "b": b}
    node = helper.make_node("QLinearMatMul", ["x", "sa", "za", "b", "sb", "zb", "sy", "zy"], ["y"])
    return _model([node], a, (T.UINT8, 18, (a.shape[0], b.shape[1])), constants)


def _conv_integer(x: Array, w: Array) -> onnx.ModelProto:
    constants = {"w": w, "zx": np.array(121, np.uint8), "zw": np.array(110, np.uint8)}
    node = helper.make_node("ConvInteger", ["x", "w", "zx", "zw"], ["y"], pads=[1, 1, 1, 1])
    return _model([node], x, (T.INT32, 18, (1, w.shape[0], *x.shape[2:])), constants)


def _qlinear_conv(rng: np.random.Generator, x: Array, w: Array) -> onnx.ModelProto:
    k = w.shape[0]
    constants: dict[str, Array] = {
        "sx": np.array(0.02, np.float32),
        "zx": np.array(121, np.uint8),
        "w": w,
        "sw": np.asarray(rng.random(k) * 0.01 + 0.001, np.float32),
        "zw": np.zeros(k, np.int8),
        "sy": np.array(0.5, np.float32),
        "zy": np.array(110, np.uint8),
        "b": np.asarray(rng.integers(-1000, 1000, k), np.int32),
    }
    names = ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], pads=[1, 1, 1, 1])
    return _model([node], x, (T.UINT8, 18, (1, k, *x.shape[2:])), constants)


def _bf16_bits(rng: np.random.Generator, *shape: int) -> Array:
    """Random numbers as their sixteen bits, which is how models take them."""
    return np.asarray(rng.standard_normal(shape, np.float32).view(np.uint32) >> 16, np.uint16)


def _bf16(op: str, x: Array, w: Sequence[int], y: Sequence[int], attributes: dict[str, Any]) -> onnx.ModelProto:
    """An operator on bf16 numbers."""
    weights = np.random.default_rng(1).standard_normal(tuple(w)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["w"], ["w16"], to=T.BFLOAT16),
        helper.make_node(op, ["x", "w16"], ["y"], **attributes),
    ]
    return _model(nodes, x, (T.BFLOAT16, 22, y), {"w": weights})


if __name__ == "__main__":
    main()
