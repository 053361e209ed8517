"""The first elements of a sort, one after the other: a tournament of two rounds.

A row is cut into blocks, of each of which the best element is known. The best of these is the next result; its block is
then looked through again, for the best one that comes after it in the order. The first k of n elements take about
n + k·(blocks + their length) steps of vectors, 2·k·√n where both are √n.

    for row:
        for b: best_of[b] = the best of the block;  taken[b] = -1;  left[b] = its elements
        for t in range(k):
            best = the best best_of[b];  b = the first block with it;  j = the first place with it, behind taken[b]
            place[t] = b · length + j;  value[t] = x[place[t]]
            best_of[b] = the best of the block behind (best, j);  taken[b] = j if that equals best, or -1;  left[b] -= 1

Of equal elements the first one is found first, so that the order is stable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.expr.grammar import Sort, Tensor
from tcompiler.ir.loop.grammar import Buffer, For, IterKind, Stmt, Store, Update, seq
from tcompiler.ir.scalar.grammar import (
    FALSE,
    Binary,
    Cast,
    Const,
    Load,
    Reducer,
    Scalar,
    Select,
    Unary,
    Var,
    as_int,
    conjunction,
    const,
    index,
    less,
    minimum,
)
from tcompiler.ir.scalar.reducers import named_reducer
from tcompiler.lower.nests import Around, Nest, Nests

VECTOR = 16
"""Elements that a block's length is a multiple of, where that leaves several blocks."""


def select_first(scope: Sort, source: Tensor, kept: int, nests: Nests, around: Around) -> Stmt:
    """Nests that select the first elements of every row.

    Args:
        scope: The sort, with two elements or more along its axis.
        source: What is sorted.
        kept: How many elements are selected of a row, one or more.
        nests: Where loops and buffers come from.
        around: Axes of the scans around.
    """
    return _Selection(scope, source, nests, around).statement(kept)


def before_other(a: Scalar, b: Scalar, dtype: DType, descending: bool) -> Scalar:
    """Whether a stands before b and is not its equal; NaN is the largest value."""
    if descending:
        a, b = b, a
    if not dtype.is_float:
        return Binary("lt", a, b)
    only_b = conjunction(Unary("isnan", b), Unary("not", Unary("isnan", a)))
    return Binary("or", Binary("lt", a, b), only_b)


