"""Small models, and running them by us and by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from tcompiler.frontend.module import GraphModule
from tcompiler.frontend.onnx import read
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.graph.verify import verify
from tcompiler.ops.registry import get


def value(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    """An input's declaration."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 22,
) -> onnx.ModelProto:
    """A model of some nodes; constants become initializers."""
    initializers = [onnx.numpy_helper.from_array(a, k) for k, a in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [value(k, a) for k, a in inputs.items()],
        [helper.make_empty_tensor_value_info(o) for o in outputs],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def one_node(
    op: str,
    inputs: Sequence[np.ndarray | None],
    fixed: Sequence[int] = (),
    outputs: int = 1,
    opset: int = 22,
    **attrs: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one node and its arguments; the inputs at the places in `fixed` are initializers."""
    names = [f"x{k}" if a is not None else "" for k, a in enumerate(inputs)]
    arrays = {k: np.asarray(a) for k, a in enumerate(inputs) if a is not None}
    given = {names[k]: a for k, a in arrays.items() if k not in fixed}
    constants = {names[k]: a for k, a in arrays.items() if k in fixed}
    results = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op, names, results, **attrs)
    return model([node], given, results, constants, opset), given


def ours(module: GraphModule, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs by our evaluator, after verification."""
    verify(module.graph, operators=get, constants=module.constants)
    named = {v.name: inputs[v.label] for v in module.graph.inputs}
    results = evaluate(module.graph, named, operators=get, constants=module.constants)
    return [results[v.name] for v in module.graph.outputs]


def theirs(proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs by onnxruntime, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(inputs))


def check(proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray], tolerance: float = 1e-5) -> GraphModule:
    """Our outputs are onnxruntime's."""
    module = read(proto)
    for got, want in zip(ours(module, inputs), theirs(proto, inputs), strict=True):
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        np.testing.assert_allclose(
            got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance, equal_nan=True
        )
    return module
