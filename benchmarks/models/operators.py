"""Single operators as ONNX models: the shapes of `operators.json`, with seeded weights where weights would be."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Spec: TypeAlias = dict[str, Any]
Array: TypeAlias = npt.NDArray[np.float32]

_OPSET = 18
_SPATIAL = {1: ("l",), 2: ("h", "w"), 3: ("d", "h", "w")}


def specs() -> list[Spec]:
    """Every operator of `operators.json`: its name, kind (`op`), sizes (of inputs, in elements) and suite."""
    path = Path(__file__).parents[1] / "operators.json"
    loaded: list[Spec] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def model(spec: Spec) -> onnx.ModelProto:
    """The ONNX model of one operator, f32, with a fixed shape.

    Weights (a convolution's, the right side of an unbatched matmul, a layer norm's scale and bias) are initializers
    with variance 1/fan-in; attention and batched matmuls take everything as inputs.

    Args:
        spec: An entry of `specs`.

    Returns:
        A model with output "y".
    """
    rng = np.random.default_rng(0)

    def weight(name: str, shape: tuple[int, ...], fan_in: int) -> TensorProto:
        values = rng.standard_normal(shape, np.float32) / np.float32(math.sqrt(fan_in))
        return numpy_helper.from_array(values, name)

    inputs: dict[str, tuple[int, ...]]
    weights: list[TensorProto] = []
    match spec["op"]:
        case "matmul":
            b, n, m, k = (spec[key] for key in ("batch", "n", "m", "k"))
            nodes = [helper.make_node("MatMul", ["a", "b"], ["y"])]
            if b == 1:
                inputs, weights = {"a": (n, k)}, [weight("b", (k, m), k)]
            else:
                inputs = {"a": (b, n, k), "b": (b, k, m)}
        case "softmax":
            inputs = {"x": tuple(spec["shape"])}
            nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=-1)]
        case "layer_norm":
            inputs = {"x": tuple(spec["shape"])}
            width = (spec["shape"][-1],)
            weights = [weight("scale", width, 1), weight("bias", width, 1)]
            nodes = [helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], axis=-1)]
        case "attention":
            shape = (spec["batch"], spec["heads"], spec["seq"], spec["head_dim"])
            inputs = {"q": shape, "k": shape, "v": shape}
            weights = [numpy_helper.from_array(np.array(1 / math.sqrt(spec["head_dim"]), np.float32), "scale")]
            nodes = [
                helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
                helper.make_node("MatMul", ["q", "kt"], ["products"]),
                helper.make_node("Mul", ["products", "scale"], ["scores"]),
                helper.make_node("Softmax", ["scores"], ["p"], axis=-1),
                helper.make_node("MatMul", ["p", "v"], ["y"]),
            ]
        case _:
            inputs, weights, nodes = _convolution(spec, weight)
    graph = helper.make_graph(
        nodes,
        "operator",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def _convolution(spec: Spec, weight: Any) -> tuple[dict[str, tuple[int, ...]], list[TensorProto], list[Any]]:
    transposed = spec["op"].endswith("_transpose")
    rank = int(spec["op"].removesuffix("_transpose")[-2])
    groups, kernel = spec["groups"], (spec["k"],) * rank
    sizes = tuple(spec[key] for key in _SPATIAL[rank])
    if transposed:
        shape, fan_in = (spec["ci"], spec["co"] // groups, *kernel), spec["ci"] // groups * spec["k"] ** rank
    else:
        shape = (spec["co"], spec["ci"] // groups, *kernel)
        fan_in = math.prod(shape[1:])
    attributes = {
        "kernel_shape": kernel,
        "strides": (spec["stride"],) * rank,
        "pads": (spec["pad"],) * (2 * rank),
        "dilations": (spec["dilation"],) * rank,
        "group": groups,
    }
    node = helper.make_node("ConvTranspose" if transposed else "Conv", ["x", "w"], ["y"], **attributes)
    return {"x": (spec["n"], spec["ci"], *sizes)}, [weight("w", shape, fan_in)], [node]


def moved_bytes(made: onnx.ModelProto) -> int:
    """Bytes of a model's inputs, weights and outputs, each touched once: the least that it must move."""
    total: int = sum(math.prod(t.dims) for t in made.graph.initializer)
    for value in (*made.graph.input, *made.graph.output):
        total += math.prod(d.dim_value for d in value.type.tensor_type.shape.dim)
    return 4 * total
