"""Corrupted graphs, each refused with its whole message."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from tcompiler.errors import VerifyError
from tcompiler.ir.graph.grammar import ConstantStore
from tcompiler.ir.graph.text import parse_graph
from tcompiler.ir.graph.verify import verify
from tcompiler.ir.scalar.grammar import Var
from tests.ir.graph.operators import OPERATORS, Case, cases

LOOKUP = OPERATORS.__getitem__

BASE = """@graph
def base(n: i64, x: f32[4, 6], u: f32[n]):
    c = const([1.0, 2.0, 3.0, 4.0], f32[4])
    a: tensor(f32[4, 6], layout=layout(lambda i, j: (j // 4, i, j % 4), (2, 4, 4), zero_padding=True)) = shift(x, by=1)
    s: f32[4] = total(a, name="sum")
    v: f32[4]
    w: i64[4]
    v, w = ordered(s, axis=0)
    p: f32[4] = plus(v, None, group="g")
    t: f32[4] = times(p, c, name="product")
    return output(t, label="result"), w
"""

TEXTS = [
    ("shift(x, by=1)", "shfit(x, by=1)", 'node a: there is no operator "shfit"'),
    ("total(a,", "total(b,", 'node sum: reads "b", not defined above it; known here: x, u, c, a'),
    ("total(a,", "total(t,", 'node sum: reads "t", not defined above it; known here: x, u, c, a'),
    ("s: f32[4]", "s: f32[6]", "node sum: s is f32[6]; total(f32[4, 6]) gives f32[4]"),
    ("s: f32[4]", "s: f64[4]", "node sum: s is f64[4]; total(f32[4, 6]) gives f32[4]"),
    ("s: f32[4]", "s: f32[4, 1]", "node sum: s is f32[4, 1]; total(f32[4, 6]) gives f32[4]"),
    ("w: i64[4]", "w: i32[4]", "node v: w is i32[4]; ordered(f32[4], axis=0) gives i64[4]"),
    ("axis=0", "axis=1", "node v: ordered does not take this: axis is 1; the input has 1 dimensions"),
    ("by=1", "by=1.5", "node a: shift does not take this: by must be an integer"),
    ("plus(v, None,", "plus(v, x,", "node p: plus does not take this: the inputs differ in type"),
    ("    v: f32[4]\n    w: i64[4]\n    v, w = ordered", "    w: i64[4]\n    v: f32[4] = ordered",
     None),
    ("v, w = ordered(s", "w, v = ordered(s", "node w: w is i64[4]; ordered(f32[4], axis=0) gives f32[4]"),
    ('name="product"', 'name="sum"', '"sum": two nodes have this name'),
    ("s: f32[4] = total(a,", "x: f32[4] = total(a,", "x: two of the parameters and values have this name"),
    ("(j // 4, i, j % 4)", "(j // 4, i, j % 3)", "a: the layout puts two elements in one place"),
    ("(j // 4, i, j % 4)", "(j // 4, i, j % 5)", "a: layout index j % 5 leaves the physical shape"),
    ("(j // 4, i, j % 4)", "(j // 4, i)", "a: the layout maps 2 indices to 2; the tensor has 2 dimensions, its "
     "memory 3"),
    ("lambda i, j: (j // 4, i, j % 4)", "lambda i: (0, i, 0)",
     "a: the layout maps 1 indices to 3; the tensor has 2 dimensions, its memory 3"),
    ("(2, 4, 4), zero", "(1, 4, 4), zero", "a: layout index j // 4 leaves the physical shape"),
    ("f32[4, 6], u", "f32[-4, 6], u", "x: an extent is -4"),
    ("output(t,", "output(t, f32[5],", "t: the output is f32[5], the value f32[4]"),
    ("const([1.0, 2.0, 3.0, 4.0], f32[4])", 'const("12", f32[4])', 'c: "12" is not a SHA-256 digest in hexadecimal'),
    ("const([1.0, 2.0, 3.0, 4.0], f32[4])", f'const("{"0" * 64}", f32[4])', "c: constant 000000000000… is not in the "
     "store"),
    ("const([1.0, 2.0, 3.0, 4.0], f32[4])", f'const("{"0" * 64}", f32[n])', "c: a constant has a constant shape, not "
     "f32[n]"),
    ("const([1.0, 2.0, 3.0, 4.0], f32[4])", "const([1.0, 2.0, 3.0], f32[3])",
     "node product: times does not take this: the inputs differ in type"),
    ("u: f32[n]", "u: f32[n + 1]", ""),
    ("u: f32[n]", "u: f32[n < 1]", "u: an extent n < 1 is not an i64 expression of parameters"),
]  # fmt: skip


def test_what_the_tests_start_from_is_right() -> None:
    store = ConstantStore()
    verify(parse_graph(BASE, store), LOOKUP, store)


@given(cases())
@settings(max_examples=80)
def test_random_graphs_are_right(case: Case) -> None:
    verify(case.graph, LOOKUP, case.constants)


@pytest.mark.parametrize(("old", "new", "message"), TEXTS)
def test_corrupted_texts(old: str, new: str, message: str | None) -> None:
    assert old in BASE
    store = ConstantStore()
    text = BASE.replace(old, new, 1)
    if message is None:
        text = text.replace("    w: i64[4]\n", "").replace(", w\n", "\n")
        message = "node v: ordered has 2 outputs, the node 1"
    g = parse_graph(text, store)
    if not message:
        verify(g, LOOKUP, store)
        return
    with pytest.raises(VerifyError) as e:
        verify(g, LOOKUP, store)
    assert str(e.value) == message


def test_corrupted_fields() -> None:
    store = ConstantStore()
    g = parse_graph(BASE, store)
    first = g.nodes[0]
    bad = [
        (replace(g, name="a b"), "the graph's name \"a b\" is not an identifier"),
        (replace(g, params=()), "u: an extent n names n, which is no parameter"),
        (replace(g, params=(Var("n", g.inputs[0].type.dtype, None),)), "n: a parameter is i64 and has no extent"),
        (replace(g, inputs=(replace(g.inputs[0], name="for"), g.inputs[1])),
         '"for": the name of this input is not an identifier'),
        (replace(g, outputs=(replace(g.outputs[0], name="q"),)),
         "the output \"q\" is not defined; known here: x, u, c, a, s, v, w, p, …"),
        (replace(g, nodes=(replace(first, attrs=(("group", 1),)), *g.nodes[1:])),
         'node a: "group" cannot be an attribute\'s key'),
        (replace(g, nodes=(replace(first, attrs=(("by", 1), ("a", 1))), *g.nodes[1:])),
         "node a: attributes are sorted by key and each key occurs once, not by, a"),
        (replace(g, nodes=(replace(first, attrs=(("by", [1]),)), *g.nodes[1:])),  # type: ignore[arg-type]
         "node a: attribute by is of type list"),
        (replace(g, nodes=(replace(first, op="a b"), *g.nodes[1:])),
         'node a: the operator\'s name "a b" is not an identifier'),
        (replace(g, nodes=(replace(first, outputs=()), *g.nodes[1:])), "node a: shift has 1 outputs, the node 0"),
    ]  # fmt: skip
    for graph, message in bad:
        with pytest.raises(VerifyError) as e:
            verify(graph, LOOKUP, store)
        assert str(e.value) == message


def test_a_constant_of_the_wrong_size() -> None:
    store = ConstantStore()
    g = parse_graph(BASE, store)
    digest = store.put(np.zeros(5, np.float32))
    with pytest.raises(VerifyError) as e:
        verify(replace(g, constants=(replace(g.constants[0], sha256=digest),)), LOOKUP, store)
    assert str(e.value) == "c: the constant holds 20 bytes; its type needs 16"


@pytest.mark.parametrize("rows", [2, 200])
def test_two_elements_in_one_place_are_found_in_a_tight_and_in_a_wide_memory(rows: int) -> None:
    right = BASE.replace("(2, 4, 4), zero", f"({rows}, 4, 4), zero")
    verify(parse_graph(right, ConstantStore()), LOOKUP)
    with pytest.raises(VerifyError, match="a: the layout puts two elements in one place"):
        verify(parse_graph(right.replace("(j // 4, i, j % 4)", "(j // 4, i, j % 3)"), ConstantStore()), LOOKUP)
