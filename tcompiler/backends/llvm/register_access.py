"""Reads and writes of register buffers, as SSA values: whole runs where they fit, lane by lane where not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tcompiler.backends.llvm.addresses import Addresses, constant, has_load
from tcompiler.backends.llvm.linear import Linear, linear
from tcompiler.backends.llvm.masks import known_lanes
from tcompiler.backends.llvm.registers import Place, Registers, forced
from tcompiler.backends.llvm.ssa import Value, value_type
from tcompiler.errors import CompileError, InternalError
from tcompiler.ir.loop.grammar import Buffer
from tcompiler.ir.scalar.grammar import index
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.target.target import Target

_Part = tuple[Value, dict[int, int]]
"""A vector, and in which of its lanes the elements are that lanes of another one want."""


class RegisterAccess(Addresses):
    """Emits accesses to register buffers.

    Attributes:
        registers: What the register buffers hold.
        mask: The lanes that are active, None for all.
        masks: Every mask in force by name, None first, each narrower than the one before.
    """

    def __init__(self, target: Target, buffers: dict[str, Buffer]) -> None:
        super().__init__(target, buffers)
        self.registers = Registers()
        self.mask: Value | None = None
        self.masks: list[str | None] = [None]

    @contextmanager
    def masked(self, condition: Value) -> Iterator[None]:
        """Restricts accesses to the lanes where a condition holds."""
        before = self.mask
        self.mask = condition if before is None else self.binary("and", before, condition)
        self.masks.append(self.mask.ssa)
        try:
            yield
        finally:
            self.masks.pop()
            self.mask = before

    def extent(self) -> int:
        """How many lanes exist."""
        return constant(self.lane.extent) if self.lane is not None else self.lanes

    def lane_offsets(self, x: Linear) -> tuple[Linear, list[int]] | None:
        """An offset as a part that is the same in all lanes and a number for each, where these are known."""
        lane = self.lane
        assert lane is not None
        moving = {a: c for a, c in x.terms.items() if lane in free_vars(a)}
        if any(free_vars(a) != {lane} or has_load(a) for a in moving):
            return None
        places: list[int] = []
        for k in range(self.extent()):
            at = linear(Linear(0, moving).expression(), {lane: Linear(k, {})})
            if at.terms:
                return None
            places.append(at.const)
        return Linear(x.const, {a: c for a, c in x.terms.items() if a not in moving}), places

    def same_element(self, buffer: str) -> CompileError:
        """The error of lanes that all write to one place."""
        name = self.lane.name if self.lane is not None else ""
        return CompileError(
            f"every lane of the vectorized loop {name} writes one element of {buffer}; "
            f"make the loop serial, or give {buffer} a dimension for it"
        )

    def read_register(self, buffer: str, x: Linear) -> Value:
        """The current value of an element (or of one element per lane) of a register buffer."""
        places = self._places(buffer, x)
        if isinstance(places, int):
            return self.elements((buffer, places, 1))
        if (first := self._first_lanes()) and places == list(range(places[0], places[0] + len(places))):
            return self._resized(self.elements((buffer, places[0], first)), self.lanes)
        start, length = min(places), len(places)
        span = max(places) - start + 1
        if places == list(range(start, start + length)):
            return self.elements((buffer, start, length))
        around = self.registers.around((buffer, start, span))
        if around is not None:
            value = forced(around[1][0])
            return self._shuffled(value, value, [p - around[0] for p in places], self.lanes)
        return self._picked(buffer, places)

    def _picked(self, buffer: str, places: list[int]) -> Value:
        """Elements of some vectors in any order: two vectors at a time become one, in the order of the lanes."""
        found = [self.registers.around((buffer, p, 1)) for p in places]
        runs = {f[0]: f[1] for f in found if f is not None and f[1][1] > 1}
        if any(f is None or f[0] not in runs for f in found):
            return self._gathered([self.elements((buffer, p, 1)) for p in places])
        whole = [(s, p - s) for p, f in zip(places, found, strict=True) if f is not None for s in [f[0]]]
        parts = [
            (forced(run), {k: at for k, (s, at) in enumerate(whole) if s == start})
            for start, (run, _) in sorted(runs.items())
        ]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=False)
            parts = [*(self._merged(*pair) for pair in pairs), *parts[len(parts) // 2 * 2 :]]
        ((value, at),) = parts
        return self._shuffled(value, value, [at[k] for k in range(len(places))], self.lanes)

    def _merged(self, one: _Part, other: _Part) -> _Part:
        """The chosen elements of two vectors in one, in the order of the lanes that they are for."""
        order = sorted((*one[1], *other[1]))
        lanes = max(one[0].lanes, other[0].lanes)
        a, b = (v if v.lanes == lanes else self._shuffled(v, v, list(range(v.lanes)), lanes) for v, _ in (one, other))
        picks = [one[1][k] if k in one[1] else lanes + other[1][k] for k in order]
        return self._shuffled(a, b, picks, _lanes(len(order))), {k: n for n, k in enumerate(order)}

    def elements(self, place: Place) -> Value:
        """The current value of consecutive elements: a scalar if it is one, otherwise a vector."""
        buffer, start, length = place
        run = self.registers.runs.get(buffer, {}).get(start)
        if run is not None and run[1] == length:
            return forced(run[0])
        lanes = _lanes(length)
        around = self.registers.around(place)
        if around is not None:
            value, at = forced(around[1][0]), start - around[0]
            if length == 1:
                return self._extracted(value, at)
            return self._shuffled(value, value, list(range(at, at + length)), lanes)
        if not self.registers.overlaps(place):
            return self.registers.undefined(place, self.buffers[buffer].dtype, lanes)
        return self._gathered([self.elements((buffer, start + k, 1)) for k in range(length)])

    def write_register(self, buffer: str, x: Linear, new: Value, update: bool = False) -> None:
        """Replaces an element (or one element per lane) of a register buffer.

        Args:
            buffer: The buffer.
            x: The place.
            new: The value.
            update: Whether the old value was read for it: a longer vector around the place then stays one, as it does
                where the mask admits the first lanes only.
        """
        places = self._places(buffer, x)
        if isinstance(places, int):
            if self.lane is not None:
                new = self._of_active_lane(buffer, self.elements((buffer, places, 1)), new)
            self.registers.write((buffer, places, 1), new, self._extracted)
            return
        new = self.splat(new)
        first = self._first_lanes() if places == list(range(places[0], places[0] + len(places))) else 0
        if first:
            places = places[:first]
        elif self.mask is not None:
            new = self.select(self.splat(self.mask), new, self.read_register(buffer, x))
        start, length = places[0], len(places)
        if places != list(range(start, start + length)):
            for k, p in enumerate(places):
                self.registers.write((buffer, p, 1), self._extracted(new, k), self._extracted)
            return
        around = self.registers.around((buffer, start, length)) if update or first else None
        if around is not None and around[1][1] > length:
            begin, (run, size) = around
            old, at = forced(run), start - begin
            wide = self._shuffled(new, new, list(range(length)), old.lanes)
            picks = [old.lanes + k - at if at <= k < at + length else k for k in range(old.lanes)]
            self.registers.write((buffer, begin, size), self._shuffled(old, wide, picks, old.lanes), self._extracted)
            return
        self.registers.write((buffer, start, length), self._resized(new, _lanes(length)), self._extracted)

    def put(self, place: Place, new: Value) -> None:
        """Replaces consecutive elements by the lanes of a vector."""
        self.registers.write(place, new, self._extracted)

    def _first_lanes(self) -> int:
        """How many lanes are active, if it is known that they are the first ones; 0 if not, or if all are."""
        on = known_lanes(self.mask.ssa, self.lanes) if self.mask is not None else None
        if on is None:
            return 0
        count = sum(on[: self.extent()])
        return count if count < self.extent() and all(on[:count]) else 0

    def _resized(self, value: Value, lanes: int) -> Value:
        """A vector's first lanes in one of another length, of which a single element is the shortest."""
        if value.lanes == lanes:
            return value
        if not value.lanes:
            return Value(
                self.w.effect(f"insertelement {value_type(value.dtype, lanes)} poison, {value.typed}, i64 0"),
                value.dtype,
                lanes,
            )
        if not lanes:
            return self._extracted(value, 0)
        return self._shuffled(value, value, list(range(min(value.lanes, lanes))), lanes)

    def _of_active_lane(self, buffer: str, old: Value, new: Value) -> Value:
        """What one element holds after all lanes have written to it in order; the mask leaves one lane, or none."""
        if self.mask is None:
            raise self.same_element(buffer)
        mask = self.splat(self.mask)
        for k in range(self.extent()):
            old = self.select(self._extracted(mask, k), self._extracted(new, k), old)
        return old

    def _places(self, buffer: str, x: Linear) -> int | list[int]:
        """Which element, or which one of every lane."""
        uniform, c = self.split_lane(x)
        if c is not None and not uniform.terms:
            return [uniform.const + c * k for k in range(self.extent())] if c else uniform.const
        lane = self.lane
        if lane is not None and all(free_vars(atom) <= {lane} for atom in x.terms):
            terms = [
                [linear(substitute(atom, {lane: index(k)}), {}).scaled(c) for atom, c in x.terms.items()]
                for k in range(self.extent())
            ]
            if not any(t.terms for lane_terms in terms for t in lane_terms):
                return [x.const + sum(t.const for t in lane_terms) for lane_terms in terms]
        raise InternalError(f"register buffer {buffer} is indexed by {x.expression()!r}, which is not constant")

    def _gathered(self, elements: list[Value]) -> Value:
        d, n = elements[0].dtype, _lanes(len(elements))
        result = "poison"
        for k, e in enumerate(elements):
            if e.ssa != "poison":
                result = self.w.effect(f"insertelement {value_type(d, n)} {result}, {e.typed}, i64 {k}")
        return Value(result, d, n)

    def _shuffled(self, a: Value, b: Value, picks: list[int], lanes: int) -> Value:
        """Lanes picked from two vectors, one behind the other; those past the picks and those of -1 hold nothing."""
        chosen = ", ".join([f"i32 {p if p >= 0 else 'poison'}" for p in picks] + ["i32 poison"] * (lanes - len(picks)))
        text = f"shufflevector {a.typed}, {b.typed}, <{lanes} x i32> <{chosen}>"
        return Value(self.w.effect(text), a.dtype, lanes)

    def _extracted(self, value: Value, lane: int) -> Value:
        if not value.lanes:
            return value
        return Value(self.w.instruction(f"extractelement {value.typed}, i64 {lane}"), value.dtype)


def _lanes(length: int) -> int:
    """Lanes of a run's vector, 0 for a single element."""
    return 1 << (length - 1).bit_length() if length > 1 else 0
