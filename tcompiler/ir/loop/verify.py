"""The rules of the loop language. What only running can show, the interpreter checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn, assert_never

from tcompiler.errors import VerifyError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.analysis import accesses
from tcompiler.ir.loop.grammar import (
    ITER_KINDS,
    LOOP_KINDS,
    SCOPES,
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
    walk,
)
from tcompiler.ir.loop.grammar import children as stmt_children
from tcompiler.ir.loop.ranges import Scope, check_access, check_binding, check_region
from tcompiler.ir.loop.text import print_iter
from tcompiler.ir.names import is_identifier, quote
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import (
    TRUE,
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
    less,
    postorder,
)
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import free_vars, loads, substitute
from tcompiler.ir.scalar.text import operand_error, print_scalar

MAX_DEPTH = 90
"""How deep loops and blocks nest at most: Python's parser, which reads the text, takes a hundred indentations."""

_RESERVED = frozenset({"where", "opaque"})


def verify(function: Function, *, scheduled: bool = True) -> None:
    """Checks every rule of the loop language.

    Args:
        function: What to check.
        scheduled: Also check that register buffers have constant indices once unrolled and vectorized loops are
            expanded; between the primitives of a schedule this need not hold yet.

    Raises:
        VerifyError: At the first rule that is broken.
    """
    _Verifier(function, scheduled).run()


@dataclass(frozen=True, slots=True)
class _Body:
    """Where a statement inside a block stands.

    Attributes:
        block: The innermost block around it.
        visible: What it may name.
        scope: The loops around it and the values of iter vars in terms of these.
        init: Whether it is in the block's init.
    """

    block: Block
    visible: frozenset[Var]
    scope: Scope
    init: bool


def _single(v: Var) -> bool:
    """Whether a loop variable takes one value only."""
    return v.extent is not None and as_int(v.extent) == 1


