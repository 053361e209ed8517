"""Places buffers whose lifetimes are known into one arena.

Source: Y. Pisarchyk and J. Lee, *Efficient Memory Management for Deep Neural Net Inference*, 2020, section 5.2
(greedy by size): take the buffers from the largest to the smallest and put each into the smallest gap that is free for
its whole lifetime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tcompiler.errors import InternalError


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A buffer, and the steps of the program during which its contents matter.

    Attributes:
        name: Its name, unique in the plan.
        bytes: Its size; may be 0.
        first: The step that writes it.
        last: The last step that reads it, not before `first`; a buffer that is never read ends at `first`. Buffers
            that share a step never share memory, unless they are aliases.
        alias_of: The buffer in whose memory this one lies: what it is a view of, what it is written over in place, or
            the concatenation that it is a part of. Chains are allowed, cycles are not.
        alias_offset: Where in that buffer it begins, in bytes.
    """

    name: str
    bytes: int
    first: int
    last: int
    alias_of: str | None = None
    alias_offset: int = 0


@dataclass(frozen=True, slots=True)
class ArenaPlan:
    """Where the buffers lie.

    Attributes:
        offsets: Offset of each buffer from the start of the arena, in bytes.
        total: Size of the arena in bytes.
        lower_bound: The most bytes that are live in any one step: no plan is smaller.
    """

    offsets: dict[str, int]
    total: int
    lower_bound: int


def plan_arena(tensors: Sequence[Lifetime], alignment: int = 64) -> ArenaPlan:
    """Place buffers so that no two that are live in the same step overlap, in little memory.

    Buffers linked by `alias_of` are placed as one, live from the first step of any of them to the last step of any.
    The plan depends on the sequence only (equal sizes are placed in its order).

    Args:
        tensors: The buffers.
        alignment: Offsets are multiples of this many bytes (an alias' offset: that of its buffer, plus `alias_offset`).

    Returns:
        The plan.

    Raises:
        InternalError: A name occurs twice, an alias has no buffer or is its own, a lifetime ends before it begins, or
            a size or offset is negative.
    """
    root, shift = _resolve_aliases(tensors)
    group_of = {name: i for i, name in enumerate(dict.fromkeys(root.values()))}
    count = len(group_of)
    size = np.zeros(count, np.int64)
    first = np.full(count, np.iinfo(np.int64).max)
    last = np.full(count, np.iinfo(np.int64).min)
    for tensor in tensors:
        group = group_of[root[tensor.name]]
        size[group] = max(size[group], shift[tensor.name] + tensor.bytes)
        first[group] = min(first[group], tensor.first)
        last[group] = max(last[group], tensor.last)

    padded = -(-size // alignment) * alignment
    offset = _greedy_by_size(padded, first, last)
    return ArenaPlan(
        offsets={t.name: int(offset[group_of[root[t.name]]]) + shift[t.name] for t in tensors},
        total=int((offset + padded).max(initial=0)),
        lower_bound=_peak(size, first, last),
    )


def _resolve_aliases(tensors: Sequence[Lifetime]) -> tuple[dict[str, str], dict[str, int]]:
    """For each buffer, the buffer that it ultimately lies in, and where in it."""
    by_name: dict[str, Lifetime] = {}
    for tensor in tensors:
        if tensor.name in by_name:
            raise InternalError(f"buffer {tensor.name!r} is planned twice")
        if tensor.bytes < 0 or tensor.alias_offset < 0:
            raise InternalError(f"buffer {tensor.name!r} has a negative size or offset")
        if tensor.last < tensor.first:
            raise InternalError(f"buffer {tensor.name!r} is last read in step {tensor.last}, before it is written")
        by_name[tensor.name] = tensor

    root: dict[str, str] = {}
    shift: dict[str, int] = {}
    for tensor in tensors:
        path: list[Lifetime] = []
        at = tensor
        while at.name not in root and at.alias_of is not None:
            path.append(at)
            if at.alias_of not in by_name:
                raise InternalError(f"buffer {at.name!r} lies in {at.alias_of!r}, which is not planned")
            at = by_name[at.alias_of]
            if len(path) > len(by_name):
                raise InternalError(f"buffer {tensor.name!r} lies in itself, by way of its aliases")
        root.setdefault(at.name, at.name)
        shift.setdefault(at.name, 0)
        for link in reversed(path):
            assert link.alias_of is not None
            root[link.name] = root[link.alias_of]
            shift[link.name] = shift[link.alias_of] + link.alias_offset
    return root, shift


_Ints = np.ndarray[tuple[int], np.dtype[np.int64]]


def _greedy_by_size(size: _Ints, first: _Ints, last: _Ints) -> _Ints:
    offset = np.zeros(len(size), np.int64)
    # Arrays of what is placed, in the order of placing.
    order = np.argsort(-size, kind="stable")
    order = order[size[order] > 0]
    starts = np.zeros(len(order), np.int64)
    ends = np.zeros(len(order), np.int64)
    firsts, lasts = first[order], last[order]
    for placed, buffer in enumerate(order):
        live = (firsts[:placed] <= last[buffer]) & (lasts[:placed] >= first[buffer])
        taken = starts[:placed][live]
        by_start = np.argsort(taken)
        taken = taken[by_start]
        free_from = np.concatenate(([0], np.maximum.accumulate(ends[:placed][live][by_start])))
        gaps = taken - free_from[:-1]
        fitting = np.flatnonzero(gaps >= size[buffer])
        best = fitting[np.argmin(gaps[fitting])] if len(fitting) else -1
        offset[buffer] = starts[placed] = free_from[best]
        ends[placed] = starts[placed] + size[buffer]
    return offset


def _peak(size: _Ints, first: _Ints, last: _Ints) -> int:
    """The most bytes live in one step, by sweeping over the steps at which lifetimes begin and end."""
    steps = np.concatenate([first, last + 1])
    changes = np.concatenate([size, -size])
    # Ends before beginnings at the same step: a buffer is dead in step last + 1.
    order = np.lexsort((changes, steps))
    return int(np.cumsum(changes[order]).max(initial=0))
