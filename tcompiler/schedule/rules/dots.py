"""Contractions by dot-product instructions: which one, which axes it runs along, and the schedule around it.

An instruction C[j] += Σp A[p] · B[j, p] fits a sum of products wherever its factors' values fit the types of A and B.
An iter var of the block has a characteristic vector: in which of C, A and B it occurs. j may be any spatial one in C
and B alone, p any reduce one in A and B alone, either factor may be A; all these mappings are compared by what they
cost (Feng et al., "TensorIR", 2022, try one). The factors are computed ahead in the types and the order that the
instruction reads, with zeros up to extents that divide (reindex, pad_einsum, transform_layout); what accumulates is a
tile of rows by vectors of j in registers, as for a multiply-add, which is the instruction of one product:

    A' = pack(A);  B' = pack(B)
    for blocks of j …: for others …: for row tiles …: for panels …:
        acc = 0;  for other reductions …: for p / P: for rows: for vectors: acc ⊕= A' · B';  C = epilogue(acc)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from tcompiler.backends.llvm.instructions import INSTRUCTIONS, available
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.loop.analysis import find_block, touched
from tcompiler.ir.loop.grammar import Block, Store, Update, buffer_table
from tcompiler.ir.loop.intrinsics import description
from tcompiler.ir.scalar.grammar import Cast, Load, Scalar, Var, as_int
from tcompiler.ir.scalar.reducers import reducer_name
from tcompiler.ir.scalar.rewrite import free_vars, loads
from tcompiler.schedule.narrowing import representable, value_range
from tcompiler.schedule.primitives.reindex import factors
from tcompiler.schedule.rules.accesses import Shape, shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.body import inline_epilogues
from tcompiler.schedule.rules.dot_tiles import block_size, dot_tile, even_size
from tcompiler.schedule.rules.elementwise import schedule_map
from tcompiler.schedule.rules.reduction import schedule_reduction
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import LINE_BYTES, Target

LEAST = 8
"""How often each packed element must be used for packing to pay."""
BODY = 160
"""Instructions that an inner loop may hold beside its loads."""
LONG = 16
"""Steps among which a few in a loop of their own do not weigh."""
SHARES = 4
"""Groups for each thread that it takes to balance them."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """How an instruction lies on a contraction.

    Attributes:
        name: The instruction.
        lanes: Its j.
        pack: Its p.
        types: The types of A and B.
        every: The factor, 0 or 1, that is A: one value for all lanes.
        lane: The iter var along j.
        step: The iter var along p.
        row: The iter var of the tile's rows, in C and A alone; None if there is none.
        cost: Instructions, and what packing and scattered results add, in the same measure.
    """

    name: str
    lanes: int
    pack: int
    types: tuple[DType, DType]
    every: int
    lane: Var
    step: Var
    row: Var | None
    cost: float


@dataclass(frozen=True, slots=True)
class _Packed:
    """A buffer of panels, and the iter vars, by position, of the block that fills it along j and p."""

    buffer: str
    lane: int
    step: int


def schedule_dots(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str]) -> bool:
    """Schedules a contraction by the dot-product instruction that is quickest for it.

    Args:
        sch: The schedule; the block stands in a loop nest of its own.
        block: A block with an Update.
        target: The machine.
        threads: Threads that the kernel may use.
        constants: Inputs known at compile time.

    Returns:
        False, with nothing changed, where no instruction fits.
    """
    return attempt(sch, _quickest, sch, block, target, threads, constants)


def _quickest(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str]) -> bool:
    if not _is_product(find_block(sch.function, block)):
        return False
    # what makes the factors says which values they can have
    while any(_is_own_map(sch, p, block) and attempt(sch, sch.compute_inline, p) for p in sch.producers(block)):
        pass
    found = find_block(sch.function, block)
    if not _is_product(found):
        return False
    mappings = sorted(candidates(sch, found, target, constants), key=lambda m: m.cost)
    if any(attempt(sch, _schedule, sch, block, m, target, threads, constants) for m in mappings):
        return True
    return _wider(found) and attempt(sch, _widened, sch, block, target, threads, constants)


def _is_own_map(sch: Schedule, producer: str, block: str) -> bool:
    """Whether a block only stores, for another one alone."""
    body = find_block(sch.function, producer)
    return isinstance(body.body, Store) and body.init is None and sch.consumers(producer) == [block]


def _is_product(block: Block) -> bool:
    update = block.body
    return (
        isinstance(update, Update)
        and block.init is not None
        and len(update.targets) == 1
        and reducer_name(update.reducer) == "sum"
        and len(factors(update.values[0])) == 2
    )


def candidates(sch: Schedule, block: Block, target: Target, constants: Collection[str] = ()) -> Iterator[Mapping]:
    """Every way in which an instruction of the target fits a sum of products of two factors.

    Args:
        sch: The schedule.
        block: The sum.
        target: The machine.
        constants: Inputs known at compile time.
    """
    shape = shape_of(sch.function, block)
    assert isinstance(block.body, Update)
    if shape is None or 0 in shape.extents.values():
        return
    pair = factors(block.body.values[0])
    accumulated = block.body.targets[0].dtype
    inside = [free_vars(f) for f in pair]
    packed = [free_vars(f) for f in pair if not {load.buffer for load in loads(f)} <= set(constants)]
    for name in INSTRUCTIONS:
        if not available(name, target) or INSTRUCTIONS[name].memory:
            continue
        d = description(name)
        lanes, pack = d.shape("B")
        types = (d.buffers["A"].dtype, d.buffers["B"].dtype)
        if d.buffers["C"].dtype is not accumulated:
            continue
        for every in (0, 1):
            a, b = inside[every], inside[1 - every]
            if not (representable(pair[every], types[0]) and representable(pair[1 - every], types[1])):
                continue
            if not all(_within(pair[every if o == "A" else 1 - every], d.limits[o]) for o in d.limits):
                continue
            rows = [v for v in shape.spatial if v in a and v not in b and shape.extents[v] > 1]
            for lane in (v for v in shape.spatial if v in b and v not in a):
                for step in (v for v in shape.reduce if v in a and v in b):
                    if not (_plain(pair[1 - every], lane) and _plain(pair[0], step) and _plain(pair[1], step)):
                        continue
                    row = _best_row(shape, rows)
                    operations = INSTRUCTIONS[name].operations(target)
                    cost = _cost(shape, lanes, pack, operations, lane, step, packed)
                    if cost is not None:
                        yield Mapping(name, lanes, pack, types, every, lane, step, row, cost)


def _best_row(shape: Shape, rows: list[Var]) -> Var | None:
    """Of the longer axes that could be a tile's rows the one whose results lie closest."""
    longest = max((shape.extents[v] for v in rows), default=0)
    long_enough = [v for v in rows if shape.extents[v] * 4 >= min(longest, 24)]
    return min(long_enough, key=lambda v: shape.target.strides.get(v) or 0, default=None)


