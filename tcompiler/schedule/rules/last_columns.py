"""The last columns of a contraction, where they are too few to fill a vector: dot products along the reduction instead.

A vector of lanes with one column in use costs as much as a full one: 33 columns take the time of 48. Where what the
rows read lies along the reduction, so do the lanes of these columns' sums. A tile of rows shares the columns' vectors,
and its sums are folded in halves together, so that vectors stay full until there is one sum for each row:

    for columns …: copy the column
    for rows …: partial[rows, lanes] += x[rows, lanes] · column[lanes], for all steps;
        partial[rows, half] = partial[rows, first half] + partial[rows, second half], until one lane is left

Where one panel holds the other columns, or all panels of a constant stay near, both share a loop over tiles of rows, so
that rows are read once from where they are (`reduction.py`). Attention's second product has such columns, too (65
channels of a head): their copy stands where its panels do, their tiles behind the others of each block of rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf, prod

from tcompiler.backends.llvm.linear import linear
from tcompiler.errors import ScheduleError
from tcompiler.ir.loop.analysis import accesses, find_block
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.primitives.boxes import bound_indices
from tcompiler.schedule.rules.accesses import Operand, Shape
from tcompiler.schedule.rules.attempt import peel_tails
from tcompiler.schedule.rules.body import lanes_and_rows, lanes_innermost
from tcompiler.schedule.rules.elementwise import schedule_map
from tcompiler.schedule.rules.last_places import places_cycles
from tcompiler.schedule.rules.packing import shifted
from tcompiler.schedule.rules.plan import Plan, own_shape
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.dots import ROWS, dot_cycles, fits, tall
from tcompiler.target.target import Target
from tcompiler.target.tile import Registers, near_bytes

COPY = 1.0
"""Cycles for an element of a column that is copied."""


@dataclass(frozen=True, slots=True)
class Last:
    """Last columns that fill no vector.

    Attributes:
        columns: How many.
        cycles: What they take in a nest of their own.
        kind: "dots" along the reduction, lanes along "places", or "tiles" with lanes along another axis.
    """

    columns: int
    cycles: float
    kind: str


def last_columns(
    plan: Plan, element: int, target: Target, constants: Collection[str], inside: bool = False
) -> Last | None:
    """The columns of a plan that fill no vector, if they could be a nest of their own.

    Args:
        plan: The plan.
        element: Bytes of an element.
        target: The machine.
        constants: Operands whose columns are copied once.
        inside: Whether they share loops with others, and are dot products or nothing.
    """
    width = target.vector_lanes(element * 8)
    extent, rows = plan.shape.extents[plan.lane], _rows(plan)
    columns = extent % width
    if extent <= width or rows is None or not columns:
        return None
    near = near_bytes(target)
    registers = Registers.of(target, width, near, near)
    dots = _cycles(plan, columns, registers, constants)
    places = inf if inside else places_cycles(plan.shape, plan.lane, columns, registers)
    cycles = min(dots, places)
    return Last(columns, cycles, "places" if places < dots else "dots") if cycles < inf else None


def _cycles(plan: Plan, columns: int, registers: Registers, constants: Collection[str]) -> float:
    """Cycles that dot products for so many columns take; infinite where a plan's rows are read in no order for them."""
    shape, rows = plan.shape, _rows(plan)
    assert rows is not None
    run = prod(shape.extents[v] for v in _run(shape, rows))
    depth = prod(shape.extents[v] for v in shape.reduce)
    alone = [shifted(i) for i in plan.shared.indices]
    if any(plan.shared.moves(v) and v not in alone for v in shape.reduce):
        return inf
    if run < registers.width or depth == registers.width:  # one vector is all there is to fold
        return inf
    others = [v for v in shape.spatial if v is not plan.lane]
    if not tall(columns, registers.count) or _row(others, shape, rows, plan.shared) is None:
        return inf
    copied = 0 if plan.shared.buffer in constants else columns
    for v, extent in shape.extents.items():
        if plan.shared.moves(v) and v is not plan.lane:
            copied *= extent
    results = prod(shape.extents[v] for v in shape.spatial if v is not plan.lane)
    return dot_cycles(results, columns, run, depth // run, registers) + copied * COPY


def cut_last_columns(sch: Schedule, block: str, plan: Plan, constants: Collection[str]) -> str:
    """Puts the last columns of a contraction into a nest behind it.

    Args:
        sch: The schedule.
        block: A block with an Update, in a nest of its own.
        plan: A plan for the columns before them.
        constants: Operands whose layout may be chosen: columns of each group get an axis of their own.

    Returns:
        The block of the last columns.
    """
    loop_of = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
    columns = plan.shape.extents[plan.lane]
    if plan.shared.buffer in constants:
        names = [f"d{k}" for k in range(len(plan.shared.indices))]
        apart = list(names)
        for k, i in enumerate(plan.shared.indices):
            steps = linear(i, {}).terms
            if plan.lane in steps and len(steps) > 1:
                apart[k] = f"{names[k]} // {columns + plan.left}, {names[k]} % {columns + plan.left}"
        if apart != names:
            sch.transform_layout(plan.shared.buffer, f"lambda {', '.join(names)}: ({', '.join(apart)})", False)
    sch.reorder(loop_of[plan.lane], *(n for v, n in loop_of.items() if v is not plan.lane and n))
    _, rest = sch.peel(loop_of[plan.lane], [columns])
    return sch.blocks_under(rest)[0]


def schedule_last_dots(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str]) -> None:
    """Schedules a contraction to a few columns, in a nest of its own, as dot products.

    Args:
        sch: The schedule.
        block: What `cut_last_columns` returned.
        target: The machine.
        threads: Threads that the kernel may use.
        constants: Operands whose layout may be chosen: their columns are copied once.
    """
    last = _Last.of(sch, block)
    shape, column, loop_of = last.shape, last.column, last.loop_of
    others = [v for v in shape.spatial if v in loop_of and v is not last.lane and v is not last.row]
    for v in others:
        if shape.extents[v] == 1:
            sch.elide(loop_of[v])
    others = sorted((v for v in others if shape.extents[v] > 1), key=lambda v: not column.moves(v))
    outer = [loop_of[v] for v in others]
    own = [loop_of[v] for v in others if column.moves(v) and column.buffer not in constants]
    sch.reorder(*outer, *last.inner())
    _copy(sch, block, last, target, own[-1] if own else "")
    outer += _tiles_of(sch, block, last, target)
    parallelize(sch, block, outer, shape.points(), threads)


