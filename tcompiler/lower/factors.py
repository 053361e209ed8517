"""Factors that a sum does not run over are multiplied behind it.

    p[i, k] = e[i, k] * f[i]                          s[i, j] = sum over k of e[i, k] * v[k, j]
    y[i, j] = sum over k of p[i, k] * v[k, j]    →    y[i, j] = s[i, j] * f[i]

Rows of attention are divided by their sums this way only when they have been multiplied by the values: once for each
number of a head rather than for each key, and without a further pass over the scores (as FlashAttention does it: T. Dao
et al. 2022). Divisions move likewise. The sum is rounded as often as before; a product that overflowed or vanished for
a single element may now do so for the sum only, or the sum before it is scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tcompiler.ir.expr.grammar import Compute, Program, Scope, Tensor, tensors
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Var, as_int, postorder
from tcompiler.ir.scalar.reducers import reducer_name
from tcompiler.ir.scalar.rewrite import free_vars, substitute


def take_out_factors(program: Program) -> Program:
    """Moves factors of a sum's operand behind the sum, where that is fewer multiplications.

    Args:
        program: A verified program.

    Returns:
        A program of the same inputs and outputs; itself where there are no such factors.
    """
    for at, scope in enumerate(program.scopes):
        found = _taken_out(program, scope) if isinstance(scope, Compute) else None
        if found is not None:
            gone, scopes = found
            before = tuple(s for s in program.scopes[:at] if s is not gone)
            rest = (*before, *scopes, *program.scopes[at + 1 :])
            return take_out_factors(Program(program.name, program.params, program.inputs, rest, program.outputs))
    return program


def _taken_out(program: Program, scope: Compute) -> tuple[Scope, Sequence[Scope]] | None:
    """The map that has a factor of a sum, and what stands for it and for the sum."""
    if scope.reducer is None or len(scope.values) != 1 or reducer_name(scope.reducer) != "sum":
        return None
    (value,), (target,) = scope.values, scope.tensors
    if not isinstance(value, Binary) or value.op != "mul" or not target.dtype.is_float:
        return None
    for load in (value.a, value.b):
        made = _map(program, load) if isinstance(load, Load) else None
        if made is None or not isinstance(load, Load) or _points(made.axes) < _points(scope.axes):
            continue
        (product,) = made.values
        if not isinstance(product, Binary) or product.op not in ("mul", "div"):
            continue
        at: dict[Scalar, Scalar] = dict(zip(made.axes, load.indices, strict=True))
        pairs = [(product.a, product.b)] if product.op == "div" else [(product.a, product.b), (product.b, product.a)]
        for kept, factor in pairs:
            outside = substitute(factor, at)
            if free_vars(outside).isdisjoint(scope.reduce_axes) and not free_vars(factor).issuperset(made.axes):
                return made, _moved(program, scope, load, made, kept, Binary(product.op, kept, outside))
    return None


def _map(program: Program, load: Load) -> Compute | None:
    """The pointwise scope that makes what a load reads, if nothing else reads it."""
    readers = [
        n
        for s in program.scopes
        for n in (postorder(*s.values) if isinstance(s, Compute) else ())
        if isinstance(n, Load) and n.buffer == load.buffer
    ]
    plain = all(isinstance(s, Compute) for s in program.scopes)
    for s in program.scopes:
        if isinstance(s, Compute) and [t.name for t in s.tensors] == [load.buffer]:
            alone = plain and len(readers) == 1 and load.buffer not in program.outputs
            return s if alone and not s.reduce_axes else None
    return None


def _moved(
    program: Program, scope: Compute, load: Load, made: Compute, kept: Scalar, scaled: Binary
) -> tuple[Compute, Compute, Compute]:
    """The map without the factor, the sum of it, and the sum with the factor."""
    names = set(tensors(program))
    (target,) = scope.tensors
    name = f"{target.name}_sum"
    while name in names:
        name += "_"
    rest = Compute(made.tensors, made.axes, (), None, (kept,))
    total = Compute(
        (Tensor(name, target.dtype, target.shape),), scope.axes, scope.reduce_axes, scope.reducer, scope.values
    )
    result = Binary(scaled.op, Load(name, target.dtype, scope.axes), scaled.b)
    return rest, total, Compute(scope.tensors, scope.axes, (), None, (result,))


def _points(axes: Sequence[Var]) -> int:
    return prod(as_int(a.extent) or 1 for a in axes)
