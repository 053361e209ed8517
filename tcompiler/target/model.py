"""What a core can do in a cycle: a frozen description of it, and pure functions over that.

A schedule has to be the same for a program and a target on every machine and in every run, so rules ask `core(target)`,
which knows a microarchitecture by name and measures nothing. Reports ask `measured`, which puts this machine's own
bandwidths in. Units and latencies are the vendors' published ones; what arrives from the caches in a cycle, sustained,
was measured on the machines at hand (`tcompiler.target.machine`) and is of that order on all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypedDict

from tcompiler.target.target import Target

if TYPE_CHECKING:
    from tcompiler.target.machine import Machine


SWIFT = 12.0
"""Bytes per cycle from beyond the level 2 cache at which waiting costs less than losing the panel that is in use."""


@dataclass(frozen=True, slots=True)
class Core:
    """A core, as far as the speed of generated code depends on it.

    Attributes:
        vector_bits: Width of a vector register.
        vector_registers: How many there are.
        fma_pipes: Multiply-adds, and multiplications, that start in a cycle, if they are narrow enough.
        fma_bits: Bits of them, all together.
        fma_latency: Cycles from a multiply-add's operands to its result.
        add_pipes: Additions that start in a cycle beside multiply-adds; 0 if they take the multiply-adds' pipes.
        add_latency: Cycles of an addition or a multiplication.
        load_ports: Vector loads that start in a cycle, if they are narrow enough.
        load_bits: Bits of them, all together.
        load_latency: Cycles from an address to a vector out of the level 1 cache.
        store_ports: Vector stores in a cycle, if they are narrow enough.
        store_bits: Bits of them, all together.
        issue: Instructions in a cycle, of any kind.
        divide_cycles: Cycles between divisions, or square roots, of 256 bits of f32.
        far_speed: How many times what others read in a cycle from beyond the level 2 cache it reads from there.
        near_bytes: Bytes that arrive from the level 2 cache in a cycle while multiply-adds take most of the core.
        kernel_cycles: Cycles that a kernel of its own costs: a call, threads that start and end together, what it
            brings in anew.
        capacities: Bytes of L1 and L2 (of a core) and L3 (shared; 0 if there is none).
        bytes_per_cycle: By level ("L1", "L2", "L3", "DRAM"): what one core reads from there in a cycle, sustained.
    """

    vector_bits: int
    vector_registers: int
    fma_pipes: int = 2
    fma_bits: int = 512
    fma_latency: int = 4
    add_pipes: int = 0
    add_latency: int = 4
    load_ports: int = 2
    load_bits: int = 512
    load_latency: int = 7
    store_ports: int = 1
    store_bits: int = 256
    issue: int = 4
    divide_cycles: float = 5.0
    far_speed: float = 1.0
    near_bytes: float = 20.0
    kernel_cycles: float = 3000.0
    capacities: Mapping[str, int] = field(default_factory=dict)
    bytes_per_cycle: Mapping[str, float] = field(default_factory=dict)

    @property
    def vector_bytes(self) -> int:
        """Bytes of a vector register."""
        return self.vector_bits // 8

    def flops_per_cycle(self, dtype_bits: int = 32) -> float:
        """Peak of the multiply-add units, a multiply-add counted as two."""
        return 2 * min(self.fma_bits, self.fma_pipes * self.vector_bits) / dtype_bits


@dataclass(frozen=True, slots=True)
class Work:
    """Instructions: of one iteration of a loop, or of any stretch of code.

    Attributes:
        fma: Multiply-adds and multiplications.
        add: Other floating-point arithmetic of their cost (additions, comparisons, minima).
        divide: Divisions and square roots.
        loads: Reads of memory, those that are operands of other instructions included.
        stores: Writes to memory.
        instructions: Instructions of every kind, these included.
        bits: Width of the vectors that they work on.
        chain: Cycles that the longest chain of dependent results takes.
    """

    fma: float = 0.0
    add: float = 0.0
    divide: float = 0.0
    loads: float = 0.0
    stores: float = 0.0
    instructions: float = 0.0
    bits: int = 256
    chain: float = 0.0


BOUNDS = {
    "fma": "multiply-add units",
    "add": "addition units",
    "divide": "division unit",
    "load": "load ports",
    "store": "store ports",
    "issue": "instructions per cycle",
    "chain": "latency",
}
"""What a stretch of code can be bound by."""


class _Figures(TypedDict, total=False):
    """Fields of a Core that a microarchitecture is known by."""

    fma_bits: int
    fma_latency: int
    add_pipes: int
    add_latency: int
    load_bits: int
    store_bits: int
    issue: int
    divide_cycles: float
    far_speed: float
    near_bytes: float


# Microarchitectures by LLVM's name: what differs from the defaults above.
_ZEN: _Figures = {"add_pipes": 2, "add_latency": 3, "issue": 6}
_WIDE: _Figures = {"fma_bits": 1024, "load_bits": 1024, "store_bits": 512, "near_bytes": 40.0}
_CORES: dict[str, _Figures] = {
    "haswell": {"fma_latency": 5, "add_latency": 5, "divide_cycles": 14.0},
    "broadwell": {"fma_latency": 5, "add_latency": 3, "divide_cycles": 10.0},
    "skylake": {},
    "skylake-avx512": _WIDE,
    "cascadelake": _WIDE,
    "cooperlake": _WIDE,
    "icelake-server": {**_WIDE, "issue": 5},
    "sapphirerapids": {**_WIDE, "issue": 6, "add_latency": 3},
    "znver1": {**_ZEN, "fma_bits": 256, "fma_latency": 5, "load_bits": 256, "store_bits": 128},
    "znver2": {**_ZEN, "fma_latency": 5},
    "znver3": {**_ZEN, "store_bits": 256},
    "znver4": {**_ZEN, "store_bits": 256},
    "znver5": {**_ZEN, **_WIDE, "add_latency": 2, "issue": 8, "near_bytes": 29.5, "far_speed": 1.8},
    "x86-64": {"fma_bits": 256, "load_bits": 256, "store_bits": 128},
    "x86-64-v2": {"fma_bits": 256, "load_bits": 256, "store_bits": 128},
    "x86-64-v4": _WIDE,
}
# Of a vector of 256 bits per load port; a core of twice the width moves twice as much out of its own caches.
_BYTES_PER_CYCLE = {"L1": 64.0, "L2": 28.0, "L3": 15.0, "DRAM": 6.0}


@lru_cache(maxsize=64)
def core(target: Target) -> Core:
    """The core of a target; one that is not known by name is taken for an average one of its vector width."""
    known = _CORES.get(target.cpu)
    if known is None:
        known = _WIDE if target.vector_bits == 512 else {}
    made = Core(target.vector_bits, target.vector_registers, **known)
    scale = {"L1": made.load_bits / 512, "L2": max(1.0, made.load_bits / 512)}
    scale |= dict.fromkeys(("L3", "DRAM"), made.far_speed)
    return replace(
        made,
        capacities={"L1": target.l1_bytes, "L2": target.l2_bytes, "L3": target.l3_bytes},
        bytes_per_cycle={level: n * scale.get(level, 1.0) for level, n in _BYTES_PER_CYCLE.items()},
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """What a core sustains in an inner loop, in cycles: a little less than its units allow, and measured so.

    The defaults are those of a core with two pipes for multiply-adds and two load ports, six instructions wide.

    Attributes:
        fma: Per multiply-add of whole vectors.
        load: Per load, broadcasts and vectors alike.
        shared: Per instruction of any kind, while the core's other thread is as busy.
        chain: Between two multiply-adds of one accumulator.
        near_bytes: Bytes that arrive from the level 2 cache in a cycle, beside computing.
        far_bytes: Bytes that arrive from beyond it.
    """

    fma: float = 0.54
    load: float = 0.58
    shared: float = 0.4
    chain: float = 4.2
    near_bytes: float = 20.0
    far_bytes: float = 8.0


@lru_cache(maxsize=64)
def pace(target: Target) -> Pace:
    """What the core of a target sustains: the measured shares of what its units allow, which differ little."""
    made = core(target)
    width = target.vector_bits
    return Pace(
        fma=round(1.08 * max(1 / made.fma_pipes, width / made.fma_bits), 3),
        load=round(1.16 * max(1 / made.load_ports, width / made.load_bits), 3),
        shared=round(2.4 / made.issue, 3),
        chain=round(1.05 * made.fma_latency, 3),
        near_bytes=made.near_bytes,
        far_bytes=8.0 * made.far_speed,
    )


def swift(target: Target) -> bool:
    """Whether what lies beyond the level 2 cache comes as fast as tiles want it, whoever else reads from there."""
    return pace(target).far_bytes >= SWIFT


def gigahertz(made: Core, machine: Machine) -> float:
    """The clock that a measured multiply-add peak means, in 10⁹ cycles per second."""
    return machine.peak_gflops("f32") / made.flops_per_cycle()


def measured(target: Target, machine: Machine) -> Core:
    """The core of a target with the bandwidths that were measured on it."""
    made = core(target)
    clock = gigahertz(made, machine)
    return replace(
        made,
        capacities=dict(machine.capacities),
        bytes_per_cycle={level: machine.peak_gbps(level) / clock for level in machine.gbps},
    )


def bounds(work: Work, made: Core) -> dict[str, float]:
    """Cycles that each resource of a core needs for some work, by the keys of BOUNDS."""

    def busy(count: float, ports: int, bits: int) -> float:
        return count * max(1 / ports, work.bits / bits)

    arithmetic = work.fma + (0.0 if made.add_pipes else work.add)
    return {
        "fma": busy(arithmetic, made.fma_pipes, made.fma_bits),
        "add": busy(work.add, made.add_pipes, made.fma_bits) if made.add_pipes else 0.0,
        "divide": work.divide * made.divide_cycles * max(work.bits, 128) / 256,
        "load": busy(work.loads, made.load_ports, made.load_bits),
        "store": busy(work.stores, made.store_ports, made.store_bits),
        "issue": work.instructions / made.issue,
        "chain": work.chain,
    }


def cycles(work: Work, made: Core) -> tuple[float, str]:
    """The least cycles that a core needs for some work, and what they are due to (a key of BOUNDS)."""
    found = bounds(work, made)
    by = max(found, key=lambda name: found[name])
    return found[by], by
