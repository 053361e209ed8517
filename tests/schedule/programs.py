"""Small unscheduled programs, as lowering leaves them: one block per scope, each in loops of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from tcompiler.ir.loop.grammar import Function
from tcompiler.ir.loop.text import parse_function


def matmul(m: int | str = 64, n: int | str = 32, k: int | str = 48) -> str:
    """C = A B."""
    params = "".join(f"{p}: i64, " for p in dict.fromkeys(x for x in (m, n, k) if isinstance(x, str)))
    return f"""
@loop.function
def matmul({params}A: f32[{m}, {k}], B: f32[{k}, {n}], C: out(f32[{m}, {n}])):
    for i in range({m}):
        for j in range({n}):
            for k in range({k}):
                with block("C"):
                    vi = spatial({m}, i)
                    vj = spatial({n}, j)
                    vk = reduce({k}, k)
                    with init():
                        C[vi, vj] = f32(0.0)
                    C[vi, vj] += A[vi, vk] * B[vk, vj]
"""


def matmul_relu(m: int = 64, n: int = 32, k: int = 48) -> str:
    """D = max(A B + bias, 0)."""
    return f"""
@loop.function
def matmul_relu(A: f32[{m}, {k}], B: f32[{k}, {n}], bias: f32[{n}], D: out(f32[{m}, {n}])):
    C = alloc(f32[{m}, {n}])
    for i in range({m}):
        for j in range({n}):
            for k in range({k}):
                with block("C"):
                    vi = spatial({m}, i)
                    vj = spatial({n}, j)
                    vk = reduce({k}, k)
                    with init():
                        C[vi, vj] = f32(0.0)
                    C[vi, vj] += A[vi, vk] * B[vk, vj]
    for p in range({m}):
        for q in range({n}):
            with block("D"):
                vp = spatial({m}, p)
                vq = spatial({n}, q)
                D[vp, vq] = max(C[vp, vq] + bias[vq], f32(0.0))
"""


def batched(b: int = 2, m: int = 5, n: int = 7, k: int = 3) -> str:
    """C[b] = A[b] B[b]."""
    return f"""
@loop.function
def batched(A: f32[{b}, {m}, {k}], B: f32[{b}, {k}, {n}], C: out(f32[{b}, {m}, {n}])):
    for s in range({b}):
        for i in range({m}):
            for j in range({n}):
                for k in range({k}):
                    with block("C"):
                        vs = spatial({b}, s)
                        vi = spatial({m}, i)
                        vj = spatial({n}, j)
                        vk = reduce({k}, k)
                        with init():
                            C[vs, vi, vj] = f32(0.0)
                        C[vs, vi, vj] += A[vs, vi, vk] * B[vs, vk, vj]
"""


def conv(n: int = 1, k: int = 3, h: int = 7, w: int = 5, c: int = 2, r: int = 3, stride: int = 1) -> str:
    """A convolution with padding on every side, as a padded copy and the sums, bias and relu behind."""
    pad = r // 2
    hp, wp = (h - 1) * stride + r, (w - 1) * stride + r
    hi, wi = hp - 2 * pad, wp - 2 * pad
    inside = f"(vy >= {pad}) & (vy < {hi + pad}) & (vx >= {pad}) & (vx < {wi + pad})" if pad else "vy >= 0"
    product = f"P[vn, vc, vh * {stride} + vr, vw * {stride} + vs] * W[vk, vc, vr, vs]"
    return f"""
