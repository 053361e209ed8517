"""Converters: resizing, as products with tables of places and weights that are computed at import."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.node import NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor, apply
from tcompiler.ir import dtypes as dt

Places = NDArray[np.int64]
Weights = NDArray[np.float64]


class Line(NamedTuple):
    """Places on a line: (step * i + offset) // unit for each output i."""

    step: int
    offset: int
    unit: int


_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)


_ROUNDING = {
    "round_prefer_floor": (-0.5, True),
    "round_prefer_ceil": (0.5, False),
    "floor": (0.0, False),
    "ceil": (0.0, True),
}
"""What is added before rounding, and whether that goes up, by nearest_mode."""
_POLICIES = ("stretch", "not_larger", "not_smaller")
_TAPS = 256
"""Most weights per output element: each is a node."""
_WRITTEN_OUT = 8
"""Taps up to which a sum over those on a line is one node."""
_UNIT = 4096
"""Parts of an element that places on a line may lie at, at most."""
_FAR = float(1 << 31)
"""Where such places end: so many parts are an integer of 64 bits, and known from a float."""


def coordinates(mode: str, size: int, out: int, scale: float, roi: tuple[float, float]) -> Weights:
    """Where in the source each output lies, by ONNX's coordinate_transformation_mode.

    Args:
        mode: One of ONNX's names.
        size: Extent of the source.
        out: Extent of the result.
        scale: Result over source, as the model gives it.
        roi: Start and end of the region of interest, for "tf_crop_and_resize".
    """
    i = np.arange(out, dtype=np.float64)
    match mode:
        case "half_pixel" | "tf_half_pixel_for_nn":
            shift = 0.5 if mode == "half_pixel" else 0.0
            return (i + 0.5) / scale - shift
        case "half_pixel_symmetric":
            offset = size / 2 * (1 - out / (scale * size))
            return offset + (i + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (i + 0.5) / scale - 0.5 if out > 1 else np.zeros(out)
        case "align_corners":
            # ONNX's reference divides by the extent before it is rounded down.
            return i * (size - 1) / (scale * size - 1) if out > 1 else np.zeros(out)
        case "asymmetric":
            return i / scale
        case "tf_crop_and_resize":
            start, end = roi
            if out > 1:
                return start * (size - 1) + i * (end - start) * (size - 1) / (out - 1)
            return np.full(out, 0.5 * (start + end) * (size - 1))
    raise CompileError(f"coordinate_transformation_mode is '{mode}', expected one of {', '.join(_COORDINATES)}")


def nearest(x: Weights, mode: str) -> tuple[Weights, bool]:
    """What to round for the place of the nearest source element, by ONNX's nearest_mode, and whether up."""
    if mode not in _ROUNDING:
        raise CompileError(f"nearest_mode is '{mode}', expected {', '.join(_ROUNDING)}")
    shift, up = _ROUNDING[mode]
    return x + shift, up


def kernel(mode: str, x: Weights, a: float) -> Weights:
    """The weight of a source element at a distance: a triangle, or Keys' cubic convolution (1981)."""
    d = np.abs(x)
    if mode == "linear":
        return np.asarray(np.maximum(1 - d, 0))
    inner = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    weights: Weights = np.where(d <= 1, inner, np.where(d < 2, outer, 0))
    return weights


def _reach(mode: str, scale: float) -> int:
    """How many elements on either side have a weight, of a kernel that is stretched where the scale is below 1."""
    return int(np.ceil((1.0 if mode == "linear" else 2.0) * max(1.0, 1 / scale)))


def taps(
    mode: str, x: Weights, size: int, scale: float, a: float, antialias: bool, exclude: bool
) -> tuple[Places, Weights]:
    """Places in the source and weights, (outputs, taps); places outside are brought to the edge.

    With antialias the kernel is stretched by a factor of reduction, as in Pillow.
    """
    stretch = max(1.0, 1 / scale) if antialias else 1.0
    reach = _reach(mode, scale if antialias else 1.0)
    first = np.floor(x).astype(np.int64) - reach + 1
    places = first[:, None] + np.arange(2 * reach)
    weights = kernel(mode, (places - x[:, None]) / stretch, a)
    if exclude or antialias:
        weights = np.where((places >= 0) & (places < size), weights, 0.0) if exclude else weights
        weights = weights / weights.sum(1, keepdims=True)
    return np.clip(places, 0, size - 1), weights


def line(at: Weights, up: bool = False) -> Line | None:
    """The line on which rounded places lie.

    Args:
        at: Places between the elements of the source, equally far apart.
        up: Whether they are rounded up.

    Returns:
        None where no integers as small as `_UNIT` say so for all of them.
    """
    if len(at) < 2 or not (np.abs(at) < _FAR).all():
        return None
    slope, start = (Fraction(float(v)).limit_denominator(_UNIT) for v in ((at[-1] - at[0]) / (len(at) - 1), at[0]))
    unit = math.lcm(slope.denominator, start.denominator)
    step, offset = int(slope * unit), int(start * unit) + (unit - 1) * up
    exact = (step * np.arange(len(at)) + offset) // unit
    return Line(step, offset, unit) if step > 0 and np.array_equal(exact, (np.ceil if up else np.floor)(at)) else None


def resize_axis(
    node: NodeView, x: SymbolicTensor, axis: int, places: Places, weights: Weights | None, on: Line | None
) -> SymbolicTensor:
    """One axis resized: elements taken, or a weighted sum over taps.

    Args:
        node: The node.
        x: The source.
        axis: The axis.
        places: For each output the element, or one for each tap.
        weights: The weights of the taps.
        on: The line on which the first of them are, if they are not brought to the edge.
    """
    if weights is None:
        if on is None or on.unit == 1:  # a slice
            return apply("gather", x, node.constant(places), axis=axis)
        step, offset, unit = on
        return apply("resample", x, axis=axis, extent=len(places), step=step, offset=offset, unit=unit)
    live = [t for t in range(places.shape[1]) if weights[:, t].any()]
    if on is not None and live and len(range(live[0], live[-1] + 1)) <= _WRITTEN_OUT:
        step, offset, unit = on
        used = weights[:, live[0] : live[-1] + 1].T.copy()
        offset += unit * live[0]
        table = node.constant(used, x.dtype.numpy)
        return apply("resample", x, table, axis=axis, extent=len(places), step=step, offset=offset, unit=unit)
    shape = [-1 if k == axis else 1 for k in range(x.ndim)]
    total: SymbolicTensor | None = None
    for t in live:
        part = apply("gather", x, node.constant(places[:, t].copy()), axis=axis)
        scaled = apply("mul", part, node.constant(weights[:, t].reshape(shape), x.dtype.numpy))
        total = scaled if total is None else apply("add", total, scaled)
    return x if total is None else total


def repeat(x: SymbolicTensor, times: Mapping[int, int]) -> SymbolicTensor:
    """Every element repeated along some axes, all at once.

    Args:
        x: A tensor.
        times: How often, by axis.
    """
    apart: list[int] = []
    wide: list[int] = []
    for axis, extent in enumerate(x.shape):
        apart += [extent, 1] if axis in times else [extent]
        wide += [extent, times[axis]] if axis in times else [extent]
    shape = [extent * times.get(axis, 1) for axis, extent in enumerate(x.shape)]
    return fn.reshape(fn.broadcast_to(fn.reshape(x, apart), wide), shape)


def _sizes(node: NodeView, x: SymbolicTensor, axes: list[int]) -> tuple[list[int], list[float]]:
    """The result's extent and the scale of each named axis."""
    policy = node.string_attr("keep_aspect_ratio_policy", "stretch")
    if policy not in _POLICIES:
        raise CompileError(f"keep_aspect_ratio_policy is '{policy}', expected {', '.join(_POLICIES)}")
    extents = [x.shape[a] for a in axes]
    at = 1 if node.op == "Upsample" or node.opset < 11 else 2
    if node.op == "Upsample" and node.opset < 9:
        scales = node.floats_attr("scales")
    elif node.optional(at) is not None and node.array(at, "scales").size:
        scales = [float(v) for v in node.array(at, "scales").reshape(-1)]
    else:
        sizes = node.integers(3, "sizes")
        if len(sizes) != len(axes) or 0 in extents:
            raise CompileError(f"sizes are {sizes} for {len(axes)} axes of {x!r}")
        if policy == "stretch":
            return sizes, [s / e for s, e in zip(sizes, extents, strict=True)]
        ratios = [s / e for s, e in zip(sizes, extents, strict=True)]
        scale = min(ratios) if policy == "not_larger" else max(ratios)
        return [int(np.floor(scale * e + 0.5)) for e in extents], [scale] * len(axes)
    if len(scales) != len(axes) or not all(0 < s < np.inf for s in scales):
        raise CompileError(f"scales are {scales} for {len(axes)} axes of {x!r}, expected as many positive numbers")
    return [int(np.floor(e * s)) for e, s in zip(extents, scales, strict=True)], scales


@converts("Resize", "Upsample")
def _resize(node: NodeView) -> Result:
    x = node.x()
    if not x.dtype.is_float and node.string_attr("mode", "nearest") != "nearest":
        return fn.astype(_resized(node, fn.astype(x, dt.f32)), x.dtype)
    return _resized(node, x)


def _resized(node: NodeView, x: SymbolicTensor) -> SymbolicTensor:
    old = node.op == "Upsample" or node.opset < 11
    mode = node.string_attr("mode", "nearest")
    where = "asymmetric" if old else node.string_attr("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if old else node.string_attr("nearest_mode", "round_prefer_floor")
    a = node.float_attr("cubic_coeff_a", -0.75)
    exclude, antialias = bool(node.int_attr("exclude_outside", 0)), bool(node.int_attr("antialias", 0))
    fill = node.float_attr("extrapolation_value", 0.0)
    axes = node.ints_attr("axes", list(range(x.ndim)))
    if len({k % x.ndim for k in axes if -x.ndim <= k < x.ndim}) != len(axes):
        raise CompileError(f"attribute 'axes' is {axes} for {x!r}, expected distinct axes of it")
    axes = [k % x.ndim for k in axes]
    if mode not in ("nearest", "linear", "cubic"):
        raise CompileError(f"mode is '{mode}', expected nearest, linear or cubic")
    sizes, scales = _sizes(node, x, axes)
    crop = where == "tf_crop_and_resize"
    region = [float(v) for v in node.array(1, "roi").reshape(-1)] if crop else []
    if crop and (len(region) != 2 * len(axes) or not all(map(np.isfinite, region))):
        raise CompileError(f"roi is {region} for {len(axes)} axes, expected a start and an end for each")
    outside: list[tuple[int, NDArray[np.bool_]]] = []
    repeated: dict[int, int] = {}
    for k, (axis, out, scale) in enumerate(zip(axes, sizes, scales, strict=True)):
        size = x.shape[axis]
        if size == out and scale == 1 and not crop:
            continue
        if out < 0 or (size == 0 and out > 0):
            raise CompileError(f"axis {axis} of {x!r} becomes {out} long, expected extents of at least 1")
        if size == 0:
            continue
        # every output has a place in a table, and a weight for each tap
        reach = 1.0 if mode == "nearest" else 4 * max(1.0, 1 / scale if antialias else 1.0)
        node.computed(int(out * reach), f"the table for axis {axis} of {x!r}")
        if reach > _TAPS:
            raise CompileError(
                f"axis {axis} of {x!r} shrinks to {out} with antialias, expected at most {_TAPS // 4} times"
            )
        roi = (region[k], region[len(axes) + k]) if crop else (0.0, 1.0)
        at = coordinates(where, size, out, scale, roi)
        if crop:
            outside.append((axis, (at < 0) | (at > size - 1)))
        if mode == "nearest":
            at, up = nearest(at, rounding)
            places = np.clip((np.ceil if up else np.floor)(at).astype(np.int64), 0, size - 1)
            times = out // size if size else 0
            if times * size == out and np.array_equal(places, np.arange(out) // max(times, 1)):
                repeated[axis] = times
            else:
                x = resize_axis(node, x, axis, places, None, line(at, up))
        else:
            places, weights = taps(mode, at, size, scale, a, antialias, exclude)
            x = resize_axis(node, x, axis, places, weights, line(at - _reach(mode, scale if antialias else 1.0) + 1))
    if repeated:
        x = repeat(x, repeated)
    for axis, mask in outside:
        if mask.any():
            shape = [-1 if k == axis else 1 for k in range(x.ndim)]
            x = apply("where", node.constant(mask.reshape(shape)), node.constant(fill, x.dtype.numpy), x)
    return x
