"""Does every iteration of some loops write what it reads of a buffer, before it reads it?"""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import suppress

from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import Block, For, Function, Seq, Stmt, Store, Update, walk
from tcompiler.ir.scalar.canonical import bounds, simplify
from tcompiler.ir.scalar.grammar import TRUE, Scalar, Var, add, conjuncts, index, sub
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import free_vars, substituter
from tcompiler.schedule.affine import isl
from tcompiler.schedule.affine.dependence import Names, Side, Touch, box_conditions, points, split_index, touches
from tcompiler.schedule.affine.digits import digits_of
from tcompiler.schedule.tree import blocks_under, buffer_named, tree

_ZERO, _ONE = index(0), index(1)


def stays_inside(function: Function, body: Stmt, around: Sequence[Var], buffer: str) -> bool:
    """Whether every iteration writes what it reads of a buffer, and nobody outside reads it.

    Args:
        function: The function.
        body: What the loops run.
        around: Variables of all loops around the body.
        buffer: Name of the buffer.
    """
    if buffer in function.outputs or buffer in function.inputs:
        return False
    inside = set(blocks_under(body))
    for block in tree(function).blocks.values():
        names = touched(block)
        if block not in inside and (buffer in names.reads or buffer in names.writes):
            return False
    return _written_first(function, (body,), around, buffer)


def left_unread(function: Function, target: For, buffer: str) -> bool:
    """Whether nobody reads what an iteration of a loop leaves in a buffer.

    Every iteration writes what it reads, and so does what runs after the loop, or before it in the next iteration of
    the loops around.

    Args:
        function: The function.
        target: The loop.
        buffer: Name of the buffer.
    """
    if buffer in function.outputs or buffer in function.inputs:
        return False
    t = tree(function)
    around = [s.var for s in t.loops_above(target)]
    if not _written_first(function, (target.body,), [*around, target.var], buffer):
        return False
    child: Stmt = target
    for above in t.ancestors(target):
        if isinstance(above, Seq):
            at = above.stmts.index(child)
            outer = [s.var for s in t.loops_above(above)]
            others = (above.stmts[:at] if outer else (), above.stmts[at + 1 :])
            if not all(_written_first(function, stmts, outer, buffer) for stmts in others):
                return False
        child = above
    return True


def _written_first(function: Function, stmts: Sequence[Stmt], around: Sequence[Var], buffer: str) -> bool:
    """Whether statements write what they read of a buffer, in every iteration of the loops around them."""
    blocks = [b for s in stmts for b in blocks_under(s)]
    fixed = frozenset(around)
    writers = [b for b in blocks if buffer in touched(b).writes]
    for y in blocks:
        reads, updates, _ = touches(y)
        incoming = [r for r in reads if r.buffer == buffer]
        if not _begins_here(y, fixed):
            incoming += [u for u in updates if u.buffer == buffer]
        for r in incoming:
            if not _covered(function, y, _whole_where_unknown(function, r), writers, len(fixed)):
                return False
    return True


def _whole_where_unknown(function: Function, read: Touch) -> Touch:
    """What is read at a place that is itself loaded may be anywhere in its dimension."""
    if all(entry is not None for entry in read.box):
        return read
    shape = buffer_named(function, read.buffer).shape
    box = tuple((_ZERO, n) if e is None else e for e, n in zip(read.box, shape, strict=True))
    return Touch(read.buffer, box, read.where)


def _begins_here(block: Block, fixed: Set[Var]) -> bool:
    """Whether a reduction initializes its target within the iteration."""
    return block.init is not None and all(
        free_vars(b).isdisjoint(fixed) for it, b in zip(block.iters, block.bindings, strict=True) if it.kind == "reduce"
    )


_answers: dict[tuple[object, ...], bool] = {}
"""Whether one box holds another under two predicates: the same questions come again after every step."""


def _covered(function: Function, y: Block, read: Touch, writers: Sequence[Block], least: int) -> bool:
    """Whether earlier blocks of the same iteration surely write what y reads."""
    t = tree(function)
    position = t.position
    above_y = t.loops_above(y)
    groups: dict[int, list[Block]] = {}
    for x in writers:
        if position[x] >= position[y]:
            break
        if x.opaque or not (isinstance(x.body, Store | Update) or all(not isinstance(s, Block) for s in walk(x.body))):
            # what is declared or nested may be written, not surely
            continue
        above_x = t.loops_above(x)
        depth = 0
        while depth < min(len(above_x), len(above_y)) and above_x[depth] is above_y[depth]:
            depth += 1
        if depth < least:
            continue
        common = frozenset(s.var for s in above_x[:depth])
        for w in touches(x)[2]:
            if w.buffer == read.buffer:
                key = (w.box, read.box, read.where, common, x.predicate, y.predicate)
                if key not in _answers:
                    _answers[key] = _contains(w, read, common) and _implied(x, w, y, read, common)
                if _answers[key]:
                    return True
        groups.setdefault(depth, []).append(x)
    return any(_contains_isl(function, y, read, xs, [s.var for s in above_y[:depth]]) for depth, xs in groups.items())


