"""What no code is generated for is refused by the compiler's own error, whole message."""

from __future__ import annotations

import numpy as np
import pytest

from tcompiler.backends.llvm.codegen import generate
from tcompiler.errors import CompileError
from tcompiler.ir.loop.text import parse_function
from tcompiler.ir.loop.verify import verify
from tcompiler.target.named import host
from tests.backends.kernels import check

REFUSED = {
    """
def scale(n: i64, m: i64, A: f32[n], B: out(f32[n])):
    for i in range(n):
        with block("b"):
            v = spatial(n, i)
            B[v] = A[v]
""": "kernel scale has symbolic parameters (n, m): code is generated for constant extents; "
    "give the model's dimensions as integers",
    """
def f(A: f32[8], B: out(f32[8])):
    for i in thread("blockIdx.x", 2):
        for j in thread("threadIdx.y", 4):
            with block("b"):
                v = spatial(8, i * 4 + j)
                B[v] = A[v]
""": "loop i is bound to blockIdx.x, which a CPU does not have",
    """
def f(A: f32[8], B: out(f32[8])):
    with block("b"):
        intrinsic("vpdpbusd", writes=(B[span(0, 8)],), reads=(A[span(0, 8)],))
""": "intrinsic 'vpdpbusd' has no LLVM code; there is code for x86.dot_i16x4, x86.dot_i16x8, x86.dot_i16x16, "
    "x86.madd_u8i8x4, x86.madd_u8m8x4, x86.madd_i8u8x4, x86.madd_u8i8x8, x86.madd_u8m8x8, x86.madd_i8u8x8, "
    "x86.madd_u8i8x16, x86.madd_u8m8x16, x86.madd_i8u8x16, "
    "x86.dot_u8i8x4, x86.dot_i8u8x4, x86.dot_bf16x4, x86.dot_u8i8x8, x86.dot_i8u8x8, x86.dot_bf16x8, "
    "x86.dot_u8i8x16, x86.dot_i8u8x16, x86.dot_bf16x16",
    """
def f(A: f32[8], B: out(f32[8])):
    T = alloc(f32[1])
    for j in vectorized(8):
        with block("t"):
            v = spatial(8, j)
            T[0] = A[v]
        with block("b"):
            v = spatial(8, j)
            B[v] = T[0]
""": "every lane of the vectorized loop j writes one element of T; make the loop serial, or give T a dimension for it",
    """
def f(A: f32[8], B: out(f32[8])):
    T = alloc(f32[1], scope="register")
    for j in vectorized(8):
        with block("t"):
            v = spatial(8, j)
            T[0] = A[v]
        with block("b"):
            v = spatial(8, j)
            B[v] = T[0]
""": "every lane of the vectorized loop j writes one element of T; make the loop serial, or give T a dimension for it",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    function = parse_function("@loop.function" + text)
    verify(function)
    with pytest.raises(CompileError) as error:
        generate(function, host(), "k")
    assert str(error.value) == REFUSED[text]


def test_extents_that_come_out_constant_are_no_symbols() -> None:
    check(
        """@loop.function
def f(A: f32[2 * 3, 16 // 2], B: out(f32[6, 8])):
    T = alloc(f32[2 + 4, 8], scope="local")
    for i in parallel(2 * 3):
        for j in vectorized(8):
            with block("t"):
                vi = spatial(6, i)
                vj = spatial(8, j)
                T[vi, vj] = A[vi, vj]
        for k in range(4 * 2):
            with block("b"):
                vi = spatial(6, i)
                vk = spatial(8, k)
                B[vi, vk] = T[vi, vk]
""",
        {"A": np.arange(48, dtype=np.float32).reshape(6, 8)},
        (1, 2),
    )
