"""Boxes of buffers that loops touch, and how loop variables make up the coordinates of a box."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from tcompiler.ir.loop.analysis import Access, accesses, region
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, Stmt, Store, Update, memo, walk
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Var, add, as_int, floordiv, floormod, index
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.schedule.affine.linear import linear
from tcompiler.schedule.tree import blocks_under, loops_under

ZERO = index(0)
ONE = index(1)


class Span(NamedTuple):
    """The integers start, …, start + extent - 1."""

    start: Scalar
    extent: Scalar


def difference(a: Scalar, b: Scalar) -> int | None:
    """a - b where that is a constant, else None."""
    if a is b:
        return 0
    terms, constant = linear(a - b)
    return None if terms else constant


def union(spans: Sequence[Span]) -> Span | None:
    """The smallest span that holds all of them, None where their starts differ by more than constants."""
    first = spans[0]
    if all(s.start is first.start and s.extent is first.extent for s in spans):
        return first
    low, high = 0, 0
    for s in spans:
        at, extent = difference(s.start, first.start), as_int(s.extent)
        if at is None or extent is None:
            return None
        low, high = min(low, at), max(high, at + extent)
    return Span(simplify(add(first.start, low)), index(high - low))


def inner_loops(stmt: Stmt) -> frozenset[Var]:
    """The variables of all loops in a subtree, loops inside blocks included."""
    found = {s.var for s in loops_under(stmt)}
    for block in blocks_under(stmt):
        if not isinstance(block.body, Store | Update):
            found.update(s.var for s in walk(block.body) if isinstance(s, For))
    return frozenset(found)


def _boxes(
    function: Function, block: Block, buffer: str, inner: Set[Var], reads: bool, writes: bool
) -> list[tuple[Span, ...]]:
    around = inner
    if isinstance(block.body, Store | Update):
        # only what feeds the block matters, so that the same question is asked again
        around = inner & frozenset().union(*map(free_vars, block.bindings))
    kept: dict[object, list[tuple[Span, ...]]] = memo(block).setdefault("boxes", {})
    key = (buffer, reads, writes, frozenset(around))
    found = kept.get(key)
    if found is not None:
        return found
    a = accesses(block)
    elements: list[Access | Load] = []
    regions = []
    if reads:
        elements += [r for r in (*a.reads, *a.updates) if r.buffer == buffer]
        regions += [r for r in a.read_regions if r.buffer == buffer]
    if writes:
        elements += [w for w in a.writes if w.buffer == buffer]
        regions += [r for r in a.write_regions if r.buffer == buffer]
    found = [tuple(Span(*r) for r in region(function, block, e, around).ranges) for e in elements]
    for declared in regions:
        corner = region(function, block, Access(buffer, tuple(start for start, _ in declared.ranges)), around)
        found.append(
            tuple(
                Span(start, simplify(extent + more - 1))
                for (start, extent), (_, more) in zip(corner.ranges, declared.ranges, strict=True)
            )
        )
    found = [tuple(Span(_settled(s.start), s.extent) for s in spans) for spans in found]
    kept[key] = found
    return found


def _settled(start: Scalar) -> Scalar:
    """A start without the loops of one iteration, so that starts that are equal look equal."""
    alone: dict[Scalar, Scalar] = {v: ZERO for v in free_vars(start) if v.extent is not None and as_int(v.extent) == 1}
    return simplify(substitute(start, alone)) if alone else start


def box(
    function: Function,
    buffer: Buffer,
    blocks: Iterable[Block],
    inner: Set[Var],
    *,
    reads: bool = True,
    writes: bool = True,
) -> tuple[Span, ...] | None:
    """A box that holds all that blocks touch of a buffer while the inner loop variables run.

    A dimension whose span is not known, or is no smaller than the dimension, is given whole. Where the box is smaller
    than the buffer it is not clipped: guarded reads may lie outside.

    Args:
        function: Where the blocks stand.
        buffer: The buffer.
        blocks: Who touches it.
        inner: Variables that run; starts are over the other loops.
        reads: Take what the blocks read.
        writes: Take what the blocks write.

    Returns:
        A span per dimension; None if the blocks do not touch the buffer.
    """
    boxes = [b for block in blocks for b in _boxes(function, block, buffer.name, inner, reads, writes)]
    if not boxes:
        return None
    result = []
    for k, shape in enumerate(buffer.shape):
        span = union([b[k] for b in boxes])
        if span is not None:
            extent, size = as_int(span.extent), as_int(shape)
            if extent is None or (size is not None and extent >= size):
                span = None
        result.append(Span(ZERO, shape) if span is None else span)
    return tuple(result)


class Axis(NamedTuple):
    """A coordinate of a tile, made of loop variables as a number is of digits.

    Attributes:
        parts: (variable, weight), the lightest first: weight 1, and each next weight is the product of the extents
            before it.
        extent: The product of all extents.
    """

    parts: tuple[tuple[Var, int], ...]
    extent: int

    @property
    def value(self) -> Scalar:
        """The coordinate over the loop variables."""
        total: Scalar = ZERO
        for var, weight in reversed(self.parts):
            total = add(total, var * weight)
        return total

    def decode(self, coordinate: Scalar) -> dict[Scalar, Scalar]:
        """The loop variables over the coordinate."""
        result: dict[Scalar, Scalar] = {}
        for k, (var, weight) in enumerate(self.parts):
            digit = floordiv(coordinate, weight)
            if k + 1 < len(self.parts):
                assert var.extent is not None
                digit = floormod(digit, var.extent)
            result[var] = digit
        return result


def axis_of(node: Scalar, inner: Set[Var]) -> tuple[Scalar, Axis] | None:
    """Splits an index into a start over outer loops and an axis made of inner loop variables.

    The index then takes each value start, …, start + axis.extent - 1 exactly once as the inner variables run.

    Args:
        node: An index over loop variables, simplified.
        inner: The inner loop variables.

    Returns:
        None where the index is not of that form.
    """
    terms, _ = linear(node)
    digits: list[tuple[int, int, Var]] = []
    zero: dict[Scalar, Scalar] = {}
    for atom, weight in terms.items():
        if free_vars(atom).isdisjoint(inner):
            continue
        if not isinstance(atom, Var):
            return None
        extent = as_int(atom.extent)
        if extent is None:
            return None
        zero[atom] = ZERO
        digits.append((weight, extent, atom))
    digits.sort(key=lambda d: (d[0], d[1], d[2].name))
    product = 1
    parts = []
    for weight, extent, var in digits:
        if extent != 1 and weight != product:
            return None
        parts.append((var, product))
        product *= extent
    return simplify(substitute(node, zero)) if zero else node, Axis(tuple(parts), product)


def bound_indices(block: Block, indices: Sequence[Scalar]) -> list[Scalar]:
    """Indices over a block's iter vars as expressions of the loops around it, simplified."""
    mapping: dict[Scalar, Scalar] = {it.var: b for it, b in zip(block.iters, block.bindings, strict=True)}
    return [simplify(substitute(i, mapping)) for i in indices]


