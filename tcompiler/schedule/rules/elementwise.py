"""Maps without a reduction: vectors along the axis in which the output is contiguous, the rest on threads.

Axes that all accesses walk in step are fused first, so that short rows become long ones. What a copy reads along
another axis than it writes goes in tiles that the code generator transposes in registers; borders that read nothing, or
something else, are peeled off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, lcm, prod

from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Block, Store, buffer_table
from tcompiler.ir.scalar.canonical import linear
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Select, Var, as_int, children, postorder
from tcompiler.schedule.rules.accesses import Shape, moduli, shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.placement import CHEAP, operations
from tcompiler.schedule.rules.streams import deal_out, find_streams, loops_by_iter
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import LINE_BYTES, Target
from tcompiler.target.tile import cache_ways, room
from tcompiler.target.transposes import LANE_BYTES, turns_vectors

STREAMS = 64
"""Rows that are read side by side, each from its beginning to its end: more of them crowd a cache."""
SHORT = 8
"""Vectors of a row that are written out, if they are cheap."""
STRIPS = 64
"""The same of a row whose elements are read from places that are known for every lane then, and only then."""
PIECE_BYTES = 8
"""Bytes side by side from which on it pays to put a vector together from them."""
PIECES = 16
"""Pieces that borders may cut a nest into."""


def schedule_map(sch: Schedule, block: str, target: Target, threads: int) -> bool:
    """Schedules a block that only stores, in a nest of its own.

    Returns:
        False, with nothing changed, where the rule does not fit.
    """
    while attempt(sch, _take_apart, sch, block, target):
        pass
    return attempt(sch, _schedule, sch, block, target, threads)


def _take_apart(sch: Schedule, block: str, target: Target) -> bool:
    """Makes two axes of one that a map reads by its quotient and remainder: rows that it reads run along memory again.

    Of three or more the outermost goes first. Rows that do not fill half a vector stay together: a vector of elements
    from several of them is better.
    """
    node = find_block(sch.function, block)
    shape = shape_of(sch.function, node)
    if shape is None or shape.reduce:
        return False
    lane, loop_of = shape.innermost(), loops_by_iter(sch, block)
    width = target.vector_lanes(buffer_table(sch.function)[shape.target.buffer].dtype.bytes * 8)
    changed = False
    for var, units in _units(shape).items():
        extent, unit = shape.extents[var], max(units)
        whole = var in loop_of and sch.extent(loop_of[var]) == extent
        if not whole or extent == unit or any(n % u for u in units for n in (extent, unit)):
            continue
        if 2 * unit > (width if var is lane else 2):
            sch.split(loop_of[var], [None, unit])
            changed = True
    if changed:
        sch.unfold(block)
    return changed


def _units(shape: Shape) -> dict[Var, set[int]]:
    """What iter vars are divided by, at once or step by step, where operands are read by a quotient or remainder."""
    found: dict[Var, set[int]] = {}
    for n in postorder(*(i for o in shape.operands for i in o.indices)):
        size = 1
        while isinstance(n, Binary) and n.op in ("floordiv", "floormod") and (by := as_int(n.b)):
            size *= by
            n = n.a
        if isinstance(n, Var) and size > 1:
            found.setdefault(n, set()).add(size)
    return found


@dataclass(frozen=True, slots=True)
class _Axis:
    """A loop over one iter var, or over several that all accesses walk in step.

    Attributes:
        var: The iter var; of several the innermost.
        loop: The loop.
        extent: Its iterations.
    """

    var: Var
    loop: str
    extent: int


def _schedule(
    sch: Schedule, block: str, target: Target, threads: int, above: Sequence[str] = (), pieces: int = PIECES
) -> bool:
    """Schedules a block, or the pieces of its nest one by one.

    Args:
        sch: The schedule.
        block: The block.
        target: The machine.
        threads: Threads that the block may use.
        above: Loops that it shares with other pieces.
        pieces: Into how many pieces its nest may be cut.
    """
    node = find_block(sch.function, block)
    shape = shape_of(sch.function, node)
    if shape is None or shape.reduce or 0 in shape.extents.values():
        return False
    loop_of = loops_by_iter(sch, block)
    var = shape.innermost()
    if var is None or var not in loop_of:
        parallelize(sch, block, [*above, *loop_of.values()], shape.points(), threads)
        return True
    bytes_ = buffer_table(sch.function)[shape.target.buffer].dtype.bytes
    width = target.vector_lanes(bytes_ * 8)
    axes = [[var]]
    other = _across(shape, var)
    streams = find_streams(sch, shape, loop_of, target)
    around = _short_rows(shape, var, loop_of, width, bytes_) if streams is None else None
    if around is not None:
        axes[0].insert(0, around)
    elif streams is not None:
        axes = [[streams.along], [streams.among]]
        var = streams.along
    elif other is not None and other in loop_of:
        axes.append([other])
    for vars_ in () if around is not None else axes if streams is None else axes[:1]:
        _in_step(sch, node, shape, vars_, [v for a in axes for v in a], loop_of)
    merged = {v for a in axes for v in a}
    kept = {n for v, n in loop_of.items() if v not in merged}
    outer = [n for n in sch.loops(block) if n in kept]
    inner = [[loop_of[v] for v in a] for a in reversed(axes)]
    wanted = [*outer, *(n for names in inner for n in names)]
    if sch.loops(block)[-len(wanted) :] != wanted:
        sch.reorder(*wanted)
    extent = shape.extents[var]
    width = _whole_steps(shape, var, extent, max(width, target.vector_lanes(32)))
    whole = len(inner) == 1 and _strips(node, shape, var, extent, width) * width >= extent
    for k, name in enumerate(wanted):
        if streams is not None and name == loop_of[streams.among]:
            continue  # it is written out, so that its conditions are decided
        places = not (whole and name == loop_of[var])  # where all of a row is written out, every lane's are known
        points = _turns(node, [v for v, n in loop_of.items() if n == name], shape, sch.extent(name), places)
        if 0 < len(points) < pieces:
            cut = sch.peel(name, points)
            main = max(cut, key=lambda n: sch.extent(n) or 0)
            for piece in sorted(cut, key=lambda n: n == main):  # it may fuse loops that the others know by name
                (part,) = sch.blocks_under(piece)
                own = threads if piece == main else 1
                _schedule(sch, part, target, own, [*above, *wanted[:k]], pieces // len(cut))
            return True
    loops = [names[0] if len(names) == 1 else sch.fuse(*names)[0] for names in inner]
    lane, *across = [_Axis(a[-1], n, sch.extent(n) or 1) for a, n in zip(axes, reversed(loops), strict=True)]
    outer = [n for n in (*above, *outer) if sch.extent(n) != 1]
    if streams is not None:
        deal_out(sch, block, lane.loop, across[0].loop, outer, streams.lanes, shape.points(), threads)
    elif across:
        _tiled(sch, block, shape, lane, across[0], outer, target, threads)
    else:
        _straight(sch, block, lane, shape, outer, target, threads)
    return True


def turns_rows(sch: Schedule, block: str) -> bool:
    """Whether a map writes along another axis than it reads along, and so goes in tiles of its own."""
    shape = shape_of(sch.function, find_block(sch.function, block))
    lane = shape.innermost() if shape is not None else None
    return shape is not None and lane is not None and _across(shape, lane) is not None


def _across(shape: Shape, lane: Var) -> Var | None:
    """The axis along which an operand is contiguous that is not along the lanes; of several, that of the largest."""
    found = [
        (prod(e for u, e in shape.extents.items() if o.moves(u)), v)
        for o in shape.operands
        if o.moves(lane) and o.strides.get(lane) != 1
        for v in shape.spatial
        if v is not lane and o.strides.get(v) == 1 and shape.extents[v] > 1
    ]
    return max(found, key=lambda f: f[0])[1] if found else None


def _in_step(
    sch: Schedule, block: Block, shape: Shape, axis: list[Var], taken: Sequence[Var], loop_of: dict[Var, str]
) -> None:
    """Extends an axis by the iter vars around it that every access walks as if they were one.

    Args:
        sch: The schedule.
        block: The block.
        shape: Its accesses.
        axis: Iter vars, outermost first; it is extended in place.
        taken: Iter vars that stay by themselves.
        loop_of: The iter vars' loops.
    """
    accesses = (shape.target, *shape.operands)
    indices_only = _only_in_indices(block)

    def whole(v: Var) -> bool:
        return v in loop_of and sch.extent(loop_of[v]) == shape.extents[v] and v in indices_only

    size, last = shape.extents[axis[0]], axis[0]
    while whole(axis[0]):
        for v in shape.spatial:
            if v in taken or v in axis or shape.extents[v] == 1 or not whole(v):
                continue
            steps = [(o.strides.get(v, 0), o.strides.get(last, 0)) for o in accesses]
            if all(a is not None and b is not None and a == b * size for a, b in steps):
                axis.insert(0, v)
                size *= shape.extents[v]
                break
        else:
            return


def _only_in_indices(block: Block) -> set[Var]:
    """Iter vars that a map's value depends on through the elements that it reads alone."""
    if not isinstance(block.body, Store):
        return set()
    return {i.var for i in block.iters}.difference(_above_loads(block.body.value))


