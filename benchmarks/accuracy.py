"""Every network's error beside onnxruntime's, what compiling it costs in time and memory, and how long loading takes.

Errors are relative L2, each against float64. Every compile and every load is a fresh process's; a cold compile has an
empty cache of kernels. Memory is the largest sum of the resident sets of the compiling process and its workers.

Example: python -m benchmarks.accuracy resnet18 bert_base --json accuracy.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import models
from benchmarks.common import console, integers
from tcompiler.cli.bench import report
from tcompiler.cli.bench.systems import SYSTEMS, Array

LIMIT = 10.0
"""Our error may be this many times onnxruntime's."""
FLOOR = 1e-9
"""An error of onnxruntime's below this counts as this: its result may be exact where ours is rounded once."""

_COMPILE = """
import sys, time
path, threads, saved, given, results = sys.argv[1:]
start = time.perf_counter()
import tcompiler as tc
model = tc.compile(path, target="cpu", threads=int(threads))
print(time.perf_counter() - start)
if saved:
    import numpy as np
    model.save(saved)
    arrays = np.load(given)
    outputs = model(*(arrays[s.name] for s in model.inputs))
    np.savez(results, *(outputs if isinstance(outputs, tuple) else (outputs,)))
"""
_LOAD = """
import sys, time
saved, given, results = sys.argv[1:]
start = time.perf_counter()
import tcompiler as tc
model = tc.load(saved)
print(time.perf_counter() - start)
import numpy as np
arrays = np.load(given)
outputs = model(*(arrays[s.name] for s in model.inputs))
np.savez(results, *(outputs if isinstance(outputs, tuple) else (outputs,)))
"""


def main() -> None:
    """Check the chosen networks."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", help="networks (default: all at full size); --list shows their names")
    options.add_argument("--list", action="store_true", help="list the networks and end")
    options.add_argument("--threads", type=integers, default=[1, 2], help="thread counts, as in 1,2 (default)")
    options.add_argument("--json", type=Path, help="write every figure to this file")
    options.add_argument("--markdown", type=Path, help="write the table to this file (default: standard output)")
    chosen = options.parse_args()
    if chosen.list:
        print("\n".join(models.NAMES))
        return
    for name in chosen.names:
        if name not in models.NAMES:
            options.error(f"no network is named {name!r}; there are: {', '.join(models.NAMES)}")
    about = report.environment()
    rows: list[dict[str, Any]] = []
    for name in chosen.names or models.NETWORKS:
        rows.append(_measured(name, chosen.threads))
        console.print(_line(rows[-1]), markup=False, soft_wrap=True)
        if chosen.json:
            chosen.json.parent.mkdir(parents=True, exist_ok=True)
            chosen.json.write_text(json.dumps({**about, "networks": rows}, indent=1) + "\n", encoding="utf-8")
    text = report.heading("Accuracy, compile time and memory", about) + "\n" + _table(rows) + _NOTE
    if chosen.markdown:
        chosen.markdown.parent.mkdir(parents=True, exist_ok=True)
        chosen.markdown.write_text(text, encoding="utf-8")
    else:
        print(text)


def _measured(name: str, threads: list[int]) -> dict[str, Any]:
    """Every figure of one network."""
    file = models.build(name)
    inputs = file.inputs
    expected = models.reference64(file.path, inputs)
    theirs = SYSTEMS["onnxruntime"](str(file.path), 1)(inputs)()
    base = [max(models.relative_l2(y, e), FLOOR) for y, e in zip(theirs, expected, strict=True)]

    def worst(outputs: list[Array]) -> float:
        return max(models.relative_l2(y, e) / b for y, e, b in zip(outputs, expected, base, strict=True))

    size = file.path.stat().st_size
    row: dict[str, Any] = {
        "network": name,
        "model_mb": size / 1e6,
        "memory_limit_mb": 3 * size / 1e6 + 1000,
        "onnxruntime_error": max(base),
        "runs": [],
    }
    for count in threads:
        with tempfile.TemporaryDirectory(prefix="tcompiler-accuracy-") as folder:
            here = Path(folder)
            given, results, saved = (str(here / part) for part in ("in.npz", "out.npz", "model.tcm"))
            np.savez(given, **inputs)  # type: ignore[arg-type]
            cache = str(here / "cache")
            cold, peak = _run(_COMPILE, [str(file.path), str(count), "", "", ""], cache)
            warm, _ = _run(_COMPILE, [str(file.path), str(count), saved, given, results], cache)
            compiled = _arrays(results)
            load, _ = _run(_LOAD, [saved, given, results], str(here / "unused"))
            loaded = _arrays(results)
            row["runs"].append(
                {
                    "threads": count,
                    "errors": [models.relative_l2(y, e) for y, e in zip(compiled, expected, strict=True)],
                    "ratio": worst(compiled),
                    "ratio_loaded": worst(loaded),
                    "cold_s": cold,
                    "warm_s": warm,
                    "load_s": load,
                    "peak_mb": peak / 1e6,
                }
            )
    return row


def _arrays(path: str) -> list[Array]:
    with np.load(path) as archive:
        return [archive[key] for key in archive.files]


def _run(script: str, arguments: list[str], cache: str) -> tuple[float, int]:
    """Runs a script in a fresh process that prints seconds; returns them, and the peak memory of its tree in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"TCOMPILER_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watched = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _resident(watched))
        time.sleep(0.02)
    output, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors.strip() or f"a process ended with status {process.returncode}")
    return float(output.split()[-1]), peak


def _resident(process: psutil.Process) -> int:
    """Bytes resident in a process and those that it started; pages that they share are counted in each."""
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.Error:
            continue
    return total


def _line(row: dict[str, Any]) -> str:
    parts = [
        f"{report.counted(run['threads'])}: "
        f"{run['ratio']:.1f}× onnxruntime's error, {run['ratio_loaded']:.1f}× loaded, "
        f"cold {run['cold_s']:.1f} s, warm {run['warm_s']:.1f} s, load {run['load_s']:.2f} s, {run['peak_mb']:.0f} MB"
        for run in row["runs"]
    ]
    return f"{row['network']}: " + "; ".join(parts)


_NOTE = f"""
Errors are relative L2 against float64, the worst output's; ratios are to onnxruntime's own error and may be
{LIMIT:.0f} at most, "loaded" after save and load in a fresh process. Seconds are a fresh process's, imports of
tcompiler included: cold with an empty cache of kernels, warm with a full one, load of the saved model. Memory is the
peak of a cold compile, workers included; its limit is three times the model file and 1 GB.
"""


def _table(rows: list[dict[str, Any]]) -> str:
    titles = ["network", "threads", "error", "onnxruntime's", "ratio", "loaded", "cold s", "warm s", "load s"]
    titles += ["memory MB", "limit MB"]
    lines = ["| " + " | ".join(titles) + " |", "| --- |" + " ---: |" * (len(titles) - 1)]
    for row in rows:
        for run in row["runs"]:
            cells = [row["network"], str(run["threads"]), f"{max(run['errors']):.1e}"]
            cells += [f"{row['onnxruntime_error']:.1e}", f"{run['ratio']:.2f}", f"{run['ratio_loaded']:.2f}"]
            cells += [f"{run['cold_s']:.1f}", f"{run['warm_s']:.1f}", f"{run['load_s']:.2f}"]
            cells += [f"{run['peak_mb']:.0f}", f"{row['memory_limit_mb']:.0f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
