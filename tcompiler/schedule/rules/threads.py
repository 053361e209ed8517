"""Which loop runs on threads.

Of the loops that may be shared, the one is taken with which the nest is done first by a rough estimate: its iterations
may not come out even, a loop inside others forks once for each of their iterations, and what is cut off behind a loop
is shared on its own. Work of a few microseconds stays on the thread that it is on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil, prod

from tcompiler.errors import ScheduleError
from tcompiler.ir.loop.analysis import find_block, touched
from tcompiler.ir.loop.grammar import Block, For, Seq, Stmt, Update, buffer_table
from tcompiler.ir.loop.teams import TOGETHER, independent, makespan
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.schedule.rules.accesses import shape_of, steps
from tcompiler.schedule.rules.attempt import attempt
from tcompiler.schedule.rules.placement import operations
from tcompiler.schedule.schedule import Schedule
from tcompiler.schedule.tree import blocks_under, loop_named, loops_under
from tcompiler.target.target import LINE_BYTES

WORTH = 16384
"""Points of a contraction below which a fork and join costs more than it brings."""
LEAST = 2000.0
"""Nanoseconds of work on one thread that are not worth a fork."""
FORK = 500.0
"""Nanoseconds of a fork and join, and of fetching from another core's cache what the first iterations read."""
FETCH = 0.15
"""Nanoseconds that a byte from another core's cache takes, with the waiting for what that core is late with."""
STEP = 0.03
"""Nanoseconds of a step of a reduction, in vectors."""
POINT = 0.1
"""Nanoseconds of a point of a map: its memory, and each few operations."""
FEW = 4
"""Operations that take as long as writing their result."""
LANES = 8
"""Elements that fewer of them in a vector take as long as."""
SHARES = 4
"""Iterations for each thread from which on a loop that comes out even is not fused with the next."""
MOST = 16
"""Iterations for each thread from which on no loop is."""
UNEVEN = 8
"""Part of an iteration that the last thread to finish is late, on average, as cores are not equally fast."""
STRETCH = 4 * LINE_BYTES
"""Bytes that a thread writes side by side, at least, where what others write lies between."""
NEAR = 1.04
"""How much longer a nest may take with a loop further outside than with the best one."""
ALIKE = 4
"""How many times as long an iteration of one loop may take as one of another that threads begin with together."""
GAIN = 0.85
"""The nest takes at most this part of the time on one thread, or stays on it."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """A way to share a nest.

    Attributes:
        chain: Loops to fuse; one alone is shared as it is.
        time: Nanoseconds that the nest takes then.
    """

    chain: tuple[str, ...]
    time: float


def parallelize(
    sch: Schedule, block: str, outer: Sequence[str], work: int, threads: int, keep: Sequence[str] = ()
) -> None:
    """Makes outer loops of a nest parallel: the first ones, fused as far as it takes, or one further inside.

    Args:
        sch: The schedule.
        block: A block of the nest.
        outer: The nest's outer loops, outermost first.
        work: Steps that the nest computes, where its blocks do not say so.
        threads: Threads that the kernel may use.
        keep: Loops that are needed by name later (to be peeled) and are not fused.
    """
    if threads < 2 or not outer:
        return
    around = sch.loops(block)[: sch.loops(block).index(outer[0])]
    runs = prod(sch.extent(n) or 1 for n in around)
    cost = max(work * STEP, runs * _cost(loop_named(sch.function, outer[0])))
    choices: list[_Choice] = []
    chain: list[str] = []
    forks = runs
    for position, name in enumerate(outer):
        extent = sch.extent(name) or 1
        if not chain and _interleaved(sch, name, threads):
            pass
        elif name in keep:
            whole = _whole(sch, name) if extent < MOST * threads else extent
            passed = FETCH * forks * _passed(sch, outer[0], name) * (threads - 1) / threads
            choices.append(_Choice((name,), _time(cost, whole, extent - whole, threads, forks) + passed))
        elif len(chain) == position:
            chain.append(name)
            count = prod(sch.extent(n) or 1 for n in chain)
            choices.append(_Choice(tuple(chain), _time(cost, count, 0, threads, runs)))
            if count >= SHARES * threads and (_even(count, threads) or count >= MOST * threads):
                break
        else:
            choices.append(_Choice((name,), _time(cost, extent, 0, threads, forks)))
        forks *= extent
    _share_by_best(sch, choices, cost)


def share_rest(sch: Schedule, threads: int) -> None:
    """Shares what no rule has: tails and borders that were cut off behind loops, above all.

    Args:
        sch: The schedule, ready but for this.
        threads: Threads that the kernel may use.
    """
    if threads < 2:
        return
    teams = _settle(sch, threads)
    for _, *others in teams:
        for name in others:
            sch.annotate(name, TOGETHER, True)
    for loop in _loops_in(sch.function.body):
        _share_nest(sch, loop.var.name, 1, threads)


def share_tails(sch: Schedule, tails: Collection[str], threads: int) -> None:
    """Shares what was cut off behind shared loops, as long as its nests are simple.

    Args:
        sch: The schedule.
        tails: The blocks that were cut off.
        threads: Threads that the kernel may use.
    """
    if threads < 2:
        return
    _settle(sch, threads)
    for loop in dict.fromkeys(sch.loops(n)[0] for n in tails if sch.loops(n)):
        _share_nest(sch, loop, 1, threads)


def _settle(sch: Schedule, threads: int) -> list[list[str]]:
    """Finds parallel loops that threads had better begin with together; others of one iteration lose the loop."""
    found = [team for run in _parallel_runs(sch) for team in _alike(sch, run) if _begin_together(sch, team, threads)]
    kept = {name for team in found for name in team}
    for name in sch.loop_names():
        if sch.kind(name) == "parallel" and sch.extent(name) == 1 and name not in kept:
            attempt(sch, sch.elide, name)
    return found


def _parallel_runs(sch: Schedule) -> list[list[str]]:
    """Parallel loops that follow each other and may run at the same time."""
    found: list[list[str]] = []
    pending: list[Stmt] = [sch.function.body]
    while pending:
        s = pending.pop()
        if isinstance(s, For) and s.kind != "parallel":
            pending.append(s.body)
        elif isinstance(s, Seq):
            pending += s.stmts
            run: list[Stmt] = []
            for loop in (*s.stmts, None):
                if loop is None or not (run and all(independent(sch.function, x, loop) for x in run)):
                    if len(run) > 1:
                        found.append([x.var.name for x in run if isinstance(x, For)])
                    run = []
                if loop is not None:
                    run.append(loop)
    return found


def _alike(sch: Schedule, names: Sequence[str]) -> list[list[str]]:
    """Cuts a run of loops where iterations of the next one take much longer, or much less."""
    found: list[list[str]] = []
    low = high = 0.0
    for name in names:
        each = _cost(loop_named(sch.function, name).body)
        low, high = min(low, each), max(high, each)
        if not found or high > ALIKE * low:
            found.append([])
            low = high = each
        found[-1].append(name)
    return found


def _begin_together(sch: Schedule, names: Sequence[str], threads: int) -> bool:
    """Whether threads are done sooner if they begin with parallel loops together than with one after the other."""
    loops = [loop_named(sch.function, n) for n in names]
    parts = [(as_int(s.var.extent) or 1, _cost(s.body)) for s in loops]
    # one iteration is shared inside, where parts come out less even
    inside = (1 + 1 / UNEVEN) / threads
    alone = sum(
        min(each, each * inside + FORK) if count == 1 else makespan([(count, each)], threads) + FORK
        for count, each in parts
    )
    return len(parts) > 1 and makespan(parts, threads) + FORK < alone


def _share_nest(sch: Schedule, name: str, runs: int, threads: int) -> None:
    """Shares a loop or one inside it; where a loop inside is shared already, what stands beside that.

    Args:
        sch: The schedule.
        name: The loop.
        runs: How often it is run.
        threads: Threads that the kernel may use.
    """
    loop = loop_named(sch.function, name)
    cost = runs * _cost(loop)
    if cost < LEAST * runs or loop.kind == "parallel":
        return
    if any(inside.kind == "parallel" for inside in loops_under(loop.body)):
        for inner in _loops_in(loop.body):
            _share_nest(sch, inner.var.name, runs * (as_int(loop.var.extent) or 1), threads)
        return
    choices: list[_Choice] = []
    inside = [loop]
    while len(inside) == 1 and inside[0].kind == "serial":
        loop = inside[0]
        extent = as_int(loop.var.extent) or 1
        if extent > 1 and not _interleaved(sch, loop.var.name, threads):
            choices.append(_Choice((loop.var.name,), _time(cost, extent, 0, threads, runs)))
        runs *= extent
        inside = _loops_in(loop.body)
    if not _share_by_best(sch, choices, cost) and len(inside) > 1:
        for inner in inside:
            _share_nest(sch, inner.var.name, runs, threads)


def _share_by_best(sch: Schedule, choices: Sequence[_Choice], cost: float) -> bool:
    """Shares a nest by the first of the choices that are about as good as the best one that is legal."""
    left = [c for c in choices if c.time <= cost * GAIN] if cost >= LEAST else []
    while left:
        best = min(c.time for c in left)
        choice = next(c for c in left if c.time <= best * NEAR)
        if attempt(sch, _shared, sch, choice.chain) or attempt(sch, _opened, sch, choice.chain):
            return True
        left.remove(choice)
    return False


def _shared(sch: Schedule, chain: Sequence[str]) -> None:
    sch.parallel(chain[0] if len(chain) == 1 else sch.fuse(*chain)[0])


def _opened(sch: Schedule, chain: Sequence[str]) -> None:
    """Shares a nest that writes what was a thread's own, and is read behind it."""
    written = {b for n in sch.blocks_under(chain[0]) for b in touched(find_block(sch.function, n)).writes}
    for name in sorted(written):
        if buffer_table(sch.function)[name].scope == "local":
            sch.set_scope(name, "global")
    _shared(sch, chain)


