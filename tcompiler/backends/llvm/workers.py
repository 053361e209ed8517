"""Compiles LLVM text to object code in processes of their own.

llvmlite holds one lock around LLVM, so threads would take turns; and a process that LLVM aborts takes nothing down
but its job. The processes run `_worker.py`, which imports llvmlite's binding and nothing else. They live until this
process ends. `start_workers` starts them without waiting, so that their imports happen beside this process's own:
this module itself imports the standard library only.
"""

from __future__ import annotations

import atexit
import importlib.util
import marshal
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tcompiler.errors import InternalError

_SCRIPT = Path(__file__).with_name("_worker.py")
_CHUNK = 1 << 20
_STDERR_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class CompileJob:
    """One module to compile.

    Attributes:
        key: The caller's name for it, repeated in the result.
        llvm_text: The module. Its triple and data layout are set from `triple`.
        triple: LLVM target triple.
        cpu: LLVM CPU name, as `-mcpu` takes it.
        features: LLVM features, "+avx2,-avx512f".
        passes: What runs before code generation, in order, separated by commas; "" is nothing. Either the standard
            pipelines `O1`, `O2`, `O3` (without LLVM's own vectorisers and unrolling), or single passes: adce,
            always-inline, constmerge, dce, dse, globaldce, globalopt, gvn, instcombine, ipsccp, jump-threading, lcssa,
            loop-reduce, loop-rotate, loop-simplify, loop-unroll, memcpyopt, reassociate, sccp, simplifycfg, sink, sroa.
        codegen_level: Effort of the code generator, 0 to 3.
        assembly: Whether the result should have assembly text too (this generates code twice).
    """

    key: str
    llvm_text: str
    triple: str
    cpu: str
    features: str
    passes: str = ""
    codegen_level: int = 3
    assembly: bool = False


@dataclass(frozen=True, slots=True)
class CompiledObject:
    """A relocatable object, position-independent and of the small code model, and its assembly text if asked for."""

    key: str
    object_bytes: bytes
    assembly: str | None


@dataclass(frozen=True, slots=True)
class CompileFailure:
    """A job that gave no object: what LLVM says of the module, or how the process ended."""

    key: str
    message: str


CompileResult = CompiledObject | CompileFailure


def start_workers(processes: int) -> None:
    """Start compiling processes, up to a number, without waiting for them.

    Args:
        processes: How many there should be.
    """
    with _lock:
        for _ in range(processes - len(_idle)):
            _idle.append(_Worker())


def compile_objects(jobs: Iterable[CompileJob], processes: int, timeout: float = 300.0) -> list[CompileResult]:
    """Compile modules in parallel.

    Args:
        jobs: The modules. Those of a sequence are taken the longest first; those that an iterator makes one by one are
            compiled while it makes the next.
        processes: How many processes may work on them at once, at least 1.
        timeout: Seconds that one job may take.

    Returns:
        A result for each job, in the jobs' order. A job that fails, takes too long or crashes its process gives a
        `CompileFailure` and does not disturb the others.
    """
    numbered: Iterable[tuple[int, CompileJob]] = enumerate(jobs)
    if isinstance(jobs, Sequence):
        numbered = sorted(numbered, key=lambda x: len(x[1].llvm_text), reverse=True)
    pending: SimpleQueue[tuple[int, CompileJob] | None] = SimpleQueue()
    results: dict[int, CompileResult] = {}
    workers: list[_Worker] = []
    threads: list[threading.Thread] = []
    asked = 0

    def serve(slot: int) -> None:
        while (given := pending.get()) is not None:
            if workers[slot].broken:
                workers[slot] = _Worker()
            results[given[0]] = workers[slot].compile(given[1], timeout)

    try:
        for given in numbered:
            pending.put(given)
            asked += 1
            if len(threads) < max(processes, 1):
                workers += _take(1)
                threads.append(threading.Thread(target=serve, args=(len(threads),), daemon=True))
                threads[-1].start()
        for _ in threads:
            pending.put(None)
        for thread in threads:
            thread.join()
    except BaseException:
        # Interrupted: answers may be under way, so these processes cannot be used again.
        while not pending.empty():
            pending.get()
        for worker in workers:
            pending.put(None)
            worker.kill()
        for thread in threads:
            thread.join()
        for worker in workers:
            worker.close()
        raise
    finally:
        _give_back(workers)
    if len(results) != asked:
        raise InternalError(f"{asked - len(results)} of {asked} modules were not compiled")
    return [results[k] for k in range(asked)]


