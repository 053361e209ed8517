"""Alternating rounds: one process per system and one for the machine's peak, so that they do not disturb each other.

Thread pools that spin disturb each other inside one process, and a machine's clock drifts over seconds. So every round
gives each system a short turn, in an order that rotates, and what is reported is the median over the rounds.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypedDict

import numpy as np

from tcompiler.cli.bench.systems import SYSTEMS, Array
from tcompiler.errors import UserError
from tcompiler.target.peak import FLOATS

_SETTLE_S = 0.05
"""Pause after each turn: a pool that spins for a while after its last call falls asleep."""
_LIMIT_S = 900.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Row(TypedDict, total=False):
    """One system's figures; with `error` alone beside `system` if it could not run the model.

    `of_peak` and `of_tile` are medians over the rounds, each against what was measured in the same round.
    """

    system: str
    median_ms: float
    min_ms: float
    gflops: float
    of_peak: float
    of_tile: float | None
    max_rel_error: float | None
    compile_s: float
    round_ms: list[float]
    error: str


class Result(TypedDict):
    """What `tcompiler bench --json` prints: times in ms, rates in GFLOP/s, `flops` of one call."""

    model: str
    threads: int
    peak_gflops: float
    tile_gflops: float | None
    flops: int
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure.

    Args:
        path: The model, an ONNX file.
        inputs: Arrays by input name.
        flops: Floating-point operations of one call, for the rates.
        dtype: Of which type the peak is measured.
        paths: For a system that reads another file than `path`.
    """

    path: str | Path
    inputs: Mapping[str, Array]
    flops: int
    dtype: str = "f32"
    paths: Mapping[str, str | Path] = field(default_factory=dict)


class MeasureError(UserError):
    """A measured system could not do what it was asked; the message is its own."""


