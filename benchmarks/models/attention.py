"""Attention as ONNX models: as exporters write it, and as one node for systems that have one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Attention:
    """One attention, f32.

    Attributes:
        kind: What is special about it, the first part of its name.
        heads: Heads of the queries.
        rows: Queries of a head.
        keys: Keys, and values, of a head.
        size: Numbers in a query, key or value.
        shared: Heads of the queries that share one of keys and values.
        causal: Whether a query sees no keys behind its own; the last query sees all.
    """

    kind: str
    heads: int
    rows: int
    keys: int
    size: int
    shared: int = 1
    causal: bool = False

    @property
    def name(self) -> str:
        """Kind and sizes."""
        heads = f"{self.heads}" if self.shared == 1 else f"{self.heads}/{self.heads // self.shared}"
        return f"{self.kind}, {heads} heads of {self.size}, {self.rows} × {self.keys}"

    @property
    def flops(self) -> int:
        """Operations of both products; what a causal mask hides is not counted."""
        pairs = self.rows * self.keys
        if self.causal:
            pairs -= self.rows * (self.rows - 1) // 2
        return 4 * self.heads * self.size * pairs

    @property
    def moved(self) -> int:
        """Bytes of the inputs and the output, each touched once."""
        return 4 * self.heads * self.size * (2 * self.rows + 2 * self.keys // self.shared)

    def model(self) -> onnx.ModelProto:
        """Two products with scale, mask and softmax between; shared heads are expanded, as exporters write it."""
        number = np.array(1 / math.sqrt(self.size), np.float32)
        constants = {"scale": number}
        nodes = []
        names = {"k": "k", "v": "v"}
        if self.shared > 1:
            groups = self.heads // self.shared
            constants["two"] = np.array([2])
            constants["wide"] = np.array([1, groups, self.shared, self.keys, self.size])
            constants["flat"] = np.array([1, self.heads, self.keys, self.size])
            for name in ("k", "v"):
                nodes += [
                    helper.make_node("Unsqueeze", [name, "two"], [f"{name}1"]),
                    helper.make_node("Expand", [f"{name}1", "wide"], [f"{name}2"]),
                    helper.make_node("Reshape", [f"{name}2", "flat"], [f"{name}3"]),
                ]
                names[name] = f"{name}3"
        nodes += [
            helper.make_node("Transpose", [names["k"]], ["kt"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["q", "kt"], ["products"]),
            helper.make_node("Mul", ["products", "scale"], ["scores"]),
        ]
        if self.causal:
            hidden = np.triu(np.full((self.rows, self.keys), -np.inf, np.float32), 1 + self.keys - self.rows)
            constants["mask"] = hidden[None, None]
            nodes.append(helper.make_node("Add", ["scores", "mask"], ["masked"]))
        nodes += [
            helper.make_node("Softmax", ["masked" if self.causal else "scores"], ["p"], axis=-1),
            helper.make_node("MatMul", ["p", names["v"]], ["y"]),
        ]
        return self._model(nodes, constants)

    def node(self) -> onnx.ModelProto:
        """ONNX's own Attention, which PyTorch has as one function."""
        causal = int(self.causal and self.rows == self.keys)
        scale = 1 / math.sqrt(self.size)
        return self._model([helper.make_node("Attention", ["q", "k", "v"], ["y"], scale=scale, is_causal=causal)], {})

    def _model(self, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
        kept = (1, self.heads // self.shared, self.keys, self.size)
        shapes = {"q": (1, self.heads, self.rows, self.size), "k": kept, "v": kept}
        graph = helper.make_graph(
            nodes,
            "attention",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes["q"])],
            [numpy_helper.from_array(a, n) for n, a in constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def cases() -> Iterator[Attention]:
    """Whole sequences, causal ones, single queries and shared heads; odd sizes among them."""
    for heads, length, size in (
        (12, 77, 64),
        (12, 128, 64),
        (12, 197, 64),
        (12, 512, 64),
        (8, 512, 80),
        (16, 1024, 64),
        (8, 1021, 64),
        (8, 1024, 128),
        (4, 4096, 64),
        (1, 16384, 64),
    ):
        yield Attention("whole", heads, length, length, size)
    yield Attention("across", 8, 4096, 77, 40)
    for heads, length, size in ((12, 128, 64), (12, 1024, 64), (8, 1021, 80), (4, 4096, 64)):
        yield Attention("causal", heads, length, length, size, causal=True)
    for heads, keys, size in ((12, 1024, 64), (32, 4096, 128), (1, 32768, 64), (3, 1021, 64)):
        yield Attention("decode", heads, 1, keys, size)
    yield Attention("shared", 32, 1024, 1024, 64, shared=4)
    yield Attention("shared", 32, 1, 4096, 128, shared=4)
    yield Attention("shared", 12, 512, 512, 64, shared=12)
