"""Whether a block's bindings enumerate its domain once: by digits, by isl where those do not tell."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.ir.loop.grammar import Block, For
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.schedule.affine.digits import enumerates, limits_of
from tcompiler.schedule.affine.isl import bindings_bijective_isl


def is_bijective(block: Block, loops: Sequence[For]) -> bool | None:
    """Whether bindings map the loops' points, where the predicate holds, one to one onto the iter vars' domains.

    Decided from the form that splits and fusions leave: bindings that are sums of digits, and a predicate whose
    conjuncts cut padded sums back to their domains.

    Args:
        block: Whose bindings.
        loops: The loops around it.

    Returns:
        None where the form does not tell; `bijective` asks isl then.
    """
    limits = limits_of(block.predicate)
    if limits is None:
        return None
    sizes = []
    for it in block.iters:
        size = as_int(it.var.extent)
        if size is None:
            return None
        sizes.append(size)
    return enumerates(block.bindings, sizes, [s.var for s in loops], limits)


def bijective(block: Block, loops: Sequence[For]) -> bool | None:
    """As `is_bijective`, and isl where that does not tell; None only for what is not quasi-affine."""
    known = is_bijective(block, loops)
    return bindings_bijective_isl(block, loops) if known is None else known
