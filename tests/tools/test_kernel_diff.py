"""Which kernels two commits generate differently: on a repository of two commits, made for the test."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tools import kernel_diff
from tools.kernel_diff import GeneratedKernel, compare_kernels
from tools.kernels_of import STAGES

ROOT = Path(__file__).parents[2]


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def _replace(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} has {before!r} {text.count(before)} times"
    path.write_text(text.replace(before, after))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiler; then a commit whose code generator divides otherwise; then a comment in the working tree."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "tcompiler", folder / "tcompiler", ignore=shutil.ignore_patterns("__pycache__"))
    _git(folder, "init", "--quiet", "--initial-branch", "main")
    _git(folder, "add", ".")
    _git(folder, "commit", "--quiet", "-m", "first")
    # kernels that divide get other code, and no others do
    _replace(
        folder / "tcompiler/backends/llvm/codegen.py", "return _Kernel(function, target, symbol).run()", _CODE_CHANGE
    )
    _git(folder, "commit", "--quiet", "-a", "-m", "second")
    with (folder / "tcompiler/pipeline.py").open("a") as file:
        file.write("\n# a comment\n")
    return folder


_CODE_CHANGE = """code = _Kernel(function, target, symbol).run()
    if "fdiv" in code.text:
        return replace(code, text=code.text.replace("fdiv", "fdiv contract"))
    return code"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A matrix product and a division that no group takes along."""
    node = onnx.helper.make_node

    def value(name: str) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4, 4])

    nodes = [node("MatMul", ["a", "b"], ["p"]), node("Div", ["a", "b"], ["q"])]
    graph = onnx.helper.make_graph(nodes, "g", [value("a"), value("b")], [value("p"), value("q")])
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)
    return str(path)


def test_a_commit_that_changes_one_kernel(repository: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["main~1", "main", "--models", model, "--target", "x86-64-v3", "--diff", "llvm"]
    assert kernel_diff.run(command, repository) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == [f"{model}: 2 kernels", "  changed   div_1: from llvm on, llvm -1 +1 lines"]
    removed = [line for line in out if line.startswith("-  ")]
    added = [line for line in out if line.startswith("+  ")]
    assert [line.replace("-", "+", 1).replace("fdiv", "fdiv contract") for line in removed] == added
    assert out[-1] == "1 models, 2 kernels: 1 changed"


def test_a_working_tree_that_changes_none(repository: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel_diff.run(["main", "--models", model, "--target", "x86-64-v3"], repository) == 0
    assert capsys.readouterr().out == "1 models, 2 kernels: none differs\n"


def test_json(repository: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["main~1", ".", "--models", model, "--target", "x86-64-v3", "--json"]
    assert kernel_diff.run(command, repository) == 1
    assert json.loads(capsys.readouterr().out) == {
        "old": "main~1",
        "new": ".",
        "differences": [
            {
                "model": model,
                "kind": "changed",
                "old": "div_1",
                "new": "div_1",
                "stage": "llvm",
                "lines": [1, 1],
                "note": "",
            }
        ],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nowhere"],
            'there is no commit "nowhere"; give what git can name (HEAD~2, a branch, a hash), or "." for the '
            "working tree",
        ),
        (["main", "--models", "resnet_tinny"], 'there is no network "resnet_tinny"; did you mean "resnet_tiny"?'),
        (["main", "--models", "none.onnx"], 'there is no file "none.onnx"'),
        (["main", "--operators", "C9D"], 'no operator of benchmarks/operators.json has "C9D" in its name'),
    ],
)
def test_nothing_to_compare(
    repository: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kernel_diff.run(arguments, repository) == 2
    assert capsys.readouterr().err == f"kernel_diff: {message}\n"


def test_a_target_that_is_none(repository: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel_diff.run(["main", "--models", model, "--target", "znver33"], repository) == 2
    assert capsys.readouterr().err.startswith("kernel_diff: there is no target")


def _kernel(name: str, code: str, expr: str | None = None) -> GeneratedKernel:
    texts = dict.fromkeys(STAGES, code) | {"expr": expr or f"def {name}(v0: f32[1]):\n    return {code}"}
    return GeneratedKernel(name, 1, texts)


def test_kernels_are_paired_by_what_they_are() -> None:
    a, b, c = (_kernel(f"op_{k}", text) for k, text in enumerate(("a", "b", "c")))
    moved = [replace(k, name=f"op_{n + 1}") for n, k in enumerate((a, b, c))]
    assert compare_kernels("m", [a, b, c], moved) == []
    new = _kernel("op_0", "n", "def op_0(v0: f64[3]):\n    return n")
    found = [d for d, _, _ in compare_kernels("m", [a, b, c], [new, *moved[:2]])]
    assert [(d.kind, d.old, d.new) for d in found] == [("vanished", "op_2", None), ("appeared", None, "op_0")]


def test_numbers_in_names_do_not_count() -> None:
    before = _kernel("op_3", "a", "def op_3(v7: f32[1], i4: i64[2]):\n    return v7[i4] + f32(2.0)")
    after = _kernel("op_4", "b", "def op_4(v9: f32[1], i6: i64[2]):\n    return v9[i6] + f32(2.0)")
    ((found, _, _),) = compare_kernels("m", [before], [after])
    assert (found.kind, found.old, found.new, found.stage) == ("changed", "op_3", "op_4", "loop")
    other = replace(after, texts={**after.texts, "expr": after.texts["expr"].replace("v9[i6]", "v9[i6 + 1]")})
    ((found, _, _),) = compare_kernels("m", [before], [other])
    assert found.stage == "expr"
