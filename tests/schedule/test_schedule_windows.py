"""Convolutions over few channels at a time, and pooling: right beside onnxruntime, and scheduled as they should be."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import tcompiler as tc
from tcompiler import api
from tcompiler.ir.expr.text import parse_program
from tcompiler.ir.layout import Layout, permutation
from tcompiler.ir.scalar.grammar import index
from tcompiler.lower.function import lower
from tcompiler.schedule.rules.default import default_schedule
from tcompiler.target.named import NAMED


def model(node: onnx.NodeProto, data: tuple[int, ...], weight: tuple[int, ...] | None, before: int = 0) -> bytes:
    """A model of one node, perhaps behind a 1×1 convolution, which gives its data channels last."""
    rng = np.random.default_rng(0)
    nodes, given = [node], [] if weight is None else [("w", weight)]
    shape = data
    if before:
        node.input[0] = "z"
        nodes.insert(0, helper.make_node("Conv", ["x", "v"], ["z"]))
        given.append(("v", (data[1], before, 1, 1)))
        shape = (data[0], before, *data[2:])
        nodes.append(helper.make_node("Conv", ["a", "u"], ["y"]))
        node.output[0] = "a"
        given.append(("u", (4, (weight or (data[1],))[0], 1, 1)))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in given],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True).SerializeToString()


def check(raw: bytes, tmp_path: Any, threads: int) -> dict[str, str]:
    """Compares the results; gives the texts of the schedules."""
    path = tmp_path / "m.onnx"
    path.write_bytes(raw)
    session = ort.InferenceSession(raw, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal(session.get_inputs()[0].shape).astype(np.float32)
    (expected,) = session.run(None, {"x": x})
    found = np.asarray(tc.compile(path, threads=threads)(x))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))
    texts = api.compile_stages(path, "scheduled", threads=threads).texts
    return {k: v for k, v in texts.items() if k.startswith("scheduled/")}


DEPTHWISE = [
    # data, kernel, stride, pad, dilation
    ((1, 5, 14, 14), 3, 1, 1, 1),
    ((2, 3, 7, 9), 3, 1, 1, 1),
    ((1, 4, 15, 29), 3, 2, 1, 1),
    ((1, 3, 13, 17), 5, 2, 2, 1),
    ((1, 3, 20, 23), 3, 3, 1, 1),
    ((1, 2, 11, 40), 7, 1, 3, 1),
    ((1, 3, 12, 12), 3, 1, 2, 2),
    ((1, 3, 5, 6), 3, 1, 0, 1),
    ((1, 3, 1, 20), 3, 1, 1, 1),
    ((1, 2, 19, 45), 7, 2, 3, 1),
    ((1, 2, 23, 61), 9, 3, 4, 1),
    ((1, 2, 5, 90), 5, 4, 0, 1),
    ((1, 2, 40, 9), 12, 2, 5, 1),
]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("data", "kernel", "stride", "pad", "dilation"), DEPTHWISE)
def test_depthwise(
    data: tuple[int, ...], kernel: int, stride: int, pad: int, dilation: int, channels_last: bool, tmp_path: Any
) -> None:
    """No copy of the padded data is made."""
    channels = 19 if channels_last else data[1]
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], group=channels, strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2
    )
    raw = model(node, (data[0], channels, *data[2:]), (channels, 1, kernel, kernel), 3 if channels_last else 0)
    texts = check(raw, tmp_path, 1 + channels_last)
    assert not any("_pad = alloc" in text for text in texts.values())


@pytest.mark.parametrize(("stride", "rows"), [(1, 7), (2, 3), (3, 3)])
def test_tiles_of_lanes_that_lie_apart_have_few_rows(stride: int, rows: int, tmp_path: Any) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=5, strides=[stride] * 2, pads=[1] * 4)
    (text,) = check(model(node, (1, 5, 21 * stride, 28 * stride), (5, 1, 3, 3)), tmp_path, 1).values()
    assert f"_h_1 in unrolled({rows})" in text


@pytest.mark.parametrize(
    ("taps", "outer", "inner"),
    [(3, ["h_0", "w_0", "c_0"], ["r", "s", "h_1", "w_1", "c_1"]), (7, ["h", "c_0", "w_0"], ["r", "s", "w_1", "c_1"])],
)
def test_tiles_of_channels(taps: int, outer: list[str], inner: list[str]) -> None:
    """Two lines of columns where they can be written out, and channels walked before the next tile; else one line."""
    size = 12 + taps - 1
    program = parse_program(f"""@expr.program
def windows(x: f32[1, 24, {size}, {size}]):
    y = reduce(max, f32[1, 24, 12, 12], ({taps}, {taps}), lambda n, c, h, w, r, s: x[n, c, h + r, w + s])
    return y
