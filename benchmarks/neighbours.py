"""Shapes that no table names: every operator beside itself with odd sizes, and einsums beside their plainest order.

Example: python -m benchmarks.neighbours --filter FC --threads 1 --against onnxruntime
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.common import Case, Recorder, add_filter, parser
from benchmarks.models import neighbours, operators
from tcompiler.cli.bench import Result

_WITHIN = 0.9
"""Part of its neighbour's rate that a shape should reach."""


def main() -> None:
    """Measure the chosen operators and einsums, each in turns with what it is compared with."""
    options = parser(__doc__, rounds=3, against=())
    add_filter(options)
    chosen = options.parse_args()
    groups = list(_groups(chosen.filter))
    if not groups:
        options.error("no operator and no einsum has that name")
    recorder = Recorder("Neighbours", chosen)
    recorder.measure(lambda: ([_case(what) for what in group] for group in groups))
    rates = {
        (label, result["threads"]): _rate(result, moved)
        for label, result, moved in zip(recorder.labels, recorder.results, recorder.moved, strict=True)
    }
    slower = [
        f"{_name(what)} ({threads}: {part:.2f})"
        for threads in chosen.threads
        for base, *others in groups
        for what in others
        if (whole := rates[_name(base), threads]) and (part := rates[_name(what), threads] / whole) < _WITHIN
    ]
    recorder.finish(
        f"Under {_WITHIN:.0%} of their neighbour's rate, both at best (threads: part): {', '.join(slower) or 'none'}.",
        "An einsum's neighbour is the first of its group; what is called odd stands behind the operator it belongs to. "
        "What is compared takes turns.",
    )


def _groups(wanted: re.Pattern[str]) -> Iterator[list[operators.Spec | str]]:
    """Operators and einsums that are compared with each other: all with the first one."""
    for spec in operators.specs():
        if wanted.search(spec["name"]):
            yield [spec, neighbours.neighbour(spec)]
    for group in neighbours.EINSUMS:
        if any(wanted.search(equation) for equation in group):
            yield list(group)


def _name(what: operators.Spec | str) -> str:
    return what if isinstance(what, str) else str(what["name"])


def _case(what: operators.Spec | str) -> Case:
    model = neighbours.einsum(what) if isinstance(what, str) else operators.model(what)
    flops = neighbours.einsum_flops(what) if isinstance(what, str) else None
    return Case(_name(what), model, flops, operators.moved_bytes(model))


def _rate(result: Result, moved: int) -> float:
    """Operations, or bytes where there are none, of the fastest call per ms; 0 where it failed."""
    for row in result["rows"]:
        if row["system"] == "tcompiler" and "min_ms" in row:
            return (result["flops"] or moved) / row["min_ms"]
    return 0.0


if __name__ == "__main__":
    main()
