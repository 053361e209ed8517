"""Do the iterations of some loops touch each other's data?

The question is asked for each pair of accesses to one buffer of which at least one writes. Two iterations are apart
if, in some dimensions, the parts of the indices that vary with the loops are the same expression on both sides, larger
in step than what the inner loops add, and together name the iteration. What this leaves unknown isl decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Set
from typing import NamedTuple

from tcompiler.ir.loop.analysis import accesses, touched
from tcompiler.ir.loop.grammar import Block, For, Function, Stmt, Update, memo, walk
from tcompiler.ir.scalar.canonical import bounds, simplify
from tcompiler.ir.scalar.grammar import TRUE, Scalar, Var, index
from tcompiler.ir.scalar.rewrite import free_vars, loads, substitute
from tcompiler.schedule.affine import isl
from tcompiler.schedule.affine.digits import digits_of, injective, limits_of
from tcompiler.schedule.affine.linear import linear, total
from tcompiler.schedule.tree import blocks_under, tree

_ONE = index(1)
Box = tuple[tuple[Scalar, Scalar] | None, ...]
"""(start over the loops around and inside the block, extent) per dimension; None where it is not known."""


class Touch(NamedTuple):
    """A box of a buffer that a block touches at one point of the loops."""

    buffer: str
    box: Box


class Conflict(NamedTuple):
    """Two blocks of which different iterations may touch the same element of a buffer."""

    first: Block
    second: Block
    buffer: str


def touches(block: Block) -> tuple[tuple[Touch, ...], tuple[Touch, ...], tuple[Touch, ...]]:
    """What a block reads, what its updates read, and what it writes, over loops; kept with the block."""
    facts = memo(block)
    found: tuple[tuple[Touch, ...], tuple[Touch, ...], tuple[Touch, ...]] | None = facts.get("touches")
    if found is not None:
        return found
    mapping: dict[Scalar, Scalar] = {it.var: b for it, b in zip(block.iters, block.bindings, strict=True)}
    a = accesses(block)

    def at(node: Scalar) -> Scalar | None:
        return None if loads(node) else simplify(substitute(node, mapping))

    def element(buffer: str, indices: tuple[Scalar, ...]) -> Touch:
        return Touch(buffer, tuple([None if (s := at(i)) is None else (s, _ONE) for i in indices]))

    def region(buffer: str, ranges: tuple[tuple[Scalar, Scalar], ...]) -> Touch:
        box = []
        for start, extent in ranges:
            first, size = at(start), at(extent)
            box.append(None if first is None or size is None else (first, size))
        return Touch(buffer, tuple(box))

    found = facts["touches"] = (
        tuple([element(r.buffer, r.indices) for r in a.reads] + [region(r.buffer, r.ranges) for r in a.read_regions]),
        tuple([element(u.buffer, u.indices) for u in a.updates]),
        tuple([element(w.buffer, w.indices) for w in a.writes] + [region(w.buffer, w.ranges) for w in a.write_regions]),
    )
    return found


def _loops_inside(block: Block) -> list[Var]:
    """The loops inside a block's body."""
    if isinstance(block.body, Update):
        return []
    return [s.var for s in walk(block.body) if isinstance(s, For)]


class _Side(NamedTuple):
    """A dimension of an access: a part that both sides share, and an interval that the inner loops add."""

    shared: dict[Scalar, int]
    low: int
    high: int
    inner: dict[Scalar, int]


def _split(entry: tuple[Scalar, Scalar] | None, fixed: Set[Var]) -> _Side | None:
    """An index taken apart: atoms over fixed loops and parameters, and the rest with its bounds."""
    if entry is None:
        return None
    terms, constant = linear(entry[0])
    shared: dict[Scalar, int] = {}
    inner: dict[Scalar, int] = {}
    low = high = constant
    for atom, by in terms.items():
        free = free_vars(atom)
        if all(v in fixed or v.extent is None for v in free):
            shared[atom] = by
            continue
        if not free.isdisjoint(fixed):
            return None
        lo, hi = bounds(atom)
        if lo is None or hi is None:
            return None
        inner[atom] = by
        low, high = low + min(by * lo, by * hi), high + max(by * lo, by * hi)
    if entry[1] is not _ONE:
        most = bounds(entry[1])[1]
        if most is None:
            return None
        high += most - 1
    return _Side(shared, low, high, inner)


