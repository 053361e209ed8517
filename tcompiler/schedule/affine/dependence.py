"""Do the iterations of some loops touch each other's data?

The question is asked for each pair of accesses to one buffer of which at least one writes. Two iterations are apart
if, in some dimensions, the parts of the indices that vary with the loops are the same expression on both sides, larger
in step than what the inner loops add, and together name the iteration. What this leaves unknown isl decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tcompiler.ir.loop.analysis import accesses, touched
from tcompiler.ir.loop.grammar import Block, For, Function, Stmt, Store, Update, memo, walk
from tcompiler.ir.scalar.canonical import bounds, simplify
from tcompiler.ir.scalar.grammar import Const, Load, Scalar, Var, conjuncts, index
from tcompiler.ir.scalar.rewrite import free_vars, guards, loads, substitute
from tcompiler.schedule.affine import isl
from tcompiler.schedule.affine.digits import injective, limits_of
from tcompiler.schedule.affine.linear import linear, total
from tcompiler.schedule.tree import blocks_under, tree

_ONE = index(1)
Box = tuple[tuple[Scalar, Scalar] | None, ...]
"""(start over the loops around and inside the block, extent) per dimension; None where it is not known."""


class Touch(NamedTuple):
    """A box of a buffer that a block touches at one point of the loops.

    Attributes:
        buffer: Its name.
        box: The box.
        where: Conditions over the loops that hold wherever it is touched, beside the block's predicate.
    """

    buffer: str
    box: Box
    where: tuple[Scalar, ...] = ()


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
        if isinstance(node, Var):
            return mapping.get(node, node)
        if isinstance(node, Const):
            return node
        return None if loads(node) else simplify(substitute(node, mapping))

    def element(buffer: str, indices: tuple[Scalar, ...], guards: Sequence[Scalar] = ()) -> Touch:
        box = tuple([None if (s := at(i)) is None else (s, _ONE) for i in indices])
        where = [at(c) for g in guards for c in conjuncts(g)]
        return Touch(buffer, box, tuple([c for c in where if c is not None]))

    def region(buffer: str, ranges: tuple[tuple[Scalar, Scalar], ...]) -> Touch:
        box = []
        for start, extent in ranges:
            first, size = at(start), at(extent)
            box.append(None if first is None or size is None else (first, size))
        return Touch(buffer, tuple(box))

    known = _guards(block)
    loaded = [element(r.buffer, r.indices, known.get(r, ())) for r in a.reads]
    found = facts["touches"] = (
        tuple(loaded + [region(r.buffer, r.ranges) for r in a.read_regions]),
        tuple([element(u.buffer, u.indices) for u in a.updates]),
        tuple([element(w.buffer, w.indices) for w in a.writes] + [region(w.buffer, w.ranges) for w in a.write_regions]),
    )
    return found


def _guards(block: Block) -> Mapping[Load, tuple[Scalar, ...]]:
    """Conditions that hold wherever a block loads, if all that it does is one store or update."""
    match block.body:
        case Store(indices=indices, value=value):
            nodes = (*indices, value)
        case Update(targets=targets, values=values):
            nodes = (*[i for t in targets for i in t.indices], *values)
        case _:
            return {}
    if block.init is not None and touched(block.init).reads:
        return {}
    found: dict[Load, tuple[Scalar, ...]] = {}
    for node in nodes:
        for load, where in guards(node).items():
            found[load] = tuple([c for c in where if c in found.get(load, where)])
    return found


def _loops_inside(block: Block) -> list[Var]:
    """The loops inside a block's body."""
    if isinstance(block.body, Update):
        return []
    return [s.var for s in walk(block.body) if isinstance(s, For)]


class Side(NamedTuple):
    """A dimension of an access: a part that both sides share, and an interval that the inner loops add."""

    shared: dict[Scalar, int]
    low: int
    high: int
    inner: dict[Scalar, int]


_sides: dict[tuple[tuple[Scalar, Scalar], frozenset[Var]], Side | None] = {}


def split_index(entry: tuple[Scalar, Scalar] | None, fixed: frozenset[Var]) -> Side | None:
    """An index taken apart: atoms over fixed loops and parameters, and the rest with its bounds; kept."""
    if entry is None:
        return None
    key = (entry, fixed)
    if key not in _sides:
        _sides[key] = _split_index(entry, fixed)
    return _sides[key]


def _split_index(entry: tuple[Scalar, Scalar], fixed: frozenset[Var]) -> Side | None:
    terms, constant = linear(entry[0])
    shared: dict[Scalar, int] = {}
    inner: dict[Scalar, int] = {}
    low = high = constant
    for atom, by in terms.items():
        free = free_vars(atom)
        if free <= fixed or all(v in fixed or v.extent is None for v in free):
            shared[atom] = by
            continue
        if not free.isdisjoint(fixed):
            return None
        lo, hi = bounds(atom)
        if lo is None or hi is None:
            return None
        inner[atom] = by
        if by < 0:
            lo, hi = hi, lo
        low, high = low + by * lo, high + by * hi
    if entry[1] is not _ONE:
        most = bounds(entry[1])[1]
        if most is None:
            return None
        high += most - 1
    return Side(shared, low, high, inner)


