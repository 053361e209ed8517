"""Memory: what must be read again, empty loops, predicates and initial values."""

from __future__ import annotations

import re

import pytest

from tcompiler.backends.llvm.codegen import generate
from tcompiler.target.named import get
from tests.backends.cases import MACHINES, Cases
from tests.backends.kernels import parsed

CASES = Cases()
case = CASES.add


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

case(
    "lanes that were stored are read in other loops",
    """
def f(A: f32[3, 45], B: out(f32[3, 45]), C: out(f32[3, 45]), D: out(f32[3, 45])):
    for i in range(3):
        for j in range(2):
            for k in vectorized(16):
                with block("made"):
                    vi = spatial(3, i)
                    vj = spatial(32, j * 16 + k)
                    B[vi, vj] = A[vi, vj] * f32(3.0)
            for k1 in vectorized(16):
                with block("same"):
                    vi = spatial(3, i)
                    vj = spatial(32, j * 16 + k1)
                    C[vi, vj] = B[vi, vj] + f32(1.0)
            for k2 in vectorized(15):
                with block("fewer"):
                    vi = spatial(3, i)
                    vj = ordered(2, j)
                    vk = spatial(15, k2)
                    D[vi, vj * 16 + vk] = B[vi, vj * 16 + vk] + B[vi, vj * 16 + vk + 1]
            with block("last"):
                vi = spatial(3, i)
                vj = spatial(2, j)
                D[vi, vj * 16 + 15] = B[vi, vj * 16 + 15]
        for t in vectorized(13):
            with block("made_t"):
                vi = spatial(3, i)
                vj = spatial(13, t)
                B[vi, vj + 32] = A[vi, vj + 32] * f32(3.0)
        for t1 in vectorized(13):
            with block("same_t"):
                vi = spatial(3, i)
                vj = spatial(13, t1)
                C[vi, vj + 32] = B[vi, vj + 32] + f32(1.0)
        for t2 in vectorized(13):
            with block("some_t", where=t2 % 3 == i):
                vi = ordered(3, i)
                vj = spatial(13, t2)
                B[vi, vj + 32] = A[vi, vj] + f32(5.0)
        for t3 in vectorized(13):
            with block("again_t"):
                vi = ordered(3, i)
                vj = spatial(13, t3)
                D[vi, vj + 32] = B[vi, vj + 32] + f32(1.0)
""",
)


# -- taps of windows ----------------------------------------------------------------------------------------------

TAPS = """
def f(A: f32[{rows}, {columns}], B: out(f32[{rows}, {lanes}])):
    for i in range({rows}):
        for s in unrolled({taps}):
            for j in vectorized({lanes}):
                with block("sum"):
                    v = spatial({rows}, i)
                    w = spatial({lanes}, j)
                    t = reduce({taps}, s)
                    with init():
                        B[v, w] = f32(0.0)
                    B[v, w] += {element}
"""

# Neighbouring taps read the same vectors, but for those that would begin or end outside of the data.
for step, taps in ((2, 3), (3, 3), (2, 5), (3, 7)):
    for lanes in (5, 12, 16, 21):
        for pad in (0, 1, 3):
            columns = step * (lanes - 1) + taps - 2 * pad
            at = f"w * {step} + t - {pad}"
            read = f"A[v, {at}]"
            if pad:
                read = f"select(({at} >= 0) & ({at} < {columns}), {read}, f32(0.0))"
            numbers = {"rows": 3, "columns": columns, "taps": taps, "lanes": lanes, "element": read}
            case(f"{taps} taps of every {step} in {lanes} lanes, {pad} outside", TAPS.format(**numbers))

# What lies in front of a line is the end of the one before.
case(
    "taps around lines that follow each other",
    """
def f(A: f32[5, 9], B: out(f32[4, 4])):
    for s in unrolled(12):
        for i in unrolled(4):
            for r in unrolled(2):
                for j in vectorized(4):
                    with block("sum"):
                        v = spatial(4, i)
                        w = spatial(4, j)
                        t = reduce(12, s)
                        u = reduce(2, r)
                        with init():
                            B[v, w] = f32(0.0)
                        B[v, w] += select((w * 2 + t - 5 >= 0) & (w * 2 + t - 5 < 9), A[v + u, w * 2 + t - 5], f32(0.0))
""",
)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CASES.named)
def test_memory(name: str, machine: str) -> None:
    CASES.check(name, machine)


def test_what_a_masked_store_wrote_is_not_read_from_memory() -> None:
    text = """
@loop.function
def f(A: f32[13], B: out(f32[13]), C: out(f32[13])):
    for k in vectorized(13):
        with block("made"):
            v = spatial(13, k)
            B[v] = A[v] * f32(3.0)
    for j in vectorized(13):
        with block("read"):
            v = spatial(13, j)
            C[v] = B[v] + f32(1.0)
"""
    code = generate(parsed(text), get("x86-64-v4"), "f").text
    assert code.count("@llvm.masked.load.v16f32.p0(ptr align") == 1


@pytest.mark.parametrize(
    ("taps", "rows", "pad", "v3", "v4"),
    [(2, 1, 0, 2, 2), (3, 1, 0, 4, 2), (4, 1, 0, 4, 2), (5, 1, 0, 6, 4), (3, 2, 0, 8, 4), (3, 2, 1, 6, 4)],
)
def test_neighbouring_taps_read_the_same_vectors(taps: int, rows: int, pad: int, v3: int, v4: int) -> None:
    """Two of every other element in each row, as no lane has one that lies between those of its neighbours.

    Where vectors are shuffled at will, a lane's neighbour has what a tap finds that is a step behind another one.
    """
    element, columns = f"A[v, w * 2 + t - {pad}]", 30 + taps - 2 * pad
    if pad:
        element = f"select((w * 2 + t - {pad} >= 0) & (w * 2 + t - {pad} < {columns}), {element}, f32(0.0))"
    text = "@loop.function" + TAPS.format(rows=rows, columns=columns, taps=taps, lanes=16, element=element)
    vector = r"= (?:load <16 x float>, ptr|call <16 x float> @llvm\.masked\.load\S+ align 4) (\S+),"
    for machine, vectors in (("x86-64-v3", v3), ("x86-64-v4", v4)):
        code = generate(parsed(text.replace("range", "unrolled")), get(machine), "f").text
        assert len(set(re.findall(vector, code))) == vectors
