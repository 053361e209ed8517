"""Applies the blocking of rows that `blocking.py` chose, and puts what is computed ahead of them next to each block."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from tcompiler.ir.loop.analysis import find_block, touched
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.schedule.rules.accesses import Operand, moduli, shape_of
from tcompiler.schedule.rules.blocking import Blocking, Problem, RowAxis, choose_blocking
from tcompiler.schedule.rules.plan import Plan, chunked
from tcompiler.schedule.rules.threads import WORTH
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.model import pace
from tcompiler.target.target import Target
from tcompiler.target.tile import Tile, far_bytes, near_bytes

SUMS = 3
"""How often a part's sums go past the cache: out and in again, and their lines beside each other in few sets."""
CROWDED = 1.1
"""How much longer tiles of fewer rows take, as panels pass by more often, which do not stay in the level 2 cache."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Row loops around and inside the loop over panels.

    Attributes:
        around: Those that blocks of rows are made of, the block's own loop last.
        inside: The others; the last one of rows that run on from line to line is still to be cut into tiles.
        inner: The rows of a tile.
        cut: The loops among both that tiles or blocks made, and that may have a tail.
        by_block: Whether threads share the blocks rather than the panels.
        producer: A block that writes the row operand, which each block of rows has next to it; "" if there is none.
    """

    around: list[str]
    inside: list[str]
    inner: list[str]
    cut: list[str]
    by_block: bool
    producer: str


@dataclass(frozen=True, slots=True)
class _Choice:
    """A tile and the blocks of it, with what they cost and the producer that a block has next to it."""

    cost: float
    tile: Tile
    problem: Problem
    blocking: Blocking
    producer: str


def from_memory(plan: Plan, operand: Operand, element: int, target: Target) -> bool:
    """Whether an operand comes from beyond all caches whenever it passes by: a core's share of the last holds less.

    Args:
        plan: The plan.
        operand: The operand.
        element: Bytes of an element.
        target: The machine.
    """
    size = element * prod(e for v, e in plan.shape.extents.items() if operand.moves(v))
    return size > far_bytes(target)


def crowded(plan: Plan, element: int, target: Target) -> bool:
    """Whether a panel, the next one, and the rows that it meets in several tiles do not fit the level 2 cache.

    Args:
        plan: The plan.
        element: Bytes of an element.
        target: The machine.
    """
    extents = plan.shape.extents
    moved = (o.strides for o in plan.shape.operands if not o.moves(plan.lane))
    rows = sum(prod(e for v, e in extents.items() if strides.get(v, 0) != 0) for strides in moved)
    across = prod(extents[v] for v in (plan.row, plan.line) if v is not None)
    again = across > plan.tile.rows * plan.tile.lines
    return again and 2 * plan.panel(element) + rows * element > target.l2_bytes


