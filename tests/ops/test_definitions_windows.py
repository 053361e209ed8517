"""Definitions of operators on windows, convolutions, pools, samples, against numpy and torch, on odd sizes."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tcompiler.ops import registry
from tcompiler.ops.evaluate import type_of
from tcompiler.ops.residues import Aligned, aligned, combinations
from tests.ops.checking import close, f32, run

RNG = np.random.default_rng(20240611)


def windows(x: np.ndarray, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> np.ndarray:
    """(lead…, outputs…, kernel…) from padded data, by slicing."""
    rank = len(kernel)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    axes = tuple(range(x.ndim - rank, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axes)
    outer = (*([slice(None)] * (x.ndim - rank)), *(slice(None, None, s) for s in strides))
    return view[(*outer, *(slice(None, None, d) for d in dilations))]


def convolution(
    x: np.ndarray,
    w: np.ndarray,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> np.ndarray:
    rank = x.ndim - 2
    around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    view = windows(np.pad(x.astype(np.float64), around), w.shape[2:], strides, dilations)
    parts = []
    for g in range(groups):
        size, filters = w.shape[1], w.shape[0] // groups
        part = view[:, g * size : (g + 1) * size]
        over = [1, *range(2 + rank, 2 + 2 * rank)]
        weight = w[g * filters : (g + 1) * filters].astype(np.float64)
        y = np.tensordot(part, weight, (over, list(range(1, weight.ndim))))
        parts.append(np.moveaxis(y, -1, 1))
    return np.concatenate(parts, 1)


@pytest.mark.parametrize(
    ("x", "w", "strides", "pads", "dilations", "groups"),
    [
        ((2, 3, 7, 9), (5, 3, 3, 2), (2, 1), (1, 0, 2, 1), (1, 2), 1),
        ((1, 4, 5, 5), (6, 2, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
        ((2, 5, 7, 6), (5, 1, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 5),
        ((1, 3, 4, 6), (6, 1, 2, 2), (1, 1), (0, 0, 0, 0), (1, 1), 3),
        ((2, 4, 5, 3), (3, 4, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
        ((1, 3, 5, 3), (3, 1, 1, 1), (2, 1), (0, 0, 0, 0), (1, 1), 3),
        ((1, 2, 11), (3, 2, 3), (2,), (2, 1), (3,), 1),
        ((1, 2, 4, 5, 3), (3, 2, 2, 3, 1), (1, 2, 1), (0, 1, 0, 1, 0, 0), (1, 1, 1), 1),
        ((0, 2, 5), (3, 2, 3), (1,), (0, 0), (1,), 1),
    ],
)
def test_conv(
    x: tuple[int, ...],
    w: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
) -> None:
    data, weight, bias = f32(*x), f32(*w), f32(w[0])
    attrs = {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    want = convolution(data, weight, **attrs)
    close(run("conv", [data, weight], **attrs), want, 1e-5)
    shape = (1, -1, *([1] * (len(x) - 2)))
    close(run("conv", [data, weight, bias], **attrs), want + bias.reshape(shape), 1e-5)


@pytest.mark.parametrize(
    ("x", "taps", "strides", "pads", "sizes"),
    [
        ((1, 3, 4, 5), (2, 2), (2, 2), (1, 1), (8, 10)),
        ((2, 2, 3, 4), (1, 3), (3, 1), (0, 2), (9, 4)),
        ((1, 2, 5), (3,), (4,), (5,), (13,)),
    ],
)
def test_conv_phases(
    x: tuple[int, ...], taps: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    """Every phase of the result is a convolution with weights of its own."""
    data, weight, bias = f32(*x), f32(3, x[1], *strides, *taps), f32(3)
    want = np.zeros((x[0], 3, *sizes))
    for n, k, *at in np.ndindex(*want.shape):
        phase = tuple(y % s for y, s in zip(at, strides, strict=True))
        for c, *tap in np.ndindex(x[1], *taps):
            source = tuple(
                y // s + (q + p) // s - t + 1 + j
                for y, p, q, s, t, j in zip(at, pads, phase, strides, taps, tap, strict=True)
            )
            if all(0 <= i < e for i, e in zip(source, x[2:], strict=True)):
                want[(n, k, *at)] += float(data[(n, c, *source)]) * weight[(k, c, *phase, *tap)]
    close(run("conv_phases", [data, weight], sizes=sizes, pads=pads), want, 1e-5)
    wide = want + bias.reshape(1, -1, *([1] * len(sizes)))
    close(run("conv_phases", [data, weight, bias], sizes=sizes, pads=pads), wide, 1e-5)


@pytest.mark.parametrize(
    ("x", "taps", "strides", "dilations", "pads", "sizes", "groups"),
    [
        ((1, 4, 5), (3,), (2,), (1,), (1,), (10,), 2),
        ((2, 2, 4, 3), (3, 2), (2, 3), (1, 2), (0, 1), (9, 10), 1),
        ((1, 2, 3, 5), (2, 9), (1, 4), (1, 1), (0, 3), (4, 21), 1),
        ((1, 2, 3, 4), (2, 1), (3, 2), (1, 1), (1, 0), (8, 7), 2),
    ],
)
@pytest.mark.parametrize("op", ["conv_residues", "conv_planes"])
def test_conv_residues(
    op: str,
    x: tuple[int, ...],
    taps: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    sizes: tuple[int, ...],
    groups: int,
) -> None:
    """Every class of residues has weights of its own, and reads the data one beside the other.

    In planes they are those of positions that are counted from a whole step on, and filters of their own.
    """
    filters, channels = 2 * groups, x[1] // groups
    begin = aligned(strides, pads, sizes) if op == "conv_planes" else Aligned(pads, (0,) * len(pads), sizes)
    classes = list(combinations(taps, strides, dilations, begin.pads, begin.sizes))
    data, bias = f32(*x), f32(filters)
    weights = [f32(filters, channels, *(r.count for r in c), *(r.taps for r in c)) for c in classes]
    want = np.zeros((x[0], filters, *sizes))
    for n, k, *at in np.ndindex(*want.shape):
        moved = [y + k for y, k in zip(at, begin.skipped, strict=True)]
        residues = [y % s for y, s in zip(moved, strides, strict=True)]
        found = (
            (c, w)
            for c, w in zip(classes, weights, strict=True)
            if all(r.first <= p < r.first + r.count for r, p in zip(c, residues, strict=True))
        )
        chosen, weight = next(found, ((), None))
        if weight is None:
            continue  # residues that meet no tap have a sum of zero
        own = [p - r.first for r, p in zip(chosen, residues, strict=True)]
        for c, *tap in np.ndindex(channels, *(r.taps for r in chosen)):
            places = [y // s + r.start + t * r.step for y, s, r, t in zip(moved, strides, chosen, tap, strict=True)]
            if all(0 <= i < e for i, e in zip(places, x[2:], strict=True)):
                read = float(data[(n, k // 2 * channels + c, *places)])
                want[(n, k, *at)] += read * weight[(k, c, *own, *tap)]
    attrs = {"taps": taps, "strides": strides, "dilations": dilations, "pads": pads, "sizes": sizes, "groups": groups}
    if op == "conv_planes":
        attrs["filters"] = filters
        apart = [np.moveaxis(w, 1, 1 + len(sizes)) for w in weights]
        weights = [w.reshape(-1, *w.shape[1 + len(sizes) :]) for w in apart]
    close(run(op, [data, *weights], **attrs), want, 1e-5)
    wide = want + bias.reshape(1, -1, *([1] * len(sizes)))
    close(run(op, [data, *weights, bias], biased=True, **attrs), wide, 1e-5)


@pytest.mark.parametrize(
    ("x", "w", "strides", "pads", "dilations", "groups", "extra"),
    [
        ((2, 4, 5, 4), (4, 3, 3, 2), (2, 3), (1, 0, 2, 1), (1, 1), 2, (1, 2)),
        ((1, 3, 5), (3, 2, 4), (1,), (0, 0), (2,), 1, (0,)),
        ((1, 4, 3, 3), (4, 1, 2, 2), (2, 2), (0, 0, 0, 0), (1, 1), 4, (0, 0)),
        ((1, 2, 4), (2, 3, 1), (1,), (0, 0), (1,), 1, (0,)),
        ((1, 2, 4), (2, 3, 2), (3,), (-1, -2), (1,), 1, (0,)),
    ],
)
def test_conv_transpose(
    x: tuple[int, ...],
    w: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
    extra: tuple[int, ...],
) -> None:
    """The gradient of a convolution: every element of the data adds its multiple of the weight."""
    data, weight = f32(*x), f32(*w)
    rank, filters = len(x) - 2, w[1] * groups
    full = [
        (e - 1) * s + d * (k - 1) + 1 + o for e, s, d, k, o in zip(x[2:], strides, dilations, w[2:], extra, strict=True)
    ]
    total = np.zeros((x[0], filters, *full))
    each = x[1] // groups
    for n, c, *at in np.ndindex(*x):
        g = c // each
        place = tuple(
            slice(i * s, i * s + d * (k - 1) + 1, d) for i, s, d, k in zip(at, strides, dilations, w[2:], strict=True)
        )
        total[(n, slice(g * w[1], (g + 1) * w[1]), *place)] += float(data[(n, c, *at)]) * weight[c]
    around = [(0, 0), (0, 0), *((max(-b, 0), max(-a, 0)) for b, a in zip(pads[:rank], pads[rank:], strict=True))]
    total = np.pad(total, around)
    cut = tuple(
        slice(max(b, 0), e - max(a, 0)) for b, a, e in zip(pads[:rank], pads[rank:], total.shape[2:], strict=True)
    )
    want = total[(slice(None), slice(None), *cut)]
    got = run(
        "conv_transpose",
        [data, weight],
        strides=strides,
        pads=pads,
        dilations=dilations,
        groups=groups,
        output_padding=extra,
    )
    close(got, want, 1e-5)


@pytest.mark.parametrize(
    ("kernel", "strides", "pads", "dilations"),
    [
        ((3, 2), (2, 3), (1, 0, 1, 1), (1, 1)),
        ((2, 2), (1, 1), (0, 0, 0, 0), (2, 3)),
        ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
        ((11, 10), (1, 1), (0, 0, 0, 0), (1, 1)),
        ((7, 5), (1, 1), (3, 2, 3, 2), (1, 1)),
        ((1, 9), (1, 1), (0, 4, 0, 4), (1, 1)),
        ((6, 5), (2, 1), (1, 4, 3, 0), (1, 2)),
        ((3, 4), (1, 2), (3, 5, 4, 2), (2, 3)),
    ],
)
def test_pools(
    kernel: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...], dilations: tuple[int, ...]
) -> None:
    x = f32(1, 3, 11, 10)
    around = [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])]
    attrs = {"kernel": kernel, "strides": strides, "pads": pads, "dilations": dilations}

    def view(data: np.ndarray, fill: float) -> np.ndarray:
        return windows(np.pad(data.astype(np.float64), around, constant_values=fill), kernel, strides, dilations)

    close(run("max_pool", [x], **attrs), view(x, -np.inf).max((-1, -2)))
    total, count = view(x, 0).sum((-1, -2)), view(np.ones_like(x), 0).sum((-1, -2))
    close(run("average_pool", [x], **attrs), total / count)
    close(run("average_pool", [x], count_include_pad=True, **attrs), total / math.prod(kernel))
    close(run("lp_pool", [x], **attrs), np.sqrt((view(x, 0) ** 2).sum((-1, -2))))
    close(run("lp_pool", [x], p=3, **attrs), np.cbrt((np.abs(view(x, 0)) ** 3).sum((-1, -2))))
    places = np.arange(x.size, dtype=np.float64).reshape(x.shape)
    flat, at = view(x, -np.inf).reshape(*total.shape, -1), view(places, -1).reshape(*total.shape, -1)
    want = np.take_along_axis(at, flat.argmax(-1)[..., None], -1)[..., 0]
    np.testing.assert_array_equal(run("argmax_pool", [x], **attrs), want.astype(np.int64))


def test_pools_in_stages() -> None:
    """Wide windows that overlap are reduced along one axis after the other, others at once."""
    x = type_of(f32(1, 3, 11, 10))
    for kernel, strides, scopes in (
        ((7, 7), (1, 1), 2),
        ((3, 3), (1, 1), 1),
        ((11, 10), (1, 1), 1),
        ((9, 1), (1, 1), 1),
    ):
        program = registry.get("max_pool").define([x], {"kernel": kernel, "strides": strides})
        assert len(program.scopes) == scopes


def test_pools_round_up() -> None:
    x = np.arange(1, 8, dtype=np.float32).reshape(1, 1, 7)
    attrs = {"kernel": (3,), "strides": (3,), "ceil_mode": True}
    assert run("max_pool", [x], **attrs).reshape(-1).tolist() == [3, 6, 7]
    assert run("average_pool", [x], **attrs).reshape(-1).tolist() == [2, 5, 7]
    # A window that would begin in the padding at the end is left out.
    narrow = {"kernel": (2,), "strides": (3,), "pads": (0, 1), "ceil_mode": True}
    assert run("max_pool", [x[..., :6]], **narrow).shape == (1, 1, 2)


def test_the_mean_of_nothing_is_no_number() -> None:
    x = np.ones((1, 1, 4), np.float32)
    got = run("average_pool", [x], kernel=(2,), pads=(3, 2)).reshape(-1)
    np.testing.assert_array_equal(got, [np.nan, np.nan, 1, 1, 1, 1, 1, np.nan])


@pytest.mark.parametrize("column_major", [False, True])
def test_argmax_pool_takes_the_first_of_equal_ones_and_never_padding(column_major: bool) -> None:
    x = np.zeros((1, 2, 3, 4), np.uint8)
    x[0, 1, 1, 0] = x[0, 1, 0, 2] = 1
    got = run("argmax_pool", [x], kernel=(2, 3), pads=(1, 1, 0, 0), column_major=column_major)
    places = np.arange(24).reshape(x.shape)
    if column_major:
        places = np.arange(24).reshape(1, 2, 4, 3).swapaxes(2, 3)
    around = [(0, 0), (0, 0), (1, 0), (1, 0)]
    values = windows(np.pad(x.astype(int), around, constant_values=-1), (2, 3), (1, 1), (1, 1)).reshape(1, 2, 3, 3, 6)
    at = windows(np.pad(places, around), (2, 3), (1, 1), (1, 1)).reshape(1, 2, 3, 3, 6)
    np.testing.assert_array_equal(got, np.take_along_axis(at, values.argmax(-1)[..., None], -1)[..., 0])


def test_max_pool_of_integers() -> None:
    x = RNG.integers(-100, 100, (1, 1, 5, 5)).astype(np.int8)
    got = run("max_pool", [x], kernel=(3, 3), pads=(1, 1, 1, 1))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-128)
    np.testing.assert_array_equal(got, windows(padded, (3, 3), (1, 1), (1, 1)).max((-1, -2)))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("edges", [False, True])
def test_sample(mode: str, padding: str, edges: bool) -> None:
    x = f32(2, 3, 4, 5)
    grid = RNG.uniform(-1.9, 1.9, (2, 3, 2, 2)).astype(np.float32)
    sizes = np.array([5, 4], np.float32)
    places = (grid + 1) / 2 * (sizes - 1) if edges else ((grid + 1) * sizes - 1) / 2
    want = torch.nn.functional.grid_sample(
        torch.from_numpy(x),
        torch.from_numpy(grid),
        {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[mode],
        padding,
        edges,
    )
    close(run("sample", [x, places[..., ::-1].copy()], mode=mode, padding=padding, edges=edges), want, 1e-5)


def test_sample_of_rows_in_one_and_three_dimensions() -> None:
    x = f32(3, 2, 7)
    at = np.array([[[0.5], [6.0]], [[2.25], [-0.5]]], np.float32)
    got = run("sample", [x, at, np.array([2, 0])], padding="border")
    want = np.stack([x[2][:, [0, 6]], x[0][:, [2, 0]]])
    want[0, :, 0] = (x[2, :, 0] + x[2, :, 1]) / 2
    want[1, :, 0] = 0.75 * x[0, :, 2] + 0.25 * x[0, :, 3]
    close(got, want, 1e-6)
    volume, grid = f32(1, 2, 3, 2, 4), RNG.uniform(-1.2, 1.2, (1, 2, 1, 2, 3)).astype(np.float32)
    places = ((grid + 1) * np.array([4, 2, 3], np.float32) - 1) / 2
    want = torch.nn.functional.grid_sample(torch.from_numpy(volume), torch.from_numpy(grid), align_corners=False)
    close(run("sample", [volume, places[..., ::-1].copy()]), want, 1e-5)


def test_sample_far_outside_and_of_nan_reads_no_foreign_memory() -> None:
    at = np.array([[[1e30], [-1e30], [np.inf], [np.nan]]], np.float32)
    got = run("sample", [f32(1, 1, 3), at], mode="nearest", padding="zeros")
    np.testing.assert_array_equal(got[0, 0, :3], [0, 0, 0])
    x = f32(1, 1, 3)
    edge = run("sample", [x, at[:, :3]], padding="border")
    np.testing.assert_array_equal(edge[0, 0], x[0, 0, [2, 0, 2]])


@pytest.mark.parametrize(("step", "offset", "unit"), [(1, -1, 2), (13, 0, 27), (7, -20, 3), (2, 5, 1), (1, -30, 1)])
@pytest.mark.parametrize("taps", [0, 1, 3])
def test_resample(step: int, offset: int, unit: int, taps: int) -> None:
    x, extent = f32(2, 5, 3), 11
    weights = f32(taps, extent) if taps else None
    at = (step * np.arange(extent) + offset) // unit + np.arange(max(taps, 1))[:, None]
    parts = x[:, np.clip(at, 0, 4)]  # rows of data, taps, places
    want = parts[:, 0] if weights is None else np.einsum("ntik,ti->nik", parts, weights)
    close(run("resample", [x, weights], axis=1, extent=extent, step=step, offset=offset, unit=unit), want)


@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "pads", "dilations"),
    [
        ((5,), (3,), (1,), (0, 0), (1,)),
        ((5, 7), (2, 3), (2, 1), (1, 1, 1, 1), (1, 2)),
        ((4, 3), (1, 1), (3, 2), (), ()),
    ],
)
def test_fold_windows(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
) -> None:
    rank = len(shape)
    before = pads or (0,) * (2 * rank)
    gaps = dilations or (1,) * rank
    counts = [
        (e + before[k] + before[rank + k] - g * (b - 1) - 1) // s + 1
        for k, (e, b, s, g) in enumerate(zip(shape, kernel, strides, gaps, strict=True))
    ]
    x = f32(2, 3, *kernel, *counts)
    want = np.zeros((2, 3, *shape))
    for taps in np.ndindex(*kernel):
        for at in np.ndindex(*counts):
            place = [a * s + t * g - b for a, s, t, g, b in zip(at, strides, taps, gaps, before, strict=False)]
            if all(0 <= p < e for p, e in zip(place, shape, strict=True)):
                want[(..., *place)] += x[(..., *taps, *at)]
    close(
        run("fold_windows", [x], shape=shape, kernel=kernel, strides=strides, pads=pads, dilations=dilations),
        want,
        1e-6,
    )
