"""Transposed convolutions as ordinary ones: every phase of the result is a convolution of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir.graph.grammar import Attr, ConstantStore, Graph, Node
from tcompiler.ops.planes import planes
from tcompiler.ops.residues import VECTOR, Residues, aligned, combinations, kernel_classes, tap_places
from tcompiler.target.dots import dot_cycles, tall
from tcompiler.target.target import Target
from tcompiler.target.tile import NEVER, Registers
from tcompiler.transform.editing import Editor, ints, rewrite_nodes

DEPTH = 8
"""Products of a sum from which on planes are thought of."""
BEFORE, BEHIND = 4, 16
"""Products that take as long as an element's way into planes, and out of them, which tiles do without."""
GAIN = 0.95
"""What planes must not exceed of the vectors that other lanes take."""


@dataclass(frozen=True, slots=True)
class SplitPhases:
    """Turns a transposed convolution into sums at the input's resolution, one for each phase of the result.

    Output position s·q + r of an axis with stride s only meets the taps s·j + r, at input positions q - j. So the
    taps are dealt out to the phases. Nothing is multiplied by the zeros that spreading the data would insert. Shi et
    al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network"
    (2016), use the same identity the other way around. Many filters and kernels that the strides divide have phases of
    one shape (`conv_phases`); otherwise phases with equal taps form classes (`conv_residues`). Where filters do not
    fill vectors, sums run over whole planes of the data (`conv_planes`), of convolutions without a stride as well.

    Convolutions whose weight is not constant and those of symbolic extents stay as they are.

    Attributes:
        target: The machine, whose vectors are to be filled.
    """

    target: Target
    name: str = "split-phases"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with the transposed convolutions split."""
        return rewrite_nodes(graph, store, partial(_split, target=self.target))


@dataclass(frozen=True, slots=True)
class _Geometry:
    """A transposed convolution: extents of its data and result, its channels and filters of a group, its attributes."""

    data: tuple[int, ...]
    sizes: tuple[int, ...]
    channels: int
    filters: int
    groups: int
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    @property
    def alike(self) -> bool:
        """Whether all phases of a place read that place alone: a tile interleaves them in its registers."""
        return self.taps == self.strides and not any(p % s for p, s in zip(self.pads, self.strides, strict=True))

    def attrs(self, biased: bool) -> dict[str, Attr]:
        """The attributes of an operator that its sums are computed by."""
        return {
            "sizes": self.sizes,
            "pads": self.pads,
            "strides": self.strides,
            "dilations": self.dilations,
            "taps": self.taps,
            "groups": self.groups,
            "biased": biased,
        }


def _split(editor: Editor, node: Node, target: Target) -> str | None:
    if node.op != "conv_transpose":
        return None
    x, w, b = (*editor.inputs(node), "")[:3]
    dims, weight = editor.dims(x), editor.array(w)
    if dims is None or weight is None or 0 in dims:
        return None
    rank = weight.ndim - 2
    ones, zeros = (1,) * rank, (0,) * (2 * rank)
    strides, dilations = ints(node, "strides") or ones, ints(node, "dilations") or ones
    groups = node.attr("groups", 1)
    assert isinstance(groups, int)
    sizes, pads = node.outputs[0].type.dims()[2:], (ints(node, "pads") or zeros)[:rank]
    taps, filters = weight.shape[2:], weight.shape[1]
    shape = _Geometry(dims[2:], sizes, dims[1] // groups, filters, groups, taps, strides, dilations, pads)
    bias = [b] if b else []
    if _by_planes(shape, _registers(target, node.outputs[0].type.dtype.bits)):
        at = aligned(strides, pads, sizes)
        rows = [
            editor.constant(_rows(_deal(weight, classes, strides, dilations, at.pads, groups)))
            for classes in combinations(taps, strides, dilations, at.pads, at.sizes)
        ]
        attrs = {**shape.attrs(bool(b)), "filters": groups * filters}
        return editor.emit("conv_planes", [x, *rows, *bias], attrs, like=node)
    if strides == ones:
        return None
    even = all(t % s == 0 for t, s in zip(taps, strides, strict=True)) and dilations == ones
    if groups == 1 and filters >= VECTOR and even:
        parts: dict[str, Attr] = {"sizes": sizes, "pads": pads}
        operands = [x, editor.constant(_deal_phases(weight, strides, pads)), *bias]
        return editor.emit("conv_phases", operands, parts, like=node)
    dealt = [
        editor.constant(_deal(weight, classes, strides, dilations, pads, groups))
        for classes in combinations(taps, strides, dilations, pads, sizes)
    ]
    return editor.emit("conv_residues", [x, *dealt, *bias], shape.attrs(bool(b)), like=node)


def _rows(weight: NDArray[Any]) -> NDArray[Any]:
    """Weights (filters, channels, residues…, taps…) with the residues of a filter as filters of their own."""
    rank = weight.ndim // 2 - 1
    filters, channels, *rest = weight.shape
    moved = np.moveaxis(weight, 1, 1 + rank)
    return np.ascontiguousarray(moved).reshape(filters * prod(rest[:rank]), channels, *rest[rank:])


def _registers(target: Target, bits: int) -> Registers:
    """What tiles of elements of so many bits have to fit into."""
    return Registers.of(target, target.vector_lanes(bits), NEVER, NEVER)


def _by_planes(shape: _Geometry, registers: Registers) -> bool:
    """Whether sums over planes of the data fill vectors better than sums along the filters, or along rows."""
    filters, depth, lanes = shape.filters, shape.channels, registers.width
    for t, s in zip(shape.taps, shape.strides, strict=True):
        depth *= -(-t // s)
    if shape.channels == 1 or depth < DEPTH:
        return False
    if filters < VECTOR and not shape.alike:
        return True
    # taps that are not dealt out to phases stay in reverse order, which no dot products walk
    dealt = set(shape.strides) != {1}
    columns = _columns(filters, shape.channels, depth, registers) if dealt else _whole(filters, lanes)
    others = [columns / filters] if filters >= VECTOR else []
    if shape.alike or not dealt:
        row = -(-shape.sizes[-1] // shape.strides[-1])
        others.append(_whole(row, lanes) / row)
    if not dealt:
        others = [o * _inside(shape) for o in others]
    at = aligned(shape.strides, shape.pads, shape.sizes)
    axes = kernel_classes(shape.taps, shape.strides, shape.dilations, at.pads, at.sizes)
    places = planes(axes, shape.strides, at.sizes, shape.data).places
    taken = _whole(places, lanes) * prod(shape.strides) / prod(shape.sizes)
    if shape.alike:
        taken *= 1 + BEHIND / depth + BEFORE / (filters * prod(shape.strides))
    return taken < GAIN * min(others)


def _columns(filters: int, channels: int, depth: int, registers: Registers) -> float:
    """Lanes that filters take: those that fill no vector may be dot products along the channels."""
    left, whole = filters % registers.width, _whole(filters, registers.width)
    if filters <= registers.width or channels < registers.width or not left or not tall(left, registers.count):
        return whole
    dots = dot_cycles(1, left, channels, depth // channels, registers) / (depth * registers.pace.fma)
    return min(whole, filters - left + dots * registers.width)


def _inside(shape: _Geometry) -> float:
    """The share of taps that read data in a convolution without a stride: tiles leave the others out, planes do not."""
    share = 1.0
    for n, size, taps, by, pad in zip(shape.data, shape.sizes, shape.taps, shape.dilations, shape.pads, strict=True):
        inside = sum(0 <= place + by * tap - pad < size for place in range(n) for tap in range(taps))
        share *= inside / (size * taps)
    return share


def _whole(extent: int, lanes: int) -> int:
    """An extent in whole vectors."""
    return -(-extent // lanes) * lanes


def _deal_phases(weight: NDArray[Any], strides: tuple[int, ...], pads: tuple[int, ...]) -> NDArray[Any]:
    """Weights (channels, filters, taps…) as (filters, channels, strides…, taps / s…), phases as the result has them."""
    rank = len(strides)
    channels, filters, *taps = weight.shape
    counts = [-(-t // s) for t, s in zip(taps, strides, strict=True)]
    whole = np.pad(weight, [(0, 0), (0, 0), *((0, n * s - t) for n, s, t in zip(counts, strides, taps, strict=True))])
    split = whole.reshape(channels, filters, *(e for pair in zip(counts, strides, strict=True) for e in pair))
    order = [1, 0, *(3 + 2 * k for k in range(rank)), *(2 + 2 * k for k in range(rank))]
    dealt = np.flip(split.transpose(order), axis=tuple(2 + rank + k for k in range(rank)))
    for k, (s, pad) in enumerate(zip(strides, pads, strict=False)):
        dealt = np.roll(dealt, -(pad % s), axis=2 + k)  # the result's phase p meets the taps (p + pad) % s
    return np.ascontiguousarray(dealt)


def _deal(
    weight: NDArray[Any],
    classes: Sequence[Residues],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    groups: int,
) -> NDArray[Any]:
    """Weights (channels, filters, taps…) as a class has them: (filters, channels of a group, residues…, taps…)."""
    channels, filters, *taps = weight.shape
    rank = len(taps)
    dealt = np.pad(weight, [(0, 0), (0, 0), *((0, 1) for _ in taps)])  # a tap of zeros, for places that have none
    for k, (r, t, s, d, pad) in enumerate(zip(classes, taps, strides, dilations, pads, strict=True)):
        places = [tap_places(p, t, s, d, pad) for p in range(r.first, r.first + r.count)]
        chosen = [[found.get(r.start + r.step * j, t) for j in range(r.taps)] for found in places]
        dealt = np.take(dealt, chosen, axis=2 + 2 * k)
    split = dealt.reshape(groups, channels // groups, filters, *dealt.shape[2:])
    order = [0, 2, 1, *(3 + 2 * k for k in range(rank)), *(4 + 2 * k for k in range(rank))]
    moved = split.transpose(order)
    return np.ascontiguousarray(moved).reshape(groups * filters, channels // groups, *moved.shape[3:])
