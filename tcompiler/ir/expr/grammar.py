"""All node kinds of the expr language, and what they mean.

    program = Program(name, params, inputs, scopes, outputs)
    scope   = Compute(tensors, axes, reduce_axes, reducer, values)
            | Scan(tensors, axis, states, init, scopes, results, collect)
            | Scatter(tensor, base, axes, indices, value, combiner)
            | Sort(tensors, source, axis, descending)

A program is a list of scopes in the order of their definition; a scope reads inputs and scopes above it by name. A
scope that only one other reads is what OLLIE draws as a nested scope: naming it says the same and prints flat.

Meaning:
  * Compute: for every point of the axes' box, values[k] gives tensors[k] at that point. With reduce_axes, the values
    over the reduce axes' box are combined with the reducer, starting from its identity, in an unspecified order and
    association (so a sum of floats is known up to rounding only); over an empty box the result is the identity.
    Without reduce_axes the reducer is None. Every tensor of a Compute has the shape of its axes.
  * Reads are Loads at any i64 expression of the axes, floor division and modulo included. A read outside its tensor is
    an error; padding is a Select that guards the read, so any padding value and any asymmetry can be said. A gather
    (an index that itself loads) is clamped or guarded by its definition, never by this language.
  * Scan: states[k] starts as the tensor named init[k]; for axis = 0, 1, … in order, the inner scopes are evaluated
    (they read outer tensors, the states and the axis variable) and states[k] becomes the tensor named results[k].
    Where collect[k], tensors[k] is the stack over the axis (as leading dimension) of the states after each step,
    otherwise the last state.
  * Scatter: the tensor starts as a copy of base; for every point of the axes' box in row-major order, the element at
    indices becomes combiner(element, value), or value if combiner is None. Points with an index outside the tensor
    are dropped.
  * Sort: source sorted along an axis, stably; NaN counts as the largest value. tensors are the first of the sorted
    values, as many as their extent along the axis says, and, as i64, the indices they came from.
"""

from __future__ import annotations

from dataclasses import dataclass

from tcompiler.ir.dtypes import DType
from tcompiler.ir.scalar.grammar import Reducer, Scalar, Var


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """The declaration of a tensor: logical shape over constants and parameters."""

    name: str
    dtype: DType
    shape: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Compute:
    """Tensors defined pointwise, or by a reduction."""

    tensors: tuple[Tensor, ...]
    axes: tuple[Var, ...]
    reduce_axes: tuple[Var, ...]
    reducer: Reducer | None
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Tensors defined step by step along an axis."""

    tensors: tuple[Tensor, ...]
    axis: Var
    states: tuple[Tensor, ...]
    init: tuple[str, ...]
    scopes: tuple[Scope, ...]
    results: tuple[str, ...]
    collect: tuple[bool, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """A tensor with values written or combined at computed places."""

    tensor: Tensor
    base: str
    axes: tuple[Var, ...]
    indices: tuple[Scalar, ...]
    value: Scalar
    combiner: Reducer | None


@dataclass(frozen=True, slots=True, eq=False)
class Sort:
    """A tensor sorted along one axis, or the first part of that, and where each element came from."""

    tensors: tuple[Tensor, Tensor]
    source: str
    axis: int
    descending: bool


Scope = Compute | Scan | Scatter | Sort


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A tensor program: from inputs to outputs through scopes.

    Attributes:
        name: A name for people; not part of the hash.
        params: Free i64 parameters that extents may use.
        inputs: Declared input tensors.
        scopes: Definitions, in order; every name is defined once.
        outputs: Names of the tensors that are results.
    """

    name: str
    params: tuple[Var, ...]
    inputs: tuple[Tensor, ...]
    scopes: tuple[Scope, ...]
    outputs: tuple[str, ...]


def scope_tensors(scope: Scope) -> tuple[Tensor, ...]:
    """The tensors that a scope defines."""
    match scope:
        case Compute(tensors=tensors) | Scan(tensors=tensors):
            return tensors
        case Sort(tensors=pair):
            return pair
        case Scatter(tensor=tensor):
            return (tensor,)


def tensors(program: Program) -> dict[str, Tensor]:
    """Every tensor of a program by name, inputs first."""
    table = {t.name: t for t in program.inputs}
    for scope in program.scopes:
        for t in scope_tensors(scope):
            table[t.name] = t
    return table
