"""The meaning of an expr program as numpy operations on whole tensors.

Sums of products of two affine reads become a matrix product over strided windows; everything else is evaluated over
grids of indices, in pieces of bounded size. Agrees with the interpreter: exactly, but for the rounding of float sums,
whose order the language leaves open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from tcompiler.errors import UserError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor
from tcompiler.ir.expr.interpret import sorted_with_places
from tcompiler.ir.scalar.canonical import linear
from tcompiler.ir.scalar.evaluate import evaluate as scalar_values
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Var
from tcompiler.ir.scalar.interpret import const_value
from tcompiler.ir.scalar.reducers import reducer_name

Array = NDArray[Any]

GRID = 1 << 22
"""Points that are evaluated at once."""
_UFUNCS: dict[str, np.ufunc] = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "any": np.logical_or,
    "all": np.logical_and,
}


def evaluate(
    program: Program,
    inputs: Mapping[str, Array],
    params: Mapping[str, int] | None = None,
    widen: bool = False,
) -> dict[str, Array]:
    """Evaluates a program.

    Args:
        program: A verified program.
        inputs: Arrays of the declared dtypes and shapes, by name.
        params: Values of the program's parameters, by name.
        widen: Compute all floats in f64: the reference for accuracy.

    Returns:
        The outputs by name; floats are f64 if widened.

    Raises:
        UserError: If an input is missing or of another shape, or a read is out of range.
    """
    run = _Run({p: (params or {})[p.name] for p in program.params}, widen)
    for t in program.inputs:
        if t.name not in inputs:
            raise UserError(f"{program.name}: input {t.name} is missing")
        array = np.asarray(inputs[t.name])
        if array.shape != run.shape(t):
            raise UserError(f"{program.name}: input {t.name} has shape {array.shape}, expected {run.shape(t)}")
        run.arrays[t.name] = array.astype(run.numpy(t.dtype), copy=False)
    run.scopes(program.scopes)
    return {name: run.arrays[name] for name in program.outputs}


class _Run:
    def __init__(self, env: dict[Var, Any], widen: bool) -> None:
        self.env = env
        self.widen = widen
        self.arrays: dict[str, Array] = {}

    def numpy(self, dtype: DType) -> np.dtype[Any]:
        return np.dtype(np.float64) if self.widen and dtype.is_float else dtype.numpy

    def extent(self, node: Scalar | None) -> int:
        assert node is not None
        return int(scalar_values(node, self.env, {}))

    def extents(self, axes: Sequence[Var]) -> tuple[int, ...]:
        return tuple(self.extent(a.extent) for a in axes)

    def shape(self, t: Tensor) -> tuple[int, ...]:
        return tuple(self.extent(e) for e in t.shape)

    def values(self, node: Scalar, point: Mapping[Var, Any]) -> Array:
        try:
            return scalar_values(node, {**self.env, **point}, self.arrays, self.widen)
        except IndexError as error:
            raise UserError(f"a read is outside its tensor: {error}") from None

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
                    first, second = s.tensors
                    self.arrays[first.name], self.arrays[second.name] = sorted_with_places(
                        self.arrays[s.source], s.axis, s.descending
                    )
                case _:
                    assert_never(s)

    # -- compute ---------------------------------------------------------------------------------------------------

    def _compute(self, s: Compute) -> None:
        if s.reducer is not None and reducer_name(s.reducer) == "sum" and len(s.values) == 1:
            product = self._product(s)
            if product is not None:
                self.arrays[s.tensors[0].name] = product
                return
        shape = self.extents(s.axes)
        results = [np.empty(shape, self.numpy(t.dtype)) for t in s.tensors]
        over = self.extents(s.reduce_axes)
        inner = int(np.prod(over, dtype=np.int64)) if over else 1
        if 0 not in shape:
            for piece in _pieces(shape, max(1, GRID // max(1, min(inner, GRID)))):
                point = self._grid(s.axes, piece, len(over))
                sizes = tuple(b - a for a, b in piece)
                computed = self._piece(s, point, sizes, over)
                for result, value in zip(results, computed, strict=True):
                    result[tuple(slice(a, b) for a, b in piece)] = value
        self.arrays.update(zip((t.name for t in s.tensors), results, strict=True))

    def _grid(self, axes: Sequence[Var], piece: Sequence[tuple[int, int]], behind: int) -> dict[Var, Array]:
        rank = len(axes) + behind
        return {
            a: np.arange(lo, hi, dtype=np.int64).reshape([-1 if j == k else 1 for j in range(rank)])
            for k, (a, (lo, hi)) in enumerate(zip(axes, piece, strict=True))
        }

    def _piece(self, s: Compute, point: dict[Var, Array], sizes: tuple[int, ...], over: tuple[int, ...]) -> list[Array]:
        if s.reducer is None:
            return [np.broadcast_to(self.values(v, point), sizes) for v in s.values]
        name = reducer_name(s.reducer)
        identity = [np.asarray(const_value(e)).astype(self.numpy(e.dtype)) for e in s.reducer.identity]
        results = [np.broadcast_to(e, sizes).copy() for e in identity]
        if 0 in over:
            return results
        count = int(np.prod(sizes, dtype=np.int64))
        fast = name in _UFUNCS
        for part in _pieces(over, max(1, GRID // max(1, count)) if fast else 1):
            inner = {
                a: np.arange(lo, hi, dtype=np.int64).reshape(
                    [-1 if j == len(sizes) + k else 1 for j in range(len(sizes) + len(over))]
                )
                for k, (a, (lo, hi)) in enumerate(zip(s.reduce_axes, part, strict=True))
            }
            box = tuple(b - a for a, b in part)
            values = [np.broadcast_to(self.values(v, {**point, **inner}), (*sizes, *box)) for v in s.values]
            if fast and name is not None:
                axes = tuple(range(len(sizes), len(sizes) + len(box)))
                ufunc = _UFUNCS[name]
                with np.errstate(all="ignore"):
                    reduced = ufunc.reduce(values[0], axis=axes, dtype=values[0].dtype)
                    results[0] = ufunc(results[0], reduced).astype(results[0].dtype, copy=False)
            else:
                squeezed = [v.reshape(sizes) for v in values]
                env = dict(zip((*s.reducer.lhs, *s.reducer.rhs), (*results, *squeezed), strict=True))
                results = [np.broadcast_to(self.values(c, env), sizes).copy() for c in s.reducer.combine]
        return results

    # -- sums of products ------------------------------------------------------------------------------------------

    def _product(self, s: Compute) -> Array | None:
        """A sum of a product of two affine reads, as an einsum over strided windows; None where it is none."""
        value = s.values[0]
        if not (isinstance(value, Binary) and value.op == "mul" and value.dtype in (dt.f32, dt.f64)):
            return None
        if not (isinstance(value.a, Load) and isinstance(value.b, Load)):
            return None
        axes = (*s.axes, *s.reduce_axes)
        sizes = self.extents(axes)
        if 0 in sizes:
            return None
        first, second = self._window(value.a, axes, sizes), self._window(value.b, axes, sizes)
        if first is None or second is None:
            return None
        output = list(range(len(s.axes)))
        missing = [k for k in output if k not in first[1] and k not in second[1]]
        if missing:
            return None
        unread = [k for k in range(len(s.axes), len(axes)) if k not in first[1] and k not in second[1]]
        with np.errstate(all="ignore"):
            result = np.einsum(first[0], first[1], second[0], second[1], output, optimize=True)
            for k in unread:
                result = result * result.dtype.type(sizes[k])
        # not ascontiguousarray: it would give a result of rank 0 an axis
        return np.asarray(result, dtype=self.numpy(s.tensors[0].dtype), order="C")

    def _window(self, load: Load, axes: Sequence[Var], sizes: Sequence[int]) -> tuple[Array, list[int]] | None:
        """A read as a strided view with one dimension per axis that it depends on."""
        array = self.arrays[load.buffer]
        strides: dict[int, int] = {}
        offset = 0
        position = {a: k for k, a in enumerate(axes)}
        for i, (node, extent) in enumerate(zip(load.indices, array.shape, strict=True)):
            form = linear(node)
            low = high = form.const
            for atom, c in form.terms.items():
                k = position.get(atom) if isinstance(atom, Var) else None
                if k is None:
                    return None
                strides[k] = strides.get(k, 0) + c * array.strides[i]
                reach = c * (sizes[k] - 1)
                low, high = low + min(reach, 0), high + max(reach, 0)
            if low < 0 or high >= extent:
                return None
            offset += form.const * array.strides[i]
        used = sorted(strides)
        if offset % array.itemsize:
            return None
        flat = as_strided(array, (array.size,), (array.itemsize,)) if array.flags.c_contiguous else None
        if flat is None:
            return None
        view = as_strided(flat[offset // array.itemsize :], [sizes[k] for k in used], [strides[k] for k in used])
        return view, used

    # -- scan and scatter ------------------------------------------------------------------------------------------

    def _scan(self, s: Scan) -> None:
        states = [self.arrays[i] for i in s.init]
        stacks: list[list[Array]] = [[] for _ in states]
        for t in range(self.extent(s.axis.extent)):
            self.env[s.axis] = np.int64(t)
            self.arrays.update(zip((x.name for x in s.states), states, strict=True))
            self.scopes(s.scopes)
            states = [self.arrays[r] for r in s.results]
            for stack, x in zip(stacks, states, strict=True):
                stack.append(x)
        self.env.pop(s.axis, None)
        for tensor, stack, x, whole in zip(s.tensors, stacks, states, s.collect, strict=True):
            if whole:
                empty = np.empty(self.shape(tensor), self.numpy(tensor.dtype))
                self.arrays[tensor.name] = np.stack(stack) if stack else empty
            else:
                self.arrays[tensor.name] = x

    def _scatter(self, s: Scatter) -> None:
        result = self.arrays[s.base].copy()
        sizes = self.extents(s.axes)
        point = self._grid(s.axes, [(0, n) for n in sizes], 0)
        where = [np.broadcast_to(self.values(i, point), sizes).reshape(-1) for i in s.indices]
        new = np.broadcast_to(self.values(s.value, point), sizes).reshape(-1)
        inside = np.ones(new.shape, bool)
        for i, n in zip(where, result.shape, strict=True):
            inside &= (i >= 0) & (i < n)
        at = tuple(i[inside] for i in where)
        new = new[inside]
        if s.combiner is None:
            for k in range(len(new)):  # in order: the last write wins
                result[tuple(i[k] for i in at)] = new[k]
        elif (name := reducer_name(s.combiner)) in _UFUNCS and name is not None:
            with np.errstate(all="ignore"):
                _UFUNCS[name].at(result, at, new)
        else:
            for k in range(len(new)):
                place = tuple(i[k] for i in at)
                env = dict(zip((*s.combiner.lhs, *s.combiner.rhs), (result[place], new[k]), strict=True))
                result[place] = self.values(s.combiner.combine[0], env)
        self.arrays[s.tensor.name] = result


def _pieces(shape: Sequence[int], limit: int) -> list[tuple[tuple[int, int], ...]]:
    """Boxes that cover a shape with about `limit` points each, cut along the leading axes."""
    boxes: list[tuple[tuple[int, int], ...]] = [()]
    rest = int(np.prod(shape, dtype=np.int64)) if len(shape) else 1
    for n in shape:
        rest //= max(n, 1)
        step = max(1, min(n, limit // max(rest, 1)))
        boxes = [(*b, (lo, min(lo + step, n))) for b in boxes for lo in range(0, n, step)]
    return boxes
