"""Sequences inside of a model against onnxruntime, and what is refused of them."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tcompiler.errors import CompileError
from tcompiler.frontend.onnx import read
from tcompiler.frontend.onnx.node import CONVERTERS
from tcompiler.frontend.onnx.unsupported import _FORMS
from tests.frontend.onnx_support import check, model

RNG = np.random.default_rng(3)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def i64(value: Any) -> np.ndarray:
    return np.array(value, np.int64)


def n(op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> Any:
    return helper.make_node(op, inputs, outputs, **attrs)


def test_a_sequence_is_built_changed_and_joined() -> None:
    nodes = [
        n("SequenceConstruct", ["a", "b"], ["s0"]),
        n("SequenceInsert", ["s0", "c"], ["s1"]),
        n("SequenceInsert", ["s1", "c", "one"], ["s2"]),
        n("SequenceErase", ["s2", "minus_two"], ["s3"]),
        n("SequenceErase", ["s2"], ["s4"]),
        n("Identity", ["s3"], ["s5"]),
        n("SequenceAt", ["s5", "minus_two"], ["picked"]),
        n("ConcatFromSequence", ["s5"], ["joined"], axis=1),
        n("ConcatFromSequence", ["s4"], ["stacked"], axis=-1, new_axis=1),
        n("SequenceLength", ["s4"], ["length"]),
    ]
    inputs = {k: f32(3, 5) for k in "abc"}
    outputs = ["picked", "joined", "stacked", "length"]
    check(model(nodes, inputs, outputs, {"one": i64(1), "minus_two": i64(-2)}, 16), inputs)


@pytest.mark.parametrize(
    ("split", "attrs"),
    [(None, {}), (None, {"keepdims": 0}), (2, {"axis": 1}), ([3, 0, 4], {"axis": 0, "keepdims": 0}), (7, {"axis": -2})],
)
def test_split_to_sequence(split: Any, attrs: dict[str, Any]) -> None:
    names = ["x"] if split is None else ["x", "split"]
    nodes = [
        n("SplitToSequence", names, ["s"], **attrs),
        n("SequenceAt", ["s", "last"], ["y"]),
        n("SequenceLength", ["s"], ["count"]),
    ]
    constants = {"last": i64(-1), **({} if split is None else {"split": i64(split)})}
    x = {"x": f32(7, 5)}
    check(model(nodes, x, ["y", "count"], constants, 13), x)


def test_a_loop_carries_a_sequence() -> None:
    body = helper.make_graph(
        [
            n("Mul", ["x", "x"], ["square"]),
            n("SequenceInsert", ["before", "square"], ["after"]),
            n("Identity", ["on"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_sequence_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_sequence_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        n("SequenceEmpty", [], ["none"]),
        n("Loop", ["trips", "", "none"], ["s"], body=body),
        n("ConcatFromSequence", ["s"], ["y"], axis=0),
    ]
    x = {"x": f32(2, 3)}
    check(model(nodes, x, ["y"], {"trips": i64(3)}, 13), x)


def test_sequence_map() -> None:
    body = helper.make_graph(
        [n("Add", ["item", "other"], ["sum"])],
        "body",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, None) for k in ("item", "other")],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)],
    )
    nodes = [
        n("SequenceConstruct", ["x", "y"], ["s"]),
        n("SequenceMap", ["s", "y"], ["t"], body=body),
        n("ConcatFromSequence", ["t"], ["z"], axis=0),
    ]
    inputs = {"x": f32(2, 3), "y": f32(2, 3)}
    check(model(nodes, inputs, ["z"], None, 17), inputs)


@pytest.mark.parametrize(
    ("nodes", "output", "message"),
    [
        (
            [n("SequenceConstruct", ["x", "x"], ["s"])],
            "s",
            "  output 's': it is a sequence of 2 tensors, expected a tensor: give the elements, or ConcatFromSequence "
            "of them",
        ),
        (
            [n("SequenceConstruct", ["x"], ["s"]), n("Relu", ["s"], ["y"], name="r")],
            "y",
            "  node 'r' (Relu): input 0 is a sequence of 1 tensor, expected a tensor",
        ),
        (
            [n("SequenceLength", ["x"], ["y"], name="l")],
            "y",
            "  node 'l' (SequenceLength): input 0 is SymbolicTensor(f32[2, 3]), expected a sequence",
        ),
        (
            [n("SequenceConstruct", ["x"], ["s"]), n("SequenceAt", ["s", "two"], ["y"], name="a")],
            "y",
            "  node 'a' (SequenceAt): position 2 in a sequence of 1 tensor, expected -1 to 0",
        ),
        (
            [n("SequenceEmpty", [], ["s"]), n("ConcatFromSequence", ["s"], ["y"], axis=0, name="c")],
            "y",
            "  node 'c' (ConcatFromSequence): the sequence is empty, so the shape of the result is unknown",
        ),
        (
            [n("SplitToSequence", ["x", "two"], ["s"], name="p", axis=2), n("SequenceAt", ["s", "two"], ["y"])],
            "y",
            "  node 'p' (SplitToSequence): attribute 'axis' is 2 for SymbolicTensor(f32[2, 3])",
        ),
    ],
)
def test_refused(nodes: list[Any], output: str, message: str) -> None:
    with pytest.raises(CompileError) as found:
        read(model(nodes, {"x": f32(2, 3)}, [output], {"two": i64(2)}, 13))
    assert str(found.value) == f"the model cannot be compiled, 1 problem:\n{message}"


def test_no_operator_that_there_is_has_a_hint_for_those_who_miss_it() -> None:
    assert [op for op in _FORMS if ("", op) in CONVERTERS] == []
