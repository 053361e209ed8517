"""What type rules say, whole messages."""

from typing import Any

import pytest

from tcompiler.errors import CompileError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.graph.grammar import TensorType, tensor_type
from tcompiler.ir.scalar.grammar import parameter
from tcompiler.ops import registry


def t(text: str) -> TensorType:
    """A type from its text, `f32[2,n]`."""
    dtype, _, rest = text.partition("[")
    extents = [e.strip() for e in rest.rstrip("]").split(",") if e.strip()]
    return tensor_type(dtype, tuple(int(e) if e.isdigit() else parameter(e) for e in extents))


REFUSED: list[tuple[str, list[str | None], dict[str, Any], str]] = [
    (
        "add",
        ["f32[2,3]", "f32[4]"],
        {},
        "add: shapes [2, 3] and [4] do not broadcast: extents 3 and 4 at axis -1; expected equal extents or 1",
    ),
    ("add", ["f32[2]", "i32[2]"], {}, "add: inputs of different element types f32[2], i32[2]; cast them to one"),
    ("add", ["f32[2]"], {}, "add: found 1 inputs, expected 2 (a, b)"),
    ("add", ["f32[2]", None], {}, "add: input 1 (b) is absent, but it is not optional"),
    ("exp", ["i32[2]"], {}, "exp: input is i32[2], expected a float element type (cast to f32)"),
    ("relu", ["bool[2]"], {}, "relu: input is bool[2], expected a float or integer element type (cast from bool)"),
    ("invert", ["f32[2]"], {}, "invert: input is f32[2], expected bool or an integer element type (compare with 0)"),
    (
        "gelu",
        ["f32[2]"],
        {"approximate": "poly"},
        "gelu: approximate is 'poly', expected 'none' or 'tanh'",
    ),
    (
        "gelu",
        ["f32[2]"],
        {"aproximate": "tanh"},
        "gelu: no attribute 'aproximate' (it takes: approximate); did you mean 'approximate'?",
    ),
    ("elu", ["f32[2]"], {"alpha": 1}, "elu: attribute 'alpha' is 1, expected a float"),
    ("cast", ["f32[2]"], {}, "cast: attribute 'to' is missing, expected an element type"),
    ("where", ["f32[2]", "f32[2]", "f32[2]"], {}, "where: the condition is f32[2], expected bool (compare with 0)"),
    (
        "matmul",
        ["f32[2,3]", "f32[4,5]"],
        {},
        "matmul: f32[2, 3] @ f32[4, 5]: the last extent of the first is 3 and the second-to-last extent of the second "
        "is 4, expected them to be equal",
    ),
    (
        "matmul",
        ["f32[n,m]", "f32[n,m]"],
        {},
        "matmul: f32[n, m] @ f32[n, m]: the last extent of the first is m and the second-to-last extent of the second "
        "is n, expected them to be equal",
    ),
    (
        "matmul",
        ["f32[]", "f32[4,5]"],
        {},
        "matmul: f32[] @ f32[4, 5]: an operand has rank 0, expected 1 or more (multiply by it instead)",
    ),
    (
        "gemm",
        ["f32[2,3]", "f32[3,4]", "f32[3]"],
        {},
        "gemm: shapes [2, 4] and [3] do not broadcast: extents 4 and 3 at axis -1; expected equal extents or 1",
    ),
    (
        "einsum",
        ["f32[2,3]", "f32[3,4]"],
        {"equation": "ij,kj->ik"},
        "einsum: equation 'ij,kj->ik': axis 'j' has extents 3 and 4",
    ),
    (
        "einsum",
        ["f32[2,3]"],
        {"equation": "ijk->i"},
        "einsum: equation 'ijk->i': the term 'ijk' names 3 axes of an operand f32[2, 3]",
    ),
    (
        "einsum",
        ["f32[2,3]"],
        {"equation": "ij->z"},
        "einsum: equation 'ij->z': the result names axis 'z', expected one axis of the operands",
    ),
    (
        "conv",
        ["f32[1,3,8,8]", "f32[4,2,3,3]"],
        {},
        "conv: data f32[1, 3, 8, 8], weight f32[4, 2, 3, 3], groups 1: expected 3 channels to be 2 per group, and 4 "
        "filters to divide into groups",
    ),
    ("conv", ["f32[1,3,8,8]", "f32[4,3,3,3]"], {"groups": 0}, "conv: groups is 0, expected at least 1"),
    (
        "conv",
        ["f32[1,3,2,8]", "f32[4,3,3,3]"],
        {},
        "conv: data f32[1, 3, 2, 8], weight f32[4, 3, 3, 3], pads (0, 0, 0, 0), dilations (1, 1): the window does not "
        "fit into spatial axis 0",
    ),
    (
        "conv",
        ["f32[1,3,8,8]", "f32[4,3,3,3]"],
        {"strides": (0, 1)},
        "conv: strides is (0, 1), expected 2 integers of at least 1",
    ),
    (
        "conv",
        ["f32[1,3,8,8]", "f32[4,3,3,3]", "f32[3]"],
        {},
        "conv: bias is f32[3], expected one value for each of the 4 filters",
    ),
    ("sum", ["f32[2,3]"], {"axes": (2,)}, "sum: axis 2 is out of range for a tensor of rank 2"),
    ("sum", ["f32[2,3]"], {"axes": (1, -1)}, "sum: axes (1, -1) name one axis twice"),
    (
        "argmax",
        ["f32[2,0]"],
        {"axis": 1},
        "argmax: input is f32[2, 0], expected at least one element along axis 1",
    ),
    (
        "batch_norm",
        ["f32[1,3,8]", "f32[3]", "f32[3]", "f32[4]", "f32[3]"],
        {},
        "batch_norm: mean is f32[4] for data f32[1, 3, 8], expected one value per channel",
    ),
    (
        "layer_norm",
        ["f32[2,3]", "f32[2]"],
        {},
        "layer_norm: shapes [2, 3] and [2] do not broadcast: extents 3 and 2 at axis -1; expected equal extents or 1",
    ),
    (
        "max_pool",
        ["f32[1,1,2]"],
        {"kernel": (3,)},
        "max_pool: data f32[1, 1, 2], kernel (3,): the window does not fit into axis 0 of the window",
    ),
    ("reshape", ["f32[2,3]"], {"shape": (4,)}, "reshape: f32[2, 3] has 6 elements and cannot become [4], which has 4"),
    ("reshape", ["f32[2,3]"], {"shape": (4, -1)}, "reshape: f32[2, 3] has 6 elements and cannot become [4, -1]"),
    (
        "reshape",
        ["f32[2,3]"],
        {"shape": (-1, -1)},
        "reshape: shape is (-1, -1), expected extents of at least 0, and -1 at most once",
    ),
    (
        "transpose",
        ["f32[2,3]"],
        {"perm": (0, 0)},
        "transpose: perm is (0, 0) for f32[2, 3], expected an order of the axes 0 to 1",
    ),
    (
        "concat",
        ["f32[2,3]", "f32[3,3]"],
        {"axis": 1},
        "concat: f32[2, 3] and f32[3, 3]: expected equal extents except along axis 1",
    ),
    (
        "slice",
        ["f32[5]"],
        {"axes": (0,), "starts": (3,), "sizes": (3,)},
        "slice: 3 elements from 3 in steps of 1 leave axis 0 of f32[5]; expected a range within it",
    ),
    (
        "pad",
        ["f32[3]"],
        {"pads": (3, 0), "mode": "reflect"},
        "pad: pads (3, 0) with mode 'reflect' reach past axis 0 of f32[3] with 3 elements",
    ),
    ("expand", ["f32[3]"], {"shape": (1,)}, "expand: f32[3] does not broadcast to [1]"),
    ("gather", ["f32[3]", "f32[2]"], {}, "gather: indices are f32[2], expected i32 or i64"),
    (
        "scatter_nd",
        ["f32[4,3]", "i64[2,1]", "f32[2,4]"],
        {},
        "scatter_nd: updates are f32[2, 4], expected the shape [2, 3]",
    ),
]


@pytest.mark.parametrize(
    ("op", "types", "attrs", "message"), REFUSED, ids=[f"{r[0]}-{k}" for k, r in enumerate(REFUSED)]
)
def test_refused(op: str, types: list[str | None], attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError) as error:
        registry.get(op).infer([None if s is None else t(s) for s in types], attrs)
    assert str(error.value) == message


def test_unknown_operator_names_the_nearest() -> None:
    with pytest.raises(CompileError) as error:
        registry.get("sofmax")
    assert str(error.value) == "no operator named 'sofmax'; nearest: softmax, log_softmax, max"
    with pytest.raises(KeyError):
        registry.get("sofmax")


def test_symbolic_extents_pass_through_rules() -> None:
    n = parameter("n")
    x = tensor_type(dt.f32, (n, 64))
    (out,) = registry.get("matmul").infer([x, tensor_type("f32", (64, 32))], {})
    assert out.shape[0] is n
    (out,) = registry.get("reshape").infer([tensor_type(dt.f32, (n, 4, 8))], {"shape": (-1, 32)})
    assert out.shape[0] is n
    program = registry.get("softmax").define([x], {})
    assert [p.name for p in program.params] == ["n"]
