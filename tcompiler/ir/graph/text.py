"""Text of the graph language: a subset of Python's syntax.

@graph
def net(n: i64, x: tensor(f32[n, 3, 8, 8], label="input.1")):
    w = const("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", f32[64, 3, 7, 7])
    b = const([0.5, -1.0, 1e-05], f32[3])
    y: f32[n, 64, 8, 8] = conv(x, w, None, pads=(3, 3, 3, 3), group="g1", name="stem")
    v: f32[n, 5]
    i: i64[n, 5]
    v, i = topk(y, k=5)
    return output(v, label="scores"), i

types       f32[n, 3]   tensor(f32[8, 8], layout=layout(lambda i, j: (…), (…), zero_padding=True), label="…")
constants   by digest, or up to 64 elements in row-major order
nodes       inputs by name, None where an optional one is absent; attributes as keywords; `group` and `name` are
            the node's own, and the name is left out if it is that of the first output
attributes  3   0.5   inf   nan   True   "text"   f32   None   (1, 1)
outputs     y   output(y, label="…")   output(y, f32[…], label="…") where the type is not the value's
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from typing import NoReturn, cast

import numpy as np

from tcompiler.errors import ParseError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DTYPES, DType
from tcompiler.ir.graph.grammar import Attr, Constant, ConstantStore, Graph, Node, TensorType, Value, values
from tcompiler.ir.layout_text import print_layout, read_layout
from tcompiler.ir.names import quote
from tcompiler.ir.scalar.grammar import Const, Var
from tcompiler.ir.scalar.text import ScalarReader, print_const, print_scalar, print_tuple, suggestion

INLINE = 64
"""A constant with at most this many elements prints them."""


def print_graph(graph: Graph, constants: ConstantStore | None = None) -> str:
    """The text of a graph, ending in a newline.

    Args:
        graph: The graph.
        constants: Where small constants find the elements that they print; without it all print their digest.
    """
    signature = [f"{p.name}: i64" for p in graph.params]
    signature += [f"{v.name}: {_value_type(v)}" for v in graph.inputs]
    lines = ["@graph", f"def {graph.name}({', '.join(signature)}):"]
    lines += [f"    {c.name} = {_constant(c, constants)}" for c in graph.constants]
    for n in graph.nodes:
        call = print_call(n)
        if len(n.outputs) == 1:
            lines.append(f"    {n.outputs[0].name}: {_value_type(n.outputs[0])} = {call}")
        else:
            lines += [f"    {v.name}: {_value_type(v)}" for v in n.outputs]
            lines.append(f"    {', '.join(v.name for v in n.outputs)} = {call}")
    types = dict(values(graph))
    outputs = [_output(v, types.get(v.name)) for v in graph.outputs]
    lines.append(f"    return {', '.join(outputs)}".rstrip())
    return "\n".join(lines) + "\n"


def print_type(tensor: TensorType) -> str:
    """The text of a tensor type."""
    text = _plain_type(tensor)
    return text if tensor.layout is None else f"tensor({text}, layout={print_layout(tensor.layout)})"


def print_call(node: Node) -> str:
    """The text of a node without its outputs."""
    parts = [name or "None" for name in node.inputs]
    parts += [f"{key}={print_attr(value)}" for key, value in node.attrs]
    if node.group is not None:
        parts.append(f"group={quote(node.group)}")
    if not node.outputs or node.name != node.outputs[0].name:
        parts.append(f"name={quote(node.name)}")
    return f"{node.op}({', '.join(parts)})"


def print_attr(value: Attr) -> str:
    """The text of an attribute's value; no bit of a number is lost (all NaN are one)."""
    match value:
        case bool() | int() | None:
            return repr(value)
        case float():
            return "nan" if math.isnan(value) else repr(value)
        case str():
            return quote(value)
        case DType():
            return value.name
        case tuple():
            return print_tuple([print_attr(v) for v in value])


def _plain_type(tensor: TensorType) -> str:
    return f"{tensor.dtype.name}[{', '.join(map(print_scalar, tensor.shape)) or '()'}]"


def _value_type(value: Value) -> str:
    parts = [_plain_type(value.type)]
    if value.type.layout is not None:
        parts.append(f"layout={print_layout(value.type.layout)}")
    if value.label:
        parts.append(f"label={quote(value.label)}")
    return parts[0] if len(parts) == 1 else f"tensor({', '.join(parts)})"


def _output(value: Value, defined: TensorType | None) -> str:
    parts = [value.name]
    if defined is None or not same_type(value.type, defined):
        parts.append(print_type(value.type))
    if value.label:
        parts.append(f"label={quote(value.label)}")
    return parts[0] if len(parts) == 1 else f"output({', '.join(parts)})"


def same_type(a: TensorType, b: TensorType) -> bool:
    """Whether two types are written alike."""
    return a.dtype is b.dtype and a.shape == b.shape and a.layout is b.layout


