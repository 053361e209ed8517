"""What a choice of layouts costs, in cycles of a core, by the analytic model of the machine.

Only what differs between layouts is counted: multiply-adds by the tile that fits the axis of lanes, what is read
against its order, copies. All figures are of one thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, log2, prod

from tcompiler.ir.graph.grammar import TensorType
from tcompiler.target.dots import dot_cycles, tall
from tcompiler.target.model import Core, core
from tcompiler.target.target import Target
from tcompiler.target.tile import NEVER, SCATTER, WAY_BYTES, Registers, choose_tile, near_bytes
from tcompiler.transform.layouts.sums import Sums

Order = tuple[int, ...]
"""The axis at each position in memory, outermost first."""

PASSES = 3
"""Times that what a copy writes passes by: it is read, its new place is read before it is written, and goes back."""
STRAIN = 1.25
"""What copies between orders take over what the core's units and bandwidths allow: as measured, in all caches."""
AGAINST = 0.3
"""Cycles per element that is read in another order than what is made of it is written."""
SCATTERED = 4.0
"""The same where lanes find their elements apart in memory, one by one."""
WINDOW = 0.6
"""Cycles per vector of a reduction that shares nothing between its lanes: it is bound by what it reads."""
SLID = 1.04
"""What vectors cost that begin anywhere in a line, as those of data under a window that slides along the lanes."""
CROWDED = 1.08
"""What rows of data cost that lie apart and are more than stays close to the core, in lanes."""
AGAINST_ROWS = 1.2
"""The same in rows of a tile, which take a few elements of every line that they touch."""
AGAINST_CROWD = 1.8
"""The same where these lines are more than stays close."""
UNFIT = 6.0
"""What a contraction costs whose data do not lie along its lanes."""


def plain(rank: int) -> Order:
    """Row-major."""
    return tuple(range(rank))


def last_in(order: Order, axis: int) -> Order:
    """An order with one axis moved to the end."""
    return (*(a for a in order if a != axis), axis)


def same_places(one: Order, other: Order, dims: tuple[int, ...]) -> bool:
    """Whether two orders put every element in the same place: axes of one element may lie anywhere."""
    return [a for a in one if dims[a] != 1] == [a for a in other if dims[a] != 1]


