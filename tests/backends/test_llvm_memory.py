"""Memory: vectors that end with their buffer, guarded reads, gathers, what must be read again, threads, empty loops.

Every buffer ends right before a page that nobody may touch, and then begins right behind one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest

from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.loop.interpret import interpret
from tcompiler.ir.loop.text import parse_function
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.target.named import get
from tests.backends.guarded import Case, Result, run_guarded
from tests.backends.kernels import Array, assert_same

CASES: dict[str, Case] = {}


def case(name: str, text: str, threads: tuple[int, ...] = (1,), **given: object) -> None:
    """A function from its text, on the given arrays and otherwise on small numbers."""
    function = parse_function("@loop.function\n" + text.strip("\n") + "\n")
    verify(function)
    buffers = buffer_table(function)
    inputs: dict[str, Array] = {}
    for k, n in enumerate(function.inputs):
        b = buffers[n]
        shape = tuple(as_int(e) or 0 for e in b.shape)
        if n in given:
            inputs[n] = np.array(given[n], b.dtype.numpy).reshape(shape)
        else:
            numbers = np.random.default_rng(k).integers(0, 2 if b.dtype.kind == "bool" else 100, shape)
            inputs[n] = numbers.astype(b.dtype.numpy)
    assert name not in CASES
    CASES[name] = Case(name, function, inputs, threads)


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

for lanes in (4, 5, 8):
    for step in (1, -1, 2, -2, 3, -3, 9, -9):
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

# -- what must be read again ---------------------------------------------------------------------------------------

case(
    "written between two reads",
    """
def f(A: i32[5], B: out(i32[5]), C: out(i32[5])):
    T = alloc(i32[2])
    for i in range(5):
        with block("b"):
            v = ordered(5, i)
            T[0] = A[v]
            T[1] = A[v] * i32(3)
            B[v] = T[0] + T[1]
            T[0] = T[0] + i32(1)
            C[v] = T[0] + T[1]
""",
)

case(
    "written in an inner loop between two reads",
    """
def f(A: i32[5], B: out(i32[5, 2]), C: out(i32[5])):
    T = alloc(i32[4])
    for z in range(4):
        with block("zero"):
            vz = spatial(4, z)
            T[vz] = i32(0)
    for i in range(5):
        with block("before"):
            v = ordered(5, i)
            B[v, 0] = T[1] + T[2]
        for k in range(4):
            with block("inner"):
                v = ordered(5, i)
                vk = ordered(4, k)
                C[v] = T[1]
                T[vk] = T[vk] + A[v] + T[1]
        with block("after"):
            v = ordered(5, i)
            B[v, 1] = T[1] + T[2]
""",
)

case(
    "written by lanes between two reads",
    """
def f(A: i32[5, 6], B: out(i32[5, 2]), C: out(i32[5, 6])):
    T = alloc(i32[6])
    for z in vectorized(6):
        with block("zero"):
            vz = spatial(6, z)
            T[vz] = i32(0)
    for i in range(5):
        with block("before"):
            v = ordered(5, i)
            B[v, 0] = T[5]
        for k in vectorized(6):
            with block("lanes"):
                v = ordered(5, i)
                vk = spatial(6, k)
                C[v, vk] = T[vk]
                T[vk] = T[vk] + A[v, vk]
                C[v, vk] = C[v, vk] * T[vk]
        with block("after"):
            v = ordered(5, i)
            B[v, 1] = T[5]
""",
)

case(
    "written under a condition between two reads",
    """
def f(A: i32[5], B: out(i32[5, 2])):
    T = alloc(i32[()])
    for i in range(5):
        with block("first", where=i == 0):
            v = ordered(5, i)
            T[()] = i32(7)
        with block("before"):
            v = ordered(5, i)
            B[v, 0] = T[()]
        with block("some", where=i % 2 == 1):
            v = ordered(5, i)
            T[()] = T[()] + A[v]
        with block("after"):
            v = ordered(5, i)
            B[v, 1] = T[()]
""",
)

case(
    "the index of a read is written between two reads",
    """
