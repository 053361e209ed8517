"""The commands on a model that leaves shapes, and a value that decides one, open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

from tcompiler.cli.app import app
from tcompiler.errors import UserError


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def model(tmp_path: Path) -> str:
    """y = reduce_sum(relu(x), axes) for x of any height."""
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("ReduceSum", ["h", "axes"], ["y"], keepdims=0)]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3]),
        helper.make_tensor_value_info("axes", TensorProto.INT64, [1]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_empty_tensor_value_info("y")])
    path = tmp_path / "open.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    np.save(tmp_path / "axes.npy", np.array([0]))
    return str(path)


def test_compile_save_inspect_and_run(model: str, tmp_path: Path) -> None:
    saved, value = str(tmp_path / "y.tcm"), f"axes={tmp_path / 'axes.npy'}"
    invoke("compile", model, "-o", saved, "--shape", "x=5,3", "--value", value)
    x = np.random.default_rng(0).standard_normal((5, 3), np.float32)
    np.save(tmp_path / "x.npy", x)
    given = ["--input", f"x={tmp_path / 'x.npy'}", "--input", value, "--output", str(tmp_path), "--repeat", "1"]
    for source in (saved, model):
        assert invoke("run", source, *given).stdout.startswith("y: f32[3] mean ")
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), np.maximum(x, 0).sum(0), rtol=1e-6)
    # The one set of shapes in the file needs no mention.
    assert invoke("run", saved, "--repeat", "1").stdout.startswith("y: f32[3] mean ")
    assert "arena" in invoke("inspect", saved).stdout
    assert "@loop.function" in invoke("inspect", saved, "--stage", "scheduled").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "compile {model} -o {tmp}/y.tcm",
            "{model} leaves shapes open (x: f32[rows, 3]; axes: i64[1]): fix them with --shape NAME=1,3,224,224, or "
            "with --value NAME=FILE.npy where the value of an input decides shapes",
        ),
        (
            "compile {model} -o {tmp}/y.tcm --shape x=2,3",
            "open.onnx cannot be compiled, 1 problem:\n  a node ReduceSum: input 1 (axes) depends on the value of "
            "'axes', expected a constant; pass values={{name: array}} to fix it",
        ),
        (
            "run {model}",
            "{model} leaves shapes open (x: f32[rows, 3]): give them with --shape NAME=1,3,224,224",
        ),
        (
            "run {model} --shape x=2,3",
            "open.onnx cannot be compiled, 1 problem:\n  a node ReduceSum: input 1 (axes) depends on the value of "
            "'axes', expected a constant; pass values={{name: array}} to fix it\n"
            "on the command line: --input axes=FILE.npy",
        ),
        ("run {model} --shape z=2", "the model has no input z; its inputs are axes, x"),
    ],
)
def test_what_is_open_is_said(arguments: str, message: str, model: str, tmp_path: Path) -> None:
    words = [word.format(tmp=tmp_path, model=model) for word in arguments.split()]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == message.format(model=model)
    assert not (tmp_path / "y.tcm").exists()
