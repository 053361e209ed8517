"""Copies of operands in the order in which a tile reads them: at run time, or once for constants."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import gcd, prod

from tcompiler.backends.llvm.linear import linear
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Scalar, Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.rules.accesses import Operand, Shape, element_strides
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.plan import Plan
from tcompiler.schedule.rules.row_blocks import from_memory
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.model import swift
from tcompiler.target.target import LINE_BYTES, Target
from tcompiler.target.tile import ELSE, FORESEEN, WAY_BYTES, cache_ways, fullest_set

PANELS = 4
"""Panels that rows have to meet to be worth a copy where the level 1 cache does not hold their lines."""
CROWDED_PANELS = 16
"""Panels that they have to meet where it does hold them, and not much else."""
REUSE = 4
"""An operand that is not contiguous along the lanes is packed if each of its elements is used this often."""
FEW = 8
"""The same of one that is asked for a panel ahead where it lies."""
RUN_PANELS = 8
"""Panels that a copy of a whole operand writes to side by side."""
RUN_LINES = 2
"""Lines of memory that lanes read side by side from which on a panel is read where it lies, if a cache holds it."""
FAR_WAY_BYTES = 1 << 16
"""Addresses this far apart share a set of the level 2 cache."""
CROWDED_SETS = 2
"""Times the lines of a set that there are on average, in the fullest set, from which on lines crowd a few sets."""
STEP = 8
"""Elements of a row that a copy reads at once where the lanes lie apart."""


def _plain(operand: Operand, var: Var) -> int | None:
    """The index position at which an operand has this iter var alone."""
    for k, i in enumerate(operand.indices):
        if i is var:
            return k
    return None


def shifted(index: Scalar) -> Var | None:
    """The iter var of an index that is one iter var plus a constant, if it is."""
    form = linear(index, {})
    if len(form.terms) != 1:
        return None
    ((atom, c),) = form.terms.items()
    return atom if isinstance(atom, Var) and c == 1 else None


def packable(operand: Operand) -> bool:
    """Whether every index is a constant or a distinct iter var (and an offset), so that a copy is a plain transpose."""
    live = [shifted(i) for i in operand.indices if as_int(i) is None]
    return None not in live and len(set(live)) == len(live)


def stays_near(plan: Plan, operand: Operand, element: int, target: Target) -> bool:
    """Whether the level 1 cache holds a panel of an operand as it lies, in runs of several lines.

    Such runs come as swiftly as a copy of them, which all rows would wait for; from memory, longer ones come sooner.

    Args:
        plan: The plan.
        operand: What is read along the lanes.
        element: Bytes of an element.
        target: The machine.
    """
    run = plan.lanes * element
    if operand.strides.get(plan.lane) != 1 or run < RUN_LINES * LINE_BYTES:
        return False
    if from_memory(plan, operand, element, target):
        return False
    steps = [(abs(element * (operand.strides.get(v) or 0)), plan.shape.extents[v]) for v in plan.shape.reduce]
    apart = tuple((s, n) for s, n in steps if s and n > 1)
    room = cache_ways(target) - ELSE
    size = run * prod(n for _, n in apart)
    return size <= room * WAY_BYTES and fullest_set(apart, run) <= max(room, CROWDED_SETS * size / WAY_BYTES)


def lost(shape: Shape, operand: Operand, element: int, target: Target) -> bool:
    """Whether an operand comes from beyond the level 2 cache again and again, as that does not hold its lines.

    Those of all steps of the reduction are read before what lies beside the first of them is; at even distances, or
    nearly even ones, they crowd a few sets of the cache. Those close by, a processor foresees.

    Args:
        shape: The reduction.
        operand: What is read.
        element: Bytes of an element.
        target: The machine.
    """
    size = element * prod(e for v, e in shape.extents.items() if operand.moves(v))
    steps = [
        (element * abs(s), e) for v in shape.reduce if (e := shape.extents[v]) > 1 and (s := operand.strides.get(v))
    ]
    if swift(target) or size <= target.l2_bytes or min((s for s, _ in steps), default=0) < FORESEEN:
        return False
    return fullest_set(tuple(steps), LINE_BYTES, FAR_WAY_BYTES) > target.l2_bytes // FAR_WAY_BYTES // 2


def asked_ahead(plan: Plan, operand: Operand, element: int, target: Target) -> bool:
    """Whether lanes read an operand where it lies, far away, so that tiles ask for it a panel ahead.

    Each step of a reduction reads a line of its own from beyond the level 2 cache, far from the one before, which
    nothing foresees: the few tiles of rows that meet a panel wait for it otherwise, or a copy does. The level 1 cache
    holds both panels.

    Args:
        plan: The plan.
        operand: What is read along the lanes.
        element: Bytes of an element.
        target: The machine.
    """
    shape, panel = plan.shape, plan.panel(element)
    size = element * prod(e for v, e in shape.extents.items() if operand.moves(v))
    steps = [
        (element * abs(s), e) for v in shape.reduce if (e := shape.extents[v]) > 1 and (s := operand.strides.get(v))
    ]
    if swift(target) or size <= target.l2_bytes or min((s for s, _ in steps), default=0) < FORESEEN:
        return False
    few = _reuse(shape, operand) < FEW * plan.rows and 2 * panel <= target.l1_bytes
    if not few or operand.strides.get(plan.lane) != 1 or lost(shape, operand, element, target):
        return False
    room = max(cache_ways(target) / 2, CROWDED_SETS * panel / WAY_BYTES)
    return fullest_set(tuple(steps), plan.lanes * element) <= room


def _reuse(shape: Shape, operand: Operand) -> int:
    """How often a reduction reads an element of an operand, but for the taps of windows."""
    return prod(shape.extents[v] for v in shape.spatial if not operand.moves(v))


def runtime_packs(sch: Schedule, plan: Plan, constants: Collection[str], target: Target) -> list[Operand]:
    """Operands to copy into panels inside the kernel: read along the lanes, reused by many rows, badly laid out."""
    shape = plan.shape
    result = []
    for o in shape.operands:
        if not o.moves(plan.lane) or o.buffer in constants or not packable(o):
            continue
        element = buffer_table(sch.function)[o.buffer].dtype.bytes
        if stays_near(plan, o, element, target):
            continue
        apart = max((abs(o.strides.get(v) or 0) for v in shape.reduce), default=0)
        side_by_side = apart < plan.lanes + target.vector_lanes(element * 8)  # but for a part of a vector
        reuse = _reuse(shape, o)
        again = reuse >= REUSE * plan.rows and not asked_ahead(plan, o, element, target)
        again = again or (reuse > plan.rows and lost(shape, o, element, target))
        if o.strides.get(plan.lane) != 1 or (again and not side_by_side and not plan.once):
            result.append(o)
    return result


def pack(sch: Schedule, block: str, plan: Plan, operand: Operand, loop: str, order: Sequence[Var]) -> str:
    """Copies an operand into a buffer of panels, lanes innermost.

    Args:
        sch: The schedule.
        block: The reader.
        plan: Its plan.
        operand: What to copy.
        loop: The loop over blocks of panels under which the copy stands; "" copies the whole operand in front.
        order: The axes of the reduction, as the reader walks them.

    Returns:
        The copy's loop over panels, "" where there is one only.
    """
    (copy,) = sch.cache_read(block, operand.buffer, "local" if loop else "global")
    cache = sch.written_by(copy)
    if loop:
        sch.compute_at(copy, loop)
    rank = len(operand.indices)
    at = _tiled(sch, cache, operand, plan.lane, plan.lanes, order)
    loops = sch.own_loops(copy)
    lane_loop, tail_loop = sch.loop_of(copy, at), ""
    if not lane_loop:
        return ""
    others = [n for n in loops if n != lane_loop]
    if (sch.extent(lane_loop) or 1) > plan.lanes:
        tail_loop, lane_loop = sch.split(lane_loop, [None, plan.lanes])
    panels = [tail_loop] if tail_loop else []
    along = sch.loop_of(copy, rank - 1) if at != rank - 1 else ""
    cut: list[str] = []
    if along and (sch.extent(along) or 1) >= STEP:
        # what lies across the lanes is read along memory, and transposed in registers
        outer_loop, inner_loop = sch.split(along, [None, STEP])
        sch.reorder(*(n for n in others if n != along), *panels, outer_loop, inner_loop, lane_loop)
        sch.unroll(inner_loop)
        peel_tails(sch, outer_loop)  # fewer steps are no square: their lanes would be gathered, and stay a loop
    elif not loop and tail_loop and (sch.extent(tail_loop) or 1) > RUN_PANELS:
        # rows are read in runs of a block of panels, which is kinder to caches and pages than panel by panel, as is
        # writing to no more places at once than a cache has ways
        tail_loop, run = sch.split(tail_loop, [None, RUN_PANELS])
        # a run is several lines, while a panel gets one of each: the order of the panels, not of what is read
        steps = {
            sch.loop_of(copy, k): order.index(v) for k, i in enumerate(operand.indices) if (v := shifted(i)) in order
        }
        others.sort(key=lambda n: steps.get(n, -1))
        sch.reorder(tail_loop, *others, run, lane_loop)
        cut = [tail_loop, run]
    else:
        sch.reorder(*others, *panels, lane_loop)
    sch.vectorize(lane_loop)
    for name in cut:
        peel_tails(sch, name)
    return tail_loop


def _tiled(sch: Schedule, cache: str, operand: Operand, axis: Var, tile: int, order: Sequence[Var]) -> int:
    """Lays a copy out in tiles of one axis, the steps of the reduction inside them; returns the axis's position."""
    axes = [shifted(i) for i in operand.indices]
    at = axes.index(axis)
    names = [f"d{k}" for k in range(len(axes))]
    outer = [n for n, v in zip(names, axes, strict=True) if v is not axis and all(v is not r for r in order)]
    steps = [names[k] for r in order for k, v in enumerate(axes) if v is r]
    outputs = [f"{names[at]} // {tile}", *outer, *steps, f"{names[at]} % {tile}"]
    sch.transform_layout(cache, f"lambda {', '.join(names)}: ({', '.join(outputs)})", False)
    return at


