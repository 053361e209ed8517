"""Texts of programs: they read back equal, print back the same, and refuse what they do not know."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tcompiler.errors import ParseError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Compute, Program, Tensor
from tcompiler.ir.expr.hash import structural_hash
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.scalar.grammar import Load, index, loop_var
from tests.ir.expr.mutations import mutations
from tests.ir.expr.programs import EVERYTHING, convolution
from tests.ir.expr.strategies import Case, cases


@pytest.mark.parametrize("text", [EVERYTHING, convolution(), convolution(groups=2, before=(1, 2), stride=(2, 3))])
def test_texts_print_back(text: str) -> None:
    printed = print_program(parse_program(text))
    assert print_program(parse_program(printed)) == printed
    assert printed == text or text is not EVERYTHING


@given(cases(6))
@settings(max_examples=150)
def test_random_programs_round_trip(case: Case) -> None:
    text = print_program(case.program)
    again = parse_program(text)
    assert print_program(again) == text
    assert structural_hash(again) == structural_hash(case.program)


@given(cases())
@settings(max_examples=20)
def test_every_meaningful_field_shows(case: Case) -> None:
    text = print_program(case.program)
    for what, changed in mutations(case.program):
        assert print_program(changed) != text, what


def test_every_meaningful_field_shows_in_one_of_everything() -> None:
    count = 0
    for what, changed in mutations(parse_program(EVERYTHING)):
        assert print_program(changed) != EVERYTHING, what
        count += 1
    assert count > 300


def test_comments_are_ignored() -> None:
    text = "# a title\n" + EVERYTHING.replace("    y =", "    # the product\n    y =")
    assert print_program(parse_program(text)) == EVERYTHING


def test_a_long_program_prints_and_reads() -> None:
    x = Tensor("t0", dt.f32, (index(4),))
    scopes = []
    for k in range(3_000):
        i = loop_var("i", 4)
        scopes.append(Compute((Tensor(f"t{k + 1}", dt.f32, x.shape),), (i,), (), None, (Load(f"t{k}", dt.f32, (i,)),)))
    program = Program("long", (), (x,), tuple(scopes), ("t3000",))
    text = print_program(program)
    assert print_program(parse_program(text)) == text


def _program(body: str, head: str = "n: i64, x: f32[n, 6]") -> str:
    return f"@expr.program\ndef f({head}):\n" + "".join(f"    {line}\n" for line in body.splitlines())


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("", "expected a function under @expr.program, found nothing", 1, 1),
        ("x = 3\n", "expected one function under @expr.program", 1, 1),
        ("def f():\n    return ()\n", "expected one function under @expr.program", 1, 1),
        (
            _program("return x", "*x"),
            "a program's arguments are written name: type, its outputs after return",
            2,
            1,
        ),
        (_program("return x", "n: i64, n: i64"), "'n' is an argument twice", 2, 15),
        (_program("return x", "x"), "input 'x' has no type; write x: f32[64]", 2, 7),
        (_program("return x", "x: f31[3]"), "unknown element type 'f31'; did you mean 'f32'?", 2, 10),
        (_program("return x", "x: f32[m]"), "unknown variable 'm'; there are none", 2, 14),
        (
            _program("y = 3\nreturn y"),
            _SCOPES := "expected a scope: name = compute(…), reduce(…), scatter(…), sort(…), or with scan(…)",
            3,
            5,
        ),
        (_program("y = conpute(f32[n], lambda i: x[i, 0])\nreturn y"), _SCOPES, 3, 5),
        (_program("x"), "expected `return` with the outputs' names at the end", 3, 5),
        (_program("return x[0]"), "expected a name", 3, 12),
        (_program("y = compute(f32[n])\nreturn y"), "expected compute(type, lambda axes: value)", 3, 9),
        (
            _program("y = reduce(sum, f32[n], lambda i, k: x[i, k])\nreturn y"),
            "expected reduce(reducer, type, (extents,), lambda …)",
            3,
            9,
        ),
        (
            _program("y = compute(f32[n], lambda i, j: x[i, j])\nreturn y"),
            "the lambda has 2 axes, expected 1",
            3,
            25,
        ),
        (_program("y = compute(f32[n, n], lambda i, i: x[i, 0])\nreturn y"), "two axes have one name", 3, 28),
        (_program("y = compute(f32[n], lambda *i: x[i, 0])\nreturn y"), "expected lambda axes: value", 3, 25),
        (
            _program("y = compute(f32[n], lambda i: z[i, 0])\nreturn y"),
            "unknown tensor 'z'; known here: x",
            3,
            35,
        ),
        (_program("x = compute(f32[n], lambda i: x[i, 0])\nreturn x"), "'x' is defined twice", 3, 5),
        (
            _program("y, z = compute(f32[n], lambda i: x[i, 0])\nreturn y"),
            "2 names are defined and 1 types given",
            3,
            20,
        ),
        (
            _program("y = reduce(summ, f32[n], (6,), lambda i, k: x[i, k])\nreturn y"),
            "unknown reducer 'summ'; did you mean 'sum'?",
            3,
            16,
        ),
        (
            _program("y = reduce(any, f32[n], (6,), lambda i, k: x[i, k])\nreturn y"),
            "any combines single values of kind bool or int or uint, not (f32)",
            3,
            16,
        ),
        (
            _program("y = scatter(f32[n, 6], x, (3,), lambda i: (i, f32(0.0)))\nreturn y"),
            "expected ((indices,), value)",
            3,
            47,
        ),
        (
            _program("y = scatter(f32[n, 6], x, (3,), lambda i: ((i, i), f32(0.0)), combine=sum)\nreturn y"),
            "expected combiner=reducer",
            3,
            75,
        ),
        (
            _program("y, z = sort((f32[n, 6], i64[n, 6]), x, axis=-1, descending=False)\nreturn y"),
            "expected values, places = sort((type, i64[…]), source, axis=0, descending=False)",
            3,
            12,
        ),
        (_program("with scan(n):\n    h = state(f32[n, 6], x)\nreturn x"), "expected with scan(axis=extent):", 3, 10),
        (_program("y = compute(\nreturn y"), "not Python syntax: '(' was never closed", 3, 16),
    ],
)
def test_refusals(text: str, message: str, line: int, column: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse_program(text)
    assert (caught.value.message, caught.value.line, caught.value.column) == (message, line, column)


def test_a_refusal_points_at_the_place() -> None:
    with pytest.raises(ParseError) as caught:
        parse_program(_program("y = compute(f32[n], lambda i: x[i, 0.5])\nreturn y"))
    assert str(caught.value) == (
        "line 3, column 40: a float constant names its type; write f32(0.5)\n"
        "      y = compute(f32[n], lambda i: x[i, 0.5])\n"
        "                                         ^^^"
    )
