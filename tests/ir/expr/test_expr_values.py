"""What programs mean: by hand, and the evaluator against the interpreter."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from tcompiler.errors import ArgumentError, VerifyError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.evaluate import evaluate
from tcompiler.ir.expr.grammar import Compute, Program, Tensor
from tcompiler.ir.expr.interpret import interpret
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.expr.verify import verify
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Select, const, index, loop_var
from tests.ir.expr.programs import EVERYTHING, convolution
from tests.ir.expr.strategies import Case, cases

Arrays = dict[str, NDArray[Any]]


def _equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    with np.errstate(invalid="ignore"):
        return bool(((a == b) | ((a != a) & (b != b))).all())


@given(cases())
@settings(max_examples=250)
def test_the_evaluator_agrees_with_the_interpreter(case: Case) -> None:
    verify(case.program)
    slow = interpret(case.program, case.inputs, case.params)
    fast = evaluate(case.program, case.inputs, case.params)
    for name in case.program.outputs:
        assert _equal(fast[name], slow[name]), f"{name} of\n{print_program(case.program)}"


@given(cases())
@settings(max_examples=60)
def test_inputs_are_left_as_they_are(case: Case) -> None:
    before = {name: a.copy() for name, a in case.inputs.items()}
    results = evaluate(case.program, case.inputs, case.params)
    for name, a in results.items():
        if name not in case.inputs and a.flags.writeable:
            a[...] = 0
    for name, a in before.items():
        assert _equal(case.inputs[name], a)


def _everything(n: int, m: int, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((n, 6)).astype(np.float32),
        "w": rng.standard_normal((6, 4)).astype(np.float32),
        "h0": rng.standard_normal(4).astype(np.float32),
        "at": np.array([2, -1, 2], np.int64),
        "b": rng.random(n) < 0.5,
        "q": np.array([0, 3, 0, -1, 5], np.int8),
        "s": np.array(0.25),
    }


@pytest.mark.parametrize(("n", "m"), [(5, 3), (4, 0), (3, 1)])
def test_one_of_everything(n: int, m: int) -> None:
    program = parse_program(EVERYTHING)
    verify(program)
    inputs = _everything(n, m)
    slow = interpret(program, inputs, {"n": n, "m": m})
    fast = evaluate(program, inputs, {"n": n, "m": m})
    wide = evaluate(program, inputs, {"n": n, "m": m}, widen=True)
    assert slow["hs"].shape == (m, 4)
    for name, found in slow.items():
        assert fast[name].dtype == found.dtype
        np.testing.assert_allclose(fast[name], found, rtol=2e-6, atol=2e-6)
        assert wide[name].dtype == (np.float64 if found.dtype.kind == "f" else found.dtype)
        np.testing.assert_allclose(wide[name], found, rtol=2e-5, atol=2e-5)


def test_empty_boxes_give_the_identity() -> None:
    text = """@expr.program
def f(n: i64, x: f32[n, 3]):
    a = reduce(sum, f32[3], (n,), lambda j, i: x[i, j])
    b = reduce(max, f32[3], (n,), lambda j, i: x[i, j])
    c, d = reduce(argmin, (f32[3], i64[3]), (n,), lambda j, i: (x[i, j], i))
    e = reduce(sum, f32[n], (3,), lambda i, j: x[i, j] * x[i, j])
    g = reduce(sum, f32[()], (n, 3), lambda i, j: x[i, j] * x[i, j])
    return a, b, c, d, e, g
"""
    program = parse_program(text)
    inputs = {"x": np.zeros((0, 3), np.float32)}
    for run in (interpret, evaluate):
        found = run(program, inputs, {"n": 0})
        assert found["a"].tolist() == [0.0] * 3
        assert found["b"].tolist() == [float("-inf")] * 3
        assert found["c"].tolist() == [float("inf")] * 3
        assert found["d"].tolist() == [(1 << 63) - 1] * 3
        assert found["e"].shape == (0,)
        assert found["g"].shape == ()
        assert found["g"] == 0.0


def test_a_scatter_writes_in_row_major_order_and_drops_what_is_outside() -> None:
    text = """@expr.program
def f(x: i64[4], at: i64[3, 2]):
    last = scatter(i64[4], x, (3, 2), lambda i, j: ((at[i, j],), i * 2 + j))
    total = scatter(i64[4], x, (3, 2), lambda i, j: ((at[i, j],), i * 2 + j), combiner=sum)
    chain = scatter(i64[4], x, (3, 2), lambda i, j: ((at[i, j],), i * 2 + j), combiner={})
    return last, total, chain
