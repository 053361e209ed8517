"""The default schedule: what every kernel gets without tuning."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Function
from tcompiler.schedule.rules.chain import schedule_chain
from tcompiler.schedule.rules.channels import schedule_channels
from tcompiler.schedule.rules.columns import reduce_columns
from tcompiler.schedule.rules.dots import schedule_dots
from tcompiler.schedule.rules.elementwise import schedule_map, turns_rows
from tcompiler.schedule.rules.partials import reduce_in_lanes
from tcompiler.schedule.rules.pieces import cut_parts
from tcompiler.schedule.rules.placement import gather_rows, inline_maps, share_near
from tcompiler.schedule.rules.reduction import schedule_reduction
from tcompiler.schedule.rules.residues import align_residues, cut_residues
from tcompiler.schedule.rules.rows import schedule_row_blocks
from tcompiler.schedule.rules.scans import schedule_scan
from tcompiler.schedule.rules.shares import has_long_rows, reduce_in_parts, write_over_rows
from tcompiler.schedule.rules.streams import weaves
from tcompiler.schedule.rules.threads import parallelize, share_rest
from tcompiler.schedule.rules.windows import schedule_windows
from tcompiler.schedule.schedule import Schedule
from tcompiler.target.target import Target


def default_schedule(function: Function, target: Target, threads: int = 1, constants: Collection[str] = ()) -> Schedule:
    """Schedules a function as it comes from lowering, by primitives alone.

    Args:
        function: One block per scope, each in a nest of its own.
        target: The machine.
        threads: Threads that the kernel may use.
        constants: Inputs that are known at compile time: the schedule may choose their layout, the caller packs them.

    Returns:
        The schedule, with its trace.
    """
    sch = Schedule(function)
    _schedule(sch, target, threads, constants)
    share_rest(sch, threads)
    return sch


def _schedule(sch: Schedule, target: Target, threads: int, constants: Collection[str]) -> None:
    inline_maps(sch)
    if schedule_chain(sch, target, threads):
        return
    for name in sch.blocks():
        cut_residues(sch, name)
    done: set[str] = set()
    for name in sch.blocks():
        before = set(sch.blocks())
        if name in before and schedule_scan(sch, name, target, threads):
            around = sch.loops(name)[:1]
            done |= {
                name,
                *(b for b in sch.blocks() if b not in before),
                *(b for n in around for b in sch.blocks_under(n)),
            }
    for name in _reductions(sch):
        before = set(sch.blocks())
        if name in before - done and (
            schedule_channels(sch, name, target, threads, constants)
            or schedule_windows(sch, name, target, threads, constants)
            or reduce_columns(sch, name, target, threads, constants)
            or schedule_dots(sch, name, target, threads, constants)
            or schedule_reduction(sch, name, target, threads, constants)
        ):
            done |= {name, *(b for b in sch.blocks() if b not in before)}
    rest = [b for b in sch.blocks() if b not in done]
    if any(find_block(sch.function, b).init is not None for b in rest):
        outputs = [b for b in rest if sch.written_by(b) in sch.function.outputs]
        if len(outputs) == 1 and has_long_rows(sch, threads):
            write_over_rows(sch, outputs[0])
        elif len(outputs) == 1:
            share_near(sch, outputs[0])
            shared = [] if turns_rows(sch, outputs[0]) else gather_rows(sch, outputs[0])
            if shared:
                schedule_row_blocks(sch, outputs[0], shared, target, threads)
                done |= set(sch.blocks_under(sch.loops(outputs[0])[0]))
    for name in [b for b in sch.blocks() if b not in done]:
        if find_block(sch.function, name).init is None:
            for part in [name] if weaves(sch, name, target) else cut_parts(sch, name):
                for piece in align_residues(sch, part):
                    schedule_map(sch, piece, target, threads)
        else:
            _schedule_rows(sch, name, target, threads)


def _schedule_rows(sch: Schedule, name: str, target: Target, threads: int) -> None:
    """A reduction that no tile fits: each row in lanes, rows on threads, or parts of the rows where these are few."""
    if reduce_in_parts(sch, name, target, threads):
        return
    found = [sch.loop_of(name, k) for k, i in enumerate(sch.iters(name)) if i.kind == "spatial"]
    spatial = [n for n in found if n]
    extents = {loop: sch.extent(loop) for loop in sch.loops(name)}
    work = prod(1 if e is None else e for e in extents.values())
    for loop in [n for n in spatial if extents[n] == 1]:
        sch.elide(loop)
    reduce_in_lanes(sch, name, target)
    reduced = {sch.loop_of(name, k) for k, i in enumerate(sch.iters(name)) if i.kind == "reduce"}
    outer = [n for n in sch.loops(name) if n not in reduced and sch.kind(n) == "serial"]
    parallelize(sch, name, outer, work, threads)


def _reductions(sch: Schedule) -> list[str]:
    return [b for b in sch.blocks() if find_block(sch.function, b).init is not None]
