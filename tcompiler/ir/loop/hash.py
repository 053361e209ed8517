"""The structural hash of loop functions: names do not count, everything that reaches generated code does.

Blocks and scalars are hashed on their own first, with what they name numbered in the order of first mention, and these
digests are kept: after a rewrite, which copies only a path, hashing a function is hashing its loops and bindings.
"""

from __future__ import annotations

from functools import lru_cache
from typing import assert_never

from tcompiler.ir.loop.grammar import (
    Annotations,
    Block,
    Buffer,
    Commit,
    For,
    Function,
    Intrinsic,
    Region,
    Seq,
    Stmt,
    Store,
    Update,
    Wait,
    memo,
)
from tcompiler.ir.names import quote
from tcompiler.ir.scalar.grammar import Reducer, Scalar, Var
from tcompiler.ir.scalar.hash import Hasher
from tcompiler.ir.scalar.reducers import reducer_name

_Part = tuple[str, tuple[Var, ...], tuple[str, ...]]
"""A digest, with the free variables and the buffers that it numbers, in the order of these numbers."""


class _Hasher(Hasher):
    """A hasher that takes parts hashed before, and tells what it has met."""

    def __init__(self) -> None:
        super().__init__()
        self.bound: set[Var] = set()
        self.mentioned: dict[str, None] = {}

    def bind(self, var: Var) -> None:
        super().bind(var)
        self.bound.add(var)

    def name(self, name: str) -> None:
        super().name(name)
        self.mentioned[name] = None

    def scalar(self, node: Scalar) -> None:
        self.part(_scalar_part(node))

    def reducer(self, reducer: Reducer) -> None:
        self.token(_reducer_digest(reducer))

    def scalars(self, nodes: tuple[Scalar, ...]) -> None:
        self.token(len(nodes))
        for n in nodes:
            self.scalar(n)

    def part(self, part: _Part) -> None:
        digest, free, names = part
        self.token(digest)
        for v in free:
            self._variable(v)
        for n in names:
            self.name(n)

    def whole(self) -> _Part:
        free = tuple(v for v in self._variables if v not in self.bound)
        return self.digest(), free, tuple(self.mentioned)


class _Plain(_Hasher):
    """Hashes a scalar node by node."""

    scalar = Hasher.scalar


@lru_cache(maxsize=1 << 16)
def _scalar_part(node: Scalar) -> _Part:
    h = _Plain()
    h.scalar(node)
    return h.whole()


@lru_cache(maxsize=1 << 12)
def _reducer_digest(reducer: Reducer) -> str:
    name = reducer_name(reducer)
    if name is not None:
        return f"{name} {' '.join(c.dtype.name for c in reducer.identity)}"
    h = Hasher()
    h.reducer(reducer)
    return h.digest()


def structural_hash(function: Function) -> str:
    """The hash of a function, as 32 hex digits, equal in every process.

    Names count nowhere, nor does the order in which inner buffers are declared. Kinds, annotations, scopes and strides
    count: two functions of one hash have one machine code.
    """
    facts = memo(function)
    found: str | None = facts.get("hash")
    if found is None:
        found = facts["hash"] = _hash(function)
    return found


def _hash(function: Function) -> str:
    h = _Hasher()
    table = {b.name: b for b in function.buffers}
    h.token("function", len(function.params), len(function.inputs), len(function.outputs))
    for p in function.params:
        h.bind(p)
    outside = (*function.inputs, *function.outputs)
    for name in outside:
        h.name(name)
        if name in table:
            _buffer(h, table[name])
    _stmt(h, function.body)
    inner = [n for n in h.mentioned if n in table]
    inner += [b.name for b in function.buffers if b.name not in h.mentioned]
    for name in inner:
        if name not in outside:
            h.name(name)
            _buffer(h, table[name])
    return h.digest()


def _buffer(h: _Hasher, b: Buffer) -> None:
    h.token("buffer", b.dtype.name, b.scope, b.strides is None)
    h.scalars(b.shape)
    if b.strides is not None:
        h.scalars(b.strides)


def _annotations(h: _Hasher, annotations: Annotations) -> None:
    h.token(len(annotations))
    for key, value in annotations:
        h.token(quote(key), quote(value) if isinstance(value, str) else value)


def _regions(h: _Hasher, regions: tuple[Region, ...]) -> None:
    h.token(len(regions))
    for r in regions:
        h.name(r.buffer)
        h.token(len(r.ranges))
        for start, extent in r.ranges:
            h.scalar(start)
            h.scalar(extent)


def _stmt(h: _Hasher, stmt: Stmt) -> None:
    """Adds a statement; the stack holds statements, and tokens that close them."""
    stack: list[Stmt | str] = [stmt]
    while stack:
        s = stack.pop()
        if isinstance(s, str):
            h.token(s)
            continue
        match s:
            case Seq(stmts=stmts):
                h.token("seq", len(stmts))
                stack += reversed(stmts)
            case For(var=var, kind=kind, body=body, annotations=annotations):
                h.token("for", kind)
                h.bind(var)
                _annotations(h, annotations)
                stack += ["end", body]
            case Block():
                h.token("block")
                h.scalar(s.predicate)
                h.scalars(s.bindings)
                h.part(_block_part(s))
            case Store(buffer=buffer, indices=indices, value=value):
                h.token("store")
                h.name(buffer)
                h.scalars(indices)
                h.scalar(value)
            case Update(targets=targets, reducer=reducer, values=values):
                h.token("update")
                h.scalars(targets)
                h.reducer(reducer)
                h.scalars(values)
            case Intrinsic():
                h.token("intrinsic", quote(s.name), None if s.queue is None else quote(s.queue))
                _regions(h, s.writes)
                _regions(h, s.reads)
                h.scalars(s.args)
            case Commit(queue=queue):
                h.token("commit", quote(queue))
            case Wait(queue=queue, pending=pending):
                h.token("wait", quote(queue), pending)
            case _:
                assert_never(s)


def _block_part(block: Block) -> _Part:
    """The hash of a block apart from its bindings and predicate, which name what is around it."""
    facts = memo(block)
    found: _Part | None = facts.get("hash")
    if found is None:
        h = _Hasher()
        h.token("block", len(block.iters), block.opaque)
        for it in block.iters:
            h.token(it.kind)
            h.bind(it.var)
        _annotations(h, block.annotations)
        _regions(h, block.reads)
        _regions(h, block.writes)
        h.token(block.init is not None)
        if block.init is not None:
            _stmt(h, block.init)
        _stmt(h, block.body)
        found = facts["hash"] = h.whole()
    return found
