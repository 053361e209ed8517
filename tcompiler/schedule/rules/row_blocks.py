"""Applies the blocking of rows that `blocking.py` chose, and puts what is computed ahead of them next to each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.schedule.rules.accesses import Operand, Shape
from tcompiler.schedule.rules.attempt import attempt
from tcompiler.schedule.rules.blocking import Problem, RowAxis, choose_blocking
from tcompiler.schedule.rules.elementwise import schedule_map
from tcompiler.schedule.rules.plan import Plan
from tcompiler.schedule.rules.threads import WORTH
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.model import pace
from tcompiler.target.target import Target


@dataclass(frozen=True, slots=True)
class Blocks:
    """Row loops around and inside the loop over panels.

    Attributes:
        around: Those that blocks of rows are made of, the block's own loop last.
        inside: The others.
        cut: The loops among both that tiles or blocks made, and that may have a tail.
        by_block: Whether threads share the blocks rather than the panels.
        producer: A block that writes the row operand, which each block of rows has next to it; "" if there is none.
    """

    around: list[str]
    inside: list[str]
    cut: list[str]
    by_block: bool
    producer: str


def block_rows(
    sch: Schedule,
    shape: Shape,
    plan: Plan,
    rows: Sequence[tuple[Var, int]],
    loops: Sequence[str],
    target: Target,
    threads: int,
) -> Blocks:
    """Cuts a loop over rows where that keeps what passes the level 2 cache small.

    Args:
        sch: The schedule.
        shape: The reduction's.
        plan: What was decided on its tile.
        rows: Row axes, and how many values of each a loop's iteration takes.
        loops: Their loops.
        target: The machine.
        threads: Threads that the kernel may use.
    """
    streamed = tuple(o for o in shape.operands if any(o.moves(v) for v, _ in rows))
    element = buffer_table(sch.function)[shape.target.buffer].dtype.bytes
    shapes = {o.buffer: tuple(as_int(e) or 1 for e in buffer_table(sch.function)[o.buffer].shape) for o in streamed}
    batches = prod(shape.extents[v] for v in shape.spatial if plan.shared.moves(v) and v is not plan.lane)
    producer = _row_producer(sch, streamed)
    problem = Problem(
        extents={v: e for v, e in shape.extents.items() if not (plan.shared.moves(v) and v in shape.spatial)}
        | {plan.lane: shape.extents[plan.lane]},
        rows=tuple(RowAxis(v, n, -(-shape.extents[v] // n)) for v, n in rows),
        streamed=streamed,
        shapes=shapes,
        element=element,
        columns=-(-shape.extents[plan.lane] // plan.lanes),
        panel=plan.lanes * element * prod(shape.extents[v] for v in shape.reduce),
        copied=bool(producer),
        batches=batches,
        cache=target.l2_bytes,
        width=target.vector_lanes(element * 8),
        pace=pace(target),
        threads=threads if shape.points() >= WORTH else 1,
    )
    chosen = choose_blocking(problem)
    around, inside = list(loops[: chosen.at]), list(loops[chosen.at + 1 :])
    cut = [name for name, axis in zip(loops, problem.rows, strict=True) if axis.step > 1]
    if chosen.size == 1:
        around.append(loops[chosen.at])
    elif chosen.size < problem.rows[chosen.at].extent:
        outer, inner = sch.split(loops[chosen.at], [None, chosen.size])
        around.append(outer)
        inside.insert(0, inner)
        cut = [outer, *(inner if name == loops[chosen.at] else name for name in cut)]
    else:
        inside.insert(0, loops[chosen.at])
    return Blocks(around, inside, cut, chosen.by_block, producer if around else "")


def _row_producer(sch: Schedule, streamed: Sequence[Operand]) -> str:
    """The elementwise block that writes the one row operand, for this reduction alone; "" if there is none."""
    if len(streamed) != 1 or streamed[0].buffer in {*sch.function.inputs, *sch.function.outputs}:
        return ""
    writers = [b for b in sch.blocks() if sch.written_by(b) == streamed[0].buffer]
    if (
        len(writers) != 1
        or find_block(sch.function, writers[0]).init is not None
        or len(sch.consumers(writers[0])) != 1
    ):
        return ""
    return writers[0]


def place_producer(sch: Schedule, producer: str, loop: str, target: Target) -> None:
    """Computes of the row operand what a block of rows needs, where it needs it."""
    if attempt(sch, sch.compute_at, producer, loop):
        schedule_map(sch, producer, target, 1)
