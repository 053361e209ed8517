"""A group of graph nodes as one expr program of several scopes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor
from tcompiler.ir.graph.grammar import Node, TensorType
from tcompiler.ir.graph.operators import OperatorLike
from tcompiler.ir.scalar.grammar import Const, Load, Scalar, Var, postorder
from tcompiler.ir.scalar.rewrite import rewrite


def compose(
    name: str,
    nodes: Sequence[Node],
    types: Mapping[str, TensorType],
    outputs: Sequence[str],
    operators: Callable[[str], OperatorLike],
    known: Mapping[str, Const] | None = None,
) -> Program:
    """Joins the definitions of nodes into one program.

    Args:
        name: The program's name.
        nodes: The group's nodes in the order of their definition.
        types: Types of every value that the nodes read or define.
        outputs: Names of the values that leave the group.
        operators: The operator table.
        known: Values of one element that are known: reads of them become constants, and they are no inputs.

    Returns:
        A program whose inputs are the values read from outside, in the order of first use, under their names.
    """
    known = known or {}
    defined = {v.name for n in nodes for v in n.outputs}
    inputs: dict[str, Tensor] = {}
    scopes: list[Scope] = []
    for node in nodes:
        operand_types = [types[i] if i else None for i in node.inputs]
        definition = operators(node.op).define(operand_types, dict(node.attrs))
        present = [i for i in node.inputs if i]
        names = dict(zip((t.name for t in definition.inputs), present, strict=True))
        names.update(zip(definition.outputs, (v.name for v in node.outputs), strict=True))
        # scans, scatters and sorts take tensors by name
        scalars = known if all(isinstance(s, Compute) for s in definition.scopes) else {}
        for value in present:
            if value not in defined and value not in inputs and value not in scalars:
                t = types[value]
                inputs[value] = Tensor(value, t.dtype, t.shape)
        for scope in definition.scopes:
            scopes.append(_renamed(scope, names, f"{node.name}_", scalars))
    params = {
        p: None
        for t in (*inputs.values(), *(t for s in scopes for t in _tensors(s)))
        for extent in t.shape
        for p in postorder(extent)
        if isinstance(p, Var) and p.extent is None
    }
    return Program(name, tuple(params), tuple(inputs.values()), tuple(scopes), tuple(outputs))


def signature(
    nodes: Sequence[Node],
    types: Mapping[str, TensorType],
    outputs: Sequence[str],
    known: Mapping[str, Const],
    fixed: Collection[str],
) -> tuple[Hashable, tuple[str, ...]]:
    """What a group's kernel depends on, without composing its program: names count by number only.

    Args:
        nodes: As for compose.
        types: As for compose.
        outputs: As for compose.
        known: As for compose.
        fixed: Names of constants.

    Returns:
        A key, equal for groups whose programs differ in names alone and whose values have the same layouts; and the
        names of the group's values, each at its number, so that two groups' values with one number correspond.
    """
    numbers: dict[str, int] = {}
    parts: list[Hashable] = []

    def value(name: str) -> None:
        if name in numbers:
            parts.append(numbers[name])
            return
        numbers[name] = len(numbers)
        t, constant = types[name], known.get(name)
        # Scalars and layouts are interned: they are their own keys.
        parts.append((t.dtype.name, t.shape, t.layout, None if constant is None else constant.bits, name in fixed))

    for node in nodes:
        # as text, in which 1, 1.0 and True are three things, and 0.0 is not -0.0
        parts.append((node.op, repr(node.attrs), len(node.inputs), len(node.outputs)))
        for name in node.inputs:
            value(name) if name else parts.append(None)
        for v in node.outputs:
            value(v.name)
    parts.append(tuple(numbers[name] for name in outputs))
    return tuple(parts), tuple(numbers)


def _tensors(scope: Scope) -> tuple[Tensor, ...]:
    match scope:
        case Compute(tensors=t) | Scan(tensors=t):
            return t
        case Sort(tensors=pair):
            return pair
        case Scatter(tensor=one):
            return (one,)


def _renamed(scope: Scope, names: dict[str, str], prefix: str, known: Mapping[str, Const]) -> Scope:
    """A scope with its tensors renamed and known ones read; tensors not seen yet get the prefix."""

    def name(old: str) -> str:
        return names.setdefault(old, prefix + old)

    def tensor(t: Tensor) -> Tensor:
        return Tensor(name(t.name), t.dtype, t.shape)

    def one(node: Scalar) -> Scalar:
        if not isinstance(node, Load):
            return node
        read = name(node.buffer)
        return known.get(read) or Load(read, node.dtype, node.indices)

    def value(node: Scalar) -> Scalar:
        return rewrite(node, one)

    match scope:
        case Compute():
            values = tuple(map(value, scope.values))
            return Compute(tuple(map(tensor, scope.tensors)), scope.axes, scope.reduce_axes, scope.reducer, values)
        case Scan():
            init = tuple(map(name, scope.init))
            states = tuple(map(tensor, scope.states))
            inner = tuple(_renamed(s, names, prefix, known) for s in scope.scopes)
            results = tuple(map(name, scope.results))
            return Scan(tuple(map(tensor, scope.tensors)), scope.axis, states, init, inner, results, scope.collect)
        case Scatter():
            indices = tuple(map(value, scope.indices))
            base = name(scope.base)
            return Scatter(tensor(scope.tensor), base, scope.axes, indices, value(scope.value), scope.combiner)
        case Sort():
            source = name(scope.source)
            first, second = scope.tensors
            return Sort((tensor(first), tensor(second)), source, scope.axis, scope.descending)
