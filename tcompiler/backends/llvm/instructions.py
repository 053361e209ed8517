"""The x86 instructions of `ir.loop.intrinsics`: which feature has them, and how LLVM is told.

This is the one table of what a target's tensorized blocks may use; to add an instruction, describe what it means in
`ir.loop.intrinsics` and add its code here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tcompiler.backends.llvm.linear import Linear
from tcompiler.backends.llvm.memory import linear_key
from tcompiler.backends.llvm.ssa import Value
from tcompiler.backends.llvm.values import Values
from tcompiler.errors import CompileError
from tcompiler.ir.dtypes import DType
from tcompiler.ir.loop.grammar import Intrinsic, Region
from tcompiler.ir.loop.intrinsics import PREFETCH, description
from tcompiler.target.target import Target


@dataclass(frozen=True, slots=True)
class Instruction:
    """The code of an accumulating dot product.

    Attributes:
        features: What the target must have: all of one of these sets.
        accumulate: What it emits: from the values of C, A (in all lanes) and B the new value of C.
        count: How many instructions that is.
        vnni: How many where there is VNNI; LLVM makes one of a product and its addition.
        memory: Whether it takes B from memory every time, rather than from a register that several share.
    """

    features: tuple[tuple[str, ...], ...]
    accumulate: Callable[[Values, Value, Value, Value], Value]
    count: int = 1
    vnni: int = 1
    memory: bool = False

    def operations(self, target: Target) -> int:
        """How many instructions a product and its addition are."""
        return self.vnni if target.vnni else self.count

    def available(self, target: Target) -> bool:
        """Whether a target has it."""
        return any(all(target.has(f) for f in needed) for needed in self.features)


def _added(v: Values, c: Value, sums: str) -> Value:
    """The sum of an accumulator and products; where there is vpdpwssd LLVM makes one instruction of both.

    Else LLVM would add the products of several steps to each other first, for which there are no registers: it does
    not see through assembly, be it empty.
    """
    total = v.binary("add", Value(sums, c.dtype, c.lanes), c)
    if v.target.vnni or not v.target.has("avx2"):
        return total
    return Value(v.w.effect(f'call {c.type} asm sideeffect "", "=x,0"({total.typed})'), c.dtype, c.lanes)


def _dot_i16(name: str) -> Callable[[Values, Value, Value, Value], Value]:
    def emit(v: Values, c: Value, a: Value, b: Value) -> Value:
        return _added(v, c, v.call(name, c.type, a, b))

    return emit


def _dot(name: str, kind: str, swapped: bool = False) -> Callable[[Values, Value, Value, Value], Value]:
    """A call that takes C, the first and the second factor; `kind` is LLVM's type of a factor."""

    def emit(v: Values, c: Value, a: Value, b: Value) -> Value:
        x, y = (b, a) if swapped else (a, b)
        factors = []
        for f in (x, y):
            factors.append(f.ssa if f.type == kind else v.w.effect(f"bitcast {f.typed} to {kind}"))
        v.declarations.add(f"declare {c.type} @{name}({c.type}, {kind}, {kind})")
        ssa = v.w.effect(f"call {c.type} @{name}({c.typed}, {kind} {factors[0]}, {kind} {factors[1]})")
        return Value(ssa, c.dtype, c.lanes)

    return emit


def _madd(narrow: str, wide: str, swapped: bool = False) -> Callable[[Values, Value, Value, Value], Value]:
    """Products of bytes summed by twos in 16 bits (the unsigned factor first), by twos again in 32, and added."""

    def emit(v: Values, c: Value, a: Value, b: Value) -> Value:
        x, y = (b, a) if swapped else (a, b)
        half = f"<{2 * c.lanes} x i16>"
        v.declarations.add(f"declare {half} @{narrow}({x.type}, {y.type})")
        v.declarations.add(f"declare {c.type} @{wide}({half}, {half})")
        pairs = v.w.effect(f"call {half} @{narrow}({x.typed}, {y.typed})")
        sums = v.w.effect(f"call {c.type} @{wide}({half} {pairs}, {half} splat (i16 1))")
        return _added(v, c, sums)

    return emit