def _time(cost: float, whole: int, rest: int, threads: int, forks: int) -> float:
    """Nanoseconds of a nest of which a loop is shared.

    Args:
        cost: Nanoseconds on one thread.
        whole: Iterations of the loop that are shared.
        rest: Iterations that are cut off behind them; threads begin with them together, or share them on their own.
        threads: Threads that share it.
        forks: How often it is run.
    """
    each = cost / (whole + rest)
    late = each / UNEVEN if whole else 0.0
    turns = min(ceil((whole + rest) / threads), ceil(whole / threads) + rest / threads)
    return each * turns + late + forks * FORK


def _interleaved(sch: Schedule, name: str, threads: int) -> bool:
    """Whether threads that share a loop would write to the same lines of caches again and again."""
    loop = loop_named(sch.function, name)
    buffers = buffer_table(sch.function)
    share = ceil((as_int(loop.var.extent) or 1) / threads)
    for block in blocks_under(loop):
        shape = shape_of(sch.function, block)
        if shape is None or buffers[shape.target.buffer].scope != "global":
            continue
        element, moved = buffers[shape.target.buffer].dtype.bytes, steps(block, shape.target)
        step = moved.get(loop.var, 0) * element
        inside = max((moved.get(inner.var, 0) for inner in loops_under(loop.body)), default=0) * element
        if step % LINE_BYTES and step * share < STRETCH and inside > step:
            return True
    return False


