"""The text of the vector functions: self-contained, deterministic, free of calls into libm on every target."""

import re
import subprocess
import sys

import llvmlite.binding as llvm
import pytest

from benchmarks.math_kernels import kernel_ir
from tcompiler.backends.llvm import math
from tcompiler.errors import InternalError
from tcompiler.target import named


def assembly(name: str, dtype: str, lanes: int, target_name: str) -> str:
    """What the backend would emit: the always-inliner and no other pass."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = named.get(target_name)
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.llvm_features, opt=2, reloc="pic", codemodel="small"
    )
    module = llvm.parse_assembly(kernel_ir(name, dtype, lanes, target.fma), llvm.create_context())
    module.verify()
    manager = llvm.create_new_module_pass_manager()
    manager.add_always_inliner_pass()
    manager.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=0)))
    return machine.emit_assembly(module)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "host"])
@pytest.mark.parametrize("name", math.FUNCTIONS)
def test_no_call_leaves_the_module(name: str, target: str) -> None:
    for dtype in ("f32", "f64"):
        for lanes in (1, 8):
            text = assembly(name, dtype, lanes, target)
            called = re.findall(r'^\s*(?:callq?|jmp)\s+"?([A-Za-z_*][^\s"]*)', text, re.MULTILINE)
            assert {c for c in called if not c.startswith("tc.pio2.")} == set()


def test_exp_is_short() -> None:
    """Guards the instruction count of the function that softmax lives on: about twenty for eight lanes."""
    text = assembly("exp", "f32", 8, "x86-64-v3")
    loop = re.search(r"^\.LBB0_1:\n(.*?)^\s*jl\s", text, re.MULTILINE | re.DOTALL)
    assert loop is not None
    work = [line for line in loop[1].splitlines() if re.match(r"\s+v(?!mova|movu)", line)]
    assert 15 <= len(work) <= 22


@pytest.mark.parametrize("name", [n for n in math.FUNCTIONS if n not in ("sin", "cos", "tan")])
def test_straight_line(name: str) -> None:
    for dtype in ("f32", "f64"):
        function = math.definition(name, dtype, 8)
        assert function.ir.count("\nentry:") == 1
        assert " br " not in function.ir
        assert "load" not in function.ir
        assert all(d.startswith("declare ") for d in function.declarations)


def test_two_functions_share_their_helpers() -> None:
    sine, cosine = (math.definition(name, "f32", 8) for name in ("sin", "cos"))
    wide = math.definition("sin", "f64", 4)
    texts = {*sine.declarations, *cosine.declarations, *wide.declarations}
    module = llvm.parse_assembly("\n".join([*sorted(texts), sine.ir, cosine.ir, wide.ir]), llvm.create_context())
    module.verify()
    defined = {f.name for f in module.functions if not f.is_declaration}
    assert defined >= {"tc.sin.v8f32", "tc.cos.v8f32", "tc.sin.v4f64", "tc.pio2.v8f32", "tc.pio2.v4f64"}


def test_symbols() -> None:
    assert math.definition("exp", "f32", 8).symbol == "tc.exp.v8f32"
    assert math.definition("pow", "f64", 1).symbol == "tc.pow.f64"
    text = math.definition("exp", "f32", 8).ir
    assert text.startswith("define internal <8 x float> @tc.exp.v8f32(<8 x float> %x) alwaysinline ")
    assert math.definition("exp", "f32", 8).declarations == (
        "declare <8 x float> @llvm.fma.v8f32(<8 x float>, <8 x float>, <8 x float>)",
    )


def test_no_fast_math() -> None:
    flags = re.compile(r"\b(fast|nnan|ninf|nsz|arcp|contract|afn|reassoc)\b")
    for name in math.FUNCTIONS:
        for dtype in ("f32", "f64"):
            function = math.definition(name, dtype, 8)
            assert not flags.search("\n".join([function.ir, *function.declarations]))


def test_bounds() -> None:
    for name, function in math.FUNCTIONS.items():
        for dtype in ("f32", "f64"):
            assert math.ulp_bound(name, dtype) == math.definition(name, dtype, 4).ulp_bound <= 4
        assert set(function.implementations) == {"f32", "f64"}


def test_text_is_the_same_in_another_process() -> None:
    code = (
        "from tcompiler.backends.llvm import math\n"
        "from hashlib import sha256\n"
        "texts = [repr(math.definition(n, d, 8)) for n in math.FUNCTIONS for d in ('f32', 'f64')]\n"
        "print(sha256(''.join(texts).encode()).hexdigest())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("erff", "f32", f"no vector function erff: there are {', '.join(math.FUNCTIONS)}; the nearest is erf"),
        ("exp", "f16", "vector function exp has no f16: there are f32, f64"),
    ],
)
def test_unknown(name: str, dtype: str, message: str) -> None:
    with pytest.raises(InternalError) as error:
        math.definition(name, dtype, 8)
    assert str(error.value) == message
