"""Text of the loop language: a subset of Python's syntax.

@loop.function
def matmul(n: i64, A: f32[64, n], B: f32[n, 16], C: out(f32[64, 16])):
    T = alloc(f32[6, 16], scope="register")
    for i in parallel(64):
        for j in vectorized(16, pragma=1):
            for k in range(n):
                with block("C_update", where=i < 60):
                    vi = spatial(64, i)
                    vj = spatial(16, j)
                    vk = reduce(n, k)
                    with init():
                        C[vi, vj] = f32(0.0)
                    C[vi, vj] += A[vi, vk] * B[vk, vj]

buffers     A: f32[64, 32]   A: buffer(f32[64, 32], strides=(40, 1))   C: out(f32[64, 16], …)
            T = alloc(f32[6, 16], strides=(16, 1), scope="register")
loops       range, parallel, vectorized, unrolled; thread("blockIdx.x", 8); annotations as keywords
iter vars   spatial(extent, binding), reduce(extent, binding), ordered(extent, binding)
blocks      block("name", where=predicate, opaque=True, annotations as keywords); an opaque one then has
            reads(A[span(start, extent), …], …) and writes(…)
updates     C[i] += x (sum); C[i] = max.update(x); M[i], I[i] = argmax.update(x, k);
            C[i] = reducer(lambda a0, b0: (a0 * b0,), (f32(1.0),)).update(x)
intrinsics  intrinsic("name", writes=(…,), reads=(…,), args=(…,), queue="q"); commit("q"); wait("q", 1)
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import NoReturn, assert_never, cast

from tcompiler.errors import ParseError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.loop.grammar import (
    ITER_KINDS,
    LOOP_KINDS,
    Annotation,
    Annotations,
    Block,
    Buffer,
    Commit,
    For,
    Function,
    Intrinsic,
    IterKind,
    IterVar,
    LoopKind,
    Region,
    Seq,
    Stmt,
    Store,
    Update,
    Wait,
    seq,
)
from tcompiler.ir.names import quote
from tcompiler.ir.scalar.grammar import TRUE, Load, Scalar, Var
from tcompiler.ir.scalar.reducers import named_reducer
from tcompiler.ir.scalar.text import ScalarReader, print_reducer, print_scalar, print_tuple

_CALLED = {"serial": "range", "parallel": "parallel", "vectorized": "vectorized", "unrolled": "unrolled"}
_KIND_OF = {text: kind for kind, text in _CALLED.items()}


def print_function(function: Function) -> str:
    """The text of a function, ending in a newline."""
    table = {b.name: b for b in function.buffers}
    signature = [f"{p.name}: i64" for p in function.params]
    signature += [f"{name}: {_argument(table[name], output=False)}" for name in function.inputs]
    signature += [f"{name}: {_argument(table[name], output=True)}" for name in function.outputs]
    lines = ["@loop.function", f"def {function.name}({', '.join(signature)}):"]
    outside = {*function.inputs, *function.outputs}
    lines += [f"    {b.name} = alloc({', '.join(_declared(b))})" for b in function.buffers if b.name not in outside]
    start = len(lines)
    _print(function.body, 1, lines)
    if len(lines) == start:
        lines.append("    pass")
    return "\n".join(lines) + "\n"


def print_region(region: Region) -> str:
    """The text of a region: A[span(start, extent), …]."""
    spans = [f"span({print_scalar(start)}, {print_scalar(extent)})" for start, extent in region.ranges]
    return f"{region.buffer}[{', '.join(spans) or '()'}]"


def print_block_header(block: Block) -> str:
    """The line that opens a block."""
    parts = [quote(block.name)]
    if block.predicate is not TRUE:
        parts.append(f"where={print_scalar(block.predicate)}")
    if block.opaque:
        parts.append("opaque=True")
    return f"with block({', '.join(parts + _annotations(block.annotations))}):"


def print_loop_header(loop: For) -> str:
    """The line that opens a loop."""
    if loop.var.extent is None:
        raise ValueError(f"loop variable {loop.var.name} has no extent")
    name = _CALLED.get(loop.kind)
    parts = [] if name is not None else [quote(loop.kind)]
    parts.append(print_scalar(loop.var.extent))
    return f"for {loop.var.name} in {name or 'thread'}({', '.join(parts + _annotations(loop.annotations))}):"


def print_iter(it: IterVar, binding: Scalar) -> str:
    """The line that declares an iter var."""
    if it.var.extent is None:
        raise ValueError(f"iter var {it.var.name} has no extent")
    return f"{it.var.name} = {it.kind}({print_scalar(it.var.extent)}, {print_scalar(binding)})"


def _print(stmt: Stmt, depth: int, lines: list[str]) -> None:
    """Appends a statement's lines; the stack holds lines to come and statements with their depth."""
    stack: list[str | tuple[Stmt, int]] = [(stmt, depth)]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            lines.append(item)
            continue
        s, depth = item
        pad = "    " * depth
        match s:
            case Seq(stmts=stmts):
                stack += [(child, depth) for child in reversed(stmts)]
            case For(body=body):
                lines.append(pad + print_loop_header(s))
                stack.append(_suite(body, depth + 1))
            case Block(init=init, body=body):
                lines.append(pad + print_block_header(s))
                inner = pad + "    "
                lines += [inner + print_iter(it, b) for it, b in zip(s.iters, s.bindings, strict=True)]
                for word, regions in (("reads", s.reads), ("writes", s.writes)):
                    if regions:
                        lines.append(f"{inner}{word}({', '.join(map(print_region, regions))})")
                stack.append(_suite(body, depth + 1))
                if init is not None:
                    lines.append(f"{inner}with init():")
                    stack.append(_suite(init, depth + 2))
            case Store(buffer=buffer, indices=indices, value=value):
                lines.append(f"{pad}{_element(buffer, indices)} = {print_scalar(value)}")
            case Update():
                lines.append(pad + _update(s))
            case Intrinsic():
                lines.append(pad + _intrinsic(s))
            case Commit(queue=queue):
                lines.append(f"{pad}commit({quote(queue)})")
            case Wait(queue=queue, pending=pending):
                lines.append(f"{pad}wait({quote(queue)}, {pending})")
            case _:
                assert_never(s)


