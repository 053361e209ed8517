import json
import os
import subprocess
import sys
from dataclasses import replace

import llvmlite.binding as llvm
import pytest

from tcompiler.errors import UserError
from tcompiler.target import named, probe
from tcompiler.target.named import get
from tcompiler.target.target import KIB, MIB, Target, widest_vector
from tcompiler.target.transposes import turns_vectors


@pytest.mark.parametrize("target", [named.host(), *named.NAMED.values()], ids=lambda t: t.name)
def test_json_round_trip(target: Target) -> None:
    again = Target.from_json(json.loads(json.dumps(target.to_json())))
    assert again == target
    assert again.digest() == target.digest()


def test_digest_depends_on_every_field_but_the_name() -> None:
    target = named.get("x86-64-v3")
    changed = [
        replace(target, kind="gpu"),
        replace(target, triple="aarch64-unknown-linux-gnu"),
        replace(target, cpu="znver3"),
        replace(target, features=target.features[1:]),
        replace(target, vector_bits=128),
        replace(target, vector_registers=32),
        replace(target, fma=False),
        replace(target, l1_bytes=1),
        replace(target, l2_bytes=1),
        replace(target, l3_bytes=1),
        replace(target, cores=2),
        replace(target, line_bytes=128),
    ]
    assert len({t.digest() for t in [target, *changed]}) == 13
    assert replace(target, name="other").digest() == target.digest()


def test_digest_is_the_same_in_another_process() -> None:
    code = "from tcompiler.target import named; print(named.get('znver5').digest())"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert printed.stdout.strip() == named.get("znver5").digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cpu": None}, "description of a target: cpu is None, expected str"),
        ({"cores": True}, "description of a target: cores is True, expected int"),
        ({"fma": 1}, "description of a target: fma is 1, expected bool"),
        ({"colour": 1}, "description of a target has colour; it takes only "),
    ],
)
def test_from_json_refuses(change: dict[str, object], message: str) -> None:
    names = "name, kind, triple, cpu, features, vector_bits, vector_registers, fma, l1_bytes, l2_bytes, l3_bytes, "
    names += "cores, line_bytes"
    with pytest.raises(UserError) as error:
        Target.from_json(named.get("znver3").to_json() | change)
    assert str(error.value) == (message + names if message.endswith("only ") else message)


def test_from_json_names_what_is_missing() -> None:
    data = named.get("znver3").to_json()
    del data["cpu"], data["cores"]
    with pytest.raises(UserError, match=r"^description of a target has no cpu, cores; it needs name, kind, .*$"):
        Target.from_json(data)


@pytest.mark.parametrize(
    ("name", "bits", "registers", "fma", "lanes"),
    [
        ("x86-64-v2", 128, 16, False, 4),
        ("x86-64-v3", 256, 16, True, 8),
        ("x86-64-v4", 512, 32, True, 16),
        ("skylake-avx512", 512, 32, True, 16),
        ("znver3", 256, 16, True, 8),
        ("znver5", 512, 32, True, 16),
    ],
)
def test_vectors_of_named_targets(name: str, bits: int, registers: int, fma: bool, lanes: int) -> None:
    target = named.get(name)
    assert (target.vector_bits, target.vector_registers, target.fma) == (bits, registers, fma)
    assert target.vector_lanes(32) == lanes
    assert target.vector_lanes(64) == lanes // 2
    assert target.vector_lanes(4096) == 1


@pytest.mark.parametrize("target", named.NAMED.values(), ids=lambda t: t.name)
def test_llvm_knows_named_targets(target: Target, capfd: pytest.CaptureFixture[str]) -> None:
    llvm.initialize_native_target()
    llvm.Target.from_triple(target.triple).create_target_machine(cpu=target.cpu, features=target.llvm_features)
    assert capfd.readouterr().err == ""


def test_unknown_name() -> None:
    known = ", ".join([*named.HOST_NAMES, *named.NAMED])
    with pytest.raises(UserError) as error:
        named.get("znvr5")
    assert str(error.value) == f"there is no target 'znvr5'; the nearest is 'znver5'; the targets are {known}"
    with pytest.raises(UserError) as error:
        named.get("????")
    assert str(error.value) == f"there is no target '????'; the targets are {known}"