@loop.function
def conv(X: f32[{n}, {c}, {hi}, {wi}], W: f32[{k}, {c}, {r}, {r}], b: f32[{k}], Y: out(f32[{n}, {k}, {h}, {w}])):
    P = alloc(f32[{n}, {c}, {hp}, {wp}])
    S = alloc(f32[{n}, {k}, {h}, {w}])
    for pn in range({n}):
        for pc in range({c}):
            for py in range({hp}):
                for px in range({wp}):
                    with block("P"):
                        vn = spatial({n}, pn)
                        vc = spatial({c}, pc)
                        vy = spatial({hp}, py)
                        vx = spatial({wp}, px)
                        P[vn, vc, vy, vx] = select({inside}, X[vn, vc, vy - {pad}, vx - {pad}], f32(0.0))
    for n in range({n}):
        for k in range({k}):
            for h in range({h}):
                for w in range({w}):
                    for c in range({c}):
                        for r in range({r}):
                            for s in range({r}):
                                with block("S"):
                                    vn = spatial({n}, n)
                                    vk = spatial({k}, k)
                                    vh = spatial({h}, h)
                                    vw = spatial({w}, w)
                                    vc = reduce({c}, c)
                                    vr = reduce({r}, r)
                                    vs = reduce({r}, s)
                                    with init():
                                        S[vn, vk, vh, vw] = f32(0.0)
                                    S[vn, vk, vh, vw] += {product}
    for yn in range({n}):
        for yk in range({k}):
            for yh in range({h}):
                for yw in range({w}):
                    with block("Y"):
                        vn = spatial({n}, yn)
                        vk = spatial({k}, yk)
                        vh = spatial({h}, yh)
                        vw = spatial({w}, yw)
                        Y[vn, vk, vh, vw] = max(S[vn, vk, vh, vw] + b[vk], f32(0.0))
"""


def padded(n: int = 2, h: int = 11) -> str:
    """A stencil that reads its padding by a guard."""
    return f"""
@loop.function
def padded(X: f32[{n}, {h}], Y: out(f32[{n}, {h}])):
    for n in range({n}):
        for h in range({h}):
            for r in range(3):
                with block("Y"):
                    vn = spatial({n}, n)
                    vh = spatial({h}, h)
                    vr = reduce(3, r)
                    with init():
                        Y[vn, vh] = f32(0.0)
                    Y[vn, vh] += select((vh + vr >= 1) & (vh + vr < {h + 1}), X[vn, vh + vr - 1], f32(0.0))
"""


def softmax(n: int = 5, m: int = 7) -> str:
    """A softmax over the last axis."""
    return f"""
@loop.function
def softmax(X: f32[{n}, {m}], Y: out(f32[{n}, {m}])):
    M = alloc(f32[{n}])
    E = alloc(f32[{n}, {m}])
    S = alloc(f32[{n}])
    for i0 in range({n}):
        for j0 in range({m}):
            with block("M"):
                vi = spatial({n}, i0)
                vj = reduce({m}, j0)
                with init():
                    M[vi] = f32(-inf)
                M[vi] = max.update(X[vi, vj])
    for i1 in range({n}):
        for j1 in range({m}):
            with block("E"):
                vi = spatial({n}, i1)
                vj = spatial({m}, j1)
                E[vi, vj] = exp(X[vi, vj] - M[vi])
    for i2 in range({n}):
        for j2 in range({m}):
            with block("S"):
                vi = spatial({n}, i2)
                vj = reduce({m}, j2)
                with init():
                    S[vi] = f32(0.0)
                S[vi] += E[vi, vj]
    for i3 in range({n}):
        for j3 in range({m}):
            with block("Y"):
                vi = spatial({n}, i3)
                vj = spatial({m}, j3)
                Y[vi, vj] = E[vi, vj] / S[vi]
"""


def chain(n: int = 6, m: int = 11) -> str:
    """An elementwise chain with broadcasting and a transpose at its end."""
    return f"""
@loop.function
def chain(X: f32[{n}, {m}], b: f32[{m}], g: f32[{n}], Y: out(f32[{m}, {n}])):
    T = alloc(f32[{n}, {m}])
    U = alloc(f32[{n}, {m}])
    for i in range({n}):
        for j in range({m}):
            with block("T"):
                vi = spatial({n}, i)
                vj = spatial({m}, j)
                T[vi, vj] = X[vi, vj] + b[vj]
    for k in range({n}):
        for l in range({m}):
            with block("U"):
                vi = spatial({n}, k)
                vj = spatial({m}, l)
                U[vi, vj] = T[vi, vj] * g[vi]
    for p in range({m}):
        for q in range({n}):
            with block("Y"):
                vp = spatial({m}, p)
                vq = spatial({n}, q)
                Y[vp, vq] = U[vq, vp] - X[vq, vp]
