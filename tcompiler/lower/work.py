"""How much a kernel does: floating-point operations and bytes."""

from __future__ import annotations

from tcompiler.ir.expr.grammar import Compute, Program, Tensor, tensors
from tcompiler.ir.loop.analysis import blocks, loops_above
from tcompiler.ir.loop.grammar import Function, Store, Update, walk
from tcompiler.ir.scalar.grammar import Binary, Scalar, Unary, as_int, postorder


def operations(*values: Scalar) -> int:
    """Floating-point operations in evaluating expressions once."""
    return sum(
        1
        for n in postorder(*values)
        if (isinstance(n, Binary) and n.a.dtype.is_float) or (isinstance(n, Unary) and n.dtype.is_float)
    )


def program_flops(program: Program) -> int:
    """What the definition asks for: operations at every point of every scope, a reduction's combination included."""
    total = 0
    for s in program.scopes:
        if isinstance(s, Compute):
            points = 1
            for axis in (*s.axes, *s.reduce_axes):
                points *= as_int(axis.extent) or 0
            total += points * (operations(*s.values) + (operations(*s.reducer.combine) if s.reducer else 0))
    return total


def executed_flops(function: Function) -> int:
    """What the schedule does: operations at every iteration of the loops around every block."""
    total = 0
    for block in blocks(function):
        points = 1
        for loop in loops_above(function, block.name):
            points *= as_int(loop.var.extent) or 0
        each = 0
        for s in walk(block.body):
            if isinstance(s, Store):
                each += operations(s.value)
            elif isinstance(s, Update):
                each += operations(*s.values) + operations(*s.reducer.combine)
        total += points * each
    return total


def program_bytes(program: Program) -> int:
    """The least traffic: every input read and every output written once."""
    table = tensors(program)
    return sum(_bytes(t) for t in program.inputs) + sum(_bytes(table[o]) for o in program.outputs)


def _bytes(t: Tensor) -> int:
    size = t.dtype.bytes
    for e in t.shape:
        size *= as_int(e) or 0
    return size
