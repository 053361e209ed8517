"""The structural hash of graphs: names and labels do not count, everything that a compilation depends on does."""

from __future__ import annotations

from tcompiler.ir.dtypes import DType
from tcompiler.ir.graph.grammar import Attr, Graph, Node, TensorType
from tcompiler.ir.layout import Layout
from tcompiler.ir.names import quote
from tcompiler.ir.scalar.grammar import Scalar
from tcompiler.ir.scalar.hash import Hasher


def structural_hash(graph: Graph) -> str:
    """The hash of a graph, as 32 hex digits, equal in every process.

    Values, parameters and groups count by number in the order of their definition, constants by their digest. Names of
    nodes and labels do not count; which nodes are in one group does, and so do layouts.
    """
    h = Hasher()
    h.token("graph", len(graph.params), len(graph.inputs), len(graph.constants), len(graph.nodes), len(graph.outputs))
    for p in graph.params:
        h.bind(p)
    for v in graph.inputs:
        h.name(v.name)
        _type(h, v.type)
    for c in graph.constants:
        h.name(c.name)
        h.token(c.sha256)
        _type(h, c.type)
    groups: dict[str, int] = {}
    for n in graph.nodes:
        _node(h, n, groups)
    for v in graph.outputs:
        h.name(v.name)
        _type(h, v.type)
    return h.digest()


def _node(h: Hasher, n: Node, groups: dict[str, int]) -> None:
    h.token("node", quote(n.op), len(n.inputs), len(n.outputs), len(n.attrs))
    h.token(None if n.group is None else groups.setdefault(n.group, len(groups)))
    for name in n.inputs:
        if name:
            h.name(name)
        else:
            h.token("absent")
    for key, value in n.attrs:
        h.token(quote(key))
        _attr(h, value)
    for v in n.outputs:
        h.name(v.name)
        _type(h, v.type)


def _attr(h: Hasher, value: Attr) -> None:
    if isinstance(value, tuple):
        h.token("tuple", len(value))
        for v in value:
            _attr(h, v)
    elif isinstance(value, DType):
        h.token("dtype", value.name)
    elif isinstance(value, float):
        h.token("float", value.hex())
    else:
        h.token(value)


def _type(h: Hasher, tensor: TensorType) -> None:
    h.token(tensor.dtype.name)
    _scalars(h, tensor.shape)
    if tensor.layout is None:
        h.token(None)
    else:
        _layout(h, tensor.layout)


def _layout(h: Hasher, layout: Layout) -> None:
    # on its own, so that binding its variables does not number a parameter of the same name again
    inner = Hasher()
    for v in layout.map.inputs:
        inner.bind(v)
    _scalars(inner, layout.map.outputs)
    h.token("layout", inner.digest(), layout.zero_padding)
    _scalars(h, layout.shape)


def _scalars(h: Hasher, nodes: tuple[Scalar, ...]) -> None:
    h.token(len(nodes))
    for n in nodes:
        h.scalar(n)
