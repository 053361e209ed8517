"""Reads, compiles and runs hostile models under limits, in a process of its own.

``python -m tests.frontend.hostile.child RESULTS CASE…`` writes a line of JSON per case: its name, what came of it, the
message, and the processor time in seconds. A line is written before a case starts, so that a process that dies tells
which one killed it.
"""

from __future__ import annotations

import json
import math
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import tcompiler as tc
from tcompiler.errors import UserError
from tcompiler.runtime.model import Model
from tests.frontend.hostile.corpus import Model as Source
from tests.frontend.hostile.corpus import all_cases

SECONDS = 60
"""Processor time after which a case hangs. What each takes is shown by `messages`; five seconds are the aim."""

MEMORY = 1 << 30
"""Bytes of address space that a case may take beyond what the process has when it is told what to do."""


class OutOfTime(BaseException):
    """The case took too long."""


def _out_of_time(*_: object) -> NoReturn:
    raise OutOfTime


LARGE = 1 << 28
"""Bytes, or operations, beyond which a model that compiles is not called: that is between its user and the machine."""


def outcome(model: Source) -> str:
    """What comes of a model: "compiles", or the message of its refusal."""
    try:
        compiled = tc.compile(model, threads=1)
        shapes = [_closed(s.shape) for s in compiled.inputs]
        if isinstance(compiled, Model) and _needs(compiled.manifest) > LARGE:
            return "compiles, and is too large to be called here"
        compiled(*(np.ones(shape, s.numpy_dtype) for s, shape in zip(compiled.inputs, shapes, strict=True)))
    except UserError as error:
        return str(error)
    return "compiles"


def _closed(shape: Sequence[int | str] | None) -> tuple[int, ...]:
    return (2, 3) if shape is None else tuple(2 if isinstance(e, str) else e for e in shape)


def _needs(manifest: Any) -> int:
    """Bytes or operations of a call, whichever are more."""
    tensors = [8 * math.prod(t["shape"]) for t in (*manifest["inputs"], *manifest["outputs"])]
    return max(manifest["arena_bytes"] + sum(tensors), sum(k["flops"] + k["bytes"] for k in manifest["kernels"]))


def attempt(model: Source) -> dict[str, Any]:
    """The outcome of a model within the limit on time."""
    signal.signal(signal.SIGPROF, _out_of_time)
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return {"kind": "ok", "text": outcome(model), "seconds": time.process_time() - start}
    except OutOfTime:
        return {"kind": "time", "text": traceback.format_exc(limit=-12), "seconds": time.process_time() - start}
    except BaseException as error:
        trace = traceback.format_exc(limit=-8)[-3000:]
        return {"kind": type(error).__name__, "text": trace, "seconds": time.process_time() - start}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def confine() -> None:
    """Sets the limit on memory, once everything is imported that any case needs."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)


def sources(names: Sequence[str]) -> Iterator[tuple[str, Callable[[Path], Source]]]:
    """Cases by their names; "damaged:FIRST:END" stands for damaged models by their seeds."""
    from tests.frontend.hostile.mutate import damaged

    for name in names:
        head, *ends = name.split(":")
        if head != "damaged":
            yield name, all_cases()[name].build
            continue
        for seed in range(*map(int, ends)):
            yield str(seed), lambda folder, seed=seed: damaged(seed)


def main() -> None:
    results, *names = sys.argv[1:]
    with tempfile.TemporaryDirectory() as warm:
        outcome(all_cases()["names/space"].build(Path(warm)))
    confine()
    with open(results, "a", buffering=1) as out:
        for name, build in sources(names):
            with tempfile.TemporaryDirectory() as folder:
                model = build(Path(folder))
                out.write(json.dumps({"name": name}) + "\n")
                result = attempt(model)
                result["text"] = result["text"].replace(folder, "FOLDER")
                out.write(json.dumps({"name": name, **result}) + "\n")


if __name__ == "__main__":
    main()
