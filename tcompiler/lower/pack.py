"""Packing: the loop functions that make of a constant, once, what a schedule asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from tcompiler.ir.layout import IndexMap
from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import (
    Block,
    Buffer,
    For,
    Function,
    Intrinsic,
    IterVar,
    Region,
    Seq,
    Stmt,
    Store,
    Update,
    buffer_table,
    map_children,
    seq,
)
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, const, loop_var
from tcompiler.ir.scalar.rewrite import loads, rewrite, substitute


def pack_function(source: Buffer, packed: Buffer, index_map: IndexMap) -> Function:
    """Writes packed[index_map(i)] = source[i] for every i, after filling the padding with zeros.

    Args:
        source: The constant as the model has it.
        packed: The buffer as the kernel wants it.
        index_map: From the indices of source to those of packed.
    """
    x = Buffer("source", source.dtype, source.shape)
    y = Buffer("packed", packed.dtype, packed.shape)
    fill_vars = [loop_var(f"f{k}", e) for k, e in enumerate(packed.shape)]
    fill_iters = [Var(f"v_f{k}", v.dtype, v.extent) for k, v in enumerate(fill_vars)]
    fill: Stmt = Block(
        "fill",
        tuple(IterVar(v, "spatial") for v in fill_iters),
        tuple(fill_vars),
        Store("packed", tuple(fill_iters), const(packed.dtype, 0)),
    )
    for v in reversed(fill_vars):
        fill = For(v, "serial", fill)
    loops = [loop_var(f"i{k}", e) for k, e in enumerate(source.shape)]
    iters = [Var(f"v_i{k}", v.dtype, v.extent) for k, v in enumerate(loops)]
    mapping: dict[Scalar, Scalar] = dict(zip(index_map.inputs, iters, strict=True))
    place = tuple(simplify(substitute(o, mapping)) for o in index_map.outputs)
    copy: Stmt = Block(
        "copy",
        tuple(IterVar(v, "spatial") for v in iters),
        tuple(loops),
        Store("packed", place, Load("source", source.dtype, tuple(iters))),
    )
    for v in reversed(loops):
        copy = For(v, "serial", copy)
    padded = _elements(source.shape) != _elements(packed.shape)
    body = seq(fill, copy) if padded else copy
    return Function("pack", (), (x, y), ("source",), ("packed",), body)


@dataclass(frozen=True, slots=True)
class Hoisted:
    """A scheduled kernel without what it computed of constants alone.

    Attributes:
        function: The kernel.
        packs: For each input whose meaning has changed, and each one that is new, the function that makes it: its input
            is "source", its output "packed".
        sources: For each new input, behind the others in this order, the constant input that it is made of.
    """

    function: Function
    packs: dict[str, Function]
    sources: dict[str, str]


def hoisted(function: Function, constants: Collection[str]) -> Hoisted:
    """Takes out of a scheduled kernel what it computes of a single constant input alone.

    Where nests at the top level read nothing but one constant, and write one buffer that nothing else writes, the
    kernel takes that buffer as an input: in the constant's place if nothing else reads it, as one more otherwise.

    Args:
        function: A scheduled function.
        constants: Its inputs that are known at compile time.
    """
    packs: dict[str, Function] = {}
    sources: dict[str, str] = {}
    for constant in [n for n in function.inputs if n in constants]:
        nests = function.body.stmts if isinstance(function.body, Seq) else (function.body,)
        names = [touched(s) for s in nests]
        readers = [k for k, t in enumerate(names) if constant in t.reads]
        written: dict[str, list[int]] = {}
        for k in readers:
            if names[k].reads - names[k].writes == {constant} and len(names[k].writes) == 1:
                written.setdefault(next(iter(names[k].writes)), []).append(k)
        for buffer, own in written.items():
            table = buffer_table(function)
            source, target = table[constant], table[buffer]
            writers = [k for k, t in enumerate(names) if buffer in t.writes]
            if writers != own or buffer in function.outputs or target.scope != "global" or target.strides is not None:
                continue
            alone = own == readers
            name = constant if alone else buffer
            if not alone:
                sources[name] = constant
            packs[name] = Function(
                "pack",
                (),
                (
                    Buffer("source", source.dtype, source.shape, source.strides),
                    Buffer("packed", target.dtype, target.shape),
                ),
                ("source",),
                ("packed",),
                renamed(seq(*(nests[k] for k in own)), {constant: "source", buffer: "packed"}),
            )
            function = _without(function, [nests[k] for k in own], buffer, constant if alone else None)
    return Hoisted(function, packs, sources)


def _without(function: Function, nests: Sequence[Stmt], buffer: str, constant: str | None) -> Function:
    """A function that takes what some of its nests wrote as an input: in the place of a constant, or behind all."""
    body = function.body.stmts if isinstance(function.body, Seq) else (function.body,)
    rest = seq(*(s for s in body if all(s is not n for n in nests)))
    if constant is None:
        return replace(function, inputs=(*function.inputs, buffer), body=rest)
    made = buffer_table(function)[buffer]
    buffers = tuple(
        Buffer(constant, made.dtype, made.shape) if b.name == constant else b
        for b in function.buffers
        if b.name != buffer
    )
    return replace(function, buffers=buffers, body=renamed(rest, {buffer: constant}))


def renamed(stmt: Stmt, names: Mapping[str, str]) -> Stmt:
    """A statement with other names for some buffers."""

    def value(node: Scalar) -> Scalar:
        if not any(n.buffer in names for n in loads(node)):
            return node

        def load(n: Scalar) -> Scalar:
            return Load(names.get(n.buffer, n.buffer), n.dtype, n.indices) if isinstance(n, Load) else n

        return rewrite(node, load)

    def regions(old: tuple[Region, ...]) -> tuple[Region, ...]:
        return tuple(
            Region(names.get(r.buffer, r.buffer), tuple((value(a), value(b)) for a, b in r.ranges)) for r in old
        )

    def visit(s: Stmt) -> Stmt:
        match s:
            case Store(buffer=buffer, indices=indices, value=v):
                return Store(names.get(buffer, buffer), tuple(map(value, indices)), value(v))
            case Update(targets=targets, reducer=reducer, values=values):
                moved = [Load(names.get(t.buffer, t.buffer), t.dtype, tuple(map(value, t.indices))) for t in targets]
                return Update(tuple(moved), reducer, tuple(map(value, values)))
            case Intrinsic(name=name, writes=writes, reads=reads, args=args, queue=queue):
                return Intrinsic(name, regions(writes), regions(reads), tuple(map(value, args)), queue)
            case Block():
                inner = map_children(s, visit)
                assert isinstance(inner, Block)
                if not inner.reads and not inner.writes:
                    return inner
                return replace(inner, reads=regions(inner.reads), writes=regions(inner.writes))
            case _:
                return map_children(s, visit)

    return visit(stmt)


def _elements(shape: tuple[Scalar, ...]) -> Scalar:
    total: Scalar = const_index(1)
    for e in shape:
        total = total * e
    return total


def const_index(value: int) -> Scalar:
    """An i64 constant."""
    from tcompiler.ir.scalar.grammar import index

    return index(value)
