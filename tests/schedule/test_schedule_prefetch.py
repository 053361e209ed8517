"""prefetch: what it asks for, that it changes nothing, and that code comes of it."""

from __future__ import annotations

from tcompiler.backends.llvm.codegen import generate
from tcompiler.ir.loop.text import print_function
from tcompiler.schedule import Schedule
from tcompiler.target.named import get
from tests.schedule.data.checking import check
from tests.schedule.programs import PROGRAMS


def test_a_panel_is_asked_for_while_the_one_before_is_used() -> None:
    start = PROGRAMS["matmul_17"]()
    sch = Schedule(start, debug=True)
    sch.split("j", [None, 16])
    sch.split("i", [None, 2])
    sch.split("k", [None, 8])
    sch.reorder("j_0", "i_0", "k_0", "k_1", "i_1", "j_1")
    sch.vectorize("j_1")
    sch.unroll("i_1")
    assert sch.prefetch("C", "B", "k_1", "j_0", "i_0") == ("B_prefetch",)
    text = print_function(check(start, sch))
    place = "span(min(v_k_0 * 8 + v_i_0 % 8, 18), 1), span(min(min(v_j_0 + 1, 2) * 16 + 15, 36), 1)"
    assert f'intrinsic("prefetch", reads=(B[{place}],))' in text
    sch.peel("i_0")
    sch.peel("j_0")
    function = check(start, sch)
    code = generate(function, get("x86-64-v3"), "k")
    # one in each of the nests that the peels made
    assert code.text.count("call void @llvm.prefetch.p0(ptr") == 4


def test_few_turns_ask_for_more_lines_each() -> None:
    start = PROGRAMS["matmul"]()
    sch = Schedule(start, debug=True)
    sch.split("j", [None, 32])
    sch.split("i", [None, 16])
    sch.split("k", [None, 8])
    sch.reorder("j_0", "i_0", "k_0", "k_1", "i_1", "j_1")
    sch.vectorize("j_1")
    sch.prefetch("C", "B", "k_1", "j_0", "i_0")
    text = print_function(check(start, sch))
    # four turns for eight steps of two lines each; j_0 has one iteration, and so no next one
    lines = [f"B[span(v_k_0 * 8 + v_i_0 * 2{at}, 1), span({lane}, 1)]" for at in ("", " + 1") for lane in (15, 31)]
    assert f'intrinsic("prefetch", reads=({", ".join(lines)}))' in text


def test_loops_take_turns_together() -> None:
    start = PROGRAMS["matmul"]()
    sch = Schedule(start, debug=True)
    sch.split("j", [None, 16])
    sch.split("i", [4, 2, None])
    sch.split("k", [None, 8])
    sch.reorder("j_0", "i_0", "i_1", "k_0", "k_1", "i_2", "j_1")
    sch.vectorize("j_1")
    sch.prefetch("C", "B", "k_1", "j_0", ["i_0", "i_1"])
    text = print_function(check(start, sch))
    # eight turns for eight steps
    place = "span(v_k_0 * 8 + v_i_0 * 2 + v_i_1, 1), span(31, 1)"
    assert f'intrinsic("prefetch", reads=(B[{place}],))' in text


def test_what_an_epilogue_reads_is_asked_for_before_the_sum() -> None:
    start = PROGRAMS["matmul_relu"]()
    sch = Schedule(start, debug=True)
    sch.split("j", [None, 16])
    sch.split("i", [None, 4])
    sch.reorder("i_0", "j_0", "k", "i_1", "j_1")
    _, write = sch.stage_accumulate("C", "j_0", "register")
    sch.reverse_compute_inline("D")
    *_, lanes = sch.loops(write)
    sch.vectorize(lanes)
    sch.prefetch(write, "bias", "k")
    text = print_function(check(start, sch))
    assert 'intrinsic("prefetch", reads=(bias[span(v_j_0 * 16, 1)],))' in text
    assert text.index('block("bias_prefetch")') < text.index("for k in range(48)")


def test_where_the_next_row_is_stored_is_asked_for_before_lanes() -> None:
    start = PROGRAMS["softmax"]()
    sch = Schedule(start, debug=True)
    *_, row, lane = sch.loops(sch.blocks()[-1])
    steps, lanes = sch.split(lane, [None, 4])
    sch.vectorize(lanes)
    assert sch.prefetch(sch.blocks()[-1], "Y", lanes, row) == ("Y_prefetch",)
    text = print_function(check(start, sch))
    place = f"span(min(v_{row} + 1, 4), 1), span(min(v_{steps} * 4 + 3, 6), 1)"
    assert f'intrinsic("prefetch", reads=(Y[{place}],))' in text
