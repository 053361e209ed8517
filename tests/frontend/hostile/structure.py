"""Hostile graphs: names, order, nesting, recursion, operator sets and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from tests.frontend.hostile.corpus import Model, graph, hostile, i64, info, model, node

RELU = node("Relu", ["x"], ["y"])


@hostile
def no_bytes() -> Model:
    return b""


@hostile
def text() -> Model:
    return b"not a model, but a text of some length"


@hostile
def zeros() -> Model:
    return bytes(1000)


@hostile
def nested_groups() -> Model:
    """Protobuf's own nesting, deeper than any stack."""
    data = b""
    for _ in range(5000):
        data = b"\x3a" + _varint(len(data)) + data
    return data


def _varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


@hostile
def empty_model() -> Model:
    return onnx.ModelProto()


@hostile
def empty_graph() -> Model:
    return onnx.ModelProto(graph=onnx.GraphProto(), opset_import=[helper.make_opsetid("", 22)])


@hostile
def no_outputs() -> Model:
    return model([RELU], outputs=[])


@hostile
def no_nodes() -> Model:
    return model([], outputs=["x"])


@hostile
def output_is_an_input_twice() -> Model:
    return model([], outputs=["x", "x"])


@hostile
def output_is_an_initializer() -> Model:
    return model([], inputs=[], outputs=["c"], constants={"c": np.ones(3, np.float32)})


@hostile
def output_twice() -> Model:
    return model([RELU], outputs=["y", "y"])


@hostile
def output_undefined() -> Model:
    return model([RELU], outputs=["z"])


@hostile
def output_without_a_name() -> Model:
    return model([RELU], outputs=[""])


@hostile
def input_twice() -> Model:
    return model([RELU], inputs=[info("x"), info("x")])


@hostile
def input_without_a_name() -> Model:
    return model([node("Relu", [""], ["y"])], inputs=[info("")])


@hostile
def initializer_twice() -> Model:
    tensor = TensorProto(name="c", data_type=1, dims=[1], raw_data=bytes(4))
    return model([node("Identity", ["c"], ["y"])], inputs=[], tensors=[tensor, tensor])


@hostile
def value_twice() -> Model:
    return model([RELU, node("Abs", ["x"], ["y"])])


@hostile
def value_twice_in_one_node() -> Model:
    return model([node("Split", ["x"], ["y", "y"], axis=0, num_outputs=2)])


@hostile
def value_hides_an_input() -> Model:
    return model([node("Relu", ["x"], ["x"])], outputs=["x"])


@hostile
def value_hides_an_initializer() -> Model:
    return model([node("Relu", ["x"], ["c"])], outputs=["c"], constants={"c": np.zeros(1, np.float32)})


@hostile
def cycle() -> Model:
    return model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])], outputs=["b"])


@hostile
def cycle_of_one() -> Model:
    return model([node("Add", ["x", "y"], ["y"])])


@hostile
def out_of_order() -> Model:
    return model([node("Abs", ["t"], ["y"]), node("Relu", ["x"], ["t"])])


@hostile
def undefined_input() -> Model:
    return model([node("Relu", ["nowhere"], ["y"])])


@hostile
def no_operator() -> Model:
    return model([node("", ["x"], ["y"])])


@hostile
def missing_input() -> Model:
    return model([node("Add", ["x"], ["y"])])


@hostile
def absent_input() -> Model:
    return model([node("Add", ["", "x"], ["y"])])


@hostile
def no_inputs_at_all() -> Model:
    return model([node("Concat", [], ["y"], axis=0)])


@hostile
def too_many_inputs() -> Model:
    return model([node("Relu", ["x"] * 3, ["y"])])


@hostile
def thousands_of_inputs_to_relu() -> Model:
    return model([node("Relu", ["x"] * 5000, ["y"])])


@hostile
def too_many_outputs() -> Model:
    return model([node("Relu", ["x"], ["y", "z"])])


@hostile
def no_node_outputs() -> Model:
    return model([node("Relu", ["x"], []), RELU])


@hostile
def variadic_of_none() -> Model:
    return model([node("Sum", [], ["y"])])


def opsets(versions: Any) -> Model:
    made = model([RELU])
    del made.opset_import[:]
    made.opset_import.extend(helper.make_opsetid(d, v) for d, v in versions)
    return made


