"""The rules that every expr program keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from tcompiler.errors import VerifyError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor, scope_tensors
from tcompiler.ir.scalar.canonical import prove
from tcompiler.ir.scalar.grammar import (
    Binary,
    Cast,
    Load,
    Reducer,
    Scalar,
    Select,
    Unary,
    Var,
    as_int,
    children,
    greater_equal,
    less,
    postorder,
)
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.ir.scalar.text import operand_error, print_scalar


def verify(program: Program) -> None:
    """Checks a program.

    Raises:
        VerifyError: If a rule of the grammar is broken: names defined twice or not before use, ranks, dtypes, axes that
            are not the shape, variables that nothing binds, reads that are always out of range.
    """
    checker = _Checker(set(program.params))
    for p in program.params:
        if p.extent is not None or p.dtype is not dt.i64:
            raise VerifyError(f"parameter {p.name} is not a free i64", program.name)
    for t in program.inputs:
        checker.define(t, program.name)
    checker.scopes(program.scopes)
    for name in program.outputs:
        if name not in checker.tensors:
            raise VerifyError(f"output {name} is not defined", program.name)


class _Checker:
    def __init__(self, variables: set[Var]) -> None:
        self.variables = variables
        self.tensors: dict[str, Tensor] = {}

    def define(self, t: Tensor, where: str) -> None:
        if t.name in self.tensors:
            raise VerifyError(f"{t.name} is defined twice", where)
        for e in t.shape:
            if e.dtype is not dt.i64:
                raise VerifyError(f"extent {print_scalar(e)} of {t.name} is {e.dtype}, expected i64", where)
            self._bound(e, self.variables, where)
        self.tensors[t.name] = t

    def _bound(self, node: Scalar, variables: set[Var], where: str) -> None:
        for v in free_vars(node):
            if v not in variables:
                raise VerifyError(f"variable {v.name} is bound by no axis and no parameter", where)

    def known(self, name: str, where: str) -> Tensor:
        found = self.tensors.get(name)
        if found is None:
            raise VerifyError(f"{name} is read before it is defined", where)
        return found

    def scopes(self, scopes: Sequence[Scope]) -> None:
        for s in scopes:
            where = scope_tensors(s)[0].name if scope_tensors(s) else "scope"
            match s:
                case Compute():
                    self._compute(s, where)
                case Scan():
                    self._scan(s, where)
                case Scatter():
                    self._scatter(s, where)
                case Sort():
                    self._sort(s, where)
                case _:
                    assert_never(s)

    def _axes(self, axes: Sequence[Var], where: str) -> set[Var]:
        for a in axes:
            if a.extent is None or a.dtype is not dt.i64:
                raise VerifyError(f"axis {a.name} has no extent", where)
            self._bound(a.extent, self.variables, where)
        if len({a.name for a in axes}) != len(axes):
            raise VerifyError("two axes have one name", where)
        return self.variables | set(axes)

    def _compute(self, s: Compute, where: str) -> None:
        if not s.tensors or len(s.values) != len(s.tensors):
            raise VerifyError(f"{len(s.tensors)} tensors are defined by {len(s.values)} values", where)
        if (s.reducer is None) != (not s.reduce_axes):
            raise VerifyError("a reducer and reduce axes come together", where)
        variables = self._axes((*s.axes, *s.reduce_axes), where)
        for t, v in zip(s.tensors, s.values, strict=True):
            if len(t.shape) != len(s.axes) or any(e is not a.extent for e, a in zip(t.shape, s.axes, strict=True)):
                raise VerifyError(f"the shape of {t.name} is not the extents of the axes", where)
            self.value(v, variables, where)
            if v.dtype is not t.dtype:
                raise VerifyError(f"{t.name} is {t.dtype} and its value {v.dtype}", where)
        if s.reducer is not None:
            self._reducer(s.reducer, s.tensors, where)
        for t in s.tensors:
            self.define(t, where)

    def _reducer(self, r: Reducer, ts: Sequence[Tensor], where: str) -> None:
        if not len(r.lhs) == len(r.rhs) == len(r.combine) == len(r.identity) == len(ts):
            raise VerifyError(f"the reducer combines {len(r.lhs)} values, expected {len(ts)}", where)
        for k, t in enumerate(ts):
            for node in (r.lhs[k], r.rhs[k], r.combine[k], r.identity[k]):
                if node.dtype is not t.dtype:
                    raise VerifyError(f"the reducer's value {k} is {node.dtype}, expected {t.dtype}", where)
            for v in free_vars(r.combine[k]):
                if v not in r.lhs and v not in r.rhs:
                    raise VerifyError(f"the reducer names {v.name}, which it does not bind", where)

    def value(self, node: Scalar, variables: set[Var], where: str) -> None:
        """Checks an expression; what a Select's condition says is known on its sides."""
        for n in postorder(node):
            self._node(n, where)
        self._bound(node, variables, where)
        stack: list[tuple[Scalar, tuple[Scalar, ...]]] = [(node, ())]
        seen: set[tuple[Scalar, tuple[Scalar, ...]]] = set()
        empty = any(as_int(v.extent) == 0 for v in variables)
        while stack:
            n, facts = stack.pop()
            if (n, facts) in seen:
                continue
            seen.add((n, facts))
            if isinstance(n, Select):
                stack += [(n.cond, facts), (n.a, (*facts, n.cond)), (n.b, facts)]
                continue
            if isinstance(n, Load) and not empty:
                self._read(n, facts, where)
            stack += [(c, facts) for c in children(n)]

    def _node(self, n: Scalar, where: str) -> None:
        match n:
            case Unary(op=op, a=a):
                problem = operand_error(op, [a.dtype])
            case Binary(op=op, a=a, b=b):
                problem = operand_error(op, [a.dtype, b.dtype])
            case Select(cond=c, a=a, b=b):
                problem = None
                if c.dtype is not dt.bool_:
                    problem = f"select asks for a bool and {print_scalar(c)} is {c.dtype}"
                elif a.dtype is not b.dtype:
                    problem = f"the sides of a select are {a.dtype} and {b.dtype}"
            case Load(buffer=name, dtype=d, indices=indices):
                problem = None
                t = self.known(name, where)
                if t.dtype is not d:
                    problem = f"{name} is {t.dtype} and is read as {d}"
                elif len(indices) != len(t.shape):
                    problem = f"{name} has {len(t.shape)} dimensions and is read with {len(indices)} indices"
                elif any(i.dtype is not dt.i64 for i in indices):
                    problem = f"an index of {name} is not i64"
            case Cast() | _:
                problem = None
        if problem is not None:
            raise VerifyError(problem, where)

    def _read(self, n: Load, facts: tuple[Scalar, ...], where: str) -> None:
        for k, (i, e) in enumerate(zip(n.indices, self.tensors[n.buffer].shape, strict=True)):
            if prove(greater_equal(i, 0), facts) is False or prove(less(i, e), facts) is False:
                what = f"dimension {k} of extent {print_scalar(e)}"
                raise VerifyError(f"index {print_scalar(i)} of {n.buffer} is always outside {what}", where)

    def _scan(self, s: Scan, where: str) -> None:
        count = len(s.states)
        if not count == len(s.init) == len(s.results) == len(s.collect) == len(s.tensors):
            raise VerifyError("a scan has one init, result and tensor per state", where)
        inner = _Checker(self._axes((s.axis,), where))
        inner.tensors = dict(self.tensors)
        for t, name in zip(s.states, s.init, strict=True):
            self._same(t, self.known(name, where), f"state {t.name} and its init {name}", where)
            inner.define(t, where)
        inner.scopes(s.scopes)
        for t, name in zip(s.states, s.results, strict=True):
            self._same(t, inner.known(name, where), f"state {t.name} and its result {name}", where)
        for t, state, whole in zip(s.tensors, s.states, s.collect, strict=True):
            assert s.axis.extent is not None
            shape = (s.axis.extent, *state.shape) if whole else state.shape
            self._same(t, Tensor(t.name, state.dtype, shape), f"{t.name} and what the scan gives", where)
            self.define(t, where)

    def _same(self, a: Tensor, b: Tensor, what: str, where: str) -> None:
        if a.dtype is not b.dtype or a.shape != b.shape:
            raise VerifyError(f"{what} differ in type or shape", where)

    def _scatter(self, s: Scatter, where: str) -> None:
        base = self.known(s.base, where)
        self._same(s.tensor, base, f"{s.tensor.name} and its base {s.base}", where)
        variables = self._axes(s.axes, where)
        if len(s.indices) != len(base.shape):
            raise VerifyError(f"{len(s.indices)} indices for {len(base.shape)} dimensions", where)
        for i in s.indices:
            self.value(i, variables, where)
            if i.dtype is not dt.i64:
                raise VerifyError(f"index {print_scalar(i)} is {i.dtype}, expected i64", where)
        self.value(s.value, variables, where)
        if s.value.dtype is not base.dtype:
            raise VerifyError(f"{s.tensor.name} is {base.dtype} and its value {s.value.dtype}", where)
        if s.combiner is not None:
            self._reducer(s.combiner, (s.tensor,), where)
        self.define(s.tensor, where)

    def _sort(self, s: Sort, where: str) -> None:
        source = self.known(s.source, where)
        if not 0 <= s.axis < len(source.shape):
            raise VerifyError(f"axis {s.axis} is not one of the {len(source.shape)} of {s.source}", where)
        values, places = s.tensors
        self._same(values, source, f"{values.name} and its source {s.source}", where)
        self._same(places, Tensor(places.name, dt.i64, source.shape), f"{places.name} and i64 places", where)
        self.define(values, where)
        self.define(places, where)
