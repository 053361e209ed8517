"""Traces: JSON and Python text carry a schedule whole, and replay gives the identical kernel."""

from __future__ import annotations

import pytest

from benchmarks.replay import tiled_matmul
from tcompiler.errors import ParseError, ScheduleError
from tcompiler.ir.layout import permutation
from tcompiler.ir.loop.hash import structural_hash
from tcompiler.ir.loop.text import print_function
from tcompiler.schedule import Schedule, Step, Trace, replay
from tests.schedule.programs import PROGRAMS

PYTHON = """\
sch.split("i", [None, 6])
sch.split("j", [2, 1, None])
sch.reorder("i_0", "j_0", "k", "i_1", "j_2")
"""
JSON = (
    '{"format":1,"steps":[["split",["i",[null,6]]],["split",["j",[2,1,null]]],'
    '["reorder",["i_0","j_0","k","i_1","j_2"]]]}'
)


def schedule() -> Schedule:
    sch = Schedule(PROGRAMS["matmul"](), debug=True)
    assert sch.split("i", [None, 6]) == ("i_0", "i_1")
    sch.split("j", [2, 1, None])
    sch.reorder("i_0", "j_0", "k", "i_1", "j_2")
    return sch


def test_texts_of_a_trace() -> None:
    trace = schedule().trace
    assert trace.to_python() == PYTHON
    assert trace.to_json() == JSON


def test_replay_through_both_texts_gives_the_identical_kernel() -> None:
    sch = tiled_matmul(97, 61, 53)
    text = print_function(sch.function)
    for trace in (Trace.from_json(sch.trace.to_json()), Trace.from_python(sch.trace.to_python())):
        again = replay(sch.start, trace, debug=True)
        assert structural_hash(again.function) == structural_hash(sch.function)
        assert print_function(again.function) == text
        assert again.trace.to_json() == sch.trace.to_json()


def test_comments_and_assigned_names_are_read() -> None:
    trace = Trace.from_python('# tiles\ni_0, i_1 = sch.split("i", factors=[None, 6])  # rows\n')
    assert trace.to_python() == 'sch.split("i", factors=[None, 6])\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'sch.split("i", [1])\nprint(1)\n',
            "line 2, column 1: expected a call sch.primitive(...)\n  print(1)\n  ^^^^^^^^",
        ),
        (
            'sch.split("i", [f(), 2])\n',
            "line 1, column 16: expected a literal: a number, a string, None, or a list of them\n"
            '  sch.split("i", [f(), 2])\n'
            "                 ^^^^^^^^",
        ),
        ("sch.fuse(**a)\n", "line 1, column 10: expected name=value, not **\n  sch.fuse(**a)\n           ^^^"),
    ],
)
def test_python_text_that_is_no_trace(text: str, message: str) -> None:
    with pytest.raises(ParseError) as error:
        Trace.from_python(text)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "this is no trace: not JSON at line 1, column 2: Expecting property name enclosed in double quotes"),
        ("[]", 'this is no trace: expected an object with "format" and a list "steps"'),
        ('{"format": 2, "steps": []}', "a trace of format 2; this version reads format 1"),
        (
            '{"format": 1, "steps": [["fuse", ["i"]], ["split"]]}',
            'step 1 of the trace is ["split"]; expected [primitive, [arguments], {options}]',
        ),
    ],
)
def test_json_that_is_no_trace(text: str, message: str) -> None:
    with pytest.raises(ScheduleError) as error:
        Trace.from_json(text)
    assert str(error.value) == message


def test_a_vanished_name_says_what_consumed_it() -> None:
    sch = schedule()
    with pytest.raises(ScheduleError) as error:
        sch.unroll("i")
    assert str(error.value) == (
        'unroll("i"): there is no loop "i"; the loops are i_0, j_0, k, j_1, i_1, j_2\n'
        '"i" was consumed by step 0, split("i", [None, 6]), which made i_0, i_1'
    )


def test_an_unknown_primitive_is_refused_with_the_list() -> None:
    with pytest.raises(ScheduleError) as error:
        schedule().apply(Step("tile", ("i",)))
    assert str(error.value).startswith('tile("i"): there is no primitive tile; the primitives are split, fuse, ')


def test_navigation() -> None:
    sch = Schedule(PROGRAMS["softmax"]())
    assert sch.blocks() == ["M", "E", "S", "Y"]
    assert sch.loops("E") == ["i1", "j1"]
    assert sch.extent("j1") == 7
    assert sch.kind("j1") == "serial"
    assert sch.producers("Y") == ["E", "S"]
    assert sch.consumers("E") == ["S", "Y"]
    assert [it.kind for it in sch.iters("S")] == ["spatial", "reduce"]
    assert sch.get("E") is sch.get("E")
    assert Schedule(PROGRAMS["matmul_symbolic"]()).extent("i") is None


def test_a_primitive_leaves_its_argument_alone() -> None:
    function = PROGRAMS["matmul"]()
    before = print_function(function)
    sch = Schedule(function)
    sch.split("i", [None, 6])
    assert print_function(function) == before
    assert sch.start is function


def test_rewinding_forgets_the_calls_since_the_mark() -> None:
    sch = schedule()
    function, mark = sch.function, sch.mark()
    sch.split("k", [None, 4])
    sch.unroll("k_1")
    sch.rewind(mark)
    assert sch.function is function
    assert sch.trace.to_python() == PYTHON


def test_an_index_map_stands_in_the_trace_as_its_text() -> None:
    sch = Schedule(PROGRAMS["matmul_relu"]())
    sch.transform_layout("C", permutation([1, 0]))
    assert sch.trace.to_python() == 'sch.transform_layout("C", "lambda d0, d1: (d1, d0)")\n'
    again = replay(sch.start, Trace.from_json(sch.trace.to_json()))
    assert structural_hash(again.function) == structural_hash(sch.function)
