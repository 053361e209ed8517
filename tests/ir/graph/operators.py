"""A few operators of the tests' own, and a strategy for random graphs of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tcompiler.errors import UserError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Compute, Program, Sort, Tensor
from tcompiler.ir.graph.grammar import (
    Attr,
    Constant,
    ConstantStore,
    Graph,
    Node,
    TensorType,
    Value,
)
from tcompiler.ir.layout import IndexMap, Layout
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Var, const, index, loop_var, parameter
from tcompiler.ir.scalar.reducers import named_reducer
from tcompiler.ir.scalar.rewrite import free_vars

Types = Sequence[TensorType | None]
Attrs = Mapping[str, Attr]


def _present(types: Types, count: int) -> list[TensorType]:
    found = [t for t in types if t is not None]
    if len(types) != count or len(found) != count:
        raise UserError(f"expected {count} inputs, got {len(found)}")
    return found


def _program(types: Types, shape: Sequence[Scalar], compute: Compute) -> Program:
    found = [t for t in types if t is not None]
    used: set[Var] = set()
    for t in found:
        for e in t.shape:
            used |= free_vars(e)
    inputs = tuple(Tensor(f"x{k}", t.dtype, t.shape) for k, t in enumerate(found))
    return Program("op", tuple(sorted(used, key=lambda v: v.name)), inputs, (compute,), ("y",))


def _pointwise(t: TensorType, value: Callable[[tuple[Scalar, ...]], Scalar]) -> Compute:
    axes = tuple(loop_var(f"i{k}", e) for k, e in enumerate(t.shape))
    return Compute((Tensor("y", t.dtype, t.shape),), axes, (), None, (value(axes),))


@dataclass(frozen=True)
class Shift:
    """x + by."""

    def infer(self, types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
        (t,) = _present(types, 1)
        if not isinstance(attrs.get("by"), int):
            raise UserError("by must be an integer")
        return (t,)

    def define(self, types: Types, attrs: Attrs) -> Program:
        (t,) = _present(types, 1)
        by = attrs["by"]
        assert isinstance(by, int)
        return _program(
            types, t.shape, _pointwise(t, lambda at: Binary("add", Load("x0", t.dtype, at), const(t.dtype, by)))
        )


@dataclass(frozen=True)
class Combine:
    """a + b, or a where b is absent; the shapes are equal."""

    op: str

    def infer(self, types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
        if len(types) != 2 or types[0] is None:
            raise UserError("expected two inputs, the first of them present")
        a, b = types[0], types[1]
        if b is not None and (a.shape != b.shape or a.dtype is not b.dtype):
            raise UserError("the inputs differ in type")
        return (a,)

    def define(self, types: Types, attrs: Attrs) -> Program:
        (t,) = self.infer(types, attrs)

        def value(at: tuple[Scalar, ...]) -> Scalar:
            a = Load("x0", t.dtype, at)
            return a if types[1] is None else Binary(self.op, a, Load("x1", t.dtype, at))

        return _program(types, t.shape, _pointwise(t, value))


@dataclass(frozen=True)
class Total:
    """The sum over the last axis."""

    def infer(self, types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
        (t,) = _present(types, 1)
        if not t.shape:
            raise UserError("a scalar has no last axis")
        return (TensorType(t.dtype, t.shape[:-1]),)

    def define(self, types: Types, attrs: Attrs) -> Program:
        (t,) = _present(types, 1)
        axes = tuple(loop_var(f"i{k}", e) for k, e in enumerate(t.shape[:-1]))
        last = loop_var("r", t.shape[-1])
        y = Tensor("y", t.dtype, t.shape[:-1])
        value = Load("x0", t.dtype, (*axes, last))
        return _program(types, t.shape, Compute((y,), axes, (last,), named_reducer("sum", t.dtype), (value,)))


@dataclass(frozen=True)
class Ordered:
    """The values sorted along an axis, and where they were."""

    def infer(self, types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
        (t,) = _present(types, 1)
        axis = attrs.get("axis")
        if not isinstance(axis, int) or not 0 <= axis < len(t.shape):
            raise UserError(f"axis is {axis}; the input has {len(t.shape)} dimensions")
        return t, TensorType(dt.i64, t.shape)

    def define(self, types: Types, attrs: Attrs) -> Program:
        (t,) = _present(types, 1)
        axis = attrs["axis"]
        assert isinstance(axis, int)
        pair = (Tensor("y", t.dtype, t.shape), Tensor("z", dt.i64, t.shape))
        scope = Sort(pair, "x0", axis, False)
        used: set[Var] = set()
        for e in t.shape:
            used |= free_vars(e)
        params = tuple(sorted(used, key=lambda v: v.name))
        return Program("op", params, (Tensor("x0", t.dtype, t.shape),), (scope,), ("y", "z"))


OPERATORS: dict[str, Any] = {
    "shift": Shift(),
    "plus": Combine("add"),
    "times": Combine("mul"),
    "total": Total(),
    "ordered": Ordered(),
}


@dataclass(frozen=True)
class Case:
    """A graph with arguments that it can be run on."""

    graph: Graph
    constants: ConstantStore
    inputs: dict[str, np.ndarray[Any, Any]]
    params: dict[str, int]


Draw = Callable[..., Any]


@st.composite
def cases(draw: Draw) -> Case:
    """Graphs of up to eight nodes over a few inputs and constants, with labels, groups and layouts."""
    n = parameter("n")
    size = int(draw(st.integers(1, 3)))
    store = ConstantStore()
    types: dict[str, TensorType] = {}
    seed = int(draw(st.integers(0, 99)))
    rng = np.random.default_rng(seed)

    def numbers(t: TensorType) -> np.ndarray[Any, Any]:
        shape = tuple(size if e is n else int(e.value) for e in t.shape)  # type: ignore[attr-defined]
        return rng.integers(0, 3, shape).astype(t.dtype.numpy)

    def layout(t: TensorType) -> TensorType:
        if len(t.shape) != 2 or n in t.shape or not draw(st.booleans()):
            return t
        a, b = parameter("a"), parameter("b")
        rows, columns = t.shape
        blocked = (b // 2, a, b % 2)
        shape = ((columns + 1) // 2, rows, index(2))
        return TensorType(t.dtype, t.shape, Layout(IndexMap((a, b), blocked), shape, bool(draw(st.booleans()))))

    def label() -> str:
        return str(draw(st.sampled_from(["", "", "input.1", 'a "b"', "it's\n", "λ\\", "\ud800"])))

    dtypes = (dt.f32, dt.f64, dt.i64, dt.i32)
    extents = (index(1), index(2), index(3), n)
    inputs: list[Value] = []
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for k in range(int(draw(st.integers(1, 3)))):
        shape = tuple(draw(st.lists(st.sampled_from(extents), max_size=2)))
        t = TensorType(draw(st.sampled_from(dtypes)), shape)
        arrays[f"x{k}"] = numbers(t)
        t = layout(t)
        inputs.append(Value(f"x{k}", t, label()))
        types[f"x{k}"] = t
    constants: list[Constant] = []
    for k in range(int(draw(st.integers(0, 2)))):
        like = types[draw(st.sampled_from(sorted(types)))]
        if n not in like.shape:
            t = TensorType(like.dtype, like.shape)
            constants.append(Constant(f"c{k}", store.put(numbers(t)), t))
            types[f"c{k}"] = t
    nodes: list[Node] = []
    for k in range(int(draw(st.integers(1, 8)))):
        a = draw(st.sampled_from(sorted(types)))
        op = draw(st.sampled_from(sorted(OPERATORS)))
        attrs: tuple[tuple[str, Attr], ...] = ()
        given = [a]
        if op in ("plus", "times"):
            fits = [b for b, t in types.items() if t.shape == types[a].shape and t.dtype is types[a].dtype]
            given.append(draw(st.sampled_from(["", *fits])))
        elif op == "shift":
            attrs = (("by", int(draw(st.integers(-3, 3)))),)
        elif not types[a].shape:
            continue
        elif op == "ordered":
            attrs = (("axis", int(draw(st.integers(0, len(types[a].shape) - 1)))),)
        plain = [TensorType(types[b].dtype, types[b].shape) if b else None for b in given]
        results = OPERATORS[op].infer(plain, dict(attrs))
        outputs = tuple(Value(f"v{k}_{j}", layout(t), "") for j, t in enumerate(results))
        types.update((v.name, v.type) for v in outputs)
        name = f"v{k}_0" if draw(st.booleans()) else f"node {k}"
        nodes.append(Node(op, name, tuple(given), outputs, attrs, draw(st.sampled_from([None, "g1", "g2"]))))
    made = [v.name for node in nodes for v in node.outputs] or ["x0"]
    chosen = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    outputs = tuple(Value(name, types[name], label()) for name in chosen)
    graph = Graph("random", (n,), tuple(inputs), tuple(constants), tuple(nodes), outputs)
    return Case(graph, store, arrays, {"n": size})
