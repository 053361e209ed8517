"""cache_read and cache_write: a block reads, or writes, a copy."""

from __future__ import annotations

from tcompiler.ir.loop.analysis import accesses, touched
from tcompiler.ir.loop.grammar import SCOPES, Block, Buffer, Function, IterVar, Stmt, Store
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, add, as_int, index, loop_var, sub
from tcompiler.schedule.legality import Condition, Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import ZERO, Span, box, filled, inner_loops
from tcompiler.schedule.primitives.motion import (
    loops,
    order,
    own_domain,
    readers,
    rebuilt,
    retarget,
    simple_body,
    top,
    with_iters,
    writers,
)
from tcompiler.schedule.tree import block_named, blocks_under, buffer_named, fresh, names_used, tree

CR_SCOPE = condition("cache_read.scope", "the scope is global, shared, local, register or fragment")
CR_READS = condition("cache_read.reads", "the block reads the buffer by plain loads and does not write it")
CR_BEFORE = condition("cache_read.before", "what the buffer holds is complete before the block's outermost loop")

CR_DEFINED = condition("cache_read.defined", "all of the box that the block reads has been written, by one block")

CW_SCOPE = condition("cache_write.scope", "the scope is global, shared, local, register or fragment")
CW_WRITES = condition("cache_write.writes", "the block is the only writer of the buffer, by stores and updates")
CW_AFTER = condition("cache_write.after", "nothing else in the block's outermost loop reads the buffer")
CW_FILLS = condition("cache_write.fills", "the block fills a box: its iter vars index the buffer plainly")
CW_PRIVATE = condition(
    "cache_write.private", "the scope is global where a parallel loop surrounds the block: the copy back stands outside"
)


@primitive
def cache_read(function: Function, block: str, buffer: str, scope: str) -> Result:
    """Makes a block read a copy of a buffer.

    Before:

        for i in range(64):
            with block("C"):  vi = spatial(64, i); C[vi] = A[vi + 8]

    After ``cache_read("C", "A", "global")``:

        A_cache = alloc(f32[64])
        for A_copy_ax0 in range(64):
            with block("A_copy"):  v0 = spatial(64, A_copy_ax0); A_cache[v0] = A[v0 + 8]
        for i in range(64):
            with block("C"):  vi = spatial(64, i); C[vi] = A_cache[vi]

    The copy holds the box that the block touches, and stands before the block's outermost loop; compute_at moves it
    closer. Only this block reads it.

    Args:
        function: The function.
        block: The reader.
        buffer: What it reads.
        scope: Scope of the copy.

    Returns:
        The new function and the name of the copy's block, `{buffer}_copy`; the new buffer is `{buffer}_cache`.

    Raises:
        ScheduleError: If a condition of cache_read does not hold.
    """
    b, old = block_named(function, block), buffer_named(function, buffer)
    _scope(CR_SCOPE, old, scope)
    a = accesses(b)
    if not any(r.buffer == buffer for r in a.reads) or buffer in touched(b).writes or not simple_body(b):
        if buffer in touched(b).writes:
            found, remedy = f"{block} writes {buffer}", "use cache_write"
        elif buffer in touched(b).reads:
            found, remedy = f"{block} reads {buffer} by regions", "cache before the block is made opaque"
        else:
            reads = ", ".join(sorted(touched(b).reads)) or "nothing"
            found, remedy = f"{block} does not read {buffer}", f"choose what it reads: {reads}"
        refuse(CR_READS, b, found, remedy)
    root = top(function, b)
    under = blocks_under(root)
    at = order(function)
    for other in writers(function, buffer):
        if other in under or at[other.name] > at[block]:
            refuse(
                CR_BEFORE,
                other,
                f"{other.name} writes {buffer} "
                + (f"in the same nest as {block}" if other in under else f"after {block} has read it"),
                f"cache before {other.name} is moved there" if other in under else "choose a later reader",
            )
    used = names_used(function)
    (name,) = fresh(used, [f"{buffer}_cache"])
    spans = _clipped(function, old, b, root)
    if buffer not in function.inputs and not any(_fills(w, buffer, spans) for w in writers(function, buffer)):
        refuse(
            CR_DEFINED,
            old,
            f"no block is known to write all of {buffer} that {block} reads",
            f"cache before the layout of {buffer} is changed",
        )
    cache = Buffer(name, old.dtype, tuple(s.extent for s in spans), None, scope)

    def at_cache(_: str, indices: tuple[Scalar, ...]) -> tuple[str, tuple[Scalar, ...]]:
        return name, tuple(_shifted(i, s) for i, s in zip(indices, spans, strict=True))

    init = None if b.init is None else retarget(b.init, {buffer}, at_cache)
    reader = with_iters(b, (), retarget(b.body, {buffer}, at_cache), init)
    copy_name, copy = _copy(f"{buffer}_copy", old, spans, cache, used, back=False)
    buffers = (*function.buffers, cache)
    return Result(rebuilt(function, {b: reader}, before={root: copy}, buffers=buffers), (copy_name,))


