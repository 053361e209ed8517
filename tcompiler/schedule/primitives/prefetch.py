"""prefetch: what a later iteration reads is asked for ahead."""

from __future__ import annotations

from tcompiler.ir.loop.analysis import accesses
from tcompiler.ir.loop.grammar import Block, Buffer, Function, Intrinsic, IterVar, Region, Store, Update
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

NEST = condition("prefetch.nest", "the three loops surround the block, ahead outside turn outside step")
EXTENT = condition("prefetch.extent", "the three loops have constant extents")
LANES = condition("prefetch.lanes", "neither step nor a loop around it is vectorized")
READ = condition("prefetch.read", "the block reads the buffer by one plain load, and the buffer is an input")
LINE_BYTES = 64


@primitive
def prefetch(function: Function, block: str, buffer: str, ahead: str, turn: str, step: str) -> Result:
    """Asks, in front of a loop, for a part of what the block reads of a buffer one iteration of an outer loop later.

    Before:

        for p in range(8):
            for t in range(10):
                for k in range(32):
                    for s in unrolled(8):
                        for j in vectorized(16):
                            with block("C"):  …  C[vt, vp * 16 + vj] += A[vt, vk] * B[vp, vk, vj]

    After ``prefetch("C", "B", "p", "t", "s")``, in front of the loop s:

        with block("B_prefetch"):
            v_p = spatial(8, p); v_t = spatial(10, t); v_k = spatial(32, k)
            intrinsic("prefetch", writes=[], reads=[B[min(v_p + 1, 7), v_k * 8 + v_t % 8, 0]])

    Each iteration of `turn` asks for its part of the iterations of `step`, so that all is asked for once `turn` has
    run as often as they are many; one cache line of each is asked for, and all lines of the lanes of a vectorized loop.
    What would lie outside the buffer is clamped into it, and no result changes. That panels wait in the cache is what
    Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), assume.

    Args:
        function: The function.
        block: The reader.
        buffer: What it reads.
        ahead: The loop whose next iteration is prepared.
        turn: A loop inside it; its iterations share the work.
        step: A loop inside that: the block stands in front of it.

    Returns:
        The new function and the name of the block, `{buffer}_prefetch`.

    Raises:
        ScheduleError: If a condition of prefetch does not hold.
    """
    b, held = block_named(function, block), buffer_named(function, buffer)
    outer, middle, inner = (loop_named(function, name) for name in (ahead, turn, step))
    above = tree(function).loops_above(b)
    places = [above.index(s) if s in above else -1 for s in (outer, middle, inner)]
    if -1 in places or sorted(set(places)) != places:
        names = ", ".join(s.var.name for s in above) or "none"
        refuse(NEST, b, f"the loops around {block} are {names}", "name three of them, outermost first")
    for s in (outer, middle, inner):
        if as_int(s.var.extent) is None:
            refuse(EXTENT, s, f"{s.var.name} has the extent {s.var.extent!r}", "choose loops of constant extents")
    lanes_above(LANES, function, inner, "loops")
    found = [r for r in accesses(b).reads if r.buffer == buffer]
    plain = isinstance(b.body, Store | Update)
    if len(found) != 1 or buffer not in function.inputs or not plain:
        times = f"{block} reads {buffer} {len(found)} times" if plain else f"{block} has statements inside"
        what = times if buffer in function.inputs else f"{buffer} is no input"
        refuse(READ, b, what, "choose an input that a block of one statement reads once")
    used = names_used(function)
    (name,) = fresh(used, [f"{buffer}_prefetch"])
    running = above[: places[2]]
    iters = [
        IterVar(Var(n, s.var.dtype, s.var.extent), "spatial")
        for s, n in zip(running, fresh(used, [f"v_{s.var.name}" for s in running]), strict=True)
    ]
    at: dict[Scalar, Scalar] = {s.var: it.var for s, it in zip(running, iters, strict=True)}
    rounds, turns, steps = (as_int(s.var.extent) or 1 for s in (outer, middle, inner))
    share = -(-steps // turns)
    following = {**at, outer.var: minimum(add(at[outer.var], index(1)), index(rounds - 1))}
    lanes = next((s for s in above[places[2] + 1 :] if s.kind == "vectorized"), None)
    apart = max(LINE_BYTES // held.dtype.bytes, 1)
    reach = range(0, as_int(lanes.var.extent) or 1, apart) if lanes is not None else range(1)
    regions = []
    for k in range(share):
        which: Scalar = add(mul(at[middle.var], index(share)), index(k))
        if turns * share > steps:
            which = floormod(which, index(steps))
        for lane in reach:
            values = {**following, inner.var: which}
            values.update({s.var: index(lane) if s is lanes else ZERO for s in above[places[2] + 1 :]})
            regions.append(_element(b, held, found[0].indices, values))
    named = {v for r in regions for start, _ in r.ranges for v in free_vars(start)}
    kept = [(it, s.var) for it, s in zip(iters, running, strict=True) if it.var in named]
    made = Block(
        name,
        tuple(it for it, _ in kept),
        tuple(v for _, v in kept),
        Intrinsic(PREFETCH, (), tuple(regions)),
    )
    return Result(rebuilt(function, {}, before={inner: made}), (name,))


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
