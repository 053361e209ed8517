"""Text of the loop language: it reads back to the same function, and errors say where."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings

from tcompiler.errors import ParseError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterVar, Region, Seq, Store, Update, seq
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.scalar.grammar import Const, Load, Scalar, Var, const, index, loop_var
from tcompiler.ir.scalar.text import print_reducer
from tests.ir.loop.mutations import mutations
from tests.ir.loop.programs import EVERYTHING, TILED, Case, cases


def same(a: object, b: object) -> bool:
    """Structural equality by fields; scalars are interned, reducers are compared up to their variables' names."""
    if isinstance(a, Scalar | str | int | float | bool | None) or not dataclasses.is_dataclass(a):
        if isinstance(a, tuple) and isinstance(b, tuple):
            return len(a) == len(b) and all(map(same, a, b))
        return a is b or (type(a) is type(b) and a == b)
    if isinstance(a, Update) and isinstance(b, Update):
        return same((a.targets, print_reducer(a.reducer), a.values), (b.targets, print_reducer(b.reducer), b.values))
    return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


@pytest.mark.parametrize("text", [EVERYTHING, TILED])
def test_text_reads_back(text: str) -> None:
    assert print_function(parse_function(text)) == text


@given(cases())
@settings(max_examples=60)
def test_random_functions_read_back(case: Case) -> None:
    function = case.function
    again = parse_function(print_function(function))
    assert same(
        (function.name, function.params, function.inputs, function.outputs, function.body),
        (again.name, again.params, again.inputs, again.outputs, again.body),
    )
    named = {b.name: b for b in again.buffers}
    assert all(same(b, named[b.name]) for b in function.buffers)
    assert print_function(again) == print_function(function)


@pytest.mark.parametrize(
    "name", ["", "a b", 'quo"te', "it's", "\\", "\n", "\x00", "\u202e", "é𝄞", "\ud800", "{x}", "%s"]
)
def test_a_block_has_any_name(name: str) -> None:
    i = loop_var("v", 1)
    block = Block(name, (IterVar(i, "spatial"),), (index(0),), Store("A", (i,), const(dt.f32, 1)))
    a = Buffer("A", dt.f32, (index(1),))
    text = print_function(Function("f", (), (a,), (), ("A",), block))
    body = parse_function(text).body
    assert isinstance(body, Block) and body.name == name
    assert print_function(parse_function(text)) == text


@pytest.mark.parametrize(
    "bits", [0, 1 << 31, 0x7FC00000, 0xFFC00000, 0x7FC00001, 0x7F800000, 1, 0x3DCCCCCD, 0x00800000]
)
def test_no_bit_of_a_constant_is_lost(bits: int) -> None:
    block = Block("b", (), (), Store("A", (), Const(dt.f32, bits)))
    text = print_function(Function("f", (), (Buffer("A", dt.f32, ()),), (), ("A",), block))
    body = parse_function(text).body
    assert isinstance(body, Block) and isinstance(body.body, Store)
    assert body.body.value is Const(dt.f32, bits)


def test_a_long_body_overflows_no_stack() -> None:
    stores = [Block(f"b{k}", (), (), Store("A", (index(k),), const(dt.f32, k))) for k in range(20_000)]
    f = Function("f", (), (Buffer("A", dt.f32, (index(20_000),)),), (), ("A",), seq(*stores))
    again = parse_function(print_function(f))
    assert isinstance(again.body, Seq) and len(again.body.stmts) == 20_000


def test_annotations_keep_their_types() -> None:
    notes = (("a", True), ("b", 1), ("c", 1.0), ("d", "x"), ("e", -2), ("f", -0.0))
    i = loop_var("i", 3)
    f = Function("f", (), (), (), (), For(i, "serial", seq(), notes))
    body = parse_function(print_function(f)).body
    assert isinstance(body, For)
    assert [(k, repr(v)) for k, v in body.annotations] == [(k, repr(v)) for k, v in notes]


def test_regions_of_any_rank() -> None:
    j = Load("J", dt.i64, ())
    regions = (Region("J", ()), Region("A", ((j, index(4)),)))
    block = Block("b", (), (), seq(), opaque=True, reads=regions)
    buffers = (Buffer("J", dt.i64, ()), Buffer("A", dt.f32, (index(9),)))
    text = print_function(Function("f", (), buffers, ("J", "A"), (), block))
    body = parse_function(text).body
    assert isinstance(body, Block) and same(body.reads, regions)


def test_block_variables_are_not_those_of_the_loops() -> None:
    body = parse_function(TILED).body
    assert isinstance(body, For) and body.var is Var("i0", dt.i64, index(3))


