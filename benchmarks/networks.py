"""Whole networks beside other systems.

Example: python -m benchmarks.networks resnet18 --threads 1,2 --against onnxruntime
"""

from __future__ import annotations

from benchmarks import models
from benchmarks.common import Recorder, parser
from tcompiler.cli.bench import Bench, Subject
from tcompiler.cli.bench.flops import model_flops


def main() -> None:
    """Measure the chosen networks."""
    options = parser(__doc__, rounds=9)
    options.add_argument("names", nargs="*", help="networks (default: all at full size); --list shows their names")
    options.add_argument("--list", action="store_true", help="list the networks and end")
    chosen = options.parse_args()
    if chosen.list:
        print("\n".join(models.NAMES))
        return
    for name in chosen.names:
        if name not in models.NAMES:
            options.error(f"no network is named {name!r}; there are: {', '.join(models.NAMES)}")
    recorder = Recorder("Networks", chosen)
    for threads in chosen.threads:
        with Bench([*chosen.against, "tcompiler"], threads) as bench:
            for name in chosen.names or models.NETWORKS:
                file = models.build(name)
                subject = Subject(file.path, file.inputs, model_flops(file.path))
                (result,) = bench.measure(subject, rounds=chosen.rounds, seconds=chosen.seconds)
                recorder.add(name, result)
    recorder.finish(recorder.means())


if __name__ == "__main__":
    main()
