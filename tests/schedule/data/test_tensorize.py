"""blockize and tensorize: text, tails left outside, every instruction by the interpreter, and layouts that fit."""

from __future__ import annotations

import numpy as np
import pytest

from tcompiler.ir.loop.grammar import Intrinsic, walk
from tcompiler.ir.loop.hash import structural_hash
from tcompiler.ir.loop.interpret import Machine, interpret
from tcompiler.ir.loop.intrinsics import DESCRIPTIONS, description, meanings
from tcompiler.ir.loop.text import parse_function
from tcompiler.ir.loop.verify import verify
from tcompiler.schedule import Schedule, Trace, replay
from tests.schedule.data.checking import body, check, text
from tests.schedule.programs import PROGRAMS, matmul, parsed


def limited(name: str, type_: str, limits: tuple[int, int]) -> str:
    """An operand made of another, within limits."""
    dtype, _, shape = type_.rstrip("]").partition("[")
    extents = shape.split(", ")
    loops = [(f"p{k}", e) for k, e in enumerate(extents)]
    lines = [f"{name} = alloc({type_})"]
    lines += [f"{'    ' * k}for {v} in range({e}):" for k, (v, e) in enumerate(loops)]
    inside = "    " * len(loops)
    at = ", ".join(f"v{v}" for v, _ in loops)
    lines.append(f'{inside}with block("{name}"):')
    lines += [f"{inside}    v{v} = spatial({e}, {v})" for v, e in loops]
    low, high = limits
    lines.append(f"{inside}    {name}[{at}] = min(max({name}0[{at}], {dtype}({low})), {dtype}({high}))")
    return "\n        ".join(lines)


def dot(m: int, n: int, k: int, lanes: int, name: str) -> Schedule:
    """A product of matrices whose operands have the types, the packing and the limits of an instruction."""
    d = description(name)
    a, b, c = (d.buffers[x].dtype.name for x in "ABC")
    pack = d.shape("A")[0]
    zero = "f32(0.0)" if c == "f32" else "i32(0)"
    shapes = {"A": f"{a}[{m}, {k}]", "B": f"{b}[{k // pack}, {n}, {pack}]"}
    inputs = ", ".join(f"{x}{'0' if x in d.limits else ''}: {shapes[x]}" for x in "AB")
    source = f"""
    @loop.function
    def dot({inputs}, C: out({c}[{m}, {n}])):
        {"".join(limited(x, shapes[x], d.limits[x]) for x in d.limits)}
        for m in range({m}):
            for n in range({n}):
                for k in range({k}):
                    with block("C"):
                        vm = spatial({m}, m)
                        vn = spatial({n}, n)
                        vk = reduce({k}, k)
                        with init():
                            C[vm, vn] = {zero}
                        C[vm, vn] += cast({c}, B[vk // {pack}, vn, vk % {pack}]) * cast({c}, A[vm, vk])
    """
    sch = Schedule(parse_function(text(source)), debug=True)
    sch.split("n", [None, lanes])
    sch.split("k", [None, pack])
    return sch


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_every_instruction_means_its_block(name: str) -> None:
    lanes, pack = description(name).shape("B")
    sch = dot(3, 2 * lanes, 3 * pack, lanes, name)
    start = sch.start
    sch.split("m", [None, 2])
    sch.reorder("m_0", "n_0", "k_0", "m_1", "n_1", "k_1")
    sch.stage_accumulate("C", "n_0", "register")
    (block,) = sch.blockize("n_1")
    sch.tensorize(block, name)
    function = check(start, sch)
    assert sum(isinstance(s, Intrinsic) for s in walk(function.body)) == 1
    for trace in (Trace.from_json(sch.trace.to_json()), Trace.from_python(sch.trace.to_python())):
        assert structural_hash(replay(start, trace).function) == structural_hash(function)


@pytest.mark.parametrize("order", [("n_1", "k_1"), ("k_1", "n_1")])
def test_loops_may_stand_in_any_order(order: tuple[str, str]) -> None:
    sch = dot(3, 16, 8, 8, "x86.dot_i16x8")
    sch.reorder("m", "n_0", "k_0", *order)
    sch.decompose_reduction("C", "k_0")
    sch.blockize(order[0])
    sch.tensorize("C_o", "x86.dot_i16x8")
    expected = """
    for m in range(3):
        for n_0 in range(2):
            for C_init_n_1 in range(8):
                with block("C_init"):
                    vm = spatial(3, m)
                    vn = spatial(16, n_0 * 8 + C_init_n_1)
                    C[vm, vn] = i32(0)
            for k_0 in range(4):
                with block("C_o"):
                    vm_o = spatial(3, m)
                    vn_o = spatial(2, n_0)
                    vk_o = reduce(4, k_0)
                    intrinsic("x86.dot_i16x8", writes=(C[span(vm_o, 1), span(vn_o * 8, 8)],), \
reads=(C[span(vm_o, 1), span(vn_o * 8, 8)], A[span(vm_o, 1), span(vk_o * 2, 2)], \
B[span(vk_o, 1), span(vn_o * 8, 8), span(0, 2)]))
    """
    assert body(check(sch.start, sch)) == text(expected).replace("\\\n", "")