def iter_spans(indices: Sequence[Scalar], spans: Sequence[Span], known: Mapping[Scalar, Scalar]) -> dict[Scalar, Span]:
    """The iterations that touch a box: the span of each iter var that the box bounds.

    Understands indices `v + c`, c a constant or over known iter vars, and the pair `v // c`, `v % c` of a blocked
    layout; other iter vars are not bounded.

    Args:
        indices: An access over iter vars.
        spans: The box, a span per index.
        known: Iter vars that have bindings already.
    """
    found: dict[Scalar, Span] = {}
    quotient: dict[Scalar, tuple[int, Span]] = {}
    remainder: dict[Scalar, tuple[int, Span]] = {}
    for node, span in zip(indices, spans, strict=True):
        terms, constant = linear(node)
        unknown = [atom for atom in terms if not free_vars(atom) <= known.keys()]
        if len(unknown) != 1 or terms[unknown[0]] != 1:
            continue
        atom = unknown[0]
        if isinstance(atom, Var):
            rest = simplify(substitute(node, {**known, atom: ZERO})) if len(terms) > 1 else index(constant)
            found[atom] = Span(simplify(span.start - rest), span.extent)
        elif isinstance(atom, Binary) and isinstance(atom.a, Var) and not constant and len(terms) == 1:
            c = as_int(atom.b)
            if c is not None and c > 0:
                if atom.op == "floordiv":
                    quotient[atom.a] = (c, span)
                elif atom.op == "floormod":
                    remainder[atom.a] = (c, span)
    for var, (c, high) in quotient.items():
        if var in found:
            continue
        low = remainder.get(var)
        if low is not None and low[0] == c and as_int(high.extent) == 1:
            found[var] = Span(simplify(high.start * c + low[1].start), low[1].extent)
        else:
            found[var] = Span(simplify(high.start * c), simplify(high.extent * c))
    return found


def filled(block: Block, buffer: str) -> tuple[Span, ...] | None:
    """The box that a block fills, if its iter vars index the buffer plainly, upwards or down; None if not."""
    targets = {w.indices for w in accesses(block).writes if w.buffer == buffer}
    if len(targets) != 1:
        return None
    result = []
    seen: set[Scalar] = set()
    for node in next(iter(targets)):
        terms, constant = linear(node)
        extent: Scalar = ONE
        for atom, by in terms.items():
            if not isinstance(atom, Var) or atom.extent is None or abs(by) != 1 or len(terms) != 1 or atom in seen:
                return None
            extent = atom.extent
            if by < 0:
                # from the last one back to the first
                steps = as_int(extent)
                if steps is None:
                    return None
                constant -= max(steps - 1, 0)
            seen.add(atom)
        result.append(Span(index(constant), extent))
    return tuple(result)


def clip(span: Span | None, extent: Scalar | None) -> Span:
    """The span, or the whole domain [0, extent) where there is none or it is no smaller."""
    assert extent is not None
    if span is not None:
        size, most = as_int(span.extent), as_int(extent)
        if size is not None and (most is None or size < most):
            return span
    return Span(ZERO, extent)