SPACES = 256
"""Address spaces of x86 below those that have a meaning."""
_WIDE = ("avx512f", "avx512bw")
_MADD = {
    4: ((("ssse3",),), "llvm.x86.ssse3.pmadd.ub.sw.128", "llvm.x86.sse2.pmadd.wd"),
    8: ((("avx2",),), "llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd"),
    16: ((_WIDE,), "llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512"),
}
_NARROW_VNNI = (("avx512vnni", "avx512vl"), ("avxvnni",))
_VNNI = {4: _NARROW_VNNI, 8: _NARROW_VNNI, 16: (("avx512vnni",),)}
_BF16 = {4: (("avx512bf16", "avx512vl"),), 8: (("avx512bf16", "avx512vl"),), 16: (("avx512bf16",),)}

INSTRUCTIONS: dict[str, Instruction] = {
    "x86.dot_i16x4": Instruction((("sse2",),), _dot_i16("llvm.x86.sse2.pmadd.wd"), 2),
    "x86.dot_i16x8": Instruction((("avx2",),), _dot_i16("llvm.x86.avx2.pmadd.wd"), 2),
    "x86.dot_i16x16": Instruction((_WIDE,), _dot_i16("llvm.x86.avx512.pmaddw.d.512"), 2),
}
for _lanes, (_features, _narrow, _sum) in _MADD.items():
    INSTRUCTIONS[f"x86.madd_u8i8x{_lanes}"] = Instruction(_features, _madd(_narrow, _sum), 3, 2)
    INSTRUCTIONS[f"x86.madd_u8m8x{_lanes}"] = Instruction(_features, _madd(_narrow, _sum), 3, 2, memory=True)
    INSTRUCTIONS[f"x86.madd_i8u8x{_lanes}"] = Instruction(_features, _madd(_narrow, _sum, swapped=True), 3, 2)
for _lanes in (4, 8, 16):
    _bytes = f"<{4 * _lanes} x i8>"
    _dpbusd = f"llvm.x86.avx512.vpdpbusd.{32 * _lanes}"
    INSTRUCTIONS[f"x86.dot_u8i8x{_lanes}"] = Instruction(_VNNI[_lanes], _dot(_dpbusd, _bytes))
    INSTRUCTIONS[f"x86.dot_i8u8x{_lanes}"] = Instruction(_VNNI[_lanes], _dot(_dpbusd, _bytes, swapped=True))
    INSTRUCTIONS[f"x86.dot_bf16x{_lanes}"] = Instruction(
        _BF16[_lanes], _dot(f"llvm.x86.avx512bf16.dpbf16ps.{32 * _lanes}", f"<{2 * _lanes} x bfloat>")
    )


FROM_MEMORY = {name.replace("m8", "i8"): name for name, made in INSTRUCTIONS.items() if made.memory}
"""Instructions that there are with the second factor in memory as well, and those."""


def available(name: str, target: Target) -> bool:
    """Whether a target has an instruction."""
    return name in INSTRUCTIONS and INSTRUCTIONS[name].available(target)


def emit(values: Values, s: Intrinsic) -> None:
    """Emits an instruction.

    Raises:
        CompileError: If there is no code for it, or the target does not have it.
    """
    if s.name == PREFETCH:
        _prefetch(values, s)
        return
    instruction = INSTRUCTIONS.get(s.name)
    if instruction is None:
        raise CompileError(f"intrinsic {s.name!r} has no LLVM code; there is code for {', '.join(INSTRUCTIONS)}")
    if not instruction.available(values.target):
        needed = " or ".join(" and ".join(f) for f in instruction.features)
        raise CompileError(f"intrinsic {s.name!r} takes {needed}, which the target {values.target.name} does not have")
    if values.lane is not None or values.mask is not None:
        lane = values.lane.name if values.lane is not None else ""
        raise CompileError(f"intrinsic {s.name!r} stands in the vectorized loop {lane}; make it serial or unrolled")
    d = description(s.name)
    old, a, b = s.reads
    lanes, pack = d.shape("B")
    accumulator = _value(values, old, d.buffers["C"].dtype, lanes, 1)
    first = _value(values, a, d.buffers["A"].dtype, 1, pack)
    every = _in_all_lanes(values, first, lanes)
    second = _value(values, b, d.buffers["B"].dtype, lanes, pack, instruction.memory)
    _write(values, s.writes[0], instruction.accumulate(values, accumulator, every, second))


