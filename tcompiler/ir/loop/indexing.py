"""Index expressions as Python functions of numpy arrays: the evaluator evaluates the same few at every tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.memory import Array
from tcompiler.ir.scalar.evaluate import evaluate as scalar_values
from tcompiler.ir.scalar.grammar import Binary, Const, Scalar, Var, postorder

_SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "floordiv": "//",
    "floormod": "%",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
    "and": "&",
    "or": "|",
}
_LONGEST = 1000


def values(node: Scalar, env: Mapping[Var, Any], arrays: Mapping[str, Array]) -> Any:
    """The values of a scalar at all points of broadcastable arrays of variables, as `scalar.evaluate` gives them."""
    if type(node) is Var:
        return env[node]
    found = _compiled(node)
    if found is None:
        return scalar_values(node, env, arrays)
    variables, function = found
    return function(*[env[v] for v in variables])


@lru_cache(maxsize=1 << 14)
def _compiled(node: Scalar) -> tuple[tuple[Var, ...], Callable[..., Any]] | None:
    """Arithmetic of i64 variables and constants as a function; None for anything else or longer."""
    text: dict[Scalar, str] = {}
    variables: list[Var] = []
    for n in postorder(node):
        match n:
            case Const(dtype=dt.i64):
                text[n] = f"({n.value})"
            case Const(dtype=dt.bool_):
                text[n] = f"np.bool_({n.value})"
            case Const() if n is node:
                pass
            case Var(dtype=dt.i64):
                text[n] = f"a{len(variables)}"
                variables.append(n)
            case Binary(op=op, a=a, b=b) if op in _SIGNS and (a.dtype is dt.i64 or op in ("and", "or")):
                # numpy divides by zero otherwise than the language does
                if op in ("floordiv", "floormod") and not (isinstance(b, Const) and int(b.value) > 0):
                    return None
                text[n] = f"({text[a]} {_SIGNS[op]} {text[b]})"
            case Binary(op="min" | "max" as op, a=a, b=b) if a.dtype is dt.i64:
                text[n] = f"np.{op}imum({text[a]}, {text[b]})"
            case _:
                return None
        if len(text.get(n, "")) > _LONGEST:
            return None
    if not variables:
        # a constant keeps its dtype, which a Python number would not
        constant = scalar_values(node, {}, {})
        return (), lambda: constant
    arguments = ", ".join(f"a{k}" for k in range(len(variables)))
    return tuple(variables), eval(f"lambda {arguments}: {text[node]}", {"np": np})