def _suite(body: Stmt, depth: int) -> str | tuple[Stmt, int]:
    return "    " * depth + "pass" if isinstance(body, Seq) and not body.stmts else (body, depth)


def _element(buffer: str, indices: Sequence[Scalar]) -> str:
    return f"{buffer}[{', '.join(map(print_scalar, indices)) or '()'}]"


def _update(s: Update) -> str:
    targets = ", ".join(_element(t.buffer, t.indices) for t in s.targets)
    reducer = print_reducer(s.reducer)
    if reducer == "sum":
        return f"{targets} += {print_scalar(s.values[0])}"
    return f"{targets} = {reducer}.update({', '.join(map(print_scalar, s.values))})"


def _intrinsic(s: Intrinsic) -> str:
    parts = [quote(s.name)]
    for word, regions in (("writes", s.writes), ("reads", s.reads)):
        if regions:
            parts.append(f"{word}={print_tuple(list(map(print_region, regions)))}")
    if s.args:
        parts.append(f"args={print_tuple(list(map(print_scalar, s.args)))}")
    if s.queue is not None:
        parts.append(f"queue={quote(s.queue)}")
    return f"intrinsic({', '.join(parts)})"


def _declared(buffer: Buffer) -> list[str]:
    parts = [f"{buffer.dtype.name}[{', '.join(map(print_scalar, buffer.shape)) or '()'}]"]
    if buffer.strides is not None:
        parts.append(f"strides={print_tuple(list(map(print_scalar, buffer.strides)))}")
    if buffer.scope != "global":
        parts.append(f"scope={quote(buffer.scope)}")
    return parts


