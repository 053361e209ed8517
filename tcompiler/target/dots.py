"""Sums whose lanes run along the reduction: a tile of rows shares the vectors of a few columns, and folds its lanes."""

from __future__ import annotations

from tcompiler.target.tile import Registers, step_cycles

ROWS = (8, 4)
"""Rows of a tile: as many as registers allow, and of what is left."""
FOLD = 4.0
"""Cycles in which the lanes of a sum in a tile are added up, and the sum is stored."""


def tall(columns: int, vector_registers: int) -> int:
    """Rows of a tile, 0 if columns are too many.

    Args:
        columns: Columns.
        vector_registers: Vector registers of the machine.
    """
    return next((n for n in ROWS if fits(n, columns, vector_registers)), 0)


def fits(rows: int, columns: int, vector_registers: int) -> bool:
    """Whether registers hold the sums of a tile: every one takes a register, and so does each column's vector.

    Args:
        rows: Rows.
        columns: Columns.
        vector_registers: Vector registers of the machine.
    """
    return rows * columns + columns < vector_registers


def dot_cycles(results: int, columns: int, run: int, times: int, registers: Registers) -> float:
    """Cycles that sums of a few columns take.

    Args:
        results: Rows.
        columns: Columns, which registers hold.
        run: Products that lie one behind the other in memory.
        times: How often a sum has so many.
        registers: The machine.
    """
    rows = tall(columns, registers.count)
    step = step_cycles(rows, columns, True, 0, registers) / rows
    vectors = -(-run // registers.width)
    return results * (times * vectors * step + columns * FOLD)
