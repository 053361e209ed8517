"""Sorts: one element after the other is selected, or runs are merged from the bottom up."""

from __future__ import annotations

import math

from tcompiler.errors import CompileError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Sort, Tensor
from tcompiler.ir.loop.grammar import For, IterKind, Stmt, Store, seq
from tcompiler.ir.scalar.grammar import (
    FALSE,
    Binary,
    Load,
    Scalar,
    Select,
    Unary,
    Var,
    as_int,
    floordiv,
    greater_equal,
    index,
    less,
    minimum,
)
from tcompiler.lower.nests import Around, Nests
from tcompiler.lower.selection import before_other, select_first

STEP = 16
"""Elements that are looked through while one that is selected is put in its place."""
MERGED = 1
"""Elements that are looked through while one finds its place by a step of a bisection."""


def lower_sort(scope: Sort, source: Tensor, nests: Nests, around: Around) -> Stmt:
    """Selects or merges, whatever takes fewer steps.

    Args:
        scope: The sort.
        source: What is sorted.
        nests: Where loops and buffers come from.
        around: Axes of the scans around.

    Raises:
        CompileError: If the extent along the axis is symbolic.
    """
    extent, kept = as_int(source.shape[scope.axis]), as_int(scope.tensors[0].shape[scope.axis])
    if extent is None or kept is None:
        raise CompileError(
            f"{scope.tensors[0].name} is sorted along an axis of symbolic extent {source.shape[scope.axis]!r}: "
            "code is generated for constant extents; give the model's dimensions as integers"
        )
    passes = max(0, extent - 1).bit_length()
    if extent > 1 and kept > 0 and kept * (math.isqrt(extent) + STEP) < extent * passes * (passes + 1) * MERGED:
        return select_first(scope, source, kept, nests, around)
    return _merged(scope, source, extent, kept, nests, around)


def _merged(scope: Sort, source: Tensor, extent: int, kept: int, nests: Nests, around: Around) -> Stmt:
    """Sorts by merging runs of 1, 2, 4, … elements between two pairs of buffers.

    An element's place in a merged run is its place in its own run plus the number of elements of the neighbouring run
    that come before it, found by bisection: of equal elements those of the left run come first, which keeps the order
    stable. n elements take n·log²(n) steps, all elements of a pass being independent.
    """
    passes = max(0, extent - 1).bit_length()
    whole = [Tensor(t.name, t.dtype, source.shape) for t in scope.tensors]

    def spare(suffix: str) -> tuple[Tensor, Tensor]:
        first, second = (nests.temporary(f"{t.name}_{suffix}", t) for t in whole)
        return Tensor(first.name, first.dtype, first.shape), Tensor(second.name, second.dtype, second.shape)

    pairs = [scope.tensors if kept == extent else spare("whole")]
    if passes:
        pairs.append(spare("other"))
    stmts = [_start(scope, pairs[passes % 2], nests, around)]
    for k in range(passes):
        old, new = pairs[(passes - k) % 2], pairs[(passes - k - 1) % 2]
        stmts.append(_merge(scope, old, new, 1 << k, extent, nests, around))
    if kept != extent:
        stmts += [nests.copy(t, whole_.name, around) for t, whole_ in zip(scope.tensors, pairs[0], strict=True)]
    return seq(*stmts)


def _axes(t: Tensor, kind: IterKind) -> list[tuple[Var, IterKind]]:
    return [(Var(f"ax{k}", dt.i64, e), kind) for k, e in enumerate(t.shape)]


def _start(scope: Sort, target: tuple[Tensor, Tensor], nests: Nests, around: Around) -> Stmt:
    axes = _axes(target[0], "spatial")
    nest = nests.nest(f"{scope.tensors[0].name}_start", axes, around)
    point = tuple(nest.mapping[a] for a, _ in axes)
    value = Load(scope.source, target[0].dtype, nests.place(scope.source, point))
    return nest.block(
        seq(
            Store(target[0].name, nests.place(target[0].name, point), value),
            Store(target[1].name, nests.place(target[1].name, point), point[scope.axis]),
        )
    )


def _merge(
    scope: Sort,
    source: tuple[Tensor, Tensor],
    target: tuple[Tensor, Tensor],
    width: int,
    extent: int,
    nests: Nests,
    around: Around,
) -> Stmt:
    """One pass: runs of `width` elements become runs of twice that."""
    axes = _axes(source[0], "ordered")  # they share a counter
    label = f"{scope.tensors[0].name}_merge{width}"
    nest = nests.nest(label, axes, around)
    point = [nest.mapping[a] for a, _ in axes]
    i = point[scope.axis]

    def at(t: Tensor, k: Scalar) -> tuple[Scalar, ...]:
        return nests.place(t.name, (*point[: scope.axis], k, *point[scope.axis + 1 :]))

    def value(k: Scalar) -> Scalar:
        return Load(source[0].name, source[0].dtype, at(source[0], k))

    start = floordiv(i, index(2 * width)) * (2 * width)
    middle = minimum(start + width, index(extent))
    end = minimum(start + 2 * width, index(extent))
    left = less(i, middle)
    other, length = Select(left, middle, start), Select(left, end - middle, middle - start)
    own = i - Select(left, start, middle)
    counter = nests.temporary(f"{label}_count", Tensor("", dt.i64, (index(1),)), "local")
    found = Load(counter.name, dt.i64, (index(0),))
    rounds = width.bit_length()
    step = nests.loop(f"{label}_round", Var("round", dt.i64, index(rounds)))
    size = Binary("shl", index(1), index(rounds - 1) - step)
    probe = value(other + found + size - 1)
    before = before_other(probe, value(i), source[0].dtype, scope.descending)
    behind = before_other(value(i), probe, source[0].dtype, scope.descending)
    # an element of the left run goes before its equals in the right one
    goes = Select(left, before, Unary("not", behind))
    more = Select(Select(greater_equal(length, found + size), goes, FALSE), found + size, found)
    place = start + own + found
    return nest.block(
        seq(
            Store(counter.name, (index(0),), index(0)),
            For(step, "serial", Store(counter.name, (index(0),), more)),
            Store(target[0].name, at(target[0], place), value(i)),
            Store(target[1].name, at(target[1], place), Load(source[1].name, dt.i64, at(source[1], i))),
        )
    )
