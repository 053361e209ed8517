"""Scans by the default rule: in vectors across the scan, as transposed tiles along it, on threads, exact to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcompiler.ir import dtypes as dt
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.loop.grammar import For, Function, buffer_table, walk
from tcompiler.ir.loop.hash import structural_hash
from tcompiler.ir.loop.interpret import interpret
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import index
from tcompiler.lower.function import lower
from tcompiler.ops import registry
from tcompiler.schedule import Schedule
from tcompiler.schedule.rules.default import default_schedule
from tcompiler.target.named import host
from tests.backends.kernels import run


def cumsum(shape: tuple[int, ...], axis: int, **flags: bool) -> Function:
    kind = TensorType(dt.f32, tuple(map(index, shape)))
    return lower(registry.get("cumsum").define((kind,), {"axis": axis, "exclusive": False, "reverse": False, **flags}))


def scheduled(shape: tuple[int, ...], axis: int, threads: int = 1, **flags: bool) -> Schedule:
    return default_schedule(cumsum(shape, axis, **flags), host(), threads)


def expected(x: np.ndarray[Any, Any], axis: int, exclusive: bool, reverse: bool) -> np.ndarray[Any, Any]:
    """The sums, one step after the other."""
    y = np.flip(x, axis) if reverse else x
    sums = np.cumsum(y, axis, dtype=x.dtype)
    if exclusive:
        none = np.zeros_like(np.take(sums, [0], axis)) if sums.shape[axis] else sums
        sums = np.concatenate([none, np.take(sums, range(sums.shape[axis] - 1), axis)], axis) if sums.size else sums
    return np.flip(sums, axis) if reverse else sums


SHAPES = [
    ((9, 21), 1),
    ((9, 21), 0),
    ((3, 7, 5), 1),
    ((2, 3, 130), 1),
    ((5, 1500), 0),
    ((3, 5, 6), 2),
    ((1, 37), 1),
    ((37,), 0),
    ((1, 1), 0),
    ((4, 0), 0),
    ((16, 3), 1),
]


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
@pytest.mark.parametrize("flags", range(4))
def test_sums_are_those_of_one_step_after_the_other(shape: tuple[int, ...], axis: int, flags: int) -> None:
    exclusive, reverse = bool(flags & 1), bool(flags & 2)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    function = scheduled(shape, axis, exclusive=exclusive, reverse=reverse).function
    verify(function)
    (y,) = run(function, {"x": x}).values()
    assert np.array_equal(y, expected(x, axis, exclusive, reverse))


def test_a_schedule_means_what_its_program_does() -> None:
    x = np.random.default_rng(0).standard_normal((11, 13)).astype(np.float32)
    for axis in (0, 1):
        for reverse in (False, True):
            function = scheduled((11, 13), axis, 2, reverse=reverse).function
            (y,) = interpret(function, {"x": x}).values()
            assert np.array_equal(y, expected(x, axis, False, reverse))


def kinds(sch: Schedule) -> dict[str, int]:
    """Extents of the loops that are not serial, the largest of each kind."""
    found: dict[str, int] = {}
    for s in walk(sch.function.body):
        if isinstance(s, For) and s.kind != "serial":
            found[s.kind] = max(found.get(s.kind, 0), sch.extent(s.var.name) or 0)
    return found


def test_along_memory_rows_are_lanes_of_a_tile_in_registers() -> None:
    sch = scheduled((512, 1024), 1, 2)
    assert kinds(sch)["parallel"] >= 64 and kinds(sch)["unrolled"] >= kinds(sch)["vectorized"] > 1
    table = buffer_table(sch.function)
    assert table["stacked"].scope == table["state"].scope == "register"


def test_across_memory_strips_are_lanes() -> None:
    sch = scheduled((64, 3000), 0, 2)
    assert kinds(sch)["vectorized"] >= 8 and kinds(sch)["parallel"] >= 4
    assert "stacked" not in buffer_table(sch.function)
    short = scheduled((64, 16), 0)
    assert buffer_table(short.function)["state"].scope == "register"


def test_the_trace_replays_to_the_same_kernel() -> None:
    function = cumsum((33, 70), 1, exclusive=True, reverse=True)
    sch = default_schedule(function, host(), 2)
    again = Schedule(function)
    for step in sch.trace.steps:
        again.apply(step)
    assert structural_hash(again.function) == structural_hash(sch.function)
