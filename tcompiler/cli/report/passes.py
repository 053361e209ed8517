"""Keeps what every pass did while a model is compiled, for the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tcompiler.cli.report.compare import abbreviated
from tcompiler.pipeline import GRAPH_PASSES, Observer


@dataclass(frozen=True, slots=True)
class PassRecord:
    """A pass that ran; `text` is the graph after it, None for the passes behind the graph (their texts are stages)."""

    name: str
    seconds: float
    text: str | None


class PassRecorder(Observer):
    """Records the passes of the compilation that it watched last."""

    def __init__(self) -> None:
        self.records: list[PassRecord] = []
        self._at = 0

    def before(self, name: str) -> None:
        """A pass starts; the first pass of the pipeline starts a new record."""
        if name == GRAPH_PASSES[0].name and self._at >= len(GRAPH_PASSES):
            self.records, self._at = [], 0

    def after(self, name: str, seconds: float, text: Callable[[], str]) -> None:
        """A pass is done."""
        of_graph = self._at < len(GRAPH_PASSES)
        self.records.append(PassRecord(name, seconds, abbreviated(text()) if of_graph else None))
        self._at += 1
