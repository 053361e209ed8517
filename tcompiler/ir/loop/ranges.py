"""Range checks of the verifier: do bindings stay in their domains, and accesses in their buffers?

A condition is first proved in canonical form. Where that does not decide, it is evaluated at every point of the loops
that it depends on, if these are constant and not too many; what remains is left to the interpreter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tcompiler.errors import VerifyError
from tcompiler.ir.loop.analysis import Access, body_accesses
from tcompiler.ir.loop.grammar import Block, Buffer, For, IterVar, Region
from tcompiler.ir.scalar.evaluate import evaluate
from tcompiler.ir.scalar.grammar import TRUE, Load, Scalar, Var, as_int, conjunction, greater_equal, index, less
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import free_vars, loads, substitute
from tcompiler.ir.scalar.text import print_scalar

_MOST_POINTS = 1 << 18


@dataclass(frozen=True, slots=True)
class Scope:
    """What is known at a place: the loops around it, iter vars in terms of these, and the condition that it runs.

    Attributes:
        loops: The loops around the place, outermost first.
        values: Iter vars of the blocks around it, over loop variables and parameters.
        condition: The predicates of the blocks around it, over loop variables and parameters.
    """

    loops: tuple[For, ...]
    values: Mapping[Scalar, Scalar]
    condition: Scalar

    @property
    def kinds(self) -> dict[Var, str]:
        """The kind of the loop of each loop variable."""
        return {loop.var: loop.kind for loop in self.loops}

    def concrete(self, node: Scalar) -> Scalar:
        """A scalar over iter vars as one over loop variables."""
        return substitute(node, self.values)

    def within(self, loop: For) -> Scope:
        """The scope in the body of a loop."""
        return Scope((*self.loops, loop), self.values, self.condition)

    def where(self, predicate: Scalar) -> Scope:
        """The scope where a predicate holds too."""
        return Scope(self.loops, self.values, conjunction(self.condition, self.concrete(predicate)))

    def bound(self, block: Block) -> Scope:
        """The scope in a block, its iter vars bound."""
        values: dict[Scalar, Scalar] = {
            it.var: self.concrete(b) for it, b in zip(block.iters, block.bindings, strict=True)
        }
        return Scope(self.loops, {**self.values, **values}, self.condition)


def check_binding(it: IterVar, binding: Scalar, scope: Scope, where: str) -> None:
    """Refuses a binding that leaves its iter var's domain.

    Raises:
        VerifyError: If there is a point where it does.
    """
    extent = it.var.extent
    assert extent is not None
    value = scope.concrete(binding)
    at = _violation(conjunction(greater_equal(value, 0), less(value, extent)), scope)
    if at is not None:
        raise VerifyError(
            f"{it.var.name} is bound to {print_scalar(binding)}, which leaves its domain "
            f"[0, {print_scalar(extent)}){at}",
            where,
        )


def check_access(buffer: Buffer, indices: Sequence[Scalar], scope: Scope, verb: str, where: str) -> None:
    """Refuses an access outside its buffer; indices that load are left to the interpreter.

    Raises:
        VerifyError: If there is a point where it is outside.
    """
    for k, (i, extent) in enumerate(zip(indices, buffer.shape, strict=True)):
        if loads(i):
            continue
        value = scope.concrete(i)
        at = _violation(conjunction(greater_equal(value, 0), less(value, extent)), scope)
        if at is not None:
            text = ", ".join(map(print_scalar, indices))
            raise VerifyError(
                f"{verb} {buffer.name}[{text}], outside dimension {k}, which is [0, {print_scalar(extent)}){at}", where
            )


def check_region(block: Block, scope: Scope, where: str) -> None:
    """Refuses an opaque block whose body touches what the block does not declare.

    Raises:
        VerifyError: If there is a point where an access is outside every declared region of its buffer.
    """
    touched = body_accesses(block)
    reads = [*map(_box, touched.reads), *map(_box, touched.updates), *touched.read_regions]
    writes = [*map(_box, touched.writes), *touched.write_regions]
    for verb, boxes, declared in (("reads", reads, block.reads), ("writes", writes, block.writes)):
        for box in boxes:
            candidates = [r for r in declared if r.buffer == box.buffer]
            if not candidates:
                raise VerifyError(f"{verb} {box.buffer} without declaring it", where)
            outside = [_violation(_contains(r, box, scope), scope) for r in candidates]
            if all(at is not None for at in outside):
                raise VerifyError(f"{verb} {box.buffer} outside the declared region{outside[0]}", where)


def _box(access: Access | Load) -> Region:
    """An element as a region of one element."""
    return Region(access.buffer, tuple((i, index(1)) for i in access.indices))


def _contains(outer: Region, inner: Region, scope: Scope) -> Scalar:
    conditions: list[Scalar] = []
    for (start, extent), (low, count) in zip(outer.ranges, inner.ranges, strict=True):
        if any(loads(n) for n in (start, extent, low, count)):
            continue
        offset = scope.concrete(low) - scope.concrete(start)
        conditions.append(greater_equal(offset, 0))
        conditions.append(greater_equal(scope.concrete(extent) - scope.concrete(count) - offset, 0))
    return conjunction(*conditions)


def _violation(condition: Scalar, scope: Scope) -> str | None:
    """Where a condition fails although the scope's condition holds, as the end of a message; None if nowhere known."""
    if any(as_int(loop.var.extent) == 0 for loop in scope.loops if loop.var.extent is not None):
        return None  # it never runs
    facts = () if scope.condition is TRUE else (scope.condition,)
    known = prove(condition, facts)
    if known is True:
        return None
    names = sorted(free_vars(condition) | free_vars(scope.condition), key=lambda v: v.name)
    extents = [as_int(v.extent) for v in names]
    sizes = [n for n in extents if n is not None]
    if len(sizes) < len(extents) or math.prod(sizes) > _MOST_POINTS:
        return "" if known is False else None
    axes = np.meshgrid(*(np.arange(n, dtype=np.int64) for n in sizes), indexing="ij", sparse=True)
    env = dict(zip(names, axes, strict=True))
    bad = np.broadcast_to(evaluate(scope.condition, env, {}) & ~evaluate(condition, env, {}), tuple(sizes))
    if not bad.any():
        return None
    point = np.unravel_index(int(np.argmax(bad)), bad.shape)
    values = ", ".join(f"{v.name} = {int(i)}" for v, i in zip(names, point, strict=True))
    return f" at {values}" if values else ""