def _apart(a: Touch, b: Touch, outer: Set[Var], varying: Set[Var]) -> bool:
    """Whether different iterations of the varying loops surely touch different elements, the outer loops fixed."""
    fixed = outer | varying
    equal: list[Scalar] = []
    for x, y in zip(a.box, b.box, strict=True):
        left, right = _split(x, fixed), _split(y, fixed)
        if left is None or right is None or left.shared != right.shared:
            continue
        low, high = left.low - right.high, left.high - right.low
        moving = {atom: by for atom, by in left.shared.items() if not free_vars(atom).isdisjoint(varying)}
        if not moving:
            if low > 0 or high < 0:
                return True
            continue
        if max(high, -low) < math.gcd(*moving.values()):
            equal.append(total(moving.items()))
    return bool(equal) and injective(equal, varying) is True


class _Names:
    """Names for the variables of one side of an isl question."""

    def __init__(self, shared: dict[Var, str], prefix: str) -> None:
        self.names = dict(shared)
        self.prefix = prefix

    def __call__(self, v: Var) -> str:
        if v.extent is None:
            return v.name
        if v not in self.names:
            self.names[v] = f"{self.prefix}{len(self.names)}"
        return self.names[v]


def _elements(touch: Touch, name: Callable[[Var], str], coordinates: Sequence[str]) -> list[str]:
    """Conditions that coordinates lie in a box; an unknown dimension says nothing."""
    found = []
    for entry, x in zip(touch.box, coordinates, strict=True):
        if entry is not None:
            try:
                start = isl.isl_text(entry[0], name)
                extent = isl.isl_text(entry[1], name)
            except isl.NotAffineError:
                continue
            found.append(f"{x} = {start}" if entry[1] is _ONE else f"{start} <= {x} < {start} + {extent}")
    return found


def _apart_isl(
    x: Block, a: Touch, y: Block, b: Touch, function: Function, outer: Sequence[Var], varying: Sequence[Var]
) -> bool:
    """As `_apart`, by isl: no element is touched by two different iterations."""
    common = {v: f"o{k}" for k, v in enumerate(outer)}
    left = _Names({**common, **{v: f"s{k}" for k, v in enumerate(varying)}}, "x")
    right = _Names({**common, **{v: f"t{k}" for k, v in enumerate(varying)}}, "y")
    coordinates = [f"e{k}" for k in range(len(a.box))]
    try:
        conditions = [_domain(function, x, left), _domain(function, y, right)]
    except isl.NotAffineError:
        return False
    conditions += _elements(a, left, coordinates) + _elements(b, right, coordinates)
    conditions.append("(" + " or ".join(f"s{k} != t{k}" for k in range(len(varying))) + ")")
    variables = [*coordinates, *left.names.values(), *[n for n in right.names.values() if n not in common.values()]]
    params = isl.parameters_of([*left.names, *right.names, x.predicate, y.predicate, *x.bindings, *y.bindings])
    text = f"{isl.heading(params)}{{ [{', '.join(dict.fromkeys(variables))}] : {' and '.join(conditions)} }}"
    return isl.is_empty(text)


def _domain(function: Function, block: Block, name: Callable[[Var], str]) -> str:
    """The points at which a block runs."""
    variables = [s.var for s in tree(function).loops_above(block)] + _loops_inside(block)
    return isl.domain_text(variables, block.predicate, name)


def _pairs(x: Block, y: Block) -> Iterator[tuple[Touch, Touch]]:
    """Accesses of two blocks to one buffer of which at least one writes."""
    x_reads, x_updates, x_writes = touches(x)
    y_reads, y_updates, y_writes = touches(y)
    for a in x_writes:
        for b in (*y_writes, *y_reads, *y_updates):
            if a.buffer == b.buffer:
                yield a, b
    for a in (*x_reads, *x_updates):
        for b in y_writes:
            if a.buffer == b.buffer:
                yield a, b


