"""The meaning of a scalar expression at one point: slow and obvious."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, assert_never

import numpy as np

from tcompiler.ir.dtypes import DType
from tcompiler.ir.scalar import semantics
from tcompiler.ir.scalar.grammar import Binary, Cast, Const, Load, Scalar, Select, Unary, Var

Value = Any
"""A numpy scalar of the expression's dtype."""


def interpret(node: Scalar, env: Mapping[Var, Value], read: Callable[[str, tuple[int, ...]], Value]) -> Value:
    """Evaluates an expression at one point.

    Args:
        node: The expression.
        env: Values of its variables.
        read: Gives the element of a named tensor at an index; it checks the index.

    Returns:
        A numpy scalar of the expression's dtype.

    Raises:
        KeyError: If a variable has no value.
    """
    if isinstance(node, Var):  # most are, in a program
        return _of(node.dtype, env[node])
    # an explicit stack: each entry is a node to visit, or what to do with the operands computed so far
    done: list[Value] = []
    todo: list[tuple[str, Scalar]] = [("visit", node)]
    while todo:
        action, n = todo.pop()
        if action == "visit":
            match n:
                case Const():
                    done.append(const_value(n))
                case Var():
                    done.append(_of(n.dtype, env[n]))
                case Unary(a=a) | Cast(a=a):
                    todo += [("apply", n), ("visit", a)]
                case Binary(a=a, b=b):
                    todo += [("apply", n), ("visit", b), ("visit", a)]
                case Select(cond=cond):
                    todo += [("choose", n), ("visit", cond)]
                case Load(indices=indices):
                    todo.append(("apply", n))
                    todo.extend(("visit", i) for i in reversed(indices))
                case _:
                    raise TypeError(f"not a scalar: {type(n).__name__}")
        elif action == "choose":
            assert isinstance(n, Select)
            todo.append(("visit", n.a if done.pop() else n.b))
        else:
            _apply(n, done, read)
    return done[0]


def _apply(n: Scalar, done: list[Value], read: Callable[[str, tuple[int, ...]], Value]) -> None:
    match n:
        case Unary(op=op, a=a):
            done.append(_scalar(semantics.unary(op, a.dtype, np.asarray(done.pop())), n))
        case Cast(dtype=to, a=a):
            done.append(_scalar(semantics.cast(np.asarray(done.pop()), a.dtype, to), n))
        case Binary(op=op, a=a):
            y, x = np.asarray(done.pop()), np.asarray(done.pop())
            done.append(_scalar(semantics.binary(op, a.dtype, x, y), n))
        case Load(buffer=name, indices=indices):
            at = done[len(done) - len(indices) :]
            del done[len(done) - len(indices) :]
            done.append(_of(n.dtype, read(name, tuple(int(i) for i in at))))
        case Const() | Var() | Select():
            raise TypeError("leaves and selects are not applied")
        case _:
            assert_never(n)  # type: ignore[arg-type]


def _scalar(x: Any, n: Scalar) -> Value:
    return x if type(x) is n.dtype.numpy.type else np.asarray(x).astype(n.dtype.numpy)[()]


def _of(dtype: DType, x: Any) -> Value:
    of = dtype.numpy.type
    return x if type(x) is of else of(x)


def const_value(node: Const) -> Value:
    """A constant as a numpy scalar, bit for bit."""
    return _from_bits(node.bits, node.dtype)


@lru_cache(4096)
def _from_bits(bits: int, dtype: DType) -> Value:
    return np.frombuffer(bits.to_bytes(dtype.bytes, "little"), dtype=dtype.numpy)[0]