for _name, _versions in {
    "opset_999": [("", 999)],
    "opset_0": [("", 0)],
    "opset_negative": [("", -1)],
    "opset_huge": [("", (1 << 63) - 1)],
    "opset_none": [],
    "opset_twice": [("", 22), ("", 7)],
    "opset_twice_by_both_names": [("", 7), ("ai.onnx", 999)],
    "opset_unknown_domain": [("", 22), ("com.example", 1 << 40)],
    "opset_domain_with_quotes": [("", 22), ('"); system("id");//', 1)],
}.items():
    hostile(opsets, _name, versions=_versions)


@hostile
def unknown_domain() -> Model:
    return model([node("Relu", ["x"], ["y"], domain="com.example")])


@hostile
def training_domain() -> Model:
    return model([node("Gradient", ["x"], ["y"], domain="ai.onnx.preview.training", xs=["x"], y="y")])


def with_attribute(op: str, *attributes: AttributeProto, inputs: tuple[str, ...] = ("x",), opset: int = 22) -> Model:
    made = node(op, inputs, ["y"])
    made.attribute.extend(attributes)
    return model([made], opset=opset)


_FLOAT_AXIS = helper.make_attribute("axis", 1.5)
_INT_AXIS = helper.make_attribute("axis", 0)
_NO_TYPE = AttributeProto(name="axis", i=1)
_WRONG_FIELD = AttributeProto(name="axis", type=AttributeProto.INT, f=1.5)
_UNKNOWN = helper.make_attribute("colour", "red")
_NO_NAME = AttributeProto(name="", type=AttributeProto.INT, i=1)
_REFERENCE = AttributeProto(name="axis", type=AttributeProto.INT, ref_attr_name="outer")
_NOT_UTF8 = AttributeProto(name="axis", type=AttributeProto.STRING, s=b"\xff\xfe")
_HUGE_TYPE = AttributeProto(name="axis", type=AttributeProto.INTS, ints=[1 << 62] * 1000)


@hostile
def attribute_of_the_wrong_kind() -> Model:
    return with_attribute("Softmax", _FLOAT_AXIS)


@hostile
def attribute_twice() -> Model:
    return with_attribute("Softmax", _INT_AXIS, helper.make_attribute("axis", 1))


@hostile
def attribute_without_a_kind() -> Model:
    return with_attribute("Softmax", _NO_TYPE)


@hostile
def attribute_in_the_wrong_field() -> Model:
    return with_attribute("Softmax", _WRONG_FIELD)


@hostile
def attribute_unknown() -> Model:
    return with_attribute("Softmax", _UNKNOWN)


@hostile
def attribute_without_a_name() -> Model:
    return with_attribute("Softmax", _NO_NAME)


@hostile
def attribute_of_no_function() -> Model:
    return with_attribute("Softmax", _REFERENCE)


@hostile
def attribute_not_utf8() -> Model:
    return with_attribute("Softmax", _NOT_UTF8)


@hostile
def attribute_mode_not_utf8() -> Model:
    return with_attribute("Gelu", AttributeProto(name="approximate", type=AttributeProto.STRING, s=b"\xff\xfe"))


@hostile
def attribute_of_a_thousand_integers() -> Model:
    return with_attribute("Softmax", _HUGE_TYPE)


@hostile
def attribute_missing() -> Model:
    return with_attribute("Cast")


@hostile
def attribute_a_graph() -> Model:
    return with_attribute("Softmax", helper.make_attribute("axis", graph([RELU])))


@hostile
def attribute_name_of_a_megabyte() -> Model:
    return with_attribute("Softmax", helper.make_attribute("a" * (1 << 20), 1))


def branch(nodes: Any, outputs: tuple[str, ...] = ("r",), constants: Any = None) -> onnx.GraphProto:
    return graph(nodes, [], outputs, constants)


def conditional(then: onnx.GraphProto, otherwise: onnx.GraphProto | None = None, condition: Any = True) -> Model:
    chosen = node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise or then)
    return model([chosen], constants={"c": np.array(condition)})