def copy_last_columns(sch: Schedule, block: str, target: Target, loop: str) -> str:
    """Copies last columns of a contraction inside shared loops in the order in which rows are read.

    Args:
        sch: The schedule.
        block: What `cut_last_columns` returned.
        target: The machine.
        loop: The shared loop under which the copy stands; "" for one in front.

    Returns:
        The block that copies; "" if they lie so.
    """
    return _copy(sch, block, _Last.of(sch, block), target, loop)


def tile_last_columns(sch: Schedule, block: str, target: Target) -> None:
    """Makes dot products of last columns of a contraction, by the loops that are its own.

    Args:
        sch: The schedule.
        block: What `cut_last_columns` returned, or a piece of it; its columns are copied.
        target: The machine.
    """
    last = _Last.of(sch, block)
    sch.reorder(*last.inner())
    _tiles_of(sch, block, last, target)


@dataclass(frozen=True, slots=True)
class _Last:
    """A contraction to a few columns.

    Attributes:
        shape: How its iter vars move its operands, by its own loops.
        lane: The axis of the columns.
        row: The axis of rows that tiles cover.
        rows: The operand that rows move.
        column: The other one.
        run: The axes of the reduction along which rows are read element by element.
        loop_of: The block's own loops.
    """

    shape: Shape
    lane: Var
    row: Var
    rows: Operand
    column: Operand
    run: list[Var]
    loop_of: dict[Var, str]

    @staticmethod
    def of(sch: Schedule, block: str) -> _Last:
        """Reads what `cut_last_columns` returned."""
        shape = own_shape(sch, block)
        assert shape is not None
        columns = sch.own_loops(block)
        loops = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
        loop_of = {v: n for v, n in loops.items() if n}
        lane = min(loop_of, key=lambda v: columns.index(loop_of[v]))
        (rows,) = (o for o in shape.operands if not o.moves(lane))
        (column,) = (o for o in shape.operands if o.moves(lane))
        row = _row([v for v in shape.spatial if v in loop_of and v is not lane], shape, rows, column)
        if row is None:
            raise ScheduleError(f"{block} has no rows for tiles")
        return _Last(shape, lane, row, rows, column, _run(shape, rows), loop_of)

    def inner(self) -> list[str]:
        """The loops of a tile in order: rows, columns, steps of the reduction."""
        reduced = [n for v in self.shape.reduce if v not in self.run and (n := self.loop_of.get(v))]
        return [self.loop_of[self.row], self.loop_of[self.lane], *reduced, *(self.loop_of[v] for v in self.run)]


