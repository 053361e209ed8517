"""The table of operators, and what a record in it holds.

An operator is a name, the names of its inputs, its attributes with their defaults, a type rule and a definition. The
definition is an expr program: that is all that any later stage sees of it. Families register their operators when
their module is imported; `get` imports them all.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from tcompiler.errors import CompileError, InternalError
from tcompiler.ir.dtypes import DType
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import Attr, TensorType

Types = Sequence[TensorType | None]
Attrs = Mapping[str, Attr]
Rule = Callable[[Types, Attrs], tuple[TensorType, ...]]
Define = Callable[[Types, Attrs], Program]
AttributeKind = Literal["int", "float", "bool", "str", "dtype", "ints", "floats"]

_FAMILIES = (
    "elementwise",
    "contraction",
    "convolution",
    "phases",
    "residues",
    "planes",
    "reduction",
    "normalization",
    "pooling",
    "shape",
    "indexing",
    "ordered",
    "quantization",
    "sampling",
    "resampling",
)


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """One attribute of an operator.

    Attributes:
        kind: What values it takes.
        default: Its value where a node does not give it; None means that it must be given, unless optional.
        optional: Whether None is a value that it may have.
    """

    kind: AttributeKind
    default: Attr = None
    optional: bool = False

    def accepts(self, value: Attr) -> bool:
        """Whether a value is of this attribute's kind."""
        if value is None:
            return self.optional
        match self.kind:
            case "int":
                return isinstance(value, int) and not isinstance(value, bool)
            case "float":
                return isinstance(value, float)
            case "bool":
                return isinstance(value, bool)
            case "str":
                return isinstance(value, str)
            case "dtype":
                return isinstance(value, DType)
            case "ints":
                return isinstance(value, tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
            case "floats":
                return isinstance(value, tuple) and all(isinstance(v, float) for v in value)


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One operator.

    Attributes:
        name: Its name in graphs.
        inputs: Names of its inputs in order. A trailing "?" marks one that may be absent, a trailing "*" on the last
            one stands for any number of inputs, at least one.
        rule: The types of the outputs from the types of the inputs (None where absent) and all attributes.
        definition: The expr program from the same. Its inputs are the present inputs in order, its outputs are the
            operator's outputs in order.
        attributes: The attributes it takes, by name.
    """

    name: str
    inputs: tuple[str, ...]
    rule: Rule
    definition: Define
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))

    def infer(self, types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
        """The types of the outputs.

        Args:
            types: Types of the inputs in order, None where an optional one is absent.
            attrs: Attributes by name; those left out have their defaults.

        Raises:
            CompileError: If the operator does not take these inputs or attributes.
        """
        return self.rule(self._complete(types), self._attributes(attrs))

    def define(self, types: Types, attrs: Attrs) -> Program:
        """The definition as an expr program; arguments and errors as for `infer`."""
        full, all_attrs = self._complete(types), self._attributes(attrs)
        self.rule(full, all_attrs)
        return self.definition(full, all_attrs)

    def _complete(self, types: Types) -> Types:
        """Checks the number of inputs; absent trailing ones become None."""
        variadic = bool(self.inputs) and self.inputs[-1].endswith("*")
        most = len(self.inputs)
        least = sum(1 for i in self.inputs if not i.endswith("?"))
        if len(types) < least or (len(types) > most and not variadic):
            expected = f"at least {least}" if variadic else (f"{least}" if least == most else f"{least} to {most}")
            raise CompileError(
                f"{self.name}: found {len(types)} inputs, expected {expected} ({', '.join(self.inputs)})"
            )
        full = list(types) + [None] * (0 if variadic else most - len(types))
        for k, t in enumerate(full):
            name = self.inputs[min(k, most - 1)]
            if t is None and not name.endswith("?"):
                raise CompileError(f"{self.name}: input {k} ({name.rstrip('*')}) is absent, but it is not optional")
        return full

    def _attributes(self, attrs: Attrs) -> dict[str, Attr]:
        for key in attrs:
            if key not in self.attributes:
                known = ", ".join(sorted(self.attributes)) or "none"
                near = difflib.get_close_matches(key, self.attributes, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise CompileError(f"{self.name}: no attribute '{key}' (it takes: {known}){hint}")
        result: dict[str, Attr] = {}
        for key, attribute in self.attributes.items():
            value = attrs.get(key, attribute.default)
            if key not in attrs and value is None and not attribute.optional:
                raise CompileError(f"{self.name}: attribute '{key}' is missing, expected {_KINDS[attribute.kind]}")
            if not attribute.accepts(value):
                raise CompileError(f"{self.name}: attribute '{key}' is {value!r}, expected {_KINDS[attribute.kind]}")
            result[key] = value
        return result


_KINDS = {
    "int": "an integer",
    "float": "a float",
    "bool": "True or False",
    "str": "a string",
    "dtype": "an element type",
    "ints": "a tuple of integers",
    "floats": "a tuple of floats",
}


class UnknownOperatorError(CompileError, KeyError):
    """No operator has this name (a KeyError too: lookups are handed to parts that know no operators)."""

    __str__ = Exception.__str__


_TABLE: dict[str, Operator] = {}
_loaded = False


def register(operator: Operator) -> Operator:
    """Puts an operator into the table.

    Raises:
        InternalError: If its name is taken.
    """
    if operator.name in _TABLE:
        raise InternalError(f"operator '{operator.name}' is registered twice")
    _TABLE[operator.name] = operator
    return operator


def _load() -> None:
    global _loaded
    if not _loaded:
        for family in _FAMILIES:
            importlib.import_module(f"tcompiler.ops.{family}")
        _loaded = True


def get(name: str) -> Operator:
    """The operator with a name.

    Raises:
        UnknownOperatorError: If there is none; the message names the nearest.
    """
    operator = _TABLE.get(name)
    if operator is None:
        _load()
        operator = _TABLE.get(name)
    if operator is None:
        near = difflib.get_close_matches(name, _TABLE, n=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise UnknownOperatorError(f"no operator named '{name}'{hint}")
    return operator


def names() -> tuple[str, ...]:
    """The names of all operators, sorted."""
    _load()
    return tuple(sorted(_TABLE))
