"""Drawing a small ONNX model: sizes, data, nodes, and what the checks have to know of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

Array = NDArray[Any]

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
NEAR_POWERS = (3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)
LARGE = (41, 48, 63, 64, 65, 97, 100, 127, 128, 129, 257)
IR_VERSION = 10
FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of a model under construction."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class Case:
    """A drawn model.

    Attributes:
        family: The generator that drew it.
        seed: What it was drawn with; family and seed give the same model again.
        proto: The model. Its inputs, outputs and initializers are the model's own names.
        inputs: Arguments by name.
        noisy: Inputs and initializers that stand for data: a few units in the last place of them mean nothing.
        exact: Whether results have to be equal to the last bit.
    """

    family: str
    seed: int
    proto: onnx.ModelProto
    inputs: dict[str, Array]
    noisy: frozenset[str]
    exact: bool

    @property
    def opset(self) -> int:
        return int(self.proto.opset_import[0].version)


@dataclass(slots=True)
class Draw:
    """A model under construction.

    Attributes:
        rng: Where every choice comes from.
        opset: The operator set that nodes are written for.
        exact: Set by a generator whose results have to be equal to the last bit.
    """

    rng: np.random.Generator
    opset: int = 22
    exact: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    noisy: set[str] = field(default_factory=set)
    outputs: list[Value] = field(default_factory=list)
    count: int = 0

    # choices

    def choice(self, options: Sequence[Any]) -> Any:
        """One of some options; the option itself, not numpy's copy of it."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def dim(self, limit: int = 40, zero: float = 0.0) -> int:
        """An extent: 1, a prime, around a power of two, or anything; never above the limit."""
        if self.chance(zero):
            return 0
        pick = self.rng.random()
        if pick < 0.15:
            return 1
        pool: Sequence[int] = range(1, limit + 1)
        if pick < 0.45:
            pool = PRIMES
        elif pick < 0.75:
            pool = NEAR_POWERS
        elif pick < 0.85:
            pool = LARGE
        return int(self.choice([n for n in pool if n <= limit] or [1]))

    def shape(self, low: int, high: int, elements: int = 4000, zero: float = 0.01) -> tuple[int, ...]:
        """A shape of low to high dimensions with at most that many elements."""
        rank = self.integer(low, high)
        limit = {0: 1, 1: 300, 2: 130, 3: 65, 4: 20}.get(rank, 9)
        while True:
            dims = tuple(self.dim(limit, zero) for _ in range(rank))
            if math.prod(dims) <= elements:
                return dims
            limit = max(limit * 3 // 4, 1)

    def axis(self, rank: int, negative: float = 0.3) -> int:
        """An axis, sometimes counted from the end."""
        k = self.integer(0, rank - 1)
        return k - rank if self.chance(negative) else k

    def axes(self, rank: int, low: int = 1) -> list[int]:
        """Different axes in any order, some counted from the end."""
        count = self.integer(min(low, rank), rank)
        return [int(k) - (rank if self.chance(0.3) else 0) for k in self.rng.permutation(rank)[:count]]

    # data

    def array(self, shape: Sequence[int], dtype: str = "float32", kind: str = "normal") -> Array:
        """Random data.

        Args:
            shape: Its shape.
            dtype: numpy's name of its type.
            kind: For floats: "normal"; "positive" (0.3 to 2.3); "unit" (−0.9 to 0.9); "away" (from zero, either sign);
                "coarse" (multiples of 1/4, exact in every type and with ties); "wild" (NaN, infinities, zeros of either
                sign among the rest). For integers: "normal" is small, "wide" the whole range.
        """
        dims = tuple(shape)
        if dtype == "bool":
            return np.asarray(self.rng.integers(0, 2, dims)).astype(bool)
        if dtype in FLOATS:
            return np.asarray(self._floats(dims, kind).astype(dtype))
        info = np.iinfo(dtype)
        if kind == "wide":
            return np.asarray(self.rng.integers(info.min, info.max, dims, dtype=dtype, endpoint=True))
        if kind == "away":
            signs = self.rng.choice([-1, 1] if info.min < 0 else [1], dims)
            return np.asarray(self.rng.integers(1, 8, dims) * signs).astype(dtype)
        low = 0 if info.min == 0 else -7
        return np.asarray(self.rng.integers(low, 8, dims)).astype(dtype)

    def _floats(self, dims: tuple[int, ...], kind: str) -> Array:
        rng = self.rng
        if kind == "positive":
            return np.asarray(rng.uniform(0.3, 2.3, dims))
        if kind == "unit":
            return np.asarray(rng.uniform(-0.9, 0.9, dims))
        if kind == "away":
            return np.asarray(rng.uniform(0.5, 2.0, dims) * rng.choice([-1.0, 1.0], dims))
        if kind == "coarse":
            return np.asarray(rng.integers(-12, 13, dims) / 4.0)
        values = np.asarray(rng.standard_normal(dims))
        if kind == "wild":
            special = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], dims)
            values = np.where(rng.random(dims) < 0.2, special, values)
        return values

    # nodes

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def input(self, shape: Sequence[int], dtype: str = "float32", kind: str = "normal") -> Value:
        """An input of the model."""
        return self._keep(self.inputs, "x", self.array(shape, dtype, kind), kind)

    def given(self, array: Array) -> Value:
        """An input of the model with this argument, which no noise is put on."""
        return self._keep(self.inputs, "x", array, "exact")

    def weight(self, shape: Sequence[int], dtype: str = "float32", kind: str = "normal") -> Value:
        """Data that are a constant of the model, or now and then an input."""
        where = self.inputs if self.chance(0.25) else self.constants
        return self._keep(where, "w", self.array(shape, dtype, kind), kind)

    def constant(self, array: Any, dtype: str = "int64") -> Value:
        """A constant that decides what a node does: shapes, axes, bounds."""
        return self._keep(self.constants, "c", np.asarray(array, dtype), "exact")

    def _keep(self, where: dict[str, Array], prefix: str, array: Array, kind: str) -> Value:
        name = self.name(prefix)
        where[name] = array
        if array.dtype.name in FLOATS and kind not in ("exact", "coarse", "wild"):
            self.noisy.add(name)
        return Value(name, array.dtype, array.shape)

    def node(self, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        """A node of one output."""
        return self.node_of(op, 1, *inputs, **attrs)[0]

    def node_like(self, op: str, x: Value, *inputs: Value | None, **attrs: Any) -> Value:
        """A node whose output is of the first operand's type, for operators that onnx infers nothing for."""
        name = self.names_of(op, 1, (x, *inputs), attrs)[0]
        return Value(name, x.dtype, x.shape)

    def node_as(
        self, op: str, dtype: np.dtype[Any], shape: tuple[int, ...], *inputs: Value | None, **attrs: Any
    ) -> Value:
        """A node whose output's type the generator knows, where it follows from values that nodes compute."""
        return Value(self.names_of(op, 1, inputs, attrs)[0], dtype, shape)

    def node_of(self, op: str, outputs: int, *inputs: Value | None, **attrs: Any) -> list[Value]:
        """A node; the types of its outputs are what onnx infers.

        Args:
            op: Operator.
            outputs: How many outputs are used.
            *inputs: Operands, None where absent.
            **attrs: Attributes; those that are None are left out.
        """
        names = self.names_of(op, outputs, inputs, attrs)
        types = {
            v.name: helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for v in inputs
            if v is not None
        }
        data = {
            v.name: numpy_helper.from_array(self.constants[v.name], v.name)
            for v in inputs
            if v is not None and v.name in self.constants and self.constants[v.name].size <= 64
        }
        inferred = shape_inference.infer_node_outputs(
            onnx.defs.get_schema(op, self.opset),
            self.nodes[-1],
            types,
            data,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=IR_VERSION,
        )
        return [_typed(name, inferred[name]) for name in names]

    def names_of(self, op: str, outputs: int, inputs: Sequence[Value | None], attrs: dict[str, Any]) -> list[str]:
        names = [self.name("v") for _ in range(outputs)]
        given = {k: v for k, v in attrs.items() if v is not None}
        self.nodes.append(helper.make_node(op, [v.name if v is not None else "" for v in inputs], names, **given))
        return names

    def result(self, *values: Value) -> None:
        """Makes values outputs of the model."""
        self.outputs.extend(values)

    def finish(self, family: str, seed: int) -> Case:
        """The model."""
        graph = helper.make_graph(
            self.nodes,
            "g",
            [_declared(k, a.dtype, a.shape) for k, a in self.inputs.items()],
            [_declared(v.name, v.dtype, v.shape) for v in self.outputs],
            [numpy_helper.from_array(a, k) for k, a in self.constants.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR_VERSION)
        return Case(family, seed, proto, self.inputs, frozenset(self.noisy), self.exact)


def _declared(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)


def _typed(name: str, proto: onnx.TypeProto) -> Value:
    tensor = proto.tensor_type
    if not tensor.HasField("shape") or any(not d.HasField("dim_value") for d in tensor.shape.dim):
        raise ValueError(f"onnx infers no shape for {name}")
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return Value(name, np.dtype(dtype), tuple(d.dim_value for d in tensor.shape.dim))


def float_type(dtype: np.dtype[Any]) -> bool:
    return dtype.name in FLOATS


__all__ = ["Array", "Case", "Draw", "TensorProto", "Value", "float_type"]