def f(A: i32[5], B: out(i32[5, 2]), C: out(i32[4, 2])):
    J = alloc(i64[1])
    K = alloc(i64[4])
    for i in range(5):
        with block("b"):
            v = ordered(5, i)
            J[0] = v
            B[v, 0] = A[J[0]]
            J[0] = 4 - v
            B[v, 1] = A[J[0]]
    for j in vectorized(4):
        with block("lanes"):
            v = spatial(4, j)
            K[v] = v
            C[v, 0] = A[K[v]]
            K[v] = 3 - v
            C[v, 1] = A[K[v]]
""",
)

case(
    "written by threads between two reads",
    """
def f(A: i32[4, 6], B: out(i32[4, 2])):
    T = alloc(i32[6])
    for z in range(6):
        with block("zero"):
            vz = spatial(6, z)
            T[vz] = i32(0)
    for i in range(4):
        with block("before"):
            v = ordered(4, i)
            B[v, 0] = T[5]
        for p in parallel(6):
            with block("threads"):
                v = ordered(4, i)
                vp = spatial(6, p)
                T[vp] = T[vp] + A[v, vp]
        with block("after"):
            v = ordered(4, i)
            B[v, 1] = T[5]
""",
    threads=(1, 2, 3),
)

# -- threads -------------------------------------------------------------------------------------------------------

for extent in (1, 2, 3, 5, 7):
    case(
        f"{extent} iterations with memory of their own",
        f"""
def f(A: f32[{extent}, 9], B: out(f32[{extent}, 9])):
    T = alloc(f32[9], scope="local")
    R = alloc(f32[9], scope="register")
    for p in parallel({extent}):
        for j in vectorized(9):
            with block("fill"):
                vp = spatial({extent}, p)
                v = spatial(9, j)
                T[v] = A[vp, v] * f32(2.0)
                R[v] = A[vp, v]
        for k in range(9):
            with block("use"):
                vp = spatial({extent}, p)
                v = spatial(9, k)
                B[vp, v] = T[8 - v]
        for u in unrolled(9):
            with block("add"):
                vp = spatial({extent}, p)
                v = spatial(9, u)
                B[vp, v] = B[vp, v] + R[v]
""",
        threads=(1, 2, 3),
    )

case(
    "parallel inside parallel inside serial",
    """
def f(A: f32[3, 5, 4], B: out(f32[3, 5, 4])):
    T = alloc(f32[2], scope="local")
    for i in range(3):
        for p in parallel(5):
            for q in parallel(4):
                with block("t"):
                    x = spatial(3, i)
                    y = spatial(5, p)
                    z = spatial(4, q)
                    T[0] = A[x, y, z]
                    T[1] = A[x, y, z] * f32(2.0)
                with block("b"):
                    x = spatial(3, i)
                    y = spatial(5, p)
                    z = spatial(4, q)
                    B[x, y, z] = T[0] + T[1]
""",
    threads=(1, 2, 3),
)

case(
    "threads read what was written before them, whatever its scope",
    """
def f(A: f32[8], B: out(f32[6, 8])):
    L = alloc(f32[8], scope="local")
    R = alloc(f32[8], scope="register")
    G = alloc(f32[8])
    for j in vectorized(8):
        with block("fill"):
            v = spatial(8, j)
            L[v] = A[v]
            R[v] = A[v] * f32(3.0)
            G[v] = A[v] * f32(5.0)
    for p in parallel(6):
        for k in vectorized(8):
            with block("use"):
                vp = spatial(6, p)
                v = spatial(8, k)
                B[vp, v] = L[v] + R[v] * G[7 - v]
""",
    threads=(1, 2, 3),
)

case(
    "threads in a loop behind a loop under a condition",
    """
def f(A: f32[6], B: out(f32[3, 6]), C: out(f32[3])):
    for z in range(3):
        with block("zero"):
            vz = spatial(3, z)
            C[vz] = f32(0.0)
    for i in range(3):
        with block("some", where=i == 1):
            vi = ordered(3, i)
            for k in range(6):
                with block("inner"):
                    wi = spatial(3, vi)
                    wk = reduce(6, k)
                    C[wi] += A[wk]
        for p in parallel(6):
            with block("threads"):
                vi = spatial(3, i)
                vp = spatial(6, p)
                B[vi, vp] = A[vp] + C[vi]
