"""Every stage of every network can be printed, parsed back and verified."""

from __future__ import annotations

from tcompiler.ir.expr.hash import structural_hash as program_hash
from tcompiler.ir.expr.text import parse_program, print_program
from tcompiler.ir.expr.verify import verify as verify_program
from tcompiler.ir.graph.grammar import ConstantStore
from tcompiler.ir.graph.hash import structural_hash as graph_hash
from tcompiler.ir.graph.text import parse_graph, print_graph
from tcompiler.ir.graph.verify import verify as verify_graph
from tcompiler.ir.loop.hash import structural_hash as function_hash
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.loop.verify import verify as verify_function
from tcompiler.ops.registry import get
from tcompiler.schedule.schedule import replay
from tcompiler.schedule.trace import Trace
from tests.networks.conftest import Network


def test_stages_round_trip_and_verify(network: Network) -> None:
    c = network.compilation
    for stage in ("imported", "graph"):
        store = ConstantStore(dict(c.module.constants.arrays))
        graph = parse_graph(c.texts[stage], store)
        assert print_graph(graph, store) == c.texts[stage]
        verify_graph(graph, get, store)
    parsed_graph = parse_graph(c.texts["graph"], ConstantStore(dict(c.module.constants.arrays)))
    assert graph_hash(parsed_graph) == graph_hash(c.graph)
    for kernel in c.kernels.values():
        text = c.texts[f"expr/{kernel.name}"]
        program = parse_program(text)
        assert print_program(program) == text
        assert program_hash(program) == program_hash(kernel.program)
        verify_program(program)
        assert kernel.function is not None and kernel.schedule is not None
        for stage, function in (("loop", kernel.function), ("scheduled", kernel.schedule.function)):
            text = c.texts[f"{stage}/{kernel.name}"]
            parsed = parse_function(text)
            assert print_function(parsed) == text
            assert function_hash(parsed) == function_hash(function)
            verify_function(parsed)


def test_traces_replay_to_the_identical_kernel(network: Network) -> None:
    c = network.compilation
    for kernel in c.kernels.values():
        assert kernel.function is not None and kernel.schedule is not None
        for trace in (
            Trace.from_python(kernel.schedule.trace.to_python()),
            Trace.from_json(kernel.schedule.trace.to_json()),
        ):
            again = replay(kernel.function, trace)
            assert print_function(again.function) == print_function(kernel.schedule.function)
