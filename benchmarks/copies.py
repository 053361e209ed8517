"""Operators that only move data, beside the machine's copy of as many bytes, one thread and two.

Example: python -m benchmarks.copies --json docs/results/copies.json --markdown docs/results/copies.md
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto as T
from onnx import helper, numpy_helper

import tcompiler as tc
from benchmarks.common import Recorder, add_filter, parser
from tcompiler.cli.bench import Bench, Subject, report
from tcompiler.cli.bench.flops import random_inputs
from tcompiler.target.peak import bandwidth

Shape = tuple[int, ...]

PLACES = {"near": 1 << 15, "far": 6 << 20}
"""Elements of the input, about: in a level 2 cache, and outside of all caches."""
_TYPES: dict[int, int] = {T.FLOAT: 4, T.UINT8: 1, T.INT64: 8}
_NOTE = (
    "Near: about 128 KB of input (a level 2 cache); far: about 24 MB. GB/s is of the kernels alone, input and output "
    "counted once each; beside it what a loop of vector loads and stores copies with as many bytes and threads, "
    "measured in turns with it. The times are those of a call from Python."
)


@dataclass(frozen=True)
class Case:
    """A model to measure.

    Attributes:
        name: The operator and what is special about it.
        nodes: Its nodes, from x to y.
        inputs: Shapes of the inputs.
        output: Shape of the output.
        kind: Element type.
        constants: Initializers by name.
        made: Element type of the output, where it is another one.
    """

    name: str
    nodes: Sequence[onnx.NodeProto]
    inputs: dict[str, Shape]
    output: Shape
    kind: int = T.FLOAT
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    made: int = 0

    def model(self) -> onnx.ModelProto:
        """The ONNX model."""
        graph = helper.make_graph(
            list(self.nodes),
            "copy",
            [helper.make_tensor_value_info(n, self.kind, s) for n, s in self.inputs.items()],
            [helper.make_tensor_value_info("y", self.made or self.kind, self.output)],
            [numpy_helper.from_array(a, n) for n, a in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def moved(self) -> int:
        """Bytes that are written, and as many read, if not all of the inputs are needed."""
        written = math.prod(self.output)
        read = min(sum(math.prod(s) for s in self.inputs.values()), written)
        return _TYPES[self.kind] * read + _TYPES[self.made or self.kind] * written


def main() -> None:
    """Measure the chosen copies."""
    options = parser(__doc__, rounds=5, against=("onnxruntime",))
    add_filter(options)
    chosen = options.parse_args()
    found = [(f"{c.name}, {place}", c) for place, size in PLACES.items() for c in cases(size)]
    found = [(label, case) for label, case in found if chosen.filter.search(label)]
    if not found:
        options.error("no copy has that name")
    recorder = Recorder("Copies", chosen)
    rates: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="tcompiler-copies-") as folder:
        path = Path(folder) / "copy.onnx"
        for threads in chosen.threads:
            with Bench([*chosen.against, "tcompiler"], threads) as bench:
                for label, case in found:
                    onnx.save(case.model(), str(path))
                    inputs = random_inputs(path)
                    subject = Subject(path, inputs, flops=0)
                    (result,) = bench.measure(subject, rounds=chosen.rounds, seconds=chosen.seconds)
                    rates.append(_rates(path, inputs, case.moved(), threads, chosen.rounds, chosen.seconds))
                    recorder.add(label, result, case.moved())
    recorder.finish(_table(recorder, rates), recorder.means(), _NOTE)


def _rates(
    path: Path, inputs: dict[str, NDArray[Any]], moved: int, threads: int, rounds: int, seconds: float
) -> tuple[float, float]:
    """GB/s of a model's kernels and of a plain copy of as many bytes, in turns: medians over the rounds."""
    model = tc.compile(str(path), threads=threads)
    assert isinstance(model, tc.Model)
    ours: list[float] = []
    plain: list[float] = []
    for _ in range(rounds):
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            times.append(sum(model.run_profiled(**inputs)[1]))
        ours.append(moved / statistics.median(times) * 1e-9)
        plain.append(bandwidth("copy", moved // threads, threads, seconds))
    return statistics.median(ours), statistics.median(plain)


def _table(recorder: Recorder, rates: Sequence[tuple[float, float]]) -> str:
    """The rates of the kernels beside the machine's."""
    lines = [["", "threads", "kernels GB/s", "copy GB/s", "% of copy", "× onnxruntime"]]
    lines.append(["---"] + ["---:"] * 5)
    for result, (ours, plain) in zip(recorder.results, rates, strict=True):
        gain = report.speedup(result)
        cells = [f"{ours:.1f}", f"{plain:.1f}", f"{100 * ours / plain:.0f}", f"{gain:.2f}" if gain else ""]
        lines.append([result["model"], str(result["threads"]), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cases(size: int) -> Iterator[Case]:
    """Every copy, with an input of about so many elements."""
    yield from _transposes(size)
    yield from _pieces(size)
    yield from _images(size)


def _transpose(name: str, shape: Shape, perm: Sequence[int], kind: int = T.FLOAT) -> Case:
    node = helper.make_node("Transpose", ["x"], ["y"], perm=list(perm))
    return Case(name, [node], {"x": shape}, tuple(shape[p] for p in perm), kind)


def _transposes(size: int) -> Iterator[Case]:
    edge = math.isqrt(size) // 16 * 16
    yield _transpose("Transpose 10, even", (edge, edge), (1, 0))
    yield _transpose("Transpose 10, powers of two", (512, size // 512), (1, 0))
    yield _transpose("Transpose 10, odd", (edge | 1, edge - 3 | 1), (1, 0))
    yield _transpose("Transpose 10, bytes", (2 * edge, 2 * edge), (1, 0), T.UINT8)
    yield _transpose("Transpose 10, i64", (edge // 2, edge), (1, 0), T.INT64)
    side = math.isqrt(size // 64)
    yield _transpose("Transpose 0231, 64 channels", (1, 64, side, side), (0, 2, 3, 1))
    yield _transpose("Transpose 0312, 64 channels", (1, side, side, 64), (0, 3, 1, 2))
    planes = math.isqrt(size // 3)
    yield _transpose("Transpose 0231, 3 channels", (1, 3, planes, planes), (0, 2, 3, 1))
    yield _transpose("Transpose 0312, 3 channels", (1, planes, planes, 3), (0, 3, 1, 2))
    wide = math.isqrt(4 * size // 3)
    yield _transpose("Transpose 0231, 3 channels of bytes", (1, 3, wide, wide), (0, 2, 3, 1), T.UINT8)
    yield _transpose("Transpose 0312, 3 channels of bytes", (1, wide, wide, 3), (0, 3, 1, 2), T.UINT8)
    odd = math.isqrt(size // 5) | 1
    yield _transpose("Transpose 0231, 5 channels, odd", (1, 5, odd, odd), (0, 2, 3, 1))
    yield _transpose("Transpose 0312, 5 channels, odd", (1, odd, odd, 5), (0, 3, 1, 2))
    yield _transpose("Transpose 0213, heads of 64", (1, size // (64 * 8), 8, 64), (0, 2, 1, 3))
    yield _transpose("Transpose 0231, heads of 64", (1, size // (64 * 8), 8, 64), (0, 2, 3, 1))
    cube = round(size ** (1 / 3)) | 1
    for perm in permutations(range(3)):
        if perm != (0, 1, 2):
            yield _transpose(f"Transpose {''.join(map(str, perm))}, odd cube", (cube,) * 3, perm)
    fifth = size // (7 * 2 * 13 * 16)
    yield _transpose("Transpose 42031", (7, 16, 2, fifth, 13), (4, 2, 0, 3, 1))
    yield _transpose("Transpose 03142", (7, 16, 2, fifth, 13), (0, 3, 1, 4, 2))


def _pieces(size: int) -> Iterator[Case]:
    side = math.isqrt(size // 64)
    half = (1, 32, side, side)
    node = helper.make_node("Concat", ["x", "x2"], ["y"], axis=1)
    yield Case("Concat of channels", [node], {"x": half, "x2": half}, (1, 64, side, side))
    rows = size // 64
    node = helper.make_node("Concat", ["x", "x2"], ["y"], axis=1)
    yield Case("Concat of short rows", [node], {"x": (rows, 27), "x2": (rows, 37)}, (rows, 64))
    thirds = size // 3
    node = helper.make_node("Concat", ["x", "x2", "x3"], ["y"], axis=1)
    yield Case("Concat of single elements", [node], dict.fromkeys(("x", "x2", "x3"), (thirds, 1)), (thirds, 3))
    whole = (1, 64, side, side)

    def sliced(name: str, starts: Shape, ends: Shape, steps: Shape) -> Case:
        inside = [max(0, -(-(min(e, n) - s) // t)) for s, e, t, n in zip(starts, ends, steps, whole, strict=True)]
        constants = {"s": np.array(starts), "e": np.array(ends), "a": np.arange(4), "t": np.array(steps)}
        node = helper.make_node("Slice", ["x", "s", "e", "a", "t"], ["y"])
        return Case(name, [node], {"x": whole}, tuple(inside), T.FLOAT, constants)

    yield sliced("Slice of the middle", (0, 3, 2, 2), (1, 61, side - 2, side - 2), (1, 1, 1, 1))
    yield sliced("Slice, every second row", (0, 0, 0, 0), whole, (1, 1, 2, 1))
    yield sliced("Slice, every second column", (0, 0, 0, 1), whole, (1, 1, 1, 2))
    yield sliced("Slice, every third column", (0, 0, 0, 0), whole, (1, 1, 1, 3))
    back = {"s": np.array([-1]), "e": np.array([-size]), "a": np.array([3]), "t": np.array([-1])}
    yield Case(
        "Slice backwards",
        [helper.make_node("Slice", ["x", "s", "e", "a", "t"], ["y"])],
        {"x": whole},
        whole,
        T.FLOAT,
        back,
    )
    pads = {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    node = helper.make_node("Pad", ["x", "p"], ["y"])
    yield Case("Pad by one", [node], {"x": whole}, (1, 64, side + 2, side + 2), T.FLOAT, pads)
    node = helper.make_node("Pad", ["x", "p"], ["y"], mode="reflect")
    yield Case("Pad by one, reflected", [node], {"x": whole}, (1, 64, side + 2, side + 2), T.FLOAT, pads)
    picks = np.random.default_rng(0).integers(0, rows, rows)
    for width in (64, 50):
        node = helper.make_node("Gather", ["x", "i"], ["y"], axis=0)
        yield Case(f"Gather rows of {width}", [node], {"x": (rows, width)}, (rows, width), T.FLOAT, {"i": picks})
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=1)
    order = np.random.default_rng(0).permutation(64)
    yield Case("Gather columns", [node], {"x": (rows, 64)}, (rows, 64), T.FLOAT, {"i": order})
    node = helper.make_node("Tile", ["x", "r"], ["y"])
    yield Case("Tile", [node], {"x": (rows // 4, 32)}, (rows // 2, 64), T.FLOAT, {"r": np.array([2, 2])})
    node = helper.make_node("Expand", ["x", "s"], ["y"])
    yield Case("Expand rows", [node], {"x": (1, 64)}, (rows, 64), T.FLOAT, {"s": np.array([rows, 64])})
    yield Case("Expand columns", [node], {"x": (rows, 1)}, (rows, 64), T.FLOAT, {"s": np.array([rows, 64])})
    node = helper.make_node("Split", ["x"], ["y", "y2"], axis=1, num_outputs=2)
    both = [node, helper.make_node("Concat", ["y2", "y"], ["z"], axis=1)]
    both[0].output[:], both[1].input[:], both[1].output[:] = ["a", "b"], ["b", "a"], ["y"]
    yield Case("Split and Concat", both, {"x": (rows, 64)}, (rows, 64))


def _images(size: int) -> Iterator[Case]:
    planes = math.isqrt(size // 3)
    first = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["a"], ["b"], to=T.FLOAT),
        helper.make_node("Mul", ["b", "m"], ["c"]),
        helper.make_node("Add", ["c", "t"], ["y"]),
    ]
    scale = {
        n: np.array(values, np.float32).reshape(1, 3, 1, 1) for n, values in (("m", [0.1, 0.2, 0.3]), ("t", [1, 2, 3]))
    }
    image = (1, planes, planes, 3)
    yield Case("Image of bytes to floats", first, {"x": image}, (1, 3, planes, planes), T.UINT8, scale, T.FLOAT)
    side = math.isqrt(size // 64) // 2 * 2
    whole = (1, 64, side, side)
    for block in (2, 4):
        node = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=block, mode="CRD")
        output = (1, 64 // block**2, side * block, side * block)
        yield Case(f"DepthToSpace {block}", [node], {"x": whole}, output)
    node = helper.make_node("SpaceToDepth", ["x"], ["y"], blocksize=2)
    yield Case("SpaceToDepth 2", [node], {"x": whole}, (1, 256, side // 2, side // 2))
    shuffle = [
        helper.make_node("Reshape", ["x", "s"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["b", "t"], ["y"]),
    ]
    shapes = {"s": np.array([1, 4, 16, side, side]), "t": np.array(whole)}
    yield Case("Channel shuffle", shuffle, {"x": whole}, whole, T.FLOAT, shapes)
    last = {"s": np.array([1, side, side, 4, 16]), "t": np.array([1, side, side, 64])}
    shuffle = [shuffle[0], helper.make_node("Transpose", ["a"], ["b"], perm=[0, 1, 2, 4, 3]), shuffle[2]]
    flat = (1, side, side, 64)
    yield Case("Channel shuffle, channels last", shuffle, {"x": flat}, flat, T.FLOAT, last)
    small = (1, 16, side, side)
    for mode, coordinates in (("nearest", "asymmetric"), ("linear", "half_pixel")):
        attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
        if mode == "nearest":
            attributes["nearest_mode"] = "floor"
        node = helper.make_node("Resize", ["x", "", "f"], ["y"], **attributes)
        scale = {"f": np.array([1, 1, 2, 2], np.float32)}
        yield Case(f"Resize {mode}, twice", [node], {"x": small}, (1, 16, 2 * side, 2 * side), T.FLOAT, scale)


if __name__ == "__main__":
    main()
