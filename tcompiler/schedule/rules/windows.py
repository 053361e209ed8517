"""Windows that slide over one operand: depthwise convolutions and pooling, in whatever order their axes lie.

Nothing is shared between channels, so that such a sum is bound by how its operand is read. The padding is not copied:
it becomes a guard of the read, and the first and last tiles of each axis are peeled off, as they alone meet it.
Where the output is contiguous along a window's axis, lanes run along it and rows of one tile share what they read:

    for channels …: for rows …: for strip of lanes …:
        acc = 0;  for s: for rows (unrolled): for r: for lanes (vectorized): acc ⊕= x[row · a + r, lane · b + s] …

Where it is contiguous along the channels, these are the lanes, and a tile has columns along the last window axis and
lines along the next, which share the weights and most of what they read. The channels are walked before the next tile:
their next lanes lie side by side with those that were just read, in the same lines of the cache or the next ones. Tiles
too long to be written out read one channel's windows again and again instead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod

from tcompiler.backends.llvm.linear import linear
from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Store, Update, buffer_table
from tcompiler.ir.scalar.grammar import Const, Load, Select, Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.rules.accesses import Operand, Shape, shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_at, peel_tails
from tcompiler.schedule.rules.body import inline_epilogues, lanes_and_rows
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target

ROWS = 8
"""Rows of a tile whose lanes run along a window's axis: their accumulators leave room for a column of weights."""
ROWS_APART = 3
"""The same where lanes lie apart in memory: neighbouring taps pick theirs from the same vectors, which are kept."""
COLUMNS = 6
"""Columns of a tile whose lanes are channels: accumulators that leave room for nine weights."""
LINES, SHORT = 2, 4
"""Lines of such a tile, and columns of each: what two lines read is a third less than what one and one do."""
EXPANDED = 256
"""Multiply-adds of a tile that are written out."""
EXPANDED_APART = 1024
"""The same where lanes lie apart in memory: only a tap that is written out has lanes inside the data that are known."""


@dataclass(frozen=True, slots=True)
class Windows:
    """What slides.

    Attributes:
        shape: The block's iterations and accesses.
        data: The operand under the windows.
        along: The spatial iter vars that windows slide along, each with the reduce iter var of its taps.
        lane: The iter var that the output is contiguous in.
        row: The iter var whose iterations share a tile with the lanes, if one does.
        line: Another one that does, where the lanes do not slide.
    """

    shape: Shape
    data: Operand
    along: dict[Var, Var]
    lane: Var
    row: Var | None
    line: Var | None


