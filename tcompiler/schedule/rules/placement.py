"""Which blocks disappear into others, and which move next to those that use them."""

from __future__ import annotations

from collections.abc import Collection

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Block, Stmt, Store, Update, buffer_table
from tcompiler.ir.scalar.grammar import Binary, Const, Load, Scalar, Select, Unary, Var, as_int, children, postorder
from tcompiler.schedule.rules.accesses import shape_of
from tcompiler.schedule.rules.attempt import attempt
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import HIDES_A_COPY

CHEAP = 6
"""Operations that may be computed again rather than stored and read."""

SHARED = 4
"""How often a reduction may read what is only moved before, for it to be read where it lies; what is put in another
order of axes as a whole, `HIDES_A_COPY` times."""

WRITTEN = 4096
"""Nodes of an expression written out in full. A value read twice shares its node, but its text has it twice: a chain
that doubles sixty times would be computed with sixty operations and never be printed."""


def inline_maps(sch: Schedule) -> None:
    """Inlines elementwise producers into their consumers where that computes nothing expensive again.

    What two blocks read may afterwards be read by one, so it is tried again as long as anything changes.
    """
    changed = True
    while changed:
        changed = False
        for name in list(sch.blocks()):
            block = find_block(sch.function, name)
            if not _is_map(block) or _is_output(sch, block):
                continue
            users = sch.consumers(name)
            if users and all(_worth_inlining(sch, block, find_block(sch.function, u), len(users)) for u in users):
                changed |= attempt(sch, sch.compute_inline, name)


def inline_again(sch: Schedule, name: str) -> bool:
    """Inlines a cheap map into all its consumers, reductions as well, each of which then computes it."""
    block = find_block(sch.function, name)
    if not _is_map(block) or _is_output(sch, block) or not isinstance(block.body, Store):
        return False
    return _cost(block.body.value) <= CHEAP and attempt(sch, sch.compute_inline, name)


def _is_map(block: Block) -> bool:
    return block.init is None and isinstance(block.body, Store)


def _is_output(sch: Schedule, block: Block) -> bool:
    return isinstance(block.body, Store) and block.body.buffer in sch.function.outputs


def _worth_inlining(sch: Schedule, producer: Block, user: Block, users: int) -> bool:
    assert isinstance(producer.body, Store)
    made, used = _points(producer), _points(user)
    if made is None or used is None:
        return False
    value = producer.body.value
    if _written(user.body, producer.body.buffer, _written(producer.body)) > WRITTEN:
        return False
    if isinstance(value, Load):
        # what is read a few times only, and not by windows that overlap, is not worth a copy
        turned = len({*value.indices}) == len(value.indices) and all(isinstance(i, Var) for i in value.indices)
        seldom = used <= (HIDES_A_COPY if turned else SHARED) * made and _plainly(user, producer.body.buffer)
        return user.init is None or seldom or _same_steps(sch, producer, value)
    cost = _cost(value)
    again = used * users > made
    if user.init is not None and (again or _has_select(value)):
        return False
    return not again or cost <= CHEAP


def _plainly(block: Block, buffer: str) -> bool:
    """Whether every index with which a block reads a buffer is an iter var or a constant."""
    loads = [n for n in postorder(*_values(block.body)) if isinstance(n, Load) and n.buffer == buffer]
    return all(isinstance(i, Var | Const) for n in loads for i in n.indices)


def _written(leaf: Stmt, buffer: str = "", inside: int = 0) -> int:
    """Nodes of what a leaf computes, written as a tree; a load from the buffer counts as many as `inside` more."""
    sizes: dict[Scalar, int] = {}
    roots: tuple[Scalar, ...] = ()
    if isinstance(leaf, Store):
        roots = (*leaf.indices, leaf.value)
    elif isinstance(leaf, Update):
        roots = leaf.values
    for n in postorder(*roots):
        sizes[n] = 1 + sum(sizes[c] for c in children(n))
        if isinstance(n, Load) and n.buffer == buffer:
            sizes[n] += inside
    return sum(sizes[r] for r in roots)


def _same_steps(sch: Schedule, producer: Block, value: Load) -> bool:
    """Whether a copy reads along the axis that it is contiguous in (otherwise the copy is worth its while)."""
    shape = shape_of(sch.function, producer)
    if shape is None:
        return False
    lane = shape.innermost()
    return lane is None or all(o.strides.get(lane) == 1 for o in shape.operands)


def _points(block: Block) -> int | None:
    total = 1
    for i in block.iters:
        extent = as_int(i.var.extent)
        if extent is None:
            return None
        total *= extent
    return total


def _has_select(value: Scalar) -> bool:
    return any(isinstance(n, Select) for n in postorder(value))


