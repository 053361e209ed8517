"""What machine instructions mean: each is a loop function of one block, its operands the function's buffers.

An `Intrinsic` statement names one of these. Its writes are the regions that stand for the outputs, its reads those of
the outputs that are updated, followed by the inputs, each of the shape that is declared here once dimensions of extent
1 are left out. Which target has an instruction, and its code, is the business of a backend.

All of those below accumulate a sum of products over p in the lanes j; the operand without j is one for all lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, Stmt, Update, buffer_table
from tcompiler.ir.loop.memory import Array, IntrinsicMeaning
from tcompiler.ir.loop.text import parse_function
from tcompiler.ir.scalar.grammar import as_int

PREFETCH = "prefetch"
"""Asks for the cache lines of the elements that it names as reads, and does nothing to any."""

_DOT = """
@loop.function
def dot(A: {a}[{p}], B: {b}[{j}, {p}], C: out({c}[{j}])):
    for j in range({j}):
        for p in range({p}):
            with block("dot"):
                vj = spatial({j}, j)
                vp = reduce({p}, p)
                C[vj] += cast({c}, A[vp]) * cast({c}, B[vj, vp])
"""

_DOTS = {
    # a sum of two products of 16-bit integers: vpmaddwd and vpaddd, or vpdpwssd which is both
    "x86.dot_i16": ("i16", "i16", "i32", 2),
    # a sum of four products of unsigned and signed bytes: vpdpbusd
    "x86.dot_u8i8": ("u8", "i8", "i32", 4),
    "x86.dot_i8u8": ("i8", "u8", "i32", 4),
    # the same by vpmaddubsw, which sums two products in 16 bits, vpmaddwd and vpaddd
    "x86.madd_u8i8": ("u8", "i8", "i32", 4),
    "x86.madd_i8u8": ("i8", "u8", "i32", 4),
    # the first of these whose vpmaddubsw reads B from memory itself, every time that it is used
    "x86.madd_u8m8": ("u8", "i8", "i32", 4),
    # a sum of two products of bfloat16 numbers: vdpbf16ps
    "x86.dot_bf16": ("bf16", "bf16", "f32", 2),
}
_LIMITS = {
    # two products of 255 and 64 are below 2¹⁵; those of larger signed numbers may saturate
    "x86.madd_u8i8": {"B": (-64, 64)},
    "x86.madd_u8m8": {"B": (-64, 64)},
    "x86.madd_i8u8": {"A": (-64, 64)},
}
_LANES = (4, 8, 16)

DESCRIPTIONS: dict[str, str] = {
    f"{name}x{lanes}": _DOT.format(a=a, b=b, c=c, p=p, j=lanes)
    for name, (a, b, c, p) in _DOTS.items()
    for lanes in _LANES
}
"""The text of every instruction's meaning by its name."""


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """An instruction's meaning, taken apart.

    Attributes:
        name: The instruction.
        function: What it means: inputs and outputs are its operands.
        loops: Its loops, outermost first.
        block: The block inside them.
        update: What that does.
        buffers: Its operands by name.
        limits: By operand, the least and the largest value with which it means that; absent where any will do.
    """

    name: str
    function: Function
    loops: tuple[For, ...]
    block: Block
    update: Update
    buffers: dict[str, Buffer]
    limits: Mapping[str, tuple[int, int]]

    def shape(self, operand: str) -> tuple[int, ...]:
        """Extents of an operand."""
        return tuple(as_int(e) or 0 for e in self.buffers[operand].shape)


@cache
def description(name: str) -> Description:
    """The meaning of an instruction.

    Raises:
        KeyError: If none has this name.
    """
    function = parse_function(DESCRIPTIONS[name])
    loops: list[For] = []
    stmt: Stmt = function.body
    while isinstance(stmt, For):
        loops.append(stmt)
        stmt = stmt.body
    assert isinstance(stmt, Block) and isinstance(stmt.body, Update)
    limits = _LIMITS.get(name.rpartition("x")[0], {})
    return Description(name, function, tuple(loops), stmt, stmt.body, buffer_table(function), limits)


@cache
def meanings() -> dict[str, IntrinsicMeaning]:
    """What every instruction does to arrays: its description at all points at once, for interpreter and evaluator."""
    return {name: _meaning(description(name)) for name in DESCRIPTIONS} | {PREFETCH: lambda writes, reads, args: None}


def _meaning(d: Description) -> IntrinsicMeaning:
    wide = d.buffers["C"].dtype.numpy
    shape = d.shape("B")

    saturates = bool(d.limits)

    def run(writes: Sequence[Array], reads: Sequence[Array], args: Sequence[Any]) -> None:
        old, a, b = reads
        products = a.reshape(shape[1]).astype(wide) * b.reshape(shape).astype(wide)
        if saturates:  # as the machine does beyond the limits, so that a wrong use of it shows
            products = products.reshape(shape[0], -1, 2).sum(axis=2, dtype=wide).clip(-(1 << 15), (1 << 15) - 1)
        writes[0][...] = old + products.sum(axis=1, dtype=wide).reshape(old.shape)

    return run
