"""Tiles transposed in registers and lanes put in order: types, sizes that do not fit, guards, what must not be read.

Every buffer ends right before a page that nobody may touch, and then begins right behind one.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from tcompiler.backends.llvm.codegen import generate
from tcompiler.target.named import get
from tests.backends.cases import Cases
from tests.backends.kernels import parsed

CASES = Cases()
case = CASES.add


def copy(dtype: str, count: int, lanes: int, value: str = "A[vj, vi]", rows: int = 3) -> str:
    """A matrix of rows × count tiles, read along the unrolled loop and written along the lanes."""
    return f"""
def f(A: {dtype}[{lanes}, {rows * count}], B: out({dtype}[{rows * count}, {lanes}])):
    for i in range({rows}):
        for u in unrolled({count}):
            for j in vectorized({lanes}):
                with block("b"):
                    vi = spatial({rows * count}, i * {count} + u)
                    vj = spatial({lanes}, j)
                    B[vi, vj] = {value}
"""


for dtype in ("f32", "f64", "f16", "u8", "bool"):
    for count in (2, 3, 7, 16):
        for lanes in (2, 3, 8, 13, 16):
            case(f"{dtype} {count} x {lanes}", copy(dtype, count, lanes))
case("more lanes than a register has", copy("f32", 4, 32))
case("arithmetic on it", copy("f32", 4, 8, "max(A[vj, vi] * f32(2.0), f32(30.0)) + A[vj, vi]"))

# Guards that depend on the rows alone, on the place in a row, and on both.
for name, guard in (
    ("rows", "vi < 7"),
    ("the tile's row", "vi // 4 < 2"),
    ("lanes", "vj < 5"),
    ("both", "(vi < 6) & (vj >= 3)"),
    ("a comparison of the two", "vi < vj"),
    ("nothing inside", "vi < 0"),
):
    inside = f"select({guard}, A[vj, vi], f32(0.5))"
    case(f"guard on {name}", copy("f32", 4, 8, inside))
    case(f"guard on {name}, twice", copy("f32", 4, 8, f"select(vj < 7, {inside}, f32(1.5)) + f32(1.0)"))
    case(f"guard on {name} of bytes", copy("u8", 16, 8, f"select({guard}, A[vj, vi], u8(9))"))

case(
    "rows of a padded tile lie outside",
    """
def f(A: f32[8, 4], B: out(f32[3, 4, 8])):
    for i in range(3):
        for u in unrolled(4):
            for j in vectorized(8):
                with block("b"):
                    vi = spatial(3, i)
                    vu = spatial(4, u)
                    vj = spatial(8, j)
                    B[vi, vu, vj] = select((vi >= 1) & (vi < 2), A[vj, vi - 1 + vu], f32(0.0))
""",
)
case(
    "columns of a padded tile lie outside",
    """
def f(A: f32[8, 6], B: out(f32[8, 8])):
    for i in range(2):
        for u in unrolled(4):
            for j in vectorized(8):
                with block("b"):
                    vi = spatial(8, i * 4 + u)
                    vj = spatial(8, j)
                    B[vi, vj] = select((vi >= 1) & (vi < 7), A[vj, vi - 1], f32(0.0))
""",
)
case(
    "what other data guards is read where they say so",
    """
def f(A: f32[8, 8], C: bool[8, 8], B: out(f32[8, 8])):
    for i in range(2):
        for u in unrolled(4):
            for j in vectorized(8):
                with block("b"):
                    vi = spatial(8, i * 4 + u)
                    vj = spatial(8, j)
                    B[vi, vj] = select(C[vi, vj], A[vj, vi + 4], f32(0.0))
""",
    C=np.arange(64).reshape(8, 8) < 32,
)
case(
    "an operand along the lanes beside one across them",
    """
def f(A: f32[8, 8], D: f32[8, 8], C: f32[8], E: f32[8], B: out(f32[8, 8])):
    for i in range(2):
        for u in unrolled(4):
            for j in vectorized(8):
                with block("b"):
                    vi = spatial(8, i * 4 + u)
                    vj = spatial(8, j)
                    B[vi, vj] = A[vj, vi] * C[vj] + D[vi, vj] * E[vi]
""",
)
case(
    "a matrix that is updated in place stays in order",
    """
def f(A: f32[8, 8], B: out(f32[8, 8])):
    for i in range(8):
        for j in range(8):
            with block("first"):
                vi = spatial(8, i)
                vj = spatial(8, j)
                B[vi, vj] = A[vi, vj]
    for u in unrolled(8):
        for k in vectorized(8):
            with block("second"):
                vu = ordered(8, u)
                vk = spatial(8, k)
                B[vu, vk] = B[vu, vk] + A[vk, vu]
""",
)
for dtype, rows, columns in (
    *(("f32", rows, columns) for rows in (2, 3, 6, 14, 17, 24) for columns in (2, 16, 21)),
    *((dtype, 6, 40) for dtype in ("f64", "i16", "u8", "bool")),
):
    case(
        f"{rows} {dtype} rows of {columns} from registers",
        f"""
def f(A: {dtype}[{rows}, {columns}], B: out({dtype}[{columns}, {rows}])):
    R = alloc({dtype}[{rows}, {columns}], scope="register")
    for i in unrolled({rows}):
        for j in vectorized({columns}):
            with block("in"):
                vi = spatial({rows}, i)
                vj = spatial({columns}, j)
                R[vi, vj] = A[vi, vj]
    for u in unrolled({columns}):
        for k in vectorized({rows}):
            with block("out"):
                vu = spatial({columns}, u)
                vk = spatial({rows}, k)
                B[vu, vk] = R[vk, vu]
""",
    )
case(
    "added from registers to what is there",
    """