"""


def pool(c: int = 3, h: int = 5, r: int = 3) -> str:
    """Max pooling of stride 2 with a window of r × r, and the sum with a shifted copy."""
    hi = (h - 1) * 2 + r
    return f"""
@loop.function
def pool(X: f32[{c}, {hi}, {hi}], Y: out(f32[{c}, {h}, {h}])):
    M = alloc(f32[{c}, {h}, {h}])
    for c in range({c}):
        for h in range({h}):
            for w in range({h}):
                for r in range({r}):
                    for s in range({r}):
                        with block("M"):
                            vc = spatial({c}, c)
                            vh = spatial({h}, h)
                            vw = spatial({h}, w)
                            vr = reduce({r}, r)
                            vs = reduce({r}, s)
                            with init():
                                M[vc, vh, vw] = f32(-inf)
                            M[vc, vh, vw] = max.update(X[vc, vh * 2 + vr, vw * 2 + vs])
    for yc in range({c}):
        for yh in range({h}):
            for yw in range({h}):
                with block("Y"):
                    vc = spatial({c}, yc)
                    vh = spatial({h}, yh)
                    vw = spatial({h}, yw)
                    Y[vc, vh, vw] = M[vc, vh, vw] * f32(0.5)
"""


def scan(t: int = 6, n: int = 8) -> str:
    """A running sum along the first axis, in order."""
    return f"""
@loop.function
def scan(X: f32[{t}, {n}], Y: out(f32[{t}, {n}])):
    for t in range({t}):
        for n in range({n}):
            with block("Y"):
                vt = ordered({t}, t)
                vn = spatial({n}, n)
                Y[vt, vn] = select(vt > 0, Y[vt - 1, vn], f32(0.0)) + X[vt, vn]
"""


def shared_row(n: int = 4, m: int = 8) -> str:
    """Two blocks in one nest that pass a row through a buffer that all iterations of i use."""
    return f"""
@loop.function
def shared_row(X: f32[{n}, {m}], Y: out(f32[{n}, {m}])):
    T = alloc(f32[{m}])
    for i in range({n}):
        for j in range({m}):
            with block("T"):
                vi = spatial({n}, i)
                vj = spatial({m}, j)
                T[vj] = X[vi, vj] * f32(2.0)
        for k in range({m}):
            with block("Y"):
                vi = spatial({n}, i)
                vk = spatial({m}, k)
                Y[vi, vk] = T[vk] + f32(1.0)
"""


def shifted(n: int = 4, m: int = 8) -> str:
    """Two blocks in one nest of which one reads what the other wrote an iteration of i before."""
    return f"""
@loop.function
def shifted(X: f32[{n}, {m}], Y: out(f32[{n}, {m}])):
    T = alloc(f32[{n + 1}, {m}])
    for z in range({m}):
        with block("Z"):
            vz = spatial({m}, z)
            T[0, vz] = f32(0.0)
    for i in range({n}):
        for j in range({m}):
            with block("T"):
                vi = spatial({n}, i)
                vj = spatial({m}, j)
                T[vi + 1, vj] = X[vi, vj]
            with block("Y"):
                vi = spatial({n}, i)
                vj = spatial({m}, j)
                Y[vi, vj] = T[vi, vj]
"""


@cache
def parsed(text: str) -> Function:
    """The function of a text, read once."""
    return parse_function(text)


PROGRAMS: dict[str, Callable[[], Function]] = {
    "matmul": lambda: parsed(matmul()),
    "matmul_17": lambda: parsed(matmul(17, 37, 19)),
    "matmul_97": lambda: parsed(matmul(97, 61, 53)),
    "matmul_symbolic": lambda: parsed(matmul("m", 32, 48)),
    "matmul_relu": lambda: parsed(matmul_relu()),
    "batched": lambda: parsed(batched()),
    "conv": lambda: parsed(conv()),
    "padded": lambda: parsed(padded()),
    "softmax": lambda: parsed(softmax()),
    "chain": lambda: parsed(chain()),
    "pool": lambda: parsed(pool()),
    "scan": lambda: parsed(scan()),
    "shared_row": lambda: parsed(shared_row()),
    "shifted": lambda: parsed(shifted()),
}
"""Programs by the name under which cases refer to them."""
