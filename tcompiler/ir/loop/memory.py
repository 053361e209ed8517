"""Buffers at run time, for the interpreter and the evaluator: checked arguments, undefined elements, intrinsics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import ArgumentError
from tcompiler.ir.dtypes import DType
from tcompiler.ir.loop.grammar import Buffer, Function
from tcompiler.ir.scalar.grammar import Scalar, Var
from tcompiler.ir.scalar.interpret import interpret as scalar_value
from tcompiler.ir.scalar.reducers import largest

Array = NDArray[Any]

IntrinsicMeaning = Callable[[Sequence[Array], Sequence[Array], Sequence[Any]], None]
"""What an intrinsic does: given the written and the read regions as views, and its arguments, it fills the former."""


def parameters(function: Function, params: Mapping[str, int]) -> dict[Var, Any]:
    """The values of a function's parameters as an environment.

    Raises:
        ArgumentError: If one is missing, unknown or negative.
    """
    expected = {p.name for p in function.params}
    for name in params:
        if name not in expected:
            raise ArgumentError(f"{function.name} has no parameter {name!r}; it has {_listed(expected)}")
    env: dict[Var, Any] = {}
    for p in function.params:
        if p.name not in params:
            raise ArgumentError(f"{function.name} needs a value for its parameter {p.name!r}")
        if params[p.name] < 0:
            raise ArgumentError(f"parameter {p.name!r} of {function.name} is {params[p.name]}; it is at least 0")
        env[p] = np.int64(params[p.name])
    return env


def shape_of(extents: Sequence[Scalar], env: Mapping[Var, Any]) -> tuple[int, ...]:
    """Extents as integers."""
    return tuple(int(scalar_value(e, env, _no_load)) for e in extents)


def _no_load(buffer: str, _indices: tuple[int, ...]) -> Any:
    raise ArgumentError(f"an extent reads {buffer}; extents are over parameters")


def poison(dtype: DType, shape: tuple[int, ...]) -> Array:
    """An array of undefined elements: NaN, or the integer that is least likely to go unnoticed."""
    if dtype.is_float:
        return np.full(shape, float("nan"), dtype.numpy)
    if dtype.kind == "bool":
        return np.zeros(shape, dtype.numpy)
    return np.full(shape, largest(dtype).value, dtype.numpy)


def allocate(function: Function, inputs: Mapping[str, Array], env: Mapping[Var, Any]) -> dict[str, Array]:
    """Every buffer of a function by name: the inputs as they are (not copied), the others undefined.

    Raises:
        ArgumentError: If an input is missing, unknown, or of another shape or dtype.
    """
    for name in inputs:
        if name not in function.inputs:
            raise ArgumentError(f"{function.name} has no input {name!r}; it has {_listed(function.inputs)}")
    arrays: dict[str, Array] = {}
    for b in function.buffers:
        shape = shape_of(b.shape, env)
        if b.name in function.inputs:
            if b.name not in inputs:
                raise ArgumentError(f"{function.name} needs its input {b.name!r}")
            arrays[b.name] = _checked(function, b, shape, inputs[b.name])
        else:
            arrays[b.name] = poison(b.dtype, shape)
    return arrays


def _checked(function: Function, buffer: Buffer, shape: tuple[int, ...], value: Array) -> Array:
    array = np.asarray(value)
    if array.dtype != buffer.dtype.numpy or array.shape != shape:
        raise ArgumentError(
            f"input {buffer.name!r} of {function.name} is {buffer.dtype.name}{list(shape)}, "
            f"not {array.dtype.name}{list(array.shape)}"
        )
    return array


def _listed(names: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(names)) if names else "none"
