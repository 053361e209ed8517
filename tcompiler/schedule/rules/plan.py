"""What decides the shape of a contraction's nest: its lanes, its rows, the register tile."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import gcd, inf, prod

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.schedule.rules.accesses import Operand, Shape, shape_of
from tcompiler.schedule.rules.borders import find_borders, inside_share, lines_left, steps_written
from tcompiler.schedule.rules.partials import contiguous_axes
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.model import swift
from tcompiler.target.target import Target
from tcompiler.target.tile import (
    FORESEEN,
    NEVER,
    WAY_BYTES,
    Registers,
    Spans,
    Tile,
    cache_ways,
    choose_flat_tile,
    choose_tile,
    near_bytes,
)

RUN = 512
"""Bytes along the reduction from which on a matrix that is read once is read by itself, not beside others."""
SHARED = 4
"""Rows for which an operand is read as it lies, rather than laid out along lanes first."""
FEW = 16
"""The same where it comes slowly from beyond the level 2 cache: it passes by once, in its order in memory."""


@dataclass(slots=True)
class Plan:
    """What the rule decided for one reduction.

    Attributes:
        shape: How its iter vars move its operands.
        lane: The axis of lanes.
        row: The axis of rows, if any.
        line: The next axis around the rows that they may share a tile with, if any.
        tile: The register tile.
        shared: The operand that all rows of a tile read.
        flat: The best tile over rows and lines fused into one axis, if that is possible.
        chunk: How far a part of the reduction goes along its axes, where it is done in parts.
        once: Whether the shared operand passes by once, so that nothing but its order in memory counts.
        turn: The axis of rows whose vectors of lanes take their places in memory in turn, all of them in one tile.
        borders: Axes along which taps that lie in an image's padding are left out, with what each has inside.
        written: Steps of the reduction that may be written out in each of the pieces of tiles that these make.
        asked: Whether taps outside along axes that tiles have no rows of are asked for as they come, in the same code.
        left: Last columns, which fill no vector, that are scheduled by themselves.
        rest: What these are: "dots" along the reduction, lanes along "places", or "tiles" along another axis.
        cycles: What all that takes, by the model of the machine; infinite where nothing was compared.
    """

    shape: Shape
    lane: Var
    row: Var | None
    line: Var | None
    tile: Tile
    shared: Operand
    flat: Tile | None = None
    chunk: Mapping[Var, int] = field(default_factory=dict)
    once: bool = False
    turn: Var | None = None
    borders: Mapping[Var, Spans] = field(default_factory=dict)
    written: float = inf
    asked: bool = False
    left: int = 0
    rest: str = "dots"
    cycles: float = inf

    @property
    def extents(self) -> dict[Var, int]:
        """Extents of the iter vars, of those of the reduction in one part of it."""
        return {**self.shape.extents, **self.chunk}

    @property
    def chunks(self) -> int:
        """Parts of the reduction."""
        return prod(-(-self.shape.extents[v] // n) for v, n in self.chunk.items())

    def panel(self, element: int) -> int:
        """Bytes of the shared operand that one part of the reduction reads for the lanes of a tile."""
        return self.lanes * element * prod(self.extents[v] for v in self.shape.reduce)

    @property
    def bordered(self) -> list[Var]:
        """Those axes with borders whose places the loops tell apart."""
        fused = {self.row, self.line} if self.tile.flat else set()
        return [v for v in self.borders if v not in fused]

    @property
    def lanes(self) -> int:
        """Lanes of the tile."""
        return self.tile.lanes

    @property
    def rows(self) -> int:
        """Rows of the tile along both axes."""
        return self.tile.rows * self.tile.lines


def own_shape(sch: Schedule, block: str) -> Shape | None:
    """A block's iterations by its own loops alone: what is bound to loops around others as well stands still.

    Args:
        sch: The schedule.
        block: The block.

    Returns:
        The shape; None where `shape_of` has none.
    """
    shape = shape_of(sch.function, find_block(sch.function, block))
    if shape is None:
        return None
    loops = [sch.loop_of(block, k) for k in range(len(sch.iters(block)))]
    extents = {i.var: (sch.extent(n) or 1) if n else 1 for i, n in zip(sch.iters(block), loops, strict=True)}
    return replace(shape, extents=extents)


def make_plan(
    sch: Schedule,
    block: str,
    target: Target,
    lanes: int = 0,
    inside: bool = False,
    constants: Collection[str] = (),
    lane: Var | None = None,
    loaded: bool = True,
    extents: Mapping[Var, int] | None = None,
) -> Plan | None:
    """Plans a reduction's nest.

    Args:
        sch: The schedule.
        block: A block with an Update.
        target: The machine.
        lanes: Lanes that the tile has to have, as an operand is laid out for them; 0 for any.
        inside: Whether the block shares its outer loops with others, which then stand still.
        constants: Operands that are laid out for the tile once, whatever it is.
        lane: The axis of lanes; None for the one that the output is contiguous in.
        loaded: Whether a tile with fewer loads is taken where several do as many multiply-adds.
        extents: Iterations along axes of which the plan is not for all.

    Returns:
        The plan; None where the output is not contiguous along an axis that operands are contiguous or constant in.
    """
    shape = own_shape(sch, block) if inside else shape_of(sch.function, find_block(sch.function, block))
    if shape is not None and extents is not None:
        shape = replace(shape, extents={**shape.extents, **extents})
    if shape is None or not shape.reduce or 0 in shape.extents.values():
        return None
    lane = shape.innermost() if lane is None else lane
    if lane is None:
        return None
    bits = buffer_table(sch.function)[shape.target.buffer].dtype.bytes * 8
    moved = [o for o in shape.operands if o.moves(lane)]
    if not moved:
        return None
    shared, row, once, width = None, None, False, target.vector_lanes(bits)
    for o in moved:
        candidates = [
            v
            for v in shape.spatial
            if v is not lane and shape.extents[v] > 1 and not o.moves(v) and shape.target.strides.get(v)
        ]
        if candidates:
            shared, row = o, _best_row(shape, candidates)
            few = prod(shape.extents[v] for v in candidates) if not (inside or lanes) else inf
            few = few if _turn(shape, lane, o) is None else inf  # they are written side by side
            most = SHARED if swift(target) else FEW
            if few <= most and o.buffer not in constants and _read_once(sch, shape, o, candidates):
                if few <= SHARED and o.strides.get(lane) != 1 and _as_it_lies(shape, moved, lane, width):
                    return None  # laying it out for a few rows costs more than reading it for each
                once = o.strides.get(lane) == 1 and _streams_by(shape, o, row, int(few), bits // 8, target)
            break
    if shared is None:
        if _as_it_lies(shape, moved, lane, width):
            return None  # nothing is shared between lanes: each row is better reduced as it lies in memory
        candidates = [
            v for v in shape.spatial if v is not lane and shape.extents[v] > 1 and shape.target.strides.get(v)
        ]
        shared = moved[0]
        alike = all(o.moves(v) for v in candidates for o in shape.operands)
        once = alike and shared.buffer not in constants and _read_once(sch, shape, shared, ())
        row = _best_row(shape, candidates) if candidates and not once else None
    extent = shape.extents[lane]
    rows = shape.extents[row] if row is not None else 1
    depth = 1
    for v in shape.reduce:
        depth *= shape.extents[v]
    by_row = row is not None and not shared.moves(row)
    registers = Registers.of(
        target,
        width,
        # longer reductions over rows are done in parts, whose panels stay close; those of constants at no further cost
        NEVER if by_row else 0 if once else near_bytes(target),
        NEVER if by_row and shared.buffer in constants else near_bytes(target),
    )
    line = _line(shape, lane, row, shared) if by_row else None
    turn = _turn(shape, lane, shared) if by_row and not lanes else None
    if turn is not None and turn is not row:
        line = turn
    lines = 1 if line is None else shape.extents[line]
    apart = 0
    for o in shape.operands:
        for v in (x for x in (row, line) if x is not None):
            if o.moves(v):
                apart = gcd(apart, (o.strides.get(v) or 0) * bits // 8)
    borders = find_borders(sch, block, shape) if by_row and not inside and not lanes and turn is None else {}
    borders.pop(lane, None)
    together = turn is not None and turn is line

    def tiled(along: Mapping[Var, Spans]) -> tuple[Tile, float]:
        taps = along.get(row, ()) if row else (), along.get(line, ()) if line else ()
        tile = choose_tile(rows, extent, depth, registers, by_row, lines, apart, lanes, together, taps, loaded)
        beside = prod(inside_share(s, shape.extents[v]) for v, s in along.items() if v is not row and v is not line)
        return replace(tile, cost=tile.cost * beside), beside

    def written(along: Mapping[Var, Spans], asked: bool) -> float:
        tile, _ = tiled(along)
        steps = {row: tile.rows} if row is not None else {}
        if line is not None and tile.lines > 1:
            steps[line] = tile.lines
        cut = {v: s for v, s in along.items() if v in steps or not asked}
        return steps_written(cut, shape.extents, steps, -(-tile.lanes // width), left) if cut else inf

    left = lines_left(sch, width)
    asked = written(borders, False) < 1
    if asked:
        inner = [v for v in borders if v is row or v is line]
        left_out = [c for n in range(len(inner) + 1) for c in combinations(inner, n)]
        fewer = [{v: s for v, s in borders.items() if v not in c} for c in left_out]
        borders = min((b for b in fewer if written(b, True) >= 1), key=lambda b: tiled(b)[0].cost)
    tile, beside = tiled(borders)
    flat = None
    if line is not None and not lanes and turn is None:
        flat = choose_flat_tile(rows, extent, depth, registers, lines, apart, loaded)
        flat = replace(flat, cost=flat.cost * beside) if flat is not None else None
    if turn is not None and (tile.lines if turn is line else tile.rows) < shape.extents[turn]:
        turn = None
    return Plan(
        shape,
        lane,
        row,
        line,
        tile,
        shared,
        flat,
        once=once,
        turn=turn,
        borders=borders,
        written=written(borders, asked),
        asked=asked,
    )


def _as_it_lies(shape: Shape, moved: Sequence[Operand], lane: Var, width: int) -> bool:
    """Whether a reduction runs along memory, and what it reads does not run along the lanes."""
    long = prod(shape.extents[v] for v in contiguous_axes(shape)) >= width
    streamed = [o for o in moved if any(o.moves(v) for v in shape.reduce)]
    return long and all(o.strides.get(lane) != 1 for o in streamed)


def _read_once(sch: Schedule, shape: Shape, operand: Operand, rows: Sequence[Var]) -> bool:
    """Whether every iteration, but for a few rows, reads an element of its own: best in the order of memory."""
    buffer = buffer_table(sch.function)[operand.buffer]
    run = prod(shape.extents[v] for v in shape.reduce) * buffer.dtype.bytes
    others = [v for v, e in shape.extents.items() if e > 1 and v not in rows]
    elements = prod(as_int(e) or 0 for e in buffer.shape)
    own = prod(shape.extents[v] for v in others) <= elements  # windows overlap
    return own and len(shape.operands) > 1 and run >= RUN and all(operand.moves(v) for v in others)


def _streams_by(shape: Shape, operand: Operand, row: Var | None, rows: int, element: int, target: Target) -> bool:
    """Whether an operand had better pass by in its order, as a processor does not foresee what a panel reads of it."""
    size = element * prod(e for v, e in shape.extents.items() if operand.moves(v))
    steps = [element * abs(operand.strides.get(v) or 0) for v in shape.reduce if shape.extents[v] > 1]
    # sums of all rows go and come again: those of more rows than a set of a cache has ways must not share sets
    apart = element * (shape.target.strides.get(row) or 0) if row is not None else 0
    held = rows <= cache_ways(target) or apart % WAY_BYTES != 0
    return held and size > target.l2_bytes and min(steps, default=0) >= FORESEEN


def chunked(plan: Plan, order: Sequence[Var], element: int, near: int) -> Plan:
    """Does a reduction in parts where a panel of the shared operand is more than stays close to the core.

    Args:
        plan: The plan.
        order: The axes of the reduction, outermost first.
        element: Bytes of an element.
        near: Bytes that stay close.
    """
    chunk: dict[Var, int] = {}
    extents = plan.shape.extents
    panel = plan.panel(element)
    for v in order:
        if panel <= near:
            break
        each = panel // extents[v]
        size = -(-extents[v] // -(-extents[v] // max(near // each, 1)))
        even = max(n for n in range(1, size + 1) if extents[v] % n == 0)
        chunk[v] = even if 2 * even >= size else size
        panel = each * chunk[v]
    return replace(plan, chunk=chunk)


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


def _turn(shape: Shape, lane: Var, shared: Operand) -> Var | None:
    """The axis whose elements fill what lies between two lanes of the result, as phases of positions do."""
    apart = shape.target.strides.get(lane)
    if apart == 1:
        return None  # nothing lies between, though axes of one element have that step as well
    for v in shape.spatial:
        if v is not lane and shape.target.strides.get(v) == 1 and shape.extents[v] == apart and not shared.moves(v):
            return v
    return None


def _best_row(shape: Shape, candidates: list[Var]) -> Var:
    """The axis to tile by rows: of the longer ones the one closest in memory, so that a tile reads near elements."""
    longest = max(shape.extents[v] for v in candidates)
    long_enough = [v for v in candidates if shape.extents[v] * 4 >= min(longest, 24)]

    def apart(v: Var) -> tuple[int, int]:
        written = abs(shape.target.strides.get(v) or 0)
        return max(written, *(abs(o.strides.get(v) or 0) for o in shape.operands)), written

    return min(long_enough, key=apart)
