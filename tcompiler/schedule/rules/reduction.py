"""Reductions and contractions: a register tile of rows × lanes, operands laid out for it, epilogue in the tile.

The rule reads which iter vars move which operands, never what an operator is called. Lanes run along the axis in which
the output is contiguous, or another that fills vectors better (`lanes.py`); rows along another output axis that the
lane operand does not depend on, so that its vectors are shared. Matmul, batched matmul, convolutions of any rank,
grouping and dilation, depthwise convolutions, pooling and reductions over outer axes all come out as the same nest:

    for outer …: [pack]  for panel …: for row tile …:
        acc = identity;  for reduce …: for rows (unrolled): for lanes (vectorized): acc ⊕= …;  C = epilogue(acc)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from math import prod

from tcompiler.ir.loop.analysis import find_block, touched
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var
from tcompiler.schedule.rules.attempt import attempt, copies_of, peel_tails
from tcompiler.schedule.rules.body import (
    begin_by_storing,
    far_inputs,
    inline_epilogues,
    lanes_and_rows,
    lanes_innermost,
    unroll_steps,
)
from tcompiler.schedule.rules.borders import skip_borders
from tcompiler.schedule.rules.elementwise import schedule_map
from tcompiler.schedule.rules.lanes import choose_plan, choose_rows, plan_inside
from tcompiler.schedule.rules.last_columns import (
    copy_last_columns,
    cut_last_columns,
    schedule_last_dots,
    tile_last_columns,
)
from tcompiler.schedule.rules.last_places import rows_beside, schedule_last_places
from tcompiler.schedule.rules.nest import (
    Job,
    Nest,
    Panels,
    choose_panels,
    make_nest,
    reduce_order,
    rows_once,
    spread_rows,
)
from tcompiler.schedule.rules.packing import asked_ahead, pack, pack_constants, packable, rows_apart, stays_near
from tcompiler.schedule.rules.placement import order_as_read
from tcompiler.schedule.rules.plan import Plan, make_plan
from tcompiler.schedule.rules.threads import WORTH, parallelize, share_tails
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.model import swift
from tcompiler.target.target import Target
from tcompiler.target.tile import Registers, near_bytes

TURNS = 40
"""Tiles up to which a panel is asked for ahead: among more of them, the first one's waiting does not show."""
NEXT = 8
"""The part of the level 2 cache that the next panel may take beside a block of rows and the panel in use."""
SHARES = 4
"""Tiles of rows for each thread from which on it does not matter that they do not come out even."""


def schedule_reduction(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str]) -> bool:
    """Schedules a reduction whose output is contiguous along an axis that its operands are contiguous or constant in.

    Args:
        sch: The schedule; the block stands in a loop nest of its own.
        block: A block with an Update.
        target: The machine.
        threads: Threads that the kernel may use.
        constants: Names of inputs whose layout may be chosen, as they are packed once.

    Returns:
        False, with nothing changed, where the rule does not fit.
    """
    return attempt(sch, _schedule, sch, block, target, threads, constants)


def schedule_inside(sch: Schedule, block: str, target: Target, lanes: int, axis: int | None = None) -> bool:
    """Schedules a contraction by the loops that are its own, inside loops that it shares with others.

    Args:
        sch: The schedule.
        block: A block with an Update, whose operands are laid out as they shall be.
        target: The machine.
        lanes: Lanes of the tile, as of its operand's panels; 0 for last columns that `pack_inside` cut off.
        axis: Which of the block's iter vars lanes run along; None for the one that the output is contiguous in.
    """
    if not lanes:
        return attempt(sch, tile_last_columns, sch, block, target)
    return _schedule(sch, block, target, 1, (), lanes, axis)


def pack_inside(
    sch: Schedule, block: str, target: Target, loop: str, lanes: int = 0, axis: int | None = None
) -> tuple[dict[str, int], list[str]]:
    """Lays out what a contraction inside shared loops reads from outside along its lanes.

    Args:
        sch: The schedule.
        block: A block with an Update.
        target: The machine.
        loop: The shared loop under which the copies stand; "" copies whole operands in front.
        lanes: Lanes that the tile has to have; 0 for those that take the fewest cycles.
        axis: As for `schedule_inside`, where lanes are given.

    Returns:
        Lanes of the tiles for `schedule_inside`, of the block and of one of its last columns if they are cut off
        (nothing where the rule does not fit), and the copies' loops over panels.
    """
    plan = _plan_again(sch, block, target, lanes, axis) if lanes else plan_inside(sch, block, target)
    if plan is None or plan.row is None:
        return {}, []
    made = {block: plan.lanes}
    if plan.left:
        last = cut_last_columns(sch, block, plan, ())
        copy_last_columns(sch, last, target, loop)
        made[last] = 0
        plan = make_plan(sch, block, target, inside=True) or plan
    outside = set(sch.function.inputs)
    operands = [o for o in plan.shape.operands if o.moves(plan.lane) and o.buffer in outside and packable(o)]
    near = [o for o in operands if o.strides.get(plan.lane) == 1 and plan.shape.extents[plan.lane] <= plan.lanes]
    order = reduce_order(plan.shape, plan, target)
    return made, [pack(sch, block, plan, o, loop, order) for o in operands if o not in near]


