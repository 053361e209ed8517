"""Scans, scatters and sorts as loops: what the loops compute is what the program means, interpreted and compiled."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tcompiler.errors import CompileError
from tcompiler.ir.expr.evaluate import evaluate
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.loop.interpret import interpret
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.lower.function import lower
from tcompiler.lower.selection import block_length
from tcompiler.schedule.rules.default import default_schedule
from tcompiler.target.named import host
from tests.backends.kernels import run
from tests.ir.expr.strategies import Case, cases

Arrays = dict[str, np.ndarray[Any, Any]]


def fixed(program: Program, params: dict[str, int]) -> Program:
    """A program with its parameters as constants."""
    text = print_program(program)
    for name, value in params.items():
        text = re.sub(rf"\b{name}: i64(, )?", "", text, count=1)
        text = re.sub(rf"\b{name} \+ 1\b", str(value + 1), text)
        text = re.sub(rf"\b{name}\b", str(value), text)
    made = parse_program(text)
    # a function's output is a buffer of its own: the front end copies an input that leaves
    given = {t.name for t in made.inputs}
    return replace(made, outputs=tuple(o for o in made.outputs if o not in given))


def same(found: Arrays, expected: Arrays, what: str) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].size == array.size
        assert np.array_equal(found[name].reshape(array.shape), array, equal_nan=array.dtype.kind in "fV"), (
            f"{name} of\n{what}"
        )


def check(program: Program, inputs: Arrays, compiled: bool = True) -> None:
    """Holds loops against the program: interpreted as they come, and compiled as they are scheduled."""
    expected = {name: np.asarray(a) for name, a in evaluate(program, inputs).items()}
    assert expected.keys() == set(program.outputs)
    function = lower(program)
    verify(function, scheduled=False)
    text = print_function(function)
    assert print_function(parse_function(text)) == text
    table = buffer_table(function)
    read = {n: inputs[n].reshape([as_int(e) or 0 for e in table[n].shape]) for n in function.inputs}
    same({n: np.asarray(a) for n, a in interpret(function, read).items()}, expected, text)
    if compiled:
        scheduled = default_schedule(function, host()).function
        verify(scheduled)
        same(run(scheduled, read), expected, print_function(scheduled))


@given(cases())
@settings(max_examples=40)
def test_random_programs_interpreted(case: Case) -> None:
    check(fixed(case.program, case.params), case.inputs, compiled=False)


@given(cases())
@settings(max_examples=20)
def test_random_programs_compiled(case: Case) -> None:
    check(fixed(case.program, case.params), case.inputs)


SORT = """@expr.program
def sorting(x: {dtype}[3, {n}]):
    v, at = sort(({dtype}[3, {kept}], i64[3, {kept}]), x, axis=1, descending={descending})
    return v, at
"""


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "i64", "u8"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 9, 40])
def test_sorts(n: int, dtype: str, descending: bool) -> None:
    rng = np.random.default_rng(n)
    x = numbers(rng, n, dtype)
    text = SORT.format(dtype=dtype, n=n, kept=n, descending=descending)
    check(parse_program(text), {"x": x}, compiled=n in (1, 9, 40))


def numbers(rng: np.random.Generator, n: int, dtype: str) -> np.ndarray[Any, Any]:
    """Three rows of values many of which are equal, and what is at the ends of a type."""
    x = rng.integers(0, 6, (3, n)).astype({"f32": np.float32, "i64": np.int64, "u8": np.uint8}[dtype])
    if dtype == "f32" and n > 3:
        x[:, ::3] = np.nan
        x[0, 1] = -np.inf
        x[1, 1] = -0.0
        x[2, :] = np.inf
        x[2, n // 2] = np.nan
    elif dtype == "i64" and n > 3:
        x[:, ::3] = np.iinfo(np.int64).min
        x[1, ::2] = np.iinfo(np.int64).max
    return x


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "i64", "u8"])
@pytest.mark.parametrize(("n", "kept"), [(5, 0), (2, 1), (7, 6), (30, 1), (33, 4), (37, 36), (400, 21)])
def test_the_first_of_a_sort(n: int, kept: int, dtype: str, descending: bool) -> None:
    text = SORT.format(dtype=dtype, n=n, kept=kept, descending=descending)
    check(
        parse_program(text),
        {"x": numbers(np.random.default_rng(n), n, dtype)},
        compiled=n == 7 or (n in (37, 400) and dtype == "f32"),
    )


@pytest.mark.parametrize("extent", [2, 16, 31, 33, 64, 100, 997, 1000, 50257])
def test_blocks_of_a_row_are_about_as_many_as_their_elements(extent: int) -> None:
    length = block_length(extent)
    assert 1 < length <= max(32, 2 * extent**0.5)
    assert 4 * length * length >= extent


def test_a_sort_along_the_first_axis() -> None:
    text = SORT.format(dtype="f32", n=5, kept=5, descending=False).replace("axis=1", "axis=0")
    check(parse_program(text), {"x": np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)})


def test_a_symbolic_axis_is_not_sorted() -> None:
    text = SORT.format(dtype="f32", n="n", kept="n", descending=False).replace("(x:", "(n: i64, x:")
    with pytest.raises(CompileError) as error:
        lower(parse_program(text))
    assert str(error.value) == (
        "v is sorted along an axis of symbolic extent n: code is generated for constant extents; give the model's "
        "dimensions as integers"
    )


SCATTER = """@expr.program
def scattering(x: f32[4, 3], at: i64[6], w: f32[6, 3]):
    y = scatter(f32[4, 3], x, (6, 3), lambda i, j: ((at[i], j), w[i, j]){combiner})
    return y
"""


@pytest.mark.parametrize("combiner", ["", ", combiner=sum", ", combiner=max", ", combiner=prod"])
def test_scatters_in_order_and_out_of_range(combiner: str) -> None:
    rng = np.random.default_rng(1)
    inputs = {
        "x": rng.standard_normal((4, 3)).astype(np.float32),
        "at": np.array([2, -1, 2, 4, 0, 2**40]),
        "w": rng.standard_normal((6, 3)).astype(np.float32),
    }
    check(parse_program(SCATTER.format(combiner=combiner)), inputs)


SCAN = """@expr.program
def stepping(x: f32[5, 3], h0: f32[3], c0: f32[3]):
    with scan(t=5):
        h = state(f32[3], h0)
        c = state(f32[3], c0)
        new = compute(f32[3], lambda j: h[j] * f32(0.5) + x[t, j])
        hs = collect(f32[5, 3], {first})
        cs = last(f32[3], {second})
    return hs, cs
"""


@pytest.mark.parametrize(
    ("first", "second"), [("new", "h"), ("c", "new"), ("c", "h"), ("h", "c"), ("new", "new"), ("x0", "new")]
)
def test_states_change_at_once(first: str, second: str) -> None:
    """States that take each other's values take those from before the step."""
    text = SCAN.format(first=first, second=second)
    if first == "x0":
        text = text.replace("    with scan", "    x0 = compute(f32[3], lambda j: x[0, j])\n    with scan")
    rng = np.random.default_rng(2)
    inputs = {n: rng.integers(-4, 5, s).astype(np.float32) for n, s in (("x", (5, 3)), ("h0", 3), ("c0", 3))}
    check(parse_program(text), inputs)
