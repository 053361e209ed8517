"""Strided transposed convolutions become ordinary ones that mean the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tcompiler.frontend.builder as tb
from tcompiler.frontend.tensor import apply, lift
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.graph.grammar import Graph
from tcompiler.ir.graph.verify import verify
from tcompiler.ops.registry import get
from tcompiler.ops.residues import MOST_CLASSES
from tcompiler.target.named import NAMED
from tcompiler.transform.passes import SplitPhases


def split(
    shape: tuple[int, ...], weight: tuple[int, ...], bias: bool = False, target: str = "x86-64-v3", **attrs: Any
) -> Graph:
    """Runs the pass on one transposed convolution and compares; returns the graph."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal(weight)
    b = rng.standard_normal(weight[1] * attrs.get("groups", 1)) if bias else None

    def fn(x: Any) -> Any:
        operands = [lift(x.writer, a) for a in (w, b) if a is not None]
        return apply("conv_transpose", x, *operands, **attrs)

    module = tb.trace(fn, tb.spec("f64", shape))
    x = rng.standard_normal(shape)
    after = SplitPhases(NAMED[target]).run(module.graph, module.constants)
    verify(after, operators=get, constants=module.constants)
    results = []
    for graph in (module.graph, after):
        found = evaluate(graph, {graph.inputs[0].name: x}, operators=get, constants=module.constants)
        results.append(found[graph.outputs[0].name])
    assert results[0].shape == results[1].shape
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12, atol=1e-12)
    return after


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("taps", [1, 2, 3, 5])
@pytest.mark.parametrize("pad", [(0, 0), (1, 1), (0, 2), (3, 0), (-1, -2)])
def test_one_axis(bias: bool, groups: int, stride: int, taps: int, pad: tuple[int, int]) -> None:
    extra = stride - 1
    graph = split((2, 2, 5), (2, 3, taps), bias, strides=(stride,), pads=pad, groups=groups, output_padding=(extra,))
    assert {n.op for n in graph.nodes} == {"conv_residues"}


@pytest.mark.parametrize("strides", [(2, 1), (1, 3), (2, 3), (4, 4)])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 2, 0, 1), (2, 2, 2, 2)])
def test_two_axes(strides: tuple[int, int], pads: tuple[int, int, int, int]) -> None:
    split((1, 3, 4, 5), (3, 2, 4, 5), True, strides=strides, pads=pads)


@pytest.mark.parametrize("strides", [(2, 1), (3, 2), (4, 4)])
@pytest.mark.parametrize("taps", [(4, 5), (1, 3)])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 2, 0, 1), (-1, 3, 2, -2)])
def test_many_filters(strides: tuple[int, int], taps: tuple[int, int], pads: tuple[int, int, int, int]) -> None:
    """Filters that fill vectors; phases of one shape where the strides divide the kernel."""
    graph = split((1, 3, 4, 5), (3, 8, *taps), True, strides=strides, pads=pads, output_padding=(0, 0))
    even = all(t % s == 0 for t, s in zip(taps, strides, strict=True))
    assert [n.op for n in graph.nodes] == ["conv_phases" if even else "conv_residues"]


def test_three_axes() -> None:
    split((1, 2, 3, 2, 4), (2, 2, 3, 2, 4), strides=(2, 2, 3), pads=(1, 0, 2, 0, 1, 1))


def test_what_stays() -> None:
    for attrs in ({}, {"dilations": (2,)}):
        graph = split((1, 2, 5), (2, 3, 3), **attrs)
        assert [n.op for n in graph.nodes] == ["conv_transpose"]


@pytest.mark.parametrize("stride", [2, 3, 4, 6])
@pytest.mark.parametrize("dilation", [2, 3, 4])
@pytest.mark.parametrize("pad", [(0, 0), (3, 1), (-2, 4)])
def test_dilated(stride: int, dilation: int, pad: tuple[int, int]) -> None:
    """Phases that no tap reaches, and taps that lie apart in the data."""
    split((1, 2, 5), (2, 3, 4), True, strides=(stride,), dilations=(dilation,), pads=pad, output_padding=(1,))


