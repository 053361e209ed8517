"""The generated models are what they claim, and the float64 evaluator agrees with two others."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from benchmarks import models


def _onnxruntime(file: models.ModelFile) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])
    return session.run(None, file.inputs)[0]


@pytest.mark.parametrize("name", models.NAMES)
def test_evaluator_agrees_with_the_exported_module_and_onnxruntime(name: str) -> None:
    file = models.build(name)
    (reference,) = models.reference64(file.path, file.inputs)
    assert reference.dtype == np.float64
    with torch.inference_mode():
        exact = models.make_module(name).double()(torch.from_numpy(file.inputs["x"]).double()).numpy()
    # The exported file rounds epsilons, scales and folded weights to f32; the module in double does not.
    assert models.relative_l2(reference, exact) < 1e-6
    assert 1e-9 < models.relative_l2(_onnxruntime(file), reference) < 2e-6
    assert 0.1 < reference.std() < 10.0


def test_resnet18_has_its_batch_norms_and_uneven_statistics() -> None:
    graph = onnx.load(str(models.build("resnet18").path)).graph
    kinds = collections.Counter(node.op_type for node in graph.node)
    assert (kinds["Conv"], kinds["BatchNormalization"], kinds["Gemm"]) == (20, 20, 1)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            scale, bias, mean, variance = (weights[name] for name in node.input[1:])
            assert min(x.std() for x in (scale, bias, mean, variance)) > 0.01
            assert variance.min() > 0.01


def test_every_activation_of_resnet18_stays_of_order_one() -> None:
    module = models.make_module("resnet18")
    spreads: list[float] = []
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_hook(lambda _m, _i, y: spreads.append(float(y.std())))
    with torch.inference_mode():
        module(torch.from_numpy(models.build("resnet18").inputs["x"]))
    assert len(spreads) == 20
    assert min(spreads) > 0.3 and max(spreads) < 3.0


def test_inputs_are_seeded() -> None:
    file = models.build("mlp_odd")
    assert np.array_equal(file.more_inputs(7)["x"], models.build("mlp_odd").more_inputs(7)["x"])
    assert not np.array_equal(file.more_inputs(7)["x"], file.inputs["x"])


def test_relative_l2() -> None:
    assert models.relative_l2([3.0, 4.0], [3.0, 4.0]) == 0.0
    assert models.relative_l2([3.0, 4.5], [3.0, 4.0]) == 0.1
    assert models.relative_l2([1.0], [1.0, 1.0]) == float("inf")
    assert np.isnan(models.relative_l2([np.nan], [1.0]))
