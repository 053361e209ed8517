"""Measured peaks of this machine: multiply-adds per second, bytes per second from each level of the memory.

`python -m tcompiler.target.peak --json` measures in a process of its own, away from other libraries' thread pools.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np

from tcompiler.errors import UserError
from tcompiler.target._native import NativeFunction, aligned_ones, best_seconds, check_threads, passes_ir
from tcompiler.target.named import host
from tcompiler.target.target import MIB, Target

Traffic = Literal["read", "copy", "triad"]
LEVELS = ("L1", "L2", "L3", "DRAM")
DOTS = ("i8", "i7", "bf16")
"""What dot products are measured of."""
FLOATS = {"f32": ("float", 32), "f64": ("double", 64)}
"""LLVM's names of the element types that have a peak, and their bits."""
_ARRAYS: dict[Traffic, int] = {"read": 1, "copy": 2, "triad": 3}
_UNROLL = 8


def _fma_ir(target: Target, dtype: str) -> tuple[str, int]:
    """A loop of independent multiply-adds over all but a few registers; its text and its flops in an iteration."""
    element, bits = FLOATS[dtype]
    lanes = target.vector_lanes(bits)
    kind = f"<{lanes} x {element}>"
    # Latency times throughput is 8 to 10 on every core of the last ten years.
    accumulators, rounds = target.vector_registers - 4, 4
    suffix = f"v{lanes}f{bits}"
    phis, steps, last = [], [], [f"%a{k}.0" for k in range(accumulators)]
    for k in range(accumulators):
        phis.append(f"  %a{k}.0 = phi {kind} [ splat ({element} {k + 1}.0), %entry ], [ %a{k}.{rounds}, %loop ]")
    for r in range(rounds):
        for k in range(accumulators):
            new = f"%a{k}.{r + 1}"
            # x → x/2 + 1 tends to 2: no denormals, no infinities.
            if target.fma:
                steps.append(f"  {new} = call {kind} @llvm.fma.{suffix}({kind} {last[k]}, {kind} %half, {kind} %one)")
            else:
                steps.append(f"  %p{new[1:]} = fmul {kind} {last[k]}, %half")
                steps.append(f"  {new} = fadd {kind} %p{new[1:]}, %one")
            last[k] = new
    sums, total = [], last[0]
    for k in range(1, accumulators):
        sums.append(f"  %s{k} = fadd {kind} {total}, {last[k]}")
        total = f"%s{k}"
    text = "\n".join(
        [
            f"declare {kind} @llvm.fma.{suffix}({kind}, {kind}, {kind})",
            "define void @peak(ptr %out, i64 %n) {",
            "entry:",
            f"  %half = load {kind}, ptr %out, align 64",
            f"  %place = getelementptr {kind}, ptr %out, i64 1",
            f"  %one = load {kind}, ptr %place, align 64",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *phis,
            *steps,
            "  %next = add i64 %i, 1",
            "  %more = icmp slt i64 %next, %n",
            "  br i1 %more, label %loop, label %end",
            "end:",
            *sums,
            f"  %result = getelementptr {kind}, ptr %out, i64 2",
            f"  store {kind} {total}, ptr %result, align 64",
            "  ret void",
            "}",
        ]
    )
    return text, 2 * lanes * accumulators * rounds


@dataclass(frozen=True, slots=True)
class _Dot:
    """An instruction that sums products of narrow numbers into 32-bit lanes.

    Attributes:
        function: Its name in LLVM; it takes the accumulator first, or there is an addition behind it.
        lane: LLVM's type of a lane of the result.
        factor: LLVM's type of a narrow number.
        products: How many products a lane sums.
        adds: Whether it accumulates by itself.
        pairs: What sums products by twos in 16 bits before the function sums those by twos; "" if nothing does.
    """

    function: str
    lane: str
    factor: str
    products: int
    adds: bool = True
    pairs: str = ""


