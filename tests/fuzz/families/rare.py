"""Operators that few networks have: sampling, deformation, windows back to images, spectra, and loops."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.convolution import window
from tests.fuzz.families.table import family


@family("sample", opsets=(22, 20, 16), weight=3)
def sample(d: Draw) -> None:
    """Data read between its elements, at places inside and outside of it."""
    n, c = d.choice((1, 1, 2)), d.dim(7)
    pick = d.integer(0, 1)
    if pick == 0:
        modes = ("linear", "nearest", "cubic") if d.opset >= 20 else ("bilinear", "nearest", "bicubic")
        mode = d.choice(modes)
        x = d.input((n, c, d.dim(9) + 1, d.dim(9) + 1))
        # nearest jumps where a place falls between two elements: few places do so exactly, and none within rounding
        grid = d.given(d.rng.uniform(-1.3, 1.3, (n, d.dim(9), d.dim(9), 2)).astype(np.float32))
        padding = d.choice(("zeros", "border", "reflection"))
        d.result(d.node("GridSample", x, grid, mode=mode, padding_mode=padding, align_corners=d.integer(0, 1)))
        return
    x = d.input((n, c, d.dim(9) + 2, d.dim(9) + 2))
    count = d.integer(1, 5)
    low = d.rng.uniform(0, 4, (count, 2))
    boxes = d.given(np.concatenate([low, low + d.rng.uniform(0.5, 9, (count, 2))], axis=1).astype(np.float32))
    which = d.given(d.rng.integers(0, n, count).astype(np.int64))
    y = d.node_as(
        "RoiAlign",
        np.dtype("float32"),
        (count, c, 3, 2),
        x,
        boxes,
        which,
        output_height=3,
        output_width=2,
        sampling_ratio=d.choice((1, 2, 3)),
        spatial_scale=d.choice((1.0, 0.5)),
        mode="avg",
        coordinate_transformation_mode=d.choice(("half_pixel", "output_half_pixel")),
    )
    d.result(y)


@family("windows", opsets=(22, 19), weight=3)
def windows(d: Draw) -> None:
    """Columns back to images, maxima back to their places, deformed convolutions."""
    pick = d.integer(0, 2)
    if pick == 0:
        w = window(d, 2, 60)
        n, c = d.choice((1, 2)), d.dim(5)
        blocks = 1
        for k in range(2):
            span = (w.kernel[k] - 1) * w.dilations[k] + 1
            blocks *= (w.space[k] + w.pads[k] + w.pads[2 + k] - span) // w.strides[k] + 1
        x = d.input((n, c * w.kernel[0] * w.kernel[1], blocks))
        image, block = d.constant(list(w.space)), d.constant(list(w.kernel))
        attrs = {"dilations": list(w.dilations), "pads": list(w.pads), "strides": list(w.strides)}
        d.result(d.node_as("Col2Im", x.dtype, (n, c, *w.space), x, image, block, **attrs))
    elif pick == 1:
        side = 2 * d.integer(1, 6)
        x = d.input((d.choice((1, 2)), d.dim(5), side, side))
        y, at = d.node_of("MaxPool", 2, x, kernel_shape=[2, 2], strides=[2, 2])
        d.result(d.node_as("MaxUnpool", x.dtype, x.shape, y, at, kernel_shape=[2, 2], strides=[2, 2]))
    else:
        n, groups, inside, outside = d.choice((1, 2)), d.choice((1, 1, 2)), d.dim(4), d.dim(4)
        high, wide = d.integer(3, 8), d.integer(3, 8)
        x = d.input((n, groups * inside, high, wide))
        w = d.weight((groups * outside, inside, 2, 3))
        offsets = d.input((n, 2 * 6, high - 1, wide - 2), kind="unit")
        bias = d.weight((groups * outside,)) if d.chance(0.5) else None
        mask = d.input((n, 6, high - 1, wide - 2), kind="positive") if d.chance(0.5) else None
        d.result(d.node("DeformConv", x, w, offsets, bias, mask, group=groups))


@family("few", opsets=(22, 20), weight=4)
def few(d: Draw) -> None:
    """Small operators of many kinds."""
    op = d.choice(
        ("Gelu", "Mish", "HardSwish", "Det", "EyeLike", "ReverseSequence", "DFT", "Size", "Compress", "CastLike")
    )
    if op in ("Gelu", "Mish", "HardSwish"):
        x = d.input(d.shape(1, 3, 3000))
        d.result(d.node(op, x, approximate=d.choice((None, "tanh")) if op == "Gelu" else None))
    elif op == "Det":
        n = d.integer(1, 6)
        d.result(d.node(op, d.input((*d.shape(0, 2, 20, zero=0), n, n), kind="away")))
    elif op == "EyeLike":
        d.result(d.node(op, d.input((d.dim(20), d.dim(20))), k=d.choice((None, 1, -2)), dtype=d.choice((None, 7))))
    elif op == "ReverseSequence":
        steps, batch = d.integer(1, 9), d.integer(1, 5)
        first = d.chance(0.5)
        x = d.input((steps, batch, d.dim(9)) if first else (batch, steps, d.dim(9)))
        lengths = d.given(d.rng.integers(1, steps + 1, batch).astype(np.int64))
        d.exact = True
        d.result(d.node(op, x, lengths, time_axis=int(not first), batch_axis=int(first)))
    elif op == "DFT":
        x = d.input((d.choice((1, 2)), d.dim(17) + 1, d.choice((1, 2))))
        d.result(d.node(op, x, None, d.constant(1)) if d.opset >= 20 else d.node(op, x, axis=1))
    elif op == "Size":
        d.result(d.node(op, d.input(d.shape(0, 3, 300))))
    elif op == "Compress":
        x = d.input(d.shape(1, 3, 600, zero=0))
        axis = d.integer(0, x.rank - 1)
        kept = d.rng.integers(0, 2, x.shape[axis]).astype(bool)
        shape = (*x.shape[:axis], int(kept.sum()), *x.shape[axis + 1 :])
        d.exact = True
        d.result(d.node_as(op, x.dtype, shape, x, d.constant(kept, "bool"), axis=axis))
    else:
        x = d.input(d.shape(1, 3, 300), "float32", "coarse")
        d.exact = True
        d.result(d.node(op, x, d.input((1,), d.choice(("float64", "float16")))))


@family("loops", opsets=(22, 16), weight=3)
def loops(d: Draw) -> None:
    """Loops of known length and branches of known condition, over state and over slices."""
    rows, width = d.integer(1, 5), d.dim(17)
    x = d.input((rows, width))
    state = d.input((width,))
    pick = d.integer(0, 2)
    names = ("state_in", "row_in", "state_out", "row_out")
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [width]) for n in names]
    if pick == 0:
        op = d.choice(("Add", "Sub", "Mul"))
        nodes = [
            helper.make_node(op, ["state_in", "row_in"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["state_out"]),
            helper.make_node("Relu", ["sum"], ["row_out"]),
        ]
        body = helper.make_graph(nodes, "body", info[:2], info[2:])
        attrs = {"scan_input_directions": [1]} if d.chance(0.4) else {}
        out, collected = _two(d, "Scan", (width,), (rows, width), state, x, body=body, num_scan_inputs=1, **attrs)
    elif pick == 1:
        steps = d.integer(0, 4)
        counter = helper.make_tensor_value_info("i", TensorProto.INT64, [])
        go = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("go_in", "go_out")]
        nodes = [
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("Cast", ["i"], ["step"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["state_in", "step"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["state_out"]),
            helper.make_node("Neg", ["state_out"], ["row_out"]),
        ]
        body = helper.make_graph(nodes, "body", [counter, go[0], info[0]], [go[1], *info[2:]])
        out, collected = _two(
            d, "Loop", (width,), (max(steps, 1), width), d.constant(max(steps, 1)), None, state, body=body
        )
    else:
        then = helper.make_graph([helper.make_node("Relu", [state.name], ["state_out"])], "then", [], [info[2]])
        other = helper.make_graph([helper.make_node("Neg", [state.name], ["row_out"])], "other", [], [info[3]])
        condition = d.constant(d.chance(0.5), "bool")
        out = d.node_as("If", state.dtype, (width,), condition, then_branch=then, else_branch=other)
        collected = x
    d.result(d.node("Add", out, collected))


def _two(
    d: Draw, op: str, first: tuple[int, ...], second: tuple[int, ...], *inputs: Value | None, **attrs: object
) -> list[Value]:
    """A node of two outputs whose shapes are known."""
    a, b = d.names_of(op, 2, inputs, attrs)
    return [Value(a, np.dtype("float32"), first), Value(b, np.dtype("float32"), second)]


EMPTY = ("Conv", "MatMul", "Gemm", "ReduceSum", "ReduceProd", "Softmax", "Concat", "Gather", "Transpose", "Add", "Pad")
EMPTY += ("LayerNormalization", "MaxPool", "Einsum", "CumSum", "Where", "Reshape", "Tile", "ScatterElements", "Resize")
EMPTY += ("BatchNormalization", "InstanceNormalization", "ConvTranspose", "GlobalAveragePool", "Expand", "Split")


@family("empty", opsets=(22, 18), weight=3)
def empty(d: Draw) -> None:
    """Data of no elements, or sums of none."""
    op = d.choice(EMPTY)
    n, c = d.choice((0, 0, 2)), d.dim(7)
    rows = d.input((n, c, d.dim(9)))
    image = d.input((0, c, d.dim(9) + 2, d.dim(9) + 2))
    wide = (c,)
    if op == "Conv":
        y = d.node(op, image, d.weight((d.dim(9), c, 3, 3)))
    elif op == "ConvTranspose":
        y = d.node(op, image, d.weight((c, d.dim(9), 3, 3)), strides=[2, 2])
    elif op == "MatMul":
        k = d.choice((0, 3))
        y = d.node(op, d.input((2, d.dim(9), k)), d.input((k, d.choice((0, 5, 17)))))
    elif op == "Gemm":
        k = d.choice((0, 3))
        y = d.node(op, d.input((4, k)), d.input((k, 5)), d.input((5,)))
    elif op in ("ReduceSum", "ReduceProd"):
        y = d.node(op, d.input((n, c, 0)), d.constant(d.axes(3)))
    elif op in ("Softmax", "LayerNormalization"):
        y = d.node(op, rows, axis=-1) if op == "Softmax" else d.node(op, rows, d.weight(rows.shape[-1:]))
    elif op == "Concat":
        y = d.node(op, rows, d.input((0, *rows.shape[1:])), axis=0)
    elif op == "Gather":
        y = d.node(op, d.input((5, c)), d.given(np.zeros((n, 0), np.int64)), axis=0)
    elif op in ("MaxPool", "Resize"):
        if op == "MaxPool":
            y = d.node(op, image, kernel_shape=[2, 2])
        else:
            y = d.node(op, image, None, d.constant([1, 1, 2, 2], "float32"))
    elif op == "Einsum":
        y = d.node(op, rows, d.input((rows.shape[2], 4)), equation="abc,cd->abd")
    elif op == "CumSum":
        y = d.node(op, rows, d.constant(d.integer(0, 2)))
    elif op == "Where":
        y = d.node(op, d.input(rows.shape, "bool"), rows, d.input((1, 1, rows.shape[2])))
    elif op == "Pad":
        y = d.node(op, rows, d.constant([1, 0, 2, 0, 1, 0]))
    elif op == "Reshape":
        y = d.node(op, rows, d.constant([0, c * rows.shape[2]]) if n else d.constant([c, 0]), allowzero=int(n == 0))
    elif op == "Tile":
        y = d.node(op, rows, d.constant([2, 0, 1]))
    elif op == "Expand":
        y = d.node(op, d.input((1, c)), d.constant([n, 0, 3, c]))
    elif op == "Split":
        y, *_ = d.node_of(op, 2, rows, d.constant([0, c]), axis=1)
    elif op == "ScatterElements":
        y = d.node(op, rows, d.given(np.zeros((0, 1, 1), np.int64)), d.input((0, 1, 1)))
    elif op == "BatchNormalization":
        y = d.node(op, image, *(d.weight(wide, kind="positive") for _ in range(4)))
    elif op == "InstanceNormalization":
        y = d.node(op, image, d.weight(wide), d.weight(wide))
    elif op == "GlobalAveragePool":
        y = d.node(op, image)
    elif op == "Transpose":
        y = d.node(op, rows)
    else:
        y = d.node(op, rows, d.input(rows.shape[2:]))
    if d.chance(0.4):
        y = d.node("Relu", y)
    d.result(y)
