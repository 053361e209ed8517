"""The kernels of a model in figures: work, traffic, the least time that the machine allows, and the time measured."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tcompiler.cli.report.listings import target_of
from tcompiler.cost.predict import LEVELS, predict
from tcompiler.errors import UserError
from tcompiler.ir.expr.grammar import tensors
from tcompiler.ir.expr.text import parse_program
from tcompiler.ir.loop.text import parse_function
from tcompiler.lower.work import operand_bytes
from tcompiler.runtime.manifest import CallEntry, KernelEntry, Manifest
from tcompiler.runtime.memory import Array
from tcompiler.runtime.model import Model
from tcompiler.target.machine import Machine
from tcompiler.target.model import gigahertz, measured

BOUNDS = {"compute": "compute", "L1": "L1", "L2": "L2", "L3": "L3", "DRAM": "memory", "latency": "latency"}
"""What a kernel can be bound by, and how it is shown."""


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """A kernel's figures, over all of its calls in one call of the model.

    Args:
        name: The kernel. Kernels of one code are one row: `aliases` has the other names.
        symbol: The symbol of its code.
        calls: How often it is called.
        flops: What the operators' definitions ask for.
        executed_flops: What the schedule does.
        bytes: The least traffic: operands and results once.
        limit: The time in seconds that the machine needs at least: see `Machine.limit`.
        bound: What that limit is due to: a key of BOUNDS.
        seconds: The time measured, None if it was not.
        predicted: The time that its schedule takes by the analytic model of this machine; None where no schedule is
            kept.
    """

    name: str
    aliases: tuple[str, ...]
    symbol: str
    calls: int
    flops: int
    executed_flops: int
    bytes: int
    limit: float
    bound: str
    seconds: float | None
    predicted: float | None = None

    @property
    def gflops(self) -> float | None:
        """Billions of operations (those that were asked for) per second."""
        return self.flops / self.seconds / 1e9 if self.seconds else None

    @property
    def executed_gflops(self) -> float | None:
        """Billions of operations (those that were done) per second."""
        return self.executed_flops / self.seconds / 1e9 if self.seconds else None

    @property
    def attained(self) -> float | None:
        """The limit over the time measured: 1 is as fast as the machine allows."""
        return self.limit / self.seconds if self.seconds else None

    def share(self, total: float) -> float | None:
        """The part of a total time that this kernel takes."""
        return None if self.seconds is None or not total else self.seconds / total

    def to_json(self, total: float) -> dict[str, Any]:
        """The row as an object of JSON."""
        derived = {"gflops": self.gflops, "attained": self.attained, "share": self.share(total)}
        return asdict(self) | {"aliases": list(self.aliases), "bound": BOUNDS[self.bound]} | derived


def kernel_facts(model: Model, machine: Machine, seconds: Sequence[float] | None) -> list[KernelFacts]:
    """The figures of every kernel, those that take longest (at best, where nothing was measured) first.

    Args:
        model: A compiled model.
        machine: Measured peaks of this machine.
        seconds: The time of each step of the model, as `measure_calls` returns them.
    """
    manifest = model.manifest
    entries: dict[str, list[KernelEntry]] = {}
    for entry in manifest["kernels"]:
        entries.setdefault(entry["symbol"], []).append(entry)
    calls: dict[str, list[int]] = {symbol: [] for symbol in entries}
    for k, call in enumerate(manifest["calls"]):
        calls.setdefault(call["kernel"], []).append(k)
    rows = []
    for symbol, (entry, *others) in entries.items():
        at = calls[symbol]
        limit, bound = _limit(model, machine, entry, [manifest["calls"][k] for k in at])
        rows.append(
            KernelFacts(
                entry["name"],
                tuple(e["name"] for e in others),
                symbol,
                len(at),
                entry["flops"] * len(at),
                entry["executed_flops"] * len(at),
                entry["bytes"] * len(at),
                limit,
                bound,
                None if seconds is None else sum(seconds[k] for k in at),
                _predicted(model, machine, entry, len(at)),
            )
        )
    return sorted(rows, key=lambda r: (-(r.seconds or 0.0), -r.limit))


def _limit(model: Model, machine: Machine, entry: KernelEntry, calls: Sequence[CallEntry]) -> tuple[float, str]:
    """The limits of a kernel's calls, added; and what the greatest part of it is due to.

    Constants stay in a cache only as far as all constants of the model fit: they all are read before these are again.
    """
    operands, dtype = _operands(model, entry)
    manifest, threads = model.manifest, model.threads
    sums: dict[str, float] = {}
    for call in calls:
        sizes = [(str(kind), size) for (kind, *_), size in zip(call["args"], operands, strict=False)]
        fixed = sum(size for kind, size in sizes if kind == "const")
        moving = sum(size for kind, size in sizes if kind != "const") if operands else entry["bytes"]
        traffic = machine.traffic(moving, fixed + moving, threads)
        for level, count in machine.traffic(fixed, max(manifest["constants_bytes"], fixed + moving), threads).items():
            traffic[level] += count
        limit, bound = machine.limit(entry["executed_flops"], traffic, dtype, threads)
        sums[bound] = sums.get(bound, 0.0) + limit
    return sum(sums.values()), max(sums, key=lambda name: sums[name], default="latency")


def _predicted(model: Model, machine: Machine, entry: KernelEntry, calls: int) -> float | None:
    """The time that the schedule of a kernel takes in so many calls.

    Computing by the schedule's own loops at the measured clock, moving at the measured bandwidths, and no less than a
    call takes. Data that fit a cache are taken to lie there; what the schedule brings in anew counts beyond that.
    """
    if f"scheduled/{entry['name']}" not in model.artifact.texts:
        return None
    made = measured(target_of(model.manifest["target"]), machine)
    found = predict(parse_function(model.text("scheduled", entry["name"])), made, model.threads)
    bounds = [machine.call_seconds, found.cycles / (gigahertz(made, machine) * 1e9)]
    for level, beyond in LEVELS:
        shared = model.threads if level != "L3" else 1
        if found.footprint > machine.capacities[level] * shared:
            bounds.append(found.traffic[beyond] / (machine.peak_gbps(beyond, model.threads) * 1e9))
    return calls * max(bounds)


def _operands(model: Model, entry: KernelEntry) -> tuple[tuple[int, ...], str]:
    """The least traffic of each operand and the type that is computed in; nothing where the program is not kept."""
    if f"expr/{entry['name']}" not in model.artifact.texts:
        return (), "f32"
    program = parse_program(model.text("expr", entry["name"]))
    wide = any(t.dtype.name == "f64" for t in tensors(program).values())
    return operand_bytes(program), "f64" if wide else "f32"


def measure_calls(model: Model, operands: Sequence[Array], budget: float = 0.4) -> list[float]:
    """The median time of each step of a model, in seconds.

    Args:
        model: A compiled model.
        operands: Its inputs.
        budget: Seconds after which no further run begins; at least five are made, at most two hundred.
    """
    model(*operands)
    runs: list[list[float]] = []
    end = time.perf_counter() + budget
    while len(runs) < 5 or (len(runs) < 200 and time.perf_counter() < end):
        runs.append(model.run_profiled(*operands)[1])
    return [median(times) for times in zip(*runs, strict=True)]


SORT_KEYS = ("time", "limit", "flops", "executed", "bytes", "calls", "attained", "name")
"""What rows can be sorted by."""


def sort_rows(rows: Iterable[KernelFacts], key: str) -> list[KernelFacts]:
    """Rows in another order: names ascending, figures descending, what has most to gain (attained) first.

    Raises:
        UserError: There is no such key.
    """
    match key:
        case "time":
            return sorted(rows, key=lambda r: (-(r.seconds or 0.0), -r.limit))
        case "limit":
            return sorted(rows, key=lambda r: -r.limit)
        case "flops":
            return sorted(rows, key=lambda r: -r.flops)
        case "executed":
            return sorted(rows, key=lambda r: -r.executed_flops)
        case "bytes":
            return sorted(rows, key=lambda r: -r.bytes)
        case "calls":
            return sorted(rows, key=lambda r: -r.calls)
        case "attained":
            return sorted(rows, key=lambda r: r.attained if r.attained is not None else 2.0)
        case "name":
            return sorted(rows, key=lambda r: _natural(r.name))
    near = difflib.get_close_matches(key, SORT_KEYS, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f'--sort "{key}": expected one of {", ".join(SORT_KEYS)}{hint}')


def _natural(name: str) -> tuple[str, int]:
    """A key that puts conv_9 before conv_10."""
    head, _, number = name.rpartition("_")
    return (head, int(number)) if number.isdecimal() else (name, -1)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all kernels; `seconds` is None where nothing was measured, `predicted` where a schedule is missing."""

    calls: int
    flops: int
    executed_flops: int
    bytes: int
    limit: float
    seconds: float | None
    predicted: float | None

    @property
    def attained(self) -> float | None:
        """The limit over the time measured."""
        return self.limit / self.seconds if self.seconds else None

    @property
    def gflops(self) -> float | None:
        """Billions of operations (those that were asked for) per second."""
        return self.flops / self.seconds / 1e9 if self.seconds else None


def totals(rows: Sequence[KernelFacts]) -> Totals:
    """The sums of all rows."""
    times = [r.seconds for r in rows if r.seconds is not None]
    forecasts = [r.predicted for r in rows if r.predicted is not None]
    return Totals(
        sum(r.calls for r in rows),
        sum(r.flops for r in rows),
        sum(r.executed_flops for r in rows),
        sum(r.bytes for r in rows),
        sum(r.limit for r in rows),
        sum(times) if len(times) == len(rows) else None,
        sum(forecasts) if len(forecasts) == len(rows) else None,
    )


def memory_line(manifest: Manifest) -> str:
    """What memory a model takes, in one line."""
    return (
        f"arena {manifest['arena_bytes']} bytes (lower bound {manifest['arena_lower_bound']}), "
        f"constants {manifest['constants_bytes']} bytes, "
        f"scratch {manifest['scratch_bytes']} bytes per thread, threads {manifest['threads']}"
    )
