"""The meaning of an expr program as numpy operations on whole tensors.

Sums of products become matrix products over strided windows; everything else is evaluated over grids of indices, in
pieces of bounded size. Agrees with the interpreter: exactly, but for the rounding of float reductions, whose order the
language leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import numpy as np

from tcompiler.errors import VerifyError
from tcompiler.ir.dtypes import DType
from tcompiler.ir.expr.arguments import Array, arguments, parameters, shape_of
from tcompiler.ir.expr.contraction import boxes, grid, sum_of_products
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor
from tcompiler.ir.scalar.evaluate import evaluate as scalar_values
from tcompiler.ir.scalar.grammar import Scalar, Var
from tcompiler.ir.scalar.interpret import const_value
from tcompiler.ir.scalar.reducers import reducer_name
from tcompiler.ir.scalar.reduction import fold, fold_groups

_POINTS = 1 << 20
"""Points that are evaluated at once."""


def evaluate(
    program: Program,
    inputs: Mapping[str, Array],
    params: Mapping[str, int] | None = None,
    widen: bool = False,
) -> dict[str, Array]:
    """Evaluates a program.

    Args:
        program: A verified program.
        inputs: Arrays of the declared dtypes and shapes, by name; if widened, floats may be f64.
        params: Values of the program's parameters, by name.
        widen: Compute all floats in f64: the reference for accuracy.

    Returns:
        The outputs by name; floats are f64 if widened.

    Raises:
        ArgumentError: If the inputs or parameters are not those of the program.
        VerifyError: If a read is outside its tensor.
    """
    env = parameters(program, params or {})
    run = _Run(env, arguments(program, inputs, env, widen), widen)
    run.scopes(program.scopes)
    return {name: run.arrays[name] for name in program.outputs}


class _Run:
    def __init__(self, env: dict[Var, Any], arrays: dict[str, Array], widen: bool) -> None:
        self.env = env
        self.arrays = arrays
        self.widen = widen

    def numpy(self, dtype: DType) -> np.dtype[Any]:
        return np.dtype(np.float64) if self.widen and dtype.is_float else dtype.numpy

    def extents(self, axes: Sequence[Var]) -> tuple[int, ...]:
        return shape_of([a.extent for a in axes if a.extent is not None], self.env)

    def shape(self, t: Tensor) -> tuple[int, ...]:
        return shape_of(t.shape, self.env)

    def values(self, node: Scalar, point: Mapping[Var, Any], where: str) -> Array:
        try:
            return scalar_values(node, {**self.env, **point}, self.arrays, self.widen)
        except IndexError as error:
            raise VerifyError(str(error), where) from None

    def scopes(self, scopes: Sequence[Scope]) -> None:
        for s in scopes:
            match s:
                case Compute():
                    self._compute(s)
                case Scan():
                    self._scan(s)
                case Scatter():
                    self._scatter(s)
                case Sort():
                    self._sort(s)
                case _:
                    assert_never(s)

    def _compute(self, s: Compute) -> None:
        where = s.tensors[0].name
        axes = (*s.axes, *s.reduce_axes)
        sizes = self.extents(axes)
        kept = len(s.axes)
        if s.reducer is not None and reducer_name(s.reducer) == "sum":
            total = sum_of_products(
                s.values[0],
                axes,
                sizes,
                kept,
                self.env,
                self.arrays,
                lambda node, point: self.values(node, point, where),
            )
            if total is not None:
                self.arrays[where] = total.astype(self.numpy(s.tensors[0].dtype), copy=False)
                return
        if s.reducer is None:
            results = [np.empty(sizes, self.numpy(t.dtype)) for t in s.tensors]
        else:
            identity = [const_value(e) for e in s.reducer.identity]
            results = [np.full(sizes[:kept], e, self.numpy(t.dtype)) for t, e in zip(s.tensors, identity, strict=True)]
        reduced = tuple(range(kept, len(sizes)))
        pieces = boxes(sizes, lambda box: math.prod(hi - lo for lo, hi in box) <= _POINTS, lambda box: range(len(box)))
        for box in pieces if 0 not in sizes else ():
            point = grid(axes, box)
            shape = tuple(hi - lo for lo, hi in box)
            values = [np.broadcast_to(self.values(v, point, where), shape) for v in s.values]
            place = tuple(slice(lo, hi) for lo, hi in box[:kept])
            if s.reducer is not None:
                old = [r[place].reshape(shape[:kept] + (1,) * len(reduced)) for r in results]
                values = fold(s.reducer, old, values, shape, reduced, self.widen)
            for result, value in zip(results, values, strict=True):
                result[place] = value.reshape(shape[:kept])
        self.arrays.update(zip((t.name for t in s.tensors), results, strict=True))

    def _scan(self, s: Scan) -> None:
        states = [self.arrays[i] for i in s.init]
        stacks: list[list[Array]] = [[] for _ in states]
        (steps,) = self.extents((s.axis,))
        for t in range(steps):
            self.env[s.axis] = np.int64(t)
            self.arrays.update(zip((x.name for x in s.states), states, strict=True))
            self.scopes(s.scopes)
            states = [self.arrays[r] for r in s.results]
            for stack, x, whole in zip(stacks, states, s.collect, strict=True):
                if whole:
                    stack.append(x)
        self.env.pop(s.axis, None)
        for tensor, stack, x, whole in zip(s.tensors, stacks, states, s.collect, strict=True):
            if not whole:
                self.arrays[tensor.name] = x
            elif stack:
                self.arrays[tensor.name] = np.stack(stack)
            else:
                self.arrays[tensor.name] = np.empty(self.shape(tensor), self.numpy(tensor.dtype))

    def _scatter(self, s: Scatter) -> None:
        where = s.tensor.name
        result = self.arrays[s.base].copy()
        flat = result.reshape(-1)
        sizes = self.extents(s.axes)
        total = math.prod(sizes)
        for start in range(0, total, _POINTS):
            # points in row-major order, as lists
            count = min(_POINTS, total - start)
            at = np.unravel_index(np.arange(start, start + count), sizes) if sizes else ()
            point: dict[Var, Array] = dict(zip(s.axes, at, strict=True))
            inside = np.ones(count, bool)
            place = np.zeros(count, np.int64)
            for i, n in zip(s.indices, result.shape, strict=True):
                index = self.values(i, point, where)
                inside &= (index >= 0) & (index < n)
                place = place * n + index
            if not inside.any():
                continue
            place = place[inside]
            chosen = {a: x[inside] for a, x in point.items()}
            new = np.broadcast_to(self.values(s.value, chosen, where), place.shape)
            if s.combiner is None:
                # of the points that write one element the last one counts
                places, last = np.unique(place[::-1], return_index=True)
                flat[places] = new[::-1][last]
            else:
                fold_groups(s.combiner, [flat], [place], [new], self.widen)
        self.arrays[s.tensor.name] = result

    def _sort(self, s: Sort) -> None:
        x = self.arrays[s.source]
        # numpy sorts the half floats slowly or by their bits; in f32 they keep their order
        keys = x.astype(np.float32) if s.tensors[0].dtype.bits == 16 and s.tensors[0].dtype.is_float else x
        if s.descending:
            # a stable descending sort is the reverse of a stable ascending one of the reversed axis
            flipped = np.argsort(np.flip(keys, s.axis), axis=s.axis, kind="stable")
            places = np.flip(x.shape[s.axis] - 1 - flipped, s.axis)
        else:
            places = np.argsort(keys, axis=s.axis, kind="stable")
        first = (slice(None),) * s.axis + (slice(self.shape(s.tensors[0])[s.axis]),)
        places = np.ascontiguousarray(places[first], np.int64)
        self.arrays[s.tensors[0].name] = np.take_along_axis(x, places, s.axis)
        self.arrays[s.tensors[1].name] = places
