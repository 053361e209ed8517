"""Runs small LLVM modules in this process, on as many threads as asked, for measurements."""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm

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
