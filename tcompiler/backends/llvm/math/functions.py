"""The table of vector functions. To add one: write it with the emitter, and give it a row in `FUNCTIONS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType

from tcompiler.backends.llvm.math import (
    error_function,
    exponential,
    hyperbolic,
    inverse,
    logarithm,
    power,
    trigonometric,
)
from tcompiler.backends.llvm.math.emit import FLOATS, Emitter, Value, type_suffix
from tcompiler.errors import InternalError

Implementation = Callable[..., Value]


@dataclass(frozen=True, slots=True)
class Function:
    """A row of the table.

    Args:
        arity: How many arguments.
        implementations: By dtype: takes an `Emitter` and the arguments, returns the result.
        ulp: By dtype: the greatest error, in units in the last place of the exact result.
        highest: By dtype: the greatest argument that it is made for, where there is one.
    """

    arity: int
    implementations: Mapping[str, Implementation]
    ulp: Mapping[str, float]
    highest: Mapping[str, float]


def _row(
    implementation: Implementation,
    f32: float,
    f64: float,
    arity: int = 1,
    f64_implementation: Implementation | None = None,
    highest: Mapping[str, float] = MappingProxyType({}),
) -> Function:
    return Function(
        arity,
        MappingProxyType({"f32": implementation, "f64": f64_implementation or implementation}),
        MappingProxyType({"f32": f32, "f64": f64}),
        highest,
    )


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        # name: implementation, greatest error in ulp of f32 and of f64
        "exp": _row(exponential.exp, 1.0, 1.25),
        "exp_below": _row(exponential.exp_below, 1.0, 1.25, highest=MappingProxyType(exponential.BELOW)),
        "exp2": _row(exponential.exp2, 1.0, 1.0),
        "expm1": _row(exponential.expm1, 2.0, 2.0),
        "sigmoid": _row(exponential.sigmoid, 2.5, 2.5),
        "log": _row(logarithm.log, 1.0, 1.0),
        "log2": _row(logarithm.log2, 1.25, 1.0),
        "log1p": _row(logarithm.log1p, 1.25, 1.0),
        "erf": _row(error_function.erf, 1.0, 1.25),
        "tanh": _row(hyperbolic.tanh, 1.0, 1.25),
        "sinh": _row(hyperbolic.sinh, 2.0, 2.0),
        "cosh": _row(hyperbolic.cosh, 2.0, 2.0),
        "asinh": _row(hyperbolic.asinh, 3.0, 3.0),
        "acosh": _row(hyperbolic.acosh, 3.0, 3.0),
        "atanh": _row(hyperbolic.atanh, 3.0, 3.0),
        "sin": _row(trigonometric.sin, 2.0, 2.0),
        "cos": _row(trigonometric.cos, 2.0, 2.0),
        "tan": _row(trigonometric.tan, 3.5, 3.0),
        "asin": _row(inverse.asin, 2.0, 2.0),
        "acos": _row(inverse.acos, 2.0, 2.0),
        "atan": _row(inverse.atan, 2.0, 2.0),
        "atan2": _row(inverse.atan2, 2.5, 2.5, arity=2),
        "pow": _row(power.pow_f32, 1.0, 1.5, arity=2, f64_implementation=power.pow_f64),
    }
)


@dataclass(frozen=True, slots=True)
class MathFunction:
    """A vector function as LLVM IR.

    Args:
        symbol: Its name, without the sigil.
        ir: Its definition: internal, always inlined, without side effects.
        declarations: What else the module must hold, each text once: declarations of intrinsics and, for some
            functions, shared helpers. Equal texts stand for equal symbols.
        ulp_bound: The greatest error in units in the last place of the exact result.
    """

    symbol: str
    ir: str
    declarations: tuple[str, ...]
    ulp_bound: float


def _find(name: str, dtype: str) -> Function:
    function = FUNCTIONS.get(name)
    if function is None:
        close = get_close_matches(name, FUNCTIONS, 1)
        hint = f"; the nearest is {close[0]}" if close else ""
        raise InternalError(f"no vector function {name}: there are {', '.join(FUNCTIONS)}{hint}")
    if dtype not in function.implementations:
        raise InternalError(f"vector function {name} has no {dtype}: there are {', '.join(function.implementations)}")
    return function


@cache
def definition(name: str, dtype: str, lanes: int, fma: bool = True) -> MathFunction:
    """The IR of a vector function.

    Args:
        name: A key of `FUNCTIONS`.
        dtype: "f32" or "f64", of the arguments and the result.
        lanes: Lanes of the vectors; 1 for scalars.
        fma: Whether the target has fused multiply-add (without it the same bounds hold, more slowly).

    Returns:
        The definition and what it needs.

    Raises:
        InternalError: There is no such function, or not for that dtype.
    """
    function = _find(name, dtype)
    e = Emitter(lanes, fma)
    element = FLOATS[dtype]
    parameters = [e.parameter(p, element) for p in ("x", "y")[: function.arity]]
    result = function.implementations[dtype](e, *parameters)
    symbol = f"tc.{name}.{type_suffix(element, lanes)}"
    signature = ", ".join(f"{p.type} {p.name}" for p in parameters)
    body = "\n".join(e.lines)
    ir = (
        f"define internal {result.type} @{symbol}({signature}) alwaysinline nounwind willreturn memory(none) {{\n"
        f"entry:\n{body}\n  ret {result.type} {result.name}\n}}\n"
    )
    return MathFunction(symbol, ir, tuple(sorted(e.declarations)), function.ulp[dtype])


def ulp_bound(name: str, dtype: str) -> float:
    """The greatest error of a vector function, in units in the last place of the exact result.

    Raises:
        InternalError: There is no such function, or not for that dtype.
    """
    return _find(name, dtype).ulp[dtype]
