"""LLVM text by nesting level: straight-line code is placed at the outermost level where its operands exist.

No LLVM pass has to hoist anything: each open loop or branch is a level with its own text and its own table of values
already computed there. An instruction goes to the level that its operands need, which lies before the text of the
loops still open inside, so it dominates them.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from tcompiler.backends.llvm.ssa import Value


@dataclass(slots=True)
class Level:
    """One open region: the function's body, a loop's body or a branch.

    Attributes:
        kind: Which of them.
        label: Its current basic block.
        lines: Its text so far.
        memo: Names of pure instructions placed in it, by their text or by what they compute.
        loads: Loads placed in it that need not be repeated: the name, and the buffers that it depends on.
        values: Values of the expression being written, by node and mask.
    """

    kind: Literal["root", "loop", "branch"]
    label: str
    lines: list[str] = field(default_factory=list)
    memo: dict[Hashable, str] = field(default_factory=dict)
    loads: dict[Hashable, tuple[str, frozenset[str]]] = field(default_factory=dict)
    values: dict[Hashable, Value] = field(default_factory=dict)


class Writer:
    """Text of one LLVM function under construction."""

    def __init__(self) -> None:
        self._counter = 0
        self.levels: list[Level] = [Level("root", "entry")]
        self.allocas: list[str] = []
        self.made_at: dict[str, int] = {}

    @property
    def depth(self) -> int:
        """Index of the innermost open level."""
        return len(self.levels) - 1

    @property
    def top(self) -> Level:
        """The innermost open level."""
        return self.levels[-1]

    def guard_depth(self) -> int:
        """The innermost level whose code runs only under a condition; loads must not be hoisted above it."""
        for k in range(self.depth, -1, -1):
            if self.levels[k].kind == "branch":
                return k
        return 0

    def fresh(self, prefix: str = "v") -> str:
        """A new local name, with its sigil."""
        self._counter += 1
        return f"%{prefix}{self._counter}"

    def forget_loads(self, buffers: Collection[str]) -> None:
        """Drops remembered loads that depend on buffers which are about to be written, or were."""
        for level in self.levels:
            for key in [k for k, (_, sources) in level.loads.items() if not sources.isdisjoint(buffers)]:
                del level.loads[key]

    def line(self, text: str) -> None:
        """Adds a line at the innermost level."""
        self.top.lines.append(f"  {text}")

    def instruction(self, text: str, depth: int | None = None, key: Hashable | None = None) -> str:
        """Adds `%new = text` at a level, or returns the value computed there earlier under the same key."""
        level = self.levels[self.depth if depth is None else depth]
        memo_key = text if key is None else key
        known = level.memo.get(memo_key)
        if known is None:
            known = self.fresh()
            level.lines.append(f"  {known} = {text}")
            level.memo[memo_key] = known
            self.made_at[known] = self.depth if depth is None else depth
        return known

    def effect(self, text: str) -> str:
        """Adds `%new = text` at the innermost level, without remembering it (loads, calls)."""
        name = self.fresh()
        self.line(f"{name} = {text}")
        return name

    def label(self, name: str) -> None:
        """Starts a basic block at the innermost level."""
        self.top.lines.append(f"{name}:")
        self.top.label = name

    def fresh_label(self, prefix: str) -> str:
        """A new label, without its sigil."""
        self._counter += 1
        return f"{prefix}{self._counter}"

    @contextmanager
    def level(self, kind: Literal["loop", "branch"], label: str) -> Iterator[Level]:
        """Opens a level whose first basic block is `label`; the caller places its lines."""
        inner = Level(kind, label)
        self.levels.append(inner)
        try:
            yield inner
        finally:
            self.levels.pop()

    @contextmanager
    def at(self, depth: int) -> Iterator[None]:
        """Writes at an outer level for a while; only straight-line code may be written there."""
        inner = self.levels[depth + 1 :]
        del self.levels[depth + 1 :]
        try:
            yield
        finally:
            self.levels.extend(inner)

    def alloca(self, llvm_type: str, align: int = 64) -> str:
        """Stack memory, allocated once at the function's entry."""
        name = self.fresh("m")
        self.allocas.append(f"  {name} = alloca {llvm_type}, align {align}")
        return name
