"""Threads' shares of a parallel loop: whoever takes them, all iterations are run, each once."""

from __future__ import annotations

import ctypes

import pytest

from tcompiler.backends.llvm.shares import WORD_BYTES, declarations, reset_shares, take_shares
from tcompiler.backends.llvm.writer import Writer
from tcompiler.runtime.abi import PAGE, Context
from tcompiler.runtime.loader import Library, load_ir
from tcompiler.runtime.memory import address_of, aligned_bytes
from tcompiler.runtime.threads import thread_runtime

OFFSET = 2 * WORD_BYTES
"""Of the words, behind something else that the scratch area has."""
MASK = (1 << 64) - 1


def library(extent: int) -> Library:
    """Code whose iterations add up: how many there were, the sum of their squares' differences, and the pieces."""
    body = Writer()

    def piece(first: str, stop: str) -> None:
        squares = [body.effect(f"mul i64 {x}, {x}") for x in (first, stop)]
        sums = (body.effect(f"sub i64 {stop}, {first}"), body.effect(f"sub i64 {squares[1]}, {squares[0]}"), "1")
        for k, value in enumerate(sums):
            place = body.effect(f"getelementptr i64, ptr %closure, i64 {k}")
            body.effect(f"atomicrmw add ptr {place}, i64 {value} monotonic, align 8")

    take_shares(body, OFFSET, extent, piece)
    forks = Writer()
    reset_shares(forks, OFFSET)
    parallel = forks.effect("load ptr, ptr %ctx, align 8")
    forks.line(f"call void {parallel}(ptr %ctx, ptr @body, ptr %sums, i64 {extent})")
    lines = [
        "define internal void @body(ptr %ctx, ptr %closure, i64 %thread, i64 %threads) {",
        *("entry:", *body.top.lines, "  ret void", "}"),
        "define void @loop(ptr %ctx, ptr %sums, ptr %unused) {",
        *("entry:", *forks.top.lines, "  ret void", "}"),
        *declarations(),
    ]
    return load_ir("\n".join(lines) + "\n", {}, ["loop"])


@pytest.mark.parametrize("extent", [2, 3, 7, 64, 1000, 12345, (1 << 31) - 1, 1 << 31, (1 << 34) + 5])
def test_each_iteration_is_run_once(extent: int) -> None:
    loop = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    code = library(extent)
    for threads in (1, 2, 3, 5):
        scratch = aligned_bytes(PAGE * threads, PAGE)
        scratch[:] = 255
        context = Context(thread_runtime().address, threads, address_of(scratch), PAGE)
        for _ in range(50):
            sums = (ctypes.c_uint64 * 3)()
            loop(code.addresses["loop"])(ctypes.addressof(context), ctypes.addressof(sums), None)
            assert sums[0] == extent
            assert sums[1] == extent * extent & MASK
            assert min(extent, threads) <= sums[2] <= extent
