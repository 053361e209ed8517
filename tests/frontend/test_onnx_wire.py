"""Weights taken out of a model's bytes: nothing but their place changes, whatever the bytes are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from tcompiler.frontend.onnx.wire import PREFIX, kept_data, take_out_weights

RNG = np.random.default_rng(0)


def model() -> onnx.ModelProto:
    weights = [
        numpy_helper.from_array(RNG.standard_normal(n, np.float32), name)
        for name, n in (("large", 5000), ("small", 5), ("other", 1 << 14), ("none", 0))
    ]
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [4000], RNG.standard_normal(4000, np.float32))
    node = helper.make_node("Constant", [], ["y"], value=weights[0])
    graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y")], [*weights, typed])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, producer_name="p")


def put_back(data: bytes, kept: list[memoryview]) -> onnx.ModelProto:
    proto = onnx.load_from_string(data)
    for tensor in proto.graph.initializer:
        entries = {e.key: e.value for e in tensor.external_data}
        found = kept_data(entries.get("location", ""), kept)
        if found is not None:
            tensor.raw_data = bytes(found)
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return proto


def test_what_is_taken_out_can_be_put_back() -> None:
    proto = model()
    data = proto.SerializeToString()
    small, kept = take_out_weights(data)
    assert [len(k) for k in kept] == [20000, 1 << 16]
    assert len(small) < len(data) - 85000
    assert put_back(small, kept) == proto
    # Views, no copies.
    assert all(k.obj is data for k in kept)


def test_a_model_without_large_weights_stays_the_same_object() -> None:
    data = helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString()
    assert take_out_weights(data) == (data, [])
    assert take_out_weights(data)[0] is data


def test_external_data_stay_as_they_are() -> None:
    proto = model()
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    small, kept = take_out_weights(proto.SerializeToString())
    assert [len(k) for k in kept] == [1 << 16]
    assert put_back(small, kept) == proto


def test_a_graph_in_two_pieces_is_left_to_the_parser() -> None:
    proto = model()
    second = onnx.ModelProto()
    second.graph.doc_string = "more"
    data = proto.SerializeToString() + second.SerializeToString()
    assert take_out_weights(data) == (data, [])


@pytest.mark.parametrize("seed", range(60))
def test_damaged_bytes_parse_to_the_same_or_not_at_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(model().SerializeToString())
    heads = [k for k in range(len(data)) if k < 40 or k > len(data) - 17000 or 60 < k % 20000 < 80]
    for at in rng.choice(heads, 3):
        data[at] = rng.integers(256)
    if seed % 4 == 0:
        del data[rng.integers(len(data)) :]
    small, kept = take_out_weights(bytes(data))
    try:
        expected = onnx.load_from_string(bytes(data))
    except DecodeError as error:
        with pytest.raises(type(error)):
            onnx.load_from_string(small)
        return
    assert put_back(small, kept).SerializeToString() == expected.SerializeToString()


def test_a_location_that_only_looks_like_one_is_a_file() -> None:
    kept = [memoryview(b"a")]
    for location in (
        "weights.bin",
        "",
        PREFIX,
        f"{PREFIX}1",
        f"{PREFIX}-1",
        f"{PREFIX}\N{ARABIC-INDIC DIGIT ZERO}",
        f"{PREFIX}00000000000",
    ):
        assert kept_data(location, kept) is None
    assert kept_data(f"{PREFIX}0", kept) is kept[0]