class Worker:
    """A process that runs one system.

    Attributes:
        ended: How many processes of it have ended.

    Args:
        system: A key of `SYSTEMS`, or "peak".
        threads: Thread count, also set in the environment of the process.
        log: File that takes what the process prints.
    """

    def __init__(self, system: str, threads: int, log: Path) -> None:
        self.system, self.threads = system, threads
        self.ended = 0
        self._log = log
        self._rest = b""
        self._process: subprocess.Popen[bytes] | None = None

    def request(self, **request: Any) -> dict[str, Any]:
        """Ask the process, starting it if need be, and wait for its answer.

        Args:
            **request: One request of `child`'s protocol.

        Returns:
            The answer.

        Raises:
            MeasureError: The system refused, died, or did not answer in time.
        """
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = self._read_line(process.stdout)
        except BrokenPipeError:
            line = b""
        if not line:
            raise MeasureError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise MeasureError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self._rest = b""
            self.ended += 1

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {name: str(self.threads) for name in _THREAD_VARIABLES}
        # A source tree that is not installed is found where this process found it.
        root = str(Path(__file__).parents[3])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tcompiler.cli.bench.child", self.system],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        return self._process

    def _read_line(self, stream: IO[bytes]) -> bytes:
        """One line, or nothing if the process ended; a process that takes longer than the limit is ended."""
        end = time.monotonic() + _LIMIT_S
        while b"\n" not in self._rest:
            ready, _, _ = select.select([stream], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.close()
                raise MeasureError(f"no answer within {_LIMIT_S:.0f} s")
            chunk = os.read(stream.fileno(), 65536)
            if not chunk:
                return b""
            self._rest += chunk
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    def _last_words(self) -> str:
        """Why the process ended: the last line it wrote, and its exit status."""
        assert self._process is not None
        status = self._process.wait()
        text = self._log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        self.close()
        how = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"{lines[-1]} ({how})" if lines else how


@dataclass(slots=True)
class _Run:
    """A model that is being measured: the systems that run it, in which of their processes, and their turns."""

    slot: int
    subject: Subject
    ready: list[Worker] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    turns: dict[str, list[dict[str, float]]] = field(default_factory=dict)


class Bench:
    """Systems ready to be measured at one thread count; a context manager that ends their processes.

    Args:
        systems: Keys of `SYSTEMS`, the first one being the reference of the others' errors.
        threads: Threads that each system, and the peak, may use.

    Raises:
        UserError: There is no such system.
    """

    def __init__(self, systems: Sequence[str], threads: int) -> None:
        for system in systems:
            if system not in SYSTEMS:
                raise UserError(f"no system is named {system!r}; there are: {', '.join(SYSTEMS)}")
        self.threads = threads
        self._folder = tempfile.TemporaryDirectory(prefix="tcompiler-bench-")
        self._workers = [Worker(system, threads, self._log(system)) for system in systems]
        self._peak = Worker("peak", threads, self._log("peak"))

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in (*self._workers, self._peak):
            worker.close()
        self._folder.cleanup()

    def measure(self, *subjects: Subject, rounds: int, seconds: float = 0.15) -> list[Result]:
        """Measure models with every system.

        What is measured together takes turns within each round, in the same processes, so that the figures of one
        model compare with those of another whatever else the machine does meanwhile.

        Args:
            *subjects: The models.
            rounds: How many turns each system gets with each model.
            seconds: Length of a turn; at least three calls are made.

        Returns:
            The figures of each model; a system that cannot run it has a row with its error.
        """
        runs = [self._load(slot, subject, seconds) for slot, subject in enumerate(subjects)]
        for run in runs:
            for worker in run.ready:
                if run.ended[worker.system] != worker.ended:  # a later model ended the process that had this one, too
                    self._give(worker, run)
        for i in range(rounds):
            for run in runs:
                self._turn(run, i, seconds)
        return [self._result(run) for run in runs]

    def _log(self, name: str) -> Path:
        return Path(self._folder.name) / f"{name}.log"

    def _give(self, worker: Worker, run: _Run) -> float:
        """A system reads a model and takes its inputs; the seconds of the former."""
        path = str(run.subject.paths.get(worker.system, run.subject.path))
        loaded = worker.request(op="load", slot=run.slot, path=path, threads=self.threads)
        given = Path(self._folder.name) / "inputs.npz"
        np.savez(given, *run.subject.inputs.values())
        worker.request(op="inputs", slot=run.slot, path=str(given), names=list(run.subject.inputs))
        return float(loaded["seconds"])

    def _load(self, slot: int, subject: Subject, seconds: float) -> _Run:
        """Every system reads a model and runs it for a while."""
        run = _Run(slot, subject)
        reference: list[Array] | None = None
        results = Path(self._folder.name) / "outputs.npz"
        for worker in self._workers:
            try:
                if slot == 0:
                    worker.request(op="drop")
                compiling = self._give(worker, run)
                worker.request(op="outputs", slot=slot, path=str(results))
                worker.request(op="round", slot=slot, seconds=seconds / 3, calls=2)  # warm up
            except MeasureError as error:
                run.rows[worker.system] = {"system": worker.system, "error": str(error)}
                continue
            with np.load(results) as archive:
                outputs = [archive[name] for name in archive.files]
            reference = outputs if reference is None else reference
            run.rows[worker.system] = {
                "system": worker.system,
                "compile_s": compiling,
                "max_rel_error": max_relative_error(outputs, reference),
            }
            run.ready.append(worker)
            run.ended[worker.system] = worker.ended
        return run

    def _turn(self, run: _Run, i: int, seconds: float) -> None:
        """Round number i of a model: every system that runs it, and the peak."""
        order = [*run.ready, self._peak]
        start = i % len(order)
        for worker in order[start:] + order[:start]:
            time.sleep(_SETTLE_S)
            if worker is self._peak:
                turn = self._ceilings(run.subject.dtype, seconds)
            else:
                turn = worker.request(op="round", slot=run.slot, seconds=seconds, calls=3)
            run.turns.setdefault(worker.system, []).append(turn)

    def _result(self, run: _Run) -> Result:
        """What the turns come to."""
        flops = run.subject.flops
        ceilings = run.turns[self._peak.system]
        peaks, tiles = ([turn[key] for turn in ceilings if key in turn] for key in ("gflops", "tile_gflops"))
        for worker in run.ready:
            times = [turn["median_ms"] for turn in run.turns[worker.system]]
            row = run.rows[worker.system]
            row["median_ms"] = statistics.median(times)
            row["min_ms"] = min(turn["min_ms"] for turn in run.turns[worker.system])
            row["gflops"] = flops / row["median_ms"] / 1e6
            # Round by round, so that a clock that drifts moves both sides of the ratio.
            row["of_peak"] = statistics.median(flops / ms / 1e6 / peak for ms, peak in zip(times, peaks, strict=True))
            row["of_tile"] = (
                statistics.median(flops / ms / 1e6 / t for ms, t in zip(times, tiles, strict=True)) if tiles else None
            )
            row["round_ms"] = times
        return {
            "model": str(run.subject.path),
            "threads": self.threads,
            "peak_gflops": statistics.median(peaks),
            "tile_gflops": statistics.median(tiles) if tiles else None,
            "flops": flops,
            "rows": list(run.rows.values()),
        }

    def _ceilings(self, dtype: str, seconds: float) -> dict[str, float]:
        """The peak of a type's multiply-adds and, where it has one, what a register tile of it does with its loads."""
        request = {"dtype": dtype, "threads": self.threads, "seconds": seconds}
        turn: dict[str, float] = {"gflops": self._peak.request(op="peak", **request)["gflops"]}
        if dtype in FLOATS:
            turn["tile_gflops"] = self._peak.request(op="tile", **request)["gflops"]
        return turn


def max_relative_error(outputs: Sequence[Array], reference: Sequence[Array]) -> float | None:
    """Largest |y − r| over an output, relative to that output's largest |r|; the worst output counts.

    Args:
        outputs: What a system gave.
        reference: What the first system gave.

    Returns:
        The error; None if the outputs differ in number, shape, or in where they are NaN or infinite.
    """
    if len(outputs) != len(reference):
        return None
    worst = 0.0
    for y, r in zip(outputs, reference, strict=True):
        if y.shape != r.shape:
            return None
        a, b = np.asarray(y, np.float64), np.asarray(r, np.float64)
        finite = np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
            return None
        if finite.any():
            difference, scale = float(np.abs(a - b)[finite].max()), float(np.abs(b[finite]).max())
            worst = max(worst, difference / scale if scale else difference)
    return worst
