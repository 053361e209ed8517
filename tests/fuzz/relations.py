"""What has to hold of every model, whatever it computes.

Every stage can be printed, parsed back and verified, and its trace replays. One thread and two, a second call, a model
saved and loaded, and one that leaves its dimensions open until it is called compute the same. No call writes to its
arguments, and arguments may start anywhere in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import tcompiler as tc
from tcompiler import api
from tcompiler.ir.expr.hash import structural_hash as program_hash
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.expr.verify import verify as verify_program
from tcompiler.ir.graph.grammar import ConstantStore
from tcompiler.ir.graph.text import parse_graph, print_graph
from tcompiler.ir.graph.verify import verify as verify_graph
from tcompiler.ir.loop.hash import structural_hash as function_hash
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.loop.verify import verify as verify_function
from tcompiler.ops.registry import get
from tcompiler.schedule.schedule import replay
from tcompiler.schedule.trace import Trace
from tests.fuzz.draw import Array, Case


def check_stages(proto: onnx.ModelProto, threads: int) -> None:
    """Raises AssertionError or the verifiers' errors where a stage does not hold."""
    c = api.compile_stages(proto, "scheduled", threads=threads)
    for stage in ("imported", "graph"):
        store = ConstantStore(dict(c.module.constants.arrays))
        graph = parse_graph(c.texts[stage], store)
        assert print_graph(graph, store) == c.texts[stage], f"{stage} reads back as something else"
        verify_graph(graph, get, store)
    for kernel in c.kernels.values():
        program = parse_program(c.texts[f"expr/{kernel.name}"])
        assert program_hash(program) == program_hash(kernel.program), f"expr of {kernel.name} reads back otherwise"
        assert print_program(program) == c.texts[f"expr/{kernel.name}"]
        verify_program(program)
        assert kernel.function is not None and kernel.schedule is not None
        for stage, function in (("loop", kernel.function), ("scheduled", kernel.schedule.function)):
            parsed = parse_function(c.texts[f"{stage}/{kernel.name}"])
            assert function_hash(parsed) == function_hash(function), f"{stage} of {kernel.name} reads back otherwise"
            verify_function(parsed)
        again = replay(kernel.function, Trace.from_python(kernel.schedule.trace.to_python()))
        assert print_function(again.function) == c.texts[f"scheduled/{kernel.name}"], f"trace of {kernel.name}"


def other_ways(case: Case, threads: int) -> Iterator[tuple[str, list[Array]]]:
    """The results of a case in several ways, each with its name.

    Raises:
        AssertionError: If two calls, or a model saved and loaded, give other bits.
    """
    model = tc.compile(case.proto, threads=threads)
    first = call(model, case.inputs)
    yield "alone", first
    _identical(first, call(model, case.inputs), "a second call")
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.tcm")
        _identical(first, call(tc.load(Path(folder) / "model.tcm"), case.inputs), "saved and loaded")
    yield "with open dimensions", call(tc.compile(opened(case.proto), threads=threads), case.inputs)


def call(model: Any, inputs: Mapping[str, Array]) -> list[Array]:
    """A model's outputs for arguments that start between elements of a vector.

    Raises:
        AssertionError: If it writes to them.
    """
    given = [_shifted(inputs[v.name]) for v in model.inputs]
    kept = [a.copy() for a in given]
    y = model(*given)
    for a, before in zip(given, kept, strict=True):
        assert a.tobytes() == before.tobytes(), "the call wrote to its arguments"
    return [np.asarray(a) for a in (y if isinstance(y, tuple) else (y,))]


def _shifted(a: Array) -> Array:
    """A copy that is aligned to its elements only."""
    room = np.empty(a.size + 1, a.dtype)
    view = room[1:].reshape(a.shape)
    view[...] = a
    return view


def _identical(first: list[Array], second: list[Array], what: str) -> None:
    same = all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))
    assert same, f"{what} gives other bits"


def opened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with no dimension of its inputs fixed, and no word of its outputs' shapes."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for k, value in enumerate(model.graph.input):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"n{k}_{axis}"
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return model
