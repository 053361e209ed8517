"""Reads and writes of buffers in memory: vectors, masks, gathers and scatters."""

from __future__ import annotations

from collections.abc import Hashable

from tcompiler.backends.llvm.arithmetic import type_suffix
from tcompiler.backends.llvm.linear import Linear
from tcompiler.backends.llvm.register_access import RegisterAccess
from tcompiler.backends.llvm.ssa import Value, memory_type, value_type
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.loop.grammar import Buffer
from tcompiler.ir.scalar.grammar import Load, Scalar, const
from tcompiler.ir.scalar.rewrite import loads
from tcompiler.target.target import Target

Key = tuple[int, frozenset[tuple[Scalar, int]]]


def linear_key(x: Linear) -> Key:
    """A hashable form of a linear form."""
    return x.const, frozenset(x.terms.items())


class Memory(RegisterAccess):
    """Emits loads and stores.

    Attributes:
        read_only: Buffers that nothing in the function writes.
    """

    def __init__(self, target: Target, buffers: dict[str, Buffer]) -> None:
        super().__init__(target, buffers)
        self.read_only: frozenset[str] = frozenset()

    def load(self, node: Load) -> Value:
        """The value of an element, or of one element per lane."""
        x = self.offset(node.buffer, node.indices)
        if self.buffers[node.buffer].scope == "register":
            return self.read_register(node.buffer, x)
        d = node.dtype
        uniform, c = self.split_lane(x)
        mask = self.mask
        key: Hashable = (node.buffer, linear_key(x), self.lanes if c != 0 else 0, mask.ssa if mask else None)
        # what it must be read again after a write of: its own buffer, and those that its index is read from
        sources = frozenset({node.buffer, *(n.buffer for a in x.terms for n in loads(a))})
        for level in reversed(self.w.levels):
            known = level.loads.get(key)
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
        if c == 1:
            depth = self._load_depth(node.buffer, uniform) if mask is None else self.w.depth
            ssa = self._load_vector(d, self.pointer(node.buffer, uniform), mask, depth)
            self.w.levels[depth].loads[key] = (ssa, sources)
            return Value(ssa, d, self.lanes)
        if c is not None and mask is None:
            depth = self._load_depth(node.buffer, uniform)
            with self.w.at(depth):
                ssa = self._load_strided(node.buffer, uniform, c, d)
            self.w.levels[depth].loads[key] = (ssa, sources)
            return Value(ssa, d, self.lanes)
        return self._gather(node.buffer, x, d)

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
        else:
            name = f"llvm.masked.load.{_memory_suffix(d, n)}.p0"
            self.declarations.add(f"declare {vector} @{name}(ptr, <{n} x i1>, {vector})")
            ssa = w.effect(
                f"call {vector} @{name}(ptr align {d.bytes} {address}, <{n} x i1> {mask}, {vector} zeroinitializer)"
            )
        return w.effect(f"icmp ne {vector} {ssa}, zeroinitializer") if d is dt.bool_ else ssa

    def _load_strided(self, buffer: str, first: Linear, step: int, d: DType) -> str:
        """Every step-th element, one per lane: where steps are short, by shuffles of whole vectors.

        The last vector ends at the last element that is asked for, so that nothing behind it is touched.
        """
        n, count = self.lanes, self.extent()
        low = first if step > 0 else first + Linear(step * (count - 1), {})
        span = abs(step) * (count - 1) + 1
        if span > 2 * n:
            return self._load_apart(buffer, first, step, d)
        places = [abs(step) * (k if step > 0 else count - 1 - k) for k in range(count)]
        depth, vector = self.w.depth, value_type(d, n)
        if span <= n:
            one = self._load_part(d, self.pointer(buffer, low), span)
            picks, other = places, "poison"
        else:
            one = self._load_part(d, self.pointer(buffer, low), n)
            other = self._load_part(d, self.pointer(buffer, low + Linear(span - n, {})), n)
            picks = [p if p < n else n + p - (span - n) for p in places]
        chosen = ", ".join(f"i32 {p}" for p in picks + [0] * (n - count))
        return self.w.instruction(f"shufflevector {vector} {one}, {vector} {other}, <{n} x i32> <{chosen}>", depth)

    def _load_part(self, d: DType, address: str, count: int) -> str:
        """A vector of whose lanes the first `count` are read."""
        return self._masked_load(d, address, None if count == self.lanes else _first_lanes(count, self.lanes))

    def _load_apart(self, buffer: str, first: Linear, step: int, d: DType) -> str:
        """Elements far apart, one load each: quicker than a gather, which fetches them one by one too."""
        result = "poison"
        for k in range(self.extent()):
            one = self._load_instruction(d, self.pointer(buffer, first + Linear(step * k, {})), self.w.depth)
            text = f"insertelement {value_type(d, self.lanes)} {result}, {value_type(d)} {one}, i64 {k}"
            result = self.w.effect(text)
        return result

    def _lane_mask(self, mask: Value | None) -> str | None:
        """The lanes that exist and that the mask admits; None where that is all of them."""
        extent = self.extent()
        if extent == self.lanes:
            return None if mask is None else self.splat(mask).ssa
        tail = _first_lanes(extent, self.lanes)
        if mask is None:
            return tail
        return self.w.effect(f"and <{self.lanes} x i1> {self.splat(mask).ssa}, {tail}")

    def _guarded_load(self, buffer: str, x: Linear, d: DType) -> Value:
        """A uniform load that only some lanes ask for: done if any lane asks."""
        full = self._lane_mask(self.mask)
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

    def store(self, buffer: str, indices: tuple[Scalar, ...], x: Value, update: bool = False) -> None:
        """Writes an element, or one element per lane; `update` says that the old value was read for it."""
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
        if c == 1 and mask is None:
            w.line(f"store {vector} {ssa}, ptr {self.pointer(buffer, uniform)}, align {d.bytes}")
        elif c == 1:
            name = f"llvm.masked.store.{_memory_suffix(d, n)}.p0"
            self.declarations.add(f"declare void @{name}({vector}, ptr, <{n} x i1>)")
            address = self.pointer(buffer, uniform)
            w.line(f"call void @{name}({vector} {ssa}, ptr align {d.bytes} {address}, <{n} x i1> {mask})")
        else:
            # lanes are written in order; where the mask leaves one lane they may all have the same place
            name = f"llvm.masked.scatter.{_memory_suffix(d, n)}.v{n}p0"
            self.declarations.add(f"declare void @{name}({vector}, <{n} x ptr>, <{n} x i1>)")
            addresses = self._addresses(buffer, place)
            full = mask or "splat (i1 true)"
            w.line(f"call void @{name}({vector} {ssa}, <{n} x ptr> align {d.bytes} {addresses}, <{n} x i1> {full})")


def _memory_suffix(dtype: DType, lanes: int) -> str:
    return f"v{lanes}i8" if dtype is dt.bool_ else type_suffix(dtype, lanes)


def _first_lanes(count: int, lanes: int) -> str:
    """A mask that admits the first lanes, as a literal."""
    return "<" + ", ".join(f"i1 {'true' if k < count else 'false'}" for k in range(lanes)) + ">"
