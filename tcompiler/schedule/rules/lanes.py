"""Which output axis the lanes of a contraction run along: the one contiguous in memory, or another that fills vectors.

49 pixels fill six vectors and leave a lane over that costs as much as a vector; 512 filters beside them fill 64. With
lanes along an axis in which the output is not contiguous, what a tile wrote is stored element by element, and an
operand that is not a constant is laid out first: both are counted here against what full vectors save.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var
from tcompiler.schedule.rules.packing import packable, rows_apart
from tcompiler.schedule.rules.plan import Plan, make_plan
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target
from tcompiler.target.tile import near_bytes

MARGIN = 0.95
"""What another axis must not exceed of the cycles along the contiguous one."""
COPY = 0.7
"""Cycles for an element that is copied into a panel, runs of it side by side."""
TRANSPOSE = 1.5
"""Cycles for an element that is transposed into a panel."""
SCATTER = 2.5
"""Cycles for an element of a vector that is stored by itself."""
TURN = 0.5
"""Cycles for an element of vectors that are interleaved and then stored side by side."""


def choose_plan(sch: Schedule, block: str, target: Target, constants: Collection[str]) -> Plan | None:
    """Plans a reduction's nest, one of its own, along the axis of lanes that takes the fewest cycles.

    Args:
        sch: The schedule.
        block: A block with an Update.
        target: The machine.
        constants: Operands that are laid out for the tile once, whatever it is.

    Returns:
        The plan; None where no axis fits.
    """
    first = make_plan(sch, block, target, constants=constants)
    if first is None or not _shares(first) or len(first.shape.operands) != 2:
        return first
    element = buffer_table(sch.function)[first.shape.target.buffer].dtype.bytes
    best, cycles = first, MARGIN * _cycles(first, target, constants, element)
    extents = first.shape.extents
    least = min(target.vector_lanes(element * 8), extents[first.lane])
    for v in first.shape.spatial:
        if v is first.lane or extents[v] <= least or not first.shape.target.strides.get(v):
            continue
        other = make_plan(sch, block, target, constants=constants, lane=v)
        if other is None or not _shares(other) or not _readable(other):
            continue
        found = _cycles(other, target, constants, element)
        if found < cycles:
            best, cycles = other, found
    return best


def _shares(plan: Plan) -> bool:
    """Whether rows share the vectors of lanes."""
    return plan.row is not None and not plan.shared.moves(plan.row)


def _readable(plan: Plan) -> bool:
    """Whether what lanes read lies along them, or can be laid out so."""
    moved = [o for o in plan.shape.operands if o.moves(plan.lane)]
    return len(moved) == 1 and (moved[0].strides.get(plan.lane) == 1 or packable(moved[0]))


def _cycles(plan: Plan, target: Target, constants: Collection[str], element: int) -> float:
    """Cycles of all tiles, and of laying out what they read and storing what they wrote."""
    shape = plan.shape
    axes = {plan.lane, plan.row, plan.line}
    times = prod(e for v, e in shape.extents.items() if v not in axes)
    tile = plan.tile if plan.flat is None or plan.tile.cost <= plan.flat.cost else plan.flat
    total = tile.cost * times
    for o in shape.operands:
        if not o.moves(plan.lane) or o.buffer in constants or not packable(o):
            continue
        total += _elements(shape.extents, o.strides) * (COPY if o.strides.get(plan.lane) == 1 else TRANSPOSE)
    rows = rows_apart(plan, target, constants)
    if rows is not None:
        total += _elements(shape.extents, rows.strides) * COPY
    if shape.target.strides.get(plan.lane) != 1:
        # sums of a part are read again, too
        parts = -(-plan.panel(element) // near_bytes(target))
        each = SCATTER if plan.turn is None else TURN
        total += _elements(shape.extents, shape.target.strides) * each * (2 * parts - 1)
    return total


def _elements(extents: dict[Var, int], strides: dict[Var, int | None]) -> int:
    return prod(e for v, e in extents.items() if strides.get(v, 0) != 0)
