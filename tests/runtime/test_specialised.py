"""Models with open shapes: compiled for each call's shapes and values, kept, saved and loaded."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import tcompiler as tc
from tcompiler.errors import ArgumentError, CompileError, LoadError, OpenValueError, TCompilerError, UserError
from tcompiler.runtime import specialised
from tcompiler.runtime.collection import INDEX
from tcompiler.runtime.manifest import FORMAT_VERSION
from tcompiler.runtime.model import Model
from tcompiler.runtime.specialised import SpecialisedModel, load_model

RNG = np.random.default_rng(0)


def declared(name: str, shape: list[int | str] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def build(nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], **constants: np.ndarray) -> onnx.ModelProto:
    weights = [onnx.numpy_helper.from_array(a, k) for k, a in constants.items()]
    outputs = [helper.make_empty_tensor_value_info("y")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def sequence() -> onnx.ModelProto:
    """y = relu(x · w) for any batch and length."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    w = np.random.default_rng(1).standard_normal((8, 5), np.float32)
    return build(nodes, [declared("x", ["batch", "length", 8])], w=w)


def shaped() -> onnx.ModelProto:
    """A reshape and a sum whose target and axes are inputs."""
    nodes = [
        helper.make_node("Reshape", ["x", "target"], ["z"]),
        helper.make_node("ReduceSum", ["z", "axes"], ["y"], keepdims=0),
    ]
    inputs = [
        declared("x", ["n", 6]),
        declared("target", ["rank"], TensorProto.INT64),
        declared("axes", [1], TensorProto.INT64),
    ]
    return build(nodes, inputs)


def branching() -> onnx.ModelProto:
    """The condition decides whether `target` matters at all."""
    reshape = helper.make_graph(
        [helper.make_node("Reshape", ["x", "target"], ["a"])], "t", [], [helper.make_empty_tensor_value_info("a")]
    )
    keep = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["b"])], "e", [], [helper.make_empty_tensor_value_info("b")]
    )
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=reshape, else_branch=keep)]
    inputs = [
        declared("x", [4, 6]),
        declared("c", [], TensorProto.BOOL),
        declared("target", [2], TensorProto.INT64),
    ]
    return build(nodes, inputs)


def expected(proto: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, inputs)
    return np.asarray(y)


def compiled(proto: onnx.ModelProto, **options: object) -> SpecialisedModel:
    model = tc.compile(proto, threads=1, **options)
    assert isinstance(model, SpecialisedModel)
    return model


def refused(action: object) -> TCompilerError:
    with pytest.raises(TCompilerError) as caught:
        action()  # type: ignore[operator]
    return caught.value


def test_every_shape_is_compiled_once() -> None:
    proto = sequence()
    model = compiled(proto)
    assert str(model.inputs[0]) == "x: f32[batch, length, 8]"
    for batch, length in [(1, 1), (2, 7), (1, 0), (3, 16), (2, 7)]:
        x = RNG.standard_normal((batch, length, 8), np.float32)
        y = model(x)
        assert isinstance(y, np.ndarray) and y.shape == (batch, length, 5)
        np.testing.assert_allclose(y, expected(proto, x=x), rtol=1e-5, atol=1e-6)
    assert len(model.specialisations) == 4
    assert model.specialisations[-1].inputs[0].shape == (2, 7, 8)


def test_values_that_decide_shapes_are_compiled_in() -> None:
    proto = shaped()
    model = compiled(proto)
    for n in (2, 5):
        x = RNG.standard_normal((n, 6), np.float32)
        for target in ([-1, 3], [6, -1], [n, 2, 3]):
            for axis in (0, -1):
                given = {"x": x, "target": np.array(target), "axes": np.array([axis])}
                np.testing.assert_allclose(model(**given), expected(proto, **given), rtol=1e-5, atol=1e-6)
    assert len(model.specialisations) == 12
    assert [s.name for s in model.specialisations[0].inputs] == ["x"]


def test_one_value_may_show_that_another_matters() -> None:
    model = compiled(branching())
    x = RNG.standard_normal((4, 6), np.float32)
    yes, no = np.array(True), np.array(False)
    for target in ([3, 8], [8, 3]):
        np.testing.assert_array_equal(model(x, yes, np.array(target)), x.reshape(target))
        np.testing.assert_array_equal(model(x, no, np.array(target)), -x)
    # The branch that needs no target is one specialisation, whatever the target.
    assert len(model.specialisations) == 3