def _contains(write: Touch, read: Touch, common: frozenset[Var]) -> bool:
    """Whether a box written by inner loops holds a box read, dimension by dimension."""
    taken: set[Var] = set()
    for x, y in zip(write.box, read.box, strict=True):
        left, right = split_index(x, common), split_index(y, common)
        if left is None or right is None or left.shared != right.shared:
            return False
        if right.low < left.low or right.high > left.high:
            return False
        inner = frozenset().union(*[free_vars(a) for a in left.inner])
        if not taken.isdisjoint(inner) or not _dense(left, x):
            return False
        taken |= inner
    return True


def _implied(x: Block, write: Touch, y: Block, read: Touch, common: frozenset[Var]) -> bool:
    """Whether x runs where it writes the elements that y reads, which lie in the box of its loops."""
    if x.predicate is TRUE:
        return True
    mapping: dict[Scalar, Scalar] = {}
    for a, b in zip(write.box, read.box, strict=True):
        assert a is not None and b is not None
        left, right = split_index(a, common), split_index(b, common)
        assert left is not None and right is not None
        if not left.inner:
            continue
        atom, by = next(iter(left.inner.items()))
        if len(left.inner) > 1 or by != 1 or not isinstance(atom, Var) or b[1] is not _ONE:
            return False
        other, scale = next(iter(right.inner.items()), (None, 0))
        if isinstance(other, Var) and len(right.inner) == 1 and scale == 1 and left.low == right.low:
            mapping[atom] = other
        else:
            mapping[atom] = simplify(sub(add(atom, b[0]), a[0]))
    known = [*conjuncts(y.predicate), *read.where]
    replaced = substituter(mapping)
    for c in conjuncts(x.predicate):
        wanted = replaced(c)
        if wanted not in known and prove(wanted, known) is not True:
            return False
    return True


def _dense(side: Side, entry: tuple[Scalar, Scalar] | None) -> bool:
    """Whether the inner loops reach every value of the interval."""
    assert entry is not None
    reached = bounds(entry[1])[0]
    if reached is None:
        return False
    digits = []
    for atom, by in side.inner.items():
        values = digits_of(atom)
        if values is None:
            return False
        digits += [(abs(d.scale * by), d.extent, d.atom) for d in values.digits]
    if len({a for _, _, a in digits}) != len(digits):
        return False
    for scale, extent, atom in sorted(digits, key=lambda d: d[0]):
        if scale > reached or type(atom) is not Var:
            return False
        reached += scale * (extent - 1)
    return True


def _contains_isl(function: Function, y: Block, read: Touch, writers: Sequence[Block], common: Sequence[Var]) -> bool:
    """As `_contains`, by isl, for the union of several writers."""
    shared = {v: f"o{k}" for k, v in enumerate(common)}
    coordinates = [f"e{k}" for k in range(len(read.box))]
    params = isl.parameters_of(
        [v for b in (y, *writers) for v in (*b.bindings, b.predicate)]
        + list(read.where)
        + [v for b in (y, *writers) for s in tree(function).loops_above(b) for v in (s.var,)]
    )

    def relation(block: Block, touch: Touch, complete: bool) -> str:
        name = Names(shared, "x")
        conditions = [points(function, block, name), *box_conditions(touch, name, coordinates)]
        if complete and len(conditions) != 1 + len(coordinates):
            raise isl.NotAffineError
        for c in touch.where:
            with suppress(isl.NotAffineError):
                conditions.append(isl.isl_text(c, name))
        inner = [n for n in name.names.values() if n not in shared.values()]
        exists = f"exists {', '.join(inner)} : " if inner else ""
        return f"[{', '.join(shared.values())}] -> [{', '.join(coordinates)}] : {exists}{' and '.join(conditions)}"

    try:
        wanted = relation(y, read, False)
        # a dimension of the read that is not known cannot be covered
        if any(entry is None for entry in read.box):
            return False
        parts = [relation(x, w, True) for x in writers for w in touches(x)[2] if w.buffer == read.buffer]
    except isl.NotAffineError:
        return False
    head = isl.heading(params)
    return isl.is_subset(f"{head}{{ {wanted} }}", f"{head}{{ {'; '.join(parts)} }}") is True
