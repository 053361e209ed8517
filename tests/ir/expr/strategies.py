"""Random expr programs with their arguments, verified by construction and exact in any order of evaluation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor
from tcompiler.ir.scalar.grammar import (
    Binary,
    Load,
    Reducer,
    Scalar,
    Select,
    Unary,
    Var,
    as_int,
    conjunction,
    const,
    greater_equal,
    index,
    less,
    parameter,
)
from tcompiler.ir.scalar.interpret import const_value
from tcompiler.ir.scalar.reducers import named_reducer
from tests.ir.scalar.strategies import EXACT_BINARY, EXACT_UNARY, Scene, any_constant, any_scalar

N = parameter("n")
_DTYPES = (dt.f32, dt.f32, dt.f64, dt.i64, dt.i32, dt.bool_, dt.f16, dt.bf16, dt.i8, dt.u8)
# a zero's sign, which min and max may choose, shows in quotients only
_BINARY = tuple(op for op in EXACT_BINARY if op not in ("div",))


@dataclass
class Case:
    """A program and what to call it with."""

    program: Program
    inputs: dict[str, NDArray[Any]]
    params: dict[str, int]


@dataclass
class _Builder:
    r: random.Random
    tensors: dict[str, Tensor] = field(default_factory=dict)
    scope_variables: tuple[Var, ...] = (N,)
    count: int = 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def extent(self) -> Scalar:
        return self.r.choice((index(1), index(2), index(3), index(4), N, N + 1))

    def shape(self, rank: int | None = None) -> tuple[Scalar, ...]:
        count = self.r.choice((0, 1, 1, 2, 2, 3)) if rank is None else rank
        return tuple(self.extent() for _ in range(count))

    def define(self, dtype: DType, shape: Sequence[Scalar]) -> Tensor:
        return Tensor(self.name(), dtype, tuple(shape))

    def axes(self, shape: Sequence[Scalar], letter: str) -> tuple[Var, ...]:
        return tuple(Var(f"{letter}{k}", dt.i64, e) for k, e in enumerate(shape))

    def read(self, t: Tensor, axes: Sequence[Var]) -> Scalar:
        """A read of a tensor: plainly along axes of its extents where there are such, else guarded."""
        at: list[Scalar] = []
        guards: list[Scalar] = []
        for e in t.shape:
            fitting = [a for a in axes if a.extent is e]
            if fitting and self.r.random() < 0.8:
                at.append(self.r.choice(fitting))
                continue
            i: Scalar = self.r.choice(axes) if axes else index(0)
            i = i * self.r.choice((1, 1, 2, -1)) + self.r.randint(-1, 2)
            at.append(i)
            guards += [greater_equal(i, 0), less(i, e)]
        load = Load(t.name, t.dtype, tuple(at))
        return Select(conjunction(*guards), load, any_constant(self.r, t.dtype)) if guards else load

    def value(self, dtype: DType, axes: Sequence[Var]) -> Scalar:
        readable = [t for t in self.tensors.values() if t.dtype is dtype]
        scalar = self.scalar(dtype, axes)
        if not readable or self.r.random() < 0.15:
            return scalar
        read = self.read(self.r.choice(readable), axes)
        if self.r.random() < 0.5:
            return read
        op = "xor" if dtype is dt.bool_ else self.r.choice(("add", "sub", "mul", "max"))
        return Binary(op, read, scalar)

    def scalar(self, dtype: DType, axes: Sequence[Var]) -> Scalar:
        constant = {}
        for t in self.tensors.values():
            shape = [as_int(e) for e in t.shape]
            if all(e is not None for e in shape):
                constant[t.name] = (t.dtype, tuple(e for e in shape if e is not None))
        scene = Scene((*axes, *self.scope_variables), constant, EXACT_UNARY, _BINARY)
        return any_scalar(self.r, dtype, scene, self.r.randint(0, 3))

    def compute(self) -> Compute:
        if self.r.random() < 0.45:
            return self.reduction()
        shape = self.shape()
        axes = self.axes(shape, "i")
        made = [self.define(self.r.choice(_DTYPES), shape) for _ in range(self.r.choice((1, 1, 1, 2)))]
        return Compute(tuple(made), axes, (), None, tuple(self.value(t.dtype, axes) for t in made))

    def reduction(self) -> Compute:
        shape = self.shape(self.r.choice((0, 1, 1, 2)))
        axes = self.axes(shape, "i")
        over = self.axes(self.shape(self.r.choice((1, 1, 2))), "k")
        dtype = self.r.choice(_DTYPES)
        kind = self.r.random()
        if kind < 0.2 and dtype is not dt.bool_:
            reducer = named_reducer(self.r.choice(("argmin", "argmax")), dtype, dt.i64)
            position: Scalar = index(0)
            for a in over:
                assert a.extent is not None
                position = position * a.extent + a
            values: tuple[Scalar, ...] = (tame(self.value(dtype, (*axes, *over))), position)
        elif kind < 0.4:
            reducer = other_reducer(dtype)
            values = tuple(tame(self.value(c.dtype, (*axes, *over))) for c in reducer.identity)
        elif kind < 0.6 and dtype is not dt.bool_:
            reducer = named_reducer("sum", dtype)
            product = (tame(self.value(dtype, (*axes, *over))), tame(self.value(dtype, (*axes, *over))))
            values = (Binary("mul", *product),)
        else:
            names = ("any", "all") if dtype is dt.bool_ else ("sum", "prod", "min", "max")
            if dtype.is_integer:
                names = (*names, "any", "all")
            reducer = named_reducer(self.r.choice(names), dtype)
            values = (tame(self.value(dtype, (*axes, *over))),)
        made = tuple(self.define(c.dtype, shape) for c in reducer.identity)
        return Compute(made, axes, over, reducer, values)

    def scatter(self) -> Scatter | None:
        if not self.tensors:
            return None
        base = self.r.choice(list(self.tensors.values()))
        axes = self.axes(self.shape(self.r.choice((0, 1, 2))), "i")
        at = tuple(
            self.r.choice(axes) if axes and self.r.random() < 0.6 else self.scalar(dt.i64, axes) for _ in base.shape
        )
        combiner: Reducer | None = None
        if self.r.random() < 0.6:
            names = ("any",) if base.dtype is dt.bool_ else ("sum", "max", "prod")
            combiner = named_reducer(self.r.choice(names), base.dtype)
            if self.r.random() < 0.4 and base.dtype is not dt.bool_:
                combiner = other_reducer(base.dtype, single=True)
        return Scatter(self.define(base.dtype, base.shape), base.name, axes, at, self.value(base.dtype, axes), combiner)

    def sort(self) -> Sort | None:
        sortable = [t for t in self.tensors.values() if t.shape]
        if not sortable:
            return None
        source = self.r.choice(sortable)
        pair = self.define(source.dtype, source.shape), self.define(dt.i64, source.shape)
        return Sort(pair, source.name, self.r.randrange(len(source.shape)), self.r.random() < 0.5)

    def scan(self, depth: int) -> Scan | None:
        if not self.tensors or depth == 0:
            return None
        init = [self.r.choice(list(self.tensors.values())) for _ in range(self.r.choice((1, 1, 2)))]
        axis = Var(f"s{depth}", dt.i64, self.extent())
        inner = _Builder(self.r, dict(self.tensors), (*self.scope_variables, axis), self.count)
        states = tuple(inner.define(t.dtype, t.shape) for t in init)
        inner.tensors.update((t.name, t) for t in states)
        scopes = inner.scopes(self.r.randint(0, 2), depth - 1)
        results = []
        for t in states:
            axes = inner.axes(t.shape, "i")
            step = inner.define(t.dtype, t.shape)
            scopes.append(Compute((step,), axes, (), None, (inner.value(t.dtype, axes),)))
            results.append(step.name)
        self.count = inner.count
        collect = tuple(self.r.random() < 0.5 for _ in states)
        assert axis.extent is not None
        made = tuple(
            self.define(t.dtype, (axis.extent, *t.shape) if whole else t.shape)
            for t, whole in zip(states, collect, strict=True)
        )
        return Scan(made, axis, states, tuple(t.name for t in init), tuple(scopes), tuple(results), collect)

    def scopes(self, count: int, depth: int) -> list[Scope]:
        scopes: list[Scope] = []
        for _ in range(count):
            kind = self.r.random()
            scope: Scope | None
            if kind < 0.6:
                scope = self.compute()
            elif kind < 0.75:
                scope = self.scatter()
            elif kind < 0.87:
                scope = self.sort()
            else:
                scope = self.scan(depth)
            if scope is not None:
                made = (scope.tensor,) if isinstance(scope, Scatter) else scope.tensors
                self.tensors.update((t.name, t) for t in made)
                scopes.append(scope)
        return scopes


def tame(node: Scalar) -> Scalar:
    """A value that any order of a reduction adds and multiplies exactly: small whole floats, no negative zero."""
    d = node.dtype
    if not d.is_float:
        return node
    most = 1.0 if d.bits == 16 else 2.0
    clamped = Binary("max", Binary("min", node, const(d, most)), const(d, -most))
    return Binary("add", Unary("round", clamped), const(d, 0.0))


def other_reducer(dtype: DType, single: bool = False) -> Reducer:
    """A reducer without a name: the sum and the number of values, or without the number the sum twice negated."""
    a, b = Var("p", dtype, None), Var("q", dtype, None)
    if dtype is dt.bool_:
        return Reducer((a,), (b,), (Binary("xor", a, b),), (const(dtype, 0),))
    total = Binary("add", Binary("add", b, const(dtype, 0)), a)
    if single:
        return Reducer((a,), (b,), (total,), (const(dtype, 0),))
    c, d = Var("m", dt.i32, None), Var("k", dt.i32, None)
    both = (total, Binary("max", c, d))
    return Reducer((a, c), (b, d), both, (const(dtype, 0), const(dt.i32, -(1 << 31))))


def _array(r: random.Random, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
    values = [const_value(any_constant(r, dtype)) for _ in range(int(np.prod(shape, dtype=np.int64)))]
    return np.array(values, dtype.numpy).reshape(shape)


def case(seed: int, scopes: int = 4) -> Case:
    """The case of a seed."""
    r = random.Random(seed)
    b = _Builder(r)
    inputs = [b.define(r.choice(_DTYPES), b.shape()) for _ in range(r.randint(1, 3))]
    b.tensors.update((t.name, t) for t in inputs)
    made = b.scopes(scopes, 2)
    names = list(b.tensors)
    outputs = tuple(dict.fromkeys([names[-1], *r.choices(names, k=2)]))
    n = r.choice((0, 1, 2, 3, 3))
    arrays = {}
    for t in inputs:
        shape = tuple(n + 1 if e is N + 1 else n if e is N else as_int(e) or 0 for e in t.shape)
        arrays[t.name] = _array(r, t.dtype, shape)
    return Case(Program("random", (N,), tuple(inputs), tuple(made), outputs), arrays, {"n": n})


def cases(scopes: int = 4) -> st.SearchStrategy[Case]:
    """Random cases."""
    return st.builds(case, st.integers(0, 1 << 32), st.just(scopes))