def _constant(c: Constant, constants: ConstantStore | None) -> str:
    text = print_type(c.type)
    extents = [e.value if isinstance(e, Const) else INLINE + 1 for e in c.type.shape]
    if constants is not None and c.sha256 in constants.arrays and math.prod(int(e) for e in extents) <= INLINE:
        return f"const([{', '.join(_elements(constants, c))}], {text})"
    return f"const({quote(c.sha256)}, {text})"


def _elements(constants: ConstantStore, c: Constant) -> list[str]:
    """The elements of a constant as literals of its type; they are read from their bits."""
    dtype = c.type.dtype
    unsigned = np.dtype(f"u{dtype.bytes}")
    result: list[str] = []
    for bits in constants.typed(c).reshape(-1).view(unsigned):
        text = print_const(Const(dtype, int(bits)))
        head, _, rest = text.partition("(")
        result.append(f"bits({rest}" if head.endswith(".bits") else rest.removesuffix(")") or text)
    return result


def parse_graph(text: str, constants: ConstantStore | None = None) -> Graph:
    """Reads a graph; comments are ignored.

    Args:
        text: The text.
        constants: Where the elements of constants that are written out are put.

    Raises:
        ParseError: If the text is not a graph.
    """
    return _Reader(text, ConstantStore() if constants is None else constants).graph()


