"""Transposed convolutions as ordinary ones: every phase of the result is a convolution of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir.graph.grammar import Attr, ConstantStore, Graph, Node
from tcompiler.ops.residues import VECTOR, Residues, combinations, tap_places
from tcompiler.transform.editing import Editor, ints, rewrite_nodes


@dataclass(frozen=True, slots=True)
class SplitPhases:
    """Turns a strided transposed convolution into sums at the input's resolution, one for each phase of the result.

    Output position s·q + r of an axis with stride s only meets the taps s·j + r, at input positions q - j. So the
    taps are dealt out to the phases. Nothing is multiplied by the zeros that spreading the data would insert. Shi et
    al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network"
    (2016), use the same identity the other way around. Many filters and kernels that the strides divide have phases of
    one shape (`conv_phases`); otherwise phases with equal taps form classes (`conv_residues`).

    Convolutions whose weight is not constant and those of symbolic extents stay as they are.
    """

    name: str = "split-phases"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with the transposed convolutions split."""
        return rewrite_nodes(graph, store, _split)


def _split(editor: Editor, node: Node) -> str | None:
    if node.op != "conv_transpose":
        return None
    x, w, b = (*editor.inputs(node), "")[:3]
    dims, weight = editor.dims(x), editor.array(w)
    if dims is None or weight is None:
        return None
    rank = weight.ndim - 2
    ones, zeros = (1,) * rank, (0,) * (2 * rank)
    strides, dilations = ints(node, "strides") or ones, ints(node, "dilations") or ones
    if strides == ones or 0 in dims:
        return None
    groups = node.attr("groups", 1)
    assert isinstance(groups, int)
    sizes, pads = node.outputs[0].type.dims()[2:], (ints(node, "pads") or zeros)[:rank]
    taps, filters = weight.shape[2:], weight.shape[1]
    even = all(t % s == 0 for t, s in zip(taps, strides, strict=True)) and dilations == ones
    bias = [b] if b else []
    if groups == 1 and filters >= VECTOR and even:
        parts: dict[str, Attr] = {"sizes": sizes, "pads": pads}
        operands = [x, editor.constant(_deal_phases(weight, strides, pads)), *bias]
        return editor.emit("conv_phases", operands, parts, like=node)
    attrs: dict[str, Attr] = {
        "sizes": sizes,
        "pads": pads,
        "strides": strides,
        "dilations": dilations,
        "taps": taps,
        "groups": groups,
        "biased": bool(b),
    }
    dealt = [
        editor.constant(_deal(weight, classes, strides, dilations, pads, groups))
        for classes in combinations(taps, strides, dilations, pads, sizes)
    ]
    return editor.emit("conv_residues", [x, *dealt, *bias], attrs, like=node)


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
