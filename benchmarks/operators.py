"""Single operators beside other systems.

Each operator of operators.json becomes a one-node ONNX model (attention: five nodes) that every system loads.
Example: python -m benchmarks.operators --suite resnet50 --filter k3 --threads 1 --against onnxruntime
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import onnx

from benchmarks.common import Recorder, parser
from benchmarks.models import operators
from tcompiler.cli.bench import Bench
from tcompiler.cli.bench.flops import model_flops, random_inputs


def main() -> None:
    """Measure the chosen operators."""
    suites = list(dict.fromkeys(spec["suite"] for spec in operators.specs()))
    options = parser(__doc__, rounds=5)
    options.add_argument("--suite", choices=suites, action="append", help="may be repeated (default: all)")
    options.add_argument("--filter", type=re.compile, default=re.compile(""), help="regular expression on the name")
    chosen = options.parse_args()
    specs = [
        spec
        for spec in operators.specs()
        if spec["suite"] in (chosen.suite or suites) and chosen.filter.search(spec["name"])
    ]
    if not specs:
        options.error("no operator has that suite and name")
    recorder = Recorder("Operators", chosen)
    with tempfile.TemporaryDirectory(prefix="tcompiler-operators-") as folder:
        for threads in chosen.threads:
            with Bench([*chosen.against, "tcompiler"], threads) as bench:
                for spec in specs:
                    made = operators.model(spec)
                    path = Path(folder) / "operator.onnx"
                    onnx.save(made, str(path))
                    result = bench.measure(
                        path,
                        random_inputs(path),
                        rounds=chosen.rounds,
                        flops=model_flops(path),
                        seconds=chosen.seconds,
                    )
                    recorder.add(spec["name"], result, operators.moved_bytes(made))
    recorder.finish(
        recorder.means(),
        "Rates count executed multiply-adds (taps in the padding are none); GB/s counts each array once.",
    )


if __name__ == "__main__":
    main()
