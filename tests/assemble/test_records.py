"""Finished kernels out of the cache: the same artifact to the last bit; whatever is wrong with an entry is a miss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from benchmarks import models
from tcompiler import api
from tcompiler.assemble import records
from tcompiler.assemble.records import GroupRecord, KernelRecords
from tcompiler.backends.llvm.object_cache import ObjectCache
from tcompiler.frontend.module import GraphModule
from tcompiler.frontend.onnx import read
from tcompiler.pipeline import Observer, compile_module
from tcompiler.runtime.package import Artifact
from tcompiler.target.named import host

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("TCOMPILER_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TCOMPILER_DEBUG", raising=False)
    return tmp_path / "objects"


def network(scale: float = 2.0) -> GraphModule:
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((24, 24)).astype(np.float32) for _ in range(2))

    def run(x: Any) -> Any:
        y = tc.tanh(x @ a)
        y = tc.tanh(y @ b)
        return tc.exp(y * scale).sum(axis=1)

    return tc.trace(run, x=tc.spec("f32", (7, 24)))


def compiled(module: GraphModule, threads: int = 1, observer: Observer | None = None) -> Artifact:
    artifact = compile_module(module, host(), threads, observer=observer)
    assert isinstance(artifact, Artifact)
    return artifact


def assert_equal(a: Artifact, b: Artifact) -> None:
    assert a.manifest == b.manifest
    assert list(a.texts.items()) == list(b.texts.items())
    assert list(a.objects.items()) == list(b.objects.items())
    # the bytes between constants are nobody's
    assert {k: v.tobytes() for k, v in a.constants.items()} == {k: v.tobytes() for k, v in b.constants.items()}


class Scheduled:
    """Counts the kernels that went the full way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from tcompiler.schedule.rules import default

        self.count = 0
        real = default.default_schedule

        def counted(*args: Any) -> Any:
            self.count += 1
            return real(*args)

        monkeypatch.setattr(default, "default_schedule", counted)

    def taken(self) -> int:
        """Kernels since the last call."""
        count, self.count = self.count, 0
        return count


@pytest.fixture
def scheduled(monkeypatch: pytest.MonkeyPatch) -> Scheduled:
    return Scheduled(monkeypatch)


@pytest.mark.parametrize("name", ["resnet_tiny", "transformer_odd"])
@pytest.mark.parametrize("threads", [1, 2])
def test_cold_and_warm_make_the_same_file(name: str, threads: int, tmp_path: Path, scheduled: Scheduled) -> None:
    path = models.build(name).path
    cold = compiled(read(path), threads)
    assert scheduled.taken() == len(cold.manifest["kernels"])
    warm = compiled(read(path), threads)
    assert scheduled.taken() == 0
    assert_equal(cold, warm)
    for artifact, file in ((cold, "cold.tcm"), (warm, "warm.tcm")):
        tc.Model(artifact).save(tmp_path / file)
    assert (tmp_path / "cold.tcm").read_bytes() == (tmp_path / "warm.tcm").read_bytes()


def test_without_caches_every_kernel_goes_all_the_way(monkeypatch: pytest.MonkeyPatch, scheduled: Scheduled) -> None:
    with_cache = compiled(network())
    monkeypatch.setenv("TCOMPILER_CACHE", "0")
    scheduled.taken()
    for _ in range(2):
        assert_equal(compiled(network()), with_cache)
        assert scheduled.taken() == len(with_cache.manifest["kernels"])


def test_debugging_verifies_every_step(monkeypatch: pytest.MonkeyPatch, scheduled: Scheduled) -> None:
    plain = compiled(network())
    monkeypatch.setenv("TCOMPILER_DEBUG", "1")
    scheduled.taken()
    assert_equal(compiled(network()), plain)
    assert scheduled.taken() == len(plain.manifest["kernels"])


def test_stages_never_come_from_the_cache(scheduled: Scheduled) -> None:
    done = compiled(network())
    scheduled.taken()
    stages = api.compile_stages(network(), "scheduled", threads=1)
    assert scheduled.taken() == len(stages.kernels) == len(done.manifest["kernels"])
    assert all(k.schedule is not None for k in stages.kernels.values())
    assert {k: done.texts[k] for k in stages.texts} == stages.texts


