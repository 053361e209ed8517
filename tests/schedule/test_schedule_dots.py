"""Contractions by dot-product instructions: which are chosen, values on odd extents, traces, other machines' code."""

from __future__ import annotations

import re
from collections.abc import Collection

import llvmlite.binding as llvm
import numpy as np
import pytest

from tcompiler.assemble.finish import packing_functions
from tcompiler.backends.llvm.codegen import generate
from tcompiler.backends.llvm.instructions import available
from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.grammar import Function, Intrinsic, walk
from tcompiler.ir.loop.hash import structural_hash
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.schedule import Schedule, replay
from tcompiler.schedule.rules.default import default_schedule
from tcompiler.schedule.rules.dot_tiles import dot_tile
from tcompiler.schedule.rules.dots import candidates
from tcompiler.target.named import get, host
from tests.backends.kernels import run


def matmul(
    m: int, n: int, k: int, a: str = "u8", b: str = "i8", acc: str = "i32", transposed: bool = False
) -> Function:
    """A product of narrow matrices; integers have a zero point."""
    wide = f"cast({acc}, A[vm, vk])"
    left = f"({wide} - cast(i32, z[()]))" if acc == "i32" else wide
    right = "B[vn, vk]" if transposed else "B[vk, vn]"
    shape = f"{n}, {k}" if transposed else f"{k}, {n}"
    zero = "i32(0)" if acc == "i32" else "f32(0.0)"
    return parse_function(f"""
@loop.function
def product(A: {a}[{m}, {k}], B: {b}[{shape}], z: u8[()], C: out({acc}[{m}, {n}])):
    for m in range({m}):
        for n in range({n}):
            for k in range({k}):
                with block("C"):
                    vm = spatial({m}, m)
                    vn = spatial({n}, n)
                    vk = reduce({k}, k)
                    with init():
                        C[vm, vn] = {zero}
                    C[vm, vn] += {left} * cast({acc}, {right})
""")


def conv(c: int, k: int, h: int, w: int, window: int, stride: int) -> Function:
    """A convolution of bytes with padding, as lowering leaves it, and a requantized result."""
    pad = window // 2
    hp, wp = (h - 1) * stride + window, (w - 1) * stride + window
    hi, wi = hp - 2 * pad, wp - 2 * pad
    inside = f"(vy >= {pad}) & (vy < {hi + pad}) & (vx >= {pad}) & (vx < {wi + pad})" if pad else "vy >= 0"
    factor = f"P[vc, vh * {stride} + vr, vw * {stride} + vs]"
    return parse_function(f"""
@loop.function
def conv(X: u8[{c}, {hi}, {wi}], W: i8[{k}, {c}, {window}, {window}], Y: out(u8[{k}, {h}, {w}])):
    P = alloc(i32[{c}, {hp}, {wp}])
    S = alloc(i32[{k}, {h}, {w}])
    for pc in range({c}):
        for py in range({hp}):
            for px in range({wp}):
                with block("P"):
                    vc = spatial({c}, pc)
                    vy = spatial({hp}, py)
                    vx = spatial({wp}, px)
                    P[vc, vy, vx] = select({inside}, cast(i32, X[vc, vy - {pad}, vx - {pad}]) - i32(120), i32(0))
    for k in range({k}):
        for h in range({h}):
            for w in range({w}):
                for c in range({c}):
                    for r in range({window}):
                        for s in range({window}):
                            with block("S"):
                                vk = spatial({k}, k)
                                vh = spatial({h}, h)
                                vw = spatial({w}, w)
                                vc = reduce({c}, c)
                                vr = reduce({window}, r)
                                vs = reduce({window}, s)
                                with init():
                                    S[vk, vh, vw] = i32(0)
                                S[vk, vh, vw] += {factor} * cast(i32, W[vk, vc, vr, vs])
    for yk in range({k}):
        for yh in range({h}):
            for yw in range({w}):
                with block("Y"):
                    vk = spatial({k}, yk)
                    vh = spatial({h}, yh)
                    vw = spatial({w}, yw)
                    Y[vk, vh, vw] = cast(u8, cast(f32, S[vk, vh, vw]) * f32(0.001) + f32(100.0))
""")


