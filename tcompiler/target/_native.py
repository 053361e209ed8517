"""Runs small LLVM modules in this process, on as many threads as asked, for measurements."""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from tcompiler.errors import UserError
from tcompiler.target.target import Target

_serial = itertools.count()


class NativeFunction:
    """A function of a module compiled for a target; calls release Python's lock.

    Args:
        target: A machine that this process can run code for.
        ir: The module's text, without a triple.
        name: The function.
        argument_types: ctypes of its arguments; it returns nothing.

    Attributes:
        entry: The function as ctypes calls it.
    """

    def __init__(self, target: Target, ir: str, name: str, argument_types: Sequence[Any]) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.llvm_features, opt=2, jit=True
        )
        self._jit = llvm.create_lljit_compiler(machine)
        builder = llvm.JITLibraryBuilder().add_ir(f'target triple = "{target.triple}"\n{ir}').export_symbol(name)
        self._library = builder.link(self._jit, f"{name}.{next(_serial)}")
        self.entry = ctypes.CFUNCTYPE(None, *argument_types)(self._library[name])

    def __call__(self, *arguments: Any) -> None:
        """Calls it."""
        self.entry(*arguments)


def passes_ir(
    name: str,
    step: int,
    *,
    inner: Sequence[str],
    body: Sequence[str],
    stored: Sequence[str] = (),
    outer: Sequence[str] = (),
    end: Sequence[str] = (),
) -> str:
    """The text of a function (ptr %a, ptr %b, ptr %c, i64 %n, i64 %passes) that loops over arrays again and again.

    Args:
        name: Of the function.
        step: What one iteration adds to %i, which runs up to %n.
        inner: Phis of the loop, from %pass.
        body: Of the loop.
        stored: What follows each pass.
        outer: Phis of the passes, from %entry and %pass.end.
        end: What follows all passes.
    """
    return "\n".join(
        [
            f"define void @{name}(ptr noalias %a, ptr noalias %b, ptr noalias %c, i64 %n, i64 %passes) {{",
            "entry:",
            "  br label %pass",
            "pass:",
            "  %p = phi i64 [ 0, %entry ], [ %p.next, %pass.end ]",
            *outer,
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %pass ], [ %i.next, %loop ]",
            *inner,
            *body,
            f"  %i.next = add i64 %i, {step}",
            "  %more = icmp slt i64 %i.next, %n",
            "  br i1 %more, label %loop, label %pass.end",
            "pass.end:",
            *stored,
            "  %p.next = add i64 %p, 1",
            "  %again = icmp slt i64 %p.next, %passes",
            "  br i1 %again, label %pass, label %end",
            "end:",
            *end,
            "  ret void",
            "}",
        ]
    )


def wall_seconds(bodies: Sequence[Callable[[], object]]) -> float:
    """Seconds from the first start to the last end of the bodies, each on a thread of its own; one runs right here."""
    if len(bodies) == 1:
        start = time.perf_counter()
        bodies[0]()
        return time.perf_counter() - start
    barrier = threading.Barrier(len(bodies))
    spans: list[tuple[float, float]] = []

    def run(body: Callable[[], object]) -> None:
        barrier.wait()
        start = time.perf_counter()
        body()
        spans.append((start, time.perf_counter()))

    threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)


def best_seconds(make_bodies: Callable[[int], Sequence[Callable[[], object]]], seconds: float) -> tuple[float, int]:
    """The shortest time of a piece of work, over rounds that take `seconds` in all.

    Args:
        make_bodies: Given a count of repetitions, one body for each thread.
        seconds: How long to measure.

    Returns:
        The time of the best round, and the repetitions in a round: about a sixteenth of `seconds` long.
    """
    repetitions = 1
    while (spent := wall_seconds(make_bodies(repetitions))) < seconds / 64:
        repetitions *= 4
    repetitions = max(1, round(repetitions * seconds / 16 / spent))
    bodies = make_bodies(repetitions)
    best, end = wall_seconds(bodies), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, wall_seconds(bodies))
    return best, repetitions


def aligned_ones(size: int, dtype: type[np.floating]) -> np.ndarray[tuple[int], np.dtype[np.floating]]:
    """`size` ones that start at a cache line."""
    width = np.dtype(dtype).itemsize
    whole = np.ones(size + 64 // width, dtype)
    skip = -whole.ctypes.data % 64 // width
    return whole[skip : skip + size]


def check_threads(threads: int) -> None:
    """Refuse a measurement on no thread."""
    if threads < 1:
        raise UserError(f"a measurement needs at least 1 thread, found {threads}")