""")
    shapes = {"x": (1, size, size, 24), "y": (1, 12, 12, 24)}
    last = {n: Layout(permutation((0, 2, 3, 1)), tuple(map(index, e)), False) for n, e in shapes.items()}
    sch = default_schedule(lower(program, last), NAMED["x86-64-v3"], 1, ())
    assert sch.loops("y_block") == [f"y_{n}" for n in (*outer, *inner)]


@pytest.mark.parametrize(("op", "pads"), [("MaxPool", [1, 1, 1, 1]), ("AveragePool", [1, 0, 0, 1])])
@pytest.mark.parametrize("before", [0, 3])
def test_pooling(op: str, pads: list[int], before: int, tmp_path: Any) -> None:
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 1], pads=pads)
    check(model(node, (1, 20, 15, 18), None, before), tmp_path, 2)


@pytest.mark.parametrize(
    ("data", "weight", "contracted"),
    [
        ((1, 1, 400), (17, 1, 251), True),  # filters read the same line
        ((2, 1, 333), (3, 1, 31), True),
        ((1, 3, 300), (6, 1, 21), True),
        ((1, 1, 400), (1, 1, 201), False),  # one filter
        ((1, 1, 20, 23), (37, 1, 5, 5), True),  # as many filters as fill vectors
        ((1, 1, 20, 23), (3, 1, 5, 5), False),  # rows share more
        ((1, 5, 90, 40), (5, 1, 5, 33), False),
    ],
)
def test_filters_that_share_data(
    data: tuple[int, ...], weight: tuple[int, ...], contracted: bool, tmp_path: Any
) -> None:
    pads = [w // 2 for w in weight[2:]] * 2
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=pads, group=data[1])
    check(model(node, data, weight), tmp_path, 2)
    texts = api.compile_stages(tmp_path / "m.onnx", "scheduled", target="znver5", threads=1).texts
    (text,) = [v for k, v in texts.items() if k.startswith("scheduled/conv")]
    # a contraction copies the padding, windows read it through a guard
    assert ("_pad[" in text) == contracted
    # no tile is left to wait for one sum after the other
    order = [line.split("in ")[1].split("(")[0] for line in text.splitlines() if " in " in line and "for " in line]
    assert ("unrolled", "range") not in pairwise(order)


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("extra", [{}, {"ceil_mode": 1, "strides": [2, 3]}, {"strides": [1, 2]}])
def test_means_end_in_the_tiles_of_their_sums(extra: dict[str, Any], before: int, tmp_path: Any) -> None:
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 4], pads=[1, 2, 2, 1], **extra)
    texts = check(model(node, (1, 40, 14, 17), None, before), tmp_path, 2)
    (text,) = [v for k, v in texts.items() if k.startswith("scheduled/average_pool")]
    assert {line.split('scope="')[1].split('"')[0] for line in text.splitlines() if "alloc(" in line} <= {
        "register",
        "local",
    }
    assert "count" not in text


@pytest.mark.parametrize(
    ("data", "filters", "groups", "kernel", "stride"),
    [
        ((1, 32, 9, 10), 64, 2, 3, 2),
        ((1, 12, 7, 7), 36, 3, 3, 1),
        ((2, 48, 6, 5), 80, 2, 3, 1),
        ((1, 64, 5, 5), 32, 4, 1, 1),
        ((1, 8, 9, 20), 16, 4, 3, 1),
        ((1, 34, 6, 6), 68, 2, 2, 1),
        ((1, 19, 9, 13), 38, 19, 5, 1),
    ],
)
@pytest.mark.parametrize("before", [0, 5])
def test_grouped(
    data: tuple[int, ...], filters: int, groups: int, kernel: int, stride: int, before: int, tmp_path: Any
) -> None:
    """The sums go where the result lies, without a copy by group and filter."""
    pad = kernel // 2
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, strides=[stride] * 2, pads=[pad] * 4)
    raw = model(node, data, (filters, data[1] // groups, kernel, kernel), before)
    texts = check(raw, tmp_path, 1)
    lines = [line for text in texts.values() for line in text.splitlines()]
    assert not any("_acc = alloc(" in line and "register" not in line for line in lines)


@pytest.mark.parametrize(
    ("data", "filters", "kernel", "strides", "pads"),
    [
        ((1, 16, 4, 4), 16, [4, 4], [2, 2], [1, 1, 1, 1]),
        ((2, 5, 4, 3), 24, [4, 5], [2, 1], [0, 0, 1, 1]),
        ((1, 3, 6, 5), 17, [3, 3], [3, 3], [0, 0, 0, 0]),
        ((1, 4, 5, 7), 32, [8, 12], [4, 4], [4, 4, 4, 3]),
    ],
)
def test_transposed(
    data: tuple[int, ...], filters: int, kernel: list[int], strides: list[int], pads: list[int], tmp_path: Any
) -> None:
    """The phases of the result are stored where they belong, lanes side by side."""
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=strides, pads=pads)
    texts = check(model(node, data, (data[1], filters, *kernel)), tmp_path, 2)
    assert any("_phases_acc = alloc" in text for text in texts.values())
    assert not any("_phases = alloc" in text for text in texts.values())


@pytest.mark.parametrize(
    ("data", "filters", "groups", "kernel", "strides", "pads", "dilations"),
    [
        ((1, 1, 9, 20), 2, 1, [9, 9], [4, 4], [4, 4, 4, 4], [1, 1]),
        ((2, 3, 4, 3), 3, 1, [3, 2], [2, 2], [0, 0, 1, 1], [1, 1]),
        ((1, 3, 6, 5), 17, 1, [3, 3], [2, 2], [1, 1, 1, 1], [1, 1]),
        ((1, 6, 5, 7), 16, 3, [5, 4], [3, 2], [2, 0, 1, 3], [1, 3]),
        ((1, 7, 6, 11), 1, 7, [4, 4], [2, 2], [1, 1, 1, 1], [1, 1]),
        ((1, 4, 1, 2), 2, 1, [2, 1], [3, 5], [0, 0, 0, 0], [2, 1]),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_transposed_by_residues(
    data: tuple[int, ...],
    filters: int,
    groups: int,
    kernel: list[int],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    threads: int,
    tmp_path: Any,
) -> None:
    """Every class of positions is summed by itself and stored where it belongs, without a copy of the sums.

    A map that takes columns from sums or from positions that no tap reaches, in turn, needs the sums in memory.
    """
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], strides=strides, pads=pads, dilations=dilations, group=groups
    )
    texts = check(model(node, data, (data[1], filters, *kernel)), tmp_path, threads)
    lines = [line for text in texts.values() for line in text.splitlines() if "_residues" in line and "alloc(" in line]
    assert lines
    reached = dilations[1] * (kernel[1] - 1) + 1 >= strides[1]
    assert all("register" in line or "_pad" in line for line in lines) == reached


PLANES = [
    # data, filters of a group, groups, kernel, strides, pads, dilations, further positions
    ((1, 16, 9, 20), 1, 1, [9, 9], [4, 4], [4, 4, 4, 4], [1, 1], [1, 1]),
    ((2, 5, 4, 3), 3, 1, [3, 5], [2, 1], [0, 0, 1, 1], [1, 1], [0, 0]),
    ((1, 33, 13, 13), 3, 1, [5, 5], [1, 1], [2, 2, 2, 2], [1, 1], [0, 0]),
    ((1, 20, 7, 11), 8, 1, [4, 4], [2, 2], [1, 1, 1, 1], [1, 1], [0, 0]),
    ((1, 17, 6, 33), 4, 1, [5, 5], [2, 2], [2, 1, 1, 3], [1, 1], [1, 0]),
    ((1, 12, 8, 19), 2, 3, [7, 7], [3, 3], [2, 1, 0, 3], [1, 1], [0, 2]),
    ((2, 40, 4, 4), 1, 1, [8, 8], [4, 4], [3, 3, 3, 3], [1, 1], [0, 0]),
    ((1, 9, 5, 6), 5, 1, [3, 2], [2, 2], [3, 0, 2, 1], [3, 1], [0, 0]),
    ((1, 30, 5, 17), 12, 1, [2, 2], [3, 3], [0, 0, 0, 0], [1, 1], [0, 0]),
]


@pytest.mark.parametrize(("data", "filters", "groups", "kernel", "strides", "pads", "dilations", "extra"), PLANES)
@pytest.mark.parametrize("threads", [1, 2])
def test_transposed_by_planes(
    data: tuple[int, ...],
    filters: int,
    groups: int,
    kernel: list[int],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    extra: list[int],
    threads: int,
    tmp_path: Any,
) -> None:
    """Few filters: lanes run along whole planes, and phases are put in turn from vectors, of which none is gathered."""
    node = helper.make_node(
        "ConvTranspose",
        ["x", "w"],
        ["y"],
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=groups,
        output_padding=extra,
    )
    check(model(node, data, (data[1], filters, *kernel)), tmp_path, threads)
    texts = api.compile_stages(tmp_path / "m.onnx", "llvm", target="x86-64-v4", threads=threads).texts
    assert any("_planes = alloc" in text for text in texts.values())
    assert not any("masked.gather" in text for stage, text in texts.items() if stage.startswith("llvm/"))
