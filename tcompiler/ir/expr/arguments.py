"""What a program is called with, checked: parameters and input arrays, for the interpreter and the evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import ArgumentError
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.scalar.grammar import Scalar, Var
from tcompiler.ir.scalar.interpret import interpret as scalar_value

Array = NDArray[Any]


def parameters(program: Program, params: Mapping[str, int]) -> dict[Var, Any]:
    """The values of a program's parameters as an environment.

    Raises:
        ArgumentError: If one is missing, unknown or negative.
    """
    expected = [p.name for p in program.params]
    for name in params:
        if name not in expected:
            raise ArgumentError(f"{program.name} has no parameter {name!r}; it has {', '.join(expected) or 'none'}")
    env: dict[Var, Any] = {}
    for p in program.params:
        if p.name not in params:
            raise ArgumentError(f"{program.name} needs a value for its parameter {p.name!r}")
        if params[p.name] < 0:
            raise ArgumentError(f"parameter {p.name!r} of {program.name} is {params[p.name]}; it is at least 0")
        env[p] = np.int64(params[p.name])
    return env


def shape_of(extents: Sequence[Scalar], env: Mapping[Var, Any]) -> tuple[int, ...]:
    """Extents as integers."""
    return tuple(int(scalar_value(e, env, _no_load)) for e in extents)


def _no_load(name: str, _indices: tuple[int, ...]) -> Any:
    raise ArgumentError(f"an extent reads {name}; extents are over parameters")


def arguments(program: Program, inputs: Mapping[str, Array], env: Mapping[Var, Any], widen: bool) -> dict[str, Array]:
    """The input arrays by name.

    Args:
        program: The program.
        inputs: Arrays of the declared shapes and dtypes; if widened, floats may be f64 instead.
        env: Values of the parameters.
        widen: Whether floats are converted to f64.

    Raises:
        ArgumentError: If an input is missing, unknown, or of another shape or dtype.
    """
    expected = [t.name for t in program.inputs]
    for name in inputs:
        if name not in expected:
            raise ArgumentError(f"{program.name} has no input {name!r}; it has {', '.join(expected) or 'none'}")
    arrays: dict[str, Array] = {}
    for t in program.inputs:
        if t.name not in inputs:
            raise ArgumentError(f"{program.name} needs its input {t.name!r}")
        array = np.asarray(inputs[t.name])
        shape = shape_of(t.shape, env)
        wide = widen and t.dtype.is_float
        if array.shape != shape or not (array.dtype == t.dtype.numpy or (wide and array.dtype == np.float64)):
            raise ArgumentError(
                f"input {t.name!r} of {program.name} is {t.dtype.name}{list(shape)}, "
                f"not {array.dtype.name}{list(array.shape)}"
            )
        arrays[t.name] = array.astype(np.float64, copy=False) if wide else array
    return arrays
