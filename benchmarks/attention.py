"""Attention beside other systems: whole sequences, causal ones, single queries over long keys, shared heads.

Rates of whole sequences stand beside the peak of the multiply-adds, those of single queries beside the bandwidth of
reading. PyTorch runs its own scaled_dot_product_attention, the others the nodes that exporters write.
Example: python -m benchmarks.attention --filter decode --threads 1 --against onnxruntime
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from benchmarks.common import Recorder, parser
from benchmarks.models import attention
from tcompiler.cli.bench import Bench, Result
from tcompiler.cli.bench.flops import random_inputs
from tcompiler.target.machine import Machine, measure


def main() -> None:
    """Measure the chosen cases."""
    options = parser(__doc__, rounds=5)
    options.add_argument("--filter", type=re.compile, default=re.compile(""), help="regular expression on the name")
    chosen = options.parse_args()
    cases = [case for case in attention.cases() if chosen.filter.search(case.name)]
    if not cases:
        options.error("no case has that name")
    machine = measure()
    recorder = Recorder("Attention", chosen)
    with tempfile.TemporaryDirectory(prefix="tcompiler-attention-") as folder:
        written, node = Path(folder) / "written.onnx", Path(folder) / "node.onnx"
        for threads in chosen.threads:
            with Bench([*chosen.against, "tcompiler"], threads) as bench:
                for case in cases:
                    onnx.save(case.model(), str(written))
                    onnx.save(case.node(), str(node))
                    result = bench.measure(
                        written,
                        random_inputs(written),
                        flops=case.flops,
                        rounds=chosen.rounds,
                        seconds=chosen.seconds,
                        paths={"torch": node},
                    )
                    recorder.add(case.name, result, case.moved)
    recorder.finish(
        recorder.means(),
        "Rates count both products, without what a causal mask hides.",
        bandwidths(machine, recorder.results, recorder.moved),
    )


def bandwidths(machine: Machine, results: Sequence[Result], moved: Sequence[int]) -> str:
    """What attention of a single query reads per second, beside what the machine reads.

    Args:
        machine: The measured machine.
        results: The measurements.
        moved: Bytes that each of them moves.
    """
    lines = [
        "Single queries read keys and values once, from the level that holds them:",
        "",
        "| | threads | GB/s | level | its GB/s | % |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for result, count in zip(results, moved, strict=True):
        (ours,) = (row for row in result["rows"] if row["system"] == "tcompiler")
        if "median_ms" not in ours or result["flops"] > 16 * count:
            continue
        threads = result["threads"]
        level = machine.level_of(count // threads, threads)
        most = machine.peak_gbps(level, threads)
        rate = count / ours["median_ms"] / 1e6
        lines.append(f"| {result['model']} | {threads} | {rate:.1f} | {level} | {most:.0f} | {100 * rate / most:.0f} |")
    return "\n".join(lines) if len(lines) > 4 else ""


if __name__ == "__main__":
    main()
