"""Packing: the loop function that lays a constant out as a schedule asked for."""

from __future__ import annotations

from tcompiler.ir.layout import IndexMap
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterVar, Stmt, Store, seq
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, const, loop_var
from tcompiler.ir.scalar.rewrite import substitute


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


def _elements(shape: tuple[Scalar, ...]) -> Scalar:
    total: Scalar = const_index(1)
    for e in shape:
        total = total * e
    return total


def const_index(value: int) -> Scalar:
    """An i64 constant."""
    from tcompiler.ir.scalar.grammar import index

    return index(value)
