"""Orders of axes in products of two: what is computed side by side lies side by side.

An axis that both factors and the result have (a batch) is the worst one to lie innermost: a vector along it shares
nothing with the next row, and the other axes' elements lie apart. Where factors are read often, batches move outwards:
the factor that is read in vectors (the other one, too, beside few columns) is transposed first, and the result behind,
where its kernel writes it. Where one factor is read once, as a matrix that a vector is multiplied by, that is bound by
reading: the others, which are small, follow its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node
from tcompiler.transform.editing import Editor, rewrite_nodes
from tcompiler.transform.products import spelled

WORTH = 4096
"""Multiplications below which kernels that transpose cost more than they bring."""
REUSE = 6
"""How often the elements of a factor are read, at least, for it to be transposed first."""
LANES = 8
"""Elements of an axis that fill vectors well enough."""
SHALLOW = 16
"""Products in a sum up to which storing it element by element costs more than vectors that share nothing."""
WIDE = 64
"""Columns from which on a kernel lays out rows by itself where that pays."""
SMALL = 4
"""How many times larger a factor is that others are transposed for."""


@dataclass(frozen=True)
class OrderProducts:
    """Gives the factors and the result of an einsum orders of axes that suit each other."""

    name: str = "order-products"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with transposes around such einsums."""
        return rewrite_nodes(graph, store, _ordered)


@dataclass(frozen=True)
class _Product:
    """A product of two, by the letters of axes longer than one.

    Attributes:
        factors: Those of the factors, in the order of memory.
        result: Those of the result.
        sizes: Their extents.
    """

    factors: tuple[str, str]
    result: str
    sizes: dict[str, int]

    def count(self, letters: str) -> int:
        """Elements along some axes."""
        return prod(self.sizes[c] for c in letters)

    def own(self, k: int) -> str:
        """The axes that a factor shares with the result alone."""
        return "".join(c for c in self.factors[k] if c in self.result and c not in self.factors[1 - k])

    @property
    def batch(self) -> str:
        """The axes that all three have."""
        return "".join(c for c in self.result if c in self.factors[0] and c in self.factors[1])

    @property
    def summed(self) -> str:
        """The axes that are summed over."""
        return "".join(c for c in self.factors[0] if c not in self.result)


def _ordered(editor: Editor, node: Node) -> str | None:
    if node.op != "einsum" or len(node.inputs) != 2:
        return None
    names = editor.inputs(node)
    read = spelled(node, [editor.types[n] for n in names])
    shapes = [editor.dims(n) for n in names]
    if read is None or any(s is None for s in shapes) or 0 in read.sizes.values():
        return None
    long = [
        "".join(c for c, e in zip(own, shape or (), strict=True) if e > 1)
        for own, shape in zip(read.factors, shapes, strict=True)
    ]
    result = "".join(c for c in read.result if read.sizes[c] > 1)
    product = _Product((long[0], long[1]), result, read.sizes)
    if any(len(set(own)) < len(own) for own in read.factors) or prod(read.sizes.values()) < WORTH:
        return None
    if not product.summed or {*product.summed} - {*long[1]} or {*long[1]} - {*long[0], *result}:
        return None
    many = all(product.own(k) for k in (0, 1))
    orders = _for_tiles(product) if many else _for_streams(product)
    if orders == (*product.factors, product.result):
        return None
    terms, inputs = [], []
    for name, own, order in zip(names, read.factors, orders, strict=False):
        whole = _filled(own, order)
        perm = tuple(own.index(c) for c in whole)
        inputs.append(name if whole == own else editor.emit("transpose", (name,), {"perm": perm}, like=node))
        terms.append(whole)
    made = _filled(read.result, orders[2])
    value = editor.emit("einsum", inputs, {"equation": f"{','.join(terms)}->{made}"}, like=node)
    if made == read.result:
        return value
    return editor.emit("transpose", (value,), {"perm": tuple(made.index(c) for c in read.result)}, like=node)


def _filled(letters: str, order: str) -> str:
    """All letters: those of axes of one element lie outermost, unless the order is that of the letters anyway."""
    if "".join(c for c in letters if c in order) == order:
        return letters
    return "".join(c for c in letters if c not in order) + order


def _for_tiles(p: _Product) -> tuple[str, str, str]:
    """Orders for a product whose factors are both read more than once: no batch lies innermost."""
    result, last = p.result, p.result[-1]
    reuse = [p.count(p.own(1 - k)) for k in (0, 1)]
    depth = p.count(p.summed)
    along = last in p.batch and all(own[-1] == last for own in p.factors)
    if (along and min(reuse) < REUSE) or (last in p.batch and depth < SHALLOW and p.sizes[last] >= LANES):
        return (*p.factors, result)  # vectors along the batch: they share nothing, but write whole lines
    if last in p.batch:
        mine = [c for c in result if c not in p.batch]
        near = [c for c in mine if c in (p.factors[0][-1], p.factors[1][-1]) and p.sizes[c] >= LANES]
        lane = near[-1] if near else max(mine, key=lambda c: p.sizes[c])
        result = result.replace(lane, "") + lane
    larger = p.factors[0] if p.count(p.factors[0]) >= p.count(p.factors[1]) else p.factors[1]
    summed = "".join(c for c in larger if c in p.summed)
    batch = "".join(c for c in result if c in p.batch)
    orders = []
    for k, (own, uses) in enumerate(zip(p.factors, reuse, strict=True)):
        inner = "".join(c for c in own if c in p.own(k) and c != result[-1])
        if own[-1] in p.batch and uses >= REUSE:
            if result[-1] in own:
                own = batch + summed + inner + result[-1]
            elif p.sizes[result[-1]] < WIDE:
                own = batch + inner + summed
        orders.append(own)
    return orders[0], orders[1], result


def _for_streams(p: _Product) -> tuple[str, str, str]:
    """Orders for a product that reads one factor once: the others follow it where they are much smaller."""
    sizes = [p.count(own) for own in p.factors]
    k = 0 if sizes[0] >= sizes[1] else 1
    large, small, result = p.factors[k], p.factors[1 - k], p.result
    if large[-1] in small and small[-1] != large[-1] and sizes[1 - k] * SMALL <= sizes[k]:
        small = "".join(c for c in large if c in small)
    follows = "".join(c for c in large if c in result)
    apart = result[-1:] != follows[-1:] and (large[-1] in result or result[-1] in p.batch)
    if apart and p.count(result) * SMALL <= sizes[k]:
        result = follows
    return (large, small, result) if k == 0 else (small, large, result)