def _copy(sch: Schedule, block: str, last: _Last, target: Target, loop: str) -> str:
    """Copies columns under a loop, unless they lie as rows do; returns the block that does."""
    if all(last.column.strides.get(v) == last.rows.strides.get(v) for v in last.run):
        return ""
    (copy,) = sch.cache_read(block, last.column.buffer, "local" if loop else "global")
    _along_run(sch, sch.written_by(copy), last.column, last.shape, last.rows)
    if loop:
        sch.compute_at(copy, loop)
    schedule_map(sch, copy, target, 1)
    return copy


def _tiles_of(sch: Schedule, block: str, last: _Last, target: Target) -> list[str]:
    """Cuts the rows of last columns into tiles, its loops in order; returns the loop over the largest tiles."""
    inner = [last.loop_of[v] for v in last.run]
    if len(inner) > 1:
        sch.fuse(*inner)
    at = {i.var: k for k, i in enumerate(sch.iters(block))}
    rows, columns = (last.shape.extents[v] for v in (last.row, last.lane))
    sizes = [n for n in ((rows, *ROWS) if rows < 2 * ROWS[0] else ROWS) if fits(n, columns, target.vector_registers)]
    width = target.vector_lanes(buffer_table(sch.function)[last.shape.target.buffer].dtype.bytes * 8)
    return _tiles(sch, block, at[last.row], at[last.lane], sizes, width)


