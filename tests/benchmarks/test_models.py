"""The generated models are what they claim, and the float64 evaluator agrees with two others."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from benchmarks import models
from benchmarks.models import neighbours, operators

EXPORTED = (
    *("resnet18", "resnet_tiny", "mlp_odd", "transformer_odd", "resnet50_small", "mobilenetv2_small", "vit_small"),
    *("bert_small", "gpt2_small", "gpt2_decode_small", "infogan", "fsrcnn", "csrnet_small", "gcn_small"),
    "longformer_small",
)
LIGHT = ("light_bvlc_alexnet_small", "light_inception_v2", "light_shufflenet", "light_squeezenet")


def _onnxruntime(file: models.ModelFile) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])
    return session.run(None, file.inputs)


@pytest.mark.parametrize("name", (*EXPORTED, *LIGHT))
def test_evaluator_agrees_with_the_exported_module_and_onnxruntime(name: str) -> None:
    file = models.build(name)
    reference = models.reference64(file.path, file.inputs)
    assert all(y.dtype == np.float64 for y in reference)
    for theirs, y in zip(_onnxruntime(file), reference, strict=True):
        assert models.relative_l2(theirs, y) < 2e-5
        assert 0.05 < y.std() < 10.0
    if name in EXPORTED:
        given = [torch.from_numpy(x) for x in file.inputs.values()]
        with torch.inference_mode():
            result = models.make_module(name).double()(*(x.double() if x.is_floating_point() else x for x in given))
        # The exported file rounds epsilons, scales and folded weights to f32; the module in double does not.
        for y, exact in zip(reference, result if isinstance(result, tuple) else (result,), strict=True):
            assert models.relative_l2(y, exact.numpy()) < 1e-5


def test_light_models_are_as_shipped_but_for_their_weights() -> None:
    graph = onnx.load(str(models.build("light_shufflenet").path)).graph
    kinds = collections.Counter(node.op_type for node in graph.node)
    assert (kinds["Conv"], kinds["BatchNormalization"], kinds["Transpose"], kinds["Softmax"]) == (49, 49, 16, 0)
    weights = [onnx.numpy_helper.to_array(t) for t in graph.initializer]
    assert all(w.std() > 0.01 for w in weights if w.dtype == np.float32)


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


def test_neighbours_have_odd_sizes_and_einsums_are_what_they_say() -> None:
    small = ("C1D_256_64_128_k3s2", "GRP_14_256_256_k3s1g4", "DW_7_960_k3s1", "BMM_12_128_128_64", "ATT_1_12_128_64")
    for spec in (s for s in operators.specs() if s["name"] in small):
        odd = neighbours.neighbour(spec)
        made = onnx.shape_inference.infer_shapes(operators.model(odd), check_type=True, strict_mode=True)
        dims = {d.dim_value for v in made.graph.input for d in v.type.tensor_type.shape.dim}
        assert dims != {d.dim_value for v in operators.model(spec).graph.input for d in v.type.tensor_type.shape.dim}
        assert max(dims) % 2 == 1 or spec["groups"] > 1
    for group in neighbours.EINSUMS:
        assert len({neighbours.einsum_flops(equation) for equation in group}) <= 2
        for equation in group:
            onnx.shape_inference.infer_shapes(neighbours.einsum(equation), check_type=True, strict_mode=True)
