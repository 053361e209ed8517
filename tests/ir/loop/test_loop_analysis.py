"""Facts about functions: places, accesses, boxes."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.analysis import (
    accesses,
    blocks,
    find,
    find_block,
    find_loop,
    loops,
    loops_above,
    region,
    replace_at,
    touched,
)
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterVar, Seq, Store, seq, walk
from tcompiler.ir.loop.text import parse_function, print_function, print_region
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Var, as_int, const, index, loop_var
from tcompiler.ir.scalar.rewrite import substitute
from tcompiler.ir.scalar.text import print_scalar
from tests.ir.loop.programs import EVERYTHING, TILED, Case, cases


def test_places_of_loops_and_blocks() -> None:
    f = parse_function(TILED)
    assert [b.name for b in blocks(f)] == ["zero", "update", "write"]
    assert [x.var.name for x in loops(f)] == ["i0", "j0", "ii", "jj", "k", "i1", "j1", "i2", "j2"]
    assert [x.var.name for x in loops_above(f, "update")] == ["i0", "j0", "k", "i1", "j1"]
    assert [x.var.name for x in loops_above(f, "k")] == ["i0", "j0"]
    path = find(f, "update").path
    assert path[0] is f.body and path[-1] is find_block(f, "update")
    assert [type(s).__name__ for s in path] == ["For", "For", "Seq", "For", "For", "For", "Block"]
    assert find(f, "update").inside(find(f, "k")) and not find(f, "update").inside(find(f, "i2"))
    with pytest.raises(KeyError):
        find(f, "nothing")


def test_blocks_inside_blocks_are_found() -> None:
    f = parse_function(EVERYTHING)
    assert [b.name for b in blocks(f)] == ["C_update\n", "arg", "inner loops", "copy", "nothing"]
    assert find(f, "nothing").path[-2] is find_block(f, "copy").body
    assert find_loop(f, "q").kind == "unrolled"


def test_what_a_statement_touches() -> None:
    assert touched(parse_function(TILED).body) == ({"A", "B", "T"}, {"T", "C"})


def test_accesses() -> None:
    f = parse_function(EVERYTHING)
    a = accesses(find_block(f, "C_update\n"))
    assert list(map(print_scalar, a.reads)) == ["A[vi, vk]", "B[vk, vj]", "J[()]"]
    assert [(w.buffer, *map(print_scalar, w.indices)) for w in a.writes] == [("C", "vi", "vj")]
    assert list(map(print_scalar, a.updates)) == ["C[vi, vj]"]
    assert accesses(find_block(f, "C_update\n")) is a
    opaque = accesses(find_block(f, "copy"))
    assert (opaque.reads, opaque.writes) == ((), ())
    assert list(map(print_region, opaque.read_regions)) == ["A[span(0, 4), span(vo, 1)]", "J[()]"]


def test_accesses_of_nested_blocks_are_in_terms_of_the_outer_one() -> None:
    f = parse_function(
        """@loop.function
def f(A: f32[8], C: out(f32[8])):
    for i in range(2):
        with block("outer"):
            vo = spatial(2, i)
            for t in range(4):
                with block("inner"):
                    v = spatial(8, vo * 4 + t)
                    C[v] = A[v]
"""
    )
    a = accesses(find_block(f, "outer"))
    assert list(map(print_scalar, a.reads)) == ["A[vo * 4 + t]"]
    assert [print_scalar(w.indices[0]) for w in a.writes] == ["vo * 4 + t"]


def test_replacing_copies_only_the_path() -> None:
    f = parse_function(TILED)
    place = find(f, "k")
    k = place.stmt
    assert isinstance(k, For)
    g = replace_at(f, place, For(k.var, "unrolled", k.body, k.annotations))
    assert print_function(g) == TILED.replace("for k in range(12)", "for k in unrolled(12)")
    assert print_function(f) == TILED
    assert find_block(g, "update") is find_block(f, "update")
    assert find(g, "ii").stmt is find(f, "ii").stmt
    for name in ("k", "ii"):
        g = replace_at(g, find(g, name), seq())
    body = find_loop(g, "j0").body
    assert body is find(f, "i2").stmt


def test_replacing_flattens() -> None:
    f = parse_function(TILED)
    both = seq(find(f, "ii").stmt, find(f, "k").stmt)
    body = find_loop(replace_at(f, find(f, "k"), both), "j0").body
    assert isinstance(body, Seq) and len(body.stmts) == 4


BOXES = [
    ("i * 8 + j", "j", "span(i * 8, 8)"),
    ("i * 8 + j", "i j", "span(0, 32)"),
    ("i + k", "k", "span(i, 3)"),
    ("k - j", "j", "span(k - 7, 8)"),
    ("2 * k", "k", "span(0, 5)"),
    ("(i * 8 + j) // 4", "j", "span(i * 2, 2)"),
    ("(i * 7 + j) // 4", "j", "span(i + i * 3 // 4, 3)"),
    ("j % 4", "j", "span(0, 4)"),
    ("(i * 8 + j) % 8", "j", "span(0, 8)"),
    ("(i * 8 + k + 2) % 8", "k", "span(2, 3)"),
    ("max(k - 1, 0)", "k", "span(0, 3)"),
    ("n * k", "k", "span(0, n * 2 + 1)"),
    ("p", "p", "span(0, n)"),
    ("G[k]", "k", "span(0, 99)"),
    ("i + G[i]", "k", "span(0, 99)"),
    ("j * k", "j k", "span(0, 99)"),
]


@pytest.mark.parametrize(("text", "inner", "expected"), BOXES)
def test_boxes(text: str, inner: str, expected: str) -> None:
    index_text = re.sub(r"\b[ijkp]\b", r"v\g<0>", text)
    f = parse_function(
        f"""@loop.function
