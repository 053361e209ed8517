"""Random schedules: primitives and arguments drawn from what a program has; refused calls are passed over."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Sequence

from tcompiler.errors import ScheduleError
from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import SCOPES, Function
from tcompiler.ir.loop.intrinsics import DESCRIPTIONS
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.schedule import Schedule
from tcompiler.schedule.primitives import PRIMITIVES
from tcompiler.schedule.primitives.bind import THREADS
from tcompiler.schedule.tree import tree

Draw = Callable[[random.Random, Schedule], object]

MOVING = ("cache_read", "cache_write", "compute_at", "reverse_compute_at", "stage_accumulate")
"""Primitives that move data or the place of its computation."""


def _loop(rng: random.Random, sch: Schedule) -> str:
    loops = list(tree(sch.function).loops)
    return rng.choice(loops)


def _block(rng: random.Random, sch: Schedule) -> str:
    return rng.choice(sch.blocks())


def _internal(rng: random.Random, sch: Schedule) -> str:
    """A buffer that the caller does not see: the caller's keep their layout, for the values are compared."""
    seen = {*sch.function.inputs, *sch.function.outputs}
    return rng.choice([b.name for b in sch.function.buffers if b.name not in seen] or ["none"])


def _factors(rng: random.Random, _sch: Schedule) -> list[int | None]:
    factors: list[int | None] = [rng.choice([2, 3, 4, 5]) for _ in range(rng.choice([1, 1, 2]))]
    factors.insert(rng.randrange(len(factors) + 1), None)
    return factors


def _points(rng: random.Random, _sch: Schedule) -> list[int] | None:
    return None if rng.random() < 0.6 else sorted(rng.sample(range(1, 8), rng.choice([1, 2])))


def _scope(rng: random.Random, _sch: Schedule) -> str:
    return rng.choice(SCOPES)


def _read_of(rng: random.Random, sch: Schedule, block: str, writes: bool) -> str:
    names = touched(tree(sch.function).blocks[block])
    return rng.choice(sorted(names.writes if writes else names.reads) or ["none"])


def _index_map(rng: random.Random, sch: Schedule, buffer: str) -> str:
    rank = next((len(b.shape) for b in sch.function.buffers if b.name == buffer), 1)
    names = [f"d{k}" for k in range(rank)]
    outputs = list(names)
    rng.shuffle(outputs)
    if outputs and rng.random() < 0.6:
        k = rng.randrange(rank)
        c = rng.choice([2, 3, 4])
        outputs[k] = f"{outputs[k]} // {c}"
        outputs.append(f"{names[names.index(outputs[k].split(' ')[0])]} % {c}")
    return f"lambda {', '.join(names)}: ({', '.join(outputs)}{',' if len(outputs) == 1 else ''})"


def _siblings(rng: random.Random, sch: Schedule) -> tuple[str, str]:
    """Two loops of one sequence and the same extent, if there are any."""
    t = tree(sch.function)
    groups: dict[object, list[str]] = {}
    for name, loop in t.loops.items():
        groups.setdefault((t.parent[loop], loop.var.extent), []).append(name)
    several = [g for g in groups.values() if len(g) > 1]
    if not several:
        return _loop(rng, sch), _loop(rng, sch)
    found = rng.choice(several)
    at = sorted(rng.sample(range(len(found)), 2))
    return found[at[0]], found[at[1]]


