"""The benchmark harness: work counted right, errors found, failing systems reported and not dropped."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks import models
from benchmarks.models import operators
from tcompiler.cli.bench import Bench, report
from tcompiler.cli.bench.flops import model_flops, random_inputs, taps
from tcompiler.cli.bench.onnx_torch import TorchModel
from tcompiler.cli.bench.rounds import MeasureError, Subject, Worker, max_relative_error
from tcompiler.errors import UserError


def _small(spec: operators.Spec) -> operators.Spec:
    """The same operator with sizes that take no time, odd where they may be."""
    sizes = {"l": 19, "h": 13, "w": 11, "d": 5, "n": 1, "m": 9, "seq": 7, "head_dim": 5, "heads": 2}
    small = {key: min(value, sizes[key]) if key in sizes else value for key, value in spec.items()}
    if "groups" in spec:
        per_group = 1 if spec["groups"] == spec["ci"] else 3
        groups = min(spec["groups"], 4)
        small |= {"groups": groups, "ci": groups * per_group, "co": groups * (spec["co"] // spec["ci"] or 1)}
    if "shape" in spec:
        small["shape"] = [min(size, 17) for size in spec["shape"]]
    return small


def _distinct() -> list[operators.Spec]:
    """One operator of each kind, with each combination of the attributes that its converter reads."""
    kept = {}
    for spec in operators.specs():
        key = tuple(spec.get(k) for k in ("op", "k", "stride", "pad", "dilation")) if "pad" in spec else spec["op"]
        kept.setdefault(key, spec)
    return list(kept.values())


@pytest.mark.parametrize("spec", _distinct(), ids=lambda spec: spec["name"])
def test_every_kind_of_operator_is_a_valid_model_that_two_systems_agree_on(
    spec: operators.Spec, tmp_path: Path
) -> None:
    path = tmp_path / "operator.onnx"
    made = operators.model(_small(spec))
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, str(path))
    inputs = random_inputs(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, inputs)
    (reference,) = models.reference64(path, inputs)
    assert models.relative_l2(theirs, reference) < 2e-6
    assert reference.std() > 0.01


def test_taps_counts_what_falls_inside() -> None:
    for size, kernel, stride, pad, dilation in itertools.product((5, 8), (1, 3), (1, 2), (0, 1, 2), (1, 2)):
        outputs = (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        image, weight = torch.ones(1, 1, size), torch.ones(1, 1, kernel)
        sums = torch.nn.functional.conv1d(image, weight, None, stride, pad, dilation)
        assert taps(size, kernel, stride, pad, dilation, outputs) == int(sums.sum())


def test_flops_of_a_transposed_convolution_are_those_of_the_convolution_it_reverses(tmp_path: Path) -> None:
    spec = {"n": 1, "h": 6, "w": 6, "ci": 3, "co": 5, "k": 4, "stride": 2, "pad": 1, "dilation": 1, "groups": 1}
    path = tmp_path / "operator.onnx"
    onnx.save(operators.model({**spec, "op": "conv2d_transpose"}), str(path))
    transposed = model_flops(path)
    # The output is 12×12; the convolution from there back to 6×6 does the same multiply-adds.
    onnx.save(operators.model({**spec, "op": "conv2d", "h": 12, "w": 12, "ci": 5, "co": 3}), str(path))
    assert transposed == model_flops(path) == 2 * 3 * 5 * (6 * 4 - 2) ** 2


def test_flops_of_networks() -> None:
    assert model_flops(models.build("mlp_odd").path) == 2 * 7 * (61 * 127 + 127 * 93 + 93 * 33 + 33 * 5)
    # ResNet-18 is 1.814 G multiply-adds with the padded taps counted; at 7×7 they are 18% of a 3×3 convolution.
    assert 0.91 < model_flops(models.build("resnet18").path) / (2 * 1.814e9) < 1.0


def test_random_inputs_follow_the_model_and_the_seed(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.DOUBLE, ("rows", 3)),
            helper.make_tensor_value_info("i", TensorProto.INT64, (2,)),
        ],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph), str(path))
    inputs = random_inputs(path, seed=3)
    assert {name: (x.shape, x.dtype.name) for name, x in inputs.items()} == {
        "x": ((1, 3), "float64"),
        "i": ((2,), "int64"),
    }
    assert set(inputs["i"]) <= {0, 1}
    assert np.array_equal(inputs["x"], random_inputs(path, seed=3)["x"])
    assert random_inputs(path, shapes={"x": (4, 3)})["x"].shape == (4, 3)
    with pytest.raises(UserError) as caught:
        random_inputs(path, shapes={"x": (4, 2)})
    assert str(caught.value) == "input 'x' has the shape [?, 3], which [4, 2] does not fit"


def test_max_relative_error() -> None:
    reference = [np.array([1.0, -4.0]), np.array([np.nan, 2.0])]
    assert max_relative_error(reference, reference) == 0.0
    assert max_relative_error([np.array([1.0, -3.0]), reference[1]], reference) == 0.25
    assert max_relative_error(reference[:1], reference) is None
    assert max_relative_error([reference[0], np.array([1.0, 2.0])], reference) is None
    assert max_relative_error([np.array([np.nan, -4.0]), reference[1]], reference) is None
    assert max_relative_error([np.ones(3), reference[1]], reference) is None


def test_an_unknown_system_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        Bench(["onnxruntme"], 1)
    assert str(caught.value) == ("no system is named 'onnxruntme'; there are: tcompiler, onnxruntime, openvino, torch")


def test_the_pytorch_evaluator_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Mystery", ["r"], ["y"], "n", domain="there")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1,))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,))],
        [numpy_helper.from_array(np.float32([1]), "w")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph), str(path))
    with pytest.raises(UserError, match=r"no operator there\.Mystery \(node 'n'\); it has: Abs, Add, "):
        TorchModel(path)


@pytest.mark.parametrize("name", ["transformer", "transformer_odd"])
def test_attention_as_pytorch_writes_it_is_the_same_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def counted(*args: object, **kwargs: object) -> torch.Tensor:
        calls.append(args)
        return fused(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    file = models.build(name)
    (y,) = TorchModel(file.path)(torch.from_numpy(file.inputs["x"]))
    assert models.relative_l2(y, models.reference64(file.path, file.inputs)[0]) < 2e-6
    assert len(calls) == 1


def test_a_system_that_refuses_or_dies_says_why_and_can_be_asked_again(tmp_path: Path) -> None:
    worker = Worker("onnxruntime", 1, tmp_path / "log")
    try:
        with pytest.raises(MeasureError, match=r"NO_SUCHFILE.*ended with status 1"):
            worker.request(op="load", path=str(tmp_path / "none.onnx"), threads=1)
        assert worker.request(op="load", path=str(models.build("mlp_odd").path), threads=1)["seconds"] > 0
    finally:
        worker.close()


def test_measuring_gives_every_system_a_row(tmp_path: Path) -> None:
    file, second = models.build("mlp_odd"), models.build("mlp")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with Bench(["onnxruntime", "torch"], 1) as bench:
        (both,) = bench.measure(Subject(file.path, file.inputs, 10**6), rounds=3, seconds=0.01)
        without = Subject(file.path, file.inputs, 10**6, paths={"onnxruntime": broken})
        other = Subject(second.path, second.inputs, 10**6)
        beside, one = bench.measure(other, without, rounds=2, seconds=0.01)
    assert [row["system"] for row in both["rows"]] == ["onnxruntime", "torch"]
    assert both["rows"][0]["max_rel_error"] == 0.0
    assert 0.0 < both["rows"][1]["max_rel_error"] < 1e-5
    assert both["peak_gflops"] > 0.1
    assert both["tile_gflops"] is not None and both["tile_gflops"] > 0.1
    for row in both["rows"]:
        assert row["min_ms"] <= row["median_ms"] == sorted(row["round_ms"])[1]
        assert row["gflops"] == pytest.approx(1.0 / row["median_ms"])
    assert set(one["rows"][0]) == {"system", "error"}
    assert one["rows"][1]["max_rel_error"] == 0.0
    assert [set(row) for row in beside["rows"]] == [set(row) for row in both["rows"]]
    assert [len(row["round_ms"]) for row in beside["rows"]] == [2, 2]
    assert beside["model"] == str(other.path)


def test_the_table_shows_failures_and_the_best_peer() -> None:
    result = {
        "model": "m.onnx",
        "threads": 1,
        "peak_gflops": 100.0,
        "tile_gflops": 80.0,
        "flops": 2_000_000,
        "rows": [
            {
                "system": "tcompiler",
                "median_ms": 0.04,
                "min_ms": 0.032,
                "gflops": 50.0,
                "of_peak": 0.5,
                "of_tile": 0.625,
                "max_rel_error": 1e-6,
            },
            {"system": "onnxruntime", "median_ms": 0.05},
            {"system": "openvino", "error": "no such\n  operator"},
        ],
    }
    assert report.table([result], ["conv"]).splitlines()[2] == (
        "| conv | 1 | 0.040 | 50.0 GFLOP/s | 50.0 | 62.5 | 62.5 | 0.050 | unsupported | 1.25 | 1.0e-06 | 100.0 |"
    )
    assert report.failures([result], ["conv"]) == "* conv, openvino, 1 thread: no such operator\n"
    assert report.geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
