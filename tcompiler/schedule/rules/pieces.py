"""Maps that read one operand here and another there (concatenations): a nest for each part."""

from __future__ import annotations

from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Block, Store
from tcompiler.ir.scalar.canonical import linear
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Select, Var, as_int, postorder
from tcompiler.schedule.rules.attempt import attempt
from tcompiler.schedule.schedule import Schedule

MOST = 256
"""Parts: with more of them the code would be larger than the choice is slow."""
_AT_ONCE = 8


def cut_parts(sch: Schedule, block: str) -> list[str]:
    """Cuts the nest of a map where the operand that it reads changes.

    Args:
        sch: The schedule.
        block: A block that only stores, in a nest of its own.

    Returns:
        The blocks of the parts, the block itself where there is nothing to cut.
    """
    done: list[str] = []
    pending = [block]
    while pending:
        name = pending.pop(0)
        parts: list[str] = []
        if attempt(sch, _cut, sch, name, parts):
            pending = parts + pending
        else:
            done.append(name)
    return done


def _cut(sch: Schedule, name: str, parts: list[str]) -> bool:
    block, loops = find_block(sch.function, name), sch.loops(name)
    if not loops or sch.blocks_under(loops[0]) != [name]:
        return False
    for k, i in enumerate(block.iters):
        extent, loop = as_int(i.var.extent), sch.loop_of(name, k)
        if extent is None or not loop or i.kind != "spatial":
            continue
        points = sorted(p for p in _points(block, i.var) if 0 < p < extent)
        if 0 < len(points) < MOST and sch.extent(loop) == extent:
            if loops[0] != loop:
                sch.reorder(loop, *(n for n in loops if n != loop))
            # A few at a time: what a piece no longer reads is gone from it before it is cut again.
            pieces = sch.peel(loop, points[:: -(-len(points) // _AT_ONCE)])
            parts += [b for piece in pieces for b in sch.blocks_under(piece)]
            return True
    return False


def _points(block: Block, var: Var) -> set[int]:
    """Where a condition on one iter var alone, between loads of different buffers, turns."""
    values = [block.body.value] if isinstance(block.body, Store) else []
    found: set[int] = set()
    for node in postorder(*values):
        if isinstance(node, Select) and buffers(node.a) and buffers(node.b) and buffers(node.a) != buffers(node.b):
            point = _turn(node.cond, var)
            if point is not None:
                found.add(point)
    return found


def buffers(value: Scalar) -> frozenset[str]:
    """The buffers that an expression loads from."""
    return frozenset(n.buffer for n in postorder(value) if isinstance(n, Load))


def _turn(cond: Scalar, var: Var) -> int | None:
    """The first value of an iter var at which `var < constant`, or its like, is no longer what it was before."""
    if not isinstance(cond, Binary) or cond.op not in ("lt", "le", "gt", "ge") or cond.a.dtype is not dt.i64:
        return None
    form = linear(cond.a - cond.b)
    if set(form.terms) != {var} or abs(form.terms[var]) != 1:
        return None
    # s · (var - c) compared with 0, where s is the sign of the coefficient
    sign = form.terms[var]
    c = -form.const * sign
    op = cond.op if sign > 0 else {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}[cond.op]
    return c if op in ("lt", "ge") else c + 1
