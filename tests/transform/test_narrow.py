"""Products of bytes through the whole pipeline: constants narrowed, prologues grouped, packing done ahead."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

import tcompiler as tc
from tcompiler.backends.llvm.instructions import available
from tcompiler.ir.dtypes import i8, i16, i32, u8
from tcompiler.ir.graph.grammar import ConstantStore, Graph
from tcompiler.ir.loop.text import parse_function
from tcompiler.ir.loop.verify import verify
from tcompiler.lower.pack import hoisted
from tcompiler.ops.registry import get as operator
from tcompiler.target.named import host
from tcompiler.transform.group import VIEW, Group
from tcompiler.transform.narrow import NarrowConstants


def product(weights: np.ndarray) -> tuple[Graph, ConstantStore]:
    """x @ weights, in their type, as the reader leaves it."""
    dtype = str(weights.dtype).replace("int", "i")
    module = tc.trace(lambda x: x @ weights, x=tc.spec(dtype, (3, weights.shape[0])))
    return module.graph, module.constants


@pytest.mark.parametrize(
    "low, high, dtype", [(-128, 127, i8), (0, 255, u8), (-129, 4, i16), (-32768, 32767, i16), (0, 32768, i32)]
)
def test_factors_are_kept_in_the_narrowest_type(low: int, high: int, dtype: object) -> None:
    graph, store = product(np.array([[low, 0], [1, high]], np.int32))
    narrow = NarrowConstants(operator).run(graph, store)
    (constant,) = narrow.constants
    assert constant.type.dtype is dtype
    assert [n.op for n in narrow.nodes].count("cast") == (dtype is not i32)
    if dtype is not i32:
        assert store.typed(constant).tolist() == [[low, 0], [1, high]]


def test_floats_stay() -> None:
    graph, store = product(np.ones((2, 2), np.float32))
    assert NarrowConstants(operator).run(graph, store) is graph


def matmul_integer(m: int, k: int, n: int, zero: bool = True) -> tuple[onnx.ModelProto, np.ndarray]:
    rng = np.random.default_rng(0)
    b = rng.integers(-128, 128, (k, n)).astype(np.int8)
    constants = {"b": b, "za": np.array(77, np.uint8), "zb": np.array(3, np.int8)}
    names = ["a", "b", "za", "zb"] if zero else ["a", "b"]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", names, ["y"])],
        "g",
        [helper.make_tensor_value_info("a", T.UINT8, (m, k))],
        [helper.make_tensor_value_info("y", T.INT32, (m, n))],
        [numpy_helper.from_array(v, name) for name, v in constants.items() if name in names],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), b


@pytest.mark.parametrize("zero", [True, False])
def test_one_kernel_multiplies_bytes(zero: bool) -> None:
    model, b = matmul_integer(21, 35, 19, zero)
    compiled = tc.compile(model, target="cpu", threads=2)
    a = np.random.default_rng(1).integers(0, 256, (21, 35)).astype(np.uint8)
    expected = (a.astype(np.int64) - (77 if zero else 0)) @ (b.astype(np.int64) - (3 if zero else 0))
    np.testing.assert_array_equal(compiled(a), expected)
    assert compiled.text("expr").count("@expr.program") == 1
    if available("x86.dot_i16x8", host()):
        assert "sch.tensorize(" in compiled.text("trace")


def test_widening_maps_join_the_product_that_reads_them() -> None:
    module = tc.trace(
        lambda a, b: (a.astype("i32") - 5) @ b.astype("i32"), a=tc.spec("u8", (4, 6)), b=tc.spec("i8", (6, 5))
    )
    grouped = Group(operator).run(module.graph, module.constants)
    assert len({n.group for n in grouped.nodes if n.group != VIEW}) == 1


KERNEL = """
@loop.function
def kernel(X: f32[4, 6], W: i8[6, 5], Y: out(f32[4, 5])):
    P = alloc(f32[5, 6])
    for i in range(5):
        for j in range(6):
            with block("P"):
                vi = spatial(5, i)
                vj = spatial(6, j)
                P[vi, vj] = cast(f32, W[vj, vi]) * f32(0.5)
    for m in range(4):
        for n in range(5):
            for k in range(6):
                with block("Y"):
                    vm = spatial(4, m)
                    vn = spatial(5, n)
                    vk = reduce(6, k)
                    with init():
                        Y[vm, vn] = f32(0.0)
                    Y[vm, vn] += X[vm, vk] * P[vn, vk]
"""


def test_what_depends_on_one_constant_is_taken_out() -> None:
    from tcompiler.ir.loop.evaluate import evaluate

    function = parse_function(KERNEL)
    found = hoisted(function, ["W"])
    rest, made = found.function, found.packs
    assert list(made) == ["W"] and not found.sources
    verify(rest)
    verify(made["W"])
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 6)).astype(np.float32), rng.integers(-9, 9, (6, 5)).astype(np.int8)
    packed = evaluate(made["W"], {"source": w})["packed"]
    np.testing.assert_array_equal(evaluate(rest, {"X": x, "W": packed})["Y"], evaluate(function, {"X": x, "W": w})["Y"])
    assert hoisted(function, []).function is function
    # where the nest reads something else, it stays
    assert not hoisted(parse_function(KERNEL.replace("* f32(0.5)", "* X[0, vj]")), ["W"]).packs


def test_what_depends_on_a_constant_that_others_read_is_one_more_input() -> None:
    from tcompiler.ir.loop.evaluate import evaluate

    function = parse_function(KERNEL.replace("X[vm, vk] * P[vn, vk]", "X[vm, vk] * P[vn, vk] + cast(f32, W[vk, vn])"))
    found = hoisted(function, ["W"])
    assert found.sources == {"P": "W"} and list(found.packs) == ["P"] and found.function.inputs == ("X", "W", "P")
    verify(found.function)
    verify(found.packs["P"])
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 6)).astype(np.float32), rng.integers(-9, 9, (6, 5)).astype(np.int8)
    packed = evaluate(found.packs["P"], {"source": w})["packed"]
    expected = evaluate(function, {"X": x, "W": w})["Y"]
    np.testing.assert_array_equal(evaluate(found.function, {"X": x, "W": w, "P": packed})["Y"], expected)
