"""Einsums of several factors become einsums of two that mean the same, in the cheapest order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tcompiler.frontend.builder as tb
from tcompiler.frontend.tensor import apply, lift
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.graph.verify import verify
from tcompiler.ops.registry import get
from tcompiler.transform.passes import SplitProducts


def split(equation: str, *shapes: tuple[int, ...], constants: int = 0) -> list[str]:
    """Runs the pass on one einsum, whose last factors may be constants, and compares; returns the equations."""
    rng = np.random.default_rng(7)
    arrays = [rng.standard_normal(s) for s in shapes]
    given = len(arrays) - constants

    def fn(*xs: Any) -> Any:
        known = [lift(xs[0].writer, a) for a in arrays[given:]]
        return apply("einsum", *xs, *known, equation=equation)

    module = tb.trace(fn, *(tb.spec("f64", s) for s in shapes[:given]))
    after = SplitProducts().run(module.graph, module.constants)
    verify(after, operators=get, constants=module.constants)
    inputs = dict(zip((v.name for v in after.inputs), arrays, strict=False))
    found = evaluate(after, inputs, operators=get, constants=module.constants)[after.outputs[0].name]
    np.testing.assert_allclose(found, np.einsum(equation, *arrays), rtol=1e-12, atol=1e-12)
    return [str(n.attr("equation")) for n in after.nodes]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((4, 4, 4, 4), ["ij,jk->ik", "ik,kl->il"]),
        ((9, 8, 7, 2), ["jk,kl->jl", "ij,jl->il"]),
        ((2, 7, 8, 9), ["ij,jk->ik", "ik,kl->il"]),
    ],
)
def test_the_cheapest_order_is_taken(sizes: tuple[int, ...], expected: list[str]) -> None:
    i, j, k, el = sizes
    assert split("ij,jk,kl->il", (i, j), (j, k), (k, el)) == expected


def test_constants_are_multiplied_with_each_other() -> None:
    found = split("ij,jk,kl->il", (2, 7), (7, 8), (8, 9), constants=2)
    assert found == ["jk,kl->jl", "ij,jl->il"]


def test_factors_far_apart_meet_first() -> None:
    assert split("ai,bj,ci,dj->abcd", (2, 9), (3, 9), (2, 9), (3, 9))[-1] in ("acd,bd->abcd", "ac,bd->abcd")


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("ij,kl->ik", ((4, 5), (6, 7)), ["ij->i", "kl->k", "i,k->ik"]),
        ("iij,j->j", ((4, 4, 5), (5,)), ["iij->j", "j,j->j"]),
        ("ij,jk->ik", ((4, 5), (5, 6)), ["ij,jk->ik"]),
        ("iij->j", ((4, 4, 5),), ["iij->j"]),
        ("...ij,...jk,k->...i", ((3, 1, 4, 5), (2, 5, 6), (6,)), ["bjk,k->bj", "abij,bj->abi"]),
    ],
)
def test_sums_of_one_factor_come_first(equation: str, shapes: tuple[tuple[int, ...], ...], expected: list[str]) -> None:
    assert split(equation, *shapes) == expected


@pytest.mark.parametrize("count", [5, 9])
def test_many_factors(count: int) -> None:
    letters = "abcdefghijk"
    terms = [letters[k : k + 2] for k in range(count)]
    sizes = {c: 2 + (3 * k) % 4 for k, c in enumerate(letters)}
    shapes = [(sizes[t[0]], sizes[t[1]]) for t in terms]
    found = split(f"{','.join(terms)}->{letters[count]}{letters[0]}", *shapes)
    assert len(found) == count - 1
    assert all(e.count(",") == 1 for e in found)