def stop_workers() -> None:
    """End all idle compiling processes; later jobs start new ones."""
    with _lock:
        while _idle:
            _idle.pop().close()


class _Worker:
    """One compiling process and the pipes to it; serves one job at a time."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("llvmlite")
        if spec is None or spec.origin is None:
            raise InternalError("llvmlite is not installed")
        packages = os.path.dirname(os.path.dirname(spec.origin))
        self.broken = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SCRIPT), packages],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            process_group=0,  # an interrupt from the keyboard is this process's to handle
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._jobs, self._answers = self._process.stdin, self._process.stdout
        os.set_blocking(self._jobs.fileno(), False)
        os.set_blocking(self._answers.fileno(), False)

    def compile(self, job: CompileJob, timeout: float) -> CompileResult:
        fields = (
            job.llvm_text,
            job.passes,
            job.codegen_level,
            job.triple,
            job.cpu,
            job.features,
            job.assembly,
        )
        body = marshal.dumps(fields)
        printed_before = os.fstat(self._errors.fileno()).st_size
        try:
            answer = self._exchange(len(body).to_bytes(4, "little") + body, time.monotonic() + timeout)
        except TimeoutError:
            self.close()
            return CompileFailure(job.key, f"compiling took longer than {timeout:g} s and was stopped")
        except (BrokenPipeError, EOFError):
            message = self._epitaph(printed_before)
            self.close()
            return CompileFailure(job.key, message)
        result = marshal.loads(answer)
        if isinstance(result, str):
            return CompileFailure(job.key, result)
        return CompiledObject(job.key, *result)

    def kill(self) -> None:
        """End the process; whoever waits for its answer learns that there is none."""
        self.broken = True
        self._process.kill()

    def close(self) -> None:
        self.kill()
        self._process.wait()
        self.abandon()

    def abandon(self) -> None:
        """Close this side's ends only."""
        self.broken = True
        for stream in (self._jobs, self._answers, self._errors):
            stream.close()

    def _exchange(self, message: bytes, deadline: float) -> bytes:
        """Send a message and receive one, never blocking past the deadline."""
        unsent = memoryview(message)
        received = bytearray()
        poll = select.poll()
        jobs, answers = self._jobs.fileno(), self._answers.fileno()
        poll.register(answers, select.POLLIN)
        poll.register(jobs, select.POLLOUT)
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            for descriptor, event in poll.poll(remaining * 1000):
                if descriptor == jobs:
                    if event & select.POLLERR:
                        raise BrokenPipeError
                    unsent = unsent[os.write(jobs, unsent) :]
                    if not unsent:
                        poll.unregister(jobs)
                else:
                    data = os.read(answers, _CHUNK)
                    if not data:
                        raise EOFError
                    received += data
                    if len(received) >= 4 and len(received) - 4 >= int.from_bytes(received[:4], "little"):
                        return bytes(memoryview(received)[4:])

    def _epitaph(self, printed_before: int) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        end = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        printed = os.pread(self._errors.fileno(), 1 << 20, printed_before).decode(errors="replace").strip()
        if len(printed) > _STDERR_SHOWN:
            printed = printed[:_STDERR_SHOWN] + " ..."
        return f"the compiling process ended {end}" + (f": {printed}" if printed else "")


_lock = threading.Lock()
_idle: list[_Worker] = []


def _take(count: int) -> list[_Worker]:
    with _lock:
        taken = [_idle.pop() for _ in range(min(count, len(_idle)))]
    return taken + [_Worker() for _ in range(count - len(taken))]


def _give_back(workers: Sequence[_Worker]) -> None:
    with _lock:
        _idle.extend(worker for worker in workers if not worker.broken)


def _after_fork_in_child() -> None:
    # The processes are the parent's.
    global _lock
    _lock = threading.Lock()
    while _idle:
        _idle.pop().abandon()


atexit.register(stop_workers)
os.register_at_fork(after_in_child=_after_fork_in_child)