def conflict(
    function: Function,
    body: Stmt,
    outer: Sequence[Var],
    varying: Sequence[Var],
    private: Callable[[str], bool],
    alone: Callable[[Block], bool],
) -> Conflict | None:
    """Finds data that different iterations of some loops may share.

    Args:
        function: The function.
        body: What the varying loops run.
        outer: The loops around them, which are the same for both iterations.
        varying: The loops whose iterations are compared.
        private: Whether a buffer's contents never pass from one iteration to another.
        alone: Whether a block does not conflict with itself.

    Returns:
        Two blocks and a buffer that may conflict; None if no iteration touches what another one writes.
    """
    blocks = blocks_under(body)
    fixed, moving = frozenset(outer), frozenset(varying)
    known: dict[str, bool] = {}
    for k, x in enumerate(blocks):
        for y in blocks[k:]:
            if y is x and alone(x):
                continue
            tx, ty = touched(x), touched(y)
            shared = (tx.writes & (ty.reads | ty.writes)) | (tx.reads & ty.writes)
            if not shared:
                continue
            for a, b in _pairs(x, y):
                if known.get(a.buffer):
                    continue
                if _apart(a, b, fixed, moving):
                    continue
                if a.buffer not in known:
                    known[a.buffer] = private(a.buffer)
                    if known[a.buffer]:
                        continue
                if not _apart_isl(x, a, y, b, function, outer, varying):
                    return Conflict(x, y, a.buffer)
    return None


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
    blocks = blocks_under(body)
    inside = set(blocks)
    for block in tree(function).blocks.values():
        names = touched(block)
        if block not in inside and (buffer in names.reads or buffer in names.writes):
            return False
    fixed = frozenset(around)
    writers = [b for b in blocks if buffer in touched(b).writes]
    for y in blocks:
        reads, updates, _ = touches(y)
        incoming = [r for r in reads if r.buffer == buffer]
        if not _begins_here(y, fixed):
            incoming += [u for u in updates if u.buffer == buffer]
        for r in incoming:
            if not _covered(function, y, r, writers, len(fixed)):
                return False
    return True


def _begins_here(block: Block, fixed: Set[Var]) -> bool:
    """Whether a reduction initializes its target within the iteration."""
    return block.init is not None and all(
        free_vars(b).isdisjoint(fixed) for it, b in zip(block.iters, block.bindings, strict=True) if it.kind == "reduce"
    )


def _covered(function: Function, y: Block, read: Touch, writers: Sequence[Block], least: int) -> bool:
    """Whether earlier blocks of the same iteration surely write what y reads."""
    t = tree(function)
    position = {b: k for k, b in enumerate(t.blocks.values())}
    above_y = t.loops_above(y)
    groups: dict[int, list[Block]] = {}
    for x in writers:
        if position[x] >= position[y]:
            break
        if x.opaque or any(isinstance(s, Block) for s in walk(x.body)):
            # what is declared or nested may be written, not surely
            continue
        above_x = t.loops_above(x)
        depth = 0
        while depth < min(len(above_x), len(above_y)) and above_x[depth] is above_y[depth]:
            depth += 1
        if depth < least:
            continue
        common = frozenset(s.var for s in above_x[:depth])
        if x.predicate is TRUE and any(w.buffer == read.buffer and _contains(w, read, common) for w in touches(x)[2]):
            return True
        groups.setdefault(depth, []).append(x)
    return any(_contains_isl(function, y, read, xs, [s.var for s in above_y[:depth]]) for depth, xs in groups.items())


def _contains(write: Touch, read: Touch, common: Set[Var]) -> bool:
    """Whether a box written by inner loops holds a box read, dimension by dimension."""
    taken: set[Var] = set()
    for x, y in zip(write.box, read.box, strict=True):
        left, right = _split(x, common), _split(y, common)
        if left is None or right is None or left.shared != right.shared:
            return False
        if right.low < left.low or right.high > left.high:
            return False
        inner = frozenset().union(*[free_vars(a) for a in left.inner])
        if not taken.isdisjoint(inner) or not _dense(left, x):
            return False
        taken |= inner
    return True


def _dense(side: _Side, entry: tuple[Scalar, Scalar] | None) -> bool:
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
        + [v for b in (y, *writers) for s in tree(function).loops_above(b) for v in (s.var,)]
    )

    def relation(block: Block, touch: Touch, complete: bool) -> str:
        name = _Names(shared, "x")
        conditions = [_domain(function, block, name), *_elements(touch, name, coordinates)]
        if complete and len(conditions) != 1 + len(coordinates):
            raise isl.NotAffineError
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
    return isl.is_subset(f"{head}{{ {wanted} }}", f"{head}{{ {'; '.join(parts)} }}")


def injective_below(function: Function, block: Block, varying: Sequence[Var]) -> bool | None:
    """Whether a block's iter vars name each iteration of some loops and of those inside them, the others fixed.

    Args:
        function: The function.
        block: The block.
        varying: Loops around the block; those below the first of them vary as well.
    """
    above = [s.var for s in tree(function).loops_above(block)]
    first = min(above.index(v) for v in varying)
    known = injective(block.bindings, frozenset(above[first:]), limits_of(block.predicate))
    return isl.injective_isl(block, above[:first], above[first:]) if known is None else known
