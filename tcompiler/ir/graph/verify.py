"""The rules of the graph language. Types are inferred again by the operators that the verifier is handed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import UserError, VerifyError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.graph.grammar import Attr, ConstantStore, Graph, Node, TensorType, Value
from tcompiler.ir.graph.operators import OperatorLookup
from tcompiler.ir.graph.text import print_attr, print_type
from tcompiler.ir.layout import Layout
from tcompiler.ir.names import is_identifier, quote
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.evaluate import evaluate as scalar_values
from tcompiler.ir.scalar.grammar import Scalar, Var, as_int, conjunction, greater_equal, less, loop_var
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import free_vars, loads, substitute
from tcompiler.ir.scalar.text import print_scalar, suggestion

RESERVED = frozenset({"group", "name"})
"""Keywords of a node's text that are no attributes."""

_MOST_POINTS = 1 << 18


def verify(graph: Graph, operators: OperatorLookup, constants: ConstantStore | None = None) -> None:
    """Checks every rule of the graph language.

    Args:
        graph: What to check.
        operators: Finds an operator by name.
        constants: If given, every constant must be in it, with the right number of bytes.

    Raises:
        VerifyError: At the first rule that is broken.
    """
    _Verifier(graph, operators, constants).run()


class _Verifier:
    def __init__(self, graph: Graph, operators: OperatorLookup, constants: ConstantStore | None) -> None:
        self.graph = graph
        self.operators = operators
        self.constants = constants
        self.params = frozenset(graph.params)
        self.types: dict[str, TensorType] = {}
        self.taken: set[str] = set()
        self.laid: set[tuple[Layout, tuple[Scalar, ...]]] = set()

    def run(self) -> None:
        g = self.graph
        if not is_identifier(g.name):
            raise VerifyError(f"the graph's name {quote(g.name)} is not an identifier")
        for p in g.params:
            self._name("parameter", p.name)
            if p.dtype is not dt.i64 or p.extent is not None:
                raise VerifyError("a parameter is i64 and has no extent", p.name)
        for v in g.inputs:
            self._define(v.name, v.type, "input")
        for c in g.constants:
            self._define(c.name, c.type, "constant")
            self._constant(c.name, c.sha256, c.type)
        names: set[str] = set()
        for n in g.nodes:
            if n.name in names:
                raise VerifyError("two nodes have this name", quote(n.name))
            names.add(n.name)
            self._node(n)
        for v in g.outputs:
            self._output(v)

    def _name(self, what: str, name: str) -> None:
        if not is_identifier(name):
            raise VerifyError(f"the name of this {what} is not an identifier", quote(name))
        if name in self.taken:
            raise VerifyError("two of the parameters and values have this name", name)
        self.taken.add(name)

    def _define(self, name: str, tensor: TensorType, what: str) -> None:
        self._name(what, name)
        self._type(tensor, name)
        self.types[name] = tensor

    def _type(self, tensor: TensorType, where: str) -> None:
        self._extents(tensor.shape, "an extent", where)
        # A deep network has few pairs of layout and shape, and each costs a look at every element.
        if tensor.layout is not None and (tensor.layout, tensor.shape) not in self.laid:
            self._layout(tensor.layout, tensor.shape, where)
            self.laid.add((tensor.layout, tensor.shape))

    def _extents(self, extents: Sequence[Scalar], what: str, where: str) -> None:
        for e in extents:
            unknown = sorted(v.name for v in free_vars(e) - self.params)
            if unknown:
                raise VerifyError(f"{what} {print_scalar(e)} names {', '.join(unknown)}, which is no parameter", where)
            if e.dtype is not dt.i64 or loads(e):
                raise VerifyError(f"{what} {print_scalar(e)} is not an i64 expression of parameters", where)
            value = as_int(e)
            if value is not None and value < 0:
                raise VerifyError(f"{what} is {value}", where)

    def _layout(self, layout: Layout, shape: Sequence[Scalar], where: str) -> None:
        """A layout maps the logical shape into the physical one, no two elements to one place."""
        inputs, outputs = layout.map.inputs, layout.map.outputs
        self._extents(layout.shape, "a physical extent", where)
        if len(inputs) != len(shape) or len(outputs) != len(layout.shape):
            raise VerifyError(
                f"the layout maps {len(inputs)} indices to {len(outputs)}; "
                f"the tensor has {len(shape)} dimensions, its memory {len(layout.shape)}",
                where,
            )
        if len(set(inputs)) < len(inputs) or any(v.dtype is not dt.i64 or v.extent is not None for v in inputs):
            raise VerifyError("a layout's inputs are different i64 variables without extents", where)
        names = [v.name for v in inputs]
        if len(set(names)) < len(names) or not all(map(is_identifier, names)):
            raise VerifyError("a layout's inputs are identifiers and differ", where)
        for o in outputs:
            unknown = sorted(v.name for v in free_vars(o) - frozenset(inputs))
            if unknown or o.dtype is not dt.i64 or loads(o):
                raise VerifyError(f"layout index {print_scalar(o)} is not an i64 expression of its inputs", where)
        ranged: dict[Scalar, Scalar] = {
            v: loop_var(f"{v.name}_{k}", e) for k, (v, e) in enumerate(zip(inputs, shape, strict=True))
        }
        moved = [substitute(o, ranged) for o in outputs]
        inside = [
            conjunction(greater_equal(o, 0), less(o, extent)) for o, extent in zip(moved, layout.shape, strict=True)
        ]
        extents = [as_int(e) for e in shape]
        sizes = [n for n in extents if n is not None]
        physical = [as_int(e) for e in layout.shape]
        if len(sizes) < len(extents) or None in physical or math.prod(sizes) > _MOST_POINTS:
            bad = next((k for k, c in enumerate(inside) if prove(c) is False), None)
            if bad is not None:
                raise VerifyError(f"layout index {print_scalar(outputs[bad])} leaves the physical shape", where)
            return
        axes = np.meshgrid(*(np.arange(n, dtype=np.int64) for n in sizes), indexing="ij", sparse=True)
        env = {v: a for v, a in zip(ranged.values(), axes, strict=True) if isinstance(v, Var)}
        flat = np.zeros(tuple(sizes), np.int64)
        for k, o in enumerate(moved):
            if not np.all(scalar_values(inside[k], env, {})):
                raise VerifyError(f"layout index {print_scalar(outputs[k])} leaves the physical shape", where)
            flat = flat * int(physical[k] or 0) + scalar_values(o, env, {})
        if not _distinct(flat, math.prod(n or 0 for n in physical)):
            raise VerifyError("the layout puts two elements in one place", where)

    def _constant(self, name: str, sha256: str, tensor: TensorType) -> None:
        if re.fullmatch("[0-9a-f]{64}", sha256) is None:
            raise VerifyError(f"{quote(sha256)} is not a SHA-256 digest in hexadecimal", name)
        if any(as_int(e) is None for e in tensor.shape):
            raise VerifyError(f"a constant has a constant shape, not {print_type(tensor)}", name)
        if self.constants is not None:
            array = self.constants.arrays.get(sha256)
            if array is None:
                raise VerifyError(f"constant {sha256[:12]}… is not in the store", name)
            expected = math.prod(tensor.dims()) * tensor.dtype.bytes
            if array.nbytes != expected:
                raise VerifyError(f"the constant holds {array.nbytes} bytes; its type needs {expected}", name)

    def _node(self, n: Node) -> None:
        where = f"node {n.name}"
        if not is_identifier(n.op):
            raise VerifyError(f"the operator's name {quote(n.op)} is not an identifier", where)
        try:
            operator = self.operators(n.op)
        except KeyError:
            raise VerifyError(f"there is no operator {quote(n.op)}", where) from None
        types: list[TensorType | None] = []
        for name in n.inputs:
            if not name:
                types.append(None)
            elif name in self.types:
                types.append(TensorType(self.types[name].dtype, self.types[name].shape))
            else:
                raise VerifyError(f"reads {quote(name)}, not defined above it{suggestion(name, self.types)}", where)
        keys = [k for k, _ in n.attrs]
        for key, value in n.attrs:
            if not is_identifier(key) or key in RESERVED:
                raise VerifyError(f"{quote(key)} cannot be an attribute's key", where)
            if not _is_attr(value):
                raise VerifyError(f"attribute {key} is of type {type(value).__name__}", where)
        if any(a >= b for a, b in pairwise(keys)):
            raise VerifyError(f"attributes are sorted by key and each key occurs once, not {', '.join(keys)}", where)
        try:
            inferred = operator.infer(types, dict(n.attrs))
        except UserError as e:
            raise VerifyError(f"{n.op} does not take this: {e}", where) from e
        if not n.outputs or len(n.outputs) != len(inferred):
            raise VerifyError(f"{n.op} has {len(inferred)} outputs, the node {len(n.outputs)}", where)
        for v, expected in zip(n.outputs, inferred, strict=True):
            self._define(v.name, v.type, "output")
            if not _same(v.type, expected):
                attrs = "".join(f", {k}={print_attr(a)}" for k, a in n.attrs)
                given = ", ".join("None" if t is None else print_type(t) for t in types)
                raise VerifyError(f"{v.name} is {_show(v.type)}; {n.op}({given}{attrs}) gives {_show(expected)}", where)

    def _output(self, v: Value) -> None:
        defined = self.types.get(v.name)
        if defined is None:
            raise VerifyError(f"the output {quote(v.name)} is not defined{suggestion(v.name, self.types)}")
        if not _same(v.type, defined) or v.type.layout is not defined.layout:
            raise VerifyError(f"the output is {print_type(v.type)}, the value {print_type(defined)}", v.name)


def _distinct(places: NDArray[np.int64], size: int) -> bool:
    """Whether places, each below size, differ: by marking them, unless they are few in a large memory."""
    if size > 16 * places.size:
        return bool(np.unique(places).size == places.size)
    seen = np.zeros(size, np.bool_)
    seen[places] = True
    return bool(np.count_nonzero(seen) == places.size)


def _same(a: TensorType, b: TensorType) -> bool:
    """Whether two types agree, layouts aside."""
    return (
        a.dtype is b.dtype
        and len(a.shape) == len(b.shape)
        and all(x is y or simplify(x) is simplify(y) for x, y in zip(a.shape, b.shape, strict=True))
    )


def _show(tensor: TensorType) -> str:
    return print_type(TensorType(tensor.dtype, tensor.shape))


def _is_attr(value: Attr) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_attr, value))
    return value is None or type(value) in (int, float, bool, str, DType)
