"""write_over: a map writes its result where its operand lay, and needs no second buffer."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterVar, Stmt, Store
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import TRUE, Load, Scalar, Var, as_int, postorder, sub
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.schedule.affine.coverage import stays_inside
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import ZERO
from tcompiler.schedule.primitives.motion import (
    child_towards,
    is_output,
    order,
    readers,
    rebuilt,
    retarget,
    shared_loops,
    simple_body,
    top,
    with_iters,
    writers,
)
from tcompiler.schedule.tree import block_named, buffer_named, fresh

MAP = condition("write_over.map", "the block is one Store that runs at every point, and reads the buffer at one place")
OWNED = condition("write_over.intermediate", "the buffer is an intermediate one, and of the type that the block writes")
ALONE = condition("write_over.alone", "no other block reads or writes what the block writes")
PLAIN = condition("write_over.accesses", "all blocks that use the buffer use it by loads, stores and updates")
LAST = condition(
    "write_over.last", "the others that use the buffer are done with it before the block's own loops begin"
)
FLOW = condition(
    "write_over.flow", "what an iteration of the loops around all of them reads of the buffer, it has written"
)
PLACE = condition(
    "write_over.place",
    "each iter var of the block that says where it reads the buffer is an index of what it writes too and takes all of "
    "its values; what else says where it writes is fixed meanwhile",
)


@primitive
def write_over(function: Function, block: str, buffer: str) -> Result:
    """Keeps a buffer where its last reader, a map, puts its result: each element is written over by what becomes of it.

    Before:

        T = alloc(f32[1, 64], scope="local")
        for i in range(8):
            for j0 in range(64):
                with block("B"):  vi = spatial(8, i); vj = spatial(64, j0); T[0, vj] = f(A[vi, vj])
            for j1 in range(64):
                with block("C"):  vi = spatial(8, i); vj = spatial(64, j1); C[vi, vj] = g(T[0, vj])

    After ``write_over("C", "T")``:

        for i in range(8):
            for j0 in range(64):
                with block("B"):  vi = spatial(8, i); vj = spatial(64, j0); C[vi, vj] = f(A[vi, vj])
            for j1 in range(64):
                with block("C"):  vi = spatial(8, i); vj = spatial(64, j1); C[vi, vj] = g(C[vi, vj])

    Args:
        function: The function.
        block: The map.
        buffer: The buffer, which is gone afterwards.

    Returns:
        The new function, and no names.

    Raises:
        ScheduleError: If a condition of write_over does not hold.
    """
    b, old = block_named(function, block), buffer_named(function, buffer)
    found_map = _map(b, buffer)
    if found_map is None:
        return Result(function)
    store, place = found_map
    new = buffer_named(function, store.buffer)
    if is_output(function, buffer) or old.dtype is not new.dtype:
        found = "belongs to the caller" if is_output(function, buffer) else f"holds {old.dtype}"
        refuse(OWNED, old, f"{buffer} {found}", f"choose an intermediate buffer of {new.dtype}")
    for other in (*readers(function, store.buffer), *writers(function, store.buffer)):
        if other is not b:
            refuse(ALONE, other, f"{other.name} uses {store.buffer}", "choose the only block that uses its result")
    if store.buffer in function.inputs:
        refuse(ALONE, new, f"{store.buffer} has values before", "choose a block that writes an output or a buffer")
    users = list(dict.fromkeys([*writers(function, buffer), *readers(function, buffer)]))
    for other in users:
        if not simple_body(other):
            refuse(PLAIN, other, f"{other.name} uses {buffer} by regions", "write over it before it is blockized")
    others = [u for u in users if u is not b]
    around = _around(function, b, others)
    fixed = {s.var for s in around}
    _last(function, b, others, around)
    inside: Stmt = around[-1].body if around else function.body
    if not stays_inside(function, inside, [s.var for s in around], buffer):
        where = around[-1] if around else old
        refuse(FLOW, where, f"it is not known that {buffer} is written before it is read", "move its writer inside")
    rest = _places(b, store, place, old, fixed)
    changes: dict[Stmt, Stmt] = {}
    for user in users:
        changes[user] = _moved(b, user, store, place, buffer, rest, fixed)
    return Result(rebuilt(function, changes, buffers=tuple(x for x in function.buffers if x is not old)))


def _map(b: Block, buffer: str) -> tuple[Store, tuple[Scalar, ...]] | None:
    """The block's Store, and where it reads the buffer."""
    found = "is no such map"
    if isinstance(b.body, Store) and b.init is None and b.predicate is TRUE and b.body.buffer != buffer:
        read = [n for n in postorder(b.body.value, *b.body.indices) if isinstance(n, Load)]
        places = {n.indices for n in read if n.buffer == buffer}
        if len(places) == 1 and not any(isinstance(n, Load) for n in postorder(*b.body.indices)):
            return b.body, next(iter(places))
        found = f"reads {buffer} at {len(places)} places"
    refuse(MAP, b, f"{b.name} {found}", "choose a map of the buffer, before its loops are split unevenly")
    return None


