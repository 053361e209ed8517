"""Every command, run: what it prints and saves, and one whole message for each thing that a user may get wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

import tcompiler as tc
from tcompiler.backends.llvm.workers import CompiledObject, CompileJob, compile_objects
from tcompiler.cli.app import app
from tcompiler.errors import UserError
from tcompiler.ir.graph.text import parse_graph
from tcompiler.pipeline import PASS_NAMES, STAGES
from tcompiler.runtime.specialised import load_model

KERNELS = ["gemm_relu_0", "gemm_relu_1", "gemm_2"]


def invoke(*arguments: str) -> Result:
    """Runs a command that must succeed."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("cli") / "x.tcm")
    result = invoke("compile", "example:mlp", "-o", path)
    assert result.stderr.startswith("compiled example:mlp in ") and ": 3 kernels, arena " in result.stderr
    return path


def test_run_gives_what_the_model_gives(saved: str, tmp_path: Path) -> None:
    x = np.random.default_rng(3).standard_normal((32, 784), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    result = invoke("run", saved, "--input", f"x={tmp_path / 'x.npy'}", "--output", str(tmp_path), "--repeat", "1")
    assert result.stdout.startswith("output: f32[32, 10] mean ") and "median of 1 calls: " in result.stdout
    np.testing.assert_array_equal(np.load(tmp_path / "output.npy"), load_model(saved)(x))


def test_outputs_of_any_name(tmp_path: Path) -> None:
    """A name is no markup, no terminal escape and no path; two outputs never share a file."""
    names = ["[red]a[/b]", "../a", "__[a", "\x1b[31m\n", "n" * 100_000, "__/A"]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], [n]) for n in names],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_empty_tensor_value_info(n) for n in names],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), tmp_path / "m.onnx")
    folder = tmp_path / "out"
    result = invoke("run", str(tmp_path / "m.onnx"), "--output", str(folder), "--repeat", "1")
    shown = [line.split(": f32[2] ")[0] for line in result.stdout.splitlines()]
    assert shown[:-1] == ["[red]a[/b]", "../a", "__[a", "\\x1b[31m\\n", "n" * 60 + "…", "__/A"]
    assert sorted(f.name for f in folder.iterdir()) == sorted(
        ["_red_a__b_.npy", "___a.npy", "___a_2.npy", "__31m_.npy", "n" * 60 + ".npy", "___A_5.npy"]
    )


def test_inspect_lists_each_kernel(saved: str) -> None:
    result = invoke("inspect", saved, "--sort", "name")
    names = [line.split("│")[1].strip() for line in result.stdout.splitlines() if line.startswith("│")]
    assert names == [*sorted(KERNELS), "total"]
    assert "arena 98304 bytes (lower bound 98304)" in result.stdout


@pytest.mark.parametrize(
    ("stage", "first"),
    [
        ("expr", "@expr.program\ndef gemm_2("),
        ("loop", "@loop.function\ndef gemm_2("),
        ("scheduled", "@loop.function\ndef gemm_2("),
        ("trace", "sch."),
        ("llvm", "define void @k_"),
        ("asm", "\t.file\t"),
    ],
)
def test_inspect_prints_a_stage_of_a_kernel(saved: str, stage: str, first: str) -> None:
    text = invoke("inspect", saved, "--stage", stage, "--kernel", "gemm_2").stdout
    assert text.startswith(first)
    assert text in invoke("inspect", saved, "--stage", stage).stdout


@pytest.mark.parametrize("stage", ["imported", "graph"])
def test_a_stage_of_the_whole_model_reads_back(saved: str, stage: str) -> None:
    assert [v.label for v in parse_graph(invoke("inspect", saved, "--stage", stage).stdout).inputs] == ["x"]


def test_asm_is_what_the_compiler_generates(saved: str) -> None:
    model = load_model(saved)
    target = model.manifest["target"]
    features = ",".join(target["features"])
    text = model.text("llvm", "gemm_relu_0")
    job = CompileJob("", text, target["triple"], target["cpu"], features, "always-inline", 3, True)
    (done,) = compile_objects([job], 1)
    assert isinstance(done, CompiledObject)
    assert model.text("asm", "gemm_relu_0") == done.assembly
    kernel = model.kernels[0]
    assert done.object_bytes == model.artifact.objects[kernel["object"]]


@pytest.mark.parametrize("stage", STAGES)
def test_compile_stops_after_any_stage(saved: str, stage: str) -> None:
    printed = invoke("compile", "example:mlp", "--stop-after", stage).stdout
    assert printed.split() == load_model(saved).text(stage).split()


def test_the_program_between_passes() -> None:
    result = invoke("compile", "example:mlp", "--print-between-passes", "--stop-after", "graph")
    heads = [line for line in result.stdout.splitlines() if line.startswith("# after ")]
    assert [head.removesuffix(" (unchanged)").removeprefix("# after ") for head in heads] == list(PASS_NAMES)
    assert any(head.endswith(" (unchanged)") for head in heads)
    assert not all(head.endswith(" (unchanged)") for head in heads)


def test_times_of_the_passes() -> None:
    lines = invoke("compile", "example:mlp", "--time-passes", "--stop-after", "graph").stderr.splitlines()
    rows = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert rows == [*PASS_NAMES, "all"]


