"""Kernels called on memory between pages that nobody may touch, in a process of its own that may crash."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tcompiler.backends.llvm.addresses import constant_strides
from tcompiler.backends.llvm.build import BuiltKernel
from tcompiler.backends.llvm.codegen import buffer_bytes
from tcompiler.backends.llvm.run import call_kernel
from tcompiler.errors import TCompilerError
from tcompiler.ir.loop.grammar import Function, buffer_table
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.target.target import Target
from tests.backends.kernels import Array, built

PAGE = 4096
FILL = 0xA5
"""What memory holds that no kernel has written."""


@dataclass(frozen=True)
class Case:
    """A function, what it is called with, and the numbers of threads to call it with."""

    name: str
    function: Function
    inputs: Mapping[str, Array]
    threads: Sequence[int] = (1,)


Result = dict[int, dict[str, Array]] | str
"""Outputs by number of threads, or what went wrong."""


@dataclass(frozen=True)
class _Place:
    name: str
    size: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    values: Array | None


@dataclass(frozen=True)
class _Job:
    kernel: BuiltKernel
    places: tuple[_Place, ...]
    threads: tuple[int, ...]


def run_guarded(cases: Sequence[Case], target: Target | None = None) -> dict[str, Result]:
    """Compiles functions and calls each with its buffers right before and right behind a forbidden page.

    Args:
        cases: The functions.
        target: What to compile for; this machine unless told otherwise.

    Returns:
        By name: the outputs, or the compiler's error, a crash, a write outside what belongs to a buffer, or outputs
        that depend on where the buffers lie.
    """
    results: dict[str, Result] = {}
    jobs: list[tuple[str, _Job]] = []
    for case in cases:
        try:
            (kernel,) = built([case.function], target)
        except TCompilerError as error:
            results[case.name] = f"{type(error).__name__}: {error}"
            continue
        jobs.append((case.name, _Job(kernel, _places(case), tuple(case.threads))))
    while jobs:
        done = _in_process([job for _, job in jobs])
        for (name, _), result in zip(jobs, done, strict=False):
            results[name] = result
        jobs = jobs[len(done) :]
    return results


def _places(case: Case) -> tuple[_Place, ...]:
    buffers = buffer_table(case.function)
    found = []
    for name in (*case.function.inputs, *case.function.outputs):
        b = buffers[name]
        shape = tuple(as_int(e) or 0 for e in b.shape)
        strides = tuple(s * b.dtype.bytes for s in constant_strides(b))
        values = case.inputs[name] if name in case.function.inputs else None
        found.append(_Place(name, buffer_bytes(b), b.dtype.numpy, shape, strides, values))
    return tuple(found)


def _in_process(jobs: Sequence[_Job]) -> list[Result]:
    """Results of the first jobs: all, or up to and with one that crashes."""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", "from tests.backends.guarded import serve; serve()"],
        input=pickle.dumps(list(jobs)),
        capture_output=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
        timeout=120,
    )
    results: list[Result] = []
    answers = run.stdout
    while answers:
        size = int.from_bytes(answers[:8], "little")
        results.append(pickle.loads(answers[8 : 8 + size]))
        answers = answers[8 + size :]
    if run.returncode:
        results.append(f"crashed with {run.returncode}: {run.stderr.decode(errors='replace')[-2000:]}")
    return results


def serve() -> None:
    """The other process: reads jobs, answers each with its result as soon as it has it."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for job in pickle.load(sys.stdin.buffer):
        answer = pickle.dumps(_result(job))
        answers.write(len(answer).to_bytes(8, "little") + answer)
        answers.flush()


def _result(job: _Job) -> Result:
    found: dict[int, dict[str, Array]] = {}
    for threads in job.threads:
        for at_end in (True, False):
            outputs = _call(job, threads, at_end)
            if isinstance(outputs, str):
                return f"{outputs} ({threads} threads, buffers {'before' if at_end else 'behind'} a guard)"
            before = found.setdefault(threads, outputs)
            for name, array in outputs.items():
                if array.tobytes() != before[name].tobytes():
                    return f"{name} depends on where the buffers lie ({threads} threads)"
    return found


def _call(job: _Job, threads: int, at_end: bool) -> dict[str, Array] | str:
    memories = [_Memory(p.size, at_end) for p in job.places]
    views = [_view(m.bytes, p) for m, p in zip(memories, job.places, strict=True)]
    for view, place in zip(views, job.places, strict=True):
        if place.values is not None:
            view[...] = place.values
    before = [m.whole.copy() for m in memories]
    call_kernel(job.kernel, [m.bytes for m in memories], threads)
    outputs: dict[str, Array] = {}
    for memory, place, old in zip(memories, job.places, before, strict=True):
        if place.values is None:
            outputs[place.name] = _view(memory.bytes, place).copy()
            _view(old[memory.start : memory.start + place.size], place)[...] = outputs[place.name]
        if not np.array_equal(old, memory.whole):
            return f"{place.name} is written where it must not be"
    for memory in memories:
        memory.free()
    return outputs


def _view(memory: Array, place: _Place) -> Array:
    if not place.size:
        return np.empty(place.shape, place.dtype)
    return np.lib.stride_tricks.as_strided(memory.view(place.dtype), place.shape, place.strides)


class _Memory:
    """Bytes at the end of their pages or at the start, between pages without any access."""

    def __init__(self, size: int, at_end: bool) -> None:
        pages = -(-max(size, 1) // PAGE) * PAGE
        self._length = pages + 2 * PAGE
        self._base = _LIBC.mmap(None, self._length, 3, 0x22, -1, 0)
        for guard in (self._base, self._base + PAGE + pages):
            if _LIBC.mprotect(guard, PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.start = pages - size if at_end else 0
        self.whole: Array = np.frombuffer((ctypes.c_uint8 * pages).from_address(self._base + PAGE), np.uint8)
        self.whole[:] = FILL
        self.bytes = self.whole[self.start : self.start + size]

    def free(self) -> None:
        """Gives the memory back."""
        _LIBC.munmap(self._base, self._length)


_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_size_t
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_LIBC.mprotect.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
_LIBC.munmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
