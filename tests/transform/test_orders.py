"""Orders of axes in products of two: which are chosen, and that products mean the same in them."""

from __future__ import annotations

import numpy as np
import pytest

import tcompiler.frontend.builder as tb
from tcompiler.frontend.tensor import apply
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.graph.verify import verify
from tcompiler.ops.registry import get
from tcompiler.transform.orders import OrderProducts


def ordered(equation: str, **sizes: int) -> list[str]:
    """Runs the pass on an einsum and compares; returns its equations, and "t" for a transpose."""
    rng = np.random.default_rng(5)
    terms = equation.partition("->")[0].replace("...", "").split(",")
    shapes = [tuple(sizes[c] for c in term) for term in terms]
    arrays = [rng.standard_normal(s) for s in shapes]
    module = tb.trace(lambda *xs: apply("einsum", *xs, equation=equation), *(tb.spec("f64", s) for s in shapes))
    after = OrderProducts().run(module.graph, module.constants)
    verify(after, operators=get, constants=module.constants)
    inputs = dict(zip((v.name for v in after.inputs), arrays, strict=True))
    found = evaluate(after, inputs, operators=get, constants=module.constants)[after.outputs[0].name]
    np.testing.assert_allclose(found, np.einsum(equation, *arrays), rtol=1e-12, atol=1e-12)
    return [str(n.attr("equation")) if n.op == "einsum" else "t" for n in after.nodes]


def test_a_batch_that_lies_innermost_everywhere_moves_out() -> None:
    assert ordered("ijb,jkb->ikb", i=9, j=30, k=11, b=17) == ["t", "t", "bij,bjk->ibk", "t"]
    assert ordered("ijb,jkb->ikb", i=9, j=30, k=70, b=7) == ["t", "ijb,bjk->ibk", "t"]


def test_few_rows_run_along_the_batch() -> None:
    assert ordered("ijb,jkb->ikb", i=3, j=10, k=11, b=33) == ["ijb,jkb->ikb"]


def test_a_batch_innermost_in_the_result_alone() -> None:
    assert ordered("bqhd,blhd->bqlh", b=2, q=9, h=9, d=20, l=10) == ["bqhd,blhd->bqhl", "t"]


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("xay,xy->ax", ["xay,xy->xa", "t"]),
        ("xay,yx->xa", ["t", "xay,xy->xa"]),
        ("xya,yx->ax", ["xya,yx->xa", "t"]),
        ("yx,xay->xa", ["t", "xy,xay->xa"]),
        ("xay,y->xa", ["xay,y->xa"]),
    ],
)
def test_what_is_small_follows_what_is_read_once(equation: str, expected: list[str]) -> None:
    assert ordered(equation, x=5, a=40, y=50) == expected


@pytest.mark.parametrize(
    ("equation", "sizes"),
    [
        ("ij,jk->ik", {"i": 20, "j": 30, "k": 40}),
        ("bij,bjk->bik", {"b": 4, "i": 20, "j": 30, "k": 40}),
        ("bi,bj->ijb", {"b": 20, "i": 20, "j": 20}),
        ("ijb,jkb->ikb", {"i": 9, "j": 1, "k": 11, "b": 70}),
        ("ijb,jkb->ikb", {"i": 9, "j": 2, "k": 11, "b": 7}),
        ("ijb,jkb->ikb", {"i": 9, "j": 7, "k": 11, "b": 24}),
        ("ijb,jkb->ikb", {"i": 9, "j": 0, "k": 11, "b": 70}),
        ("iij,jk->ik", {"i": 20, "j": 20, "k": 20}),
        ("ijl,jk->ik", {"i": 20, "j": 20, "k": 20, "l": 3}),
    ],
)
def test_what_stays(equation: str, sizes: dict[str, int]) -> None:
    assert ordered(equation, **sizes) == [equation]


def test_axes_of_one_element_lie_outermost() -> None:
    sizes = {"i": 9, "j": 10, "k": 11, "b": 7, "x": 1, "y": 1}
    assert ordered("ijbx,jkby->iykb", **sizes) == ["t", "t", "xbij,ybjk->yibk", "t"]