def _within(factor: Scalar, limits: tuple[int, int]) -> bool:
    low, high = value_range(factor)
    return limits[0] <= low and high <= limits[1]


def _plain(factor: Scalar, var: Var) -> bool:
    """Whether an iter var occurs in a factor as an index by itself: else its own axis would repeat elements."""
    for load in loads(factor):
        for i in load.indices:
            if var in free_vars(i) and len(free_vars(i)) > 1:
                return False
    return True


def _cost(
    shape: Shape, lanes: int, pack: int, operations: int, lane: Var, step: Var, packed: list[frozenset[Var]]
) -> float | None:
    """Instructions that a mapping takes, padding included; None where too little is computed to pay for packing.

    Args:
        shape: The contraction.
        lanes: Lanes of the instruction.
        pack: Its products per lane.
        operations: Instructions that it stands for.
        lane: The iter var along its lanes.
        step: The iter var along its products.
        packed: What each factor depends on that is packed in every call.
    """
    points = shape.points()
    padded = points / (shape.extents[lane] * shape.extents[step])
    padded *= -(-shape.extents[lane] // lanes) * -(-shape.extents[step] // pack)
    sizes = [prod(shape.extents.get(v, 1) for v in used) for used in packed]
    if points < LEAST * max(sizes, default=0):
        return None
    results = 1
    for v in shape.spatial:
        results *= shape.extents[v]
    scattered = 0 if shape.target.strides.get(lane) == 1 else results
    return padded * operations + scattered + sum(sizes) / 8


def _schedule(sch: Schedule, block: str, m: Mapping, target: Target, threads: int, constants: Collection[str]) -> bool:
    """The whole schedule; refused, or False, where a step does not fit."""
    before = set(sch.blocks())
    iters = sch.iters(block)
    shape = shape_of(sch.function, find_block(sch.function, block))
    assert shape is not None
    rows = shape.extents[m.row] if m.row is not None else 1
    instruction, height, vectors = dot_tile(rows, shape.extents[m.lane], m.name, m.lanes, target)
    width = vectors * m.lanes
    names = {v: v.name for v in shape.extents}
    for k in (0, 1):
        kept = m.types[0] if k == m.every else m.types[1]
        sch.reindex(block, k, kept.name, [names[m.step]] if k == m.every else [names[m.lane], names[m.step]])
    multiples = [width if i.var is m.lane else m.pack if i.var is m.step else 1 for i in iters]
    if any(shape.extents[i.var] % by for i, by in zip(iters, multiples, strict=True)):
        sch.pad_einsum(block, multiples)
    _inline_into_copies(sch, block, before)
    loop_of = {i.var.name: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
    reduce_order = [v for v in shape.reduce if v is not m.step and shape.extents[v] > 1]
    _lay_out_rows(sch, block, m)
    _spread_rows(sch, block, m, constants)
    packed = _lay_out_panels(sch, block, m, width, [names[v] for v in reduce_order])
    copies = [b for b in sch.blocks() if b not in before and b != block and not b.endswith("_unpad")]

    panels, vector, lane = sch.split(loop_of[names[m.lane]], [None, vectors, m.lanes])
    steps, part = sch.split(loop_of[names[m.step]], [None, m.pack])
    depth = 1
    for v in shape.reduce:
        depth *= shape.extents[v]
    row_block, row_outer, row_inner = "", "", ""
    if m.row is not None:
        row_outer, row_inner = sch.split(loop_of[names[m.row]], [None, height])
        tiles = sch.extent(row_outer) or 1
        near = max(1, target.l2_bytes // 4 // (height * depth * m.types[0].bytes))
        if tiles > near:
            size = block_size(tiles, shape.extents[m.row] // height, near, threads)
            row_block, row_outer = sch.split(row_outer, [None, size])
    panel_bytes = depth * width * m.types[1].bytes
    count = sch.extent(panels) or 1
    most = max(1, min(count, target.l2_bytes // 2 // max(panel_bytes, 1)))
    groups, panel = sch.split(panels, [None, even_size(count, most)])
    others = [v for v in shape.spatial if v not in (m.lane, m.row)]
    units = [loop_of[names[v]] for v in (*others, *shape.reduce) if shape.extents[v] == 1 and v is not m.step]
    free = [loop_of[names[v]] for v in others if shape.extents[v] > 1]
    outer = [n for n in (groups, *free, row_block, panel, row_outer) if n]
    inner = [n for n in (row_inner, vector, lane, part) if n]
    sch.reorder(*units, *outer, *(loop_of[names[v]] for v in reduce_order), steps, *inner)
    for name in units:
        if name:
            sch.elide(name)
    init, write = sch.stage_accumulate(block, outer[-1], "register")
    first = _lanes_last(sch, init, write, m, width > 1 and height > 1)
    inline_epilogues(sch, write)
    (whole,) = sch.blockize(lane)
    sch.tensorize(whole, instruction)
    for nest in (init, write):
        around = sch.own_loops(nest)
        if nest == write and first and _by_rows(shape, m, height):
            # vectors along the rows: their elements are the accumulators' lanes, which are transposed in registers
            *around, rows_loop = around
            for name in around:
                sch.unroll(name)
            sch.vectorize(rows_loop)
            continue
        lanes_loop = around.pop(0 if first and len(around) > 1 else -1)
        if around:
            sch.reorder(*around, lanes_loop)
        if width > m.lanes:
            vectors_loop, lanes_loop = sch.split(lanes_loop, [None, m.lanes])
            around.append(vectors_loop)
        for name in around:
            sch.unroll(name)
        sch.vectorize(lanes_loop)
    for name in (row_inner, vector):
        if name:
            sch.unroll(name)
    turns = _unroll_steps(sch, steps, height * vectors * INSTRUCTIONS[instruction].operations(target))
    # few groups leave no work to balance threads with; rows do
    many = sch.extent(groups) or 1
    shared = outer if many % threads == 0 and (not free or many >= SHARES * threads) else outer[1:]
    cut = [n for n in (groups, row_block, panel, row_outer) if n]
    parallelize(sch, whole, shared, shape.points(), threads, keep=cut)
    for name in (turns, *cut):
        if name in sch.loop_names():
            peel_tails(sch, name)
    for name in copies:
        if name not in sch.blocks():
            continue
        if (
            name not in sch.producers(whole)
            or sch.written_by(name) != packed.buffer
            or not attempt(sch, _fill_panels, sch, name, packed, m, shape, width, threads, constants)
        ):
            schedule_map(sch, name, target, threads)
    return True


def _unroll_steps(sch: Schedule, steps: str, body: int) -> str:
    """Expands some steps between two jumps, which take their share of what a core issues for two threads.

    Args:
        sch: The schedule.
        steps: The loop over the steps of a panel.
        body: Instructions of a step that compute.

    Returns:
        The loop over groups of steps, which may have a tail; "" where there are none.
    """
    extent = sch.extent(steps) or 1
    if extent * body <= BODY:
        sch.unroll(steps)
        return ""
    most = next((n for n in (8, 4, 2) if body * n <= BODY), 1)
    count = next((n for n in (8, 4, 2) if n <= most and extent % n == 0), 1)
    if count < 4 <= most and extent >= LONG:
        count = 4  # a tail is worth more than two steps to a jump, or one
    if count == 1:
        return ""
    groups, step = sch.split(steps, [None, count])
    sch.unroll(step)
    return groups


def _lanes_last(sch: Schedule, init: str, write: str, m: Mapping, both: bool) -> bool:
    """Lays the accumulators' tile out in rows of lanes; gives whether the lanes were its first axis."""
    store = find_block(sch.function, write).body
    if not both or m.row is None or not isinstance(store, Store):
        return False
    names = [i.name if isinstance(i, Var) else "" for i in store.indices]
    if names.index(m.lane.name) > names.index(m.row.name):
        return False
    sch.transform_layout(sch.written_by(init), "lambda a, b: (b, a)", False)
    return True


def _by_rows(shape: Shape, m: Mapping, height: int) -> bool:
    """Whether to write a tile in vectors of rows: side by side in memory, they fill more than half of a vector."""
    return m.row is not None and shape.target.strides.get(m.row) == 1 and 2 * height > m.lanes


def _fill_panels(
    sch: Schedule,
    name: str,
    packed: _Packed,
    m: Mapping,
    shape: Shape,
    width: int,
    threads: int,
    constants: Collection[str],
) -> None:
    """A copy into panels: rows of the source one after the other, lanes and steps of a panel as one vector.

    Padding is peeled off: vectors of elements alone are read without a condition. Constants are packed ahead, for which
    less code is better.
    """
    lane, step = sch.loop_of(name, packed.lane), sch.loop_of(name, packed.step)
    work = 1
    for loop in sch.own_loops(name):
        work *= sch.extent(loop) or 1
    others = [n for n in sch.own_loops(name) if n not in (lane, step)]
    panels, lanes = sch.split(lane, [None, width])
    steps, part = sch.split(step, [None, m.pack])
    sch.reorder(*others, steps, panels, lanes, part)
    (run,) = sch.fuse(lanes, part)
    if width > m.lanes:
        vectors, run = sch.split(run, [None, m.lanes * m.pack])
        sch.unroll(vectors)
    sch.vectorize(run)
    outer = [*others, steps, panels]
    parallelize(sch, name, outer, work, threads, keep=[panels, steps])
    for loop in (steps, panels):
        peel_tails(sch, loop)
    if touched(find_block(sch.function, name)).reads <= set(constants):
        return
    whole, rest = divmod(shape.extents[m.lane], width)
    last = _pieces(sch, panels, whole)[-1]
    if width > m.lanes and rest:
        (part,) = sch.blocks_under(last)
        _pieces(sch, sch.loops(part)[-2], rest // m.lanes, -(-rest // m.lanes))
    _pieces(sch, steps, shape.extents[m.step] // m.pack)


def _pieces(sch: Schedule, loop: str, *points: int) -> Sequence[str]:
    """Cuts a loop at the points that are inside of it."""
    inside = sorted({p for p in points if 0 < p < (sch.extent(loop) or 1)})
    return sch.peel(loop, inside) if inside else [loop]


def _inline_into_copies(sch: Schedule, block: str, before: Collection[str]) -> None:
    """Joins what computes an operand, its padding and its packing, each to the next, into one pass over memory."""
    while True:
        copies = [p for p in sch.producers(block) if p not in before]
        pairs = [(c, p) for c in copies for p in sch.producers(c) if _is_own_map(sch, p, c)]
        if not any(attempt(sch, sch.compute_inline, p) for _, p in pairs):
            return


def _read(sch: Schedule, block: str, factor: int) -> Load | None:
    """The load that a factor is, perhaps converted."""
    update = find_block(sch.function, block).body
    assert isinstance(update, Update)
    node = factors(update.values[0])[factor]
    while isinstance(node, Cast):
        node = node.a
    return node if isinstance(node, Load) else None


def _operand(sch: Schedule, block: str, factor: int) -> Load:
    load = _read(sch, block, factor)
    assert load is not None
    return load


def _axis(load: Load, name: str) -> int:
    return next(k for k, i in enumerate(load.indices) if isinstance(i, Var) and i.name == name)


def _lay_out_rows(sch: Schedule, block: str, m: Mapping) -> None:
    """Puts the steps of an instruction side by side in the operand that all lanes share."""
    load = _operand(sch, block, m.every)
    at = _axis(load, m.step.name)
    names = [f"d{k}" for k in range(len(load.indices))]
    if at == len(names) - 1:
        return
    order = [n for k, n in enumerate(names) if k != at] + [names[at]]
    sch.transform_layout(load.buffer, f"lambda {', '.join(names)}: ({', '.join(order)})", False)


def _spread_rows(sch: Schedule, block: str, m: Mapping, constants: Collection[str]) -> None:
    """Keeps the rows of a tile in different sets of the cache: each starts an odd number of lines after the last.

    Constants stay as they are: they are packed ahead, as arrays without gaps.
    """
    buffer = buffer_table(sch.function)[_operand(sch, block, m.every).buffer]
    line = LINE_BYTES // buffer.dtype.bytes
    made = [b for b in sch.producers(block) if sch.written_by(b) == buffer.name]
    if any(touched(find_block(sch.function, b)).reads <= set(constants) for b in made):
        return
    if len(buffer.shape) > 1 and (as_int(buffer.shape[-1]) or 0) >= 2 * line:
        sch.pad_stride(buffer.name, len(buffer.shape) - 2, 2 * line, line)


def _lay_out_panels(sch: Schedule, block: str, m: Mapping, width: int, reduce_order: list[str]) -> _Packed:
    """Lays the other operand out in the order in which the tile reads it: panels, reductions, lanes, steps."""
    load = _operand(sch, block, 1 - m.every)
    names = [f"d{k}" for k in range(len(load.indices))]
    lane, step = names[_axis(load, m.lane.name)], names[_axis(load, m.step.name)]
    walked = [
        names[k]
        for r in reduce_order
        for k, i in enumerate(load.indices)
        if isinstance(i, Var) and i.name == r and names[k] not in (lane, step)
    ]
    others = [n for n in names if n not in (lane, step, *walked)]
    outputs = [*others, f"{lane} // {width}", *walked, f"{step} // {m.pack}", f"{lane} % {width}", f"{step} % {m.pack}"]
    sch.transform_layout(load.buffer, f"lambda {', '.join(names)}: ({', '.join(outputs)})", False)
    return _Packed(load.buffer, names.index(lane), names.index(step))


def _wider(block: Block) -> bool:
    """Whether a product of floats converts its factors, which multiply-adds would do again and again."""
    assert isinstance(block.body, Update)
    wide = block.body.targets[0].dtype
    return wide in (dt.f32, dt.f64) and any(
        load.dtype.is_float and load.dtype is not wide for f in factors(block.body.values[0]) for load in loads(f)
    )


def _widened(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str]) -> bool:
    """Converts the factors once, ahead, and multiplies and adds in the wide type."""
    shape = shape_of(sch.function, find_block(sch.function, block))
    if shape is None:
        return False
    before = set(sch.blocks())
    pair = factors(_update(sch, block).values[0])
    converted: list[str] = []
    for k, f in enumerate(pair):
        size = 1
        for v in free_vars(f):
            size *= shape.extents.get(v, 1)
        if any(load.dtype is not f.dtype for load in loads(f)) and shape.points() >= LEAST * size:
            converted += sch.reindex(block, k)
            if shape.innermost() not in free_vars(f):
                _reductions_last(sch, block, k, shape, constants)
    if not converted:
        return False
    _inline_into_copies(sch, block, before)
    if not schedule_reduction(sch, block, target, threads, constants):
        return False
    for name in converted:
        # an operand that is packed is converted on its way
        attempt(sch, _join, sch, name)
        if name in sch.blocks():
            schedule_map(sch, name, target, threads)
    return True


def _reductions_last(sch: Schedule, block: str, factor: int, shape: Shape, constants: Collection[str]) -> None:
    """Lets an operand that all lanes share be read along memory: that reduction last which the other one wishes.

    A constant is packed and follows any order, of which the longest is best; other data are read as they lie.
    """
    load, other = (_read(sch, block, k) for k in (factor, 1 - factor))
    if load is None:
        return
    plain = {i: k for k, i in enumerate(load.indices) if isinstance(i, Var) and i in shape.reduce}
    if plain:
        now = shape_of(sch.function, find_block(sch.function, block)) or shape
        steps = next((o.strides for o in now.operands if other is not None and o.buffer == other.buffer), {})
        packed = not steps or (other is not None and other.buffer in constants)
        last = max(plain, key=lambda v: shape.extents[v] if packed else -abs(steps.get(v) or 0))
        at = plain[last]
        names = [f"d{k}" for k in range(len(load.indices))]
        order = [n for k, n in enumerate(names) if k != at] + [names[at]]
        if order != names:
            sch.transform_layout(load.buffer, f"lambda {', '.join(names)}: ({', '.join(order)})", False)


def _join(sch: Schedule, name: str) -> bool:
    if not all(isinstance(find_block(sch.function, c).body, Store) for c in sch.consumers(name)):
        return False
    sch.compute_inline(name)
    return True


def _update(sch: Schedule, block: str) -> Update:
    update = find_block(sch.function, block).body
    assert isinstance(update, Update)
    return update
