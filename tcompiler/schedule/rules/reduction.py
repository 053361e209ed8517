"""Reductions and contractions: a register tile of rows × lanes, operands laid out for it, epilogue in the tile.

The rule reads which iter vars move which operands, never what an operator is called. Lanes run along the axis in which
the output is contiguous, or another that fills vectors better (`lanes.py`); rows along another output axis that the
lane operand does not depend on, so that its vectors are shared. Matmul, batched matmul, convolutions of any rank,
grouping and dilation, depthwise convolutions, pooling and reductions over outer axes all come out as the same nest:

    for outer …: [pack]  for panel …: for row tile …:
        acc = identity;  for reduce …: for rows (unrolled): for lanes (vectorized): acc ⊕= …;  C = epilogue(acc)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import prod

from tcompiler.ir.loop.analysis import find_block, touched
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.rules.accesses import Operand, Shape, element_strides, shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.elementwise import schedule_map
from tcompiler.schedule.rules.lanes import choose_plan
from tcompiler.schedule.rules.packing import (
    pack,
    pack_constants,
    pack_rows,
    packable,
    rows_apart,
    runtime_packs,
)
from tcompiler.schedule.rules.plan import Plan, chunked, make_plan
from tcompiler.schedule.rules.row_blocks import block_rows, place_producer
from tcompiler.schedule.rules.threads import WORTH, parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target
from tcompiler.target.tile import WAY_BYTES, near_bytes

UNROLL = 8
"""Innermost reduce loops up to this extent are expanded."""
BODY = 192
"""FMAs that an innermost loop may hold."""
TURNS = 40
"""Tiles up to which a panel is asked for ahead: among more of them, the first one's waiting does not show."""
SPARE = 2
"""Registers beside accumulators and a row of vectors, up to which elements must not be kept from step to step."""
LINE_BYTES = 64
"""A line of a cache."""


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


def schedule_inside(sch: Schedule, block: str, target: Target, lanes: int) -> bool:
    """Schedules a contraction by the loops that are its own, inside loops that it shares with others.

    Args:
        sch: The schedule.
        block: A block with an Update, whose operands are laid out as they shall be.
        target: The machine.
        lanes: Lanes of the tile, as of its operand's panels.
    """
    return _schedule(sch, block, target, 1, (), lanes)


def pack_inside(sch: Schedule, block: str, target: Target, loop: str) -> tuple[int, list[str]]:
    """Lays out what a contraction inside shared loops reads from outside along its lanes.

    Args:
        sch: The schedule.
        block: A block with an Update.
        target: The machine.
        loop: The shared loop under which the copies stand; "" copies whole operands in front.

    Returns:
        Lanes of the tile (0 where the rule does not fit), and the copies' loops over panels.
    """
    plan = make_plan(sch, block, target, inside=True)
    if plan is None or plan.row is None:
        return 0, []
    outside = set(sch.function.inputs)
    operands = [o for o in plan.shape.operands if o.moves(plan.lane) and o.buffer in outside and packable(o)]
    near = [o for o in operands if o.strides.get(plan.lane) == 1 and plan.shape.extents[plan.lane] <= plan.lanes]
    order = _reduce_order(plan.shape, plan)
    return plan.lanes, [pack(sch, block, plan, o, loop, order) for o in operands if o not in near]