""",
    threads=(1, 2),
)

case(
    "threads under a condition",
    """
def f(A: f32[6], B: out(f32[3, 6])):
    for i in range(3):
        for k in range(6):
            with block("zero"):
                vi = spatial(3, i)
                vk = spatial(6, k)
                B[vi, vk] = f32(0.0)
        with block("some", where=i != 1):
            vi = ordered(3, i)
            for p in parallel(6):
                with block("inner"):
                    wi = spatial(3, vi)
                    wp = spatial(6, p)
                    B[wi, wp] = A[wp]
""",
    threads=(1, 2),
)

case(
    "a loop bound to threads inside lanes",
    """
def f(A: f32[6, 5], B: out(f32[6, 5])):
    for j in vectorized(5):
        for p in parallel(6):
            with block("b"):
                vp = spatial(6, p)
                vj = spatial(5, j)
                B[vp, vj] = A[vp, vj]
""",
    threads=(2,),
)

# -- loops of no and of one iteration ------------------------------------------------------------------------------

for kind in ("range", "vectorized", "parallel", "unrolled"):
    case(
        f"no iteration of {kind}",
        f"""
def f(A: f32[0], M: bool[3, 0], B: out(f32[2]), C: out(f32[0]), D: out(f32[0, 4])):
    T = alloc(f32[0])
    for i in range(2):
        with block("b"):
            v = spatial(2, i)
            B[v] = f32(1.0)
        for k in {kind}(0):
            with block("nothing"):
                v = ordered(2, i)
                w = spatial(1, k)
                B[w + 5] = A[w + 3]
                C[w] = select(M[w, w], A[w], f32(0.0))
                T[w] = A[w]
                D[w, 2] = T[w]
""",
        threads=(1, 2),
    )

case(
    "one lane, and lanes inside lanes",
    """
def f(A: f32[3, 5], B: out(f32[3, 5]), C: out(f32[5]), D: out(f32[()])):
    for i in vectorized(3):
        for j in vectorized(5):
            with block("b"):
                vi = spatial(3, i)
                vj = spatial(5, j)
                B[vi, vj] = A[vi, vj] + cast(f32, vj)
    for k in vectorized(1):
        for m in vectorized(5):
            with block("c"):
                vk = spatial(1, k)
                vm = spatial(5, m)
                C[vm] = A[vk, vm]
    for n in vectorized(1):
        with block("d"):
            vn = spatial(1, n)
            D[()] = A[vn, vn + 2]
""",
)

case(
    "serial loops inside lanes",
    """
def f(A: f32[6, 5], B: out(f32[5]), C: out(f32[5])):
    R = alloc(f32[5], scope="register")
    for j in vectorized(5):
        for k in range(6):
            with block("sum"):
                vj = spatial(5, j)
                vk = reduce(6, k)
                with init():
                    B[vj] = f32(0.0)
                    R[vj] = f32(1.0)
                B[vj] += A[vk, vj]
                R[vj] += A[vk, vj] * f32(2.0)
        with block("out"):
            vj = spatial(5, j)
            C[vj] = R[vj]
""",
)

# -- predicates and init -------------------------------------------------------------------------------------------

case(
    "init where every reduction begins",
    """
