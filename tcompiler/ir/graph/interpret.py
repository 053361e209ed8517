"""What a graph means, point by point, through the expr interpreter: slow and obvious."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from tcompiler.ir.expr.interpret import interpret as interpret_program
from tcompiler.ir.graph.grammar import ConstantStore, Graph
from tcompiler.ir.graph.operators import OperatorLookup
from tcompiler.ir.graph.run import run


def interpret(
    graph: Graph,
    inputs: Mapping[str, NDArray[Any]],
    params: Mapping[str, int] | None = None,
    *,
    operators: OperatorLookup,
    constants: ConstantStore | None = None,
) -> dict[str, NDArray[Any]]:
    """Runs a graph, every node by its operator's definition.

    Args:
        graph: A verified graph.
        inputs: Arrays by the names of the graph's input values, logical shapes, in the declared dtypes.
        params: Values of the parameters by name.
        operators: Finds an operator by name.
        constants: Holds the graph's constants.

    Returns:
        The outputs by the names of their values, in logical shapes: layouts do not matter here.

    Raises:
        ArgumentError: If the inputs or parameters are not those of the graph.
    """
    store = ConstantStore() if constants is None else constants
    return run(graph, inputs, params or {}, operators, store, interpret_program)
