"""Machine instructions: those that this machine has are run, the others are looked for in assembly."""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import numpy as np
import pytest

from tcompiler.backends.llvm.codegen import generate
from tcompiler.backends.llvm.instructions import INSTRUCTIONS, available
from tcompiler.errors import CompileError
from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.grammar import Function
from tcompiler.ir.loop.intrinsics import DESCRIPTIONS, description
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.target.named import get, host
from tcompiler.target.target import Target
from tests.backends.kernels import run
from tests.schedule.data.test_tensorize import dot

_MNEMONICS = {
    "dot_i16": "vpmaddwd|pmaddwd|vpdpwssd",
    "dot_u8i8": "vpdpbusd",
    "dot_i8u8": "vpdpbusd",
    "madd_u8i8": "vpmaddubsw",
    "madd_u8m8": r"vpmaddubsw\s+-?\d*\(%[^)]*\),",
    "madd_i8u8": "vpmaddubsw",
    "dot_bf16": "vdpbf16ps",
}
_REGISTER = {4: "xmm", 8: "ymm", 16: "zmm"}


def product(name: str, m: int = 5, panels: int = 2, steps: int = 3) -> Function:
    """A tensorized product of matrices, in a register tile."""
    lanes, pack = description(name).shape("B")
    sch = dot(m, panels * lanes, steps * pack, lanes, name)
    sch.split("m", [None, 2])
    sch.split("n_0", [None, 2])
    sch.reorder("m_0", "n_0_0", "k_0", "m_1", "n_0_1", "n_1", "k_1")
    init, write = sch.stage_accumulate("C", "n_0_0", "register")
    (block,) = sch.blockize("n_1")
    sch.tensorize(block, name)
    for loop in ("m_1", "n_0_1"):
        sch.unroll(loop)
    for nest in (init, write):
        *rows, columns = sch.own_loops(nest)
        panel, lane = sch.split(columns, [None, lanes])
        for loop in (*rows, panel):
            sch.unroll(loop)
        sch.vectorize(lane)
    sch.peel("m_0")
    verify(sch.function)
    return sch.function


def inputs(function: Function) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for b in function.buffers:
        if b.name in function.inputs:
            shape = tuple(as_int(e) or 0 for e in b.shape)
            if b.dtype.is_float:
                found[b.name] = rng.standard_normal(shape).astype(b.dtype.numpy)
            else:
                info = np.iinfo(b.dtype.numpy)
                found[b.name] = rng.integers(info.min, info.max, shape, dtype=b.dtype.numpy, endpoint=True)
    return found


def test_every_meaning_has_code() -> None:
    assert set(INSTRUCTIONS) == set(DESCRIPTIONS)


@pytest.mark.parametrize("name", [n for n in INSTRUCTIONS if available(n, host())])
def test_instructions_of_this_machine_do_what_they_mean(name: str) -> None:
    function = product(name)
    values = inputs(function)
    found, expected = run(function, values)["C"], evaluate(function, values)["C"]
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(found, expected)


def test_sums_of_the_largest_products_wrap_around_as_the_reference_does() -> None:
    function = product("x86.dot_i16x8")
    if not available("x86.dot_i16x8", host()):
        pytest.skip("runs on a processor with AVX2")
    values = {k: np.full_like(v, -32768) for k, v in inputs(function).items()}
    np.testing.assert_array_equal(run(function, values)["C"], evaluate(function, values)["C"])


def assembly(function: Function, target: Target) -> str:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.llvm_features, opt=3
    )
    text = f'target triple = "{target.triple}"\n{generate(function, target, "k").text}'
    return machine.emit_assembly(llvm.parse_assembly(text))


@pytest.mark.parametrize("target", ["znver3", "icelake-server", "sapphirerapids", "znver5"])
@pytest.mark.parametrize("name", sorted(INSTRUCTIONS))
def test_assembly_has_the_instruction_or_the_target_is_refused(name: str, target: str) -> None:
    function, machine = product(name), get(target)
    if not available(name, machine):
        with pytest.raises(CompileError, match=f"intrinsic '{name}' takes .*, which the target {target} does not have"):
            generate(function, machine, "k")
        return
    matched = re.fullmatch(r"x86\.(\w+)x(\d+)", name)
    assert matched is not None
    operands, lanes = matched.groups()
    lines = [x for x in assembly(function, machine).splitlines() if re.search(rf"\s({_MNEMONICS[operands]})\s", x)]
    # three steps in a loop, two rows and one, two panels each
    assert len(lines) >= 6
    assert all(_REGISTER[int(lanes)] in x for x in lines)


def test_what_a_target_lacks_is_named() -> None:
    with pytest.raises(CompileError) as refused:
        generate(product("x86.dot_u8i8x8"), get("znver3"), "k")
    assert str(refused.value) == (
        "intrinsic 'x86.dot_u8i8x8' takes avx512vnni and avx512vl or avxvnni, which the target znver3 does not have"
    )
