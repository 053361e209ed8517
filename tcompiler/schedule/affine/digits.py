"""Index expressions as sums of digits, which is how splits and fusions leave them.

A digit is ``(atom // low) % extent`` times a scale: the loop variable i as a whole, or a part of its mixed-radix
expansion. Sums of digits whose scales grow past what is below them name each value once, so injectivity is a walk
over a sorted list. The idea of marks for sums that are divided again is that of iterator maps in TVM.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from tcompiler.ir.scalar.grammar import Binary, Const, Scalar, Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars


class Digit(NamedTuple):
    """``((atom // low) % extent) * scale``.

    Attributes:
        atom: A loop variable, or a sum of digits that is divided again (a mark).
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
_mark_extents: dict[Scalar, int] = {}


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
        _mark_extents[node] = values
        if quotient:
            return Sum((Digit(node, by, -(-values // by), 1),), 0)
        return Sum((Digit(node, 1, by, 1),), 0)
    if quotient:
        return Sum(tuple(high), total.constant // by)
    return Sum(tuple(low), 0)


def is_mark(atom: Scalar) -> bool:
    """Whether an atom is a sum that stands for its digits."""
    return type(atom) is not Var


def mark_extent(atom: Scalar) -> int:
    """How many values a mark takes."""
    return _mark_extents[atom]


def injective(expressions: Sequence[Scalar], variables: Set[Var]) -> bool | None:
    """Whether a tuple of expressions takes each value for one setting of some variables only, the others fixed.

    Args:
        expressions: Over loop variables.
        variables: Those that vary; of an extent that is known, else the answer is None.

    Returns:
        True or False where the digits show it, None where they do not.
    """
    found: dict[Scalar, list[Digit]] = {}
    for e in expressions:
        free = free_vars(e)
        if free.isdisjoint(variables):
            continue
        total = digits_of(e)
        if total is None:
            return None
        reached = 1
        for d in sorted(total.digits, key=lambda d: abs(d.scale)):
            inside = free_vars(d.atom)
            if inside.isdisjoint(variables):
                continue
            if not inside <= variables:
                return None
            if abs(d.scale) < reached:
                return None
            reached = abs(d.scale) * (d.extent - 1) + reached
            found.setdefault(d.atom, []).append(d)
    return _whole(found, variables)


def _whole(found: dict[Scalar, list[Digit]], variables: Set[Var]) -> bool | None:
    """Whether the digits found determine every variable."""
    pending = [atom for atom in found if is_mark(atom)]
    while pending:
        # A mark that is determined gives its own digits.
        mark = max(pending, key=lambda m: len(free_vars(m)))
        pending.remove(mark)
        if not _covers(found[mark], mark_extent(mark)):
            return None
        total = digits_of(mark)
        assert total is not None
        for d in total.digits:
            if is_mark(d.atom) and d.atom not in found:
                pending.append(d.atom)
            found.setdefault(d.atom, []).append(d)
    for v in variables:
        extent = as_int(v.extent)
        if extent is None:
            return None
        if extent > 1:
            if v not in found:
                return False if not any(v in free_vars(atom) for atom in found) else None
            if not _covers(found[v], extent):
                return None
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
