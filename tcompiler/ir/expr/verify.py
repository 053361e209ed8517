"""The rules that every expr program keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from tcompiler.errors import VerifyError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor, scope_tensors
from tcompiler.ir.names import is_identifier, quote
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import (
    Binary,
    Const,
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
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import free_vars, loads
from tcompiler.ir.scalar.text import operand_error, print_scalar, print_tuple, suggestion

_NEGATED = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}
_FACTS = 8
"""How many guards around a read are taken into account, innermost first: proofs try them in pairs."""


def verify(program: Program) -> None:
    """Checks a program.

    Names are identifiers, defined once in the whole program and before their use; shapes, ranks and dtypes agree; the
    axes of a scope have its tensors' extents; expressions name axes and parameters only; reducers have the arity and
    the types of what they combine; no read is out of range wherever it is chosen.

    Raises:
        VerifyError: If a rule is broken; `where` names the scope by the first tensor that it defines.
    """
    if not is_identifier(program.name):
        raise VerifyError(f"the program's name {quote(program.name)} is not an identifier")
    for p in program.params:
        if p.extent is not None or p.dtype is not dt.i64:
            raise VerifyError(f"parameter {p.name} is not a free i64", program.name)
        if not is_identifier(p.name):
            raise VerifyError(f"the parameter's name {quote(p.name)} is not an identifier", program.name)
    if len({p.name for p in program.params}) != len(program.params):
        raise VerifyError("two parameters have one name", program.name)
    checker = _Checker(frozenset(program.params))
    for t in program.inputs:
        checker.define(t, program.name)
    checker.scopes(program.scopes)
    for name in program.outputs:
        if name not in checker.tensors:
            hint = suggestion(name, checker.tensors)
            raise VerifyError(f"output {name} is not defined, or only inside a scan{hint}", program.name)
    if len(set(program.outputs)) != len(program.outputs):
        raise VerifyError("an output is returned twice", program.name)


class _Checker:
    """Checks scopes in their order.

    Args:
        params: The program's parameters, which extents are over.
        around: The checker of the scopes around a scan's, and the scan's axis.
    """

    def __init__(self, params: frozenset[Var], around: tuple[_Checker, Var] | None = None) -> None:
        self.params = params
        self.variables = params
        self.tensors: dict[str, Tensor] = {}
        # every name of the program so far: those inside scans count, though they are not visible
        self.names: set[str] = {p.name for p in params}
        if around is not None:
            outer, axis = around
            self.variables = outer.variables | {axis}
            self.tensors = dict(outer.tensors)
            self.names = outer.names

    def define(self, t: Tensor, where: str) -> None:
        if not is_identifier(t.name):
            raise VerifyError(f"the tensor's name {quote(t.name)} is not an identifier", where)
        if t.name in self.names or any(t.name == v.name for v in self.variables):
            raise VerifyError(f"{t.name} is defined twice", where)
        for e in t.shape:
            self._extent(e, t.name, where)
        self.names.add(t.name)
        self.tensors[t.name] = t

    def _extent(self, e: Scalar, name: str, where: str) -> None:
        what = f"extent {print_scalar(e)} of {name}"
        if e.dtype is not dt.i64:
            raise VerifyError(f"{what} is {e.dtype.name}, not i64", where)
        for n in postorder(e):
            self._node(n, what, where)
        if loads(e):
            raise VerifyError(f"{what} reads a tensor; extents are over constants and parameters", where)
        self._bound(e, self.params, what, where, "extents are over constants and parameters")
        value = as_int(simplify(e))
        if value is not None and value < 0:
            raise VerifyError(f"{what} is negative", where)

    def _bound(self, node: Scalar, variables: frozenset[Var], what: str, where: str, rule: str) -> None:
        unknown = sorted(v.name for v in free_vars(node) - variables)
        if unknown:
            raise VerifyError(f"{what} names {', '.join(unknown)}; {rule}", where)

    def known(self, name: str, where: str) -> Tensor:
        found = self.tensors.get(name)
        if found is None:
            raise VerifyError(f"{name} is not defined before it is read{suggestion(name, self.tensors)}", where)
        return found

    def scopes(self, scopes: Sequence[Scope]) -> None:
        for s in scopes:
            defined = scope_tensors(s)
            if not defined:
                raise VerifyError(f"a {type(s).__name__.lower()} defines no tensor")
            where = defined[0].name
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

    def _axes(self, axes: Sequence[Var], where: str) -> frozenset[Var]:
        """The variables that are visible with some axes."""
        for a in axes:
            if a.extent is None or a.dtype is not dt.i64:
                raise VerifyError(f"axis {a.name} is not an i64 with an extent", where)
            if not is_identifier(a.name):
                raise VerifyError(f"the axis' name {quote(a.name)} is not an identifier", where)
            if a.name in self.tensors or any(a.name == v.name for v in self.variables):
                raise VerifyError(f"axis {a.name} has the name of a tensor, a parameter or an axis around", where)
            self._extent(a.extent, a.name, where)
        if len({a.name for a in axes}) != len(axes):
            raise VerifyError("two axes have one name", where)
        return self.variables | frozenset(axes)

    def _compute(self, s: Compute, where: str) -> None:
        if len(s.values) != len(s.tensors):
            raise VerifyError(f"{len(s.tensors)} tensors are defined by {len(s.values)} values", where)
        if (s.reducer is None) != (not s.reduce_axes):
            raise VerifyError("a reducer and reduce axes come together", where)
        variables = self._axes((*s.axes, *s.reduce_axes), where)
        for t, v in zip(s.tensors, s.values, strict=True):
            if len(t.shape) != len(s.axes) or any(e is not a.extent for e, a in zip(t.shape, s.axes, strict=True)):
                extents = print_tuple([print_scalar(a.extent) for a in s.axes if a.extent is not None])
                raise VerifyError(f"{t.name} is {_type(t)}; the extents of the axes are {extents}", where)
            self.value(v, variables, where)
            if v.dtype is not t.dtype:
                raise VerifyError(f"{t.name} is {t.dtype.name}, its value {v.dtype.name}", where)
        if s.reducer is not None:
            self._reducer(s.reducer, [t.dtype for t in s.tensors], where)
        for t in s.tensors:
            self.define(t, where)

    def _reducer(self, r: Reducer, dtypes: Sequence[DType], where: str) -> None:
        variables = r.lhs + r.rhs
        if not len(r.lhs) == len(r.rhs) == len(r.combine) == len(r.identity) == len(dtypes):
            raise VerifyError(f"a reducer of {len(r.identity)} values combines {len(dtypes)}", where)
        if len({v.name for v in variables}) != len(variables) or not all(is_identifier(v.name) for v in variables):
            raise VerifyError("a reducer's variables are identifiers and differ", where)
        if any(v.extent is not None for v in variables):
            raise VerifyError("a reducer's variables have no extents", where)
        for k, d in enumerate(dtypes):
            for node in (r.lhs[k], r.rhs[k], r.combine[k], r.identity[k]):
                if node.dtype is not d:
                    what = f"value {k} of the reducer is {node.dtype.name} in {print_scalar(node)}"
                    raise VerifyError(f"{what}; it combines {d.name}", where)
            for n in postorder(r.combine[k], r.identity[k]):
                self._node(n, "the reducer", where)
            if loads(r.combine[k]):
                raise VerifyError("a reducer reads no tensor", where)
            self._bound(r.combine[k], frozenset(variables), "the reducer", where, "it may name its variables only")

    def value(self, node: Scalar, variables: frozenset[Var], where: str) -> None:
        """Checks an expression: types, names, and that no read is out of range wherever it is chosen."""
        for n in postorder(node):
            self._node(n, "a value", where)
        self._bound(node, variables, "a value", where, "it may name axes and parameters only")
        if loads(node) and not any(as_int(v.extent) == 0 for v in variables if v.extent is not None):
            # an extent over parameters bounds its axis; constant ones are known to the proofs anyway
            box = tuple(less(v, v.extent) for v in variables if v.extent is not None and as_int(v.extent) is None)
            self._reads(node, tuple(sorted(box, key=print_scalar)), where)

    def _node(self, n: Scalar, what: str, where: str) -> None:
        problem: str | None = None
        match n:
            case Unary(op=op, a=a):
                problem = operand_error(op, [a.dtype])
            case Binary(op=op, a=a, b=b):
                problem = operand_error(op, [a.dtype, b.dtype])
            case Select(cond=c, a=a, b=b):
                if c.dtype is not dt.bool_ or a.dtype is not b.dtype:
                    problem = (
                        f"select takes a bool and two sides of one type, "
                        f"not {c.dtype.name}, {a.dtype.name} and {b.dtype.name}"
                    )
            case Const(dtype=d, bits=bits):
                if not 0 <= bits < 1 << d.bits:
                    problem = f"{bits:#x} are not the bits of a {d.name}"
            case Load(buffer=name, dtype=d, indices=indices):
                t = self.known(name, where)
                if t.dtype is not d:
                    problem = f"{name} is {t.dtype.name}, not {d.name}"
                elif len(indices) != len(t.shape):
                    problem = f"{name} has {len(t.shape)} dimensions, not {len(indices)}"
                else:
                    wrong = [i for i in indices if i.dtype is not dt.i64]
                    if wrong:
                        problem = f"index {print_scalar(wrong[0])} of {name} is {wrong[0].dtype.name}, not i64"
            case _:
                pass
        if problem is not None:
            raise VerifyError(f"{what} is ill-typed: {problem}", where)

    def _reads(self, root: Scalar, box: tuple[Scalar, ...], where: str) -> None:
        """Refuses reads that are out of range at every point of the box at which they are chosen.

        What is known about these points is what every way from the root to the read says, so that an expression that
        is shared is looked at once.
        """
        facts: dict[Scalar, tuple[Scalar, ...]] = {root: ()}
        order = list(postorder(root))
        reading: set[Scalar] = set()
        for n in order:
            if isinstance(n, Load) or any(c in reading for c in children(n)):
                reading.add(n)

        def reach(n: Scalar, known: tuple[Scalar, ...]) -> None:
            before = facts.get(n)
            facts[n] = known if before is None else tuple(f for f in before if f in known)

        for n in reversed(order):
            known = facts.get(n)
            if known is None or n not in reading:
                continue
            if isinstance(n, Select):
                reach(n.cond, known)
                holds = prove(n.cond, (*box, *known))
                if holds is not False:
                    reach(n.a, (*known, n.cond)[-_FACTS:])
                if holds is not True:
                    reach(n.b, (*known, *_negation(n.cond))[-_FACTS:])
                continue
            if isinstance(n, Load):
                self._read(n, (*box, *known), where)
            for c in children(n):
                reach(c, known)

    def _read(self, n: Load, known: tuple[Scalar, ...], where: str) -> None:
        for k, (i, e) in enumerate(zip(n.indices, self.tensors[n.buffer].shape, strict=True)):
            if prove(greater_equal(i, 0), known) is False or prove(less(i, e), known) is False:
                what = f"dimension {k} of extent {print_scalar(e)}"
                raise VerifyError(f"index {print_scalar(i)} of {n.buffer} is always outside {what}", where)

    def _scan(self, s: Scan, where: str) -> None:
        count = len(s.states)
        if not count == len(s.init) == len(s.results) == len(s.collect) == len(s.tensors):
            raise VerifyError(
                f"a scan has one init, result and tensor per state, not {len(s.init)}, {len(s.results)} and "
                f"{len(s.tensors)} for {count}",
                where,
            )
        self._axes((s.axis,), where)
        inner = _Checker(self.params, (self, s.axis))
        for t, name in zip(s.states, s.init, strict=True):
            self._same(t, self.known(name, where), where)
            inner.define(t, where)
        inner.scopes(s.scopes)
        for t, name in zip(s.states, s.results, strict=True):
            self._same(t, inner.known(name, where), where)
        for t, state, whole in zip(s.tensors, s.states, s.collect, strict=True):
            assert s.axis.extent is not None
            shape = (s.axis.extent, *state.shape) if whole else state.shape
            what = f"the {'stack' if whole else 'last'} of {state.name}"
            self._same(t, Tensor(what, state.dtype, shape), where)
            self.define(t, where)

    def _same(self, a: Tensor, b: Tensor, where: str) -> None:
        if a.dtype is not b.dtype or a.shape != b.shape:
            raise VerifyError(f"{a.name} is {_type(a)}, {b.name} is {_type(b)}", where)

    def _scatter(self, s: Scatter, where: str) -> None:
        base = self.known(s.base, where)
        self._same(s.tensor, base, where)
        variables = self._axes(s.axes, where)
        if len(s.indices) != len(base.shape):
            raise VerifyError(f"{s.base} has {len(base.shape)} dimensions, not {len(s.indices)}", where)
        for i in s.indices:
            self.value(i, variables, where)
            if i.dtype is not dt.i64:
                raise VerifyError(f"index {print_scalar(i)} is {i.dtype.name}, not i64", where)
        self.value(s.value, variables, where)
        if s.value.dtype is not base.dtype:
            raise VerifyError(f"{s.tensor.name} is {base.dtype.name}, its value {s.value.dtype.name}", where)
        if s.combiner is not None:
            self._reducer(s.combiner, [base.dtype], where)
        self.define(s.tensor, where)

    def _sort(self, s: Sort, where: str) -> None:
        source = self.known(s.source, where)
        if not 0 <= s.axis < len(source.shape):
            raise VerifyError(f"axis {s.axis} is not one of the {len(source.shape)} of {s.source}", where)
        values, places = s.tensors
        shape = self._first(s, source, where)
        self._same(values, Tensor(s.source, source.dtype, shape), where)
        self._same(places, Tensor(f"the places of {s.source}", dt.i64, shape), where)
        self.define(values, where)
        self.define(places, where)

    def _first(self, s: Sort, source: Tensor, where: str) -> tuple[Scalar, ...]:
        """The source's shape with as many elements along the axis as the result keeps."""
        kept = s.tensors[0].shape
        if len(kept) != len(source.shape):
            return source.shape
        least, most = as_int(kept[s.axis]), as_int(source.shape[s.axis])
        if least is not None and most is not None and least > most:
            raise VerifyError(f"{least} elements of the {most} along axis {s.axis} of {s.source} are kept", where)
        if kept[s.axis] is not source.shape[s.axis] and (least is None or most is None):
            return source.shape
        return (*source.shape[: s.axis], kept[s.axis], *source.shape[s.axis + 1 :])


def _negation(cond: Scalar) -> list[Scalar]:
    """What is known where a condition does not hold: comparisons of indices turned around."""
    result: list[Scalar] = []
    stack = [cond]
    while stack and len(result) < _FACTS:
        c = stack.pop()
        if isinstance(c, Binary) and c.op in _NEGATED and c.a.dtype is dt.i64:
            result.append(Binary(_NEGATED[c.op], c.a, c.b))
        elif isinstance(c, Binary) and c.op == "or" and c.dtype is dt.bool_:
            stack += [c.a, c.b]
        elif isinstance(c, Unary) and c.op == "not" and c.dtype is dt.bool_:
            result.append(c.a)
    return result


def _type(t: Tensor) -> str:
    return f"{t.dtype.name}[{', '.join(map(print_scalar, t.shape)) or '()'}]"