def _argument(buffer: Buffer, output: bool) -> str:
    parts = _declared(buffer)
    if output:
        return f"out({', '.join(parts)})"
    return parts[0] if len(parts) == 1 else f"buffer({', '.join(parts)})"


def _annotations(annotations: Annotations) -> list[str]:
    return [f"{key}={quote(value) if isinstance(value, str) else repr(value)}" for key, value in annotations]


def parse_function(text: str) -> Function:
    """Reads a function; comments are ignored.

    Raises:
        ParseError: If the text is not a function of the loop language.
    """
    return _Reader(text).function()


class _Reader:
    """Reads statements; `variables` are those visible at a place, as a new dictionary per scope."""

    def __init__(self, text: str) -> None:
        self.scalars = ScalarReader(text)
        self.dtypes: dict[str, DType] = {}
        self.buffers: list[Buffer] = []

    def fail(self, node: ast.AST, message: str) -> NoReturn:
        raise self.scalars.error(node, message)

    def function(self) -> Function:
        module = cast(ast.Module, self.scalars.parse("exec"))
        match module.body:
            case [ast.FunctionDef(decorator_list=[decorator]) as node] if ast.unparse(decorator) == "loop.function":
                pass
            case []:
                raise ParseError("expected a function under @loop.function, found nothing", 1, 1, "")
            case [first, *_]:
                self.fail(first, "expected one function under @loop.function")
        a = node.args
        if a.posonlyargs or a.vararg or a.kwonlyargs or a.kwarg or a.defaults or node.returns is not None:
            self.fail(node, "a function's arguments are written name: type, and it returns nothing")
        params = {arg.arg: Var(arg.arg, dt.i64, None) for arg in a.args if _is_name(arg.annotation, "i64")}
        inputs: list[str] = []
        outputs: list[str] = []
        seen: set[str] = set()
        for arg in a.args:
            if arg.arg in seen:
                self.fail(arg, f"{arg.arg!r} is an argument twice")
            seen.add(arg.arg)
            if arg.arg in params:
                continue
            if arg.annotation is None:
                self.fail(arg, f"argument {arg.arg!r} has no type; write {arg.arg}: f32[64]")
            self._argument(arg.arg, arg.annotation, params, inputs, outputs)
        body = list(node.body)
        while body and self._alloc(body[0], params, seen):
            body.pop(0)
        stmts = self.suite(body, params)
        return Function(node.name, tuple(params.values()), tuple(self.buffers), tuple(inputs), tuple(outputs), stmts)

    def _argument(
        self, name: str, node: ast.expr, params: Mapping[str, Var], inputs: list[str], outputs: list[str]
    ) -> None:
        match node:
            case ast.Call(func=ast.Name(id="out")):
                outputs.append(name)
                self._declare(name, node, params)
            case ast.Call(func=ast.Name(id="buffer")):
                inputs.append(name)
                self._declare(name, node, params)
            case ast.Subscript():
                inputs.append(name)
                self._add(Buffer(name, *self._type(node, params)))
            case _:
                self.fail(node, "expected i64, a type such as f32[64, 32], buffer(…) or out(…)")

    def _alloc(self, node: ast.stmt, params: Mapping[str, Var], seen: set[str]) -> bool:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="alloc")) as call):
                if name in seen:
                    self.fail(node, f"{name!r} is declared twice")
                seen.add(name)
                self._declare(name, call, params)
                return True
        return False

    def _declare(self, name: str, node: ast.Call, params: Mapping[str, Var]) -> None:
        if len(node.args) != 1:
            self.fail(node, "a buffer is declared with one type, then strides= and scope=")
        dtype, shape = self._type(node.args[0], params)
        strides: tuple[Scalar, ...] | None = None
        scope = "global"
        for keyword in node.keywords:
            match keyword:
                case ast.keyword(arg="strides", value=ast.Tuple(elts=elts)):
                    strides = tuple(self.scalars.read(e, params, {}) for e in elts)
                case ast.keyword(arg="scope", value=ast.Constant(value=str(text))):
                    scope = text
                case _:
                    self.fail(keyword.value, 'expected strides=(…,) or scope="…"')
        self._add(Buffer(name, dtype, shape, strides, scope))

    def _add(self, buffer: Buffer) -> None:
        self.buffers.append(buffer)
        self.dtypes[buffer.name] = buffer.dtype

    def _type(self, node: ast.expr, params: Mapping[str, Var]) -> tuple[DType, tuple[Scalar, ...]]:
        if not isinstance(node, ast.Subscript):
            self.fail(node, "expected a type such as f32[64, 32]")
        dtype = self.scalars.read_dtype(node.value)
        return dtype, tuple(self.scalars.read(e, params, {}) for e in _elements(node.slice))

    def suite(self, nodes: Sequence[ast.stmt], variables: Mapping[str, Var]) -> Stmt:
        return seq(*[self.stmt(n, variables) for n in nodes if not isinstance(n, ast.Pass)])

    def stmt(self, node: ast.stmt, variables: Mapping[str, Var]) -> Stmt:
        match node:
            case ast.For(target=ast.Name(id=name), iter=ast.Call() as call, orelse=[]):
                return self._for(name, call, node.body, variables)
            case ast.With(items=[ast.withitem(context_expr=ast.Call() as call, optional_vars=None)]) if _is_name(
                call.func, "block"
            ):
                return self._block(call, node.body, variables)
            case ast.Assign(targets=[target], value=ast.Call(func=ast.Attribute(value=reducer, attr="update")) as call):
                return self._update(node, target, reducer, call, variables)
            case ast.Assign(targets=[ast.Subscript() as target], value=value):
                load = self._target(target, variables)
                scalar = self.scalars.read(value, variables, self.dtypes)
                if scalar.dtype is not load.dtype:
                    self.fail(value, f"the value is {scalar.dtype.name}, {load.buffer} holds {load.dtype.name}")
                return Store(load.buffer, load.indices, scalar)
            case ast.AugAssign(target=ast.Subscript() as target, op=ast.Add(), value=value):
                load = self._target(target, variables)
                scalar = self.scalars.read(value, variables, self.dtypes)
                if scalar.dtype is not load.dtype:
                    self.fail(value, f"the value is {scalar.dtype.name}, {load.buffer} holds {load.dtype.name}")
                try:
                    total = named_reducer("sum", load.dtype)
                except ValueError as e:
                    self.fail(node, str(e))
                return Update((load,), total, (scalar,))
            case ast.Expr(value=ast.Call(func=ast.Name(id="intrinsic")) as call):
                return self._intrinsic(call, variables)
            case ast.Expr(value=ast.Call(func=ast.Name(id="commit"), args=[ast.Constant(value=str(q))], keywords=[])):
                return Commit(q)
            case ast.Expr(
                value=ast.Call(
                    func=ast.Name(id="wait"),
                    args=[ast.Constant(value=str(q)), ast.Constant(value=int(pending))],
                    keywords=[],
                )
            ) if type(pending) is int:
                return Wait(q, pending)
            case ast.Assign(value=ast.Call(func=ast.Name(id="alloc"))):
                self.fail(node, "buffers are declared at the top of the function")
            case ast.Assign(value=ast.Call(func=ast.Name(id=kind))) if kind in ITER_KINDS:
                self.fail(node, "iter vars are declared at the top of a block")
            case ast.With(items=[ast.withitem(context_expr=ast.Call(func=ast.Name(id="init")))]):
                self.fail(node, "init stands in a block, after the iter vars and before the body")
        self.fail(node, "expected a loop, a block, a store, an update or an intrinsic")

    def _for(self, name: str, call: ast.Call, body: Sequence[ast.stmt], variables: Mapping[str, Var]) -> Stmt:
        kind: str
        args = call.args
        match call:
            case ast.Call(func=ast.Name(id="thread"), args=[ast.Constant(value=str(kind)), _]):
                if kind not in LOOP_KINDS or kind in _CALLED:
                    expected = ", ".join(k for k in LOOP_KINDS if k not in _CALLED)
                    self.fail(call, f"unknown thread index {kind!r}; expected one of {expected}")
                args = args[1:]
            case ast.Call(func=ast.Name(id=called)) if called in _KIND_OF:
                kind = _KIND_OF[called]
            case _:
                self.fail(call, "expected range, parallel, vectorized, unrolled or thread")
        if len(args) != 1:
            self.fail(call, "a loop takes one extent")
        var = Var(name, dt.i64, self.scalars.read(args[0], variables, {}))
        inner = self.suite(body, {**variables, name: var})
        return For(var, cast(LoopKind, kind), inner, self._annotations(call.keywords))

    def _annotations(self, keywords: Sequence[ast.keyword]) -> Annotations:
        pairs: dict[str, Annotation] = {}
        for keyword in keywords:
            if keyword.arg is None:
                self.fail(keyword.value, "an annotation is written key=value")
            pairs[keyword.arg] = self._annotation(keyword.value)
        return tuple(sorted(pairs.items()))

    def _annotation(self, node: ast.expr) -> Annotation:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if (
                type(number) is not bool
            ):
                return -number
        self.fail(node, "an annotation is a number, a bool or a string")

    def _block(self, call: ast.Call, body: Sequence[ast.stmt], variables: Mapping[str, Var]) -> Stmt:
        match call.args:
            case [ast.Constant(value=str(name))]:
                pass
            case _:
                self.fail(call, 'a block takes its name, as in block("C")')
        predicate: Scalar = TRUE
        opaque = False
        rest: list[ast.keyword] = []
        for keyword in call.keywords:
            match keyword:
                case ast.keyword(arg="where", value=value):
                    predicate = self.scalars.read(value, variables, {})
                    if predicate.dtype is not dt.bool_:
                        self.fail(value, f"where takes a bool, not {predicate.dtype.name}")
                case ast.keyword(arg="opaque", value=ast.Constant(value=bool(flag))):
                    opaque = flag
                case _:
                    rest.append(keyword)
        nodes = [n for n in body if not isinstance(n, ast.Pass)]
        iters: list[IterVar] = []
        bindings: list[Scalar] = []
        params = _params(variables)
        inner = dict(params)
        at = 0
        while at < len(nodes):
            match nodes[at]:
                case ast.Assign(
                    targets=[ast.Name(id=var)], value=ast.Call(func=ast.Name(id=kind), args=args, keywords=[])
                ) if kind in ITER_KINDS:
                    if len(args) != 2:
                        self.fail(nodes[at], f"an iter var takes an extent and a binding: {kind}(64, i)")
                    it = Var(var, dt.i64, self.scalars.read(args[0], params, {}))
                    iters.append(IterVar(it, cast(IterKind, kind)))
                    bindings.append(self.scalars.read(args[1], variables, {}))
                    inner[var] = it
                    at += 1
                case _:
                    break
        declared: dict[str, tuple[Region, ...]] = {"reads": (), "writes": ()}
        while at < len(nodes):
            match nodes[at]:
                case ast.Expr(value=ast.Call(func=ast.Name(id="reads" | "writes" as word), args=args, keywords=[])):
                    declared[word] += tuple(self._region(r, inner) for r in args)
                    at += 1
                case _:
                    break
        init: Stmt | None = None
        match nodes[at : at + 1]:
            case [
                ast.With(items=[ast.withitem(context_expr=ast.Call(func=ast.Name(id="init"), args=[], keywords=[]))])
            ]:
                init = self.suite(cast(ast.With, nodes[at]).body, inner)
                at += 1
        return Block(
            name,
            tuple(iters),
            tuple(bindings),
            self.suite(nodes[at:], inner),
            predicate,
            init,
            opaque,
            declared["reads"],
            declared["writes"],
            self._annotations(rest),
        )

    def _target(self, node: ast.expr, variables: Mapping[str, Var]) -> Load:
        if isinstance(node, ast.Subscript):
            load = self.scalars.read(node, variables, self.dtypes)
            if isinstance(load, Load):
                return load
        self.fail(node, "expected an element of a buffer, such as C[i, j]")

    def _update(
        self, node: ast.stmt, target: ast.expr, reducer: ast.expr, call: ast.Call, variables: Mapping[str, Var]
    ) -> Stmt:
        elements = target.elts if isinstance(target, ast.Tuple) else [target]
        targets = tuple(self._target(t, variables) for t in elements)
        values = tuple(self.scalars.read(a, variables, self.dtypes) for a in call.args)
        combined = self.scalars.read_reducer(reducer, tuple(t.dtype for t in targets))
        if not len(targets) == len(values) == len(combined.identity) or call.keywords:
            self.fail(
                node,
                f"the reducer combines {len(combined.identity)} values; "
                f"the update has {len(targets)} targets and {len(values)} values",
            )
        for c, t, v, syntax in zip(combined.identity, targets, values, call.args, strict=True):
            if c.dtype is not t.dtype or v.dtype is not t.dtype:
                self.fail(
                    syntax,
                    f"{t.buffer} holds {t.dtype.name}; the value is {v.dtype.name}, the reducer's {c.dtype.name}",
                )
        return Update(targets, combined, values)

    def _intrinsic(self, call: ast.Call, variables: Mapping[str, Var]) -> Stmt:
        match call.args:
            case [ast.Constant(value=str(name))]:
                pass
            case _:
                self.fail(call, 'an intrinsic takes its name, as in intrinsic("fma", …)')
        regions: dict[str, tuple[Region, ...]] = {"writes": (), "reads": ()}
        args: tuple[Scalar, ...] = ()
        queue: str | None = None
        for keyword in call.keywords:
            match keyword:
                case ast.keyword(arg="writes" | "reads" as word, value=ast.Tuple(elts=elts)):
                    regions[word] = tuple(self._region(e, variables) for e in elts)
                case ast.keyword(arg="args", value=ast.Tuple(elts=elts)):
                    args = tuple(self.scalars.read(e, variables, self.dtypes) for e in elts)
                case ast.keyword(arg="queue", value=ast.Constant(value=str(text))):
                    queue = text
                case _:
                    self.fail(keyword.value, 'expected writes=(…,), reads=(…,), args=(…,) or queue="…"')
        return Intrinsic(name, regions["writes"], regions["reads"], args, queue)

    def _region(self, node: ast.expr, variables: Mapping[str, Var]) -> Region:
        match node:
            case ast.Subscript(value=ast.Name(id=buffer), slice=where):
                if buffer not in self.dtypes:
                    self.fail(node, f"unknown buffer {buffer!r}")
                ranges: list[tuple[Scalar, Scalar]] = []
                for e in _elements(where):
                    match e:
                        case ast.Call(func=ast.Name(id="span"), args=[start, extent], keywords=[]):
                            ranges.append(
                                (
                                    self.scalars.read(start, variables, self.dtypes),
                                    self.scalars.read(extent, variables, self.dtypes),
                                )
                            )
                        case _:
                            self.fail(e, "a region's dimension is span(start, extent)")
                return Region(buffer, tuple(ranges))
        self.fail(node, "expected a region such as A[span(0, 4), span(i, 8)]")


def _params(variables: Mapping[str, Var]) -> dict[str, Var]:
    return {n: v for n, v in variables.items() if v.extent is None}


def _is_name(node: ast.expr | None, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _elements(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]