def operations(block: Block) -> int:
    """What a map or an Update computes for an element, by the measure of CHEAP."""
    match block.body:
        case Store(value=value):
            return _cost(value)
        case Update(values=values):
            return sum(_cost(v) for v in values)
        case _:
            return 0


def _cost(value: Scalar) -> int:
    """Operations on values; a function or a division counts as many."""
    total = 0
    for n in postorder(value):
        match n:
            case Unary(op=op):
                total += 1 if op in ("neg", "abs", "not") else 16
            case Binary(op=op) if n.a.dtype.is_float:
                total += 8 if op in ("div", "pow", "floormod") else 1
            case Select():
                total += 1
            case _:
                pass
    return total


def share_near(sch: Schedule, last: str) -> None:
    """Lets the rows that read the same elements of the largest operand of a reduction follow each other.

    Args:
        sch: The schedule.
        last: A map of one reduction's result, element by element.
    """
    producers = [p for p in sch.producers(last) if find_block(sch.function, p).init is not None]
    block = find_block(sch.function, last)
    shape = shape_of(sch.function, find_block(sch.function, producers[0])) if len(producers) == 1 else None
    if shape is None or len(shape.spatial) != len(block.iters) or sch.consumers(producers[0]) != [last]:
        return
    made = sch.written_by(producers[0])
    reads = [n for n in postorder(*_values(block.body)) if isinstance(n, Load) and n.buffer == made]
    same = all(r.indices == tuple(i.var for i in block.iters) for r in reads)
    if not same or shape.target.indices != shape.spatial or len(shape.operands) < 2:
        return
    largest = max(shape.operands, key=lambda o: bytes_of(sch, o.buffer))
    again = [k for k, v in enumerate(shape.spatial) if not largest.moves(v) and shape.extents[v] > 1]
    order = [k for k in range(len(shape.spatial)) if k not in again] + again
    loops = [sch.loop_of(last, k) for k in order]
    if again and "" not in loops and len(again) < len(order):
        attempt(sch, sch.reorder, *loops)


def order_as_read(sch: Schedule, name: str) -> None:
    """Lays out what a block writes in the order in which the map that alone reads it writes its own result.

    So whoever plans the block sees the strides with which its tiles will be written, once the map is part of them. An
    axis that everything that is read has (a batch) stays outside: lanes along it share nothing.
    """
    buffer, users = sch.written_by(name), sch.consumers(name)
    leaf = find_block(sch.function, users[0]).body if len(users) == 1 else None
    if not isinstance(leaf, Store) or buffer in sch.function.outputs:
        return
    reads = {n.indices for n in postorder(leaf.value) if isinstance(n, Load) and n.buffer == buffer}
    (at,) = reads if len(reads) == 1 else ((),)
    if len({*at}) < len(at) or not {*at} <= {*leaf.indices}:
        return
    order = sorted(range(len(at)), key=lambda k: leaf.indices.index(at[k]))
    shape = shape_of(sch.function, find_block(sch.function, name))
    last = shape.target.indices[order[-1]] if shape is not None and order else None
    if shape is None or (isinstance(last, Var) and all(o.moves(last) for o in shape.operands)):
        return
    if order != sorted(order):
        names = [f"d{k}" for k in range(len(order))]
        sch.transform_layout(buffer, f"lambda {', '.join(names)}: ({', '.join(names[k] for k in order)})", False)


def _values(leaf: Stmt) -> tuple[Scalar, ...]:
    return (leaf.value,) if isinstance(leaf, Store) else leaf.values if isinstance(leaf, Update) else ()


def gather_rows(sch: Schedule, last: str, among: Collection[str] | None = None) -> list[str]:
    """Moves every producer of a block under the deepest of its loops at which nothing is computed twice.

    Args:
        sch: The schedule.
        last: The block that the others lead to.
        among: The blocks to move; None moves all others.

    Returns:
        The loops of `last` that now hold other blocks, outermost first.
    """
    for name in reversed([b for b in (sch.blocks() if among is None else among) if b != last]):
        work = _work(sch, name)
        for loop in reversed(sch.loops(last)):
            if attempt(sch, _moved, sch, name, loop, work):
                break
    shared = [loop for loop in sch.loops(last) if len(sch.blocks_under(loop)) > 1]
    return shared


def _moved(sch: Schedule, name: str, loop: str, work: int) -> bool:
    sch.compute_at(name, loop)
    return _work(sch, name) <= work


def _work(sch: Schedule, name: str) -> int:
    total = 1
    for loop in sch.loops(name):
        total *= sch.extent(loop) or 1
    return total


def bytes_of(sch: Schedule, name: str) -> int:
    """Bytes of a buffer of constant extents."""
    buffer = buffer_table(sch.function)[name]
    total = buffer.dtype.bytes
    for extent in buffer.shape:
        total *= as_int(extent) or 0
    return total
