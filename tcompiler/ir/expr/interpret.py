"""The meaning of an expr program, point by point: slow and obvious."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import UserError
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor
from tcompiler.ir.scalar.grammar import Reducer, Scalar, Var
from tcompiler.ir.scalar.interpret import const_value
from tcompiler.ir.scalar.interpret import interpret as scalar_value

Array = NDArray[Any]


def interpret(
    program: Program, inputs: Mapping[str, Array], params: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """Evaluates a program.

    Args:
        program: A verified program.
        inputs: Arrays of the declared dtypes and shapes, by name.
        params: Values of the program's parameters, by name.

    Returns:
        The outputs by name.

    Raises:
        UserError: If an input is missing or of another shape, or a read is out of range.
    """
    run = _Run({p: (params or {})[p.name] for p in program.params})
    for t in program.inputs:
        if t.name not in inputs:
            raise UserError(f"{program.name}: input {t.name} is missing")
        array = np.asarray(inputs[t.name])
        if array.shape != run.shape(t):
            raise UserError(f"{program.name}: input {t.name} has shape {array.shape}, expected {run.shape(t)}")
        run.arrays[t.name] = array
    run.scopes(program.scopes)
    return {name: run.arrays[name] for name in program.outputs}


class _Run:
    def __init__(self, env: dict[Var, Any]) -> None:
        self.env = env
        self.arrays: dict[str, Array] = {}

    def extent(self, node: Scalar | None) -> int:
        assert node is not None
        return int(scalar_value(node, self.env, self.read))

    def shape(self, t: Tensor) -> tuple[int, ...]:
        return tuple(self.extent(e) for e in t.shape)

    def read(self, name: str, at: tuple[int, ...]) -> Any:
        array = self.arrays[name]
        if any(not 0 <= i < n for i, n in zip(at, array.shape, strict=True)):
            raise UserError(f"a read of {name} at {list(at)} is outside its shape {list(array.shape)}")
        return array[at]

    def value(self, node: Scalar, point: Mapping[Var, Any]) -> Any:
        return scalar_value(node, {**self.env, **point}, self.read)

    def points(self, axes: Sequence[Var]) -> Iterator[tuple[int, ...]]:
        return product(*(range(self.extent(a.extent)) for a in axes))

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
        results = [np.empty(self.shape(t), t.dtype.numpy) for t in s.tensors]
        for at in self.points(s.axes):
            point = dict(zip(s.axes, at, strict=True))
            if s.reducer is None:
                values = [self.value(v, point) for v in s.values]
            else:
                values = [const_value(e) for e in s.reducer.identity]
                for inner in self.points(s.reduce_axes):
                    here = point | dict(zip(s.reduce_axes, inner, strict=True))
                    values = self.combined(s.reducer, values, [self.value(v, here) for v in s.values])
            for result, v in zip(results, values, strict=True):
                result[at] = v
        self.arrays.update(zip((t.name for t in s.tensors), results, strict=True))

    def combined(self, reducer: Reducer, a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
        env = dict(zip((*reducer.lhs, *reducer.rhs), (*a, *b), strict=True))
        return [self.value(c, env) for c in reducer.combine]

    def _scan(self, s: Scan) -> None:
        states = [self.arrays[i] for i in s.init]
        stacks: list[list[Array]] = [[] for _ in states]
        for step in range(self.extent(s.axis.extent)):
            self.env[s.axis] = step
            self.arrays.update(zip((x.name for x in s.states), states, strict=True))
            self.scopes(s.scopes)
            states = [self.arrays[r] for r in s.results]
            for stack, x in zip(stacks, states, strict=True):
                stack.append(x)
        self.env.pop(s.axis, None)
        for t, stack, x, whole in zip(s.tensors, stacks, states, s.collect, strict=True):
            if whole:
                empty = np.empty(self.shape(t), t.dtype.numpy)
                self.arrays[t.name] = np.stack(stack) if stack else empty
            else:
                self.arrays[t.name] = x

    def _scatter(self, s: Scatter) -> None:
        result = self.arrays[s.base].copy()
        for at in self.points(s.axes):
            point = dict(zip(s.axes, at, strict=True))
            where = tuple(int(self.value(i, point)) for i in s.indices)
            if any(not 0 <= i < n for i, n in zip(where, result.shape, strict=True)):
                continue
            new = self.value(s.value, point)
            result[where] = new if s.combiner is None else self.combined(s.combiner, [result[where]], [new])[0]
        self.arrays[s.tensor.name] = result

    def _sort(self, s: Sort) -> None:
        values, places = sorted_with_places(self.arrays[s.source], s.axis, s.descending)
        self.arrays[s.tensors[0].name], self.arrays[s.tensors[1].name] = values, places


def sorted_with_places(x: Array, axis: int, descending: bool) -> tuple[Array, Array]:
    """A stable sort along an axis, NaN as the largest value, with the places that the elements came from."""
    if descending:
        # a stable descending sort is the reverse of a stable ascending sort of the reversed axis
        flipped = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
        places = np.flip(x.shape[axis] - 1 - flipped, axis)
    else:
        places = np.argsort(x, axis=axis, kind="stable")
    places = np.ascontiguousarray(places).astype(np.int64)
    return np.take_along_axis(x, places, axis), places