def _schedule(
    sch: Schedule,
    block: str,
    target: Target,
    threads: int,
    constants: Collection[str],
    lanes: int = 0,
    axis: int | None = None,
) -> bool:
    others = [n for n in copies_of(block, sch.blocks()) if n != block]
    spread_rows(sch, block)
    if not lanes:
        order_as_read(sch, block)
    plan = _plan_again(sch, block, target, lanes, axis) if lanes else choose_rows(sch, block, target, constants)
    if plan is not None and plan.left:
        if attempt(sch, _tile_by_tile, sch, block, target, threads, constants, plan):
            return True
        if attempt(sch, _but_last, sch, block, target, threads, constants, plan):
            return True
        plan = choose_plan(sch, block, target, constants, cut=False)
    if plan is None:
        return False
    job = Job.of(sch, block, target, threads, constants, plan, bool(lanes))
    panels = choose_panels(job)
    by_rows = False
    apart = panels.packs and not job.running(job.lead) and not rows_once(job)
    if apart and threads > 1 and plan.shape.points() >= WORTH and not panels.even:
        # every thread packs panels of its own, so columns have to come out even; the rest is shared by rows
        extent, chunk = plan.shape.extents[plan.lane], plan.lanes * panels.at_once * threads
        even = extent // chunk * chunk
        if 0 < even < extent and attempt(sch, _in_two, job, even):
            return True
        by_rows = even < extent
    nest = make_nest(job, panels, by_rows)
    _fill(job, panels, nest)
    parallelize(sch, block, nest.shared(job.running(job.lead)), job.plan.shape.points(), threads, nest.cut)
    begin_by_storing(sch, job.plan.shape.target.buffer, nest.parts)
    producer = nest.blocks.producer if nest.blocks is not None else ""

    def cut() -> None:
        before = set(sch.blocks())
        for name in (*nest.copies, *nest.cut):
            if name:
                peel_tails(sch, name)
        if not producer:
            share_tails(sch, [n for n in sch.blocks() if n not in before], threads)

    bordered = job.plan.bordered
    if not bordered or not attempt(sch, skip_borders, sch, block, bordered, cut, False, job.plan.asked, others):
        cut()
    for name in copies_of(producer, sch.blocks()) if producer else ():
        schedule_map(sch, name, target, 1)
    return True


def _plan_again(sch: Schedule, block: str, target: Target, lanes: int, axis: int | None) -> Plan | None:
    """A plan for lanes that were chosen before, by the block's own loops."""
    lane = sch.iters(block)[axis].var if axis is not None else None
    return make_plan(sch, block, target, lanes, True, lane=lane)


def _but_last(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str], plan: Plan) -> bool:
    """Schedules the columns of a contraction that fill vectors, and the last ones with lanes along another axis."""
    last = cut_last_columns(sch, block, plan, constants)
    if plan.rest == "places":
        schedule_last_places(sch, last, target, threads)
    elif plan.rest == "dots":
        schedule_last_dots(sch, last, target, threads, constants)
    elif not _schedule(sch, last, target, threads, _copied(sch, last, constants)):
        return False
    return _schedule(sch, block, target, threads, constants)


def _tile_by_tile(
    sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str], plan: Plan
) -> bool:
    """Schedules the last columns of each block of rows behind the others, while its rows are near."""
    shape, row, columns = plan.shape, plan.row, plan.shape.extents[plan.lane]
    once = plan.shared.buffer in constants
    loop_of = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
    lead = [v for v in shape.spatial if v is not plan.lane and v is not row and loop_of[v]]
    alike = once or all(plan.shared.moves(v) or shape.extents[v] == 1 for v in lead)
    alike = alike and all(o.buffer in sch.function.inputs for o in shape.operands)
    plain = not (plan.flat or plan.turn or plan.borders) and plan.rest != "tiles"
    if row is None or not alike or not plain or plan.rows > plan.tile.rows:
        return False
    element = buffer_table(sch.function)[shape.target.buffer].dtype.bytes
    panels = near_bytes(target) // plan.panel(element)
    if columns > (panels if once else min(panels, 1)) * plan.lanes:
        return False
    if not packable(plan.shared) or rows_apart(plan, target, constants) is not None:
        return False
    size = plan.rows
    if plan.rest == "places":
        size = _near_rows(plan, row, lead, element, target)
        if not 0 < size < shape.extents[row]:
            return False
    if threads > 1 and prod(shape.extents[v] for v in (*lead, row)) < SHARES * threads * size:
        return False
    axis = [i.var for i in sch.iters(block)].index(plan.lane)
    outer, order = [loop_of[v] for v in lead], reduce_order(shape, plan, target)
    tiles, rows = sch.split(loop_of[row], [None, size])
    sch.reorder(*outer, tiles, loop_of[plan.lane], rows, *(loop_of[v] for v in order))
    _, rest = sch.peel(loop_of[plan.lane], [columns])
    (last,) = sch.blocks_under(rest)
    pack_constants(sch, plan, constants, order)
    around = outer[-1] if outer else ""
    if plan.rest == "dots":
        copy_last_columns(sch, last, target, "" if once else around)
    lanes, _ = pack_inside(sch, block, target, around, plan.lanes, axis)
    if not lanes:
        return False
    parallelize(sch, block, [*outer, tiles], shape.points(), threads, [tiles])
    pieces = [[block, last]]
    if shape.extents[row] % size:
        _, tail = sch.peel(tiles)
        pieces.append(sch.blocks_under(tail))
    # an epilogue goes into all of them with the last one
    for _, name in reversed(pieces):
        if plan.rest == "places":
            schedule_last_places(sch, name, target, 1)
        else:
            tile_last_columns(sch, name, target)
    if not all(schedule_inside(sch, name, target, plan.lanes, axis) for name, _ in reversed(pieces)):
        return False
    share_tails(sch, [name for piece in pieces[1:] for name in piece], threads)
    return True


