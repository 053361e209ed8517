"""Threads: parallel loops, what each iteration has for itself, and what all of them find."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.cases import MACHINES, Cases
from tests.backends.kernels import check

CASES = Cases()
case = CASES.add

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

for sizes in ((1, 1, 1), (1, 4, 1), (5, 1, 3), (0, 3, 2)):
    case(
        f"threads begin with {sizes} iterations together",
        f"""
def f(A: f32[9, 5], B: out(f32[{sum(sizes)}, 5])):
    T = alloc(f32[5], scope="local")
    for p in parallel({sizes[0]}):
        for j in range(5):
            with block("first"):
                vp = spatial({sizes[0]}, p)
                v = spatial(5, j)
                B[vp, v] = A[vp, v] + f32(1.0)
    for q in parallel({sizes[1]}, together=True):
        for k in vectorized(5):
            with block("second"):
                vq = spatial({sizes[1]}, q)
                v = spatial(5, k)
                T[v] = A[vq + 1, v] * f32(2.0)
        for l in range(5):
            with block("out"):
                vq = spatial({sizes[1]}, q)
                v = spatial(5, l)
                B[vq + {sizes[0]}, v] = T[4 - v]
    for r in parallel({sizes[2]}, together=True):
        for m in unrolled(5):
            with block("third"):
                vr = spatial({sizes[2]}, r)
                v = spatial(5, m)
                B[vr + {sum(sizes[:2])}, v] = A[vr, v] + A[0, v]
""",
        threads=(1, 2, 3),
    )

case(
    "threads do not begin together with what they depend on",
    """
def f(A: f32[6], B: out(f32[6]), C: out(f32[6])):
    for p in parallel(6):
        with block("first"):
            v = spatial(6, p)
            B[v] = A[v] * f32(2.0)
    for q in parallel(6, together=True):
        with block("second"):
            v = spatial(6, q)
            C[v] = B[5 - v]
""",
    threads=(1, 2, 3),
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


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CASES.named)
def test_threads(name: str, machine: str) -> None:
    CASES.check(name, machine)


GIVEN_AND_WRITTEN = """
@loop.function
def f(X: f32[4, 20000], Y: out(f32[4])):
    T = alloc(f32[2, 20000], scope="local")
    for a in parallel(4):
        for b in range(5000):
            with block("ahead"):
                va = spatial(4, a)
                vb = spatial(5000, b)
                T[1, va * 5000 + vb] = f32(7.0)
    for c in range(20000):
        with block("given"):
            vc = spatial(20000, c)
            T[0, vc] = X[0, vc]
    for d in parallel(4):
        for e in range(20000):
            with block("sums"):
                vd = spatial(4, d)
                ve = reduce(20000, e)
                with init():
                    Y[vd] = f32(0.0)
                Y[vd] += T[0, ve] * X[vd, ve]
"""


def test_threads_find_what_was_written_before_in_a_buffer_that_others_write() -> None:
    # what the first loop writes is its iterations' own, and nobody reads it
    x = np.random.default_rng(0).integers(-7, 8, (4, 20000)).astype(np.float32)
    check(GIVEN_AND_WRITTEN, {"X": x}, threads=(1, 2, 3, 4))