def _tiles(sch: Schedule, block: str, row: int, lane: int, sizes: Sequence[int], width: int) -> list[str]:
    """Cuts rows into tiles of some sizes, the largest first, and what is left into single rows.

    Args:
        sch: The schedule.
        block: The block, with the loop of rows, that of columns and those of the reduction innermost.
        row: Which of its iter vars counts rows.
        lane: Which one counts columns.
        sizes: Rows of a tile.
        width: Lanes of a vector.

    Returns:
        The loop over the largest tiles.
    """
    loop = sch.loop_of(block, row)
    extent = sch.extent(loop) or 1
    size, *smaller = (*sizes, 1)
    if extent < size:
        return _tiles(sch, block, row, lane, smaller, width)
    if extent % size:
        _, rest = sch.peel(loop, [extent // size * size])
        _tiles(sch, sch.blocks_under(rest)[0], row, lane, smaller, width)
    around, _ = sch.split(loop, [None, size])
    _tile(sch, block, row, around, sch.loop_of(block, lane), width)
    return [around]


def _tile(sch: Schedule, block: str, row: int, around: str, columns: str, width: int) -> None:
    """Computes the sums of a tile of rows in lanes, and folds them.

    Args:
        sch: The schedule.
        block: The block.
        row: Which of its iter vars counts rows.
        around: The loop over tiles.
        columns: The loop over columns.
        width: Lanes of a vector.
    """
    rows = sch.loop_of(block, row)
    *others, run = sch.loops(block)[sch.loops(block).index(columns) + 1 :]
    narrow = 0 < (sch.extent(run) or 1) % width <= width // 2
    steps, lanes = sch.split(run, [None, width])
    sch.reorder(around, columns, rows, *others, steps, lanes)
    combining = _partial(sch, block, row, lanes, around, 0, narrow)
    half = width // 2
    while half > 1:
        _, lanes = sch.split(combining, [None, half])
        combining = _partial(sch, block, row, lanes, around, width)
        half //= 2
    init, write = sch.stage_accumulate(block, around, "register")
    sch.reorder(combining, columns, rows)
    sch.unroll(combining)
    sch.unroll(columns)
    if sch.extent(rows) == 1:
        sch.unroll(rows)
    else:
        sch.vectorize(rows)
        lanes_innermost(sch, block, rows, init, write)
    lanes_and_rows(sch, init)
    lanes_and_rows(sch, write)


def _partial(sch: Schedule, block: str, row: int, lanes: str, around: str, width: int, narrow: bool = False) -> str:
    """Makes partial results for every iteration of a loop, for all rows and columns of a tile.

    Args:
        sch: The schedule.
        block: The block.
        row: Which of its iter vars counts rows.
        lanes: The loop.
        around: The loop over tiles.
        width: Lanes of a vector that several rows share; 0 where each row has vectors of its own.
        narrow: Whether less than half of the last vector is in use: it stays one, under a mask, as it would have to be
            put into a longer one otherwise, to be added to those before it.

    Returns:
        The loop that combines them.
    """
    partial, combining = sch.rfactor(block, lanes)
    _deal_out(sch, partial)
    sch.compute_at(partial, around)
    kinds = {sch.loop_of(partial, k): i.kind for k, i in enumerate(sch.iters(partial))}
    own = [n for n in sch.own_loops(partial) if n != around]
    steps = [n for n in own if kinds[n] == "reduce"]
    rows = sch.loop_of(partial, row)
    *columns, last = [n for n in own if kinds[n] == "spatial" and n != rows]
    sch.reorder(*steps, *columns, *([rows] if rows else []), last)
    (init,) = sch.decompose_reduction(partial, steps[0])
    sums = sch.written_by(partial)
    sch.compact(sums, around)
    (place,) = accesses(find_block(sch.function, partial)).writes
    at = bound_indices(find_block(sch.function, partial), place.indices)
    if not {v.name for i in at for v in free_vars(i) if sch.extent(v.name) != 1} <= set(own):
        raise ScheduleError(f"{sums} does not shrink to a tile of {block}")
    sch.set_scope(sums, "register")
    for name in (partial, init):
        *unrolled, last = [n for n in sch.own_loops(name) if n not in steps]
        if width and rows:
            (last,) = sch.fuse(unrolled.pop(), last)
            if (sch.extent(last) or 1) > width:
                more, last = sch.split(last, [None, width])
                unrolled.append(more)
        for n in unrolled:
            sch.unroll(n)
        sch.vectorize(last)
    if width:
        for n in steps:
            sch.unroll(n)
    elif narrow:
        count = sch.extent(steps[-1]) or 1
        (*_, masked) = sch.peel(steps[-1], [count - 2]) if count > 2 else steps[-1:]
        sch.unroll(masked)
    else:
        peel_tails(sch, steps[-1])
    return combining


def _deal_out(sch: Schedule, partial: str) -> None:
    """Gives the phases of positions, of which results have one axis together, axes of their own in partial results."""
    node = find_block(sch.function, partial)
    extents = {i.var: as_int(i.var.extent) for i in node.iters}
    (place,) = accesses(node).writes
    names = [f"d{k}" for k in range(len(place.indices))]
    apart = list(names)
    for k, i in enumerate(place.indices):
        steps = {c: v for v, c in linear(i, {}).terms.items() if isinstance(v, Var)}
        size = max(steps, default=1)
        if len(steps) == 2 and 1 in steps and extents.get(steps[1]) == size:
            apart[k] = f"{names[k]} // {size}, {names[k]} % {size}"
    if apart != names:
        sch.transform_layout(place.buffer, f"lambda {', '.join(names)}: ({', '.join(apart)})", False)


def _rows(plan: Plan) -> Operand | None:
    """The operand that rows move, if it is the only one beside the shared one."""
    others = [o for o in plan.shape.operands if not o.moves(plan.lane)]
    return others[0] if len(others) == 1 and len(plan.shape.operands) == 2 else None


def _row(axes: Sequence[Var], shape: Shape, rows: Operand, column: Operand) -> Var | None:
    """Of some axes that of rows that tiles cover best: of those, the one closest in memory."""
    found = [v for v in axes if rows.strides.get(v) and not column.moves(v)]
    alone = {v: shape.extents[v] % ROWS[0] / shape.extents[v] for v in found}
    return min(found, key=lambda v: (shape.extents[v] == 1, alone[v], rows.strides[v] or 0), default=None)


def _run(shape: Shape, rows: Operand) -> list[Var]:
    """The axes of the reduction, outermost first, that walk an operand element by element."""
    found: list[Var] = []
    step = 1
    for v in sorted(shape.reduce, key=lambda v: abs(rows.strides.get(v) or 0)):
        if rows.strides.get(v) == step and shape.extents[v] > 1:
            found.insert(0, v)
            step *= shape.extents[v]
    return found


def _along_run(sch: Schedule, cache: str, column: Operand, shape: Shape, rows: Operand) -> None:
    """Lays the copy of columns out in the order in which rows are read."""
    order = sorted(shape.reduce, key=lambda v: -abs(rows.strides.get(v) or 0))
    names = [f"d{k}" for k in range(len(column.indices))]
    at = {v: n for n, i in zip(names, column.indices, strict=True) for v in order if shifted(i) is v}
    outer = [n for n in names if n not in at.values()]
    walked = [at[v] for v in order if v in at]
    sch.transform_layout(cache, f"lambda {', '.join(names)}: ({', '.join([*outer, *walked])})", False)