def f(A: f32[14, 32], C: f32[32, 14], B: out(f32[32, 14])):
    R = alloc(f32[14, 32], scope="register")
    for c in range(32):
        for d in range(14):
            with block("before"):
                vc = spatial(32, c)
                vd = spatial(14, d)
                B[vc, vd] = C[vc, vd]
    for o in range(3):
        for i in unrolled(14):
            for j in vectorized(32):
                with block("in"):
                    vi = spatial(14, i)
                    vj = spatial(32, j)
                    vo = ordered(3, o)
                    R[vi, vj] = A[vi, vj] * cast(f32, vo)
        for u in unrolled(32):
            for k in vectorized(14):
                with block("out"):
                    vu = spatial(32, u)
                    vk = spatial(14, k)
                    vo = reduce(3, o)
                    B[vu, vk] += R[vk, vu]
""",
)
case(
    "widened behind the transposition",
    """
def f(A: u8[8, 32], B: out(f32[32, 8])):
    for i in range(2):
        for u in unrolled(16):
            for j in vectorized(8):
                with block("b"):
                    vi = spatial(32, i * 16 + u)
                    vj = spatial(8, j)
                    B[vi, vj] = cast(f32, A[vj, vi])
""",
)
case(
    "fused axes come together again",
    """
def f(A: f32[8, 4, 6], B: out(f32[4, 6, 8])):
    for i in range(6):
        for u in unrolled(4):
            for j in vectorized(8):
                with block("b"):
                    vh = spatial(4, (i * 4 + u) // 6)
                    vw = spatial(6, (i * 4 + u) % 6)
                    vj = spatial(8, j)
                    B[vh, vw, vj] = A[vj, vh, vw]
""",
)

# Lanes whose places are known, but not by one step: digits of a fused loop, elements read several times, backwards.
for dtype in ("f32", "u8", "bool"):
    for name, index in (
        ("interleaved", "v % 2, v // 2"),
        ("interleaved by four", "v % 4, v // 4"),
        ("twice each", "1, v // 2"),
        ("in turn backwards", "1 - v % 2, 5 - v // 4"),
    ):
        for lanes in (8, 6):
            case(
                f"{dtype} {name} in {lanes} lanes",
                f"""
def f(A: {dtype}[4, 16], B: out({dtype}[{2 * lanes}])):
    for i in range(2):
        for j in vectorized({lanes}):
            with block("b"):
                v = spatial({2 * lanes}, i * {lanes} + j)
                B[v] = A[{index}]
""",
            )

# Elements of rows at places that are read: the same in every row, the same in some, and written in between.
for dtype in ("f32", "f64", "u8", "bool"):
    for lanes in (3, 16):
        for name, place in (("all rows", "C[v]"), ("each row", "D[vi, v]"), ("each two rows", "D[vi // 2, v]")):
            case(
                f"{dtype} picked from {name} in {lanes} lanes",
                f"""
def f(A: {dtype}[5, 9], C: i64[{2 * lanes}], D: i64[5, {2 * lanes}], B: out({dtype}[5, {2 * lanes}])):
    for i in range(5):
        for o in range(2):
            for j in vectorized({lanes}):
                with block("b"):
                    vi = spatial(5, i)
                    v = spatial({2 * lanes}, o * {lanes} + j)
                    B[vi, v] = A[vi, {place}]
""",
                C=np.random.default_rng(5).integers(0, 9, 2 * lanes),
                D=np.random.default_rng(6).integers(0, 9, (5, 2 * lanes)),
            )
case(
    "picked by places that are written from row to row",
    """
def f(A: f32[5, 8], C: i64[5, 8], B: out(f32[5, 8])):
    R = alloc(i64[8])
    for i in range(5):
        for k in range(8):
            with block("places"):
                vi = spatial(5, i)
                vk = spatial(8, k)
                R[vk] = C[vi, vk]
        for j in vectorized(8):
            with block("b"):
                vi = spatial(5, i)
                vj = spatial(8, j)
                B[vi, vj] = select(A[vi, vj] < f32(50.0), A[vi, min(max(R[vj], 0), 7)], f32(0.5))
""",
    C=np.random.default_rng(7).integers(-3, 12, (5, 8)),
)


@pytest.mark.parametrize("machine", ["host", "x86-64-v2"])
@pytest.mark.parametrize("name", CASES.named)
def test_tile(name: str, machine: str) -> None:
    CASES.check(name, machine)


@pytest.mark.parametrize("dtype, unit", [("f32", 4), ("f64", 2), ("i16", 8), ("u8", 16)])
def test_rows_are_loaded_whole(dtype: str, unit: int) -> None:
    text = generate(parsed("@loop.function" + copy(dtype, unit, 16)), get("host"), "k").text
    loads = re.findall(r"= load (\S+ x \S+|\w+), ptr %v", text)
    assert len([x for x in loads if x.startswith(f"<{unit} x")]) == 16
    assert "insertelement" not in text and "gather" not in text


@pytest.mark.parametrize("count", [16, 13, 9])
def test_rows_as_long_as_a_wide_vector_are_loaded_whole(count: int) -> None:
    text = generate(parsed("@loop.function" + copy("f32", count, 16)), get("znver5"), "k").text
    assert len(re.findall(r"= (?:load <16 x float>, ptr %v|call <16 x float> @llvm.masked.load)", text)) == 16
    assert "<4 x float>" not in text and "insertelement" not in text


def test_a_guard_of_the_whole_tile_is_asked_once() -> None:
    text = generate(CASES.named["rows of a padded tile lie outside"].function, get("host"), "k").text
    assert text.count("= phi <8 x float>") == 4
    assert len(re.findall("br i1 .*label %then", text)) == 1
