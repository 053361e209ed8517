"""The measuring process: one system, or the machine's peak, asked over pipes in JSON lines.

Run as `python -m tcompiler.cli.bench.child SYSTEM`. It answers each line on standard input with one line:

    {"op": "drop"}                                   → {}                     forget all models
    {"op": "load", "slot", "path", "threads"}        → {"seconds"}            read or compile a model, one per slot
    {"op": "inputs", "slot", "path", "names"}        → {}                     take the arrays of an .npz file
    {"op": "outputs", "slot", "path"}                → {}                     run once, save the outputs as .npz
    {"op": "round", "slot", "seconds", "calls"}      → {"median_ms", "min_ms", "calls"}
    {"op": "peak", "dtype", "threads", "seconds"}    → {"gflops"}             the peak of a type's multiply-adds
    {"op": "tile", "dtype", "threads", "seconds"}    → {"gflops"}             a register tile's with its loads

The slot is 0 unless told. A `UserError` of ours is answered as {"error": message}; any other failure ends the process
with its traceback.
Between requests the process only waits on the pipe, so that it does not disturb the others' rounds.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
from typing import Any

import numpy as np

from tcompiler.cli.bench.systems import SYSTEMS, Array, Call, Prepare
from tcompiler.errors import InternalError, UserError


class _Child:
    """What one process holds: the models that it loaded, and their calls with the inputs they run on, by slot."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._models: dict[int, Prepare] = {}
        self._calls: dict[int, Call] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        slot = request.get("slot", 0)
        match request["op"]:
            case "drop":
                self._models.clear()
                self._calls.clear()
                return {}
            case "load":
                importlib.import_module(self._system)  # systems are named after their packages; not part of the time
                start = time.perf_counter()
                self._models[slot] = SYSTEMS[self._system](request["path"], request["threads"])
                return {"seconds": time.perf_counter() - start}
            case "inputs":
                with np.load(request["path"]) as archive:
                    arrays = [archive[name] for name in archive.files]
                inputs: dict[str, Array] = dict(zip(request["names"], arrays, strict=True))
                self._calls[slot] = self._models[slot](inputs)
                return {}
            case "outputs":
                np.savez(request["path"], *self._calls[slot]())
                return {}
            case "round":
                return _round(self._calls[slot], request["seconds"], request["calls"])
            case "peak":
                from tcompiler.target.peak import DOTS, dot_peak, fma_peak

                measured = dot_peak if request["dtype"] in DOTS else fma_peak
                return {"gflops": measured(request["dtype"], request["threads"], request["seconds"])}
            case "tile":
                from tcompiler.target.tile_peak import tile_peak

                return {"gflops": tile_peak(request["dtype"], request["threads"], request["seconds"])}
            case other:
                raise InternalError(f"the measuring process was asked for {other!r}")


def _round(call: Call, seconds: float, calls: int) -> dict[str, Any]:
    clock = time.perf_counter_ns
    times: list[int] = []
    end = clock() + int(seconds * 1e9)
    while len(times) < calls or clock() < end:
        start = clock()
        call()
        times.append(clock() - start)
    return {"median_ms": statistics.median(times) / 1e6, "min_ms": min(times) / 1e6, "calls": len(times)}


def main() -> None:
    """Answer requests until standard input closes."""
    # Libraries print to standard output as they please: keep it for ourselves, theirs goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    child = _Child(sys.argv[1])
    for line in sys.stdin:
        try:
            answer = child.answer(json.loads(line))
        except UserError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
