"""Texts of scalars read back to the identical tree, bit for bit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings

from tcompiler.errors import ParseError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.scalar.grammar import Binary, Const, Reducer, Scalar, Unary, Var, const, index, loop_var, parameter
from tcompiler.ir.scalar.reducers import REDUCER_NAMES, named_reducer
from tcompiler.ir.scalar.text import parse_reducer, parse_scalar, print_reducer, print_scalar
from tests.ir.scalar.strategies import Scene, scalars

VARIABLES = {
    "i": loop_var("i", 7),
    "n": parameter("n"),
    "x": Var("x", dt.f32, None),
    "y": Var("y", dt.f64, None),
    "c": Var("c", dt.bool_, None),
}
TENSORS: dict[str, tuple[DType, tuple[int, ...]]] = {
    "A": (dt.f32, (4, 3)),
    "B": (dt.i64, (5,)),
    "S": (dt.f16, ()),
    "M": (dt.bool_, (2,)),
}
BUFFERS = {name: d for name, (d, _) in TENSORS.items()}
SCENE = Scene(tuple(VARIABLES.values()), TENSORS)


def read(text: str) -> Scalar:
    return parse_scalar(text, VARIABLES, BUFFERS)


@given(scalars(SCENE, 6))
@settings(max_examples=600)
def test_random_scalars_round_trip(node: Scalar) -> None:
    text = print_scalar(node)
    assert "\n" not in text
    assert read(text) is node


@pytest.mark.parametrize(
    "text",
    [
        "i + 1",
        "-3",
        "3 - -3",
        "-i",
        "neg(3)",
        "neg(f32(-1.0))",
        "f32(0.1)",
        "f32(-0.0)",
        "f64(0.1)",
        "f64(5e-324)",
        "f32(1e-45)",
        "f32(inf)",
        "f32(-inf)",
        "f32(nan)",
        "f32.bits(0x7fc00001)",
        "f32.bits(0xffc00000)",
        "f16(65500.0)",
        "bf16(9e-41)",
        "i32(-2147483648)",
        "-9223372036854775808",
        "u8(255)",
        "i - (i - n)",
        "i - i - n",
        "i * (i + n)",
        "(i + n) * i",
        "i // n % i",
        "i // (n % i)",
        "-i * n",
        "-(i * n)",
        "~(i < n)",
        "~i",
        "(i < n) == c",
        "c == (i < n)",
        "(i < n) & (i >= 0) | c",
        "(c | c) & c",
        "c ^ c & c",
        "i << n << i",
        "i << (n << i)",
        "i + n << i",
        "i + (n << i)",
        "select(i < n, A[i, n], f32(0.0))",
        "cast(f32, cast(i32, i))",
        "min(max(i, 0), 3)",
        "pow(x, x)",
        "S[()]",
        "M[B[i]]",
        "truncdiv(i, 3)",
        "isnan(x) | isinf(y)",
    ],
)
def test_canonical_texts(text: str) -> None:
    assert print_scalar(read(text)) == text


@pytest.mark.parametrize("dtype", [dt.f16, dt.bf16])
def test_every_bit_pattern_of_the_narrow_floats_round_trips(dtype: DType) -> None:
    for bits in range(0, 1 << 16, 7):
        node = Const(dtype, bits)
        assert read(print_scalar(node)) is node


def test_values_that_compare_equal_and_are_not_the_same_are_told_apart() -> None:
    assert const(dt.f32, 0.0) is not const(dt.f32, -0.0)
    assert read("f32(0.0)") is not read("f32(-0.0)")
    assert read("f32(nan)") is read("f32(nan)")
    assert read("f32(nan)") is not read("f32.bits(0x7fc00001)")
    assert math.isnan(read("f32.bits(0xffc00000)").value)  # type: ignore[attr-defined]


def test_numbers_round_to_the_nearest_value() -> None:
    assert read("f32(0.1)") is read("f32(0.10000000149011612)")
    assert print_scalar(read("f32(0.10000000149011612)")) == "f32(0.1)"
    assert read("f32(1)") is const(dt.f32, 1.0)


def test_structural_equality_is_identity() -> None:
    assert read("i + n * 2") is read("i  +  (n * 2)")


def test_a_long_chain_prints() -> None:
    node: Scalar = VARIABLES["i"]
    for k in range(50_000):
        node = Binary("add", node, index(k))
    assert print_scalar(node).endswith(" + 49998 + 49999")


def test_a_deep_tree_prints_and_is_refused_by_the_reader() -> None:
    node: Scalar = VARIABLES["x"]
    for _ in range(20_000):
        node = Unary("exp", node)
    text = print_scalar(node)
    with pytest.raises(ParseError) as caught:
        read(text)
    assert caught.value.message == "nested deeper than Python's parser reads; name an intermediate result"


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("i + j", "unknown variable 'j'; known here: i, n, x, y, c", 5),
        ("A + x", "'A' is a tensor: index it, as in A[i] or A[()]", 1),
        ("Q[i]", "unknown tensor 'Q'; known here: A, B, S, M", 1),
        ("A[x, i]", "an index is i64, not f32", 3),
        ("i + x", "add takes operands of one type, not i64 and f32", 1),
        ("0.5", "a float constant names its type; write f32(0.5)", 1),
        ("f32(x)", "f32(…) takes a literal; a cast is written cast(f32, …)", 5),
        ("u8(256)", "256 does not fit u8", 4),
        ("f16(1e9)", "the literal overflows f16; write f16(inf)", 5),
        ("select(i, x, x)", "select takes a bool condition, not i64", 1),
        ("select(c, x, y)", "select takes sides of one type, not f32 and f64", 1),
        ("exp(x, x)", "exp takes 1 argument, not 2", 1),
        ("expp(x)", "unknown function 'expp'; did you mean 'exp'?", 1),
        ("exp(i)", "exp takes floats, not i64", 1),
        ("i & x", "and takes operands of one type, not i64 and f32", 1),
        ("f32(-nan)", "a NaN with its sign set is written by its bits, as f32.bits(…)", 5),
    ],
)
def test_refusals(text: str, message: str, column: int) -> None:
    with pytest.raises(ParseError) as caught:
        read(text)
    assert (caught.value.message, caught.value.line, caught.value.column) == (message, 1, column)


@pytest.mark.parametrize("name", REDUCER_NAMES)
def test_named_reducers_print_by_name(name: str) -> None:
    dtypes = [dt.f32, dt.i64] if name.startswith("arg") else [dt.bool_ if name in ("any", "all") else dt.f32]
    reducer = named_reducer(name, *dtypes)
    assert print_reducer(reducer) == name
    assert parse_reducer(name, dtypes) is reducer


def test_other_reducers_print_whole() -> None:
    text = "reducer(lambda m, s, p, t: (max(m, p), s * exp(m - max(m, p)) + t), (f32(-inf), f32(0.0)))"
    reducer = parse_reducer(text)
    assert isinstance(reducer, Reducer)
    assert print_reducer(reducer) == text


def test_a_renamed_sum_is_the_sum() -> None:
    assert print_reducer(parse_reducer("reducer(lambda p, q: (p + q,), (f32(0.0),))")) == "sum"
    assert print_reducer(parse_reducer("reducer(lambda p, q: (p + q,), (f32(-0.0),))")) != "sum"