@primitive
def cache_write(function: Function, block: str, buffer: str, scope: str) -> Result:
    """Makes a block write a buffer of its own, which is copied to the old one afterwards.

    Before:

        for i in range(64):
            with block("C"):  vi = spatial(64, i); C[vi] = f(A[vi])

    After ``cache_write("C", "C", "global")``:

        C_cache = alloc(f32[64])
        for i in range(64):
            with block("C"):  vi = spatial(64, i); C_cache[vi] = f(A[vi])
        for C_copy_ax0 in range(64):
            with block("C_copy"):  v0 = spatial(64, C_copy_ax0); C[v0] = C_cache[v0]

    The copy covers the box that the block writes, and stands after the block's outermost loop; reverse_compute_at moves
    it closer.

    Args:
        function: The function.
        block: The writer.
        buffer: What it writes.
        scope: Scope of the new buffer.

    Returns:
        The new function and the name of the copy's block, `{buffer}_copy`; the new buffer is `{buffer}_cache`.

    Raises:
        ScheduleError: If a condition of cache_write does not hold.
    """
    b, old = block_named(function, block), buffer_named(function, buffer)
    _scope(CW_SCOPE, old, scope)
    if buffer not in touched(b).writes or not simple_body(b):
        written = ", ".join(sorted(touched(b).writes)) or "nothing"
        found = (
            f"{block} writes {buffer} by regions" if buffer in touched(b).writes else f"{block} does not write {buffer}"
        )
        refuse(CW_WRITES, b, found, f"choose what it writes: {written}")
    for other in writers(function, buffer):
        if other is not b:
            refuse(
                CW_WRITES,
                other,
                f"{other.name} writes {buffer} too",
                "cache before the block is split in several (decompose_reduction, peel)",
            )
    root = top(function, b)
    under = blocks_under(root)
    for other in readers(function, buffer):
        if other is not b and other in under:
            refuse(
                CW_AFTER,
                other,
                f"{other.name} reads {buffer} in the same nest",
                f"cache before {other.name} is moved there",
            )
    for s in tree(function).loops_above(b):
        if s.kind == "parallel" and scope != "global":
            refuse(
                CW_PRIVATE,
                s,
                f"{s.var.name} is parallel, so that a {scope} buffer would be lost after each of its iterations",
                'take the scope "global", or cache before the loop is made parallel',
            )
    used = names_used(function)
    (name,) = fresh(used, [f"{buffer}_cache"])
    spans = _written(b, old)
    cache = Buffer(name, old.dtype, tuple(s.extent for s in spans), None, scope)

    def at_cache(_: str, indices: tuple[Scalar, ...]) -> tuple[str, tuple[Scalar, ...]]:
        return name, tuple(_shifted(i, s) for i, s in zip(indices, spans, strict=True))

    init = None if b.init is None else retarget(b.init, {buffer}, at_cache)
    writer = with_iters(b, (), retarget(b.body, {buffer}, at_cache), init)
    copy_name, copy = _copy(f"{buffer}_copy", old, spans, cache, used, back=True)
    buffers = (*function.buffers, cache)
    return Result(rebuilt(function, {b: writer}, after={root: copy}, buffers=buffers), (copy_name,))


def _scope(failed: Condition, buffer: Buffer, scope: str) -> None:
    if scope not in SCOPES:
        refuse(failed, buffer, f'there is no scope "{scope}"', f"choose one of {', '.join(SCOPES)}")


def _clipped(function: Function, buffer: Buffer, b: Block, root: Stmt) -> list[Span]:
    """The box that a block reads, inside the buffer."""
    spans = box(function, buffer, [b], inner_loops(root), writes=False)
    assert spans is not None
    result = []
    for span, size in zip(spans, buffer.shape, strict=True):
        start, extent, most = as_int(span.start), as_int(span.extent), as_int(size)
        if start is None or extent is None or most is None:
            result.append(Span(ZERO, size))
            continue
        low, high = max(0, start), min(most, start + extent)
        result.append(Span(ZERO, size) if low >= high else Span(index(low), index(high - low)))
    return result


def _fills(w: Block, buffer: str, spans: list[Span]) -> bool:
    """Whether a block writes all of a box."""
    extents = filled(w, buffer)
    return extents is not None and not own_domain(w) and all(map(_covers, extents, spans))


def _covers(big: Span, small: Span) -> bool:
    if big.start is small.start and big.extent is small.extent:
        return True
    start, extent = as_int(big.start), as_int(big.extent)
    at, size = as_int(small.start), as_int(small.extent)
    if start is None or extent is None or at is None or size is None:
        return False
    return start <= at and at + size <= start + extent


def _written(b: Block, buffer: Buffer) -> list[Span]:
    """The box that a block fills."""
    spans = filled(b, buffer.name)
    if spans is None or own_domain(b):
        refuse(
            CW_FILLS,
            b,
            f"{b.name} is not known to fill a box of {buffer.name}",
            f"cache before the layout of {buffer.name} is changed",
        )
    return [Span(ZERO, n) for n in buffer.shape] if spans is None else list(spans)


def _shifted(node: Scalar, span: Span) -> Scalar:
    return node if span.start is ZERO else simplify(sub(node, span.start))


def _copy(
    wanted: str, outer: Buffer, spans: list[Span], cache: Buffer, used: set[str], *, back: bool
) -> tuple[str, Stmt]:
    (name,) = fresh(used, [wanted])
    iters: list[IterVar] = []
    bindings: list[Scalar] = []
    variables: list[Var] = []
    for k, span in enumerate(spans):
        (name_of_iter,) = fresh(used, [f"v{k}"])
        iters.append(IterVar(loop_var(name_of_iter, span.extent), "spatial"))
        if as_int(span.extent) == 1:
            bindings.append(ZERO)
            continue
        (loop,) = fresh(used, [f"{name}_ax{k}"])
        variables.append(loop_var(loop, span.extent))
        bindings.append(variables[-1])
    inner: tuple[Scalar, ...] = tuple(it.var for it in iters)
    there: tuple[Scalar, ...] = tuple(add(it.var, s.start) for it, s in zip(iters, spans, strict=True))
    if back:
        store = Store(outer.name, there, Load(cache.name, cache.dtype, inner))
    else:
        store = Store(cache.name, inner, Load(outer.name, outer.dtype, there))
    return name, loops(variables, Block(name, tuple(iters), tuple(bindings), store))
