"""fuse: a nest of loops becomes one."""

from __future__ import annotations

from itertools import pairwise

from tcompiler.ir.loop.grammar import For, Function
from tcompiler.ir.scalar.grammar import Scalar, floordiv, floormod, index, loop_var, mul
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.tree import fresh, loop_named, names_used, rebind, replace

TWO = condition("fuse.two", "there are at least two loops")
SERIAL = condition("fuse.serial", "the loops are serial")
NESTED = condition("fuse.nested", "each loop is all that the one before it runs")


@primitive
def fuse(function: Function, *loops: str) -> Result:
    """Fuses nested loops into one that runs the same iterations in the same order.

    ``fuse("i", "j")``::

        for i in range(8):                   for i_j in range(128):
            for j in range(16):                  with block("B"):
                with block("B"):                     vi = spatial(8, i_j // 16)
                    vi = spatial(8, i)     →         vj = spatial(16, i_j % 16)
                    vj = spatial(16, j)

    Args:
        function: The function.
        loops: Serial loops, outermost first; each is the only statement in the one before.

    Returns:
        The new loop, named after the fused ones: ``i_j``.

    Raises:
        ScheduleError: If there are fewer than two loops, one is not serial, or one is not all that the one before runs.
    """
    targets = [loop_named(function, name) for name in loops]
    if len(targets) < 2:
        refuse(TWO, targets[0] if targets else None, f"{len(targets)} loop(s) given", "name two loops or more")
    for t in targets:
        if t.kind != "serial":
            refuse(SERIAL, t, f"the loop {t.var.name} is {t.kind}", "fuse the loops first, then choose a kind")
    for outer, inner in pairwise(targets):
        if outer.body is not inner:
            refuse(
                NESTED,
                outer,
                f"{inner.var.name} is not the one statement in {outer.var.name}",
                "reorder the loops until they are neighbours, outermost first",
            )
    name = fresh(names_used(function), ["_".join(loops)])[0]
    size: Scalar = index(1)
    for t in targets:
        assert t.var.extent is not None
        size = mul(size, t.var.extent)
    var = loop_var(name, size)
    mapping: dict[Scalar, Scalar] = {}
    below: Scalar = index(1)
    for k in range(len(targets) - 1, -1, -1):
        extent = targets[k].var.extent
        assert extent is not None
        part = floordiv(var, below)
        mapping[targets[k].var] = part if k == 0 else floormod(part, extent)
        below = mul(below, extent)
    body = rebind(targets[-1].body, mapping)
    return Result(replace(function, targets[0], For(var, "serial", body, targets[0].annotations)), (name,))
