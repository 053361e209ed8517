"""The accuracy check catches errors: seeded mutations of the programs that kernels are made from."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks import models
from tcompiler.assemble import assemble
from tcompiler.frontend.onnx import read
from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.evaluate import evaluate
from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.scalar.grammar import Binary, Const, Load, Scalar, Select, Unary, as_int, const, index, postorder
from tcompiler.ir.scalar.reducers import named_reducer
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.pipeline import Compilation, compose_programs, lower_programs, run_graph_passes, schedule_functions
from tcompiler.runtime.model import Model
from tcompiler.target.named import host
from tests.networks.checking import excess, operands

Mutant = tuple[str, Callable[[], Compute]]


def mutants(scope: Compute) -> Iterator[Mutant]:
    """Wrong variants of a scope, each with what is wrong."""
    for k, value in enumerate(scope.values):
        for node in postorder(value):
            for what, wrong in _wrong(node):
                if wrong is not node:
                    new = substitute(value, {node: wrong}) if node is not value else wrong
                    values = (*scope.values[:k], new, *scope.values[k + 1 :])
                    yield what, lambda values=values: replace(scope, values=values)  # type: ignore[misc]
    if scope.reducer is not None and len(scope.tensors) == 1:
        d = scope.tensors[0].dtype
        other = "max" if scope.reducer is named_reducer("sum", d) else "sum"
        yield f"reduced by {other}", lambda: replace(scope, reducer=named_reducer(other, d))


def _wrong(node: Scalar) -> Iterator[tuple[str, Scalar]]:
    match node:
        case Binary(op="add", a=a, b=b) if node.dtype is dt.f32:
            yield "a dropped addend", a
            yield "subtracted", Binary("sub", a, b)
        case Binary(op="sub" | "div", a=a, b=b) if node.dtype is dt.f32:
            yield "swapped operands", Binary(node.op, b, a)
        case Binary(op="mul", a=a, b=b) if node.dtype is dt.f32:
            yield "a dropped factor", a
        case Binary(op="max", a=a, b=b) if node.dtype is dt.f32:
            yield "a dropped activation", a if not isinstance(a, Const) else b
        case Unary(op="exp" | "tanh" | "erf" | "sqrt" | "rsqrt", a=a) if node.dtype is dt.f32:
            yield f"a dropped {node.op}", a
        case Select(a=a) if isinstance(a, Load) and free_vars(a.indices[-1]):
            (axis,) = free_vars(a.indices[-1])
            yield "a pad off by one", substitute(node, {axis: axis - 1})
        case Const(dtype=d) if d is dt.f32 and 0.0 < abs(float(node.value)) < 1e30:
            yield "a wrong constant", const(dt.f32, float(node.value) * 1.5)
        case Load(indices=indices) if len(indices) > 1 and as_int(indices[-1]) is None:
            yield "always the first column", Load(node.buffer, node.dtype, (*indices[:-1], index(0)))


def compilation(name: str) -> Compilation:
    c = Compilation(read(models.build(name).path), host(), 1)
    run_graph_passes(c)
    compose_programs(c)
    return c


def finish(c: Compilation) -> Model:
    lower_programs(c)
    schedule_functions(c)
    return Model(assemble(c))


def all_mutants(c: Compilation) -> list[tuple[str, str, Callable[[], Program]]]:
    result = []
    for kernel in c.kernels.values():
        for at, scope in enumerate(kernel.program.scopes):
            if not isinstance(scope, Compute):
                continue
            for what, make in mutants(scope):
                p = kernel.program

                def program(p: Program = p, at: int = at, make: Callable[[], Compute] = make) -> Program:
                    return replace(p, scopes=(*p.scopes[:at], make(), *p.scopes[at + 1 :]))

                result.append((kernel.name, what, program))
    return result


def changes_the_meaning(original: Program, mutant: Program) -> bool:
    """Whether a mutant computes something else: another row's maximum in a softmax, say, does not."""
    rng = np.random.default_rng(11)
    inputs = {
        t.name: rng.standard_normal([as_int(e) or 0 for e in t.shape]).astype(t.dtype.numpy) for t in original.inputs
    }
    before, after = evaluate(original, inputs, widen=True), evaluate(mutant, inputs, widen=True)
    return any(not np.allclose(after[name], y, rtol=1e-6, atol=1e-9) for name, y in before.items())


@cache
def drawn(name: str, count: int, seed: int) -> list[int]:
    """Indices of mutants of different kinds, as evenly as the program has them."""
    rng = random.Random(seed)
    c = compilation(name)
    found = all_mutants(c)
    order = list(range(len(found)))
    rng.shuffle(order)
    picked: list[int] = []
    taken: dict[str, int] = {}
    while len(picked) < count:
        k = min(order, key=lambda k: taken.get(found[k][1], 0))
        order.remove(k)
        kernel, what, program = found[k]
        if changes_the_meaning(c.kernels[kernel].program, program()):
            taken[what] = taken.get(what, 0) + 1
            picked.append(k)
    return picked


CASES = [(name, n) for name, count in (("resnet_tiny", 7), ("mlp", 6), ("transformer_odd", 7)) for n in range(count)]


@pytest.mark.parametrize(("name", "n"), CASES)
def test_a_mutated_program_fails_the_check(name: str, n: int) -> None:
    c = compilation(name)
    found = all_mutants(c)
    kernel, what, program = found[drawn(name, 7, seed=5)[n]]
    c.kernels[kernel].program = program()
    model = finish(c)
    assert excess(name, model(*operands(name, model.inputs))) > 1, f"{kernel}: {what} was not caught"


@pytest.mark.parametrize("name", ["resnet_tiny", "mlp", "transformer_odd"])
def test_the_unchanged_program_passes(name: str) -> None:
    model = finish(compilation(name))
    assert excess(name, model(*operands(name, model.inputs))) <= 1
