"""The structural hash of programs: names do not count, meaningful fields do, processes agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from hypothesis import given, settings

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Compute, Program, Tensor
from tcompiler.ir.expr.hash import structural_hash
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, const, index, loop_var
from tests.ir.expr.mutations import mutations
from tests.ir.expr.programs import EVERYTHING
from tests.ir.expr.strategies import Case, cases


def test_every_meaningful_field_counts() -> None:
    program = parse_program(EVERYTHING)
    own = structural_hash(program)
    for what, changed in mutations(program):
        assert structural_hash(changed) != own, what


@given(cases())
@settings(max_examples=25)
def test_every_meaningful_field_of_a_random_program_counts(case: Case) -> None:
    own = structural_hash(case.program)
    for what, changed in mutations(case.program):
        assert structural_hash(changed) != own, what


def test_names_do_not_count() -> None:
    text = EVERYTHING
    words = set(re.findall(r"\b[a-z]\w*\b(?!\()", text))
    words -= {"expr", "program", "def", "return", "with", "lambda", "combiner", "axis", "descending", "f32", "bits"}
    words -= {"f64", "i64", "i8", "bool", "sum", "argmax", "any", "everything", "as"}
    for name in words:
        text = re.sub(rf"\b{name}\b(?!\()(?!\.)", f"{name}_new", text)
    text = text.replace("def everything", "def other")
    program = parse_program(text)
    assert print_program(program) == text != EVERYTHING
    assert structural_hash(program) == structural_hash(parse_program(EVERYTHING))


def test_a_reducer_counts_by_what_it_computes() -> None:
    text = "@expr.program\ndef f(x: f32[4]):\n    y = reduce({}, f32[()], (4,), lambda i: x[i])\n    return y\n"
    hashes = [
        structural_hash(parse_program(text.format(r)))
        for r in (
            "sum",
            "reducer(lambda p, q: (p + q,), (f32(0.0),))",
            "reducer(lambda p, q: (q + p,), (f32(0.0),))",
            "reducer(lambda p, q: (p + q,), (f32(-0.0),))",
            "max",
        )
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_deep_values_and_long_programs_overflow_no_stack() -> None:
    x = Tensor("x", dt.f32, (index(4),))
    i = loop_var("i", 4)
    value: Scalar = Load("x", dt.f32, (i,))
    for k in range(20_000):
        value = Binary("add", value, const(dt.f32, k))
    deep = Compute((Tensor("y", dt.f32, x.shape),), (i,), (), None, (value,))
    flat = [
        Compute((Tensor(f"t{k}", dt.f32, x.shape),), (i,), (), None, (Load("x", dt.f32, (i,)),)) for k in range(5_000)
    ]
    program = Program("long", (), (x,), (deep, *flat), ("y",))
    assert structural_hash(program) == structural_hash(program)
    assert len(print_program(program)) > 100_000


def test_equal_in_another_process() -> None:
    code = (
        "from tests.ir.expr.programs import EVERYTHING\n"
        "from tcompiler.ir.expr.text import parse_program\n"
        "from tcompiler.ir.expr.hash import structural_hash\n"
        "print(structural_hash(parse_program(EVERYTHING)))\n"
    )
    env = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [structural_hash(parse_program(EVERYTHING))]
