"""What decides how a contraction may write its result: which axes its operands have, and how its data are read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

from tcompiler.ir.expr.folds import Fold, carried, folded
from tcompiler.ir.expr.grammar import Compute, Program, tensors
from tcompiler.ir.scalar.canonical import linear
from tcompiler.ir.scalar.grammar import Binary, Load, Var, as_int, postorder
from tcompiler.ir.scalar.rewrite import free_vars

_VECTOR = 8
"""Elements of a vector register, of the widest kind that most machines have."""


@dataclass(frozen=True, slots=True)
class Sums:
    """A contraction of data by a constant.

    Attributes:
        place: The axis of the result that only the constant has: its columns.
        columns: Their extent, of one group of them where that axis has several.
        rows: Points of all axes that only the data have.
        batches: Points of all axes that both have.
        depth: Products per sum.
        last: Points along which the data may be walked in a row-major result: the last axis, with those before it that
            are walked in step.
        lines: Such rows, of one batch.
        slides: Whether the data are read along the last axis with an offset.
        walked: Whether they are read along it element by element.
        copied: Whether they are brought into another tensor first, as padding does.
        run: Products that lie one behind the other in data whose last axis is that of the columns; 0 where none do.
    """

    place: int
    columns: int
    rows: int
    batches: int
    depth: int
    last: int
    lines: int
    slides: bool
    walked: bool
    copied: bool
    run: int


def columns(program: Program, constants: Collection[str]) -> tuple[int, int] | None:
    """The axis of a contraction's result that only its constant operand has.

    Args:
        program: A definition.
        constants: Its inputs that are known.

    Returns:
        Its position and extent; None where there is none.
    """
    found = contraction(program, constants)
    return None if found is None else (found.place, found.columns)


def contraction(program: Program, constants: Collection[str]) -> Sums | None:
    """A program's contraction of data by a constant whose columns are an axis of the result; None without one."""
    for scope, fixed, free in _products(program, constants):
        mine = _axes(fixed)
        theirs = frozenset[Var]().union(*(_axes(x) for x in free))
        fold = folded(program).get(scope.tensors[0].name)
        phases = _phases(scope, mine, theirs, fold)
        only = [k for k, a in enumerate(scope.axes) if a in mine and a not in theirs and k not in phases]
        if len(only) != 1:
            continue
        extent = as_int(scope.axes[only[0]].extent) or 0
        place = _place(program, scope, only[0], extent, fold)
        if place is None:
            continue
        if place < 0:
            return None
        inputs = {t.name for t in program.inputs}
        rank = len(tensors(program)[program.outputs[0]].shape)
        both = [a for k, a in enumerate(scope.axes) if a in mine and (a in theirs or k in phases)]
        batches = prod(as_int(a.extent) or 0 for a in both)
        rows = prod(as_int(a.extent) or 0 for a in scope.axes if a not in mine)
        depth = prod(as_int(a.extent) or 0 for a in scope.reduce_axes)
        last, slides, walked = _walk(scope, free, fold)
        walked &= rank == len(scope.axes if fold is None else fold.parts)
        lines = max(rows // max(last, 1), 1)
        copied = any(x.buffer not in inputs for x in free)
        run = _run(scope, free[0], place)
        return Sums(place, extent, rows, batches, depth, last, lines, slides, walked, copied, run)
    return None


def _products(program: Program, constants: Collection[str]) -> Iterator[tuple[Compute, Load, list[Load]]]:
    """Sums of products of one element that is known and others: the scope, the load of the one and of the others."""
    for scope in program.scopes:
        if not isinstance(scope, Compute) or not scope.reduce_axes:
            continue
        for value in scope.values:
            if not isinstance(value, Binary) or value.op != "mul":
                continue
            loads = [n for n in postorder(value) if isinstance(n, Load)]
            fixed = [x for x in loads if x.buffer in constants]
            free = [x for x in loads if x.buffer not in constants]
            if len(fixed) == 1 and free:
                yield scope, fixed[0], free


def _phases(scope: Compute, mine: frozenset[Var], theirs: frozenset[Var], fold: Fold | None) -> list[int]:
    """Axes that only the constant has, and that give places of the result between those of an axis of the data alone.

    Filters of a group are none: the group is an axis of the constant, too.
    """
    pairs = [p for p in fold.parts if len(p) == 2] if fold is not None else []
    data = theirs - mine
    return [inner for outer, inner in pairs if scope.axes[outer] in data and scope.axes[inner] not in theirs]


def _place(program: Program, scope: Compute, only: int, extent: int, fold: Fold | None) -> int | None:
    """The axis of the program's output that an axis of a scope becomes; None where lost, -1 where of no use."""
    rank = len(tensors(program)[program.outputs[0]].shape)
    at = [k for k, p in enumerate(fold.parts) if p[-1] == only] if fold is not None else []
    if fold is not None and at and rank == len(fold.parts):
        # what takes a part of an axis only has to fill vectors by itself
        return at[0] if extent >= _VECTOR or len(fold.parts[at[0]]) == 1 else -1
    if rank == len(scope.axes):
        return only
    name = scope.tensors[0].name
    if any(len(free_vars(i)) > 1 for load in _loads(program, name) for i in load.indices):
        return None  # rows of a plane one behind the other, which stay so
    place = carried(program, name, only)
    return place if place is not None and extent >= _VECTOR else None


def _loads(program: Program, name: str) -> list[Load]:
    values = (v for s in program.scopes if isinstance(s, Compute) for v in s.values)
    return [n for n in postorder(*values) if isinstance(n, Load) and n.buffer == name]


def _walk(scope: Compute, free: list[Load], fold: Fold | None) -> tuple[int, bool, bool]:
    """How data are read along a result's last axis: points in a row, whether with an offset, whether one by one."""
    last = scope.axes[-1]
    extent = as_int(last.extent) or 0
    if fold is not None and len(fold.parts[-1]) > 1:
        # phases of one place are interleaved in the tile, if they read the same
        last = scope.axes[fold.parts[-1][0]]
        phase = scope.axes[fold.parts[-1][1]]
        walked = all(x.indices[-1] is last and phase not in _axes(x) for x in free)
        return as_int(last.extent) or 0, False, walked
    if any(load.indices[-1] is not last for load in free):
        apart = all(linear(load.indices[-1]).terms.get(last) == 1 for load in free)
        return extent, True, apart
    for k in range(2, len(scope.axes) + 1):
        axis = scope.axes[-k]
        if any(len(load.indices) < k or load.indices[-k] is not axis for load in free):
            break
        extent *= as_int(axis.extent) or 0
    return extent, False, True


def _run(scope: Compute, data: Load, place: int) -> int:
    """Points of the axis of a sum that data are walked along element by element by one of their indices."""
    steps = linear(data.indices[place]).terms if place < len(data.indices) else {}
    return next((as_int(a.extent) or 0 for a in scope.reduce_axes if steps.get(a) == 1), 0)


def _axes(load: Load) -> frozenset[Var]:
    result: frozenset[Var] = frozenset()
    for i in load.indices:
        result |= free_vars(i)
    return result


def same_axes(program: Program, name: str) -> bool:
    """Whether an input's axes are the result's: same rank, the first scope that reads it at (about) its own axes."""
    for scope in program.scopes:
        if not isinstance(scope, Compute):
            return False
        for node in postorder(*scope.values):
            if isinstance(node, Load) and node.buffer == name:
                if len(node.indices) != len(scope.axes):
                    return False
                return all(
                    i is a or a in free_vars(i) or as_int(a.extent) == 1 or as_int(i) is not None
                    for i, a in zip(node.indices, scope.axes, strict=True)
                )
    return False
