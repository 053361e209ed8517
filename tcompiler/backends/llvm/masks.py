"""Masks whose lanes are known while code is written: LLVM literals that are decided here and not by the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache


def literal_mask(lanes: Iterable[bool]) -> str:
    """A mask as LLVM writes it."""
    return "<" + ", ".join(f"i1 {'true' if x else 'false'}" for x in lanes) + ">"


@lru_cache(maxsize=4096)
def known_lanes(ssa: str, lanes: int) -> tuple[bool, ...] | None:
    """The lanes of a mask, None where only the running code knows them.

    Args:
        ssa: A literal or a name; a scalar stands for all lanes.
        lanes: How many lanes there are.
    """
    text = ssa.removeprefix("splat (").removesuffix(")").removeprefix("i1 ")
    if text in ("true", "false"):
        return (text == "true",) * lanes
    if not ssa.startswith("<i1 "):
        return None
    return tuple(part.endswith("true") for part in ssa[1:-1].split(", "))


def runs(lanes: Sequence[bool]) -> list[tuple[int, int]]:
    """The lanes that are on, as pieces of a power of two of lanes side by side: first lane and length of each."""
    pieces: list[tuple[int, int]] = []
    k = 0
    while k < len(lanes):
        if not lanes[k]:
            k += 1
            continue
        length = 1
        while k + length < len(lanes) and lanes[k + length]:
            length += 1
        while length:
            piece = 1 << (length.bit_length() - 1)
            pieces.append((k, piece))
            k, length = k + piece, length - piece
    return pieces
