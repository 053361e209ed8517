"""Reductions along the axis in which their operands are contiguous: partial results in the lanes of registers.

for rows …:
    acc[lanes] = identity;  for steps: for lanes (vectorized): acc[lane] ⊕= x[row, step · lanes + lane]
    then acc is folded in halves until four lanes are left, which are combined one by one

A matrix that comes from memory is read a few rows at a time where all of them are multiplied by the same
vector: more of what is to come is asked for, and the vector is loaded once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Block, buffer_table
from tcompiler.ir.scalar.grammar import Var
from tcompiler.schedule.rules.accesses import Shape, shape_of
from tcompiler.schedule.rules.attempt import attempt, copies_of, peel_tails
from tcompiler.schedule.rules.placement import CHEAP, operations
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target
from tcompiler.target.tile import far_bytes

VECTORS = 4
"""Vectors of partial results: as many as hide the latency of an addition at two a cycle, about; and of a cheap map."""
NEEDED = 8
"""Registers for a vector whose elements take many operations (an exponential), with its part of the constants."""
SHORT = 8
"""Vectors of a row that are written out, if they are cheap: a loop of a few rounds costs as much as what it does."""
ROWS = 8
"""Rows that are multiplied by a vector at once."""
LAST = 4
"""Lanes that are combined one by one at the end."""


def reduce_in_lanes(sch: Schedule, block: str, target: Target, source: str = "") -> bool:
    """Vectorizes a reduction along its contiguous axis.

    Args:
        sch: The schedule; the block's reduce loops surround it alone.
        block: A block with an Update.
        target: The machine.
        source: A map, split for vectors, whose tail is not peeled yet, that makes what is reduced: each of its vectors
            is taken up where it is made, and need not be read again. What reduces them is in vectors with it.

    Returns:
        False, with nothing changed, where no operand is contiguous along a reduce axis or the axis is too short.
    """
    if source and attempt(sch, _reduce, sch, block, target, source):
        return True
    narrow = sch.extent(sch.loops(source)[-1]) or 0 if source else 0
    return attempt(sch, _reduce, sch, block, target, "", narrow)


def vectors_at_once(block: Block, target: Target) -> int:
    """Vectors of a map or a reduction that are computed side by side, between two jumps."""
    return VECTORS if operations(block) <= CHEAP else max(1, min(VECTORS, target.vector_registers // NEEDED))


def _reduce(sch: Schedule, block: str, target: Target, source: str = "", narrow: int = 0) -> bool:
    shape = shape_of(sch.function, find_block(sch.function, block))
    if shape is None or 0 in shape.extents.values():
        return False
    axes = contiguous_axes(shape)
    if not axes:
        return False
    positions = {i.var: k for k, i in enumerate(sch.iters(block))}
    loop_of = {v: sch.loop_of(block, positions[v]) for v in shape.reduce}
    chain = [loop_of[v] for v in axes if shape.extents[v] > 1]
    if not chain or "" in loop_of.values():
        return False
    others = [loop_of[v] for v in shape.reduce if loop_of[v] not in chain]
    spatial = [n for n in sch.loops(block) if n not in loop_of.values()]
    if others or sch.loops(block)[-len(chain) :] != chain:
        sch.reorder(*others, *chain)
    loop = sch.fuse(*chain)[0] if len(chain) > 1 else chain[0]
    extent = sch.extent(loop) or 0
    width = target.vector_lanes(buffer_table(sch.function)[shape.target.buffer].dtype.bits)
    if width < 2 or extent < width:
        return False
    if extent >= width * VECTORS and _far_with_vector(sch, shape, spatial, block, target):
        _reduce_rows(sch, block, [*spatial, loop], width, target)
        return True
    short = extent <= SHORT * width and operations(find_block(sch.function, block)) <= CHEAP
    vectors = min(vectors_at_once(find_block(sch.function, block), target), extent // width)
    beside = sch.loops(source)[-2:] if source else []
    if source and vectors_at_once(find_block(sch.function, source), target) < VECTORS:
        return False  # it has no registers left for partial results
    lanes = lanes_at_once = (sch.extent(beside[-1]) or 0) if source else width * vectors
    steps, lane = sch.split(loop, [None, lanes])
    combining = _factored(sch, block, lane, [*others, steps], spatial)
    _fold(sch, block, combining, lanes, width, spatial)
    if source:
        sch.compute_with(beside[0], steps)
        return True
    if extent % lanes_at_once:
        peel_tails(sch, steps)
    in_vectors(sch, [lane], target, narrow)
    if short and steps in sch.loop_names():
        sch.unroll(steps)
    return True


def _fold(sch: Schedule, block: str, combining: str, lanes: int, width: int, spatial: list[str]) -> None:
    """Combines the lanes of partial results: in halves, and the last ones one by one."""
    while lanes > LAST:
        half = width if lanes > width else max(LAST, lanes // 2)
        halves, lane = sch.split(combining, [None, half])
        combining = _factored(sch, block, lane, [halves], spatial)
        sch.vectorize(lane)
        sch.unroll(halves)
        lanes = half
    sch.unroll(combining)


def _far_with_vector(sch: Schedule, shape: Shape, spatial: Sequence[str], block: str, target: Target) -> bool:
    """Whether rows of a matrix that comes from memory are multiplied by one vector."""
    if len(shape.operands) != 2 or not spatial or len(shape.reduce) != 1:
        return False
    row = next((i.var for k, i in enumerate(sch.iters(block)) if sch.loop_of(block, k) == spatial[-1]), None)
    if row is None or shape.extents[row] < ROWS:
        return False
    matrix, vector = sorted(shape.operands, key=lambda o: not o.moves(row))
    size = buffer_table(sch.function)[matrix.buffer].dtype.bytes
    size *= prod(e for v, e in shape.extents.items() if matrix.moves(v))
    return matrix.moves(row) and not vector.moves(row) and size > far_bytes(target)


def _reduce_rows(sch: Schedule, block: str, loops: Sequence[str], width: int, target: Target) -> None:
    """Reduces a few rows at a time, a vector of partial results for each.

    Args:
        sch: The schedule.
        block: The block.
        loops: All its loops, that of the rows and that of the reduction last.
        width: Lanes of a vector.
        target: The machine.
    """
    *around, row, loop = loops
    extent = sch.extent(row) or 0
    if extent % ROWS:
        row, rest = sch.peel(row, [extent // ROWS * ROWS])
        for name in sch.blocks_under(rest):
            reduce_in_lanes(sch, name, target)
    extent = sch.extent(loop) or 0
    if extent % width:
        loop, _ = sch.peel(loop, [extent // width * width])
    rows, row = sch.split(row, [None, ROWS])
    steps, lane = sch.split(loop, [None, width])
    partial, combining = sch.rfactor(block, lane)
    sch.compute_at(partial, rows)
    own = [n for n in sch.loops(partial) if n not in (*around, rows)]
    kinds = {sch.loop_of(partial, k): i.kind for k, i in enumerate(sch.iters(partial))}
    (steps,) = [n for n in own if kinds[n] == "reduce"]
    inside, lane = [n for n in own if n != steps]
    sch.reorder(steps, inside, lane)
    (init,) = sch.decompose_reduction(partial, steps)
    sch.set_scope(sch.written_by(partial), "register")
    for name in (partial, init):
        unrolled, lanes = [n for n in sch.own_loops(name) if n != steps]
        sch.unroll(unrolled)
        sch.vectorize(lanes)
    _fold(sch, block, combining, width, width, [*around, rows, row])
    sch.unroll(row)


def contiguous_axes(shape: Shape) -> list[Var]:
    """The reduce axes, outermost first, that together walk memory element by element in some operand."""
    best: list[Var] = []
    axes = [v for v in reversed(shape.reduce) if shape.extents[v] > 1]
    for o in shape.operands:
        chain: list[Var] = []
        for v in axes:
            if (o.strides.get(v) == 1) if not chain else _merge(shape, v, chain[0]):
                chain.insert(0, v)
        if len(chain) > len(best):
            best = chain
    return best


def _merge(shape: Shape, outer: Var, inner: Var) -> bool:
    """Whether two axes are one in every operand."""
    for o in shape.operands:
        far, near = o.strides.get(outer, 0), o.strides.get(inner, 0)
        if far is None or near is None or far != near * shape.extents[inner]:
            return False
    return True


def _factored(sch: Schedule, block: str, lane: str, reduced: list[str], spatial: list[str]) -> str:
    """Partial results in registers for every iteration of `lane`; returns the loop that combines them."""
    before = {b.name for b in sch.function.buffers}
    partial, combining = sch.rfactor(block, lane)
    (init,) = sch.decompose_reduction(partial, reduced[0])
    for buffer in [b.name for b in sch.function.buffers if b.name not in before]:
        if spatial:
            sch.compact(buffer, spatial[-1])
        sch.set_scope(buffer, "register")
    sch.vectorize(sch.own_loops(init)[-1])
    return combining


def in_vectors(sch: Schedule, loops: Sequence[str], target: Target, narrow: int = 0) -> None:
    """Vectorizes loops and their tails: in whole vectors, the last one masked, where there is much to compute.

    A shorter vector would take as long, have constants of its own in other registers, and have to be put into a longer
    one to be added to it; three vectors would take as long as four.

    Args:
        sch: The schedule.
        loops: Loops over lanes of the same elements, whose tails have been peeled.
        target: The machine.
        narrow: Lanes that other passes over these elements have; 0 for any. A tail is done in pieces of as many: the
            last vector is read from the register that it was written from by lanes that are alike, and comes late from
            memory, where it was written in several stores.
    """
    blocks = [sch.blocks_under(n)[0] for n in loops]
    much = any(operations(find_block(sch.function, b)) > CHEAP for b in blocks) and target.has("avx512vl")
    for loop, block in zip(loops, blocks, strict=True):
        width = target.vector_lanes(buffer_table(sch.function)[sch.written_by(block)].dtype.bits)
        for name in copies_of(loop, sch.loop_names()):
            extent = sch.extent(name) or 0
            if name != loop and extent % width and 0 < narrow < extent:
                sch.peel(name, [*range(narrow, extent, narrow)])
        for name in copies_of(loop, sch.loop_names()):
            lanes, extent = name, sch.extent(name) or 0
            # a vectorized loop has a power of two of lanes
            if much and name != loop and -(-extent // width) * width != 1 << (extent - 1).bit_length():
                whole, lanes = sch.split(name, [None, width])
                if sch.extent(whole) == 1:
                    sch.elide(whole)
                else:
                    sch.unroll(whole)
            sch.vectorize(lanes)
