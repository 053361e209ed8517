"""Every way to change one meaningful field of a loop function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.grammar import (
    Block,
    Buffer,
    Commit,
    For,
    Function,
    Intrinsic,
    IterVar,
    Region,
    Seq,
    Stmt,
    Store,
    Update,
    Wait,
    seq,
)
from tcompiler.ir.scalar.grammar import FALSE, Binary, Const, Load, Reducer, Scalar, Var, index
from tcompiler.ir.scalar.reducers import named_reducer
from tcompiler.ir.scalar.rewrite import substitute


def mutations(f: Function) -> Iterator[tuple[str, Function]]:
    """Functions that differ from f in one meaningful field, with a word on which."""
    for k in range(len(f.params)):
        yield "params", replace(f, params=f.params[:k] + f.params[k + 1 :])
    for what, names in (("inputs", f.inputs), ("outputs", f.outputs)):
        if len(names) > 1:
            yield what, replace(f, **{what: (names[1], names[0], *names[2:])})
    if f.outputs:
        yield "an output becomes an input", replace(f, inputs=(*f.inputs, f.outputs[-1]), outputs=f.outputs[:-1])
    for k, b in enumerate(f.buffers):
        for what, other in _buffers(b):
            yield what, replace(f, buffers=(*f.buffers[:k], other, *f.buffers[k + 1 :]))
    for what, body in _stmts(f.body):
        yield what, replace(f, body=body)


def _other(dtype: dt.DType) -> dt.DType:
    return dt.f32 if dtype is not dt.f32 else dt.i32


def _buffers(b: Buffer) -> Iterator[tuple[str, Buffer]]:
    yield "buffer dtype", replace(b, dtype=_other(b.dtype))
    yield "buffer scope", replace(b, scope="local" if b.scope != "local" else "global")
    yield "buffer rank", replace(b, shape=(*b.shape, index(1)), strides=None)
    for shape in _each(b.shape):
        yield "buffer shape", replace(b, shape=shape)
    if b.strides is None:
        yield "buffer strides", replace(b, strides=tuple(index(1) for _ in b.shape))
    else:
        yield "buffer strides", replace(b, strides=None)
        for strides in _each(b.strides):
            yield "buffer strides", replace(b, strides=strides)


def _each(nodes: tuple[Scalar, ...]) -> Iterator[tuple[Scalar, ...]]:
    for k, n in enumerate(nodes):
        yield (*nodes[:k], _changed(n), *nodes[k + 1 :])


def _changed(node: Scalar) -> Scalar:
    """Another scalar of the same type."""
    if isinstance(node, Const):
        return Const(node.dtype, node.bits ^ 1)
    if node.dtype.kind == "bool":
        return Binary("xor", node, FALSE)
    return Binary("add", node, Const(node.dtype, 1))


def _scalars(node: Scalar) -> Iterator[Scalar]:
    yield _changed(node)
    match node:
        case Load(buffer=buffer, dtype=dtype, indices=indices):
            for other in _each(indices):
                yield Load(buffer, dtype, other)
        case Binary(op=op, a=a, b=b):
            if a is not b:
                yield Binary(op, b, a)
            yield Binary("sub" if op != "sub" else "add", a, b) if a.dtype.kind != "bool" else Binary("eq", a, b)
        case _:
            pass


def _stmts(s: Stmt) -> Iterator[tuple[str, Stmt]]:
    match s:
        case Seq(stmts=stmts):
            for k, child in enumerate(stmts):
                for what, other in _stmts(child):
                    yield what, seq(*stmts[:k], other, *stmts[k + 1 :])
                yield "dropped statement", seq(*stmts[:k], *stmts[k + 1 :])
            if len(stmts) > 1:
                yield "order of statements", seq(stmts[1], stmts[0], *stmts[2:])
        case For(var=var, body=body, kind=kind):
            yield "loop kind", replace(s, kind="serial" if kind != "serial" else "parallel")
            yield "loop kind", replace(s, kind="blockIdx.x" if kind != "blockIdx.x" else "blockIdx.y")
            assert var.extent is not None
            longer = Var(var.name, var.dtype, _changed(var.extent))
            yield "loop extent", For(longer, kind, _renamed(body, {var: longer}), s.annotations)
            yield from _annotations(s)
            for what, other in _stmts(body):
                yield what, replace(s, body=other)
        case Block():
            yield from _blocks(s)
        case Store(indices=indices, value=value):
            for at in _each(indices):
                yield "store index", replace(s, indices=at)
            for other in _scalars(value):
                yield "store value", replace(s, value=other)
        case Update(targets=targets, reducer=reducer, values=values):
            for k, t in enumerate(targets):
                for at in _each(t.indices):
                    moved = Load(t.buffer, t.dtype, at)
                    yield "update target", replace(s, targets=(*targets[:k], moved, *targets[k + 1 :]))
            for k, v in enumerate(values):
                for other in _scalars(v):
                    yield "update value", replace(s, values=(*values[:k], other, *values[k + 1 :]))
            yield "reducer", replace(s, reducer=_reducer(reducer))
            identity = (_changed(reducer.identity[0]), *reducer.identity[1:])
            yield (
                "reducer identity",
                replace(s, reducer=Reducer(reducer.lhs, reducer.rhs, reducer.combine, identity)),  # type: ignore[arg-type]
            )
        case Intrinsic():
            yield "intrinsic name", replace(s, name=s.name + "x")
            yield "intrinsic queue", replace(s, queue="other" if s.queue is None else None)
            yield "intrinsic args", replace(s, args=(*s.args, index(1)))
            yield from _regions(s, "reads")
            yield from _regions(s, "writes")
        case Commit(queue=queue):
            yield "commit queue", Commit(queue + "x")
        case Wait(queue=queue, pending=pending):
            yield "wait queue", Wait(queue + "x", pending)
            yield "wait pending", Wait(queue, pending + 1)


def _reducer(r: Reducer) -> Reducer:
    if len(r.identity) == 2:
        name = "argmin" if r is named_reducer("argmax", r.identity[0].dtype, dt.i64) else "argmax"
        return named_reducer(name, r.identity[0].dtype, dt.i64)
    dtype = r.identity[0].dtype
    names = ("any", "all") if dtype.kind == "bool" else ("max", "min")
    return named_reducer(names[0] if r is not named_reducer(names[0], dtype) else names[1], dtype)


def _renamed(s: Stmt, mapping: dict[Scalar, Scalar]) -> Stmt:
    """Replaces a loop variable in the bindings, predicates and bodies below it."""
    match s:
        case Seq(stmts=stmts):
            return seq(*(_renamed(c, mapping) for c in stmts))
        case For(body=body):
            return replace(s, body=_renamed(body, mapping))
        case Block(bindings=bindings, predicate=predicate, body=body):
            return replace(
                s,
                bindings=tuple(substitute(b, mapping) for b in bindings),
                predicate=substitute(predicate, mapping),
                body=_renamed(body, mapping),
            )
        case Store(buffer=buffer, indices=indices, value=value):
            return Store(buffer, tuple(substitute(i, mapping) for i in indices), substitute(value, mapping))
        case Update(targets=targets, values=values):
            moved = tuple(Load(t.buffer, t.dtype, tuple(substitute(i, mapping) for i in t.indices)) for t in targets)
            return Update(moved, s.reducer, tuple(substitute(v, mapping) for v in values))
        case _:
            return s


def _annotations(s: For | Block) -> Iterator[tuple[str, Any]]:
    yield "annotation added", replace(s, annotations=tuple(sorted([*s.annotations, ("zz", 1)])))
    for k, (key, value) in enumerate(s.annotations):
        rest = (s.annotations[:k], s.annotations[k + 1 :])
        yield "annotation value", replace(s, annotations=(*rest[0], (key, repr(value)), *rest[1]))
        yield "annotation key", replace(s, annotations=tuple(sorted([*rest[0], (key + "x", value), *rest[1]])))
        if type(value) is int:
            # 1, 1.0 and True are three values
            yield "annotation type", replace(s, annotations=(*rest[0], (key, float(value)), *rest[1]))
            yield "annotation type", replace(s, annotations=(*rest[0], (key, bool(value)), *rest[1]))


def _regions(s: Block | Intrinsic, field: str) -> Iterator[tuple[str, Any]]:
    regions: tuple[Region, ...] = getattr(s, field)
    for k, r in enumerate(regions):
        rest = (regions[:k], regions[k + 1 :])
        yield f"{field} dropped", replace(s, **{field: rest[0] + rest[1]})
        for d, (start, extent) in enumerate(r.ranges):
            for pair in ((_changed(start), extent), (start, _changed(extent))):
                other = Region(r.buffer, (*r.ranges[:d], pair, *r.ranges[d + 1 :]))
                yield field, replace(s, **{field: (*rest[0], other, *rest[1])})


def _blocks(s: Block) -> Iterator[tuple[str, Stmt]]:
    for k, (it, binding) in enumerate(zip(s.iters, s.bindings, strict=True)):
        kind = "spatial" if it.kind != "spatial" else "reduce"
        yield "iter kind", replace(s, iters=(*s.iters[:k], IterVar(it.var, kind), *s.iters[k + 1 :]))
        assert it.var.extent is not None
        wider = Var(it.var.name, it.var.dtype, _changed(it.var.extent))
        yield (
            "iter extent",
            replace(
                s,
                iters=(*s.iters[:k], IterVar(wider, it.kind), *s.iters[k + 1 :]),
                body=_renamed(s.body, {it.var: wider}),
                init=None if s.init is None else _renamed(s.init, {it.var: wider}),
            ),
        )
        yield "binding", replace(s, bindings=(*s.bindings[:k], _changed(binding), *s.bindings[k + 1 :]))
    yield "predicate", replace(s, predicate=_changed(s.predicate))
    yield "opaque", replace(s, opaque=not s.opaque)
    if s.init is None:
        yield "init", replace(s, init=seq())
    else:
        yield "init", replace(s, init=None)
        for what, other in _stmts(s.init):
            yield f"init: {what}", replace(s, init=other)
    yield from _annotations(s)
    yield from _regions(s, "reads")
    yield from _regions(s, "writes")
    for what, other in _stmts(s.body):
        yield what, replace(s, body=other)
