"""Converters: Fourier transforms as products with tables of cosines and sines, and what goes with them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.data import element_type
from tcompiler.frontend.onnx.node import NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor, apply

_DIRECT = 64
"""Lengths up to this are one matrix product; longer ones are split into two factors where they have any."""
_LONGEST_PRIME = 4096
"""The table of a prime length is its square."""

_Complex = tuple[SymbolicTensor, SymbolicTensor | None]
"""Real and imaginary part; None is an imaginary part of zeros."""


def _turns(n: int, rows: int, columns: int, sign: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """cos and sign · sin of 2π·i·k/n for rows i and columns k, the product taken modulo n before it is rounded."""
    angle = (np.arange(rows)[:, None] * np.arange(columns)[None, :] % n) * (2 * math.pi / n)
    return np.cos(angle), sign * np.sin(angle)


def _times(node: NodeView, op: str, x: _Complex, table: tuple[NDArray[np.float64], NDArray[np.float64]]) -> _Complex:
    """A product ("mul" or "matmul") of complex numbers with a table of them."""
    kind = x[0].dtype.numpy
    cos, sin = (node.constant(t, kind) for t in table)
    real, imaginary = apply(op, x[0], cos), apply(op, x[0], sin)
    if x[1] is not None:
        real = fn.subtract(real, apply(op, x[1], sin))
        imaginary = fn.add(imaginary, apply(op, x[1], cos))
    return real, imaginary


def fourier(node: NodeView, x: _Complex, sign: float) -> _Complex:
    """The sum over t of x[t] · exp(sign · 2πi·t·k/n) along the last axis, for every k (Cooley and Tukey, 1965)."""
    n = x[0].shape[-1]
    first = next((f for f in range(math.isqrt(n), 1, -1) if n % f == 0), 1)
    if n <= _DIRECT or first == 1:
        if n > _LONGEST_PRIME:
            raise CompileError(f"a transform of the prime length {n}, expected at most {_LONGEST_PRIME} or factors")
        node.computed(n * n, f"the table of a transform of length {n}")
        return _times(node, "matmul", x, _turns(n, n, n, sign))
    second = n // first
    lead = x[0].shape[:-1]

    def turned(part: SymbolicTensor | None, shape: tuple[int, ...]) -> SymbolicTensor | None:
        """The last two axes of a shape exchanged."""
        if part is None:
            return None
        return fn.swapaxes(fn.reshape(part, (*lead, *shape)), -1, -2)

    def both(y: _Complex, shape: tuple[int, ...]) -> _Complex:
        real = turned(y[0], shape)
        assert real is not None
        return real, turned(y[1], shape)

    # t = second · t1 + t2 and k = k1 + first · k2
    y = fourier(node, both(x, (first, second)), sign)
    node.computed(n, f"the table of a transform of length {n}")
    y = _times(node, "mul", y, _turns(n, second, first, sign))
    y = both(fourier(node, both(y, (second, first)), sign), (first, second))
    return fn.reshape(y[0], (*lead, n)), None if y[1] is None else fn.reshape(y[1], (*lead, n))


def _resized(x: SymbolicTensor, n: int) -> SymbolicTensor:
    """The last axis cut, or filled up with zeros, to an extent."""
    have = x.shape[-1]
    if have >= n:
        return x[..., :n]
    return apply("pad", x, pads=(*([0] * x.ndim), *([0] * (x.ndim - 1)), n - have))


@converts("DFT")
def _dft(node: NodeView) -> Result:
    x = node.x()
    axis = node.int_attr("axis", 1) if node.opset < 20 else -2
    if node.opset >= 20 and node.optional(2) is not None:
        axis = node.integer(2, "axis")
    inverse, onesided = bool(node.int_attr("inverse", 0)), bool(node.int_attr("onesided", 0))
    if x.ndim < 2 or x.shape[-1] not in (1, 2) or not -x.ndim <= axis < x.ndim or axis % x.ndim == x.ndim - 1:
        raise CompileError(f"data is {x!r} and axis {axis}, expected (…, 1 or 2) and an axis before the last")
    axis %= x.ndim
    size = x.shape[axis]
    length = 2 * (size - 1) if inverse and onesided else size
    if node.optional(1) is not None:
        length = node.integer(1, "dft_length")
    if length < 1 or length > node.limits.elements:
        raise CompileError(f"the length is {length}, expected 1 or more")
    parts = [fn.moveaxis(x[..., k], axis, -1) for k in range(x.shape[-1])]
    if inverse and onesided:
        # The other half is the conjugate of this one, turned around.
        half = [_resized(p, length // 2 + 1) for p in parts]
        tail = [p[..., 1 : (length + 1) // 2][..., ::-1] for p in half]
        parts = [
            fn.concatenate([p, t if k == 0 else fn.negative(t)], -1)
            for k, (p, t) in enumerate(zip(half, tail, strict=True))
        ]
    else:
        parts = [_resized(p, length) for p in parts]
    real, imaginary = fourier(node, (parts[0], parts[1] if len(parts) > 1 else None), 1.0 if inverse else -1.0)
    assert imaginary is not None
    results = [real] if inverse and onesided else [real, imaginary]
    if inverse:
        results = [fn.divide(r, float(length)) for r in results]
    elif onesided:
        results = [r[..., : length // 2 + 1] for r in results]
    return fn.stack([fn.moveaxis(r, -1, axis) for r in results], -1)


@converts("STFT")
def _stft(node: NodeView) -> Result:
    x, window = node.x(0), node.optional(2)
    step = node.integer(1, "frame_step")
    if x.ndim == 2:
        x = fn.expand_dims(x, -1)
    if x.ndim != 3 or x.shape[-1] not in (1, 2):
        raise CompileError(f"signal is {x!r}, expected (batch, length, 1 or 2)")
    length = x.shape[1] if window is None else window.shape[0]
    if node.optional(3) is not None:
        length = node.integer(3, "frame_length")
    if step < 1 or not 1 <= length <= x.shape[1]:
        raise CompileError(f"frame_step is {step} and frame_length {length} for {x!r}")
    frames = (x.shape[1] - length) // step + 1
    node.computed(frames * length, f"the table of {frames} frames of {length}")
    at = node.constant(np.arange(frames)[:, None] * step + np.arange(length)[None, :], np.int64)
    parts = [apply("gather", x[..., k], at, axis=1) for k in range(x.shape[-1])]
    if window is not None:
        parts = [fn.multiply(p, window) for p in parts]
    real, imaginary = fourier(node, (parts[0], parts[1] if len(parts) > 1 else None), -1.0)
    assert imaginary is not None
    both = [real, imaginary]
    if node.int_attr("onesided", 1):
        both = [p[..., : length // 2 + 1] for p in both]
    return fn.stack(both, -1)


@converts("MelWeightMatrix")
def _mel_weight_matrix(node: NodeView) -> Result:
    """Triangles that overlap by halves, evenly spaced by mel = 2595 · log10(1 + f / 700)."""
    bands, length, rate = (node.integer(k, what) for k, what in enumerate(("bands", "dft_length", "sample_rate")))
    low, high = (float(node.scalar(k, "an edge in hertz")) for k in (3, 4))
    to = element_type(node.int_attr("output_datatype", 1), "the result")
    bins = length // 2 + 1
    if bands < 1 or length < 1 or rate < 1 or not 0 <= low < high:
        raise CompileError(f"{bands} bands from {low} to {high} Hz, dft_length {length}, sample_rate {rate}")
    node.computed(bands * bins)
    first, last = (2595 * math.log10(1 + hertz / 700) for hertz in (low, high))
    mels = first + np.arange(bands + 2) * ((last - first) / (bands + 2))
    hertz = 700 * np.expm1(mels / 2595 * math.log(10))
    edges = ((length + 1) * hertz // rate).astype(np.int64)
    if edges[-1] > bins:
        raise CompileError(f"a band ends at {hertz[-1]:.1f} Hz, more than half of sample_rate {rate}")
    at = np.arange(bins)[:, None]
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    rising = np.where((at >= left) & (at <= middle), (at - left) / np.maximum(middle - left, 1), 0)
    rising = np.where((middle == left) & (at == middle), 1, rising)
    falling = np.where((at >= middle) & (at < right), (right - at) / np.maximum(right - middle, 1), 0)
    return node.constant(np.where(falling > 0, falling, rising), to.numpy)
