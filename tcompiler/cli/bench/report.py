"""What the measurements were made on, and tables of them."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import psutil

from tcompiler.cli.bench.rounds import Result, Row

_PACKAGES = ("tcompiler", "numpy", "llvmlite", "onnx", "onnxruntime", "openvino", "torch")


def environment() -> dict[str, Any]:
    """The machine, the versions of the systems that are installed, the command line and the date."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join([os.path.basename(sys.orig_argv[0]), *sys.orig_argv[1:]]),
        "machine": {
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": versions,
    }


def _cpu_name() -> str:
    import cpuinfo

    return str(cpuinfo.get_cpu_info().get("brand_raw", platform.machine()))


def heading(title: str, about: dict[str, Any]) -> str:
    """The top of a Markdown page: title, machine, versions and the command that made it.

    Args:
        title: The page's title.
        about: What `environment` returned.
    """
    machine = about["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"# {title}\n\n"
        f"`{about['command']}` on {about['date']}: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}; {versions}.\n"
    )


def table(results: Sequence[Result], labels: Sequence[str], moved: Sequence[int] | None = None) -> str:
    """A Markdown table, a line per measurement: medians in ms, our rate and part of the peak, ratio to the best peer.

    Args:
        results: Measurements, of the same systems.
        labels: A name for each.
        moved: Bytes that each must read and write; used for a rate in GB/s where there are no flops.

    Returns:
        The table. "% of peak" is of the median call, "at best" of the fastest one: between the two lies what other
        programs on the machine take. "% of a tile" is the median call against the median of what a register tile did
        in the same rounds with operands in the level 1 cache (`target/tile_peak.py`), to which others' programs
        happen just as much. "× best peer" is the best peer's median over ours: above 1 we are faster.
    """
    peers = list(dict.fromkeys(r["system"] for x in results for r in x["rows"] if r["system"] != "tcompiler"))
    head = [
        "",
        "threads",
        "tcompiler ms",
        "rate",
        "% of peak",
        "% of a tile",
        "at best",
        *(f"{peer} ms" for peer in peers),
    ]
    head += ["× best peer", "max rel. error", "peak GFLOP/s"]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for i, (result, label) in enumerate(zip(results, labels, strict=True)):
        rows = {row["system"]: row for row in result["rows"]}
        ours = rows.get("tcompiler", {})
        cells = [label, str(result["threads"]), _time(ours)]
        if "median_ms" not in ours:
            cells += ["", "", "", ""]
        elif result["flops"]:
            best = result["flops"] / ours["min_ms"] / 1e6 / result["peak_gflops"]
            of_tile = ours["of_tile"]
            cells += [
                f"{ours['gflops']:.1f} GFLOP/s",
                f"{100 * ours['of_peak']:.1f}",
                f"{100 * of_tile:.1f}" if of_tile else "",
                f"{100 * best:.1f}",
            ]
        else:
            cells += [f"{moved[i] / ours['median_ms'] / 1e6:.1f} GB/s" if moved else "", "", "", ""]
        cells += [_time(rows.get(peer, {})) for peer in peers]
        advantage = speedup(result)
        cells.append(f"{advantage:.2f}" if advantage else "")
        error = ours.get("max_rel_error")
        cells.append(f"{error:.1e}" if error is not None else ("" if "median_ms" not in ours else "differs"))
        cells.append(f"{result['peak_gflops']:.1f}")
        lines.append(cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def speedup(result: Result) -> float | None:
    """The best peer's median time over ours, or None if there is no such pair."""
    times = {row["system"]: row["median_ms"] for row in result["rows"] if "median_ms" in row}
    ours = times.pop("tcompiler", None)
    return min(times.values()) / ours if ours and times else None


def failures(results: Iterable[Result], labels: Iterable[str]) -> str:
    """A Markdown list of what each system could not run, with its own words; empty if there is none."""
    lines = []
    for result, label in zip(results, labels, strict=True):
        for row in result["rows"]:
            if "error" in row:
                text = " ".join(row["error"].split())
                lines.append(f"* {label}, {row['system']}, {counted(result['threads'])}: {text}")
    return "\n".join(lines) + "\n" if lines else ""


def geometric_mean(values: Iterable[float]) -> float | None:
    """The geometric mean, None of nothing."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def counted(threads: int) -> str:
    """A number of threads in words: 1 thread, 2 threads."""
    return f"{threads} thread" + ("s" if threads != 1 else "")


def _time(row: Row) -> str:
    if "error" in row:
        return "unsupported"
    return f"{row['median_ms']:.3f}" if "median_ms" in row else ""
