"""Reductions across memory: what is summed lies rows apart, and every element is read once.

Nothing is shared, so that such a sum is bound by reading, which is fastest row by row as memory goes. A strip of
results stays in near caches; a few rows are added up in registers before they are added to it. Each row may have a
factor, as when a vector is multiplied by a matrix:

    for outer …: for strips: total[strip] = identity
        for rows r0: for lanes l0: acc[lanes] = identity;  for r1 (unrolled): acc ⊕= x[r0, r1, l0];  total[l0] ⊕= acc
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Update, buffer_table
from tcompiler.ir.scalar.grammar import Var
from tcompiler.schedule.rules.accesses import Operand, Shape, shape_of
from tcompiler.schedule.rules.attempt import attempt, peel_tails
from tcompiler.schedule.rules.body import inline_epilogues
from tcompiler.schedule.rules.threads import parallelize
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target

STRIP = 8
"""Part of the level 2 cache that a strip of results may take: they pass once for every few rows."""
LEAST_BYTES = 512
"""Bytes that are read side by side at the speed of longer rows."""
ROWS = 8
"""Rows that are added up in registers at once."""
REGISTERS = 8
"""Vectors of results that stay in registers to the end."""
VECTORS = 4
"""Vectors of results in registers at once."""
SHARES = 2
"""Strips for each thread where rows alone are too few to share."""


def reduce_columns(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str] = ()) -> bool:
    """Schedules a reduction whose results are contiguous where the one operand that both move is.

    Args:
        sch: The schedule; the block stands in a nest of its own.
        block: A block with an Update.
        target: The machine.
        threads: Threads that the kernel may use.
        constants: Inputs whose layout may be chosen: as panels, these come in order anyway.

    Returns:
        False, with nothing changed, where the rule does not fit.
    """
    return attempt(sch, _reduce, sch, block, target, threads, constants)


def _reduce(sch: Schedule, block: str, target: Target, threads: int, constants: Collection[str]) -> bool:
    node = find_block(sch.function, block)
    shape = shape_of(sch.function, node)
    if shape is None or not isinstance(node.body, Update) or len(node.body.targets) != 1:
        return False
    lane = shape.innermost()
    data = _read_once(shape, lane) if lane is not None else None
    loop_of = {i.var: sch.loop_of(block, k) for k, i in enumerate(sch.iters(block))}
    if lane is None or data is None or data.strides.get(lane) != 1 or 0 in shape.extents.values():
        return False
    moving = {v: n for v, n in loop_of.items() if shape.extents[v] > 1}
    if "" in moving.values():
        return False
    element = buffer_table(sch.function)[shape.target.buffer].dtype.bytes
    if any(_is_factor(o, shape, lane) for o in shape.operands):
        size = element * prod(e for v, e in shape.extents.items() if data.moves(v))
        if data.buffer in constants or size <= target.l2_bytes:
            return False
    width = target.vector_lanes(element * 8)
    extent = shape.extents[lane]
    # the reduced axes in the order of memory, the innermost of them in steps of a few rows
    reduced = sorted((v for v in shape.reduce if v in moving), key=lambda v: -abs(data.strides.get(v) or 0))
    if not reduced or extent < width:
        return False
    outer = [v for v in shape.spatial if v in moving and v is not lane]
    strip = _strip(shape, outer, extent, width, element, target.l2_bytes // STRIP, threads)
    rows = min(ROWS, shape.extents[reduced[-1]])
    for v, n in loop_of.items():
        if v not in moving and n:
            sch.elide(n)
    strips, within = sch.split(moving[lane], [None, strip])
    once = strip <= REGISTERS * width or (len(reduced) == 1 and rows == shape.extents[reduced[0]])
    most = REGISTERS * width if strip <= REGISTERS * width else VECTORS * width
    first, lanes = sch.split(within, [None, min(strip, most)])
    step, row = sch.split(moving[reduced[-1]], [None, rows])
    around = [moving[v] for v in outer]
    inner = (
        [first, *(moving[v] for v in reduced[:-1]), step] if once else [*(moving[v] for v in reduced[:-1]), step, first]
    )
    sch.reorder(*around, strips, *inner, row, lanes)
    if once:
        inline_epilogues(sch, _accumulate(sch, block, first))
    else:
        init, write = sch.stage_accumulate(block, strips, "local")
        inline_epilogues(sch, write)
        for name in (init, write):
            last = sch.loops(name)[-1]
            ahead, last = sch.split(last, [None, min(strip, most)])
            sch.vectorize(last)
            peel_tails(sch, ahead)
        _accumulate(sch, block, first)
    sch.vectorize(lanes)
    sch.unroll(row)
    parallelize(sch, block, [*around, strips], shape.points(), threads, keep=[strips])
    for name in (strips, step, first):
        peel_tails(sch, name)
    return True


def _read_once(shape: Shape, lane: Var) -> Operand | None:
    """The operand that is reduced, if no other moves along the lanes as well, and no element is read twice."""
    reduced = [v for v in shape.reduce if shape.extents[v] > 1]
    data = [o for o in shape.operands if any(o.moves(v) for v in reduced) and not _is_factor(o, shape, lane)]
    if len({(o.buffer, o.indices) for o in data}) != 1:
        return None
    steps = [(data[0].strides.get(v, 0), n) for v, n in shape.extents.items() if n > 1]
    reach = 0
    for by, n in sorted((abs(by), n) if by is not None else (0, n) for by, n in steps):
        if by <= reach:
            return None
        reach += by * (n - 1)
    return data[0]


def _is_factor(operand: Operand, shape: Shape, lane: Var) -> bool:
    """Whether an operand is the same for all lanes, and another one in each step."""
    return not operand.moves(lane) and any(operand.moves(v) for v in shape.reduce if shape.extents[v] > 1)


def _strip(shape: Shape, outer: list[Var], extent: int, width: int, element: int, most: int, threads: int) -> int:
    """Results of a strip: of so many bytes at most, fewer where threads would have nothing to do."""
    strip = min(extent, most // element)
    around = 1
    for v in outer:
        around *= shape.extents[v]
    if threads > 1 and around < SHARES * threads:
        parts = -(-SHARES * threads // around)
        strip = min(strip, max(LEAST_BYTES // element, -(-extent // parts)))
    if strip < extent:
        even, unit = -(-extent // -(-extent // strip)), VECTORS * width
        # threads share whole strips: what is left is better a little than nearly a strip
        strip = (even // unit or 1) * unit if threads > 1 else -(-even // unit) * unit
    return strip


def _accumulate(sch: Schedule, block: str, loop: str) -> str:
    """Adds up in registers what an iteration of a loop reads; returns the block that writes the sums."""
    init, write = sch.stage_accumulate(block, loop, "register")
    for name in (init, write):
        sch.vectorize(sch.loops(name)[-1])
    return write
