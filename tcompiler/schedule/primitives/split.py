"""split: one loop becomes a nest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tcompiler.ir.loop.grammar import For, Function
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import TRUE, Scalar, add, as_int, floordiv, less, loop_var
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.tree import fresh, loop_named, names_used, rebind, replace

SERIAL = condition("split.serial", "the loop is serial")
TWO = condition("split.two", "there are at least two factors")
POSITIVE = condition("split.positive", "every given factor is an integer of at least 1")
INFERRED = condition("split.inferred", "at most one factor is None")
COVERS = condition("split.covers", "the factors multiply to at least the loop's extent")
SYMBOLIC = condition("split.symbolic", "a loop whose extent depends on parameters infers its outermost factor")


@primitive
def split(function: Function, loop: str, factors: Sequence[int | None]) -> Result:
    """Splits a loop into a nest, with bounds that cover it.

    ``split("i", [None, 6])``::

        for i in range(1000):                for i_0 in range(167):
            with block("B"):                     for i_1 in range(6):
                vi = spatial(1000, i)      →         with block("B", where=i_0 * 6 + i_1 < 1000):
                                                         vi = spatial(1000, i_0 * 6 + i_1)

    Where the factors multiply to more than the extent, every block below gets the condition that the iteration exists.

    Args:
        function: The function.
        loop: A serial loop.
        factors: Extents of the new loops, the outermost first; one may be None and is then the least that covers. The
            extent may depend on parameters if the outermost is None.

    Returns:
        The new loops, outermost first: ``i_0``, ``i_1``, …

    Raises:
        ScheduleError: If the loop is not serial, there are fewer than two factors, one is less than 1, two are None,
            they do not cover the extent, or the extent depends on parameters and the outermost factor is given.
    """
    target = loop_named(function, loop)
    var = target.var
    if target.kind != "serial":
        refuse(SERIAL, target, f"the loop {loop} is {target.kind}", "split it first, then choose a kind for the parts")
    if len(factors) < 2:
        refuse(TWO, target, f"{len(factors)} factor(s)", "give two factors or more, such as [None, 8]")
    known = 1
    for f in factors:
        if f is not None:
            if type(f) is not int or f < 1:
                refuse(POSITIVE, target, f"the factor {f!r} is not a positive integer", "give factors of at least 1")
            known *= f
    inferred = [k for k, f in enumerate(factors) if f is None]
    if len(inferred) > 1:
        refuse(INFERRED, target, f"{len(inferred)} factors are None", "leave one factor to infer and give the others")
    extent = as_int(var.extent)
    assert var.extent is not None
    sizes: list[Scalar | int] = [1 if f is None else f for f in factors]
    if extent is None:
        if inferred != [0]:
            refuse(
                SYMBOLIC,
                target,
                f"the extent of {loop} is not a constant and the outermost factor is given",
                f"split({loop!r}, [None, …])".replace("'", '"'),
            )
        sizes[0] = simplify(floordiv(add(var.extent, known - 1), known))
    elif inferred:
        sizes[inferred[0]] = -(-extent // known) if known else 0
    elif known < extent:
        refuse(
            COVERS,
            target,
            f"the factors multiply to {known}, the extent of {loop} is {extent}",
            "give one factor as None, or larger ones",
        )
    names = fresh(names_used(function), [f"{loop}_{k}" for k in range(len(factors))])
    variables = [loop_var(n, s) for n, s in zip(names, sizes, strict=True)]
    value: Scalar = variables[0]
    for v, s in zip(variables[1:], sizes[1:], strict=True):
        value = add(value * s, v)
    exact = extent is not None and math.prod(s for s in sizes if isinstance(s, int)) == extent
    guard = TRUE if exact else simplify(less(value, var.extent))
    body = rebind(target.body, {var: value}, guard)
    for k in range(len(variables) - 1, -1, -1):
        body = For(variables[k], "serial", body, target.annotations if k == 0 else ())
    return Result(replace(function, target, body), names)
