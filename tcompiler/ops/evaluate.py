"""Evaluating one operator on arrays, through its definition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir.dtypes import from_numpy
from tcompiler.ir.graph.grammar import Attr, TensorType, tensor_type
from tcompiler.ops.registry import Attrs, get

Array = NDArray[np.generic]


def type_of(array: Array) -> TensorType:
    """The type of an array."""
    return tensor_type(from_numpy(array.dtype), array.shape)


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
