"""Index expressions as sums of digits, which is how splits and fusions leave them.

A digit is ``(atom // low) % extent`` times a scale: the loop variable i as a whole, or a part of its mixed-radix
expansion. Sums of digits whose scales grow past what is below them name each value once, so injectivity is a walk
over a sorted list. A sum that is divided where no digit ends, or that a predicate keeps below its full range, becomes
an atom itself, a mark; the idea is that of iterator maps in TVM (Feng et al., TensorIR, arXiv 2207.04296).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from tcompiler.ir.scalar.grammar import TRUE, Binary, Const, Scalar, Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars


class Digit(NamedTuple):
    """``((atom // low) % extent) * scale``.

    Attributes:
        atom: A loop variable, or a mark.
        low: Weight of the digit in the atom.
        extent: How many values it has.
        scale: What it is multiplied with in the sum; may be negative.
    """

    atom: Scalar
    low: int
    extent: int
    scale: int


class Sum(NamedTuple):
    """A sum of digits and a constant."""

    digits: tuple[Digit, ...]
    constant: int


_sums: dict[Scalar, Sum | None] = {}
_values: dict[Scalar, int] = {}


def digits_of(node: Scalar) -> Sum | None:
    """The expression as a sum of digits, None where it is not one; parameters make it None as well."""
    try:
        return _sums[node]
    except KeyError:
        result = _sums[node] = _digits(node)
        return result


def _digits(node: Scalar) -> Sum | None:
    kind = type(node)
    if kind is Var:
        extent = as_int(node.extent)  # type: ignore[attr-defined]
        return None if extent is None else Sum((Digit(node, 1, extent, 1),) if extent > 1 else (), 0)
    if kind is Const:
        return Sum((), int(node.value))  # type: ignore[attr-defined]
    if not isinstance(node, Binary):
        return None
    a = digits_of(node.a)
    if a is None:
        return None
    b = digits_of(node.b)
    if b is None:
        return None
    match node.op:
        case "add":
            return Sum(a.digits + b.digits, a.constant + b.constant)
        case "sub":
            return Sum(a.digits + _scaled(b, -1).digits, a.constant - b.constant)
        case "mul":
            if not b.digits:
                return _scaled(a, b.constant)
            return None if a.digits else _scaled(b, a.constant)
        case "floordiv" | "floormod":
            if b.digits or b.constant <= 0:
                return None
            return _divided(node.a, a, b.constant, node.op == "floordiv")
    return None


def _scaled(total: Sum, by: int) -> Sum:
    if by == 0:
        return Sum((), 0)
    return Sum(tuple([d._replace(scale=d.scale * by) for d in total.digits]), total.constant * by)


def compact(total: Sum) -> int | None:
    """How many values a sum takes if they are 0, 1, 2, … each once; None if they are not."""
    if total.constant:
        return None
    reached = 1
    for d in sorted(total.digits, key=lambda d: d.scale):
        if d.scale != reached:
            return None
        reached *= d.extent
    return reached


def _divided(node: Scalar, total: Sum, by: int, quotient: bool) -> Sum | None:
    """The quotient or the remainder of a compact sum."""
    high: list[Digit] = []
    low: list[Digit] = []
    if total.constant % by:
        return None
    straddles = False
    reached = 1
    for d in sorted(total.digits, key=lambda d: d.scale):
        if d.scale % by == 0:
            high.append(d._replace(scale=d.scale // by))
            continue
        if d.scale != reached:
            return None
        reached *= d.extent
        if reached <= by:
            low.append(d)
            continue
        inside = by // d.scale
        if by % d.scale or d.extent % inside:
            straddles = True
            break
        low.append(d._replace(extent=inside))
        high.append(Digit(d.atom, d.low * inside, d.extent // inside, 1))
    if straddles:
        # The cut falls inside a digit that it does not divide: name the whole sum and cut that.
        values = compact(total)
        if values is None:
            return None
        _values[node] = values
        if quotient:
            return Sum((Digit(node, by, -(-values // by), 1),), 0)
        return Sum((Digit(node, 1, by, 1),), 0)
    if quotient:
        return Sum(tuple(high), total.constant // by)
    return Sum(tuple(low), 0)


def limits_of(predicate: Scalar) -> dict[Scalar, int] | None:
    """A predicate as upper limits of expressions, ``e < limit``; None if some conjunct is of another form."""
    limits: dict[Scalar, int] = {}
    stack = [predicate]
    while stack:
        c = stack.pop()
        if c is TRUE:
            continue
        if not isinstance(c, Binary):
            return None
        if c.op == "and":
            stack += [c.a, c.b]
            continue
        bound = as_int(c.b)
        if c.op != "lt" or bound is None:
            return None
        limits[c.a] = min(bound, limits.get(c.a, bound))
    return limits


class Reading:
    """Expressions read as digits where some upper limits hold.

    Args:
        limits: Upper limits of expressions over loop variables.
    """

    __slots__ = ("_parts", "limits")

    def __init__(self, limits: Mapping[Scalar, int]) -> None:
        self.limits = limits
        self._parts: dict[Scalar, Sum] = {}
        # small sums first: a limited part may be a part of another one
        nodes = sorted(limits, key=lambda n: len(free_vars(n))) if len(limits) > 1 else limits
        for node in nodes:
            plain = digits_of(node)
            if plain is None:
                continue
            part = self._contracted(plain, node)
            values = compact(part)
            if values is not None and values > limits[node] and type(node) is not Var:
                self._parts[node] = part

    def read(self, node: Scalar) -> Sum | None:
        """The expression as a sum of digits, every part that a limit cuts as one digit."""
        total = digits_of(node)
        if total is None or not self.limits:
            return total
        return self._contracted(self._cut(total), node)

    def _contracted(self, total: Sum, whole: Scalar) -> Sum:
        for node, part in self._parts.items():
            if node is not whole:
                new = _replaced(total.digits, part.digits, node, self.limits[node])
                if new is not None:
                    total = Sum(new, total.constant)
        return total

    def _cut(self, total: Sum) -> Sum:
        """The sum with the uppermost digits of atoms that a limit cuts cut as well, where they end evenly."""
        if all(d.atom not in self.limits for d in total.digits):
            return total
        digits = []
        for d in total.digits:
            limit = self.limits.get(d.atom)
            if limit is not None and limit % d.low == 0:
                top = limit // d.low
                if top < d.extent and d.low * d.extent >= _extent_of(d.atom):
                    d = d._replace(extent=top)
            if d.extent > 1:
                digits.append(d)
        return Sum(tuple(digits), total.constant)

    def values(self, atom: Scalar) -> int | None:
        """How many values an atom takes, its limit taken account of; None where that is not known."""
        extent = as_int(atom.extent) if type(atom) is Var else _values.get(atom)
        limit = self.limits.get(atom)
        if limit is None:
            return extent
        return limit if extent is None or atom in self._parts else min(limit, extent)

    def inside(self, mark: Scalar) -> Sum | None:
        """The digits of a mark."""
        return self._parts.get(mark) or self.read(mark)


def _extent_of(atom: Scalar) -> int:
    """How many values a variable of constant extent or a mark takes."""
    extent = as_int(atom.extent) if isinstance(atom, Var) else _values[atom]
    assert extent is not None
    return extent


def _replaced(digits: tuple[Digit, ...], part: tuple[Digit, ...], node: Scalar, limit: int) -> tuple[Digit, ...] | None:
    """A sum with the digits of a part replaced by one digit; None if it does not hold the part."""
    if not part or len(part) > len(digits):
        return None
    by: int | None = None
    rest = list(digits)
    for d in part:
        found = next((e for e in rest if e.atom is d.atom and e.low == d.low and e.extent == d.extent), None)
        if found is None or found.scale % d.scale or (by is not None and found.scale != by * d.scale):
            return None
        by = found.scale // d.scale
        rest.remove(found)
    assert by is not None
    return (Digit(node, 1, limit, by), *rest)


_UNLIMITED = Reading({})


def injective(
    expressions: Sequence[Scalar], variables: Set[Var], limits: Mapping[Scalar, int] | None = None
) -> bool | None:
    """Whether a tuple of expressions takes each value for one setting of some variables only, the others fixed.

    Args:
        expressions: Over loop variables.
        variables: Those that vary; of an extent that is known, else the answer is None.
        limits: Upper limits of expressions; only settings within them count.

    Returns:
        True or False where the digits show it, None where they do not.
    """
    reading = Reading(limits) if limits else _UNLIMITED
    found: dict[Scalar, list[Digit]] = {}
    for e in expressions:
        if free_vars(e).isdisjoint(variables):
            continue
        total = reading.read(e)
        if total is None:
            return None
        reached = 1
        for d in sorted(total.digits, key=lambda d: abs(d.scale)):
            inside = free_vars(d.atom)
            if inside.isdisjoint(variables):
                continue
            if abs(d.scale) < reached or not inside <= variables:
                return None
            reached += abs(d.scale) * (d.extent - 1)
            found.setdefault(d.atom, []).append(d)
    for mark in _marks(found):
        values = reading.values(mark)
        total = reading.inside(mark)
        if total is None or values is None:
            return None
        if not _covers(found[mark], values) and not _tops_up(found, mark, total, values):
            return None
        for d in total.digits:
            found.setdefault(d.atom, []).append(d)
    for v in variables:
        extent = reading.values(v)
        if extent is None:
            return None
        if extent > 1:
            if v not in found:
                # A limit may leave the variable one value, a mark may hold it.
                return False if not limits and not any(v in free_vars(atom) for atom in found) else None
            if not _covers(found[v], extent):
                return None
    return True


def _marks(found: dict[Scalar, list[Digit]]) -> Iterator[Scalar]:
    """The marks among the atoms found, larger ones first, those that are found on the way included."""
    done: set[Scalar] = set()
    while True:
        pending = [a for a in found if type(a) is not Var and a not in done]
        if not pending:
            return
        mark = max(pending, key=lambda m: len(free_vars(m)))
        done.add(mark)
        yield mark


def _tops_up(found: dict[Scalar, list[Digit]], mark: Scalar, total: Sum, values: int) -> bool:
    """Whether the digits of a mark and, above them, digits that its own parts give are its whole expansion.

    ``x // 60`` of x = i * 5 + j is i // 12, while ``x // 12 % 5`` cuts j and is a digit of the mark x. The digits
    found of the parts are taken away then, for the mark gives the parts.
    """
    below = 1
    for d in sorted(found[mark], key=lambda d: d.low):
        if d.low != below:
            return False
        below *= d.extent
    upper = _divided(mark, total, below, True)
    if upper is None or values % below:
        return False
    taken = []
    reached = 1
    for d in upper.digits:
        other = next((e for e in found.get(d.atom, ()) if e.low == d.low and e.extent == d.extent), None)
        if other is None:
            return False
        taken.append(other)
        reached *= d.extent
    if below * reached != values:
        return False
    for d in taken:
        found[d.atom].remove(d)
    return True


def _covers(digits: list[Digit], extent: int) -> bool:
    """Whether digits of one atom determine it."""
    reached = 1
    for d in sorted(digits, key=lambda d: d.low):
        if reached >= extent:
            break
        if reached % d.low:
            return False
        reached = max(reached, d.low * d.extent)
    return reached >= extent