@hostile
def ifs_a_thousand_deep() -> Model:
    inner = branch([node("Relu", ["x"], ["r"])])
    for _ in range(20):
        inner = branch([node("If", ["c"], ["r"], then_branch=inner, else_branch=branch([node("Abs", ["x"], ["r"])]))])
    # beyond what protobuf's own writer takes, the text is put together by hand
    data = inner.SerializeToString()
    for _ in range(980):
        attribute = b"\x0a\x0bthen_branch" + b"\xa0\x01\x05" + b"\x32" + _varint(len(data)) + data
        body = b"\x0a\x01c\x12\x01r\x22\x02If" + b"\x2a" + _varint(len(attribute)) + attribute
        data = b"\x0a" + _varint(len(body)) + body + b"\x12\x01g" + b"\x62\x03\x0a\x01r"
    whole = model([], constants={"c": np.array(True)}, outputs=["r"]).SerializeToString()
    return whole + b"\x3a" + _varint(len(data)) + data


@hostile
def ifs_forty_deep() -> Model:
    inner = branch([node("Relu", ["x"], ["r"])])
    for _ in range(30):
        inner = branch(
            [node("If", ["c"], ["r"], then_branch=inner, else_branch=inner)]
            if False
            else [node("If", ["c"], ["r"], then_branch=inner, else_branch=branch([node("Abs", ["x"], ["r"])]))]
        )
    return conditional(inner)


@hostile
def if_without_a_branch() -> Model:
    return model(
        [node("If", ["c"], ["y"], then_branch=branch([node("Relu", ["x"], ["r"])]))], constants={"c": np.array(False)}
    )


@hostile
def if_of_an_empty_condition() -> Model:
    return conditional(branch([node("Relu", ["x"], ["r"])]), condition=np.zeros(0, bool))


@hostile
def if_of_two_conditions() -> Model:
    return conditional(branch([node("Relu", ["x"], ["r"])]), condition=[True, False])


@hostile
def if_of_a_float() -> Model:
    return conditional(branch([node("Relu", ["x"], ["r"])]), condition=1.5)


@hostile
def if_at_run_time() -> Model:
    chosen = node(
        "If",
        ["c"],
        ["y"],
        then_branch=branch([node("Relu", ["x"], ["r"])]),
        else_branch=branch([node("Abs", ["x"], ["r"])]),
    )
    return model([chosen], inputs=[info("x"), info("c", [], TensorProto.BOOL)])


@hostile
def if_with_an_undefined_output() -> Model:
    return conditional(branch([node("Relu", ["x"], ["r"])], ("s",)))


@hostile
def if_with_more_outputs_than_its_branch() -> Model:
    chosen = node(
        "If",
        ["c"],
        ["y", "z"],
        then_branch=branch([node("Relu", ["x"], ["r"])]),
        else_branch=branch([node("Relu", ["x"], ["r"])]),
    )
    return model([chosen], outputs=["y", "z"], constants={"c": np.array(True)})


@hostile
def if_that_reads_its_own_output() -> Model:
    return conditional(branch([node("Add", ["x", "y"], ["r"])]))


@hostile
def if_whose_branch_uses_a_value_of_later() -> Model:
    chosen = node(
        "If",
        ["c"],
        ["y"],
        then_branch=branch([node("Relu", ["late"], ["r"])]),
        else_branch=branch([node("Relu", ["x"], ["r"])]),
    )
    return model([chosen, node("Abs", ["x"], ["late"])], constants={"c": np.array(True)})


def body(nodes: Any = None, inputs: Any = None, outputs: Any = None) -> onnx.GraphProto:
    """A loop's body: it adds x to a state for ever."""
    return graph(
        nodes or [node("Identity", ["on"], ["go"]), node("Add", ["s", "x"], ["t"])],
        inputs or [info("i", [], TensorProto.INT64), info("on", [], TensorProto.BOOL), info("s")],
        outputs or ["go", "t"],
    )


def loop(trips: Any = None, condition: Any = None, made: Any = None, outputs: int = 1, states: int = 1) -> Model:
    constants = {}
    if trips is not None:
        constants["n"] = np.asarray(trips)
    if condition is not None:
        constants["c"] = np.asarray(condition)
    names = ["n" if trips is not None else "", "c" if condition is not None else "", *(["x"] * states)]
    results = [f"y{k}" for k in range(outputs)]
    return model([node("Loop", names, results, body=made or body())], outputs=results, constants=constants)


