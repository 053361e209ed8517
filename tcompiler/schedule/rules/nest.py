"""The loops of a contraction's nest: which stand around the reduction in which order, and where operands are copied."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, prod

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.schedule.rules.accesses import Operand, Shape, element_strides, shape_of
from tcompiler.schedule.rules.attempt import attempt
from tcompiler.schedule.rules.body import UNROLL, kept_elements
from tcompiler.schedule.rules.packing import (
    crowded,
    pack,
    pack_constants,
    pack_rows,
    rows_apart,
    rows_copied,
    runtime_packs,
)
from tcompiler.schedule.rules.plan import SHARED, Plan, chunked
from tcompiler.schedule.rules.row_blocks import Blocks, block_rows, from_memory, in_parts
from tcompiler.schedule.rules.threads import WORTH, parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.model import core, pace, swift
from tcompiler.target.target import LINE_BYTES, Target
from tcompiler.target.tile import WAY_BYTES, cache_ways, fullest_set, near_bytes

BLOCK, NARROW = 8, 1 << 15
"""Panels that are packed at once, and bytes of more of them where they are narrow: rows are written in longer runs."""
EVEN = 1.03
"""How much of its panels a thread may have more than others."""
STREAMS, PAIR = 4, 2
"""Panels that are read side by side where they come slowly for a single row, and vectors of each."""
FILLED = 4
"""Level 2 caches that such panels fill at least: there are enough of them for all threads."""
STEPS = 16
"""Rows of memory that are read side by side where an operand streams by once."""
SUMS = 1 << 16
"""Bytes of the sums that go and come again for every few of them."""
PASSING = 0.5
"""Share of what memory gives one core that all cores' rows may take while they compute."""


@dataclass(slots=True)
class Job:
    """A contraction that is being scheduled.

    Attributes:
        sch: The schedule.
        block: The block with the Update.
        target: The machine.
        threads: Threads that the kernel may use.
        constants: Names of inputs whose layout may be chosen.
        plan: What was decided; it is refined on the way.
        inside: Whether the block shares its outer loops with others, and finds its operands laid out.
        loop_of: The loops of the iter vars.
        order: The axes of the reduction, outermost first.
        element: Bytes of an element.
        lead: Axes that move the shared operand, lanes and rows apart: each of their points has panels of its own.
        others: The other axes, lanes and rows apart.
    """

    sch: Schedule
    block: str
    target: Target
    threads: int
    constants: Collection[str]
    plan: Plan
    inside: bool
    loop_of: dict[Var, str]
    order: list[Var]
    element: int
    lead: list[Var]
    others: list[Var]

    @staticmethod
    def of(
        sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str], plan: Plan, inside: bool
    ) -> Job:
        """Begins one; the arguments are the attributes of these names."""
        shape = plan.shape
        loop_of = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
        order = [v for v in reduce_order(shape, plan, target) if loop_of[v]]  # what shared loops feed stands still
        element = buffer_table(sch.function)[shape.target.buffer].dtype.bytes
        axes = [v for v in shape.spatial if v is not plan.lane and v is not plan.row]
        lead = [v for v in axes if plan.shared.moves(v)]
        others = [v for v in axes if not plan.shared.moves(v)]
        return Job(sch, block, target, threads, constants, plan, inside, loop_of, order, element, lead, others)

    def running(self, axes: Sequence[Var]) -> list[Var]:
        """Those of some axes that have more than one value."""
        return [v for v in axes if self.plan.shape.extents[v] > 1]


@dataclass(slots=True)
class Panels:
    """The shared operand, cut along the lanes.

    Attributes:
        packs: Operands that are copied into panels inside the nest.
        ahead: Operands that are copied in front of it.
        rows: The operand of the rows, where it could be copied as well.
        far: Whether panels come from beyond all caches.
        bytes: Size of one, or of its part where the reduction is done in parts.
        columns: How many there are.
        room: How many half of the level 2 cache holds.
        at_once: How many are packed at once.
        even: Whether threads that pack panels of their own have shares that are alike, about.
        streams: How many a single row is multiplied with at once.
    """

    packs: list[Operand]
    ahead: list[Operand]
    rows: Operand | None
    far: bool
    bytes: int
    columns: int
    room: int
    at_once: int
    even: bool
    streams: int = 1


