"""Progress of a compilation on the terminal, and its passes' texts and times where asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from tcompiler.pipeline import Observer


class Reporter(Observer):
    """Shows which pass runs; keeps times; prints the program between passes.

    Args:
        console: Where to (standard error, so that output can be piped).
        between: Print the program after every pass that changed it.
    """

    def __init__(self, console: Console, between: bool = False) -> None:
        self._console = console
        self._between = between
        self._last = ""
        self.times: list[tuple[str, float]] = []
        self._status = console.status("reading", spinner="dots")

    @contextmanager
    def showing(self) -> Iterator[Reporter]:
        """Shows the running pass while inside."""
        with self._status:
            yield self

    def before(self, name: str) -> None:
        """A pass starts."""
        self._status.update(name)

    def after(self, name: str, seconds: float, text: Callable[[], str]) -> None:
        """A pass is done."""
        self.times.append((name, seconds))
        if self._between:
            now = text()
            if now == self._last:
                print(f"# after {name} (unchanged)")
            else:
                print(f"# after {name}\n{now}")
            self._last = now

    def print_times(self) -> None:
        """Prints a table of the passes' times."""
        table = Table("pass", "ms", "share", title="time per pass")
        total = sum(s for _, s in self.times) or 1.0
        for name, seconds in self.times:
            table.add_row(name, f"{seconds * 1e3:.1f}", f"{seconds / total:.0%}")
        table.add_row("all", f"{total * 1e3:.1f}", "")
        self._console.print(table)
