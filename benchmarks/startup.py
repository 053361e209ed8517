"""How long it takes before the first result: imports, compiling cold and warm, loading. Each in a fresh process.

Example: python -m benchmarks.startup resnet18 --threads 1 --json startup.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import models
from benchmarks.common import console
from tcompiler.cli.bench import report

_TIMED = """
import sys, time
start = time.perf_counter()
{body}
print(time.perf_counter() - start)
"""
_IMPORT = "import tcompiler"
_COMPILE = "import tcompiler as tc; tc.compile({path!r}, target='cpu', threads={threads})"
_SAVE = "import tcompiler as tc; tc.compile({path!r}, target='cpu', threads={threads}).save({saved!r})"
_LOAD = "import tcompiler as tc; tc.load({saved!r})"


def main() -> None:
    """Measure one network's start-up times."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("name", nargs="?", default="resnet18", choices=models.NAMES)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--repeats", type=int, default=5, help="fresh processes per figure (cold compiles: a third)")
    options.add_argument("--json", type=Path, help="write every figure to this file")
    options.add_argument("--markdown", type=Path, help="write the table to this file (default: standard output)")
    chosen = options.parse_args()
    about = report.environment()
    path = str(models.build(chosen.name).path)
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="tcompiler-startup-") as folder:
        saved = str(Path(folder) / "model.tcm")

        def measure(label: str, body: str, repeats: int, *, fresh_cache: bool = False) -> None:
            script = _TIMED.format(body=body.format(path=path, saved=saved, threads=chosen.threads))
            times[label] = []
            for i in range(repeats):
                cache = str(Path(folder) / (f"cache-{i}" if fresh_cache else "cache"))
                environment = os.environ | {"TCOMPILER_CACHE_DIR": cache}
                done = subprocess.run(
                    [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise SystemExit(f"{label}: {done.stderr.strip()}")
                times[label].append(float(done.stdout.split()[-1]))
            console.print(f"{label}: {statistics.median(times[label]):.3f} s")

        measure("import tcompiler", _IMPORT, chosen.repeats)
        measure("compile, empty cache", _COMPILE, max(1, chosen.repeats // 3), fresh_cache=True)
        measure("compile and save", _SAVE, 1)
        measure("compile, full cache", _COMPILE, chosen.repeats)
        measure("load the saved model", _LOAD, chosen.repeats)
    lines = ["| " + chosen.name + " | median s | min s | max s |", "| --- | ---: | ---: | ---: |"]
    for label, seconds in times.items():
        figures = (statistics.median(seconds), min(seconds), max(seconds))
        lines.append(f"| {label} | " + " | ".join(f"{x:.3f}" for x in figures) + " |")
    note = "Each figure is a fresh process's, imports included, the interpreter's own start excluded."
    text = report.heading("Start-up", about) + "\n" + "\n".join(lines) + f"\n\n{note}\n"
    if chosen.json:
        record = {**about, "model": chosen.name, "threads": chosen.threads, "seconds": times}
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if chosen.markdown:
        chosen.markdown.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