@dataclass(slots=True)
class Nest:
    """Loops by name.

    Attributes:
        outer: Those around the reduction, outermost first.
        parts: Of these, the ones over parts of the reduction.
        share: Of these, the one over what threads have, each with parts of its own; "" if there is none.
        packed: Of these, the one over what is packed at once; "" if there is none.
        panel: Of these, the one over panels.
        tiles: Of these, the ones over tiles of rows, where rows are not cut into blocks.
        rows: Those of the rows of a tile.
        lanes: That of the lanes of a tile.
        blocks: The blocks of rows, where rows are cut into some.
        copies: Loops of copies that may have a tail.
    """

    outer: list[str]
    parts: list[str]
    packed: str
    panel: str
    tiles: list[str]
    rows: list[str]
    lanes: str
    blocks: Blocks | None = None
    copies: list[str] = field(default_factory=list)
    share: str = ""

    @property
    def cut(self) -> list[str]:
        """The loops that may have a tail."""
        if self.blocks is not None:
            return [*self.parts, self.panel, *self.blocks.cut]
        return [n for n in (self.share, *self.parts, self.packed, self.panel, *self.tiles) if n]

    def shared(self, lead: Sequence[Var]) -> list[str]:
        """The loops that threads may share, outermost first.

        Args:
            lead: The leading axes that have more than one value.
        """
        if self.blocks is None or lead:
            return self.outer
        return self.blocks.around if self.blocks.by_block else [self.panel, *self.blocks.inside]


