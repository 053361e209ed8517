"""Converters against onnxruntime: one node each, on odd sizes."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tcompiler.frontend.onnx import read
from tests.frontend.onnx_support import check, one_node, ours

RNG = np.random.default_rng(11)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return np.abs(f32(*shape)) + np.float32(0.1)


def unit(*shape: int) -> np.ndarray:
    return RNG.uniform(-0.9, 0.9, shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def ints(*shape: int) -> np.ndarray:
    return RNG.integers(1, 9, shape).astype(np.int32) * RNG.choice([-1, 1], shape).astype(np.int32)


def bools(*shape: int) -> np.ndarray:
    return RNG.integers(0, 2, shape).astype(bool)


X = f32(3, 5)
IMAGE = f32(2, 4, 9, 7)

# operator, inputs, and options: fixed inputs, number of outputs, opset, attributes
CASES: list[tuple[str, list[np.ndarray | None], dict[str, Any]]] = [
    *((op, [X], {}) for op in ("Abs", "Neg", "Sign", "Exp", "Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Tan", "Atan")),
    *((op, [X], {}) for op in ("Sinh", "Cosh", "Asinh", "Floor", "Ceil", "Round", "Relu", "Softplus", "Softsign")),
    *((op, [X], {}) for op in ("Mish", "HardSwish", "Identity", "Gelu", "LeakyRelu", "Elu", "Selu", "HardSigmoid")),
    *((op, [positive(3, 5)], {}) for op in ("Log", "Sqrt", "Reciprocal")),
    *((op, [unit(3, 5)], {}) for op in ("Asin", "Acos", "Atanh")),
    ("Acosh", [positive(3, 5) + 1], {}),
    ("Round", [np.array([0.5, 1.5, -0.5, 2.5, -2.5], np.float32)], {}),
    ("Gelu", [X], {"approximate": "tanh"}),
    ("Celu", [X], {"alpha": 0.5}),
    ("Elu", [X], {"alpha": 0.5}),
    ("LeakyRelu", [X], {"alpha": 0.5}),
    ("Selu", [X], {"alpha": 1.5, "gamma": 2.0}),
    ("HardSigmoid", [X], {"alpha": 0.3, "beta": 0.4}),
    ("ThresholdedRelu", [X], {"alpha": 0.5}),
    ("Shrink", [X], {"lambd": 0.5, "bias": 0.25}),
    ("IsNaN", [np.array([np.nan, 1], np.float32)], {}),
    ("IsInf", [np.array([np.inf, -np.inf, 1], np.float32)], {"detect_negative": 0}),
    ("Not", [bools(3, 5)], {}),
    *((op, [X, f32(5)], {}) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    *((op, [ints(3, 5), ints(5)], {}) for op in ("Add", "Sub", "Mul", "Div", "Mod")),
    ("Div", [np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)], {}),
    ("Mod", [X, positive(5)], {"fmod": 1}),
    ("Mod", [ints(3, 5), ints(5)], {"fmod": 1}),
    ("Pow", [positive(3, 5), f32(5)], {}),
    ("Pow", [X, np.array(2, np.float32)], {"fixed": [1]}),
    ("Pow", [X, np.array([3], np.int64)], {"fixed": [1]}),
    ("Pow", [ints(3, 5), np.array(2, np.int32)], {}),
    *((op, [bools(3, 5), bools(5)], {}) for op in ("And", "Or", "Xor")),
    *((op, [ints(3, 5), ints(3, 5)], {}) for op in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")),
    *((op, [X, X[::-1].copy(), f32(1, 5)], {}) for op in ("Sum", "Mean", "Min", "Max")),
    ("BitShift", [np.array([1, 200, 7], np.uint8), np.array([3, 2, 1], np.uint8)], {"direction": "LEFT"}),
    ("BitShift", [np.array([1, 200, 7], np.uint8), np.array([3, 2, 1], np.uint8)], {"direction": "RIGHT"}),
    *((op, [ints(3, 5), ints(5)], {}) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    ("BitwiseNot", [ints(3, 5)], {}),
    ("PRelu", [X, f32(5)], {}),
    ("Where", [bools(3, 1), X, f32(5)], {}),
    ("Clip", [X, np.float32(-0.5), np.float32(0.5)], {"fixed": [1, 2]}),
    ("Clip", [X, None, np.float32(0.5)], {}),
    ("Clip", [X], {"opset": 7, "min": -0.5, "max": 0.5}),
    ("Cast", [10 * X], {"to": TensorProto.INT32}),
    ("Cast", [ints(3)], {"to": TensorProto.BOOL}),
    ("Cast", [X], {"to": TensorProto.DOUBLE}),
    ("CastLike", [X, ints(1)], {}),
    ("Dropout", [X], {}),
    ("Dropout", [X], {"outputs": 2}),
    ("MatMul", [f32(5, 7), f32(7, 3)], {}),
    ("MatMul", [f32(2, 1, 5, 7), f32(3, 7, 2)], {}),
    ("MatMul", [f32(7), f32(7, 3)], {}),
    ("MatMul", [f32(5, 7), f32(7)], {}),
    ("Gemm", [f32(7, 5), f32(3, 7), f32(3)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [f32(5, 7), f32(7, 3)], {}),
    ("Einsum", [f32(2, 5, 7), f32(2, 3, 7)], {"equation": "bij,bkj->bik"}),
    ("Conv", [IMAGE, f32(6, 2, 3, 2), f32(6)], {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1]}),
    ("Conv", [IMAGE, f32(3, 4, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [IMAGE, f32(3, 4, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    ("Conv", [IMAGE, f32(3, 4, 3, 3)], {"auto_pad": "VALID", "dilations": [2, 1]}),
    ("Conv", [f32(1, 4, 11), f32(4, 1, 3)], {"group": 4, "pads": [1, 1]}),
    ("Conv", [f32(1, 2, 4, 5, 3), f32(3, 2, 2, 3, 1)], {"strides": [1, 2, 1]}),
    ("ConvTranspose", [IMAGE, f32(4, 3, 3, 2), f32(6)], {"group": 2, "strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ("ConvTranspose", [f32(1, 4, 5), f32(4, 3, 3)], {"dilations": [2], "output_padding": [0]}),
    ("ConvTranspose", [f32(1, 2, 3, 3), f32(2, 2, 3, 3)], {"strides": [3, 2], "output_shape": [10, 8]}),
    ("ConvTranspose", [f32(1, 2, 3, 3), f32(2, 2, 3, 3)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("BatchNormalization", [IMAGE, f32(4), f32(4), f32(4), positive(4)], {"epsilon": 1e-3}),
    ("BatchNormalization", [X, f32(5), f32(5), f32(5), positive(5)], {"opset": 9}),
    ("InstanceNormalization", [IMAGE, f32(4), f32(4)], {}),
    ("GroupNormalization", [IMAGE, f32(4), f32(4)], {"num_groups": 2, "opset": 21}),
    ("LayerNormalization", [IMAGE, f32(7), f32(7)], {}),
    ("LayerNormalization", [IMAGE, f32(9, 7)], {"axis": 2, "outputs": 3}),
    ("LRN", [IMAGE], {"size": 3, "alpha": 0.1, "beta": 0.5, "bias": 2.0}),
    ("LpNormalization", [X], {"axis": 0, "p": 1}),
    ("MeanVarianceNormalization", [IMAGE], {}),
    ("Softmax", [f32(2, 3, 5)], {"axis": 1}),
    ("Softmax", [f32(2, 3, 5)], {"opset": 11}),
    ("LogSoftmax", [f32(2, 3, 5)], {}),
    ("Hardmax", [f32(2, 3, 5)], {"axis": 1}),
    ("Hardmax", [f32(0, 3, 5)], {"axis": 0}),
    *(
        (op, [positive(2, 3, 5), i64(1, -1)], {"fixed": [1]})
        for op in ("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceSumSquare")
    ),
    *(
        (op, [positive(2, 3, 5), i64(0)], {"fixed": [1], "keepdims": 0})
        for op in ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")
    ),
    ("ReduceSum", [X], {}),
    ("ReduceSum", [X], {"noop_with_empty_axes": 1}),
    ("ReduceMean", [X], {"axes": [0], "opset": 13}),
    ("ArgMax", [ints(3, 7).astype(np.float32)], {"axis": 1, "keepdims": 0}),
    ("ArgMin", [ints(3, 7).astype(np.float32)], {"axis": -1, "select_last_index": 1}),
    ("GlobalAveragePool", [IMAGE], {}),
    ("GlobalMaxPool", [IMAGE], {}),
    ("GlobalLpPool", [IMAGE], {"opset": 18}),
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1], "ceil_mode": 1}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "dilations": [2, 1], "outputs": 2}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1], "ceil_mode": 1}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("LpPool", [IMAGE], {"kernel_shape": [3, 2], "p": 3}),
    ("Reshape", [X, i64(5, -1)], {"fixed": [1]}),
    ("Reshape", [f32(2, 3, 5), i64(0, -1)], {"fixed": [1]}),
    ("Flatten", [IMAGE], {"axis": 2}),
    ("Flatten", [IMAGE], {"axis": -1}),
    ("Transpose", [IMAGE], {}),
    ("Transpose", [IMAGE], {"perm": [0, 2, 3, 1]}),
    ("Squeeze", [f32(1, 3, 1), i64(0)], {"fixed": [1]}),
    ("Squeeze", [f32(1, 3, 1)], {"opset": 11}),
    ("Unsqueeze", [X, i64(0, -1)], {"fixed": [1]}),
    ("Concat", [X, f32(3, 2)], {"axis": -1}),
    ("Split", [f32(7, 2), i64(3, 4)], {"fixed": [1], "outputs": 2}),
    ("Split", [f32(7, 2)], {"num_outputs": 3, "outputs": 3}),
    ("Split", [f32(2, 6)], {"axis": 1, "outputs": 3, "opset": 11}),
    ("Slice", [IMAGE, i64(1, 0), i64(-1, 99), i64(2, 3), i64(2, 1)], {"fixed": [1, 2, 3, 4]}),
    ("Slice", [IMAGE, i64(-1), i64(-99), i64(2), i64(-3)], {"fixed": [1, 2, 3, 4]}),
    ("Slice", [IMAGE], {"starts": [1], "ends": [3], "axes": [1], "opset": 7}),
    ("Expand", [f32(3, 1), i64(2, 1, 5)], {"fixed": [1]}),
    ("Tile", [X, i64(2, 3)], {"fixed": [1]}),
    ("Pad", [X, i64(1, 0, 0, 2), np.float32(1.5)], {"fixed": [1, 2]}),
    ("Pad", [X, i64(1, 2), None, i64(-1)], {"fixed": [1, 3], "mode": "reflect"}),
    ("Pad", [X], {"pads": [0, 1, 1, 0], "mode": "edge", "opset": 7}),
    ("Trilu", [X, np.array(-1, np.int64)], {"fixed": [1], "upper": 0}),
    ("DepthToSpace", [f32(1, 8, 2, 3)], {"blocksize": 2}),
    ("DepthToSpace", [f32(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [f32(1, 2, 4, 6)], {"blocksize": 2}),
    ("Gather", [IMAGE, np.array([[0, -1], [2, 1]])], {"axis": 1}),
    ("GatherElements", [X, RNG.integers(-3, 3, (2, 5))], {}),
    ("GatherND", [X, np.array([[0, 1], [2, -1]])], {}),
    ("ScatterElements", [X, np.array([[0, 2, -1, 1, 0]]), f32(1, 5)], {"reduction": "add"}),
    ("ScatterND", [X, np.array([[2], [0]]), f32(2, 5)], {}),
    ("OneHot", [i64(0, 2, -1), np.array(4, np.int64), f32(2)], {"fixed": [1], "axis": 0}),
    ("EyeLike", [X], {"k": 1}),
    ("Shape", [IMAGE], {"start": 1, "end": -1}),
    ("Size", [IMAGE], {}),
    ("Range", [np.array(1, np.int64), np.array(10, np.int64), np.array(3, np.int64)], {"fixed": [0, 1, 2]}),
    ("Range", [np.float32(1), np.float32(0), np.float32(-0.3)], {"fixed": [0, 1, 2]}),
    ("ConstantOfShape", [i64(2, 3)], {"fixed": [0]}),
    ("ConstantOfShape", [i64(2, 0)], {"fixed": [0], "value": helper.make_tensor("v", TensorProto.INT32, [1], [7])}),
    ("CumSum", [f32(3, 5), np.array(1)], {"fixed": [1]}),
    ("CumSum", [f32(3, 5), np.array(0)], {"fixed": [1], "exclusive": 1, "reverse": 1}),
    ("TopK", [f32(3, 7), i64(4)], {"fixed": [1], "outputs": 2}),
    ("TopK", [f32(3, 7), i64(2)], {"fixed": [1], "outputs": 2, "axis": 0, "largest": 0}),
    ("ReverseSequence", [f32(4, 3, 2), i64(1, 4, 2)], {"opset": 10}),
    ("Resize", [f32(1, 2, 3, 4), None, np.array([1, 1, 2, 3], np.float32)], {"fixed": [2]}),
    *(
        (
            "Resize",
            [f32(1, 2, 5, 6), None, np.array([1, 1, scale, 1.7], np.float32)],
            {"fixed": [2], "mode": mode, "coordinate_transformation_mode": where},
        )
        for scale in (0.6, 2.5)
        for mode in ("nearest", "linear", "cubic")
        for where in ("half_pixel", "asymmetric", "pytorch_half_pixel")
    ),
    *(
        (
            "Resize",
            [f32(1, 1, 5, 6), None, None, i64(1, 1, 7, 4)],
            {"fixed": [3], "nearest_mode": mode, "coordinate_transformation_mode": "align_corners"},
        )
        for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    ("Resize", [f32(1, 1, 9, 7), None, None, i64(1, 1, 4, 3)], {"fixed": [3], "mode": "linear", "antialias": 1}),
    ("Upsample", [f32(1, 1, 3, 4), np.array([1, 1, 2, 2], np.float32)], {"fixed": [1], "opset": 9}),
    ("QuantizeLinear", [3 * f32(3, 5), np.float32(0.02), np.array(128, np.uint8)], {"opset": 13}),
    ("QuantizeLinear", [3 * f32(3, 5), positive(5), np.arange(-2, 3, dtype=np.int8)], {"opset": 13, "axis": 1}),
    ("DequantizeLinear", [RNG.integers(-128, 128, (3, 5)).astype(np.int8), positive(3)], {"opset": 13, "axis": 0}),
    ("DynamicQuantizeLinear", [f32(3, 5)], {"outputs": 3, "opset": 11}),
    (
        "MatMulInteger",
        [
            # Small enough for onnxruntime, whose pairwise products saturate at 16 bits without VNNI.
            RNG.integers(0, 100, (5, 7)).astype(np.uint8),
            RNG.integers(-64, 64, (7, 3)).astype(np.int8),
            np.array(12, np.uint8),
            np.array(3, np.int8),
        ],
        {"opset": 10},
    ),
    (
        "ConvInteger",
        [RNG.integers(0, 99, (1, 2, 5, 5)).astype(np.uint8), RNG.integers(0, 99, (3, 2, 3, 3)).astype(np.uint8)],
        {"opset": 10, "pads": [1, 1, 1, 1]},
    ),
    ("RNN", [f32(4, 3, 5), f32(1, 6, 5), f32(1, 6, 6), f32(1, 12)], {"hidden_size": 6, "outputs": 2}),
    (
        "GRU",
        [f32(4, 3, 5), f32(2, 18, 5), f32(2, 18, 6), f32(2, 36)],
        {"hidden_size": 6, "outputs": 2, "direction": "bidirectional", "linear_before_reset": 1},
    ),
    ("GRU", [f32(4, 3, 5), f32(1, 18, 5), f32(1, 18, 6)], {"hidden_size": 6, "outputs": 2, "direction": "reverse"}),
    (
        "LSTM",
        [
            f32(4, 3, 5),
            f32(1, 24, 5),
            f32(1, 24, 6),
            f32(1, 48),
            np.array([4, 2, 3], np.int32),
            f32(1, 3, 6),
            f32(1, 3, 6),
            f32(1, 18),
        ],
        {"hidden_size": 6, "outputs": 3},
    ),
    ("Attention", [f32(2, 4, 5, 8), f32(2, 2, 7, 8), f32(2, 2, 7, 8)], {"opset": 23, "is_causal": 1}),
    ("SpaceToDepth", [f32(1, 2, 4, 6)], {"blocksize": 2}),
    *(
        ("GridSample", [f32(2, 3, 5, 7), unit(2, 3, 4, 2) * 1.5], {"opset": 16, "mode": mode, "padding_mode": pads})
        for mode in ("nearest", "bilinear", "bicubic")
        for pads in ("zeros", "border", "reflection")
    ),
    ("GridSample", [f32(1, 2, 3, 5, 4), unit(1, 2, 3, 2, 3)], {"opset": 20, "align_corners": 1}),
    (
        "GridSample",
        [f32(1, 2, 1, 1), unit(1, 1, 3, 2)],
        {"opset": 16, "align_corners": 1, "padding_mode": "reflection"},
    ),
    (
        "RoiAlign",
        [IMAGE, np.array([[0, 0, 5, 6], [1, 2, 3.5, 9], [-3, 0, 2, 1]], np.float32), i64(0, 1, 1)],
        {"opset": 16, "output_height": 2, "output_width": 3, "sampling_ratio": 2, "spatial_scale": 0.75},
    ),
    (
        "RoiAlign",
        [IMAGE, np.array([[0, 0, 5, 6], [1, 2, 3.5, 9], [2, 2, 2, 2]], np.float32), i64(0, 1, 1)],
        {"opset": 10, "output_height": 3, "output_width": 2, "fixed": [1]},
    ),
    (
        "RoiAlign",
        [IMAGE, np.array([[0, 0, 5, 6], [1, 2, 3.5, 9]], np.float32), i64(1, 0)],
        {"opset": 16, "output_height": 2, "output_width": 2, "sampling_ratio": 3, "mode": "max"},
    ),
    ("Col2Im", [f32(2, 12, 20), i64(6, 7), i64(2, 2)], {"fixed": [1, 2], "strides": [1, 2], "pads": [0, 1, 0, 1]}),
    ("Col2Im", [f32(1, 6, 7), i64(9), i64(3)], {"fixed": [1, 2]}),
    (
        "DeformConv",
        [f32(2, 4, 6, 5), f32(6, 2, 3, 2), f32(2, 24, 4, 4), f32(6), f32(2, 12, 4, 4)],
        {"opset": 19, "group": 2, "offset_group": 2, "kernel_shape": [3, 2]},
    ),
    (
        "DeformConv",
        [f32(1, 2, 7, 6), f32(3, 2, 2, 2), f32(1, 8, 3, 5)],
        {"opset": 19, "strides": [2, 1], "pads": [1, 0, 0, 1], "dilations": [2, 2]},
    ),
    ("DFT", [f32(3, 10, 1)], {"onesided": 1, "opset": 17}),
    ("DFT", [f32(3, 10, 2), np.array(7, np.int64)], {"fixed": [1], "opset": 17}),
    ("DFT", [f32(3, 10, 1), np.array(16, np.int64), np.array(-2, np.int64)], {"fixed": [1, 2], "opset": 20}),
    (
        "STFT",
        [f32(2, 50, 1), np.array(7, np.int64), positive(16), np.array(16, np.int64)],
        {"fixed": [1, 3], "opset": 17},
    ),
    ("STFT", [f32(1, 33, 1), np.array(4, np.int64), None, np.array(9, np.int64)], {"fixed": [1, 3], "onesided": 0}),
    (
        "MelWeightMatrix",
        [*(np.array(v, np.int64) for v in (11, 64, 8000)), np.float32(20), np.float32(3900)],
        {"fixed": [0, 1, 2, 3, 4], "opset": 17},
    ),
    ("Det", [f32(4, 4)], {"opset": 11}),
    ("Det", [f32(2, 3, 5, 5)], {"opset": 11}),
    ("Det", [np.ones((2, 3, 3), np.float32)], {"opset": 11}),
    ("NonZero", [bools(3, 5)], {"fixed": [0]}),
    ("Compress", [f32(3, 5, 2), bools(4)], {"fixed": [1], "axis": 1}),
    ("Compress", [X, bools(9)], {"fixed": [1]}),
    ("Unique", [RNG.integers(0, 5, 17)], {"fixed": [0], "outputs": 4}),
    ("Unique", [RNG.integers(0, 2, (7, 2)).astype(np.float32)], {"fixed": [0], "outputs": 4, "axis": 0, "sorted": 0}),
    ("BatchNormalization", [IMAGE, *(positive(4, 9, 7) for _ in range(4))], {"opset": 7, "spatial": 0}),
    ("BatchNormalization", [IMAGE, f32(4), f32(4), f32(4), positive(4)], {"opset": 15}),
]


@pytest.mark.parametrize(("op", "inputs", "options"), CASES, ids=[f"{k}-{c[0]}" for k, c in enumerate(CASES)])
def test_operator(op: str, inputs: list[np.ndarray | None], options: dict[str, Any]) -> None:
    proto, given = one_node(op, inputs, **options)
    check(proto, given, 2e-5)


@pytest.mark.parametrize("n", [1, 2, 5, 64, 77, 90, 97, 128, 400, 1009])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("parts", [1, 2])
def test_dft_against_numpy(n: int, inverse: int, parts: int) -> None:
    """onnxruntime's own transforms are off by more than this at lengths that are no powers of two."""
    x = f32(2, n, 3, parts)
    proto, given = one_node("DFT", [x], axis=1, inverse=inverse, opset=17)
    (got,) = ours(read(proto), given)
    signal = x[..., 0] + (1j * x[..., 1] if parts == 2 else 0)
    want = (np.fft.ifft if inverse else np.fft.fft)(signal, axis=1)
    np.testing.assert_allclose(got[..., 0] + 1j * got[..., 1], want, rtol=0, atol=3e-6 * np.abs(want).max())


@pytest.mark.parametrize(("bins", "length"), [(6, 10), (6, 11), (6, 7), (4, 10)])
def test_one_sided_inverse_dft_against_numpy(bins: int, length: int) -> None:
    x = f32(2, bins, 2)
    proto, given = one_node("DFT", [x, np.array(length, np.int64)], fixed=[1], inverse=1, onesided=1, opset=20)
    (got,) = ours(read(proto), given)
    want = np.fft.irfft(x[..., 0] + 1j * x[..., 1], length)
    np.testing.assert_allclose(got[..., 0], want, rtol=0, atol=3e-6 * np.abs(want).max())
