"""Attention beside other systems: whole sequences, causal ones, single queries over long keys, shared heads.

Rates of whole sequences stand beside the peak of the multiply-adds, those of single queries beside the bandwidth of
reading. PyTorch runs its own scaled_dot_product_attention, the others the nodes that exporters write.
Example: python -m benchmarks.attention --filter decode --threads 1 --against onnxruntime
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.common import Case, Recorder, add_filter, parser
from benchmarks.models import attention
from tcompiler.cli.bench import Result
from tcompiler.target.machine import Machine, measure


def main() -> None:
    """Measure the chosen cases."""
    options = parser(__doc__, rounds=5)
    add_filter(options)
    chosen = options.parse_args()
    cases = [case for case in attention.cases() if chosen.filter.search(case.name)]
    if not cases:
        options.error("no case has that name")
    machine = measure()
    recorder = Recorder("Attention", chosen)
    recorder.measure(lambda: (Case(c.name, c.model(), c.flops, c.moved, other={"torch": c.node()}) for c in cases))
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
