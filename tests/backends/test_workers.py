"""Compiling processes: results, failures, crashes, time limits, and what they import."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from tcompiler.backends.llvm import workers
from tcompiler.backends.llvm.workers import (
    CompiledObject,
    CompileFailure,
    CompileJob,
    compile_objects,
    start_workers,
    stop_workers,
)
from tcompiler.runtime.loader import load_objects

ROOT = Path(__file__).parents[2]
TRIPLE = llvm.get_process_triple()

TIMES = """
define i64 @{name}(i64 %x) {{
  %y = mul i64 %x, {factor}
  ret i64 %y
}}
"""

# What LLVM aborts on: inline assembly, for which these processes load no assembler.
CRASH = 'define void @f() {\n  call void asm sideeffect "nonsense", ""()\n  ret void\n}\n'


def job(key: str, text: str, **options: object) -> CompileJob:
    made = CompileJob(key, text, TRIPLE, "x86-64-v3", "")
    return replace(made, **options)  # type: ignore[arg-type]


def times(factor: int) -> CompileJob:
    return job(f"times{factor}", TIMES.format(name=f"times{factor}", factor=factor))


def apply(result: object, name: str, x: int) -> int:
    assert isinstance(result, CompiledObject), result
    library = load_objects([result.object_bytes], [name])
    return int(ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(library.addresses[name])(x))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_results_come_in_the_order_of_jobs(processes: int) -> None:
    jobs = [times(factor) for factor in (2, 33333, 4, 555, 6)]
    results = compile_objects(jobs, processes)
    assert [result.key for result in results] == [one.key for one in jobs]
    for result, factor in zip(results, (2, 33333, 4, 555, 6), strict=True):
        assert apply(result, f"times{factor}", 7) == 7 * factor


def test_jobs_are_made_while_others_are_compiled() -> None:
    stop_workers()
    seen: list[int] = []

    def made() -> Iterator[CompileJob]:
        for factor in (2, 3, 4, 5):
            yield times(factor)
            # the job before is on its way: its process was started before the next job is asked for
            seen.append(len(workers._idle))

    results = compile_objects(made(), 2)
    assert [apply(r, f"times{f}", 7) for r, f in zip(results, (2, 3, 4, 5), strict=True)] == [14, 21, 28, 35]
    assert seen == [0, 0, 0, 0]
    assert len(workers._idle) == 2


def test_jobs_that_cannot_be_made_end_the_processes_at_work() -> None:
    stop_workers()

    def made() -> Iterator[CompileJob]:
        yield times(2)
        raise ValueError("no more")

    with pytest.raises(ValueError, match=r"^no more$"):
        compile_objects(made(), 2)
    assert workers._idle == []
    (result,) = compile_objects([times(3)], 2)
    assert apply(result, "times3", 7) == 21


def test_no_jobs() -> None:
    assert compile_objects(iter(()), 2) == []
    assert compile_objects([], 2) == []


def test_the_same_text_gives_the_same_object() -> None:
    first, second = compile_objects([times(3)] * 2, 2)
    assert isinstance(first, CompiledObject)
    assert first == second


def test_objects_refer_to_each_other_wherever_they_lie() -> None:
    # @far is given as an address beyond the reach of a 32-bit displacement, as memory may be laid out.
    text = "declare i64 @far(i64)\ndefine i64 @near(i64 %x) {\n  %y = call i64 @far(i64 %x)\n  ret i64 %y\n}\n"
    (result,) = compile_objects([job("near", text)], 1)
    assert isinstance(result, CompiledObject)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    # Private, anonymous, at this address and only if it is free.
    at = libc.mmap(0x10_0000_0000, 4096, 7, 0x2 | 0x20 | 0x100000, -1, 0)
    assert at == 0x10_0000_0000
    ctypes.memmove(at, bytes.fromhex("488d047fc3"), 5)  # lea rax, [rdi + 2 * rdi]; ret
    builder = llvm.JITLibraryBuilder().add_object_img(result.object_bytes)
    builder.import_symbol("far", at).export_symbol("near")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    jit = llvm.create_lljit_compiler(use_jit_link=True)
    code = builder.link(jit, "test")
    assert abs(code["near"] - at) > 1 << 32
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code["near"])(14) == 42
    code.close()
    jit.close()
    libc.munmap(ctypes.c_void_p(at), 4096)


def test_assembly_on_request() -> None:
    with_text, without = compile_objects([replace(times(5), assembly=True), times(5)], 1)
    assert isinstance(with_text, CompiledObject) and isinstance(without, CompiledObject)
    assert with_text.assembly is not None and "times5:" in with_text.assembly and "ret" in with_text.assembly
    assert without.assembly is None
    assert with_text.object_bytes == without.object_bytes


def test_the_machine_is_the_one_asked_for() -> None:
    text = """
