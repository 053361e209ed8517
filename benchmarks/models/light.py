"""The light models that `onnx` ships: real networks of opset 9 with their big weights left out, which we draw.

As shipped, every large weight is 0.02 and the outputs are constant, whatever a compiler does wrong. Here they get He
weights, biases that show, batch norms calibrated on data and slightly off, and the logits as output, since a softmax
over a thousand classes flattens errors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from benchmarks.models.inputs import Input

__all__ = ["NAMES", "image_input", "light_model"]

NAMES: tuple[str, ...] = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)

Array = npt.NDArray[np.float32]


def light_model(name: str, narrow: int = 1) -> onnx.ModelProto:
    """A light model with weights.

    Args:
        name: One of `NAMES`.
        narrow: Divides every number of channels but the image's and that of its classes, for a quicker model with the
            same nodes; it must divide them all, and groups must not be lost by it.

    Returns:
        The model, opset 9 and IR 3 as shipped (initializers are inputs too), with one output.
    """
    model = onnx.load(_path(name))
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little"))
    graph = model.graph
    _end_at_logits(graph)
    shapes = _weight_shapes(graph, narrow)
    weights = _drawn(graph, shapes, rng)
    _narrow_reshapes(graph, narrow)
    fillers = {node.output[0] for node in graph.node if node.op_type == "ConstantOfShape"}
    fillers |= {f"{name}__SHAPE" for name in fillers}
    _replace(graph.node, [node for node in graph.node if node.op_type != "ConstantOfShape"])
    kept = [t for t in graph.initializer if t.name not in weights and t.name not in fillers]
    _replace(graph.initializer, kept + [numpy_helper.from_array(value, key) for key, value in weights.items()])
    inputs = [i for i in graph.input if i.name not in weights and i.name not in fillers]
    infos = [helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, v.shape) for key, v in weights.items()]
    _replace(graph.input, inputs + infos)
    statistics = _calibrated(model, rng)
    for t in graph.initializer:
        if t.name in statistics:
            t.CopyFrom(numpy_helper.from_array(statistics[t.name], t.name))
    return model


def _replace(field: Any, items: list[Any]) -> None:
    del field[:]
    field.extend(items)


def _end_at_logits(graph: onnx.GraphProto) -> None:
    """Cuts a softmax at the end off."""
    last = graph.node[-1]
    if last.op_type == "Softmax":
        graph.output[0].name = last.input[0]
        graph.output[0].type.tensor_type.ClearField("shape")
        graph.node.pop()


def _weight_shapes(graph: onnx.GraphProto, narrow: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the floating-point weights, those that ConstantOfShape fills and those that are there."""
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shapes: dict[str, tuple[int, ...]] = {}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shapes[node.output[0]] = tuple(int(n) for n in values[node.input[0]])
    shapes |= {name: v.shape for name, v in values.items() if v.dtype == np.float32}
    # What ends in classes and what begins with the image keep those; kernels are at most eleven wide.
    return {
        name: tuple(n // narrow if n > 11 and n != 1000 else n for n in shape[:2]) + shape[2:]
        for name, shape in shapes.items()
    }


def _narrow_reshapes(graph: onnx.GraphProto, narrow: int) -> None:
    """Divides the features that a Reshape writes."""
    targets = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for t in graph.initializer:
        if t.name in targets:
            old = numpy_helper.to_array(t)
            new = np.array([n // narrow if n > 11 and n != 1000 else n for n in old], np.int64)
            t.CopyFrom(numpy_helper.from_array(new, t.name))


def _roles(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    """What each weight is: (name, role)."""
    views = {node.output[0]: node.input[0] for node in graph.node if node.op_type in ("Unsqueeze", "Reshape")}
    for node in graph.node:
        names = [views.get(name, name) for name in node.input]
        match node.op_type:
            case "Conv" | "Gemm":
                yield from zip(names[1:], ("kernel", "bias"), strict=False)
            case "BatchNormalization":
                yield from zip(names[1:], ("scale", "bias", "mean", "variance"), strict=True)
            case "Mul":
                yield names[1], "scale"
            case "Add":
                yield names[1], "bias"


def _drawn(graph: onnx.GraphProto, shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> dict[str, Array]:
    weights: dict[str, Array] = {}
    for name, role in _roles(graph):
        if name not in shapes:
            continue  # the sum of two activations
        shape = shapes[name]
        match role:
            case "kernel":
                value = rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2.0 / math.prod(shape[1:])))
            case "bias":
                value = rng.normal(0.0, 0.25, shape)
            case "scale":
                value = rng.uniform(0.5, 1.5, shape)
            case _:
                value = np.ones(shape) if role == "variance" else np.zeros(shape)
        weights[name] = value.astype(np.float32)
    return weights


def _calibrated(model: onnx.ModelProto, rng: np.random.Generator) -> dict[str, Array]:
    """Means and variances for the batch norms, near those of an image that the network sees, by name."""
    import torch

    from tcompiler.cli.bench.onnx_torch import TorchModel

    statistics: dict[str, Array] = {}

    def visit(node: onnx.NodeProto, values: dict[str, Any]) -> None:
        if node.op_type != "BatchNormalization":
            return
        x = values[node.input[0]].numpy()
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3)) + 1e-3
        mean = mean + 0.1 * np.sqrt(variance) * rng.standard_normal(mean.shape)
        variance = variance * rng.uniform(0.8, 1.25, variance.shape)
        for name, value in zip(node.input[3:5], (mean, variance), strict=True):
            statistics[name] = value.astype(np.float32)
            values[name] = torch.from_numpy(statistics[name])

    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        evaluator = TorchModel(model)
        weights = {t.name for t in model.graph.initializer}
        (image,) = (i for i in model.graph.input if i.name not in weights)
        shape = [d.dim_value for d in image.type.tensor_type.shape.dim]
        evaluator(torch.from_numpy(rng.standard_normal(shape, np.float32)), visit=visit)
    return statistics


def image_input(name: str) -> dict[str, Input]:
    """The one input of a light model that is no weight."""
    model = onnx.load(_path(name))
    weights = {t.name for t in model.graph.initializer}
    (image,) = (i for i in model.graph.input if i.name not in weights)
    return {image.name: Input(tuple(d.dim_value for d in image.type.tensor_type.shape.dim))}


def _path(name: str) -> Path:
    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
