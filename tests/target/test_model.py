"""The analytic model of a core: what bounds a stretch of code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcompiler.target.machine import Machine
from tcompiler.target.model import BOUNDS, Pace, Work, bounds, core, cycles, gigahertz, measured, pace
from tcompiler.target.named import NAMED, get, host
from tcompiler.target.target import KIB, Target
from tcompiler.target.tile import fullest_set


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (Work(fma=10, loads=7, instructions=20, chain=4), (5.0, "fma")),
        (Work(fma=2, loads=3, instructions=6, chain=4), (4.0, "chain")),
        (Work(fma=4, loads=6, instructions=12), (3.0, "load")),
        (Work(loads=1, stores=4, instructions=5), (4.0, "store")),
        (Work(fma=2, add=2, instructions=30), (5.0, "issue")),
        (Work(divide=2, instructions=2), (10.0, "divide")),
        (Work(divide=2, instructions=2, bits=128), (5.0, "divide")),
    ],
)
def test_what_bounds_it(work: Work, expected: tuple[float, str]) -> None:
    assert cycles(work, core(get("znver3"))) == expected
    assert set(bounds(work, core(get("znver3")))) == set(BOUNDS)


def test_additions_share_the_pipes_or_not() -> None:
    work = Work(fma=4, add=4)
    assert bounds(work, core(get("skylake-avx512")))["fma"] == 4.0
    assert (bounds(work, core(get("znver3")))["fma"], bounds(work, core(get("znver3")))["add"]) == (2.0, 2.0)


def test_wide_vectors_in_halves() -> None:
    # Zen 4 has the registers of AVX-512 and units of half their width.
    work = Work(fma=4, loads=4, stores=2, bits=512)
    assert [bounds(work, core(get("znver4")))[name] for name in ("fma", "load", "store")] == [4.0, 4.0, 4.0]
    assert [bounds(work, core(get("znver5")))[name] for name in ("fma", "load", "store")] == [2.0, 2.0, 2.0]
    assert core(get("znver4")).flops_per_cycle() == 32.0
    assert core(get("znver5")).flops_per_cycle() == 64.0


@pytest.mark.parametrize("target", [host(), *NAMED.values()], ids=lambda t: t.name)
def test_every_target_has_a_core(target: Target) -> None:
    made = core(target)
    assert (made.vector_bits, made.vector_registers) == (target.vector_bits, target.vector_registers)
    assert made.capacities == {"L1": target.l1_bytes, "L2": target.l2_bytes, "L3": target.l3_bytes}
    rates = [made.bytes_per_cycle[level] for level in ("L1", "L2", "L3", "DRAM")]
    assert rates == sorted(rates, reverse=True) and rates[-1] > 0
    assert core(replace(target, cpu="unheard-of")).flops_per_cycle() > 0


def test_what_a_core_sustains() -> None:
    # Zen 3 is what the defaults were measured on.
    assert pace(get("znver3")) == Pace()
    assert pace(get("haswell")).chain == 5.25
    # units of half the registers' width take twice the cycles; those of their width take as many, from a wider cache
    assert (pace(get("znver4")).fma, pace(get("znver4")).load) == (1.08, 1.16)
    wide = pace(get("skylake-avx512"))
    assert (wide.fma, wide.load, wide.shared, wide.near_bytes) == (0.54, 0.58, 0.6, 40.0)
    assert pace(get("znver5")).near_bytes == 29.5
    # what is shared with other cores does not follow from the vectors' width
    assert (wide.far_bytes, pace(get("znver5")).far_bytes) == (8.0, 14.4)
    assert core(get("znver5")).bytes_per_cycle["L3"] == 27.0


def test_measured_bandwidths_in_bytes_per_cycle() -> None:
    rates = {"L1": (192.0, 384.0), "L2": (96.0, 192.0), "L3": (48.0, 96.0), "DRAM": (18.0, 24.0)}
    machine = Machine("znver3", 2, {"L1": 32 * KIB, "L2": 256 * KIB, "L3": 0}, {"f32": (96.0, 192.0)}, rates, rates)
    target = get("znver3")
    assert gigahertz(core(target), machine) == 3.0
    made = measured(target, machine)
    assert made.bytes_per_cycle == {"L1": 64.0, "L2": 32.0, "L3": 16.0, "DRAM": 6.0}
    assert made.capacities["L2"] == 256 * KIB
    assert replace(made, capacities={}, bytes_per_cycle={}) == replace(core(target), capacities={}, bytes_per_cycle={})


@pytest.mark.parametrize(
    ("axes", "run", "lines"),
    [
        (((4096, 11),), 256, 11),
        (((4092, 11),), 256, 11),
        (((4096 + 256, 16),), 256, 1),
        (((4, 3), (4096, 5)), 64, 5),
        (((512, 16),), 128, 2),
        ((), 4096 + 64, 2),
    ],
)
def test_runs_of_memory_share_sets_of_a_cache(axes: tuple[tuple[int, int], ...], run: int, lines: int) -> None:
    assert fullest_set(axes, run) == lines
