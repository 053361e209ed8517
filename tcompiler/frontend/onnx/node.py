"""What a converter sees of a node, and the table of converters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import CompileError, OpenValueError
from tcompiler.frontend.onnx.data import TensorReader
from tcompiler.frontend.onnx.limits import Limits
from tcompiler.frontend.onnx.report import quoted
from tcompiler.frontend.onnx.signature import kind_name
from tcompiler.frontend.tensor import SymbolicTensor
from tcompiler.ir import dtypes as dt
from tcompiler.ops.construct import GraphWriter, extent_product


class ReportedError(CompileError):
    """A node cannot be converted for a reason that is noted already."""


@dataclass(frozen=True, slots=True, eq=False)
class TensorList:
    """A sequence in a model: tensors in an order that is known at compile time, as its length is."""

    items: tuple[SymbolicTensor, ...]

    def __repr__(self) -> str:
        return f"a sequence of {len(self.items)} tensor{'' if len(self.items) == 1 else 's'}"


Item = SymbolicTensor | TensorList
"""What a name in a model stands for."""

Result = Item | Sequence[Item | None]

REACH = 1 << 30
"""The largest stride, dilation, pad or window: products of two fit into an index."""

# Numbers from onnx.proto's AttributeProto.AttributeType.
_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 4, 5, 6, 7, 8


class NodeView:
    """One node of a model under conversion.

    It notes which attributes a converter has read; one that is left over is an error, so nothing is ignored silently.

    Attributes:
        op: The operator's name.
        name: The node's name, for messages.
        opset: Version of the operator set that it belongs to.
        inputs: Its inputs, None where absent.
        outputs: Names of its outputs, empty where unused.
        writer: The graph under construction.
        subgraph: Converts a subgraph in place, given values for its inputs by name; returns its outputs.
        limits: What a model may ask for.
    """

    def __init__(
        self,
        proto: Any,
        opset: int,
        inputs: Sequence[Item | None],
        writer: GraphWriter,
        reader: TensorReader,
        subgraph: Callable[[Any, Mapping[str, Item]], list[Item]],
        limits: Limits,
    ) -> None:
        self.op: str = proto.op_type
        self.name: str = proto.name
        self.opset = opset
        self.inputs = list(inputs)
        self.outputs: list[str] = list(proto.output)
        self.writer = writer
        self._reader = reader
        self._attributes = {a.name: a for a in proto.attribute}
        self._used: set[str] = set()
        self.subgraph = subgraph
        self.limits = limits

    def x(self, k: int = 0) -> SymbolicTensor:
        """An input that has to be there.

        Raises:
            CompileError: If it is absent.
        """
        value = self.optional(k)
        if value is None:
            raise CompileError(f"input {k} is absent, but it is required")
        return value

    def optional(self, k: int) -> SymbolicTensor | None:
        """An input, None where absent.

        Raises:
            CompileError: If it is a sequence.
        """
        value = self.inputs[k] if k < len(self.inputs) else None
        if isinstance(value, TensorList):
            raise CompileError(f"input {k} is {value!r}, expected a tensor")
        return value

    def item(self, k: int) -> Item:
        """An input that has to be there, a tensor or a sequence.

        Raises:
            CompileError: If it is absent.
        """
        value = self.inputs[k] if k < len(self.inputs) else None
        return self.x(k) if value is None else value

    def sequence(self, k: int) -> TensorList:
        """An input that is a sequence.

        Raises:
            CompileError: If it is none.
        """
        value = self.item(k)
        if not isinstance(value, TensorList):
            raise CompileError(f"input {k} is {value!r}, expected a sequence")
        return value

    def all(self) -> list[SymbolicTensor]:
        """All inputs; none may be absent."""
        return [self.x(k) for k in range(len(self.inputs))]

    def array(self, k: int, what: str) -> NDArray[np.generic]:
        """The data of an input that has to be known at compile time.

        Raises:
            CompileError: As for data.
        """
        return self.data(self.x(k), f"input {k} ({what})")

    def data(self, x: SymbolicTensor, what: str) -> NDArray[np.generic]:
        """The data of a value that has to be known at compile time.

        Raises:
            OpenValueError: If it depends on the values of the model's inputs.
            CompileError: If so many of these values matter that they cannot be compiled in.
        """
        data = self.writer.array(x.value)
        if data is not None:
            return data
        sources = self.writer.sources(x.value)
        shown = ", ".join(quoted(str(v.label)) for v in sources[:3]) + (", …" if len(sources) > 3 else "")
        large = [v for v in sources if (size := extent_product(v.type)) is None or size > self.limits.values]
        if large or not sources:
            raise CompileError(
                f"{what} depends on the values of {shown or 'no input'}, expected a constant or what comes from inputs "
                f"of at most {self.limits.values} elements"
            )
        raise OpenValueError(
            f"{what} depends on the value of {shown}, expected a constant; pass values={{name: array}} to fix it",
            tuple(str(v.label) for v in sources),
        )

    def known(self, k: int) -> NDArray[np.generic] | None:
        """The data of an input where it is a constant, else None."""
        return self.writer.array(self.x(k).value)

    def integers(self, k: int, what: str) -> list[int]:
        """The integers in an input that has to be known at compile time: a list, or one of rank 0.

        Raises:
            CompileError: As for data, or if it holds no integers or more axes.
        """
        x = self.x(k)
        if not x.dtype.is_integer or x.ndim > 1:
            raise CompileError(f"input {k} ({what}) is {_type(x)}, expected integers of rank 1")
        return [int(v) for v in self.array(k, what).reshape(-1)]

    def scalar(self, k: int, what: str) -> np.generic:
        """The one element of an input that has to be known at compile time.

        Raises:
            CompileError: As for data, or if it has another number of elements.
        """
        x = self.x(k)
        if x.size != 1:
            raise CompileError(f"input {k} ({what}) is {_type(x)}, expected one element")
        element: np.generic = self.array(k, what).reshape(-1)[0]
        return element

    def integer(self, k: int, what: str) -> int:
        """The one integer in an input that has to be known at compile time; a float that is one will do.

        Raises:
            CompileError: As for scalar, or if it is no integer.
        """
        value = self.scalar(k, what)
        number = float(value) if self.x(k).dtype.is_float else int(value)
        if number != number or number in (float("inf"), -float("inf")) or number != int(number):
            raise CompileError(f"input {k} ({what}) is {number}, expected an integer")
        return int(number)

    def flag(self, k: int, what: str) -> bool:
        """The one truth value in an input that has to be known at compile time."""
        if self.x(k).dtype is not dt.bool_:
            raise CompileError(f"input {k} ({what}) is {_type(self.x(k))}, expected bool")
        return bool(self.scalar(k, what))

    def constant(self, array: Any, dtype: Any = None) -> SymbolicTensor:
        """A constant of the graph."""
        return SymbolicTensor(self.writer, self.writer.constant(np.asarray(array, dtype=dtype)))

    def has(self, key: str) -> bool:
        """Whether the node gives an attribute."""
        return key in self._attributes

    def int_attr(self, key: str, default: int | None = None) -> int:
        """An integer attribute."""
        return int(self._get(key, _INT, "i", default))

    def float_attr(self, key: str, default: float | None = None) -> float:
        """A float attribute, rounded to f32 in the file."""
        return float(self._get(key, _FLOAT, "f", default))

    def string_attr(self, key: str, default: str | None = None) -> str:
        """A string attribute."""
        value = self._get(key, _STRING, "s", default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def ints_attr(self, key: str, default: Sequence[int] | None = None) -> list[int]:
        """A list of integers."""
        return [int(v) for v in self._get(key, _INTS, "ints", default)]

    def per_axis(self, key: str, count: int, default: int, least: int | None = None) -> list[int]:
        """A list of integers, one for each of some axes (two for pads).

        Args:
            key: The attribute.
            count: How many there have to be.
            default: What each is where the node does not give them.
            least: The least that each may be; none is further from 0 than REACH.

        Raises:
            CompileError: If there are more or fewer, or one is too small.
        """
        values = self.ints_attr(key, [default] * count)
        if len(values) != count or not all((-REACH if least is None else least) <= v <= REACH for v in values):
            bound = f"of at most {REACH}" if least is None else f"of {least} to {REACH}"
            raise CompileError(
                f"attribute '{key}' is {values}, expected {count} {'integer' if count == 1 else 'integers'} {bound}"
            )
        return values

    def computed(self, count: int, what: str = "the result") -> int:
        """Asks for a constant of some elements, before it is made.

        Returns:
            The number.

        Raises:
            CompileError: If it is too large, or all that were asked for together.
        """
        return self._reader.computed(count, what)

    def floats_attr(self, key: str, default: Sequence[float] | None = None) -> list[float]:
        """A list of floats."""
        return [float(v) for v in self._get(key, _FLOATS, "floats", default)]

    def string_list(self, key: str) -> list[str]:
        """A list of strings, empty by default."""
        return [s.decode("utf-8", "replace") for s in self._get(key, _STRINGS, "strings", [])]

    def tensor_attr(self, key: str) -> NDArray[np.generic]:
        """A tensor attribute."""
        proto = self._get(key, _TENSOR, "t", None)
        try:
            return self._reader.read(proto)
        except CompileError as error:
            raise CompileError(f"attribute '{key}': {error}") from None

    def graph_attr(self, key: str) -> Any:
        """A subgraph attribute."""
        return self._get(key, _GRAPH, "g", None)

    def ignore(self, *keys: str) -> None:
        """Attributes that change nothing in inference."""
        self._used.update(keys)

    def _get(self, key: str, kind: int, field: str, default: Any) -> Any:
        self._used.add(key)
        attribute = self._attributes.get(key)
        if attribute is None:
            if default is None:
                raise CompileError(f"attribute '{key}' is missing, but it is required")
            return default
        if attribute.type != kind:
            raise CompileError(f"attribute '{key}' is {kind_name(attribute.type)}, expected {kind_name(kind)}")
        return getattr(attribute, field)

    def unread(self) -> list[str]:
        """Attributes that no one has read."""
        return sorted(set(self._attributes) - self._used)


def _type(x: SymbolicTensor) -> str:
    return f"{x.dtype.name}[{', '.join(map(str, x.shape))}]"


Converter = Callable[[NodeView], Result]

CONVERTERS: dict[tuple[str, str], Converter] = {}
"""Converters by domain and operator."""


def converts(*names: str, domain: str = "") -> Callable[[Converter], Converter]:
    """Registers the decorated function as the converter of some operators."""

    def register(converter: Converter) -> Converter:
        for name in names:
            CONVERTERS[domain, name] = converter
        return converter

    return register
