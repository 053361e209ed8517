"""Hostile graphs: bytes, names, order, operator sets and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from tests.frontend.hostile.corpus import RELU, Model, graph, hostile, info, model, node, varint


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
        data = b"\x3a" + varint(len(data)) + data
    return data


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
