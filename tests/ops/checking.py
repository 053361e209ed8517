"""What the tests of operators' definitions share: a definition is run, and held against itself."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tcompiler.ir.expr.grammar import Compute, Program
from tcompiler.ir.expr.hash import structural_hash
from tcompiler.ir.expr.interpret import interpret
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.expr.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.ops import registry
from tcompiler.ops.evaluate import evaluate, type_of

RNG = np.random.default_rng(20240611)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(op: str, inputs: Sequence[np.ndarray | None], **attrs: Any) -> np.ndarray:
    """The single result of an operator; its definition is verified on the way."""
    operator = registry.get(op)
    types = [None if a is None else type_of(a) for a in inputs]
    program = operator.define(types, attrs)
    verify(program)
    assert structural_hash(parse_program(print_program(program))) == structural_hash(program)
    (out,) = operator.infer(types, attrs)
    (result,) = evaluate(op, inputs, attrs)
    assert result.shape == out.dims()
    assert result.dtype == out.dtype.numpy
    if points(program) <= 400:
        # The interpreter checks every read: one that should have been guarded is an error there.
        names = [t.name for t in program.inputs]
        slow = interpret(program, dict(zip(names, [a for a in inputs if a is not None], strict=True)))
        tolerance = 1e-2 if result.dtype.itemsize == 2 else 1e-5
        np.testing.assert_allclose(
            slow[program.outputs[0]].astype(np.float64), result.astype(np.float64), rtol=tolerance, atol=tolerance
        )
    return result


def points(program: Program) -> int:
    """Iterations over all pointwise and reducing scopes."""
    scopes = [s for s in program.scopes if isinstance(s, Compute)]
    return sum(math.prod(as_int(a.extent) or 0 for a in (*s.axes, *s.reduce_axes)) for s in scopes)


def close(got: np.ndarray, want: Any, tolerance: float = 2e-6) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance)
