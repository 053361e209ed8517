"""Running a graph node by node: what the interpreter and the evaluator share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import ArgumentError, InternalError
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import ConstantStore, Graph, TensorType
from tcompiler.ir.graph.operators import OperatorLookup
from tcompiler.ir.scalar.evaluate import evaluate as scalar_values
from tcompiler.ir.scalar.grammar import Var

Array = NDArray[Any]

RunProgram = Callable[[Program, dict[str, Array], dict[str, int]], dict[str, Array]]
"""Evaluates an expr program: (program, inputs by name, parameters by name) to outputs by name."""


def run(
    graph: Graph,
    inputs: Mapping[str, Array],
    params: Mapping[str, int],
    operators: OperatorLookup,
    constants: ConstantStore,
    run_program: RunProgram,
    widen: bool = False,
) -> dict[str, Array]:
    """Runs every node by its operator's definition.

    Args:
        graph: A verified graph.
        inputs: Arrays by name.
        params: Values of the parameters by name.
        operators: Finds an operator by name.
        constants: Holds the graph's constants.
        run_program: What evaluates a definition.
        widen: Whether that computes floats in f64.

    Raises:
        ArgumentError: If the inputs or parameters are not those of the graph.
    """
    env = _parameters(graph, params)
    arrays = _arguments(graph, inputs, env, widen)
    types = {v.name: v.type for v in graph.inputs}
    for c in graph.constants:
        arrays[c.name] = constants.typed(c)
        types[c.name] = c.type
    # a value is let go after its last reader, or a deep network's evaluation holds all of it
    last = {name: k for k, n in enumerate(graph.nodes) for name in n.inputs}
    kept = {v.name for v in graph.outputs}
    for k, n in enumerate(graph.nodes):
        given = [None if not name else TensorType(types[name].dtype, types[name].shape) for name in n.inputs]
        program = operators(n.op).define(given, dict(n.attrs))
        present = [arrays[name] for name in n.inputs if name]
        if len(program.inputs) != len(present) or len(program.outputs) != len(n.outputs):
            raise InternalError(
                f"the definition of {n.op} has {len(program.inputs)} inputs and {len(program.outputs)} outputs; "
                f"node {n.name} has {len(present)} and {len(n.outputs)}"
            )
        needed = {p.name: int(params[p.name]) for p in program.params}
        results = run_program(program, {t.name: a for t, a in zip(program.inputs, present, strict=True)}, needed)
        for v, name in zip(n.outputs, program.outputs, strict=True):
            types[v.name] = v.type
            arrays[v.name] = results[name]
            expected = _shape(v.type, env)
            if results[name].shape != expected or results[name].dtype not in _accepted(v.type, widen):
                raise InternalError(
                    f"node {n.name} ({n.op}) gives {v.name} as {results[name].dtype}{list(results[name].shape)}, "
                    f"its type says {v.type.dtype.name}{list(expected)}"
                )
        for name in n.inputs:
            if last.get(name) == k and name not in kept:
                arrays.pop(name, None)
    return {v.name: arrays[v.name] for v in graph.outputs}


def _parameters(graph: Graph, params: Mapping[str, int]) -> dict[Var, Any]:
    expected = [p.name for p in graph.params]
    for name in params:
        if name not in expected:
            raise ArgumentError(f"{graph.name} has no parameter {name!r}; it has {', '.join(expected) or 'none'}")
    env: dict[Var, Any] = {}
    for p in graph.params:
        if p.name not in params:
            raise ArgumentError(f"{graph.name} needs a value for its parameter {p.name!r}")
        if params[p.name] < 0:
            raise ArgumentError(f"parameter {p.name!r} of {graph.name} is {params[p.name]}; it is at least 0")
        env[p] = np.int64(params[p.name])
    return env


def _shape(tensor: TensorType, env: dict[Var, Any]) -> tuple[int, ...]:
    return tuple(int(scalar_values(e, env, {})) for e in tensor.shape)


def _accepted(tensor: TensorType, widen: bool) -> list[np.dtype[Any]]:
    own = tensor.dtype.numpy
    return [own, np.dtype(np.float64)] if widen and tensor.dtype.is_float else [own]


def _arguments(graph: Graph, inputs: Mapping[str, Array], env: dict[Var, Any], widen: bool) -> dict[str, Array]:
    expected = [v.name for v in graph.inputs]
    for name in inputs:
        if name not in expected:
            raise ArgumentError(f"{graph.name} has no input {name!r}; it has {', '.join(expected) or 'none'}")
    arrays: dict[str, Array] = {}
    for v in graph.inputs:
        if v.name not in inputs:
            raise ArgumentError(f"{graph.name} needs its input {v.name!r}")
        array = np.asarray(inputs[v.name])
        shape = _shape(v.type, env)
        if array.dtype not in _accepted(v.type, widen) or array.shape != shape:
            raise ArgumentError(
                f"input {v.name!r} of {graph.name} is {v.type.dtype.name}{list(shape)}, "
                f"not {array.dtype.name}{list(array.shape)}"
            )
        arrays[v.name] = array
    return arrays
