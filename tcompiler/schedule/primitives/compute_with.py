"""compute_with: two loops that run one after the other become one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import For, Function, Seq, Stmt, seq
from tcompiler.schedule.affine.dependence import conflict
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.primitives.motion import rebuilt
from tcompiler.schedule.tree import blocks_under, loop_named, rebind, tree

BESIDE = condition("compute_with.beside", "the loops stand side by side in one sequence of statements, in this order")
ALIKE = condition("compute_with.alike", "both loops are serial and have the same extent")
BETWEEN = condition(
    "compute_with.between",
    "one of the loops shares no data with what stands between them, but for what is only read",
)
INDEPENDENT = condition(
    "compute_with.independent", "no iteration of one loop touches what another iteration of the other loop writes"
)


@primitive
def compute_with(function: Function, loop: str, other: str) -> Result:
    """Runs the iterations of two loops in turn: each one of the first, then that of the other.

    Before:

        for i in range(64):
            with block("B"):  vi = spatial(64, i); B[vi] = f(A[vi])
        for j in range(64):
            with block("C"):  vj = spatial(64, j); C[vj] = g(A[vj], B[vj])

    After ``compute_with("i", "j")``:

        for i in range(64):
            with block("B"):  vi = spatial(64, i); B[vi] = f(A[vi])
            with block("C"):  vj = spatial(64, i); C[vj] = g(A[vj], B[vj])

    Where something stands between the loops that the other one needs, or that needs the other one, the new loop
    stands where the other one stood, otherwise at the place of the first (Halide's compute_with; known as loop fusion).

    Args:
        function: The function.
        loop: The first loop, whose name the new one has.
        other: A loop behind it.

    Returns:
        The new function, and no names.

    Raises:
        ScheduleError: If a condition of compute_with does not hold.
    """
    first, second = loop_named(function, loop), loop_named(function, other)
    return Result(joined(function, first, second))


def joined(function: Function, first: For, second: For, excused: Collection[str] = ()) -> Function:
    """compute_with for callers that know of some buffers that they are right in the joined loop.

    Args:
        function: The function.
        first: The first loop.
        second: The other one.
        excused: Such buffers.
    """
    a, b = first.var.name, second.var.name
    above = tree(function).parent.get(first)
    here = above.stmts if isinstance(above, Seq) else ()
    if first is second or second not in here or here.index(first) > here.index(second):
        found = f"{b} does not come after {a} in the same sequence"
        refuse(BESIDE, second, found, "choose two loops in this order that have the same loops around them")
    if first.kind != "serial" or second.kind != "serial" or first.var.extent is not second.var.extent:
        what = [f"{s.var.name} is {s.kind} of {s.var.extent!r}" for s in (first, second)]
        refuse(ALIKE, second, " and ".join(what), "split or peel them to the same extent, and choose kinds afterwards")
    middle = here[here.index(first) + 1 : here.index(second)]
    up, down = _clash(middle, second), _clash(middle, first)
    if up and down:
        found = f"between them something shares {down} with {a} and {up} with {b}"
        refuse(BETWEEN, second, found, f"move what shares {down} in front of {a}, or behind {b}")
    theirs = rebind(second.body, {second.var: first.var})
    new = For(first.var, "serial", seq(first.body, theirs), first.annotations)
    stays, goes = (first, second) if not up else (second, first)
    result = rebuilt(function, {stays: new, goes: Seq(())})
    new = loop_named(result, a)
    count = len(blocks_under(first))
    _separate(result, new, count, excused)
    return result


def _clash(statements: Sequence[Stmt], loop: For) -> str:
    """A buffer that statements and a loop share and one of them writes; "" if there is none."""
    reads, writes = _touched(loop)
    for s in statements:
        read, written = _touched(s)
        shared = (writes & (read | written)) | (reads & written)
        if shared:
            return min(shared)
    return ""


def _touched(stmt: Stmt) -> tuple[set[str], set[str]]:
    found = [touched(b) for b in blocks_under(stmt)]
    return {n for t in found for n in t.reads}, {n for t in found for n in t.writes}


def _separate(function: Function, loop: For, count: int, excused: Collection[str]) -> None:
    """Refuses where iterations of the first blocks of a loop and of the others would meet in another order."""
    outer = [s.var for s in tree(function).loops_above(loop)]
    firsts = set(blocks_under(loop)[:count])
    shared = conflict(
        function,
        loop.body,
        outer,
        [loop.var],
        lambda name: name in excused,
        lambda block: True,
        lambda x, y: (x in firsts) != (y in firsts),
    )
    if shared is not None:
        x, y = shared.first.name, shared.second.name
        refuse(
            INDEPENDENT,
            shared.second,
            f"different iterations of {x} and {y} may touch the same elements of {shared.buffer}",
            "choose loops that walk the data in the same steps, or keep them apart",
        )


__all__ = ["compute_with", "joined"]
