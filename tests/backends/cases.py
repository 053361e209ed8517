"""Functions given as text, compiled for two machines, and compared with the interpreter.

Every buffer ends right before a page that nobody may touch, and then begins right behind one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tcompiler.ir.loop.grammar import buffer_table
from tcompiler.ir.loop.interpret import interpret
from tcompiler.ir.loop.text import parse_function
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.target.named import get
from tests.backends.guarded import Case, Result, run_guarded
from tests.backends.kernels import Array, assert_same

MACHINES = ["host", "x86-64-v2"]


class Cases:
    """Functions by name; those of a file are built and run together, in one guarded process for each machine."""

    def __init__(self) -> None:
        self.named: dict[str, Case] = {}
        self._results: dict[str, Mapping[str, Result]] = {}

    def add(self, name: str, text: str, threads: tuple[int, ...] = (1,), **given: object) -> None:
        """A function from its text, on the given arrays and otherwise on small numbers."""
        function = parse_function("@loop.function\n" + text.strip("\n") + "\n")
        verify(function)
        buffers = buffer_table(function)
        inputs: dict[str, Array] = {}
        for k, n in enumerate(function.inputs):
            b = buffers[n]
            shape = tuple(as_int(e) or 0 for e in b.shape)
            if n in given:
                inputs[n] = np.array(given[n], b.dtype.numpy).reshape(shape)
            else:
                numbers = np.random.default_rng(k).integers(0, 2 if b.dtype.kind == "bool" else 100, shape)
                inputs[n] = numbers.astype(b.dtype.numpy)
        assert name not in self.named
        self.named[name] = Case(name, function, inputs, threads)

    def check(self, name: str, machine: str) -> None:
        """Compares a function's results on a machine with the interpreter's."""
        if machine not in self._results:
            self._results[machine] = run_guarded(list(self.named.values()), get(machine))
        given, found = self.named[name], self._results[machine][name]
        assert not isinstance(found, str), found
        expected = interpret(given.function, given.inputs)
        for threads in given.threads:
            for output, array in expected.items():
                assert_same(found[threads][output], array, f"{output} with {threads} threads on {machine}")