def rows_apart(plan: Plan, target: Target, constants: Collection[str]) -> Operand | None:
    """The operand of the rows that is worth a copy, as each step of the reduction reads another line of memory of it.

    Rows of a tile lie side by side in such a line. The tiles beside it want the same lines, which crowd the level 1
    cache or have left it by then.

    Args:
        plan: The plan.
        target: The machine.
        constants: Operands that are laid out once.
    """
    found = _far_rows(plan, 2)
    if found is None or found.buffer in constants:
        return None
    beside = found.strides.get(plan.row or plan.lane) == 1
    steps = [4 * abs(s) for v in plan.shape.reduce if plan.extents[v] > 1 and (s := found.strides.get(v))]
    if beside and min(steps, default=0) < LINE_BYTES:
        return None
    # axes that the rows' operand does not have are panels, too
    more = [v for v in plan.shape.spatial if plan.shared.moves(v) and v is not plan.lane and not found.moves(v)]
    panels = plan.shape.extents[plan.lane] // plan.lanes * prod(plan.shape.extents[v] for v in more)
    # rows that do not lie side by side have lines of their own, of which every step takes a part
    tall = 1 if beside else plan.tile.rows
    lines = min(LINE_BYTES, *steps) * tall * prod(plan.extents[v] for v in plan.shape.reduce if found.moves(v))
    # lines at even distances fall into some of the cache's sets only
    held = target.l1_bytes // max(gcd(*steps, WAY_BYTES) // LINE_BYTES, 1)
    gone = lines > held // 2 and panels >= PANELS
    return found if gone or (lines > held // 8 and panels >= CROWDED_PANELS) else None


def rows_copied(plan: Plan, constants: Collection[str]) -> Operand | None:
    """The operand of the rows, if it can be copied in parts: run-time values that enough panels meet.

    Args:
        plan: The plan.
        constants: Operands that are laid out once.
    """
    found = _far_rows(plan, 1)
    if found is None or found.buffer in constants or plan.shape.extents[plan.lane] < CROWDED_PANELS * plan.lanes:
        return None
    return found


def crowded(plan: Plan, rows: Operand, element: int) -> bool:
    """Whether rows fall into the same few sets of a cache, and meet enough panels to be worth a copy.

    Args:
        plan: The plan.
        rows: What `rows_copied` found.
        element: Bytes of an element.
    """
    apart = (rows.strides.get(plan.row or plan.lane) or 1) * element
    return apart % WAY_BYTES == 0 and plan.shape.extents[plan.lane] >= 2 * CROWDED_PANELS * plan.lanes


def _far_rows(plan: Plan, least: int) -> Operand | None:
    """The one operand that rows move, and lanes do not, by steps of the reduction at least so many elements apart."""
    shape, row = plan.shape, plan.row
    if row is None or plan.shared.moves(row) or plan.tile.lines > 1 or plan.tile.flat:
        return None
    found = [o for o in shape.operands if o.moves(row)]
    if len(found) != 1 or found[0].moves(plan.lane) or not packable(found[0]):
        return None
    if sum(o.buffer == found[0].buffer for o in shape.operands) > 1:
        return None
    steps = [abs(s) for v in shape.reduce if shape.extents[v] > 1 and (s := found[0].strides.get(v))]
    return found[0] if steps and min(steps) >= least else None


def pack_rows(
    sch: Schedule, copy: str, operand: Operand, row: Var, rows: int, loop: str, order: Sequence[Var]
) -> list[str]:
    """Lays the copy of a row operand out in tiles: the rows of one side by side, step by step of the reduction.

    Args:
        sch: The schedule.
        copy: The block that copies.
        operand: What it copies.
        row: The axis of rows.
        rows: Rows of a tile.
        loop: The loop over blocks of rows under which the copy stands; "" copies the whole operand in front.
        order: The axes of the reduction, as the reader walks them.

    Returns:
        The copy's loops over steps.
    """
    cache = sch.written_by(copy)
    at = _tiled(sch, cache, operand, row, rows, order)
    if loop:
        sch.compute_at(copy, loop)
    # a step is written to all tiles in turn, which must not fall into one set of a cache
    close = WAY_BYTES // LINE_BYTES * 4
    attempt(sch, _kept_apart, sch, cache, close)
    inner, along = sch.loop_of(copy, at), ""
    steps = [n for n in sch.own_loops(copy) if n != inner]
    for k, i in enumerate(operand.indices):
        if k != at and operand.strides.get(shifted(i) or row) == 1 and sch.loop_of(copy, k) in steps:
            # rows that do not lie side by side are read along memory, and transposed in registers
            along = sch.loop_of(copy, k)
            steps.remove(along)
            if (sch.extent(along) or 1) > STEP:
                whole, along = sch.split(along, [None, STEP])
                steps.append(whole)
    if not inner:
        return steps
    tiles = ""
    if (sch.extent(inner) or rows) > rows:
        tiles, inner = sch.split(inner, [None, rows])
    # rows that are read along memory have lines of their own, which do not all stay until the next step
    order_of = (tiles, *steps, along, inner) if along else (*steps, tiles, inner)
    if len(names := [n for n in order_of if n]) > 1:
        sch.reorder(*names)
    sch.vectorize(inner)
    if along:
        sch.unroll(along)
    for name in (tiles, *steps):
        if name:
            peel_tails(sch, name)
    return steps


def _kept_apart(sch: Schedule, cache: str, close: int) -> bool:
    """Moves the tiles of a copy apart where their distance divides by so many elements."""
    strides = element_strides(buffer_table(sch.function)[cache])
    if strides is None or strides[0] % close:
        return False
    sch.pad_stride(cache, 0, close, LINE_BYTES // 4)
    return True


def pack_constants(sch: Schedule, plan: Plan, constants: Collection[str], reduce_order: list[Var]) -> None:
    """Lays constant operands out in the order in which the tile reads them."""
    rows = _far_rows(plan, 2)
    if rows is not None and rows.buffer in constants and plan.row is not None:
        _tiled(sch, rows.buffer, rows, plan.row, plan.tile.rows, reduce_order)
    elif plan.turn is not None and plan.turn is plan.line and plan.row is not None:
        for o in plan.shape.operands:
            if o.buffer in constants and o.moves(plan.turn) and o.moves(plan.row) and packable(o):
                _tiled(sch, o.buffer, o, plan.row, plan.tile.rows, [*reduce_order, plan.turn])
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


def _group(index: Scalar, plan: Plan) -> int:
    """Filters of a group, where an index counts groups of as many lanes as there are; 0 where it does not."""
    form = linear(index, {})
    size = plan.shape.extents[plan.lane]
    others = [c for v, c in form.terms.items() if v is not plan.lane]
    return size if form.const == 0 and others == [size] and form.terms.get(plan.lane) == 1 else 0