@pytest.mark.parametrize(
    "change", [{"threads": 2}, {"module": network(3.0)}, {"source": "of another compiler"}], ids=lambda c: next(iter(c))
)
def test_what_a_kernel_depends_on_is_in_its_key(
    change: dict[str, Any], scheduled: Scheduled, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(network())
    scheduled.taken()
    if "source" in change:
        monkeypatch.setattr(records, "package_digest", lambda: change["source"])
    compiled(change.get("module", network()), change.get("threads", 1))
    assert scheduled.taken() > 0


def entries(cache: Path) -> dict[str, bytes]:
    """Keys of the entries of groups, with their content."""
    store = ObjectCache()
    keys = [path.parent.name + path.name for path in cache.rglob("*") if path.is_file()]
    contents = {key: store.get(key) or b"" for key in keys}
    return {key: data for key, data in contents.items() if data.startswith(b'{"same"')}


def test_whatever_is_wrong_with_an_entry_is_a_miss(cache: Path, scheduled: Scheduled) -> None:
    whole = compiled(network())
    count = len(whole.manifest["kernels"])
    assert scheduled.taken() == count > 1
    found = entries(cache)
    assert len(found) == count
    key, good = next(iter(found.items()))
    data = json.loads(good)
    kernel = data["kernel"]
    spoilt: list[bytes] = [b"", b"{", b"[]", b"null", good[:-1], b"\xff\xfe"]
    spoilt += [json.dumps({k: v for k, v in data.items() if k != left}).encode() for left in data]
    spoilt += [json.dumps({**data, k: 7}).encode() for k in data]
    spoilt += [
        json.dumps({**data, "kernel": {k: v for k, v in kernel.items() if k != left}}).encode() for left in kernel
    ]
    spoilt += [json.dumps({**data, "kernel": {**kernel, k: None}}).encode() for k in kernel]
    spoilt += [json.dumps({**data, "kernel": {**kernel, "object": "0" * 32}}).encode()]
    spoilt += [json.dumps({**data, "kernel": {**kernel, "packings": {"x": [["0" * 32, [2, 2]]]}}}).encode()]
    for content in spoilt:
        ObjectCache().put(key, content)
        assert_equal(compiled(network()), whole)
        assert scheduled.taken() == 1, content
        assert ObjectCache().get(key) == good, "the entry is written anew"


def test_damaged_files_and_missing_objects_are_misses(cache: Path, scheduled: Scheduled) -> None:
    whole = compiled(network())
    count = scheduled.taken()
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert len(files) > 2 * count
    for path in files:
        good = path.read_bytes()
        for content in (None, good[:-1], good[:-1] + bytes([good[-1] ^ 1])):
            path.unlink() if content is None else path.write_bytes(content)
            assert_equal(compiled(network()), whole)
            # the entry point's own object belongs to no kernel, that of a prepare function to several
            assert scheduled.taken() <= 2
            assert path.read_bytes() == good
    for path in files:
        path.unlink()
    compiled(network())
    assert scheduled.taken() == count


def test_some_kernels_out_of_the_cache_and_some_not(cache: Path, scheduled: Scheduled) -> None:
    whole = compiled(network())
    scheduled.taken()
    for k, key in enumerate(found := sorted(entries(cache))):
        if k % 2:
            (cache / key[:2] / key[2:]).unlink()
    assert_equal(compiled(network()), whole)
    assert scheduled.taken() == len(found) // 2


def test_a_group_whose_kernel_another_has(cache: Path, scheduled: Scheduled) -> None:
    """Two groups may differ as nodes and be one program: the second one's entry has no kernel of its own."""

    def run(x: Any) -> Any:
        return tc.relu(x.sum(axis=1)), tc.maximum(x.sum(axis=1, keepdims=False) * 1.0, 0.0)

    group_record = GroupRecord("same", ("x",), ("y",), None)
    store = KernelRecords(host(), 1, "high")
    store.put("0" * 32, group_record)
    assert store.get("0" * 32) == group_record
    module = tc.trace(run, x=tc.spec("f32", (5, 6)))
    cold = compiled(module)
    scheduled.taken()
    assert_equal(compiled(module), cold)
    assert scheduled.taken() == 0


class Recorder(Observer):
    """Keeps what every pass printed."""

    def __init__(self) -> None:
        self.passes: list[tuple[str, str]] = []

    def after(self, name: str, seconds: float, text: Any) -> None:
        self.passes.append((name, text()))


def test_passes_print_the_same_from_the_cache() -> None:
    cold, warm = Recorder(), Recorder()
    compiled(network(), observer=cold)
    compiled(network(), observer=warm)
    assert cold.passes == warm.passes
    assert {"compose", "lower", "schedule", "llvm"} <= {name for name, text in warm.passes if text}


_IMPORTED = """
import sys
import tcompiler as tc
tc.compile(sys.argv[1], threads=1)
print(*sorted(m for m in sys.modules if m == "islpy" or m.startswith("tcompiler.")))
"""


def test_what_is_finished_needs_no_scheduler() -> None:
    path = str(models.build("resnet_tiny").path)

    def loaded() -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", _IMPORTED, path], capture_output=True, text=True, check=True, cwd=ROOT
        )
        return set(done.stdout.split())

    late = {
        "tcompiler.schedule.schedule",
        "tcompiler.schedule.rules.default",
        "tcompiler.schedule.primitives",
        "tcompiler.lower.function",
        "tcompiler.ir.loop.grammar",
        "tcompiler.backends.llvm.codegen",
        "tcompiler.assemble.finish",
    }
    assert late <= loaded()
    assert not (late | {"islpy"}) & loaded()
