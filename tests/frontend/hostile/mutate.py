"""Damaged models: real ones with bits flipped, cut, spliced and repeated. None may kill, hang or surprise.

``python -m tests.frontend.hostile.mutate --seed S --count N`` tries N of them; a failure says its seed.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.frontend.hostile.corpus import apply, graph, i64, info, model, node

F = np.float32


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Small models with something of everything that a file can hold."""
    rng = np.random.default_rng(0)

    def w(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(F)

    conv = model(
        [
            node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2], name="conv"),
            node("BatchNormalization", ["c", "s", "s", "s", "v"], ["n"]),
            node("Relu", ["n"], ["r"]),
            node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
            node("GlobalAveragePool", ["p"], ["g"]),
            node("Flatten", ["g"], ["f"]),
            node("Gemm", ["f", "m"], ["y"], transB=1),
        ],
        [info("x", (1, 3, 9, 9))],
        constants={"w": w(4, 3, 3, 3), "b": w(4), "s": w(4), "v": np.ones(4, F), "m": w(5, 4)},
    )
    attention = model(
        [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "one"], ["n"], axis=0),
            node("Concat", ["n", "minus"], ["target"], axis=0),
            node("MatMul", ["x", "w"], ["q"]),
            node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
            node("MatMul", ["q", "t"], ["a"]),
            node("Softmax", ["a"], ["p"], axis=-1),
            node("MatMul", ["p", "q"], ["o"]),
            node("LayerNormalization", ["o", "g"], ["l"], axis=-1, epsilon=1e-5),
            node("Reshape", ["l", "target"], ["y"]),
        ],
        [info("x", (1, 5, 6))],
        constants={"one": i64(1), "minus": i64(-1), "w": w(6, 6), "g": w(6)},
    )
    body = graph(
        [node("Identity", ["on"], ["go"]), node("Add", ["s", "x"], ["t"]), node("Mul", ["t", "k"], ["u"])],
        [info("i", [], TensorProto.INT64), info("on", [], TensorProto.BOOL), info("s")],
        ["go", "u", "t"],
        {"k": np.array(0.5, F)},
    )
    branch = graph([node("Neg", ["x"], ["r"])], [], ["r"])
    control = model(
        [
            node("Loop", ["n", "", "x"], ["last", "all"], body=body),
            node("If", ["c"], ["z"], then_branch=branch, else_branch=graph([node("Abs", ["x"], ["r"])], [], ["r"])),
            node("Add", ["last", "z"], ["y"]),
        ],
        outputs=["y", "all"],
        constants={"n": np.array(3), "c": np.array(True)},
    )
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("f", 1)]
    inner = helper.make_function("f", "g", ["a"], ["b"], [node("Elu", ["a"], ["b"], alpha=0.5)], opsets)
    outer = helper.make_function(
        "f", "h", ["a"], ["b"], [node("g", ["a"], ["t"], domain="f"), node("g", ["t"], ["b"], domain="f")], opsets
    )
    functions = model([node("h", ["x"], ["y"], domain="f")], functions=[inner, outer])
    moves = model(
        [
            node("Pad", ["x", "pads", "value"], ["p"], mode="constant"),
            node("Slice", ["p", "starts", "ends", "axes", "steps"], ["s"]),
            node("Tile", ["s", "reps"], ["t"]),
            node("Split", ["t", "parts"], ["u", "v"], axis=1),
            node("ScatterND", ["u", "at", "new"], ["q"]),
            node("GatherND", ["q", "at"], ["g"]),
            node("TopK", ["v", "k"], ["tv", "ti"], axis=-1),
            node("OneHot", ["ti", "depth", "values"], ["h"], axis=-1),
            node("Range", ["zero", "five", "one"], ["r"]),
            node("CumSum", ["r", "axis"], ["y"]),
        ],
        outputs=["g", "tv", "h", "y"],
        constants={
            "pads": i64(1, 0, 1, 2), "value": np.array(2.0, F), "starts": i64(0), "ends": i64(-1), "axes": i64(0),
            "steps": i64(1), "reps": i64(1, 2), "parts": i64(4, 6), "at": np.array([[1], [2]]), "new": w(2, 4),
            "k": i64(2), "depth": np.array(4), "values": np.array([0, 1], F), "zero": np.array(0),
            "five": np.array(5), "one": np.array(1), "axis": np.array(0),
        },
    )  # fmt: skip
    quantized = model(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
            node("DequantizeLinear", ["q", "s", "z"], ["d"], axis=1),
            node("MatMulInteger", ["q", "wq", "z"], ["i"]),
            node("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
            node("Einsum", ["d", "e"], ["y"], equation="ij,jk->ki"),
        ],
        outputs=["y", "c"],
        constants={
            "s": np.array(0.1, F),
            "z": np.array(3, np.uint8),
            "wq": rng.integers(0, 9, (3, 4)).astype(np.uint8),
            "e": w(3, 4),
        },
    )
    lstm = apply("LSTM", (3, 1, 2), w(1, 12, 2), w(1, 12, 3), w(1, 24), hidden_size=3, outputs=3)
    resized = apply(
        "Resize", (1, 1, 4, 5), None, np.array([1, 1, 2, 1.5], F), mode="linear",
        coordinate_transformation_mode="align_corners",
    )  # fmt: skip
    half = TensorProto(name="c", data_type=TensorProto.FLOAT16, dims=[3], int32_data=[15360, 16384, 16896])
    typed = helper.make_tensor("d", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    fields = model(
        [node("Cast", ["c"], ["t"], to=1), node("Add", ["x", "t"], ["u"]), node("Mul", ["u", "d"], ["y"])],
        [info("x", ("n", 3))],
        tensors=[half, typed],
    )
    # its weight is large enough to be left in the file's bytes
    large = model([node("Gemm", ["x", "w"], ["y"])], [info("x", (2, 40))], constants={"w": w(40, 30)})
    made = (conv, attention, control, functions, moves, quantized, lstm, resized, fields, large)
    return tuple(m.SerializeToString() for m in made)


NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    -2,
    5,
    7,
    64,
    255,
    256,
    -128,
    1 << 16,
    1 << 31,
    -(1 << 31),
    1 << 40,
    (1 << 63) - 1,
    -(1 << 63),
)
OPERATORS = (
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Relu", "Exp", "Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze",
    "Concat", "Split", "Slice", "Expand", "Tile", "Pad", "Gather", "GatherElements", "GatherND", "ScatterElements",
    "ScatterND", "OneHot", "TopK", "CumSum", "Range", "Shape", "Size", "ConstantOfShape", "EyeLike", "Trilu",
    "Where", "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "MatMul", "Gemm",
    "Einsum", "Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ReduceSum", "ReduceMean", "ReduceMax",
    "LayerNormalization", "BatchNormalization", "InstanceNormalization", "LRN", "Resize", "Flatten", "DepthToSpace",
    "SpaceToDepth", "QuantizeLinear", "DequantizeLinear", "MatMulInteger", "Identity", "If", "Loop", "Scan", "LSTM",
    "GRU", "RNN", "BitShift", "Clip", "Dropout", "NonZero", "Compress", "ReverseSequence", "GridSample", "Col2Im",
    "Attention", "Det",
)  # fmt: skip


