"""Runs hostile models in processes of their own; keeps what is said of each in files to be read.

``python -m tests.frontend.hostile.messages [THEME/NAME…]`` writes the files anew, or the messages of some cases only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tcompiler.ir.dtypes import DTYPES
from tests.frontend.hostile.corpus import all_cases

FOLDER = Path(__file__).parent / "messages"
_MARK = "=== "


@dataclass(frozen=True)
class Result:
    """What came of a case.

    Attributes:
        kind: "ok", "time" (out of time), "died", or the name of an exception that no user should see.
        text: "compiles", the message, or the trace.
        seconds: Processor time.
    """

    kind: str
    text: str
    seconds: float = 0.0


def run(names: Sequence[str], timeout: float = 240.0) -> dict[str, Result]:
    """Runs cases in child processes; one that kills its process is known by its unfinished line."""
    results: dict[str, Result] = {}
    rest = list(names)
    with tempfile.TemporaryDirectory() as folder:
        while rest:
            path = Path(folder) / "results"
            path.write_text("")
            command = [sys.executable, "-m", "tests.frontend.hostile.child", str(path), *rest]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
                why = f"exit status {done.returncode}\n{done.stderr[-3000:]}"
            except subprocess.TimeoutExpired:
                why = "no end"
            started = None
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                started = entry["name"]
                if "kind" in entry:
                    # what may be added to without any message here getting another meaning
                    entry["text"] = entry["text"].replace(", ".join(DTYPES), "EVERY ELEMENT TYPE")
                    results[started] = Result(entry["kind"], entry["text"], entry["seconds"])
                    started = None
            if started is not None:
                results[started] = Result("died", why)
            left = [n for n in rest if n not in results]
            if left == rest:
                raise RuntimeError(f"the child does nothing: {why}")
            rest = left
    return results


def read() -> dict[str, str]:
    """The messages that are kept, by theme/name."""
    kept: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.txt")):
        for part in path.read_bytes().decode().split("\n" + _MARK)[1:]:
            name, _, text = part.partition("\n")
            kept[f"{path.stem}/{name}"] = json.loads(text) if text.startswith('"') else text.rstrip("\n")
    return kept


def write(messages: Mapping[str, str]) -> None:
    """Keeps messages; one with characters that no text should hold is kept as JSON."""
    FOLDER.mkdir(exist_ok=True)
    for theme in sorted({name.split("/")[0] for name in messages}):
        lines = [f"What is said of the models in {theme}.py, written by `python -m tests.frontend.hostile.messages`.\n"]
        for name, text in messages.items():
            if name.split("/")[0] == theme:
                plain = text.isprintable() or all(line.isprintable() for line in text.split("\n"))
                lines.append(f"{_MARK}{name.split('/')[1]}\n{text if plain else json.dumps(text)}\n")
        (FOLDER / f"{theme}.txt").write_text("\n".join(lines), newline="\n")


def main() -> None:
    cases = all_cases()
    names = sys.argv[1:] or list(cases)
    chosen = [c for c in cases if any(c == n or c.startswith(n + "/") for n in names)] if sys.argv[1:] else names
    results = run(chosen)
    for name, r in sorted(results.items(), key=lambda item: -item[1].seconds):
        if r.kind != "ok" or r.seconds > 4:
            print(f"{name}: {r.kind} {r.seconds:.2f} s\n{r.text[-1500:] if r.kind != 'ok' else ''}")
    kept = read()
    made = {n: results[n].text if n in results and results[n].kind == "ok" else kept.get(n) for n in cases}
    write({n: t for n, t in made.items() if t is not None})


if __name__ == "__main__":
    main()
