"""The meaning of loop functions, twice: the pointwise interpreter and the vectorised evaluator agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcompiler.errors import ArgumentError, VerifyError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.interpret import interpret
from tcompiler.ir.loop.intrinsics import meanings
from tcompiler.ir.loop.text import parse_function
from tcompiler.ir.loop.verify import verify
from tests.ir.loop.programs import TILED, Case, cases, numbers

Array = np.ndarray[Any, Any]


def agree(a: Array, b: Array) -> bool:
    if a.dtype.kind == "f":
        scale = max(1.0, float(np.max(np.abs(a), initial=0, where=np.isfinite(a))))
        tolerance = float(np.finfo(a.dtype).eps) * 64 * scale
        return bool(np.allclose(a.astype(np.float64), b.astype(np.float64), 0, tolerance, equal_nan=True))
    return bool(np.array_equal(a, b))


@given(cases(), st.integers(0, 1000))
@settings(max_examples=100)
def test_random_functions(case: Case, seed: int) -> None:
    verify(case.function)
    expected = interpret(case.function, case.inputs, case.params)
    found = evaluate(case.function, case.inputs, case.params)
    shuffled = interpret(case.function, case.inputs, case.params, shuffle=seed)
    assert list(expected) == list(found) == list(case.function.outputs)
    for name in expected:
        assert expected[name].dtype == found[name].dtype
        assert agree(expected[name], found[name]), name
        assert agree(expected[name], shuffled[name]), name


def both(text: str, *inputs: Array, **params: int) -> dict[str, Array]:
    """The outputs of a function, on which interpreter and evaluator agree."""
    f = parse_function(text)
    verify(f)
    given_inputs = dict(zip(f.inputs, inputs, strict=True))
    expected = interpret(f, given_inputs, params)
    found = evaluate(f, given_inputs, params)
    for name in expected:
        assert agree(expected[name], found[name]), (name, expected[name], found[name])
    return expected


def test_a_tiled_matmul() -> None:
    a, b = numbers(dt.f32, (16, 12), 1), numbers(dt.f32, (12, 8), 2)
    assert np.array_equal(both(TILED, a, b)["C"], np.maximum(a @ b, 0))


def test_a_recurrence_is_not_vectorised_along_itself() -> None:
    text = """@loop.function
def scan(A: i64[7, 3], C: out(i64[8, 3])):
    for j0 in range(3):
        with block("start"):
            v = spatial(3, j0)
            C[0, v] = 1
    for t in range(7):
        for j in range(3):
            with block("step"):
                vt = ordered(7, t)
                vj = spatial(3, j)
                C[vt + 1, vj] = C[vt, vj] * 2 + A[vt, vj]
"""
    a = numbers(dt.i64, (7, 3), 1)
    expected = [np.ones(3, np.int64)]
    for row in a:
        expected.append(expected[-1] * 2 + row)
    assert np.array_equal(both(text, a)["C"], expected)


def test_an_update_in_place() -> None:
    text = """@loop.function
def f(A: i64[5], C: out(i64[5])):
    for i in range(5):
        with block("copy"):
            v = spatial(5, i)
            C[v] = A[v]
    for r in range(3):
        for j in range(5):
            with block("square"):
                vr = ordered(3, r)
                v = spatial(5, j)
                C[v] = C[v] * C[v] + vr
"""
    both(text, numbers(dt.i64, (5,), 1))


def test_the_last_of_many_writes_counts() -> None:
    text = """@loop.function
def f(A: i64[4, 6], C: out(i64[3])):
    for i in range(4):
        for j in range(6):
            with block("b"):
                vi = ordered(4, i)
                vj = ordered(6, j)
                C[vj % 3] = A[vi, vj] * 10 + vi
"""
    a = numbers(dt.i64, (4, 6), 1)
    assert np.array_equal(both(text, a)["C"], a[3, 3:] * 10 + 3)


def test_several_statements_in_a_block() -> None:
    text = """@loop.function
