"""Hostile graphs within graphs: branches, loops, scans and functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from tests.frontend.hostile.corpus import RELU, Model, graph, hostile, info, model, node, varint


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
        attribute = b"\x0a\x0bthen_branch" + b"\xa0\x01\x05" + b"\x32" + varint(len(data)) + data
        body = b"\x0a\x01c\x12\x01r\x22\x02If" + b"\x2a" + varint(len(attribute)) + attribute
        data = b"\x0a" + varint(len(body)) + body + b"\x12\x01g" + b"\x62\x03\x0a\x01r"
    whole = model([], constants={"c": np.array(True)}, outputs=["r"]).SerializeToString()
    return whole + b"\x3a" + varint(len(data)) + data


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