def test_residues_without_taps() -> None:
    """Positions that no tap reaches are zero, or the bias: nothing is multiplied for them."""
    graph = split((1, 2, 3, 4), (2, 3, 2, 1), True, strides=(3, 2), pads=(1, 0, 0, 0), output_padding=(1, 1))
    (node,) = graph.nodes
    assert len(node.inputs) == 4, "the data, two classes of rows by one of columns, and the bias"


def test_joined_classes() -> None:
    """More combinations of classes than there are sums: some are computed together, with zeros among their weights."""
    graph = split((1, 2, 3, 4), (2, 1, 7, 9), strides=(5, 7), dilations=(2, 3), pads=(3, 1, 2, 4))
    (node,) = graph.nodes
    assert len(node.inputs) <= 1 + MOST_CLASSES


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("taps", [5, 6])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("groups", "bias"), [(1, False), (2, True)])
@pytest.mark.parametrize("pad", [(0, 0), (1, 1), (3, 0), (7, 1), (-1, -2)])
def test_planes_of_one_axis(
    stride: int, taps: int, dilation: int, groups: int, bias: bool, pad: tuple[int, int]
) -> None:
    """Few filters: what all residues of a place read lies in one plane."""
    attrs: dict[str, Any] = {"strides": (stride,), "dilations": (dilation,), "pads": pad, "groups": groups}
    graph = split((2, 8, 9), (8, 3, taps), bias, output_padding=(stride - 1,), **attrs)
    assert [n.op for n in graph.nodes] == ["conv_planes"]


@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (1, 3), (2, 3), (4, 2)])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 2, 0, 1), (2, 3, 3, 2), (-1, -2, 0, -3), (4, 5, -2, 0)])
@pytest.mark.parametrize("taps", [(5, 4), (3, 5)])
def test_planes_of_two_axes(strides: tuple[int, int], pads: tuple[int, ...], taps: tuple[int, int]) -> None:
    """Zeros behind a row of the image are those in front of the next one, wherever the result begins and ends."""
    graph = split((2, 5, 6, 7), (5, 2, *taps), True, strides=strides, pads=pads)
    assert [n.op for n in graph.nodes] == ["conv_planes"]


def test_planes_of_three_axes() -> None:
    graph = split((1, 2, 3, 2, 4), (2, 2, 3, 3, 4), strides=(2, 1, 3), pads=(1, 1, 2, 0, 1, 1))
    assert [n.op for n in graph.nodes] == ["conv_planes"]


@pytest.mark.parametrize(
    ("filters", "target", "op"),
    [
        (8, "x86-64-v3", "conv_phases"),
        (8, "x86-64-v4", "conv_planes"),
        (12, "x86-64-v3", "conv_planes"),
        (16, "x86-64-v4", "conv_phases"),
        (2, "x86-64-v3", "conv_planes"),
    ],
)
def test_planes_where_filters_do_not_fill_vectors(filters: int, target: str, op: str) -> None:
    rng = np.random.default_rng(3)
    w = rng.standard_normal((16, filters, 4, 4)).astype(np.float32)
    module = tb.trace(
        lambda x: apply("conv_transpose", x, lift(x.writer, w), strides=(2, 2), pads=(1, 1, 1, 1)),
        tb.spec("f32", (1, 16, 13, 14)),
    )
    after = SplitPhases(NAMED[target]).run(module.graph, module.constants)
    assert [n.op for n in after.nodes] == [op]


def test_places_that_are_read_by_themselves_stay_in_tiles() -> None:
    """Taps that the strides reach just once: a tile interleaves the phases, and nothing lies beside another place."""
    graph = split((1, 16, 5, 6), (16, 3, 2, 2), strides=(2, 2))
    assert [n.op for n in graph.nodes] == ["conv_residues"]


@pytest.mark.parametrize(("pad", "op"), [(2, "conv_planes"), (0, "conv_transpose")])
def test_planes_where_few_taps_lie_outside(pad: int, op: str) -> None:
    """Tiles leave out the taps that lie outside the data, of which there are many without padding; planes do not."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal((16, 19, 5, 5)).astype(np.float32)
    module = tb.trace(
        lambda x: apply("conv_transpose", x, lift(x.writer, w), pads=(pad,) * 4), tb.spec("f32", (1, 16, 30, 33))
    )
    after = SplitPhases(NAMED["x86-64-v4"]).run(module.graph, module.constants)
    assert [n.op for n in after.nodes] == [op]
