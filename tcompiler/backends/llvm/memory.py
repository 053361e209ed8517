"""Reads and writes of buffers in memory: vectors, masks, gathers and scatters."""

from __future__ import annotations

from collections.abc import Hashable

from tcompiler.backends.llvm.arithmetic import type_suffix
from tcompiler.backends.llvm.linear import Linear
from tcompiler.backends.llvm.masks import known_lanes, literal_mask, runs
from tcompiler.backends.llvm.register_access import RegisterAccess
from tcompiler.backends.llvm.ssa import Value, memory_type, value_type
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.loop.grammar import Buffer
from tcompiler.ir.scalar.grammar import Load, Scalar, as_int, const
from tcompiler.ir.scalar.rewrite import free_vars, loads
from tcompiler.target.target import Target

Key = tuple[int, frozenset[tuple[Scalar, int]]]


def linear_key(x: Linear) -> Key:
    """A hashable form of a linear form."""
    return x.const, frozenset(x.terms.items())


class Memory(RegisterAccess):
    """Emits loads and stores.

    Attributes:
        read_only: Buffers that nothing in the function writes.
        kept: What stores would write, in order, where it is not written yet; None where it is.
    """

    def __init__(self, target: Target, buffers: dict[str, Buffer]) -> None:
        super().__init__(target, buffers)
        self.read_only: frozenset[str] = frozenset()
        self.kept: list[Value] | None = None

    def load(self, node: Load) -> Value:
        """The value of an element, or of one element per lane."""
        x = self.offset(node.buffer, node.indices)
        if self.buffers[node.buffer].scope == "register":
            return self.read_register(node.buffer, x)
        d = node.dtype
        uniform, c = self.split_lane(x)
        mask = self.mask
        key: Hashable = (node.buffer, linear_key(x), self.lanes if c != 0 else 0, mask.ssa if mask else None)
        stored = (self._store_key(node.buffer, uniform) if c == 1 else None) or key
        # what it must be read again after a write of: its own buffer, and those that its index is read from
        sources = frozenset({node.buffer, *(n.buffer for a in x.terms for n in loads(a))})
        for level in reversed(self.w.levels):
            known = level.loads.get(key) or level.loads.get(stored)
            if known is not None:
                return Value(known[0], d, self.lanes if c != 0 else 0)
        if c == 0:
            if mask is not None:
                return self._guarded_load(node.buffer, uniform, d)
            depth = self._load_depth(node.buffer, uniform)
            address = self.pointer(node.buffer, uniform)
            ssa = self._load_instruction(d, address, depth)
            self.w.made_at[ssa] = depth
            self.w.levels[depth].loads[key] = (ssa, sources)
            return Value(ssa, d)
        known_mask = self._known_mask()
        if c == 1:
            depth = self.w.depth if known_mask is None else self._load_depth(node.buffer, uniform)
            ssa = self._load_vector(d, self.pointer(node.buffer, uniform), mask, depth)
            self.w.levels[depth].loads[key] = (ssa, sources)
            return Value(ssa, d, self.lanes)
        if c is not None and known_mask is not None:
            depth = self._load_depth(node.buffer, uniform)
            with self.w.at(depth):
                tap = self._load_tap(node, uniform, c, known_mask, sources)
                ssa = tap or self._load_strided(node, uniform, c, known_mask)
            self.w.levels[depth].loads[key] = (ssa, sources)
            return Value(ssa, d, self.lanes)
        if c is None and known_mask is not None and (apart := self.lane_offsets(x)) is not None:
            fixed, places = apart
            ssa = self._load_places(node.buffer, fixed, places, d, known_mask)
            self.w.top.loads[key] = (ssa, sources)
            return Value(ssa, d, self.lanes)
        return self._gather(node.buffer, x, d)

    def _store_key(self, buffer: str, first: Linear) -> Hashable | None:
        """What is remembered of a vector that was stored, for a load of the same lanes in another loop over them.

        None where only the running code knows which lanes these are.
        """
        on = (True,) if self.mask is None else known_lanes(self.mask.ssa, self.lanes)
        return (buffer, linear_key(first), self.lanes, self.extent(), on, "stored") if on is not None else None

    def _load_depth(self, buffer: str, x: Linear) -> int:
        """Where a load may stand: out of the loops that it does not depend on, if nobody writes its buffer."""
        if buffer not in self.read_only:
            return self.w.depth
        return max([self.depth_of(a) for a in x.terms] + [self.w.guard_depth()])

    def _load_instruction(self, d: DType, address: str, depth: int) -> str:
        level = self.w.levels[depth]
        name = self.w.fresh()
        if d is dt.bool_:
            raw = self.w.fresh()
            level.lines.append(f"  {raw} = load i8, ptr {address}, align 1")
            level.lines.append(f"  {name} = icmp ne i8 {raw}, 0")
        else:
            level.lines.append(f"  {name} = load {memory_type(d)}, ptr {address}, align {d.bytes}")
        return name

    def _load_vector(self, d: DType, address: str, mask: Value | None, depth: int) -> str:
        full = self._lane_mask(mask)
        with self.w.at(depth):
            return self._masked_load(d, address, full)

    def _masked_load(self, d: DType, address: str, mask: str | None) -> str:
        """A vector from memory; lanes that the mask excludes are not touched."""
        n, vector, w = self.lanes, memory_type(d, self.lanes), self.w
        if mask is None:
            ssa = w.effect(f"load {vector}, ptr {address}, align {d.bytes}")
        elif (parts := self._load_registers(d, address, mask)) is not None:
            ssa = parts
        else:
            name = f"llvm.masked.load.{_memory_suffix(d, n)}.p0"
            self.declarations.add(f"declare {vector} @{name}(ptr, <{n} x i1>, {vector})")
            ssa = w.effect(
                f"call {vector} @{name}(ptr align {d.bytes} {address}, <{n} x i1> {mask}, {vector} zeroinitializer)"
            )
        return w.effect(f"icmp ne {vector} {ssa}, zeroinitializer") if d is dt.bool_ else ssa

    def _load_registers(self, d: DType, address: str, mask: str) -> str | None:
        """A masked load register by register, where one of them is off throughout; else None.

        LLVM takes the mask of such a half for one of its own, and reads it or stops.
        """
        n, width, w = self.lanes, self.target.vector_lanes(d.bytes * 8), self.w
        on = self.admits(Value(mask, dt.bool_, n))
        starts = range(0, n, width)
        if n <= width or known_lanes(mask, n) is not None or all(any(on[k : k + width]) for k in starts):
            return None
        name = f"llvm.masked.load.{_memory_suffix(d, width)}.p0"
        part = memory_type(d, width)
        self.declarations.add(f"declare {part} @{name}(ptr, <{width} x i1>, {part})")
        result = "zeroinitializer"
        for k in starts:
            if any(on[k : k + width]):
                picks = ", ".join(f"i32 {k + i}" for i in range(width))
                own = w.effect(f"shufflevector <{n} x i1> {mask}, <{n} x i1> poison, <{width} x i32> <{picks}>")
                at = w.effect(f"getelementptr i8, ptr {address}, i64 {k * d.bytes}")
                one = w.effect(
                    f"call {part} @{name}(ptr align {d.bytes} {at}, <{width} x i1> {own}, {part} zeroinitializer)"
                )
                wide = ", ".join(f"i32 {i}" if i < width else "i32 poison" for i in range(n))
                spread = w.effect(f"shufflevector {part} {one}, {part} poison, <{n} x i32> <{wide}>")
                mixed = ", ".join(f"i32 {n + i - k if k <= i < k + width else i}" for i in range(n))
                vector = memory_type(d, n)
                result = w.effect(f"shufflevector {vector} {result}, {vector} {spread}, <{n} x i32> <{mixed}>")
        return result

    def _load_tap(
        self, node: Load, first: Linear, step: int, active: list[bool], sources: frozenset[str]
    ) -> str | None:
        """Every step-th element, one per lane, out of the vectors that neighbouring taps of a window are picked from.

        The first tap decides where these begin. Those that are less than a step behind it are other elements of the
        same vectors; those behind them are what one of the former has in its next lane, but for one element. Lanes
        outside of a line hold zero, as vectors do there.

        Args:
            node: The element.
            first: Where that of the first lane is.
            step: How far apart the elements are.
            active: The lanes that exist and are asked for.
            sources: The buffers that the elements depend on.

        Returns:
            The vector; None where this does not fit.
        """
        n, d, buffer, extent = self.lanes, node.dtype, node.buffer, self.extent()
        count = -(-step * extent // n)
        fits = step > 1 and any(active) and count <= max(2, sum(active) // 2)
        if not fits or d.bytes < 4 or not self.target.has("avx512vl"):
            return None
        column, length = self._column(node, step)
        fixed = column is not None and not column.terms
        begin = column.const if column is not None else 0
        if active[:extent] != [not fixed or 0 <= begin + step * k < length for k in range(extent)]:
            return None
        loaded = self.w.top.loads
        # one place may be behind a line and in front of the next one: what is out of the data depends on which it is
        kind = (buffer, n, step, count, fixed)
        keys = [(*kind, fixed and begin - k, linear_key(first + Linear(-k, {}))) for k in range(2 * step)]
        ahead = next((k for k, known in enumerate(keys) if known in loaded), 0)
        key, low = keys[ahead], first + Linear(-ahead, {})
        if not fixed and not self._holds(buffer, low, count * n):
            return None
        loaded.setdefault(key, ("", sources))
        for at in (k for k in range(0, count * n, n) if (key, "vector", k) not in loaded):
            # out of the data nothing is read: lanes hold zero there, which is what taps in the padding ask for
            inside = [not fixed or 0 <= begin - ahead + at + k < length for k in range(n)]
            mask = None if all(inside) else literal_mask(inside)
            vector = self._masked_load(d, self.pointer(buffer, low + Linear(at, {})), mask)
            loaded[key, "vector", at] = (vector, sources)
        start = ahead % step
        if (key, "from", start) not in loaded:
            parts = [(k, Value(loaded[key, "vector", k][0], d, n)) for k in range(0, count * n, n)]
            loaded[key, "from", start] = (self._picked_apart(parts, [start + step * k for k in range(n)]), sources)
        result = Value(loaded[key, "from", start][0], d, n)
        if ahead < step:
            return result.ssa
        last = Value("zeroinitializer", d, n)
        if active[extent - 1]:
            address = self.pointer(buffer, first + Linear(step * (extent - 1), {}))
            one = self._load_instruction(d, address, self.w.depth)
            last = Value(self.w.effect(f"insertelement {last.type} poison, {value_type(d)} {one}, i64 0"), d, n)
        known = start + step * extent < count * n
        return self._shuffled(result, last, [k + 1 if k + 1 < extent or known else n for k in range(extent)], n).ssa

    def _column(self, node: Load, step: int) -> tuple[Linear | None, int]:
        """Where along a line of its buffer the first lane's element is, if there are lines, and their length."""
        shape = self.buffers[node.buffer].shape
        for i, stride, extent in zip(node.indices, self.strides(node.buffer), shape, strict=True):
            place, c = self.split_lane(self.linear(i))
            if stride == 1 and c == step:
                return place, as_int(extent) or 0
        return None, 0

    def _load_strided(self, node: Load, first: Linear, step: int, active: list[bool]) -> str:
        """Every step-th element, one per lane: by shuffles of whole vectors, where these are half as many or fewer.

        Nothing in front of the first element that is asked for and nothing behind the last one is touched. Lanes that
        are not active hold zero.
        """
        n, d, buffer, asked = self.lanes, node.dtype, node.buffer, [k for k, on in enumerate(active) if on]
        depth, vector = self.w.depth, value_type(d, n)
        if not asked:
            return "zeroinitializer"
        start = step * (asked[0] if step > 0 else asked[-1])
        span = abs(step) * (asked[-1] - asked[0]) + 1
        if span > n * max(2, len(asked) // 2):
            return self._load_apart(buffer, first, step, d, asked)
        low = first + Linear(start, {})
        if span > n:
            # the same vectors as for neighbouring taps of a window, where these lie in the buffer
            column, _ = self._column(node, step)
            ahead = ((column or first).const + start) % abs(step)
            shared, wide = low + Linear(-ahead, {}), -(-(ahead + span) // abs(step)) * abs(step)
            if -(-wide // n) == -(-span // n) and self._holds(buffer, shared, wide):
                low, start, span = shared, start - ahead, wide
        parts = []
        for at in (0, *(min(k, span - n) for k in range(n, span, n))):
            part = self._load_part(d, self.pointer(buffer, low + Linear(at, {})), min(span, n))
            parts.append((at, Value(part, d, n)))
        result = self._picked_apart(parts, [step * k - start if active[k] else -1 for k in range(n)])
        if len(asked) == self.extent():
            return result
        on = literal_mask(active)
        return self.w.instruction(f"select <{n} x i1> {on}, {vector} {result}, {vector} zeroinitializer", depth)

    def _picked_apart(self, parts: list[tuple[int, Value]], places: list[int]) -> str:
        """Elements out of vectors that lie one behind the other.

        Args:
            parts: Where each vector begins, and the vector; what two of them have is taken from the former.
            places: Of the elements; negative where there is none.
        """
        n, (_, result) = self.lanes, parts[0]
        picks = [p if p < n else -1 for p in places]
        if len(parts) == 1:
            return self._shuffled(result, Value("poison", result.dtype, n), picks, n).ssa
        for begin, (at, part) in zip(range(n, n * len(parts), n), parts[1:], strict=True):
            # lanes that came before keep what they have, but for the first vector, which is still as in memory
            own = picks if begin == n else [k if 0 <= p < begin else -1 for k, p in enumerate(places)]
            picks = [n + p - at if begin <= p < begin + n else k for p, k in zip(places, own, strict=True)]
            result = self._shuffled(result, part, picks, n)
        return result.ssa

    def _holds(self, buffer: str, first: Linear, count: int) -> bool:
        """Whether so many elements in a row lie in a buffer, wherever the loops around are."""
        (low, high), shape = first.range(), self.buffers[buffer].shape
        last = sum(((as_int(e) or 0) - 1) * s for e, s in zip(shape, self.strides(buffer), strict=True))
        return low is not None and high is not None and low >= 0 and high + count <= last + 1

    def _load_part(self, d: DType, address: str, count: int) -> str:
        """A vector of whose lanes the first `count` are read."""
        return self._masked_load(d, address, None if count == self.lanes else _first_lanes(count, self.lanes))

    def _load_apart(self, buffer: str, first: Linear, step: int, d: DType, asked: list[int]) -> str:
        """Elements far apart, one load each: quicker than a gather, which fetches them one by one too."""
        result = "poison" if len(asked) == self.extent() else "zeroinitializer"
        for k in asked:
            one = self._load_instruction(d, self.pointer(buffer, first + Linear(step * k, {})), self.w.depth)
            text = f"insertelement {value_type(d, self.lanes)} {result}, {value_type(d)} {one}, i64 {k}"
            result = self.w.effect(text)
        return result

    def _load_places(self, buffer: str, fixed: Linear, places: list[int], d: DType, active: list[bool]) -> str:
        """Elements whose places relative to one another are known: vectors of those side by side, put in order.

        Lanes that are not active hold zero.
        """
        n, result = self.lanes, ""
        distinct = sorted({p for p, on in zip(places, active, strict=False) if on})
        if not distinct:
            return "zeroinitializer"
        while distinct:
            count = 1
            while 2 * count <= min(len(distinct), n) and distinct[2 * count - 1] == distinct[0] + 2 * count - 1:
                count *= 2
            first, distinct = distinct[0], distinct[count:]
            picks = [p - first if first <= p < first + count else -1 for p in places] + [-1] * (n - len(places))
            picks = [p if on else -1 for p, on in zip(picks, active, strict=True)]
            part = self._load_run(d, self.pointer(buffer, fixed + Linear(first, {})), count)
            if not result:
                result = self._shuffled(part, part, picks, n).ssa
            else:
                wide = self._shuffled(part, part, picks, n)
                mixed = [n + k if p >= 0 else k for k, p in enumerate(picks)]
                result = self._shuffled(Value(result, d, n), wide, mixed, n).ssa
        if all(active[: self.extent()]):
            return result
        vector = value_type(d, n)
        text = f"select <{n} x i1> {literal_mask(active)}, {vector} {result}, {vector} zeroinitializer"
        return self.w.effect(text)

    def _load_run(self, d: DType, address: str, count: int) -> Value:
        """A vector of elements side by side, all of which there are."""
        if count == 1:
            one = self._load_instruction(d, address, self.w.depth)
            return Value(self.w.effect(f"insertelement {value_type(d, 1)} poison, {value_type(d)} {one}, i64 0"), d, 1)
        ssa = self.w.effect(f"load {memory_type(d, count)}, ptr {address}, align {d.bytes}")
        if d is dt.bool_:
            ssa = self.w.effect(f"icmp ne {memory_type(d, count)} {ssa}, zeroinitializer")
        return Value(ssa, d, count)

    def _known_mask(self) -> list[bool] | None:
        """The lanes that exist and that the mask admits, None where only the running code knows them."""
        on = (True,) * self.lanes if self.mask is None else known_lanes(self.mask.ssa, self.lanes)
        return None if on is None else [x and k < self.extent() for k, x in enumerate(on)]

    def _lane_mask(self, mask: Value | None) -> str | None:
        """The lanes that exist and that the mask admits; None where that is all of them."""
        extent = self.extent()
        if extent == self.lanes:
            return None if mask is None else self.splat(mask).ssa
        if mask is not None and (on := known_lanes(mask.ssa, self.lanes)) is not None:
            return literal_mask(x and k < extent for k, x in enumerate(on))
        tail = _first_lanes(extent, self.lanes)
        if mask is None:
            return tail
        return self.binary("and", self.splat(mask), Value(tail, dt.bool_, self.lanes)).ssa

    def _guarded_load(self, buffer: str, x: Linear, d: DType) -> Value:
        """A uniform load that only some lanes ask for: done if any lane asks."""
        full = self._lane_mask(self.mask)
        if any(known_lanes(full or "true", self.lanes) or ()):
            return Value(self._load_instruction(d, self.pointer(buffer, x), self.w.depth), d)
        any_lane = self.call(
            f"llvm.vector.reduce.or.v{self.lanes}i1", "i1", Value(full or "splat (i1 true)", dt.bool_, self.lanes)
        )

        def read() -> Value:
            return Value(self._load_instruction(d, self.pointer(buffer, x), self.w.depth), d)

        return self.branch_value(Value(any_lane, dt.bool_), read, lambda: self.constant(const(d, 0)))

    def _addresses(self, buffer: str, x: Linear) -> str:
        offsets = self.vector_index(x)
        element = self.buffers[buffer].dtype.bytes
        scaled = self.binary("mul", offsets, Value(str(element), dt.i64))
        base = self.pointers[buffer]
        return self.w.effect(f"getelementptr i8, ptr {base}, <{self.lanes} x i64> {scaled.ssa}")

    def _gather(self, buffer: str, x: Linear, d: DType) -> Value:
        active = self._known_mask()
        if active is not None and (apart := self._rows(x)) is not None:
            return Value(self._load_picked(buffer, *apart, d, active), d, self.lanes)
        n, vector = self.lanes, memory_type(d, self.lanes)
        name = f"llvm.masked.gather.{_memory_suffix(d, n)}.v{n}p0"
        self.declarations.add(f"declare {vector} @{name}(<{n} x ptr>, <{n} x i1>, {vector})")
        mask = self._lane_mask(self.mask) or "splat (i1 true)"
        addresses = self._addresses(buffer, x)
        ssa = self.w.effect(
            f"call {vector} @{name}(<{n} x ptr> align {d.bytes} {addresses}, <{n} x i1> {mask}, "
            f"{vector} zeroinitializer)"
        )
        if d is dt.bool_:
            ssa = self.w.effect(f"icmp ne {vector} {ssa}, zeroinitializer")
        return Value(ssa, d, n)

    def _rows(self, x: Linear) -> tuple[Linear, Linear] | None:
        """An offset as one of rows and one within them, if a loop goes from row to row that the latter is the same in.

        Rows side by side come from afar in time only if they are read by loads: nothing foresees what gathers read.
        """
        assert self.lane is not None
        within = {a: c for a, c in x.terms.items() if self.lane in free_vars(a)}
        rows = {a: c for a, c in x.terms.items() if a not in within}
        loops = [{v for a in part for v in free_vars(a)} for part in (rows, within)]
        return (Linear(x.const, rows), Linear(0, within)) if loops[0] - loops[1] else None

    def _load_picked(self, buffer: str, row: Linear, within: Linear, d: DType, active: list[bool]) -> str:
        """Elements of a row, one load each, at places that are computed out of the loops that they are the same in."""
        depth = self.w.depth
        if all(n.buffer in self.read_only for a in within.terms for n in loads(a)):
            loops = [self.loop_values[v][1] for a in within.terms for v in free_vars(a)]
            depth = max([*loops, self.w.guard_depth()])
        with self.w.at(depth):
            places = self.vector_index(within).typed
        at, vector = self.pointer(buffer, row), value_type(d, self.lanes)
        result = "poison" if all(active[: self.extent()]) else "zeroinitializer"
        for k in (k for k, on in enumerate(active) if on):
            place = self.w.instruction(f"extractelement {places}, i64 {k}", depth)
            address = self.w.effect(f"getelementptr {memory_type(d)}, ptr {at}, i64 {place}")
            one = self._load_instruction(d, address, self.w.depth)
            result = self.w.effect(f"insertelement {vector} {result}, {value_type(d)} {one}, i64 {k}")
        return result

    def store(self, buffer: str, indices: tuple[Scalar, ...], x: Value, update: bool = False) -> None:
        """Writes an element, or one element per lane; `update` says that the old value was read for it."""
        if self.kept is not None:
            self.kept.append(self.splat(x))
            return
        place = self.offset(buffer, indices)
        if self.buffers[buffer].scope == "register":
            self.write_register(buffer, place, x, update)
            return
        d, w = x.dtype, self.w
        uniform, c = self.split_lane(place)
        w.forget_loads((buffer,))
        if c == 0 and self.lane is None:
            ssa = w.effect(f"zext i1 {x.ssa} to i8") if d is dt.bool_ else x.ssa
            w.line(f"store {memory_type(d)} {ssa}, ptr {self.pointer(buffer, uniform)}, align {d.bytes}")
            return
        if c == 0 and self.mask is None:
            raise self.same_element(buffer)
        x = self.splat(x)
        n, vector = self.lanes, memory_type(d, self.lanes)
        ssa = w.effect(f"zext {x.typed} to {vector}") if d is dt.bool_ else x.ssa
        mask = self._lane_mask(self.mask)
        if c == 1 and (stored := self._store_key(buffer, uniform)) is not None:
            # what is read again has not to come from memory: a masked store would have to be done first
            sources = frozenset({buffer, *(n.buffer for a in place.terms for n in loads(a))})
            kept = x if self.mask is None else self.select(self.mask, x, self.splat(self.constant(const(d, 0))))
            w.top.loads[stored] = (kept.ssa, sources)
        if c == 1 and mask is None:
            w.line(f"store {vector} {ssa}, ptr {self.pointer(buffer, uniform)}, align {d.bytes}")
        elif c == 1 and (pieces := self._pieces(mask)):
            for first, length in pieces:
                self._store_piece(buffer, uniform + Linear(first, {}), d, ssa, first, length)
        elif c == 1:
            name = f"llvm.masked.store.{_memory_suffix(d, n)}.p0"
            self.declarations.add(f"declare void @{name}({vector}, ptr, <{n} x i1>)")
            address = self.pointer(buffer, uniform)
            w.line(f"call void @{name}({vector} {ssa}, ptr align {d.bytes} {address}, <{n} x i1> {mask})")
        elif c is not None and (on := self._known_mask()) is not None:
            for k in [k for k, active in enumerate(on) if active]:
                part = w.effect(f"extractelement {vector} {ssa}, i64 {k}")
                at = self.pointer(buffer, uniform + Linear(c * k, {}))
                w.line(f"store {memory_type(d)} {part}, ptr {at}, align {d.bytes}")
        else:
            # lanes are written in order; where the mask leaves one lane they may all have the same place
            name = f"llvm.masked.scatter.{_memory_suffix(d, n)}.v{n}p0"
            self.declarations.add(f"declare void @{name}({vector}, <{n} x ptr>, <{n} x i1>)")
            addresses = self._addresses(buffer, place)
            full = mask or "splat (i1 true)"
            w.line(f"call void @{name}({vector} {ssa}, <{n} x ptr> align {d.bytes} {addresses}, <{n} x i1> {full})")

    def _pieces(self, mask: str | None) -> list[tuple[int, int]]:
        """The lanes to store as runs that plain stores write; empty where a masked store is better.

        Before AVX-512 masked stores are slow on many machines: a dozen cycles each on AMD's. One lane is stored plainly
        everywhere: for AVX-512, LLVM 22 makes a store of one lane of its own of that, as wide as the element was before
        it was narrowed, which overwrites what follows.
        """
        on = None if mask is None else known_lanes(mask, self.lanes)
        if on is None or (self.target.has("avx512vl") and sum(on) > 1):
            return []
        pieces = runs(on)
        return pieces if len(pieces) <= _PIECES else []

    def _store_piece(self, buffer: str, place: Linear, d: DType, ssa: str, first: int, length: int) -> None:
        w, vector = self.w, memory_type(d, self.lanes)
        if length == 1:
            part = w.effect(f"extractelement {vector} {ssa}, i64 {first}")
            w.line(f"store {memory_type(d)} {part}, ptr {self.pointer(buffer, place)}, align {d.bytes}")
            return
        picks = ", ".join(f"i32 {first + k}" for k in range(length))
        part = w.effect(f"shufflevector {vector} {ssa}, {vector} poison, <{length} x i32> <{picks}>")
        w.line(f"store {memory_type(d, length)} {part}, ptr {self.pointer(buffer, place)}, align {d.bytes}")


_PIECES = 5
"""Stores that are quicker than a masked one."""


def _memory_suffix(dtype: DType, lanes: int) -> str:
    return f"v{lanes}i8" if dtype is dt.bool_ else type_suffix(dtype, lanes)


def _first_lanes(count: int, lanes: int) -> str:
    """A mask that admits the first lanes, as a literal."""
    return literal_mask(k < count for k in range(lanes))
