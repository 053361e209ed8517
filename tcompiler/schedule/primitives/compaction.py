"""Shrinking a buffer to what one iteration of a loop touches."""

from __future__ import annotations

from collections.abc import Sequence, Set

from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterKind, IterVar
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Scalar, Var, as_int, sub
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.schedule.affine.linear import linear
from tcompiler.schedule.primitives.boxes import ZERO, Span, box
from tcompiler.schedule.primitives.motion import retarget, simple_body, with_iters
from tcompiler.schedule.tree import fresh, tree


def compacted(
    function: Function,
    buffer: Buffer,
    around: For,
    users: Sequence[Block],
    inner: Set[Var],
    used: set[str],
) -> tuple[Buffer, dict[Block, Block]]:
    """Shrinks an intermediate buffer to the box that one iteration of a loop touches, and makes it private to it.

    Before, with B read and written inside i only:

        B = alloc(f32[64, 32])
        for i in range(16):
            ... B[vi, vj] ...               # vi = spatial(64, i * 4 + i1)

    After:

        B = alloc(f32[4, 32], scope="local")
        for i in range(16):
            ... B[vi - v_i * 4, vj] ...     # v_i = spatial(16, i)

    The caller knows that nothing outside the loop uses the buffer, and that every value read in an iteration of the
    loop was written in that iteration. Where a dimension's box is not known as a constant extent, or a block touches
    the buffer by regions, the dimension stays. A buffer of scope "global" becomes "local", so that the loop and those
    around it may become parallel, unless a loop inside is parallel already: its iterations share the buffer.

    Args:
        function: The function, which need not hold the users yet.
        buffer: The buffer.
        around: The loop.
        users: All blocks that use the buffer.
        inner: Variables of the loops inside the loop.
        used: Names of loops, blocks, buffers and parameters.

    Returns:
        The new buffer, and those users that change.
    """
    scope = "local" if buffer.scope == "global" and not _parallel_below(function, users, around) else buffer.scope
    if all(map(simple_body, users)):
        spans = box(function, buffer, users, inner)
        assert spans is not None
        shape = tuple(s.extent for s in spans)
        if any(a is not b for a, b in zip(shape, buffer.shape, strict=True)):
            shifted = _shift(users, buffer.name, spans, used)
            if shifted is not None:
                return Buffer(buffer.name, buffer.dtype, shape, None, scope), shifted
    if scope == buffer.scope:
        return buffer, {}
    return Buffer(buffer.name, buffer.dtype, buffer.shape, buffer.strides, scope), {}


def _parallel_below(function: Function, users: Sequence[Block], around: For) -> bool:
    """Whether a loop inside a loop, around one of the users, is parallel."""
    t = tree(function)
    for user in users:
        if user not in t.parent:
            continue
        above = t.loops_above(user)
        if any(s.kind == "parallel" for s in above[above.index(around) + 1 :]):
            return True
    return False


def _shift(users: Sequence[Block], buffer: str, spans: Sequence[Span], used: set[str]) -> dict[Block, Block] | None:
    """The users with the spans' starts subtracted from their indices; None where one of them cannot say a start."""
    changed: dict[Block, Block] = {}
    for block in users:
        added: list[tuple[IterVar, Scalar]] = []
        taken = used | {it.var.name for it in block.iters}
        starts = []
        for span in spans:
            mapping: dict[Scalar, Scalar] = {}
            for var in sorted(free_vars(span.start), key=lambda v: v.name):
                if var.extent is None:
                    continue
                name = _iter_for(block, var, added, taken)
                if name is None:
                    return None
                mapping[var] = name
            starts.append(substitute(span.start, mapping))
        if all(s is ZERO for s in starts):
            continue

        def at(name: str, indices: tuple[Scalar, ...], starts: list[Scalar] = starts) -> tuple[str, tuple[Scalar, ...]]:
            return name, tuple(_minus(i, s) for i, s in zip(indices, starts, strict=True))

        body = retarget(block.body, {buffer}, at)
        init = None if block.init is None else retarget(block.init, {buffer}, at)
        changed[block] = with_iters(block, added, body, init)
    return changed


def _minus(node: Scalar, start: Scalar) -> Scalar:
    """node - start, with constants gathered and a start that cancels gone."""
    if start is ZERO:
        return node
    if as_int(node) is not None or as_int(start) is not None:
        return simplify(sub(node, start))
    difference = sub(node, start)
    cancels = not linear(node)[0].keys().isdisjoint(linear(start)[0])
    return simplify(difference) if cancels else difference


def _iter_for(block: Block, var: Var, added: list[tuple[IterVar, Scalar]], taken: set[str]) -> Var | None:
    """An iter var of the block that is bound to a loop variable; a new one where there is none.

    A new iter var has the kind of those that the loop feeds already. None where a new reduce iter var might not be 0
    at the points where init runs.
    """
    for it, binding in [*zip(block.iters, block.bindings, strict=True), *added]:
        if binding is var:
            return it.var
    kinds = {it.kind for it, binding in zip(block.iters, block.bindings, strict=True) if var in free_vars(binding)}
    kind: IterKind = "ordered" if "ordered" in kinds else "reduce" if "reduce" in kinds else "spatial"
    if kind != "spatial" and block.init is not None and not _zero_with_reduce_iters(block, var):
        return None
    (name,) = fresh(taken, [f"v_{var.name}"])
    new = Var(name, var.dtype, var.extent)
    added.append((IterVar(new, kind), var))
    return new


def _zero_with_reduce_iters(block: Block, var: Var) -> bool:
    """Whether a loop variable is 0 wherever all reduce iters are."""
    for it, binding in zip(block.iters, block.bindings, strict=True):
        if it.kind == "reduce":
            terms, constant = linear(binding)
            if var in terms and constant >= 0 and all(c > 0 and isinstance(n, Var) for n, c in terms.items()):
                return True
    return False
