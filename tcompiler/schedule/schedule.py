"""A schedule: a function under transformation, and the trace of primitive calls that made it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tcompiler.errors import InternalError, ScheduleError, VerifyError
from tcompiler.ir.loop.analysis import accesses, touched
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterVar
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.legality import UnknownNameError
from tcompiler.schedule.primitives import PRIMITIVES
from tcompiler.schedule.trace import Step, Trace, plain
from tcompiler.schedule.tree import block_named, blocks_under, buffer_named, loop_named, tree


class Schedule:
    """A function, changed by primitives only; every call is recorded.

    Each entry of `primitives.PRIMITIVES` is a method that takes the arguments behind the function and returns the
    names that the primitive made: ``sch.split("i", [4, None])`` → ``("i_0", "i_1")``.

    Args:
        function: Where to start.
        debug: Verify the function after every step; by default where the environment has TCOMPILER_DEBUG=1.

    Attributes:
        start: The function at the start.
        function: The function as it is now.
        trace: The calls between them.
    """

    def __init__(self, function: Function, debug: bool | None = None) -> None:
        self.start = function
        self.function = function
        self.trace = Trace()
        self._debug = os.environ.get("TCOMPILER_DEBUG") == "1" if debug is None else debug
        self._history = [function]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., tuple[str, ...]]: ...

    def apply(self, step: Step) -> tuple[str, ...]:
        """Runs one call and records it.

        Args:
            step: The call.

        Returns:
            The names that the primitive made.

        Raises:
            ScheduleError: If there is no such primitive, or it refuses.
        """
        run = PRIMITIVES.get(step.primitive)
        if run is None:
            raise ScheduleError(
                f"{step}: there is no primitive {step.primitive}; the primitives are {', '.join(PRIMITIVES)}"
            )
        try:
            result = run(self.function, *step.args, **step.kwargs)
        except UnknownNameError as unknown:
            raise ScheduleError(unknown.detail + self._what_became_of(unknown.name)) from None
        if self._debug:
            _verify(result.function, step)
        self.function = result.function
        self._history.append(result.function)
        self.trace.steps.append(step)
        return result.names

    def _what_became_of(self, name: str) -> str:
        for k in range(len(self.trace.steps) - 1, -1, -1):
            if name in _handles(self._history[k]):
                before, after = _handles(self._history[k]), _handles(self._history[k + 1])
                made = [n for n in after if n not in before]
                into = f", which made {', '.join(made)}" if made else ""
                return f'\n"{name}" was consumed by step {k}, {self.trace.steps[k]}{into}'
        return ""

    def mark(self) -> int:
        """The number of steps so far: a point to rewind to."""
        return len(self.trace.steps)

    def rewind(self, mark: int) -> None:
        """Takes back every step behind a mark."""
        del self.trace.steps[mark:]
        del self._history[mark + 1 :]
        self.function = self._history[mark]

    def loops(self, block: str) -> list[str]:
        """Names of the loops around a block, outermost first."""
        return [s.var.name for s in tree(self.function).loops_above(block_named(self.function, block))]

    def blocks(self) -> list[str]:
        """Names of all blocks in program order."""
        return list(tree(self.function).blocks)

    def own_loops(self, block: str) -> list[str]:
        """Names of the loops around this block and no other, outermost first."""
        return [n for n in self.loops(block) if self.blocks_under(n) == [block]]

    def loop_of(self, block: str, iteration: int) -> str:
        """The innermost loop around this block alone that feeds an iter var, by its position; "" if there is none."""
        binding = block_named(self.function, block).bindings[iteration]
        fed = {v.name for v in free_vars(binding)}
        return next((n for n in reversed(self.own_loops(block)) if n in fed), "")

    def loop_names(self) -> list[str]:
        """Names of all loops in program order."""
        return list(tree(self.function).loops)

    def blocks_under(self, loop: str) -> list[str]:
        """Names of the blocks inside a loop, in program order."""
        return [b.name for b in blocks_under(loop_named(self.function, loop))]

    def written_by(self, block: str) -> str:
        """Name of the first buffer that a block writes."""
        return accesses(block_named(self.function, block)).writes[0].buffer

    def extent(self, loop: str) -> int | None:
        """A loop's extent, None where it depends on parameters."""
        return as_int(loop_named(self.function, loop).var.extent)

    def kind(self, loop: str) -> str:
        """A loop's kind."""
        return loop_named(self.function, loop).kind

    def get(self, name: str) -> For | Block | Buffer:
        """The loop, block or buffer with this name.

        Raises:
            ScheduleError: If there is none.
        """
        t = tree(self.function)
        found = t.loops.get(name) or t.blocks.get(name)
        if found is not None:
            return found
        try:
            return buffer_named(self.function, name)
        except UnknownNameError:
            raise ScheduleError(f'there is no loop, block or buffer "{name}"{self._what_became_of(name)}') from None

    def iters(self, block: str) -> tuple[IterVar, ...]:
        """A block's iteration variables."""
        return block_named(self.function, block).iters

    def producers(self, block: str) -> list[str]:
        """Names of the other blocks that write what a block reads, in program order."""
        read = touched(block_named(self.function, block)).reads
        return [
            b.name
            for b in tree(self.function).blocks.values()
            if b.name != block and not read.isdisjoint(touched(b).writes)
        ]

    def consumers(self, block: str) -> list[str]:
        """Names of the other blocks that read what a block writes, in program order."""
        written = touched(block_named(self.function, block)).writes
        return [
            b.name
            for b in tree(self.function).blocks.values()
            if b.name != block and not written.isdisjoint(touched(b).reads)
        ]


def _handles(function: Function) -> dict[str, object]:
    t = tree(function)
    return {**t.loops, **t.blocks, **{b.name: b for b in function.buffers}}


def _verify(function: Function, step: Step) -> None:
    from tcompiler.ir.loop.verify import verify

    try:
        verify(function, scheduled=False)
    except VerifyError as error:
        raise InternalError(f"{step} made a function that the verifier refuses: {error}") from error


def _method(name: str) -> Callable[..., tuple[str, ...]]:
    def call(self: Schedule, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        return self.apply(Step(name, tuple(map(plain, args)), {k: plain(v) for k, v in kwargs.items()}))

    call.__name__ = name
    call.__qualname__ = f"Schedule.{name}"
    call.__doc__ = PRIMITIVES[name].__doc__
    return call


for _name in PRIMITIVES:
    setattr(Schedule, _name, _method(_name))


def replay(function: Function, trace: Trace, debug: bool | None = None) -> Schedule:
    """Runs a trace on a function; the same trace gives the identical kernel, names included.

    Args:
        function: Where to start.
        trace: The calls.
        debug: As for Schedule.

    Raises:
        ScheduleError: If a call is refused.
    """
    schedule = Schedule(function, debug)
    for step in trace.steps:
        schedule.apply(step)
    return schedule