def in_parts(
    sch: Schedule,
    plan: Plan,
    order: Sequence[Var],
    others: Sequence[Var],
    target: Target,
    threads: int,
    constants: Collection[str],
    rows: Operand | None,
) -> Plan:
    """Does a reduction in the parts that cost least: panels close to the core, against sums that go and come again.

    Args:
        sch: The schedule.
        plan: What was decided.
        order: The axes of the reduction, outermost first.
        others: Row axes beside those of the tile, outermost first.
        target: The machine.
        threads: Threads that the kernel may use.
        constants: Operands that are laid out once, in front.
        rows: The operand of the rows, where parts of it can be copied; without, parts are made only where a panel
            is more than stays close at all.
    """
    element = buffer_table(sch.function)[plan.shape.target.buffer].dtype.bytes
    near = near_bytes(target)
    # with fewer taps in a part, all rows stay beside its panel, and lines that a part has outside cost nothing
    limits = [near, near // 2] if plan.borders else [near]
    if rows is not None:
        limits += [target.l2_bytes // 4, target.l1_bytes * 2, target.l1_bytes * 3 // 4]
    plans = []
    for limit in limits:
        each = [replace(chunked(replace(plan, tile=t), order, element, limit), flat=None) for t in _tiles(plan)]
        alike = all(p.chunk == each[0].chunk for p in each)
        plans += [replace(plan, chunk=each[0].chunk)] if alike else each
    return min(plans, key=lambda p: _choose(sch, p, others, target, threads, constants, rows, plan.tile.cost).cost)


def block_rows(
    sch: Schedule,
    plan: Plan,
    others: Sequence[Var],
    loop_of: Mapping[Var, str],
    target: Target,
    threads: int,
    constants: Collection[str],
) -> tuple[Plan, Blocks]:
    """Makes tiles of rows, and blocks of tiles where that keeps what passes the level 2 cache small.

    Args:
        sch: The schedule.
        plan: What was decided; its row axis does not move the shared operand.
        others: Further axes that do not, outermost first.
        loop_of: The loops of the iter vars.
        target: The machine.
        threads: Threads that the kernel may use.
        constants: Operands that are laid out once, in front.

    Returns:
        The plan with the tile that was taken, and the loops; those of the row axes stand in no order yet.
    """
    best = _choose(sch, plan, others, target, threads, constants, None, plan.tile.cost)
    tile, problem, chosen = best.tile, best.problem, best.blocking
    plan = replace(plan, tile=tile)
    loops, inner, cut = [], [], []
    for axis in problem.rows:
        name = loop_of[axis.var]
        if axis.step > 1 and not tile.flat:
            name, within = sch.split(name, [None, axis.step])
            inner.append(within)
            cut.append(name)
        loops.append(name)
    around, inside = loops[: chosen.at], loops[chosen.at + 1 :]
    if chosen.size == 1:
        around.append(loops[chosen.at])
    elif chosen.size < problem.rows[chosen.at].extent:
        outer, within = sch.split(loops[chosen.at], [None, chosen.size])
        around.append(outer)
        inside.insert(0, within)
        cut = [outer, *(within if name == loops[chosen.at] else name for name in cut)]
    else:
        inside.insert(0, loops[chosen.at])
    if tile.flat:
        # columns, batches of the shared operand alone, and axes of one element may lie between the two
        taken = {axis.var for axis in problem.rows}
        between = [loop_of[v] for v in plan.shape.spatial if v not in taken and loop_of[v]]
        sch.reorder(*between, *around, *inside)
        inside[-2:] = sch.fuse(*inside[-2:])
    return plan, Blocks(around, inside, inner, cut, chosen.by_block, best.producer if around else "")


def _tiles(plan: Plan) -> list[Tile]:
    return [plan.tile] if plan.flat is None else [plan.tile, plan.flat]


def _choose(
    sch: Schedule,
    plan: Plan,
    others: Sequence[Var],
    target: Target,
    threads: int,
    constants: Collection[str],
    copied: Operand | None,
    cycles: float,
) -> _Choice:
    """The cheapest tile and blocks of a plan.

    Args:
        sch: The schedule.
        plan: The plan.
        others: Row axes beside those of the tile, outermost first.
        target: The machine.
        threads: Threads that the kernel may use.
        constants: Operands that are laid out once, in front.
        copied: The operand of the rows, where it would be copied if the reduction is done in parts.
        cycles: The cost of the tile that others are compared with.
    """
    choices = []
    for tile in _tiles(plan):
        lines = [(plan.line, tile.lines)] if plan.line is not None else []
        rows = [(v, 1) for v in others if v is not plan.line]
        rows += [(v, n) for v, n in (*lines, (plan.row, tile.rows)) if v is not None]
        producer, problem = _problem(sch, plan, tile, rows, target, threads, constants)
        if copied is not None and plan.chunks > 1:
            problem = replace(problem, copied=True)
        slowness = tile.cost / cycles
        if tile.rows * tile.lines < plan.rows and crowded(replace(plan, tile=tile), problem.element, target):
            slowness *= CROWDED
        cost, blocking = choose_blocking(replace(problem, slowness=slowness, fused=tile.flat))
        choices.append(_Choice(cost, tile, problem, blocking, producer))
    return min(choices, key=lambda c: c.cost)


def _problem(
    sch: Schedule,
    plan: Plan,
    tile: Tile,
    rows: Sequence[tuple[Var, int]],
    target: Target,
    threads: int,
    constants: Collection[str],
) -> tuple[str, Problem]:
    """What blocking depends on, and the block that computes the row operand ("" if there is none)."""
    shape = plan.shape
    streamed = tuple(o for o in shape.operands if any(o.moves(v) for v, _ in rows))
    buffers = buffer_table(sch.function)
    element = buffers[shape.target.buffer].dtype.bytes
    producer = _row_producer(sch, streamed, constants)
    width = target.vector_lanes(element * 8)
    return producer, Problem(
        extents={v: e for v, e in plan.extents.items() if not (plan.shared.moves(v) and v in shape.spatial)}
        | {plan.lane: shape.extents[plan.lane]},
        rows=tuple(RowAxis(v, n, -(-shape.extents[v] // n)) for v, n in rows),
        streamed=streamed,
        shapes={o.buffer: tuple(as_int(e) or 1 for e in buffers[o.buffer].shape) for o in streamed},
        element=element,
        columns=-(-shape.extents[plan.lane] // tile.lanes),
        panels=-(-shape.extents[plan.lane] // width) * width / tile.lanes,
        panel=tile.lanes * element * prod(plan.extents[v] for v in shape.reduce),
        copied=bool(producer),
        batches=prod(shape.extents[v] for v in shape.spatial if plan.shared.moves(v) and v is not plan.lane),
        cache=target.l2_bytes,
        width=width,
        pace=pace(target),
        threads=threads if shape.points() >= WORTH else 1,
        chunks=plan.chunks,
        written=SUMS * element * prod(shape.extents[v] for v in shape.spatial) if plan.chunks > 1 else 0,
        lane=plan.lane if shape.target.strides.get(plan.lane) == 1 else None,
        stretch=tile.lanes * element,
        depth=prod(shape.extents[v] for v in shape.reduce),
    )


def _row_producer(sch: Schedule, streamed: Sequence[Operand], constants: Collection[str]) -> str:
    """The elementwise block that writes the one row operand, for this reduction alone; "" if there is none.

    The copy of a constant is none, as it is made once; nor is one that reads by a quotient and a remainder, as it runs
    along memory only where it stands for itself.
    """
    if len(streamed) != 1 or streamed[0].buffer in {*sch.function.inputs, *sch.function.outputs, *constants}:
        return ""
    writers = [b for b in sch.blocks() if streamed[0].buffer in touched(find_block(sch.function, b)).writes]
    if (
        len(writers) != 1
        or find_block(sch.function, writers[0]).init is not None
        or len(sch.consumers(writers[0])) != 1
    ):
        return ""
    return "" if moduli(shape_of(sch.function, find_block(sch.function, writers[0]))) else writers[0]