for _name, _trips in {
    "zero": 0,
    "negative": -1,
    "most_negative": -(1 << 63),
    "huge": 1 << 62,
    "float": 3.5,
    "two": [2, 3],
    "none": np.zeros(0, np.int64),
    "a_thousand": 1000,
}.items():
    hostile(loop, f"loop_trips_{_name}", trips=_trips)

hostile(loop, "loop_without_end", condition=True)
hostile(loop, "loop_of_neither")
hostile(loop, "loop_that_never_starts", trips=5, condition=False)
hostile(loop, "loop_of_an_empty_condition", trips=5, condition=np.zeros(0, bool))
hostile(loop, "loop_with_too_many_outputs", trips=2, outputs=5)
hostile(loop, "loop_with_too_few_states", trips=2, states=0)
hostile(loop, "loop_with_too_many_states", trips=2, states=3)
hostile(loop, "loop_with_an_empty_body", trips=2, made=onnx.GraphProto(name="g"))
hostile(
    loop,
    "loop_that_doubles",
    trips=60,
    made=body([node("Identity", ["on"], ["go"]), node("Concat", ["s", "s"], ["t"], axis=0)]),
)
hostile(
    loop,
    "loop_whose_condition_is_computed",
    trips=5,
    made=body(
        [node("ReduceMax", ["s"], ["m"], keepdims=0), node("Less", ["m", "m"], ["go"]), node("Add", ["s", "x"], ["t"])]
    ),
)
hostile(
    loop,
    "loop_in_a_loop_in_a_loop",
    trips=1 << 20,
    made=body(
        [
            node("Identity", ["on"], ["go"]),
            node(
                "Loop",
                ["n", "", "s"],
                ["t"],
                body=graph(
                    [
                        node("Identity", ["on2"], ["go2"]),
                        node(
                            "Loop",
                            ["n", "", "s2"],
                            ["t2"],
                            body=graph(
                                [node("Identity", ["on3"], ["go3"])],
                                [info("i3", [], 7), info("on3", [], 9), info("s3")],
                                ["go3", "s3"],
                            ),
                        ),
                    ],
                    [info("i2", [], 7), info("on2", [], 9), info("s2")],
                    ["go2", "t2"],
                ),
            ),
        ]
    ),
)
hostile(
    loop,
    "loop_of_nothing",
    trips=1 << 40,
    made=graph([], [info("i", [], 7), info("on", [], 9), info("s")], ["on", "s"]),
)
hostile(loop, "loop_that_collects_nothing", trips=0, outputs=2, made=body(outputs=["go", "t", "t"]))


def scan(inputs: tuple[tuple[int, ...], ...] = ((3,), (4, 3)), count: int = 1, outputs: int = 2, **attrs: Any) -> Model:
    made = graph([node("Add", ["s", "e"], ["t"])], [info("s", [3]), info("e", [3])], ["t", "t"])
    names = [f"x{k}" for k in range(len(inputs))]
    results = [f"y{k}" for k in range(outputs)]
    scans = node("Scan", names, results, body=made, num_scan_inputs=count, **attrs)
    return model([scans], [info(n, d) for n, d in zip(names, inputs, strict=True)], results)


hostile(scan, "scan")
hostile(scan, "scan_count_negative", count=-1)
hostile(scan, "scan_count_huge", count=1 << 40)
hostile(scan, "scan_count_zero", count=0)
hostile(scan, "scan_axis_out_of_range", scan_input_axes=[7])
hostile(scan, "scan_axes_too_many", scan_input_axes=[0, 0, 0])
hostile(scan, "scan_output_axis_out_of_range", scan_output_axes=[9])
hostile(scan, "scan_directions_too_many", scan_input_directions=[0, 1, 0])
hostile(scan, "scan_of_a_scalar", inputs=((3,), ()))
hostile(scan, "scan_of_nothing", inputs=((3,), (0, 3)))
hostile(scan, "scan_of_a_million", inputs=((3,), (1 << 20, 3)))
hostile(scan, "scan_of_2_to_the_60", inputs=((3,), (1 << 60, 3)))
hostile(scan, "scan_with_too_many_outputs", outputs=4)


def function(name: str, nodes: Any, inputs: Any = ("x",), outputs: Any = ("y",), **more: Any) -> onnx.FunctionProto:
    sets = [helper.make_opsetid("", 22), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, list(inputs), list(outputs), nodes, sets, **more)