def _around(function: Function, b: Block, others: Sequence[Block]) -> list[For]:
    """The loops around all users of the buffer."""
    common = shared_loops(function, b, b)
    for other in others:
        with_other = shared_loops(function, b, other)
        common = [s for s in common if s in with_other]
    return common if others else []


def _last(function: Function, b: Block, others: Sequence[Block], around: Sequence[For]) -> None:
    at = order(function)

    def part(x: Block) -> Stmt:
        return child_towards(function, around[-1], x) if around else top(function, x)

    for other in others:
        if at[other.name] > at[b.name] or part(other) is part(b):
            when = "after" if at[other.name] > at[b.name] else "in the same loops as"
            refuse(
                LAST,
                other,
                f"{other.name} uses the buffer {when} {b.name}",
                "choose the block that uses the buffer last, in loops of its own",
            )


def _places(b: Block, store: Store, place: Sequence[Scalar], old: Buffer, fixed: set[Var]) -> dict[Var, Scalar]:
    """The iter vars that say where the block writes and not where it reads the buffer, with their bindings."""
    bound = {it.var: binding for it, binding in zip(b.iters, b.bindings, strict=True)}
    moving: set[Var] = set()
    for i, extent in zip(place, old.shape, strict=True):
        if as_int(extent) == 1:
            continue
        whole = isinstance(i, Var) and i in bound and i not in moving and i.extent is extent
        loops = {v for v in free_vars(bound[i]) if v.extent is not None} if whole and isinstance(i, Var) else set()
        if not whole or not (loops.isdisjoint(fixed) or loops <= fixed):
            refuse(PLACE, b, f"{i!r} does not take all values below {extent!r}", "choose a map of whole rows")
        assert isinstance(i, Var)
        if i not in store.indices:
            refuse(PLACE, b, f"{i.name} is no index of {store.buffer}", "choose a map that keeps its axes")
        moving.add(i)
    rest: dict[Var, Scalar] = {}
    others = dict.fromkeys(v for i in store.indices if i not in moving for v in sorted(free_vars(i), key=_name))
    for var in others:
        if var not in bound or var in moving:
            continue
        if not free_vars(bound[var]) <= fixed | {v for v in free_vars(bound[var]) if v.extent is None}:
            refuse(PLACE, b, f"{var.name} changes while {old.name} is in use", "choose a map that keeps its axes")
        rest[var] = bound[var]
    return rest


def _name(var: Var) -> str:
    return var.name


def _moved(
    b: Block,
    user: Block,
    store: Store,
    place: Sequence[Scalar],
    buffer: str,
    rest: dict[Var, Scalar],
    fixed: set[Var],
) -> Block:
    """A user of the buffer that uses the place of the block's result instead."""
    added: list[tuple[IterVar, Scalar]] = []
    mapping: dict[Scalar, Scalar] = {}
    taken = {it.var.name for it in user.iters}
    for var, binding in rest.items():
        known = next((it.var for it, x in zip(user.iters, user.bindings, strict=True) if x is binding), None)
        if known is None:
            for it, x in zip(user.iters, user.bindings, strict=True):
                if it.kind != "spatial" and not free_vars(x).isdisjoint(free_vars(binding)):
                    refuse(PLACE, user, f"{user.name} reduces along {binding!r}", "choose loops outside reductions")
            (name,) = fresh(taken, [var.name])
            known = Var(name, var.dtype, var.extent)
            added.append((IterVar(known, "spatial"), binding))
        mapping[var] = known
    own: dict[Scalar, Scalar] = {it.var: x for it, x in zip(user.iters, user.bindings, strict=True)}
    bound = {it.var: x for it, x in zip(b.iters, b.bindings, strict=True)}

    def at(name: str, indices: tuple[Scalar, ...]) -> tuple[str, tuple[Scalar, ...]]:
        here = dict(mapping)
        for i, w in zip(indices, place, strict=True):
            if isinstance(w, Var) and w in bound and w not in rest:
                here[w] = i
                loops = {v for v in free_vars(bound[w]) if v.extent is not None}
                if loops <= fixed and loops and simplify(sub(substitute(i, own), bound[w])) is not ZERO:
                    refuse(PLACE, user, f"{user.name} uses {buffer} at {i!r} as well", "move it under the same loops")
        return store.buffer, tuple(substitute(i, here) for i in store.indices)

    body = retarget(user.body, {buffer}, at)
    init = None if user.init is None else retarget(user.init, {buffer}, at)
    return with_iters(user, added, body, init)


__all__ = ["write_over"]
