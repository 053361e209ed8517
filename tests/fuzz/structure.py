"""Every stage of a model can be printed, parsed back and verified, and its traces replay."""

from __future__ import annotations

import onnx

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


def check_structure(proto: onnx.ModelProto) -> None:
    """Raises AssertionError or the verifiers' errors where a stage does not hold."""
    c = api.compile_stages(proto, "scheduled", threads=2)
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
