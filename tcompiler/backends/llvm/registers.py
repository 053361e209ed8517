"""The contents of register buffers as SSA values: runs of elements, carried through loops by phis made on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tcompiler.backends.llvm.ssa import Value


class Carried:
    """A run of registers at the start of a loop's body: a phi, if the body reads it before it writes it.

    Args:
        phis: The loop's phis so far: run to the phi's name and its value before the loop.
        run: Buffer and start.
        before: The value before the loop, which may itself be carried by a loop around.
        name: Makes a fresh name.
    """

    __slots__ = ("_before", "_name", "_phis", "_run", "value")

    def __init__(
        self,
        phis: dict[tuple[str, int], tuple[Value, Value]],
        run: tuple[str, int],
        before: Lazy,
        name: Callable[[], str],
    ) -> None:
        self._phis = phis
        self._run = run
        self._before = before
        self._name = name
        self.value: Value | None = None

    def force(self) -> Value:
        """The phi, made now if it was not needed before."""
        if self.value is None:
            before = forced(self._before)
            self.value = Value(self._name(), before.dtype, before.lanes)
            self._phis[self._run] = (self.value, before)
        return self.value

    def outside(self) -> Lazy:
        """What stands for the run behind the loop if the body left it alone."""
        return self.value if self.value is not None else self._before


class Element:
    """One element of a run that another run has overwritten in part; extracted only if somebody reads it."""

    __slots__ = ("_extract", "_value", "lane", "parent")

    def __init__(self, parent: Lazy, lane: int, extract: Callable[[Value, int], Value]) -> None:
        self.parent = parent
        self.lane = lane
        self._extract = extract
        self._value: Value | None = None

    def force(self) -> Value:
        """The element's value."""
        if self._value is None:
            self._value = self._extract(forced(self.parent), self.lane)
        return self._value

    def outside(self, ended: Carried) -> Element:
        """The same behind a loop that has ended."""
        if self.parent is not ended or self._value is not None:
            return self
        return Element(ended.outside(), self.lane, self._extract)


Lazy = Value | Carried | Element


def forced(x: Lazy) -> Value:
    """The value of a run."""
    return x if isinstance(x, Value) else x.force()


Run = tuple[Lazy, int]
"""A run of register elements: its value and its length."""


class Registers:
    """The contents of register buffers as SSA values: runs of elements as they were written, by buffer and start."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, Run]] = {}

    def snapshot(self) -> dict[tuple[str, int], Run]:
        """Every run with its value and length, for phis and merges."""
        return {(b, start): run for b, runs in self.runs.items() for start, run in runs.items()}

    def restore(self, snapshot: Mapping[tuple[str, int], Run]) -> None:
        """Goes back to a snapshot."""
        self.runs = {}
        for (buffer, start), run in snapshot.items():
            self.runs.setdefault(buffer, {})[start] = run

    def covering(self, buffer: str, element: int) -> tuple[int, Value, int] | None:
        """The run that holds an element: its start, value and length."""
        for start, (value, length) in self.runs.get(buffer, {}).items():
            if start <= element < start + length:
                return start, forced(value), length
        return None
