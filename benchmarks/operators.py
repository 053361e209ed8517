"""Single operators beside other systems.

Each operator of operators.json becomes a one-node ONNX model (attention: five nodes) that every system loads.
Example: python -m benchmarks.operators --suite resnet50 --filter k3 --threads 1 --against onnxruntime
"""

from __future__ import annotations

from benchmarks.common import Case, Recorder, add_filter, parser
from benchmarks.models import operators


def main() -> None:
    """Measure the chosen operators."""
    suites = list(dict.fromkeys(spec["suite"] for spec in operators.specs()))
    options = parser(__doc__, rounds=5)
    options.add_argument("--suite", choices=suites, action="append", help="may be repeated (default: all)")
    add_filter(options)
    chosen = options.parse_args()
    specs = [
        spec
        for spec in operators.specs()
        if spec["suite"] in (chosen.suite or suites) and chosen.filter.search(spec["name"])
    ]
    if not specs:
        options.error("no operator has that suite and name")
    recorder = Recorder("Operators", chosen)
    recorder.measure(lambda: (_case(spec) for spec in specs))
    recorder.finish(
        recorder.means(),
        "Rates count executed multiply-adds (taps in the padding are none); GB/s counts each array once.",
    )


def _case(spec: operators.Spec) -> Case:
    model = operators.model(spec)
    return Case(spec["name"], model, moved=operators.moved_bytes(model))


if __name__ == "__main__":
    main()
