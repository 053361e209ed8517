"""What the benchmark commands share: their options, and writing results while a run is still going."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from rich.console import Console

from tcompiler.cli.bench import PEERS, Bench, Result, Subject, report
from tcompiler.cli.bench.flops import model_flops, random_inputs

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


def add_filter(options: argparse.ArgumentParser) -> None:
    """Adds the option that chooses cases by name."""
    options.add_argument("--filter", type=re.compile, default=re.compile(""), help="regular expression on the name")


def integers(text: str) -> list[int]:
    """The numbers of "1,2"."""
    return [int(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """The parts of "a,b"; none of an empty text."""
    return [part for part in text.split(",") if part]


@dataclass(frozen=True)
class Case:
    """A model to measure.

    Attributes:
        label: Its name in the table.
        model: The model.
        flops: Operations of a call; None for what the model says.
        moved: Bytes that must be moved, for a rate where there are no flops.
        inputs: Arrays by input name; None for random ones.
        dtype: Whose peak it is compared with.
        other: Models of the same meaning for systems that take another one, by system.
    """

    label: str
    model: onnx.ModelProto
    flops: int | None = None
    moved: int = 0
    inputs: Mapping[str, NDArray[Any]] | None = None
    dtype: str = "f32"
    other: Mapping[str, onnx.ModelProto] = field(default_factory=dict)


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

    def measure(self, cases: Callable[[], Iterable[Case | Sequence[Case]]]) -> None:
        """Measures cases with every thread count, each system in a process of its own, and keeps the results.

        Args:
            cases: Makes the cases, one after the other, for each thread count anew. Those of a sequence are compared
                with each other, so they take turns.
        """
        chosen = self.options
        for threads in chosen.threads:
            with Bench([*chosen.against, "tcompiler"], threads) as bench:
                for some in cases():
                    group = [some] if isinstance(some, Case) else some
                    with tempfile.TemporaryDirectory(prefix="tcompiler-benchmark-") as folder:
                        subjects = [_subject(case, Path(folder) / str(i)) for i, case in enumerate(group)]
                        results = bench.measure(*subjects, rounds=chosen.rounds, seconds=chosen.seconds)
                    for case, result in zip(group, results, strict=True):
                        self.add(case.label, result, case.moved)

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


def _subject(case: Case, folder: Path) -> Subject:
    """A case's models as files of a new folder, and its inputs."""
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(case.model, str(path))
    others = {system: folder / f"{system}.onnx" for system in case.other}
    for system, other in others.items():
        onnx.save(case.other[system], str(other))
    return Subject(
        path,
        random_inputs(path) if case.inputs is None else case.inputs,
        model_flops(path) if case.flops is None else case.flops,
        case.dtype,
        others,
    )
