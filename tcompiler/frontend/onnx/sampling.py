"""Converters: reading between the points of a grid, regions of interest, and windows put back together."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.linear import conv_attributes
from tcompiler.frontend.onnx.node import NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor, apply
from tcompiler.ir import dtypes as dt


@converts("GridSample")
def _grid_sample(node: NodeView) -> Result:
    x, grid = node.x(0), node.x(1)
    mode = node.string_attr("mode", "linear" if node.opset >= 20 else "bilinear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    corners = bool(node.int_attr("align_corners", 0))
    rank = x.ndim - 2
    if rank < 1 or grid.ndim != x.ndim or grid.shape[-1] != rank:
        raise CompileError(f"data is {x!r} and grid {grid!r}, expected (N, C, spatial…) and (N, …, spatial rank)")
    wide = dt.f64 if grid.dtype is dt.f64 else dt.f32
    # A grid names its axes last to first, in [-1, 1].
    places = fn.astype(grid[..., ::-1], wide)
    extents = node.constant(x.shape[2:], wide.numpy)
    if corners:
        places = fn.multiply(fn.divide(fn.add(places, 1.0), 2.0), fn.subtract(extents, 1.0))
    else:
        places = fn.divide(fn.subtract(fn.multiply(fn.add(places, 1.0), extents), 1.0), 2.0)
    padding = node.string_attr("padding_mode", "zeros")
    return apply("sample", x, places, None, mode=mode, padding=padding, edges=corners)


@converts("DeformConv")
def _deform_conv(node: NodeView) -> Result:
    """Dai et al., 2017, and with a mask Zhu et al., 2018: windows read at places of their own, then a product."""
    x, w, offset, bias, mask = node.x(0), node.x(1), node.x(2), node.optional(3), node.optional(4)
    geometry = conv_attributes(node, x, w)
    groups, spread = int(str(geometry["groups"])), node.int_attr("offset_group", 1)
    n, channels, *_ = x.shape
    filters, per_group, *kernel = w.shape
    rank, taps = len(kernel), math.prod(kernel)
    outputs = offset.shape[2:]
    if spread < 1 or channels % spread or offset.shape[:2] != (n, spread * taps * rank) or offset.ndim != x.ndim:
        raise CompileError(
            f"offset is {offset!r} for data {x!r} and weight {w!r}, expected {spread * taps * rank} channels"
        )
    if groups < 1 or per_group * groups != channels or filters % groups:
        raise CompileError(f"weight is {w!r} for data {x!r} in {groups} groups")
    strides, pads, dilations = (np.array(geometry[key]) for key in ("strides", "pads", "dilations"))
    node.computed(rank * math.prod(outputs) * taps, "the table of places")
    points = np.stack(np.meshgrid(*map(np.arange, outputs), indexing="ij"), -1) * strides - pads[:rank]
    steps = np.stack(np.meshgrid(*map(np.arange, kernel), indexing="ij"), -1).reshape(taps, rank) * dilations
    grid = points.reshape(1, -1, rank) + steps.reshape(taps, 1, rank)
    moves = fn.transpose(fn.reshape(offset, (n * spread, taps, rank, math.prod(outputs))), (0, 1, 3, 2))
    places = fn.add(moves, node.constant(grid, moves.dtype.numpy))
    folded = fn.reshape(x, (n * spread, channels // spread, *x.shape[2:]))
    columns = apply("sample", folded, places, None)
    if mask is not None:
        columns = fn.multiply(columns, fn.reshape(mask, (n * spread, 1, taps, -1)))
    columns = fn.reshape(columns, (n, groups, per_group * taps, -1))
    weights = fn.reshape(w, (groups, filters // groups, per_group * taps))
    y = fn.reshape(fn.matmul(weights, columns), (n, filters, *outputs))
    return y if bias is None else fn.add(y, fn.reshape(bias, (-1, *([1] * rank))))


@dataclass(frozen=True, slots=True)
class _Samples:
    """Where the samples of regions lie along one axis of the data.

    Attributes:
        place: Coordinates, (regions, bins, samples), brought into the data.
        inside: Whether the sample lay in the data before, same shape.
        counted: Whether the region has so many samples, (regions, 1, samples) or without the first axis's extent.
        number: Samples in a bin, (regions, 1, 1) or one.
    """

    place: SymbolicTensor
    inside: SymbolicTensor
    counted: SymbolicTensor
    number: SymbolicTensor


def _samples(node: NodeView, start: SymbolicTensor, bin_size: SymbolicTensor, bins: int, extent: int) -> _Samples:
    """The samples along one axis, from the start of each region and the size of its bins, both (regions, 1, 1)."""
    kind = start.dtype.numpy
    ratio = node.int_attr("sampling_ratio", 0)
    if ratio < 0 or bins < 1:
        raise CompileError(f"sampling_ratio is {ratio} and an extent of the result {bins}, expected >= 0 and >= 1")
    number = np.full((1, 1, 1), ratio)
    if ratio == 0:
        # As many samples as a bin has elements: how many is known only where the regions are.
        sizes = node.data(bin_size, "the number of samples in a bin (sampling_ratio is 0)")
        number = np.clip(np.ceil(sizes.astype(np.float64)), 0, node.limits.elements).astype(np.int64)
    most = int(number.max(initial=1))
    if most * bins * start.shape[0] > node.limits.elements:
        raise CompileError(f"a bin has {most} samples, the result more than {node.limits.elements} elements")
    node.computed(bins + most * number.size, f"the table of {bins} bins of {most} samples")
    steps = np.arange(most).reshape(1, 1, -1)
    first = fn.add(start, fn.multiply(bin_size, node.constant(np.arange(bins).reshape(1, -1, 1), kind)))
    within = node.constant((steps + 0.5) / np.maximum(number, 1), kind)
    place = fn.add(first, fn.multiply(bin_size, within))
    inside = fn.logical_and(fn.greater_equal(place, -1.0), fn.less_equal(place, float(extent)))
    return _Samples(
        fn.clip(place, 0.0, float(extent - 1)), inside, node.constant(steps < number), node.constant(number, kind)
    )


@converts("RoiAlign")
def _roi_align(node: NodeView) -> Result:
    """He et al., 2017: means (or maxima) of samples inside the bins of each region."""
    x, rois, rows = node.x(0), node.x(1), node.x(2)
    if x.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 4 or 0 in x.shape[2:]:
        raise CompileError(f"data is {x!r} and regions {rois!r}, expected (N, C, H, W) and (regions, 4)")
    mode = node.string_attr("mode", "avg").lower()
    half = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    half = node.string_attr("coordinate_transformation_mode", half)
    if mode not in ("avg", "max") or half not in ("half_pixel", "output_half_pixel"):
        raise CompileError(f"mode '{mode}', coordinates '{half}': expected avg or max, half_pixel or output_half_pixel")
    bins = (node.int_attr("output_height", 1), node.int_attr("output_width", 1))
    boxes = fn.multiply(rois, node.float_attr("spatial_scale", 1.0))
    if half == "half_pixel":
        boxes = fn.subtract(boxes, 0.5)
    axes = []
    for k in range(2):
        start, length = boxes[:, 1 - k], fn.subtract(boxes[:, 3 - k], boxes[:, 1 - k])
        if half != "half_pixel":
            length = fn.maximum(length, 1.0)
        each = fn.divide(length, float(bins[k]))
        start, each = (fn.reshape(t, (-1, 1, 1)) for t in (start, each))
        axes.append(_samples(node, start, each, bins[k], x.shape[2 + k]))

    def spread(vertical: SymbolicTensor, horizontal: SymbolicTensor) -> tuple[SymbolicTensor, SymbolicTensor]:
        """(regions, bins, samples) along each axis, as (regions, bins, bins, samples, samples) that broadcast."""
        (a, b, c), (d, e, f) = vertical.shape, horizontal.shape
        return fn.reshape(vertical, (a, b, 1, c, 1)), fn.reshape(horizontal, (d, 1, e, 1, f))

    def places(y: SymbolicTensor, x: SymbolicTensor) -> SymbolicTensor:
        vertical, horizontal = spread(y, x)
        box = (y.shape[0], y.shape[1], x.shape[1], y.shape[2], x.shape[2])
        return fn.stack([fn.broadcast_to(vertical, box), fn.broadcast_to(horizontal, box)], -1)

    inside = fn.expand_dims(fn.logical_and(*spread(axes[0].inside, axes[1].inside)), 1)
    counted = fn.expand_dims(fn.logical_and(*spread(axes[0].counted, axes[1].counted)), 1)
    if mode == "avg":
        values = apply("sample", x, places(axes[0].place, axes[1].place), rows)
        total = fn.sum(fn.where(fn.logical_and(inside, counted), values, 0.0), (-2, -1))
        number = fn.multiply(axes[0].number, axes[1].number)
        return fn.divide(total, fn.expand_dims(fn.maximum(number, 1.0), -1))
    corners = []
    for vertical in _corners(axes[0].place, x.shape[2]):
        for horizontal in _corners(axes[1].place, x.shape[3]):
            weight = fn.expand_dims(fn.multiply(*spread(vertical[1], horizontal[1])), 1)
            found = apply("sample", x, places(vertical[0], horizontal[0]), rows, mode="nearest")
            corners.append(fn.multiply(found, weight))
    values = fn.where(inside, functools.reduce(fn.maximum, corners), 0.0)
    highest = fn.max(fn.where(counted, values, -np.inf), (-2, -1))
    return fn.where(fn.any(counted, (-2, -1)), highest, 0.0)


def _corners(place: SymbolicTensor, extent: int) -> list[tuple[SymbolicTensor, SymbolicTensor]]:
    """The points on both sides of places, and their weights."""
    low = fn.floor(place)
    part = fn.subtract(place, low)
    return [(low, fn.subtract(1.0, part)), (fn.minimum(fn.add(low, 1.0), float(extent - 1)), part)]


@converts("Col2Im")
def _col2im(node: NodeView) -> Result:
    x = node.x()
    shape, kernel = node.integers(1, "image_shape"), node.integers(2, "block_shape")
    rank = len(shape)
    strides, dilations = node.ints_attr("strides", [1] * rank), node.ints_attr("dilations", [1] * rank)
    pads = node.ints_attr("pads", [0] * (2 * rank))
    if any(len(v) != rank for v in (kernel, strides, dilations)) or len(pads) != 2 * rank or min(strides) < 1:
        raise CompileError(f"image {shape}, block {kernel}, strides {strides}, dilations {dilations}, pads {pads}")
    counts = [
        (e + pads[k] + pads[rank + k] - d * (b - 1) - 1) // s + 1
        for k, (e, b, s, d) in enumerate(zip(shape, kernel, strides, dilations, strict=True))
    ]
    taps = math.prod(kernel)
    if x.ndim != 3 or taps < 1 or x.shape[1] % taps or x.shape[2] != math.prod(counts):
        raise CompileError(f"data is {x!r}, expected (N, C · {taps}, {math.prod(counts)})")
    windows = fn.reshape(x, (x.shape[0], x.shape[1] // taps, *kernel, *counts))
    return apply(
        "fold_windows",
        windows,
        shape=tuple(shape),
        kernel=tuple(kernel),
        strides=tuple(strides),
        pads=tuple(pads),
        dilations=tuple(dilations),
    )
