"""What a register tile does with operands in the level 1 cache: the ceiling of kernels that load what they multiply.

The peak of the multiply-add units is reached without a load. A tile loads eight vectors or elements for every twelve
multiply-adds (on 16 registers), so it also needs the load ports, the front end and the level 1 cache. Where another
machine runs on the other thread of the core, it takes its part of those, not of the multiply-adds: the peak stays
where it was, and every kernel's ceiling falls below it.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from functools import cache, partial

import numpy as np

from tcompiler.errors import UserError
from tcompiler.target._native import NativeFunction, aligned_ones, check_threads, passes_ir, wall_seconds
from tcompiler.target.named import host
from tcompiler.target.peak import FLOATS
from tcompiler.target.target import Target

_VECTORS = 2
_STEPS = 8
"""Steps of the reduction that are written out in the loop."""
_TURN_S = 1e-3


def _tile_ir(target: Target, dtype: str) -> tuple[str, int, int]:
    """Passes over two panels, as the inner loop of a matmul makes them; the text, the rows, and a step's flops."""
    element, bits = FLOATS[dtype]
    lanes = target.vector_lanes(bits)
    kind = f"<{lanes} x {element}>"
    # beside the vectors of one step: an element, and the products where they are not added at once
    spare = 1 if target.fma else 3
    rows = (target.vector_registers - spare - _VECTORS) // _VECTORS
    suffix = f"v{lanes}f{bits}"
    tile = [(i, j) for i in range(rows) for j in range(_VECTORS)]
    steps: list[str] = []
    for s in range(_STEPS):
        for j in range(_VECTORS):
            steps.append(f"  %bp{s}.{j} = getelementptr {kind}, ptr %b.at, i64 {s * _VECTORS + j}")
            steps.append(f"  %b{s}.{j} = load {kind}, ptr %bp{s}.{j}, align {bits // 8 * lanes}")
        for i in range(rows):
            steps.append(f"  %ap{s}.{i} = getelementptr {element}, ptr %a.at, i64 {s * rows + i}")
            steps.append(f"  %as{s}.{i} = load {element}, ptr %ap{s}.{i}, align {bits // 8}")
            steps.append(f"  %ai{s}.{i} = insertelement {kind} poison, {element} %as{s}.{i}, i64 0")
            steps.append(
                f"  %a{s}.{i} = shufflevector {kind} %ai{s}.{i}, {kind} poison, <{lanes} x i32> zeroinitializer"
            )
            for j in range(_VECTORS):
                x, y, c = f"%a{s}.{i}", f"%b{s}.{j}", f"%c{s}.{i}.{j}"
                new = f"%c{s + 1}.{i}.{j}"
                if target.fma:
                    steps.append(f"  {new} = call {kind} @llvm.fma.{suffix}({kind} {x}, {kind} {y}, {kind} {c})")
                else:
                    steps.append(f"  %p{s}.{i}.{j} = fmul {kind} {x}, {y}")
                    steps.append(f"  {new} = fadd {kind} {c}, %p{s}.{i}.{j}")
    inner = [f"  %c0.{i}.{j} = phi {kind} [ zeroinitializer, %pass ], [ %c{_STEPS}.{i}.{j}, %loop ]" for i, j in tile]
    stores = []
    for k, (i, j) in enumerate(tile):
        stores.append(f"  %r{i}.{j} = getelementptr {kind}, ptr %c, i64 {k}")
        stores.append(f"  store {kind} %c{_STEPS}.{i}.{j}, ptr %r{i}.{j}, align {bits // 8 * lanes}")
    at = [
        f"  %a.first = mul i64 %i, {rows}",
        f"  %a.at = getelementptr {element}, ptr %a, i64 %a.first",
        f"  %b.first = mul i64 %i, {_VECTORS}",
        f"  %b.at = getelementptr {kind}, ptr %b, i64 %b.first",
    ]
    loop = passes_ir("tile", _STEPS, inner=inner, body=[*at, *steps], stored=stores)
    text = f"declare {kind} @llvm.fma.{suffix}({kind}, {kind}, {kind})\n{loop}"
    return text, rows, 2 * rows * _VECTORS * lanes


@cache
def _tile_loop(target: Target, dtype: str) -> tuple[NativeFunction, int, int]:
    text, rows, flops = _tile_ir(target, dtype)
    types = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 2
    return NativeFunction(target, text, "tile", types), rows, flops


def tile_peak(dtype: str = "f32", threads: int = 1, seconds: float = 0.2) -> float:
    """What a register tile of a matmul does in the median, all it reads being in the level 1 cache.

    Args:
        dtype: "f32" or "f64".
        threads: How many threads compute at once.
        seconds: How long to measure; the median of turns of about a millisecond counts, as it does for a kernel.

    Returns:
        GFLOP/s over all threads, a multiply-add counted as two.

    Raises:
        UserError: Another dtype, or fewer than one thread.
    """
    if dtype not in FLOATS:
        raise UserError(f"the peak of a tile of {dtype!r} cannot be measured; it can for {', '.join(FLOATS)}")
    check_threads(threads)
    target = host()
    loop, rows, flops = _tile_loop(target, dtype)
    width = FLOATS[dtype][1] // 8
    number = np.float32 if dtype == "f32" else np.float64
    lanes = target.vector_bits // 8 // width
    step = rows + _VECTORS * lanes
    depth = target.l1_bytes * 2 // 3 // (step * width) // _STEPS * _STEPS
    panels = [[aligned_ones(depth * n, number) for n in (rows, _VECTORS * lanes)] for _ in range(threads)]
    places = [aligned_ones(rows * _VECTORS * lanes, number) for _ in range(threads)]

    def turn(thread: int, passes: int) -> float:
        (a, b), c = panels[thread], places[thread]
        start = time.perf_counter()
        loop(a.ctypes.data, b.ctypes.data, c.ctypes.data, depth, passes)
        return time.perf_counter() - start

    passes = 1
    while (spent := turn(0, passes)) < _TURN_S:
        passes *= 4
    passes = max(1, round(passes * _TURN_S / spent))
    times: list[list[float]] = [[] for _ in range(threads)]

    def turns(thread: int) -> None:
        # every thread by its own clock: one that starts late makes no turn of another longer
        end = time.perf_counter() + seconds
        while not times[thread] or time.perf_counter() < end:
            times[thread].append(turn(thread, passes))

    wall_seconds([partial(turns, thread) for thread in range(threads)])
    return sum(flops * depth * passes / statistics.median(mine) for mine in times) / 1e9
