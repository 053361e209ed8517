"""Copies of operands in the order in which a tile reads them: at run time, or once for constants."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from tcompiler.backends.llvm.linear import linear
from tcompiler.ir.scalar.grammar import Scalar, Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.rules.accesses import Operand
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.plan import Plan
from tcompiler.schedule.schedule import Schedule

REUSE = 4
"""An operand that is not contiguous along the lanes is packed if each of its elements is used this often."""
APART = 16
"""Elements of a line of a cache: rows that lie side by side are read in place if steps of the reduction are closer."""
ROW_REUSE = 64
"""What rows read, steps of the reduction apart, is copied if each of its elements is used this often."""
STEP = 8
"""Elements of a row that a copy reads at once where the lanes lie apart."""


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


def packable(operand: Operand) -> bool:
    """Whether every index is a constant or a distinct iter var (and an offset), so that a copy is a plain transpose."""
    live = [_shifted(i) for i in operand.indices if as_int(i) is None]
    return None not in live and len(set(live)) == len(live)


def runtime_packs(sch: Schedule, plan: Plan, constants: Collection[str]) -> list[Operand]:
    """Operands to copy into panels inside the kernel: read along the lanes, reused by many rows, badly laid out."""
    shape = plan.shape
    result = []
    for o in shape.operands:
        if not o.moves(plan.lane) or o.buffer in constants or not packable(o):
            continue
        reuse = 1
        for v in shape.spatial:
            if not o.moves(v):
                reuse *= shape.extents[v]
        apart = max((abs(o.strides.get(v) or 0) for v in shape.reduce), default=0)
        if o.strides.get(plan.lane) != 1 or (reuse >= REUSE * plan.rows and apart > plan.lanes):
            result.append(o)
    return result


def lay_out_rows(sch: Schedule, block: str, plan: Plan, constants: Collection[str]) -> tuple[str, Operand] | None:
    """Stores what the rows of a tile read with the steps of the reduction side by side, where they lie lines apart.

    A tile then reads whole lines, and few of them fall into one set of a cache. Constants are stored so at compile
    time; of others a copy is made, if enough panels read it.

    Args:
        sch: The schedule; the block stands in a loop nest of its own.
        block: The reader.
        plan: Its plan.
        constants: Operands that are laid out once.

    Returns:
        The block that copies, and the operand; None where nothing was changed.
    """
    shape = plan.shape
    if plan.row is None or plan.shared.moves(plan.row):
        return None
    for o in shape.operands:
        if not o.moves(plan.row) or o.moves(plan.lane) or not packable(o):
            continue
        steps = [abs(o.strides.get(v) or 0) for v in shape.reduce if o.moves(v) and shape.extents[v] > 1]
        if not steps or min(steps) < (APART if o.strides.get(plan.row) == 1 else 2):
            continue
        reuse = prod(e for v, e in shape.extents.items() if v in shape.spatial and not o.moves(v))
        if reuse < ROW_REUSE and o.buffer not in constants:
            continue
        copy, buffer = "", o.buffer
        if o.buffer not in constants:
            (copy,) = sch.cache_read(block, o.buffer, "global")
            buffer = sch.written_by(copy)
        names = [f"d{k}" for k in range(len(o.indices))]
        summed = sorted(p for v in shape.reduce if (p := _index_of(o, v)) is not None)
        order = [n for k, n in enumerate(names) if k not in summed] + [names[k] for k in summed]
        sch.transform_layout(buffer, f"lambda {', '.join(names)}: ({', '.join(order)})", False)
        return copy, o
    return None


def _index_of(operand: Operand, var: Var) -> int | None:
    """The index position that an iter var moves, of a packable operand."""
    return next((k for k, i in enumerate(operand.indices) if var in free_vars(i)), None)


def pack(sch: Schedule, block: str, plan: Plan, operand: Operand, loop: str) -> str:
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
    order = [n for n in loops if n != lane_loop]
    if (sch.extent(lane_loop) or 1) > plan.lanes:
        tail_loop, lane_loop = sch.split(lane_loop, [None, plan.lanes])
    panels = [tail_loop] if tail_loop else []
    along = sch.loop_of(copy, rank - 1) if at != rank - 1 else ""
    if along and (sch.extent(along) or 1) >= STEP:
        # what lies across the lanes is read along memory, and transposed in registers
        outer_loop, inner_loop = sch.split(along, [None, STEP])
        sch.reorder(*(n for n in order if n != along), *panels, outer_loop, inner_loop, lane_loop)
        sch.unroll(inner_loop)
        peel_tails(sch, outer_loop)
    else:
        # rows are read in runs of a block of panels, which is kinder to caches and pages than panel by panel
        sch.reorder(*order, *panels, lane_loop)
    sch.vectorize(lane_loop)
    return tail_loop


def pack_constants(sch: Schedule, plan: Plan, constants: Collection[str], reduce_order: list[Var]) -> None:
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


def _group(index: Scalar, plan: Plan) -> int:
    """Filters of a group, where an index counts groups of as many lanes as there are; 0 where it does not."""
    form = linear(index, {})
    size = plan.shape.extents[plan.lane]
    others = [c for v, c in form.terms.items() if v is not plan.lane]
    return size if form.const == 0 and others == [size] and form.terms.get(plan.lane) == 1 else 0
