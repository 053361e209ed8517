"""Which loop runs on threads."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.schedule.rules.attempt import attempt
from tcompiler.schedule.schedule import Schedule

WORTH = 16384
"""Points of work below which a fork and join costs more than it brings."""


def parallelize(
    sch: Schedule, block: str, outer: Sequence[str], work: int, threads: int, keep: Sequence[str] = ()
) -> None:
    """Makes the outer loops of a nest parallel: the outermost alone if it is long enough, else fused with the next.

    Args:
        sch: The schedule.
        block: A block of the nest.
        outer: The nest's outer loops, outermost first.
        work: Points that the nest computes.
        threads: Threads that the kernel may use.
        keep: Loops that are needed by name later (to be peeled) and are not fused.
    """
    if threads < 2 or work < WORTH:
        return
    chain: list[str] = []
    count = 1
    for name in outer:
        extent = sch.extent(name) or 1
        if name in keep:
            if not chain and extent >= threads:
                chain, count = [name], extent
            break
        chain.append(name)
        count *= extent
        if count >= 4 * threads:
            break
    while chain:
        if attempt(sch, _fused_parallel, sch, chain):
            return
        chain = chain[:-1]


def _fused_parallel(sch: Schedule, chain: Sequence[str]) -> bool:
    name = chain[0] if len(chain) == 1 else sch.fuse(*chain)[0]
    sch.parallel(name)
    return True
