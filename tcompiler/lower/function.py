"""An expr program as a loop function: one block per scope, in a loop nest of its own."""

from __future__ import annotations

from collections.abc import Mapping

from tcompiler.errors import CompileError
from tcompiler.ir.expr.grammar import Compute, Program, Scope, tensors
from tcompiler.ir.layout import Layout
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterKind, IterVar, Stmt, Store, Update, seq
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, as_int
from tcompiler.ir.scalar.rewrite import rewrite, substitute
from tcompiler.lower.layouts import propagate
from tcompiler.lower.merge import merge_axes


def lower(program: Program, layouts: Mapping[str, Layout] | None = None) -> Function:
    """Makes one block per scope, with serial loops over its axes and reduce axes around it.

    Args:
        program: A verified program of Compute scopes.
        layouts: Physical layouts of inputs and outputs by name; others are row-major. Expressions speak of logical
            indices; here they become physical ones.

    Returns:
        A function that takes the program's inputs and outputs. Dimensions that are walked in step are one in it, so
        a buffer may have fewer of them than its tensor, for the same elements in the same order.

    Raises:
        CompileError: If a scope is of a kind that no loops are made for.
    """
    program, layouts = merge_axes(program, propagate(program, layouts or {}))
    table = tensors(program)
    physical = {
        name: Buffer(name, t.dtype, layouts[name].shape if name in layouts else t.shape) for name, t in table.items()
    }
    names = _Names(physical)
    body = seq(*(_scope(s, names, layouts) for s in program.scopes))
    inputs = tuple(t.name for t in program.inputs)
    return Function(program.name, program.params, tuple(physical.values()), inputs, program.outputs, body)


class _Names:
    """Unique names for blocks and loops, beside the buffers'."""

    def __init__(self, taken: Mapping[str, Buffer]) -> None:
        self._taken = set(taken)

    def fresh(self, base: str) -> str:
        name, n = base, 1
        while name in self._taken:
            n += 1
            name = f"{base}_{n}"
        self._taken.add(name)
        return name


def _scope(scope: Scope, names: _Names, layouts: Mapping[str, Layout]) -> Stmt:
    if not isinstance(scope, Compute):
        raise CompileError(
            f"no code is generated for {type(scope).__name__.lower()} scopes; a definition by loops and reductions is"
        )
    label = scope.tensors[0].name
    reducer, values_of, reduce_axes = scope.reducer, scope.values, scope.reduce_axes
    if scope.reducer is not None and any(as_int(a.extent) == 0 for a in reduce_axes):
        # a block runs its init at the first point of its reduce iters, and an empty box has none
        reducer, values_of, reduce_axes = None, scope.reducer.identity, ()
    iters: list[IterVar] = []
    loops: list[Var] = []
    mapping: dict[Scalar, Scalar] = {}
    groups: tuple[tuple[tuple[Var, ...], IterKind], ...] = ((scope.axes, "spatial"), (reduce_axes, "reduce"))
    for axes, kind in groups:
        for axis in axes:
            loops.append(Var(names.fresh(f"{label}_{axis.name}"), axis.dtype, axis.extent))
            iter_var = Var(f"v_{axis.name}", axis.dtype, axis.extent)
            iters.append(IterVar(iter_var, kind))
            mapping[axis] = iter_var

    def place(name: str, indices: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        layout = layouts.get(name)
        if layout is None:
            return indices
        at: dict[Scalar, Scalar] = dict(zip(layout.map.inputs, indices, strict=True))
        return tuple(simplify(substitute(o, at)) for o in layout.map.outputs)

    def physical(node: Scalar) -> Scalar:
        if isinstance(node, Load) and node.buffer in layouts:
            return Load(node.buffer, node.dtype, place(node.buffer, node.indices))
        return node

    values = tuple(substitute(rewrite(v, physical), mapping) for v in values_of)
    point = tuple(mapping[a] for a in scope.axes)
    targets = tuple(Load(t.name, t.dtype, place(t.name, point)) for t in scope.tensors)
    body: Stmt
    init: Stmt | None = None
    if reducer is None:
        body = seq(*(Store(t.buffer, t.indices, v) for t, v in zip(targets, values, strict=True)))
    else:
        body = Update(targets, reducer, values)
        identity = reducer.identity
        init = seq(*(Store(t.buffer, t.indices, e) for t, e in zip(targets, identity, strict=True)))
    block = Block(names.fresh(f"{label}_block"), tuple(iters), tuple(loops), body, init=init)
    stmt: Stmt = block
    for var in reversed(loops):
        stmt = For(var, "serial", stmt)
    return stmt