def block_length(extent: int) -> int:
    """Elements of a block: about the root of a row's; a multiple of a vector, a divisor of the row, where possible."""
    if extent <= 2 * VECTOR:
        return extent
    root = math.isqrt(extent)
    near = [n for n in range(max(2, root * 2 // 3), root * 3 // 2 + 1) if extent % n == 0]
    whole = [n for n in near if n % VECTOR == 0]
    if whole or near:
        return min(whole or near, key=lambda n: abs(n - root))
    return -(-root // VECTOR) * VECTOR


class _Selection:
    """Makes the nests of one sort.

    Args:
        scope: The sort.
        source: What is sorted.
        nests: Where loops and buffers come from.
        around: Axes of the scans around.
    """

    def __init__(self, scope: Sort, source: Tensor, nests: Nests, around: Around) -> None:
        self.scope, self.source, self.nests, self.around = scope, source, nests, around
        self.dtype = source.dtype
        self.extent = as_int(source.shape[scope.axis]) or 0
        self.length = block_length(self.extent)
        self.blocks = -(-self.extent // self.length)
        self.label = scope.tensors[0].name
        rows = [Var(f"row{k}", dt.i64, e) for k, e in enumerate(source.shape) if k != scope.axis]
        self.rows = {a: nests.loop(f"{self.label}_select_{a.name}", a) for a in rows}
        self.best_of = self._local("best_of", self.dtype, self.blocks)
        self.taken = self._local("taken", dt.i32, self.blocks)
        self.left = self._local("left", dt.i32, self.blocks)
        self.best = self._local("best", self.dtype)
        self.block = self._local("block", dt.i32)
        self.place = self._local("place", dt.i32)
        self.following = self._local("following", self.dtype)

    def _local(self, name: str, dtype: DType, size: int = 1) -> Buffer:
        return self.nests.temporary(f"{self.label}_{name}", Tensor("", dtype, (index(size),)), "local")

    def statement(self, kept: int) -> Stmt:
        """The whole selection of so many elements of every row."""
        step = Var("t", dt.i64, index(kept))
        turn = self.nests.loop(f"{self.label}_select_{step.name}", step)
        b, j = Var("b", dt.i64, index(self.blocks)), Var("j", dt.i64, index(self.length))
        first = named_reducer("min", dt.i32)
        best, block, place = _only(self.best), Cast(dt.i64, _only(self.block)), Cast(dt.i64, _only(self.place))
        turns = seq(
            self._reduce(self.best, b, self._better(), lambda n: self._known(n.mapping[b])),
            self._reduce(
                self.block, b, first, lambda n: _first(n.mapping[b], self._has_best(n.mapping[b]), self.blocks)
            ),
            self._reduce(
                self.place,
                j,
                first,
                lambda n: _first(
                    n.mapping[j],
                    self._guarded(n, block * self.length + n.mapping[j], lambda x: self._next(x, n.mapping[j]), FALSE),
                    self.length,
                ),
            ),
            self._result(step, turn, block * self.length + place),
            self._reduce(
                self.following,
                j,
                self._better(),
                lambda n: self._guarded(
                    n,
                    block * self.length + n.mapping[j],
                    lambda x: Select(self._behind(x, n.mapping[j]), x, self._none()),
                    self._none(),
                ),
            ),
            self._nest("turned", []).block(
                seq(
                    Store(
                        self.taken.name,
                        (block,),
                        Select(self._equal(_only(self.following), best), _only(self.place), const(dt.i32, -1)),
                    ),
                    Store(self.best_of.name, (block,), _only(self.following)),
                    Store(self.left.name, (block,), _at(self.left, block) - const(dt.i32, 1)),
                )
            ),
        )
        stmt = seq(self._begin(b, j), For(turn, "serial", turns))
        for var in reversed(self.rows.values()):
            stmt = For(var, "serial", stmt)
        return stmt

    # -- values ----------------------------------------------------------------------------------------------------

    def _better(self) -> Reducer:
        """Of two values the one that stands before the other."""
        if self.scope.descending or not self.dtype.is_float:
            return named_reducer("max" if self.scope.descending else "min", self.dtype)
        # NaN stands behind all numbers
        a, b = Var("a0", self.dtype, None), Var("b0", self.dtype, None)
        better = Binary("or", Unary("isnan", a), Binary("lt", b, a))
        return Reducer((a,), (b,), (Select(better, b, a),), (const(self.dtype, float("nan")),))

    def _none(self) -> Const:
        return self._better().identity[0]

    def _equal(self, a: Scalar, b: Scalar) -> Scalar:
        same = Binary("eq", a, b)
        if not self.dtype.is_float:
            return same
        return Binary("or", same, conjunction(Unary("isnan", a), Unary("isnan", b)))

    def _known(self, b: Scalar) -> Scalar:
        """The best of a block that has elements left."""
        return Select(less(const(dt.i32, 0), _at(self.left, b)), _at(self.best_of, b), self._none())

    def _has_best(self, b: Scalar) -> Scalar:
        return conjunction(
            less(const(dt.i32, 0), _at(self.left, b)), self._equal(_at(self.best_of, b), _only(self.best))
        )

    def _next(self, x: Scalar, j: Scalar) -> Scalar:
        """Whether an element equals the best one and has not been taken."""
        taken = _at(self.taken, Cast(dt.i64, _only(self.block)))
        return conjunction(self._equal(x, _only(self.best)), less(taken, Cast(dt.i32, j)))

    def _behind(self, x: Scalar, j: Scalar) -> Scalar:
        """Whether an element comes after the one that has just been selected."""
        best, place = _only(self.best), _only(self.place)
        later = before_other(best, x, self.dtype, self.scope.descending)
        return Binary("or", later, conjunction(self._equal(x, best), less(place, Cast(dt.i32, j))))

    def _element(self, nest: Nest, place: Scalar) -> Scalar:
        rows = [nest.mapping[a] for a in self.rows]
        axis = self.scope.axis
        at = (*rows[:axis], place, *rows[axis:])
        return Load(self.source.name, self.dtype, self.nests.place(self.source.name, at))

    def _guarded(self, nest: Nest, place: Scalar, value: Callable[[Scalar], Scalar], other: Scalar) -> Scalar:
        """What becomes of an element, or another value behind the end of the row."""
        inside = value(self._element(nest, place))
        return inside if self.extent % self.length == 0 else Select(less(place, self.extent), inside, other)

    # -- nests -----------------------------------------------------------------------------------------------------

    def _nest(self, name: str, axes: Sequence[tuple[Var, IterKind]], around: Around | None = None) -> Nest:
        return self.nests.nest(f"{self.label}_{name}", axes, {**self.around, **(around or {})}, self.rows)

    def _reduce(self, target: Buffer, axis: Var, reducer: Reducer, value: Callable[[Nest], Scalar]) -> Stmt:
        """A reduction to one value; the turn is none of its axes, as it does the same in every one."""
        nest = self._nest(target.name.removeprefix(f"{self.label}_"), [(axis, "reduce")])
        at = Load(target.name, target.dtype, (index(0),))
        init = Store(target.name, at.indices, reducer.identity[0])
        return nest.block(Update((at,), reducer, (value(nest),)), init)

    def _begin(self, b: Var, j: Var) -> Stmt:
        """What is known of the blocks at first."""
        nest = self._nest("blocks", [(b, "spatial"), (j, "reduce")])
        at = Load(self.best_of.name, self.dtype, (nest.mapping[b],))
        value = self._guarded(nest, nest.mapping[b] * self.length + nest.mapping[j], lambda x: x, self._none())
        reducer = self._better()
        best = nest.block(Update((at,), reducer, (value,)), Store(at.buffer, at.indices, self._none()))
        nest = self._nest("counts", [(b, "spatial")])
        here = nest.mapping[b]
        count = Cast(dt.i32, minimum(index(self.length), index(self.extent) - here * self.length))
        counts = seq(Store(self.taken.name, (here,), const(dt.i32, -1)), Store(self.left.name, (here,), count))
        return seq(best, nest.block(counts))

    def _result(self, step: Var, turn: Var, place: Scalar) -> Stmt:
        nest = self._nest("selected", [], {step: turn})
        rows = [nest.mapping[a] for a in self.rows]
        axis = self.scope.axis
        at = (*rows[:axis], nest.mapping[step], *rows[axis:])
        values, places = self.scope.tensors
        return nest.block(
            seq(
                Store(values.name, self.nests.place(values.name, at), self._element(nest, place)),
                Store(places.name, self.nests.place(places.name, at), place),
            )
        )


def _at(t: Buffer, place: Scalar) -> Scalar:
    return Load(t.name, t.dtype, (place,))


def _only(t: Buffer) -> Scalar:
    return _at(t, index(0))


def _first(var: Scalar, found: Scalar, behind: int) -> Scalar:
    """A place where something is found, or the last one."""
    return Select(found, Cast(dt.i32, var), const(dt.i32, behind - 1))
