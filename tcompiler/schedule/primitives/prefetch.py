"""prefetch: what a later iteration reads is asked for ahead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from tcompiler.ir.loop.analysis import accesses
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, Intrinsic, IterVar, Region, Store, Update
from tcompiler.ir.loop.intrinsics import PREFETCH
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import (
    Scalar,
    Var,
    add,
    as_int,
    floormod,
    index,
    maximum,
    minimum,
    mul,
    sub,
)
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import ZERO
from tcompiler.schedule.primitives.motion import lanes_above, rebuilt
from tcompiler.schedule.tree import block_named, buffer_named, fresh, loop_named, names_used, tree
from tcompiler.target.target import LINE_BYTES

NEST = condition("prefetch.nest", "all loops around the given one surround the block as well")
AROUND = condition("prefetch.around", "ahead and turn are loops around the given one")
LIKE = condition("prefetch.like", "both buffers have the same shape and type")
EXTENT = condition("prefetch.extent", "the loops that the lines are counted by have constant extents")
LANES = condition("prefetch.lanes", "no loop around the given one is vectorized")
READ = condition(
    "prefetch.read",
    "the block reads the buffer by one plain load, and the buffer is an input; or it writes the buffer there",
)
MANY = condition("prefetch.many", "an iteration asks for no more lines than a processor has under way")
MOST = 32
"""Lines that an iteration may ask for: processors have some tens of them under way."""


@primitive
def prefetch(
    function: Function,
    block: str,
    buffer: str,
    before: str,
    ahead: str = "",
    turn: str | Sequence[str] = "",
    like: str = "",
) -> Result:
    """Asks, in front of a loop, for the cache lines that a block will read of a buffer.

    Before:

        for p in range(8):
            for t in range(10):
                for k in range(32):
                    for s in unrolled(8):
                        for j in vectorized(16):
                            with block("C"):  …  C[vt, vp * 16 + vj] += A[vt, vk] * B[vp, vk, vj]

    After ``prefetch("C", "B", "s", "p", "t")``, in front of the loop s:

        with block("B_prefetch"):
            v_p = spatial(8, p); v_t = spatial(10, t); v_k = spatial(32, k)
            intrinsic("prefetch", reads=[B[min(v_p + 1, 7), v_k * 8 + v_t % 8, 15]])

    It asks for what the block reads in the loops that are not around the given one: one line for each iteration, and
    all lines of the lanes of a vectorized loop. With `ahead`, for what it reads in that loop's next iteration: each
    line by its last element, as one that begins in the iteration before has come with that. With `turn`, the iterations
    of the outermost of the block's own loops are shared out: each iteration of `turn` asks for some, so that all is
    asked for once it has run as often as they are many; several loops take turns as one. Of a block that adds to what
    others began, it can be what it adds to, too, and of one that stores, where it does. With `like`, the lines lie in
    the buffer as what the block reads of that other one, for a block that stores there later. What would lie outside
    the buffer is clamped into it, and no result changes. That panels wait in the cache is what Goto and van de Geijn,
    "Anatomy of High-Performance Matrix Multiplication" (2008), assume.

    Args:
        function: The function.
        block: The reader.
        buffer: What it reads.
        before: The loop in front of which the lines are asked for.
        ahead: A loop around it whose next iteration is prepared.
        turn: A loop around it, or several, outermost first, whose iterations share the work.
        like: A buffer of the same shape and type that the block reads instead; "" for the buffer itself.

    Returns:
        The new function and the name of the block, `{buffer}_prefetch`.

    Raises:
        ScheduleError: If a condition of prefetch does not hold.
    """
    b, held, place = block_named(function, block), buffer_named(function, buffer), loop_named(function, before)
    running, above = tree(function).loops_above(place), tree(function).loops_above(b)
    if list(above[: len(running)]) != list(running):
        names = ", ".join(s.var.name for s in above) or "none"
        refuse(NEST, b, f"the loops around {block} are {names}", f"choose one of them, or one beside {block}")
    for around in running:
        lanes_above(LANES, function, around, "loops")
    shared = [turn] if isinstance(turn, str) else turn
    for name in (ahead, *shared):
        if name and loop_named(function, name) not in running:
            refuse(AROUND, place, f"{name} is not around {before}", "choose a loop around it")
    model = buffer_named(function, like or buffer)
    if (model.shape, model.dtype) != (held.shape, held.dtype):
        what = f"{buffer} is {held.dtype.name}{list(held.shape)}, {like} {model.dtype.name}{list(model.shape)}"
        refuse(LIKE, b, what, "choose a buffer of the same shape and type")
    read = _read(function, b, model.name, ahead)
    used = names_used(function)
    (made,) = fresh(used, [f"{buffer}_prefetch"])
    iters = [
        IterVar(Var(n, s.var.dtype, s.var.extent), "spatial")
        for s, n in zip(running, fresh(used, [f"v_{s.var.name}" for s in running]), strict=True)
    ]
    at: dict[Scalar, Scalar] = {s.var: it.var for s, it in zip(running, iters, strict=True)}
    following = dict(at)
    if ahead:
        outer = loop_named(function, ahead)
        following[outer.var] = minimum(add(at[outer.var], index(1)), index(_extent(outer) - 1))
    own = above[len(running) :]
    bindings = [binding for it, binding in zip(b.iters, b.bindings, strict=True) if _named(read, it.var)]
    moving = [s for s in own if any(s.var in free_vars(x) for x in bindings)]
    lines = [_steps(s, held, bool(ahead)) for s in moving]
    middle = [loop_named(function, name) for name in shared if name]
    if middle and moving:
        count = prod(_extent(s) for s in middle)
        now: Scalar = ZERO
        for s in middle:
            now = add(mul(now, index(_extent(s))), at[s.var])
        share = -(-len(lines[0]) // count)
        first = [add(mul(now, index(share)), index(k)) for k in range(share)]
        wraps = count * share > len(lines[0])
        lines[0] = [floormod(x, index(len(lines[0]))) for x in first] if wraps else first
    if prod(map(len, lines)) > MOST:
        refuse(
            MANY, b, f"{block} reads {prod(map(len, lines))} lines of {buffer} there", "choose a loop further inside"
        )
    still: dict[Scalar, Scalar] = {s.var: ZERO for s in own}
    regions = tuple(
        _element(b, held, read, {**following, **still, **{s.var: k for s, k in zip(moving, x, strict=True)}})
        for x in product(*lines)
    )
    named = {v for r in regions for start, _ in r.ranges for v in free_vars(start)}
    kept = [(it, s.var) for it, s in zip(iters, running, strict=True) if it.var in named]
    new = Block(made, tuple(it for it, _ in kept), tuple(v for _, v in kept), Intrinsic(PREFETCH, (), regions))
    return Result(rebuilt(function, {}, before={place: new}), (made,))


def _read(function: Function, b: Block, buffer: str, ahead: str) -> tuple[Scalar, ...]:
    """The indices of the one load, or of what is updated."""
    if isinstance(b.body, Update) and b.init is None and not ahead:
        for target in b.body.targets:
            if target.buffer == buffer:
                return target.indices
    if isinstance(b.body, Store) and b.body.buffer == buffer:
        return b.body.indices
    found = [r for r in accesses(b).reads if r.buffer == buffer]
    plain = isinstance(b.body, Store | Update)
    if len(found) != 1 or buffer not in function.inputs or not plain:
        times = f"{b.name} reads {buffer} {len(found)} times" if plain else f"{b.name} has statements inside"
        what = times if buffer in function.inputs else f"{buffer} is no input"
        refuse(READ, b, what, "choose an input that a block of one statement reads once")
    return found[0].indices


def _extent(loop: For) -> int:
    extent = as_int(loop.var.extent)
    if extent is None:
        refuse(EXTENT, loop, f"{loop.var.name} has the extent {loop.var.extent!r}", "choose loops of constant extents")
    return extent or 1


def _named(indices: tuple[Scalar, ...], var: Var) -> bool:
    return any(var in free_vars(i) for i in indices)


def _steps(loop: For, buffer: Buffer, ends: bool) -> list[Scalar]:
    """Values of a loop's variable in a line each, if lanes follow each other in memory: its first lane, or its last."""
    apart = max(LINE_BYTES // buffer.dtype.bytes, 1) if loop.kind == "vectorized" else 1
    extent = _extent(loop)
    return [index(min(k + apart, extent) - 1 if ends else k) for k in range(0, extent, apart)]


def _element(b: Block, buffer: Buffer, indices: tuple[Scalar, ...], values: dict[Scalar, Scalar]) -> Region:
    """The element that a load of a block's body reads, at given values of the loops around it."""
    bound: dict[Scalar, Scalar] = {
        it.var: substitute(binding, values) for it, binding in zip(b.iters, b.bindings, strict=True)
    }
    places = [
        simplify(maximum(minimum(substitute(i, bound), sub(extent, index(1))), ZERO))
        for i, extent in zip(indices, buffer.shape, strict=True)
    ]
    return Region(buffer.name, tuple((place, index(1)) for place in places))
