"""What the graph language asks of an operator, without knowing any: the lookup it is handed has this shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import Attr, TensorType


class OperatorLike(Protocol):
    """An operator: how it types its outputs, and what it computes."""

    def infer(self, types: Sequence[TensorType | None], attrs: Mapping[str, Attr]) -> tuple[TensorType, ...]:
        """The types of the outputs, from the types of the inputs.

        Args:
            types: One type per input; None where an optional input is absent. Layouts are to be ignored.
            attrs: The node's attributes.

        Returns:
            One row-major type per output.

        Raises:
            UserError: If the inputs or attributes do not fit the operator.
        """
        ...

    def define(self, types: Sequence[TensorType | None], attrs: Mapping[str, Attr]) -> Program:
        """What the operator computes, as an expr program.

        The program's inputs are the inputs that are present, in order; its outputs are the operator's, in order; its
        params are the parameters that occur in the types. The names inside are the operator's own.

        Args:
            types: As for `infer`.
            attrs: As for `infer`.

        Raises:
            UserError: As for `infer`.
        """
        ...


OperatorLookup = Callable[[str], OperatorLike]
"""Finds an operator by name; raises KeyError for a name that it does not know."""
