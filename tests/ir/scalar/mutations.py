"""Every way to change one node of a scalar."""

from __future__ import annotations

from collections.abc import Iterator

from tcompiler.ir import dtypes as dt
from tcompiler.ir.scalar.grammar import (
    Binary,
    Cast,
    Const,
    Load,
    Scalar,
    Select,
    Unary,
    Var,
    const,
    index,
    map_children,
    postorder,
)


def changes(n: Scalar) -> Iterator[Scalar]:
    """Nodes that differ from n in one field."""
    match n:
        case Const(dtype=d, bits=bits):
            yield Const(d, bits ^ 1)
            yield Const(dt.u8 if d is not dt.u8 else dt.i8, bits & 0xFF)
        case Var(dtype=d):
            yield const(d, 1)
        case Unary(op=op, a=a):
            yield Unary("neg" if op != "neg" else "abs", a)
        case Binary(op=op, a=a, b=b):
            yield Binary("sub" if op != "sub" else "add", a, b)
            if a is not b:
                yield Binary(op, b, a)
        case Select(cond=c, a=a, b=b):
            if a is not b:
                yield Select(c, b, a)
        case Cast(dtype=d, a=a):
            yield Cast(dt.u8 if d is not dt.u8 else dt.i8, a)
        case Load(buffer=name, dtype=d, indices=indices):
            yield Load(name, dt.u8 if d is not dt.u8 else dt.i8, indices)
            yield Load(name, d, (*indices, index(0)))
            yield Load(f"{name}_other", d, indices)
        case _:
            pass


def mutations(root: Scalar) -> Iterator[tuple[Scalar, Scalar, Scalar]]:
    """Scalars that differ from one in one node: the old node, the new one, the whole."""
    for target in postorder(root):
        for other in changes(target):
            rebuilt: dict[Scalar, Scalar] = {}
            for n in postorder(root):
                rebuilt[n] = other if n is target else map_children(n, rebuilt.__getitem__)
            yield target, other, rebuilt[root]
