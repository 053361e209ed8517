"""Which output axis the lanes of a contraction run along: the one contiguous in memory, or another that fills vectors.

49 pixels fill six vectors and leave a lane over that costs as much as a vector; 512 filters beside them fill 64. With
lanes along an axis in which the output is not contiguous, what a tile wrote is transposed in registers, or stored
element by element, and an operand that is not a constant is laid out first: all that is counted here against what full
vectors save. The columns behind the last full vector may be left to a nest of their own: dot products along the
reduction, lanes along places, or tiles with lanes along another axis than the columns before them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import inf, prod

from tcompiler.backends.llvm.linear import linear
from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.schedule.rules.accesses import Operand, shape_of
from tcompiler.schedule.rules.last_columns import Last, last_columns
from tcompiler.schedule.rules.last_places import streamed_cycles
from tcompiler.schedule.rules.packing import asked_ahead, lost, packable, rows_apart, stays_near
from tcompiler.schedule.rules.plan import Plan, make_plan
from tcompiler.schedule.rules.row_blocks import crowded
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import LINE_BYTES, Target
from tcompiler.target.tile import SCATTER, Registers, Tile, cache_ways, far_bytes, near_bytes, room

MARGIN = 0.955
"""What another axis must not exceed of the cycles along the contiguous one."""
CUT = 0.97
"""What two nests must not exceed of the cycles of one."""
COPY = 5.6
"""Cycles for a vector of elements that are copied into a panel, runs of them side by side."""
TRANSPOSE = 12.0
"""Cycles for a vector of elements that are transposed into a panel."""
ACROSS = 5.0
"""Cycles for a vector of elements that are transposed in registers and then stored, rows side by side."""
TURN = 4.0
"""Cycles for a vector of elements that are interleaved and then stored side by side."""
CROWDED = 1.03
"""How much longer a tile takes whose panels do not stay in the level 2 cache beside what is read with them."""
FAR = 3.0
"""Cycles for an element of rows from memory, if each step of the reduction reads another line: nothing foresees it."""
LOST = 2.0
"""The same from the last cache, where each tile has its lines come again, for the part of them that it reads."""


def choose_plan(sch: Schedule, block: str, target: Target, constants: Collection[str], cut: bool = True) -> Plan | None:
    """Plans a reduction's nest, one of its own, along the axis of lanes that takes the fewest cycles.

    Args:
        sch: The schedule.
        block: A block with an Update.
        target: The machine.
        constants: Operands that are laid out for the tile once, whatever it is.
        cut: Whether the plan may leave last columns to another nest.

    Returns:
        The plan; None where no axis fits.
    """
    first = _first(sch, block, target, constants)
    if first is None or not _shares(first) or len(first.shape.operands) != 2:
        return first
    element = buffer_table(sch.function)[first.shape.target.buffer].dtype.bytes
    width, extents = target.vector_lanes(element * 8), first.shape.extents
    best, cycles = _lighter(sch, block, target, constants, first, element)
    plans, ahead = [first], cycles * MARGIN
    registers = Registers.of(target, width, near_bytes(target), near_bytes(target))
    for v in first.shape.spatial:
        other = _turned(sch, block, target, constants, v) if v is not first.lane else None
        if other is None:
            continue
        plans.append(other)
        other, found = _lighter(sch, block, target, constants, other, element)
        if found < ahead and (extents[v] >= width or extents[v] > extents[first.lane]):
            best, cycles, ahead = other, found, found
    ahead = cycles * CUT
    for plan in plans if cut else ():
        columns = extents[plan.lane] % width
        if not columns or extents[plan.lane] < width:
            continue
        whole = {plan.lane: extents[plan.lane] - columns}
        other = make_plan(sch, block, target, constants=constants, lane=plan.lane, extents=whole)
        if other is None or not _shares(other):
            continue
        other, found = _lighter(sch, block, target, constants, other, element)
        lasts = [last_columns(plan, element, target, constants)]
        for v in (q.lane for q in plans if q is not plan):
            last = _turned(sch, block, target, constants, v, {plan.lane: columns})
            if last is not None:
                tiles, each = _lighter(sch, block, target, constants, last, element)
                each += sum(streamed_cycles(tiles.shape, o, registers) for o in tiles.shape.operands)
                lasts.append(Last(columns, each, "tiles"))
        for n in lasts:
            if n is not None and found + n.cycles < ahead:
                best, ahead = replace(other, left=columns, rest=n.kind), found + n.cycles
                cycles = ahead
    return replace(best, cycles=cycles)


def choose_rows(sch: Schedule, block: str, target: Target, constants: Collection[str]) -> Plan | None:
    """Plans as `choose_plan` does, with rows along the reduction if last columns are summed along it then, and sooner.

    Lines of an image lie one beside the other where rows are copied: lanes run along these, or along columns.

    Args:
        sch: The schedule, in which rows may get another layout.
        block: A block with an Update.
        target: The machine.
        constants: As for `choose_plan`.
    """
    plan = choose_plan(sch, block, target, constants)
    if plan is None or plan.cycles == inf:
        return plan
    shape, buffers = plan.shape, buffer_table(sch.function)
    lane, width = shape.innermost(), target.vector_lanes(buffers[shape.target.buffer].dtype.bytes * 8)
    rows = [o for o in shape.operands if lane is not None and not o.moves(lane)]
    if lane is None or len(rows) != 1 or rows[0].buffer in sch.function.inputs:
        return plan
    columns = sum(i.var is lane and (as_int(i.var.extent) or 0) for i in find_block(sch.function, block).iters)
    steps = [set(linear(i, {}).terms) for i in rows[0].indices]
    over = {v for v in shape.extents if v in shape.reduce or any(o.moves(lane) and o.moves(v) for o in shape.operands)}
    long = {v for v in shape.reduce if shape.extents[v] >= width}
    along = [k for k, at in enumerate(steps) if at & long and at <= over]
    if columns <= width or not columns % width or len(along) != 1 or along[0] == len(steps) - 1:
        return plan
    names = [f"d{k}" for k in range(len(steps))]
    order = [*(n for k, n in enumerate(names) if k != along[0]), names[along[0]]]
    mark = sch.mark()
    sch.transform_layout(rows[0].buffer, f"lambda {', '.join(names)}: ({', '.join(order)})", False)
    other = choose_plan(sch, block, target, constants)
    moved = prod(as_int(e) or 0 for e in buffers[rows[0].buffer].shape) * TURN / width
    if other is not None and other.left and other.rest == "dots" and other.cycles + moved < plan.cycles:
        return other
    sch.rewind(mark)
    return plan


def _first(sch: Schedule, block: str, target: Target, constants: Collection[str]) -> Plan | None:
    """A plan along the axis that the output is contiguous in, or along any where it is in none."""
    shape = shape_of(sch.function, find_block(sch.function, block))
    if shape is None or shape.innermost() is not None:
        return make_plan(sch, block, target, constants=constants)
    plans = (_turned(sch, block, target, constants, v) for v in shape.spatial)
    return next((p for p in plans if p is not None), None)


def _turned(
    sch: Schedule,
    block: str,
    target: Target,
    constants: Collection[str],
    lane: Var,
    extents: Mapping[Var, int] | None = None,
) -> Plan | None:
    """A plan along an axis that the output need not be contiguous in; None where none fits."""
    shape = shape_of(sch.function, find_block(sch.function, block))
    if shape is None or shape.extents[lane] == 1 or not shape.target.strides.get(lane):
        return None
    plan = make_plan(sch, block, target, constants=constants, lane=lane, extents=extents)
    return plan if plan is not None and _shares(plan) and _readable(plan) else None


def plan_inside(sch: Schedule, block: str, target: Target) -> Plan | None:
    """Plans a contraction by the loops that are its own, inside loops that it shares with others.

    Args:
        sch: The schedule.
        block: A block with an Update, whose operands are laid out for many turns of the loops around it.
        target: The machine.

    Returns:
        The plan, which may leave last columns to dot products; None where it does not fit.
    """
    plan = make_plan(sch, block, target, inside=True)
    if plan is None:
        return None
    element = buffer_table(sch.function)[plan.shape.target.buffer].dtype.bytes
    laid_out = [o.buffer for o in plan.shape.operands]
    # sums that go on from block to block of columns cannot be factored
    at_once = find_block(sch.function, block).init is not None
    last = last_columns(plan, element, target, laid_out, inside=True) if at_once else None
    if last is None:
        return plan
    whole = {plan.lane: plan.shape.extents[plan.lane] - last.columns}
    other = make_plan(sch, block, target, inside=True, extents=whole)
    if other is None:
        return plan
    other = replace(other, left=last.columns)
    cycles = _cycles(other, target, laid_out, element) + last.cycles
    return other if cycles < _cycles(plan, target, laid_out, element) * MARGIN else plan


def _lighter(
    sch: Schedule, block: str, target: Target, constants: Collection[str], plan: Plan, element: int
) -> tuple[Plan, float]:
    """A plan, or the same with the tile that multiply-adds alone decide on, and its cycles.

    Loads hide behind the multiply-adds of a wide core, so that the latter is better if what the lanes read is laid out
    once; and narrower, so that an operand of the rows that has to be copied for more panels makes it worse again.
    """
    cycles = _cycles(plan, target, constants, element)
    if plan.shared.buffer not in constants:
        return plan, cycles
    other = make_plan(sch, block, target, constants=constants, lane=plan.lane, loaded=False, extents=plan.shape.extents)
    assert other is not None
    found = _cycles(other, target, constants, element)
    if crowded(plan, element, target) and not crowded(other, element, target):
        cycles *= CROWDED
    return (other, found) if found < cycles else (plan, cycles)


def _shares(plan: Plan) -> bool:
    """Whether rows share the vectors of lanes."""
    return plan.row is not None and not plan.shared.moves(plan.row)


def _readable(plan: Plan) -> bool:
    """Whether what lanes read lies along them, or can be laid out so."""
    moved = [o for o in plan.shape.operands if o.moves(plan.lane)]
    return len(moved) == 1 and (moved[0].strides.get(plan.lane) == 1 or packable(moved[0]))


def _cycles(plan: Plan, target: Target, constants: Collection[str], element: int) -> float:
    """Cycles of all tiles, and of laying out what they read and storing what they wrote."""
    shape, width = plan.shape, target.vector_lanes(element * 8)
    axes = {plan.lane, plan.row, plan.line}
    times = prod(e for v, e in shape.extents.items() if v not in axes)
    tile = plan.tile if plan.flat is None or plan.tile.cost <= plan.flat.cost else plan.flat
    total = tile.cost * times
    for o in shape.operands:
        if not o.moves(plan.lane) or o.buffer in constants or not packable(o):
            continue
        if plan.once or stays_near(plan, o, element, target) or asked_ahead(plan, o, element, target):
            continue
        each = COPY if o.strides.get(plan.lane) == 1 else TRANSPOSE
        total += _elements(shape.extents, o.strides) * each / width
    rows = rows_apart(plan, target, constants)
    if rows is not None:
        total += _elements(shape.extents, rows.strides) * COPY / width
    else:
        total += sum(_scattered(plan, o, target, element) for o in shape.operands if o.buffer not in constants)
    if shape.target.strides.get(plan.lane) != 1:
        # sums of a part are read again, too
        parts = -(-plan.panel(element) // near_bytes(target))
        total += (
            _elements(shape.extents, shape.target.strides) * _storing(plan, tile, element, target) * (2 * parts - 1)
        )
    return total


def _storing(plan: Plan, tile: Tile, element: int, target: Target) -> float:
    """Cycles for an element of a tile that is stored in another order than that of its lanes."""
    width = target.vector_lanes(element * 8)
    if plan.turn is not None:
        return TURN / width
    strides = plan.shape.target.strides
    beside = not tile.flat and tile.rows > 1 and plan.row is not None and strides.get(plan.row) == 1
    apart = (strides.get(plan.lane) or 0) * element
    return ACROSS / width if beside and tile.lanes <= room(apart, cache_ways(target)) else SCATTER


def _scattered(plan: Plan, operand: Operand, target: Target, element: int) -> float:
    """Cycles in which a row operand that lies across the steps of the reduction comes; 0 where it is none, or near."""
    shape = plan.shape
    steps = [element * abs(s) for v in shape.reduce if shape.extents[v] > 1 and (s := operand.strides.get(v))]
    size = _elements(shape.extents, operand.strides)
    if plan.row is None or operand.strides.get(plan.row) != 1 or min(steps, default=0) < LINE_BYTES:
        return 0.0
    if size * element > far_bytes(target):
        return FAR * size
    return LOST * size if lost(shape, operand, element, target) else 0.0


def _elements(extents: dict[Var, int], strides: dict[Var, int | None]) -> int:
    return prod(e for v, e in extents.items() if strides.get(v, 0) != 0)
