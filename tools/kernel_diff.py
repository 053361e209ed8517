"""Says which generated kernels differ between two commits, and shows how.

    python -m tools.kernel_diff HEAD~3 HEAD
    python -m tools.kernel_diff HEAD . --models resnet18,bert_base --operators 'C2D|softmax' --diff scheduled

A commit is anything that git can name; "." is the working tree as it is. The models are made once, by this tree, and
both sides compile the same files up to LLVM text for the same target; nothing is assembled or run, no weight is looked
at beyond what the graph passes do. A refactor shows with it that it changed no kernel.

Kernels are paired by their code, then by their expression up to names, then by name and operands, so that a number
that shifts in a name is no difference. Exit status: 0 if no kernel differs, 1 if some do, 2 if there is nothing to
compare (no such commit, model or target).
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tools.kernels_of import STAGES, UNFIT

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("resnet18", "resnet50", "mobilenetv2", "vit_b16", "bert_base", "gpt2", "dcgan", "infogan", "fsrcnn", "gcn")
"""Compared when nothing is said, with every operator of benchmarks/operators.json."""
_DTYPE = re.compile(r"[iu](8|16|32|64)|b?f16|f(32|64)")
_NAME = re.compile(r"[A-Za-z_]\w*")


class NothingToCompareError(Exception):
    """A side or a model does not exist."""


@dataclass(frozen=True, slots=True)
class GeneratedKernel:
    """A kernel as one side generates it.

    Args:
        name: Its name in the model.
        calls: How often a call of the model runs it.
        texts: Its text by stage, one for each of STAGES.
    """

    name: str
    calls: int
    texts: dict[str, str]


@dataclass(frozen=True, slots=True)
class GeneratedModel:
    """A model's kernels, or why a side cannot compile it."""

    kernels: tuple[GeneratedKernel, ...]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A kernel that differs.

    Args:
        model: The model that it belongs to.
        kind: "changed", "appeared", "vanished"; "error" where a side does not compile the model or says otherwise why.
        old: The kernel's name before, None if it appeared.
        new: Its name after, None if it vanished.
        stage: The first stage whose text differs (names aside in "expr"), None if there is only one side.
        lines: Lines of LLVM text that were removed and added.
        note: For an error: what each side says.
    """

    model: str
    kind: str
    old: str | None = None
    new: str | None = None
    stage: str | None = None
    lines: tuple[int, int] = (0, 0)
    note: str = ""

    def describe(self) -> str:
        """A line for people."""
        match self.kind:
            case "changed":
                name = self.new if self.old == self.new else f"{self.old} → {self.new}"
                return f"changed   {name}: from {self.stage} on, llvm -{self.lines[0]} +{self.lines[1]} lines"
            case "error":
                return f"error     {self.note}"
            case kind:
                return f"{kind:9} {self.old or self.new}"


Found: TypeAlias = tuple[Difference, GeneratedKernel | None, GeneratedKernel | None]
"""A difference with its two sides."""


def anonymous(expr: str) -> str:
    """A program's text with the names that carry a number renamed in order of appearance.

    The numbers in names count a model's values and kernels: they shift when an earlier one comes or goes.
    """
    seen: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        name = match[0]
        if not any(c.isdigit() for c in name) or _DTYPE.fullmatch(name):
            return name
        return seen.setdefault(name, f"_{len(seen)}")

    return _NAME.sub(rename, expr)


def _signature(kernel: GeneratedKernel) -> str:
    """What a kernel's expression takes, and the operators that it is named for."""
    lines = kernel.texts["expr"].splitlines()
    return re.sub(r"_\d+$", "", kernel.name) + anonymous(next((x for x in lines if x.startswith("def ")), ""))


def compare_kernels(model: str, old: Sequence[GeneratedKernel], new: Sequence[GeneratedKernel]) -> list[Found]:
    """The kernels of a model that differ, each with both sides."""
    before, after = list(old), list(new)
    pairs: list[tuple[GeneratedKernel, GeneratedKernel]] = []

    def pair_up(key: Callable[[GeneratedKernel], object]) -> None:
        keys = {id(k): key(k) for k in (*before, *after)}
        # Of kernels that are equal by a key, those that are called the same belong together.
        for named in (True, False):
            waiting: dict[object, list[GeneratedKernel]] = {}
            for k in after:
                waiting.setdefault((keys[id(k)], k.name if named else ""), []).append(k)
            for a in list(before):
                if found := waiting.get((keys[id(a)], a.name if named else "")):
                    b = found.pop(0)
                    pairs.append((a, b))
                    before.remove(a)
                    after.remove(b)

    def code(k: GeneratedKernel) -> str:
        return k.texts["llvm"]

    def expression(k: GeneratedKernel) -> str:
        return anonymous(k.texts["expr"])

    for key in (code, expression, _signature):
        pair_up(key)
    order = {id(k): n for n, k in enumerate((*new, *old))}
    result: list[Found] = []
    for a, b in sorted(pairs, key=lambda p: order[id(p[1])]):
        if code(a) == code(b):
            continue
        same = expression(a) == expression(b)
        stages = [s for s in STAGES if a.texts[s] != b.texts[s] and not (s == "expr" and same)]
        result.append((Difference(model, "changed", a.name, b.name, stages[0], _changed_lines(a, b)), a, b))
    result += [(Difference(model, "vanished", old=k.name), k, None) for k in before]
    result += [(Difference(model, "appeared", new=k.name), None, k) for k in after]
    return result


