"""Hostile initializers and declarations: types, shapes and bytes that do not agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.frontend.hostile.corpus import INT64_MAX, INT64_MIN, Model, hostile, info, model, node

ADD = [node("Add", ["x", "c"], ["y"])]
COPY = [node("Identity", ["c"], ["y"])]


def stored(nodes: Any = None, **fields: Any) -> Model:
    """A model with one initializer."""
    tensor = TensorProto(**{"name": "c", "data_type": TensorProto.FLOAT, "dims": [2], **fields})
    return model(COPY if nodes is None else nodes, inputs=[], tensors=[tensor])


for _name, _fields in {
    "no_data": {},
    "too_few_bytes": {"raw_data": bytes(7)},
    "too_many_bytes": {"raw_data": bytes(9)},
    "no_bytes": {"raw_data": b""},
    "too_few_values": {"float_data": [1.0]},
    "too_many_values": {"float_data": [1.0] * 3},
    "values_of_another_type": {"int32_data": [1, 2]},
    "both_fields": {"raw_data": bytes(8), "float_data": [1.0, 2.0]},
    "negative_extent": {"dims": [-2], "raw_data": bytes(8)},
    "two_negative_extents": {"dims": [-1, -2], "raw_data": bytes(8)},
    "most_negative_extent": {"dims": [INT64_MIN], "raw_data": bytes(8)},
    "huge_extent": {"dims": [INT64_MAX], "raw_data": bytes(8)},
    "extents_that_overflow": {"dims": [1 << 32, 1 << 32], "raw_data": bytes(8)},
    "extents_that_overflow_to_zero": {"dims": [1 << 16] * 4, "raw_data": b""},
    "huge_but_empty": {"dims": [1 << 62, 0], "raw_data": b""},
    "rank_70": {"dims": [1] * 70, "raw_data": bytes(4)},
    "rank_5000": {"dims": [1] * 5000, "raw_data": bytes(4)},
    "nan_payload": {"raw_data": bytes.fromhex("010080ff efbeadde")},
    "bool_of_two": {"data_type": TensorProto.BOOL, "raw_data": b"\x02\xff"},
    "bool_of_two_typed": {"data_type": TensorProto.BOOL, "int32_data": [2, -1]},
    "int8_out_of_range": {"data_type": TensorProto.INT8, "int32_data": [300, -300]},
    "uint8_negative": {"data_type": TensorProto.UINT8, "int32_data": [-1, 256]},
    "float16_out_of_range": {"data_type": TensorProto.FLOAT16, "int32_data": [1 << 20, -1]},
    "bfloat16_short": {"data_type": TensorProto.BFLOAT16, "raw_data": bytes(3)},
    "undefined_type": {"data_type": 0, "raw_data": bytes(8)},
    "unknown_type": {"data_type": 999, "raw_data": bytes(8)},
    "negative_type": {"data_type": -1, "raw_data": bytes(8)},
    "string": {"data_type": TensorProto.STRING, "string_data": [b"a", b"b"]},
    "int4": {"data_type": TensorProto.INT4, "raw_data": bytes(1)},
    "uint4": {"data_type": TensorProto.UINT4, "raw_data": bytes(1)},
    "float8": {"data_type": TensorProto.FLOAT8E4M3FN, "raw_data": bytes(2)},
    "float4": {"data_type": TensorProto.FLOAT4E2M1, "raw_data": bytes(1)},
    "complex64": {"data_type": TensorProto.COMPLEX64, "raw_data": bytes(16)},
    "complex128": {"data_type": TensorProto.COMPLEX128, "raw_data": bytes(32)},
    "uint16": {"data_type": TensorProto.UINT16, "raw_data": bytes(4)},
    "uint64": {"data_type": TensorProto.UINT64, "raw_data": bytes(16)},
    "external_without_a_location": {"data_location": TensorProto.EXTERNAL},
    "unknown_data_location": {"data_location": 1, "raw_data": bytes(8)},
    "segment": {"raw_data": bytes(8), "segment": TensorProto.Segment(begin=0, end=1 << 60)},
    "no_name": {"name": "", "raw_data": bytes(8)},
}.items():
    hostile(stored, _name, **_fields)


@hostile
def sparse_initializer() -> Model:
    values = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [1 << 40])
    made = model(COPY, inputs=[])
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 50]))
    return made


@hostile
def sparse_constant() -> Model:
    values = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [1])
    sparse = helper.make_sparse_tensor(values, indices, [1 << 50])
    return model([node("Constant", [], ["y"], sparse_value=sparse)], inputs=[])


@hostile
def string_constant() -> Model:
    return model([node("Constant", [], ["y"], value_string="x")], inputs=[])


@hostile
def two_values_in_a_constant() -> Model:
    return model([node("Constant", [], ["y"], value_int=1, value_float=2.0)], inputs=[])


@hostile
def four_gigabytes_of_weights() -> Model:
    tensors = [TensorProto(name=f"c{k}", data_type=1, dims=[1 << 31]) for k in range(100)]
    return model([node("Identity", ["c0"], ["y"])], inputs=[], tensors=tensors)


@hostile
def ten_thousand_initializers() -> Model:
    tensors = [TensorProto(name=f"c{k}", data_type=1, dims=[1], raw_data=bytes(4)) for k in range(10_000)]
    return model([node("Add", ["x", "c9999"], ["y"])], tensors=tensors)


def declared(dims: Any, kind: int = TensorProto.FLOAT) -> Model:
    return model([node("Relu", ["x"], ["y"])], inputs=[info("x", dims, kind)])


for _name, _dims in {
    "input_huge": [1 << 40],
    "input_i64": [INT64_MAX],
    "input_overflow": [1 << 32, 1 << 32],
    "input_overflow_to_zero": [1 << 16] * 4,
    "input_huge_but_empty": [1 << 62, 0],
    "input_empty": [0],
    "input_negative": [-1, 3],
    "input_most_negative": [INT64_MIN],
    "input_rank_70": [1] * 70,
    "input_rank_5000": [1] * 5000,
    "input_rank_64_of_two": [2] * 64,
    "input_open": ["n", None],
    "input_injection": ['n"); system("id");//'],
    "input_without_a_rank": None,
}.items():
    hostile(declared, _name, dims=_dims)

for _name in ("STRING", "COMPLEX64", "INT4", "FLOAT8E5M2", "UNDEFINED", "UINT32"):
    hostile(declared, f"input_of_{_name.lower()}", dims=[2], kind=TensorProto.DataType.Value(_name))
hostile(declared, "input_of_999", dims=[2], kind=999)


def of_type(made: onnx.TypeProto) -> Model:
    return model([node("Relu", ["x"], ["y"])], inputs=[helper.make_value_info("x", made)])


_FLOAT = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
hostile(of_type, "input_sequence", made=helper.make_sequence_type_proto(_FLOAT))
hostile(of_type, "input_optional", made=helper.make_optional_type_proto(_FLOAT))
hostile(of_type, "input_map", made=helper.make_map_type_proto(TensorProto.INT64, _FLOAT))
hostile(of_type, "input_sparse", made=helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]))
hostile(of_type, "input_without_a_type", made=onnx.TypeProto())


@hostile
def ten_thousand_inputs() -> Model:
    return model([node("Add", ["x7", "x9999"], ["y"])], inputs=[info(f"x{k}", [3]) for k in range(10_000)])


@hostile
def a_sum_of_a_thousand_inputs() -> Model:
    names = [f"x{k}" for k in range(1_000)]
    return model([node("Sum", names, ["y"])], inputs=[info(n, [3]) for n in names])


@hostile
def a_concat_of_a_thousand_inputs() -> Model:
    names = [f"x{k}" for k in range(1_000)]
    return model([node("Concat", names, ["y"], axis=0)], inputs=[info(n, [3]) for n in names])


@hostile
def lies_about_the_output() -> Model:
    return model([node("Relu", ["x"], ["y"])], outputs=[info("y", [7, 7], TensorProto.INT64)])


@hostile
def lies_about_a_value() -> Model:
    made = model([node("Relu", ["x"], ["t"]), node("Abs", ["t"], ["y"])])
    made.graph.value_info.append(info("t", [1 << 40], TensorProto.STRING))
    return made


@hostile
def initializer_unlike_its_input() -> Model:
    c = np.zeros((2, 3), np.float32)
    return model(ADD, inputs=[info("x"), info("c", [9], TensorProto.INT64)], constants={"c": c})
