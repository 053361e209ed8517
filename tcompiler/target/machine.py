"""An analytic model of this machine: how long computing and moving data take at best."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tcompiler.target import peak
from tcompiler.target.named import host
from tcompiler.target.target import Target

FORMAT = 2
_Rates = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured peaks, for one core and for all.

    Args:
        cpu: The processor's name.
        cores: How many cores "all" are.
        capacities: Bytes of L1, L2 (of a core) and L3 (shared).
        gflops: By dtype ("f32", "f64"): multiply-add peak of one core and of all, in GFLOP/s.
        gbps: By level ("L1", "L2", "L3", "DRAM"): bandwidth of reading with one core and with all, in GB/s.
        copy_gbps: The same of copying, both arrays counted.
        call_seconds: What a call of a function that does nothing takes.
    """

    cpu: str
    cores: int
    capacities: Mapping[str, int]
    gflops: Mapping[str, tuple[float, float]]
    gbps: Mapping[str, tuple[float, float]]
    copy_gbps: Mapping[str, tuple[float, float]]
    call_seconds: float = 0.0

    def peak_gflops(self, dtype: str, threads: int = 1) -> float:
        """The multiply-add peak on that many threads: from one core's to all cores' along a straight line."""
        return _between(self.gflops[dtype], threads, self.cores)

    def peak_gbps(self, level: str, threads: int = 1) -> float:
        """The bandwidth of reading from a level of the memory on that many threads, in GB/s."""
        return _between(self.gbps[level], threads, self.cores)

    def level_of(self, working_set: int, threads: int = 1) -> str:
        """The nearest level of the memory that holds so many bytes for each of the threads."""
        for level, shared in (("L1", 1), ("L2", 1), ("L3", threads)):
            if working_set * shared <= self.capacities[level]:
                return level
        return "DRAM"

    def traffic(self, count: float, footprint: int, threads: int = 1) -> dict[str, float]:
        """The least that comes from each level when data are used that were used before, and much else since.

        Of a footprint that is gone through again and again, no more stays in a level than fits; the rest comes from
        beyond it every time.

        Args:
            count: Bytes that are used.
            footprint: Bytes that are used until these are used again, these included.
            threads: How many threads share the work, each with an L1 and an L2 of its own.

        Returns:
            Bytes by level; what comes from a level comes through those before it too, and is counted in each.
        """
        result = {"L1": float(count)}
        for level, beyond, copies in (("L1", "L2", threads), ("L2", "L3", threads), ("L3", "DRAM", 1)):
            left = 1 - self.capacities[level] * min(copies, self.cores) / max(footprint, 1)
            result[beyond] = count * max(0.0, left)
        return result

    def limit(
        self, flops: float, traffic: Mapping[str, float], dtype: str = "f32", threads: int = 1
    ) -> tuple[float, str]:
        """A lower bound for the time of a kernel, and what it is bound by.

        The roofline model (S. Williams, A. Waterman, D. Patterson 2009), with a roof for each level, and the time of an
        empty call as its floor.

        Args:
            flops: Floating-point operations, a multiply-add counted as two.
            traffic: By level: bytes that come from there, over all threads.
            dtype: The type that is computed in.
            threads: How many threads.

        Returns:
            Seconds, and "latency", "compute" or a level.
        """
        bounds = {"latency": self.call_seconds, "compute": flops / (self.peak_gflops(dtype, threads) * 1e9)}
        bounds |= {level: count / (self.peak_gbps(level, threads) * 1e9) for level, count in traffic.items()}
        by = max(bounds, key=lambda name: bounds[name])
        return bounds[by], by


def _between(pair: tuple[float, float], threads: int, cores: int) -> float:
    one, every = pair
    if cores == 1 or threads <= 1:
        return one
    return one + (every - one) * (min(threads, cores) - 1) / (cores - 1)


def cache_file(target: Target) -> Path:
    """Where the measurements of a machine are kept: in `TCOMPILER_CACHE_DIR`, else in the user's cache folder."""
    folder = os.environ.get("TCOMPILER_CACHE_DIR")
    if folder is None:
        import platformdirs

        folder = platformdirs.user_cache_dir("tcompiler")
    name = re.sub(r"[^\w.-]", "_", target.cpu)
    return Path(folder) / "machines" / f"{name}-{target.digest()}.json"


def measure(cache: bool = True, seconds: float = 0.1, again: bool = False) -> Machine:
    """Measures this machine, or reads what was measured before.

    Args:
        cache: Whether to read and to keep the result in `cache_file`; a damaged file is measured anew.
        seconds: How long to measure each of the two dozen numbers.
        again: Whether to measure although there is a result, and to take the better of each number: other programs
            may have run when it was measured.
    """
    target = host()
    file = cache_file(target)
    known = read(file) if cache else None
    if known and not again:
        return known
    counts = (1,) if target.cores == 1 else (1, target.cores)

    def pair(values: list[float]) -> tuple[float, float]:
        # More threads are never slower than one: where they were, something else ran.
        return values[0], max(values)

    def rates(traffic: peak.Traffic) -> dict[str, tuple[float, float]]:
        return {
            level: pair([peak.bandwidth(traffic, peak.level_bytes(target, level, n), n, seconds) for n in counts])
            for level in peak.LEVELS
        }

    machine = Machine(
        cpu=target.cpu,
        cores=target.cores,
        capacities={"L1": target.l1_bytes, "L2": target.l2_bytes, "L3": target.l3_bytes},
        gflops={dtype: pair([peak.fma_peak(dtype, n, seconds) for n in counts]) for dtype in ("f32", "f64")},
        gbps=rates("read"),
        copy_gbps=rates("copy"),
        call_seconds=peak.call_seconds(seconds),
    )
    if known:
        machine = best_of(known, machine)
    if cache:
        # Where nothing can be kept, the next process measures again.
        with contextlib.suppress(OSError):
            write(file, machine)
    return machine


def best_of(a: Machine, b: Machine) -> Machine:
    """The better of two measurements of one machine, number by number."""

    def better(x: _Rates, y: _Rates) -> dict[str, tuple[float, float]]:
        return {key: (max(x[key][0], y[key][0]), max(x[key][1], y[key][1])) for key in x}

    return replace(
        a,
        gflops=better(a.gflops, b.gflops),
        gbps=better(a.gbps, b.gbps),
        copy_gbps=better(a.copy_gbps, b.copy_gbps),
        call_seconds=min(a.call_seconds, b.call_seconds),
    )


def _checksum(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def write(file: Path, machine: Machine) -> None:
    """Keeps measurements: written beside the file and renamed, so that no reader sees half of them."""
    body = asdict(machine)
    content = {"format": FORMAT, "sha256": _checksum(body), "machine": body}
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".part", delete=False) as part:
        json.dump(content, part, indent=1)
    os.replace(part.name, file)


def read(file: Path) -> Machine | None:
    """The measurements in a file; None if there is none, or if it is damaged or of another format."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    body = content.get("machine")
    if not isinstance(body, dict) or content.get("sha256") != _checksum(body):
        return None
    pairs = {key: {k: tuple(v) for k, v in body[key].items()} for key in ("gflops", "gbps", "copy_gbps")}
    return Machine(**{**body, **pairs})
