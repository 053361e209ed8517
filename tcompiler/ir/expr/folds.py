"""Tensors that are read with two of their dimensions as one: a grouped convolution's sums, by group and filter."""

from __future__ import annotations

from dataclasses import dataclass

from tcompiler.ir.expr.grammar import Compute, Program, tensors
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, as_int, floordiv, floormod, index, postorder


@dataclass(frozen=True, slots=True)
class Fold:
    """A tensor that is read as if it had fewer dimensions: two of its own stand for one of the reader's axes.

    Attributes:
        parts: For each axis of the reader the dimensions that it indexes, outer one first: one or two.
        reader: The tensor computed from it.
    """

    parts: tuple[tuple[int, ...], ...]
    reader: str


def folded(program: Program) -> dict[str, Fold]:
    """The inner tensors that are read once, some dimensions at a // extent and a % extent, a an axis of the reader."""
    found: dict[str, Fold | None] = {}
    table = tensors(program)
    for scope in program.scopes:
        if not isinstance(scope, Compute):
            return {}
        loads = [n for n in postorder(*scope.values) if isinstance(n, Load)]
        for load in loads:
            parts = _parts(load, scope.axes, table[load.buffer].shape)
            alone = sum(n.buffer == load.buffer for n in loads) == 1 and load.buffer not in found
            fits = alone and parts is not None and len(scope.tensors) == 1
            found[load.buffer] = Fold(parts, scope.tensors[0].name) if fits and parts is not None else None
    return {name: fold for name, fold in found.items() if fold is not None}


def carried(program: Program, name: str, position: int) -> int | None:
    """The axis of the output that a dimension of an inner tensor becomes, where it is read at a whole axis throughout.

    Args:
        program: A program of one output.
        name: An inner tensor.
        position: One of its dimensions.
    """
    for scope in program.scopes:
        if not isinstance(scope, Compute):
            return None
        found = {n.indices[position] for n in postorder(*scope.values) if isinstance(n, Load) and n.buffer == name}
        if found:
            (axis,) = found if len(found) == 1 else (None,)
            if axis not in scope.axes or scope.reduce_axes or len(scope.tensors) != 1:
                return None
            assert isinstance(axis, Var)
            name, position = scope.tensors[0].name, scope.axes.index(axis)
    return position if program.outputs == (name,) else None


def _parts(load: Load, axes: tuple[Var, ...], shape: tuple[Scalar, ...]) -> tuple[tuple[int, ...], ...] | None:
    """The dimensions that each axis indexes, if they are all and some axis indexes two."""
    left = dict(enumerate(load.indices))
    result: list[tuple[int, ...]] = []
    for axis in axes:
        places = [k for k, i in left.items() if i is axis]
        if not places:
            for k in left:
                inner = as_int(shape[k])
                if inner and left[k] is floormod(axis, index(inner)):
                    quotient = floordiv(axis, index(inner))
                    places = [*[n for n in left if left[n] is quotient][:1], k]
        extent = 1
        for k in places:
            extent *= as_int(shape[k]) or 0
        if not places or len(places) > 2 or (as_int(axis.extent) or 0) > extent:
            return None
        for k in places:
            del left[k]
        result.append(tuple(places))
    return tuple(result) if not left and any(len(p) == 2 for p in result) else None