def tampered(data: bytes, rng: np.random.Generator) -> bytes:
    """A model that still parses, with some of its fields changed."""
    made = onnx.ModelProto.FromString(data)
    g = made.graph

    def pick(items: Any) -> Any:
        return items[int(rng.integers(len(items)))]

    names = [*(v.name for v in g.input), *(t.name for t in g.initializer), *(o for n in g.node for o in n.output), ""]
    for _ in range(int(rng.integers(1, 4))):
        n = pick(g.node)
        match int(rng.integers(11)):
            case 0 if n.input:
                n.input[int(rng.integers(len(n.input)))] = pick(names)
            case 1:
                n.op_type = pick(OPERATORS)
            case 2 if n.attribute:
                a = pick(n.attribute)
                a.i = pick(NUMBERS)
                for k in range(len(a.ints)):
                    a.ints[k] = pick(NUMBERS) if rng.integers(2) else a.ints[k]
            case 3 if n.attribute:
                del n.attribute[int(rng.integers(len(n.attribute)))]
            case 4:
                name = pick(
                    ("axis", "axes", "perm", "pads", "keepdims", "kernel_shape", "to", "group", "blocksize", "k")
                )
                values = [int(pick(NUMBERS)) for _ in range(int(rng.integers(1, 4)))]
                n.attribute.append(helper.make_attribute(name, values if rng.integers(2) else values[0]))
            case 5 if g.initializer:
                t = pick(g.initializer)
                if t.data_type == TensorProto.INT64 and t.raw_data:
                    array = np.frombuffer(t.raw_data, np.int64).copy()
                    array[int(rng.integers(len(array)))] = pick(NUMBERS)
                    t.raw_data = array.tobytes()
            case 6 if g.initializer:
                t = pick(g.initializer)
                if t.dims:
                    t.dims[int(rng.integers(len(t.dims)))] = pick(NUMBERS)
                else:
                    t.dims.append(1)
            case 7 if g.initializer:
                pick(g.initializer).data_type = int(rng.integers(0, 24))
            case 8:
                made.opset_import[0].version = int(rng.integers(1, 29))
            case 9 if g.input:
                dims = pick(g.input).type.tensor_type.shape.dim
                if dims:
                    pick(dims).dim_value = abs(pick(NUMBERS)) % (1 << 16)
            case 10:
                if rng.integers(2):
                    n.input.append(pick(names))
                elif n.input:
                    del n.input[-1]
            case _:
                g.node.append(n)
    return made.SerializeToString()