def schedule_windows(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str]) -> bool:
    """Schedules a reduction over the taps of windows.

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


def _schedule(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str]) -> bool:
    found = find_windows(sch, block)
    if found is None or _shared_by_filters(sch, found, target):
        return False
    for name in sch.producers(block):
        if is_padding(sch, name, block):
            sch.compute_inline(name)
    found = find_windows(sch, block)
    if found is None or not lay_out(sch, found, constants):
        return False
    found = find_windows(sch, block)
    assert found is not None
    shape, lane, row = found.shape, found.lane, found.row
    loop_of = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
    slides = lane in found.along
    size = prod(shape.extents[v] for v in shape.reduce)
    written_out = LINES * SHORT * size <= EXPANDED
    apart = slides and (found.data.strides.get(lane) or 0) > 1
    expanded = EXPANDED_APART if apart else EXPANDED
    line = found.line if written_out else None
    width = _width(sch, found, target)
    lanes = min(shape.extents[lane], width)
    lane_outer, lane_inner = sch.split(loop_of[lane], [None, lanes])
    strips, strip = lane_outer, ""
    row_outer, row_inner, rows = "", "", 1
    line_outer, line_inner, lines = "", "", 1
    if row is not None:
        most = ROWS_APART if apart else ROWS if slides else COLUMNS if line is None else SHORT
        rows = even_tile(shape.extents[row], max(min(most, expanded // size), 1) if apart else most)
        row_outer, row_inner = sch.split(loop_of[row], [None, rows])
        if line is not None:
            lines = even_tile(shape.extents[line], LINES)
            line_outer, line_inner = sch.split(loop_of[line], [None, lines])
    elif slides and shape.extents[lane] >= 2 * lanes:
        rows = even_tile(shape.extents[lane] // lanes, ROWS)
        strips, strip = sch.split(lane_outer, [None, rows])
    taps = tap_order(found)
    free = [v for v in shape.spatial if v is not lane and v is not row and v is not line]
    units = [loop_of[v] for v in free if shape.extents[v] == 1]
    rest = [loop_of[v] for v in free if shape.extents[v] > 1]
    cut = [n for n in (line_outer, row_outer) if n]
    outer = [*rest, *cut, strips] if slides or written_out else [*rest, strips, *cut]
    tile = [n for n in (line_inner, row_inner, strip) if n]
    first, last = [loop_of[v] for v in taps[:-1]], [loop_of[v] for v in taps[-1:]]
    several = rows * lines * shape.extents[taps[-1]] > expanded  # a loop over them stands around the tile
    inner = [*first, *tile, *last] if slides and not several else [*first, *last, *tile]
    sch.reorder(*units, *outer, *inner, lane_inner)
    for name in units:
        sch.elide(name)
    init, write = sch.stage_accumulate(block, outer[-1] if outer else sch.loops(block)[0], "register")
    inline_epilogues(sch, write)
    lanes_and_rows(sch, init)
    lanes_and_rows(sch, write)
    sch.vectorize(lane_inner)
    for name in tile:
        sch.unroll(name)
    size = rows * lines
    for v in reversed(taps):
        size *= shape.extents[v]
        if size > expanded:
            break
        sch.unroll(loop_of[v])
    parallelize(sch, block, outer, shape.points(), threads, keep=[strips, *cut])
    for name in (strips, *cut):
        peel_tails(sch, name)
    steps = {lane: (strips, lanes * (rows if strip else 1))}
    if row is not None:
        steps[row] = (row_outer, rows)
    if line is not None:
        steps[line] = (line_outer, lines)
    for v in found.along:
        loop, step = steps.get(v, (loop_of[v], 1))
        _peel_borders(sch, loop, _inside(sch, found, v, step))
    return True


def _width(sch: Schedule, found: Windows, target: Target) -> int:
    return target.vector_lanes(buffer_table(sch.function)[found.shape.target.buffer].dtype.bits)


def _shared_by_filters(sch: Schedule, found: Windows, target: Target) -> bool:
    """Whether so many filters slide over the same data that a contraction has more of what it loads.

    Rows of a tile share what they read among taps, as the filters of a contraction do among themselves, whose lanes
    fill vectors where filters do. Windows along one line share nothing.
    """
    shape = found.shape
    apart = [v for v in shape.spatial if not found.data.moves(v) and any(o.moves(v) for o in shape.operands)]
    filters = max((shape.extents[v] for v in apart), default=1)
    return found.lane in found.along and filters >= (2 if found.row is None else _width(sch, found, target))


def even_tile(extent: int, most: int) -> int:
    """The tile no larger than `most` that cuts an extent into as few pieces of about the same size."""
    return -(-extent // -(-extent // most))


def find_windows(sch: Schedule, block: str, lane: Var | None = None) -> Windows | None:
    """What slides in a block, if it is windows over one operand.

    Args:
        sch: The schedule.
        block: The block.
        lane: The axis of lanes, along which the operand need not be contiguous; None for the one that the output is.
    """
    node = find_block(sch.function, block)
    shape = shape_of(sch.function, node)
    if shape is None or not shape.reduce or 0 in shape.extents.values() or not isinstance(node.body, Update):
        return None
    apart = lane is not None
    lane = lane or shape.innermost()
    taps = [v for v in shape.reduce if shape.extents[v] > 1]
    data = [o for o in shape.operands if any(o.moves(v) for v in shape.spatial if _meets(o, v, shape))]
    if lane is None or not taps or len(data) != 1:
        return None
    (operand,) = data
    along: dict[Var, Var] = {}
    for v in taps:
        mates = [u for u in shape.spatial if _together(operand, u, v)]
        if len(mates) != 1 or mates[0] in along:
            return None
        along[mates[0]] = v
    others = [o for o in shape.operands if o is not operand]
    if any(o.moves(u) for o in others for u in along) or operand.strides.get(lane) is None:
        return None
    if lane not in along and operand.strides.get(lane) != 1 and not apart:
        return None
    if any(operand.strides.get(u) is None for u in (*along, *along.values())):
        return None
    rows = [u for u in along if u is not lane and shape.extents[u] > 1 and shape.target.strides.get(u)]
    row, line, *_ = *sorted(rows, key=lambda u: shape.target.strides.get(u) or 0), None, None
    return Windows(shape, operand, along, lane, row, None if lane in along else line)


def _meets(operand: Operand, var: Var, shape: Shape) -> bool:
    return any(_together(operand, var, v) for v in shape.reduce if shape.extents[v] > 1)


def _together(operand: Operand, a: Var, b: Var) -> bool:
    """Whether two iter vars are added up in one index of an operand."""
    return any({a, b} <= set(linear(i, {}).terms) for i in operand.indices)


def is_padding(sch: Schedule, name: str, reader: str) -> bool:
    """Whether a block only puts a constant around what it copies, for one reader."""
    body = find_block(sch.function, name).body
    return (
        isinstance(body, Store)
        and body.buffer not in sch.function.outputs
        and isinstance(body.value, Select)
        and isinstance(body.value.a, Load)
        and isinstance(body.value.b, Const)
        and sch.consumers(name) == [reader]
    )


def lay_out(sch: Schedule, found: Windows, constants: Collection[str]) -> bool:
    """Lays constant operands out with the lanes last; False where an operand stays apart along the lanes."""
    for o in found.shape.operands:
        step = o.strides.get(found.lane, 0)
        if o is found.data or step in (0, 1):
            continue
        at = [k for k, i in enumerate(o.indices) if found.lane in free_vars(i)]
        if o.buffer not in constants or len(at) != 1:
            return False
        names = [f"d{k}" for k in range(len(o.indices))]
        order = [n for k, n in enumerate(names) if k != at[0]] + [names[at[0]]]
        sch.transform_layout(o.buffer, f"lambda {', '.join(names)}: ({', '.join(order)})", False)
    return True


def tap_order(found: Windows) -> list[Var]:
    """Taps along the rows innermost where lanes slide: what one row reads the next one reads for another tap."""
    taps = [v for v in found.shape.reduce if v not in found.along.values()] + [*found.along.values()]
    if found.lane not in found.along or found.row is None:
        return taps
    last = found.along[found.row] if found.row in found.along else taps[-1]
    return [*(v for v in taps if v is not last), last]


def _inside(sch: Schedule, found: Windows, var: Var, step: int) -> tuple[int, int] | None:
    """The tiles of a window's axis that read inside the operand alone: the first one, and the first one behind them.

    Args:
        sch: The schedule.
        found: The windows.
        var: The axis.
        step: Its iterations in one tile.
    """
    tap = found.along[var]
    sizes = buffer_table(sch.function)[found.data.buffer].shape
    for i, extent in zip(found.data.indices, sizes, strict=True):
        form, size = linear(i, {}), as_int(extent)
        if set(form.terms) == {var, tap} and size is not None and min(form.terms.values()) > 0:
            stride, reach = form.terms[var] * step, form.terms[tap] * (found.shape.extents[tap] - 1)
            last = size - 1 - reach - form.const - form.terms[var] * (step - 1)
            return max(0, -(form.const // stride)), last // stride + 1
    return None


def _peel_borders(sch: Schedule, loop: str, inside: tuple[int, int] | None) -> None:
    """Peels the tiles that meet the padding off a loop and off the copies that earlier peels made of it."""
    for name in [n for n in sch.loop_names() if n == loop or n.startswith(f"{loop}_t")]:
        extent = sch.extent(name)
        if inside is None or extent is None:
            return
        points = sorted({p for p in inside if 0 < p < extent})
        if points:
            attempt(sch, peel_at, sch, name, points)
