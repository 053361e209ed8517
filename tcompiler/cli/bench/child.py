"""The measuring process: one system, or the machine's peak, asked over pipes in JSON lines.

Run as `python -m tcompiler.cli.bench.child SYSTEM`. It answers each line on standard input with one line:

    {"op": "load", "path", "threads"}                → {"seconds"}            read or compile a model
    {"op": "inputs", "path", "names"}                → {}                     take the arrays of an .npz file
    {"op": "outputs", "path"}                        → {}                     run once, save the outputs as .npz
    {"op": "round", "seconds", "calls"}              → {"median_ms", "min_ms", "calls"}
    {"op": "peak", "dtype", "threads", "seconds"}    → {"gflops"}             the peak of a type's multiply-adds
    {"op": "tile", "dtype", "threads", "seconds"}    → {"gflops"}             a register tile's with its loads

A `UserError` of ours is answered as {"error": message}; any other failure ends the process with its traceback.
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
    """What one process holds: the model it loaded last and the inputs it runs on."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._prepare: Prepare | None = None
        self._call: Call | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["op"]:
            case "load":
                self._prepare = self._call = None
                importlib.import_module(self._system)  # systems are named after their packages; not part of the time
                start = time.perf_counter()
                self._prepare = SYSTEMS[self._system](request["path"], request["threads"])
                return {"seconds": time.perf_counter() - start}
            case "inputs":
                assert self._prepare is not None
                with np.load(request["path"]) as archive:
                    arrays = [archive[name] for name in archive.files]
                inputs: dict[str, Array] = dict(zip(request["names"], arrays, strict=True))
                self._call = self._prepare(inputs)
                return {}
            case "outputs":
                np.savez(request["path"], *self._ready()())
                return {}
            case "round":
                return self._round(request["seconds"], request["calls"])
            case "peak":
                from tcompiler.target.peak import DOTS, dot_peak, fma_peak

                measured = dot_peak if request["dtype"] in DOTS else fma_peak
                return {"gflops": measured(request["dtype"], request["threads"], request["seconds"])}
            case "tile":
                from tcompiler.target.tile_peak import tile_peak

                return {"gflops": tile_peak(request["dtype"], request["threads"], request["seconds"])}
            case other:
                raise InternalError(f"the measuring process was asked for {other!r}")

    def _ready(self) -> Call:
        assert self._call is not None, "no inputs were given"
        return self._call

    def _round(self, seconds: float, calls: int) -> dict[str, Any]:
        call, clock = self._ready(), time.perf_counter_ns
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
