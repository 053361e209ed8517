"""Groups with one signature have one kernel; whatever changes the program or its layouts changes the signature."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from tcompiler import pipeline
from tcompiler.ir.graph.grammar import Node, TensorType, Value, tensor_type
from tcompiler.ir.layout import Layout, permutation
from tcompiler.ir.scalar.grammar import Const, index
from tcompiler.lower.program import signature
from tcompiler.pipeline import Compilation, compose_programs, run_graph_passes
from tcompiler.target.named import host

F32 = tensor_type("f32", (4, 8))


def node(op: str, name: str, *inputs: str, t: TensorType = F32, **attrs: Any) -> Node:
    return Node(op, name, inputs, (Value(name, t),), tuple(sorted(attrs.items())))


def key(
    *nodes: Node, known: dict[str, Const] | None = None, fixed: tuple[str, ...] = (), **types: TensorType
) -> Hashable:
    table = {name: F32 for n in nodes for name in n.inputs} | {v.name: v.type for n in nodes for v in n.outputs} | types
    return signature(nodes, table, [nodes[-1].name], known or {}, fixed)[0]


def test_names_do_not_count() -> None:
    assert key(node("add", "s", "a", "b"), node("relu", "y", "s")) == key(
        node("add", "p", "q", "r"), node("relu", "z", "p")
    )
    _, names = signature([node("add", "p", "q", "r")], {"p": F32, "q": F32, "r": F32}, ["p"], {}, ())
    assert names == ("q", "r", "p")


BASE = (node("add", "s", "a", "b"), node("leaky_relu", "y", "s", alpha=0.0))
LAID = TensorType(F32.dtype, F32.shape, Layout(permutation((1, 0)), (index(8), index(4)), False))
ONE, TWO = (Const(F32.dtype, bits) for bits in (0x3F800000, 0x40000000))


@pytest.mark.parametrize(
    "other",
    [
        key(node("sub", "s", "a", "b"), BASE[1]),
        key(node("add", "s", "a", "a"), BASE[1]),
        key(BASE[0], node("leaky_relu", "y", "s", alpha=-0.0)),
        key(BASE[0], node("leaky_relu", "y", "s", alpha=0)),
        key(BASE[0], node("leaky_relu", "y", "b", alpha=0.0)),
        key(*BASE, a=tensor_type("f32", (4, 1))),
        key(*BASE, a=tensor_type("f64", (4, 8))),
        key(*BASE, a=LAID),
        key(*BASE, y=LAID),
        key(*BASE, fixed=("b",)),
        key(*BASE, known={"b": ONE}),
        key(*BASE, known={"b": TWO}),
    ],
)
def test_what_changes_the_kernel_changes_the_signature(other: Hashable) -> None:
    assert other != key(*BASE)


def test_what_leaves_a_group_counts() -> None:
    types = {"a": F32, "b": F32, "s": F32, "y": F32}
    assert signature(BASE, types, ["y"], {}, ())[0] != signature(BASE, types, ["s", "y"], {}, ())[0]


def test_repeated_blocks_are_composed_once_and_called_with_their_own_values(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((16, 16)).astype(np.float32) for _ in range(5)]

    def network(x: tc.SymbolicTensor) -> tc.SymbolicTensor:
        for w in weights:
            x = tc.softmax(x + tc.tanh(x @ w), axis=-1)
        return x

    count = 0
    real = pipeline.compose

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        return real(*args)

    monkeypatch.setattr(pipeline, "compose", counted)
    c = Compilation(tc.trace(network, x=tc.spec("f32", (3, 16))), host(), 1)
    run_graph_passes(c)
    compose_programs(c)
    assert count == len(c.kernels) < len(c.steps)
    monkeypatch.setattr(pipeline, "signature", lambda *args: (object(), signature(*args)[1]))
    plain = Compilation(c.module, host(), 1)
    plain.graph = c.graph
    compose_programs(plain)
    assert [(s.kernel, s.inputs, s.outputs) for s in c.steps] == [(s.kernel, s.inputs, s.outputs) for s in plain.steps]
