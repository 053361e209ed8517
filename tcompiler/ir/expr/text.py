"""Text of the expr language: a subset of Python's syntax.

    @expr.program
    def net(n: i64, x: f32[n, 64], w: f32[64, 16]):
        y = reduce(sum, f32[n, 16], (64,), lambda i, j, k: x[i, k] * w[k, j])
        z = compute(f32[n, 16], lambda i, j: max(y[i, j], f32(0.0)))
        m, at = reduce(argmax, (f32[n], i64[n]), (16,), lambda i, j: (z[i, j], j))
        s = scatter(f32[n, 16], z, (n,), lambda i: ((i, at[i]), m[i]), combiner=sum)
        v, p = sort((f32[n], i64[n]), m, axis=0, descending=True)
        with scan(t=n):
            h = state(f32[16], h0)
            g = compute(f32[16], lambda j: h[j] + x[t, j])
            c = collect(f32[n, 16], g)
        return z, s

A lambda's arguments are the axes, then the reduce axes; their extents are the tensor's shape and the tuple before the
lambda. In a scan there is a state line per state, the inner scopes, and a line per state, `collect` (the stack of the
state after each step) or `last`, with the tensor that the state becomes.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import NoReturn, assert_never, cast

from tcompiler.errors import ParseError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor
from tcompiler.ir.scalar.grammar import Reducer, Scalar, Var
from tcompiler.ir.scalar.text import ScalarReader, print_reducer, print_scalar, print_tuple


def print_program(program: Program) -> str:
    """The text of a program, ending in a newline."""
    signature = [f"{p.name}: i64" for p in program.params]
    signature += [f"{t.name}: {_type(t)}" for t in program.inputs]
    lines = ["@expr.program", f"def {program.name}({', '.join(signature)}):"]
    _print(program.scopes, 1, lines)
    lines.append(f"    return {', '.join(program.outputs)}" if program.outputs else "    return ()")
    return "\n".join(lines) + "\n"


def _type(t: Tensor) -> str:
    return f"{t.dtype.name}[{', '.join(map(print_scalar, t.shape)) or '()'}]"


def _types(ts: Sequence[Tensor]) -> str:
    return _type(ts[0]) if len(ts) == 1 else f"({', '.join(map(_type, ts))})"


def _names(ts: Sequence[Tensor]) -> str:
    return ", ".join(t.name for t in ts)


def _extents(axes: Sequence[Var]) -> str:
    return print_tuple([print_scalar(_extent(a)) for a in axes])


def _extent(axis: Var) -> Scalar:
    if axis.extent is None:
        raise ValueError(f"axis {axis.name} has no extent")
    return axis.extent


def _function(axes: Sequence[Var], body: str) -> str:
    arguments = ", ".join(a.name for a in axes)
    return f"lambda {arguments}: {body}" if arguments else f"lambda: {body}"


def _values(values: Sequence[Scalar]) -> str:
    return print_scalar(values[0]) if len(values) == 1 else print_tuple([print_scalar(v) for v in values])


def _print(scopes: Sequence[Scope], depth: int, lines: list[str]) -> None:
    pad = "    " * depth
    for s in scopes:
        match s:
            case Compute():
                body = _function((*s.axes, *s.reduce_axes), _values(s.values))
                if s.reducer is None:
                    lines.append(f"{pad}{_names(s.tensors)} = compute({_types(s.tensors)}, {body})")
                else:
                    head = f"reduce({print_reducer(s.reducer)}, {_types(s.tensors)}, {_extents(s.reduce_axes)}"
                    lines.append(f"{pad}{_names(s.tensors)} = {head}, {body})")
            case Scan():
                lines.append(f"{pad}with scan({s.axis.name}={print_scalar(_extent(s.axis))}):")
                lines += [f"{pad}    {t.name} = state({_type(t)}, {i})" for t, i in zip(s.states, s.init, strict=True)]
                _print(s.scopes, depth + 1, lines)
                lines += [
                    f"{pad}    {t.name} = {'collect' if c else 'last'}({_type(t)}, {r})"
                    for t, r, c in zip(s.tensors, s.results, s.collect, strict=True)
                ]
            case Scatter():
                at = print_tuple([print_scalar(i) for i in s.indices])
                body = _function(s.axes, f"({at}, {print_scalar(s.value)})")
                more = "" if s.combiner is None else f", combiner={print_reducer(s.combiner)}"
                head = f"scatter({_type(s.tensor)}, {s.base}, {_extents(s.axes)}"
                lines.append(f"{pad}{s.tensor.name} = {head}, {body}{more})")
            case Sort():
                options = f"axis={s.axis}, descending={s.descending}"
                lines.append(f"{pad}{_names(s.tensors)} = sort({_types(s.tensors)}, {s.source}, {options})")
            case _:
                assert_never(s)


def parse_program(text: str) -> Program:
    """Reads a program; comments are ignored.

    Raises:
        ParseError: If the text is not a program of the expr language.
    """
    return _Reader(text).program()


class _Reader:
    def __init__(self, text: str) -> None:
        self.scalars = ScalarReader(text)
        self.dtypes: dict[str, DType] = {}

    def fail(self, node: ast.AST, message: str) -> NoReturn:
        raise self.scalars.error(node, message)

    def program(self) -> Program:
        module = cast(ast.Module, self.scalars.parse("exec"))
        match module.body:
            case [ast.FunctionDef(decorator_list=[decorator]) as node] if ast.unparse(decorator) == "expr.program":
                pass
            case []:
                raise ParseError("expected a function under @expr.program, found nothing", 1, 1, "")
            case [first, *_]:
                self.fail(first, "expected one function under @expr.program")
        if node.returns is not None or not _is_plain(node.args):
            self.fail(node, "a program's arguments are written name: type, its outputs after return")
        seen: set[str] = set()
        for a in node.args.args:
            if a.arg in seen:
                self.fail(a, f"{a.arg!r} is an argument twice")
            seen.add(a.arg)
        params = {
            a.arg: Var(a.arg, dt.i64, None)
            for a in node.args.args
            if isinstance(a.annotation, ast.Name) and a.annotation.id == "i64"
        }
        inputs = []
        for a in node.args.args:
            if a.arg in params:
                continue
            if a.annotation is None:
                self.fail(a, f"input {a.arg!r} has no type; write {a.arg}: f32[64]")
            inputs.append(self._tensor(a, a.arg, a.annotation, params))
        *body, last = node.body
        if not isinstance(last, ast.Return):
            self.fail(last, "expected `return` with the outputs' names at the end")
        scopes = tuple(self._scope(n, params) for n in body)
        outputs = () if last.value is None else tuple(self._name(n) for n in _items(last.value))
        return Program(node.name, tuple(params.values()), tuple(inputs), scopes, outputs)

    def _name(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Name):
            self.fail(node, "expected a name")
        return node.id

    def _tensor(self, at: ast.AST, name: str, node: ast.expr, variables: Mapping[str, Var]) -> Tensor:
        if not isinstance(node, ast.Subscript):
            self.fail(node, "expected a type such as f32[64, 32]")
        if name in self.dtypes:
            self.fail(at, f"{name!r} is defined twice")
        dtype = self.scalars.read_dtype(node.value)
        shape = tuple(self.scalars.read(e, variables, {}) for e in _items(node.slice))
        self.dtypes[name] = dtype
        return Tensor(name, dtype, shape)

    def _tensors(
        self, at: ast.stmt, names: Sequence[str], node: ast.expr, variables: Mapping[str, Var]
    ) -> tuple[Tensor, ...]:
        types = list(node.elts) if isinstance(node, ast.Tuple) else [node]
        if len(types) != len(names):
            self.fail(node, f"{len(names)} names are defined and {len(types)} types given")
        return tuple(self._tensor(at, n, t, variables) for n, t in zip(names, types, strict=True))

    def _scope(self, node: ast.stmt, variables: Mapping[str, Var]) -> Scope:
        match node:
            case ast.Assign(targets=[target], value=ast.Call(func=ast.Name(id=kind)) as call):
                names = [self._name(n) for n in _items(target)]
                match kind:
                    case "compute" | "reduce":
                        return self._compute(node, names, call, variables)
                    case "scatter":
                        return self._scatter(node, names, call, variables)
                    case "sort":
                        return self._sort(node, names, call, variables)
            case ast.With(
                items=[ast.withitem(context_expr=ast.Call(func=ast.Name(id="scan")) as call, optional_vars=None)]
            ):
                return self._scan(node, call, variables)
        self.fail(node, "expected a scope: name = compute(…), reduce(…), scatter(…), sort(…), or with scan(…)")

    def _axes(self, function: ast.expr, extents: Sequence[Scalar]) -> tuple[tuple[Var, ...], ast.expr]:
        if not isinstance(function, ast.Lambda) or not _is_plain(function.args):
            self.fail(function, "expected lambda axes: value")
        names = [a.arg for a in function.args.args]
        if len(names) != len(extents):
            self.fail(function, f"the lambda has {len(names)} axes, expected {len(extents)}")
        if len(set(names)) != len(names):
            self.fail(function, "two axes have one name")
        return tuple(Var(n, dt.i64, e) for n, e in zip(names, extents, strict=True)), function.body

    def _read(self, node: ast.expr, variables: Mapping[str, Var], axes: Sequence[Var]) -> Scalar:
        return self.scalars.read(node, {**variables, **{a.name: a for a in axes}}, self.dtypes)

    def _compute(self, node: ast.Assign, names: list[str], call: ast.Call, variables: Mapping[str, Var]) -> Compute:
        reducing = isinstance(call.func, ast.Name) and call.func.id == "reduce"
        if len(call.args) != (4 if reducing else 2) or call.keywords:
            form = "reduce(reducer, type, (extents,), lambda …)" if reducing else "compute(type, lambda axes: value)"
            self.fail(call, f"expected {form}")
        types = call.args[1] if reducing else call.args[0]
        shape_of = types.elts[0] if isinstance(types, ast.Tuple) and types.elts else types
        if not isinstance(shape_of, ast.Subscript):
            self.fail(types, "expected a type such as f32[64, 32], or a tuple of them")
        shape = [self.scalars.read(e, variables, {}) for e in _items(shape_of.slice)]
        over: list[Scalar] = []
        if reducing:
            over = [self.scalars.read(e, variables, {}) for e in _items(call.args[2])]
        axes, body = self._axes(call.args[-1], [*shape, *over])
        parts = list(body.elts) if isinstance(body, ast.Tuple) else [body]
        values = tuple(self._read(p, variables, axes) for p in parts)
        tensors = self._tensors(node, names, types, variables)
        reducer: Reducer | None = None
        if reducing:
            reducer = self.scalars.read_reducer(call.args[0], [t.dtype for t in tensors])
        return Compute(tensors, axes[: len(shape)], axes[len(shape) :], reducer, values)

    def _scatter(self, node: ast.Assign, names: list[str], call: ast.Call, variables: Mapping[str, Var]) -> Scatter:
        if len(call.args) != 4 or len(names) != 1:
            self.fail(call, "expected name = scatter(type, base, (extents,), lambda axes: ((indices,), value))")
        extents = [self.scalars.read(e, variables, {}) for e in _items(call.args[2])]
        axes, body = self._axes(call.args[3], extents)
        match body:
            case ast.Tuple(elts=[ast.Tuple(elts=at), value]):
                indices = tuple(self._read(i, variables, axes) for i in at)
                stored = self._read(value, variables, axes)
            case _:
                self.fail(body, "expected ((indices,), value)")
        base = self._name(call.args[1])
        tensor = self._tensor(node, names[0], call.args[0], variables)
        combiner: Reducer | None = None
        match call.keywords:
            case []:
                pass
            case [ast.keyword(arg="combiner", value=reducer)]:
                combiner = self.scalars.read_reducer(reducer, [tensor.dtype])
            case [keyword, *_]:
                self.fail(keyword.value, "expected combiner=reducer")
        return Scatter(tensor, base, axes, indices, stored, combiner)

    def _sort(self, node: ast.Assign, names: list[str], call: ast.Call, variables: Mapping[str, Var]) -> Sort:
        match call:
            case ast.Call(
                args=[types, source],
                keywords=[
                    ast.keyword(arg="axis", value=ast.Constant(value=int(axis))),
                    ast.keyword(arg="descending", value=ast.Constant(value=bool(descending))),
                ],
            ) if type(axis) is int:
                first, second = self._pair(node, names, types, variables)
                return Sort((first, second), self._name(source), axis, descending)
        self.fail(call, "expected values, places = sort((type, i64[…]), source, axis=0, descending=False)")

    def _pair(
        self, node: ast.Assign, names: list[str], types: ast.expr, variables: Mapping[str, Var]
    ) -> tuple[Tensor, Tensor]:
        tensors = self._tensors(node, names, types, variables)
        if len(tensors) != 2:
            self.fail(node, "a sort defines two tensors: the values and where they came from")
        return tensors[0], tensors[1]

    def _scan(self, node: ast.With, call: ast.Call, variables: Mapping[str, Var]) -> Scan:
        if len(call.keywords) != 1 or call.args or call.keywords[0].arg is None:
            self.fail(call, "expected with scan(axis=extent):")
        axis = Var(call.keywords[0].arg, dt.i64, self.scalars.read(call.keywords[0].value, variables, {}))
        inner = {**variables, axis.name: axis}
        states: list[Tensor] = []
        init: list[str] = []
        scopes: list[Scope] = []
        tensors: list[Tensor] = []
        results: list[str] = []
        collect: list[bool] = []
        for line in node.body:
            match line:
                case ast.Assign(
                    targets=[ast.Name(id=name)],
                    value=ast.Call(func=ast.Name(id=kind), args=[t, source], keywords=[]),
                ) if kind in ("state", "collect", "last"):
                    tensor = self._tensor(line, name, t, variables)
                    if kind == "state":
                        states.append(tensor)
                        init.append(self._name(source))
                    else:
                        tensors.append(tensor)
                        results.append(self._name(source))
                        collect.append(kind == "collect")
                case _:
                    scopes.append(self._scope(line, inner))
        return Scan(tuple(tensors), axis, tuple(states), tuple(init), tuple(scopes), tuple(results), tuple(collect))


def _is_plain(arguments: ast.arguments) -> bool:
    """Whether there is nothing but names, perhaps with types."""
    a = arguments
    return not (a.posonlyargs or a.vararg or a.kwonlyargs or a.kwarg or a.defaults)


def _items(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]
