"""Building graphs: values, constants and nodes with their types inferred and their names ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tcompiler.errors import CompileError
from tcompiler.ir.dtypes import from_numpy
from tcompiler.ir.graph.grammar import Attr, Constant, ConstantStore, Graph, Node, TensorType, Value, tensor_type
from tcompiler.ir.scalar.grammar import Var, as_int, postorder
from tcompiler.ops.evaluate import Array, evaluate, work
from tcompiler.ops.registry import get
from tcompiler.ops.types import show

FOLD_ELEMENTS = 4096
FOLD_WORK = 1 << 21
"""Work (see ops.evaluate.work) of a node that is folded, and of all together."""

FOLD_WORK_IN_ALL = 1 << 25
FOLDED_IN_ALL = 1 << 24
"""Elements of all constants made by folding, after which nothing more is folded: each of them is kept."""


class GraphWriter:
    """A graph under construction.

    Nodes whose inputs are all small constants are evaluated at once, so shape arithmetic never becomes a node.

    Args:
        name: Name of the graph.
        store: Where constants' data go.
        max_elements: A value of more elements than this is refused (None: no limit).
        max_rank: A value of more axes than this is refused (None: no limit).
    """

    def __init__(
        self,
        name: str,
        store: ConstantStore | None = None,
        max_elements: int | None = None,
        max_rank: int | None = None,
    ) -> None:
        self.name = name
        self.store = ConstantStore() if store is None else store
        self._max_elements = max_elements
        self._max_rank = max_rank
        self._folded = 0
        self._worked = 0
        self._inputs: list[Value] = []
        self._constants: dict[str, Constant] = {}
        self._by_content: dict[tuple[str, str, tuple[int, ...]], Value] = {}
        self._nodes: list[Node] = []
        self._makers: dict[str, Node] = {}
        self._count = 0

    def _fresh(self) -> str:
        self._count += 1
        return f"v{self._count - 1}"

    def input(self, t: TensorType, label: str) -> Value:
        """A new input of the graph."""
        value = Value(self._fresh(), t, label)
        self._inputs.append(value)
        return value

    def constant(self, array: Array, sha256: str | None = None) -> Value:
        """A constant; one with the same bytes and type is shared.

        Raises:
            CompileError: If its element type is none of ours.
        """
        try:
            dtype = from_numpy(array.dtype)
        except KeyError:
            raise CompileError(
                f"a constant has element type {array.dtype}; expected one of f16, bf16, f32, f64, i8, i16, i32, i64, "
                f"u8, bool"
            ) from None
        digest = self.store.put(array, sha256)
        key = (digest, dtype.name, array.shape)
        value = self._by_content.get(key)
        if value is None:
            name = f"c{len(self._constants)}"
            t = tensor_type(dtype, array.shape)
            self._constants[name] = Constant(name, digest, t)
            value = self._by_content[key] = Value(name, t)
        return value

    def array(self, value: Value) -> Array | None:
        """The data of a value that is a constant, else None."""
        constant = self._constants.get(value.name)
        return None if constant is None else self.store.typed(constant)

    def sources(self, value: Value) -> list[Value]:
        """The graph's inputs that a value is computed from, in their order."""
        seen = {value.name}
        pending = [value.name]
        while pending:
            node = self._makers.get(pending.pop())
            new = [i for i in node.inputs if i and i not in seen] if node is not None else []
            seen.update(new)
            pending += new
        return [v for v in self._inputs if v.name in seen]

    def emit(
        self, op: str, inputs: Sequence[Value | None], attrs: Mapping[str, Attr] | None = None
    ) -> tuple[Value, ...]:
        """A node, or constants where its inputs are small constants.

        Args:
            op: The operator's name.
            inputs: Values in order, None where an optional one is absent.
            attrs: Attributes by name.

        Returns:
            The values that it defines.

        Raises:
            CompileError: If the operator does not take these inputs, or a result is over the limit.
        """
        attributes = dict(attrs or {})
        operator = get(op)
        types = operator.infer([None if v is None else v.type for v in inputs], attributes)
        for t in types:
            if self._max_rank is not None and len(t.shape) > self._max_rank:
                raise CompileError(f"{op}: the result has rank {len(t.shape)}, more than the limit of {self._max_rank}")
            # an extent of 0 hides none that is too large
            size = math.prod(max(as_int(e) or 1, 1) for e in t.shape)
            if self._max_elements is not None and size > self._max_elements:
                raise CompileError(f"{op}: the result {show(t)} has more than {self._max_elements} elements, the limit")
        folded = self._fold(op, inputs, types, attributes)
        if folded is not None:
            return folded
        outputs = tuple(Value(self._fresh(), t) for t in types)
        names = [v.name if v is not None else "" for v in inputs]
        while names and not names[-1]:
            names.pop()
        node = Node(op, f"{op}_{len(self._nodes)}", tuple(names), outputs, tuple(sorted(attributes.items())))
        self._nodes.append(node)
        self._makers.update(dict.fromkeys((v.name for v in outputs), node))
        return outputs

    def _fold(
        self, op: str, inputs: Sequence[Value | None], types: Sequence[TensorType], attrs: Mapping[str, Attr]
    ) -> tuple[Value, ...] | None:
        if op == "dequantize" and len(types[0].shape) > 1:
            return None  # weights: a product of them wants the integers
        sizes = [extent_product(t) for t in (*types, *(v.type for v in inputs if v is not None))]
        if any(s is None or s > FOLD_ELEMENTS for s in sizes) or self._folded > FOLDED_IN_ALL:
            return None
        arrays = []
        for v in inputs:
            data = None if v is None else self.array(v)
            if v is not None and data is None:
                return None
            arrays.append(data)
        cost = work(op, [None if v is None else v.type for v in inputs], attrs)
        if cost > FOLD_WORK or self._worked + cost > FOLD_WORK_IN_ALL:
            return None
        self._worked += cost
        self._folded += sum(s for s in sizes[: len(types)] if s is not None)
        return tuple(self.constant(a) for a in evaluate(op, arrays, attrs))

    def finish(self, outputs: Sequence[Value], labels: Sequence[str]) -> Graph:
        """The graph with these outputs.

        An output that is an input, a constant, or given twice gets a node of its own, so that outputs are distinct
        buffers. Constants that nothing reads are left out.
        """
        produced = {v.name for n in self._nodes for v in n.outputs}
        results: list[Value] = []
        for value, label in zip(outputs, labels, strict=True):
            result = value
            if value.name not in produced:
                node = Node(
                    "identity", f"identity_{len(self._nodes)}", (value.name,), (Value(self._fresh(), value.type),)
                )
                self._nodes.append(node)
                (result,) = node.outputs
            produced.discard(value.name)
            results.append(Value(result.name, result.type, label))
        used = {name for n in self._nodes for name in n.inputs}
        params = {
            node: None
            for v in self._inputs
            for extent in v.type.shape
            for node in postorder(extent)
            if isinstance(node, Var) and node.extent is None
        }
        return Graph(
            self.name,
            tuple(params),
            tuple(self._inputs),
            tuple(c for c in self._constants.values() if c.name in used),
            tuple(self._nodes),
            tuple(results),
        )


def extent_product(t: TensorType) -> int | None:
    """Elements of a tensor, None where an extent is a parameter."""
    extents = [as_int(e) for e in t.shape]
    known = [e for e in extents if e is not None]
    return math.prod(known) if len(known) == len(extents) else None


def as_array(value: object, dtype: np.dtype[np.generic] | None = None) -> Array:
    """A numpy array from anything that numpy takes.

    Raises:
        CompileError: If it becomes no array of numbers.
    """
    array = np.asarray(value, dtype=dtype)
    if array.dtype.kind in "OUSMm":
        raise CompileError(f"expected a number or an array of numbers, found {type(value).__name__}")
    return array