def calls(*functions: onnx.FunctionProto, first: str = "f0", inputs: Any = ("x",)) -> Model:
    return model([node(first, inputs, ["y"], domain="f")], functions=functions)


@hostile
def function_that_calls_itself() -> Model:
    return calls(function("f0", [node("f0", ["x"], ["y"], domain="f")]))


@hostile
def functions_that_call_each_other() -> Model:
    return calls(
        function("f0", [node("f1", ["x"], ["y"], domain="f")]), function("f1", [node("f0", ["x"], ["y"], domain="f")])
    )


@hostile
def function_bomb() -> Model:
    functions = [
        function(f"f{k}", [node(f"f{k + 1}", ["x"], ["t"], domain="f"), node(f"f{k + 1}", ["t"], ["y"], domain="f")])
        for k in range(30)
    ]
    return calls(*functions, function("f30", [RELU]))


@hostile
def function_bomb_of_empty_functions() -> Model:
    """Nothing is left once inlined, but writing it out takes for ever."""
    functions = [
        function(f"f{k}", [node(f"f{k + 1}", ["x"], [f"t{n}"], domain="f") for n in range(2)], outputs=("t0",))
        for k in range(30)
    ]
    return calls(*functions, function("f30", [], outputs=("x",)))


@hostile
def function_chain_a_hundred_deep() -> Model:
    functions = [function(f"f{k}", [node(f"f{k + 1}", ["x"], ["y"], domain="f")]) for k in range(100)]
    return calls(*functions, function("f100", [RELU]))


@hostile
def function_bomb_inside_a_branch() -> Model:
    functions = [
        function(
            f"f{k}",
            [
                node(
                    "If",
                    ["c"],
                    ["y"],
                    then_branch=branch([node(f"f{k + 1}", ["x"], ["r"], domain="f")]),
                    else_branch=branch([node(f"f{k + 1}", ["x"], ["r"], domain="f")]),
                )
            ],
            inputs=("x", "c"),
        )
        for k in range(30)
    ]
    return model(
        [node("f0", ["x", "c"], ["y"], domain="f")],
        constants={"c": np.array(True)},
        functions=[*functions, function("f30", [RELU])],
    )


@hostile
def function_twice() -> Model:
    return calls(function("f0", [RELU]), function("f0", [node("Abs", ["x"], ["y"])]))


@hostile
def function_with_too_many_inputs() -> Model:
    return calls(function("f0", [RELU]), inputs=("x", "x", "x"))


@hostile
def function_without_its_input() -> Model:
    return calls(function("f0", [node("Add", ["x", "z"], ["y"])], inputs=("x", "z")))


@hostile
def function_whose_output_is_undefined() -> Model:
    return calls(function("f0", [RELU], outputs=("q",)))


@hostile
def function_in_the_standard_domain() -> Model:
    """A function called Relu does not replace ours by chance: it is the model's own definition."""
    made = model([RELU])
    made.functions.append(
        helper.make_function("", "Relu", ["x"], ["y"], [node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 22)])
    )
    return made


@hostile
def function_with_an_attribute_missing() -> Model:
    inner = node("Softmax", ["x"], ["y"])
    inner.attribute.append(AttributeProto(name="axis", type=AttributeProto.INT, ref_attr_name="axis"))
    return calls(function("f0", [inner], attributes=["axis"]))


@hostile
def function_with_another_opset() -> Model:
    made = function("f0", [RELU])
    made.opset_import[0].version = 999
    return calls(made)


@hostile
def function_without_opsets() -> Model:
    made = function("f0", [RELU])
    del made.opset_import[:]
    return calls(made)


@hostile
def function_that_is_never_called() -> Model:
    made = model([RELU])
    made.functions.append(function("f0", [node("f0", ["x"], ["y"], domain="f")]))
    return made


@hostile
def relu_chain() -> Model:
    nodes = [node("Relu", [f"x{k}"], [f"x{k + 1}"]) for k in range(50_000)]
    return model(nodes, inputs=[info("x0")], outputs=["x50000"])


@hostile
def add_chain() -> Model:
    nodes = [node("Add", [f"x{k}", "x0"], [f"x{k + 1}"]) for k in range(50_000)]
    return model(nodes, inputs=[info("x0")], outputs=["x50000"])


