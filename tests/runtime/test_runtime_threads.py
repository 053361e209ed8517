"""Thread runtimes: teams, concurrent callers, forks, and the floating-point environment, each in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tcompiler.errors import UserError
from tcompiler.runtime import threads

HERE = Path(__file__).parent

PROGRAM = """
import ctypes, os, sys, threading, time
from tcompiler.runtime import abi, loader
from tcompiler.runtime.threads import thread_runtime

# Counts each (thread, team) in the i64 matrix [8][8] of the closure.
BODY = '''
define internal void @body(ptr %ctx, ptr %counts, i64 %t, i64 %team) {
  %row = mul i64 %t, 8
  %at = add i64 %row, %team
  %cell = getelementptr i64, ptr %counts, i64 %at
  %before = atomicrmw add ptr %cell, i64 1 monotonic
  ret void
}
define internal void @nested_body(ptr %ctx, ptr %counts, i64 %t, i64 %team) {
  %parallel = load ptr, ptr %ctx
  call void %parallel(ptr %ctx, ptr @body, ptr %counts, i64 8)
  ret void
}
define void @loop(ptr %ctx, ptr %counts, ptr %n) {
  %parallel = load ptr, ptr %ctx
  %items = load i64, ptr %n
  call void %parallel(ptr %ctx, ptr @body, ptr %counts, i64 %items)
  ret void
}
define void @nested(ptr %ctx, ptr %counts, ptr %n) {
  %parallel = load ptr, ptr %ctx
  call void %parallel(ptr %ctx, ptr @nested_body, ptr %counts, i64 8)
  ret void
}
define internal void @halve_body(ptr %ctx, ptr %values, i64 %t, i64 %team) {
  %cell = getelementptr float, ptr %values, i64 %t
  %value = load float, ptr %cell
  %half = fmul float %value, 0.5
  store float %half, ptr %cell
  ret void
}
define void @halve(ptr %ctx, ptr %values, ptr %n) {
  %parallel = load ptr, ptr %ctx
  call void %parallel(ptr %ctx, ptr @halve_body, ptr %values, i64 8)
  ret void
}
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse.stmxcsr(ptr)
define void @set_mxcsr(ptr %value) {
  call void @llvm.x86.sse.ldmxcsr(ptr %value)
  ret void
}
define void @get_mxcsr(ptr %value) {
  call void @llvm.x86.sse.stmxcsr(ptr %value)
  ret void
}
'''
library = loader.load_ir(BODY, {}, ["loop", "nested", "halve", "set_mxcsr", "get_mxcsr"])

def call(symbol, data, team, items=8):
    runtime = thread_runtime()
    context = abi.Context(runtime.address, team, None, 0)
    n = ctypes.c_int64(items)
    invocation = abi.Invocation(
        library.addresses[symbol], ctypes.addressof(context), ctypes.addressof(data), ctypes.addressof(n))
    abi.ENTER_PROTOTYPE(runtime.enter)(ctypes.addressof(invocation))