def damaged(seed: int) -> bytes:
    """The model that a seed makes: an odd one parses still."""
    rng = np.random.default_rng(seed)
    sources = seeds()
    data = bytearray(sources[int(rng.integers(len(sources)))])
    if seed % 2:
        return tampered(bytes(data), rng)

    def place(size: int = 0) -> int:
        return int(rng.integers(0, max(len(data) - size, 1)))

    for _ in range(int(rng.integers(1, 4))):
        match int(rng.integers(8)):
            case 0 | 1 | 2:
                data[place()] ^= 1 << int(rng.integers(8))
            case 3:
                data[place()] = int(rng.choice([0, 1, 2, 127, 128, 255, int(rng.integers(256))]))
            case 4:
                del data[place() :]
                data = data or bytearray(b"\0")
            case 5:
                size = int(rng.integers(1, 64))
                at, to = place(size), place()
                data[to:to] = data[at : at + size]
            case 6:
                at = place()
                del data[at : at + int(rng.integers(1, 16))]
                data = data or bytearray(b"\0")
            case 7:
                other = sources[int(rng.integers(len(sources)))]
                size = int(rng.integers(1, 64))
                at, to = int(rng.integers(0, len(other) - size)), place(size)
                data[to : to + size] = other[at : at + size]
    return bytes(data)


def run(first: int, count: int, timeout: float = 300.0) -> tuple[collections.Counter[str], dict[int, str]]:
    """Tries some seeds in child processes.

    Returns:
        How many ended how, and what went wrong, by seed.
    """
    kinds: collections.Counter[str] = collections.Counter()
    bad: dict[int, str] = {}
    seed, end = first, first + count
    while seed < end:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results"
            path.write_text("")
            stop = min(seed + 500, end)
            command = [sys.executable, "-m", "tests.frontend.hostile.child", str(path), f"damaged:{seed}:{stop}"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
                why = f"exit status {done.returncode}\n{done.stderr[-3000:]}"
            except subprocess.TimeoutExpired:
                why = "no end"
            lines = [json.loads(line) for line in path.read_text().splitlines()]
        if not lines:
            raise RuntimeError(f"the child does nothing: {why}")
        for entry in lines:
            if "kind" not in entry:
                continue
            ok = entry["kind"] == "ok"
            kinds[("compiles" if entry["text"].startswith("compiles") else "refused") if ok else entry["kind"]] += 1
            if not ok:
                bad[int(entry["name"])] = entry["text"]
        last = int(lines[-1]["name"])
        if "kind" not in lines[-1]:
            kinds["died"] += 1
            bad[last] = why
        seed = last + 1
    return kinds, bad


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    kinds, bad = run(options.seed, options.count)
    for seed, text in bad.items():
        print(f"seed {seed}: {text[-1500:]}\n")
    print(dict(kinds))


if __name__ == "__main__":
    main()
