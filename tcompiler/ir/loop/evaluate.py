"""The vectorised evaluator of loop functions, for full-size checks; `interpret` is the definition that it agrees with.

A chain of loops around one block is a nest. Its points are evaluated at once, on numpy index grids, where no iteration
depends on another: an element that the nest writes is not read by it, except by the update that combines into it or at
the very place that is written. Otherwise the outermost loop runs in Python and the rest is tried again; loops that hold
several statements run in Python too. Large grids are cut along their outermost loops.

Integers agree with the interpreter bit for bit, sums of floats to rounding: reductions are evaluated as numpy
reductions, and sums of products as matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tcompiler.errors import VerifyError
from tcompiler.ir.loop.grammar import (
    Block,
    Commit,
    For,
    Function,
    Intrinsic,
    Seq,
    Stmt,
    Store,
    Update,
    Wait,
)
from tcompiler.ir.loop.indexing import values as scalar_values
from tcompiler.ir.loop.interpret import Machine
from tcompiler.ir.loop.intrinsics import meanings
from tcompiler.ir.loop.memory import Array, IntrinsicMeaning
from tcompiler.ir.scalar.grammar import TRUE, Binary, Load, Scalar, Var, conjuncts
from tcompiler.ir.scalar.reducers import reducer_name
from tcompiler.ir.scalar.reduction import contract, fold, fold_groups
from tcompiler.ir.scalar.rewrite import free_vars, loads

_MOST_POINTS = 1 << 22
"""Points of a nest that are evaluated at once, at most."""

_Env = dict[Var, Any]


def evaluate(
    function: Function,
    inputs: Mapping[str, Array],
    params: Mapping[str, int] | None = None,
    *,
    intrinsics: Mapping[str, IntrinsicMeaning] | None = None,
) -> dict[str, Array]:
    """Runs a function with numpy.

    Args:
        function: A verified function that reads no undefined element.
        inputs: Arrays by name, with the declared dtypes and shapes.
        params: Values of the parameters by name.
        intrinsics: Meanings of intrinsics by name; by default those of `intrinsics`.

    Returns:
        The outputs by name. Elements that were never written are NaN, the largest integer, or False.

    Raises:
        ArgumentError: If the inputs or parameters are not those of the function.
        VerifyError: If the function leaves a buffer, or calls an intrinsic without a meaning.
    """
    machine = Machine(
        function, inputs, params or {}, None, meanings() if intrinsics is None else intrinsics, strict=False
    )
    _Evaluator(machine).run(function.body, dict(machine.params), "")
    machine.finish()
    return {name: machine.arrays[name] for name in function.outputs}


@dataclass(frozen=True, slots=True, eq=False)
class _Nest:
    """A chain of loops around the statements of one block, or of a part of its body (block is None then)."""

    loops: tuple[For, ...]
    block: Block | None
    init: tuple[Store, ...]
    body: tuple[Store | Update, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """The points of a nest at which its body runs: a grid, or a list (one axis) where a predicate cut holes.

    Attributes:
        shape: Extents of the axes.
        env: What the body may name; arrays have one dimension per axis, of the axis' extent or 1.
        first: Whether all reduce iter vars are 0, in the same form.
    """

    shape: tuple[int, ...]
    env: _Env
    first: Array

    def starts(self, axes: tuple[int, ...]) -> _Points:
        """The points at the start of some axes."""
        cut = tuple(slice(0, 1) if k in axes else slice(None) for k in range(len(self.shape)))
        env: _Env = {v: x[cut] if np.ndim(x) else x for v, x in self.env.items()}
        shape = tuple(1 if k in axes else n for k, n in enumerate(self.shape))
        return _Points(shape, env, self.first[cut])

    def chosen(self, keep: Array) -> _Points:
        """Some of the points as a list, in their order."""
        env: _Env = {v: np.broadcast_to(x, self.shape).ravel()[keep] if np.ndim(x) else x for v, x in self.env.items()}
        first = np.broadcast_to(self.first, self.shape).ravel()[keep]
        return _Points((int(np.count_nonzero(keep)),), env, first)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """How an update runs at all points at once.

    Attributes:
        points: The points.
        flats: Flat positions of the targets; with axes in the form of the points, else as lists in their order.
        axes: Axes of the grid to reduce over, none of which the targets depend on; None if targets repeat otherwise.
        first: The points at which the init runs before; None if it runs at none.
    """

    points: _Points
    flats: list[Array]
    axes: tuple[int, ...] | None
    first: _Points | None


class _Evaluator:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.arrays = machine.arrays
        self.flat = {name: a.reshape(-1) for name, a in self.arrays.items()}
        self.nests: dict[Stmt, _Nest | None] = {}

    def run(self, stmt: Stmt, env: _Env, where: str) -> None:
        """Runs a statement; where is the name of the block around it."""
        match stmt:
            case Seq(stmts=stmts):
                for s in stmts:
                    self.run(s, env, where)
                return
            case Intrinsic() | Commit() | Wait():
                self.machine.run(stmt, env, where)
                return
            case _:
                pass
        if stmt not in self.nests:
            self.nests[stmt] = _nest_of(stmt)
        nest = self.nests[stmt]
        if nest is not None:
            extents = [self._integer(loop.var.extent, env) for loop in nest.loops]
            if all(extents):
                self._nest(nest, 0, env, [np.arange(n, dtype=np.int64) for n in extents], where)
        elif isinstance(stmt, For):
            inner = dict(env)
            for i in range(self._integer(stmt.var.extent, env)):
                inner[stmt.var] = np.int64(i)
                self.run(stmt.body, inner, where)
        elif isinstance(stmt, Block):
            self._block(stmt, env)

    def _block(self, block: Block, env: _Env) -> None:
        """A block whose body holds loops or blocks, at one point."""
        if not scalar_values(block.predicate, env, self.arrays):
            return
        inner: _Env = dict(self.machine.params)
        first = True
        for it, binding in zip(block.iters, block.bindings, strict=True):
            inner[it.var] = value = np.int64(scalar_values(binding, env, self.arrays))
            first = first and (it.kind != "reduce" or value == 0)
        if block.init is not None and first:
            self.run(block.init, inner, block.name)
        self.run(block.body, inner, block.name)

    def _integer(self, node: Scalar | None, env: _Env) -> int:
        assert node is not None
        return int(scalar_values(node, env, self.arrays))

    def _nest(self, nest: _Nest, depth: int, env: _Env, axes: list[Array], where: str) -> None:
        """Runs the loops of a nest from `depth` on, at the given values of their variables."""
        loops = nest.loops[depth:]
        if loops:
            extents = [len(a) for a in axes]
            work = _work(nest, loops, extents)
            if work > _MOST_POINTS and extents[0] > 1:
                count = max(1, extents[0] * _MOST_POINTS // work)
                for start in range(0, extents[0], count):
                    self._nest(nest, depth, env, [axes[0][start : start + count], *axes[1:]], where)
                return
        points = self._points(nest, loops, env, axes)
        if points is None or self._vectorised(nest, points, where):
            return
        inner = dict(env)
        for i in axes[0]:
            inner[loops[0].var] = i
            self._nest(nest, depth + 1, inner, axes[1:], where)

    def _points(self, nest: _Nest, loops: Sequence[For], env: _Env, axes: list[Array]) -> _Points | None:
        """The points where the predicate holds; None if there are none."""
        block = nest.block
        predicate = TRUE if block is None else block.predicate
        rest: list[Scalar] = []
        for condition in conjuncts(predicate):
            moving = [k for k, loop in enumerate(loops) if loop.var in free_vars(condition)]
            if len(moving) > 1:
                rest.append(condition)
                continue
            local = env if not moving else {**env, loops[moving[0]].var: axes[moving[0]]}
            holds = np.asarray(scalar_values(condition, local, self.arrays))
            if moving:
                axes = list(axes)
                axes[moving[0]] = axes[moving[0]][np.broadcast_to(holds, axes[moving[0]].shape)]
            elif not holds:
                return None
        shape = tuple(map(len, axes))
        if 0 in shape:
            return None
        rank = len(shape)
        grid: _Env = dict(env)
        for k, (loop, axis) in enumerate(zip(loops, axes, strict=True)):
            grid[loop.var] = axis.reshape((-1,) + (1,) * (rank - 1 - k))
        if rest:
            holds = np.ones(shape, bool)
            for condition in rest:
                holds &= scalar_values(condition, grid, self.arrays)
            if not holds.all():
                for loop, axis, at in zip(loops, axes, np.nonzero(holds), strict=True):
                    grid[loop.var] = axis[at]
                shape = (int(np.count_nonzero(holds)),)
                if shape == (0,):
                    return None
        return self._bound(nest, shape, grid)

    def _bound(self, nest: _Nest, shape: tuple[int, ...], grid: _Env) -> _Points:
        rank = len(shape)
        if nest.block is None:
            return _Points(shape, grid, np.ones((1,) * rank, bool))
        env: _Env = dict(self.machine.params)
        first = np.ones((1,) * rank, bool)
        for it, binding in zip(nest.block.iters, nest.block.bindings, strict=True):
            value = _ranked(scalar_values(binding, grid, self.arrays), rank)
            env[it.var] = value
            if it.kind == "reduce":
                first = first & (value == 0)
        return _Points(shape, env, first)

    def _values(self, node: Scalar, points: _Points) -> Array:
        return _ranked(scalar_values(node, points.env, self.arrays), len(points.shape))

    def _place(self, buffer: str, indices: Sequence[Scalar], points: _Points, where: str) -> Array:
        """Flat positions of an element of a buffer at every point, in broadcastable form.

        Raises:
            VerifyError: If one is outside the buffer.
        """
        shape = self.arrays[buffer].shape
        result: Array = np.zeros((1,) * len(points.shape), np.int64)
        stride = 1
        for k in range(len(shape) - 1, -1, -1):
            i = self._values(indices[k], points)
            if i.size and (i.min() < 0 or i.max() >= shape[k]):
                bad = int(i.min() if i.min() < 0 else i.max())
                raise VerifyError(f"writes {buffer} at {bad} in dimension {k}, outside its shape {list(shape)}", where)
            result = result + i * stride
            stride *= shape[k]
        return result

    def _vectorised(self, nest: _Nest, points: _Points, where: str) -> bool:
        """Runs all points of a nest at once; False, with nothing done, if they may depend on each other."""
        name = where if nest.block is None else nest.block.name
        if math.prod(points.shape) == 1:
            if points.first.all():
                for store in nest.init:
                    self._store(store, points, name)
        elif not _inits_fit(nest) or not self._independent(nest, points, name):
            return False
        plans: list[_Plan | None] = []
        for s in nest.body:
            plan = self._plan(nest, s, points, name) if isinstance(s, Update) else None
            if plan is None and isinstance(s, Update):
                return False
            plans.append(plan)
        for s, plan in zip(nest.body, plans, strict=True):
            if isinstance(s, Store):
                self._store(s, points, name)
            elif plan is not None:
                self._update(nest, s, plan, name)
        return True

    def _independent(self, nest: _Nest, points: _Points, where: str) -> bool:
        """Whether each statement may run over all points before the next one does."""
        written: dict[str, tuple[Scalar, ...]] = {}
        for s in nest.body:
            for buffer, indices in _targets(s):
                if buffer in written:
                    return False
                written[buffer] = indices
        for s in nest.body:
            for load in _reads(s):
                target = written.get(load.buffer)
                if target is None:
                    continue
                if load.indices == target:
                    if not self._distinct(load.buffer, target, points, where):
                        return False
                elif not self._disjoint(load, target, points, where):
                    return False
        return True

    def _distinct(self, buffer: str, indices: Sequence[Scalar], points: _Points, where: str) -> bool:
        flat = self._place(buffer, indices, points, where)
        return flat.size == math.prod(points.shape) and _are_distinct(flat, self.flat[buffer].size)

    def _disjoint(self, load: Load, target: Sequence[Scalar], points: _Points, where: str) -> bool:
        """Whether no point reads, by this load, what some point writes."""
        if any(loads(i) for i in load.indices):
            return False
        marks: Array = np.zeros(self.arrays[load.buffer].shape, bool)
        marks.reshape(-1)[self._place(load.buffer, target, points, where).ravel()] = True
        indices = [self._values(i, points) for i in load.indices]
        inside: Array = np.ones((1,) * len(points.shape), bool)
        for i, n in zip(indices, marks.shape, strict=True):
            inside = inside & (i >= 0) & (i < n)
        if 0 in marks.shape:
            return True
        clipped = tuple(np.clip(i, 0, n - 1) for i, n in zip(indices, marks.shape, strict=True))
        return not np.any(marks[clipped] & inside)

    def _store(self, s: Store, points: _Points, where: str) -> None:
        flat = self._place(s.buffer, s.indices, points, where)
        value = self._values(s.value, points)
        # of the points that write one element the last one counts: the end of every axis that the index ignores
        value = value[tuple(slice(-1, None) if n == 1 else slice(None) for n in flat.shape)]
        self.flat[s.buffer][flat.ravel()] = np.broadcast_to(value, flat.shape).ravel()

    def _plan(self, nest: _Nest, s: Update, points: _Points, where: str) -> _Plan | None:
        """How to run an update at all points at once; None if that is not known to be right."""
        if any(t.indices != s.targets[0].indices for t in s.targets) and math.prod(points.shape) > 1:
            return None
        flats = [self._place(t.buffer, t.indices, points, where) for t in s.targets]
        flat = flats[0]
        size = self.flat[s.targets[0].buffer].size
        total = math.prod(points.shape)
        starts = bool(nest.init) and total > 1 and bool(points.first.any())
        if _are_distinct(flat, size):
            axes = tuple(k for k, n in enumerate(flat.shape) if n < points.shape[k])
            if not starts:
                return _Plan(points, flats, axes, None)
            # per target, the points are those along the axes: the first of them, and no other, must be initialised
            if points.first.size != math.prod(points.shape[k] for k in axes) or points.first.sum() != 1:
                return None
            if not points.first.reshape(-1)[0] or any(points.first.shape[k] < points.shape[k] for k in axes):
                return None
            return _Plan(points, flats, axes, points.starts(axes))
        if total > _MOST_POINTS:
            return None
        lists = [np.broadcast_to(f, points.shape).ravel() for f in flats]
        if not starts:
            return _Plan(points, lists, None, None)
        first = np.broadcast_to(points.first, points.shape).ravel()
        at = np.flatnonzero(first)
        earliest = np.full(size, -1, np.int64)
        earliest[lists[0][::-1]] = np.arange(total - 1, -1, -1)
        if not np.array_equal(earliest[lists[0][at]], at):
            return None
        return _Plan(points, lists, None, points.chosen(first))

    def _update(self, nest: _Nest, s: Update, plan: _Plan, where: str) -> None:
        points, axes = plan.points, plan.axes
        if plan.first is not None:
            buffers = {t.buffer for t in s.targets}
            for store in nest.init:
                if store.buffer in buffers:
                    self._store(store, plan.first, where)
        memory = [self.flat[t.buffer] for t in s.targets]
        if axes is None:
            values = [np.broadcast_to(self._values(v, points), points.shape).ravel() for v in s.values]
            fold_groups(s.reducer, memory, plan.flats, values)
            return
        old = [m[f] for m, f in zip(memory, plan.flats, strict=True)]
        factors = _factors(s) if axes else None
        if factors is not None:
            a, b = (self._values(f, points) for f in factors)
            new = [old[0] + contract(a, b, points.shape, axes)]
        else:
            new = fold(s.reducer, old, [self._values(v, points) for v in s.values], points.shape, axes)
        for m, f, v in zip(memory, plan.flats, new, strict=True):
            m[f] = v


def _nest_of(stmt: Stmt) -> _Nest | None:
    loops: list[For] = []
    while isinstance(stmt, For):
        loops.append(stmt)
        stmt = stmt.body
    if isinstance(stmt, Block):
        body, init = _leaves(stmt.body), () if stmt.init is None else _leaves(stmt.init)
        if body is None or init is None or not all(isinstance(s, Store) for s in init):
            return None
        return _Nest(tuple(loops), stmt, tuple(s for s in init if isinstance(s, Store)), body)
    body = _leaves(stmt)
    return None if body is None else _Nest(tuple(loops), None, (), body)


def _leaves(stmt: Stmt) -> tuple[Store | Update, ...] | None:
    stmts = stmt.stmts if isinstance(stmt, Seq) else (stmt,)
    found = tuple(s for s in stmts if isinstance(s, Store | Update))
    return found if len(found) == len(stmts) else None


def _targets(s: Store | Update) -> list[tuple[str, tuple[Scalar, ...]]]:
    return [(s.buffer, s.indices)] if isinstance(s, Store) else [(t.buffer, t.indices) for t in s.targets]


def _reads(s: Store | Update) -> list[Load]:
    if isinstance(s, Store):
        nodes: tuple[Scalar, ...] = (*s.indices, s.value)
    else:
        nodes = (*(i for t in s.targets for i in t.indices), *s.values)
    return [load for n in nodes for load in loads(n)]


def _inits_fit(nest: _Nest) -> bool:
    """Whether every store of the init is to a target of an update, at the same place, and reads nothing written."""
    targets = {t.buffer: t.indices for s in nest.body if isinstance(s, Update) for t in s.targets}
    written = {b for s in nest.body for b, _ in _targets(s)}
    return all(
        targets.get(s.buffer) == s.indices and not any(load.buffer in written for load in _reads(s)) for s in nest.init
    )


def _factors(s: Update) -> tuple[Scalar, Scalar] | None:
    """The factors of a sum of products that a matrix product can compute."""
    value = s.values[0]
    if isinstance(value, Binary) and value.op == "mul" and value.dtype.name in ("f32", "f64"):
        return (value.a, value.b) if reducer_name(s.reducer) == "sum" else None
    return None


def _work(nest: _Nest, loops: Sequence[For], extents: Sequence[int]) -> int:
    """How many elements the largest array has that evaluating a nest makes."""
    sizes = dict(zip((loop.var for loop in loops), extents, strict=True))
    reach: dict[Var, frozenset[Var]] = {v: frozenset((v,)) for v in sizes}
    if nest.block is not None:
        for it, binding in zip(nest.block.iters, nest.block.bindings, strict=True):
            reach[it.var] = free_vars(binding)
        if any(len(free_vars(c) & sizes.keys()) > 1 for c in conjuncts(nest.block.predicate)):
            return math.prod(extents)

    def size(nodes: Sequence[Scalar]) -> int:
        used: set[Var] = set()
        for n in nodes:
            for v in free_vars(n):
                used |= reach.get(v, frozenset())
        return math.prod(n for v, n in sizes.items() if v in used)

    most = 1
    for s in nest.body:
        if isinstance(s, Store):
            most = max(most, size((*s.indices, s.value)))
            continue
        targets = [i for t in s.targets for i in t.indices]
        factors = _factors(s)
        if factors is not None:
            most = max(most, size(targets), *(size((f,)) for f in factors))
        else:
            most = max(most, size((*targets, *s.values)))
    return most


def _ranked(value: Any, rank: int) -> Array:
    array = np.asarray(value)
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _are_distinct(flat: Array, size: int) -> bool:
    """Whether positions in [0, size) differ from each other."""
    if flat.size <= 1:
        return True
    if flat.size > size:
        return False
    marks = np.zeros(size, bool)
    marks[flat.ravel()] = True
    return int(np.count_nonzero(marks)) == flat.size
