"""How much work a model is: the floating-point operations that its contractions execute, and random inputs for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.shape_inference

from tcompiler.cli.bench.systems import Array
from tcompiler.errors import UserError


def taps(size: int, kernel: int, stride: int, before: int, dilation: int, outputs: int) -> int:
    """Pairs (output position, kernel tap) of one dimension that fall inside the input.

    Taps in the padding are not executed by good code, so they do not count as work.

    Args:
        size: Input length.
        kernel: Kernel length.
        stride: Step of the output.
        before: Padding before the input.
        dilation: Step of the kernel.
        outputs: Output length.
    """
    return sum(0 <= o * stride - before + k * dilation < size for o in range(outputs) for k in range(kernel))


Shapes = Mapping[str, Sequence[int]]


def _shape(value: onnx.ValueInfoProto, shapes: Shapes | None) -> list[int]:
    """The shape of an input, open dimensions from `shapes` or 1.

    Raises:
        UserError: A shape is given that does not fit.
    """
    dims = value.type.tensor_type.shape.dim
    given = (shapes or {}).get(value.name)
    if given is None:
        return [dim.dim_value if dim.HasField("dim_value") else 1 for dim in dims]
    fixed = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    if len(given) != len(fixed) or any(f not in (None, g) for f, g in zip(fixed, given, strict=True)):
        shown = ", ".join("?" if f is None else str(f) for f in fixed)
        raise UserError(f"input {value.name!r} has the shape [{shown}], which {list(given)} does not fit")
    return list(given)


def model_flops(path: str | Path, shapes: Shapes | None = None) -> int:
    """Floating-point operations of one call: two per multiply-add of Conv, ConvTranspose, Gemm and MatMul.

    Args:
        path: An ONNX file.
        shapes: Shapes of inputs that it leaves open, by name; open dimensions of others count as 1.
    """
    model = onnx.load(str(path))
    for value in model.graph.input:
        for dim, extent in zip(value.type.tensor_type.shape.dim, _shape(value, shapes), strict=True):
            dim.dim_value = extent
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    known: dict[str, list[int]] = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        known[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return sum(_node_flops(node, known) for node in graph.node)


def _node_flops(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    x, w, y = (shapes.get(name, []) for name in (node.input[0], node.input[1], node.output[0]))
    if not (x and w and y):
        return 0
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    match node.op_type:
        case "Gemm":
            return 2 * math.prod(y) * x[0 if attributes.get("transA", 0) else 1]
        case "MatMul":
            return 2 * math.prod(y) * x[-1]
        case _:
            transposed = node.op_type == "ConvTranspose"
            # A transposed convolution is a convolution read backwards: its output is the one with the padding.
            inner, outer = (y, x) if transposed else (x, y)
            macs = x[0] * w[0] * w[1]
            rank = len(w) - 2
            ones = [1] * rank
            strides, dilations = attributes.get("strides", ones), attributes.get("dilations", ones)
            pads = attributes.get("pads", [0] * (2 * rank))
            for i in range(rank):
                macs *= taps(inner[2 + i], w[2 + i], strides[i], pads[i], dilations[i], outer[2 + i])
            return 2 * macs


def random_inputs(path: str | Path, seed: int = 0, shapes: Shapes | None = None) -> dict[str, Array]:
    """Inputs for a model: floats standard normal, integers 0 or 1, booleans either.

    Args:
        path: An ONNX file.
        seed: Of the random numbers.
        shapes: Shapes of inputs that it leaves open, by name; open dimensions of others are 1.

    Returns:
        Arrays by input name, in the model's order.

    Raises:
        UserError: An input is not a tensor of numbers, or a shape does not fit.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for value in graph.input:
        if value.name in weights:
            continue
        tensor = value.type.tensor_type
        if not tensor.elem_type or tensor.elem_type == onnx.TensorProto.STRING:
            raise UserError(f"input {value.name!r} is no tensor of numbers, so no random value can be made for it")
        shape = _shape(value, shapes)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        whole = np.issubdtype(dtype, np.integer) or dtype == np.bool_
        values = rng.integers(0, 2, shape) if whole else rng.standard_normal(shape)
        inputs[value.name] = np.asarray(values).astype(dtype)
    return inputs
