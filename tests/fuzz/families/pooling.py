"""Pools with all their options."""

from __future__ import annotations

from tests.fuzz.draw import Draw
from tests.fuzz.families.convolution import window
from tests.fuzz.families.table import family


@family("pool", opsets=(22, 19, 11), weight=10)
def pool(d: Draw) -> None:
    op = d.choice(("MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool"))
    rank = d.choice((1, 2, 2, 2, 3))
    # dilation came to these later
    dilate = op == "MaxPool" or d.opset >= (19 if op == "AveragePool" else 18)
    w = window(d, rank, 400, dilate)
    attrs: dict[str, object] = {"kernel_shape": list(w.kernel)}
    if w.strides != (1,) * rank or d.chance(0.3):
        attrs["strides"] = list(w.strides)
    if w.dilations != (1,) * rank:
        attrs["dilations"] = list(w.dilations)
    # a window that lies wholly in the padding has no maximum and no mean
    pads = [min(p, k // 2) for p, k in zip(w.pads, (*w.kernel, *w.kernel), strict=True)]
    need = [(k - 1) * e + 1 for k, e in zip(w.kernel, w.dilations, strict=True)]
    # nor has one whose taps step over all data
    space = [max(w.space[k], need[k] - pads[k] - pads[rank + k], w.dilations[k]) for k in range(rank)]
    if any(pads):
        attrs["pads"] = pads
    elif d.chance(0.3) and all(e >= n for e, n in zip(space, need, strict=True)):
        # onnxruntime leaves dilation out of its sums and pads by negative amounts
        same = w.dilations == (1,) * rank and all(k >= s for k, s in zip(w.kernel, w.strides, strict=True))
        attrs["auto_pad"] = d.choice(("SAME_UPPER", "SAME_LOWER", "VALID") if same else ("VALID",))
    if d.chance(0.4) and (op != "LpPool" or d.opset >= 18) and (op != "AveragePool" or d.opset >= 10):
        attrs["ceil_mode"] = 1
    if op == "AveragePool" and d.chance(0.5):
        attrs["count_include_pad"] = 1
    if op == "LpPool" and d.chance(0.5):
        attrs["p"] = d.choice((1, 2, 3))
    dtype = d.choice(("float32",) * 6 + ("float64", "float16"))
    outputs = 1
    if op == "MaxPool":
        if d.opset >= 12 and d.chance(0.15):
            dtype = d.choice(("int8", "uint8"))
        if d.chance(0.2):
            outputs = 2
            if d.chance(0.3):
                attrs["storage_order"] = 1
    x = d.input((d.choice((1, 1, 2, 3)), d.dim(20), *space), dtype)
    d.exact = op == "MaxPool"
    d.result(*d.node_of(op, outputs, x, **attrs))


@family("global_pool", opsets=(21, 9), weight=2)
def global_pool(d: Draw) -> None:
    op = d.choice(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"))
    x = d.input((d.choice((1, 2, 3)), d.dim(20), *d.shape(1, 3, 400, zero=0)))
    y = d.node(op, x)
    if d.chance(0.5):
        y = d.node("Flatten", y)
    d.result(y)
