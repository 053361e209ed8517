"""Zero points behind products of bytes: the graph means the same, and the bytes are multiplied as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.frontend.module import GraphModule
from tcompiler.frontend.tensor import SymbolicTensor, apply, lift, writer_of
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ops.registry import get as operator
from tcompiler.transform.cleanup import EliminateDeadCode
from tcompiler.transform.narrow import NarrowConstants
from tcompiler.transform.zero_points import FoldZeroPoints

W = np.random.default_rng(0).integers(-128, 128, (40, 7)).astype(np.int32)
F = np.random.default_rng(1).integers(-64, 65, (5, 3, 3, 3)).astype(np.int32)
PADS = (1, 0, 2, 1)


def matmul(x: Any, zero: object) -> Any:
    return (x.astype("i32") - zero) @ W


def conv(x: Any, zero: object) -> SymbolicTensor:
    return apply("conv", x.astype("i32") - zero, lift(writer_of(x), F), None, pads=PADS)


def biased(x: Any, zero: object) -> SymbolicTensor:
    bias = np.arange(5, dtype=np.int32) * 2**29  # sums wrap around
    return apply("conv", x.astype("i32") - zero, lift(writer_of(x), F), lift(writer_of(x), bias), pads=PADS)


SHAPES: dict[Callable[..., Any], tuple[int, ...]] = {matmul: (6, 40), conv: (2, 3, 6, 5), biased: (2, 3, 6, 5)}


def folded(module: GraphModule) -> GraphModule:
    graph = FoldZeroPoints().run(module.graph, module.constants)
    return GraphModule(EliminateDeadCode().run(graph, module.constants), module.constants)


@pytest.mark.parametrize("product", [matmul, conv, biased])
@pytest.mark.parametrize("dtype", ["u8", "i8"])
@pytest.mark.parametrize("known", [True, False])
def test_the_product_means_the_same(product: Callable[..., Any], dtype: str, known: bool) -> None:
    shape = SHAPES[product]
    if known:
        module = tc.trace(lambda x: product(x, np.int32(-3 if dtype == "i8" else 121)), x=tc.spec(dtype, shape))
    else:
        module = tc.trace(lambda x, z: product(x, z.astype("i32")), x=tc.spec(dtype, shape), z=tc.spec(dtype, ()))
    after = folded(module)
    # what surrounds an image has to be known to be put there
    assert (after.graph is module.graph) == (product is not matmul and not known)
    rng = np.random.default_rng(2)
    info = np.iinfo(np.int8 if dtype == "i8" else np.uint8)
    x = rng.integers(info.min, info.max, shape, info.dtype, endpoint=True)
    arrays = [x, np.array(info.min, info.dtype)]
    inputs = {v.name: a for v, a in zip(module.graph.inputs, arrays, strict=False)}
    expected = evaluate(module.graph, inputs, operators=operator, constants=module.constants)
    found = evaluate(after.graph, inputs, operators=operator, constants=after.constants)
    # what is added anyway is added once
    assert product is not biased or not known or [n.op for n in after.graph.nodes][-1] == "conv"
    for a, b in zip(expected.values(), found.values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_few_products_keep_their_subtraction() -> None:
    short = tc.trace(lambda x: (x.astype("i32") - 3) @ W[:4], x=tc.spec("u8", (6, 4)))
    assert folded(short).graph is short.graph


def test_floats_and_variable_factors_stay() -> None:
    module = tc.trace(
        lambda x, y: (x.astype("i32") - 3) @ y.astype("i32"), x=tc.spec("u8", (6, 40)), y=tc.spec("i8", (40, 5))
    )
    assert folded(module).graph is module.graph


@pytest.mark.parametrize("most, clips", [(64, 1), (65, 0)])
def test_small_constants_say_so(most: int, clips: int) -> None:
    weights = np.array([[-64, 3], [most, 5]], np.int32)
    module = tc.trace(lambda x: x.astype("i32") @ weights, x=tc.spec("u8", (3, 2)))
    graph = NarrowConstants(operator).run(module.graph, module.constants)
    assert [n.op for n in graph.nodes].count("max") == clips
    x = np.array([[255, 255], [0, 255], [1, 2]], np.uint8)
    (found,) = evaluate(graph, {graph.inputs[0].name: x}, operators=operator, constants=module.constants).values()
    np.testing.assert_array_equal(found, x.astype(np.int32) @ weights)


def test_factors_that_share_no_lanes_are_not_clipped() -> None:
    # each channel has filters of its own, and no vector of weights is used by many products
    weights = np.ones((4, 1, 3, 3), np.int32)
    module = tc.trace(
        lambda x: apply("conv", x.astype("i32"), lift(writer_of(x), weights), None, groups=4),
        x=tc.spec("u8", (1, 4, 8, 8)),
    )
    graph = NarrowConstants(operator).run(module.graph, module.constants)
    assert "max" not in [n.op for n in graph.nodes]
