"""The reader: specialisation, folding, functions, control flow, and what it says of models that it cannot take."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tcompiler.errors import CompileError
from tcompiler.frontend.onnx import read
from tcompiler.frontend.onnx.limits import Limits
from tcompiler.frontend.onnx.report import quoted
from tests.frontend.onnx_support import check, model, ours, theirs

RNG = np.random.default_rng(3)
X = RNG.standard_normal((3, 4)).astype(np.float32)


def node(op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, **attrs)


def symbolic(*dims: int | str | None, nodes: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes or [node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_empty_tensor_value_info("y")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def refusal(proto: Any, **options: Any) -> str:
    with pytest.raises(CompileError) as error:
        read(proto, **options)
    return str(error.value)


def test_labels_are_the_models_names_and_names_are_ours() -> None:
    name = 'x"); system("id");//\n'
    proto = model([node("Relu", [name], ["../../y"])], {name: X}, ["../../y"])
    module = read(proto)
    assert [(v.name, v.label) for v in module.graph.inputs] == [("v0", name)]
    assert [(v.name, v.label) for v in module.graph.outputs] == [("v1", "../../y")]
    np.testing.assert_array_equal(ours(module, {name: X})[0], np.maximum(X, 0))


def test_path_bytes_and_proto(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": X}, ["y"])
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    for source in (proto, proto.SerializeToString(), path, str(path)):
        assert [n.op for n in read(source).graph.nodes] == ["relu"]


def test_symbolic_shapes_are_given() -> None:
    proto = symbolic("batch", 3, None)
    assert refusal(proto) == (
        "the model: input 'x' has the shape [batch, 3, ?], where batch, ? are not fixed; pass its shape, for example "
        "shapes={'x': (1, 3, 1)}"
    )
    assert refusal(symbolic("n")) == (
        "the model: input 'x' has the shape [n], where n is not fixed; pass its shape, for example shapes={'x': (1,)}"
    )
    assert read(proto, shapes={"x": (2, 3, 5)}).graph.inputs[0].type.dims() == (2, 3, 5)
    assert refusal(proto, shapes={"x": (2, 4, 5)}) == (
        "the model: input 'x' has the shape [batch, 3, ?], which [2, 4, 5] does not fit"
    )
    assert refusal(proto, shapes={"z": (1,)}) == "the model has no input 'z'; its inputs are x"
    assert read(symbolic("n", "n"), shapes={"n": 4}).graph.inputs[0].type.dims() == (4, 4)


def test_shape_arithmetic_is_folded() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([2, -1])}
    module = check(model(nodes, {"x": X}, ["y"], constants), {"x": X})
    assert [n.op for n in module.graph.nodes] == ["reshape"]
    assert module.graph.constants == ()


def test_values_fix_inputs() -> None:
    proto = model([node("Reshape", ["x", "shape"], ["y"])], {"x": X, "shape": np.array([2, 6])}, ["y"])
    assert refusal(proto) == (
        "the model cannot be compiled, 1 problem:\n"
        "  a node Reshape: input 1 (shape) depends on the value of 'shape', expected a constant; pass "
        "values={name: array} to fix it"
    )
    module = read(proto, values={"shape": np.array([2, 6])})
    assert [v.label for v in module.graph.inputs] == ["x"]
    assert module.graph.outputs[0].type.dims() == (2, 6)


def test_every_problem_is_named_at_once() -> None:
    nodes = [
        node("StringNormalizer", ["x"], ["a"], name="first"),
        node("Relu", ["x"], ["b"], name="fine"),
        node("Conv", ["b", "b"], ["c"], name="second"),
        node("Elu", ["x"], ["d"], name="third", alfa=2.0),
        node("Multinomial", ["d"], ["e"], name="fourth"),
        node("Fused", ["x"], ["f"], name="fifth", domain="com.example"),
        node("Relu", ["nowhere"], ["g"], name="sixth"),
    ]
    assert refusal(model(nodes, {"x": X}, ["a", "c", "e", "f", "g"])) == (
        "the model cannot be compiled, 6 problems:\n"
        "  node 'first' (StringNormalizer): no converter for operator 'StringNormalizer' (opset 22); strings are "
        "none of our element types: keep this part outside of the model\n"
        "  node 'second' (Conv): data is SymbolicTensor(f32[3, 4]) and weight SymbolicTensor(f32[3, 4]), expected "
        "(N, C, spatial…) and a weight of the same rank\n"
        "  node 'third' (Elu): attribute 'alfa' is none that Elu has in opset 22\n"
        "  node 'fourth' (Multinomial): no converter for operator 'Multinomial' (opset 22); give the random numbers to "
        "the model as an input, and use ArgMax\n"
        "  node 'fifth' (Fused): no converter for operator 'Fused' of domain 'com.example'; expected one of the "
        "standard domain, or a function of the model's own\n"
        "  node 'sixth' (Relu): its input 'nowhere' is not defined before it"
    )


def test_an_operators_own_rule_is_reported_with_its_node() -> None:
    proto = model([node("MatMul", ["x", "x"], ["y"], name="/mm")], {"x": X}, ["y"])
    assert refusal(proto) == (
        "the model cannot be compiled, 1 problem:\n"
        "  node '/mm' (MatMul): matmul: f32[3, 4] @ f32[3, 4]: the last extent of the first is 4 and the "
        "second-to-last extent of the second is 3, expected them to be equal"
    )


def test_files_that_are_no_models(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx") == f"no file '{tmp_path / 'none.onnx'}'; expected an ONNX model"
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    assert refusal(path) == "text.onnx is no ONNX model: its bytes do not parse"
    assert refusal(b"") == "the model is no ONNX model: it holds no graph"
    assert refusal(7) == "a model given as int; expected a path, bytes or an onnx.ModelProto"


def test_opset_range() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": X}, ["y"], opset=999)
    newest = onnx.defs.onnx_opset_version()
    assert refusal(proto) == (
        f"the model uses opset 999; expected 1 to {newest} (convert it with onnx.version_converter.convert_version)"
    )


def test_names_defined_twice() -> None:
    nodes = [node("Relu", ["x"], ["y"], name="a"), node("Abs", ["x"], ["y"], name="b")]
    assert refusal(model(nodes, {"x": X}, ["y"])) == (
        "the model cannot be compiled, 1 problem:\n  node 'b' (Abs): it defines 'y', which is defined already"
    )
    assert refusal(model([], {"x": X}, ["y"])) == (
        "the model cannot be compiled, 1 problem:\n  output 'y': no node defines it"
    )


def test_element_types_that_we_do_not_have() -> None:
    graph = helper.make_graph(
        [node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [1])],
        [helper.make_empty_tensor_value_info("y")],
    )
    assert refusal(helper.make_model(graph)) == (
        "the model: input 'x' has element type STRING; expected one of f32, f64, f16, bf16, i8, u8, i16, u16, i32, "
        "u32, i64, u64, bool"
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8, np.int16, np.int32, np.bool_])
@pytest.mark.parametrize("raw", [True, False])
def test_initializers(dtype: Any, raw: bool) -> None:
    array = RNG.integers(-3, 3, (2, 3)).astype(dtype)
    data = array.tobytes() if raw else array.reshape(-1).view(np.uint16 if dtype == np.float16 else dtype).tolist()
    tensor = helper.make_tensor("c", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, data, raw=raw)
    if dtype == np.float16 and not raw:
        tensor = TensorProto(name="c", data_type=TensorProto.FLOAT16, dims=array.shape, int32_data=data)
    graph = helper.make_graph(
        [node("Identity", ["c"], ["y"])], "g", [], [helper.make_empty_tensor_value_info("y")], [tensor]
    )
    (got,) = ours(read(helper.make_model(graph)), {})
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, array)


def with_external(folder: Path, location: str, **entries: str) -> Path:
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    graph = helper.make_graph(
        [node("Add", ["x", "c"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_empty_tensor_value_info("y")],
        [tensor],
    )
    path = folder / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    np.arange(4, dtype=np.float32).tofile(tmp_path / "data" / "w.bin")
    module = read(with_external(tmp_path, "data/w.bin", offset="8", length="8"))
    assert ours(module, {"x": np.zeros(2, np.float32)})[0].tolist() == [2, 3]


def test_external_data_outside_the_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "model", tmp_path / "secret.bin"
    folder.mkdir()
    np.zeros(4, np.float32).tofile(outside)
    (folder / "link.bin").symlink_to(outside)
    os.link(outside, folder / "hard.bin")
    os.mkfifo(folder / "pipe.bin")
    (folder / "short.bin").write_bytes(b"1234")

    def why(location: str, **entries: str) -> str:
        text = refusal(with_external(folder, location, **entries))
        head = "m.onnx cannot be compiled, 1 problem:\n  initializer 'c': it "
        assert text.startswith(head)
        return text[len(head) :]

    for location in ("../secret.bin", str(outside), "a/../../secret.bin", "..\\secret.bin", "C:\\x", ""):
        assert why(location) == f"lies in {quoted(location)}, expected a file inside the model's folder"
    assert why("link.bin") == "lies in 'link.bin', a link that leads out of the model's folder"
    assert why("hard.bin") == "lies in 'hard.bin', expected a plain file with one name"
    assert why("pipe.bin") == "lies in 'pipe.bin', expected a plain file with one name"
    assert why("none.bin") == "lies in 'none.bin', which cannot be read: No such file or directory"
    assert why("short.bin") == "needs 8 bytes; 'short.bin' has 4, and 8 at 0 were promised"
    assert why("short.bin", offset="4") == "needs 8 bytes; 'short.bin' has 4, and 8 at 4 were promised"
    assert refusal(with_external(folder, "short.bin", offset="x")) == (
        "m.onnx cannot be compiled, 1 problem:\n  initializer 'c': its external offset is 'x', expected a number of at "
        "least 0"
    )
    assert refusal(with_external(folder, "short.bin").read_bytes()) == (
        "the model cannot be compiled, 1 problem:\n  initializer 'c': it lies in the file 'short.bin' beside the "
        "model; read the model by its path, not from memory"
    )


def test_limits() -> None:
    bomb = model([node("ConstantOfShape", ["s"], ["y"])], {}, ["y"], {"s": np.array([1 << 20, 1 << 20])})
    assert refusal(bomb) == (
        "the model cannot be compiled, 1 problem:\n  a node ConstantOfShape: expand: the result f32[1048576, 1048576] "
        "has more than 4294967296 elements, the limit"
    )
    huge = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1 << 31, 1 << 31])
    graph = helper.make_graph([], "g", [], [helper.make_empty_tensor_value_info("c")], [huge])
    assert refusal(helper.make_model(graph)) == (
        "the model cannot be compiled, 1 problem:\n  initializer 'c': it has the shape [2147483648, 2147483648], more "
        "than the limit of 4294967296 elements"
    )
    chain = model([node("Relu", ["x"], ["y"])] * 11, {"x": X}, ["y"])
    assert refusal(chain, limits=Limits(nodes=10)) == "the model has more than 10 nodes, the limit"


def test_a_long_chain_is_read_quickly() -> None:
    nodes = [node("Relu", [f"x{k}"], [f"x{k + 1}"]) for k in range(20_000)]
    proto = model(nodes, {"x0": X}, ["x20000"])
    assert len(read(proto).graph.nodes) == 20_000


def call_chain(depth: int) -> onnx.ModelProto:
    """Functions that each call the next one twice: 2^depth nodes once inlined."""
    functions = []
    for k in range(depth):
        callee = ("f", f"f{k + 1}") if k + 1 < depth else ("", "Relu")
        body = [
            helper.make_node(callee[1], ["x"], ["t"], domain=callee[0]),
            helper.make_node(callee[1], ["t"], ["y"], domain=callee[0]),
        ]
        opsets = [helper.make_opsetid("", 22), helper.make_opsetid("f", 1)]
        functions.append(helper.make_function("f", f"f{k}", ["x"], ["y"], body, opsets))
    graph = helper.make_graph(
        [helper.make_node("f0", ["x"], ["y"], domain="f")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_empty_tensor_value_info("y")],
    )
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


def test_functions_are_inlined_within_limits() -> None:
    assert [n.op for n in read(call_chain(3)).graph.nodes] == ["relu"] * 8
    assert refusal(call_chain(30)) == ("the model has more than 40000 nodes once functions are inlined, the limit")


def branch(op: str) -> onnx.GraphProto:
    return helper.make_graph([node(op, ["x"], ["r"])], "b", [], [helper.make_empty_tensor_value_info("r")])


def test_control_flow_with_a_known_condition() -> None:
    chosen = node("If", ["c"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg"))
    for flag in (True, False):
        proto = model([chosen], {"x": X}, ["y"], {"c": np.array(flag)})
        module = read(proto)
        assert [n.op for n in module.graph.nodes] == ["relu" if flag else "neg"]
    proto = model([chosen], {"x": X, "c": np.array(True)}, ["y"])
    assert refusal(proto) == (
        "the model cannot be compiled, 1 problem:\n  a node If: input 0 (condition) depends on the value of 'c', "
        "expected a constant; pass values={name: array} to fix it"
    )


def test_loops_are_written_out() -> None:
    def info(name: str, kind: int, shape: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        [
            node("Identity", ["on"], ["go"]),
            node("Add", ["state", "x"], ["next"]),
            node("Identity", ["next"], ["seen"]),
        ],
        "body",
        [info("i", TensorProto.INT64, []), info("on", TensorProto.BOOL, []), info("state", TensorProto.FLOAT, [3, 4])],
        [
            info("go", TensorProto.BOOL, []),
            info("next", TensorProto.FLOAT, [3, 4]),
            info("seen", TensorProto.FLOAT, [3, 4]),
        ],
    )
    loop = node("Loop", ["trips", "", "x"], ["last", "all"], body=body)
    proto = model([loop], {"x": X}, ["last", "all"], {"trips": np.array(3)})
    last, seen = ours(read(proto), {"x": X})
    np.testing.assert_allclose(last, 4 * X, rtol=1e-6)
    assert seen.shape == (3, 3, 4)
    endless = model([loop], {"x": X}, ["last", "all"], {"trips": np.array(1 << 60)})
    assert refusal(endless, limits=Limits(nodes=100)) == (
        "the model cannot be compiled, 1 problem:\n  a node Loop: it takes 1152921504606846976 steps with 3 nodes "
        "each, more than the limit of 100 nodes in all"
    )


def test_byte_flips_give_errors_or_models() -> None:
    """A damaged file is a CompileError or still a model, never another exception."""
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1, 1]), node("Relu", ["c"], ["y"])]
    w = RNG.standard_normal((3, 4, 3)).astype(np.float32)
    data = bytearray(model(nodes, {"x": X[None].transpose(0, 2, 1).copy()}, ["y"], {"w": w}).SerializeToString())
    rejected = 0
    for _ in range(300):
        damaged = bytearray(data)
        for at in RNG.integers(0, len(data), 3):
            damaged[at] ^= 1 << int(RNG.integers(0, 8))
        try:
            read(bytes(damaged))
        except CompileError:
            rejected += 1
    assert rejected > 30


def test_networks() -> None:
    """Models exported from PyTorch, where it is installed."""
    pytest.importorskip("torch")
    from benchmarks.models import build

    for name in ("mlp_odd", "transformer_odd", "resnet_tiny"):
        made = build(name)
        proto = onnx.load(made.path)
        for got, want in zip(ours(read(made.path), made.inputs), theirs(proto, made.inputs), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
