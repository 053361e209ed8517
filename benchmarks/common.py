"""What the benchmark commands share: their options, and writing results while a run is still going."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from tcompiler.cli.bench import PEERS, Result, report

console = Console(stderr=True, highlight=False)


def parser(description: str | None, *, rounds: int, against: Sequence[str] = PEERS) -> argparse.ArgumentParser:
    """The options of every benchmark: threads, peers, rounds, turn length and where results go.

    Args:
        description: A module's docstring, shown by --help.
        rounds: Default number of rounds.
        against: Default peers.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--threads", type=integers, default=[1, 2], help="thread counts, as in 1,2 (default)")
    made.add_argument("--against", type=names, default=list(against), help=f"peers: some of {','.join(PEERS)}, or ''")
    made.add_argument("--rounds", type=int, default=rounds, help=f"turns per system (default {rounds})")
    made.add_argument("--seconds", type=float, default=0.15, help="length of a turn (default 0.15)")
    made.add_argument("--json", type=Path, help="write every figure to this file")
    made.add_argument("--markdown", type=Path, help="write the table to this file (default: standard output)")
    return made


def integers(text: str) -> list[int]:
    """The numbers of "1,2"."""
    return [int(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """The parts of "a,b"; none of an empty text."""
    return [part for part in text.split(",") if part]


@dataclass
class Recorder:
    """Collects results and writes them after each one, so that a run that is cut short keeps what it measured.

    Args:
        title: Heading of the Markdown page.
        options: The parsed options of `parser`.
    """

    title: str
    options: argparse.Namespace
    about: dict[str, Any] = field(default_factory=report.environment)
    results: list[Result] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, label: str, result: Result, moved: int = 0) -> None:
        """Keep one measurement and report it on standard error.

        Args:
            label: Its name in the table.
            result: The figures.
            moved: Bytes that must be moved, for a rate where there are no flops.
        """
        result["model"] = label
        self.results.append(result)
        self.labels.append(label)
        self.moved.append(moved)
        parts = [
            f"{row['system']} {row['median_ms']:.3f} ms" if "median_ms" in row else f"{row['system']} unsupported"
            for row in result["rows"]
        ]
        console.print(f"{label}, {report.counted(result['threads'])}: {', '.join(parts)}", markup=False, soft_wrap=True)
        self._write_json()

    def finish(self, *paragraphs: str) -> None:
        """Write the Markdown page, with paragraphs after the table."""
        text = report.heading(self.title, self.about) + "\n" + report.table(self.results, self.labels, self.moved)
        for paragraph in (*paragraphs, report.failures(self.results, self.labels)):
            text += f"\n{paragraph.strip()}\n" if paragraph.strip() else ""
        if self.options.markdown:
            self.options.markdown.parent.mkdir(parents=True, exist_ok=True)
            self.options.markdown.write_text(text, encoding="utf-8")
        else:
            print(text)

    def means(self) -> str:
        """A sentence per thread count with the geometric mean of our advantage over the best peer."""
        sentences = []
        for threads in self.options.threads:
            ratios = [report.speedup(result) for result in self.results if result["threads"] == threads]
            known = [ratio for ratio in ratios if ratio]
            mean = report.geometric_mean(known)
            if mean:
                of = f"over {len(known)} of {len(ratios)}"
                sentences.append(f"At {report.counted(threads)}: geometric mean {mean:.2f}× the best peer {of}.")
        return " ".join(sentences)

    def _write_json(self) -> None:
        if self.options.json:
            runs = [
                {**result, "bytes": moved} if moved else dict(result)
                for result, moved in zip(self.results, self.moved, strict=True)
            ]
            self.options.json.parent.mkdir(parents=True, exist_ok=True)
            self.options.json.write_text(json.dumps({**self.about, "runs": runs}, indent=1) + "\n", encoding="utf-8")
