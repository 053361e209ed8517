"""Reductions across memory by the default rule: row by row, strips of results near, a few rows at once in registers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tcompiler.ir import dtypes as dt
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.loop.grammar import Function, buffer_table
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import index
from tcompiler.lower.function import lower
from tcompiler.ops import registry
from tcompiler.schedule.rules.default import default_schedule
from tcompiler.target.named import get, host
from tests.backends.kernels import run


def reduction(name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> Function:
    kind = TensorType(dt.f32, tuple(map(index, shape)))
    return lower(registry.get(name).define((kind,), {"axes": axes, "keepdims": False}))


SHAPES = [
    ((17, 33), (0,)),
    ((5, 19, 70), (1,)),
    ((3, 2000), (0,)),
    ((40, 1100), (0,)),
    ((3, 8, 5, 12), (0, 2)),
    ((2, 9, 1, 300), (1,)),
]


@pytest.mark.parametrize(("shape", "axes"), SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_sums_and_maxima(shape: tuple[int, ...], axes: tuple[int, ...], threads: int) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x.flat[7] = np.nan
    exact: dict[str, np.ndarray[Any, Any]] = {"sum": x.astype(np.float64).sum(axes), "amax": x.max(axes)}
    for name, expected in exact.items():
        function = reduction(name, shape, axes)
        scheduled = default_schedule(function, host(), threads).function
        verify(scheduled)
        given = {n: x.reshape([int(str(e)) for e in buffer_table(scheduled)[n].shape]) for n in function.inputs}
        (y,) = run(scheduled, given).values()
        np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


def test_a_strip_of_results_is_near_and_a_few_rows_are_added_in_registers() -> None:
    sch = default_schedule(reduction("sum", (1024, 1024), (0,)), get("x86-64-v3"))
    assert sorted(b.scope for b in sch.function.buffers) == ["global", "global", "local", "register"]
    assert [step.primitive for step in sch.trace.steps].count("stage_accumulate") == 2


@pytest.mark.parametrize("shape", [(32, 512, 16), (61, 127, 20), (3, 3, 6000)])
def test_short_results_and_few_rows_stay_in_registers(shape: tuple[int, ...]) -> None:
    sch = default_schedule(reduction("sum", shape, (1,)), get("x86-64-v3"))
    assert sorted(b.scope for b in sch.function.buffers) == ["global", "global", "register"]


def product(m: int, k: int, n: int) -> Function:
    kinds = tuple(TensorType(dt.f32, tuple(map(index, shape))) for shape in ((m, k), (k, n)))
    return lower(registry.get("matmul").define(kinds, {}))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("k", "n"), [(701, 503), (3, 100_003), (513, 640)], ids=str)
def test_a_vector_times_a_matrix_that_is_far(k: int, n: int, threads: int) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, k), (k, n)))
    sch = default_schedule(product(1, k, n), host(), threads)
    verify(sch.function)
    (y,) = run(sch.function, dict(zip(sch.function.inputs, (a, b), strict=True))).values()
    np.testing.assert_allclose(y, a.astype(np.float64) @ b, rtol=1e-4, atol=1e-3)


def test_a_matrix_is_read_row_by_row_unless_it_is_near_or_laid_out() -> None:
    def strips(function: Function, constants: tuple[str, ...] = ()) -> int:
        trace = default_schedule(function, get("x86-64-v3"), 1, constants).trace
        return [step.primitive for step in trace.steps].count("stage_accumulate")

    far = product(1, 1000, 1000)
    assert strips(far) == 2
    assert strips(far, (far.inputs[1],)) == 1
    assert strips(product(1, 100, 1000)) == 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("m", "k"), [(803, 4099), (33, 100_000), (1604, 2048)], ids=str)
def test_a_matrix_from_memory_times_a_vector_a_few_rows_at_a_time(m: int, k: int, threads: int) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, 1)))
    machine = replace(host(), l2_bytes=1 << 20, l3_bytes=1 << 20)
    sch = default_schedule(product(m, k, 1), machine, threads)
    verify(sch.function)
    assert [step.primitive for step in sch.trace.steps].count("compute_at") == 1
    (y,) = run(sch.function, dict(zip(sch.function.inputs, (a, b), strict=True))).values()
    np.testing.assert_allclose(y, a.astype(np.float64) @ b, rtol=1e-4, atol=2e-3)


def test_a_matrix_in_the_caches_is_reduced_row_by_row() -> None:
    trace = default_schedule(product(700, 700, 1), get("x86-64-v3")).trace
    assert "compute_at" not in {step.primitive for step in trace.steps}
