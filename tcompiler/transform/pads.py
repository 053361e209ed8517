"""Padding that a convolution or a pool can do itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tcompiler.ir.graph.grammar import Attr, ConstantStore, Graph, Node
from tcompiler.ops.registry import get
from tcompiler.transform.editing import Editor, ints, rewrite_nodes

_NEVER_NEGATIVE = frozenset({"relu", "abs", "exp", "sigmoid"})
"""Operators whose results are at least zero, or NaN."""
_KEEPS_SIGN = frozenset({"max_pool", "reshape", "transpose", "expand", "tile", "slice", "concat"})
"""Operators whose results are elements of their operands."""


@dataclass(frozen=True, slots=True)
class FoldPads:
    """Takes a constant padding of the window's axes into the pads of the convolution or pool that reads it.

    Zeros go into convolutions and into averages that count them. Minus infinity goes into maxima, and so do zeros
    where the data are known not to be negative and every window meets some of them.
    """

    name: str = "fold-pads"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with paddings folded."""
        return rewrite_nodes(graph, store, _fold)


def _fold(editor: Editor, node: Node) -> str | None:
    if node.op not in ("conv", "max_pool", "average_pool") or len(node.outputs) != 1:
        return None
    inputs = editor.inputs(node)
    before = editor.producers.get(inputs[0])
    if before is None or before.op != "pad" or before.attr("mode", "constant") != "constant":
        return None
    widths, value = ints(before, "pads"), before.attr("value", 0.0)
    assert isinstance(value, float | int)
    total = len(widths) // 2
    rank = len(ints(node, "kernel")) if node.op != "conv" else total - 2
    lead = total - rank
    outside = [w for k, w in enumerate(widths) if k % total < lead]
    if any(outside) or min(widths) < 0:
        return None
    own = ints(node, "pads") or (0,) * (2 * rank)
    new = [w for k, w in enumerate(widths) if k % total >= lead]
    attrs: dict[str, Attr] = {**dict(node.attrs), "pads": tuple(a + b for a, b in zip(own, new, strict=True))}
    match node.op:
        case "conv":
            fits = value == 0
        case "average_pool":
            counted = node.attr("count_include_pad", False) is True or not any(own)
            fits = value == 0 and counted and node.attr("ceil_mode", False) is False
            attrs["count_include_pad"] = True
        case _:
            fits = value == -math.inf or (value == 0 and _no_zero_shows(editor, before, node, tuple(new)))
    types = [editor.types[i] if i else None for i in (before.inputs[0], *inputs[1:])]
    if not fits or get(node.op).infer(types, attrs)[0].shape != node.outputs[0].type.shape:
        return None
    return editor.emit(node.op, (before.inputs[0], *inputs[1:]), attrs, like=node)


def _no_zero_shows(editor: Editor, pad: Node, pool: Node, widths: tuple[int, ...]) -> bool:
    """Whether a maximum over windows is the same without zeros around the data."""
    kernel = ints(pool, "kernel")
    rank = len(kernel)
    dilations, dims = ints(pool, "dilations"), editor.dims(pad.inputs[0])
    # A window narrower than the padding may lie in it, and one with gaps may step over the data.
    meets = all(max(widths[k], widths[rank + k]) < kernel[k] for k in range(rank)) and set(dilations) <= {1}
    plain = not any(ints(pool, "pads")) and pool.attr("ceil_mode", False) is False
    return meets and plain and dims is not None and 0 not in dims and _not_negative(editor, pad.inputs[0])


def _not_negative(editor: Editor, name: str) -> bool:
    seen = {name}
    pending = [name]
    while pending:
        node = editor.producers.get(pending.pop())
        if node is None or node.op not in _NEVER_NEGATIVE | _KEEPS_SIGN:
            return False
        if node.op in _KEEPS_SIGN:
            new = [i for i in node.inputs if i not in seen]
            seen.update(new)
            pending += new
    return True