def test_shapes_may_be_given_ahead() -> None:
    proto = sequence()
    assert [m.inputs[0].shape for m in compiled(proto, shapes={"x": (2, 3, 8)}).specialisations] == [(2, 3, 8)]
    assert [m.inputs[0].shape for m in compiled(proto, shapes={"batch": 1, "length": 4}).specialisations] == [(1, 4, 8)]
    several = compiled(proto, shapes=[{"batch": 1, "length": n} for n in (1, 5)])
    assert [m.inputs[0].shape for m in several.specialisations] == [(1, 1, 8), (1, 5, 8)]
    partly = compiled(proto, shapes={"batch": 2})
    assert partly.specialisations == () and partly.inputs[0].shape == (2, "length", 8)
    target, axes = np.array([3, 4]), np.array([1])
    fixed = compiled(shaped(), shapes={"n": 2}, values={"target": target, "axes": axes})
    x = RNG.standard_normal((2, 6), np.float32)
    np.testing.assert_allclose(fixed(x, target, axes), x.reshape(3, 4).sum(1), rtol=1e-5)
    assert len(fixed.specialisations) == 1


def test_a_model_that_fixes_everything_is_a_plain_one() -> None:
    proto = build([helper.make_node("Relu", ["x"], ["y"])], [declared("x", [2, 3])])
    assert isinstance(tc.compile(proto, threads=1), Model)