HEAD = "@loop.function\ndef f(A: f32[4], C: out(f32[4])):\n"
ERRORS = [
    (
        "def f():\n    pass\n",
        """line 1, column 1: expected one function under @loop.function
  def f():
  ^^^^^^^^""",
    ),
    ("", "line 1, column 1: expected a function under @loop.function, found nothing\n  \n  ^"),
    (
        HEAD + '    with block("b"):\n        v = spatial(4, 0)\n        C[v] = A[w]\n',
        """line 5, column 18: unknown variable 'w'; known here: v
          C[v] = A[w]
                   ^""",
    ),
    (
        HEAD + '    for i in range(4):\n        with block("b"):\n            C[i] = f32(1.0)\n',
        """line 5, column 15: unknown variable 'i'; there are none
              C[i] = f32(1.0)
                ^""",
    ),
    (
        HEAD + '    with block("b"):\n        C[0] = 1\n',
        """line 4, column 16: the value is i64, C holds f32
          C[0] = 1
                 ^""",
    ),
    (
        HEAD + '    with block("b"):\n        C[0], C[1] = argmax.update(A[0], 1)\n',
        """line 4, column 22: argmax combines a number and an i64 index, not (f32, f32)
          C[0], C[1] = argmax.update(A[0], 1)
                       ^^^^^^""",
    ),
    (
        HEAD + '    with block("b"):\n        C[0] = max.update(A[0], A[1])\n',
        """line 4, column 9: the reducer combines 1 values; the update has 1 targets and 2 values
          C[0] = max.update(A[0], A[1])
          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^""",
    ),
    (
        HEAD + "    for i in rnage(4):\n        pass\n",
        """line 3, column 14: expected range, parallel, vectorized, unrolled or thread
      for i in rnage(4):
               ^^^^^^^^""",
    ),
    (
        HEAD + '    for i in thread("blockIdx.w", 4):\n        pass\n',
        """line 3, column 14: unknown thread index 'blockIdx.w'; expected one of blockIdx.x, blockIdx.y, blockIdx.z, \
threadIdx.x, threadIdx.y, threadIdx.z
      for i in thread("blockIdx.w", 4):
               ^^^^^^^^^^^^^^^^^^^^^^^""",
    ),
    (
        HEAD + "    for i in range(4):\n        T = alloc(f32[4])\n",
        """line 4, column 9: buffers are declared at the top of the function
          T = alloc(f32[4])
          ^^^^^^^^^^^^^^^^^""",
    ),
    (
        HEAD + '    with block("b"):\n        C[0] = f32(1.0)\n        v = spatial(4, 0)\n',
        """line 5, column 9: iter vars are declared at the top of a block
          v = spatial(4, 0)
          ^^^^^^^^^^^^^^^^^""",
    ),
    (
        HEAD + '    with block("b", where=3):\n        pass\n',
        """line 3, column 27: where takes a bool, not i64
      with block("b", where=3):
                            ^""",
    ),
    (
        HEAD + "    return A\n",
        """line 3, column 5: expected a loop, a block, a store, an update or an intrinsic
      return A
      ^^^^^^^^""",
    ),
    (
        "@loop.function\ndef f(A: f32[4], A: f32[4]):\n    pass\n",
        """line 2, column 18: 'A' is an argument twice
  def f(A: f32[4], A: f32[4]):
                   ^^^^^^^^^""",
    ),
    (
        "@loop.function\ndef f(A: f33[4]):\n    pass\n",
        """line 2, column 10: unknown element type 'f33'; did you mean 'f32'?
  def f(A: f33[4]):
           ^^^""",
    ),
    (
        HEAD + "    for i in range(A[0]):\n        pass\n",
        """line 3, column 20: unknown tensor 'A'; there are none
      for i in range(A[0]):
                     ^^^^""",
    ),
    (
        HEAD + '    with block("b", opaque=True):\n        reads(A[0:4])\n',
        """line 4, column 17: a region's dimension is span(start, extent)
          reads(A[0:4])
                  ^^^""",
    ),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_errors_say_where(text: str, message: str) -> None:
    with pytest.raises(ParseError) as e:
        parse_function(text)
    assert str(e.value) == message


@pytest.mark.parametrize("text", [EVERYTHING, TILED])
def test_every_meaningful_field_is_in_the_text(text: str) -> None:
    seen = set()
    for what, changed in mutations(parse_function(text)):
        assert print_function(changed) != text, what
        seen.add(what)
    assert len(seen) > 20


@given(cases())
@settings(max_examples=25)
def test_every_meaningful_field_of_a_random_function_is_in_the_text(case: Case) -> None:
    text = print_function(case.function)
    for what, changed in mutations(case.function):
        assert print_function(changed) != text, what
