"""Shapes next to those of `operators.json`, and einsums that say one product in other orders of axes."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from benchmarks.models.operators import Spec

SIZES = {"b": 8, "h": 12, "i": 256, "j": 320, "k": 384, "q": 192, "l": 224, "d": 64}
"""Elements of an einsum's axes."""
EINSUMS = (
    ("ij,jk->ik", "ij,kj->ik", "ji,jk->ik", "ji,kj->ik", "ij,jk->ki", "ji,kj->ki"),
    ("bij,bjk->bik", "bij,bkj->bik", "bji,bjk->bik", "bij,bjk->bki", "ijb,bjk->bik", "bij,jk->bik", "ij,bjk->bik"),
    ("bhqd,bhld->bhql", "bqhd,blhd->bhql", "bqhd,bhld->bqhl", "bhdq,bhdl->bhql", "bhqd,bld->bhql"),
    ("bhql,bhld->bhqd", "bhql,blhd->bqhd", "bqhl,bhld->bqhd", "bhql,bld->bqhd"),
    ("ijd,jdk->ik", "idj,djk->ik", "jdi,djk->ik"),
)
"""Groups of one product; the first of each is what the others are compared with."""


def neighbour(spec: Spec) -> Spec:
    """The same operator with every size one element (of short axes, two) off, so that nothing is even any more.

    Args:
        spec: An entry of `operators.specs`.
    """

    def more(n: int) -> int:
        return n + 1 if n % 2 == 0 else n + 2

    def less(n: int) -> int:
        return n - 1 if n % 2 == 0 else max(n - 2, 1)

    made = {**spec, "name": f"{spec['name']}, odd"}
    match spec["op"]:
        case "matmul":
            made |= {"n": less(spec["n"]), "m": more(spec["m"]), "k": less(spec["k"])}
        case "softmax" | "layer_norm":
            made["shape"] = [*spec["shape"][:-1], less(spec["shape"][-1])]
        case "attention":
            made |= {"seq": less(spec["seq"]), "head_dim": more(spec["head_dim"])}
        case _:
            made |= {axis: less(spec[axis]) for axis in ("l", "d", "h") if axis in spec}
            made |= {axis: more(spec[axis]) for axis in ("w",) if axis in spec}
            groups = spec["groups"]
            if groups == 1:
                made |= {"ci": less(spec["ci"]) if spec["ci"] > 3 else spec["ci"]}
                made |= {"co": more(spec["co"]) if spec["co"] > 1 else 1}
            elif groups == spec["ci"]:
                made |= {"ci": more(groups), "groups": more(groups), "co": more(groups) * (spec["co"] // groups)}
            else:
                made |= {"ci": spec["ci"] + groups, "co": spec["co"] + groups}
    return made


def einsum(equation: str) -> onnx.ModelProto:
    """The ONNX model of an einsum whose factors are inputs."""
    left, output = equation.split("->")
    inputs = {f"x{k}": [SIZES[axis] for axis in axes] for k, axes in enumerate(left.split(","))}
    graph = helper.make_graph(
        [helper.make_node("Einsum", list(inputs), ["y"], equation=equation)],
        "einsum",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [SIZES[axis] for axis in output])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def einsum_flops(equation: str) -> int:
    """Floating-point operations of an einsum, a multiply-add counted as two."""
    total = 2
    for axis in set(equation.split("->")[0]) - {","}:
        total *= SIZES[axis]
    return total
