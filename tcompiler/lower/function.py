"""An expr program as a loop function: one block per scope, in a loop nest of its own."""

from __future__ import annotations

from collections.abc import Mapping

from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, tensors
from tcompiler.ir.layout import Layout
from tcompiler.ir.loop.grammar import Function, IterKind, Stmt, Store, Update, seq
from tcompiler.ir.scalar.grammar import Load, Var, as_int
from tcompiler.ir.scalar.rewrite import substitute
from tcompiler.lower.factors import take_out_factors
from tcompiler.lower.layouts import propagate
from tcompiler.lower.merge import merge_axes
from tcompiler.lower.nests import Around, Nests
from tcompiler.lower.scan import lower_scan, unread_results
from tcompiler.lower.scatter import lower_scatter
from tcompiler.lower.sort import lower_sort


def lower(program: Program, layouts: Mapping[str, Layout] | None = None, lines: bool = True) -> Function:
    """Makes loop nests of every scope; a compute becomes one block with serial loops over its axes around it.

    Args:
        program: A verified program.
        layouts: Physical layouts of inputs and outputs by name; others are row-major. Expressions speak of logical
            indices; here they become physical ones.
        lines: Whether padded data of planes may keep an image's lines, those of all channels together, where channels
            are summed over. It is copied faster, and read faster if the machine brings a line for every step.

    Returns:
        A function that takes the program's inputs and outputs. Dimensions that are walked in step are one in it, so
        a buffer may have fewer of them than its tensor, for the same elements in the same order.

    Raises:
        CompileError: If a sort is along an axis of symbolic extent.
    """
    program = take_out_factors(program)
    program, layouts = merge_axes(program, propagate(program, layouts or {}, lines))
    unread = unread_results(program)
    nests = Nests((t for t in tensors(program).values() if t.name not in unread), layouts)
    body = seq(*(_scope(s, nests, {}) for s in program.scopes))
    inputs = tuple(t.name for t in program.inputs)
    return Function(program.name, program.params, tuple(nests.buffers.values()), inputs, program.outputs, body)


def _scope(scope: Scope, nests: Nests, around: Around) -> Stmt:
    match scope:
        case Compute():
            return _compute(scope, nests, around)
        case Scan():
            return lower_scan(scope, nests, around, _scope)
        case Scatter():
            return lower_scatter(scope, nests, around)
        case Sort():
            return lower_sort(scope, nests.tensor(scope.source), nests, around)


def _compute(scope: Compute, nests: Nests, around: Around) -> Stmt:
    label = scope.tensors[0].name
    reducer, values_of, reduce_axes = scope.reducer, scope.values, scope.reduce_axes
    if scope.reducer is not None and any(as_int(a.extent) == 0 for a in reduce_axes):
        # a block runs its init at the first point of its reduce iters, and an empty box has none
        reducer, values_of, reduce_axes = None, scope.reducer.identity, ()
    kinds: list[tuple[Var, IterKind]] = [(a, "spatial") for a in scope.axes] + [(a, "reduce") for a in reduce_axes]
    nest = nests.nest(label, kinds, around)
    values = tuple(substitute(nests.physical(v), nest.mapping) for v in values_of)
    point = tuple(nest.mapping[a] for a in scope.axes)
    targets = tuple(Load(t.name, t.dtype, nests.place(t.name, point)) for t in scope.tensors)
    if reducer is None:
        return nest.block(seq(*(Store(t.buffer, t.indices, v) for t, v in zip(targets, values, strict=True))))
    init = seq(*(Store(t.buffer, t.indices, e) for t, e in zip(targets, reducer.identity, strict=True)))
    return nest.block(Update(targets, reducer, values), init)