def _dot_of(target: Target, dtype: str) -> tuple[_Dot, int] | None:
    """The quickest exact dot product of bytes or of bf16 numbers, and its vectors' bits; None where there is none."""
    bits = target.vector_bits
    if dtype == "bf16":
        wide = _Dot(f"llvm.x86.avx512bf16.dpbf16ps.{bits}", "float", "bfloat", 2)
        return (wide, bits) if target.has("avx512bf16") else None
    if target.vnni:
        return _Dot(f"llvm.x86.avx512.vpdpbusd.{bits}", "i32", "i8", 4), bits
    for feature, width, name, pairs in (
        ("avx512bw", 512, "avx512.pmaddw.d.512", "avx512.pmaddubs.w.512"),
        ("avx2", 256, "avx2.pmadd.wd", "avx2.pmadd.ub.sw"),
        ("ssse3", 128, "sse2.pmadd.wd", "ssse3.pmadd.ub.sw.128"),
        ("sse2", 128, "sse2.pmadd.wd", ""),
    ):
        if target.has(feature) and bits >= width:
            if dtype == "i7" and pairs:
                return _Dot(f"llvm.x86.{name}", "i32", "i8", 4, False, f"llvm.x86.{pairs}"), width
            return _Dot(f"llvm.x86.{name}", "i32", "i16", 2, False), width
    return None


def _dot_ir(target: Target, dot: _Dot, bits: int) -> tuple[str, int]:
    """A loop of independent dot products, as many as leave registers for what they multiply; and its operations."""
    lanes = bits // 32
    kind = f"<{lanes} x {dot.lane}>"
    factors = f"<{lanes * dot.products} x {dot.factor}>"
    accumulators, rounds = target.vector_registers - 4, 4
    half = f"<{2 * lanes} x i16>"
    summed = half if dot.pairs else factors
    takes = f"{kind}, {factors}, {factors}" if dot.adds else f"{summed}, {summed}"
    phis, steps, last = [], [], [f"%a{k}.0" for k in range(accumulators)]
    for k in range(accumulators):
        phis.append(f"  %a{k}.0 = phi {kind} [ zeroinitializer, %entry ], [ %a{k}.{rounds}, %loop ]")
    for r in range(rounds):
        for k in range(accumulators):
            new = f"%a{k}.{r + 1}"
            # a factor of its own for every product: none can be computed once for several
            steps.append(f"  %x{new[2:]} = bitcast {kind} {last[k]} to {factors}")
            x, y = f"{factors} %x{new[2:]}", f"{factors} %v"
            if dot.adds:
                steps.append(f"  {new} = call {kind} @{dot.function}({kind} {last[k]}, {x}, {y})")
            else:
                if dot.pairs:
                    steps.append(f"  %h{new[1:]} = call {half} @{dot.pairs}({x}, {y})")
                    x, y = f"{half} %h{new[1:]}", f"{half} splat (i16 1)"
                steps.append(f"  %p{new[1:]} = call {kind} @{dot.function}({x}, {y})")
                steps.append(f"  {new} = add {kind} {last[k]}, %p{new[1:]}")
            last[k] = new
    add = "fadd" if dot.lane == "float" else "add"
    sums, total = [], last[0]
    for k in range(1, accumulators):
        sums.append(f"  %s{k} = {add} {kind} {total}, {last[k]}")
        total = f"%s{k}"
    text = "\n".join(
        [
            f"declare {kind} @{dot.function}({takes})",
            *([f"declare {half} @{dot.pairs}({factors}, {factors})"] if dot.pairs else []),
            "define void @peak(ptr %out, i64 %n) {",
            "entry:",
            f"  %v = load {factors}, ptr %out, align 64",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *phis,
            *steps,
            "  %next = add i64 %i, 1",
            "  %more = icmp slt i64 %next, %n",
            "  br i1 %more, label %loop, label %end",
            "end:",
            *sums,
            f"  %result = getelementptr {kind}, ptr %out, i64 2",
            f"  store {kind} {total}, ptr %result, align 64",
            "  ret void",
            "}",
        ]
    )
    return text, 2 * lanes * dot.products * accumulators * rounds


@cache
def _dot_loop(target: Target, dot: _Dot, bits: int) -> tuple[NativeFunction, int]:
    text, operations = _dot_ir(target, dot, bits)
    return NativeFunction(target, text, "peak", [ctypes.c_void_p, ctypes.c_int64]), operations


