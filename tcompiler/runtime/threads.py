"""The threads that compiled code runs on: an OpenMP runtime that is there already, else a pool of ours.

A process should have one set of threads that spin for work: two disturb each other. So the first choice is an OpenMP
runtime that some other library has loaded, the second the pool in `pool.py`: it forks and joins in 0.2 us where GNU's
takes 0.8, loses a sixth as much where there are more threads than cores, and survives a fork. The system's OpenMP is
taken where the environment asks for it. The functions
`parallel` and `enter` (see `abi.py`) are adapters in LLVM text; a fork and join through them costs below a microsecond
while the workers still spin.

How long idle workers spin is the OpenMP runtime's matter: 200 ms for LLVM's and Intel's (`KMP_BLOCKTIME`), some
milliseconds for GNU's (`GOMP_SPINCOUNT`, `OMP_WAIT_POLICY`). Ours spin for 2 ms and then sleep.

GNU's runtime does not survive a fork: a child of a process that used it gets the pool. LLVM's and Intel's handle forks
themselves, and the pool is reset in the child.

Floating-point environment: `enter` and every worker run compiled code under the default MXCSR (round to nearest,
denormals kept, exceptions masked) and restore the caller's, so that a library which switched denormals off in some
thread does not change results.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from dataclasses import dataclass
from typing import Literal

from tcompiler.errors import UserError
from tcompiler.runtime import loader
from tcompiler.runtime.adapters import GOMP, GOMP_IMPORTS, INLINE, KMP, KMP_IMPORTS
from tcompiler.runtime.pool import POOL, POOL_IMPORTS

Kind = Literal["omp", "gomp", "pool", "inline"]

OVERRIDE = "TCOMPILER_THREADS_RUNTIME"
"""Environment variable that forces a kind: `omp`, `gomp` or `pool`."""

_SYSTEM_LIBRARIES: tuple[tuple[Kind, str], ...] = (
    ("omp", "libomp.so.5"),
    ("omp", "libomp.so"),
    ("omp", "libiomp5.so"),
    ("gomp", "libgomp.so.1"),
)

_LOADED = re.compile(r"^/.*/lib(?P<name>iomp5|omp|gomp)[^/]*\.so[^/]*$")


@dataclass(frozen=True, slots=True)
class ThreadRuntime:
    """How compiled code gets its threads in this process.

    Attributes:
        kind: `omp` (LLVM's or Intel's OpenMP), `gomp` (GNU's), `pool` (ours), or `inline` (the calling thread only).
        library: Path or name of the OpenMP library; None for `pool` and `inline`.
        address: Address of the native `parallel` function, for `Context.parallel`.
        enter: Address of the native `enter(Invocation*)`.
    """

    kind: Kind
    library: str | None
    address: int
    enter: int


_lock = threading.Lock()
_chosen: dict[bool, ThreadRuntime] = {}
_pool_reset: list[int] = []
_gomp_lost = False
fork_count = 0
"""How many forks lie between this process and the one that first imported this module."""


def thread_runtime(parallel: bool = True) -> ThreadRuntime:
    """Choose this process's thread runtime at the first call, and return the same one at later calls.

    Args:
        parallel: False gives the `inline` runtime, which loads no library and starts no thread.

    Returns:
        The runtime.

    Raises:
        UserError: `TCOMPILER_THREADS_RUNTIME` names a kind that does not exist, or that this machine lacks.
    """
    with _lock:
        runtime = _chosen.get(parallel)
        if runtime is None:
            runtime = _chosen[parallel] = _choose() if parallel else _load("inline", None, INLINE, {})
        return runtime


def loaded_openmp() -> list[tuple[Kind, str]]:
    """List the OpenMP runtimes mapped into this process, best first, as (kind, path)."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            lines = [line.rstrip("\n") for line in maps if "omp" in line]
    except OSError:
        return []
    found: list[tuple[Kind, str]] = []
    for line in dict.fromkeys(line[line.find("/") :] for line in lines):
        match = _LOADED.match(line)
        if match:
            found.append(("gomp" if match["name"] == "gomp" else "omp", line))
    return sorted(found, key=lambda item: item[0] == "gomp")


def _choose() -> ThreadRuntime:
    wanted = os.environ.get(OVERRIDE)
    if wanted not in (None, "", "omp", "gomp", "pool"):
        raise UserError(f"{OVERRIDE} is {wanted!r}; it can be 'omp', 'gomp' or 'pool'")
    for kind, library in (*loaded_openmp(), *(_SYSTEM_LIBRARIES if wanted else ())):
        if (wanted and kind != wanted) or (kind == "gomp" and _gomp_lost):
            continue
        imports = KMP_IMPORTS if kind == "omp" else GOMP_IMPORTS
        addresses = loader.symbol_addresses(library, imports)
        if addresses is not None:
            return _load(kind, library, KMP if kind == "omp" else GOMP, addresses)
    if wanted in ("omp", "gomp") and not (wanted == "gomp" and _gomp_lost):
        raise UserError(f"{OVERRIDE} is {wanted!r}, but no such OpenMP runtime is installed; 'pool' always works")
    addresses = loader.symbol_addresses(None, POOL_IMPORTS)
    assert addresses is not None, "the C library has pthread_create and syscall"
    return _load("pool", None, POOL, addresses)


def _load(kind: Kind, library: str | None, text: str, imports: dict[str, int]) -> ThreadRuntime:
    exports = ["tc_parallel", "tc_enter", *(["tc_pool_reset"] if kind == "pool" else [])]
    code = loader.load_ir(text, imports, exports)
    # Pool threads never leave this code, and a model may outlive this module at interpreter exit.
    code.keep_forever()
    if kind == "pool":
        _pool_reset.append(code.addresses["tc_pool_reset"])
    return ThreadRuntime(kind, library, code.addresses["tc_parallel"], code.addresses["tc_enter"])


def _after_fork_in_child() -> None:
    # The child has the forking thread only: a pool must begin anew, and GNU's threads are gone for good.
    global fork_count, _gomp_lost, _lock
    fork_count += 1
    _lock = threading.Lock()
    for address in _pool_reset:
        ctypes.CFUNCTYPE(None)(address)()
    runtime = _chosen.get(True)
    if runtime is not None and runtime.kind == "gomp":
        _gomp_lost = True
        del _chosen[True]


os.register_at_fork(after_in_child=_after_fork_in_child)
