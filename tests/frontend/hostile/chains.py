"""Hostile graphs of many nodes: long chains, values that double, many outputs."""

from __future__ import annotations

import numpy as np

from tests.frontend.hostile.corpus import Model, hostile, i64, info, model, node


@hostile
def relu_chain() -> Model:
    nodes = [node("Relu", [f"x{k}"], [f"x{k + 1}"]) for k in range(50_000)]
    return model(nodes, inputs=[info("x0")], outputs=["x50000"])


@hostile
def add_chain() -> Model:
    nodes = [node("Add", [f"x{k}", "x0"], [f"x{k + 1}"]) for k in range(50_000)]
    return model(nodes, inputs=[info("x0")], outputs=["x50000"])


@hostile
def sigmoid_chain() -> Model:
    nodes = [node("Sigmoid", [f"x{k}"], [f"x{k + 1}"]) for k in range(1_000)]
    return model(nodes, inputs=[info("x0")], outputs=["x1000"])


@hostile
def constant_chain() -> Model:
    nodes = [node("Neg", [f"x{k}"], [f"x{k + 1}"]) for k in range(50_000)]
    return model(nodes, inputs=[], outputs=["x50000"], constants={"x0": i64(1)})


@hostile
def transpose_chain() -> Model:
    nodes = [node("Transpose", [f"x{k}"], [f"x{k + 1}"]) for k in range(3_000)]
    return model(nodes, inputs=[info("x0")], outputs=["x3000"])


@hostile
def reshape_chain() -> Model:
    nodes = [node("Flatten", [f"x{k}"], [f"x{k + 1}"], axis=k % 3) for k in range(3_000)]
    return model(nodes, inputs=[info("x0")], outputs=["x3000"])


@hostile
def pad_chain() -> Model:
    nodes = [node("Pad", [f"x{k}", "p"], [f"x{k + 1}"]) for k in range(300)]
    return model(nodes, inputs=[info("x0")], outputs=["x300"], constants={"p": i64(0, 1, 0, 0)})


@hostile
def softmax_chain() -> Model:
    nodes = [node("Softmax", [f"x{k}"], [f"x{k + 1}"]) for k in range(300)]
    return model(nodes, inputs=[info("x0")], outputs=["x300"])


@hostile
def gather_chain() -> Model:
    nodes = [node("Gather", [f"x{k}", "i"], [f"x{k + 1}"], axis=0) for k in range(400)]
    return model(nodes, inputs=[info("x0")], outputs=["x400"], constants={"i": i64(1, 0)})


@hostile
def matmul_chain() -> Model:
    nodes = [node("MatMul", [f"x{k}", "w"], [f"x{k + 1}"]) for k in range(400)]
    return model(nodes, inputs=[info("x0")], outputs=["x400"], constants={"w": np.ones((3, 3), np.float32)})


@hostile
def two_hundred_thousand_nodes_and_one() -> Model:
    return model([node("Relu", ["x"], [f"y{k}"]) for k in range(200_001)], outputs=["y0"])


@hostile
def doubling_adds() -> Model:
    """y = 2^60 x by sixty nodes: as a tree it would be 2^60 additions."""
    nodes = [node("Add", [f"x{k}", f"x{k}"], [f"x{k + 1}"]) for k in range(60)]
    return model(nodes, inputs=[info("x0")], outputs=["x60"])


@hostile
def doubling_muls_of_sums() -> Model:
    nodes = []
    for k in range(60):
        nodes += [node("Mul", [f"x{k}", "x0"], [f"m{k}"]), node("Add", [f"m{k}", f"x{k}"], [f"x{k + 1}"])]
    return model(nodes, inputs=[info("x0")], outputs=["x60"])


@hostile
def doubling_softmax() -> Model:
    nodes = []
    for k in range(40):
        nodes += [node("Softmax", [f"x{k}"], [f"m{k}"]), node("Add", [f"m{k}", f"x{k}"], [f"x{k + 1}"])]
    return model(nodes, inputs=[info("x0")], outputs=["x40"])


@hostile
def doubling_gathers() -> Model:
    nodes = []
    for k in range(60):
        nodes += [node("Gather", [f"x{k}", "i"], [f"m{k}"], axis=0), node("Add", [f"m{k}", f"x{k}"], [f"x{k + 1}"])]
    return model(nodes, inputs=[info("x0")], outputs=["x60"], constants={"i": i64(1, 0)})


@hostile
def doubling_pads() -> Model:
    nodes = []
    for k in range(60):
        nodes += [node("Pad", [f"x{k}", "p"], [f"m{k}"], mode="wrap"), node("Add", [f"m{k}", f"x{k}"], [f"x{k + 1}"])]
    return model(nodes, inputs=[info("x0")], outputs=["x60"], constants={"p": i64(1, 0, -1, 0)})


@hostile
def wide_outputs() -> Model:
    nodes = [node("Relu", ["x"], [f"y{k}"]) for k in range(500)]
    return model(nodes, outputs=[f"y{k}" for k in range(500)])