def _apart(a: Touch, b: Touch, outer: frozenset[Var], varying: frozenset[Var]) -> bool:
    """Whether different iterations of the varying loops surely touch different elements, the outer loops fixed."""
    fixed = outer | varying
    equal: list[Scalar] = []
    for x, y in zip(a.box, b.box, strict=True):
        left, right = split_index(x, fixed), split_index(y, fixed)
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


class Names:
    """Names for the variables of one side of an isl question."""

    def __init__(self, shared: dict[Var, str], prefix: str) -> None:
        self.names = dict(shared)
        self.prefix = prefix

    def __call__(self, v: Var) -> str:
        """The name of a variable; a parameter keeps its own."""
        if v.extent is None:
            return v.name
        if v not in self.names:
            self.names[v] = f"{self.prefix}{len(self.names)}"
        return self.names[v]


def box_conditions(touch: Touch, name: Callable[[Var], str], coordinates: Sequence[str]) -> list[str]:
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
    left = Names({**common, **{v: f"s{k}" for k, v in enumerate(varying)}}, "x")
    right = Names({**common, **{v: f"t{k}" for k, v in enumerate(varying)}}, "y")
    coordinates = [f"e{k}" for k in range(len(a.box))]
    try:
        conditions = [points(function, x, left), points(function, y, right)]
    except isl.NotAffineError:
        return False
    conditions += box_conditions(a, left, coordinates) + box_conditions(b, right, coordinates)
    conditions.append("(" + " or ".join(f"s{k} != t{k}" for k in range(len(varying))) + ")")
    variables = [*coordinates, *left.names.values(), *[n for n in right.names.values() if n not in common.values()]]
    params = isl.parameters_of([*left.names, *right.names, x.predicate, y.predicate, *x.bindings, *y.bindings])
    text = f"{isl.heading(params)}{{ [{', '.join(dict.fromkeys(variables))}] : {' and '.join(conditions)} }}"
    return isl.is_empty(text) is True


def points(function: Function, block: Block, name: Callable[[Var], str]) -> str:
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


_answers: dict[tuple[object, ...], bool] = {}
"""Whether iterations touch different elements of two boxes: the same questions come again after every step."""


def conflict(
    function: Function,
    body: Stmt,
    outer: Sequence[Var],
    varying: Sequence[Var],
    private: Callable[[str], bool],
    alone: Callable[[Block], bool],
    asked: Callable[[Block, Block], bool] = lambda x, y: True,
) -> Conflict | None:
    """Finds data that different iterations of some loops may share.

    Args:
        function: The function.
        body: What the varying loops run.
        outer: The loops around them, which are the same for both iterations.
        varying: The loops whose iterations are compared.
        private: Whether a buffer's contents never pass from one iteration to another.
        alone: Whether a block does not conflict with itself.
        asked: Whether two blocks, in the order of the program, are of interest.

    Returns:
        Two blocks and a buffer that may conflict; None if no iteration touches what another one writes.
    """
    blocks = blocks_under(body)
    fixed, moving = frozenset(outer), frozenset(varying)
    known: dict[str, bool] = {}
    for k, x in enumerate(blocks):
        for y in blocks[k:]:
            if (y is x and alone(x)) or not asked(x, y):
                continue
            tx, ty = touched(x), touched(y)
            shared = (tx.writes & (ty.reads | ty.writes)) | (tx.reads & ty.writes)
            if not shared:
                continue
            for a, b in _pairs(x, y):
                if known.get(a.buffer):
                    continue
                key = (a.box, b.box, fixed, moving)
                if key not in _answers:
                    _answers[key] = _apart(a, b, fixed, moving)
                if _answers[key]:
                    continue
                if a.buffer not in known:
                    known[a.buffer] = private(a.buffer)
                    if known[a.buffer]:
                        continue
                if not _apart_isl(x, a, y, b, function, outer, varying):
                    return Conflict(x, y, a.buffer)
    return None


_injective: dict[tuple[object, ...], bool | None] = {}


def injective_below(function: Function, block: Block, varying: Sequence[Var]) -> bool | None:
    """Whether a block's iter vars name each iteration of some loops and of those inside them, the others fixed.

    Args:
        function: The function.
        block: The block.
        varying: Loops around the block; those below the first of them vary as well.
    """
    above = [s.var for s in tree(function).loops_above(block)]
    first = min(above.index(v) for v in varying)
    key = (block.bindings, block.predicate, *above[first:])
    if key in _injective:
        return _injective[key]
    known = injective(block.bindings, frozenset(above[first:]), limits_of(block.predicate))
    if known is None:
        known = isl.injective_isl(block, above[:first], above[first:])
    _injective[key] = known
    return known
