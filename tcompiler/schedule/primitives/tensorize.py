"""tensorize: a block becomes one machine instruction."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from tcompiler.ir.loop.grammar import (
    Block,
    Buffer,
    For,
    Function,
    Intrinsic,
    IterVar,
    Region,
    Stmt,
    Update,
    buffer_table,
)
from tcompiler.ir.loop.intrinsics import DESCRIPTIONS, Description, description
from tcompiler.ir.loop.text import print_function
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import TRUE, Binary, Cast, Load, Reducer, Scalar, Var, as_int, index, sub
from tcompiler.ir.scalar.reducers import reducer_name
from tcompiler.ir.scalar.rewrite import free_vars, loads, rewrite, substitute
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.narrowing import buffer_range
from tcompiler.schedule.tree import block_named, replace

NAME = condition("tensorize.intrinsic", "the instruction is one that the language knows")
BLOCK = condition(
    "tensorize.block",
    "the block holds, as blockize makes it, loops around one block that is one Update, without init and predicate",
)
MATCH = condition(
    "tensorize.match",
    "what the loops compute is what the instruction does, up to names and the order of loops and factors",
)
REGION = condition(
    "tensorize.region",
    "each operand's elements follow each other in memory in the instruction's order",
)
LIMITS = condition(
    "tensorize.limits",
    "an operand whose values the instruction limits is written, whole, by stores of values within the limits",
)


@primitive
def tensorize(function: Function, block: str, intrinsic: str) -> Result:
    """Puts one machine instruction in the place of a block's loops.

    Before (blockize makes such a block):

        with block("C_o"):
            vm = spatial(6, m); vn_o = spatial(4, n_0); vk_o = reduce(16, k_0)
            for n_1 in range(8):
                for k_1 in range(2):
                    with block("C"):
                        vm_2 = spatial(6, vm); vn = spatial(32, vn_o * 8 + n_1); vk = reduce(32, vk_o * 2 + k_1)
                        C[vm, vn] += cast(i32, A[vm, vk]) * cast(i32, B[vk // 2, vn, vk % 2])

    After ``tensorize("C_o", "x86.dot_i16x8")``:

        with block("C_o"):
            vm = spatial(6, m); vn_o = spatial(4, n_0); vk_o = reduce(16, k_0)
            intrinsic("x86.dot_i16x8", writes=(C[span(vm, 1), span(vn_o * 8, 8)],),
                reads=(C[…], A[span(vm, 1), span(vk_o * 2, 2)], B[span(vk_o, 1), span(vn_o * 8, 8), span(0, 2)]))

    The instructions and their meanings are in `ir.loop.intrinsics`; a backend has the code of those that its target
    has, and refuses the others.

    Args:
        function: The function.
        block: A block that blockize made.
        intrinsic: The instruction.

    Returns:
        The new function, and no names: the block keeps its own.

    Raises:
        ScheduleError: If a condition of tensorize does not hold.
    """
    outer = block_named(function, block)
    if intrinsic not in DESCRIPTIONS:
        near = difflib.get_close_matches(intrinsic, DESCRIPTIONS, n=1)
        hint = f' (did you mean "{near[0]}"?)' if near else ""
        refuse(
            NAME,
            outer,
            f'there is no instruction "{intrinsic}"{hint}',
            f"choose one of {', '.join(DESCRIPTIONS)}",
        )
        return Result(function)
    loops, inner = _inside(outer)
    if inner is None or not isinstance(inner.body, Update):
        refuse(
            BLOCK,
            outer,
            f"{block} is not a block around loops and one Update",
            "decompose_reduction or stage_accumulate first, then blockize the loops of one instruction",
        )
        return Result(function)
    wanted = description(intrinsic)
    point: dict[Scalar, Scalar] = {it.var: x for it, x in zip(inner.iters, inner.bindings, strict=True)}
    update = _at(inner.body, point)
    table = buffer_table(function)
    problem = f"{block} does not compute it"
    failed = MATCH
    for order in permutations(loops):
        if len(order) != len(wanted.loops) or not _same_loops(order, wanted, inner):
            continue
        names: dict[Scalar, Scalar] = {
            it.var: order[wanted.loops.index(_loop_of(wanted, it))].var for it in wanted.block.iters
        }
        for match in _updates(_at(wanted.update, names), update):
            regions = {}
            for operand, load in match.items():
                region = _region(load, _indices(wanted, operand, names), [s.var for s in order], table[load.buffer])
                if isinstance(region, str):
                    # of several ways to match, the first is the one that the factors' order suggests
                    failed, problem = REGION, problem if failed is REGION else region
                    break
                regions[operand] = region
            else:
                beyond = _beyond(function, wanted, match)
                if beyond:
                    failed, problem = LIMITS, beyond
                    continue
                return Result(replace(function, outer, _instruction(outer, wanted, regions)))
    remedies = {
        REGION: "change the layout of that buffer (transform_layout), so that those elements are contiguous",
        LIMITS: "compute that operand ahead (reindex) of values that are limited (max, min), or take another one",
    }
    refuse(failed, outer, problem, remedies.get(failed, f"blockize what it does: {_stated(wanted)}"))
    return Result(function)


def _beyond(function: Function, wanted: Description, match: Mapping[str, Load]) -> str:
    """What breaks the instruction's limits; "" if nothing does."""
    for operand, (least, most) in wanted.limits.items():
        name = match[operand].buffer
        low, high = buffer_range(function, name)
        if low < least or most < high:
            return f"{name} may hold values from {low} to {high}, and the instruction takes {least} to {most}"
    return ""


def _stated(wanted: Description) -> str:
    """The instruction's meaning in one line."""
    operands = ", ".join(f"{b.name}: {b.dtype.name}{list(wanted.shape(b.name))}" for b in wanted.function.buffers)
    return f"{print_function(wanted.function).splitlines()[-1].strip()} over {operands}"


def _inside(outer: Block) -> tuple[list[For], Block | None]:
    loops: list[For] = []
    stmt: Stmt = outer.body
    while isinstance(stmt, For):
        loops.append(stmt)
        stmt = stmt.body
    whole = outer.init is None and not outer.opaque and isinstance(stmt, Block)
    if not whole or not isinstance(stmt, Block) or stmt.init is not None or stmt.predicate is not TRUE:
        return loops, None
    return [s for s in loops if as_int(s.var.extent) != 1], _without_units(stmt, loops)


def _without_units(block: Block, loops: Sequence[For]) -> Block:
    """The block with loops of one iteration at their only value."""
    units: dict[Scalar, Scalar] = {s.var: index(0) for s in loops if as_int(s.var.extent) == 1}
    if not units:
        return block
    bindings = tuple(simplify(substitute(b, units)) for b in block.bindings)
    return Block(block.name, block.iters, bindings, block.body)


def _loop_of(wanted: Description, it: IterVar) -> For:
    binding = wanted.block.bindings[wanted.block.iters.index(it)]
    return next(s for s in wanted.loops if s.var is binding)


def _same_loops(order: Sequence[For], wanted: Description, inner: Block) -> bool:
    """Whether loops have the extents of the instruction's and feed iters of the same kinds."""
    for mine, theirs in zip(order, wanted.loops, strict=True):
        kinds = {it.kind for it, b in zip(inner.iters, inner.bindings, strict=True) if mine.var in free_vars(b)}
        of = next(it.kind for it in wanted.block.iters if _loop_of(wanted, it) is theirs)
        if as_int(mine.var.extent) != as_int(theirs.var.extent) or kinds != {of}:
            return False
    return True


def _at(update: Update, values: Mapping[Scalar, Scalar]) -> Update:
    """The update at values of its variables."""

    def element(t: Load) -> Load:
        return Load(t.buffer, t.dtype, tuple(simplify(substitute(i, values)) for i in t.indices))

    return Update(
        tuple(element(t) for t in update.targets),
        update.reducer,
        tuple(_loads_at(v, values) for v in update.values),
    )


def _loads_at(node: Scalar, values: Mapping[Scalar, Scalar]) -> Scalar:
    def simpler(n: Scalar) -> Scalar:
        return Load(n.buffer, n.dtype, tuple(map(simplify, n.indices))) if isinstance(n, Load) else n

    return rewrite(substitute(node, values), simpler)


def _updates(theirs: Update, mine: Update) -> Iterator[dict[str, Load]]:
    """The ways to read one update as the other: an element for each operand."""
    if len(theirs.targets) != len(mine.targets) or not _same_reducer(theirs.reducer, mine.reducer):
        return
    found: list[dict[str, Load]] = [{}]
    for t, m in zip(theirs.targets, mine.targets, strict=True):
        found = [f for f in found for f in _elements(t, m, f)]
    for t_value, m_value in zip(theirs.values, mine.values, strict=True):
        found = [g for f in found for g in _values(t_value, m_value, f)]
    yield from found


def _same_reducer(a: Reducer, b: Reducer) -> bool:
    name = reducer_name(a)
    return name is not None and name == reducer_name(b) and a.identity[0].dtype is b.identity[0].dtype


def _values(theirs: Scalar, mine: Scalar, known: dict[str, Load]) -> Iterator[dict[str, Load]]:
    if theirs.dtype is not mine.dtype:
        return
    match theirs, mine:
        case Load(), Load():
            yield from _elements(theirs, mine, known)
        case Cast(a=a), Cast(a=b):
            yield from _values(a, b, known)
        case Binary(op=op), Binary(op=other) if op == other:
            orders = [(mine.a, mine.b)] + ([(mine.b, mine.a)] if op in ("add", "mul") else [])
            for x, y in orders:
                for found in _values(theirs.a, x, known):
                    yield from _values(theirs.b, y, found)
        case _:
            return


def _elements(theirs: Load, mine: Load, known: dict[str, Load]) -> Iterator[dict[str, Load]]:
    if theirs.dtype is mine.dtype and known.get(theirs.buffer, mine) is mine:
        yield {**known, theirs.buffer: mine}


def _indices(wanted: Description, operand: str, names: Mapping[Scalar, Scalar]) -> tuple[Scalar, ...]:
    elements = [*wanted.update.targets, *(load for v in wanted.update.values for load in loads(v))]
    return tuple(substitute(i, names) for i in next(e for e in elements if e.buffer == operand).indices)


def _region(load: Load, pattern: Sequence[Scalar], inner: Sequence[Var], buffer: Buffer) -> Region | str:
    """The region of an operand, or what is wrong with it.

    Args:
        load: The element as the block has it.
        pattern: The element's index in the instruction, in terms of the block's loops.
        inner: The block's loops.
        buffer: What the element is of.
    """
    at_start: dict[Scalar, Scalar] = {v: index(0) for v in inner}
    ranges: list[tuple[Scalar, Scalar]] = []
    left = list(pattern)
    compact = True
    for k, i in enumerate(load.indices):
        start = simplify(substitute(i, at_start))
        moving = simplify(sub(i, start))
        extent = as_int(buffer.shape[k])
        if as_int(moving) == 0:
            ranges.append((start, index(1)))
            # an index between those that move leaves gaps, unless its dimension has one element
            compact = compact and (len(left) in (0, len(pattern)) or extent == 1)
            continue
        if not left or moving is not left[0]:
            return f"{load.buffer} is read at {load!r}, in another order than the instruction's or with gaps"
        size = as_int(moving.extent) if isinstance(moving, Var) else None
        assert size is not None
        left.pop(0)
        if len(left) + 1 < len(pattern) and extent != size:
            compact = False
        ranges.append((start, index(size)))
    if left:
        return f"{load.buffer} is read at {load!r}, which does not depend on {', '.join(repr(v) for v in left)}"
    strides = buffer.strides
    trailing = [k for k, (_, e) in enumerate(ranges) if as_int(e) != 1]
    if strides is not None and trailing:
        step = 1
        for k in range(len(ranges) - 1, trailing[0] - 1, -1):
            compact = compact and (as_int(ranges[k][1]) == 1 or as_int(strides[k]) == step)
            step *= as_int(ranges[k][1]) or 1
    elif trailing and any(as_int(e) != 1 for e in buffer.shape[trailing[-1] + 1 :]):
        compact = False
    if not compact:
        return f"the elements of {load.buffer} that are read together are apart in memory"
    return Region(load.buffer, tuple(ranges))


def _instruction(outer: Block, wanted: Description, regions: Mapping[str, Region]) -> Block:
    f = wanted.function
    writes = tuple(regions[n] for n in f.outputs)
    reads = (*writes, *(regions[n] for n in f.inputs))
    return Block(
        outer.name,
        outer.iters,
        outer.bindings,
        Intrinsic(wanted.name, writes, reads),
        outer.predicate,
        annotations=outer.annotations,
    )