"""
    chain = "reducer(lambda a, b: (a * 10 + b,), (0,))"
    inputs = {"x": np.array([1, 2, 3, 4]), "at": np.array([[0, 3], [-1, 0], [4, 3]])}
    for run in (interpret, evaluate):
        found = run(parse_program(text.format(chain)), inputs)
        assert found["last"].tolist() == [3, 2, 3, 5]
        assert found["total"].tolist() == [1 + 0 + 3, 2, 3, 4 + 1 + 5]
        assert found["chain"].tolist() == [103, 2, 3, 415]


def test_what_a_dropped_point_of_a_scatter_reads_does_not_matter() -> None:
    text = """@expr.program
def f(x: i64[4], y: i64[2]):
    z = scatter(i64[4], x, (4,), lambda i: ((select(i < 2, i, -1),), y[i]))
    return z
"""
    inputs = {"x": np.zeros(4, np.int64), "y": np.array([5, 6])}
    for run in (interpret, evaluate):
        assert run(parse_program(text), inputs)["z"].tolist() == [5, 6, 0, 0]


@pytest.mark.parametrize("dtype", [dt.f32, dt.f64, dt.f16, dt.bf16, dt.i8, dt.u8, dt.i64, dt.bool_])
@pytest.mark.parametrize("descending", [False, True])
def test_sorting_is_stable_and_takes_nan_as_largest(dtype: dt.DType, descending: bool) -> None:
    text = f"""@expr.program
def f(x: {dtype.name}[3, 9, 2]):
    y, at = sort(({dtype.name}[3, 9, 2], i64[3, 9, 2]), x, axis=1, descending={descending})
    return y, at
"""
    r = random.Random(dtype.name)
    pool = [0, 1, 2, 3] if not dtype.is_float else [0.0, -0.0, 1.5, float("nan"), float("-inf"), -2.0]
    x = np.array([r.choice(pool) for _ in range(54)]).astype(dtype.numpy).reshape(3, 9, 2)
    program = parse_program(text)
    found = evaluate(program, {"x": x})
    for a, b in itertools.product(range(3), range(2)):
        line = [float(v) for v in x[a, :, b]]
        keys = [(v != v, 0.0 if v != v else v) for v in line]
        order = sorted(range(9), key=lambda k, keys=keys: keys[k])  # type: ignore[misc]
        if descending:
            order = sorted(range(9), key=lambda k, keys=keys: (-keys[k][0], -keys[k][1]))  # type: ignore[misc]
        assert found["at"][a, :, b].tolist() == order
    again = interpret(program, {"x": x})
    assert all(_equal(found[name], again[name]) for name in found)


def test_a_scan_carries_states_of_different_shapes() -> None:
    text = """@expr.program
def f(x: f32[4, 2]):
    zero = compute(f32[()], lambda: f32(0.0))
    none = compute(f32[2], lambda j: f32(0.0))
    with scan(t=4):
        s = state(f32[()], zero)
        v = state(f32[2], none)
        s2 = compute(f32[()], lambda: s[()] + x[t, 0])
        v2 = compute(f32[2], lambda j: max(v[j], x[t, j]))
        sums = collect(f32[4], s2)
        most = last(f32[2], v2)
    return sums, most
