"""Saved models: round trips, and every way in which a file is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tcompiler.errors import InternalError, LoadError, UserError
from tcompiler.runtime import package, weights
from tcompiler.runtime.dtypes import NUMPY
from tcompiler.runtime.memory import address_of, lay_out_constants, pack_constants, view_constant
from tcompiler.runtime.model import Model
from tcompiler.runtime.package import Artifact
from tcompiler.runtime.specialised import load_model
from tests.runtime.hand_written import make_artifact, reference

ROOT = Path(__file__).parents[2]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.tcm"
    package.save(make_artifact(), path)
    return path


def same(a: Artifact, b: Artifact) -> bool:
    return (
        a.manifest == b.manifest
        and dict(a.objects) == dict(b.objects)
        and dict(a.texts) == dict(b.texts)
        and a.constants.keys() == b.constants.keys()
        and all(np.array_equal(a.constants[name], b.constants[name]) for name in a.constants)
    )


def refusal(path: Path) -> str:
    with pytest.raises(LoadError) as caught:
        package.load(path)
    return str(caught.value)


def rewritten(path: Path, change: Callable[[dict[str, Any]], None], honest: bool = True) -> Path:
    """A copy of a saved model with another manifest, and (if honest) the checksum of that."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
        comment = archive.comment
    manifest = json.loads(members.pop("manifest.json"))
    change(manifest)
    text = json.dumps(manifest).encode()
    if honest:
        comment = b"tcompiler manifest sha256:" + hashlib.sha256(text).hexdigest().encode()
    copy = path.with_name("changed.tcm")
    with zipfile.ZipFile(copy, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr("manifest.json", text)
        archive.comment = comment
    return copy


def test_round_trip(saved: Path) -> None:
    artifact = make_artifact()
    loaded = package.load(saved)
    assert same(loaded, artifact)
    assert address_of(loaded.constants_block()) % 64 == 0
    model = Model(loaded)
    x = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
    for result, want in zip(model(x), reference(x, np.asarray(artifact.constants["c"])), strict=True):
        np.testing.assert_array_equal(result, want)
    assert list(saved.parent.iterdir()) == [saved]


def test_saving_what_was_loaded_gives_the_same_bytes(saved: Path) -> None:
    again = saved.with_name("again.tcm")
    load_model(saved).save(again)
    assert again.read_bytes() == saved.read_bytes()


def test_saving_over_the_file_that_was_loaded(saved: Path) -> None:
    model = load_model(saved)
    package.save(make_artifact((2, 2)), saved)
    assert model.text("graph") == "y = relu(x + c)\nz = y * y\n"
    model.save(saved)
    assert same(package.load(saved), make_artifact())


def test_the_container_is_a_zip_with_checksums_that_others_can_compute(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        members = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
        manifest = json.loads(archive.read("manifest.json"))
        assert archive.getinfo("weights.safetensors").compress_type == zipfile.ZIP_STORED
    del members["manifest.json"]
    assert manifest["members"] == members
    assert set(members) == {
        "weights.safetensors", "objects/add_relu.o", "objects/square.o", "objects/entry.o",
        "texts/graph.txt", "texts/llvm/add_relu.txt", "texts/llvm/square.txt",
    }  # fmt: skip


def every_type() -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    rng = np.random.default_rng(2)
    constants = {f"c_{name}": rng.integers(0, 2, (3, i)).astype(dtype) for i, (name, dtype) in enumerate(NUMPY.items())}
    constants["c_bf16"] = rng.standard_normal((3, 4)).astype(ml_dtypes.bfloat16).view(np.uint16)
    constants["scalar"] = np.array(7.5)
    constants["transposed"] = np.arange(12, dtype=np.int16).reshape(3, 4).T
    dtypes = {f"c_{name}": name for name in NUMPY} | {"scalar": "f64", "transposed": "i16"}
    return constants, dtypes


def test_weights_are_read_by_the_safetensors_library(tmp_path: Path) -> None:
    constants, dtypes = every_type()
    entries, size = lay_out_constants({name: (dtypes[name], a.shape) for name, a in constants.items()})
    path = tmp_path / "weights.safetensors"
    block = pack_constants(entries, size, constants)
    with path.open("wb") as file:
        digest = weights.write(file, entries, block)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    theirs = safetensors.numpy.load_file(path)
    assert theirs.keys() == constants.keys()
    for entry in entries:
        array = theirs[entry["name"]]
        if entry["dtype"] == "bf16":
            array = array.view(np.uint16)
        np.testing.assert_array_equal(array, constants[entry["name"]])
        assert array.dtype == NUMPY[entry["dtype"]]
    with path.open("rb", buffering=0) as file:
        again, digest_read = weights.read(file, path.stat().st_size, entries, size)
    assert digest_read == digest
    for entry in entries:
        assert entry["offset"] % 64 == 0
        np.testing.assert_array_equal(view_constant(again, entry), constants[entry["name"]])
    assert not again.flags.writeable and not block.flags.writeable


def test_a_model_without_constants(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with path.open("wb") as file:
        weights.write(file, [], pack_constants([], 0, {}))
    assert safetensors.numpy.load_file(path) == {}


def test_constants_of_another_type_or_shape_are_refused() -> None:
    entries, size = lay_out_constants({"c": ("f64", (3,))})
    for constants, found in (
        ({}, "nothing"),
        ({"c": np.zeros(4)}, "float64[4]"),
        ({"c": np.zeros(3, bool)}, "bool[3]"),
    ):
        with pytest.raises(InternalError) as caught:
            pack_constants(entries, size, constants)
        assert str(caught.value) == f"constant 'c': expected f64[3], found {found}"


def test_a_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.tcm") == f"{tmp_path}/no.tcm: cannot be read: No such file or directory"
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize("data", [b"", b"PK", b"\x7fELF" * 100, b"not a model" * 1000])
def test_no_saved_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.tcm"
    path.write_bytes(data)
    assert refusal(path) == (
        f"{path}: not a saved model (a .tcm file, as `tcompiler compile MODEL.onnx -o MODEL.tcm` writes)"
    )


def test_truncated_files(saved: Path) -> None:
    data = saved.read_bytes()
    comment = data.rindex(b"tcompiler manifest sha256:")
    for length in [*range(4, len(data), 23), len(data) - 1]:
        saved.write_bytes(data[:length])
        what = (
            "the container cannot be read (File is not a zip file)"
            if length < comment
            else "manifest.json does not have its checksum"
        )
        assert refusal(saved) == f"{saved}: truncated or damaged: {what}; compile the model again"


def test_no_flipped_bit_goes_unseen(saved: Path) -> None:
    artifact = make_artifact()
    data = saved.read_bytes()
    refused = 0
    places = range(0, len(data), 3)
    for at in places:
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        saved.write_bytes(damaged)
        try:
            # What zip does not use (time stamps, versions) may change; anything else must be refused.
            assert same(package.load(saved), artifact), at
        except LoadError as error:
            assert str(error).startswith(f"{saved}: ")
            refused += 1
    assert refused > 0.8 * len(places)


def test_an_altered_member(saved: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
        comment = archive.comment
    path = tmp_path / "altered.tcm"
    for victim in members:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                flipped = bytearray(data)
                if name == victim:
                    flipped[-2] ^= 1
                archive.writestr(name, bytes(flipped))
            archive.comment = comment
        if victim.startswith("texts/"):
            key = victim.removeprefix("texts/").removesuffix(".txt")
            loaded = package.load(path)
            with pytest.raises(LoadError) as caught:
                loaded.texts[key]
            message = str(caught.value)
            what = f"the text {key!r} does not have the checksum that the manifest lists"
        else:
            message = refusal(path)
            what = (
                "manifest.json does not have its checksum"
                if victim == "manifest.json"
                else f"{victim} does not have the checksum that the manifest lists"
            )
            if victim == "manifest.json":
                # Its last bytes are JSON's syntax, so it cannot even be read.
                assert message.startswith(f"{path}: truncated or damaged: the container cannot be read (")
                continue
        assert message == f"{path}: truncated or damaged: {what}; compile the model again"


def test_a_manifest_that_somebody_edited(saved: Path) -> None:
    path = rewritten(saved, lambda m: m.update(threads=7), honest=False)
    assert refusal(path) == (
        f"{path}: truncated or damaged: manifest.json does not have its checksum; compile the model again"
    )


def test_members_that_come_and_go(saved: Path) -> None:
    path = rewritten(saved, lambda m: m["members"].pop("texts/graph.txt"))
    assert refusal(path) == (
        f"{path}: truncated or damaged: its members are not those that the manifest lists (texts/graph.txt); "
        "compile the model again"
    )


def test_constants_that_the_weights_do_not_hold(saved: Path) -> None:
    path = rewritten(saved, lambda m: m["constants"][0].update(name="other"))
    assert refusal(path) == (
        f"{path}: truncated or damaged: the container cannot be read (weights.safetensors does not hold the "
        "constants that the manifest lists); compile the model again"
    )


def test_another_format_version(saved: Path) -> None:
    path = rewritten(saved, lambda m: m.update(format_version=99, compiler_version="9.9"))
    assert refusal(path) == (
        f"{path}: its format is version 99 (written by tcompiler 9.9), but this tcompiler reads version 2; "
        "compile the model again"
    )


def test_an_incomplete_manifest(saved: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        del manifest["entry"], manifest["arena_bytes"]

    path = rewritten(saved, change)
    assert refusal(path) == (
        f"{path}: truncated or damaged: the manifest lacks arena_bytes, entry; compile the model again"
    )


def test_another_target(saved: Path) -> None:
    here = llvm.get_process_triple()
    cpu = llvm.get_host_cpu_name()
    path = rewritten(saved, lambda m: m["target"].update(triple="aarch64-unknown-linux-gnu"))
    assert refusal(path) == (
        f"{path}: compiled for aarch64-unknown-linux-gnu, but this machine is {here}; "
        "compile the model again on this machine"
    )
    path = rewritten(saved, lambda m: m["target"].update(triple="x86_64-apple-darwin"))
    assert refusal(path) == (
        f"{path}: compiled for x86_64-apple-darwin, but this machine is {here}; compile the model again on this machine"
    )
    path = rewritten(saved, lambda m: m["target"].update(cpu="next", features=["+sse2", "+avx99", "-x87", "amx-42"]))
    assert refusal(path) == (
        f"{path}: compiled for a next with avx99, amx-42, which this machine ({cpu}) lacks; "
        "compile the model again on this machine"
    )


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "no" / "model.tcm"
    with pytest.raises(UserError) as caught:
        package.save(make_artifact(), path)
    assert str(caught.value) == f"cannot write {path}: No such file or directory"


def test_a_failed_save_leaves_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    artifact = make_artifact()
    broken = Artifact(artifact.manifest, artifact.objects, artifact.constants, {"graph": "\ud800"})
    with pytest.raises(UnicodeEncodeError):
        package.save(broken, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_full_disk_leaves_the_old_file(saved: Path) -> None:
    program = f"""
import resource
from tcompiler.errors import UserError
from tcompiler.runtime.specialised import load_model
model = load_model({str(saved)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    model.save({str(saved)!r})
except UserError as error:
    print(error)
"""
    before = saved.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout == f"cannot write {saved}: File too large\n", done.stderr
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_saved_model_runs_with_numpy_and_llvmlite_alone(saved: Path) -> None:
    program = f"""
import sys
import numpy as np
from tcompiler.runtime.specialised import load_model
model = load_model({str(saved)!r})
y, z = model(np.ones((3, 5), np.float32))
print(y.sum(), model.text("graph").splitlines()[0])
print(*sorted({{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names)))
print(*sorted({{".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("tcompiler.")}}))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    values, packages, ours = done.stdout.splitlines()
    c = np.asarray(make_artifact().constants["c"])
    assert values == f"{np.maximum(1 + c, 0).sum()} y = relu(x + c)"
    others = {name for name in packages.split() if not re.match(r"_|__main__|tcompiler$", name)}
    assert others == {"llvmlite", "numpy"}
    assert ours == "tcompiler.errors tcompiler.runtime"
