import json
import subprocess
import sys
from dataclasses import replace

import llvmlite.binding as llvm
import pytest

from tcompiler.errors import UserError
from tcompiler.target import machine as model
from tcompiler.target import named, peak, tile_peak
from tcompiler.target.machine import Machine
from tcompiler.target.target import KIB, MIB, Target

MACHINE = Machine(
    cpu="test",
    cores=3,
    capacities={"L1": 32 * KIB, "L2": 512 * KIB, "L3": 8 * MIB},
    gflops={"f32": (100.0, 280.0), "f64": (50.0, 140.0)},
    gbps={"L1": (200.0, 600.0), "L2": (100.0, 300.0), "L3": (50.0, 100.0), "DRAM": (20.0, 30.0)},
    copy_gbps={"L1": (200.0, 600.0), "L2": (100.0, 300.0), "L3": (50.0, 100.0), "DRAM": (20.0, 30.0)},
    call_seconds=1e-6,
)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_fma_peak_is_a_rate(dtype: str, threads: int) -> None:
    assert 0.0 < peak.fma_peak(dtype, threads, 0.005) < 1e5


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_tile_is_a_rate(dtype: str, threads: int) -> None:
    assert 0.0 < tile_peak.tile_peak(dtype, threads, 0.005) < 1e5


@pytest.mark.parametrize("traffic", ["read", "copy", "triad"])
def test_bandwidth_is_a_rate(traffic: peak.Traffic) -> None:
    assert 0.0 < peak.bandwidth(traffic, 16 * KIB, 1, 0.005) < 1e5
    assert 0.0 < peak.bandwidth(traffic, 16 * KIB, 2, 0.005) < 1e5


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_the_loop_uses_the_registers_and_nothing_else(name: str) -> None:
    target = named.get(name)
    text, flops = peak._fma_ir(target, "f32")
    assembly = _assembly(target, text)
    loop = [line for line in assembly.splitlines() if "vfmadd" in line or "addps" in line]
    assert sum("(%" in line for line in loop) == 0
    steps = 4 * (target.vector_registers - 4)
    assert flops == 2 * target.vector_lanes(32) * steps
    assert sum("vfmadd" in line for line in loop) == (steps if target.fma else 0)
    assert "call" not in assembly
    assert "(%rsp)" not in assembly


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_a_tile_loads_its_operands_and_keeps_its_sums(name: str) -> None:
    target = named.get(name)
    text, rows, flops = tile_peak._tile_ir(target, "f32")
    assembly = _assembly(target, text)
    assert "call" not in assembly
    assert rows == {"x86-64-v2": 5, "x86-64-v3": 6, "x86-64-v4": 14}[name]
    assert flops == 2 * 2 * rows * target.vector_lanes(32)
    if target.fma:
        assert "(%rsp)" not in assembly
        assert assembly.count("vfmadd") == 8 * 2 * rows
        # one element for each row, none of them loaded twice
        assert assembly.count("vbroadcastss") + assembly.count("{1to") == 8 * rows


def _assembly(target: Target, text: str) -> str:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.llvm_features, opt=2
    )
    return machine.emit_assembly(llvm.parse_assembly(text))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: peak.fma_peak("f16"), "the multiply-add peak of 'f16' cannot be measured; it can for f32, f64"),
        (lambda: peak.fma_peak("f32", 0), "a measurement needs at least 1 thread, found 0"),
        (lambda: tile_peak.tile_peak("f16"), "the peak of a tile of 'f16' cannot be measured; it can for f32, f64"),
        (lambda: tile_peak.tile_peak("f32", 0), "a measurement needs at least 1 thread, found 0"),
        (lambda: peak.bandwidth("read", 64 * KIB, 0), "a measurement needs at least 1 thread, found 0"),
        (lambda: peak.bandwidth("write"), "there is no traffic 'write'; there are read, copy, triad"),
        (
            lambda: peak.level_bytes(named.get("znver3"), "L4"),
            "there is no level of memory 'L4'; there are L1, L2, L3, DRAM",
        ),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert str(error.value) == message


def test_bandwidth_refuses_too_small_a_set() -> None:
    least = 8 * named.host().vector_bits // 8
    with pytest.raises(UserError) as error:
        peak.bandwidth("copy", 64)
    assert str(error.value) == f"a working set of 64 bytes is too small; take {2 * least} or more"


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("target", named.NAMED.values(), ids=lambda t: t.name)
def test_levels_hold_their_working_sets(target: Target, threads: int) -> None:
    sizes = [peak.level_bytes(target, level, threads) for level in peak.LEVELS]
    assert sizes[0] <= target.l1_bytes < sizes[1] <= target.l2_bytes < sizes[2]
    assert threads * sizes[3] > target.l3_bytes


def test_prints_json_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tcompiler.target.peak", "--json", "--seconds", "0.002"]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert result["threads"] == 1
    assert set(result["gflops"]) == {"f32", "f64"}
    assert {kind: set(levels) for kind, levels in result["gbps"].items()} == {
        kind: set(peak.LEVELS) for kind in ("read", "copy", "triad")
    }