"""
    x = np.array([[1, -1], [2, 5], [-3, 2], [4, 0]], np.float32)
    for run in (interpret, evaluate):
        found = run(parse_program(text), {"x": x})
        assert found["sums"].tolist() == [1, 3, 0, 4]
        assert found["most"].tolist() == [4, 5]


# -- sums of products --------------------------------------------------------------------------------------------------

_CONVOLUTIONS: list[dict[str, Any]] = [
    {},
    {"stride": (2, 3)},
    {"dilation": (2, 1), "size": (9, 8)},
    {"groups": 2},
    {"groups": 4, "filters": 4},
    {"before": (1, 2), "after": (2, 0)},
    {"kernel": (1, 1), "channels": 5, "filters": 3},
    {"kernel": (5, 2), "stride": (1, 2), "before": (2, 0), "after": (2, 1), "size": (11, 7)},
    {"batch": 1, "channels": 1, "filters": 1, "size": (3, 3)},
    {"batch": 3, "groups": 2, "dilation": (2, 2), "stride": (2, 2), "before": (2, 2), "after": (1, 1)},
]


@pytest.mark.parametrize("options", _CONVOLUTIONS)
def test_convolutions_as_matrix_products(options: dict[str, Any]) -> None:
    quick = parse_program(convolution(**options))
    plain = parse_program(convolution(**options, plain=True))
    verify(quick)
    rng = np.random.default_rng(1)
    # small whole numbers: exact in any order
    inputs = {
        t.name: rng.integers(-4, 5, [int(e.value) for e in t.shape]).astype(np.float32)  # type: ignore[attr-defined]
        for t in quick.inputs
    }
    found = evaluate(quick, inputs)["o"]
    assert _equal(found, evaluate(plain, inputs)["o"])
    if found.size < 300:
        assert _equal(found, interpret(quick, inputs)["o"])
    wide = evaluate(quick, inputs, widen=True)["o"]
    assert wide.dtype == np.float64
    assert _equal(wide.astype(np.float32), found)


def test_a_large_convolution_needs_little_memory() -> None:
    text = convolution(1, 64, (56, 56), 64, (3, 3), before=(1, 1), after=(1, 1))
    program = parse_program(text)
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.standard_normal((1, 64, 56, 56), dtype=np.float32),
        "w": rng.standard_normal((64, 64, 3, 3), dtype=np.float32),
    }
    tracemalloc.start()
    found = evaluate(program, inputs)["o"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 128 << 20
    picked = [(0, 3), (17, 55), (55, 0)]
    padded = np.pad(inputs["x"][0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    for y, z in picked:
        window = padded[:, y : y + 3, z : z + 3]
        expected = (inputs["w"].astype(np.float64) * window).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(found[0, :, y, z], expected, rtol=1e-4, atol=1e-4)


def test_a_large_reduction_is_evaluated_in_pieces() -> None:
    text = """@expr.program
def f(x: f32[3000000]):
    m, at = reduce(argmax, (f32[()], i64[()]), (3000000,), lambda i: (sin(x[i]), i))
    s = reduce(sum, f64[3], (1000000,), lambda j, i: cast(f64, x[j * 1000000 + i]))
    y = compute(f32[1000, 3000], lambda i, j: x[i * 3000 + j] + f32(1.0))
    return m, at, s, y
"""
    x = (np.arange(3_000_000) % 1013).astype(np.float32)
    tracemalloc.start()
    found = evaluate(parse_program(text), {"x": x})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 160 << 20
    assert found["at"] == np.sin(x.astype(np.float64)).astype(np.float32).argmax()
    np.testing.assert_allclose(found["s"], x.reshape(3, -1).astype(np.float64).sum(axis=1))
    assert np.array_equal(found["y"].reshape(-1), x + 1)


@pytest.mark.parametrize(
    "body",
    [
        "a[i, k] * b[k, j]",
        "b[k, j] * a[i, k]",
        "a[i, k] * a[j, k]",
        "a[i, 3 - k] * b[k, j]",
        "a[i, (k + 1) % 4] * b[k, j]",
        "a[i, k] * select(k < j, b[k, j], f32(0.0))",
        "(a[i, k] + f32(1.0)) * (b[k, j] - f32(2.0))",
        "a[i, 0] * b[k, j]",
        "a[i, 0] * b[0, 1]",
        "a[i, k] * a[i, k]",
        "f32(3.0) * b[k, j]",
        "a[i + n - n, k] * b[k, n - 1]",
        "a[at[i], k] * b[k, at[j]]",
    ],
)
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i8", "f16", "bf16"])
def test_products_of_all_kinds(body: str, dtype: str) -> None:
    text = f"""@expr.program
def f(n: i64, a: {dtype}[5, 4], b: {dtype}[4, 3], at: i64[5]):
    c = reduce(sum, {dtype}[5, 3], (4,), lambda i, j, k: {body.replace("f32", dtype)})
    return c
"""
    if not dtype.startswith(("f", "b")):
        text = text.replace(".0)", ")")
    program = parse_program(text)
    verify(program)
    rng = np.random.default_rng(2)
    element = dt.dtype(dtype).numpy
    inputs = {
        "a": rng.integers(-3, 4, (5, 4)).astype(element),
        "b": rng.integers(-3, 4, (4, 3)).astype(element),
        "at": np.array([2, 0, 1, 2, 0]),
    }
    slow = interpret(program, inputs, {"n": 2})["c"]
    assert _equal(evaluate(program, inputs, {"n": 2})["c"], slow)


def test_sums_of_integer_products_wrap() -> None:
    text = """@expr.program