def test_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    names = [line.split("│")[1].strip() for line in invoke("targets").stdout.splitlines() if line.startswith("│")]
    assert "znver4" in names and "x86-64-v3" in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "compile none.onnx -o {tmp}/y.tcm",
            "there is no file none.onnx; give a .onnx file, or example:NAME for a built-in example",
        ),
        (
            "compile example:mpl -o {tmp}/y.tcm",
            'there is no example "mpl"; the examples are mlp, resnet18; did you mean mlp?',
        ),
        ("compile example:mlp", "say where to save the model: -o MODEL.tcm (or --stop-after STAGE to print a stage)"),
        (
            "compile example:mlp --stop-after lop",
            f'there is no stage "lop"; the stages are {", ".join(STAGES)}',
        ),
        ("compile example:mlp -o {tmp}/y.tcm --shape x=1,a", '--shape "x=1,a": expected NAME=1,3,224,224'),
        ("compile example:mlp -o {tmp}/y.tcm --shape x", '--shape "x": expected NAME=1,3,224,224'),
        (
            "compile example:mlp -o {tmp}/y.tcm --shape x=8,784",
            "shapes are given for a traced graph, whose shapes are fixed; they are for ONNX models",
        ),
        ("compile example:mlp -o {tmp}/y.tcm --accuracy low", 'accuracy is "low", expected "exact", "high" or "fast"'),
        ("compile example:mlp -o {tmp}/y.tcm --threads 0", "threads is 0, expected 1 or more"),
        (
            "compile example:mlp -o {tmp}/y.tcm --target foo",
            "there is no target 'foo'; the targets are cpu, host, native, x86-64-v2, x86-64-v3, x86-64-v4, "
            "haswell, skylake-avx512, icelake-server, sapphirerapids, znver2, znver3, znver4, znver5",
        ),
        ("bench example:mlp", "there is no file example:mlp; bench takes a .onnx file, as every system must read it"),
        ("run {tmp}/none.tcm", "{tmp}/none.tcm: cannot be read: No such file or directory"),
        (
            "run {saved} --input q=q.npy",
            "--input q: q.npy cannot be read as a .npy array: [Errno 2] No such file or directory: 'q.npy'",
        ),
        ("run {saved} --input x", '--input "x": expected NAME=FILE.npy'),
        ("run {saved} --threads 0", "a model runs on 1 or more threads, not on 0"),
        (
            "inspect {saved} --stage sheduled",
            "no stage 'sheduled' (did you mean 'scheduled'?); this model keeps: imported, graph, expr, loop, "
            "scheduled, trace, llvm, asm",
        ),
        (
            "inspect {saved} --stage scheduled --kernel gemm_3",
            "stage 'scheduled' has no kernel 'gemm_3' (did you mean 'gemm_2'?); it has: gemm_relu_0, gemm_relu_1, "
            "gemm_2",
        ),
        (
            "inspect {saved} --stage graph --kernel gemm_2",
            "stage 'graph' is one text for the whole model: ask for it without a kernel",
        ),
    ],
)
def test_what_is_wrong_is_said(arguments: str, message: str, saved: str, tmp_path: Path) -> None:
    words = [word.format(tmp=tmp_path, saved=saved) for word in arguments.split()]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == message.format(tmp=tmp_path)
    assert not (tmp_path / "y.tcm").exists()


def test_an_input_that_the_model_does_not_have(saved: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    result = CliRunner().invoke(app, ["run", saved, "--input", f"y={tmp_path / 'a.npy'}"])
    assert str(result.exception) == "the model has no input y; its inputs are x"


def test_an_input_of_another_shape(saved: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((32, 783), dtype=np.float32))
    result = CliRunner().invoke(app, ["run", saved, "--input", f"x={tmp_path / 'a.npy'}"])
    assert str(result.exception) == "input 'x' (argument 1) has shape (32, 783), but the model takes (32, 784)"


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_user_error_is_one_line_and_exit_code_1() -> None:
    done = _python("from tcompiler.cli import main; main()", "run", "none.tcm")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "tcompiler: none.tcm: cannot be read: No such file or directory\n"


def test_running_a_saved_model_imports_no_compiler(saved: str) -> None:
    done = _python(
        "import sys\n"
        "from tcompiler.cli.app import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(*(m for m in sys.modules if m.startswith('tcompiler.')))\n"
        "print(*sorted({'onnx', 'islpy', 'networkx', 'ml_dtypes', 'cpuinfo', 'torch'} & set(sys.modules)))",
        "run", saved, "--repeat", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *_, ours, theirs = done.stdout.split("\n")[:-1]
    assert {m.split(".")[1] for m in ours.split()} == {"cli", "errors", "runtime"}
    assert theirs == ""


def test_importing_the_package_loads_nothing_else() -> None:
    done = _python(
        "import sys; before = set(sys.modules); import tcompiler\n"
        "print(*sorted({m for m in set(sys.modules) - before if m.split('.')[0] not in sys.stdlib_module_names}))"
    )
    assert done.stdout == "tcompiler\n", done.stderr


def test_what_is_public_is_listed() -> None:
    assert {"compile", "load", "trace"} <= set(dir(tc))


def test_bench_prints_one_object(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "y"], ["z"])
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (24, 24)) for n in ("x", "y")]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("z", TensorProto.FLOAT, (24, 24))])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    model = str(tmp_path / "m.onnx")
    result = json.loads(invoke("bench", model, "--against", "onnxruntime", "--rounds", "1", "--json").stdout)
    assert {"model", "threads", "peak_gflops", "flops", "rows"} <= set(result)
    assert (result["threads"], result["flops"]) == (1, 2 * 24**3)
    assert [row["system"] for row in result["rows"]] == ["tcompiler", "onnxruntime"]
    for row in result["rows"]:
        assert {"median_ms", "min_ms", "gflops", "max_rel_error", "compile_s"} <= set(row)
    assert result["rows"][0]["max_rel_error"] < 1e-5
    assert "tcompiler" in invoke("bench", model, "--rounds", "1").stdout
