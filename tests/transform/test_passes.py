"""Passes: the graph means the same before and after, and is what it should be."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tcompiler.frontend.builder as tb
from tcompiler.frontend.module import GraphModule
from tcompiler.frontend.tensor import apply, lift
from tcompiler.ir.dtypes import DTYPES
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.graph.grammar import Constant, Graph, Node, Value, tensor_type
from tcompiler.ir.graph.verify import verify
from tcompiler.ops.evaluate import evaluate as evaluate_operator
from tcompiler.ops.registry import get
from tcompiler.transform import weights
from tcompiler.transform.passes import (
    SIMPLIFY,
    Canonicalise,
    EliminateDeadCode,
    FoldBatchNorms,
    FoldConstants,
    FoldPads,
    GraphPass,
    ShareCommonSubexpressions,
)

RNG = np.random.default_rng(5)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def values(module: GraphModule, graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    verify(graph, operators=get, constants=module.constants)
    inputs = {v.name: a for v, a in zip(graph.inputs, arrays, strict=True)}
    results = evaluate(graph, inputs, operators=get, constants=module.constants)
    return [results[v.name] for v in graph.outputs]


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def after(
    fn: Callable[..., Any], *shapes: tuple[int, ...], passes: tuple[GraphPass, ...], tolerance: float = 0.0
) -> list[str]:
    """The operators that passes leave of a function; the results, labels and signature are unchanged."""
    module = tb.trace(fn, *(tb.spec("f32", s) for s in shapes))
    arrays = [f32(*s) for s in shapes]
    graph = module.graph
    for p in passes:
        graph = p.run(graph, module.constants)
        # What one run leaves, another does not touch.
        again = p.run(graph, module.constants)
        assert isinstance(p, FoldBatchNorms) or again is graph, p.name
    assert graph.inputs == module.graph.inputs
    assert [v.label for v in graph.outputs] == [v.label for v in module.graph.outputs]
    kinds = [[(v.type.dtype, v.type.shape) for v in g.outputs] for g in (graph, module.graph)]
    assert kinds[0] == kinds[1]
    before = values(module, module.graph, arrays)
    for got, want in zip(values(module, graph, arrays), before, strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    return ops(graph)


CANONICAL = (Canonicalise(), EliminateDeadCode())


def constant(x: Any, value: Any) -> Any:
    return lift(x.writer, np.asarray(value, np.float32))


CANONICAL_CASES: list[tuple[str, Callable[..., Any], list[str]]] = [
    ("reshape that changes nothing", lambda x: (x + 1).reshape(4, 6), ["add"]),
    ("reshape of reshape", lambda x: (x + 1).reshape(24).reshape(2, 12), ["add", "reshape"]),
    ("reshape there and back", lambda x: (x + 1).reshape(24).reshape(4, 6), ["add"]),
    ("transposes that cancel", lambda x: (x + 1).T.T, ["add"]),
    (
        "transposes that compose",
        lambda x: x.reshape(2, 2, 6).transpose(1, 2, 0).transpose(1, 0, 2),
        ["reshape", "transpose"],
    ),
    ("transpose of extents of 1", lambda x: x.reshape(4, 1, 6).transpose(1, 0, 2), ["reshape"]),
    ("identity", lambda x: apply("identity", x + 1), ["add"]),
    ("identity that is an output", lambda x: apply("identity", x), ["identity"]),
    ("cast to itself", lambda x: apply("cast", x + 1, to=x.dtype), ["add"]),
    ("expand to itself", lambda x: tb.broadcast_to(x + 1, (4, 6)), ["add"]),
    ("whole slice", lambda x: apply("slice", x + 1, axes=(0,), starts=(0,), sizes=(4,)), ["add"]),
    ("gather at even distances", lambda x: apply("gather", x, lift(x.writer, np.array([3, -3])), axis=0), ["slice"]),
    ("gather of all in order", lambda x: apply("gather", x + 1, lift(x.writer, np.arange(4)), axis=0), ["add"]),
    ("gather at odd distances", lambda x: apply("gather", x, lift(x.writer, np.array([0, 1, 3])), axis=-1), ["gather"]),
    ("gather beyond the end", lambda x: apply("gather", x, lift(x.writer, np.array([0, 4, 8])), axis=0), ["gather"]),
    ("slice of a slice", lambda x: x[3:0:-1, 1:][::2, 1::2], ["slice"]),
    ("reversal stays", lambda x: tb.flip(x, 0), ["slice"]),
    ("tile once", lambda x: tb.tile(x + 1, (1, 1)), ["add"]),
    ("concat of one", lambda x: tb.concatenate([x + 1]), ["add"]),
    ("concat with nothing", lambda x: tb.concatenate([x + 1, x[:0]]), ["add"]),
    ("product by 1", lambda x: (x + 1) * 1, ["add"]),
    ("difference of 0", lambda x: (x + 1) - 0, ["add"]),
    ("1 that broadcasts stays", lambda x: (x + 1).sum() * constant(x, np.ones((2, 2))), ["add", "sum", "mul"]),
    ("quotient by 8", lambda x: x / 8, ["mul"]),
    ("quotient by 3 stays", lambda x: x / 3, ["div"]),
    ("square", lambda x: apply("pow", x, constant(x, 2)), ["mul"]),
    ("cube", lambda x: apply("pow", x, constant(x, 3)), ["mul", "mul"]),
    ("inverse", lambda x: apply("pow", x, constant(x, -1)), ["reciprocal"]),
    ("mean, then flattened", lambda x: x.reshape(2, 3, 4).mean(2, keepdims=True).reshape(2, 3), ["reshape", "mean"]),
    ("map of a transpose", lambda x: tb.relu((x + 1).T).T, ["add", "relu"]),
    ("maps of a transpose", lambda x: (tb.exp(x.T) * 2 - constant(x, np.ones((6, 1)))).T, ["exp", "mul", "sub"]),
    ("row constant of a transpose", lambda x: (x.T + constant(x, np.arange(4))).T, ["add"]),
    ("sum of transposes", lambda x: tb.sin(x.T) + tb.cos(x.T), ["sin", "cos", "add", "transpose"]),
    (
        "transposes of two orders stay",
        lambda x: x.reshape(2, 2, 6).transpose(1, 0, 2) + tb.exp(x).reshape(2, 2, 6),
        ["reshape", "transpose", "exp", "reshape", "add"],
    ),
    (
        "what follows a reshaped product",
        lambda x: tb.tanh((x @ constant(x, np.ones((6, 8)))).reshape(1, 4, 8) + constant(x, np.arange(8))),
        ["matmul", "add", "tanh", "reshape"],
    ),
    (
        "sum of two that are reshaped",
        lambda x: tb.exp(x).reshape(24) * tb.sin(x).reshape(24),
        ["exp", "sin", "mul", "reshape"],
    ),
    (
        "a constant is reshaped along",
        lambda x: tb.exp(x).reshape(2, 12) * constant(x, np.arange(24).reshape(2, 12)),
        ["exp", "mul", "reshape"],
    ),
    (
        "a reshape that a constant broadcasts along stays",
        lambda x: tb.exp(x).reshape(2, 12) * constant(x, np.arange(2).reshape(2, 1)),
        ["exp", "reshape", "mul"],
    ),
    (
        "transpose that broadcasts stays",
        lambda x: x.reshape(1, 24).T + constant(x, np.ones((1, 5))),
        ["reshape", "add"],
    ),
    ("concat of transposes", lambda x: tb.concatenate([x.T, tb.exp(x.T)], 1).T, ["exp", "concat"]),
    ("slice of a transpose", lambda x: x.T[1:5, ::2].T, ["slice"]),
    ("pad of a transpose", lambda x: tb.pad(x.T, [(1, 2), (3, 0)]).T, ["pad"]),
    ("sum over a transpose", lambda x: x.reshape(2, 2, 6).transpose(2, 0, 1).sum((0, 1)), ["reshape", "sum"]),
    (
        "what a sum keeps is in order",
        lambda x: x.reshape(2, 2, 6).transpose(2, 1, 0).sum(1),
        ["reshape", "sum", "transpose"],
    ),
    ("kept axes of a sum", lambda x: x.T.sum(0, keepdims=True).T, ["sum"]),
    (
        "softmax over rows",
        lambda x: tb.softmax(x.reshape(2, 2, 6).transpose(1, 0, 2), 2),
        ["reshape", "softmax", "transpose"],
    ),
    ("softmax over columns stays", lambda x: tb.softmax(x.T, 1).T, ["transpose", "softmax", "transpose"]),
    ("position matters", lambda x: tb.tril(x.T).T, ["transpose", "trilu", "transpose"]),
    ("pad of nothing", lambda x: tb.pad(x + 1, [(0, 0), (0, 0)]), ["add"]),
    ("pad and crop stays", lambda x: tb.pad(x + 1, [(1, -1), (0, 0)]), ["add", "pad"]),
    (
        "pad of a reshape",
        lambda x: tb.pad(tb.exp(x).reshape(2, 2, 6), [(0, 0), (0, 0), (1, -1)]),
        ["exp", "reshape", "pad"],
    ),
    (
        "channels of a reshape",
        lambda x: normalised(x, tb.exp(x).reshape(2, 12), 12),
        ["batch_norm", "exp", "reshape"],
    ),
    (
        "channels of a reshape to as many rows",
        lambda x: normalised(x, tb.exp(x).reshape(1, 4, 6).reshape(4, 6), 6),
        ["batch_norm", "exp"],
    ),
    ("two outputs", lambda x: (x.T.T, x + 0.0 * x, x), ["mul", "add", "identity", "identity"]),
]


@pytest.mark.parametrize(("name", "fn", "left"), CANONICAL_CASES, ids=[c[0] for c in CANONICAL_CASES])
def test_canonicalise(name: str, fn: Callable[..., Any], left: list[str]) -> None:
    assert sorted(after(fn, (4, 6), passes=CANONICAL, tolerance=1e-6)) == sorted(left)


def test_dead_code() -> None:
    def fn(x: Any) -> Any:
        tb.exp(tb.sin(x))
        constant(x, f32(9))
        return x + 1

    assert after(fn, (3,), passes=(EliminateDeadCode(),)) == ["add"]


def test_common_subexpressions() -> None:
    def fn(x: Any, y: Any) -> Any:
        return tb.exp(x + y) * tb.exp(y + x) - tb.exp(x - y)

    assert after(fn, (3,), (3,), passes=(ShareCommonSubexpressions(),)) == ["add", "exp", "mul", "sub", "exp", "sub"]

    def different(x: Any) -> Any:
        return tb.leaky_relu(x, 0.0) + tb.leaky_relu(x, -0.0) + tb.leaky_relu(x, 0.5)

    assert ops(tb.trace(different, tb.spec("f32", (3,))).graph).count("leaky_relu") == 3
    assert after(different, (3,), passes=(ShareCommonSubexpressions(),)).count("leaky_relu") == 3

    def outputs(x: Any) -> Any:
        return tb.exp(x), tb.exp(x)

    assert after(outputs, (3,), passes=(ShareCommonSubexpressions(),)) == ["exp", "identity"]


def test_constants_are_folded() -> None:
    w = f32(200, 100)

    def fn(x: Any) -> Any:
        weight = lift(x.writer, w)
        return x @ (weight * 2).T

    assert after(fn, (3, 100), passes=(FoldConstants(),)) == ["matmul"]

    def grows(x: Any) -> Any:
        return x + tb.broadcast_to(lift(x.writer, w[0]), (200, 100))

    assert after(grows, (200, 100), passes=(FoldConstants(),)) == ["expand", "add"]


def normalised(x: Any, y: Any, channels: int) -> Any:
    p = [f32(channels), f32(channels), f32(channels), np.abs(f32(channels)) + np.float32(0.1)]
    return tb.batch_norm(y, *p, epsilon=1e-3)


FOLD = (FoldBatchNorms(), EliminateDeadCode())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_into_convolutions(bias: bool, groups: int) -> None:
    def fn(x: Any) -> Any:
        y = tb.conv(x, f32(6, 4 // groups, 3, 3), f32(6) if bias else None, pads=1, groups=groups)
        z = tb.conv_transpose(tb.relu(normalised(x, y, 6)), f32(6, 4, 2, 2), strides=2, groups=groups)
        return normalised(x, z, 4 * groups)

    assert after(fn, (2, 4, 5, 7), passes=FOLD, tolerance=1e-4) == ["conv", "relu", "conv_transpose"]


def test_batch_norm_and_bias_into_products() -> None:
    def gemm(x: Any) -> Any:
        y = apply("gemm", x, constant(x, f32(5, 7)), constant(x, f32(5)), trans_b=True, alpha=0.5, beta=2.0)
        return normalised(x, y, 5)

    assert after(gemm, (3, 7), passes=FOLD, tolerance=1e-4) == ["gemm"]

    def linear(x: Any) -> Any:
        return tb.relu(x @ f32(7, 5) + f32(5)) @ f32(5, 2) * f32(2) + np.float32(3)

    assert after(linear, (3, 7), passes=FOLD, tolerance=1e-4) == ["gemm", "relu", "gemm"]


def test_batch_norm_into_a_product_that_is_reshaped() -> None:
    def rows(x: Any) -> Any:
        return normalised(x, (x @ f32(7, 5)).reshape(6, 5), 5)

    assert after(rows, (2, 3, 7), passes=FOLD, tolerance=1e-4) == ["matmul", "add", "reshape"]

    def columns(x: Any) -> Any:
        return normalised(x, (x @ f32(7, 5)).reshape(5, 6), 6)

    assert after(columns, (2, 3, 7), passes=FOLD, tolerance=1e-4) == ["matmul", "reshape", "mul", "add"]


def test_channels_are_no_other_axis_of_as_many() -> None:
    def fn(x: Any) -> Any:
        return normalised(x, tb.exp(x).reshape(4, 4), 4)

    assert after(fn, (1, 4, 4), passes=CANONICAL, tolerance=1e-6) == ["exp", "reshape", "batch_norm"]

    def turned(x: Any) -> Any:
        return normalised(x, tb.exp(x).T, 4)

    assert after(turned, (4, 4), passes=CANONICAL, tolerance=1e-6) == ["exp", "transpose", "batch_norm"]


def test_batch_norm_alone_becomes_a_product_and_a_sum() -> None:
    assert after(lambda x: normalised(x, x, 4), (2, 4, 3), passes=FOLD, tolerance=1e-5) == ["mul", "add"]


def test_a_convolution_that_others_read_stays() -> None:
    def fn(x: Any) -> Any:
        y = tb.conv(x, f32(4, 4, 1, 1))
        return normalised(x, y, 4), y

    assert after(fn, (1, 4, 3, 3), passes=FOLD, tolerance=1e-5) == ["conv", "mul", "add"]


def test_a_residual_sum_is_no_bias() -> None:
    def fn(x: Any) -> Any:
        return tb.conv(x, f32(4, 4, 1, 1)) + f32(1, 4, 3, 3)

    assert after(fn, (1, 4, 3, 3), passes=FOLD, tolerance=1e-5) == ["conv", "add"]


def test_batch_norm_is_folded_in_double_precision() -> None:
    """Folding rounds once: with exactly representable factors the weights are exact."""
    w, scale = f32(2, 3, 1, 1), np.array([2, 0.5], np.float32)

    def fn(x: Any) -> Any:
        zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
        return tb.batch_norm(tb.conv(x, w), scale, zero, zero, one, epsilon=0.0)

    module = tb.trace(fn, tb.spec("f32", (1, 3, 2, 2)))
    graph = FoldBatchNorms().run(module.graph, module.constants)
    folded = [module.constants.typed(c) for c in graph.constants]
    assert any(a.shape == w.shape and (a == w * scale.reshape(2, 1, 1, 1)).all() for a in folded)


def test_a_fold_that_would_overflow_is_left() -> None:
    def fn(x: Any) -> Any:
        return tb.conv(x, np.full((1, 1, 1), 1e30, np.float32)) * np.full((1, 1, 1), 1e30, np.float32)

    module = tb.trace(fn, tb.spec("f32", (1, 1, 3)))
    assert ops(FoldBatchNorms().run(module.graph, module.constants)) == ["conv", "mul"]


def test_a_whole_block() -> None:
    def fn(x: Any) -> Any:
        y = tb.relu(normalised(x, tb.conv(x, f32(4, 4, 3, 3), pads=1), 4))
        y = normalised(x, tb.conv(y, f32(4, 4, 3, 3), pads=1), 4)
        y = tb.relu(y + x)
        return (y.mean((2, 3), keepdims=True).reshape(-1, 4) @ (f32(10, 4).T.copy()) + f32(10)).astype("f32")

    left = after(fn, (2, 4, 6, 5), passes=SIMPLIFY, tolerance=1e-4)
    assert left == ["conv", "relu", "conv", "add", "relu", "mean", "gemm"]


def quantized(x: Any, scale: float, zero: int = 3, to: str = "i8") -> Any:
    dtype = {"i8": np.int8, "u8": np.uint8, "i32": np.int32}[to]
    return apply("quantize", x, constant(x, scale), lift(x.writer, np.asarray(zero, dtype)), to=DTYPES[to])


def dequantized(q: Any, scale: float, zero: int = 3) -> Any:
    return apply("dequantize", q, constant(q, scale), lift(q.writer, np.asarray(zero, q.dtype.numpy)))


QUANTIZATION_CASES: list[tuple[str, Callable[..., Any], list[str]]] = [
    ("back and forth", lambda x: quantized(dequantized(quantized(x, 0.1), 0.1), 0.1), ["quantize"]),
    (
        "reshaped between",
        lambda x: quantized(dequantized(quantized(x, 0.1), 0.1).reshape(24).T, 0.1),
        ["quantize", "reshape"],
    ),
    (
        "pooled between",
        lambda x: quantized(
            tb.max_pool(dequantized(quantized(x, 0.1), 0.1).reshape(1, 1, 4, 6), (3, 3), pads=(1, 1, 1, 1)), 0.1
        ),
        ["quantize", "reshape", "max_pool"],
    ),
    ("maximum between", lambda x: quantized(dequantized(quantized(x, 0.3), 0.3).max(0), 0.3), ["quantize", "amax"]),
    (
        "another scale stays",
        lambda x: quantized(dequantized(quantized(x, 0.1), 0.1), 0.2),
        ["quantize", "dequantize", "quantize"],
    ),
    (
        "another zero point stays",
        lambda x: quantized(dequantized(quantized(x, 0.1), 0.1), 0.1, 4),
        ["quantize", "dequantize", "quantize"],
    ),
    (
        "another type stays",
        lambda x: quantized(dequantized(quantized(x, 0.1), 0.1), 0.1, 3, "u8"),
        ["quantize", "dequantize", "quantize"],
    ),
    (
        "a denormal scale stays",
        lambda x: quantized(dequantized(quantized(x, 1e-40), 1e-40), 1e-40),
        ["quantize", "dequantize", "quantize"],
    ),
    ("the first rounding stays", lambda x: dequantized(quantized(x, 0.1), 0.1), ["quantize", "dequantize"]),
    (
        "a sum between stays",
        lambda x: quantized(dequantized(quantized(x, 0.1), 0.1).sum(0), 0.1),
        ["quantize", "dequantize", "sum", "quantize"],
    ),
]


@pytest.mark.parametrize(("name", "fn", "left"), QUANTIZATION_CASES, ids=[c[0] for c in QUANTIZATION_CASES])
def test_quantization_pairs(name: str, fn: Callable[..., Any], left: list[str]) -> None:
    assert sorted(after(fn, (4, 6), passes=CANONICAL)) == sorted(left)


@pytest.mark.parametrize("scale", [1.0, 0.1, 1e-3, 7.7, 3e-20, 5e20])
@pytest.mark.parametrize(("to", "dtype"), [("i8", np.int8), ("u8", np.uint8), ("i16", np.int16)])
def test_a_pair_gives_back_every_integer(scale: float, to: str, dtype: Any) -> None:
    limits = np.iinfo(dtype)
    every = np.arange(limits.min, limits.max + 1).astype(dtype)
    for zero in (limits.min, 0, 5, limits.max):
        params = [np.float32(scale), np.asarray(zero, dtype)]
        (wide,) = evaluate_operator("dequantize", [every, *params], {})
        (back,) = evaluate_operator("quantize", [wide, *params], {"to": DTYPES[to]})
        np.testing.assert_array_equal(back, every)


def window(fn: Callable[..., Any], *more: np.ndarray, shape: tuple[int, ...] = (2, 3, 9, 11)) -> list[str]:
    """What FoldPads leaves of a function of an image and constants."""
    return after(
        lambda x: fn(x, *(constant(x, a) for a in more)),
        shape,
        passes=(FoldPads(), EliminateDeadCode()),
        tolerance=1e-4,
    )


def test_pads_go_into_windows() -> None:
    w = f32(4, 3, 3, 3)
    around = [(0, 0), (0, 0), (1, 2), (0, 3)]
    assert window(lambda x, w: tb.conv(tb.pad(x, around), w), w) == ["conv"]
    assert window(lambda x, w: tb.conv(tb.pad(x, around), w, strides=(2, 3), pads=(2, 0, 1, 1)), w) == ["conv"]
    assert window(lambda x: tb.average_pool(tb.pad(x, around), (3, 2))) == ["average_pool"]
    assert window(lambda x: tb.max_pool(tb.pad(x, around, constant_values=-np.inf), (3, 2), strides=(2, 2))) == [
        "max_pool"
    ]
    small = [(0, 0), (0, 0), (1, 1), (1, 1)]
    assert window(lambda x: tb.max_pool(tb.pad(tb.relu(x), small), (3, 3), strides=(2, 2))) == ["relu", "max_pool"]
    both = window(lambda x, w: (tb.conv(tb.pad(x, around), w), tb.pad(x, around)), w)
    assert sorted(both) == ["conv", "pad"]


@pytest.mark.parametrize(
    ("why", "fn"),
    [
        (
            "ones are no zeros",
            lambda x, w: tb.conv(tb.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=1.0), w),
        ),
        ("channels are no window", lambda x, w: tb.conv(tb.pad(x[:, :2], [(0, 0), (0, 1), (1, 1), (1, 1)]), w)),
        ("edges are no zeros", lambda x, w: tb.conv(tb.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge"), w)),
        ("a cut is no padding", lambda x, w: tb.conv(tb.pad(x, [(0, 0), (0, 0), (-1, 1), (1, 1)]), w)),
        ("zeros show in a maximum", lambda x, w: tb.max_pool(tb.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]), (3, 3))),
        (
            "a window of zeros only",
            lambda x, w: tb.max_pool(tb.pad(tb.relu(x), [(0, 0), (0, 0), (3, 3), (3, 3)]), (3, 3)),
        ),
        (
            "an average that does not count its padding",
            lambda x, w: tb.average_pool(tb.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]), (3, 3), pads=(1, 1, 1, 1)),
        ),
    ],
)
def test_pads_that_stay(why: str, fn: Callable[..., Any]) -> None:
    assert "pad" in window(fn, f32(4, 3, 3, 3)), why


def test_a_large_transposed_weight_is_read_as_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LARGE", 200 * 150)
    large, small = f32(200, 150), f32(199, 150)
    passes = (Canonicalise(), FoldConstants(), EliminateDeadCode())
    for shape in ((3, 150), (2, 3, 150), (150,), (0, 150)):
        assert after(lambda x: x @ tb.transpose(lift(x.writer, large)), shape, passes=passes, tolerance=1e-4) == [
            "einsum"
        ]
        assert after(lambda x: x @ tb.transpose(lift(x.writer, small)), shape, passes=passes, tolerance=1e-4) == [
            "matmul"
        ]
    # the copy is made where something else needs it
    assert (
        after(
            lambda x: (x @ tb.transpose(lift(x.writer, large)), tb.transpose(lift(x.writer, large)) * x[0, 0]),
            (3, 150),
            passes=passes,
            tolerance=1e-4,
        ).count("einsum")
        == 1
    )


def test_what_nobody_reads_is_not_folded() -> None:
    module = tb.trace(lambda x: x + 1.0, tb.spec("f32", (2,)))
    name = "k_wide"
    graph = module.graph
    array = f32(300, 300)
    constant = Constant(name, module.constants.put(array), tensor_type("f32", (300, 300)))
    node = Node("exp", "dead", (name,), (Value("never", constant.type),))
    graph = replace(graph, constants=(*graph.constants, constant), nodes=(node, *graph.nodes))
    count = len(module.constants.arrays)
    assert ops(FoldConstants().run(graph, module.constants)) == ["exp", "add"]
    assert len(module.constants.arrays) == count