def _above_loads(value: Scalar) -> set[Scalar]:
    """The nodes of a value that are no part of an index."""
    pending, seen = [value], {value}
    while pending:
        node = pending.pop()
        new = [] if isinstance(node, Load) else [c for c in children(node) if c not in seen]
        seen.update(new)
        pending += new
    return seen


def _short_rows(shape: Shape, lane: Var, loop_of: dict[Var, str], width: int, bytes_: int) -> Var | None:
    """The axis around rows that are shorter than a vector and fill it in whole numbers, if what is read is as close.

    What lies along that axis instead is read in pieces of as many elements as a vector has rows; short ones take as
    many loads as a tile that is transposed takes for several vectors.
    """
    size = shape.extents[lane]
    if size >= width or width % size:
        return None
    for v in shape.spatial:
        if v in loop_of and v is not lane and shape.extents[v] > 1 and shape.target.strides.get(v) == size:
            steps = [(o.strides.get(v, 0), o.strides.get(lane, 0)) for o in shape.operands]
            if all(
                a == 0
                or (a == 1 and width // size * bytes_ >= PIECE_BYTES)
                or (a is not None and b is not None and a == b * size)
                for a, b in steps
            ):
                return v
    return None


def _turns(block: Block, fed: Sequence[Var], shape: Shape, extent: int | None, places: bool = True) -> list[int]:
    """Where a condition on an iter var alone, and a constant, turns from true to false or back.

    Args:
        block: A map.
        fed: The iter vars that a loop feeds.
        shape: The map's accesses.
        extent: The loop's iterations; no turns are told where it is not the iter var itself.
        places: Whether conditions count that choose what place is read.
    """
    if len(fed) != 1 or extent != shape.extents[fed[0]] or not isinstance(block.body, Store):
        return []
    var, found = fed[0], set()
    for node in postorder(block.body.value) if places else _above_loads(block.body.value):
        if not isinstance(node, Select):
            continue
        for c in postorder(node.cond):
            if isinstance(c, Binary) and c.op in ("lt", "le", "gt", "ge") and c.a.dtype is dt.i64:
                form = linear(c.a - c.b)
                if set(form.terms) == {var} and abs(form.terms[var]) == 1:
                    # s · (var - point) compared with 0, where s is the sign of the coefficient
                    point = -form.const * form.terms[var]
                    strict = c.op in ("le", "gt") if form.terms[var] > 0 else c.op in ("ge", "lt")
                    found.add(point + strict)
    return sorted(p for p in found if 0 < p < extent)


def _tiled(
    sch: Schedule,
    block: str,
    shape: Shape,
    lane: _Axis,
    across: _Axis,
    outer: list[str],
    target: Target,
    threads: int,
) -> None:
    """Tiles of a few elements along the read and a vector along the write, as many as share cache lines in a row."""
    buffers = buffer_table(sch.function)
    width = min(max(target.vector_lanes(buffers[shape.target.buffer].dtype.bytes * 8), 2), lane.extent)
    along = [o for o in shape.operands if o.strides.get(across.var) == 1]
    read = max(buffers[o.buffer].dtype.bytes for o in along)
    # where more rows lie in a set of the cache than it holds, whole vectors of them took 1.2 times as long
    crowded = any(room((o.strides.get(lane.var) or 0) * read, cache_ways(target)) < width for o in along)
    unit = width if not crowded and turns_vectors(target, width, read) else max(LANE_BYTES // read, 2)
    line = min(LINE_BYTES // read, -(-across.extent // unit) * unit)
    first, lanes = sch.split(lane.loop, [None, width])
    blocks = []
    if lane.extent > STREAMS:
        whole, first = sch.split(first, [None, STREAMS // width])
        blocks = [whole]
    strips, strip = sch.split(across.loop, [None, line])
    steps, step = sch.split(strip, [None, unit])
    sch.reorder(*blocks, strips, first, steps, step, lanes)
    sch.unroll(step)
    sch.vectorize(lanes)
    shared = [*blocks, strips]
    parallelize(sch, block, [*outer, *shared], shape.points(), threads, keep=shared)
    for name in (*shared, first, steps):
        peel_tails(sch, name)


def _whole_steps(shape: Shape, lane: Var, extent: int, width: int) -> int:
    """Lanes that hold whole steps of what an axis is divided by: where each of them reads is known then."""
    found = moduli(shape).get(lane, set()) if extent == shape.extents[lane] else set()
    step = lcm(width, *(m or 1 for m in found))
    return step if step <= SHORT * width else width


def _straight(
    sch: Schedule, block: str, lane: _Axis, shape: Shape, outer: list[str], target: Target, threads: int
) -> None:
    """Vectors along an axis in which the output is contiguous; its tail is peeled, the rest goes on threads."""
    bits = buffer_table(sch.function)[shape.target.buffer].dtype.bytes * 8
    width = _whole_steps(shape, lane.var, lane.extent, max(target.vector_lanes(bits), target.vector_lanes(32)))
    if lane.extent <= width:
        sch.vectorize(lane.loop)
        parallelize(sch, block, outer, shape.points(), threads)
        return
    first, lanes = sch.split(lane.loop, [None, width])
    sch.vectorize(lanes)
    parallelize(sch, block, [*outer, first], shape.points(), threads, keep=[first])
    if lane.extent % width:
        peel_tails(sch, first)
    strips = _strips(find_block(sch.function, block), shape, lane.var, lane.extent, width)
    if strips * width >= lane.extent:
        if outer:
            # a loop of a few rounds costs as much as what it does
            attempt(sch, sch.unroll, first)
    elif strips > 1:
        together, strip = sch.split(first, [None, strips])
        sch.unroll(strip)
        peel_tails(sch, together)


def _strips(block: Block, shape: Shape, lane: Var, extent: int, width: int) -> int:
    """How many vectors of a row are written out side by side.

    Args:
        block: A map.
        shape: Its accesses.
        lane: The iter var of the lanes.
        extent: Elements of a row.
        width: Lanes of a vector.
    """
    count = -(-extent // width)
    turns = 1  # elements until those that are read lie in the same way again
    for o in shape.operands:
        for node in postorder(*o.indices):
            if isinstance(node, Binary) and node.op == "floordiv" and (unit := as_int(node.b)):
                turns = lcm(turns, unit // gcd(unit, linear(node.a).terms.get(lane, 0)))
    if count <= SHORT and (turns > 1 or operations(block) <= CHEAP):
        return count
    strips = lcm(turns, width) // width
    return strips if strips <= SHORT else count if count <= STRIPS else 1
