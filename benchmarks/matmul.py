"""Matmuls written with the builder, against the measured peak of the FMA units, one thread and two.

Example: python -m benchmarks.matmul --json docs/results/matmul.json --markdown docs/results/matmul.md
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

import tcompiler as tc
from benchmarks.common import Recorder, parser
from tcompiler.cli.bench import Bench, Result, Subject

_SHAPES = (*((n, n, n) for n in (256, 512, 1024, 2048)), (1000, 1021, 997))


def main() -> None:
    """Measure every shape and print the part of the peak and the gain from threads."""
    options = parser(__doc__, rounds=15, against=("onnxruntime",))
    options.add_argument("--shapes", type=_shapes, default=_SHAPES, metavar="MxKxN,…", help="sizes of other products")
    chosen = options.parse_args()
    recorder = Recorder("Matmul from the builder", chosen)
    with tempfile.TemporaryDirectory(prefix="tcompiler-matmul-") as folder:
        for threads in chosen.threads:
            with Bench([*chosen.against, "tcompiler"], threads) as bench:
                for m, k, n in chosen.shapes:
                    recorder.add(f"{m}×{k}×{n}", _measure(bench, chosen, Path(folder), m, k, n))
    recorder.finish(_scaling(recorder.results), "Shapes are m×k×n; both factors are inputs of the call.")


def _shapes(text: str) -> list[tuple[int, int, int]]:
    """Sizes from the command line: "4x1000x1111,16x768x768"."""
    found = [re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", one) for one in text.split(",")]
    if None in found:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of sizes MxKxN, as 4x1000x1111,16x768x768 is one")
    return [(int(m[1]), int(m[2]), int(m[3])) for m in found if m is not None]


def _measure(bench: Bench, chosen: object, folder: Path, m: int, k: int, n: int) -> Result:
    rounds, seconds = vars(chosen)["rounds"], vars(chosen)["seconds"]
    graph = tc.trace(lambda a, b: a @ b, a=tc.spec("f32", (m, k)), b=tc.spec("f32", (k, n)))
    start = time.perf_counter()
    model = tc.compile(graph, target="cpu", threads=bench.threads)
    compiled = time.perf_counter() - start
    ours, peers = folder / "matmul.tcm", folder / "matmul.onnx"
    model.save(str(ours))
    onnx.save(_onnx_matmul(m, k, n), str(peers))
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in (("a", (m, k)), ("b", (k, n)))}
    subject = Subject(peers, inputs, 2 * m * n * k, paths={"tcompiler": ours})
    (result,) = bench.measure(subject, rounds=rounds, seconds=seconds)
    for row in result["rows"]:
        if row["system"] == "tcompiler" and "compile_s" in row:
            row["compile_s"] = compiled
    return result


def _onnx_matmul(m: int, k: int, n: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        "matmul",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, (m, k)),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, (k, n)),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (m, n))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _scaling(results: list[Result]) -> str:
    """How much faster each shape is with more threads, for every system."""
    times = {
        (result["model"], row["system"], result["threads"]): row["median_ms"]
        for result in results
        for row in result["rows"]
        if "median_ms" in row
    }
    lines = []
    for (model, system, threads), ms in times.items():
        single = times.get((model, system, 1))
        if threads > 1 and single:
            lines.append(f"* {model}, {system}: {single / ms:.2f}× one thread on {threads} threads")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
