"""rolling_update: sums that follow a maximum, whole and in tails, with rows of infinities and NaN among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.grammar import Function
from tcompiler.ir.loop.interpret import interpret
from tcompiler.ir.loop.text import parse_function
from tcompiler.schedule import Schedule, replay
from tests.schedule.data.checking import check, text

MAX = "max.update"
SELECTED = "reducer(lambda a0, b0: (select(b0 > a0, b0, a0),), (f32(-inf),)).update"


def attention(maximum: str = MAX, exponent: str = "min({}, f32(0.0))", rows: int = 5, columns: int = 24) -> Function:
    """Rows of exponentials less their maximum, their sums, and their products with a matrix."""
    n, m = rows, columns
    return parse_function(
        text(f"""
    @loop.function
    def rows(X: f32[{n}, {m}], V: f32[{m}, 3], Y: out(f32[{n}, 3])):
        M = alloc(f32[{n}])
        E = alloc(f32[{n}, {m}])
        L = alloc(f32[{n}])
        O = alloc(f32[{n}, 3])
        for i in range({n}):
            for k in range({m}):
                with block("M"):
                    vi = spatial({n}, i)
                    vk = reduce({m}, k)
                    with init():
                        M[vi] = f32(-inf)
                    M[vi] = {maximum}(X[vi, vk] * f32(0.5))
        for i1 in range({n}):
            for k1 in range({m}):
                with block("E"):
                    vi = spatial({n}, i1)
                    vk = spatial({m}, k1)
                    E[vi, vk] = exp({exponent.format("X[vi, vk] * f32(0.5) - M[vi]")})
        for i2 in range({n}):
            for k2 in range({m}):
                with block("L"):
                    vi = spatial({n}, i2)
                    vk = reduce({m}, k2)
                    with init():
                        L[vi] = f32(0.0)
                    L[vi] += E[vi, vk]
        for i3 in range({n}):
            for d3 in range(3):
                for k3 in range({m}):
                    with block("O"):
                        vi = spatial({n}, i3)
                        vd = spatial(3, d3)
                        vk = reduce({m}, k3)
                        with init():
                            O[vi, vd] = f32(0.0)
                        O[vi, vd] += E[vi, vk] * V[vk, vd]
        for i4 in range({n}):
            for d4 in range(3):
                with block("Y"):
                    vi = spatial({n}, i4)
                    vd = spatial(3, d4)
                    Y[vi, vd] = O[vi, vd] / L[vi]
    """)
    )


def ready(function: Function, size: int) -> Schedule:
    """Both loops over blocks of columns, side by side."""
    sch = Schedule(function, debug=True)
    for loop in ("k", "k2", "k3"):
        sch.split(loop, [None, size])
    for block, rows, loop in (("M", "i", "k_0"), ("L", "i2", "k2_0")):
        sch.rfactor(block, loop)
        sch.compute_with(loop, f"{loop}_c")
        sch.compact(f"{block}_rf_2", loop)
        sch.reorder(loop, rows)
    sch.reorder("k3_0", "i3", "d3")
    sch.compute_with("k2_0", "k3_0")
    sch.compute_at("E", "k2_0")
    return sch


@pytest.mark.parametrize("size", [1, 5, 7, 8, 24])
def test_any_block_of_columns(size: int) -> None:
    sch = ready(attention(), size)
    made = sch.rolling_update("M", "k_0", "k2_0")
    assert made == (
        *("M_init", "M_run_init", "M_scale_2", "M_run_2", "L_init", "L_scaled", "L_last"),
        *("O_init", "O_scaled", "O_last"),
    )
    assert set(sch.blocks_under("k_0")) >= {"M", "E", "L", "O", "L_scaled", "O_scaled"}
    check(attention(), sch)
    assert replay(sch.start, sch.trace).trace.to_python() == sch.trace.to_python()


@pytest.mark.parametrize("exponent", ["{}", "min({}, f32(0.0))"])
@pytest.mark.parametrize("maximum", [MAX, SELECTED])
def test_rows_without_a_number(maximum: str, exponent: str) -> None:
    """Infinities and NaN in any block of columns come to the same as in one pass over the whole row."""
    function = attention(maximum, exponent, rows=10)
    sch = ready(function, 8)
    sch.rolling_update("M", "k_0", "k2_0")
    rng = np.random.default_rng(1)
    x: Any = rng.normal(size=(10, 24)).astype(np.float32) * 20
    x[0] = -np.inf
    x[1, :8] = -np.inf
    x[2, 8:] = -np.inf
    x[3, 3] = np.inf
    x[4, 20] = np.inf
    x[5, 5] = np.nan
    x[6, 1], x[6, :8] = np.nan, -np.inf
    x[7, :16] = -3e38
    x[8, :12], x[8, 2] = -np.inf, np.nan
    values = {"X": x, "V": rng.normal(size=(24, 3)).astype(np.float32)}
    wanted = evaluate(function, values)["Y"]
    assert np.isnan(wanted[[0, 3, 4, 5, 8]]).all() and np.isfinite(wanted[[1, 2, 6, 7, 9]]).all()
    for found in (evaluate(sch.function, values), interpret(sch.function, values)):
        np.testing.assert_allclose(found["Y"], wanted, rtol=2e-6, atol=1e-6)


def test_sums_of_other_products() -> None:
    """The factor may stand in a quotient, behind a cast, and beside other factors; several sums follow one maximum."""
    source = text("""
    @loop.function
    def sums(X: f32[12], W: f32[12], S: out(f32[1]), T: out(f32[1])):
        M = alloc(f32[1])
        for k in range(12):
            with block("M"):
                vk = reduce(12, k)
                with init():
                    M[0] = f32(-inf)
                M[0] = max.update(X[vk])
        for j in range(12):
            with block("S"):
                vk = reduce(12, j)
                with init():
                    S[0] = f32(0.0)
                S[0] += W[vk] * (exp(X[vk] - M[0]) / f32(3.0))
        for l in range(12):
            with block("T"):
                vk = reduce(12, l)
                with init():
                    T[0] = f32(0.0)
                T[0] += exp(X[vk] * f32(0.5) - M[0]) * W[vk] * W[vk]
    """)
    sch = Schedule(parse_function(source), debug=True)
    sch.compute_with("j", "l")
    sch.rolling_update("M", "k", "j")
    check(parse_function(source), sch)