def f(A: i64[4], B: out(i64[4]), C: out(i64[4]), D: out(i64[5])):
    for z in range(5):
        with block("zero"):
            v = spatial(5, z)
            D[v] = 0
    for i in range(4):
        with block("b"):
            v = ordered(4, i)
            B[v] = A[v] + 1
            C[v] = B[v] * 2
            D[v] = D[v + 1] + C[v]
            D[v + 1] = B[v]
"""
    both(text, numbers(dt.i64, (4,), 1))


def test_histogram() -> None:
    text = """@loop.function
def f(A: i64[50], C: out(i64[5])):
    for z in range(5):
        with block("zero"):
            v = spatial(5, z)
            C[v] = 0
    for i in range(50):
        with block("count", where=i < 40):
            v = reduce(50, i)
            C[A[v]] += 1
"""
    a = np.abs(numbers(dt.i64, (50,), 3))
    assert np.array_equal(both(text, a)["C"], np.bincount(a[:40], minlength=5))


def test_a_reducer_that_keeps_order() -> None:
    text = """@loop.function
def f(A: i64[3, 7], C: out(i64[3])):
    for i in range(3):
        for j in range(7):
            with block("last"):
                vi = spatial(3, i)
                vj = reduce(7, j)
                with init():
                    C[vi] = 0
                C[vi] = reducer(lambda a, b: (b,), (0,)).update(A[vi, vj])
"""
    a = numbers(dt.i64, (3, 7), 1)
    assert np.array_equal(both(text, a)["C"], a[:, -1])


def test_argmax_takes_the_first_and_nan_wins() -> None:
    text = """@loop.function
def f(A: f32[3, 6], M: out(f32[3]), I: out(i64[3])):
    for i in range(3):
        for j0 in range(2):
            for j1 in range(3):
                with block("b"):
                    vi = spatial(3, i)
                    vj = reduce(6, j0 * 3 + j1)
                    with init():
                        M[vi] = f32(-inf)
                        I[vi] = 9223372036854775807
                    M[vi], I[vi] = argmax.update(A[vi, vj], vj)
"""
    a = np.array([[1, 5, 2, 5, 0, 1], [1, 2, np.nan, 9, np.nan, 0], [-np.inf] * 6], np.float32)
    out = both(text, a)
    assert np.array_equal(out["I"], np.argmax(a, axis=1))


def test_integers_wrap() -> None:
    text = """@loop.function
def f(A: i32[6], B: u8[6], C: out(i32[()]), D: out(u8[()])):
    for i in range(6):
        with block("c"):
            v = reduce(6, i)
            with init():
                C[()] = i32(0)
            C[()] += A[v] * A[v]
    for j in range(6):
        with block("d"):
            v = reduce(6, j)
            with init():
                D[()] = u8(1)
            D[()] = prod.update(B[v])
"""
    a = np.full(6, 2**31 - 1, np.int32)
    b = np.full(6, 255, np.uint8)
    out = both(text, a, b)
    assert out["C"] == 6 and out["D"] == 1


def test_padding_is_guarded() -> None:
    text = """@loop.function
def f(A: f32[4, 4], W: f32[3, 3], C: out(f32[4, 4])):
    for i in range(4):
        for j in range(4):
            for r in range(3):
                for s in range(3):
                    with block("conv"):
                        vi = spatial(4, i)
                        vj = spatial(4, j)
                        vr = reduce(3, r)
                        vs = reduce(3, s)
                        with init():
                            C[vi, vj] = f32(0.0)
                        C[vi, vj] += select((vi + vr >= 1) & (vi + vr < 5) & (vj + vs >= 1) & (vj + vs < 5), \
A[vi + vr - 1, vj + vs - 1], f32(0.0)) * W[vr, vs]
"""
    a, w = numbers(dt.f32, (4, 4), 1), numbers(dt.f32, (3, 3), 2)
    padded = np.pad(a, 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    assert np.array_equal(both(text, a, w)["C"], np.einsum("ijrs,rs->ij", windows, w))


def test_parameters_give_extents() -> None:
    text = """@loop.function
