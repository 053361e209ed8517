"""The meaning of a scalar expression at many points at once, as numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir.scalar import semantics
from tcompiler.ir.scalar.grammar import Binary, Cast, Const, Load, Scalar, Select, Unary, Var, postorder
from tcompiler.ir.scalar.interpret import const_value

Array = NDArray[Any]


def evaluate(
    node: Scalar,
    env: Mapping[Var, Any],
    arrays: Mapping[str, Array],
    widen: bool = False,
) -> Array:
    """Evaluates an expression at all points of broadcastable arrays of variables.

    Both sides of a Select are evaluated; where a side is not chosen its loads read a clamped place, so a guard keeps
    its meaning. Functions are rounded once from double, as in the interpreter, so the two agree bit for bit.

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
    return _Evaluator(env, arrays, widen).run(node)


class _Evaluator:
    def __init__(self, env: Mapping[Var, Any], arrays: Mapping[str, Array], widen: bool) -> None:
        self._env = env
        self._arrays = arrays
        self._widen = widen
        # under a guard the same node may read clamped places, so values are remembered per guard
        self._memo: dict[tuple[Scalar, int], Array] = {}
        self._guards: list[Array | None] = [None]

    def run(self, node: Scalar) -> Array:
        if not any(isinstance(n, (Select, Load)) for n in postorder(node)):
            for n in postorder(node):
                self._value(n)
            return self._memo[node, 0]
        return self._deep(node, 0)

    def _deep(self, node: Scalar, guard: int) -> Array:
        """Evaluates under a guard with an explicit stack; selects open guards of their own."""
        stack: list[tuple[Scalar, bool]] = [(node, False)]
        while stack:
            n, ready = stack.pop()
            if (n, guard) in self._memo:
                continue
            if isinstance(n, Select):
                self._select(n, guard)
            elif ready:
                self._value(n, guard)
            else:
                stack.append((n, True))
                stack.extend((c, False) for c in _operands(n))
        return self._memo[node, guard]

    def _select(self, n: Select, guard: int) -> None:
        cond = self._deep(n.cond, guard)
        outer = self._guards[guard]
        sides = []
        for side, holds in ((n.a, cond), (n.b, np.logical_not(cond))):
            if any(isinstance(x, Load) for x in postorder(side)):
                self._guards.append(holds if outer is None else outer & holds)
                sides.append(self._deep(side, len(self._guards) - 1))
            else:
                sides.append(self._deep(side, guard))
        self._memo[n, guard] = np.where(cond, sides[0], sides[1])

    def _value(self, n: Scalar, guard: int = 0) -> None:
        memo = self._memo
        match n:
            case Const():
                value = np.asarray(const_value(n))
                if self._widen and n.dtype.is_float:
                    value = value.astype(np.float64)
            case Var():
                value = np.asarray(self._env[n])
                if value.dtype != n.dtype.numpy and not (self._widen and n.dtype.is_float):
                    value = value.astype(n.dtype.numpy)
            case Unary(op=op, a=a):
                value = semantics.unary(op, self._dtype(a), memo[a, guard])
            case Cast(dtype=to, a=a):
                value = memo[a, guard]
                if self._widen and to.is_float:
                    value = value.astype(np.float64)
                else:
                    value = semantics.cast(value, self._dtype(a), to)
            case Binary(op=op, a=a, b=b):
                value = semantics.binary(op, self._dtype(a), memo[a, guard], memo[b, guard])
            case Load(buffer=name, indices=indices):
                value = self._load(name, [memo[i, guard] for i in indices], guard)
            case _:
                raise TypeError(f"not a scalar: {type(n).__name__}")
        memo[n, guard] = np.asarray(value)

    def _dtype(self, n: Scalar) -> Any:
        from tcompiler.ir import dtypes as dt

        return dt.f64 if self._widen and n.dtype.is_float else n.dtype

    def _load(self, name: str, at: list[Array], guard: int) -> Array:
        array = self._arrays[name]
        asked = self._guards[guard]
        places = []
        for k, i in enumerate(at):
            extent = array.shape[k]
            inside = (i >= 0) & (i < extent)
            if not inside.all():
                bad = ~inside if asked is None else ~inside & asked
                if bad.any():
                    where = int(np.broadcast_to(i, bad.shape)[bad].flat[0])
                    raise IndexError(f"index {where} of {name} is out of range in dimension {k} of extent {extent}")
                i = np.clip(i, 0, max(extent - 1, 0))
            places.append(i)
        if array.size == 0:
            shape = np.broadcast_shapes(*(p.shape for p in places), () if asked is None else asked.shape)
            return np.zeros(shape, array.dtype)
        value = np.asarray(array[tuple(places)])
        return value.astype(np.float64) if self._widen and value.dtype.kind == "f" else value


def _operands(n: Scalar) -> tuple[Scalar, ...]:
    match n:
        case Unary(a=a) | Cast(a=a):
            return (a,)
        case Binary(a=a, b=b):
            return (a, b)
        case Load(indices=indices):
            return indices
    return ()