def counts_of(symbol, team, items=8, times=1):
    counts = (ctypes.c_int64 * 64)()
    for _ in range(times):
        call(symbol, counts, team, items)
    return {(i // 8, i % 8): c for i, c in enumerate(counts) if c}
"""


def run(kind: str, program: str, **environment: str) -> str:
    """Run a program with one thread runtime in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), threads.OVERRIDE: kind, **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
        env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@cache
def available_kinds() -> list[str]:
    # Asked in another process, so that no OpenMP runtime gets into this one.
    return run("", """
from tcompiler.runtime import threads
for kind, library in threads._SYSTEM_LIBRARIES:
    if loader.symbol_addresses(library, ["omp_get_num_threads"]): print(kind)
print("pool")
""").split()  # fmt: skip


@pytest.fixture(params=["omp", "gomp", "pool"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in available_kinds():
        pytest.skip(f"no OpenMP runtime of kind {name!r} is installed")
    return name


def test_teams(kind: str) -> None:
    assert run(kind, """
print(thread_runtime().kind)
for team, items in ((1, 8), (2, 8), (3, 8), (4, 2), (4, 1), (4, 0), (4, -3)):
    print(team, items, counts_of("loop", team, items))
print(counts_of("loop", 3, times=5000))
""") == f"""{kind}
1 8 {{(0, 1): 1}}
2 8 {{(0, 2): 1, (1, 2): 1}}
3 8 {{(0, 3): 1, (1, 3): 1, (2, 3): 1}}
4 2 {{(0, 2): 1, (1, 2): 1}}
4 1 {{(0, 1): 1}}
4 0 {{(0, 1): 1}}
4 -3 {{(0, 1): 1}}
{{(0, 3): 5000, (1, 3): 5000, (2, 3): 5000}}
"""  # fmt: skip


def test_each_part_is_run_once_where_threads_outnumber_processors() -> None:
    # Most workers come too late here, so that the caller takes their parts back.
    assert run("pool", """print(counts_of("loop", 7, times=3000))""") == (
        "{(0, 7): 3000, (1, 7): 3000, (2, 7): 3000, (3, 7): 3000, (4, 7): 3000, (5, 7): 3000, (6, 7): 3000}\n"
    )


def test_every_team_does_all_of_its_work_when_many_call_at_once(kind: str) -> None:
    # Teams may be smaller than asked for, but each must be complete: as many calls for thread 0 of a size as for all.
    assert run(kind, """
counts = (ctypes.c_int64 * 64)()
def caller():
    for _ in range(400):
        call("loop", counts, 3)
callers = [threading.Thread(target=caller) for _ in range(4)]
for c in callers: c.start()
for c in callers: c.join()
seen = {(i // 8, i % 8): c for i, c in enumerate(counts) if c}
for (t, team), count in seen.items():
    assert count == seen[0, team], seen
print(sum(count for (t, team), count in seen.items() if t == 0))
""") == "1600\n"  # fmt: skip


def test_idle_workers_wake_up_again(kind: str) -> None:
    assert run(kind, """
for _ in range(3):
    time.sleep(0.02)
    print(counts_of("loop", 2))
""") == "{(0, 2): 1, (1, 2): 1}\n" * 3  # fmt: skip


def test_a_forked_child_has_threads_of_its_own(kind: str) -> None:
    out = run(kind, """
print(counts_of("loop", 2))
sys.stdout.flush()
child = os.fork()
os.write(1, f"{thread_runtime().kind} {counts_of('loop', 2, times=100)}\\n".encode())  # whole, as the other writes, too
if child:
    assert os.waitpid(child, 0)[1] == 0
""")  # fmt: skip
    lines = out.splitlines()
    child_kind = "pool" if kind == "gomp" else kind
    assert lines[0] == "{(0, 2): 1, (1, 2): 1}"
    assert sorted(lines[1:]) == sorted(f"{k} {{(0, 2): 100, (1, 2): 100}}" for k in (kind, child_kind))


def test_a_nested_call_of_the_pool_runs_inline() -> None:
    assert run("pool", """print(counts_of("nested", 3))""") == "{(0, 1): 3}\n"


def test_denormals_survive_whatever_the_caller_set(kind: str) -> None:
    # 0x9FC0: flush to zero, denormals are zero. The workers are started by a thread that has it set.
    assert run(kind, """
values = (ctypes.c_float * 2)(1e-39, 1e-39)
mxcsr = ctypes.c_uint32(0x9FC0)
ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library.addresses["set_mxcsr"])(ctypes.addressof(mxcsr))
call("halve", values, 2)
after = ctypes.c_uint32()
ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library.addresses["get_mxcsr"])(ctypes.addressof(after))
plain = ctypes.c_uint32(0x1F80)
ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library.addresses["set_mxcsr"])(ctypes.addressof(plain))
print(list(values) == [ctypes.c_float(5e-40).value] * 2, hex(after.value & 0xFFC0))
""") == "True 0x9fc0\n"  # fmt: skip


def test_an_openmp_runtime_that_is_loaded_comes_first() -> None:
    if "gomp" not in available_kinds():
        pytest.skip("no OpenMP runtime is installed")
    out = run("", """
ctypes.CDLL("libgomp.so.1")
runtime = thread_runtime()
print(runtime.kind, os.path.basename(runtime.library), os.path.isabs(runtime.library))
""")  # fmt: skip
    name = out.split()[1]
    assert out == f"gomp {name} True\n"
    assert name.startswith("libgomp.so.1")


def test_the_inline_runtime_loads_nothing() -> None:
    assert run("", """
from tcompiler.runtime.threads import loaded_openmp
runtime = thread_runtime(parallel=False)
print(runtime.kind, runtime.library, loaded_openmp(), runtime is thread_runtime(parallel=False))
""") == "inline None [] True\n"  # fmt: skip


def test_libraries_are_recognised_by_name() -> None:
    names = {
        "/usr/lib/libgomp.so.1.0.0": "gomp",
        "/site-packages/x.libs/libgomp-a34b3233.so.1.0.0": "gomp",
        "/opt/lib/libiomp5.so": "iomp5",
        "/usr/lib/llvm-14/lib/libomp.so.5": "omp",
        "/usr/lib/libcompat.so.1": None,
        "/usr/lib/libXcomposite.so.1": None,
        "/home/libomp/readme": None,
    }
    found = {path: threads._LOADED.match(path) for path in names}
    assert {path: match and match["name"] for path, match in found.items()} == names


def test_an_unknown_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.OVERRIDE, "tbb")
    monkeypatch.setattr(threads, "_chosen", {})
    with pytest.raises(UserError) as caught:
        threads.thread_runtime()
    assert str(caught.value) == "TCOMPILER_THREADS_RUNTIME is 'tbb'; it can be 'omp', 'gomp' or 'pool'"


def test_a_kind_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.OVERRIDE, "omp")
    monkeypatch.setattr(threads, "_chosen", {})
    monkeypatch.setattr(threads, "_SYSTEM_LIBRARIES", (("omp", "libno-such-omp.so"),))
    monkeypatch.setattr(threads, "loaded_openmp", list)
    with pytest.raises(UserError) as caught:
        threads.thread_runtime()
    assert str(caught.value) == (
        "TCOMPILER_THREADS_RUNTIME is 'omp', but no such OpenMP runtime is installed; 'pool' always works"
    )
