"""The structural hash of expr programs: names do not count, everything else does."""

from __future__ import annotations

from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor
from tcompiler.ir.scalar.grammar import Scalar
from tcompiler.ir.scalar.hash import Hasher


def structural_hash(program: Program) -> str:
    """The hash of a program as 32 hex digits: the order of inputs, scopes and outputs counts, names do not."""
    h = Hasher()
    h.token("program", len(program.params))
    for p in program.params:
        h.bind(p)
    h.token(len(program.inputs))
    for t in program.inputs:
        _tensor(h, t)
    _scopes(h, program.scopes)
    h.token(len(program.outputs))
    for name in program.outputs:
        h.name(name)
    return h.digest()


def _tensor(h: Hasher, t: Tensor) -> None:
    h.token("tensor", t.dtype.name)
    _scalars(h, t.shape)
    h.name(t.name)


def _scalars(h: Hasher, nodes: tuple[Scalar, ...]) -> None:
    h.token(len(nodes))
    for n in nodes:
        h.scalar(n)


def _scopes(h: Hasher, scopes: tuple[Scope, ...]) -> None:
    h.token(len(scopes))
    for s in scopes:
        _scope(h, s)


def _scope(h: Hasher, s: Scope) -> None:
    match s:
        case Compute():
            h.token("compute", len(s.axes), len(s.reduce_axes), len(s.tensors))
            for axis in (*s.axes, *s.reduce_axes):
                h.bind(axis)
            if s.reducer is None:
                h.token("map")
            else:
                h.reducer(s.reducer)
            _scalars(h, s.values)
            for t in s.tensors:
                _tensor(h, t)
        case Scan():
            h.token("scan", len(s.states), *s.collect)
            h.bind(s.axis)
            for t, name in zip(s.states, s.init, strict=True):
                h.name(name)
                _tensor(h, t)
            _scopes(h, s.scopes)
            for name in s.results:
                h.name(name)
            for t in s.tensors:
                _tensor(h, t)
        case Scatter():
            h.token("scatter", len(s.axes))
            for axis in s.axes:
                h.bind(axis)
            h.name(s.base)
            if s.combiner is None:
                h.token("assign")
            else:
                h.reducer(s.combiner)
            _scalars(h, (*s.indices, s.value))
            _tensor(h, s.tensor)
        case Sort():
            h.token("sort", s.axis, s.descending)
            h.name(s.source)
            for t in s.tensors:
                _tensor(h, t)