def dot_peak(dtype: str = "i8", threads: int = 1, seconds: float = 0.2) -> float:
    """What the machine multiplies and adds at best of narrow numbers, exactly, in accumulators of 32 bits.

    Bytes are multiplied by the widest of vpdpbusd and vpmaddwd that there is (the latter takes them as 16-bit numbers
    and is followed by an addition). Where one factor is within ±64, vpmaddubsw can sum two products in 16 bits
    before. bf16 numbers are multiplied by vdpbf16ps, or widened, by the multiply-add of f32.

    Args:
        dtype: "i8", "i7" (bytes by numbers within ±64) or "bf16".
        threads: How many threads compute at once.
        seconds: How long to measure.

    Returns:
        1e9 operations per second over all threads, a multiply-add counted as two.

    Raises:
        UserError: Another dtype, fewer than one thread, or a machine that multiplies no bytes in vectors.
    """
    if dtype not in DOTS:
        raise UserError(f"the dot-product peak of {dtype!r} cannot be measured; it can for {', '.join(DOTS)}")
    check_threads(threads)
    found = _dot_of(host(), dtype)
    if found is None:
        if dtype == "bf16":
            return fma_peak("f32", threads, seconds)
        raise UserError(f"{host().name} has no dot products of bytes")
    loop, operations = _dot_loop(host(), *found)
    places = [aligned_ones(3 * 16, np.float32) for _ in range(threads)]
    for place in places:
        place[:] = 0

    def bodies(repetitions: int) -> list[Callable[[], object]]:
        return [partial(loop, place.ctypes.data, 1000 * repetitions) for place in places]

    best, repetitions = best_seconds(bodies, seconds)
    return threads * operations * 1000 * repetitions / best / 1e9


@cache
def _fma_loop(target: Target, dtype: str) -> tuple[NativeFunction, int]:
    text, flops = _fma_ir(target, dtype)
    return NativeFunction(target, text, "peak", [ctypes.c_void_p, ctypes.c_int64]), flops


def fma_peak(dtype: str = "f32", threads: int = 1, seconds: float = 0.2) -> float:
    """What the multiply-add units do at best: the peak that kernels are compared with.

    Args:
        dtype: "f32" or "f64".
        threads: How many threads compute at once.
        seconds: How long to measure; the best of about sixteen rounds counts.

    Returns:
        GFLOP/s over all threads, a multiply-add counted as two.

    Raises:
        UserError: Another dtype, or fewer than one thread.
    """
    if dtype not in FLOATS:
        raise UserError(f"the multiply-add peak of {dtype!r} cannot be measured; it can for {', '.join(FLOATS)}")
    check_threads(threads)
    loop, flops = _fma_loop(host(), dtype)
    number = np.float32 if dtype == "f32" else np.float64
    lanes = host().vector_lanes(FLOATS[dtype][1])
    places = [aligned_ones(3 * lanes, number) for _ in range(threads)]
    for place in places:
        place[:lanes] = 0.5

    def bodies(repetitions: int) -> list[Callable[[], object]]:
        return [partial(loop, place.ctypes.data, 1000 * repetitions) for place in places]

    best, repetitions = best_seconds(bodies, seconds)
    return threads * flops * 1000 * repetitions / best / 1e9


@cache
def _empty(target: Target) -> NativeFunction:
    return NativeFunction(target, "define void @empty() {\n  ret void\n}", "empty", [])


def call_seconds(seconds: float = 0.1) -> float:
    """What the clock shows for a call from Python of a function that does nothing: no kernel is seen to take less.

    Args:
        seconds: How long to measure; the best of all calls counts.
    """
    function, clock = _empty(host()).entry, time.perf_counter
    best, end = float("inf"), clock() + seconds
    while (start := clock()) < end:
        function()
        best = min(best, clock() - start)
    return best


def _traffic_ir(target: Target, traffic: Traffic) -> str:
    """Passes over arrays of f32, eight vectors at a time."""
    lanes = target.vector_lanes(32)
    kind = f"<{lanes} x float>"
    lines: list[str] = []

    def address(array: str, k: int) -> str:
        lines.append(f"  %{array}{k}.at = getelementptr {kind}, ptr %{array}, i64 %i{k}")
        return f"ptr %{array}{k}.at, align 64"

    for k in range(_UNROLL):
        lines.append(f"  %i{k} = add i64 %i, {k}")
        lines.append(f"  %b{k} = load {kind}, {address('b', k)}")
        match traffic:
            case "read":
                lines.append(f"  %s{k}.new = fadd {kind} %s{k}, %b{k}")
            case "copy":
                lines.append(f"  store {kind} %b{k}, {address('a', k)}")
            case "triad":
                lines.append(f"  %c{k} = load {kind}, {address('c', k)}")
                lines.append(f"  %d{k} = fmul {kind} %c{k}, splat (float 3.0)")
                lines.append(f"  %t{k} = fadd {kind} %b{k}, %d{k}")
                lines.append(f"  store {kind} %t{k}, {address('a', k)}")
    sums = range(_UNROLL) if traffic == "read" else ()
    outer = [f"  %o{k} = phi {kind} [ zeroinitializer, %entry ], [ %s{k}.new, %pass.end ]" for k in sums]
    inner = [f"  %s{k} = phi {kind} [ %o{k}, %pass ], [ %s{k}.new, %loop ]" for k in sums]
    stores = [f"  store {kind} %s{k}.new, ptr %a, align 64" for k in sums]
    return passes_ir("traffic", _UNROLL, inner=inner, body=lines, outer=outer, end=stores)