def f(n: i64, m: i64, A: f64[n, m], C: out(f64[n])):
    for i in parallel(n):
        for j in range(m):
            with block("b"):
                vi = spatial(n, i)
                vj = reduce(m, j)
                with init():
                    C[vi] = f64(0.0)
                C[vi] += A[vi, vj] * cast(f64, n)
"""
    a = numbers(dt.f64, (3, 4), 1)
    assert np.array_equal(both(text, a, n=3, m=4)["C"], a.sum(1) * 3)
    assert both(text, np.zeros((0, 4)), n=0, m=4)["C"].shape == (0,)


def test_loops_inside_a_block() -> None:
    text = """@loop.function
def f(A: i64[3, 4], C: out(i64[3, 4])):
    for i in range(3):
        with block("rows"):
            v = spatial(3, i)
            for j in range(4):
                C[v, j] = A[v, j] + j
            with block("first"):
                w = spatial(3, v)
                C[w, 0] = 100 + w
"""
    a = numbers(dt.i64, (3, 4), 1)
    expected = a + np.arange(4)
    expected[:, 0] = 100 + np.arange(3)
    assert np.array_equal(both(text, a)["C"], expected)


def test_an_init_that_comes_late_is_done_where_it_stands() -> None:
    """Not a legal reduction: it runs backwards, so the init comes last. The evaluator must not pretend otherwise."""
    text = """@loop.function
def f(A: i64[4], C: out(i64[2])):
    for z in range(2):
        with block("zero"):
            v = spatial(2, z)
            C[v] = 5
    for i in range(2):
        for k in range(4):
            with block("b"):
                vi = spatial(2, i)
                vk = reduce(4, 3 - k)
                with init():
                    C[vi] = 0
                C[vi] += A[vk]
"""
    a = numbers(dt.i64, (4,), 1)
    assert np.array_equal(both(text, a)["C"], [a[0], a[0]])


def test_intrinsics_take_effect_when_waited_for() -> None:
    text = """@loop.function
def f(A: f32[8], C: out(f32[4])):
    T = alloc(f32[8], scope="shared")
    with block("b", opaque=True):
        reads(A[span(0, 8)], T[span(0, 8)])
        writes(C[span(0, 4)], T[span(0, 8)])
        for i in range(2):
            intrinsic("copy", writes=(T[span(i * 4, 4)],), reads=(A[span(i * 4, 4)],), args=(i,), queue="q")
            commit("q")
        wait("q", 1)
        C[0] = T[3]
        wait("q", 0)
        C[1] = T[4]
        intrinsic("copy", writes=(C[span(2, 2)],), reads=(T[span(0, 2)],), args=(7,))
"""
    f = parse_function(text)
    verify(f)
    calls: list[int] = []

    def copy(writes: Any, reads: Any, args: Any) -> None:
        calls.append(int(args[0]))
        writes[0][...] = reads[0]

    a = np.arange(8, dtype=np.float32)
    for run in (interpret, evaluate):
        calls.clear()
        found = run(f, {"A": a}, intrinsics={"copy": copy})["C"]
        assert found.tolist() == [3, 4, 0, 1] and calls == [0, 1, 7]
    early = parse_function(text.replace('wait("q", 1)', 'wait("q", 2)'))
    with pytest.raises(VerifyError) as e:
        interpret(early, {"A": a}, intrinsics={"copy": copy})
    assert str(e.value) == "b: reads T[3], which is undefined there"
    with pytest.raises(VerifyError) as e:
        interpret(f, {"A": a}, intrinsics={})
    assert str(e.value) == "b: intrinsic 'copy' has no meaning here; known: none"
    with pytest.raises(VerifyError) as e:
        interpret(f, {"A": a})
    assert str(e.value) == f"b: intrinsic 'copy' has no meaning here; known: {', '.join(sorted(meanings()))}"


def test_large_grids_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcompiler.ir.loop.evaluate._MOST_POINTS", 7)
    a, b = numbers(dt.f32, (16, 12), 1), numbers(dt.f32, (12, 8), 2)
    both(TILED, a, b)
    test_padding_is_guarded()
    test_histogram()
    test_a_reducer_that_keeps_order()


WRONG = [
    ("A[vi + 1]", "C[vi]", "b: reads A[4], outside its shape [4]"),
    ("A[vi - 1]", "C[vi]", "b: reads A[-1], outside its shape [4]"),
    ("A[vi]", "C[vi + 1]", "b: writes C[4], outside its shape [4]"),
    ("T[vi]", "C[vi]", "b: reads T[0], which is undefined there"),
]


@pytest.mark.parametrize(("read", "write", "message"), WRONG)
def test_the_interpreter_is_strict(read: str, write: str, message: str) -> None:
    f = parse_function(
        f"""@loop.function
