"""annotate and bind: what they write, and that a CPU refuses hardware indices."""

from __future__ import annotations

import pytest

from tcompiler.backends.llvm.codegen import generate
from tcompiler.errors import CompileError
from tcompiler.ir.loop.grammar import For
from tcompiler.ir.loop.hash import structural_hash
from tcompiler.ir.loop.text import print_function
from tcompiler.schedule import Schedule, replay
from tcompiler.target.named import get
from tests.schedule.data.checking import check
from tests.schedule.programs import PROGRAMS


def test_annotate_adds_replaces_and_takes_away() -> None:
    start = PROGRAMS["matmul"]()
    sch = Schedule(start, debug=True)
    sch.annotate("C", "tile", "6x16")
    sch.annotate("C", "cost", 0.5)
    sch.annotate("C", "cost", 2)
    sch.annotate("i", "pipeline", True)
    text = print_function(check(start, sch))
    assert 'with block("C", cost=2, tile="6x16"):' in text
    assert "for i in range(64, pipeline=True):" in text
    assert structural_hash(replay(start, sch.trace).function) == structural_hash(sch.function)
    for handle, key in (("C", "tile"), ("C", "cost"), ("i", "pipeline"), ("i", "absent")):
        sch.annotate(handle, key, None)
    assert structural_hash(sch.function) == structural_hash(start)


def test_a_hint_stays_with_its_loop() -> None:
    sch = Schedule(PROGRAMS["matmul"](), debug=True)
    sch.annotate("j", "hint", 1)
    sch.split("j", [None, 5])
    loop = sch.get("j_0")
    assert isinstance(loop, For)
    assert loop.annotations == (("hint", 1),)


def test_bound_loops_of_a_matmul() -> None:
    start = PROGRAMS["matmul_17"]()
    sch = Schedule(start, debug=True)
    sch.split("i", [None, 8])
    sch.split("j", [None, 16])
    sch.reorder("i_0", "j_0", "i_1", "j_1", "k")
    for loop, thread in (("i_0", "blockIdx.y"), ("j_0", "blockIdx.x"), ("i_1", "threadIdx.y"), ("j_1", "threadIdx.x")):
        assert sch.bind(loop, thread) == ()
    function = check(start, sch)
    assert 'for j_1 in thread("threadIdx.x", 16):' in print_function(function)
    with pytest.raises(CompileError) as refused:
        generate(function, get("x86-64-v3"), "k")
    assert str(refused.value) == "loop i_0 is bound to blockIdx.y, which a CPU does not have"
