"""set_scope, compact, transform_layout, pad_stride, write_over."""

from __future__ import annotations

import numpy as np
import pytest

from tcompiler.errors import ParseError
from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.schedule import Schedule
from tcompiler.schedule.primitives.storage import compact, pad_stride
from tests.schedule import programs
from tests.schedule.data.checking import body, buffer, check, inputs, shape, text
from tests.schedule.programs import parsed


def test_the_scope_of_a_buffer() -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    sch.set_scope("T", "shared")
    assert buffer(sch.function, "T").scope == "shared"
    sch.set_scope("T", "global")
    check(before, sch)


def test_a_private_row() -> None:
    before = parsed(programs.shared_row(4, 8))
    sch = Schedule(before, debug=True)
    sch.set_scope("T", "local")
    sch.parallel("i")
    check(before, sch)


MAPS = [
    ("lambda i, j: (j, i)", (11, 6)),
    ("lambda i, j: (j // 4, i, j % 4)", (3, 6, 4)),
    ("lambda i, j: (i * 11 + j,)", (66,)),
    ("lambda i, j: (i // 2, j // 3, i % 2, j % 3)", (3, 4, 2, 3)),
    ("lambda i, j: (j, 5 - i)", (11, 6)),
    ("lambda i, j: ((i * 11 + j) // 16, (i * 11 + j) % 16)", (5, 16)),
]


@pytest.mark.parametrize(("text_of_map", "expected"), MAPS)
@pytest.mark.parametrize("pad_zero", [False, True])
def test_layouts_of_an_intermediate_buffer(text_of_map: str, expected: tuple[int, ...], pad_zero: bool) -> None:
    before = parsed(programs.chain(6, 11))
    sch = Schedule(before, debug=True)
    names = sch.transform_layout("U", text_of_map, pad_zero)
    assert shape(sch.function, "U") == expected
    assert names == (("U_fill",) if pad_zero and np.prod(expected) > 66 else ())
    check(before, sch)


def test_padding_is_zero_where_asked() -> None:
    before = parsed(programs.chain(3, 5))
    sch = Schedule(before, debug=True)
    sch.transform_layout("Y", "lambda p, q: (p // 4, q, p % 4)", True)
    verify(sch.function)
    values = inputs(before)
    packed, plain = evaluate(sch.function, values)["Y"], evaluate(before, values)["Y"]
    assert packed.shape == (2, 3, 4)
    for p in range(8):
        for q in range(3):
            assert packed[p // 4, q, p % 4] == (plain[p, q] if p < 5 else 0)


def test_inputs_are_packed_by_the_caller() -> None:
    before = parsed(programs.matmul(5, 11, 3))
    sch = Schedule(before, debug=True)
    sch.transform_layout("B", "lambda k, n: (n // 4, k, n % 4)")
    assert shape(sch.function, "B") == (3, 3, 4)
    verify(sch.function)
    values = inputs(before)
    packed = np.full((3, 3, 4), np.nan, np.float32)
    for k in range(3):
        for n in range(11):
            packed[n // 4, k, n % 4] = values["B"][k, n]
    found = evaluate(sch.function, {**values, "B": packed})["C"]
    np.testing.assert_array_equal(found, evaluate(before, values)["C"])


def test_a_dimension_of_unknown_extent_changes_its_place() -> None:
    before = parsed(programs.matmul("m", 5, 3))
    sch = Schedule(before, debug=True)
    sch.transform_layout("A", "lambda m, k: (k // 2, m, k % 2)")
    assert [as_int(e) for e in buffer(sch.function, "A").shape] == [2, None, 2]
    verify(sch.function)


@pytest.mark.parametrize(
    ("index_map", "message"),
    [
        ("(1, 2)", "expected an index map such as `lambda i, j: (j, i)`"),
        ("lambda *i: i", "an index map takes plain arguments"),
        ("lambda i, j: (i < j, j)", "an index is i64, not bool"),
    ],
)
def test_texts_that_are_no_maps(index_map: str, message: str) -> None:
    sch = Schedule(parsed(programs.chain(6, 11)))
    with pytest.raises(ParseError) as error:
        sch.transform_layout("U", index_map)
    assert error.value.message == message


def test_compact_finds_the_innermost_loop_around_all_uses() -> None:
    before = parsed(
        """
@loop.function
def rows(X: f32[6, 12], Y: out(f32[6, 12])):
    T = alloc(f32[6, 12])
    for i in range(6):
        for j0 in range(3):
            for j1 in range(4):
                with block("T"):
                    vi = spatial(6, i)
                    vj = spatial(12, j0 * 4 + j1)
                    T[vi, vj] = X[vi, vj] + f32(1.0)
            for j2 in range(4):
                with block("Y"):
                    vi = spatial(6, i)
                    vj = spatial(12, j0 * 4 + j2)
                    Y[vi, vj] = T[vi, vj] * f32(2.0)
"""
    )
    inner, outer = Schedule(before, debug=True), Schedule(before, debug=True)
    inner.function = compact(before, "T").function
    assert shape(inner.function, "T") == (1, 4)
    check(before, inner)
    outer.function = compact(before, "T", "i").function
    assert shape(outer.function, "T") == (1, 12)
    check(before, outer)


def test_the_text_of_padded_strides() -> None:
    before = parsed(programs.shared_row(4, 8))
    sch = Schedule(before, debug=True)
    sch.function = pad_stride(before, "T", 0, 4, 3).function
    expected = """
    T = alloc(f32[8], strides=(3,))
    """
    assert body(sch.function).startswith(text(expected))
    sch.function = pad_stride(parsed(programs.chain(6, 11)), "U", 0, 8, 4).function
    assert [as_int(s) for s in buffer(sch.function, "U").strides or ()] == [12, 1]
    check(parsed(programs.chain(6, 11)), sch)


@pytest.mark.parametrize("gathered", [False, True])
def test_a_row_is_written_over_by_what_becomes_of_it(gathered: bool) -> None:
    before = parsed(programs.softmax(5, 7))
    sch = Schedule(before, debug=True)
    if gathered:
        for name in ("S", "E", "M"):
            sch.compute_at(name, "i3")
    sch.write_over("Y", "E")
    assert "E" not in {b.name for b in sch.function.buffers}
    verify(sch.function)
    values = inputs(before)
    np.testing.assert_array_equal(evaluate(sch.function, values)["Y"], evaluate(before, values)["Y"])
