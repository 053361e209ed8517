"""Reductions and contractions: a register tile of rows × lanes, operands laid out for it, epilogue in the tile.

The rule reads which iter vars move which operands, never what an operator is called. Lanes run along the axis in which
the output is contiguous; rows along another output axis that the lane operand does not depend on, so that its vectors
are shared. Matmul, batched matmul, convolutions of any rank, grouping and dilation, depthwise convolutions, pooling
and reductions over outer axes all come out as the same nest:

    for outer …: [pack]  for panel …: for row tile …:
        acc = identity;  for reduce …: for rows (unrolled): for lanes (vectorized): acc ⊕= …;  C = epilogue(acc)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import gcd, prod

from tcompiler.backends.llvm.linear import linear
from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Buffer, buffer_table
from tcompiler.ir.scalar.grammar import Scalar, Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.rules.accesses import Operand, Shape, element_strides, shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.blocking import Problem, RowAxis, choose_blocking
from tcompiler.schedule.rules.elementwise import schedule_map
from tcompiler.schedule.rules.partials import contiguous_axes
from tcompiler.schedule.rules.threads import WORTH, parallelize
from tcompiler.schedule.rules.tile import WAY_BYTES, Registers, Tile, choose_tile
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.model import pace
from tcompiler.target.target import Target

UNROLL = 8
"""Innermost reduce loops up to this extent are expanded."""
BODY = 192
"""FMAs that an innermost loop may hold."""
LINE_BYTES = 64
"""A line of a cache."""
REUSE = 4
"""An operand that is not contiguous along the lanes is packed if each of its elements is used this often."""


@dataclass(slots=True)
class _Plan:
    """What the rule decided for one reduction."""

    shape: Shape
    lane: Var
    row: Var | None
    line: Var | None
    tile: Tile
    shared: Operand

    @property
    def lanes(self) -> int:
        """Lanes of the tile."""
        return self.tile.lanes

    @property
    def rows(self) -> int:
        """Rows of the tile along both axes."""
        return self.tile.rows * self.tile.lines


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
    plan = _plan(sch, block, target, (), inside=True)
    if plan is None or plan.row is None:
        return 0, []
    outside = set(sch.function.inputs)
    operands = [o for o in plan.shape.operands if o.moves(plan.lane) and o.buffer in outside and _packable(o)]
    near = [o for o in operands if o.strides.get(plan.lane) == 1 and plan.shape.extents[plan.lane] <= plan.lanes]
    return plan.lanes, [_pack(sch, block, plan, o, loop) for o in operands if o not in near]


def _schedule(
    sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str], lanes: int = 0
) -> bool:
    _spread_rows(sch, block)
    plan = _plan(sch, block, target, constants, lanes, bool(lanes))
    if plan is None:
        return False
    shape = plan.shape
    loop_of = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
    packs = _runtime_packs(sch, plan, constants) if not lanes else []
    element = _buffer(sch, shape.target.buffer).dtype.bytes
    panel = plan.lanes * element
    for v in shape.reduce:
        panel *= shape.extents[v]
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
    lane_outer, lane_inner = sch.split(loop_of[plan.lane], [None, plan.lanes])
    rows = [(v, n) for v, n in ((plan.line, plan.tile.lines), (plan.row, plan.tile.rows)) if v is not None]
    split_rows = [sch.split(loop_of[v], [None, n]) for v, n in rows]
    row_loops, row_inner = [outer for outer, _ in split_rows], [inner for _, inner in split_rows]
    reduce_order = _reduce_order(shape, plan)
    reduce_loops = [loop_of[v] for v in reduce_order]
    free = [v for v in shape.spatial if v is not plan.lane and all(v is not tiled for tiled, _ in rows)]
    rest = [loop_of[v] for v in free if v not in lead_vars and shape.extents[v] > 1]
    units = [loop_of[v] for v in free if shape.extents[v] == 1 and loop_of[v]]
    lane_block, blocks = "", None
    if by_rows:
        outer = [*rest, *row_loops, lane_outer]
    elif packs and block_panels > 1:
        lane_block, lane_outer = sch.split(lane_outer, [None, block_panels])
        outer = [*lead, lane_block, *rest, *row_loops, lane_outer]
    elif not packs and not lanes and plan.row is not None and not plan.shared.moves(plan.row):
        rows = [(v, 1) for v in free if loop_of[v] in rest] + rows
        blocks = _block_rows(sch, shape, plan, rows, [*rest, *row_loops], target, threads)
        outer = [*lead, *blocks.around, lane_outer, *blocks.inside]
    elif packs or columns * panel > target.l2_bytes // 2:
        outer = [*lead, lane_outer, *rest, *row_loops]
    else:
        outer = [*lead, *rest, lane_outer, *row_loops]
    inner = [*row_inner, lane_inner]
    sch.reorder(*units, *outer, *reduce_loops, *inner)
    for name in units:
        sch.elide(name)
    pack_at = "" if by_rows else lane_block or lane_outer
    copies = [_pack(sch, block, plan, operand, pack_at) for operand in packs]
    if blocks is not None and blocks.producer:
        _place_producer(sch, blocks.producer, blocks.around[-1], target)
        _spread_rows(sch, block)
    _pack_constants(sch, plan, constants, reduce_order)
    init, write = sch.stage_accumulate(block, outer[-1] if outer else sch.loops(block)[0], "register")
    inline_epilogues(sch, write)
    lanes_and_rows(sch, init)
    lanes_and_rows(sch, write)
    for name in row_inner:
        sch.unroll(name)
    sch.vectorize(lane_inner)
    _unroll_steps(sch, plan, [(loop_of[v], shape.extents[v]) for v in reversed(reduce_order)], element * 8, target)
    work = shape.points()
    shared = outer
    if blocks is not None and not lead:
        shared = blocks.around if blocks.by_block else [lane_outer, *blocks.inside]
    tiled = [lane_block, lane_outer, *row_loops] if blocks is None else [lane_outer, *blocks.cut]
    parallelize(sch, block, shared, work, threads, [n for n in tiled if n])
    for name in (*copies, *tiled):
        if name:
            peel_tails(sch, name)
    return True


@dataclass(frozen=True, slots=True)
class _Blocks:
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


def _block_rows(
    sch: Schedule,
    shape: Shape,
    plan: _Plan,
    rows: Sequence[tuple[Var, int]],
    loops: Sequence[str],
    target: Target,
    threads: int,
) -> _Blocks:
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
    element = _buffer(sch, shape.target.buffer).dtype.bytes
    shapes = {o.buffer: tuple(as_int(e) or 1 for e in _buffer(sch, o.buffer).shape) for o in streamed}
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
    return _Blocks(around, inside, cut, chosen.by_block, producer if around else "")


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


def _place_producer(sch: Schedule, producer: str, loop: str, target: Target) -> None:
    """Computes of the row operand what a block of rows needs, where it needs it."""
    if attempt(sch, sch.compute_at, producer, loop):
        schedule_map(sch, producer, target, 1)


def _spread_rows(sch: Schedule, block: str) -> None:
    """Moves the rows of intermediate operands apart where they would all fall into the same few sets of a cache."""
    shape = shape_of(sch.function, find_block(sch.function, block))
    owned = {*sch.function.inputs, *sch.function.outputs}
    for name in dict.fromkeys(o.buffer for o in shape.operands) if shape is not None else ():
        buffer = _buffer(sch, name)
        strides = element_strides(buffer)
        if name in owned or strides is None or buffer.strides is not None:
            continue
        line = LINE_BYTES // buffer.dtype.bytes
        close = WAY_BYTES // 4 // buffer.dtype.bytes
        rows = [k for k, s in enumerate(strides) if s >= close and s % close == 0 and as_int(buffer.shape[k]) != 1]
        if rows:
            attempt(sch, sch.pad_stride, name, rows[-1], close, line)


def _unroll_steps(sch: Schedule, plan: _Plan, loops: Sequence[tuple[str, int]], bits: int, target: Target) -> None:
    """Expands reduce loops from the innermost (first) on: all of the short ones, else some steps of the innermost.

    A jump back after every step costs a third of the speed of a core that works for two threads.
    """
    vectors = -(-plan.lanes // target.vector_lanes(bits))
    body = plan.rows * vectors
    for k, (name, extent) in enumerate(loops):
        if extent <= UNROLL and body * extent <= BODY:
            sch.unroll(name)
            body *= extent
            continue
        spare = target.vector_registers - plan.rows * vectors - vectors
        if k == 0 and spare > 1:
            steps = next((n for n in (8, 4, 2) if extent % n == 0 and extent > n and body * n <= BODY), 0)
            if steps < 4 and extent >= 4 * UNROLL:
                steps = 4  # a tail is worth more than two steps to a jump, or one
            if steps:
                outer, inner = sch.split(name, [None, steps])
                sch.unroll(inner)
                peel_tails(sch, outer)
        return


def _buffer(sch: Schedule, name: str) -> Buffer:
    return buffer_table(sch.function)[name]


def _own(sch: Schedule, block: str, shape: Shape | None) -> Shape | None:
    """A block's iterations by its own loops alone: what is bound to loops around others as well stands still."""
    if shape is None:
        return None
    loops = [sch.loop_of(block, k) for k in range(len(sch.iters(block)))]
    extents = {i.var: (sch.extent(n) or 1) if n else 1 for i, n in zip(sch.iters(block), loops, strict=True)}
    return replace(shape, extents=extents)


