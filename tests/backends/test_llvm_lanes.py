"""Lanes: vectors that end with their buffer, reads behind a condition, gathers and scatters, bools."""

from __future__ import annotations

import re

import pytest

from tcompiler.backends.llvm.codegen import generate
from tcompiler.target.named import get
from tests.backends.cases import MACHINES, Cases

CASES = Cases()
case = CASES.add


# -- tails, and lanes that step ------------------------------------------------------------------------------------

for dtype in ("f32", "u8", "f64", "bool", "f16"):
    for lanes in (2, 3, 5, 7, 8, 13, 24):
        case(
            f"{dtype} in {lanes} lanes to the end",
            f"""
def f(A: {dtype}[{3 * lanes}], B: out({dtype}[{3 * lanes}])):
    for i in range(3):
        for j in vectorized({lanes}):
            with block("b"):
                v = spatial({3 * lanes}, i * {lanes} + j)
                B[v] = A[v]
""",
        )

# One lane of numbers that were wider before: what lies beside it stays.

for dtype in ("u8", "i16", "bf16", "f16"):
    for lane in (0, 3):
        wide = "f32" if "f" in dtype else "i32"
        case(
            f"lane {lane} narrowed to {dtype}",
            f"""
def f(A: {wide}[16], B: out({dtype}[16])):
    for i in range(16):
        with block("fill"):
            u = spatial(16, i)
            B[u] = {dtype}(7)
    for j in vectorized(16):
        with block("b", where=(j > {lane - 1}) & (j < {lane + 1})):
            v = spatial(16, j)
            B[v] = cast({dtype}, A[v])
""",
        )

# Lanes that are no power of two become several vectors: sums in registers, lane numbers, places a step apart, one lane.

for lanes in (9, 12, 17, 24, 27, 40):
    case(
        f"a tile of {lanes} lanes",
        f"""
def f(A: f32[6, 2], B: f32[6, {lanes}], C: out(f32[2, {lanes}]), D: out(i64[{lanes}]), E: out(f32[{2 * lanes}])):
    acc = alloc(f32[2, {lanes}], scope="register")
    for r0 in unrolled(2):
        for j0 in vectorized({lanes}):
            with block("zero"):
                w = spatial(2, r0)
                u = spatial({lanes}, j0)
                acc[w, u] = f32(0.0)
            with block("seven"):
                w = spatial(2, r0)
                u = spatial({lanes}, j0)
                C[w, u] = f32(7.0)
    for k in range(6):
        for r1 in unrolled(2):
            for j1 in vectorized({lanes}):
                with block("sum"):
                    w = spatial(2, r1)
                    u = spatial({lanes}, j1)
                    x = reduce(6, k)
                    acc[w, u] += A[x, w] * B[x, u]
    for r2 in unrolled(2):
        for j2 in vectorized({lanes}):
            with block("write", where=j2 * 2 + r2 < {2 * lanes - 3}):
                w = spatial(2, r2)
                u = spatial({lanes}, j2)
                C[w, u] = acc[w, u]
    for j3 in vectorized({lanes}):
        with block("numbers"):
            u = spatial({lanes}, j3)
            D[u] = u * 3 + 1
        with block("back"):
            u = spatial({lanes}, j3)
            E[u * 2] = B[1, {lanes} - 1 - u]
        with block("half"):
            u = spatial({lanes}, j3)
            E[u * 2 + 1] = B[2, u // 2]
""",
    )

# What a vector stored under a mask is read again from the register, in which the lanes that are off are zero.
for lanes in (1, 5, 8, 13):
    case(
        f"{lanes} of 16 lanes stored and read again",
        f"""
def f(A: f32[{lanes}], B: out(f32[{lanes}]), C: out(f32[16]), D: out(f32[{lanes}])):
    for j in vectorized(16):
        with block("store", where=j < {lanes}):
            u = spatial({lanes}, j)
            B[u] = A[u] + f32(3.0)
    for j1 in vectorized(16):
        with block("all"):
            u = spatial(16, j1)
            C[u] = select(u < {lanes}, B[u], f32(0.0))
    for j2 in vectorized(16):
        with block("same", where=j2 < {lanes}):
            u = spatial({lanes}, j2)
            D[u] = B[u] * A[u]
""",
    )