def f(a: i32[2, 300], b: i32[300], c: i8[300]):
    d = reduce(sum, i32[2], (300,), lambda i, k: a[i, k] * b[k])
    e = reduce(sum, i8[()], (300, 300), lambda k, l: c[k] * c[0])
    return d, e
"""
    rng = np.random.default_rng(3)
    a = rng.integers(-(1 << 31), 1 << 31, (2, 300)).astype(np.int32)
    b = rng.integers(-(1 << 31), 1 << 31, 300).astype(np.int32)
    c = rng.integers(-128, 128, 300).astype(np.int8)
    found = evaluate(parse_program(text), {"a": a, "b": b, "c": c})
    exact = [sum(int(p) * int(q) for p, q in zip(row, b, strict=True)) for row in a]
    assert found["d"].tolist() == [(v + (1 << 31)) % (1 << 32) - (1 << 31) for v in exact]
    assert found["e"].tolist() == (sum(int(v) * int(c[0]) for v in c) * 300 + 128) % 256 - 128


def test_not_a_number_goes_through_a_product() -> None:
    program = parse_program(convolution(batch=1, channels=1, filters=1, size=(3, 3), kernel=(2, 2)))
    x = np.ones((1, 1, 3, 3), np.float32)
    x[0, 0, 0, 0] = np.nan
    w = np.ones((1, 1, 2, 2), np.float32)
    found = evaluate(program, {"x": x, "w": w})["o"]
    assert np.isnan(found).tolist() == [[[[True, False], [False, False]]]]


def test_a_deep_value_overflows_no_stack() -> None:
    i = loop_var("i", 3)
    x = Tensor("x", dt.f32, (index(3),))
    value: Scalar = Load("x", dt.f32, (i,))
    for k in range(2_000):
        more = Binary("add", value, const(dt.f32, 1.0))
        value = Select(Binary("lt", i, index(k % 4)), more, value)
    program = Program("deep", (), (x,), (Compute((Tensor("y", dt.f32, x.shape),), (i,), (), None, (value,)),), ("y",))
    verify(program)
    inputs = {"x": np.zeros(3, np.float32)}
    assert _equal(evaluate(program, inputs)["y"], interpret(program, inputs)["y"])


# -- errors ------------------------------------------------------------------------------------------------------------

_READ = """@expr.program
def f(n: i64, x: f32[4]):
    y = compute(f32[4], lambda i: {})
    return y
"""


@pytest.mark.parametrize(
    ("value", "slow", "fast"),
    [
        (
            "x[i + n]",
            "y: reads x[4], outside its shape [4]",
            "y: index 4 of x is out of range in dimension 0 of extent 4",
        ),
        (
            "select(i > 0, x[i - 2], f32(0.0))",
            "y: reads x[-1], outside its shape [4]",
            "y: index -1 of x is out of range in dimension 0 of extent 4",
        ),
    ],
)
def test_reads_out_of_range(value: str, slow: str, fast: str) -> None:
    program = parse_program(_READ.format(value))
    verify(program)
    inputs = {"x": np.zeros(4, np.float32)}
    for run, message in ((interpret, slow), (evaluate, fast)):
        with pytest.raises(VerifyError) as caught:
            run(program, inputs, {"n": 2})
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("inputs", "params", "message"),
    [
        ({}, {"n": 1}, "f needs its input 'x'"),
        ({"x": np.zeros(4, np.float32)}, {}, "f needs a value for its parameter 'n'"),
        ({"x": np.zeros(4, np.float32)}, {"n": -1}, "parameter 'n' of f is -1; it is at least 0"),
        ({"x": np.zeros(4, np.float32)}, {"n": 1, "k": 2}, "f has no parameter 'k'; it has n"),
        ({"x": np.zeros(4, np.float32), "z": np.zeros(1)}, {"n": 1}, "f has no input 'z'; it has x"),
        ({"x": np.zeros(5, np.float32)}, {"n": 1}, "input 'x' of f is f32[4], not float32[5]"),
        ({"x": np.zeros(4)}, {"n": 1}, "input 'x' of f is f32[4], not float64[4]"),
    ],
)
def test_arguments_are_checked(inputs: Arrays, params: dict[str, int], message: str) -> None:
    program = parse_program(_READ.format("x[i]"))
    for run in (interpret, evaluate):
        with pytest.raises(ArgumentError) as caught:
            run(program, inputs, params)
        assert str(caught.value) == message
