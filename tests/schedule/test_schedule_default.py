"""The default schedule of shapes at the edge: what it makes verifies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import tcompiler as tc
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.loop.verify import verify
from tcompiler.pipeline import Compilation, compose_programs, lower_programs, run_graph_passes, schedule_functions
from tcompiler.target.named import host

CASES: dict[str, tuple[Callable[..., object], list[tuple[str, tuple[int, ...]]]]] = {
    "a row of lanes under loops of one iteration": (lambda a, b: a @ b, [("i64", (37,)), ("i64", (1, 37, 1))]),
    "rows that do not exist": (lambda a, b: a @ b, [("i64", (1, 1, 0, 31)), ("i64", (1, 3, 31, 17))]),
    "a sum of one row": (lambda a: tc.sum(a, axis=-1), [("f32", (1, 1, 1000))]),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", list(CASES))
def test_schedule_verifies(name: str, threads: int) -> None:
    fn, operands = CASES[name]
    specs = {f"x{k}": tc.spec(dtype, shape) for k, (dtype, shape) in enumerate(operands)}
    c = Compilation(tc.trace(lambda **named: fn(*named.values()), **specs), host(), threads)
    for stage in (run_graph_passes, compose_programs, lower_programs, schedule_functions):
        stage(c)
    for kernel in c.kernels.values():
        assert kernel.schedule is not None
        function = kernel.schedule.function
        verify(function)
        assert print_function(parse_function(print_function(function))) == print_function(function)