def values(function: Function) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for b in function.buffers:
        if b.name in function.inputs:
            shape = tuple(as_int(e) or 0 for e in b.shape)
            if b.dtype.is_float:
                found[b.name] = rng.integers(-9, 10, shape).astype(b.dtype.numpy)
            else:
                info = np.iinfo(b.dtype.numpy)
                found[b.name] = np.asarray(rng.integers(info.min, info.max, shape, b.dtype.numpy, endpoint=True))
    return found


def instructions(function: Function) -> set[str]:
    return {s.name for s in walk(function.body) if isinstance(s, Intrinsic)}


def checked(function: Function, target: str, threads: int = 1, constants: Collection[str] = ()) -> Schedule:
    """The default schedule, held against the program, and against itself from its trace."""
    sch = default_schedule(function, host() if target == "host" else get(target), threads, constants)
    verify(sch.function)
    inputs = values(function)
    expected = evaluate(function, inputs)
    laid = dict(inputs)
    for name, functions in packing_functions(function, sch).items():
        for f in functions:
            laid[name] = evaluate(f, {f.inputs[0]: laid[name]})["packed"]
    found = [evaluate(sch.function, laid)] + ([run(sch.function, laid, threads)] if target == "host" else [])
    for outputs in found:
        for name, array in expected.items():
            np.testing.assert_array_equal(outputs[name], array)
    assert structural_hash(replay(function, sch.trace).function) == structural_hash(sch.function)
    return sch


needs_avx2 = pytest.mark.skipif(not available("x86.dot_i16x8", host()), reason="runs on a processor with AVX2")


@needs_avx2
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("m, n, k", [(64, 48, 32), (13, 37, 29), (11, 9, 17), (40, 101, 1), (9, 16, 7), (20, 115, 23)])
def test_products_of_bytes(m: int, n: int, k: int, threads: int) -> None:
    sch = checked(matmul(m, n, k), "host", threads)
    assert all(name.startswith("x86.dot_i16") for name in instructions(sch.function))
    if k > 1:
        assert instructions(sch.function)


@needs_avx2
@pytest.mark.parametrize("a, b, transposed", [("i8", "i8", False), ("u8", "u8", True), ("i8", "u8", True)])
def test_products_of_bytes_of_any_sign(a: str, b: str, transposed: bool) -> None:
    sch = checked(matmul(24, 20, 10, a, b, transposed=transposed), "host")
    assert instructions(sch.function)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("m, n, k", [(1, 48, 32), (1, 115, 23), (2, 37, 29), (3, 100, 5), (7, 63, 30)])
@pytest.mark.parametrize("a, b, acc", [("u8", "i8", "i32"), ("i8", "u8", "i32"), ("bf16", "bf16", "f32")])
def test_few_rows_pay_for_constants_that_are_packed_ahead(
    m: int, n: int, k: int, threads: int, a: str, b: str, acc: str
) -> None:
    function = matmul(m, n, k, a, b, acc)
    assert instructions(checked(function, "znver5", threads, ["B"]).function)
    assert not instructions(checked(function, "znver5", threads).function)
    checked(function, "host", threads, ["B"])


@pytest.mark.parametrize("rows", [1, 2])
def test_tiles_of_few_rows_have_accumulators_to_wait_for(rows: int) -> None:
    for columns in (768, 1000, 3072):
        name, height, vectors = dot_tile(rows, columns, "x86.dot_u8i8x16", 16, get("znver5"))
        assert height * vectors >= 3, (name, columns)


def test_wide_integers_are_multiplied_as_they_are() -> None:
    sch = default_schedule(matmul(24, 20, 10, "i16", "u16"), get("x86-64-v3"))
    assert not instructions(sch.function)


@needs_avx2
@pytest.mark.parametrize(
    "c, k, h, w, window, stride",
    [(6, 20, 7, 9, 3, 1), (3, 17, 5, 6, 3, 2), (8, 16, 6, 5, 1, 1), (5, 9, 4, 7, 5, 2), (8, 33, 3, 29, 3, 1)],
)
def test_convolutions_of_bytes(c: int, k: int, h: int, w: int, window: int, stride: int) -> None:
    sch = checked(conv(c, k, h, w, window, stride), "host", 2)
    assert instructions(sch.function)
    # one pass, borders and tails cut off, makes the padded operand of the picture, another one that of the weights
    passes = {re.sub(r"(_t(_\d+)?)+$", "", b) for b in sch.blocks()}
    assert len([b for b in passes if b.startswith("S_f") or b.endswith("_pad")]) <= 2


