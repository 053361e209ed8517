"""Whether a block's bindings enumerate its domain once: by digits, by isl where those do not tell."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.ir.loop.grammar import Block, For
from tcompiler.ir.scalar.grammar import Binary, Scalar, Var, as_int
from tcompiler.schedule.affine.digits import Digit, Sum, compact, digits_of, is_mark, mark_extent
from tcompiler.schedule.affine.isl import bindings_bijective_isl
from tcompiler.schedule.tree import conjuncts


def is_bijective(block: Block, loops: Sequence[For]) -> bool | None:
    """Whether bindings map the loops' points, where the predicate holds, one to one onto the iter vars' domains.

    Decided from the form that splits and fusions leave: bindings that are sums of digits, and a predicate whose
    conjuncts cut a padded sum back to its domain.

    Args:
        block: Whose bindings.
        loops: The loops around it, outermost first.

    Returns:
        None where the form does not tell; `bijective` asks isl then.
    """
    limits: dict[Scalar, int] = {}
    for c in conjuncts(block.predicate):
        bound = as_int(c.b) if isinstance(c, Binary) and c.op == "lt" else None
        if bound is None:
            return None
        limits[c.a] = min(bound, limits.get(c.a, bound))  # type: ignore[union-attr]
    used: set[Scalar] = set()
    found: dict[Scalar, list[Digit]] = {}
    for it, binding in zip(block.iters, block.bindings, strict=True):
        extent = as_int(it.var.extent)
        total = digits_of(binding)
        if extent is None or total is None:
            return None
        total = _cut(total, limits)
        if total is None:
            return None
        values = compact(total)
        if values is None:
            return None
        if binding in limits:
            used.add(binding)
            # a limit that every value meets says nothing
            reached = min(values, limits[binding])
        else:
            reached = values
        if reached < extent:
            return False
        if reached > extent:
            return None
        for d in total.digits:
            found.setdefault(d.atom, []).append(d)
    return _partition(found, [s.var for s in loops], limits, used)


def _cut(total: Sum, limits: dict[Scalar, int]) -> Sum | None:
    """The sum with the uppermost digits of limited marks cut to what the limit leaves."""
    if not limits or not any(is_mark(d.atom) for d in total.digits):
        return total
    digits = []
    for d in total.digits:
        if is_mark(d.atom) and d.low * d.extent >= mark_extent(d.atom):
            limit = min(limits.get(d.atom, mark_extent(d.atom)), mark_extent(d.atom))
            if limit % d.low:
                return None
            d = d._replace(extent=limit // d.low)
        if d.extent > 1:
            digits.append(d)
    return Sum(tuple(digits), total.constant)


def _partition(
    found: dict[Scalar, list[Digit]], variables: Sequence[Var], limits: dict[Scalar, int], used: set[Scalar]
) -> bool | None:
    """Whether the digits of every atom are its mixed-radix expansion, and every limit has been met on the way."""
    pending = [atom for atom in found if is_mark(atom)]
    while pending:
        mark = pending.pop()
        values = mark_extent(mark)
        if mark in limits:
            used.add(mark)
            values = min(values, limits[mark])
        if not _expansion(found[mark], values):
            return None
        total = digits_of(mark)
        assert total is not None
        for d in total.digits:
            if is_mark(d.atom):
                # a mark inside a mark: rare, and its limits are not followed here
                return None
            found.setdefault(d.atom, []).append(d)
    if any(node not in used for node in limits):
        return None
    missing = False
    for v in variables:
        extent = as_int(v.extent)
        if extent is None:
            return None
        if v not in found:
            missing = missing or extent > 1
        elif not _expansion(found[v], extent):
            return None
    return not missing


def _expansion(digits: list[Digit], values: int) -> bool:
    reached = 1
    for d in sorted(digits, key=lambda d: d.low):
        if d.low != reached:
            return False
        reached *= d.extent
    return reached == values


def bijective(block: Block, loops: Sequence[For]) -> bool | None:
    """As `is_bijective`, and isl where that does not tell; None only for what is not quasi-affine."""
    known = is_bijective(block, loops)
    return bindings_bijective_isl(block, loops) if known is None else known