def _changed_lines(a: GeneratedKernel, b: GeneratedKernel) -> tuple[int, int]:
    """Lines that only one of two codes has; lines count as often as they occur, their order does not."""
    lines = [Counter(k.texts["llvm"].splitlines()) for k in (a, b)]
    return (lines[0] - lines[1]).total(), (lines[1] - lines[0]).total()


def unified(a: GeneratedKernel | None, b: GeneratedKernel | None, stage: str, sides: tuple[str, str]) -> str:
    """The unified diff of one stage of a kernel; all of it where the other side has none."""
    texts = [[] if k is None else k.texts[stage].splitlines() for k in (a, b)]
    names = [f"{side}:{stage}/{k.name if k else '(none)'}" for side, k in zip(sides, (a, b), strict=True)]
    return "\n".join(difflib.unified_diff(texts[0], texts[1], names[0], names[1], lineterm=""))


def export_tree(repository: Path, commit: str, folder: Path) -> Path:
    """The files of a commit in a folder of their own; "." is the repository's working tree itself.

    Raises:
        NothingToCompareError: git knows no such commit.
    """
    if commit == ".":
        return repository
    git = ["git", "-C", str(repository)]
    found = subprocess.run([*git, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"], capture_output=True)
    if found.returncode:
        raise NothingToCompareError(
            f'there is no commit "{commit}"; give what git can name (HEAD~2, a branch, a hash), or "." for the '
            "working tree"
        )
    folder.mkdir(parents=True)
    archive = folder.with_suffix(".tar")
    with archive.open("wb") as file:
        subprocess.run([*git, "archive", "--format=tar", found.stdout.decode().strip()], stdout=file, check=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="tar")
    archive.unlink()
    return folder


def generate(
    label: str, tree: Path, models: Sequence[tuple[str, Path]], target: str, threads: int, folder: Path
) -> dict[str, GeneratedModel]:
    """Compiles models with the compiler of a tree, in processes of their own.

    Args:
        label: What the user calls the tree.
        tree: Root of a tree that has `tcompiler`.
        models: Names and ONNX files.
        target: A target's name.
        threads: Threads that the kernels are scheduled for.
        folder: Where to leave files.

    Returns:
        The models' kernels by name. Where a compiler crashes, that is the model's error, and the next one is tried.

    Raises:
        NothingToCompareError: The tree has no compiler that can be asked, or it knows no such target.
    """
    result: dict[str, GeneratedModel] = {}
    job, out = folder / "job.json", folder / "kernels.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}
    left = list(models)
    while left:
        job.write_text(
            json.dumps(
                {
                    "label": label,
                    "tree": str(tree),
                    "target": target,
                    "threads": threads,
                    "models": [(name, str(path)) for name, path in left],
                }
            )
        )
        out.write_text("")
        command = [sys.executable, str(Path(__file__).with_name("kernels_of.py")), str(job), str(out)]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        for line in out.read_text().splitlines():
            entry: dict[str, Any] = json.loads(line)
            kernels = tuple(GeneratedKernel(**k) for k in entry.get("kernels", ()))
            result[entry["model"]] = GeneratedModel(kernels, entry.get("error"))
        left = [m for m in left if m[0] not in result]
        if left:
            said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            if done.returncode == UNFIT:
                raise NothingToCompareError(said)
            result[left.pop(0)[0]] = GeneratedModel((), f"crash (exit status {done.returncode}): {said}")
    return result


def compare(old: dict[str, GeneratedModel], new: dict[str, GeneratedModel]) -> list[Found]:
    """What differs between two sides, model by model."""
    result: list[Found] = []
    for model, b in new.items():
        a = old[model]
        if a.error is not None or b.error is not None:
            if a.error != b.error:
                note = f"before: {a.error or 'compiles'}; after: {b.error or 'compiles'}"
                result.append((Difference(model, "error", note=note), None, None))
            continue
        result += compare_kernels(model, a.kernels, b.kernels)
    return result


def model_files(names: Sequence[str], operators: str | None, folder: Path) -> list[tuple[str, Path]]:
    """ONNX files of what is to be compared.

    Args:
        names: Networks of benchmarks/models, or paths of .onnx files.
        operators: A regular expression: operators of benchmarks/operators.json whose name it is found in.
        folder: Where to write the operators' models.

    Raises:
        NothingToCompareError: There is no such network or file, or no operator with such a name.
    """
    found: list[tuple[str, Path]] = []
    for name in names:
        if name.endswith(".onnx"):
            path = Path(name).resolve()
            if not path.is_file():
                raise NothingToCompareError(f'there is no file "{name}"')
        else:
            from benchmarks.models import NAMES, build

            if name not in NAMES:
                near = difflib.get_close_matches(name, NAMES, 1)
                hint = f'; did you mean "{near[0]}"?' if near else f"; there are {', '.join(NAMES)}"
                raise NothingToCompareError(f'there is no network "{name}"{hint}')
            path = build(name).path
        found.append((name, path))
    if operators is not None:
        import onnx

        from benchmarks.models import operators as collection

        chosen = [s for s in collection.specs() if re.search(operators, s["name"])]
        if not chosen:
            raise NothingToCompareError(f'no operator of benchmarks/operators.json has "{operators}" in its name')
        for spec in chosen:
            # Two suites may have an operator of one name.
            name = f"{spec['suite']}/{spec['name']}"
            path = folder / f"{name.replace('/', '-')}.onnx"
            onnx.save(collection.model(spec), path)
            found.append((name, path))
    return found


def run(arguments: Sequence[str] | None = None, repository: Path = ROOT) -> int:
    """The command; returns its exit status."""
    options = _parser().parse_args(arguments)
    if options.models is None and options.operators is None:
        options.models, options.operators = list(NETWORKS), ""
    with tempfile.TemporaryDirectory(prefix="kernel-diff-") as name:
        folder = Path(name)
        try:
            trees = [export_tree(repository, c, folder / f"tree{k}") for k, c in enumerate((options.old, options.new))]
            files = model_files(options.models or [], options.operators, folder)
            with ThreadPoolExecutor(2) as pool:
                jobs = []
                for label, tree in zip((options.old, options.new), trees, strict=True):
                    side = Path(tempfile.mkdtemp(dir=folder))
                    jobs.append(pool.submit(generate, label, tree, files, options.target, options.threads, side))
                old, new = (job.result() for job in jobs)
        except NothingToCompareError as error:
            print(f"kernel_diff: {error}", file=sys.stderr)
            return 2
    found = compare(old, new)
    if options.kernel is not None:
        found = [f for f in found if options.kernel in (f[0].old, f[0].new)]
    if options.json:
        print(json.dumps({"old": options.old, "new": options.new, "differences": [asdict(d) for d, _, _ in found]}))
        return 1 if found else 0
    _report(found, new, (options.old, options.new), options.diff)
    return 1 if found else 0


def _report(
    found: Sequence[Found],
    new: dict[str, GeneratedModel],
    sides: tuple[str, str],
    stage: str | None,
) -> None:
    for model in new:
        mine = [f for f in found if f[0].model == model]
        if mine:
            print(f"{model}: {len(new[model].kernels)} kernels")
        for difference, a, b in mine:
            print(f"  {difference.describe()}")
            if stage is not None and difference.kind != "error":
                print(unified(a, b, stage, sides))
    counts = [f"{n} {kind}" for kind in ("changed", "appeared", "vanished", "error") if (n := _count(found, kind))]
    failed = [name for name, m in new.items() if m.error is not None]
    if failed:
        print(f"not compiled: {', '.join(failed)}")
    total = sum(len(m.kernels) for m in new.values())
    print(f"{len(new)} models, {total} kernels: {', '.join(counts) or 'none differs'}")


def _count(found: Sequence[Found], kind: str) -> int:
    return sum(d.kind == kind for d, _, _ in found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.kernel_diff", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", help='a commit, or "." for the working tree')
    parser.add_argument("new", nargs="?", default=".", help='a commit, or "." (default) for the working tree')
    parser.add_argument("--models", type=_names, help="networks of benchmarks.models, or .onnx files: a,b,c")
    parser.add_argument("--operators", metavar="REGEX", help="operators of benchmarks/operators.json by name")
    parser.add_argument("--target", default="cpu", help='target to compile for (default "cpu": this machine)')
    parser.add_argument("--threads", type=int, default=1, help="threads to schedule for (default 1)")
    parser.add_argument("--diff", choices=STAGES, help="print the unified diff of this stage of what differs")
    parser.add_argument("--kernel", help="report this kernel only")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


if __name__ == "__main__":
    sys.exit(run())