@hostile
def sigmoid_chain() -> Model:
    nodes = [node("Sigmoid", [f"x{k}"], [f"x{k + 1}"]) for k in range(1_000)]
    return model(nodes, inputs=[info("x0")], outputs=["x1000"])


@hostile
def constant_chain() -> Model:
    nodes = [node("Neg", [f"x{k}"], [f"x{k + 1}"]) for k in range(50_000)]
    return model(nodes, inputs=[], outputs=["x50000"], constants={"x0": i64(1)})


@hostile
def transpose_chain() -> Model:
    nodes = [node("Transpose", [f"x{k}"], [f"x{k + 1}"]) for k in range(3_000)]
    return model(nodes, inputs=[info("x0")], outputs=["x3000"])


@hostile
def reshape_chain() -> Model:
    nodes = [node("Flatten", [f"x{k}"], [f"x{k + 1}"], axis=k % 3) for k in range(3_000)]
    return model(nodes, inputs=[info("x0")], outputs=["x3000"])


@hostile
def pad_chain() -> Model:
    nodes = [node("Pad", [f"x{k}", "p"], [f"x{k + 1}"]) for k in range(300)]
    return model(nodes, inputs=[info("x0")], outputs=["x300"], constants={"p": i64(0, 1, 0, 0)})


@hostile
def softmax_chain() -> Model:
    nodes = [node("Softmax", [f"x{k}"], [f"x{k + 1}"]) for k in range(300)]
    return model(nodes, inputs=[info("x0")], outputs=["x300"])


@hostile
def gather_chain() -> Model:
    nodes = [node("Gather", [f"x{k}", "i"], [f"x{k + 1}"], axis=0) for k in range(400)]
    return model(nodes, inputs=[info("x0")], outputs=["x400"], constants={"i": i64(1, 0)})


@hostile
def matmul_chain() -> Model:
    nodes = [node("MatMul", [f"x{k}", "w"], [f"x{k + 1}"]) for k in range(400)]
    return model(nodes, inputs=[info("x0")], outputs=["x400"], constants={"w": np.ones((3, 3), np.float32)})


@hostile
def two_hundred_thousand_nodes_and_one() -> Model:
    return model([node("Relu", ["x"], [f"y{k}"]) for k in range(200_001)], outputs=["y0"])


@hostile
def doubling_adds() -> Model:
    """y = 2^60 x by sixty nodes: as a tree it would be 2^60 additions."""
    nodes = [node("Add", [f"x{k}", f"x{k}"], [f"x{k + 1}"]) for k in range(60)]
    return model(nodes, inputs=[info("x0")], outputs=["x60"])


@hostile
def doubling_muls_of_sums() -> Model:
    nodes = []
    for k in range(60):
        nodes += [node("Mul", [f"x{k}", "x0"], [f"m{k}"]), node("Add", [f"m{k}", f"x{k}"], [f"x{k + 1}"])]
    return model(nodes, inputs=[info("x0")], outputs=["x60"])


@hostile
def doubling_softmax() -> Model:
    nodes = []
    for k in range(40):
        nodes += [node("Softmax", [f"x{k}"], [f"m{k}"]), node("Add", [f"m{k}", f"x{k}"], [f"x{k + 1}"])]
    return model(nodes, inputs=[info("x0")], outputs=["x40"])


@hostile
def doubling_gathers() -> Model:
    nodes = []
    for k in range(60):
        nodes += [node("Gather", [f"x{k}", "i"], [f"m{k}"], axis=0), node("Add", [f"m{k}", f"x{k}"], [f"x{k + 1}"])]
    return model(nodes, inputs=[info("x0")], outputs=["x60"], constants={"i": i64(1, 0)})


@hostile
def doubling_pads() -> Model:
    nodes = []
    for k in range(60):
        nodes += [node("Pad", [f"x{k}", "p"], [f"m{k}"], mode="wrap"), node("Add", [f"m{k}", f"x{k}"], [f"x{k + 1}"])]
    return model(nodes, inputs=[info("x0")], outputs=["x60"], constants={"p": i64(1, 0, -1, 0)})


@hostile
def wide_outputs() -> Model:
    nodes = [node("Relu", ["x"], [f"y{k}"]) for k in range(500)]
    return model(nodes, outputs=[f"y{k}" for k in range(500)])
