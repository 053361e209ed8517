"""What scalars mean: edge cases by hand, and the evaluator against the interpreter."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DTYPES
from tcompiler.ir.scalar.evaluate import evaluate
from tcompiler.ir.scalar.grammar import UNARY, Binary, Load, Scalar, Select, Unary, Var, const, index, loop_var
from tcompiler.ir.scalar.interpret import const_value, interpret
from tcompiler.ir.scalar.reducers import named_reducer
from tcompiler.ir.scalar.text import parse_scalar, print_scalar
from tests.ir.scalar.strategies import EXACT_BINARY, EXACT_UNARY, Scene, any_constant, any_scalar

P, Q = loop_var("i", 5), loop_var("j", 3)
SHAPES = {"F": (dt.f32, (4, 3)), "K": (dt.i64, (6,)), "H": (dt.bf16, (3,)), "Z": (dt.i8, ()), "M": (dt.bool_, (4,))}
SCENE = Scene((P, Q), SHAPES, EXACT_UNARY, EXACT_BINARY)


def _arrays(seed: int) -> dict[str, NDArray[Any]]:
    r = random.Random(seed)
    arrays = {}
    for name, (dtype, shape) in SHAPES.items():
        values = [const_value(any_constant(r, dtype)) for _ in range(int(np.prod(shape)))]
        arrays[name] = np.array(values, dtype.numpy).reshape(shape)
    return arrays


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal bits, all NaNs alike."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    bits = np.frombuffer(a.tobytes(), np.uint8) == np.frombuffer(b.tobytes(), np.uint8)
    whole = bits.reshape(a.size, a.dtype.itemsize).all(axis=1).reshape(a.shape)
    nan = (a != a) & (b != b)
    return bool((whole | nan).all())


@pytest.mark.parametrize("seed", range(6))
def test_the_evaluator_agrees_with_the_interpreter(seed: int) -> None:
    r = random.Random(seed)
    arrays = _arrays(seed)
    grid = {P: np.arange(5)[:, None], Q: np.arange(3)[None, :]}
    for _ in range(80):
        node = any_scalar(r, r.choice(list(DTYPES.values())), SCENE, r.randint(1, 5))
        at_once = np.broadcast_to(evaluate(node, grid, arrays), (5, 3))
        one_by_one = np.empty((5, 3), node.dtype.numpy)
        for i in range(5):
            for j in range(3):
                one_by_one[i, j] = interpret(node, {P: i, Q: j}, lambda name, at: arrays[name][at])
        assert _same(at_once, one_by_one), print_scalar(node)


@pytest.mark.parametrize("op", sorted(set(UNARY) - set(EXACT_UNARY)))
@pytest.mark.parametrize("dtype", [dt.f32, dt.f64, dt.f16, dt.bf16])
def test_functions_at_many_points_and_at_one(op: str, dtype: dt.DType) -> None:
    x = Var("x", dtype, None)
    points = np.array([0.0, -0.0, 0.25, -0.7, 0.999, 1.0, 3.5, -9.0, np.inf, -np.inf, np.nan, 1e-3], dtype.numpy)
    node = Unary(op, x)
    at_once = evaluate(node, {x: points}, {})
    singly = np.array([interpret(node, {x: p}, lambda *_: None) for p in points])
    assert at_once.dtype == dtype.numpy
    wide = evaluate(node, {x: points.astype(np.float64)}, {}, widen=True)
    eps = {"f32": 2e-7, "f64": 4e-16, "f16": 1e-3, "bf16": 8e-3}[dtype.name]
    for found in (singly, wide):
        np.testing.assert_allclose(at_once.astype(np.float64), found.astype(np.float64), rtol=eps, atol=1e-30)


def value(text: str, **variables: Any) -> Any:
    names = {n: Var(n, dt.from_numpy(np.asarray(v).dtype), None) for n, v in variables.items()}
    node = parse_scalar(text, names, {})
    result = interpret(node, {names[n]: v for n, v in variables.items()}, lambda *_: None)
    again = evaluate(node, {names[n]: np.asarray(v) for n, v in variables.items()}, {})
    assert _same(np.asarray(result), np.asarray(again))
    return result.item()


_LOW = -(1 << 63)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7 // 0", 0),
        ("7 % 0", 0),
        ("truncdiv(7, 0)", 0),
        ("truncmod(-7, 0)", 0),
        ("u8(7) // u8(0)", 0),
        ("-7 // 2", -4),
        ("-7 % 2", 1),
        ("7 % -2", -1),
        ("7 // -2", -4),
        ("truncdiv(-7, 2)", -3),
        ("truncmod(-7, 2)", -1),
        ("truncdiv(7, -2)", -3),
        ("truncmod(7, -2)", 1),
        (f"{_LOW} // -1", _LOW),
        (f"{_LOW} % -1", 0),
        (f"truncdiv({_LOW}, -1)", _LOW),
        (f"truncmod({_LOW}, -1)", 0),
        (f"truncdiv({_LOW}, 3)", -3074457345618258602),
        (f"abs({_LOW})", _LOW),
        (f"neg({_LOW})", _LOW),
        ("i8(-128) // i8(-1)", -128),
        ("i8(100) + i8(100)", -56),
        ("i8(-128) * i8(-1)", -128),
        ("u8(3) - u8(5)", 254),
        ("neg(u8(1))", 255),
        ("i32(1) << i32(33)", 2),
        ("i32(-8) >> i32(1)", -4),
        ("u8(200) >> u8(1)", 100),
        ("u8(1) << u8(9)", 2),
        ("pow(3, 5)", 243),
        ("pow(2, -1)", 0),
        ("pow(-1, -3)", -1),
        ("pow(1, -5)", 1),
        ("pow(0, 0)", 1),
        ("pow(0, -1)", 0),
        ("cast(i8, f32(300.0))", 127),
        ("cast(i8, f32(-300.0))", -128),
        ("cast(u8, f32(-1.0))", 0),
        ("cast(u8, f32(255.9))", 255),
        ("cast(i32, f32(nan))", 0),
        ("cast(i32, f32(inf))", 2147483647),
        ("cast(i64, f32(-inf))", _LOW),
        ("cast(i64, f64(9.3e18))", (1 << 63) - 1),
        ("cast(i64, f64(9223372036854774784.0))", 9223372036854774784),
        ("cast(i32, f32(2147483520.0))", 2147483520),
        ("cast(i32, f32(-1.9))", -1),
        ("cast(i8, i32(300))", 44),
        ("cast(u8, -1)", 255),
        ("cast(bool, f32(nan))", True),
        ("cast(bool, f32(-0.0))", False),
        ("cast(bool, 256)", True),
        ("cast(i32, True)", 1),
        ("cast(f32, True)", 1.0),
        ("cast(f32, 16777217)", 16777216.0),
        ("cast(f32, 9007199791611905)", 9007200328482816.0),
        ("f32(nan) == f32(nan)", False),
        ("f32(nan) != f32(nan)", True),
        ("f32(nan) < f32(0.0)", False),
        ("f32(1.0) / f32(0.0)", float("inf")),
        ("f32(1.0) / f32(-0.0)", float("-inf")),
        ("f32(-7.0) // f32(2.0)", -4.0),
        ("f32(-7.0) % f32(2.0)", 1.0),
        ("truncmod(f32(-7.0), f32(2.0))", -1.0),
        ("round(f32(2.5))", 2.0),
        ("round(f32(3.5))", 4.0),
        ("round(f32(-0.5))", -0.0),
        ("sign(f32(-3.0))", -1.0),
        ("sign(-5)", -1),
        ("~5", -6),
        ("~True", False),
        ("5 ^ 3", 6),
        ("f16(2048.0) + f16(1.0)", 2048.0),
        ("f16(60000.0) + f16(60000.0)", float("inf")),
        ("sigmoid(f32(-200.0))", 0.0),
        ("sigmoid(f32(200.0))", 1.0),
        ("tanh(f32(inf))", 1.0),
        ("erf(f32(inf))", 1.0),
        ("rsqrt(f32(4.0))", 0.5),
        ("isinf(f32(-inf))", True),
        ("isnan(f32(0.0) / f32(0.0))", True),
        ("isnan(min(f32(nan), f32(1.0)))", True),
        ("isnan(max(f32(1.0), f32(nan)))", True),
        ("isnan(sign(f32(nan)))", True),
        ("select(1 < 2, 3, 4)", 3),
    ],
)
def test_edges(text: str, expected: Any) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)
    assert str(found) == str(expected)


def test_a_double_is_rounded_to_bf16_once() -> None:
    # just above half-way between two neighbours: through f32 it would be half-way, and go to the even one below
    above = 1.0 + 2.0**-8 + 2.0**-40
    assert value("cast(bf16, x)", x=np.float64(above)) == 1.0078125
    assert value("cast(bf16, x)", x=np.float64(1.0 + 2.0**-8)) == 1.0
    assert value("cast(bf16, x)", x=np.float64(-above)) == -1.0078125
    assert value("cast(bf16, x)", x=np.float64(1e300)) == float("inf")


@pytest.mark.parametrize("dtype", [dt.i8, dt.u8, dt.i16, dt.i32, dt.i64])
def test_integer_arithmetic_against_python(dtype: dt.DType) -> None:
    r = random.Random(dtype.name)
    a, b = Var("a", dtype, None), Var("b", dtype, None)
    low = -(1 << dtype.bits - 1) if dtype.kind == "int" else 0
    high = low + (1 << dtype.bits) - 1
    pool = [low, low + 1, high, 0, 1, 2, 3, high // 2] + ([-1, -2, -7] if low else [])
    pairs = [(x, y) for x in pool for y in pool]
    pairs += [(r.randint(low, high), r.randint(low, high)) for _ in range(100)]
    x, y = (np.array([p[k] for p in pairs], dtype.numpy) for k in (0, 1))

    def wrapped(n: int) -> int:
        return (n - low) % (1 << dtype.bits) + low

    def quotient(p: int, q: int) -> int:
        return abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1)

    meanings: dict[str, Callable[[int, int], int]] = {
        "add": lambda p, q: p + q,
        "sub": lambda p, q: p - q,
        "mul": lambda p, q: p * q,
        "floordiv": lambda p, q: p // q if q else 0,
        "floormod": lambda p, q: p % q if q else 0,
        "truncdiv": lambda p, q: quotient(p, q) if q else 0,
        "truncmod": lambda p, q: p - q * quotient(p, q) if q else 0,
        "min": min,
        "max": max,
        "and": lambda p, q: p & q,
        "or": lambda p, q: p | q,
        "xor": lambda p, q: p ^ q,
        "shl": lambda p, q: p << q % dtype.bits,
        "shr": lambda p, q: p >> q % dtype.bits,
    }
    for op, meaning in meanings.items():
        found = evaluate(Binary(op, a, b), {a: x, b: y}, {})
        assert found.tolist() == [wrapped(meaning(p, q)) for p, q in pairs], op


def test_a_guarded_read_may_be_out_of_range_and_an_unguarded_one_may_not() -> None:
    i = loop_var("i", 6)
    array = np.array([10, 20, 30], np.int64)
    inside = Binary("and", Binary("ge", Binary("sub", i, index(2)), index(0)), Binary("lt", i, index(5)))
    read = Load("A", dt.i64, (Binary("sub", i, index(2)),))
    node = Select(inside, read, index(-1))
    assert evaluate(node, {i: np.arange(6)}, {"A": array}).tolist() == [-1, -1, 10, 20, 30, -1]
    with pytest.raises(IndexError, match=r"^index -2 of A is out of range in dimension 0 of extent 3$"):
        evaluate(read, {i: np.arange(6)}, {"A": array})
    late = Select(Binary("lt", i, index(5)), read, index(-1))
    with pytest.raises(IndexError, match=r"^index -2 of A is out of range in dimension 0 of extent 3$"):
        evaluate(late, {i: np.arange(6)}, {"A": array})


def test_guards_of_selects_in_selects_add_up() -> None:
    i = loop_var("i", 6)
    read = Load("A", dt.i64, (Binary("sub", i, index(2)),))
    inner = Select(Binary("lt", i, index(5)), read, index(-1))
    outer = Select(Binary("ge", i, index(2)), inner, index(-2))
    array = np.array([10, 20, 30], np.int64)
    assert evaluate(outer, {i: np.arange(6)}, {"A": array}).tolist() == [-2, -2, 10, 20, 30, -1]


def test_a_guarded_read_of_an_empty_tensor() -> None:
    i = loop_var("i", 3)
    node = Select(Binary("lt", i, index(0)), Load("A", dt.f32, (i,)), const(dt.f32, 7.0))
    found = evaluate(node, {i: np.arange(3)}, {"A": np.zeros(0, np.float32)})
    assert found.dtype == np.float32
    assert found.tolist() == [7.0, 7.0, 7.0]


def test_deep_scalars_overflow_no_stack() -> None:
    i = loop_var("i", 4)
    node: Scalar = Load("A", dt.f32, (i,))
    for k in range(3_000):
        deeper = Binary("add", node, const(dt.f32, 1.0))
        node = Select(Binary("lt", i, index(k % 5)), deeper, node) if k % 2 else deeper
    array = np.arange(4, dtype=np.float32)
    at_once = evaluate(node, {i: np.arange(4)}, {"A": array})
    singly = [interpret(node, {i: k}, lambda name, at: array[at]) for k in range(4)]
    assert at_once.tolist() == singly


def test_widened_arithmetic_does_not_round() -> None:
    x = Var("x", dt.f32, None)
    node = parse_scalar("cast(f32, x + f32(16777216.0)) - f32(16777216.0)", {"x": x}, {})
    assert evaluate(node, {x: np.float32(1.0)}, {}).tolist() == 0.0
    wide = evaluate(node, {x: np.float32(1.0)}, {}, widen=True)
    assert wide.dtype == np.float64
    assert wide.tolist() == 1.0


@pytest.mark.parametrize("name", ["argmin", "argmax"])
def test_arg_reducers_pick_as_numpy_does(name: str) -> None:
    r = random.Random(name)
    reducer = named_reducer(name, dt.f32, dt.i64)
    for _ in range(60):
        values = [r.choice((0.0, 1.0, -1.0, float("nan"), float("inf"), 2.0)) for _ in range(r.randint(1, 7))]
        order = list(range(len(values)))
        r.shuffle(order)
        state: list[Any] = [const_value(c) for c in reducer.identity]
        for k in order:
            env = dict(zip((*reducer.lhs, *reducer.rhs), (*state, np.float32(values[k]), np.int64(k)), strict=True))
            state = [interpret(c, env, lambda *_: None) for c in reducer.combine]
        assert int(state[1]) == int(getattr(np, name)(np.array(values, np.float32)))