def test_model_between_one_core_and_all() -> None:
    assert [MACHINE.peak_gflops("f32", n) for n in (1, 2, 3, 64)] == [100.0, 190.0, 280.0, 280.0]
    assert MACHINE.peak_gbps("DRAM", 2) == 25.0
    assert replace(MACHINE, cores=1).peak_gflops("f64", 4) == 50.0


def test_model_levels() -> None:
    assert [MACHINE.level_of(n) for n in (1, 32 * KIB, 32 * KIB + 1, MIB, 8 * MIB, 9 * MIB)] == [
        "L1", "L1", "L2", "L3", "L3", "DRAM",
    ]  # fmt: skip
    assert MACHINE.level_of(4 * MIB, threads=3) == "DRAM"


def test_limit_is_the_slowest_roof() -> None:
    assert MACHINE.limit(1e9, {}) == (1e9 / 100e9, "compute")
    assert MACHINE.limit(1e9, {"L1": 1e9, "DRAM": 1e9}) == (1e9 / 20e9, "DRAM")
    assert MACHINE.limit(1e9, {"L1": 1e9}, "f64", 3) == (1e9 / 140e9, "compute")
    assert MACHINE.limit(10, {"L1": 10.0}) == (1e-6, "latency")


def test_what_does_not_fit_comes_from_beyond() -> None:
    assert MACHINE.traffic(100, 16 * KIB) == {"L1": 100, "L2": 0, "L3": 0, "DRAM": 0}
    assert MACHINE.traffic(100, 64 * KIB) == {"L1": 100, "L2": 50, "L3": 0, "DRAM": 0}
    assert MACHINE.traffic(100, 64 * KIB, threads=2) == {"L1": 100, "L2": 0, "L3": 0, "DRAM": 0}
    assert MACHINE.traffic(100, 16 * MIB, threads=3)["DRAM"] == 50
    assert MACHINE.traffic(100, 1 * MIB, threads=64)["L3"] == 0
    assert MACHINE.traffic(0, 0) == {"L1": 0, "L2": 0, "L3": 0, "DRAM": 0}


def test_a_call_takes_some_time() -> None:
    assert 1e-9 < peak.call_seconds(0.002) < 1e-2


def test_measurements_are_kept(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCOMPILER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(peak, "fma_peak", lambda dtype, threads, seconds: 10.0 * threads)
    monkeypatch.setattr(peak, "bandwidth", lambda traffic, size, threads, seconds: 10.0 / threads)
    first = model.measure()
    file = model.cache_file(named.host())
    assert file.parent == tmp_path / "machines"
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    monkeypatch.setattr(peak, "fma_peak", None)
    assert model.measure() == first
    assert first.gflops["f32"] == (10.0, 10.0 * named.host().cores)
    assert first.gbps["L1"] == (10.0, 10.0)


def test_measurements_need_no_place_to_be_kept(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TCOMPILER_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(peak, "fma_peak", lambda dtype, threads, seconds: 10.0)
    monkeypatch.setattr(peak, "bandwidth", lambda traffic, size, threads, seconds: 10.0)
    assert model.measure().peak_gflops("f32") == 10.0


def test_measuring_again_keeps_the_better_of_each(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCOMPILER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(peak, "bandwidth", lambda traffic, size, threads, seconds: 7.0 if traffic == "copy" else 3.0)
    monkeypatch.setattr(peak, "fma_peak", lambda dtype, threads, seconds: 10.0)
    monkeypatch.setattr(peak, "call_seconds", lambda seconds: 3e-7)
    model.measure()
    monkeypatch.setattr(peak, "bandwidth", lambda traffic, size, threads, seconds: 5.0)
    monkeypatch.setattr(peak, "fma_peak", lambda dtype, threads, seconds: 12.0 if dtype == "f32" else 2.0)
    monkeypatch.setattr(peak, "call_seconds", lambda seconds: 2e-7)
    again = model.measure(again=True)
    assert again == model.measure()
    assert dict(again.gflops) == {"f32": (12.0, 12.0), "f64": (10.0, 10.0)}
    assert set(again.gbps.values()) == {(5.0, 5.0)} and set(again.copy_gbps.values()) == {(7.0, 7.0)}
    assert again.call_seconds == 2e-7


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("100.0", "900.0"),
        lambda text: text.replace(f'"format": {model.FORMAT}', '"format": 0'),
        lambda text: "[]",
        lambda text: json.dumps({"format": model.FORMAT}),
        lambda text: "\x00",
    ],
)
def test_damaged_measurements_are_not_believed(tmp_path, damage) -> None:
    file = tmp_path / "m.json"
    model.write(file, MACHINE)
    assert model.read(file) == MACHINE
    file.write_text(damage(file.read_text()))
    assert model.read(file) is None


def test_unreadable_bytes_are_not_believed(tmp_path) -> None:
    file = tmp_path / "m.json"
    file.write_bytes(b"\xff\xfe\x00{")
    assert model.read(file) is None