@cache
def _traffic_loop(target: Target, traffic: Traffic) -> NativeFunction:
    types = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 2
    return NativeFunction(target, _traffic_ir(target, traffic), "traffic", types)


def level_bytes(target: Target, level: str, threads: int = 1) -> int:
    """A working set, per thread, that lies well inside a level of the memory and well outside the one before."""
    outer = max(target.l2_bytes, target.l3_bytes)
    sizes = {
        "L1": target.l1_bytes // 2,
        "L2": target.l2_bytes // 2,
        "L3": max(target.l3_bytes // 2 // threads, 2 * target.l2_bytes),
        "DRAM": max(4 * outer, 64 * MIB) // threads,
    }
    if level not in sizes:
        raise UserError(f"there is no level of memory {level!r}; there are {', '.join(LEVELS)}")
    return sizes[level]


def bandwidth(traffic: Traffic = "read", working_set: int = 64 * MIB, threads: int = 1, seconds: float = 0.1) -> float:
    """How fast arrays are read, copied, or combined as in STREAM's triad a = b + 3c (J. McCalpin 1995).

    Args:
        traffic: "read" (one array), "copy" (two) or "triad" (three).
        working_set: Bytes of all arrays of a thread together; see `level_bytes`.
        threads: How many threads, each with arrays of its own.
        seconds: How long to measure; the best of about sixteen rounds counts.

    Returns:
        GB/s over all threads (1e9 bytes), each array counted once, as STREAM does.

    Raises:
        UserError: Another kind of traffic, fewer than one thread, or a working set too small to measure.
    """
    if traffic not in _ARRAYS:
        raise UserError(f"there is no traffic {traffic!r}; there are {', '.join(_ARRAYS)}")
    check_threads(threads)
    target = host()
    vector = target.vector_bits // 8
    arrays = _ARRAYS[traffic]
    vectors = working_set // arrays // (vector * _UNROLL) * _UNROLL
    if vectors == 0:
        raise UserError(f"a working set of {working_set} bytes is too small; take {arrays * vector * _UNROLL} or more")
    loop = _traffic_loop(target, traffic)
    count = vectors * vector // 4
    sets = [[aligned_ones(count if k < arrays else 16, np.float32) for k in range(3)] for _ in range(threads)]
    # `read` writes one vector into a, and reads b: the long array goes second.
    pointers = [[s[1 - k if arrays == 1 and k < 2 else k].ctypes.data for k in range(3)] for s in sets]

    def bodies(repetitions: int) -> list[Callable[[], object]]:
        return [partial(loop, *p, vectors, repetitions) for p in pointers]

    best, repetitions = best_seconds(bodies, seconds)
    return threads * arrays * vectors * vector * repetitions / best / 1e9


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tcompiler.target.peak", description=main.__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--threads", type=int, default=1, help="how many threads (default 1)")
    parser.add_argument("--seconds", type=float, default=0.2, help="how long to measure each number")
    options = parser.parse_args()
    target = host()
    result = {
        "cpu": target.cpu,
        "threads": options.threads,
        "gflops": {d: fma_peak(d, options.threads, options.seconds) for d in FLOATS},
        "gops": {d: dot_peak(d, options.threads, options.seconds) for d in DOTS},
        "gbps": {
            traffic: {
                level: bandwidth(traffic, level_bytes(target, level, options.threads), options.threads, options.seconds)
                for level in LEVELS
            }
            for traffic in _ARRAYS
        },
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{target.cpu}, {options.threads} thread(s)")
    for dtype, value in result["gflops"].items():
        print(f"  {dtype}: {value:.1f} GFLOP/s")
    for dtype, value in result["gops"].items():
        print(f"  {dtype}: {value:.1f} Gop/s")
    for traffic, levels in result["gbps"].items():
        print(f"  {traffic}: " + ", ".join(f"{level} {value:.1f} GB/s" for level, value in levels.items()))


if __name__ == "__main__":
    main()