def f(A: f32[2, 3, 4], B: out(f32[2]), C: out(f32[2]), D: out(i64[2])):
    for i in range(2):
        for j in range(3):
            for k in range(4):
                with block("sum"):
                    vi = spatial(2, i)
                    vj = reduce(3, j)
                    vk = reduce(4, k)
                    with init():
                        B[vi] = f32(0.0)
                    B[vi] = sum.update(A[vi, vj, vk])
    for i1 in range(2):
        for m in range(12):
            with block("argmax"):
                vi = spatial(2, i1)
                vm = reduce(12, m)
                with init():
                    C[vi] = f32(-inf)
                    D[vi] = 9223372036854775807
                C[vi], D[vi] = argmax.update(A[vi, vm // 4, vm % 4], vm)
""",
)

for lanes in (4, 5):
    case(
        f"init of registers at the first of a loop, {lanes} lanes",
        f"""
def f(A: f32[6, {lanes}], B: f32[6, 2], C: out(f32[2, {lanes}])):
    T = alloc(f32[2, {lanes}], scope="register")
    for k in range(6):
        for i in unrolled(2):
            for j in vectorized({lanes}):
                with block("acc"):
                    vi = spatial(2, i)
                    vj = spatial({lanes}, j)
                    vk = reduce(6, k)
                    with init():
                        T[vi, vj] = f32(0.0)
                    T[vi, vj] += A[vk, vj] * B[vk, vi]
    for i1 in unrolled(2):
        for j1 in vectorized({lanes}):
            with block("out"):
                vi = spatial(2, i1)
                vj = spatial({lanes}, j1)
                C[vi, vj] = T[vi, vj]
""",
    )

case(
    "a register from the iteration before",
    """
def f(A: i32[6], B: out(i32[6]), C: out(i32[3, 6])):
    T = alloc(i32[1], scope="register")
    for i in range(6):
        with block("read"):
            v = ordered(6, i)
            B[v] = i32(-1)
        with block("late", where=i > 0):
            v = ordered(6, i)
            B[v] = T[0]
        with block("write"):
            v = ordered(6, i)
            T[0] = A[v]
    for m in range(3):
        for n in range(6):
            with block("again"):
                vm = ordered(3, m)
                vn = ordered(6, n)
                C[vm, vn] = T[0]
                T[0] = T[0] + A[vn]
""",
)

case(
    "lanes of a register that a condition leaves out are never written",
    """
def f(A: i32[6], B: out(i32[6, 4])):
    T = alloc(i32[4], scope="register")
    for k in range(6):
        for z in vectorized(4):
            with block("zero"):
                v = ordered(6, k)
                vz = spatial(4, z)
                B[v, vz] = i32(0)
        with block("late", where=k > 0):
            v = ordered(6, k)
            for j in vectorized(4):
                with block("some"):
                    w = ordered(6, v)
                    vj = spatial(4, j)
                    B[w, vj] = select(vj < 2, T[vj], i32(-1))
        with block("write"):
            v = ordered(6, k)
            T[0] = A[v]
            T[1] = A[v] * i32(2)
""",
)

case(
    "a predicate of the loops around, iter vars of the same names inside",
    """
def f(A: i32[4], B: out(i32[4])):
    for z in range(4):
        with block("zero"):
            v = spatial(4, z)
            B[v] = i32(0)
    for i in range(4):
        with block("outer"):
            v = ordered(4, i)
            with block("inner", where=v < 1):
                v = ordered(4, 3 - v)
                B[v] = A[v]
""",
)

case(
    "updates of several targets read all of them first",
    """
def f(A: f32[7], B: out(f32[()]), C: out(f32[()])):
    for i in range(7):
        with block("b"):
            v = reduce(7, i)
            with init():
                B[()] = f32(0.0)
                C[()] = f32(0.0)
            B[()], C[()] = reducer(
                lambda a, b, c, d: (a + c, b + d), (f32(0.0), f32(0.0))
            ).update(A[v], A[6 - v] + B[()])
""",
)

case(
    "constants at the ends of the integers",
    """
def f(A: i64[3], B: out(i64[3, 5])):
    for i in range(3):
        with block("b"):
            v = spatial(3, i)
            B[v, 0] = v + 9223372036854775807
            B[v, 1] = (v + 9223372036854775807) + 9
            B[v, 2] = v * 4611686018427387904 * 4 - v
            B[v, 3] = A[v] - (-9223372036854775808)
            B[v, 4] = -9223372036854775808
""",
)


@cache
def results(machine: str) -> Mapping[str, Result]:
    return run_guarded(list(CASES.values()), get(machine))


@pytest.mark.parametrize("machine", ["host", "x86-64-v2"])
@pytest.mark.parametrize("name", CASES)
def test_memory(name: str, machine: str) -> None:
    given = CASES[name]
    found = results(machine)[name]
    assert not isinstance(found, str), found
    expected = interpret(given.function, given.inputs)
    for threads in given.threads:
        for output, array in expected.items():
            assert_same(found[threads][output], array, f"{output} with {threads} threads on {machine}")
