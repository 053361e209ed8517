"""Every way to change one meaningful field of an expr program, found by walking the fields of its dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Sort, Tensor
from tcompiler.ir.scalar.grammar import Const, Load, Reducer, Scalar, Var, parameter
from tcompiler.ir.scalar.rewrite import substitute
from tests.ir.scalar.mutations import mutations as scalar_mutations

_NODES = (Program, Tensor, Compute, Scan, Scatter, Sort)
_NO_MEANING = {(Program, "name"), (Tensor, "name")}
_BINDERS = ("params", "axes", "reduce_axes", "axis")
# fields that a program's rules tie together; `_together` changes them as one
_TIED = {(Compute, "tensors"), (Compute, "axes"), (Compute, "values"), (Scan, "collect"), (Sort, "tensors")}
_TIED |= {(Scan, name) for name in ("tensors", "states", "init", "results")}


def mutations(program: Program) -> Iterator[tuple[str, Program]]:
    """Programs that differ from one in one meaningful field, with a word on which."""
    yield from _node(program)


def _node(node: Any) -> Iterator[tuple[str, Any]]:
    for f in fields(node):
        key = (type(node), f.name)
        if key in _NO_MEANING:
            continue
        value = getattr(node, f.name)
        for what, other in _value(value, key in _TIED, f.name in _BINDERS):
            yield f"{type(node).__name__}.{f.name} {what}", replace(node, **{f.name: other})
    yield from _together(node)


def _value(value: Any, tied: bool, binder: bool) -> Iterator[tuple[str, Any]]:
    match value:
        case bool():
            yield "turned", not value
        case int():
            yield "moved", value + 1
        case str():
            yield "other name", f"{value}_other"
        case DType():
            yield "other type", dt.u8 if value is not dt.u8 else dt.i8
        case None:
            pass
        case Var(extent=extent) if binder:
            if extent is not None and not tied:
                yield "extent", Var(value.name, value.dtype, extent + 1)
        case Scalar():
            for old, new, whole in scalar_mutations(value):
                # what type a tensor has shows where it is declared
                if not (isinstance(old, Load) and old.dtype is not new.dtype):
                    yield f"{old} to {new}", whole
        case Reducer(lhs=lhs, rhs=rhs, combine=combine, identity=identity):
            for k, c in enumerate(combine):
                for old, new, whole in scalar_mutations(c):
                    yield f"{old} to {new}", Reducer(lhs, rhs, (*combine[:k], whole, *combine[k + 1 :]), identity)
            for k, e in enumerate(identity):
                flipped = Const(e.dtype, e.bits ^ 1)
                yield "identity", Reducer(lhs, rhs, combine, (*identity[:k], flipped, *identity[k + 1 :]))
            yield "sides", Reducer(rhs, lhs, combine, identity)
        case tuple():
            if value and not tied:
                yield "dropped", value[:-1]
            if len(value) > 1 and isinstance(value[0], str) and value[0] != value[1]:
                yield "order", (value[1], value[0], *value[2:])
            for k, item in enumerate(value):
                for what, other in _value(item, tied, binder):
                    yield what, (*value[:k], other, *value[k + 1 :])
        case _ if isinstance(value, _NODES):
            yield from _node(value)
        case _:
            raise TypeError(f"a field of a kind that the mutator does not know: {type(value).__name__}")


def _together(node: Any) -> Iterator[tuple[str, Any]]:
    """Changes of what several fields say together."""
    match node:
        case Program(params=params):
            yield "Program.params added", replace(node, params=(*params, parameter("extra")))
        case Tensor(shape=shape):
            yield "Tensor.shape added", replace(node, shape=(*shape, parameter("extra")))
        case Compute(tensors=tensors, axes=axes, values=values):
            for k, axis in enumerate(axes):
                assert axis.extent is not None
                extent = axis.extent + 1
                longer = Var(axis.name, axis.dtype, extent)
                grown = tuple(replace(t, shape=(*t.shape[:k], extent, *t.shape[k + 1 :])) for t in tensors)
                yield (
                    "Compute extent",
                    replace(
                        node,
                        tensors=grown,
                        axes=(*axes[:k], longer, *axes[k + 1 :]),
                        values=tuple(substitute(v, {axis: longer}) for v in values),
                    ),
                )
            if len(tensors) > 1 and values[0] is not values[1]:
                yield "Compute order of values", replace(node, values=(values[1], values[0], *values[2:]))
        case Sort(tensors=(a, b)):
            yield "Sort order of tensors", replace(node, tensors=(b, a))
        case Scatter(combiner=reducer):
            if reducer is not None:
                yield "Scatter.combiner dropped", replace(node, combiner=None)
        case _:
            pass