def _passed(sch: Schedule, nest: str, name: str) -> int:
    """Bytes that a loop reads of what stands beside it in a nest, and one thread would keep to itself."""
    inside = set(sch.blocks_under(name))
    read = {b for n in inside for b in touched(find_block(sch.function, n)).reads}
    beside = (n for n in sch.blocks_under(nest) if n not in inside)
    written = {b for n in beside for b in touched(find_block(sch.function, n)).writes} & read
    buffers = buffer_table(sch.function)
    kept = (buffers[b] for b in written if buffers[b].scope == "local")
    return sum(b.dtype.bytes * prod(as_int(e) or 0 for e in b.shape) for b in kept)


def _even(count: int, threads: int) -> bool:
    return ceil(count / threads) * threads <= count * NEAR


def _whole(sch: Schedule, loop: str) -> int:
    """A loop's iterations without those that peeling would cut off behind them."""
    mark = sch.mark()
    try:
        whole = sch.extent(sch.peel(loop)[0])
    except ScheduleError:
        whole = sch.extent(loop)
    sch.rewind(mark)
    return whole or 1


def _cost(stmt: Stmt) -> float:
    """Nanoseconds that a statement takes on one thread, about: what is computed in vectors, from near caches."""
    match stmt:
        case For():
            extent = as_int(stmt.var.extent) or 1
            return (max(extent, LANES) if stmt.kind == "vectorized" else extent) * _cost(stmt.body)
        case Seq():
            return sum(map(_cost, stmt.stmts))
        case Block():
            return (STEP if isinstance(stmt.body, Update) else POINT) * (1 + operations(stmt) / FEW)
        case _:
            return 0.0


def _loops_in(stmt: Stmt) -> list[For]:
    """The loops that a body is made of."""
    return [s for s in (stmt.stmts if isinstance(stmt, Seq) else (stmt,)) if isinstance(s, For)]
