"""Random functions, compiled and run between forbidden pages, against what they mean."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from tcompiler.errors import VerifyError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.grammar import Function
from tcompiler.ir.loop.interpret import interpret
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.loop.verify import verify
from tcompiler.schedule.primitives import PRIMITIVES
from tests.backends.guarded import Case, run_guarded
from tests.backends.kernels import Array, assert_same
from tests.backends.register_programs import WIDE, RegisterProgram
from tests.ir.loop.programs import Case as LoopCase
from tests.ir.loop.programs import cases
from tests.schedule.drawing import draw
from tests.schedule.operators import NAMES, program
from tests.schedule.test_schedule_random import inputs

DRAWN, SCHEDULED, REGISTERS = 100, 45, 75
ON_A_CPU = [n for n in PRIMITIVES if n not in ("bind", "tensorize")]
"""What schedules are drawn from: no loops of a GPU, and no instructions that this machine may lack."""


def constant(case: LoopCase) -> Function:
    """The case's function with its parameter's value in the parameter's place."""
    text = print_function(case.function)
    text = text.replace("(n: i64, ", "(").replace("(n: i64)", "()")
    text = re.sub(r"\bn\b", str(case.params["n"]), text)
    text = re.sub(r"(in \w+\()(\d+) \* (\d+)", lambda m: f"{m[1]}{int(m[2]) * int(m[3])}", text)
    return parse_function(text)


def drawn() -> list[Case]:
    """Functions of the loop language's own generator."""
    found: list[Case] = []

    @settings(max_examples=DRAWN, phases=[Phase.generate])
    @given(cases())
    def collect(case: LoopCase) -> None:
        found.append(Case(f"drawn {len(found)}", constant(case), case.inputs, (1, 2)))

    collect()
    return found


def scheduled() -> list[Case]:
    """Programs under random schedules."""
    found: list[Case] = []
    for k in range(SCHEDULED):
        rng = random.Random(7000 + k)
        function = program(rng, k % 4 < 2, NAMES)
        sch = draw(function, rng, 8, moving=k % 2 == 0, names=ON_A_CPU)
        try:
            verify(sch.function)
        except VerifyError:
            # a register buffer whose loops are not unrolled yet
            continue
        found.append(Case(f"scheduled {k}", sch.function, inputs(sch.function, np.random.default_rng(k)), (1, 2, 3)))
    return found


def on_registers() -> list[Case]:
    """Programs that write registers in every way, but for those that read what is undefined or other lanes write."""
    found: list[Case] = []
    for k in range(REGISTERS):
        dtype = random.Random(k).choice([dt.i32, dt.i64, dt.u8, dt.i16])
        function = parse_function(RegisterProgram(random.Random(k), dtype.name).text())
        values = {"A": np.random.default_rng(k).integers(0, 100, WIDE).astype(dtype.numpy)}
        try:
            verify(function)
            results = [interpret(function, values, shuffle=shuffle)["B"] for shuffle in (None, k)]
        except VerifyError:
            continue
        if np.array_equal(*results):
            found.append(Case(f"on registers {k}", function, values))
    return found


@pytest.mark.parametrize(("programs", "least"), [(drawn, DRAWN), (scheduled, 30), (on_registers, 45)])
def test_random_functions(programs: Callable[[], list[Case]], least: int) -> None:
    every = programs()
    assert len(every) >= least
    results = run_guarded(every)
    for case in every:
        text = print_function(case.function)
        found = results[case.name]
        assert not isinstance(found, str), f"{case.name}: {found}\n{text}"
        expected = interpret(case.function, case.inputs)
        for threads, outputs in found.items():
            for name, array in expected.items():
                where = f"{case.name}, {name} with {threads} threads\n{text}"
                _assert_near(outputs[name], array, where)


def _assert_near(found: Array, expected: Array, where: str) -> None:
    """The same bits, but for what functions like exp and a fused multiply-add round otherwise."""
    if found.dtype == np.float32 and not np.array_equal(found, expected, equal_nan=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=where)
    else:
        assert_same(found, expected, where)
