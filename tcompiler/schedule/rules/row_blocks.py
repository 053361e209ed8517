"""Applies the blocking of rows that `blocking.py` chose, and puts what is computed ahead of them next to each block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from tcompiler.ir.loop.analysis import find_block, touched
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.schedule.rules.accesses import Operand
from tcompiler.schedule.rules.attempt import attempt
from tcompiler.schedule.rules.blocking import Blocking, Problem, RowAxis, choose_blocking
from tcompiler.schedule.rules.elementwise import schedule_map
from tcompiler.schedule.rules.plan import Plan
from tcompiler.schedule.rules.threads import WORTH
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.model import pace
from tcompiler.target.target import Target
from tcompiler.target.tile import Tile


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


def block_rows(
    sch: Schedule, plan: Plan, others: Sequence[Var], loop_of: Mapping[Var, str], target: Target, threads: int
) -> tuple[Plan, Blocks]:
    """Makes tiles of rows, and blocks of tiles where that keeps what passes the level 2 cache small.

    Args:
        sch: The schedule.
        plan: What was decided; its row axis does not move the shared operand.
        others: Further axes that do not, outermost first.
        loop_of: The loops of the iter vars.
        target: The machine.
        threads: Threads that the kernel may use.

    Returns:
        The plan with the tile that was taken, and the loops; those of the row axes stand in no order yet.
    """
    tiles = [plan.tile] if plan.flat is None else [plan.tile, plan.flat]
    best: tuple[float, Tile, Problem, Blocking] | None = None
    producer = ""
    for tile in tiles:
        lines = [(plan.line, tile.lines)] if plan.line is not None else []
        rows = [(v, 1) for v in others if v is not plan.line]
        rows += [(v, n) for v, n in (*lines, (plan.row, tile.rows)) if v is not None]
        producer, problem = _problem(sch, plan, tile, rows, target, threads)
        cost, blocking = choose_blocking(replace(problem, slowness=tile.cost / plan.tile.cost, fused=tile.flat))
        if best is None or cost < best[0]:
            best = cost, tile, problem, blocking
    assert best is not None
    _, tile, problem, chosen = best
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
        sch.reorder(*around, *inside)
        inside[-2:] = sch.fuse(*inside[-2:])
    return plan, Blocks(around, inside, inner, cut, chosen.by_block, producer if around else "")


def _problem(
    sch: Schedule, plan: Plan, tile: Tile, rows: Sequence[tuple[Var, int]], target: Target, threads: int
) -> tuple[str, Problem]:
    """What blocking depends on, and the block that computes the row operand ("" if there is none)."""
    shape = plan.shape
    streamed = tuple(o for o in shape.operands if any(o.moves(v) for v, _ in rows))
    buffers = buffer_table(sch.function)
    element = buffers[shape.target.buffer].dtype.bytes
    producer = _row_producer(sch, streamed)
    return producer, Problem(
        extents={v: e for v, e in plan.extents.items() if not (plan.shared.moves(v) and v in shape.spatial)}
        | {plan.lane: shape.extents[plan.lane]},
        rows=tuple(RowAxis(v, n, -(-shape.extents[v] // n)) for v, n in rows),
        streamed=streamed,
        shapes={o.buffer: tuple(as_int(e) or 1 for e in buffers[o.buffer].shape) for o in streamed},
        element=element,
        columns=-(-shape.extents[plan.lane] // tile.lanes),
        panel=tile.lanes * element * prod(plan.extents[v] for v in shape.reduce),
        copied=bool(producer),
        batches=prod(shape.extents[v] for v in shape.spatial if plan.shared.moves(v) and v is not plan.lane),
        cache=target.l2_bytes,
        width=target.vector_lanes(element * 8),
        pace=pace(target),
        threads=threads if shape.points() >= WORTH else 1,
        chunks=plan.chunks,
    )


def _row_producer(sch: Schedule, streamed: Sequence[Operand]) -> str:
    """The elementwise block that writes the one row operand, for this reduction alone; "" if there is none."""
    if len(streamed) != 1 or streamed[0].buffer in {*sch.function.inputs, *sch.function.outputs}:
        return ""
    writers = [b for b in sch.blocks() if streamed[0].buffer in touched(find_block(sch.function, b)).writes]
    if (
        len(writers) != 1
        or find_block(sch.function, writers[0]).init is not None
        or len(sch.consumers(writers[0])) != 1
    ):
        return ""
    return writers[0]


def place_producer(sch: Schedule, producer: str, loop: str, target: Target) -> bool:
    """Computes of the row operand what a block of rows needs, where it needs it; False where it stays in front."""
    if not attempt(sch, sch.compute_at, producer, loop):
        return False
    schedule_map(sch, producer, target, 1)
    return True
