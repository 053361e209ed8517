"""Every way to change one meaningful field of a graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tcompiler.ir import dtypes as dt
from tcompiler.ir.graph.grammar import Attr, Graph, Node, TensorType
from tcompiler.ir.layout import IndexMap, Layout
from tcompiler.ir.scalar.grammar import index, parameter


def mutations(g: Graph) -> Iterator[tuple[str, Graph]]:
    """Graphs that differ from g in one meaningful field, with a word on which."""
    yield "params", replace(g, params=(*g.params, parameter("extra")))
    for field in ("inputs", "outputs"):
        values = getattr(g, field)
        if len(values) > 1 and values[0].name != values[1].name:
            yield f"order of {field}", replace(g, **{field: (values[1], values[0], *values[2:])})
        if values:
            yield f"{field} dropped", replace(g, **{field: values[:-1]})
        for k, v in enumerate(values):
            for what, t in _types(v.type):
                yield f"{field} {what}", _with(g, field, k, replace(v, type=t))
    for k, c in enumerate(g.constants):
        flipped = ("0" if c.sha256[0] != "0" else "1") + c.sha256[1:]
        yield "constant digest", _with(g, "constants", k, replace(c, sha256=flipped))
        for what, t in _types(c.type):
            yield f"constant {what}", _with(g, "constants", k, replace(c, type=t))
    for k, n in enumerate(g.nodes):
        for what, other in _nodes(n):
            yield what, _with(g, "nodes", k, other)
        yield "node dropped", replace(g, nodes=g.nodes[:k] + g.nodes[k + 1 :])
        if k + 1 < len(g.nodes) and n.outputs and g.nodes[k + 1].outputs:
            turned = (*g.nodes[:k], g.nodes[k + 1], n, *g.nodes[k + 2 :])
            if g.nodes[k + 1].op != n.op:
                yield "order of nodes", replace(g, nodes=turned)
        grouped = [m.group for m in g.nodes]
        yield (
            "group",
            _with(g, "nodes", k, replace(n, group="new" if grouped.count(n.group) > 1 or not n.group else None)),
        )


def _with(g: Graph, field: str, k: int, value: Any) -> Graph:
    items = getattr(g, field)
    return replace(g, **{field: (*items[:k], value, *items[k + 1 :])})


def _types(t: TensorType) -> Iterator[tuple[str, TensorType]]:
    yield "dtype", replace(t, dtype=dt.u8 if t.dtype is not dt.u8 else dt.i8)
    yield "rank", replace(t, shape=(*t.shape, index(1)))
    for k, e in enumerate(t.shape):
        yield "extent", replace(t, shape=(*t.shape[:k], e + 1, *t.shape[k + 1 :]))
    if t.layout is None:
        inputs = tuple(parameter(f"d{k}") for k in range(len(t.shape)))
        yield "layout", replace(t, layout=Layout(IndexMap(inputs, inputs), t.shape, False))
        return
    layout = t.layout
    yield "layout", replace(t, layout=None)
    yield "zero padding", replace(t, layout=Layout(layout.map, layout.shape, not layout.zero_padding))
    yield (
        "physical shape",
        replace(t, layout=Layout(layout.map, (layout.shape[0] + 1, *layout.shape[1:]), layout.zero_padding)),
    )
    outputs = (layout.map.outputs[0] + 1, *layout.map.outputs[1:])
    yield (
        "index map",
        replace(t, layout=Layout(IndexMap(layout.map.inputs, outputs), layout.shape, layout.zero_padding)),
    )


def _nodes(n: Node) -> Iterator[tuple[str, Node]]:
    yield "operator", replace(n, op=n.op + "x")
    yield "inputs", replace(n, inputs=(*n.inputs, ""))
    for k, name in enumerate(n.inputs):
        if name:
            yield "absent input", replace(n, inputs=(*n.inputs[:k], "", *n.inputs[k + 1 :]))
    if len(n.inputs) > 1 and n.inputs[0] != n.inputs[1]:
        yield "order of inputs", replace(n, inputs=(n.inputs[1], n.inputs[0], *n.inputs[2:]))
    for k, v in enumerate(n.outputs):
        for what, t in _types(v.type):
            yield f"output {what}", replace(n, outputs=(*n.outputs[:k], replace(v, type=t), *n.outputs[k + 1 :]))
    yield "attribute added", replace(n, attrs=tuple(sorted([*n.attrs, ("zz", None)])))
    for k, (key, value) in enumerate(n.attrs):
        yield "attribute key", replace(n, attrs=tuple(sorted([*n.attrs[:k], (key + "x", value), *n.attrs[k + 1 :]])))
        for other in _attrs(value):
            yield "attribute value", replace(n, attrs=(*n.attrs[:k], (key, other), *n.attrs[k + 1 :]))


def _attrs(value: Attr) -> Iterator[Attr]:
    yield None if value is not None else 0
    match value:
        case bool():
            yield not value
            yield int(value)
        case int():
            yield value + 1
            yield float(value)
            yield str(value)
            yield (value,)
        case float():
            yield 2.5
            if not math.isnan(value):
                yield -value
        case str():
            yield value + " "
        case tuple():
            yield (*value, 1)
            for k, v in enumerate(value):
                for other in _attrs(v):
                    yield (*value[:k], other, *value[k + 1 :])
        case _:
            pass