def test_saved_and_loaded_without_the_compiler(tmp_path: Path) -> None:
    proto = shaped()
    model = compiled(proto)
    x, axes = RNG.standard_normal((2, 6), np.float32), np.array([0])
    for target in ([3, 4], [4, 3]):
        model(x, np.array(target), axes)
    path = tmp_path / "m.tcm"
    model.save(path)
    np.save(tmp_path / "x.npy", x)
    script = f"""
import sys
import numpy as np
import tcompiler as tc
model = tc.load({str(path)!r})
x = np.load({str(tmp_path / "x.npy")!r})
for target in ([3, 4], [4, 3]):
    y = model(x, np.array(target), np.array([0]))
    np.testing.assert_allclose(y, x.reshape(target).sum(0), rtol=1e-5)
assert not [m for m in sys.modules if m.startswith(("tcompiler.pipeline", "tcompiler.api", "tcompiler.ir", "onnx"))]
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    loaded = load_model(path)
    assert isinstance(loaded, SpecialisedModel) and len(loaded.specialisations) == 2
    assert loaded.text("scheduled") == model.text("scheduled")
    error = refused(lambda: loaded(x, np.array([2, 6]), axes))
    assert isinstance(error, ArgumentError)
    assert str(error) == (
        "this saved model has no code for (x: (2, 6), target: (2,), axes: (1,)), or for the values that decide shapes; "
        "it has code for (x: (2, 6), axes = [0], target = [4, 3]); (x: (2, 6), axes = [0], target = [3, 4]); compile "
        "the model for these (shapes=…) and save it again"
    )


def test_a_damaged_collection_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tcm"
    compiled(sequence(), shapes={"batch": 1, "length": 2}).save(path)
    data = path.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 60)):
        broken = bytearray(data)
        broken[at] ^= 0x55
        path.write_bytes(broken)
        with pytest.raises(LoadError):
            model = load_model(path)
            # A text is checked when it is read.
            for stage in model.manifest["stages"]:
                model.text(stage)
            # What lies between the members belongs to none of them.
            raise LoadError("nothing of the model was touched")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(LoadError):
        load_model(path)


def test_a_collection_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tcm"
    compiled(sequence(), shapes={"batch": 1, "length": 2}).save(path)
    with zipfile.ZipFile(path) as old:
        members = {n: old.read(n) for n in old.namelist()}
    members[INDEX] = members[INDEX].replace(b'"format_version": %d' % FORMAT_VERSION, b'"format_version": 99')
    with zipfile.ZipFile(path, "w") as new:
        for name, raw in members.items():
            new.writestr(name, raw)
        new.comment = b"tcompiler collection sha256:" + hashlib.sha256(members[INDEX]).hexdigest().encode()
    assert str(refused(lambda: load_model(path))) == (
        f"{path}: its format is version 99, but this tcompiler reads version {FORMAT_VERSION}; compile the model again"
    )


def test_calls_from_many_threads_compile_each_shape_once() -> None:
    proto = sequence()
    model = compiled(proto)
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        w = onnx.numpy_helper.to_array(proto.graph.initializer[0])
        for _ in range(20):
            x = rng.standard_normal((1, int(rng.integers(1, 4)), 8), np.float32)
            if not np.allclose(model(x), np.maximum(x @ w, 0), rtol=1e-5, atol=1e-6):
                wrong.append(f"seed {seed}, length {x.shape[1]}")

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert len(model.specialisations) == 3


def test_what_was_used_longest_ago_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specialised, "CAPACITY", 2)
    model = compiled(sequence())
    for length in (1, 2, 1, 3):
        model(np.zeros((1, length, 8), np.float32))
    assert [m.inputs[0].shape[1] for m in model.specialisations] == [1, 3]


def test_errors() -> None:
    model, both = compiled(sequence()), compiled(shaped())
    x = np.zeros((1, 2, 8), np.float32)
    cases: list[tuple[type[UserError], object, str]] = [
        (
            ArgumentError,
            lambda: model(x[0]),
            "input 'x' (argument 1) has shape (2, 8), but the model takes (batch, length, 8)",
        ),
        (
            ArgumentError,
            lambda: model(x[:, :, :7]),
            "input 'x' (argument 1) has shape (1, 2, 7), but the model takes (batch, length, 8)",
        ),
        (
            ArgumentError,
            lambda: model(),
            "the model takes 1 input (x: f32[batch, length, 8]); missing: x: f32[batch, length, 8]",
        ),
        (
            ArgumentError,
            lambda: model.specialise({}),
            "input x: f32[batch, length, 8] leaves its shape open: give its shape",
        ),
        (ArgumentError, lambda: model.specialise({"z": (1,)}), "the model has no input 'z'; its inputs are x"),
        (
            ArgumentError,
            lambda: model.specialise({"x": (1, 8)}),
            "input x: f32[batch, length, 8] cannot have the shape (1, 8)",
        ),
        (
            UserError,
            lambda: model.text("graph"),
            "this model is compiled for no shapes yet: call it, or compile it for some (shapes={'x': (…)})",
        ),
        (
            OpenValueError,
            lambda: both.specialise({"x": (2, 6), "target": (2,)}),
            "the model cannot be compiled, 1 problem:\n  a node Reshape: input 1 (shape) depends on the value of "
            "'target', expected a constant; pass values={name: array} to fix it",
        ),
        (
            CompileError,
            lambda: tc.compile(sequence(), shapes={"size": 3}),
            "the model has no dimension 'size'; its open dimensions are batch, length",
        ),
        (
            CompileError,
            lambda: tc.compile(sequence(), shapes=[{"batch": 1}, {"batch": 1, "length": 2}]),
            "the model: input x: f32[1, length, 8] is left open in one of 2 sets of shapes",
        ),
        (
            CompileError,
            lambda: tc.compile(sequence(), shapes={"x": (1, -2, 8)}),
            "the model: input 'x' is given the shape [1, -2, 8], expected extents of at least 0",
        ),
    ]
    for kind, action, message in cases:
        error = refused(action)
        assert type(error) is kind
        assert str(error) == message


def test_an_operator_without_counterpart_is_refused_before_any_call() -> None:
    nodes = [
        helper.make_node("Bogus", ["x"], ["h"], name="first"),
        helper.make_node("Fancy", ["h"], ["y"], domain="com.example"),
    ]
    proto = build(nodes, [declared("x", ["n"])])
    assert str(refused(lambda: tc.compile(proto))) == (
        "the model cannot be compiled, 2 problems:\n"
        "  node 'first' (Bogus): no converter for operator 'Bogus' (opset 20)\n"
        "  a node Fancy: no converter for operator 'Fancy' of domain 'com.example'; expected one of the standard "
        "domain, or a function of the model's own"
    )


def test_large_values_are_not_compiled_in() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["i", "i"], ["y"]),
    ]
    proto = build(nodes, [declared("x", [5000])])
    assert str(refused(lambda: tc.compile(proto, threads=1))) == (
        "the model cannot be compiled, 1 problem:\n  a node Reshape: input 1 (shape) depends on the values of 'x', "
        "expected a constant or what comes from inputs of at most 4096 elements"
    )