def _near_rows(plan: Plan, row: Var, lead: Collection[Var], element: int, target: Target) -> int:
    """Rows of whole tiles and whole vectors of places that stay near; 0 where places lie along another axis."""
    shape = replace(plan.shape, extents={**plan.shape.extents, **dict.fromkeys(lead, 1)})
    registers = Registers.of(target, target.vector_lanes(element * 8), 0, 0)
    size = rows_beside(shape, plan.lane, plan.left, row, plan.rows, registers)
    return size if size * element * prod(shape.extents[v] for v in shape.reduce) <= near_bytes(target) else 0


def _copied(sch: Schedule, block: str, constants: Collection[str]) -> list[str]:
    """Reads constants through copies, which can have another layout; returns these."""
    operands = sorted({o for o in touched(find_block(sch.function, block)).reads if o in constants})
    return [sch.written_by(sch.cache_read(block, name, "global")[0]) for name in operands]


def _in_two(job: Job, even: int) -> bool:
    """Schedules the first columns of a contraction, and the others, each in a nest of its own, if both fit the rule."""
    sch, columns = job.sch, job.loop_of[job.plan.lane]
    sch.reorder(columns, *(n for v, n in job.loop_of.items() if v is not job.plan.lane))
    _, rest = sch.peel(columns, [even])
    pieces = [job.block, *sch.blocks_under(rest)]
    return all(_schedule(sch, piece, job.target, job.threads, job.constants) for piece in pieces)


def _fill(job: Job, panels: Panels, nest: Nest) -> None:
    """Accumulates in registers, takes the epilogue in, expands the tile, and asks for what comes next."""
    sch, block, plan, target = job.sch, job.block, job.plan, job.target
    steps = [job.loop_of[v] for v in job.order if job.loop_of[v] not in nest.parts]
    init, write = sch.stage_accumulate(block, nest.outer[-1] if nest.outer else sch.loops(block)[0], "register")
    lanes_innermost(sch, block, nest.lanes, init, write)
    if not nest.parts:
        inline_epilogues(sch, write)
    lanes_and_rows(sch, init)
    lanes_and_rows(sch, write)
    for name in far_inputs(sch, write, target) if steps else ():
        attempt(sch, sch.prefetch, write, name, steps[0])
    for name in nest.rows:
        sch.unroll(name)
    sch.vectorize(nest.lanes)
    walked = [(v, n, plan.extents[v]) for v in reversed(job.order) if (n := job.loop_of[v]) not in nest.parts]
    groups, step = unroll_steps(sch, plan, walked, job.element * 8, target)
    if groups:
        peel_tails(sch, groups)
    turns = _asking(job, panels, nest)
    if step and turns is not None:
        attempt(sch, sch.prefetch, block, plan.shared.buffer, step, nest.panel, turns)


def _asking(job: Job, panels: Panels, nest: Nest) -> list[str] | None:
    """The loops over tiles that take turns in asking for the next panel, if any; None where nothing asks for it."""
    plan, blocks, target, read = job.plan, nest.blocks, job.target, job.plan.shared
    turns = blocks.inside if blocks is not None else []
    if read.buffer not in job.constants and asked_ahead(plan, read, job.element, target):
        return turns if panels.columns > 1 else None
    streamed = panels.columns * panels.bytes > target.l2_bytes // 2 and panels.bytes <= _ahead(target)
    asked = panels.columns > 1 and blocks is not None and (not blocks.around or _waits(panels, target))
    few = prod(job.sch.extent(n) or 1 for n in turns) <= TURNS
    near = read.buffer in job.constants or stays_near(plan, read, job.element, target)
    return turns if turns and streamed and asked and few and near else None


def _waits(panels: Panels, target: Target) -> bool:
    """Whether panels that blocks pass again and again come slowly each time, and the next one finds room beside them.

    Where others use what is beyond the level 2 cache as well, tiles wait for it though it comes in order.
    """
    much = panels.columns * panels.bytes > 2 * target.l2_bytes
    return not swift(target) and much and panels.bytes <= target.l2_bytes // NEXT


def _ahead(target: Target) -> int:
    """Bytes of a panel up to which the next one is asked for while it is in use, even if not both of them fit."""
    return target.l2_bytes // 2 if swift(target) else near_bytes(target)
