"""Attributes and shapes that an operator has no meaning for."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from tests.frontend.hostile.corpus import INT64_MAX, INT64_MIN, apply, hostile, i64

F = np.float32
I8, I32, I64, B, F16 = (
    TensorProto.INT8,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.FLOAT16,
)
X4, W4 = (1, 4, 5, 5), (6, 4, 3, 3)


def case(name: str, op: str, *inputs: Any, **attrs: Any) -> None:
    hostile(lambda: apply(op, *inputs, **attrs), name)


# Convolutions.
for _key, _values in {
    "strides": ([0, 0], [-1, -1], [1], [1, 1, 1], [], [INT64_MIN, 1]),
    "dilations": ([0, 0], [-1, -1], [1], [1, 1, 1], [INT64_MIN, 1]),
    "pads": ([1], [1] * 3, [1] * 5, [-1] * 4, [-9] * 4, [], [INT64_MIN] * 4),
    "kernel_shape": ([0, 0], [-3, -3], [3], [5, 5], [3, 3, 3]),
}.items():
    for _k, _v in enumerate(_values):
        if _v:
            case(f"conv_{_key}_{_k}", "Conv", X4, W4, **{_key: _v})
            case(f"conv_transpose_{_key}_{_k}", "ConvTranspose", (1, 6, 5, 5), W4, **{_key: _v})
        if _key != "kernel_shape":
            if _v:
                case(f"max_pool_{_key}_{_k}", "MaxPool", X4, kernel_shape=[3, 3], **{_key: _v})
                case(f"average_pool_{_key}_{_k}", "AveragePool", X4, kernel_shape=[3, 3], **{_key: _v})
        elif _v:
            case(f"max_pool_{_key}_{_k}", "MaxPool", X4, **{_key: _v})
            case(f"lp_pool_{_key}_{_k}", "LpPool", X4, **{_key: _v})
for _g in (0, -1, 3, 5, 1 << 40, INT64_MIN):
    case(f"conv_group_{_g}", "Conv", X4, W4, group=_g)
    case(f"conv_transpose_group_{_g}", "ConvTranspose", (1, 6, 5, 5), W4, group=_g)
case("conv_larger_than_its_input", "Conv", (1, 4, 2, 2), W4)
case("conv_dilated_past_its_input", "Conv", X4, W4, dilations=[4, 4])
case("conv_of_nothing", "Conv", (0, 4, 5, 5), W4)
case("conv_of_no_pixels", "Conv", (1, 4, 0, 5), W4)
case("conv_of_no_channels", "Conv", (1, 0, 5, 5), (6, 0, 3, 3))
case("conv_no_filters", "Conv", X4, (0, 4, 3, 3))
case("conv_no_taps", "Conv", X4, (6, 4, 0, 3))
case("conv_wrong_channels", "Conv", X4, (6, 3, 3, 3))
case("conv_wrong_bias", "Conv", X4, W4, (5,))
case("conv_rank_1", "Conv", (5,), (3,))
case("conv_rank_2", "Conv", (5, 5), (3, 3))
case("conv_rank_9", "Conv", (1, 1, *[3] * 7), (1, 1, *[2] * 7))
case("conv_mixed_types", "Conv", X4, (W4, F16))
case("conv_integers", "Conv", (X4, I32), (W4, I32))
case("conv_auto_pad", "Conv", X4, W4, auto_pad="SAME")
case("conv_auto_pad_and_pads", "Conv", X4, W4, auto_pad="SAME_UPPER", pads=[1, 1, 1, 1])
case("conv_transpose_output_padding_negative", "ConvTranspose", (1, 6, 5, 5), W4, output_padding=[-1, -1])
case("conv_transpose_output_padding_large", "ConvTranspose", (1, 6, 5, 5), W4, output_padding=[9, 9])
case("conv_transpose_output_shape_zero", "ConvTranspose", (1, 6, 5, 5), W4, output_shape=[0, 0])
case("conv_transpose_output_shape_negative", "ConvTranspose", (1, 6, 5, 5), W4, output_shape=[-4, 4])
case("conv_transpose_output_shape_short", "ConvTranspose", (1, 6, 5, 5), W4, output_shape=[4])
case("conv_transpose_output_shape_and_auto_pad", "ConvTranspose", (1, 6, 5, 5), W4, output_shape=[9], auto_pad="X")
case("conv_transpose_auto_pad", "ConvTranspose", (1, 6, 5, 5), W4, auto_pad="SAME")
case("conv_transpose_of_nothing", "ConvTranspose", (1, 6, 0, 5), W4, strides=[2, 2])
case("conv_integer_of_floats", "ConvInteger", X4, W4)
case("deform_conv", "DeformConv", X4, W4, (1, 18, 3, 3))

# Pools.
case("pool_of_rank_2", "MaxPool", (4, 4), kernel_shape=[2, 2])
case("pool_larger_than_its_input", "MaxPool", (1, 1, 2, 2), kernel_shape=[3, 3])
case("pool_pads_of_the_kernel", "MaxPool", X4, kernel_shape=[2, 2], pads=[2, 2, 2, 2])
case("average_pool_pads_of_the_kernel", "AveragePool", X4, kernel_shape=[2, 2], pads=[5, 5, 5, 5])
case("pool_of_nothing", "MaxPool", (1, 1, 0, 5), kernel_shape=[1, 1])
case("pool_ceil_mode", "MaxPool", X4, kernel_shape=[2, 2], strides=[7, 7], ceil_mode=1)
case("pool_ceil_mode_of_7", "MaxPool", X4, kernel_shape=[2, 2], ceil_mode=7)
case("pool_of_strings", "MaxPool", (X4, TensorProto.STRING), kernel_shape=[2, 2])
case("pool_without_a_kernel", "MaxPool", X4)
case("global_pool_of_no_pixels", "GlobalAveragePool", (1, 4, 0, 5))
case("global_max_pool_of_no_pixels", "GlobalMaxPool", (1, 4, 0, 5))
case("global_pool_of_rank_1", "GlobalAveragePool", (4,))
case("lp_pool_p_0", "LpPool", X4, kernel_shape=[2, 2], p=0)
case("lp_pool_p_negative", "LpPool", X4, kernel_shape=[2, 2], p=-2)
case("roi_pool", "MaxRoiPool", X4, (1, 5), pooled_shape=[2, 2])
case("max_unpool_wrong_rank", "MaxUnpool", (1, 1, 2, 2), ((1, 1, 2, 2), I64), kernel_shape=[2])
case("max_unpool_short_pads", "MaxUnpool", (1, 1, 2, 2), ((1, 1, 2, 2), I64), kernel_shape=[2, 2], pads=[1])
case("max_unpool_small_shape", "MaxUnpool", (1, 1, 2, 2), ((1, 1, 2, 2), I64), i64(1, 1, 1, 1), kernel_shape=[2, 2])
case("max_unpool_rank_1", "MaxUnpool", (2,), ((2,), I64), kernel_shape=[2])
case(
    "max_unpool_negative_shape", "MaxUnpool", (1, 1, 2, 2), ((1, 1, 2, 2), I64), i64(1, 1, -4, -4), kernel_shape=[2, 2]
)

# Axes out of range, everywhere.
for _a in (5, -6, INT64_MAX, INT64_MIN):
    for _op in (
        "Softmax",
        "LogSoftmax",
        "Hardmax",
        "ArgMax",
        "ArgMin",
        "Flatten",
        "LpNormalization",
    ):
        case(f"{_op.lower()}_axis_{_a}", _op, (2, 3), axis=_a)
    case(f"softmax_11_axis_{_a}", "Softmax", (2, 3), axis=_a, opset=11)
    case(f"concat_axis_{_a}", "Concat", (2, 3), (2, 3), axis=_a)
    case(f"split_axis_{_a}", "Split", (2, 3), axis=_a, num_outputs=2, outputs=2)
    case(f"gather_axis_{_a}", "Gather", (2, 3), ((2,), I64), axis=_a)
    case(f"gather_elements_axis_{_a}", "GatherElements", (2, 3), ((2, 3), I64), axis=_a)
    case(f"scatter_elements_axis_{_a}", "ScatterElements", (2, 3), ((2, 3), I64), (2, 3), axis=_a)
    case(f"layer_norm_axis_{_a}", "LayerNormalization", (2, 3), (3,), axis=_a)
    case(f"layer_norm_mean_axis_{_a}", "LayerNormalization", (2, 3), (3,), axis=_a, outputs=3)
    case(f"rms_norm_axis_{_a}", "RMSNormalization", (2, 3), (3,), axis=_a, opset=23)
    case(f"top_k_axis_{_a}", "TopK", (2, 3), i64(1), axis=_a, outputs=2)
    case(f"one_hot_axis_{_a}", "OneHot", ((2,), I64), np.array(3), np.array([0, 1], F), axis=_a)
    case(f"cumsum_axis_{_a}", "CumSum", (2, 3), np.array(_a))
    case(f"reduce_axis_{_a}", "ReduceSum", (2, 3), i64(_a))
    case(f"reduce_11_axis_{_a}", "ReduceMean", (2, 3), axes=[_a], opset=11)
    case(f"squeeze_axis_{_a}", "Squeeze", (1, 3), i64(_a))
    case(f"unsqueeze_axis_{_a}", "Unsqueeze", (2, 3), i64(_a))
    case(f"slice_axis_{_a}", "Slice", (2, 3), i64(0), i64(1), i64(_a))
    case(f"pad_axis_{_a}", "Pad", (2, 3), i64(0, 1), None, i64(_a))
    case(f"resize_axis_{_a}", "Resize", (2, 3), None, None, i64(4), axes=[_a])
    case(f"mvn_axis_{_a}", "MeanVarianceNormalization", (2, 3), axes=[_a])
    case(f"quantize_axis_{_a}", "QuantizeLinear", (2, 3), np.ones(3, F), axis=_a)
    case(f"dequantize_axis_{_a}", "DequantizeLinear", ((2, 3), I8), np.ones(3, F), axis=_a)
    case(f"tensor_scatter_axis_{_a}", "TensorScatter", (2, 3, 4, 5), (2, 3, 1, 5), ((2,), I64), axis=_a, opset=24)
    case(f"reverse_sequence_axis_{_a}", "ReverseSequence", (2, 3), ((2,), I64), time_axis=_a, batch_axis=0)
    case(f"shape_bounds_{_a}", "Shape", (2, 3), start=_a, end=_a)
case("softmax_of_rank_0", "Softmax", ())
case("softmax_11_of_rank_0", "Softmax", (), opset=11)
case("softmax_of_nothing", "Softmax", (2, 0))
case("hardmax_of_nothing", "Hardmax", (2, 0))
case("argmax_of_nothing", "ArgMax", (2, 0), axis=1)
case("argmax_of_rank_0", "ArgMax", ())
case("reduce_max_of_nothing", "ReduceMax", (2, 0), i64(1))
case("reduce_max_of_no_integers", "ReduceMax", ((2, 0), I32), i64(1))
case("reduce_mean_of_nothing", "ReduceMean", (2, 0), i64(1))
case("reduce_axes_twice", "ReduceSum", (2, 3), i64(1, 1))
case("reduce_axes_twice_by_sign", "ReduceSum", (2, 3), i64(1, -1))
case("reduce_axes_at_run_time", "ReduceSum", (2, 3), ((1,), I64))
case("reduce_axes_of_floats", "ReduceSum", (2, 3), np.array([0.5], F))
case("squeeze_of_more_than_one", "Squeeze", (2, 3), i64(0))
case("squeeze_of_all", "Squeeze", (2, 3))
case("unsqueeze_axes_twice", "Unsqueeze", (2, 3), i64(0, 0))
case("unsqueeze_a_thousand", "Unsqueeze", (2, 3), i64(*range(1000)))
case("layer_norm_of_rank_0", "LayerNormalization", (), (), outputs=2)
case("layer_norm_wrong_scale", "LayerNormalization", (2, 3), (2,))
case("batch_norm_wrong_scale", "BatchNormalization", X4, (3,), (4,), (4,), (4,))
case("batch_norm_rank_1", "BatchNormalization", (4,), (4,), (4,), (4,), (4,))
case("batch_norm_training", "BatchNormalization", X4, (4,), (4,), (4,), (4,), training_mode=1)
case("instance_norm_rank_1", "InstanceNormalization", (4,), (4,), (4,))
case("instance_norm_no_channels", "InstanceNormalization", (1, 0, 3), (0,), (0,))
case("group_norm_no_groups", "GroupNormalization", (1, 4, 2), (4,), (4,), num_groups=0)
case("group_norm_negative_groups", "GroupNormalization", (1, 4, 2), (4,), (4,), num_groups=-2)
case("group_norm_three_groups", "GroupNormalization", (1, 4, 2), (4,), (4,), num_groups=3)
case("group_norm_18_wrong", "GroupNormalization", (1, 4, 2), (3,), (3,), num_groups=3, opset=18)
case("lrn_size_0", "LRN", X4, size=0)
case("lrn_size_negative", "LRN", X4, size=-3)
case("lrn_size_even", "LRN", X4, size=2)
case("lp_normalize_p_0", "LpNormalization", (2, 3), p=0)
case("mvn_rank_2", "MeanVarianceNormalization", (2, 3))

# Shapes.
for _name, _t in {
    "two_unknown": (-1, -1),
    "negative": (-2, 3),
    "too_many": (7,),
    "zero_past_the_rank": (2, 3, 0),
    "unknown_does_not_divide": (4, -1),
    "unknown_and_zero": (0, -1),
    "most_negative": (INT64_MIN, 3),
    "empty": (),
    "rank_200": (1,) * 200 + (6,),
    "overflow": (1 << 32, 1 << 32),
    "max": (INT64_MAX, -1),
}.items():
    case(f"reshape_{_name}", "Reshape", (2, 3), i64(*_t))
    case(f"reshape_allow_zero_{_name}", "Reshape", (2, 3), i64(*_t), allowzero=1)
case("reshape_of_nothing", "Reshape", (0, 3), i64(0, -1), allowzero=1)
case("reshape_by_floats", "Reshape", (2, 3), np.array([2.5, 2], F))
case("reshape_by_nan", "Reshape", (2, 3), np.array([np.nan], F))
case("reshape_by_bools", "Reshape", (2, 3), np.array([True, True]))
case("reshape_by_a_matrix", "Reshape", (2, 3), np.array([[2, 3]]))
case("reshape_at_run_time", "Reshape", (2, 3), ((2,), I64))
case("reshape_by_many_at_run_time", "Reshape", (2, 3), ((1 << 20,), I64))
for _name, _p in {
    "short": [0],
    "long": [0, 1, 2],
    "twice": [0, 0],
    "out_of_range": [0, 2],
    "negative": [-1, -2],
    "i64": [INT64_MAX, INT64_MIN],
}.items():
    case(f"transpose_{_name}", "Transpose", (2, 3), perm=_p)
case("split_sum_wrong", "Split", (4,), i64(1, 2), outputs=2)
case("split_negative", "Split", (4,), i64(5, -1), outputs=2)
case("split_too_few", "Split", (4,), i64(4), outputs=2)
case("split_too_many", "Split", (4,), i64(1, 1, 2), outputs=2)
case("split_overflow", "Split", (4,), i64(INT64_MAX, INT64_MAX, 6), outputs=3)
case("split_num_outputs_wrong", "Split", (4,), outputs=2, num_outputs=3)
case("split_num_outputs_zero", "Split", (4,), outputs=2, num_outputs=0)
case("split_num_outputs_negative", "Split", (4,), outputs=2, num_outputs=-2)
case("split_more_than_there_is", "Split", (2,), outputs=5, num_outputs=5)
case("split_of_rank_0", "Split", (), outputs=2, num_outputs=2)
case("slice_step_zero", "Slice", (4,), i64(0), i64(4), i64(0), i64(0))
case("slice_extremes", "Slice", (4,), i64(INT64_MIN), i64(INT64_MAX), i64(0), i64(1))
case("slice_extremes_backwards", "Slice", (4,), i64(INT64_MAX), i64(INT64_MIN), i64(0), i64(-1))
case("slice_extreme_steps", "Slice", (4,), i64(INT64_MAX), i64(INT64_MIN), i64(0), i64(INT64_MIN))
case("slice_lengths_differ", "Slice", (4,), i64(0, 0), i64(4), i64(0))
case("slice_axes_twice", "Slice", (4,), i64(0, 0), i64(4, 4), i64(0, 0))
case("slice_at_run_time", "Slice", (4,), ((1,), I64), i64(4))
case("slice_of_floats", "Slice", (4,), np.array([0.5], F), np.array([2.5], F))
case("concat_ranks_differ", "Concat", (2, 3), (2,), axis=0)
case("concat_types_differ", "Concat", (2, 3), ((2, 3), I64), axis=0)
case("concat_extents_differ", "Concat", (2, 3), (2, 4), axis=0)
case("concat_of_rank_0", "Concat", (), (), axis=0)
case("pad_too_short", "Pad", (2, 3), i64(0, 1))
case("pad_odd", "Pad", (2, 3), i64(0, 1, 2))
case("pad_mode", "Pad", (2, 3), i64(0, 0, 0, 0), mode='x"); system("id");//')
case("pad_reflect_past", "Pad", (2, 3), i64(2, 0, 2, 0), mode="reflect")
case("pad_edge_of_nothing", "Pad", (0, 3), i64(1, 0, 0, 0), mode="edge")
case("pad_negative_with_reflect", "Pad", (2, 3), i64(-1, 2, 0, 2), mode="reflect")
case("pad_no_value", "Pad", (2, 3), i64(0, 0, 0, 0), np.zeros(0, F))
case("pad_nan", "Pad", (2, 3), i64(1, 0, 0, 0), np.array(np.nan, F))
case("pad_int8_of_300", "Pad", ((2,), I8), i64(1, 0), np.array(300, np.int64))
case("pad_integers_of_nan", "Pad", ((2,), I8), i64(1, 0), np.array(np.nan, F))
case("pad_i64_of_max", "Pad", ((2,), I64), i64(1, 0), np.array(INT64_MAX))
case("pad_of_bools", "Pad", ((2,), B), i64(1, 0), np.array(True))
case("expand_does_not_fit", "Expand", (2, 3), i64(4, 3))
case("tile_short", "Tile", (2, 3), i64(2))
case("trilu_of_rank_1", "Trilu", (3,))
case("trilu_no_k", "Trilu", (3, 3), i64())
case("depth_to_space_0", "DepthToSpace", (1, 4, 2, 2), blocksize=0)
case("depth_to_space_3", "DepthToSpace", (1, 4, 2, 2), blocksize=3)
case("depth_to_space_mode", "DepthToSpace", (1, 4, 2, 2), blocksize=2, mode="XYZ")
case("space_to_depth_negative", "SpaceToDepth", (1, 4, 2, 2), blocksize=-2)
case("flatten_of_rank_0", "Flatten", (), axis=0)
case("size_of_nothing", "Size", (0, 3))
case("eye_like_rank_3", "EyeLike", (2, 2, 2))
case("center_crop_pad_axis", "CenterCropPad", (2, 3), i64(5), axes=[9])
case("one_hot_values_of_3", "OneHot", ((2,), I64), np.array(3), np.array([0, 1, 2], F))
case("one_hot_depth_nan", "OneHot", ((2,), I64), np.array(np.nan, F), np.array([0, 1], F))
case("reverse_sequence_same_axes", "ReverseSequence", (2, 3), ((2,), I64), time_axis=0, batch_axis=0)
case("reverse_sequence_rank_1", "ReverseSequence", (2,), ((2,), I64))
case("compress", "Compress", (2, 3), ((3,), B))
case("non_zero", "NonZero", (2, 3))
case("unique", "Unique", (2, 3), outputs=4)
case("non_max_suppression", "NonMaxSuppression", (1, 4, 4), (1, 1, 4))
case("string_normalizer", "StringNormalizer", ((2,), TensorProto.STRING))
case("multinomial", "Multinomial", (2, 3))
case("random_normal", "RandomNormal", shape=[1 << 20, 1 << 20])
case("random_uniform_like", "RandomUniformLike", (2, 3))
case("sequence_at", "SequenceAt", (2, 3), np.array(0))
case("optional", "Optional", (2, 3))

# Indices.
case("gather_constant_outside", "Gather", (2, 3), i64(7, -9, INT64_MIN, INT64_MAX))
case("gather_of_constants_outside", "Gather", np.arange(3), i64(7, -9, INT64_MIN, INT64_MAX))
case("gather_of_nothing", "Gather", (0, 3), ((2,), I64))
case("gather_rank_0", "Gather", (), np.array(0))
case("gather_floats", "Gather", (2, 3), (2,))
case("gather_elements_rank", "GatherElements", (2, 3), ((2,), I64))
case("gather_elements_of_nothing", "GatherElements", (2, 0), ((2, 2), I64), axis=1)
case("gather_nd_constant_outside", "GatherND", (2, 3), np.array([[5, 5], [-9, INT64_MIN]]))
case("gather_nd_deep", "GatherND", (2, 3), ((2, 3), I64))
case("gather_nd_of_nothing", "GatherND", (0, 3), ((2, 1), I64))
case("gather_nd_batch", "GatherND", (2, 3), ((2, 1), I64), batch_dims=2)
case("gather_nd_batch_negative", "GatherND", (2, 3), ((2, 1), I64), batch_dims=-1)
case("scatter_nd_constant_outside", "ScatterND", (2, 3), np.array([[5], [INT64_MIN]]), (2, 3))
case("scatter_nd_updates", "ScatterND", (2, 3), ((2, 1), I64), (2, 4))
case("scatter_nd_deep", "ScatterND", (2, 3), ((2, 7), I64), (2,))
case("scatter_nd_reduction", "ScatterND", (2, 3), ((2, 1), I64), (2, 3), reduction="xor")
case("scatter_elements_constant_outside", "ScatterElements", (2, 3), np.full((1, 3), 99), (1, 3))
case("scatter_elements_larger", "ScatterElements", (2, 3), ((5, 7), I64), (5, 7))
case("scatter_elements_shapes", "ScatterElements", (2, 3), ((2, 3), I64), (2, 2))
case("scatter_of_nothing", "ScatterElements", (0, 3), ((1, 3), I64), (1, 3))
case("top_k_more_than_there_is", "TopK", (4,), i64(5), outputs=2)
case("top_k_negative", "TopK", (4,), i64(-1), outputs=2)
case("top_k_zero", "TopK", (4,), i64(0), outputs=2)
case("top_k_of_rank_0", "TopK", (), i64(1), outputs=2)
case("top_k_no_k", "TopK", (4,), i64(), outputs=2)
case("top_k_at_run_time", "TopK", (4,), ((1,), I64), outputs=2)
case("cumsum_no_axis", "CumSum", (4,), i64())
case("cumsum_of_rank_0", "CumSum", (), np.array(0))
case("tensor_scatter_rank_1", "TensorScatter", (3,), (1,), opset=24)
case("tensor_scatter_rank_0", "TensorScatter", (), (), opset=24)
case("tensor_scatter_ranks", "TensorScatter", (2, 3, 4, 5), (2, 3), opset=24)
case("tensor_scatter_longer", "TensorScatter", (2, 3, 4, 5), (2, 3, 9, 5), ((2,), I64), opset=24)

# Products.
case("matmul_rank_0", "MatMul", (), ())
case("matmul_inner", "MatMul", (2, 3), (4, 5))
case("matmul_batches", "MatMul", (2, 3, 4), (3, 4, 5))
case("matmul_of_nothing", "MatMul", (2, 0), (0, 3))
case("matmul_types", "MatMul", (2, 3), ((3, 2), I64))
case("matmul_bools", "MatMul", ((2, 3), B), ((3, 2), B))
case("gemm_rank_3", "Gemm", (1, 2, 3), (3, 4))
case("gemm_bias", "Gemm", (2, 3), (3, 4), (5,))
case("gemm_alpha_nan", "Gemm", (2, 3), (3, 4), alpha=float("nan"))
case("matmul_integer_of_floats", "MatMulInteger", (2, 3), (3, 4))
for _name, _e in {
    "empty": "",
    "arrow": "->",
    "no_such_axis": "ij,jk->il",
    "wrong_rank": "ijk,jk->ik",
    "wrong_count": "ij->ji",
    "digits": "12,23->13",
    "arrows": "ij->jk->ik",
    "repeated_result": "ij,jk->ii",
    "unicode": "αβ,βγ->αγ",
    "dots": "..ij,jk->ik",
    "dots_twice": "...i...j,jk->ik",
    "injection": 'ij,jk->"); system("id");//',
    "commas": ",,,,",
    "spaces": " i j , j k -> i k ",
    "long": "ij,jk->" + "i" * 100_000,
    "nul": "ij\0,jk->ik",
    "dots_result_only": "ij,jk->...ik",
}.items():
    case(f"einsum_{_name}", "Einsum", (2, 3), (3, 4), equation=_e)
case("einsum_extents", "Einsum", (2, 3), (4, 5), equation="ij,jk->ik")
case("einsum_mixed_types", "Einsum", (2, 3), ((3, 4), I64), equation="ij,jk->ik")
case("einsum_a_hundred_operands", "Einsum", *[(2,)] * 100, equation=",".join("i" * 100))
case("attention_heads", "Attention", (1, 4, 6), (1, 4, 6), (1, 4, 6), q_num_heads=4, kv_num_heads=4, opset=23)
case("attention_no_heads", "Attention", (1, 4, 6), (1, 4, 6), (1, 4, 6), q_num_heads=0, kv_num_heads=0, opset=23)
case("attention_rank_2", "Attention", (4, 6), (4, 6), (4, 6), opset=23)
case("rotary_embedding", "RotaryEmbedding", (1, 2, 3, 5), (3, 2), (3, 2), opset=23)

# Recurrent networks.
case("lstm_no_hidden", "LSTM", (3, 1, 2), (1, 12, 2), (1, 12, 3), hidden_size=0)
case("lstm_wrong_hidden", "LSTM", (3, 1, 2), (1, 12, 2), (1, 12, 3), hidden_size=7)
case("lstm_direction", "LSTM", (3, 1, 2), (1, 12, 2), (1, 12, 3), hidden_size=3, direction="sideways")
case("lstm_activations", "LSTM", (3, 1, 2), (1, 12, 2), (1, 12, 3), hidden_size=3, activations=["Nope"] * 3)
case("lstm_few_activations", "LSTM", (3, 1, 2), (1, 12, 2), (1, 12, 3), hidden_size=3, activations=["Tanh"])
case("lstm_rank", "LSTM", (3, 2), (1, 12, 2), (1, 12, 3), hidden_size=3)
case("lstm_weights_rank", "LSTM", (3, 1, 2), (12, 2), (12, 3), hidden_size=3)
case("lstm_bidirectional_of_one", "LSTM", (3, 1, 2), (1, 12, 2), (1, 12, 3), hidden_size=3, direction="bidirectional")
case("lstm_no_steps", "LSTM", (0, 1, 2), (1, 12, 2), (1, 12, 3), hidden_size=3)
case("gru_bias", "GRU", (3, 1, 2), (1, 9, 2), (1, 9, 3), (1, 5), hidden_size=3)
case("rnn_no_hidden_size", "RNN", (3, 1, 2), (1, 3, 2), (1, 3, 3))
case("rnn_layout", "RNN", (3, 1, 2), (1, 3, 2), (1, 3, 3), hidden_size=3, layout=9)
case("rnn_initial", "RNN", (3, 1, 2), (1, 3, 2), (1, 3, 3), None, None, (7, 7), hidden_size=3)
case("rnn_lengths", "RNN", (3, 1, 2), (1, 3, 2), (1, 3, 3), None, ((9,), I32), hidden_size=3)

# Element types and casts.
case("cast_to_string", "Cast", (2,), to=TensorProto.STRING)
case("cast_to_complex", "Cast", (2,), to=TensorProto.COMPLEX64)
case("cast_to_int4", "Cast", (2,), to=TensorProto.INT4)
case("cast_to_float8", "Cast", (2,), to=TensorProto.FLOAT8E4M3FN)
case("cast_to_nothing", "Cast", (2,), to=0)
case("cast_to_999", "Cast", (2,), to=999)
case("cast_to_negative", "Cast", (2,), to=-1)
case("cast_to_i64", "Cast", (2,), to=INT64_MAX)
case("cast_from_string", "Cast", ((2,), TensorProto.STRING), to=1)
case("bitcast", "BitCast", (2,), to=TensorProto.INT32, opset=26)
case("eye_like_dtype", "EyeLike", (2, 2), dtype=TensorProto.STRING)
case("add_types_differ", "Add", (2,), ((2,), I64))
case("add_bools", "Add", ((2,), B), ((2,), B))
case("relu_bools", "Relu", ((2,), B))
case("exp_integers", "Exp", ((2,), I64))
case("add_does_not_broadcast", "Add", (2, 3), (4, 5))
case("where_condition", "Where", (2,), (2,), (2,))
case("not_of_floats", "Not", (2,))
case("and_of_floats", "And", (2,), (2,))
case("bit_shift_floats", "BitShift", (2,), (2,), direction="LEFT")
case("bit_shift_direction", "BitShift", ((2,), TensorProto.UINT8), ((2,), TensorProto.UINT8), direction="UP")
case("mod_floats_without_fmod", "Mod", (2,), (2,))
case("clip_shapes", "Clip", (2,), (2,), (2,))
case("clip_min_above_max", "Clip", (2,), np.array(5, F), np.array(-5, F))
case("clip_types", "Clip", (2,), np.array(5))
case("add_6_broadcast", "Add", (2, 3), (2,), broadcast=1, axis=0, opset=6)
case("quantize_scale_zero", "QuantizeLinear", (2,), np.array(0, F), np.array(0, np.uint8))
case("quantize_scale_nan", "QuantizeLinear", (2,), np.array(np.nan, F), np.array(0, np.uint8))
case("quantize_scale_empty", "QuantizeLinear", (2,), np.zeros(0, F))
case("quantize_block", "QuantizeLinear", (4, 4), np.ones((2, 4), F), axis=0, block_size=-2)
case("quantize_block_huge", "QuantizeLinear", (4, 4), np.ones((1, 4), F), axis=0, block_size=1 << 40)
case("quantize_block_3", "QuantizeLinear", (4, 4), np.ones((2, 4), F), axis=0, block_size=3)
case("quantize_block_extents", "QuantizeLinear", (4, 4), np.ones((2, 3), F), axis=0, block_size=2)
case("quantize_to_float8", "QuantizeLinear", (2,), np.array(1, F), output_dtype=TensorProto.FLOAT8E4M3FN)
case("quantize_to_string", "QuantizeLinear", (2,), np.array(1, F), output_dtype=TensorProto.STRING)
case("quantize_to_float", "QuantizeLinear", (2,), np.array(1, F), output_dtype=TensorProto.FLOAT)
case("quantize_zero_point_float", "QuantizeLinear", (2,), np.array(1, F), np.array(0, F))
case("dequantize_floats", "DequantizeLinear", (2,), np.array(1, F))
case("dequantize_integer_scale", "DequantizeLinear", ((2,), I8), np.array(1))
case("dequantize_zero_points", "DequantizeLinear", ((2, 3), I8), np.array(1, F), np.zeros(3, np.int8))
case(
    "qlinear_conv_scales",
    "QLinearConv",
    ((1, 4, 5, 5), 2),
    np.array(0, F),
    np.array(0, np.uint8),
    np.ones((6, 4, 3, 3), np.uint8),
    np.zeros(6, F),
    np.zeros(6, np.uint8),
    np.array(0, F),
    np.array(0, np.uint8),
)
case(
    "qlinear_conv_wrong_scales",
    "QLinearConv",
    ((1, 4, 5, 5), 2),
    np.array(1, F),
    np.array(0, np.uint8),
    np.ones((6, 4, 3, 3), np.uint8),
    np.zeros(5, F),
    np.zeros(6, np.uint8),
    np.array(1, F),
    np.array(0, np.uint8),
)
case("qlinear_matmul_missing", "QLinearMatMul", ((2, 3), 2), np.array(1, F), np.array(0, np.uint8), ((3, 2), 2))
case("dynamic_quantize_of_nothing", "DynamicQuantizeLinear", (0,), outputs=3)
case("dropout_training", "Dropout", (2,), np.array(0.5, F), np.array(True))
case("resize_mode", "Resize", (1, 1, 2, 2), None, np.array([1, 1, 2, 2], F), mode="lanczos")
case(
    "resize_coordinates",
    "Resize",
    (1, 1, 2, 2),
    None,
    np.array([1, 1, 2, 2], F),
    coordinate_transformation_mode="sideways",
)
case("resize_nearest_mode", "Resize", (1, 1, 2, 2), None, np.array([1, 1, 2, 2], F), nearest_mode="up")
case("resize_policy", "Resize", (1, 1, 2, 2), None, None, i64(1, 1, 4, 4), keep_aspect_ratio_policy="x")
case("resize_policy_zero", "Resize", (1, 1, 2, 2), None, None, i64(1, 1, 0, 0), keep_aspect_ratio_policy="not_larger")
case(
    "resize_roi_missing",
    "Resize",
    (1, 1, 2, 2),
    None,
    np.array([1, 1, 2, 2], F),
    coordinate_transformation_mode="tf_crop_and_resize",
)
case(
    "resize_roi_nan",
    "Resize",
    (1, 1, 2, 2),
    np.full(8, np.nan, F),
    np.array([1, 1, 2, 2], F),
    coordinate_transformation_mode="tf_crop_and_resize",
)
case(
    "resize_roi_huge",
    "Resize",
    (1, 1, 2, 2),
    np.full(8, 1e38, F),
    np.array([1, 1, 2, 2], F),
    mode="linear",
    coordinate_transformation_mode="tf_crop_and_resize",
)
case(
    "resize_antialias_huge", "Resize", (1, 1, 1 << 20, 2), None, None, i64(1, 1, 1 << 10, 2), mode="cubic", antialias=1
)
case("resize_antialias_to_one", "Resize", (1, 1, 1 << 24, 1), None, None, i64(1, 1, 1, 1), mode="linear", antialias=1)
case("resize_axes_twice", "Resize", (1, 1, 2, 2), None, None, i64(4, 4), axes=[2, 2])
case("resize_of_rank_0", "Resize", (), None, np.zeros(0, F))
case("resize_to_nothing", "Resize", (1, 1, 2, 2), None, None, i64(1, 1, 0, 0), mode="linear")
case(
    "resize_cubic_nan",
    "Resize",
    (1, 1, 2, 2),
    None,
    np.array([1, 1, 2, 2], F),
    mode="cubic",
    cubic_coeff_a=float("nan"),
)
case("grid_sample", "GridSample", (1, 1, 2, 2), (1, 2, 2, 2))
case("affine_grid", "AffineGrid", (1, 2, 3), i64(1, 1, -2, -2))
case("affine_grid_huge", "AffineGrid", (1, 2, 3), i64(1, 1, 1 << 31, 1 << 31))
case("stft", "STFT", (1, 8, 1), np.array(-1), None, np.array(4))
case("roi_align", "RoiAlign", (1, 1, 4, 4), (1, 4), ((1,), I64), output_height=-1)
case("image_decoder", "ImageDecoder", ((2,), TensorProto.UINT8))
case("negative_log_likelihood", "NegativeLogLikelihoodLoss", (3, 5), ((3,), I64), reduction="x")
case("softmax_cross_entropy", "SoftmaxCrossEntropyLoss", (3, 5), ((3,), I64), outputs=2)
case("bernoulli", "Bernoulli", (2,))
case("swish_alpha", "Swish", (2,), alpha=float("inf"), opset=24)

# Sampling and transforms.
case("roi_align_huge", "RoiAlign", (1, 1, 4, 4), (1, 4), ((1,), I64), output_height=1 << 30, sampling_ratio=1)
case("roi_align_many_samples", "RoiAlign", (1, 1, 4, 4), (1, 4), ((1,), I64), sampling_ratio=1 << 30)
case("deform_conv_no_groups", "DeformConv", X4, W4, (1, 18, 3, 3), group=0)
case("dft_no_length", "DFT", (1, 4, 1), i64())
case("dft_of_a_float", "DFT", (1, 4, 1), np.array(2.5, F))
case("dft_of_a_large_prime", "DFT", (1, 65537, 1))
case("stft_no_step", "STFT", (1, 8, 1), i64(), None, np.array(4))
case("stft_huge_frames", "STFT", (1, 1 << 20, 1), np.array(1), None, np.array(1 << 16))
case(
    "mel_huge",
    "MelWeightMatrix",
    np.array(1 << 14),
    np.array(1 << 14),
    np.array(8000),
    np.array(F(0)),
    np.array(F(4000)),
)
case("mel_no_bands", "MelWeightMatrix", i64(), np.array(16), np.array(8000), np.array(F(0)), np.array(F(4000)))
case("mel_nan", "MelWeightMatrix", np.array(8), np.array(16), np.array(8000), np.array(F(np.nan)), np.array(F(np.inf)))
case("det_of_a_large_matrix", "Det", (2000, 2000))
case("compress_more_than_there_is", "Compress", np.ones((2, 3), F), np.ones(99, bool), axis=0)
case(
    "attention_of_negative_heads",
    "Attention",
    (1, 4, 6),
    (1, 4, 6),
    (1, 4, 6),
    q_num_heads=-2,
    kv_num_heads=-2,
    opset=23,
)
case(
    "rotary_embedding_of_99",
    "RotaryEmbedding",
    (1, 2, 3, 4),
    (50, 2),
    (50, 2),
    ((1, 3), I64),
    opset=23,
    rotary_embedding_dim=99,
)
case("affine_grid_of_nothing", "AffineGrid", (1, 2, 3), i64())
case("split_to_sequence_of_0", "SplitToSequence", (4,), np.array(0))
case("concat_from_no_sequence", "ConcatFromSequence", (4,), axis=0)
case("range_of_u64", "Range", np.array(0, np.uint64), np.array((1 << 64) - 1, np.uint64), np.array(1, np.uint64))
case("einsum_of_forty_axes", "Einsum", *[(2,)] * 40, equation=",".join(map(chr, (*range(97, 123), *range(65, 79)))))
