"""What stands inside a tile of a contraction: accumulators, lanes, steps of the reduction, epilogues, prefetches."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod

from tcompiler.backends.llvm.linear import linear
from tcompiler.ir.loop.analysis import find_block, touched
from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.rules.accesses import shape_of, steps
from tcompiler.schedule.rules.attempt import attempt
from tcompiler.schedule.rules.plan import Plan
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target

UNROLL = 8
"""Innermost reduce loops up to this extent are expanded."""
BODY = 192
"""FMAs that an innermost loop may hold."""
STEP = 24
"""FMAs of a step that is worth a jump by itself where a few at once would leave a tail."""
FEW = 64
"""Steps among which such a tail weighs; of more, a few at once let what is asked for ahead come in time."""
EARLY = 3
"""Registers for what LLVM loads early where taps that lanes slide along are written out."""


def lanes_innermost(sch: Schedule, block: str, lanes: str, init: str, write: str) -> None:
    """Puts the lanes of an accumulator side by side where they are not contiguous in what it is written to."""
    accumulator = sch.written_by(init)
    rank = len(buffer_table(sch.function)[accumulator].shape)
    own = len(sch.iters(block)) - rank
    at = next((k for k in range(rank) if sch.loop_of(block, own + k) == lanes), rank - 1)
    if at == rank - 1:
        attempt(sch, _dealt_out, sch, block, lanes, init)
        return
    names = [f"d{k}" for k in range(rank)]
    order = [n for k, n in enumerate(names) if k != at] + [names[at]]
    sch.transform_layout(accumulator, f"lambda {', '.join(names)}: ({', '.join(order)})", False)
    for name in (init, write):
        loops = sch.own_loops(name)
        sch.reorder(*(n for k, n in enumerate(loops) if k != at), loops[at])


def _dealt_out(sch: Schedule, block: str, lanes: str, init: str) -> bool:
    """Puts every so many elements of an accumulator side by side where its last axis is made of rows and lanes in turn.

    A tile with several phases of each position has them as rows, whose vectors are interleaved as they are stored.
    """
    accumulator = sch.written_by(init)
    shape = buffer_table(sch.function)[accumulator].shape
    each = linear(find_block(sch.function, block).bindings[-1], {})
    steps = {v.name: c for v, c in each.terms.items() if isinstance(v, Var)}
    phases, size = steps.get(lanes, 1), as_int(shape[-1]) or 1
    if phases < 2 or size % phases or any(sch.extent(n) != phases or c != 1 for n, c in steps.items() if n != lanes):
        return False
    names = [f"d{k}" for k in range(len(shape))]
    text = ", ".join([*names[:-1], f"{names[-1]} % {phases}", f"{names[-1]} // {phases}"])
    sch.transform_layout(accumulator, f"lambda {', '.join(names)}: ({text})", False)
    outer, inner = sch.split(sch.own_loops(init)[-1], [None, phases])
    sch.reorder(inner, outer)
    return True


def far_inputs(sch: Schedule, write: str, target: Target) -> list[str]:
    """What an epilogue reads beside the sum that may not be in the level 2 cache: it is asked for before the sum."""
    read = touched(find_block(sch.function, write)).reads & set(sch.function.inputs)
    sizes = {b.name: b.dtype.bytes * prod(as_int(e) or 1 for e in b.shape) for b in sch.function.buffers}
    return [n for n in sorted(read) if sizes[n] > target.l2_bytes // 2]


def unroll_steps(
    sch: Schedule, plan: Plan, loops: Sequence[tuple[Var, str, int]], bits: int, target: Target
) -> tuple[str, str]:
    """Expands reduce loops from the innermost (first) on: all of the short ones, else some steps of the innermost.

    A jump back after every step costs a third of the speed of a core that works for two threads.

    Returns:
        The loop over groups of steps, which may have a tail, and that over the steps of one; "" and "" without groups.
    """
    vectors = -(-plan.lanes // target.vector_lanes(bits))
    body = plan.rows * vectors
    most = min(BODY, body * plan.written)
    spare = target.vector_registers - plan.rows * vectors - vectors
    for k, (var, name, extent) in enumerate(loops):
        if max(spare, 0) < kept_elements(plan, var, extent):
            break
        if extent <= UNROLL and body * extent <= most:
            sch.unroll(name)
            body *= extent
            continue
        if k == 0 and spare >= 1:
            steps = next((n for n in (8, 4, 2) if extent % n == 0 and extent > n and body * n <= most), 0)
            if steps < 4 and extent > UNROLL and plan.written >= 4 and (body < STEP or extent > FEW):
                steps = 4  # a tail is worth more than two steps to a jump, or one
            if steps:
                outer, inner = sch.split(name, [None, steps])
                sch.unroll(inner)
                return outer, inner
        break
    return "", ""


def kept_elements(plan: Plan, var: Var, extent: int) -> int:
    """How many elements that rows of a tile read in one step others read in later ones, as windows that overlap do.

    LLVM loads such an element once and keeps it until then, whether or not a register is left for it. Where lanes slide
    along a window and a tile has many rows, it loads the lanes of the next taps early.
    """
    tall = [(plan.row, plan.tile.rows), (plan.line, plan.tile.lines)]
    steps = [linear(i, {}).terms for o in plan.shape.operands for i in o.indices]
    sliding = any(var in step and plan.lane in step for step in steps)
    kept = EARLY if sliding and plan.rows > UNROLL else 0
    for step in steps:
        for row, rows in tall:
            if row not in step or var not in step:
                continue
            common = gcd(step[row], step[var])
            later, apart = abs(step[row]) // common, abs(step[var]) // common
            if later < extent and apart < rows:
                kept = max(kept, later * (rows - apart) * (plan.rows // rows))
    return kept


def begin_by_storing(sch: Schedule, buffer: str, parts: Sequence[str]) -> None:
    """Lets the first part of a reduction store its sums; the others ask for them before they add theirs."""
    several = [n for n in parts if (sch.extent(n) or 1) > 1]
    if len(several) != 1:
        return
    first, rest = sch.peel(several[0], [1])
    sch.elide(first)
    added = [n for n in sch.blocks_under(rest) if buffer in touched(find_block(sch.function, n)).writes]
    summed = max(sch.blocks_under(rest), key=lambda n: len(sch.loops(n)))
    for name in added:
        steps = [n for n in sch.loops(summed) if n not in sch.loops(name)]
        if steps:
            attempt(sch, sch.prefetch, name, buffer, steps[0])


def inline_epilogues(sch: Schedule, write: str) -> None:
    """Folds the elementwise consumers of what a block writes into it, one after the other."""
    while True:
        consumers = sch.consumers(write)
        if len(consumers) != 1 or not attempt(sch, sch.reverse_compute_inline, consumers[0]):
            return


def lanes_and_rows(sch: Schedule, block: str) -> None:
    """Vectorizes the innermost loop of a tile's init or write-back, and unrolls those around it that are its own.

    Rows go innermost where what is written is contiguous along them: the code generator transposes such a tile.
    """
    own = sch.own_loops(block)
    if not own:
        return
    inner = _contiguous(sch, block)
    if inner in own[:-1] and sch.extent(inner) != 1:
        own.remove(inner)
        own.append(inner)
        sch.reorder(*own)
    *rows, lanes = own
    for name in rows:
        sch.unroll(name)
    sch.vectorize(lanes)


def _contiguous(sch: Schedule, block: str) -> str:
    """The loop along which a block writes side by side; "" if there is none."""
    node = find_block(sch.function, block)
    shape = shape_of(sch.function, node)
    moved = steps(node, shape.target) if shape is not None else {}
    odd = {v for atom in moved if not isinstance(atom, Var) for v in free_vars(atom)}
    return next((v.name for v, by in moved.items() if isinstance(v, Var) and by == 1 and v not in odd), "")
