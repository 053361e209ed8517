"""How many schedules are replayed a second: the traces of tiled matmuls, of twenty calls and more, not verified.

Example: python -m benchmarks.replay
"""

from __future__ import annotations

import argparse
import statistics
import time

from tcompiler.ir.loop.text import parse_function
from tcompiler.schedule import Schedule, Trace, replay


def tiled_matmul(m: int, n: int, k: int, rows: int = 6, columns: int = 16, debug: bool | None = None) -> Schedule:
    """A matmul in register tiles: B packed, accumulators in registers, tails peeled, rows in parallel.

    Args:
        m: Rows of A and C.
        n: Columns of B and C.
        k: Columns of A, rows of B.
        rows: Rows of a register tile.
        columns: Columns of a register tile, a multiple of the vector's lanes.
        debug: Verify after each step.
    """
    sch = Schedule(
        parse_function(f"""
@loop.function
def matmul(A: f32[{m}, {k}], B: f32[{k}, {n}], C: out(f32[{m}, {n}])):
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
"""),
        debug,
    )
    sch.cache_read("C", "B", "global")
    sch.transform_layout("B_cache", f"lambda k, j: (j // {columns}, k, j % {columns})")
    sch.split("B_copy_ax1", [None, columns])
    sch.vectorize("B_copy_ax1_1")
    sch.parallel("B_copy_ax0")
    sch.split("i", [None, rows])
    sch.split("j", [None, columns])
    sch.split("k", [None, 4])
    sch.reorder("i_0", "j_0", "k_0", "k_1", "i_1", "j_1")
    sch.stage_accumulate("C", "j_0", "register")
    for loop in ("j_1", "C_acc_init_ax1", "C_write_ax1"):
        sch.vectorize(loop)
    for loop in ("k_1", "i_1", "C_acc_init_ax0", "C_write_ax0"):
        sch.unroll(loop)
    sch.parallel("i_0")
    for loop in ("i_0", "j_0", "k_0"):
        if (m % rows, n % columns, k % 4)["ijk".index(loop[0])]:
            for piece in sch.peel(loop)[1:]:
                sch.elide(piece)
    return sch


def rate(trace: Trace, start: Schedule, seconds: float) -> float:
    """Replays a second."""
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        replay(start.start, trace, debug=False)
        count += 1
    return count / (time.perf_counter() - begin)


def main() -> None:
    """Print the rates of several rounds, for a matmul with a tail in its rows and for one with tails everywhere."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    options.add_argument("--seconds", type=float, default=1.0, help="length of a round (default 1)")
    chosen = options.parse_args()
    for m, n, k in ((1024, 1024, 1024), (1000, 1021, 997)):
        sch = tiled_matmul(m, n, k)
        rates = [rate(sch.trace, sch, chosen.seconds) for _ in range(chosen.rounds)]
        print(
            f"{m}x{n}x{k}: {len(sch.trace.steps)} calls, replayed {statistics.median(rates):.0f} times a second "
            f"(median; {min(rates):.0f} to {max(rates):.0f})"
        )


if __name__ == "__main__":
    main()
