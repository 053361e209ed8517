"""reindex, pad_einsum and decompose_padding: text, tails, windows, types, and that meaning is kept."""

from __future__ import annotations

import pytest

from tcompiler.ir.loop.hash import structural_hash
from tcompiler.ir.loop.text import parse_function
from tcompiler.schedule import Schedule, Trace, replay
from tests.schedule.data.checking import body, buffer, check, shape, text
from tests.schedule.programs import PROGRAMS


def bytes_product(m: int, n: int, k: int) -> Schedule:
    """A product of matrices of bytes, each with a zero point."""
    source = f"""
    @loop.function
    def product(A: u8[{m}, {k}], B: i8[{k}, {n}], z: u8[{m}], C: out(i32[{m}, {n}])):
        for m in range({m}):
            for n in range({n}):
                for k in range({k}):
                    with block("C"):
                        vm = spatial({m}, m)
                        vn = spatial({n}, n)
                        vk = reduce({k}, k)
                        with init():
                            C[vm, vn] = i32(0)
                        C[vm, vn] += (cast(i32, A[vm, vk]) - cast(i32, z[vm])) * cast(i32, B[vk, vn])
    """
    return Schedule(parse_function(text(source)), debug=True)


def replays(sch: Schedule) -> None:
    for trace in (Trace.from_json(sch.trace.to_json()), Trace.from_python(sch.trace.to_python())):
        assert structural_hash(replay(sch.start, trace).function) == structural_hash(sch.function)


def test_reindex_keeps_a_factor_in_a_narrow_type() -> None:
    sch = bytes_product(2, 3, 5)
    assert sch.reindex("C", 0, "i16") == ("C_f0",)
    expected = """
    C_0 = alloc(i16[2, 5])
    for C_f0_ax0 in range(2):
        for C_f0_ax1 in range(5):
            with block("C_f0"):
                v0 = spatial(2, C_f0_ax0)
                v1 = spatial(5, C_f0_ax1)
                C_0[v0, v1] = cast(i16, cast(i32, A[v0, v1]) - cast(i32, z[v0]))
    for m in range(2):
        for n in range(3):
            for k in range(5):
                with block("C"):
                    vm = spatial(2, m)
                    vn = spatial(3, n)
                    vk = reduce(5, k)
                    with init():
                        C[vm, vn] = i32(0)
                    C[vm, vn] += cast(i32, C_0[vm, vk]) * cast(i32, B[vk, vn])
    """
    assert body(check(sch.start, sch)) == text(expected)
    replays(sch)


def window(stride: int, dilation: int) -> Schedule:
    size = 4 * stride + 2 * dilation + 1
    source = f"""
    @loop.function
    def window(X: f32[3, {size}], W: f32[3, 3], Y: out(f32[5])):
        for h in range(5):
            for c in range(3):
                for r in range(3):
                    with block("Y"):
                        vh = spatial(5, h)
                        vc = reduce(3, c)
                        vr = reduce(3, r)
                        with init():
                            Y[vh] = f32(0.0)
                        Y[vh] += X[vc, vh * {stride} + vr * {dilation}] * W[vc, vr]
    """
    return Schedule(parse_function(text(source)), debug=True)


@pytest.mark.parametrize(
    "stride, dilation, apart, made",
    [
        (1, 1, [], (3, 7)),
        (2, 1, [], (3, 11)),
        (2, 2, [], (3, 7)),
        (1, 3, [], (3, 11)),
        (2, 3, [], (3, 5, 3)),
        (1, 1, ["vr"], (3, 5, 3)),
    ],
)
def test_reindex_of_a_window(stride: int, dilation: int, apart: list[str], made: tuple[int, ...]) -> None:
    sch = window(stride, dilation)
    sch.reindex("Y", 0, None, apart)
    function = check(sch.start, sch)
    assert shape(function, "Y_0") == made
    replays(sch)


def test_reindex_of_a_whole_value_and_of_guarded_ones() -> None:
    for name, block, factor in (("matmul", "C", 1), ("conv", "S", 0), ("conv", "S", 1), ("pool", "M", 0)):
        sch = Schedule(PROGRAMS[name](), debug=True)
        sch.reindex(block, factor)
        check(sch.start, sch)


def test_pad_einsum_of_one_axis() -> None:
    sch = bytes_product(2, 3, 5)
    sch.reindex("C", 0, "i16")
    sch.reindex("C", 1, "i16")
    assert sch.pad_einsum("C", [1, 4, 2]) == ("C_0_pad", "C_1_pad", "C_unpad")
    function = check(sch.start, sch)
    assert shape(function, "C_0_pad") == (2, 6)
    assert shape(function, "C_1_pad") == (6, 4)
    assert shape(function, "C_pad") == (2, 4)
    assert buffer(function, "C_1_pad").dtype.name == "i16"
    for name in ("C_f0", "C_f1"):
        sch.compute_inline(name)
    check(sch.start, sch)
    replays(sch)


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (3, 7, 5), (4, 8, 6)])
def test_padded_products_take_instructions(m: int, n: int, k: int) -> None:
    sch = bytes_product(m, n, k)
    sch.reindex("C", 0, "i16")
    sch.reindex("C", 1, "i16")
    sch.pad_einsum("C", [1, 8, 2])
    packed = "C_1_pad" if "C_1_pad" in [b.name for b in sch.function.buffers] else "C_1"
    sch.transform_layout(packed, "lambda k, n: (n // 8, k // 2, n % 8, k % 2)")
    sch.split("n", [None, 8])
    sch.split("k", [None, 2])
    sch.reorder("m", "n_0", "k_0", "n_1", "k_1")
    sch.stage_accumulate("C", "n_0", "register")
    sch.blockize("n_1")
    sch.tensorize("C_o", "x86.dot_i16x8")
    check(sch.start, sch)
    replays(sch)


def test_pad_einsum_where_all_divides_changes_nothing() -> None:
    sch = bytes_product(2, 3, 5)
    sch.reindex("C", 0)
    before = sch.function
    assert sch.pad_einsum("C", [2, 3, 5]) == ()
    assert sch.function is before


PAD = """
    @loop.function
    def pad(X: f32[3, 5], P: out(f32[4, 8])):
        for i in range(4):
            for j in range(8):
                with block("P"):
                    vi = spatial(4, i)
                    vj = spatial(8, j)
                    P[vi, vj] = select((vi < 3) & (vj >= 2) & (7 > vj), X[vi, vj - 2], f32(1.5))
    """


def test_decompose_padding_in_front_of_an_inner_loop() -> None:
    sch = Schedule(parse_function(text(PAD)), debug=True)
    assert sch.decompose_padding("P", "j") == ("P_fill",)
    expected = """
    for i in range(4):
        for P_fill_ax1 in range(8):
            with block("P_fill"):
                vi = spatial(4, i)
                vj = spatial(8, P_fill_ax1)
                P[vi, vj] = f32(1.5)
        for P_ax1 in range(5):
            with block("P", where=i < 3):
                vi = spatial(4, i)
                vj = spatial(8, 2 + P_ax1)
                P[vi, vj] = X[vi, vj - 2]
    """
    assert body(check(sch.start, sch)) == text(expected)
    replays(sch)


@pytest.mark.parametrize("loop", ["i", "j"])
def test_decompose_padding_of_programs(loop: str) -> None:
    sch = Schedule(parse_function(text(PAD)), debug=True)
    sch.decompose_padding("P", loop)
    check(sch.start, sch)
    conv = Schedule(PROGRAMS["conv"](), debug=True)
    conv.decompose_padding("P", "pc")
    check(conv.start, conv)
