"""Hostile models: each must end in one clear refusal, or compile and run, within seconds and a gigabyte.

A case is a function that writes a model; `@hostile` registers it under its name. What is said of it stands in
`messages/THEME.txt` beside this file, whole; "compiles" stands for a model that is taken. ``python -m
tests.frontend.hostile.messages`` writes these files anew, to be read before they are committed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Model = onnx.ModelProto | bytes | Path
Build = Callable[[Path], Model]

INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)


@dataclass(frozen=True)
class Case:
    """A hostile model.

    Attributes:
        theme: The module that it stands in.
        name: Its name there.
        build: Writes it; a model with files beside it writes them into the folder that it is given.
    """

    theme: str
    name: str
    build: Build


CASES: dict[str, Case] = {}


def hostile(build: Callable[..., Model], name: str = "", /, **fixed: Any) -> Callable[..., Model]:
    """Registers a case; with a name and arguments, one of a family."""
    theme = build.__module__.rsplit(".", 1)[-1]
    title = name or build.__name__
    takes_folder = "folder" in build.__code__.co_varnames[: build.__code__.co_argcount]
    call = functools.partial(build, **fixed)
    key = f"{theme}/{title}"
    assert key not in CASES
    CASES[key] = Case(theme, title, call if takes_folder else lambda folder: call())
    return build


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any) -> onnx.NodeProto:
    """A node; its name is free."""
    return helper.make_node(op, inputs, outputs, **attrs)


RELU = node("Relu", ["x"], ["y"])


def info(name: str, dims: Sequence[int | str | None] | None = (2, 3), kind: int = TensorProto.FLOAT) -> Any:
    """A declaration of a value."""
    return helper.make_tensor_value_info(name, kind, dims)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] = ("y",),
    constants: Mapping[str, Any] | None = None,
    tensors: Sequence[onnx.TensorProto] = (),
) -> onnx.GraphProto:
    """A graph; by default it has one input x of f32[2, 3] and one output y of unknown type."""
    stored = [numpy_helper.from_array(np.asarray(a), k) for k, a in (constants or {}).items()]
    return helper.make_graph(
        list(nodes),
        "g",
        [info("x")] if inputs is None else list(inputs),
        [helper.make_empty_tensor_value_info(o) if isinstance(o, str) else o for o in outputs],
        [*stored, *tensors],
    )


def branch_of(only: onnx.NodeProto, output: str) -> onnx.GraphProto:
    """A branch of one node."""
    return graph([only], [], [output])


def model(*args: Any, opset: int = 22, functions: Sequence[Any] = (), **kwargs: Any) -> onnx.ModelProto:
    """A model of a graph, or of the arguments of `graph`."""
    g = args[0] if args and isinstance(args[0], onnx.GraphProto) else graph(*args, **kwargs)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("f", 1)] if functions else [])]
    return helper.make_model(g, opset_imports=opsets, ir_version=10, functions=list(functions))


def apply(op: str, *inputs: Any, outputs: int = 1, opset: int = 22, domain: str = "", **attrs: Any) -> onnx.ModelProto:
    """A model of one node. An array is a constant; a tuple is the shape of an f32 input; None is absent.

    A pair (shape, kind) of a tuple and a number is an input of another element type.
    """
    names, declared, constants = [], [], {}
    for k, x in enumerate(inputs):
        name = f"x{k}"
        if x is None:
            name = ""
        elif isinstance(x, tuple):
            shape, kind = x if len(x) == 2 and isinstance(x[0], tuple) else (x, TensorProto.FLOAT)
            declared.append(info(name, shape, kind))
        else:
            constants[name] = x
        names.append(name)
    results = [f"y{k}" for k in range(outputs)]
    return model([node(op, names, results, domain=domain, **attrs)], declared, results, constants, opset=opset)


def i64(*values: int) -> Any:
    """A constant of rank 1."""
    return np.array(values, dtype=np.int64)


def varint(n: int) -> bytes:
    """A number as protobuf writes it."""
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


_THEMES = ("bombs", "chains", "files", "names", "nesting", "operators", "structure", "tensors")
"""The modules that add cases, in this order."""


def all_cases() -> dict[str, Case]:
    """Every case by theme/name."""
    for theme in _THEMES:
        import_module(f"tests.frontend.hostile.{theme}")
    return CASES
