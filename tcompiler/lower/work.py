"""How much a kernel does: floating-point operations and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import assert_never

from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor, tensors
from tcompiler.ir.loop.analysis import blocks, loops_above
from tcompiler.ir.loop.grammar import Block, Function, Intrinsic, Store, Update, children
from tcompiler.ir.loop.intrinsics import DESCRIPTIONS, description
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Unary, Var, as_int, postorder


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
        stack = [block.body]
        while stack:
            s = stack.pop()
            if isinstance(s, Store):
                each += operations(s.value)
            elif isinstance(s, Update):
                each += operations(*s.values) + operations(*s.reducer.combine)
            elif isinstance(s, Intrinsic):
                each += _instruction_flops(s.name)
            elif not isinstance(s, Block):  # a block inside comes by itself
                stack.extend(children(s))
        total += points * each
    return total


def _instruction_flops(name: str) -> int:
    """Operations of a machine instruction: those of its meaning, at all points; none of one that means nothing here."""
    return executed_flops(description(name).function) if name in DESCRIPTIONS else 0


def program_bytes(program: Program) -> int:
    """The least traffic: what is read of every input and every output written, once."""
    return sum(operand_bytes(program))


def operand_bytes(program: Program) -> tuple[int, ...]:
    """The least traffic of each operand: bytes that are read of every input, then bytes of every output.

    Of an input no more is read than its loads have points to read at: a gather of ten rows out of a table reads ten
    rows, a strided convolution 1×1 every other pixel.
    """
    table = tensors(program)
    touched = dict.fromkeys((t.name for t in program.inputs), 0)
    for name, points in _reads(program.scopes):
        if name in touched:
            touched[name] += table[name].dtype.bytes * points if points is not None else _bytes(table[name])
    read = [min(touched[t.name], _bytes(t)) for t in program.inputs]
    return (*read, *(_bytes(table[o]) for o in program.outputs))


def _reads(scopes: Sequence[Scope]) -> Iterator[tuple[str, int | None]]:
    """Tensors that scopes read, by name, with the most places that each read can be at; None for the whole tensor."""
    for s in scopes:
        match s:
            case Compute():
                yield from _loads(s.values)
            case Scan():
                yield from ((name, None) for name in s.init)
                yield from _reads(s.scopes)
            case Scatter():
                yield s.base, None
                yield from _loads((*s.indices, s.value))
            case Sort():
                yield s.source, None
            case _:
                assert_never(s)


def _loads(values: Sequence[Scalar]) -> Iterator[tuple[str, int | None]]:
    for load in postorder(*values):
        if isinstance(load, Load):
            extents = [
                as_int(v.extent) for v in postorder(*load.indices) if isinstance(v, Var) and v.extent is not None
            ]
            yield load.buffer, None if None in extents else prod(e for e in extents if e is not None)


def _bytes(t: Tensor) -> int:
    size = t.dtype.bytes
    for e in t.shape:
        size *= as_int(e) or 0
    return size