def _prefetch(values: Values, s: Intrinsic) -> None:
    """Asks for cache lines: into the level 2 cache, as what comes soon would only crowd level 1."""
    values.declarations.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    for region in s.reads:
        pointer = values.pointer(region.buffer, _place(values, region))
        values.w.line(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 2, i32 1)")


def _place(values: Values, region: Region) -> Linear:
    return values.offset(region.buffer, tuple(start for start, _ in region.ranges))


def _value(values: Values, region: Region, dtype: DType, lanes: int, pack: int, again: bool = False) -> Value:
    """What lies in a region, as a vector; `again` reads it again if that was read before.

    LLVM makes one load of all that are alike. So those to be repeated are of address spaces that mean nothing (x86
    gives a meaning to those from 256 on only): every one has one use, and becomes part of the instruction that uses it.
    """
    x, count = _place(values, region), lanes * pack
    if values.buffers[region.buffer].scope == "register":
        return values.elements((region.buffer, _constant(x, region), count))
    space, key = 0, ("region", region.buffer, linear_key(x), count, 0)
    while known := next((v.loads[key] for v in reversed(values.w.levels) if key in v.loads), None):
        space += 1
        if not again or space >= SPACES:
            return Value(known[0], dtype, count)
        key = (*key[:-1], space)
    kind = Value("", dtype, count).type
    pointer = f"ptr {values.pointer(region.buffer, x)}"
    if space:
        pointer = f"ptr addrspace({space}) " + values.w.instruction(
            f"addrspacecast {pointer} to ptr addrspace({space})"
        )
    ssa = values.w.effect(f"load {kind}, {pointer}, align {dtype.bytes}")
    values.w.made_at[ssa] = values.w.depth
    values.w.top.loads[key] = (ssa, frozenset({region.buffer}))
    return Value(ssa, dtype, count)


def _in_all_lanes(values: Values, x: Value, lanes: int) -> Value:
    """A few elements side by side, repeated for every lane: read as one number it is a broadcast."""
    w = values.w
    bits = x.dtype.bits * x.lanes
    number = w.instruction(f"bitcast {x.typed} to i{bits}")
    first = w.instruction(f"insertelement <{lanes} x i{bits}> poison, i{bits} {number}, i64 0")
    chosen = f"<{lanes} x i32> zeroinitializer"
    spread = w.instruction(f"shufflevector <{lanes} x i{bits}> {first}, <{lanes} x i{bits}> poison, {chosen}")
    whole = Value("", x.dtype, x.lanes * lanes)
    return Value(w.instruction(f"bitcast <{lanes} x i{bits}> {spread} to {whole.type}"), x.dtype, whole.lanes)


def _write(values: Values, region: Region, x: Value) -> None:
    place = _place(values, region)
    if values.buffers[region.buffer].scope == "register":
        values.put((region.buffer, _constant(place, region), x.lanes), x)
        return
    values.w.forget_loads((region.buffer,))
    values.w.line(f"store {x.typed}, ptr {values.pointer(region.buffer, place)}, align {x.dtype.bytes}")


def _constant(x: Linear, region: Region) -> int:
    if x.terms:
        raise CompileError(
            f"a region of the register buffer {region.buffer} starts at {x.expression()!r}, which is not constant"
        )
    return x.const
