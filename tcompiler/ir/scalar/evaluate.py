"""The meaning of a scalar expression at many points at once, as numpy arrays.

Every node is evaluated once, both sides of a select included; reads go to the nearest place inside their tensor. Where
that was not the place asked for, a second pass finds the points at which the read is chosen by every select around it.
The conditions of these selects have their true values there unless an earlier read was out of range, which is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.scalar import semantics
from tcompiler.ir.scalar.grammar import Binary, Cast, Const, Load, Scalar, Select, Unary, Var, children, postorder
from tcompiler.ir.scalar.interpret import const_value

Array = NDArray[Any]


def evaluate(
    node: Scalar,
    env: Mapping[Var, Any],
    arrays: Mapping[str, Array],
    widen: bool = False,
) -> Array:
    """Evaluates an expression at all points of broadcastable arrays of variables.

    Functions are rounded once from double, as in the interpreter, so the two agree bit for bit (but for the last bit of
    a double where numpy's functions of arrays and of single numbers differ).

    Args:
        node: The expression.
        env: Arrays (or numbers) for its variables.
        arrays: Tensors by name.
        widen: Compute all floats in f64, for references.

    Returns:
        An array of the expression's dtype (f64 for floats if widened) that broadcasts to the points.

    Raises:
        IndexError: If a chosen load is out of range.
    """
    return _Evaluator(node, env, arrays, widen).run()


class _Evaluator:
    def __init__(self, root: Scalar, env: Mapping[Var, Any], arrays: Mapping[str, Array], widen: bool) -> None:
        self._root = root
        self._env = env
        self._arrays = arrays
        self._widen = widen
        self._order = list(postorder(root))
        self._values: dict[Scalar, Array] = {}
        # loads that asked for a place outside, with the dimensions where and the points at which they did
        self._outside: dict[Scalar, list[tuple[int, Array, Array]]] = {}

    def run(self) -> Array:
        values = self._values
        uses: dict[Scalar, int] = {}
        for n in self._order:
            for c in children(n):
                uses[c] = uses.get(c, 0) + 1
            if isinstance(n, Select):
                # the second pass may ask for the condition again
                uses[n.cond] += 1
        uses[self._root] = 1
        for n in self._order:
            values[n] = np.asarray(self._value(n))
            for c in children(n):
                uses[c] -= 1
                if not uses[c]:
                    del values[c]
        if self._outside:
            self._check()
        return values[self._root]

    def _value(self, n: Scalar) -> Array:
        values = self._values
        match n:
            case Const():
                value = np.asarray(const_value(n))
                return value.astype(np.float64) if self._widen and n.dtype.is_float else value
            case Var():
                value = np.asarray(self._env[n])
                if value.dtype == n.dtype.numpy or (self._widen and n.dtype.is_float):
                    return value
                return value.astype(n.dtype.numpy)
            case Unary(op=op, a=a):
                return semantics.unary(op, self._dtype(a), values[a])
            case Cast(dtype=to, a=a):
                if self._widen and to.is_float:
                    return values[a].astype(np.float64)
                return semantics.cast(values[a], self._dtype(a), to)
            case Binary(op=op, a=a, b=b):
                return semantics.binary(op, self._dtype(a), values[a], values[b])
            case Select(cond=c, a=a, b=b):
                return np.where(values[c], values[a], values[b])
            case Load():
                return self._load(n)
        raise TypeError(f"not a scalar: {type(n).__name__}")

    def _dtype(self, n: Scalar) -> DType:
        return dt.f64 if self._widen and n.dtype.is_float else n.dtype

    def _load(self, n: Load) -> Array:
        array = self._arrays[n.buffer]
        places = []
        for k, index in enumerate(n.indices):
            i = self._values[index]
            extent = array.shape[k]
            outside = (i < 0) | (i >= extent)
            if outside.any():
                self._outside.setdefault(n, []).append((k, i, outside))
                i = np.clip(i, 0, max(extent - 1, 0))
            places.append(i)
        if array.size:
            value = np.asarray(array[tuple(places)])
        else:
            value = np.zeros(np.broadcast_shapes(*(p.shape for p in places)), array.dtype)
        return value.astype(np.float64) if self._widen and n.dtype.is_float else value

    def _check(self) -> None:
        """Refuses reads that are outside at a point where they are chosen."""
        suspect: set[Scalar] = set()
        for n in self._order:
            if n in self._outside or any(c in suspect for c in children(n)):
                suspect.add(n)
        # where each node is chosen, by any of its users; None: everywhere
        chosen: dict[Scalar, Array | None] = {self._root: None}
        for n in reversed(self._order):
            if n not in suspect:
                continue
            here = chosen[n]
            if isinstance(n, Select):
                holds = self._values[n.cond]
                _join(chosen, n.cond, here)
                _join(chosen, n.a, holds if here is None else here & holds)
                _join(chosen, n.b, ~holds if here is None else here & ~holds)
            else:
                for c in children(n):
                    _join(chosen, c, here)
        for n, places in self._outside.items():
            here = chosen[n]
            for k, i, outside in places:
                bad = outside if here is None else outside & here
                if bad.any():
                    assert isinstance(n, Load)
                    place = int(np.broadcast_to(i, bad.shape)[bad].flat[0])
                    extent = self._arrays[n.buffer].shape[k]
                    raise IndexError(f"index {place} of {n.buffer} is out of range in dimension {k} of extent {extent}")


def _join(chosen: dict[Scalar, Array | None], node: Scalar, where: Array | None) -> None:
    known = chosen.get(node, where)
    chosen[node] = None if known is None or where is None else known | where