def _plan(
    sch: Schedule, block: str, target: Target, constants: Collection[str], lanes: int = 0, inside: bool = False
) -> _Plan | None:
    shape = shape_of(sch.function, find_block(sch.function, block))
    if inside:
        shape = _own(sch, block, shape)
    if shape is None or not shape.reduce or 0 in shape.extents.values():
        return None
    lane = shape.innermost()
    if lane is None:
        return None
    bits = _buffer(sch, shape.target.buffer).dtype.bytes * 8
    moved = [o for o in shape.operands if o.moves(lane)]
    if not moved:
        return None
    shared, row = None, None
    for o in moved:
        candidates = [
            v
            for v in shape.spatial
            if v is not lane and shape.extents[v] > 1 and not o.moves(v) and shape.target.strides.get(v)
        ]
        if candidates:
            shared, row = o, _best_row(shape, candidates)
            break
    if shared is None:
        walked = contiguous_axes(shape)
        long = prod(shape.extents[v] for v in walked) >= target.vector_lanes(bits)
        streamed = [o for o in moved if any(o.moves(v) for v in shape.reduce)]
        if long and all(o.strides.get(lane) != 1 for o in streamed):
            return None  # nothing is shared between lanes: each row is better reduced as it lies in memory
        candidates = [
            v for v in shape.spatial if v is not lane and shape.extents[v] > 1 and shape.target.strides.get(v)
        ]
        row = _best_row(shape, candidates) if candidates else None
        shared = moved[0]
    extent = shape.extents[lane]
    rows = shape.extents[row] if row is not None else 1
    depth = 1
    for v in shape.reduce:
        depth *= shape.extents[v]
    registers = Registers(
        target.vector_lanes(bits),
        target.vector_registers,
        target.vector_bits // 8,
        target.l2_bytes * 5 // 8,
        pace(target),
    )
    by_row = row is not None and not shared.moves(row)
    line = _line(shape, lane, row, shared) if by_row else None
    lines = 1 if line is None else shape.extents[line]
    apart = 0
    for o in shape.operands:
        for v in (x for x in (row, line) if x is not None):
            if o.moves(v):
                apart = gcd(apart, (o.strides.get(v) or 0) * bits // 8)
    tile = choose_tile(rows, extent, depth, registers, by_row, lines, apart, lanes)
    return _Plan(shape, lane, row, line if tile.lines > 1 else None, tile, shared)


def _line(shape: Shape, lane: Var, row: Var | None, shared: Operand) -> Var | None:
    """A second axis of rows: the next one around the row axis in memory."""
    candidates = [
        v
        for v in shape.spatial
        if v is not lane
        and v is not row
        and shape.extents[v] > 1
        and not shared.moves(v)
        and shape.target.strides.get(v)
    ]
    return min(candidates, key=lambda v: shape.target.strides.get(v) or 0, default=None)


def _best_row(shape: Shape, candidates: list[Var]) -> Var:
    """The axis to tile by rows: of the longer ones the one closest in memory, so that a tile reads near elements."""
    longest = max(shape.extents[v] for v in candidates)
    long_enough = [v for v in candidates if shape.extents[v] * 4 >= min(longest, 24)]
    return min(long_enough, key=lambda v: shape.target.strides.get(v) or 0)


def _reduce_order(shape: Shape, plan: _Plan) -> list[Var]:
    """Reduce loops with the smallest steps through the row operand innermost."""
    streamed = [o for o in shape.operands if plan.row is not None and o.moves(plan.row)] or list(shape.operands)

    def step(v: Var) -> int:
        return min((abs(o.strides.get(v) or 1 << 40) for o in streamed), default=0)

    return sorted(shape.reduce, key=step, reverse=True)


def _plain(operand: Operand, var: Var) -> int | None:
    """The index position at which an operand has this iter var alone."""
    for k, i in enumerate(operand.indices):
        if i is var:
            return k
    return None


def _shifted(index: Scalar) -> Var | None:
    """The iter var of an index that is one iter var plus a constant."""
    form = linear(index, {})
    if len(form.terms) != 1:
        return None
    ((atom, c),) = form.terms.items()
    return atom if isinstance(atom, Var) and c == 1 else None


def _packable(operand: Operand) -> bool:
    """Whether every index is a constant or a distinct iter var (and an offset), so that a copy is a plain transpose."""
    live = [_shifted(i) for i in operand.indices if as_int(i) is None]
    return None not in live and len(set(live)) == len(live)


def _runtime_packs(sch: Schedule, plan: _Plan, constants: Collection[str]) -> list[Operand]:
    """Operands to copy into panels inside the kernel: read along the lanes, reused by many rows, badly laid out."""
    shape = plan.shape
    result = []
    for o in shape.operands:
        if not o.moves(plan.lane) or o.buffer in constants or not _packable(o):
            continue
        reuse = 1
        for v in shape.spatial:
            if not o.moves(v):
                reuse *= shape.extents[v]
        apart = max((abs(o.strides.get(v) or 0) for v in shape.reduce), default=0)
        if o.strides.get(plan.lane) != 1 or (reuse >= REUSE * plan.rows and apart > plan.lanes):
            result.append(o)
    return result


def _pack(sch: Schedule, block: str, plan: _Plan, operand: Operand, loop: str) -> str:
    """Copies an operand into a buffer of panels, lanes innermost.

    Args:
        sch: The schedule.
        block: The reader.
        plan: Its plan.
        operand: What to copy.
        loop: The loop over blocks of panels under which the copy stands; "" copies the whole operand in front.

    Returns:
        The copy's loop over panels, "" where there is one only.
    """
    (copy,) = sch.cache_read(block, operand.buffer, "local" if loop else "global")
    cache = sch.written_by(copy)
    if loop:
        sch.compute_at(copy, loop)
    at = next(k for k, i in enumerate(operand.indices) if _shifted(i) is plan.lane)
    rank = len(operand.indices)
    names = [f"d{k}" for k in range(rank)]
    outer = [n for k, n in enumerate(names) if k != at]
    sch.transform_layout(
        cache,
        f"lambda {', '.join(names)}: ({names[at]} // {plan.lanes}, {''.join(n + ', ' for n in outer)}"
        f"{names[at]} % {plan.lanes})",
        False,
    )
    loops = sch.own_loops(copy)
    lane_loop, tail_loop = sch.loop_of(copy, at), ""
    if not lane_loop:
        return ""
    extent = sch.extent(lane_loop) or 1
    if extent > plan.lanes:
        first, second = sch.split(lane_loop, [None, plan.lanes])
        order = [n for n in loops if n != lane_loop]
        # rows are read in runs of a block of panels, which is kinder to caches and pages than panel by panel
        sch.reorder(*order, first, second)
        lane_loop, tail_loop = second, first
    else:
        order = [n for n in loops if n != lane_loop]
        if order and loops[-1] != lane_loop:
            sch.reorder(*order, lane_loop)
    sch.vectorize(lane_loop)
    return tail_loop


def _pack_constants(sch: Schedule, plan: _Plan, constants: Collection[str], reduce_order: list[Var]) -> None:
    """Lays constant operands out in the order in which the tile reads them."""
    for o in plan.shape.operands:
        if o.buffer not in constants or not o.moves(plan.lane) or len(o.indices) < 2:
            continue
        names = [f"d{k}" for k in range(len(o.indices))]
        at = _plain(o, plan.lane)
        fixed = [k for k, i in enumerate(o.indices) if not any(i is v for v in reduce_order)]
        walked = [p for v in reduce_order if (p := _plain(o, v)) is not None]
        if at is None:
            ends = [k for k, i in enumerate(o.indices) if k in fixed and plan.lane in free_vars(i)]
            if len(ends) != 1 or set(fixed) | set(walked) != set(range(len(names))):
                continue
            end, group = names[ends[0]], _group(o.indices[ends[0]], plan)
            outputs = [*(names[k] for k in fixed if k != ends[0]), *(names[k] for k in walked), end]
            if group:
                inside = f"{end} % {group}"
                panel, lane = f"{inside} // {plan.lanes}", f"{inside} % {plan.lanes}"
                outputs = [*outputs[: -1 - len(walked)], f"{end} // {group}", panel, *(names[k] for k in walked), lane]
        else:
            batch = [k for k in fixed if k != at]
            if set(fixed) | set(walked) != set(range(len(names))):
                continue
            outputs = [
                *(names[k] for k in batch),
                f"{names[at]} // {plan.lanes}",
                *(names[k] for k in walked),
                f"{names[at]} % {plan.lanes}",
            ]
        text = f"lambda {', '.join(names)}: ({', '.join(outputs)})"
        attempt(sch, sch.transform_layout, o.buffer, text, False)


def _group(index: Scalar, plan: _Plan) -> int:
    """Filters of a group, where an index counts groups of as many lanes as there are; 0 where it does not."""
    form = linear(index, {})
    size = plan.shape.extents[plan.lane]
    others = [c for v, c in form.terms.items() if v is not plan.lane]
    return size if form.const == 0 and others == [size] and form.terms.get(plan.lane) == 1 else 0


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
