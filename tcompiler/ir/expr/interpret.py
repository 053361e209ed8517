"""The meaning of an expr program, point by point: slow and obvious."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, assert_never

import numpy as np

from tcompiler.errors import VerifyError
from tcompiler.ir.expr.arguments import Array, arguments, parameters, shape_of
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor
from tcompiler.ir.scalar.grammar import Reducer, Scalar, Var
from tcompiler.ir.scalar.interpret import const_value
from tcompiler.ir.scalar.interpret import interpret as scalar_value


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
        ArgumentError: If the inputs or parameters are not those of the program.
        VerifyError: If a read is outside its tensor.
    """
    env = parameters(program, params or {})
    run = _Run(env, arguments(program, inputs, env, widen=False))
    run.scopes(program.scopes)
    return {name: run.arrays[name] for name in program.outputs}


class _Run:
    def __init__(self, env: dict[Var, Any], arrays: dict[str, Array]) -> None:
        self.env = env
        self.arrays = arrays

    def shape(self, t: Tensor) -> tuple[int, ...]:
        return shape_of(t.shape, self.env)

    def value(self, node: Scalar, point: Mapping[Var, Any], where: str) -> Any:
        def read(name: str, at: tuple[int, ...]) -> Any:
            array = self.arrays[name]
            if not _inside(at, array.shape):
                index = ", ".join(map(str, at)) or "()"
                raise VerifyError(f"reads {name}[{index}], outside its shape {list(array.shape)}", where)
            return array[at]

        return scalar_value(node, {**self.env, **point}, read)

    def points(self, axes: Sequence[Var]) -> Iterator[dict[Var, int]]:
        extents = shape_of([a.extent for a in axes if a.extent is not None], self.env)
        for at in product(*map(range, extents)):
            yield dict(zip(axes, at, strict=True))

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
        results = [np.empty(self.shape(t), t.dtype.numpy) for t in s.tensors]
        for point in self.points(s.axes):
            if s.reducer is None:
                values = [self.value(v, point, where) for v in s.values]
            else:
                values = [const_value(e) for e in s.reducer.identity]
                for inner in self.points(s.reduce_axes):
                    new = [self.value(v, point | inner, where) for v in s.values]
                    values = self.combined(s.reducer, values, new, where)
            for result, v in zip(results, values, strict=True):
                result[tuple(point.values())] = v
        self.arrays.update(zip((t.name for t in s.tensors), results, strict=True))

    def combined(self, reducer: Reducer, a: Sequence[Any], b: Sequence[Any], where: str) -> list[Any]:
        env = dict(zip((*reducer.lhs, *reducer.rhs), (*a, *b), strict=True))
        return [self.value(c, env, where) for c in reducer.combine]

    def _scan(self, s: Scan) -> None:
        states = [self.arrays[i] for i in s.init]
        stacks: list[list[Array]] = [[] for _ in states]
        for step in self.points((s.axis,)):
            self.env.update(step)
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
        where = s.tensor.name
        result = self.arrays[s.base].copy()
        for point in self.points(s.axes):
            at = tuple(int(self.value(i, point, where)) for i in s.indices)
            if _inside(at, result.shape):
                new = self.value(s.value, point, where)
                result[at] = new if s.combiner is None else self.combined(s.combiner, [result[at]], [new], where)[0]
        self.arrays[s.tensor.name] = result

    def _sort(self, s: Sort) -> None:
        source = self.arrays[s.source]
        values, places = np.empty_like(source), np.empty(source.shape, np.int64)
        count = source.shape[s.axis]
        for at in np.ndindex(*source.shape[: s.axis], 1, *source.shape[s.axis + 1 :]):
            row = (*at[: s.axis], slice(None), *at[s.axis + 1 :])
            line = source[row]
            nans = [k for k in range(count) if line[k] != line[k]]
            numbers = [k for k in range(count) if line[k] == line[k]]
            # reverse=True keeps the order of equal elements
            numbers.sort(key=lambda k, x=line: x[k].item(), reverse=s.descending)  # type: ignore[misc]
            order = nans + numbers if s.descending else numbers + nans
            values[row], places[row] = line[order], order
        first = (slice(None),) * s.axis + (slice(self.shape(s.tensors[0])[s.axis]),)
        self.arrays[s.tensors[0].name], self.arrays[s.tensors[1].name] = values[first], places[first]


def _inside(at: Sequence[int], shape: Sequence[int]) -> bool:
    return all(0 <= i < n for i, n in zip(at, shape, strict=True))
