"""Small models that ask for 2^40 elements and more: refused before anything is allocated."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from tests.frontend.hostile.corpus import INT64_MAX, Model, apply, hostile, i64, info, model, node

F = np.float32
BIG = 1 << 40
LIMIT = 1 << 32
"""As many elements as one tensor may have."""

for _name, _args in {
    "constant_of_shape": ("ConstantOfShape", i64(BIG)),
    "constant_of_shape_overflow": ("ConstantOfShape", i64(1 << 32, 1 << 32)),
    "constant_of_shape_i64": ("ConstantOfShape", i64(INT64_MAX)),
    "constant_of_shape_of_the_limit": ("ConstantOfShape", i64(LIMIT)),
    "constant_of_shape_huge_but_empty": ("ConstantOfShape", i64(1 << 62, 0)),
    "constant_of_shape_rank_5000": ("ConstantOfShape", i64(*[1] * 5000)),
    "constant_of_shape_negative": ("ConstantOfShape", i64(-1)),
    "expand": ("Expand", (1,), i64(BIG)),
    "expand_overflow": ("Expand", (1,), i64(1 << 32, 1 << 32)),
    "expand_rank_100": ("Expand", (1,), i64(*[2] * 100)),
    "expand_negative": ("Expand", (1,), i64(-5)),
    "tile": ("Tile", (2,), i64(BIG)),
    "tile_overflow": ("Tile", (2, 2), i64(1 << 62, 1 << 62)),
    "tile_i64": ("Tile", (2,), i64(INT64_MAX)),
    "tile_negative": ("Tile", (2,), i64(-1)),
    "tile_of_nothing": ("Tile", (0,), i64(INT64_MAX)),
    "range": ("Range", np.array(0), np.array(BIG), np.array(1)),
    "range_of_the_limit": ("Range", np.array(0), np.array(LIMIT), np.array(1)),
    "range_of_a_gigabyte": ("Range", np.array(0), np.array(1 << 27), np.array(1)),
    "range_i64": ("Range", np.array(-INT64_MAX), np.array(INT64_MAX), np.array(1)),
    "range_no_step": ("Range", np.array(0), np.array(5), np.array(0)),
    "range_tiny_step": ("Range", np.array(F(0)), np.array(F(1)), np.array(F(1e-40))),
    "range_nan": ("Range", np.array(F(0)), np.array(F(np.nan)), np.array(F(1))),
    "range_infinite": ("Range", np.array(F(0)), np.array(F(np.inf)), np.array(F(1))),
    "range_infinite_step": ("Range", np.array(F(0)), np.array(F(5)), np.array(F(np.inf))),
    "range_empty_start": ("Range", i64(), np.array(5), np.array(1)),
    "range_mixed_types": ("Range", np.array(F(0)), np.array(5), np.array(1)),
    "pad": ("Pad", (2,), i64(0, BIG)),
    "pad_overflow": ("Pad", (2,), i64(INT64_MAX, INT64_MAX)),
    "pad_takes_more_than_there_is": ("Pad", (2,), i64(-5, 0)),
    "one_hot": ("OneHot", ((2,), TensorProto.INT64), np.array(BIG), np.array([0, 1], F)),
    "one_hot_negative": ("OneHot", ((2,), TensorProto.INT64), np.array(-3), np.array([0, 1], F)),
    "one_hot_no_depth": ("OneHot", ((2,), TensorProto.INT64), i64(), np.array([0, 1], F)),
    "resize_sizes": ("Resize", (1, 1, 2, 2), None, None, i64(1, 1, 1 << 20, 1 << 20)),
    "resize_one_size": ("Resize", (1, 1, 2, 2), None, None, i64(1, 1, 1 << 30, 2)),
    "resize_the_limit": ("Resize", (1, 1, 1, 1), None, None, i64(1, 1, 1 << 32, 1)),
    "resize_a_gigabyte": ("Resize", (1, 1, 1, 3), None, None, i64(1, 1, 1, 1 << 27)),
    "resize_i64": ("Resize", (1, 1, 2, 2), None, None, i64(1, 1, INT64_MAX, 2)),
    "resize_negative_sizes": ("Resize", (1, 1, 2, 2), None, None, i64(1, 1, -4, 2)),
    "resize_zero_sizes": ("Resize", (1, 1, 2, 2), None, None, i64(1, 1, 0, 2)),
    "resize_huge_scale": ("Resize", (1, 1, 2, 2), None, np.array([1, 1, 1e30, 1], F)),
    "resize_infinite_scale": ("Resize", (1, 1, 2, 2), None, np.array([1, 1, np.inf, 1], F)),
    "resize_nan_scale": ("Resize", (1, 1, 2, 2), None, np.array([1, 1, np.nan, 1], F)),
    "resize_negative_scale": ("Resize", (1, 1, 2, 2), None, np.array([1, 1, -2, 1], F)),
    "resize_zero_scale": ("Resize", (1, 1, 2, 2), None, np.array([1, 1, 0, 1], F)),
    "resize_tiny_scale": ("Resize", (1, 1, 2, 2), None, np.array([1, 1, 1e-30, 1], F)),
    "resize_scale_missing": ("Resize", (1, 1, 2, 2)),
    "resize_both": ("Resize", (1, 1, 2, 2), None, np.array([1, 1, 2, 2], F), i64(1, 1, 8, 8)),
    "resize_nothing": ("Resize", (1, 1, 0, 2), None, np.array([1, 1, 2, 2], F)),
    "outer_sum": ("Add", (1 << 20, 1), (1, 1 << 20)),
    "outer_product": ("MatMul", (1 << 20, 1), (1, 1 << 20)),
    "gather": ("Gather", (1 << 20, 1), ((1 << 20, 4096), TensorProto.INT64)),
    "top_k_huge": ("TopK", (4,), i64(INT64_MAX)),
    "eye_like": ("EyeLike", (1 << 20, 1 << 20)),
    "eye_like_of_a_gigabyte": ("EyeLike", (1, 1 << 28)),
    "gather_nd": ("GatherND", (2, 1 << 20), ((1 << 20, 1), TensorProto.INT64)),
    "hamming": ("HannWindow", np.array(BIG)),
    "hamming_of_a_gigabyte": ("HannWindow", np.array(1 << 28)),
    "col2im": ("Col2Im", (1, 4, 4), i64(BIG, BIG), i64(2, 2)),
    "center_crop": ("CenterCropPad", (2,), i64(BIG)),
    "reshape_huge": ("Reshape", (4,), i64(1 << 62, 4)),
    "dft": ("DFT", (1, 4, 1), np.array(BIG)),
    "mel": ("MelWeightMatrix", np.array(BIG), np.array(BIG), np.array(8000), np.array(F(0)), np.array(F(4000))),
    "max_unpool": ("MaxUnpool", (1, 1, 2, 2), ((1, 1, 2, 2), TensorProto.INT64), i64(1, 1, BIG, BIG)),
}.items():
    _op, *_inputs = _args
    _more: dict[str, Any] = {"kernel_shape": [2, 2]} if _op == "MaxUnpool" else {}
    if _op == "TopK":
        _more = {"outputs": 2}
    hostile(lambda _op=_op, _inputs=_inputs, _more=_more: apply(_op, *_inputs, **_more), _name)

for _name, _op, _inputs, _attrs in [
    ("einsum", "Einsum", [(1 << 20,), (1 << 20,)], {"equation": "i,j->ij"}),
    ("einsum_sum", "Einsum", [(1 << 30,), (1 << 30,), (1 << 30,)], {"equation": "i,j,k->"}),
    ("conv_pads", "Conv", [(1, 1, 4, 4), (1, 1, 3, 3)], {"pads": [1 << 30] * 4}),
    ("conv_pads_i64", "Conv", [(1, 1, 4, 4), (1, 1, 3, 3)], {"pads": [INT64_MAX] * 4}),
    ("conv_strides_i64", "Conv", [(1, 1, 4, 4), (1, 1, 3, 3)], {"strides": [INT64_MAX] * 2}),
    ("conv_dilations_i64", "Conv", [(1, 1, 4, 4), (1, 1, 3, 3)], {"dilations": [INT64_MAX] * 2}),
    (
        "conv_dilations_i64_and_pads",
        "Conv",
        [(1, 1, 4, 4), (1, 1, 3, 3)],
        {"dilations": [1 << 40] * 2, "pads": [1 << 40] * 4},
    ),
    ("conv_transpose_strides", "ConvTranspose", [(1, 1, 4, 4), (1, 1, 3, 3)], {"strides": [1 << 30] * 2}),
    (
        "conv_transpose_padding",
        "ConvTranspose",
        [(1, 1, 4, 4), (1, 1, 3, 3)],
        {"output_padding": [1 << 30] * 2, "strides": [1 << 31] * 2},
    ),
    ("conv_transpose_shape", "ConvTranspose", [(1, 1, 4, 4), (1, 1, 3, 3)], {"output_shape": [1 << 30, 1 << 30]}),
    ("max_pool_pads", "MaxPool", [(1, 1, 4, 4)], {"kernel_shape": [2, 2], "pads": [1 << 30] * 4}),
    ("max_pool_kernel", "MaxPool", [(1, 1, 4, 4)], {"kernel_shape": [1 << 40, 1 << 40], "pads": [1 << 40] * 4}),
    ("average_pool_kernel_i64", "AveragePool", [(1, 1, 4, 4)], {"kernel_shape": [INT64_MAX, INT64_MAX]}),
    ("depth_to_space", "DepthToSpace", [(1, 4, 2, 2)], {"blocksize": 1 << 40}),
    ("space_to_depth_i64", "SpaceToDepth", [(1, 4, 2, 2)], {"blocksize": INT64_MAX}),
    ("trilu_k", "Trilu", [(4, 4), np.array(INT64_MAX)], {}),
    ("trilu_k_negative", "Trilu", [(4, 4), np.array(-INT64_MAX - 1)], {"upper": 0}),
    ("lrn_size", "LRN", [(1, 4, 2, 2)], {"size": 1 << 40}),
    ("split_outputs", "Split", [(4,)], {"num_outputs": 1 << 40}),
    ("hardmax", "Hardmax", [(1, 1 << 28)], {}),
    ("eye_like_k", "EyeLike", [(4, 4)], {"k": INT64_MAX}),
    ("group_norm_groups", "GroupNormalization", [(1, 4, 2), (4,), (4,)], {"num_groups": 1 << 40}),
    ("rnn_of_a_million_steps", "RNN", [(1 << 20, 1, 2), (1, 3, 2), (1, 3, 3)], {"hidden_size": 3}),
    ("rnn_of_2_to_the_31_steps", "LSTM", [(1 << 31, 1, 1), (1, 4, 1), (1, 4, 1)], {"hidden_size": 1}),
    ("rnn_of_a_hundred_thousand_steps", "GRU", [(100_000, 1, 2), (1, 9, 2), (1, 9, 3)], {"hidden_size": 3}),
    ("cumsum_huge", "CumSum", [(1 << 31,), np.array(0)], {}),
    ("top_k_of_the_limit", "TopK", [(1 << 31,), i64(1 << 31)], {"outputs": 2}),
    ("upsample_9", "Upsample", [(1, 1, 2, 2), np.array([1, 1, 1e20, 1], F)], {"opset": 9}),
    ("constant_of_two_gigabyte_values", "ConstantOfShape", [i64(1 << 29)], {}),
]:
    hostile(lambda _op=_op, _inputs=_inputs, _attrs=_attrs: apply(_op, *_inputs, **_attrs), _name)


def doubling(op: str, count: int = 60, shape: tuple[int, ...] = (2,), **attrs: Any) -> Model:
    nodes = [node(op, [f"x{k}", f"x{k}"], [f"x{k + 1}"], **attrs) for k in range(count)]
    return model(nodes, inputs=[info("x0", shape)], outputs=[f"x{count}"])


hostile(doubling, "concat_doubles", op="Concat", axis=0)
hostile(doubling, "concat_doubles_nothing", op="Concat", axis=0, shape=(0,))
hostile(doubling, "concat_doubles_to_the_limit", op="Concat", axis=0, count=30)
hostile(doubling, "concat_doubles_a_little", op="Concat", axis=0, count=12)


@hostile
def concat_doubles_constants() -> Model:
    """Two gigabytes of constants by thirty folded nodes."""
    nodes = [node("Concat", [f"x{k}", f"x{k}"], [f"x{k + 1}"], axis=0) for k in range(30)]
    return model(nodes, inputs=[], outputs=["x30"], constants={"x0": np.zeros(1, F)})


@hostile
def expand_of_constants() -> Model:
    """A constant of 2^30 elements from one of one: neither stored nor folded."""
    nodes = [node("Expand", ["c", "s"], ["t"]), node("Relu", ["t"], ["y"])]
    return model(nodes, inputs=[], constants={"c": np.zeros(1, F), "s": i64(1 << 30)})


@hostile
def many_large_constants() -> Model:
    """A hundred constants of 2^24 elements."""
    nodes = [node("ConstantOfShape", ["s"], [f"c{k}"]) for k in range(100)]
    nodes += [node("Sum", [f"c{k}" for k in range(100)], ["t"]), node("ReduceSum", ["t"], ["y"])]
    return model(nodes, inputs=[], constants={"s": i64(1 << 24)})


@hostile
def many_ranges() -> Model:
    """Ranges that are each within the limit and together are not."""
    nodes = [node("Range", ["a", "b", "d"], [f"c{k}"]) for k in range(100)]
    nodes += [node("Sum", [f"c{k}" for k in range(100)], ["y"])]
    return model(nodes, inputs=[], constants={"a": np.array(0), "b": np.array(1 << 24), "d": np.array(1)})


@hostile
def matmul_of_constants() -> Model:
    """2^33 multiplications of constants: a second or so of work, not to be multiplied."""
    nodes = [node("MatMul", ["a", "a"], ["x0"])]
    nodes += [node("MatMul", [f"x{k}", "a"], [f"x{k + 1}"]) for k in range(200)]
    return model(nodes, inputs=[], outputs=["x200"], constants={"a": np.eye(1024, dtype=F)})


@hostile
def conv_of_constants() -> Model:
    made = apply("Conv", np.ones((1, 32, 64, 64), F), np.ones((32, 32, 31, 31), F), pads=[15] * 4)
    return made


@hostile
def einsum_of_constants() -> Model:
    a = np.ones((64,) * 3, F)
    return apply("Einsum", a, a, a, equation="abc,def,ghi->")


@hostile
def top_k_of_constants() -> Model:
    return apply("TopK", np.arange(1 << 20, dtype=F), i64(1 << 20), outputs=2)


@hostile
def cumsum_of_constants() -> Model:
    return apply("CumSum", np.arange(1 << 18, dtype=F), np.array(0))


@hostile
def scatter_of_constants() -> Model:
    return apply("ScatterElements", np.zeros(1 << 18, F), np.arange(1 << 18), np.ones(1 << 18, F), reduction="add")


@hostile
def squaring_powers() -> Model:
    """x^(2^60) of integers: folding must wrap, not grow."""
    nodes = [node("Mul", [f"x{k}", f"x{k}"], [f"x{k + 1}"]) for k in range(60)]
    return model(nodes, inputs=[], outputs=["x60"], constants={"x0": i64(3)})


@hostile
def shape_that_overflows() -> Model:
    nodes = [node("Mul", ["a", "a"], ["b"]), node("ConstantOfShape", ["b"], ["y"])]
    return model(nodes, inputs=[], constants={"a": i64(1 << 32)})


@hostile
def tile_doubles() -> Model:
    nodes = [node("Tile", [f"x{k}", "r"], [f"x{k + 1}"]) for k in range(60)]
    return model(nodes, inputs=[info("x0", [2])], outputs=["x60"], constants={"r": i64(2)})


@hostile
def many_large_values() -> Model:
    """Every value is within the limit; together they need terabytes at run time."""
    nodes = [node("Expand", ["x", "s"], [f"e{k}"]) for k in range(64)]
    nodes += [node("Softmax", [f"e{k}"], [f"y{k}"]) for k in range(64)]
    outputs = [f"y{k}" for k in range(64)]
    return model(nodes, inputs=[info("x", [1, 1])], outputs=outputs, constants={"s": i64(1 << 15, 1 << 16)})