@pytest.mark.parametrize("width, along", [(28, "vw"), (7, "vk")])
def test_tiles_of_many_rows_are_written_along_memory(width: int, along: str) -> None:
    sch = checked(conv(8, 32, 3, width, 3, 1), "znver5")
    (write,) = [b for b in sch.blocks() if b.endswith("_write")]
    node = find_block(sch.function, write)
    lanes = sch.loops(write)[-1]
    assert along in {i.var.name for i, b in zip(node.iters, node.bindings, strict=True) if lanes in str(b)}


@pytest.mark.parametrize(
    "function, target, expected",
    [
        (matmul(20, 35, 30, "u8", "i8"), "icelake-server", "x86.dot_i16x16"),
        (conv(6, 20, 5, 9, 3, 1), "znver5", "x86.dot_i16x16"),
    ],
)
def test_other_machines_products(function: Function, target: str, expected: str) -> None:
    assert instructions(checked(function, target).function) == {expected}


def bytes_without_zero_point(m: int, n: int, k: int) -> Function:
    text = matmul(m, n, k)
    return parse_function(
        print_function(text).replace("(cast(i32, A[vm, vk]) - cast(i32, z[()]))", "cast(i32, A[vm, vk])")
    )


@pytest.mark.parametrize("target", ["icelake-server", "sapphirerapids", "znver4", "znver5"])
@pytest.mark.parametrize("kind, mnemonic", [("bytes", "vpdpbusd"), ("bf16", "vdpbf16ps")])
def test_vnni_and_bf16_code(kind: str, mnemonic: str, target: str) -> None:
    machine = get(target)
    function = bytes_without_zero_point(20, 35, 30) if kind == "bytes" else matmul(20, 35, 30, "bf16", "bf16", "f32")
    sch = checked(function, target)
    if kind == "bf16" and not machine.has("avx512bf16"):
        assert not instructions(sch.function)
        return
    (name,) = instructions(sch.function)
    assert re.fullmatch(r"x86\.dot_(u8i8|bf16)x16", name)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    code = llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.llvm_features, opt=3
    )
    text = f'target triple = "{machine.triple}"\n{generate(sch.function, machine, "k").text}'
    lines = [x for x in code.emit_assembly(llvm.parse_assembly(text)).splitlines() if re.search(rf"\s{mnemonic}\s", x)]
    assert lines and all("zmm" in x for x in lines)


def test_every_mapping_is_a_candidate() -> None:
    sch = Schedule(matmul(20, 35, 30))
    found = list(candidates(sch, find_block(sch.function, "C"), get("x86-64-v3")))
    assert {(m.name, m.every, m.lane.name, m.step.name) for m in found} == {
        (name, every, lane, "vk")
        for name in ("x86.dot_i16x4", "x86.dot_i16x8")
        for every, lane in ((0, "vn"), (1, "vm"))
    }
    best = min(found, key=lambda m: m.cost)
    assert (best.name, best.every, best.lane.name) == ("x86.dot_i16x8", 0, "vn")
    # an axis that slides under a window would have to be copied once for each of its places
    images = Schedule(conv(6, 16, 5, 16, 3, 1))
    images.compute_inline("P")
    mappings = list(candidates(images, find_block(images.function, "S"), get("x86-64-v3")))
    assert {(m.lane.name, m.step.name) for m in mappings} == {("vk", "vc")}


def test_narrow_floats_are_widened_once() -> None:
    sch = checked(matmul(40, 33, 24, "bf16", "bf16", "f32"), "x86-64-v3")
    assert not instructions(sch.function)
    inner = find_block(sch.function, "C")
    assert "bf16" not in {b.dtype.name for b in sch.function.buffers if b.name in str(inner.body)}


def test_products_of_narrow_floats_on_this_machine() -> None:
    checked(matmul(40, 33, 25, "bf16", "bf16", "f32"), "host")


def test_blocks_of_rows_leave_threads_little_to_wait_for() -> None:
    sch = default_schedule(matmul(1000, 333, 1020, "bf16", "bf16", "f32"), get("znver5"), 2)
    (block,) = [b for b in sch.blocks() if b.endswith("_o")]
    (shared,) = [n for n in sch.loops(block) if sch.kind(n) == "parallel"]
    assert (sch.extent(shared) or 0) % 2 == 0
