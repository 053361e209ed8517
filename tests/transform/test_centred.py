"""Constants moved to around zero: the graph means the same, and products are those of weights within ±64."""

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
from tcompiler.target.named import get
from tcompiler.transform.centred import CenterConstants
from tcompiler.transform.cleanup import EliminateDeadCode
from tcompiler.transform.zero_points import FoldZeroPoints

RNG = np.random.default_rng(0)
W = RNG.integers(0, 128, (20, 33)).astype(np.int32) - 3
F = RNG.integers(-100, 29, (37, 3, 3, 2)).astype(np.int32)


def matmul(x: Any, weights: np.ndarray = W) -> Any:
    return (x.astype("i32") - 7) @ weights


def conv(x: Any) -> SymbolicTensor:
    return apply("conv", x.astype("i32") - 7, lift(writer_of(x), F), None, pads=(1, 0, 2, 1), strides=(1, 2))


def biased(x: Any) -> SymbolicTensor:
    bias = np.arange(37, dtype=np.int32)
    return apply("conv", x.astype("i32") - 7, lift(writer_of(x), F), lift(writer_of(x), bias), strides=(1, 2))


def centred(module: GraphModule, first: bool, machine: str = "x86-64-v3") -> GraphModule:
    graph = FoldZeroPoints().run(module.graph, module.constants) if first else module.graph
    after = CenterConstants(get(machine)).run(graph, module.constants)
    return GraphModule(EliminateDeadCode().run(after, module.constants), module.constants)


def whole_bytes(x: Any) -> Any:
    """Weights of eight bits with a zero point."""
    return matmul(x, np.concatenate([W * 2 - 104, [[-110] * 33, [145] * 33]]).astype(np.int32))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("dtype", ["u8", "i8"])
@pytest.mark.parametrize(
    "product, shape, machine, limits",
    [
        (matmul, (9, 20), "x86-64-v3", (-64, 64)),
        (matmul, (2, 9, 20), "x86-64-v3", (-64, 64)),
        (conv, (2, 3, 6, 5), "x86-64-v3", (-64, 64)),
        (biased, (2, 3, 6, 5), "x86-64-v3", (-64, 64)),
        (whole_bytes, (9, 22), "znver5", (-128, 127)),
    ],
)
def test_the_product_means_the_same(
    product: Callable[..., Any], shape: tuple[int, ...], machine: str, limits: tuple[int, int], dtype: str, first: bool
) -> None:
    module = tc.trace(product, x=tc.spec(dtype, shape))
    after = centred(module, first, machine)
    factors = [
        after.constants.typed(c)
        for n in after.graph.nodes
        if n.op in ("conv", "matmul")
        for c in after.graph.constants
        if c.name == n.inputs[1]
    ]
    assert limits[0] <= min(f.min() for f in factors) and max(f.max() for f in factors) <= limits[1]
    info = np.iinfo(np.int8 if dtype == "i8" else np.uint8)
    x = RNG.integers(info.min, info.max, shape, info.dtype, endpoint=True)
    name = module.graph.inputs[0].name
    (expected,) = evaluate(module.graph, {name: x}, operators=operator, constants=module.constants).values()
    (found,) = evaluate(after.graph, {name: x}, operators=operator, constants=after.constants).values()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "weights, rows, machine",
    [
        (W % 65, 9, "x86-64-v3"),  # around zero already
        (W * 2, 9, "x86-64-v3"),  # wider than ±64 of anything
        (W[:, :31], 9, "x86-64-v3"),  # few columns
        (W, 7, "x86-64-v3"),  # few rows
        (W, 9, "znver5"),  # signed bytes already
        (W * 3, 9, "znver5"),  # wider than a byte
    ],
)
def test_what_would_not_gain_stays(weights: np.ndarray, rows: int, machine: str) -> None:
    module = tc.trace(lambda x: x.astype("i32") @ weights, x=tc.spec("u8", (rows, 20)))
    assert centred(module, False, machine).graph is module.graph


def test_groups_stay() -> None:
    weights = np.tile(F[:32, :1], (2, 1, 1, 1))
    module = tc.trace(
        lambda x: apply("conv", x.astype("i32"), lift(writer_of(x), weights), None, groups=2),
        x=tc.spec("u8", (1, 2, 9, 9)),
    )
    assert centred(module, False).graph is module.graph


def test_extremes_are_exact() -> None:
    weights = np.tile(np.array([[-10], [118]], np.int32), (16, 40))
    model = tc.compile(tc.trace(lambda x: x.astype("i32") @ weights, x=tc.spec("u8", (11, 32))))
    x = np.full((11, 32), 255, np.uint8)
    np.testing.assert_array_equal(model(x), x.astype(np.int32) @ weights)
