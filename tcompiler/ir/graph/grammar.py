"""All node kinds of the graph language, and what they mean.

    graph = Graph(name, params, inputs, constants, nodes, outputs)
    value = Value(name, type)                     type = TensorType(dtype, shape, layout)
    constant = Constant(name, sha256, type)
    node  = Node(op, name, inputs, outputs, attrs, group)

A graph is a list of nodes in the order of their definition: a node reads values defined above it, by name, and defines
its outputs. An operator's type rule and definition come from the operator table, which the verifier and the
interpreter are handed; an absent optional input is the empty name. Constants are named by the SHA-256 of their bytes
(row-major, little-endian) and live in a ConstantStore beside the graph. A value has a logical shape and, where it does
not lie in memory row-major, a layout; a layout never changes what a node means. `group` names the group (the kernel)
that a node has been put into, or is None. Names have no meaning beyond connecting things; they come from us, not from
a model, and are Python identifiers. The model's own names for inputs and outputs are kept in `label`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.layout import Layout
from tcompiler.ir.scalar.grammar import Scalar, Var, as_int, index

Attr = int | float | bool | str | DType | None | tuple["Attr", ...]


@dataclass(frozen=True, slots=True, eq=False)
class TensorType:
    """A tensor's element type, logical shape and layout (None: row-major)."""

    dtype: DType
    shape: tuple[Scalar, ...]
    layout: Layout | None = None

    def dims(self) -> tuple[int, ...]:
        """The shape as integers.

        Raises:
            ValueError: If an extent is not constant.
        """
        result = []
        for extent in self.shape:
            value = as_int(extent)
            if value is None:
                raise ValueError(f"extent {extent!r} is not constant")
            result.append(value)
        return tuple(result)


def tensor_type(dtype: DType | str, shape: tuple[int | Scalar, ...]) -> TensorType:
    """A row-major tensor type from integers or scalars."""
    d = dt.dtype(dtype) if isinstance(dtype, str) else dtype
    return TensorType(d, tuple(index(s) if isinstance(s, int) else s for s in shape))


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A named tensor; label is the name that the model's author gave it, for people and for binding arguments."""

    name: str
    type: TensorType
    label: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value known at compile time, by the digest of its bytes."""

    name: str
    sha256: str
    type: TensorType


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operator applied to values; attrs are sorted by key."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[Value, ...]
    attrs: tuple[tuple[str, Attr], ...] = ()
    group: str | None = None

    def attr(self, key: str, default: Attr = None) -> Attr:
        """The attribute with this key, or the default."""
        for k, v in self.attrs:
            if k == key:
                return v
        return default


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A model: from inputs to outputs through operators."""

    name: str
    params: tuple[Var, ...]
    inputs: tuple[Value, ...]
    constants: tuple[Constant, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]


def digest(array: NDArray[np.generic]) -> str:
    """The SHA-256 in hex of an array's bytes in C order."""
    contiguous = np.array(array, order="C", copy=None)
    return hashlib.sha256(contiguous.reshape(-1).view(np.uint8).data if contiguous.size else b"").hexdigest()


@dataclass(slots=True)
class ConstantStore:
    """Constants' data by digest. Arrays are read-only once stored."""

    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    def put(self, array: NDArray[np.generic], sha256: str | None = None) -> str:
        """Stores an array (C order) and returns its SHA-256 in hex; whoever knows that already gives it."""
        key = digest(array) if sha256 is None else sha256
        if key not in self.arrays:
            contiguous = np.array(array, order="C", copy=None).view()
            contiguous.flags.writeable = False
            self.arrays[key] = contiguous
        return key

    def get(self, sha256: str) -> NDArray[np.generic]:
        """The array with this digest (flat order is meaningful; take dtype and shape from the Constant).

        Raises:
            KeyError: If it is not in the store.
        """
        return self.arrays[sha256]

    def typed(self, constant: Constant) -> NDArray[np.generic]:
        """A constant's data with its dtype and shape."""
        raw = self.arrays[constant.sha256]
        return raw.reshape(-1).view(constant.type.dtype.numpy).reshape(constant.type.dims())


def values(graph: Graph) -> Iterator[tuple[str, TensorType]]:
    """Every value of a graph with its type: inputs, constants, node outputs."""
    for v in graph.inputs:
        yield v.name, v.type
    for c in graph.constants:
        yield c.name, c.type
    for n in graph.nodes:
        for v in n.outputs:
            yield v.name, v.type
