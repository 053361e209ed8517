"""Two ways to transpose a tile in registers, and which takes fewer shuffles."""

from __future__ import annotations

from tcompiler.target.target import Target

LANE_BYTES = 16
"""Bytes within which vectors are shuffled at full speed, on every machine that has vectors."""


def turns_vectors(target: Target, rows: int, element: int) -> bool:
    """Whether rows as long as a vector are best loaded whole and interleaved as often as their number has twos.

    The other way puts pieces of 16 bytes, of as many rows as fill a vector, side by side: a shuffle for each but the
    first, and then one for every time that two divides a piece's elements. Whole rows have to stay in registers until
    they are interleaved.

    Args:
        target: The machine.
        rows: Vectors that are transposed.
        element: Bytes of an element, each way.
    """
    lanes, unit = target.vector_lanes(element * 8), max(LANE_BYTES // element, 1)
    pieces = lanes // unit
    return (
        rows == lanes
        and 2 * rows <= target.vector_registers
        and (lanes - 1).bit_length() < pieces - 1 + (unit - 1).bit_length()
    )