def choose_panels(job: Job) -> Panels:
    """Decides what is copied into panels, and how much at once; the plan may get parts of the reduction by it."""
    target, plan = job.target, job.plan
    packs = [] if job.inside else runtime_packs(job.sch, plan, job.constants, target)
    rows = None if job.inside else rows_copied(plan, job.constants)
    far = rows is not None and from_memory(plan, plan.shared, job.element, target)
    ahead: list[Operand] = []
    if packs and far and rows is not None and _too_much(job, rows):
        ahead, packs = packs, []  # laid out in front, as constants are
    if packs and plan.panel(job.element) > near_bytes(target):
        # two panels of a part stay close, and a tile's rows in the level 1 cache
        job.plan = plan = chunked(plan, job.order, job.element, target.l2_bytes // 4)
    streams = STREAMS if _streamed(job, packs) else 1
    if streams > 1:
        width = min(plan.lanes, PAIR * target.vector_lanes(job.element * 8))
        job.plan = plan = replace(plan, tile=replace(plan.tile, lanes=width))
    size = plan.panel(job.element)
    columns = -(-plan.shape.extents[plan.lane] // plan.lanes)
    room = max(1, target.l2_bytes // 2 // max(size, 1))
    narrow = min(NARROW // max(size, 1), columns // job.threads)
    parts = plan.shape.extents[plan.lane] / plan.lanes
    at_once = _at_once(parts, min(columns, room, max(BLOCK, narrow)), job.threads) if packs else 1
    return Panels(packs, ahead, rows, far, size, columns, room, at_once, _even(parts, at_once, job.threads), streams)


def _streamed(job: Job, packs: Sequence[Operand]) -> bool:
    """Whether a single row is multiplied with panels of constants that come slowly.

    A processor reads ahead of each place that it is read from, so it has more on its way with several panels at once.
    """
    plan, target = job.plan, job.target
    single = plan.row is None and not (job.inside or packs or plan.chunk or job.running([*job.lead, *job.others]))
    laid_out = len(plan.shape.operands) == 2 and plan.shared.buffer in job.constants
    size = job.element * prod(e for v, e in plan.shape.extents.items() if plan.shared.moves(v))
    return single and laid_out and not swift(target) and size > FILLED * target.l2_bytes


def _at_once(columns: float, most: int, threads: int) -> int:
    """Panels to pack at once: as many as may be, or up to a third fewer where threads' shares are alike so."""
    return next((n for n in range(most, most * 2 // 3, -1) if _even(columns, n, threads)), most)


def _even(columns: float, at_once: int, threads: int) -> bool:
    """Whether threads that pack so many panels at a time have shares that are alike, about."""
    share = ceil(columns / (at_once * threads)) * at_once
    return share * threads <= EVEN * columns


def _too_much(job: Job, rows: Operand) -> bool:
    """Whether rows come from memory, and more of them in a cycle than it gives, where they pass by every panel.

    A step of a tile reads an element of each row, and multiplies it with the vectors of a panel.
    """
    if not from_memory(job.plan, rows, job.element, job.target):
        return False
    width = job.target.vector_lanes(job.element * 8)
    cycles = -(-job.plan.lanes // width) * pace(job.target).fma
    return job.threads * job.element / cycles > PASSING * core(job.target).bytes_per_cycle["DRAM"]


def rows_once(job: Job) -> bool:
    """Whether rows of parts come from memory: threads share their tiles under one panel, so that they come once."""
    rows = [o for o in job.plan.shape.operands if job.plan.row is not None and o.moves(job.plan.row)]
    return bool(job.plan.chunk) and any(from_memory(job.plan, o, job.element, job.target) for o in rows)


def make_nest(job: Job, panels: Panels, by_rows: bool) -> Nest:
    """Splits and orders the loops, and copies operands where the nest wants them.

    Args:
        job: The contraction.
        panels: What `choose_panels` found.
        by_rows: Whether panels are packed in front, as threads share rows.
    """
    sch, extents = job.sch, job.plan.shape.extents
    beside = _beside(job) if panels.packs and not job.plan.chunk and panels.at_once == panels.columns else None
    units = [job.loop_of[v] for v in (*job.lead, *job.others) if extents[v] == 1 and job.loop_of[v]]
    in_blocks = not (panels.packs or job.inside or job.plan.once)
    in_blocks = in_blocks and job.plan.row is not None and not job.plan.shared.moves(job.plan.row)
    apart = None if job.inside or job.plan.once else rows_apart(job.plan, job.target, job.constants)
    if in_blocks:
        # panels that several blocks of rows read come slowly each time, unless all rows of a part stay beside them
        copied = panels.rows if panels.far or not swift(job.target) else None
        others = job.running(job.others)
        job.plan = in_parts(sch, job.plan, job.order, others, job.target, job.threads, job.constants, copied)
        panels.bytes = job.plan.panel(job.element)
        if apart is None and panels.rows is not None:
            close = job.plan.chunks > 1 or crowded(job.plan, panels.rows, job.element)
            apart = panels.rows if close else None
    row_copy = _copy_of(job, apart) if apart is not None else ""
    blocks = None
    if in_blocks:
        others = job.running(job.others)
        job.plan, blocks = block_rows(sch, job.plan, others, job.loop_of, job.target, job.threads, job.constants)
    if job.plan.once and job.plan.row is not None and not panels.packs:
        # as many rows of memory at a time as a processor finds out by itself to be read one after the other
        job.plan = chunked(job.plan, job.order, job.element, job.plan.lanes * job.element * _beside_each_other(job))
    nest = _around_panels(job, panels, by_rows, beside) if blocks is None else _around_blocks(job, blocks)
    steps = [job.loop_of[v] for v in job.order if job.loop_of[v] not in nest.parts]
    sch.reorder(*units, *nest.outer, *steps, *nest.rows, nest.lanes)
    for name in units:
        sch.elide(name)
    pack_at = "" if by_rows else nest.packed or nest.panel
    for o in panels.packs:
        # what some of the loops around the panels do not move would be copied anew by each of their iterations
        own = all(o.moves(v) for v in job.running(job.lead))
        nest.copies.append(pack(sch, job.block, job.plan, o, pack_at if own else "", job.order))
    nest.copies += [pack(sch, job.block, job.plan, o, "", job.order) for o in panels.ahead]
    if apart is not None and job.plan.row is not None:
        _place_rows(job, nest, apart, row_copy)
    elif blocks is not None and blocks.producer:
        attempt(sch, sch.compute_at, blocks.producer, blocks.around[-1])
        spread_rows(sch, job.block)
    if blocks is not None and job.plan.tile.flat:
        # not before the producer has its place: it would compute for tiles that reach beyond their block
        tiles, row = sch.split(blocks.inside[-1], [None, job.plan.tile.rows])
        sch.reorder(*steps, row, nest.lanes)
        nest.rows = [row]
        nest.outer[-1] = blocks.inside[-1] = tiles
        blocks.cut.append(tiles)
    pack_constants(sch, job.plan, job.constants, job.order)
    return nest


def _copy_of(job: Job, rows: Operand) -> str:
    """Reads the operand of the rows through a copy, which stands in front for now; returns its block."""
    (copy,) = job.sch.cache_read(job.block, rows.buffer, "global")
    shape = shape_of(job.sch.function, find_block(job.sch.function, job.block)) or job.plan.shape
    job.plan = replace(job.plan, shape=shape, flat=None)
    return copy


def _place_rows(job: Job, nest: Nest, rows: Operand, copy: str) -> None:
    """Lays the copy of the rows out in tiles, inside the loops whose iterations read parts of their own."""
    blocks, plan, shape = nest.blocks, job.plan, job.plan.shape
    if nest.parts:
        at = nest.parts[-1]
    elif blocks is not None and blocks.producer:
        at = blocks.around[-1]
    else:
        at = _own_part(job, rows)
    assert plan.row is not None
    steps = pack_rows(job.sch, copy, rows, plan.row, plan.tile.rows, at, job.order)
    if not at:
        parallelize(job.sch, copy, steps, shape.points() // shape.extents[plan.lane], job.threads)


def _in_parts(job: Job) -> list[str]:
    """Splits the axes of the reduction that are done in parts; returns the loops over parts."""
    parts = []
    for v, n in job.plan.chunk.items():
        part = job.loop_of[v]
        if n > 1:
            part, job.loop_of[v] = job.sch.split(part, [None, n])
        parts.append(part)
    return parts


def _around_blocks(job: Job, blocks: Blocks) -> Nest:
    """Blocks of rows around the panels: rows stay close to the core while panels go by."""
    panel, lanes = job.sch.split(job.loop_of[job.plan.lane], [None, job.plan.lanes])
    parts = _in_parts(job)
    lead = [job.loop_of[v] for v in job.running(job.lead)]
    outer = [*lead, *blocks.around, *parts, panel, *blocks.inside]
    return Nest(outer, parts, "", panel, [], blocks.inner, lanes, blocks)


def _around_panels(job: Job, panels: Panels, by_rows: bool, beside: Var | None) -> Nest:
    """Panels around the rows: as many as are packed at once stay close to the core while rows go by."""
    sch, plan, extents = job.sch, job.plan, job.plan.shape.extents
    columns, share = job.loop_of[plan.lane], ""
    parts = _in_parts(job)
    if parts and not panels.packs and (size := _share(job)) < extents[plan.lane]:
        share, columns = sch.split(columns, [None, size])
    panel, lanes = sch.split(columns, [None, plan.lanes])
    sizes = ((plan.line, plan.tile.lines), (plan.row, plan.tile.rows))
    tiled = [(v, n) for v, n in sizes if v is not None and (v is plan.row or n > 1)]
    split = [sch.split(job.loop_of[v], [None, n]) for v, n in tiled]
    tiles, rows = [o for o, _ in split], [i for _, i in split]
    rest = [job.loop_of[v] for v in job.running(job.others) if all(v is not t for t, _ in tiled)]
    lead = [job.loop_of[v] for v in job.running(job.lead)]
    packed = ""
    if by_rows:
        outer = [*parts, *rest, *tiles, panel]
    elif beside is not None:
        # what the rows read does not stay near: it is read for several lines of panels at a time
        lead.remove(job.loop_of[beside])
        many = -(-extents[beside] // -(-extents[beside] // max(panels.room // panels.columns, 1)))
        packed, line = sch.split(job.loop_of[beside], [None, many])
        outer = [*lead, packed, *rest, *tiles, line, panel]
    elif panels.packs and panels.at_once > 1:
        packed, panel = sch.split(panel, [None, panels.at_once])
        outer = [*lead, *parts, packed, *rest, *tiles, panel]
    elif panels.packs:
        outer = [*lead, *parts, panel, *rest, *tiles]
    elif parts:
        outer = [*lead, *([share] if share else []), *parts, *rest, panel, *tiles]
    elif panels.columns * panels.bytes > job.target.l2_bytes // 2:
        outer = [*lead, panel, *rest, *tiles]
    else:
        outer = [*lead, *rest, panel, *tiles]
    if panels.streams > 1:
        panel, stream = sch.split(panel, [None, panels.streams])
        outer[-1], rows = panel, [stream]
    return Nest(outer, parts, packed, panel, tiles, rows, lanes, share=share)


def _beside_each_other(job: Job) -> int:
    """Steps of the reduction in a part, each of which reads a row of memory that streams by.

    A tile's sums go and come again with every part, which takes longer than memory where rows are many; of a few, lines
    of all steps had better find room in the level 1 cache, as the next tile reads their rest.
    """
    steps = [abs(s) * job.element for v in job.plan.shape.reduce if (s := job.plan.shared.strides.get(v))]
    crowded = fullest_set(((min(steps), STEPS),), job.plan.lanes * job.element) > cache_ways(job.target)
    return STEPS // 2 if crowded and _rows(job) <= SHARED else STEPS


def _rows(job: Job) -> int:
    """Rows that all meet what lanes read."""
    return prod(job.plan.shape.extents[v] for v in (job.plan.row, *job.others) if v is not None)


def _share(job: Job) -> int:
    """Columns along which parts of a reduction go at a time: as many as a thread has, and whose sums stay near."""
    plan, width = job.plan, job.target.vector_lanes(job.element * 8)
    threads = 1 if job.running(job.lead) or plan.shape.points() < WORTH else job.threads
    columns = plan.shape.extents[plan.lane]
    shares = max(ceil(_rows(job) * columns * job.element / SUMS), 1)
    shares = ceil(shares / threads) * threads
    return ceil(columns / (shares * width)) * width


def _beside(job: Job) -> Var | None:
    """The innermost of leading axes that what rows read does not have, if that is more than stays close to the core."""
    plan, extents = job.plan, job.plan.shape.extents
    rows = [o for o in plan.shape.operands if plan.row is not None and o.moves(plan.row)]
    found = [v for v in job.running(job.lead) if not any(o.moves(v) for o in rows)]
    size = sum(job.element * prod(e for v, e in extents.items() if o.moves(v)) for o in rows)
    return found[-1] if found and size > job.target.l2_bytes // 2 else None


def _own_part(job: Job, operand: Operand) -> str:
    """The innermost of leading loops under which a copy of an operand holds a part of its own; "" if there is none."""
    at = ""
    for v in job.running(job.lead):
        if not operand.moves(v) or operand.strides.get(v) == 1:
            break  # nothing of its own, or an element of each line
        at = job.loop_of[v]
    return at


def spread_rows(sch: Schedule, block: str) -> None:
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


def reduce_order(shape: Shape, plan: Plan, target: Target) -> list[Var]:
    """Reduce loops with the smallest steps through the row operand innermost.

    Short ones of which registers cannot keep what rows read again stay outside a long one: their steps, one after the
    other, would spill sums for that.

    Args:
        shape: The contraction.
        plan: Its plan.
        target: The machine.
    """
    streamed = [o for o in shape.operands if plan.row is not None and o.moves(plan.row)] or list(shape.operands)
    if plan.once:
        streamed = [plan.shared]

    def step(v: Var) -> int:
        return min((abs(o.strides.get(v) or 1 << 40) for o in streamed), default=0)

    vectors = -(-plan.lanes // target.vector_lanes(32))
    spare = max(target.vector_registers - (plan.rows + 1) * vectors, 0)
    again = [v for v in shape.reduce if kept_elements(plan, v, shape.extents[v]) > spare]
    order = sorted(shape.reduce, key=step, reverse=True)
    long = next((k for k, v in enumerate(order) if shape.extents[v] > UNROLL and v not in again), len(order))
    return [*order[:long], *sorted(order[long:], key=lambda v: v not in again)]
