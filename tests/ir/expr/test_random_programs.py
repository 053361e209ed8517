"""Programs drawn by hypothesis: round trip, verifier, evaluator against interpreter, and every change shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.evaluate import evaluate
from tcompiler.ir.expr.grammar import Compute, Program, Tensor
from tcompiler.ir.expr.hash import structural_hash
from tcompiler.ir.expr.interpret import interpret
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.expr.verify import verify
from tcompiler.ir.scalar.grammar import (
    Binary,
    Cast,
    Load,
    Scalar,
    Select,
    Unary,
    Var,
    as_int,
    conjunction,
    const,
    greater_equal,
    index,
    less,
    loop_var,
)
from tcompiler.ir.scalar.reducers import named_reducer

EXTENTS = st.integers(1, 4)


def _read(draw: st.DrawFn, t: Tensor, axes: list[Var]) -> Scalar:
    """A read at axes with offsets, guarded where it may leave the tensor."""
    indices: list[Scalar] = []
    guards: list[Scalar] = []
    for extent in t.shape:
        if not axes:
            indices.append(index(0))
            continue
        axis = draw(st.sampled_from(axes))
        at: Scalar = axis * draw(st.integers(1, 2)) + draw(st.integers(-1, 1))
        if draw(st.booleans()):
            at = Binary("floormod", at, extent)
        else:
            guards += [greater_equal(at, 0), less(at, extent)]
        indices.append(at)
    load = Load(t.name, t.dtype, tuple(indices))
    return Select(conjunction(*guards), load, const(t.dtype, draw(st.integers(-2, 2)))) if guards else load


def _value(draw: st.DrawFn, tensors: list[Tensor], axes: list[Var], dtype: dt.DType) -> Scalar:
    t = draw(st.sampled_from(tensors))
    value = _read(draw, t, axes)
    if value.dtype is not dtype:
        value = Cast(dtype, value)
    if draw(st.booleans()):
        other = _read(draw, draw(st.sampled_from(tensors)), axes)
        other = other if other.dtype is dtype else Cast(dtype, other)
        value = Binary(draw(st.sampled_from(["add", "sub", "mul", "min", "max"])), value, other)
    if draw(st.booleans()):
        value = Unary(draw(st.sampled_from(["neg", "abs", "sign"])), value)
    return value


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """One to four scopes, maps and reductions, over one or two inputs of f64 and i64."""
    dtypes = st.sampled_from([dt.f64, dt.i64, dt.i32])
    inputs = [
        Tensor(f"x{k}", draw(dtypes), tuple(index(draw(EXTENTS)) for _ in range(draw(st.integers(0, 3)))))
        for k in range(draw(st.integers(1, 2)))
    ]
    tensors = list(inputs)
    scopes = []
    for k in range(draw(st.integers(1, 4))):
        axes = [loop_var(f"i{j}", draw(EXTENTS)) for j in range(draw(st.integers(0, 3)))]
        over = [loop_var(f"r{j}", draw(EXTENTS)) for j in range(draw(st.integers(0, 2)))]
        dtype = draw(dtypes)
        value = _value(draw, tensors, axes + over, dtype)
        reducer = named_reducer(draw(st.sampled_from(["sum", "max", "min"])), dtype) if over else None
        out = Tensor(f"t{k}", dtype, tuple(a.extent for a in axes if a.extent is not None))
        scopes.append(Compute((out,), tuple(axes), tuple(over), reducer, (value,)))
        tensors.append(out)
    return Program("p", (), tuple(inputs), tuple(scopes), (tensors[-1].name,))


@settings(max_examples=150)
@given(programs())
def test_round_trip_and_verify(program: Program) -> None:
    text = print_program(program)
    parsed = parse_program(text)
    assert print_program(parsed) == text
    assert structural_hash(parsed) == structural_hash(program)
    verify(program)


@settings(max_examples=120)
@given(programs(), st.integers(0, 1000))
def test_evaluator_equals_interpreter(program: Program, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = {
        t.name: rng.integers(-9, 9, [as_int(e) or 0 for e in t.shape]).astype(t.dtype.numpy) for t in program.inputs
    }
    slow, fast = interpret(program, inputs), evaluate(program, inputs)
    for name, y in slow.items():
        assert fast[name].dtype == y.dtype
        # small integers in f64: every order of summation is exact
        np.testing.assert_array_equal(fast[name], y)


@settings(max_examples=100)
@given(programs(), st.data())
def test_a_change_changes_text_and_hash(program: Program, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(program.scopes) - 1))
    scope = program.scopes[k]
    assert isinstance(scope, Compute)
    out = scope.tensors[0]
    changes = [replace(scope, values=(Binary("add", scope.values[0], const(out.dtype, 1)),))]
    if scope.reducer is not None:
        changes.append(replace(scope, reducer=named_reducer("prod", out.dtype)))
        first = scope.reduce_axes[0]
        longer = loop_var(first.name, (as_int(first.extent) or 0) + 1)
        changes.append(replace(scope, reduce_axes=(longer, *scope.reduce_axes[1:])))
    changes.append(replace(scope, tensors=(Tensor(out.name, dt.f32, out.shape),)))
    for changed in changes:
        other = replace(program, scopes=(*program.scopes[:k], changed, *program.scopes[k + 1 :]))
        assert structural_hash(other) != structural_hash(program)
        assert print_program(other) != print_program(program)


@given(programs())
def test_names_do_not_count(program: Program) -> None:
    assert structural_hash(replace(program, name="other")) == structural_hash(program)
