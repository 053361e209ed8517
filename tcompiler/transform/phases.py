"""Transposed convolutions as ordinary ones: every phase of the result is a convolution of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir.graph.grammar import Attr, ConstantStore, Graph, Node
from tcompiler.transform.editing import Editor, ints

_VECTOR = 8
"""Filters that fill a vector register: with fewer, the phases lie side by side as more filters of one convolution."""


@dataclass(frozen=True, slots=True)
class SplitPhases:
    """Turns a strided transposed convolution into a convolution at the input's resolution and a shuffle of its pixels.

    Output position s·q + r of an axis with stride s only meets the taps s·j + r, at input positions q - j. So the
    taps are dealt out to s phases, which become filters of one dense convolution with ceil(taps / s) taps and stride
    1; its results are interleaved and cropped. Nothing is multiplied by the zeros that spreading the data would
    insert. Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network" (2016), use the same identity the other way around.

    Convolutions whose weight or bias is not constant, dilated ones and those of symbolic extents stay as they are.
    """

    name: str = "split-phases"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with the transposed convolutions split."""
        editor = Editor(graph, store)
        for node in graph.nodes:
            result = _split(editor, node) if node.op == "conv_transpose" else None
            if result is None:
                editor.keep(node)
            else:
                editor.forward(node.outputs[0].name, result)
        return editor.finish()


def _split(editor: Editor, node: Node) -> str | None:
    x, w, b = (*editor.inputs(node), "")[:3]
    dims, weight, bias = editor.dims(x), editor.array(w), editor.array(b) if b else None
    if dims is None or weight is None or (b and bias is None):
        return None
    rank = weight.ndim - 2
    ones, zeros = (1,) * rank, (0,) * (2 * rank)
    strides = ints(node, "strides") or ones
    if (ints(node, "dilations") or ones) != ones or strides == ones or 0 in dims:
        return None
    groups = node.attr("groups", 1)
    assert isinstance(groups, int)
    sizes, pads = node.outputs[0].type.dims()[2:], (ints(node, "pads") or zeros)
    before, after, starts, counts = [], [], [], []
    for extent, taps, s, size, pad in zip(dims[2:], weight.shape[2:], strides, sizes, pads[:rank], strict=True):
        reach = -(-taps // s) - 1
        # positions q of the dense result, from first on, that hold the outputs from pad on; no less than the data
        first, last = min(pad // s, reach), max((size - 1 + pad) // s, extent - 1)
        before.append(reach - first)
        after.append(last - (extent - 1))
        starts.append(pad - s * first)
        counts.append(last - first + 1)
    filters = weight.shape[1]
    if groups == 1 and filters >= _VECTOR:
        parts: dict[str, Attr] = {"sizes": sizes, "pads": pads[:rank]}
        operands = [x, editor.constant(_deal_phases(weight, strides, pads)), *([b] if b else [])]
        return editor.emit("conv_phases", operands, parts, like=node)
    attrs: dict[str, Attr] = {"pads": (*before, *after), "groups": groups}
    dealt = editor.constant(_deal(weight, strides, groups))
    operands = [x, dealt]
    if bias is not None:
        each = np.broadcast_to(bias.reshape(groups, filters, *(1,) * rank), (groups, filters, *strides))
        operands.append(editor.constant(np.ascontiguousarray(each).reshape(-1)))
    dense = editor.emit("conv", operands, attrs, like=node)
    channels = groups * filters
    apart = editor.emit("reshape", (dense,), {"shape": (dims[0], channels, *strides, *counts)}, like=node)
    order = [0, 1, *(2 + k for axis in range(rank) for k in (rank + axis, axis))]
    mixed = editor.emit("transpose", (apart,), {"perm": tuple(order)}, like=node)
    grown = tuple(n * s for n, s in zip(counts, strides, strict=True))
    whole = editor.emit("reshape", (mixed,), {"shape": (dims[0], channels, *grown)}, like=node)
    if not any(starts) and grown == sizes:
        return whole
    crop: dict[str, Attr] = {"starts": tuple(starts), "sizes": sizes, "axes": tuple(range(2, 2 + rank))}
    return editor.emit("slice", (whole,), crop, like=node)


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


def _deal(weight: NDArray[Any], strides: tuple[int, ...], groups: int) -> NDArray[Any]:
    """Weights (channels, filters, taps…) as those of the dense convolution: (filters × phases, channels, taps / s…)."""
    rank = len(strides)
    channels, filters, *taps = weight.shape
    counts = [-(-t // s) for t, s in zip(taps, strides, strict=True)]
    widths = [(0, n * s - t) for n, s, t in zip(counts, strides, taps, strict=True)]
    whole = np.pad(weight, [(0, 0), (0, 0), *widths])
    split = whole.reshape(
        groups, channels // groups, filters, *(e for pair in zip(counts, strides, strict=True) for e in pair)
    )
    flipped = np.flip(split, axis=tuple(3 + 2 * k for k in range(rank)))
    phases, steps = [4 + 2 * k for k in range(rank)], [3 + 2 * k for k in range(rank)]
    dealt = flipped.transpose(0, 2, *phases, 1, *steps)
    return np.ascontiguousarray(dealt).reshape(-1, channels // groups, *counts)