def test_features_win_over_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def host_with(cpu: str, features: tuple[str, ...]) -> Target:
        monkeypatch.setattr(probe, "cpu_name", lambda: cpu)
        monkeypatch.setattr(probe, "features", lambda: features)
        return named.host.__wrapped__()

    masked = host_with("znver5", ("+avx", "+avx2", "+fma", "-avx512f", "-avx512vl"))
    assert (masked.cpu, masked.vector_bits, masked.vector_registers, masked.fma) == ("znver5", 256, 16, True)
    assert "-avx512f" in masked.features
    unknown = host_with("generic", named.get("x86-64-v3").features)
    assert (unknown.cpu, unknown.vector_bits) == ("x86-64-v3", 256)
    wide = host_with("generic", tuple(f for f in named.get("znver5").features if f[0] == "+"))
    assert (wide.cpu, wide.vector_bits, wide.vector_registers) == ("x86-64-v4", 512, 32)
    assert "-prefer-256-bit" in wide.features
    bare = host_with("generic", ("-fma", "-sse4.2"))
    assert (bare.cpu, bare.vector_bits, bare.fma) == ("x86-64", 128, False)


def test_widest_vector_needs_short_avx512_too() -> None:
    assert widest_vector(frozenset({"avx", "avx512f"})) == (256, 16)


def test_code_features_only() -> None:
    flags = ["+avx2", "-avx512f", "+sha", "-zu", "+64bit", "+sse4.1", "+ssse3", "+sgx", "+fsgsbase", "+fma"]
    assert probe.code_features(flags) == ("+avx2", "+fma", "+sse4.1", "+ssse3", "-avx512f", "-zu")


def test_host() -> None:
    host = named.host()
    assert host is named.get("host")
    assert host.l1_bytes >= 8 * KIB
    assert host.l2_bytes >= host.l1_bytes
    assert 1 <= host.cores <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("text", "size"), [("32K", 32 * KIB), ("8M", 8 * MIB), ("512", 512), ("", 0), ("much", 0), ("1G\n", 1024 * MIB)]
)
def test_parse_size(text: str, size: int) -> None:
    assert probe.parse_size(text) == size


def test_caches_from_the_kernel(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.os, "sysconf", lambda name: {"SC_LEVEL3_CACHE_SIZE": 5 * MIB}[name])
    for k, (level, kind, size) in enumerate([(1, "Data", "48K"), (1, "Instruction", "64K"), (2, "Unified", "2M")]):
        folder = tmp_path / f"index{k}"
        folder.mkdir()
        (folder / "level").write_text(f"{level}\n")
        (folder / "type").write_text(f"{kind}\n")
        (folder / "size").write_text(f"{size}\n")
    assert probe.cache_bytes(tmp_path) == {1: 48 * KIB, 2: 2 * MIB, 3: 5 * MIB}


def test_caches_when_nobody_knows(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.os, "sysconf", lambda name: -1)
    monkeypatch.setattr(probe, "_cpuinfo_caches", lambda found: {})
    assert probe.cache_bytes(tmp_path) == {1: 32 * KIB, 2: 256 * KIB, 3: 0}


@pytest.mark.parametrize(
    ("text", "quota"), [("max 100000", None), ("250000 100000", 2), ("50000 100000", 1), ("", None), ("1 0", None)]
)
def test_cpu_quota(tmp_path, text: str, quota: int | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(text)
    assert probe.cpu_quota(file) == quota
    assert probe.cpu_quota(tmp_path / "none") is None


@pytest.mark.parametrize(
    "machine, turned",
    [("znver5", {4: 16, 8: 8}), ("znver3", {}), ("x86-64-v2", {})],
)
def test_which_tiles_are_turned_from_whole_vectors(machine: str, turned: dict[int, int]) -> None:
    target = get(machine)
    found = {e: rows for e in (1, 2, 4, 8) for rows in range(2, 65) if turns_vectors(target, rows, e)}
    assert found == turned