def arguments(rng: random.Random, sch: Schedule, name: str) -> tuple[object, ...]:
    """Arguments for a primitive, by the names of its parameters."""
    if name == "fuse":
        start = tree(sch.function).loops[_loop(rng, sch)]
        found = [start.var.name]
        while hasattr(start.body, "var") and len(found) < 3 and (len(found) < 2 or rng.random() < 0.3):
            start = start.body  # type: ignore[assignment]
            found.append(start.var.name)
        return tuple(found)
    if name == "reorder":
        loops = sch.loops(_block(rng, sch))
        count = min(len(loops), rng.choice([2, 2, 3]))
        return tuple(rng.sample(loops, count))
    if name in ("compute_with", "rolling_update"):
        first, other = _siblings(rng, sch)
        if name == "compute_with":
            return first, other
        return rng.choice(sch.blocks_under(first) if first in sch.loop_names() else sch.blocks()), first, other
    block = _block(rng, sch)
    if name == "prefetch":
        read = [n for n in touched(tree(sch.function).blocks[block]).reads if n in sch.function.inputs]
        above = sch.loops(block) or ["none"]
        before = rng.randrange(len(above))
        around = ["", *above[:before]]
        return block, rng.choice(sorted(read) or ["none"]), above[before], rng.choice(around), rng.choice(around)
    result: list[object] = []
    buffer = ""
    for parameter in list(inspect.signature(PRIMITIVES[name]).parameters.values())[1:]:
        match parameter.name:
            case "block":
                result.append(block)
            case "loop":
                above = sch.loops(block)
                result.append(
                    rng.choice(above)
                    if above and name in ("stage_accumulate", "decompose_reduction", "rfactor")
                    else _loop(rng, sch)
                )
            case "buffer":
                if name in ("cache_read", "cache_write"):
                    buffer = _read_of(rng, sch, block, name == "cache_write")
                else:
                    buffer = _internal(rng, sch)
                result.append(buffer)
            case "factors":
                result.append(_factors(rng, sch))
            case "points":
                result.append(_points(rng, sch))
            case "scope":
                result.append(_scope(rng, sch))
            case "index_map":
                result.append(_index_map(rng, sch, buffer))
            case "handle":
                result.append(rng.choice([block, _loop(rng, sch)]))
            case "key":
                result.append(rng.choice(["hint", "cost"]))
            case "value":
                result.append(rng.choice([None, True, 3, 0.5, "x"]))
            case "factor":
                result.append(rng.randrange(2))
            case "multiples":
                result.append([rng.choice([1, 1, 2, 3, 4]) for _ in tree(sch.function).blocks[block].iters])
            case "intrinsic":
                result.append(rng.choice(list(DESCRIPTIONS)))
            case "thread":
                result.append(rng.choice(THREADS))
            case "dim":
                result.append(rng.randrange(3))
            case "multiple":
                result.append(rng.choice([4, 8]))
            case "along":
                own = [it.var.name for it in tree(sch.function).blocks[block].iters if it.kind == "spatial"]
                result.append(own if rng.random() < 0.5 else own[:1])
            case "offset":
                result.append(rng.randrange(4))
            case other if parameter.default is inspect.Parameter.empty:
                raise AssertionError(f"{name} has a parameter {other} that the driver does not know")
            case _:
                break
    return tuple(result)


_WEIGHTS = {"split": 5, "reorder": 4, "fuse": 3, "peel": 3, "vectorize": 1, "parallel": 1, "unroll": 1, "elide": 1}


_MOST_POINTS = 12_000


def _small(sch: Schedule) -> bool:
    """Whether the program is small enough to be evaluated in no time."""
    t = tree(sch.function)
    if len(t.blocks) > 24 or len(t.loops) > 60:
        return False
    return all(
        math.prod(as_int(s.var.extent) or 1 for s in t.loops_above(b)) <= _MOST_POINTS for b in t.blocks.values()
    )


def draw(
    function: Function,
    rng: random.Random,
    steps: int,
    moving: bool,
    attempts: int = 400,
    names: Sequence[str] = tuple(PRIMITIVES),
) -> Schedule:
    """A random legal schedule.

    Args:
        function: The program.
        rng: Where chance comes from.
        steps: How many calls must have succeeded.
        moving: Begin with primitives that move data, until one succeeds.
        attempts: How many calls to try.
        names: The primitives to draw from.

    Returns:
        The schedule; shorter than asked where the attempts ran out.
    """
    sch = Schedule(function, debug=False)
    if moving:
        # an odd split first, so that what is moved has a tail
        for _ in range(2):
            attempt(sch, rng, "split")
        for _ in range(60):
            if attempt(sch, rng, rng.choice([n for n in MOVING if n in PRIMITIVES])):
                break
    draw_on(sch, rng, steps, attempts, names)
    return sch


def draw_on(
    sch: Schedule,
    rng: random.Random,
    steps: int,
    attempts: int = 400,
    names: Sequence[str] = tuple(PRIMITIVES),
) -> None:
    """Goes on with random primitives until so many calls have succeeded in all, or the attempts run out."""
    weights = [_WEIGHTS.get(n, 2) for n in names]
    for _ in range(attempts):
        if len(sch.trace.steps) >= steps or not tree(sch.function).loops:
            break
        attempt(sch, rng, rng.choices(names, weights)[0])


def attempt(sch: Schedule, rng: random.Random, name: str) -> bool:
    """Applies a primitive to random arguments; says whether it was legal, and the program stayed small."""
    if not tree(sch.function).loops:
        return False
    mark = sch.mark()
    try:
        getattr(sch, name)(*arguments(rng, sch, name))
    except ScheduleError:
        return False
    if not _small(sch) or (name == "blockize" and len(tree(sch.function).loops) < 3):
        # too much to evaluate, or nothing left to schedule
        sch.rewind(mark)
        return False
    return True
