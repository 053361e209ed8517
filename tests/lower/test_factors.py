"""Factors that a sum does not run over: where they move behind it, and where they stay."""

from __future__ import annotations

import numpy as np
import pytest

from tcompiler.ir.expr.evaluate import evaluate
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.expr.verify import verify
from tcompiler.lower.factors import take_out_factors


def product(made: str, read: str = "p[i, k] * v[k, j]", rest: str = "", outputs: str = "y", size: int = 9) -> str:
    """Rows with a factor, and their product with a matrix."""
    return f"""@expr.program
def product(e: f32[5, {size}], f: f32[5], g: f32[{size}], v: f32[{size}, 4]):
    p = compute(f32[5, {size}], lambda i, k: {made})
    y = reduce(sum, f32[5, 4], ({size},), lambda i, j, k: {read})
{rest}    return {outputs}
"""


MOVED = {
    "a factor": product("e[i, k] * f[i]"),
    "a factor in front": product("f[i] * e[i, k]"),
    "a divisor": product("exp(e[i, k]) / f[i]"),
    "on the other side": product("e[i, k] * f[i]", "v[k, j] * p[i, k]"),
    "of an expression": product("(e[i, k] + g[k]) * exp(f[i])"),
    "two, one after the other": product("e[i, k] * f[i] / f[i]"),
    "a reader behind": product(
        "e[i, k] * f[i]", rest="    z = compute(f32[5, 4], lambda i, j: y[i, j] + y[i, 0])\n", outputs="z"
    ),
}
KEPT = {
    "over the sum": product("e[i, k] * g[k]"),
    "read twice": product("e[i, k] * f[i]", "p[i, k] * v[k, j] * p[i, 0]"),
    "a result": product("e[i, k] * f[i]", outputs="p, y"),
    "more sums than elements": product("e[i, k] * f[i]", size=3),
    "no product": product("e[i, k] * f[i]", "p[i, k] + v[k, j]"),
    "a dividend": product("f[i] / e[i, k]"),
}


@pytest.mark.parametrize("name", [*MOVED, *KEPT])
def test_values_and_what_moves(name: str) -> None:
    program = parse_program({**MOVED, **KEPT}[name])
    moved = take_out_factors(program)
    verify(moved)
    assert (moved is not program) == (name in MOVED)
    assert parse_program(print_program(moved)).outputs == program.outputs
    rng = np.random.default_rng(5)
    inputs = {t.name: rng.uniform(1, 2, tuple(int(repr(n)) for n in t.shape)).astype("f4") for t in program.inputs}
    wanted, found = evaluate(program, inputs), evaluate(moved, inputs)
    assert wanted.keys() == found.keys()
    for n, array in wanted.items():
        np.testing.assert_allclose(found[n], array, rtol=3e-6)


def test_the_text() -> None:
    assert print_program(take_out_factors(parse_program(MOVED["a divisor"]))).splitlines()[2:] == [
        "    p = compute(f32[5, 9], lambda i, k: exp(e[i, k]))",
        "    y_sum = reduce(sum, f32[5, 4], (9,), lambda i, j, k: p[i, k] * v[k, j])",
        "    y = compute(f32[5, 4], lambda i, j: y_sum[i, j] / f[i])",
        "    return y",
    ]
