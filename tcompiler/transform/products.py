"""Products of many tensors, and sums that one factor of a product has for itself, as products of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters
from typing import TypeAlias

from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node, TensorType
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.ops.contraction import parse_equation
from tcompiler.transform.editing import Editor, rewrite_nodes

MOST = 7
"""Factors up to which every order of multiplying them is compared."""
_Factor: TypeAlias = tuple[str, str]
"""A value and the letters of its axes."""


@dataclass(frozen=True, slots=True)
class SplitProducts:
    """Turns an einsum of several factors into einsums of two, in the order of the fewest multiplications.

    What one factor alone is summed over is summed first, so that the others need not go over it. Each part is a node
    of its own: it gets the layout that suits it, and parts of constants alone are folded.
    """

    name: str = "split-products"

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The graph with einsums split."""
        return rewrite_nodes(graph, store, _split)


@dataclass(frozen=True, slots=True)
class Spelled:
    """An einsum's equation with a letter for every axis.

    Attributes:
        factors: The letters of each factor's axes.
        result: Those of the result's axes.
        sizes: The extent of each letter, 0 where it is open.
    """

    factors: tuple[str, ...]
    result: str
    sizes: dict[str, int]


def spelled(node: Node, types: Sequence[TensorType]) -> Spelled | None:
    """Reads an einsum's equation, with letters for the axes of ellipses.

    Args:
        node: An einsum.
        types: Types of its operands.

    Returns:
        The equation; None where there are more axes than letters.
    """
    equation = node.attr("equation")
    assert isinstance(equation, str)
    read = parse_equation(equation, types)
    used = dict.fromkeys(c for axes in read.operands for c in axes)
    free = iter(c for c in ascii_letters if c not in used)
    letter = {c: c if c.isalpha() else next(free, "") for c in used}
    if "" in letter.values():
        return None
    return Spelled(
        tuple("".join(letter[c] for c in axes) for axes in read.operands),
        "".join(letter[c] for c in read.result),
        {letter[c]: as_int(e) or 0 for c, e in read.extents.items()},
    )


def _split(editor: Editor, node: Node) -> str | None:
    if node.op != "einsum" or len(node.inputs) < 2:
        return None
    names = editor.inputs(node)
    read = spelled(node, [editor.types[n] for n in names])
    if read is None:
        return None
    result, sizes = read.result, read.sizes
    factors = list(zip(names, read.factors, strict=True))

    def emit(chosen: Sequence[_Factor], axes: str) -> _Factor:
        terms = ",".join(own for _, own in chosen)
        return editor.emit("einsum", [n for n, _ in chosen], {"equation": f"{terms}->{axes}"}, like=node), axes

    before = len(editor.nodes)
    for k, (name, own) in enumerate(factors):
        axes = _needed(own, result, [*factors[:k], *factors[k + 1 :]])
        if len(axes) < len(set(own)):
            factors[k] = emit([(name, own)], axes)
    while len(factors) > 2:
        i, j = _first(editor, factors, sizes, result)
        rest = [f for k, f in enumerate(factors) if k not in (i, j)]
        rest.insert(i, emit([factors[i], factors[j]], _needed(factors[i][1] + factors[j][1], result, rest)))
        factors = rest
    return emit(factors, result)[0] if len(editor.nodes) > before else None


def _needed(letters: str, result: str, others: Sequence[_Factor]) -> str:
    """Those of the letters, each once, that the result or other factors have too."""
    asked = {*result, *(c for _, own in others for c in own)}
    return "".join(dict.fromkeys(c for c in letters if c in asked))


def _first(editor: Editor, factors: Sequence[_Factor], sizes: dict[str, int], result: str) -> tuple[int, int]:
    """The two factors with which an order of the fewest multiplications begins; from left to right among equals.

    Every set of factors is multiplied in the best of all ways to cut it in two (after Lam, Sadayappan and Wenger, "On
    optimizing a class of multi-dimensional loops with reductions for parallel execution", 1997). Constants are
    multiplied for nothing.
    """
    if len(factors) > MOST:
        return 0, 1
    everything = (1 << len(factors)) - 1
    kept, known = {}, {}
    for chosen in range(1, everything + 1):
        inside = [f for k, f in enumerate(factors) if chosen >> k & 1]
        others = [f for k, f in enumerate(factors) if not chosen >> k & 1]
        kept[chosen] = _needed("".join(own for _, own in inside), result, others)
        known[chosen] = all(editor.array(n) is not None for n, _ in inside)
    # multiplications, then what decides between equals, and one of the two parts
    best: dict[int, tuple[int, int, int, int]] = {1 << k: (0, 0, 0, 0) for k in range(len(factors))}
    for chosen in range(1, everything + 1):
        for part in range(1, chosen):
            other = chosen & ~part
            if part & ~chosen == 0 and part & -part < other & -other:
                own = 0 if known[chosen] else prod(sizes[c] for c in {*kept[part], *kept[other]})
                found = (best[part][0] + best[other][0] + own, other.bit_count(), -other, part)
                best[chosen] = min(best.get(chosen, found), found)
    chosen = everything
    while chosen.bit_count() > 2:
        _, _, other, part = best[chosen]
        chosen = max(part, -other, key=int.bit_count)
    return (chosen & -chosen).bit_length() - 1, chosen.bit_length() - 1
