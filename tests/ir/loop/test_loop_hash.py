"""The structural hash: names do not count, meaningful fields do, processes agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings

from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.analysis import find, replace_at
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, Store, seq
from tcompiler.ir.loop.hash import structural_hash
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.scalar.grammar import const, index
from tests.ir.loop.mutations import mutations
from tests.ir.loop.programs import EVERYTHING, TILED, Case, cases


@pytest.mark.parametrize("text", [EVERYTHING, TILED])
def test_every_meaningful_field_counts(text: str) -> None:
    f = parse_function(text)
    own = structural_hash(f)
    for what, changed in mutations(f):
        assert structural_hash(changed) != own, what


@given(cases())
@settings(max_examples=25)
def test_every_meaningful_field_of_a_random_function_counts(case: Case) -> None:
    own = structural_hash(case.function)
    assert structural_hash(parse_function(print_function(case.function))) == own
    for what, changed in mutations(case.function):
        assert structural_hash(changed) != own, what


def test_names_do_not_count() -> None:
    text = EVERYTHING
    for name in ("n", "A", "B", "C", "D", "S", "T", "J", "i", "j", "k", "i1", "k1", "q", "vi", "vj", "vk", "vo"):
        text = re.sub(rf"(?<![\\\"])\b{name}\b(?!\()", f"{name}_new", text)
    text = text.replace("def everything", "def other").replace('block("', 'block("new ')
    f = parse_function(text)
    assert print_function(f) != EVERYTHING
    assert structural_hash(f) == structural_hash(parse_function(EVERYTHING))


def test_the_order_of_inner_declarations_does_not_count() -> None:
    f = parse_function(EVERYTHING)
    turned = Function(f.name, f.params, tuple(reversed(f.buffers)), f.inputs, f.outputs, f.body)
    assert structural_hash(turned) == structural_hash(f)


def test_a_reducer_counts_by_what_it_computes() -> None:
    text = """@loop.function
def f(A: f32[4], C: out(f32[()])):
    for i in range(4):
        with block("b"):
            v = reduce(4, i)
            C[()] = {}.update(A[v])
"""
    named = parse_function(text.format("sum"))
    spelled = parse_function(text.format("reducer(lambda p, q: (p + q,), (f32(0.0),))"))
    turned = parse_function(text.format("reducer(lambda p, q: (q + p,), (f32(0.0),))"))
    assert structural_hash(named) == structural_hash(spelled) != structural_hash(turned)


def test_what_a_rewrite_leaves_is_hashed_as_if_built_anew() -> None:
    f = parse_function(TILED)
    structural_hash(f)
    k = find(f, "k").stmt
    assert isinstance(k, For)
    g = replace_at(f, find(f, "k"), For(k.var, "unrolled", k.body, k.annotations))
    assert structural_hash(g) == structural_hash(parse_function(print_function(g)))


def test_equal_in_another_process() -> None:
    code = (
        "from tests.ir.loop.programs import EVERYTHING, TILED\n"
        "from tcompiler.ir.loop.text import parse_function\n"
        "from tcompiler.ir.loop.hash import structural_hash\n"
        "print(structural_hash(parse_function(TILED)), structural_hash(parse_function(EVERYTHING)))\n"
    )
    env = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [structural_hash(parse_function(t)) for t in (TILED, EVERYTHING)]


def test_a_long_body_overflows_no_stack() -> None:
    def build(count: int) -> Function:
        stores = [Block(f"b{k}", (), (), Store("A", (index(k),), const(dt.f32, k))) for k in range(count)]
        return Function("f", (), (Buffer("A", dt.f32, (index(50_000),)),), (), ("A",), seq(*stores))

    long = structural_hash(build(50_000))
    assert long != structural_hash(build(5_000)) == structural_hash(build(5_000))


def test_strings_of_any_kind_are_hashed() -> None:
    def build(value: str) -> Function:
        return Function("f", (), (), (), (), Block("b", (), (), seq(), annotations=(("key", value),)))

    values = ["", "a", "\ud800", "é", '"', "'", "\n", "\x00", "1", "a,'b'"]
    assert len({structural_hash(build(v)) for v in values}) == len(values)