def f(A: f32[4], C: out(f32[4])):
    T = alloc(f32[4])
    for i in range(4):
        with block("b"):
            vi = spatial(4, i)
            {write} = {read}
"""
    )
    with pytest.raises(VerifyError) as e:
        interpret(f, {"A": np.zeros(4, np.float32)})
    assert str(e.value) == message


def test_a_binding_outside_its_domain_is_an_error() -> None:
    f = parse_function(TILED.replace("where=i0 * 6 + i1 < 16", "where=i0 * 6 + i1 < 17"))
    with pytest.raises(VerifyError) as e:
        interpret(f, {"A": numbers(dt.f32, (16, 12), 1), "B": numbers(dt.f32, (12, 8), 2)})
    assert str(e.value) == "update: vi is bound to 16, outside its domain [0, 16)"


def test_a_private_buffer_is_lost_with_its_iteration() -> None:
    text = """@loop.function
def f(C: out(f32[2])):
    T = alloc(f32[1], scope="local")
    for i in KIND(2):
        with block("write", where=i < 1):
            T[0] = f32(1.0)
        with block("read"):
            v = spatial(2, i)
            C[v] = T[0]
"""
    assert interpret(parse_function(text.replace("KIND", "range")), {})["C"].tolist() == [1, 1]
    with pytest.raises(VerifyError) as e:
        interpret(parse_function(text.replace("KIND", "parallel")), {})
    assert str(e.value) == "read: reads T[0], which is undefined there"


def test_a_shuffle_shows_a_race() -> None:
    f = parse_function(
        """@loop.function
def f(C: out(i64[1])):
    for i in parallel(20):
        with block("b"):
            v = spatial(20, i)
            C[0] = v
"""
    )
    assert {int(interpret(f, {}, shuffle=s)["C"][0]) for s in range(5)} != {19}


def test_arguments_are_checked() -> None:
    f = parse_function("@loop.function\ndef f(n: i64, A: f32[n], C: out(f32[n])):\n    pass\n")
    a = np.zeros(3, np.float32)
    cases_of: list[tuple[dict[str, Array], dict[str, int], str]] = [
        ({}, {"n": 3}, "f needs its input 'A'"),
        ({"A": a, "X": a}, {"n": 3}, "f has no input 'X'; it has A"),
        ({"A": a}, {}, "f needs a value for its parameter 'n'"),
        ({"A": a}, {"n": 3, "m": 1}, "f has no parameter 'm'; it has n"),
        ({"A": a}, {"n": -1}, "parameter 'n' of f is -1; it is at least 0"),
        ({"A": a}, {"n": 4}, "input 'A' of f is f32[4], not float32[3]"),
        ({"A": a.astype(np.float64)}, {"n": 3}, "input 'A' of f is f32[3], not float64[3]"),
    ]
    for inputs, params, message in cases_of:
        for run in (interpret, evaluate):
            with pytest.raises(ArgumentError) as e:
                run(f, inputs, params)
            assert str(e.value) == message
