"""Rewriting every expression of a statement, block bodies included."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from tcompiler.ir.loop.grammar import Block, Commit, For, Intrinsic, Region, Seq, Stmt, Store, Update, Wait, seq, walk
from tcompiler.ir.scalar.grammar import Load, Scalar, Var
from tcompiler.ir.scalar.rewrite import substituter

Rewrite = Callable[[Scalar], Scalar]


def map_expressions(stmt: Stmt, fn: Rewrite) -> Stmt:
    """Applies fn to every index, value, binding, predicate and region of a statement; variables and extents stay."""
    match stmt:
        case Store(buffer=buffer, indices=indices, value=value):
            return Store(buffer, tuple(map(fn, indices)), fn(value))
        case Update(targets=targets, reducer=reducer, values=values):
            return Update(
                tuple([Load(t.buffer, t.dtype, tuple(map(fn, t.indices))) for t in targets]),
                reducer,
                tuple(map(fn, values)),
            )
        case Intrinsic(name=name, writes=writes, reads=reads, args=args, queue=queue):
            return Intrinsic(name, map_regions(writes, fn), map_regions(reads, fn), tuple(map(fn, args)), queue)
        case Commit() | Wait():
            return stmt
        case Seq(stmts=stmts):
            return seq(*[map_expressions(s, fn) for s in stmts])
        case For(var=var, kind=kind, body=body, annotations=annotations):
            return For(var, kind, map_expressions(body, fn), annotations)
        case Block():
            return Block(
                stmt.name,
                stmt.iters,
                tuple(map(fn, stmt.bindings)),
                map_expressions(stmt.body, fn),
                fn(stmt.predicate),
                None if stmt.init is None else map_expressions(stmt.init, fn),
                stmt.opaque,
                map_regions(stmt.reads, fn),
                map_regions(stmt.writes, fn),
                stmt.annotations,
            )
    assert_never(stmt)


def with_fresh_names(stmt: Stmt, rename: Callable[[str], str]) -> Stmt:
    """A copy of a block's body in which the loops and blocks have names of their own."""
    if not any(isinstance(s, For | Block) for s in walk(stmt)):
        return stmt
    variables: dict[Scalar, Scalar] = {}

    def copy(s: Stmt) -> Stmt:
        match s:
            case For(var=var, kind=kind, body=body, annotations=annotations):
                variables[var] = new = Var(rename(var.name), var.dtype, var.extent)
                return For(new, kind, copy(body), annotations)
            case Seq(stmts=stmts):
                return seq(*[copy(x) for x in stmts])
            case Block():
                return Block(
                    rename(s.name),
                    s.iters,
                    s.bindings,
                    copy(s.body),
                    s.predicate,
                    None if s.init is None else copy(s.init),
                    s.opaque,
                    s.reads,
                    s.writes,
                    s.annotations,
                )
            case _:
                return s

    copied = copy(stmt)
    return map_expressions(copied, substituter(variables))


def map_regions(regions: tuple[Region, ...], fn: Rewrite) -> tuple[Region, ...]:
    """Applies fn to every start and extent of some regions."""
    return tuple([Region(r.buffer, tuple([(fn(start), fn(extent)) for start, extent in r.ranges])) for r in regions])
