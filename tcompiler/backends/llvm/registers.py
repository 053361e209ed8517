"""The contents of register buffers as SSA values: runs of elements, carried through loops by phis made on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tcompiler.backends.llvm.ssa import Value
from tcompiler.ir.dtypes import DType

Place = tuple[str, int, int]
"""Consecutive elements of a register buffer: its name, the first element, and how many they are."""


class OpenLoop:
    """A loop whose body is being written: what it carries in phis.

    Args:
        name: Makes a fresh SSA name.
        outside: Emits a value in front of the loop.

    Attributes:
        phis: By what they carry: the phis so far, and their values in front of the loop.
    """

    __slots__ = ("_name", "_outside", "_undefined", "phis")

    def __init__(self, name: Callable[[], str], outside: Callable[[Lazy], Value]) -> None:
        self._name = name
        self._outside = outside
        self._undefined: dict[Place, Carried] = {}
        self.phis: dict[Place, tuple[Value, Value]] = {}

    def phi(self, place: Place, before: Lazy) -> Value:
        """A new phi."""
        initial = self._outside(before)
        value = Value(self._name(), initial.dtype, initial.lanes)
        self.phis[place] = (value, initial)
        return value

    def undefined(self, place: Place, before: Lazy) -> Carried:
        """Elements without a value at the loop's start: a later iteration may find what an earlier one wrote."""
        if place not in self._undefined:
            self._undefined[place] = Carried(self, place, before)
        return self._undefined[place]


class Carried:
    """A run of registers at the start of a loop's body: a phi, if the body reads it before it writes it.

    Args:
        loop: The loop.
        place: The run.
        before: The value in front of the loop, which may itself be carried by a loop around.
    """

    __slots__ = ("_before", "_place", "loop", "value")

    def __init__(self, loop: OpenLoop, place: Place, before: Lazy) -> None:
        self.loop = loop
        self._place = place
        self._before = before
        self.value: Value | None = None

    def force(self) -> Value:
        """The phi, made now if it was not needed before."""
        if self.value is None:
            self.value = self.loop.phi(self._place, self._before)
        return self.value

    def outside(self) -> Lazy:
        """What stands for the run behind the loop if the body left it alone."""
        return self.value if self.value is not None else self._before


class Element:
    """One element of a run that another run has overwritten in part; extracted wherever somebody reads it."""

    __slots__ = ("_extract", "lane", "parent")

    def __init__(self, parent: Lazy, lane: int, extract: Callable[[Value, int], Value]) -> None:
        self.parent = parent
        self.lane = lane
        self._extract = extract

    def force(self) -> Value:
        """The element's value."""
        return self._extract(forced(self.parent), self.lane)

    def outside(self) -> Element:
        """The same behind the loop that carries the run."""
        return Element(self.parent.outside(), self.lane, self._extract) if isinstance(self.parent, Carried) else self


Lazy = Value | Carried | Element


def forced(x: Lazy) -> Value:
    """The value of a run."""
    return x if isinstance(x, Value) else x.force()


Run = tuple[Lazy, int]
"""A run of register elements: its value and its length."""
Snapshot = Mapping[str, Mapping[int, Run]]


class Registers:
    """The contents of register buffers as SSA values.

    Attributes:
        runs: Runs of elements as they were written, by buffer and start; they do not overlap. A run of one element is
            a scalar, others are vectors of the next power of two.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, Run]] = {}
        self._loops: dict[str, tuple[OpenLoop, ...]] = {}

    def snapshot(self) -> Snapshot:
        """Every run."""
        return {b: dict(runs) for b, runs in self.runs.items()}

    def restore(self, snapshot: Snapshot) -> None:
        """Goes back to a snapshot."""
        self.runs = {b: dict(runs) for b, runs in snapshot.items()}

    def set_aside(self) -> Callable[[], None]:
        """Forgets everything, as another function begins; gives what brings it back."""
        runs, loops = self.runs, self._loops
        self.runs, self._loops = {}, {}

        def bring_back() -> None:
            self.runs, self._loops = runs, loops

        return bring_back

    def enter(self, loop: OpenLoop, written: Iterable[str]) -> None:
        """Begins the body of a loop that writes some buffers."""
        for buffer in written:
            runs = self.runs.setdefault(buffer, {})
            for start, (value, length) in runs.items():
                runs[start] = (Carried(loop, (buffer, start, length), value), length)
            self._loops[buffer] = (*self._loops.get(buffer, ()), loop)

    def leave(self, loop: OpenLoop, written: Iterable[str]) -> None:
        """Goes on behind a loop."""
        for buffer in written:
            self._loops[buffer] = self._loops[buffer][:-1]
            runs = self.runs[buffer]
            for start, (value, length) in runs.items():
                carried = value.parent if isinstance(value, Element) else value
                if isinstance(carried, Carried) and carried.loop is loop:
                    assert not isinstance(value, Value)
                    runs[start] = (value.outside(), length)

    def undefined(self, place: Place, dtype: DType, lanes: int) -> Value:
        """The value of elements that nothing has written so far in the text: it may come from an earlier iteration."""
        value: Lazy = Value("poison", dtype, lanes)
        for loop in self._loops.get(place[0], ()):
            value = loop.undefined(place, value)
        return forced(value)

    def around(self, place: Place) -> tuple[int, Run] | None:
        """The run that holds a whole range of elements, and its start."""
        buffer, start, length = place
        for first, run in self.runs.get(buffer, {}).items():
            if first <= start and start + length <= first + run[1]:
                return first, run
        return None

    def overlaps(self, place: Place) -> bool:
        """Whether any of the elements has a value."""
        buffer, start, length = place
        return any(s < start + length and start < s + n for s, (_, n) in self.runs.get(buffer, {}).items())

    def remove(self, place: Place, extract: Callable[[Value, int], Value]) -> None:
        """Takes elements out; what else is in a run with them is left as single elements."""
        buffer, start, length = place
        end, runs = start + length, self.runs.setdefault(buffer, {})
        for s, (run, n) in list(runs.items()):
            if s < end and start < s + n:
                del runs[s]
                if start <= s and s + n <= end:
                    continue
                for k in range(n):
                    if not start <= s + k < end:
                        runs[s + k] = (Element(run, k, extract), 1)

    def write(self, place: Place, value: Value, extract: Callable[[Value, int], Value]) -> None:
        """Gives elements a value."""
        buffer, start, length = place
        known = self.runs.setdefault(buffer, {}).get(start)
        if known is None or known[1] != length:
            self.remove(place, extract)
        self.runs[buffer][start] = (value, length)


def merge_places(before: Mapping[int, Run], after: Mapping[int, Run], buffer: str) -> list[Place]:
    """Where two paths to one point leave a buffer differently, in runs that suit both.

    Args:
        before: Its runs on one path.
        after: Its runs on the other.
        buffer: Its name.
    """
    spans = sorted((s, s + n) for runs in (before, after) for s, (_, n) in runs.items())
    clusters: list[tuple[int, int]] = []
    for low, high in spans:
        if clusters and low < clusters[-1][1]:
            clusters[-1] = (clusters[-1][0], max(high, clusters[-1][1]))
        else:
            clusters.append((low, high))
    places: list[Place] = []
    for low, high in clusters:
        old, new = before.get(low), after.get(low)
        if old is not None and new is not None and old[0] is new[0]:
            continue
        if any(run is not None and run[1] == high - low for run in (old, new)):
            places.append((buffer, low, high - low))
        else:
            places += [(buffer, k, 1) for k in range(low, high)]
    return places
