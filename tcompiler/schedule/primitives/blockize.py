"""blockize: a nest of loops around a block becomes the body of a block of its own."""

from __future__ import annotations

from tcompiler.ir.loop.grammar import Block, For, Function, IterVar, Stmt
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import (
    Scalar,
    Var,
    add,
    as_int,
    conjunction,
    conjuncts,
    equal,
    floordiv,
    index,
    loop_var,
)
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.legality import At, Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import axis_of
from tcompiler.schedule.tree import fresh, loop_named, names_used, replace

ONE = condition("blockize.chain", "the loop holds a chain of loops and one block in it, which is not opaque")
KIND = condition("blockize.kind", "the loop and those inside it are serial, unrolled or vectorized")
GUARD = condition("blockize.predicate", "the block's predicate does not depend on the loop or on those inside it")
DIVIDES = condition(
    "blockize.divides",
    "every iter var is q * n + r, where the loops outside make q and those inside make r = 0, …, n - 1, as digits "
    "make a number, and n divides its extent",
)

_KINDS = ("serial", "unrolled", "vectorized")


@primitive
def blockize(function: Function, loop: str) -> Result:
    """Makes one block of a loop, the loops inside it and the block in them: from outside it is a single step.

    Before:

        for i_0 in range(4):
            for i_1 in range(8):
                for k in range(2):
                    with block("C"):
                        vi = spatial(32, i_0 * 8 + i_1); vk = reduce(2, k)
                        C[vi] += A[vi, vk]

    After ``blockize("i_1")``:

        for i_0 in range(4):
            with block("C_o"):
                vi_o = spatial(4, i_0); vk_o = reduce(1, 0)
                for i_1 in range(8):
                    for k in range(2):
                        with block("C"):
                            vi = spatial(32, vi_o * 8 + i_1); vk = reduce(2, vk_o * 2 + k)
                            C[vi] += A[vi, vk]

    An init stays inside, where it runs at the first point of the reduction as before.

    Args:
        function: The function.
        loop: The outermost loop of what becomes the block's body.

    Returns:
        The new function and the name of the new block, `{block}_o`.

    Raises:
        ScheduleError: If a condition of blockize does not hold.
    """
    target = loop_named(function, loop)
    inner: list[For] = []
    stmt: Stmt = target
    while isinstance(stmt, For):
        if stmt.kind not in _KINDS:
            refuse(KIND, stmt, f"the loop {stmt.var.name} is {stmt.kind}", "blockize a loop inside it")
        inner.append(stmt)
        stmt = stmt.body
    if not isinstance(stmt, Block) or stmt.opaque:
        what = f"{stmt.name}, which is opaque" if isinstance(stmt, Block) else "several statements"
        refuse(ONE, target, f"{loop} is around {what}", "choose a loop around a single block that is not opaque")
        return Result(function)
    b = stmt
    running = frozenset(s.var for s in inner)
    for c in conjuncts(b.predicate):
        if not free_vars(c).isdisjoint(running):
            refuse(
                GUARD,
                At(b, "where="),
                f"the predicate of {b.name} depends on {', '.join(sorted(v.name for v in free_vars(c) & running))}",
                "peel first, or pad_einsum to extents that divide",
            )
    used = names_used(function)
    (name,) = fresh(used, [f"{b.name}_o"])
    taken = {it.var.name for it in b.iters} | used | {s.var.name for s in inner}
    iters: list[IterVar] = []
    outer: list[Scalar] = []
    bindings: list[Scalar] = []
    for it, binding in zip(b.iters, b.bindings, strict=True):
        quotient, size, part = _divided(b, it, binding, running)
        assert it.var.extent is not None
        extent = it.var.extent if size == 1 else simplify(floordiv(it.var.extent, size))
        (wanted,) = fresh(taken, [f"{it.var.name}_o"])
        var = loop_var(wanted, extent)
        iters.append(IterVar(var, it.kind))
        outer.append(quotient)
        bindings.append(simplify(add(var * size, part)))
    inside: Stmt = Block(
        b.name, b.iters, tuple(bindings), b.body, init=b.init, reads=b.reads, writes=b.writes, annotations=b.annotations
    )
    for s in reversed(inner):
        inside = For(s.var, s.kind, inside, s.annotations)
    new = Block(name, tuple(iters), tuple(outer), inside, conjunction(*conjuncts(b.predicate)))
    return Result(replace(function, target, new), (name,))


def _divided(b: Block, it: IterVar, binding: Scalar, running: frozenset[Var]) -> tuple[Scalar, int, Scalar]:
    """A binding as q * n + r: q over the outer loops, n, and r over the inner ones."""
    if free_vars(binding).isdisjoint(running):
        return binding, 1, index(0)
    found = axis_of(simplify(binding), running)
    where = At(b, f"{it.var.name} = ")
    remedy = "split the loops that feed it, the inner ones as digits of the lowest place, and blockize those"
    if found is None:
        refuse(DIVIDES, where, f"{it.var.name} of {b.name} mixes loops outside and inside in another way", remedy)
        return binding, 1, index(0)
    start, axis = found
    quotient = simplify(floordiv(start, axis.extent))
    if prove(equal(quotient * axis.extent, start)) is not True:
        refuse(
            DIVIDES,
            where,
            f"{it.var.name} of {b.name} does not start at multiples of {axis.extent}",
            f"split by {axis.extent} what feeds it",
        )
    extent = as_int(it.var.extent)
    if axis.extent > 1 and (extent is None or extent % axis.extent):
        refuse(
            DIVIDES,
            where,
            f"the extent of {it.var.name} of {b.name} is {it.var.extent!r}, no multiple of {axis.extent}",
            "peel, or pad_einsum to an extent that divides",
        )
    return quotient, axis.extent, axis.value