def _schedule(
    sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str], lanes: int = 0
) -> bool:
    _spread_rows(sch, block)
    plan = make_plan(sch, block, target, lanes, True) if lanes else choose_plan(sch, block, target, constants)
    if plan is None:
        return False
    shape = plan.shape
    loop_of = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
    packs = runtime_packs(sch, plan, constants) if not lanes else []
    element = buffer_table(sch.function)[shape.target.buffer].dtype.bytes
    reduce_order = [v for v in _reduce_order(shape, plan) if loop_of[v]]  # what shared loops feed stands still
    if packs and plan.panel(element) > near_bytes(target):
        # two panels of a part stay close, and a tile's rows in the level 1 cache
        plan = chunked(plan, reduce_order, element, target.l2_bytes // 4)
    panel = plan.panel(element)
    columns = -(-shape.extents[plan.lane] // plan.lanes)
    block_panels = min(columns, max(1, target.l2_bytes // 2 // max(panel, 1)), 8) if packs else 1
    lead_vars = [v for v in shape.spatial if plan.shared.moves(v) and v is not plan.lane and v is not plan.row]
    lead = [loop_of[v] for v in lead_vars if shape.extents[v] > 1]
    by_rows = False
    if packs and not lead and threads > 1 and shape.points() >= WORTH:
        # every thread packs panels of its own, so columns have to come out even; the rest is shared by rows
        chunk = plan.lanes * block_panels * threads
        even = shape.extents[plan.lane] // chunk * chunk
        if 0 < even < shape.extents[plan.lane]:
            columns_loop = loop_of[plan.lane]
            sch.reorder(columns_loop, *(n for n in loop_of.values() if n != columns_loop))
            _, rest_loop = sch.peel(columns_loop, [even])
            pieces = [block, *sch.blocks_under(rest_loop)]
            return all(_schedule(sch, piece, target, threads, constants) for piece in pieces)
        by_rows = even == 0
    blocks = None
    others = [v for v in shape.spatial if v is not plan.lane and v is not plan.row and v not in lead_vars]
    units = [loop_of[v] for v in (*lead_vars, *others) if shape.extents[v] == 1 and loop_of[v]]
    others = [v for v in others if shape.extents[v] > 1]
    lane_block = ""
    apart, row_copy = None if lanes else rows_apart(plan, target, constants), ""
    if apart is not None:
        (row_copy,) = sch.cache_read(block, apart.buffer, "global")
        shape = shape_of(sch.function, find_block(sch.function, block)) or shape
        plan = replace(plan, shape=shape, flat=None)
    if not packs and not lanes and plan.row is not None and not plan.shared.moves(plan.row):
        plan = chunked(plan, reduce_order, element, near_bytes(target))
        panel = plan.panel(element)
        plan, blocks = block_rows(sch, plan, others, loop_of, target, threads)
        row_loops, row_inner = [], blocks.inner
    if plan.once and not packs and not lanes and others:
        # a few rows read what streams by: as much of it at a time as the level 1 cache holds
        plan = chunked(plan, reduce_order, element, target.l1_bytes // 2 // columns)
    lane_outer, lane_inner = sch.split(loop_of[plan.lane], [None, plan.lanes])
    parts: list[str] = []
    for v, n in plan.chunk.items():
        if n > 1:
            part, loop_of[v] = sch.split(loop_of[v], [None, n])
        parts.append(part if n > 1 else loop_of[v])
    if blocks is not None:
        outer = [*lead, *blocks.around, *parts, lane_outer, *blocks.inside]
    else:
        tiled = [
            (v, n)
            for v, n in ((plan.line, plan.tile.lines), (plan.row, plan.tile.rows))
            if v is not None and (v is plan.row or n > 1)
        ]
        split_rows = [sch.split(loop_of[v], [None, n]) for v, n in tiled]
        row_loops, row_inner = [o for o, _ in split_rows], [i for _, i in split_rows]
        rest = [loop_of[v] for v in others if all(v is not t for t, _ in tiled)]
        if by_rows:
            outer = [*parts, *rest, *row_loops, lane_outer]
        elif packs and block_panels > 1:
            lane_block, lane_outer = sch.split(lane_outer, [None, block_panels])
            outer = [*lead, *parts, lane_block, *rest, *row_loops, lane_outer]
        elif packs:
            outer = [*lead, *parts, lane_outer, *rest, *row_loops]
        elif columns * panel > target.l2_bytes // 2:
            outer = [*lead, *([*parts, *rest, lane_outer] if parts else [lane_outer, *rest]), *row_loops]
        else:
            outer = [*lead, *rest, lane_outer, *row_loops]
    reduce_loops = [loop_of[v] for v in reduce_order if loop_of[v] not in parts]
    inner = [*row_inner, lane_inner]
    sch.reorder(*units, *outer, *reduce_loops, *inner)
    for name in units:
        sch.elide(name)
    pack_at = "" if by_rows else lane_block or lane_outer
    copies = [pack(sch, block, plan, operand, pack_at, reduce_order) for operand in packs]
    if apart is not None and plan.row is not None:
        at = blocks.around[-1] if blocks is not None and blocks.producer else _around(lead_vars, loop_of, apart, plan)
        steps = pack_rows(sch, row_copy, apart, plan.row, plan.tile.rows, at, reduce_order)
        if not at:
            parallelize(sch, row_copy, steps, shape.points() // shape.extents[plan.lane], threads)
    elif blocks is not None and blocks.producer:
        place_producer(sch, blocks.producer, blocks.around[-1], target)
        _spread_rows(sch, block)
    if blocks is not None and plan.tile.flat:
        # not before the producer has its place: it would compute for tiles that reach beyond their block
        outer[-1], row = sch.split(blocks.inside[-1], [None, plan.tile.rows])
        sch.reorder(*reduce_loops, row, lane_inner)
        row_inner = [row]
        blocks.inside[-1] = outer[-1]
        blocks.cut.append(outer[-1])
    pack_constants(sch, plan, constants, reduce_order)
    init, write, *start = sch.stage_accumulate(block, outer[-1] if outer else sch.loops(block)[0], "register")
    _lanes_innermost(sch, block, lane_inner, init, write)
    for name in start:
        schedule_map(sch, name, target, 1 if blocks is not None and blocks.around else threads)
    if not parts:
        inline_epilogues(sch, write)
    lanes_and_rows(sch, init)
    lanes_and_rows(sch, write)
    for name in _far_inputs(sch, write, target) if reduce_loops else ():
        attempt(sch, sch.prefetch, write, name, reduce_loops[0])
    for name in row_inner:
        sch.unroll(name)
    sch.vectorize(lane_inner)
    streamed = columns * panel > target.l2_bytes // 2 and panel <= near_bytes(target)
    once = blocks is not None and not blocks.around and columns > 1
    turns = blocks.inside[-1] if blocks is not None and blocks.inside and once and streamed else ""
    if turns and (sch.extent(turns) or 0) > TURNS:
        turns = ""
    walked = [(v, loop_of[v], plan.extents[v]) for v in reversed(reduce_order) if loop_of[v] not in parts]
    groups, step = _unroll_steps(sch, plan, walked, element * 8, target)
    if groups:
        peel_tails(sch, groups)
    if step and turns and plan.shared.buffer in constants:
        attempt(sch, sch.prefetch, block, plan.shared.buffer, step, lane_outer, turns)
    work = shape.points()
    shared = outer
    if blocks is not None and not lead:
        shared = blocks.around if blocks.by_block else [lane_outer, *blocks.inside]
    keep = [*parts, lane_block, lane_outer, *row_loops] if blocks is None else [*parts, lane_outer, *blocks.cut]
    parallelize(sch, block, shared, work, threads, [n for n in keep if n])
    for name in (*copies, *keep):
        if name:
            peel_tails(sch, name)
    return True


def _around(lead: Sequence[Var], loop_of: Mapping[Var, str], operand: Operand, plan: Plan) -> str:
    """The innermost of leading loops under which a copy of an operand holds a part of its own; "" if there is none."""
    at = ""
    for v in lead:
        if plan.shape.extents[v] == 1:
            continue
        if not operand.moves(v) or operand.strides.get(v) == 1:
            break  # nothing of its own, or an element of each line
        at = loop_of[v]
    return at


def _lanes_innermost(sch: Schedule, block: str, lanes: str, init: str, write: str) -> None:
    """Puts the lanes of an accumulator side by side where they are not contiguous in what it is written to."""
    accumulator = sch.written_by(init)
    rank = len(buffer_table(sch.function)[accumulator].shape)
    own = len(sch.iters(block)) - rank
    at = next((k for k in range(rank) if sch.loop_of(block, own + k) == lanes), rank - 1)
    if at == rank - 1:
        return
    names = [f"d{k}" for k in range(rank)]
    order = [n for k, n in enumerate(names) if k != at] + [names[at]]
    sch.transform_layout(accumulator, f"lambda {', '.join(names)}: ({', '.join(order)})", False)
    for name in (init, write):
        loops = sch.own_loops(name)
        sch.reorder(*(n for k, n in enumerate(loops) if k != at), loops[at])


def _far_inputs(sch: Schedule, write: str, target: Target) -> list[str]:
    """What an epilogue reads beside the sum that may not be in the level 2 cache: it is asked for before the sum."""
    read = touched(find_block(sch.function, write)).reads & set(sch.function.inputs)
    sizes = {b.name: b.dtype.bytes * prod(as_int(e) or 1 for e in b.shape) for b in sch.function.buffers}
    return [n for n in sorted(read) if sizes[n] > target.l2_bytes // 2]


def _spread_rows(sch: Schedule, block: str) -> None:
    """Moves the rows of intermediate operands apart where they would all fall into the same few sets of a cache."""
    shape = shape_of(sch.function, find_block(sch.function, block))
    owned = {*sch.function.inputs, *sch.function.outputs}
    for name in dict.fromkeys(o.buffer for o in shape.operands) if shape is not None else ():
        buffer = buffer_table(sch.function)[name]
        strides = element_strides(buffer)
        if name in owned or strides is None or buffer.strides is not None:
            continue
        line = LINE_BYTES // buffer.dtype.bytes
        close = WAY_BYTES // 4 // buffer.dtype.bytes
        rows = [k for k, s in enumerate(strides) if s >= close and s % close == 0 and as_int(buffer.shape[k]) != 1]
        if rows:
            attempt(sch, sch.pad_stride, name, rows[-1], close, line)


def _unroll_steps(
    sch: Schedule, plan: Plan, loops: Sequence[tuple[Var, str, int]], bits: int, target: Target
) -> tuple[str, str]:
    """Expands reduce loops from the innermost (first) on: all of the short ones, else some steps of the innermost.

    A jump back after every step costs a third of the speed of a core that works for two threads.

    Returns:
        The loop over groups of steps, which may have a tail, and that over the steps of one; "" and "" without groups.
    """
    vectors = -(-plan.lanes // target.vector_lanes(bits))
    body = plan.rows * vectors
    spare = target.vector_registers - plan.rows * vectors - vectors
    for k, (var, name, extent) in enumerate(loops):
        if spare <= SPARE and extent > 1 and _shared_elements(plan, var):
            break
        if extent <= UNROLL and body * extent <= BODY:
            sch.unroll(name)
            body *= extent
            continue
        if k == 0 and spare >= 1:
            steps = next((n for n in (8, 4, 2) if extent % n == 0 and extent > n and body * n <= BODY), 0)
            if steps < 4 and extent > UNROLL:
                steps = 4  # a tail is worth more than two steps to a jump, or one
            if steps:
                outer, inner = sch.split(name, [None, steps])
                sch.unroll(inner)
                return outer, inner
        break
    return "", ""


def _shared_elements(plan: Plan, var: Var) -> bool:
    """Whether rows of a tile read elements in one step that others read in the next, as windows that overlap do.

    LLVM loads such an element once and keeps it, whether or not a register is left for it.
    """
    rows = [v for v in (plan.row, plan.line) if v is not None]
    indices = [i for o in plan.shape.operands for i in o.indices]
    return any(var in (free := free_vars(i)) and any(r in free for r in rows) for i in indices)


def _reduce_order(shape: Shape, plan: Plan) -> list[Var]:
    """Reduce loops with the smallest steps through the row operand innermost."""
    streamed = [o for o in shape.operands if plan.row is not None and o.moves(plan.row)] or list(shape.operands)

    def step(v: Var) -> int:
        return min((abs(o.strides.get(v) or 1 << 40) for o in streamed), default=0)

    return sorted(shape.reduce, key=step, reverse=True)


def inline_epilogues(sch: Schedule, write: str) -> None:
    """Folds the elementwise consumers of what a block writes into it, one after the other."""
    while True:
        consumers = sch.consumers(write)
        if len(consumers) != 1 or not attempt(sch, sch.reverse_compute_inline, consumers[0]):
            return


def lanes_and_rows(sch: Schedule, block: str) -> None:
    """Vectorizes the innermost loop of a tile's init or write-back, and unrolls those around it that are its own."""
    own = sch.own_loops(block)
    if not own:
        return
    *rows, lanes = own
    for name in rows:
        sch.unroll(name)
    sch.vectorize(lanes)
