"""Reductions, norms, softmaxes, scans and pooling beside other systems, and beside the bandwidth of reading.

Example: python -m benchmarks.reductions --filter Softmax --threads 1 --against onnxruntime
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.common import Case, Recorder, add_filter, parser
from benchmarks.models import reductions
from tcompiler.cli.bench import Result
from tcompiler.target.machine import Machine, measure


def main() -> None:
    """Measure the chosen cases."""
    options = parser(__doc__, rounds=5)
    add_filter(options)
    chosen = options.parse_args()
    cases = [case for case in reductions.cases() if chosen.filter.search(case.name)]
    if not cases:
        options.error("no case has that name")
    machine = measure()
    recorder = Recorder("Reductions", chosen)
    recorder.measure(lambda: (_case(case) for case in cases))
    recorder.finish(
        recorder.means(),
        "GB/s counts the input and the outputs once, however often they are read.",
        bandwidths(machine, recorder.results, recorder.moved),
    )


def _case(case: reductions.Reduction) -> Case:
    model = case.model()
    return Case(case.name, model, flops=0, moved=reductions.moved_bytes(model))


def bandwidths(machine: Machine, results: Sequence[Result], moved: Sequence[int]) -> str:
    """What one core and all of them read from each level of the memory, and how much of that the cases reach.

    Args:
        machine: The measured machine.
        results: The measurements.
        moved: Bytes that each of them moves.
    """
    lines = [
        "Measured bandwidth of reading, in GB/s, and what the cases of that size reach of it:",
        "",
        "| level | threads | GB/s | cases | their median | their best |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for threads in sorted({result["threads"] for result in results}):
        reached: dict[str, list[float]] = {}
        for result, count in zip(results, moved, strict=True):
            (ours,) = (row for row in result["rows"] if row["system"] == "tcompiler")
            if "median_ms" in ours:
                level = machine.level_of(count // threads, threads)
                reached.setdefault(level, []).append(count / ours["median_ms"] / 1e6)
        for level in machine.gbps:
            rates = sorted(reached.get(level, []))
            if rates:
                lines.append(
                    f"| {level} | {threads} | {machine.peak_gbps(level, threads):.0f} | {len(rates)} | "
                    f"{rates[len(rates) // 2]:.1f} | {rates[-1]:.1f} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
