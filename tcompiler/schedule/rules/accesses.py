"""How a block's iter vars move through memory: the facts that rules choose schedules by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tcompiler.backends.llvm.linear import Linear, linear
from tcompiler.ir.loop.analysis import Access, accesses
from tcompiler.ir.loop.grammar import Block, Buffer, Function, buffer_table
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Var, as_int, postorder
from tcompiler.ir.scalar.rewrite import free_vars


@dataclass(frozen=True, slots=True)
class Operand:
    """One access of a block.

    Attributes:
        buffer: The buffer's name.
        indices: Its indices over the block's iter vars.
        strides: Elements that the address moves per step of each iter var; None for an iter var in an index that is
            not linear in it.
    """

    buffer: str
    indices: tuple[Scalar, ...]
    strides: dict[Var, int | None]

    def moves(self, var: Var) -> bool:
        """Whether the access depends on an iter var."""
        return self.strides.get(var, 0) != 0


@dataclass(frozen=True, slots=True)
class Shape:
    """A block's iterations and accesses.

    Attributes:
        extents: Extent of every iter var.
        spatial: Spatial iter vars in order.
        reduce: Reduce iter vars in order.
        target: The first element written.
        operands: Elements read (an Update's own target not among them).
    """

    extents: dict[Var, int]
    spatial: tuple[Var, ...]
    reduce: tuple[Var, ...]
    target: Operand
    operands: tuple[Operand, ...]

    def points(self) -> int:
        """Number of iterations."""
        total = 1
        for e in self.extents.values():
            total *= e
        return total

    def innermost(self) -> Var | None:
        """The spatial iter var along which the target is contiguous, if one with more than one iteration is."""
        for v in reversed(self.spatial):
            if self.target.strides.get(v) == 1 and self.extents[v] > 1:
                return v
        return None


def element_strides(buffer: Buffer) -> tuple[int, ...] | None:
    """Strides in elements, None where an extent is symbolic."""
    if buffer.strides is not None:
        given = tuple(as_int(s) for s in buffer.strides)
        return None if any(s is None for s in given) else tuple(s for s in given if s is not None)
    result: list[int] = []
    step = 1
    for extent in reversed(buffer.shape):
        size = as_int(extent)
        if size is None:
            return None
        result.append(step)
        step *= size
    return tuple(reversed(result))


def operand_of(buffers: Mapping[str, Buffer], access: Access | Load) -> Operand | None:
    """How an access moves through memory; None where a stride is symbolic."""
    strides = element_strides(buffers[access.buffer])
    if strides is None:
        return None
    total = Linear(0, {})
    for i, s in zip(access.indices, strides, strict=True):
        total = total + linear(i, {}).scaled(s)
    moves: dict[Var, int | None] = {}
    for atom, c in total.terms.items():
        if isinstance(atom, Var):
            moves[atom] = c if atom not in moves else None
        else:
            moves.update(dict.fromkeys(free_vars(atom), None))
    return Operand(access.buffer, access.indices, moves)


def shape_of(function: Function, block: Block) -> Shape | None:
    """Reads a block's iterations and accesses; None where an extent is symbolic or a region is opaque."""
    buffers = buffer_table(function)
    extents: dict[Var, int] = {}
    for i in block.iters:
        extent = as_int(i.var.extent)
        if extent is None or i.kind == "ordered":
            return None
        extents[i.var] = extent
    found = accesses(block)
    if found.read_regions or found.write_regions or not found.writes:
        return None

    target = operand_of(buffers, found.writes[0])
    reads = [operand_of(buffers, r) for r in found.reads]
    if target is None or any(r is None for r in reads):
        return None
    return Shape(
        extents,
        tuple(i.var for i in block.iters if i.kind == "spatial"),
        tuple(i.var for i in block.iters if i.kind == "reduce"),
        target,
        tuple(r for r in reads if r is not None),
    )


def steps(block: Block, operand: Operand) -> dict[Scalar, int]:
    """Elements that an access of a block moves per step of what its iter vars are bound to, loops above all."""
    result: dict[Scalar, int] = {}
    for i, binding in zip(block.iters, block.bindings, strict=True):
        for atom, by in linear(binding, {}).terms.items():
            result[atom] = result.get(atom, 0) + by * (operand.strides.get(i.var) or 0)
    return result


def moduli(shape: Shape | None) -> dict[Var, set[int | None]]:
    """What the iter vars are divided by that operands are read by the quotients or remainders of."""
    found: dict[Var, set[int | None]] = {}
    for n in postorder(*(i for o in shape.operands for i in o.indices)) if shape is not None else ():
        if isinstance(n, Binary) and n.op in ("floordiv", "floormod") and isinstance(n.a, Var):
            found.setdefault(n.a, set()).add(as_int(n.b))
    return found
