"""What every pass did: recorded while a model is compiled, and shown on the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tcompiler.cli.report.compare import Comparison, abbreviated, compare
from tcompiler.cli.report.markup import Child, Html, duration, packed, section, tag
from tcompiler.pipeline import PASS_NAMES, Observer


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
        if name == PASS_NAMES[0] and self._at >= len(PASS_NAMES):
            self.records, self._at = [], 0

    def after(self, name: str, seconds: float, text: Callable[[], str]) -> None:
        """A pass is done."""
        of_graph = self._at < len(PASS_NAMES)
        self.records.append(PassRecord(name, seconds, abbreviated(text()) if of_graph else None))
        self._at += 1


def passes_section(texts: Mapping[str, str], records: Sequence[PassRecord] | None) -> Html:
    """The section of the passes: for each of the graph, the graph before and after it side by side.

    Args:
        texts: The model's texts by stage.
        records: What was recorded; None for a saved model, which keeps the first and the last graph alone.
    """
    imported = abbreviated(texts.get("imported", ""))
    if records is None:
        final = abbreviated(texts.get("graph", ""))
        note = (
            "A saved model keeps the graph as it was imported and as it was after the last pass, not what each pass "
            "did: inspect the model that it was compiled from to see that."
        )
        entries = [_pass("all graph passes", None, compare(imported, final, ("imported", "graph")), 0, 1)]
        return section(
            "passes", "Passes", tag("p", note, _class="note"), entries, packed("texts-passes", [imported, final])
        )
    states, entries = [imported], []
    for record in records:
        if record.text is None:
            entries.append(_stage_pass(record))
            continue
        before = len(states) - 1
        heads = (f"before {record.name}", f"after {record.name}")
        comparison = compare(states[before], record.text, heads)
        if record.text != states[before]:
            states.append(record.text)
        entries.append(_pass(record.name, record.seconds, comparison, before, len(states) - 1))
    note = (
        "Every pass in order, with the graph before and after it. Digests of constants are shortened. Later passes "
        "change the language: their texts are the stages of each kernel, below."
    )
    return section("passes", "Passes", tag("p", note, _class="note"), entries, packed("texts-passes", states))


def _pass(name: str, seconds: float | None, comparison: Comparison, before: int, after: int) -> Html:
    """A pass with its comparison, folded; what did nothing is one line."""
    time = "" if seconds is None else duration(seconds)
    heading = tag("span", name, _class="name"), tag("span", time, _class="time")
    if comparison.table is None:
        return tag("p", heading, tag("span", comparison.note, _class="quiet"), _class="pass")
    counts = (
        tag("span", f"−{comparison.removed}", _class="minus"),
        " ",
        tag("span", f"+{comparison.added}", _class="plus"),
        " lines",
    )
    return tag(
        "details",
        tag("summary", heading, tag("span", counts)),
        tag("div", comparison.table, _class="scroll"),
        _class="pass",
        data_before=before,
        data_after=after,
    )


_MAKES = {"compose": "graph → expr", "lower": "expr → loop", "schedule": "loop → scheduled", "llvm": "scheduled → llvm"}


def _stage_pass(record: PassRecord) -> Html:
    makes = _MAKES.get(record.name)
    told: Child = "no text of its own"
    if makes:
        told = f"{makes}: side by side among ", tag("a", "the stages of each kernel", href="#stages")
    time = tag("span", duration(record.seconds), _class="time")
    return tag("p", tag("span", record.name, _class="name"), time, tag("span", told, _class="quiet"), _class="pass")