class _Verifier:
    def __init__(self, function: Function, scheduled: bool) -> None:
        self.function = function
        self.scheduled = scheduled
        self.params = frozenset(function.params)
        self.buffers: dict[str, Buffer] = {}
        self.taken: set[str] = set()
        self.handles: set[str] = set()
        self.loop_names = frozenset(s.var.name for s in walk(function.body) if isinstance(s, For))
        self.written: set[str] = set()
        self.read: dict[str, str] = {}

    def run(self) -> None:
        f = self.function
        if not is_identifier(f.name):
            raise VerifyError(f"the function's name {quote(f.name)} is not an identifier")
        for p in f.params:
            self._name("parameter", p.name)
            if p.dtype is not dt.i64 or p.extent is not None:
                raise VerifyError("a parameter is i64 and has no extent", p.name)
        for b in f.buffers:
            self._buffer(b)
        self._arguments()
        self._depth()
        self._outside(f.body, Scope((), {}, TRUE), ())
        for name in f.outputs:
            if name not in self.written:
                raise VerifyError("no block writes this output", name)
        for name, where in self.read.items():
            if name not in self.written and name not in f.inputs:
                raise VerifyError(f"reads {name}, which no block writes", where)

    # declarations

    def _name(self, what: str, name: str) -> None:
        if not is_identifier(name):
            raise VerifyError(f"the name of this {what} is not an identifier", quote(name))
        if name in self.taken:
            raise VerifyError(f"two of the parameters, buffers and loops are named {name}", name)
        self.taken.add(name)

    def _buffer(self, b: Buffer) -> None:
        self._name("buffer", b.name)
        self.buffers[b.name] = b
        if b.scope not in SCOPES:
            raise VerifyError(f"unknown scope {quote(b.scope)}; expected one of {', '.join(SCOPES)}", b.name)
        for extent in b.shape:
            self._extent(extent, "an extent of the shape", b.name)
        if b.strides is not None:
            if len(b.strides) != len(b.shape):
                raise VerifyError(f"{len(b.strides)} strides for {len(b.shape)} dimensions", b.name)
            for stride in b.strides:
                self._extent(stride, "a stride", b.name)
            self._overlap(b, b.strides)

    def _overlap(self, b: Buffer, strides: Sequence[Scalar]) -> None:
        """Elements of a buffer that is written must not share memory; checked where shape and strides are constant."""
        pairs = [(as_int(s), as_int(n)) for s, n in zip(strides, b.shape, strict=True)]
        known = sorted((s, n) for s, n in pairs if s is not None and n is not None)
        if b.name in self.function.inputs or len(known) < len(pairs) or any(n == 0 for _, n in known):
            return
        reach = 0
        for stride, extent in known:
            if extent > 1:
                if stride <= reach:
                    raise VerifyError(f"strides {[s for s, _ in pairs]} let elements share memory", b.name)
                reach += stride * (extent - 1)

    def _extent(self, node: Scalar, what: str, where: str) -> None:
        self._scalar(node, self.params, where, what, load=False)
        if node.dtype is not dt.i64:
            raise VerifyError(f"{what} is {node.dtype.name}, not i64", where)
        value = as_int(node)
        if value is not None and value < 0:
            raise VerifyError(f"{what} is {value}", where)

    def _arguments(self) -> None:
        f = self.function
        seen: set[str] = set()
        for name in (*f.inputs, *f.outputs):
            if name not in self.buffers:
                raise VerifyError("an input or output is not declared as a buffer", name)
            if name in seen:
                raise VerifyError("is an input or output twice", name)
            seen.add(name)
            if self.buffers[name].scope != "global":
                raise VerifyError("inputs and outputs have scope global", name)

    # loops and blocks

    def _depth(self) -> None:
        stack: list[tuple[Stmt, int]] = [(self.function.body, 1)]
        while stack:
            s, depth = stack.pop()
            if depth > MAX_DEPTH:
                raise VerifyError(f"loops and blocks nest deeper than {MAX_DEPTH}", self.function.name)
            match s:
                case For(body=body):
                    stack.append((body, depth + 1))
                case Block(init=init, body=body):
                    stack.append((body, depth + 1))
                    if init is not None:
                        stack.append((init, depth + 2))
                case Seq(stmts=stmts):
                    stack.extend((c, depth) for c in stmts)
                case _:
                    pass

    def _outside(self, stmt: Stmt, scope: Scope, loops: tuple[For, ...]) -> None:
        """Checks a statement that no block is around."""
        match stmt:
            case Seq(stmts=stmts):
                self._seq(stmt)
                for s in stmts:
                    self._outside(s, scope, loops)
            case For(body=body):
                self._loop(stmt)
                self._outside(body, scope.within(stmt), (*loops, stmt))
            case Block():
                self._block(stmt, scope, loops, self.params | {loop.var for loop in loops})
            case Commit() | Wait():
                self._queue(stmt, self.function.name)
            case Store() | Update() | Intrinsic():
                raise VerifyError("stores, updates and intrinsics stand inside a block", self.function.name)
            case _:
                assert_never(stmt)

    def _seq(self, stmt: Seq) -> None:
        if len(stmt.stmts) == 1 or any(isinstance(s, Seq) for s in stmt.stmts):
            raise VerifyError("a Seq holds one statement or another Seq; build it with seq()", self.function.name)

    def _loop(self, loop: For) -> None:
        var = loop.var
        self._name("loop", var.name)
        self._handle(var.name, var.name)
        if loop.kind not in LOOP_KINDS:
            raise VerifyError(
                f"unknown loop kind {quote(loop.kind)}; expected one of {', '.join(LOOP_KINDS)}", var.name
            )
        if var.extent is None or var.dtype is not dt.i64:
            raise VerifyError("a loop variable is i64 and has an extent", var.name)
        self._extent(var.extent, "the extent", var.name)
        if loop.kind in ("vectorized", "unrolled") and as_int(var.extent) is None:
            raise VerifyError(
                f"a loop of kind {loop.kind} has a constant extent, not {print_scalar(var.extent)}", var.name
            )
        self._annotations(loop.annotations, frozenset(), var.name)

    def _handle(self, name: str, where: str) -> None:
        if name in self.handles:
            raise VerifyError(f"two of the blocks and loops are named {quote(name)}", where)
        self.handles.add(name)

    def _annotations(self, annotations: Annotations, reserved: frozenset[str], where: str) -> None:
        keys = [k for k, _ in annotations]
        for key, value in annotations:
            if not is_identifier(key) or key in reserved:
                raise VerifyError(f"{quote(key)} cannot be an annotation's key", where)
            if type(value) not in (bool, int, float, str) or (type(value) is float and not math.isfinite(value)):
                raise VerifyError(f"annotation {key} is {value!r}; expected a finite number, a bool or a string", where)
        if any(a >= b for a, b in pairwise(keys)):
            raise VerifyError(f"annotations are sorted by key and each key occurs once, not {', '.join(keys)}", where)

    def _block(self, block: Block, scope: Scope, loops: tuple[For, ...], outer: frozenset[Var]) -> None:
        name = block.name
        self._handle(name, name)
        self._annotations(block.annotations, _RESERVED, name)
        if len(block.iters) != len(block.bindings):
            raise VerifyError(f"{len(block.iters)} iter vars and {len(block.bindings)} bindings", name)
        self._scalar(block.predicate, outer, name, "the predicate", load=False)
        if block.predicate.dtype is not dt.bool_:
            raise VerifyError(f"the predicate is {block.predicate.dtype.name}, not bool", name)
        inner = scope.where(block.predicate)
        names: set[str] = set()
        for it, binding in zip(block.iters, block.bindings, strict=True):
            var = it.var
            if it.kind not in ITER_KINDS:
                expected = ", ".join(ITER_KINDS)
                raise VerifyError(f"{var.name} has the unknown kind {quote(it.kind)}; expected one of {expected}", name)
            if not is_identifier(var.name) or var.name in names:
                raise VerifyError(f"iter vars are identifiers and differ; {quote(var.name)} does not", name)
            if var.name in self.loop_names or var.name in self.buffers or var in self.params:
                raise VerifyError(f"iter var {var.name} is also the name of a loop, buffer or parameter", name)
            names.add(var.name)
            if var.extent is None or var.dtype is not dt.i64:
                raise VerifyError(f"iter var {var.name} is i64 and has an extent", name)
            self._extent(var.extent, f"the extent of {var.name}", name)
            self._scalar(binding, outer, name, f"the binding of {var.name}", load=False)
            if binding.dtype is not dt.i64:
                raise VerifyError(f"the binding of {var.name} is {binding.dtype.name}, not i64", name)
            check_binding(it, binding, inner, name)
        self._parallel(block, scope, loops)
        body = _Body(block, self.params | {it.var for it in block.iters}, inner.bound(block), False)
        if block.init is not None:
            self._inside(block.init, _Body(block, body.visible, body.scope, True), loops)
        self._inside(block.body, body, loops)
        self._signature(block, body)
        if not block.opaque:
            self._spatial(block, body.scope, loops)

    def _spatial(self, block: Block, scope: Scope, loops: tuple[For, ...]) -> None:
        """Spatial iterations are independent: those of a loop around this block alone must write different elements.

        A loop around more than this block may write the same elements again: others read them in between.
        """
        alone: list[For] = []
        inner: Stmt = block
        for loop in reversed(loops):
            if loop.body is not inner:
                break
            alone.append(loop)
            inner = loop
        writes = [(w.buffer, tuple(simplify(scope.concrete(i)) for i in w.indices)) for w in accesses(block).writes]
        for loop in alone:
            var = loop.var
            fed = [k for k, b in enumerate(block.bindings) if var in free_vars(simplify(scope.concrete(b)))]
            if as_int(var.extent) == 1 or not fed or any(block.iters[k].kind != "spatial" for k in fed):
                continue
            if prove(less(var, 1), (scope.condition,)) is True:
                # the predicate leaves one iteration, as where a split goes beyond its loop
                continue
            for buffer, indices in writes:
                if not any(var in free_vars(i) or loads(i) for i in indices):
                    raise VerifyError(
                        f"all iterations of loop {var.name}, which feeds "
                        f"{print_iter(block.iters[fed[0]], block.bindings[fed[0]])}, "
                        f"write the same elements of {buffer}",
                        block.name,
                    )

    def _parallel(self, block: Block, scope: Scope, loops: tuple[For, ...]) -> None:
        """Parallel iterations must not meet: not in a reduction, not in an order, not in what they write."""
        simple = [simplify(substitute(b, scope.values)) for b in block.bindings]
        reduced = any(it.kind == "reduce" for it in block.iters)
        for loop in loops:
            if loop.kind in ("serial", "unrolled") or as_int(loop.var.extent) == 1:
                continue
            var = loop.var
            for it, binding in zip(block.iters, simple, strict=True):
                if it.kind != "spatial" and var in free_vars(binding):
                    raise VerifyError(
                        f"the {loop.kind} loop {var.name} feeds {print_iter(it, binding)}; only spatial iter vars "
                        f"may come from it",
                        block.name,
                    )
            fed = any(var in free_vars(b) for b in (*simple, block.predicate))
            if not fed and reduced and self._writes_global(block):
                raise VerifyError(
                    f"every iteration of the {loop.kind} loop {var.name} updates the same elements", block.name
                )

    def _writes_global(self, block: Block) -> bool:
        return any(
            isinstance(s, Update) and any(self._scope_of(t.buffer) == "global" for t in s.targets)
            for s in walk(block.body)
        )

    def _scope_of(self, name: str) -> str | None:
        return self.buffers[name].scope if name in self.buffers else None

    def _signature(self, block: Block, body: _Body) -> None:
        """Iter kinds against what the body does, and declared regions against what it touches."""
        name = block.name
        if not block.opaque:
            if block.reads or block.writes:
                raise VerifyError("only an opaque block declares regions", name)
            reduce = [it.var.name for it in block.iters if it.kind == "reduce"]
            if reduce:
                if not any(isinstance(s, Update | Intrinsic) for s in walk(block.body)):
                    raise VerifyError(f"reduces over {', '.join(reduce)} without an update", name)
                if any(isinstance(s, Store) for s in _own(block.body)):
                    raise VerifyError(f"stores in its body while it reduces over {', '.join(reduce)}", name)
            return
        for regions in (block.reads, block.writes):
            for r in regions:
                self._region(r, body)
        for r in block.writes:
            self._write(r.buffer, name)
        check_region(block, body.scope, name)

    # inside blocks

    def _inside(self, stmt: Stmt, at: _Body, loops: tuple[For, ...]) -> None:
        name = at.block.name
        match stmt:
            case Seq(stmts=stmts):
                self._seq(stmt)
                for s in stmts:
                    self._inside(s, at, loops)
            case For(body=inner):
                self._loop(stmt)
                below = _Body(at.block, at.visible | {stmt.var}, at.scope.within(stmt), at.init)
                self._inside(inner, below, (*loops, stmt))
            case Block():
                self._block(stmt, at.scope, loops, at.visible)
            case Store(buffer=buffer, indices=indices, value=value):
                self._element(buffer, indices, at, write=True)
                self._value(value, at, "the value")
                if value.dtype is not self.buffers[buffer].dtype:
                    self._mismatch(f"stores {value.dtype.name} into {buffer}", buffer, name)
            case Update():
                self._update(stmt, at)
            case Intrinsic(writes=writes, reads=reads, args=args):
                for r in (*reads, *writes):
                    self._region(r, at)
                    self._registers(self.buffers[r.buffer], [start for start, _ in r.ranges], at)
                for r in writes:
                    self._write(r.buffer, name)
                for a in args:
                    self._value(a, at, "an argument")
                if stmt.queue is not None and not stmt.queue:
                    raise VerifyError("a queue's name is empty", name)
            case Commit() | Wait():
                self._queue(stmt, name)
            case _:
                assert_never(stmt)

    def _queue(self, stmt: Commit | Wait, where: str) -> None:
        if not stmt.queue:
            raise VerifyError("a queue's name is empty", where)
        if isinstance(stmt, Wait) and stmt.pending < 0:
            raise VerifyError(f"waits until {stmt.pending} groups are pending", where)

    def _mismatch(self, what: str, buffer: str, where: str) -> NoReturn:
        raise VerifyError(f"{what}, which holds {self.buffers[buffer].dtype.name}", where)

    def _write(self, buffer: str, where: str) -> None:
        if buffer in self.function.inputs:
            raise VerifyError(f"writes the input {buffer}", where)
        self.written.add(buffer)

    def _declared(self, buffer: str, rank: int, where: str) -> Buffer:
        b = self.buffers.get(buffer)
        if b is None:
            raise VerifyError(f"{buffer} is not declared as a buffer", where)
        if rank != len(b.shape):
            raise VerifyError(f"{buffer} has {len(b.shape)} dimensions; this access has {rank}", where)
        return b

    def _region(self, region: Region, at: _Body) -> None:
        self._declared(region.buffer, len(region.ranges), at.block.name)
        for pair in region.ranges:
            for node in pair:
                self._value(node, at, f"a region of {region.buffer}")
                if node.dtype is not dt.i64:
                    raise VerifyError(f"a region of {region.buffer} has a {node.dtype.name} bound", at.block.name)

    def _element(self, buffer: str, indices: Sequence[Scalar], at: _Body, write: bool) -> None:
        name = at.block.name
        b = self._declared(buffer, len(indices), name)
        if write:
            self._write(buffer, name)
            for i in indices:
                self._value(i, at, f"an index of {buffer}")
                if i.dtype is not dt.i64:
                    raise VerifyError(f"an index of {buffer} is {i.dtype.name}, not i64", name)
            check_access(b, indices, at.scope, "writes", name)
        self._registers(b, indices, at)

    def _registers(self, b: Buffer, indices: Sequence[Scalar], at: _Body) -> None:
        if b.scope != "register" or not self.scheduled:
            return
        for i in indices:
            index = simplify(at.scope.concrete(i))
            moving = [
                v.name
                for v in free_vars(index)
                if at.scope.kinds.get(v) not in ("unrolled", "vectorized") and not _single(v)
            ]
            if moving or loads(index):
                what = f"with {', '.join(sorted(moving))}" if moving else "with what it loads"
                raise VerifyError(
                    f"index {print_scalar(i)} of the register buffer {b.name} varies {what}; "
                    f"it must be constant once unrolled and vectorized loops are expanded",
                    at.block.name,
                )

    def _update(self, s: Update, at: _Body) -> None:
        name = at.block.name
        if at.init:
            raise VerifyError("updates in init; an init stores", name)
        self._reducer(s.reducer, name)
        arity = len(s.reducer.identity)
        if len(s.targets) != arity or len(s.values) != arity:
            raise VerifyError(
                f"updates {len(s.targets)} targets with {len(s.values)} values by a reducer of {arity}", name
            )
        if len(set(s.targets)) != arity:
            raise VerifyError("updates one target twice", name)
        for t, v, c in zip(s.targets, s.values, s.reducer.identity, strict=True):
            self._element(t.buffer, t.indices, at, write=True)
            self.read.setdefault(t.buffer, name)
            self._value(v, at, "the value")
            if t.dtype is not self.buffers[t.buffer].dtype or v.dtype is not t.dtype or c.dtype is not t.dtype:
                self._mismatch(f"combines {v.dtype.name} by a {c.dtype.name} reducer in {t.buffer}", t.buffer, name)

    def _reducer(self, r: Reducer, where: str) -> None:
        arity = len(r.identity)
        variables = r.lhs + r.rhs
        if arity == 0 or not len(r.lhs) == len(r.rhs) == len(r.combine) == arity:
            raise VerifyError("a reducer has as many variables on each side as values and identities", where)
        if len({v.name for v in variables}) != len(variables) or not all(is_identifier(v.name) for v in variables):
            raise VerifyError("a reducer's variables are identifiers and differ", where)
        for k, c in enumerate(r.identity):
            self._scalar(r.combine[k], frozenset(variables), where, "the reducer", load=False)
            if any(x.dtype is not c.dtype for x in (r.lhs[k], r.rhs[k], r.combine[k])):
                raise VerifyError(f"a reducer's variables and values have its identity's type, {c.dtype.name}", where)

    def _value(self, node: Scalar, at: _Body, what: str) -> None:
        """Checks a scalar of a body: names, types, and the elements that it loads."""
        name = at.block.name
        self._scalar(node, at.visible, name, what, load=True)
        unguarded = set(_unguarded(node))
        for load in loads(node):
            b = self._declared(load.buffer, len(load.indices), name)
            if load.dtype is not b.dtype:
                self._mismatch(f"loads {load.dtype.name} from {load.buffer}", load.buffer, name)
            for i in load.indices:
                if i.dtype is not dt.i64:
                    raise VerifyError(f"an index of {load.buffer} is {i.dtype.name}, not i64", name)
            self.read.setdefault(load.buffer, name)
            self._element(load.buffer, load.indices, at, write=False)
            if load in unguarded:
                check_access(b, load.indices, at.scope, "reads", name)

    def _scalar(self, node: Scalar, visible: frozenset[Var], where: str, what: str, load: bool) -> None:
        unknown = sorted(v.name for v in free_vars(node) - visible)
        if unknown:
            hint = ""
            if unknown[0] in self.loop_names:
                hint = "; a body names iter vars: bind one to the loop" if load else ""
            raise VerifyError(f"{what} {print_scalar(node)} names {', '.join(unknown)}, not known here{hint}", where)
        if not load and loads(node):
            raise VerifyError(f"{what} {print_scalar(node)} loads from a buffer, which it may not", where)
        for n in postorder(node):
            wrong: str | None = None
            match n:
                case Unary(op=op, a=a):
                    wrong = operand_error(op, (a.dtype,))
                case Binary(op=op, a=a, b=b):
                    wrong = operand_error(op, (a.dtype, b.dtype))
                case Select(cond=c, a=a, b=b):
                    if c.dtype is not dt.bool_ or a.dtype is not b.dtype:
                        wrong = "select takes a bool and two sides of one type"
                case Const(dtype=dtype, bits=bits):
                    if not 0 <= bits < 1 << (dtype.bits if dtype.kind == "bool" else 8 * dtype.bytes):
                        wrong = f"{bits:#x} are not the bits of a {dtype.name}"
                case _:
                    pass
            if wrong is not None:
                raise VerifyError(f"{what} is ill-typed: {wrong}", where)


def _own(stmt: Stmt) -> Iterable[Stmt]:
    """The statements in a block's body that no other block is around."""
    stack = [stmt]
    while stack:
        s = stack.pop()
        if not isinstance(s, Block):
            yield s
            stack.extend(stmt_children(s))


def _unguarded(node: Scalar) -> Iterable[Load]:
    """Loads that are evaluated whenever the node is: those not under a side of a Select."""
    stack: list[Scalar] = [node]
    seen: set[Scalar] = set()
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        match n:
            case Load(indices=indices):
                yield n
                stack.extend(indices)
            case Select(cond=c):
                stack.append(c)
            case _:
                stack.extend(children(n))