# Sums of which the last vector has a few lanes: what is behind these never had a value.
for lanes in (17, 18, 20, 24, 29, 31, 33, 45):
    wide = -(-lanes // 16)
    case(
        f"sums of {lanes} lanes in {wide} vectors, the last one under a mask",
        f"""
def f(A: f32[6, {lanes}], B: f32[6], C: out(f32[{lanes}])):
    acc = alloc(f32[{16 * wide}], scope="register")
    for j0 in vectorized({lanes}):
        with block("zero"):
            u = spatial({lanes}, j0)
            acc[u] = f32(0.0)
    for k in range(6):
        for r in unrolled({wide}):
            for j1 in vectorized(16):
                with block("sum", where=r * 16 + j1 < {lanes}):
                    u = spatial({lanes}, r * 16 + j1)
                    x = reduce(6, k)
                    acc[u] += A[x, u] * B[x]
    for j2 in vectorized({lanes}):
        with block("write"):
            u = spatial({lanes}, j2)
            C[u] = acc[u]
""",
    )

# What lies behind a row is asked for under a condition on the row as well: whole registers of lanes may be off.
for dtype in ("f64", "f32", "u8", "bool"):
    for lanes, inside in ((5, 4), (13, 8), (13, 4), (16, 8), (16, 5), (64, 32)):
        fill = {"bool": "False", "u8": "u8(0)"}.get(dtype, f"{dtype}(0.0)")
        case(
            f"{inside} of {lanes} lanes of {dtype} in some rows",
            f"""
def f(A: {dtype}[3, {inside}], B: out({dtype}[4, {lanes}])):
    for i in range(4):
        for j in vectorized({lanes}):
            with block("b"):
                u = spatial(4, i)
                v = spatial({lanes}, j)
                B[u, v] = select((u < 3) & (v < {inside}), A[u, v], {fill})
""",
        )

for lanes in (4, 5, 8, 16):
    for step in (1, -1, 2, -2, 3, -3, 4, -5, 9, -9):
        size = (lanes - 1) * abs(step) + 1
        first = 0 if step > 0 else size - 1
        for dtype in ("f32", "u8", "bool"):
            case(
                f"{dtype} read every {step} in {lanes} lanes",
                f"""
def f(A: {dtype}[{size}], B: out({dtype}[{lanes}])):
    for j in vectorized({lanes}):
        with block("b"):
            v = spatial({lanes}, j)
            a = spatial({size}, {first} + j * {step})
            B[v] = A[a]
""",
            )
        for dtype in ("f32", "bool"):
            fill = "f32(0.0)" if dtype == "f32" else "False"
            moved = f"{first - step} + v * {step}"
            case(
                f"padded {dtype} read every {step} in {lanes} lanes",
                f"""
def f(A: {dtype}[{size}], B: out({dtype}[{lanes}]), C: out({dtype}[{lanes}])):
    for j in vectorized({lanes}):
        with block("b"):
            v = spatial({lanes}, j)
            B[v] = select(({moved} >= 0) & ({moved} < {size}), A[{moved}], {fill})
    for m in vectorized({lanes}):
        with block("c"):
            v = spatial({lanes}, m)
            C[v] = select((v >= 1) & (v != {lanes - 2}), A[{first} + v * {step}], {fill})
""",
            )
        case(
            f"written every {step} in {lanes} lanes",
            f"""
def f(A: f32[{lanes}], B: out(f32[{size}])):
    for k in range({size}):
        with block("zero"):
            w = spatial({size}, k)
            B[w] = f32(-1.0)
    for j in vectorized({lanes}):
        with block("b"):
            v = spatial({lanes}, j)
            b = spatial({size}, {first} + j * {step})
            B[b] = A[v]
""",
        )

case(
    "rows with gaps",
    """
def f(A: buffer(f32[3, 5], strides=(9, 1)), B: out(f32[3, 5], strides=(7, 1)), C: out(f32[5, 3], strides=(8, 2))):
    for i in range(3):
        for j in vectorized(5):
            with block("b"):
                vi = spatial(3, i)
                vj = spatial(5, j)
                B[vi, vj] = A[vi, vj] + f32(1.0)
                C[vj, vi] = A[vi, vj]
""",
)

case(
    "a predicate on lanes",
    """
def f(A: f32[11], B: out(f32[11]), C: out(f32[11])):
    for i in range(2):
        for j in vectorized(8):
            with block("b", where=i * 8 + j < 11):
                v = spatial(11, i * 8 + j)
                B[v] = A[v] * f32(2.0)
                C[v] = A[10 - v]
""",
)

case(
    "two predicates on lanes, one inside the other",
    """
def f(A: i32[11], B: out(i32[11])):
    for k in range(11):
        with block("zero"):
            w = spatial(11, k)
            B[w] = i32(0)
    for i in range(3):
        for j in vectorized(5):
            with block("outer", where=i * 5 + j < 11):
                v = spatial(11, i * 5 + j)
                x = ordered(3, i)
                with block("inner", where=v % 3 != x):
                    u = spatial(11, v)
                    B[u] += A[u]
""",
)

for scope in ("global", "local", "register"):
    case(
        f"lanes of which one is active write one element of scope {scope}",
        f"""
def f(A: f32[5], B: out(f32[2])):
    T = alloc(f32[2], scope="{scope}")
    for k in unrolled(2):
        with block("zero"):
            w = spatial(2, k)
            T[w] = f32(1.0)
            B[w] = f32(2.0)
    for j in vectorized(5):
        with block("one", where=j == 3):
            v = spatial(5, j)
            T[0] += A[v] * f32(2.0)
            T[1] = f32(7.0)
        with block("out", where=j * 2 >= 8):
            v = spatial(5, j)
            B[0] = T[0] + A[v]
            B[1] = T[1]
""",
    )

# -- reads behind a condition --------------------------------------------------------------------------------------

case(
    "padding",
    """
def f(X: f32[7], Y: out(f32[11]), Z: out(f32[11])):
    for i in range(11):
        with block("scalar"):
            v = spatial(11, i)
            Y[v] = select((v >= 2) & (v < 9), X[v - 2], f32(0.0))
    for j in vectorized(11):
        with block("vector"):
            v = spatial(11, j)
            Z[v] = select((v >= 2) & (v < 9), X[v - 2], f32(0.0))
""",
)

case(
    "padding and a step",
    """
def f(X: f32[5], Y: out(f32[8]), Z: out(f32[8])):
    for j in vectorized(8):
        with block("vector"):
            v = spatial(8, j)
            Y[v] = select(v * 2 < 5, X[v * 2], f32(-1.0))
            Z[v] = select(v >= 3, X[7 - v], X[v])
""",
)

case(
    "an index from memory that may be outside",
    """
def f(X: f32[6], J: i64[13], Y: out(f32[13]), Z: out(f32[13])):
    for i in range(13):
        with block("scalar"):
            v = spatial(13, i)
            Y[v] = select((J[v] >= 0) & (J[v] < 6), X[J[v]], f32(-1.0))
    for j in vectorized(13):
        with block("vector"):
            v = spatial(13, j)
            Z[v] = select((J[v] >= 0) & (J[v] < 6), X[J[v]], f32(-1.0))
""",
    J=[0, 5, -1, 6, 3, 2**62, -(2**63), 1, 2, 2**63 - 1, 4, 7, 5],
)

case(
    "one element that some lanes ask for",
    """
def f(X: f32[3], Y: out(f32[4, 8])):
    for i in range(4):
        for j in vectorized(8):
            with block("b"):
                vi = spatial(4, i)
                vj = spatial(8, j)
                Y[vi, vj] = select(vj >= vi * 3, select(vi < 3, X[vi], f32(-1.0)), f32(-2.0))
""",
)

case(
    "lanes that ask for an element outside only if all of them stay away",
    """
def f(X: f32[3], Y: out(f32[5, 8])):
    for i in range(5):
        for j in vectorized(8):
            with block("b"):
                vi = spatial(5, i)
                vj = spatial(8, j)
                Y[vi, vj] = select(vj + vi * 100 < 208, X[vi], f32(-2.0))
""",
)

case(
    "a condition on the loop outside",
    """
def f(X: f32[2, 8], Y: out(f32[5, 8]), Z: out(f32[5])):
    for i in range(5):
        for j in vectorized(8):
            with block("vector"):
                vi = spatial(5, i)
                vj = spatial(8, j)
                Y[vi, vj] = select(vi < 2, X[vi, vj], f32(7.0))
        with block("scalar", where=i >= 0):
            vi = spatial(5, i)
            Z[vi] = select(vi < 2, select(vi < 1, X[vi, 3], X[1, vi]), f32(-1.0))
""",
)

case(
    "a block that does not run reads nothing",
    """
def f(X: f32[2], Y: out(f32[5, 3])):
    for i in range(5):
        for k in range(3):
            with block("zero"):
                vi = spatial(5, i)
                vk = spatial(3, k)
                Y[vi, vk] = f32(0.0)
        with block("some", where=i < 2):
            vi = ordered(5, i)
            for m in range(3):
                with block("inner"):
                    wi = spatial(5, vi)
                    wk = spatial(3, m)
                    Y[wi, wk] = X[wi]
""",
)

# -- gathers and scatters ------------------------------------------------------------------------------------------

for dtype in ("f32", "bool", "i64", "bf16"):
    case(
        f"{dtype} gathered and scattered",
        f"""
def f(X: {dtype}[9], J: i64[13], P: i64[13], Y: out({dtype}[13]), Z: out({dtype}[13]), W: out({dtype}[13])):
    for j in vectorized(13):
        with block("gather"):
            v = spatial(13, j)
            Y[v] = X[J[v]]
    for j1 in vectorized(13):
        with block("scatter"):
            v = spatial(13, j1)
            Z[P[v]] = X[J[v]]
    for j2 in vectorized(13):
        with block("fused"):
            v = spatial(13, j2)
            W[(v * 5) % 13] = X[(v * 4) // 6]
""",
        J=[8, 0, 3, 3, 1, 7, 2, 2, 8, 5, 4, 6, 0],
        P=[5, 0, 12, 3, 1, 7, 2, 11, 8, 10, 4, 6, 9],
    )

case(
    "a gather of rows",
    """
def f(X: f32[4, 6], J: i64[5], Y: out(f32[5, 6])):
    for i in range(5):
        for j in vectorized(6):
            with block("b"):
                vi = spatial(5, i)
                vj = spatial(6, j)
                Y[vi, vj] = X[J[vi], vj]
""",
    J=[3, 0, 2, 2, 1],
)

# -- bools ---------------------------------------------------------------------------------------------------------

case(
    "bools in memory and in registers",
    """
def f(M: bool[13], X: f32[13], N: out(bool[13]), Y: out(f32[13]), A: out(bool[()]), B: out(i32[()])):
    R = alloc(bool[13], scope="register")
    S = alloc(bool[13])
    for j in vectorized(13):
        with block("r"):
            v = spatial(13, j)
            R[v] = ~M[v] | (X[v] > f32(50.0))
            S[v] = X[v] <= f32(20.0)
    for j1 in vectorized(13):
        with block("n"):
            v = spatial(13, j1)
            N[v] = R[v] ^ S[v]
            Y[v] = select(R[v], X[v], cast(f32, S[v]))
    for k in range(13):
        with block("all"):
            vk = reduce(13, k)
            with init():
                A[()] = True
                B[()] = i32(0)
            A[()] = all.update(S[vk] | M[vk])
            B[()] += cast(i32, M[vk])
""",
)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CASES.named)
def test_lanes(name: str, machine: str) -> None:
    CASES.check(name, machine)


@pytest.mark.parametrize("name", [n for n in CASES.named if re.match(r"sums of (?!17|33)", n)])
def test_sums_under_a_mask_stay_in_vectors(name: str) -> None:
    text = generate(CASES.named[name].function, get("znver5"), "k").text
    assert not re.findall(r".*(?:extractelement|llvm\.vector\.reduce).*", text)
