"""Evaluating one operator on arrays, through its definition."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir.dtypes import from_numpy
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort
from tcompiler.ir.graph.grammar import Attr, TensorType, tensor_type
from tcompiler.ir.scalar.grammar import Var, as_int
from tcompiler.ops.registry import Attrs, get

Array = NDArray[np.generic]

_PYTHON_STEP = 4096
"""What one step of a scan costs, however little it computes."""


def type_of(array: Array) -> TensorType:
    """The type of an array."""
    return tensor_type(from_numpy(array.dtype), array.shape)


def work(op: str, types: Sequence[TensorType | None], attrs: Attrs) -> int:
    """What evaluating an operator costs: about as many times the time that one element of a map takes.

    Args:
        op: The operator's name.
        types: Types of its inputs, None where absent; their extents are constant.
        attrs: Attributes by name.

    Raises:
        CompileError: If the operator does not take these inputs.
    """
    program: Program = get(op).define(types, dict(attrs))
    return sum(map(_scope_work, program.scopes))


def _scope_work(scope: Scope) -> int:
    match scope:
        case Compute(axes=axes, reduce_axes=reduced):
            # Sums over many elements are einsums.
            return _box(axes) * _box(reduced) // (16 if reduced else 1) + 1
        case Scan():
            steps = as_int(scope.axis.extent) or 0
            return steps * (_PYTHON_STEP + sum(map(_scope_work, scope.scopes)))
        case Scatter():
            return 8 * _box(scope.axes) + 1
        case Sort():
            return 16 * math.prod(as_int(e) or 0 for e in scope.tensors[0].shape) + 1


def _box(axes: Iterable[Var]) -> int:
    return math.prod(as_int(a.extent) or 0 for a in axes)


def evaluate(op: str, inputs: Sequence[Array | None], attrs: Attrs) -> tuple[Array, ...]:
    """The results of an operator on arrays.

    Args:
        op: The operator's name.
        inputs: One array per input, None where absent.
        attrs: Attributes by name.

    Returns:
        One array per output.

    Raises:
        CompileError: If the operator does not take these inputs.
    """
    from tcompiler.ir.expr.evaluate import evaluate as evaluate_program

    attributes: dict[str, Attr] = dict(attrs)
    program = get(op).define([None if a is None else type_of(a) for a in inputs], attributes)
    arrays = [a for a in inputs if a is not None]
    results = evaluate_program(program, {t.name: a for t, a in zip(program.inputs, arrays, strict=True)})
    return tuple(results[name] for name in program.outputs)
