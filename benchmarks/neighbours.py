"""Shapes that no table names: every operator beside itself with odd sizes, and einsums beside their plainest order.

Example: python -m benchmarks.neighbours --filter FC --threads 1 --against onnxruntime
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from benchmarks.common import Recorder, parser
from benchmarks.models import neighbours, operators
from tcompiler.cli.bench import Bench, Result
from tcompiler.cli.bench.flops import model_flops, random_inputs

_WITHIN = 0.9
"""Part of its neighbour's rate that a shape should reach."""


def main() -> None:
    """Measure the chosen operators and einsums, each right after what it is compared with."""
    options = parser(__doc__, rounds=3, against=())
    options.add_argument("--filter", type=re.compile, default=re.compile(""), help="regular expression on the name")
    chosen = options.parse_args()
    recorder = Recorder("Neighbours", chosen)
    slower: list[str] = []
    with tempfile.TemporaryDirectory(prefix="tcompiler-neighbours-") as folder:
        path = Path(folder) / "model.onnx"
        for threads in chosen.threads:
            with Bench([*chosen.against, "tcompiler"], threads) as bench:
                rates: dict[str, float] = {}
                for name, base, model, flops in _models(chosen.filter):
                    onnx.save(model, str(path))
                    result = bench.measure(
                        path,
                        random_inputs(path),
                        rounds=chosen.rounds,
                        flops=flops or model_flops(path),
                        seconds=chosen.seconds,
                    )
                    moved = operators.moved_bytes(model)
                    recorder.add(name, result, moved)
                    rates[name] = _rate(result, moved)
                    part = rates[name] / rates[base] if rates[base] else 1.0
                    if part < _WITHIN:
                        slower.append(f"{name} ({threads}: {part:.2f})")
    recorder.finish(
        f"Under {_WITHIN:.0%} of their neighbour's rate, both at best (threads: part): {', '.join(slower) or 'none'}.",
        'An einsum\'s neighbour is the first of its group; a name with "odd" stands behind the operator it belongs to.',
    )


def _models(wanted: re.Pattern[str]) -> Iterator[tuple[str, str, onnx.ModelProto, int]]:
    """Names, what each is compared with, models, and flops where the model does not tell them."""
    for spec in operators.specs():
        if wanted.search(spec["name"]):
            odd = neighbours.neighbour(spec)
            yield spec["name"], spec["name"], operators.model(spec), 0
            yield odd["name"], spec["name"], operators.model(odd), 0
    for group in neighbours.EINSUMS:
        if any(wanted.search(equation) for equation in group):
            for equation in group:
                yield equation, group[0], neighbours.einsum(equation), neighbours.einsum_flops(equation)


def _rate(result: Result, moved: int) -> float:
    """Operations, or bytes where there are none, of the fastest call per ms; 0 where it failed."""
    for row in result["rows"]:
        if row["system"] == "tcompiler" and "min_ms" in row:
            return (result["flops"] or moved) / row["min_ms"]
    return 0.0


if __name__ == "__main__":
    main()
