"""Layers of neural networks: norms, convolutions, pools, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tcompiler.frontend.functions.contraction import matmul
from tcompiler.frontend.functions.elementwise import add, multiply
from tcompiler.frontend.functions.reduction import softmax
from tcompiler.frontend.functions.shape import swapaxes
from tcompiler.frontend.tensor import ArrayLike, SymbolicTensor, apply, lift, promote, writer_of


def _with_parameters(x: ArrayLike, *parameters: ArrayLike | None) -> list[SymbolicTensor | None]:
    """Parameters (None where absent) converted to the element type of the data."""
    writer = writer_of(x, *parameters)
    data = lift(writer, x)
    return [data, *(None if p is None else lift(writer, p, data.dtype) for p in parameters)]


def layer_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    axis: int = -1,
    epsilon: float = 1e-5,
) -> SymbolicTensor:
    """Layer normalization over an axis and all after it."""
    return apply("layer_norm", *_with_parameters(x, scale, bias), axis=axis, epsilon=float(epsilon))


def rms_norm(x: ArrayLike, scale: ArrayLike | None = None, axis: int = -1, epsilon: float = 1e-5) -> SymbolicTensor:
    """Root mean square normalization over an axis and all after it."""
    return apply("rms_norm", *_with_parameters(x, scale), axis=axis, epsilon=float(epsilon))


def batch_norm(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    epsilon: float = 1e-5,
) -> SymbolicTensor:
    """Batch normalization with stored statistics; channels are axis 1."""
    return apply("batch_norm", *_with_parameters(x, scale, bias, mean, variance), epsilon=float(epsilon))


def group_norm(
    x: ArrayLike, groups: int, scale: ArrayLike | None = None, bias: ArrayLike | None = None, epsilon: float = 1e-5
) -> SymbolicTensor:
    """Group normalization; channels are axis 1. One group per channel is instance normalization."""
    return apply("group_norm", *_with_parameters(x, scale, bias), groups=groups, epsilon=float(epsilon))


def _per_axis(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _pads(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """Pads given as one number, one per axis, or all before then all after."""
    pads = _per_axis(value, rank)
    return pads * 2 if len(pads) == rank else pads


def conv(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    strides: int | Sequence[int] = 1,
    pads: int | Sequence[int] = 0,
    dilations: int | Sequence[int] = 1,
    groups: int = 1,
) -> SymbolicTensor:
    """A convolution over any number of spatial axes.

    Args:
        x: Data (N, C, spatial…).
        w: Weight (K, C / groups, taps…).
        bias: One value per filter (K,).
        strides: One number, or one per spatial axis.
        pads: One number, one per spatial axis, or all before and then all after.
        dilations: One number, or one per spatial axis.
        groups: Number of groups.
    """
    operands = promote(x, w) if bias is None else promote(x, w, bias)
    rank = operands[0].ndim - 2
    return apply(
        "conv",
        *operands,
        strides=_per_axis(strides, rank),
        pads=_pads(pads, rank),
        dilations=_per_axis(dilations, rank),
        groups=groups,
    )


def conv_transpose(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    strides: int | Sequence[int] = 1,
    pads: int | Sequence[int] = 0,
    dilations: int | Sequence[int] = 1,
    groups: int = 1,
    output_padding: int | Sequence[int] = 0,
) -> SymbolicTensor:
    """A transposed convolution; arguments as for `conv`, with a weight (C, K / groups, taps…)."""
    operands = promote(x, w) if bias is None else promote(x, w, bias)
    rank = operands[0].ndim - 2
    return apply(
        "conv_transpose",
        *operands,
        strides=_per_axis(strides, rank),
        pads=_pads(pads, rank),
        dilations=_per_axis(dilations, rank),
        groups=groups,
        output_padding=_per_axis(output_padding, rank),
    )


def _pool(
    op: str,
    x: ArrayLike,
    kernel: int | Sequence[int],
    strides: int | Sequence[int] | None,
    pads: int | Sequence[int],
    dilations: int | Sequence[int],
    ceil_mode: bool,
    **more: bool,
) -> SymbolicTensor:
    t = lift(writer_of(x), x)
    window = _per_axis(kernel, t.ndim - 2)
    rank = len(window)
    return apply(
        op,
        t,
        kernel=window,
        strides=window if strides is None else _per_axis(strides, rank),
        pads=_pads(pads, rank),
        dilations=_per_axis(dilations, rank),
        ceil_mode=ceil_mode,
        **more,
    )


def max_pool(
    x: ArrayLike,
    kernel: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    pads: int | Sequence[int] = 0,
    dilations: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> SymbolicTensor:
    """The maximum over windows of the trailing axes; strides are the kernel's extents by default."""
    return _pool("max_pool", x, kernel, strides, pads, dilations, ceil_mode)


def average_pool(
    x: ArrayLike,
    kernel: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    pads: int | Sequence[int] = 0,
    dilations: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> SymbolicTensor:
    """The mean over windows of the trailing axes; strides are the kernel's extents by default."""
    return _pool("average_pool", x, kernel, strides, pads, dilations, ceil_mode, count_include_pad=count_include_pad)


def scaled_dot_product_attention(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, mask: ArrayLike | None = None, scale: float | None = None
) -> SymbolicTensor:
    """softmax(q · kᵀ · scale + mask) · v over the last two axes; scale is 1 / sqrt(head size) by default."""
    queries, keys, values = promote(q, k, v)
    factor = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    scores = multiply(matmul(queries, swapaxes(keys, -1, -2)), factor)
    if mask is not None:
        scores = add(scores, mask)
    return matmul(softmax(scores), values)


__all__ = [
    "average_pool",
    "batch_norm",
    "conv",
    "conv_transpose",
    "group_norm",
    "layer_norm",
    "max_pool",
    "rms_norm",
    "scaled_dot_product_attention",
]