class _Reader:
    def __init__(self, text: str, store: ConstantStore) -> None:
        self.scalars = ScalarReader(text)
        self.store = store
        self.params: dict[str, Var] = {}

    def fail(self, node: ast.AST, message: str) -> NoReturn:
        raise self.scalars.error(node, message)

    def graph(self) -> Graph:
        module = cast(ast.Module, self.scalars.parse("exec"))
        match module.body:
            case [ast.FunctionDef(decorator_list=[ast.Name(id="graph")]) as node]:
                pass
            case []:
                raise ParseError("expected a function under @graph, found nothing", 1, 1, "")
            case [first, *_]:
                self.fail(first, "expected one function under @graph")
        a = node.args
        if a.posonlyargs or a.vararg or a.kwonlyargs or a.kwarg or a.defaults or node.returns is not None:
            self.fail(node, "a graph's arguments are written name: type")
        inputs: list[Value] = []
        for arg in a.args:
            if isinstance(arg.annotation, ast.Name) and arg.annotation.id == "i64":
                self.params[arg.arg] = Var(arg.arg, dt.i64, None)
        for arg in a.args:
            if arg.annotation is None:
                self.fail(arg, f"argument {arg.arg!r} has no type; write {arg.arg}: f32[64]")
            if arg.arg not in self.params:
                inputs.append(self._value(arg.arg, arg.annotation))
        body = list(node.body)
        last = body.pop() if body else node
        if not isinstance(last, ast.Return):
            self.fail(last, "a graph ends by returning its outputs")
        found_constants: list[Constant] = []
        nodes: list[Node] = []
        declared: dict[str, Value] = {}
        for stmt in body:
            self._statement(stmt, found_constants, nodes, declared)
        if declared:
            self.fail(last, f"declared, but given no value: {', '.join(declared)}")
        types: dict[str, TensorType] = {v.name: v.type for v in inputs}
        types.update((c.name, c.type) for c in found_constants)
        types.update((v.name, v.type) for n in nodes for v in n.outputs)
        returned = [] if last.value is None else _list(last.value)
        outputs = tuple(self._output(e, types) for e in returned)
        return Graph(
            node.name, tuple(self.params.values()), tuple(inputs), tuple(found_constants), tuple(nodes), outputs
        )

    def _statement(self, stmt: ast.stmt, found: list[Constant], nodes: list[Node], declared: dict[str, Value]) -> None:
        match stmt:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="const")) as call):
                found.append(self._constant(name, call))
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=None):
                if name in declared:
                    self.fail(stmt, f"{name!r} is declared twice")
                declared[name] = self._value(name, annotation)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.Call() as call):
                nodes.append(self._node((self._value(name, annotation),), call))
            case ast.Assign(targets=[target], value=ast.Call() as call):
                outputs: list[Value] = []
                for t in _list(target):
                    if not isinstance(t, ast.Name) or t.id not in declared:
                        self.fail(t, "the type of an output is declared before, as in y: f32[64]")
                    outputs.append(declared.pop(t.id))
                nodes.append(self._node(tuple(outputs), call))
            case _:
                self.fail(stmt, "expected a constant or a node, such as y: f32[64] = relu(x)")

    def _value(self, name: str, node: ast.expr) -> Value:
        tensor, label = self._labelled(node)
        return Value(name, tensor, label)

    def _labelled(self, node: ast.expr) -> tuple[TensorType, str]:
        match node:
            case ast.Call(func=ast.Name(id="tensor"), args=[plain], keywords=keywords):
                tensor = self._type(plain)
                label = ""
                for keyword in keywords:
                    match keyword:
                        case ast.keyword(arg="layout", value=value):
                            layout = read_layout(self.scalars, value, self.params)
                            tensor = TensorType(tensor.dtype, tensor.shape, layout)
                        case ast.keyword(arg="label", value=ast.Constant(value=str(text))):
                            label = text
                        case _:
                            self.fail(keyword.value, 'expected layout=layout(…) or label="…"')
                return tensor, label
        return self._type(node), ""

    def _type(self, node: ast.expr) -> TensorType:
        if not isinstance(node, ast.Subscript):
            self.fail(node, "expected a type such as f32[64, 32]")
        dtype = self.scalars.read_dtype(node.value)
        shape = tuple(self.scalars.read(e, self.params, {}) for e in _list(node.slice))
        return TensorType(dtype, shape)

    def _constant(self, name: str, call: ast.Call) -> Constant:
        match call:
            case ast.Call(args=[ast.Constant(value=str(digest)), syntax], keywords=[]):
                return Constant(name, digest, self._labelled(syntax)[0])
            case ast.Call(args=[ast.List(elts=elts), syntax], keywords=[]):
                tensor = self._labelled(syntax)[0]
                scalars = [self._element(e, tensor.dtype) for e in elts]
                try:
                    count = math.prod(tensor.dims())
                except ValueError as e:
                    self.fail(syntax, f"a constant has a constant shape: {e}")
                if count != len(scalars):
                    self.fail(call, f"{len(scalars)} elements for a type of {count}")
                raw = np.array([c.bits for c in scalars], np.dtype(f"u{tensor.dtype.bytes}"))
                data = raw.view(tensor.dtype.numpy).reshape(tensor.dims())
                return Constant(name, self.store.put(data), tensor)
        self.fail(call, "a constant is written const(digest, type) or const([elements], type)")

    def _element(self, node: ast.expr, dtype: DType) -> Const:
        """A literal as it stands inside f32(…), or bits(0x…)."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "bits":
            func: ast.expr = ast.Attribute(ast.Name(dtype.name, ast.Load()), "bits", ast.Load())
            wrapped = ast.Call(func, node.args, node.keywords)
        elif dtype is dt.i64 or (isinstance(node, ast.Constant) and isinstance(node.value, bool)):
            wrapped = cast(ast.Call, node)
        else:
            wrapped = ast.Call(ast.Name(dtype.name, ast.Load()), [node], [])
        value = self.scalars.read(ast.copy_location(wrapped, node), {}, {})
        if not isinstance(value, Const) or value.dtype is not dtype:
            self.fail(node, f"expected a literal of type {dtype.name}")
        return value

    def _node(self, outputs: tuple[Value, ...], call: ast.Call) -> Node:
        if not isinstance(call.func, ast.Name):
            self.fail(call, "an operator is called by its name")
        inputs: list[str] = []
        for a in call.args:
            match a:
                case ast.Name(id=name):
                    inputs.append(name)
                case ast.Constant(value=None):
                    inputs.append("")
                case _:
                    self.fail(a, "an input is the name of a value, or None")
        attrs: dict[str, Attr] = {}
        group: str | None = None
        name = outputs[0].name if outputs else ""
        for keyword in call.keywords:
            match keyword:
                case ast.keyword(arg="group", value=ast.Constant(value=str(text))):
                    group = text
                case ast.keyword(arg="name", value=ast.Constant(value=str(text))):
                    name = text
                case ast.keyword(arg=str(key), value=value):
                    attrs[key] = self._attr(value)
                case _:
                    self.fail(keyword.value, "an attribute is written key=value")
        return Node(call.func.id, name, tuple(inputs), outputs, tuple(sorted(attrs.items())), group)

    def _attr(self, node: ast.expr) -> Attr:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.Name(id="inf" | "nan" as word):
                return float(word)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id="inf")):
                return -math.inf
            case ast.Name(id=name) if name in DTYPES:
                return DTYPES[name]
            case ast.Tuple(elts=elts):
                return tuple(map(self._attr, elts))
        self.fail(node, "an attribute is a number, a bool, a string, an element type, None or a tuple of these")

    def _output(self, node: ast.expr, types: Mapping[str, TensorType]) -> Value:
        tensor: TensorType | None = None
        label = ""
        match node:
            case ast.Name(id=name):
                pass
            case ast.Call(func=ast.Name(id="output"), args=[ast.Name(id=name), *rest], keywords=keywords):
                if rest:
                    tensor = self._labelled(rest[0])[0]
                for keyword in keywords:
                    match keyword:
                        case ast.keyword(arg="label", value=ast.Constant(value=str(text))):
                            label = text
                        case _:
                            self.fail(keyword.value, 'expected label="…"')
            case _:
                self.fail(node, 'an output is the name of a value, or output(name, label="…")')
        if tensor is None:
            if name not in types:
                self.fail(node, f"unknown value {name!r}{suggestion(name, types)}")
            tensor = types[name]
        return Value(name, tensor, label)


def _list(node: ast.expr) -> Sequence[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]
