"""Trying a step of a schedule that may be refused, or that may turn out not to pay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tcompiler.errors import ScheduleError
from tcompiler.schedule.schedule import Schedule


def attempt(sch: Schedule, steps: Callable[..., object], *args: object) -> bool:
    """Runs steps; where one is refused or they return False, the schedule stays as it was.

    Args:
        sch: The schedule.
        steps: Calls primitives on it.
        args: What steps takes.

    Returns:
        Whether the steps were kept.
    """
    mark = sch.mark()
    try:
        if steps(*args) is not False:
            return True
    except ScheduleError:
        pass
    sch.rewind(mark)
    return False


def peel_tails(sch: Schedule, loop: str) -> None:
    """Peels the tail off a loop and off every copy that earlier peels made of it; tails of one iteration lose the loop.

    Args:
        sch: The schedule.
        loop: The loop; nothing happens where its iterations are all whole.
    """
    for name in copies_of(loop, sch.loop_names()):
        attempt(sch, peel_at, sch, name)


def copies_of(name: str, names: Iterable[str]) -> list[str]:
    """A loop or block, and the copies that peels made of it.

    Args:
        name: The loop or block.
        names: All there are.
    """
    return [n for n in names if n == name or n.startswith(f"{name}_t")]


def peel_at(sch: Schedule, loop: str, points: Sequence[int] | None = None) -> None:
    """Peels a loop; pieces of one iteration lose the loop, unless threads may begin with them and others together.

    Args:
        sch: The schedule.
        loop: The loop.
        points: As for `peel`.
    """
    for piece in sch.peel(loop) if points is None else sch.peel(loop, points):
        if sch.extent(piece) == 1 and sch.kind(piece) != "parallel":
            sch.elide(piece)