declare <8 x float> @llvm.fma.v8f32(<8 x float>, <8 x float>, <8 x float>)
define void @f(ptr %p) {
  %a = load <8 x float>, ptr %p
  %b = call <8 x float> @llvm.fma.v8f32(<8 x float> %a, <8 x float> %a, <8 x float> %a)
  store <8 x float> %b, ptr %p
  ret void
}
"""
    modern, named, old = compile_objects(
        [
            job("modern", text, assembly=True),
            job("named", text, cpu="x86-64", features="+avx2,+fma", assembly=True),
            job("old", text, cpu="x86-64", assembly=True),
        ],
        1,
    )
    assert "vfmadd" in str(modern) and "ymm" in str(modern)
    assert "vfmadd" in str(named) and "ymm" in str(named)
    assert "fmaf" in str(old) and "ymm" not in str(old)


def test_passes() -> None:
    text = """
define i64 @f(i64 %x) {
  %slot = alloca i64
  store i64 %x, ptr %slot
  %y = load i64, ptr %slot
  %z = call i64 @twice(i64 %y)
  ret i64 %z
}
define internal i64 @twice(i64 %x) alwaysinline {
  %y = add i64 %x, %x
  ret i64 %y
}
"""
    pipelines = ["", "sroa", "always-inline,sroa,globaldce", "O1", "O2", "O3"]
    results = compile_objects([job("f", text, passes=passes, assembly=True) for passes in pipelines], 2)
    assert all(apply(result, "f", 21) == 42 for result in results)
    memory, call = [["rsp" in str(r) for r in results], ["call" in str(r) for r in results]]
    assert memory == [True, False, False, False, False, False]
    assert call == [True, True, False, False, False, False]


def test_every_documented_pass_exists() -> None:
    documented = str(CompileJob.__doc__).split("single passes: ")[1].split(".")[0]
    names = ["O1", "O2", "O3", *(name.strip() for name in documented.split(","))]
    results = compile_objects([replace(times(2), passes=name) for name in names], 2)
    assert [r for r in results if not isinstance(r, CompiledObject)] == []
    (unknown,) = compile_objects([replace(times(2), passes="sroa,magic")], 1)
    assert unknown == CompileFailure("times2", f"unknown pass 'magic'; there are: {', '.join(names)}")


def test_what_is_wrong_with_a_module() -> None:
    results = compile_objects(
        [
            job("syntax", "define i64 @f(i64 %x) {\n  %y = add i32 %x, 1\n  ret i64 %x\n}\n"),
            times(2),
            job("rule", "define token @f() {\n  ret token none\n}\n"),
            job("triple", TIMES.format(name="f", factor=2), triple="nonsense"),
        ],
        2,
    )
    assert isinstance(results[1], CompiledObject)
    assert [results[0], *results[2:]] == [
        CompileFailure(
            "syntax",
            "LLVM IR parsing error\n<string>:2:16: error: '%x' defined with type 'i64' but expected 'i32'\n"
            "  %y = add i32 %x, 1\n               ^",
        ),
        CompileFailure("rule", "Function returns a token but isn't an intrinsic\nptr @f"),
        CompileFailure("triple", 'No available targets are compatible with triple "nonsense"'),
    ]


def test_a_crash_takes_nothing_else_down() -> None:
    jobs = [times(i) for i in range(2, 8)]
    jobs[1:1] = [job("crash", CRASH + "; long, so it comes first" * 10)]
    jobs.append(job("crash too", CRASH))
    results = compile_objects(jobs, 2)
    crashes = [result for result in results if isinstance(result, CompileFailure)]
    assert [crash.key for crash in crashes] == ["crash", "crash too"]
    for crash in crashes:
        assert crash.message == (
            "the compiling process ended by signal SIGABRT: LLVM ERROR: Inline asm not supported by this streamer "
            "because we don't have an asm parser for this target"
        )
    assert sum(isinstance(result, CompiledObject) for result in results) == 6


def test_a_killed_process_is_replaced() -> None:
    stop_workers()
    start_workers(1)
    (worker,) = workers._idle
    os.kill(worker._process.pid, signal.SIGKILL)
    worker._process.wait()
    (failed,) = compile_objects([times(2)], 1)
    assert failed == CompileFailure("times2", "the compiling process ended by signal SIGKILL")
    (result,) = compile_objects([times(2)], 1)
    assert apply(result, "times2", 4) == 8


def test_a_job_that_takes_too_long() -> None:
    slow = "\n".join(f"  %v{i + 1} = udiv i2048 %v{i}, %x" for i in range(300))
    text = f"define void @f(ptr %p, i2048 %x) {{\n  %v0 = load i2048, ptr %p\n{slow}\n  store i2048 %v300, ptr %p\n" \
        "  ret void\n}\n"  # fmt: skip
    (stopped,) = compile_objects([job("slow", text)], 1, timeout=0.5)
    assert stopped == CompileFailure("slow", "compiling took longer than 0.5 s and was stopped")
    (result,) = compile_objects([times(2)], 1)
    assert apply(result, "times2", 4) == 8


def test_large_texts_pass_through_the_pipes() -> None:
    padding = "; " + "x" * 3_000_000 + "\n"
    (result,) = compile_objects([job("f", padding + TIMES.format(name="f", factor=3))], 1)
    assert apply(result, "f", 5) == 15


def test_processes_are_kept_and_shared() -> None:
    stop_workers()
    start_workers(2)
    start_workers(2)
    pids = {worker._process.pid for worker in workers._idle}
    assert len(pids) == 2
    compile_objects([times(i) for i in range(1, 9)], 2)
    assert {worker._process.pid for worker in workers._idle} == pids
    stop_workers()
    assert workers._idle == []


def test_several_callers_at_once() -> None:
    values: dict[int, list[int]] = {}

    def caller(base: int) -> None:
        factors = range(base, base + 5)
        results = compile_objects([times(f) for f in factors], 2)
        values[base] = [apply(r, f"times{f}", 3) for r, f in zip(results, factors, strict=True)]

    callers = [threading.Thread(target=caller, args=(base,)) for base in (10, 20, 30)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert values == {base: [3 * f for f in range(base, base + 5)] for base in (10, 20, 30)}


def test_processes_end_with_their_parent_and_import_nothing_of_ours() -> None:
    program = """
from tcompiler.backends.llvm import workers
import sys
assert "numpy" not in sys.modules and "llvmlite" not in sys.modules
workers.start_workers(2)
job = workers.CompileJob("f", "define void @f() { ret void }", sys.argv[1], "", "")
assert isinstance(workers.compile_objects([job], 1)[0], workers.CompiledObject)
for worker in workers._idle:
    mapped = open(f"/proc/{worker._process.pid}/maps").read()
    print(worker._process.pid, "numpy" in mapped)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, TRIPLE],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [numpy for _, numpy in lines] == ["False"] * 2
    assert not any(Path(f"/proc/{pid}").exists() for pid, _ in lines)


def test_a_forked_child_starts_processes_of_its_own() -> None:
    start_workers(1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert workers._idle == []
            (result,) = compile_objects([times(9)], 1)
            status = 0 if isinstance(result, CompiledObject) else 2
            stop_workers()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    (result,) = compile_objects([times(9)], 1)
    assert isinstance(result, CompiledObject)