def f(n: i64, G: i64[9], A: f32[99], C: out(f32[4, 8, 3, n])):
    for i in range(4):
        for j in range(8):
            for k in range(3):
                for p in range(n):
                    with block("b"):
                        vi = spatial(4, i)
                        vj = spatial(8, j)
                        vk = spatial(3, k)
                        vp = spatial(n, p)
                        C[vi, vj, vk, vp] = A[{index_text}]
"""
    )
    block = find_block(f, "b")
    (load,) = [r for r in accesses(block).reads if r.buffer == "A"]
    found = region(f, block, load, {find_loop(f, n).var for n in inner.split()})
    assert print_region(found) == f"A[{expected}]"


@given(st.data())
@settings(max_examples=150)
def test_a_box_holds_what_is_touched(data: st.DataObject) -> None:
    """Every element that the access touches at a point lies in the box, whatever the index."""
    variables = [loop_var("i", 4), loop_var("j", 3), loop_var("k", 2)]

    def expression(depth: int) -> Scalar:
        if depth == 0:
            return data.draw(st.sampled_from([*variables, index(data.draw(st.integers(-3, 5)))]))
        a, b = expression(depth - 1), expression(depth - 1)
        op = data.draw(st.sampled_from(["add", "sub", "mul", "div", "mod", "scale", "max", "min"]))
        c = data.draw(st.integers(1, 5))
        match op:
            case "add":
                return a + b
            case "sub":
                return a - b
            case "mul":
                return a * b
            case "div":
                return a // c
            case "mod":
                return a % c
            case "scale":
                return a * (c - 3)
            case _:
                return Binary(op, a, b)

    node = expression(3)
    iters = tuple(IterVar(loop_var(f"v{v.name}", v.extent or 1), "spatial") for v in variables)
    inside: dict[Scalar, Scalar] = {v: it.var for v, it in zip(variables, iters, strict=True)}
    block = Block("b", iters, tuple(variables), Store("C", (substitute(node, inside),), const(dt.f32, 0)))
    f = Function("f", (), (Buffer("C", dt.f32, (index(1000),)),), (), ("C",), block)
    inner = {v for v in variables if data.draw(st.booleans())}
    ((start, extent),) = region(f, block, Load("C", dt.f32, (substitute(node, inside),)), inner).ranges
    if as_int(extent) == 1000 and as_int(start) == 0:
        return
    for point in itertools.product(range(4), range(3), range(2)):
        values: dict[Scalar, Scalar] = {v: index(n) for v, n in zip(variables, point, strict=True)}
        here = as_int(simplify(substitute(node, values)))
        low, count = (as_int(simplify(substitute(x, values))) for x in (start, extent))
        assert here is not None and low is not None and count is not None
        assert low <= here < low + count


@given(cases())
@settings(max_examples=30)
def test_the_index_agrees_with_a_walk(case: Case) -> None:
    f = case.function
    assert [b.name for b in blocks(f)] == [s.name for s in walk(f.body) if isinstance(s, Block)]
    assert [x.var.name for x in loops(f)] == [s.var.name for s in walk(f.body) if isinstance(s, For)]
    for b in blocks(f):
        assert find(f, b.name).stmt is b
        inside = {v for loop in loops_above(f, b.name) for v in [loop.var]}
        assert isinstance(inside, set) and all(isinstance(v, Var) for v in inside)