def test_blockize_keeps_the_init_inside() -> None:
    start = parsed(matmul(16, 5, 12))
    sch = Schedule(start, debug=True)
    sch.split("i", [None, 4])
    sch.split("k", [None, 6])
    sch.reorder("i_0", "j", "k_0", "i_1", "k_1")
    assert sch.blockize("i_1") == ("C_o",)
    expected = """
    for i_0 in range(4):
        for j in range(5):
            for k_0 in range(2):
                with block("C_o"):
                    vi_o = spatial(4, i_0)
                    vj_o = spatial(5, j)
                    vk_o = reduce(2, k_0)
                    for i_1 in range(4):
                        for k_1 in range(6):
                            with block("C"):
                                vi = spatial(16, vi_o * 4 + i_1)
                                vj = spatial(5, vj_o)
                                vk = reduce(12, vk_o * 6 + k_1)
                                with init():
                                    C[vi, vj] = f32(0.0)
                                C[vi, vj] += A[vi, vk] * B[vk, vj]
    """
    assert body(check(start, sch)) == text(expected)
    sch.reorder("k_0", "i_0")
    sch.parallel("j")
    check(start, sch)


def test_what_does_not_divide_is_peeled_first() -> None:
    start = PROGRAMS["matmul_17"]()
    sch = Schedule(start, debug=True)
    sch.split("j", [None, 8])
    sch.reorder("i", "j_0", "k", "j_1")
    tail = sch.peel("j_0")
    assert tail
    sch.blockize("j_1")
    check(start, sch)


def test_a_tensorized_block_is_scheduled_on() -> None:
    sch = dot(5, 32, 8, 8, "x86.dot_i16x8")
    start = sch.start
    sch.split("m", [None, 2])
    sch.reorder("m_0", "n_0", "k_0", "m_1", "n_1", "k_1")
    sch.stage_accumulate("C", "n_0", "register")
    (block,) = sch.blockize("n_1")
    sch.tensorize(block, "x86.dot_i16x8")
    sch.unroll("m_1")
    sch.reorder("n_0", "m_0")
    sch.parallel("n_0")
    sch.peel("m_0")
    for name in sch.blocks():
        if name.startswith(("C_acc_init", "C_write")):
            *rows, lanes = sch.own_loops(name)
            for row in rows:
                sch.unroll(row)
            sch.vectorize(lanes)
    verify(check(start, sch), scheduled=True)


def test_the_interpreter_knows_what_instructions_mean() -> None:
    source = """
    @loop.function
    def one(A: u8[4], B: i8[16, 4], C: out(i32[16])):
        for j in range(16):
            with block("zero"):
                vj = spatial(16, j)
                C[vj] = i32(0)
        with block("dot"):
            intrinsic("x86.dot_u8i8x16", writes=(C[span(0, 16)],), reads=(C[span(0, 16)], A[span(0, 4)], \
B[span(0, 16), span(0, 4)]))
    """
    function = parse_function(text(source).replace("\\\n", ""))
    verify(function)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, 4).astype(np.uint8), rng.integers(-128, 128, (16, 4)).astype(np.int8)
    np.testing.assert_array_equal(interpret(function, {"A": a, "B": b})["C"], b.astype(np.int32) @ a.astype(np.int32))


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_meanings_are_those_of_the_descriptions(name: str) -> None:
    d = description(name)
    rng = np.random.default_rng(1)

    def values(x: str) -> np.ndarray:
        low, high = d.limits.get(x, (-99, 99) if d.buffers[x].dtype.is_float else (-500, 500))
        return rng.integers(low, high, d.shape(x), endpoint=True).astype(d.buffers[x].dtype.numpy)

    a, b = values("A"), values("B")
    start = rng.integers(-9, 9, d.shape("C")).astype(d.buffers["C"].dtype.numpy)
    found = start.copy()
    meanings()[name]([found], [start, a, b], [])
    machine = Machine(d.function, {"A": a, "B": b}, {}, None, {}, strict=False)
    machine.arrays["C"][...] = start
    machine.run(d.function.body, {}, "")
    np.testing.assert_array_equal(found, machine.arrays["C"])


@pytest.mark.parametrize("signed, a, b", [("B", 255, 127), ("B", 255, -128), ("A", 127, 255)])
def test_beyond_its_limits_an_instruction_saturates(signed: str, a: int, b: int) -> None:
    d = description(f"x86.madd_{'u8i8' if signed == 'B' else 'i8u8'}x4")
    found = np.zeros(4, np.int32)
    factors = [np.full(d.shape(x), v, d.buffers[x].dtype.numpy) for x, v in (("A", a), ("B", b))]
    meanings()[d.name]([found], [found.copy(), *factors], [])
    assert found.tolist() == [2 * (32767 if a * b > 0 else -32768)] * 4