@dataclass(frozen=True)
class Costs:
    """Costs on one machine.

    Attributes:
        target: The machine.
    """

    target: Target

    @cached_property
    def _core(self) -> Core:
        return core(self.target)

    @cached_property
    def _registers(self) -> Registers:
        t = self.target
        return Registers.of(t, t.vector_lanes(32), NEVER, near_bytes(t))

    def copy(self, type_: TensorType) -> float:
        """A kernel that brings a tensor into another order."""
        return self.turned(type_) + self._core.kernel_cycles

    def turned(self, type_: TensorType) -> float:
        """Bringing a tensor into another order in a kernel that computes from it element by element."""
        elements = prod(type_.dims())
        moved = PASSES * elements * type_.dtype.bytes
        level = next((n for n, size in self._core.capacities.items() if 2 * moved // PASSES <= size), "DRAM")
        width = self.target.vector_lanes(type_.dtype.bytes * 8)
        shuffles = elements * log2(width) / width  # a square of vectors is transposed in so many steps
        return STRAIN * (moved / self._core.bytes_per_cycle[level] + shuffles)

    def spread(self, type_: TensorType, order: Order) -> int:
        """Elements to put between the rows of a tensor that the rows of a tile will be read from.

        Rows a multiple of a way apart share one set of the level 1 cache. Alone a core keeps the lines of a tile's rows
        there, but not beside another thread of its own; and what has to come from beyond the level 2 cache is late.

        Args:
            type_: The tensor.
            order: Its axes, outermost first.

        Returns:
            A line of the cache, or 0 where rows are better left side by side.
        """
        dims = type_.dims()
        row = dims[order[-1]] * type_.dtype.bytes
        rows = prod(dims) // max(dims[order[-1]], 1)
        far = prod(dims) * type_.dtype.bytes > self.target.l2_bytes
        return self.target.line_bytes // type_.dtype.bytes if far and rows > 1 and row % WAY_BYTES == 0 else 0

    def against(self, type_: TensorType) -> float:
        """Reading a tensor in another order than what is made of it is written, in a kernel that does more."""
        return AGAINST * prod(type_.dims())

    def scattered(self, type_: TensorType) -> float:
        """Reading a tensor element by element."""
        return SCATTERED * prod(type_.dims())

    def windows(self, points: int, lanes: int, strided: bool) -> float:
        """A reduction by itself.

        Args:
            points: Elements that it reads, each as often as it is used.
            lanes: Extent of the axis along which its result is contiguous.
            strided: Whether it reads every other element along that axis, or fewer.
        """
        width = self.target.vector_lanes(32)
        return WINDOW * points * -(-lanes // width) / max(lanes, 1) * (2 if strided else 1)

    def by_columns(self, sums: Sums, against: bool) -> float:
        """A contraction whose lanes are its columns.

        Args:
            sums: The contraction.
            against: Whether its data have the axes of rows inside those that are summed over.
        """
        tile = choose_tile(sums.rows, sums.columns, sums.depth, self._registers, True)
        cost = tile.cost * sums.batches * sums.depth
        if against and not sums.copied and sums.depth > 1:
            return cost * (AGAINST_CROWD if self._crowds(sums) else AGAINST_ROWS)
        left = sums.columns % self._registers.width
        if left and sums.columns > left and sums.run >= self._registers.width:
            cost = min(cost, self._but_last(sums, left))
        if left and sums.columns > left and sums.copied and sums.slides and sums.walked:
            cost = min(cost, self._but_last_along_places(sums, left))
        return cost

    def _but_last(self, sums: Sums, left: int) -> float:
        """A contraction whose last columns are dot products of rows that lie along the reduction."""
        if not tall(left, self._registers.count):
            return inf
        tile = choose_tile(sums.rows, sums.columns - left, sums.depth, self._registers, True)
        dots = dot_cycles(sums.rows * sums.batches, left, sums.run, sums.depth // sums.run, self._registers)
        return tile.cost * sums.batches * sums.depth + dots

    def _but_last_along_places(self, sums: Sums, left: int) -> float:
        """A contraction of padded lines of an image whose last columns have lanes along the places of these."""
        tile = choose_tile(sums.rows, sums.columns - left, sums.depth, self._registers, True)
        last = choose_tile(left, sums.last, sums.depth, self._registers, True)
        stored = SCATTER * left * sums.rows * sums.batches
        return (tile.cost + SLID * last.cost * sums.lines) * sums.batches * sums.depth + stored

    def by_rows(self, sums: Sums, data: TensorType, in_order: bool) -> float:
        """A contraction whose lanes run along the last axis of a row-major result.

        Args:
            sums: The contraction.
            data: What is contracted.
            in_order: Whether the data are row-major.
        """
        tile = choose_tile(sums.columns, sums.last, sums.depth, self._registers, True)
        cost = tile.cost * sums.batches * sums.depth * sums.lines
        if not sums.walked:
            return cost * UNFIT
        if sums.slides:
            left = sums.last % self._registers.width
            if 0 < left < sums.last and sums.batches == 1:
                cost = min(cost, self._but_last_places(sums, left))
            cost *= SLID * (CROWDED if self._crowds(sums) else 1.0)
        return cost if in_order else cost + self.scattered(data) / 2

    def _but_last_places(self, sums: Sums, left: int) -> float:
        """A contraction without groups along the lines of a result whose last places have lanes along the columns."""
        tile = choose_tile(sums.columns, sums.last - left, sums.depth, self._registers, True)
        last = choose_tile(left * sums.lines, sums.columns, sums.depth, self._registers, True)
        pace, size = self._registers.pace, 4 * sums.columns * sums.depth
        streamed = size / (pace.near_bytes if size <= self._registers.near_bytes else pace.far_bytes)
        return sums.depth * (tile.cost * sums.lines + last.cost) + streamed

    def _crowds(self, sums: Sums) -> bool:
        """Whether a line of each row of data, and a panel of the constant, are more than stays close to the core."""
        return 2 * sums.depth * self.target.line_bytes >= self.target.l2_bytes // 2
