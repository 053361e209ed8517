"""Tensors that are read with two of their dimensions as one: a grouped convolution's sums, by group and filter."""

from __future__ import annotations

from dataclasses import dataclass

from tcompiler.ir.expr.grammar import Compute, Program, tensors
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, as_int, floordiv, floormod, index, postorder


@dataclass(frozen=True, slots=True)
class Fold:
    """A tensor that is read as if two neighbouring dimensions were one: the groups of a convolution and their filters.

    Attributes:
        position: The first of the dimensions.
        reader: The tensor computed from it, which has one dimension in their place.
    """

    position: int
    reader: str


def folded(program: Program) -> dict[str, Fold]:
    """The inner tensors that are only read at (…, a // extent, a % extent, …), a being an axis of the one reader."""
    found: dict[str, Fold | None] = {}
    table = tensors(program)
    for scope in program.scopes:
        reads = scope.values if isinstance(scope, Compute) else ()
        mentioned = {n.buffer: n for n in postorder(*reads) if isinstance(n, Load)}
        if not isinstance(scope, Compute):
            return {}
        for name, load in mentioned.items():
            position = _fold_of(load, scope.axes, table[name].shape)
            alone = sum(isinstance(n, Load) and n.buffer == name for n in postorder(*reads)) == 1
            fits = name not in found and alone and position is not None and len(scope.tensors) == 1
            found[name] = Fold(position or 0, scope.tensors[0].name) if fits else None
    return {name: fold for name, fold in found.items() if fold is not None}


def _fold_of(load: Load, axes: tuple[Var, ...], shape: tuple[Scalar, ...]) -> int | None:
    """Where a load has an axis in two parts, its other indices being the other axes in order."""
    if len(load.indices) != len(axes) + 1:
        return None
    for k, axis in enumerate(axes):
        inner = as_int(shape[k + 1])
        outer = as_int(shape[k])
        if inner and outer and as_int(axis.extent) == inner * outer:
            parts = floordiv(axis, index(inner)), floormod(axis, index(inner))
            if load.indices == (*axes[:k], *parts, *axes[k + 1 :]):
                return k
    return None
