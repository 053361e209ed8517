"""Figures, comparisons, drawings and pages of `inspect`."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tcompiler.cli.app import app
from tcompiler.cli.report import facts
from tcompiler.cli.report.compare import abbreviated, compare
from tcompiler.cli.report.drawing import draw_graph
from tcompiler.cli.report.layers import Wire, arrange, separated
from tcompiler.cli.report.listings import annotated, kernel_loops, target_of
from tcompiler.cli.report.markup import Html, duration, escape, quantity, shortened, tag
from tcompiler.cli.report.roofline import draw_roofline
from tcompiler.errors import UserError
from tcompiler.ir.graph.text import parse_graph
from tcompiler.pipeline import PASS_NAMES
from tcompiler.runtime.manifest import TargetEntry
from tcompiler.runtime.model import Model
from tcompiler.runtime.specialised import load_model
from tcompiler.target import machine
from tcompiler.target.machine import Machine
from tcompiler.target.named import get, host
from tests.cli import hostile_page

KIB = 1024
MACHINE = Machine(
    cpu="test",
    cores=2,
    capacities={"L1": 32 * KIB, "L2": 512 * KIB, "L3": 4096 * KIB},
    gflops={"f32": (100.0, 200.0), "f64": (50.0, 100.0)},
    gbps={"L1": (200.0, 400.0), "L2": (100.0, 200.0), "L3": (50.0, 100.0), "DRAM": (20.0, 30.0)},
    copy_gbps={"L1": (200.0, 400.0), "L2": (100.0, 200.0), "L3": (50.0, 100.0), "DRAM": (20.0, 30.0)},
    call_seconds=1e-6,
)


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "measure", lambda again=False: MACHINE)


def invoke(*arguments: str) -> Result:
    """Runs a command that must succeed."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("inspect") / "mlp.tcm")
    invoke("compile", "example:mlp", "-o", path)
    return path


@pytest.fixture(scope="module")
def model(saved: str) -> Model:
    loaded = load_model(saved, 1)
    assert isinstance(loaded, Model)
    return loaded


def test_limits_are_the_roofs(model: Model) -> None:
    rows = {r.name: r for r in facts.kernel_facts(model, MACHINE, None)}
    flops = {r.name: r.executed_flops for r in rows.values()}
    # 784·512·32 multiply-adds and what follows, at 100 GFLOP/s: longer than reading 1.6 MB from the L3 cache.
    first = rows["gemm_relu_0"]
    assert (first.bound, first.limit) == ("compute", flops["gemm_relu_0"] / 100e9)
    slow = replace(MACHINE, gbps={**MACHINE.gbps, "L3": (1.0, 1.0)})
    first = {r.name: r for r in facts.kernel_facts(model, slow, None)}["gemm_relu_0"]
    weights = (784 * 512 + 512) * 4
    values = (32 * 784 + 32 * 512) * 4
    beyond = weights * (1 - 512 * KIB / model.manifest["constants_bytes"])
    assert first.bytes == weights + values
    assert first.bound == "L3"
    # What moves beside the weights fits the L2 cache only together with them.
    moving = values * max(0.0, 1 - 512 * KIB / (weights + values))
    assert first.limit == pytest.approx((beyond + moving) / 1e9)


def test_a_tiny_kernel_is_bound_by_its_call(model: Model) -> None:
    rows = facts.kernel_facts(model, replace(MACHINE, call_seconds=1.0), None)
    assert {(r.bound, r.limit) for r in rows} == {("latency", 1.0)}


def test_predicted_times_are_those_of_the_schedules(model: Model) -> None:
    rows = {r.name: r for r in facts.kernel_facts(model, MACHINE, None)}
    for row in rows.values():
        # At the peak or slower; and a schedule that is bound by computing runs at a fair part of it.
        assert row.predicted is not None and row.executed_flops / 100e9 <= row.predicted * 1.01
    assert rows["gemm_relu_0"].predicted < 2 * rows["gemm_relu_0"].executed_flops / 100e9
    slow = facts.kernel_facts(model, replace(MACHINE, call_seconds=1.0), None)
    assert {r.predicted for r in slow} == {1.0}
    fast = {r.name: r for r in facts.kernel_facts(model, replace(MACHINE, gflops={"f32": (200.0, 400.0)}), None)}
    assert fast["gemm_relu_0"].predicted < rows["gemm_relu_0"].predicted


def test_without_its_schedule_nothing_is_predicted(model: Model) -> None:
    texts = {k: v for k, v in model.artifact.texts.items() if not k.startswith("scheduled/")}
    bare = Model(replace(model.artifact, texts=texts), 1)
    rows = facts.kernel_facts(bare, MACHINE, None)
    assert {r.predicted for r in rows} == {None}
    assert facts.totals(rows).predicted is None


def test_times_belong_to_their_kernels(model: Model) -> None:
    symbols = [call["kernel"] for call in model.manifest["calls"]]
    seconds = [float(k + 1) for k in range(len(symbols))]
    rows = facts.kernel_facts(model, MACHINE, seconds)
    assert {r.symbol: r.seconds for r in rows} == dict(zip(symbols, seconds, strict=True))
    assert [r.seconds for r in rows] == sorted(seconds, reverse=True)
    assert sum(r.share(sum(seconds)) or 0.0 for r in rows) == pytest.approx(1.0)


def test_kernels_of_one_code_are_one_row(model: Model) -> None:
    manifest = json.loads(json.dumps(model.manifest))
    manifest["kernels"].append(manifest["kernels"][0] | {"name": "twin"})
    manifest["calls"].append(manifest["calls"][0])
    twice = Model(replace(model.artifact, manifest=manifest), 1)
    rows = {r.name: r for r in facts.kernel_facts(twice, MACHINE, [1.0] * 4)}
    row = rows["gemm_relu_0"]
    assert (row.aliases, row.calls, row.seconds) == (("twin",), 2, 2.0)
    assert row.flops == 2 * manifest["kernels"][0]["flops"]
    assert len(rows) == 3


def _column(text: str, index: int) -> list[str]:
    rows = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    return [row[index + 1].strip() for row in rows]


@pytest.mark.parametrize(("key", "column"), [("flops", 2), ("executed", 3), ("bytes", 4), ("limit", 5), ("time", 7)])
def test_the_table_is_sorted(saved: str, key: str, column: int) -> None:
    *values, total = map(float, _column(invoke("inspect", saved, "--sort", key).stdout, column))
    assert values == sorted(values, reverse=True)
    # the column has two digits of each number
    assert total == pytest.approx(sum(values), rel=0.05)


def test_a_file_name_that_is_no_text_is_shown(saved: str, tmp_path: Path) -> None:
    odd = tmp_path / "m\udcff\x1b[31m.tcm"
    odd.write_bytes(Path(saved).read_bytes())
    result = invoke("inspect", str(odd), "--no-profile")
    assert r"m\udcff\u001b[31m.tcm" in result.stdout
    invoke("inspect", str(odd), "--no-profile", "--html", str(tmp_path / "page.html"))
    assert r"m\udcff\u001b[31m.tcm" in (tmp_path / "page.html").read_text()


def test_kernels_faster_than_the_machine_have_it_measured_again(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def measure(again: bool = False) -> Machine:
        asked.append(again)
        return replace(MACHINE, call_seconds=0.0 if again else 1000.0)

    monkeypatch.setattr(machine, "measure", measure)
    result = json.loads(invoke("inspect", saved, "--json").stdout)
    assert asked == [False, True]
    assert all(k["bound"] != "latency" for k in result["kernels"])


@pytest.mark.parametrize("width", [60, 70, 80, 100])
def test_a_narrow_window_shows_names_and_times(saved: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    text = re.sub(r"\x1b\[[\d;]*m", "", invoke("inspect", saved, "--sort", "name").stdout)
    assert max(map(len, text.splitlines())) <= width
    assert _column(text, 0) == ["gemm_2", "gemm_relu_0", "gemm_relu_1", "total"]
    head = [cell.strip() for cell in next(line for line in text.splitlines() if "kernel" in line).split("┃")]
    assert {"kernel", "limit ms", "ms", "share", "of limit"} <= set(head)
    assert ("no room for executed" in text) == ("executed" not in head)


def test_without_profile_nothing_is_timed(saved: str) -> None:
    result = invoke("inspect", saved, "--no-profile", "--sort", "name")
    assert _column(result.stdout, 0) == ["gemm_2", "gemm_relu_0", "gemm_relu_1", "total"]
    assert set(_column(result.stdout, 7)) == {""}


def test_names_are_sorted_by_number() -> None:
    row = facts.KernelFacts("", (), "", 1, 0, 0, 0, 0.0, "compute", None)
    names = ["conv_10", "conv_9", "a", "conv_x", "conv_1"]
    rows = facts.sort_rows([replace(row, name=n) for n in names], "name")
    assert [r.name for r in rows] == ["a", "conv_1", "conv_9", "conv_10", "conv_x"]


def test_json_says_the_same(saved: str) -> None:
    result = json.loads(invoke("inspect", saved, "--json", "--threads", "1").stdout)
    assert (result["model"], result["threads"], result["total"]["calls"]) == (saved, 1, 3)
    assert sum(k["share"] for k in result["kernels"]) == pytest.approx(1.0)
    for key in ("flops", "executed_flops", "bytes", "limit", "seconds", "predicted"):
        assert sum(k[key] for k in result["kernels"]) == pytest.approx(result["total"][key])
    for kernel in result["kernels"]:
        assert kernel["attained"] == pytest.approx(kernel["limit"] / kernel["seconds"])
        assert kernel["bound"] in facts.BOUNDS.values()


def test_a_listing_is_annotated(saved: str, model: Model) -> None:
    listing = invoke("inspect", saved, "--stage", "asm", "--kernel", "gemm_relu_0").stdout
    lines = listing.rstrip("\n").split("\n")
    notes = [line for line in lines if line.startswith("\t# ")]
    plain = [line.removesuffix("\t# spill") for line in lines if not line.startswith("\t# ")]
    assert "\n".join(plain) == model.text("asm", "gemm_relu_0").rstrip("\n")
    loops = {loop.label: loop for loop in kernel_loops(model, "gemm_relu_0")}
    assert len(notes) == 2 * len(loops)
    tile = max(loops.values(), key=lambda loop: loop.flops)
    assert tile.fma > 0 and tile.depth >= 2
    assert any(note.startswith(f"\t# inner loop {tile.label}, depth {tile.depth}: ") for note in notes)


def test_json_has_the_inner_loops(saved: str, model: Model) -> None:
    kernels = json.loads(invoke("inspect", saved, "--json", "--no-profile", "--threads", "1").stdout)["kernels"]
    for kernel in kernels:
        assert kernel["loops"] == [loop.to_json() for loop in kernel_loops(model, kernel["name"])]
        assert kernel["loops"]


def test_a_listing_of_another_machine_is_left_alone() -> None:
    entry = TargetEntry(triple="aarch64-unknown-linux-gnu", cpu="neoverse-n1", features=["+neon"])
    assert annotated("f:\n\tb f\n", entry) == "f:\n\tb f\n"


def test_the_target_of_a_saved_model() -> None:
    for target in (host(), get("skylake-avx512"), get("x86-64-v2")):
        entry = TargetEntry(triple=target.triple, cpu=target.cpu, features=list(target.features))
        found = target_of(entry)
        assert replace(found, name=target.name, cores=1) == replace(target, cores=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "inspect {saved} --sort tme",
            '--sort "tme": expected one of time, limit, flops, executed, bytes, calls, attained, name; '
            "did you mean time?",
        ),
        (
            "inspect {saved} --stage schedule",
            "no stage 'schedule' (did you mean 'scheduled'?); this model keeps: imported, graph, expr, loop, "
            "scheduled, trace, llvm, asm",
        ),
        (
            "inspect {saved} --kernel gem_2",
            "stage 'scheduled' has no kernel 'gem_2' (did you mean 'gemm_2'?); it has: gemm_relu_0, gemm_relu_1, "
            "gemm_2",
        ),
        ("inspect {saved} --html {tmp}/none/page.html", "cannot write {tmp}/none/page.html: No such file or directory"),
        ("inspect {saved} --html {tmp}", "cannot write {tmp}: Is a directory"),
        (
            "inspect {saved} --html {tmp}/x.html --stage expr",
            "--html is a page of all stages, --stage and --kernel print one, --json prints the table: give one of them",
        ),
    ],
)
def test_what_is_wrong_is_said(arguments: str, message: str, saved: str, tmp_path: Path) -> None:
    words = [word.format(tmp=tmp_path, saved=saved) for word in arguments.split()]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == message.format(tmp=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_page_of_a_saved_model_says_what_it_lacks(saved: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    assert f"wrote {page}: " in invoke("inspect", saved, "--html", str(page), "--no-profile").stderr.replace("\n", "")
    text = page.read_text()
    assert "A saved model keeps the graph as it was imported and as it was after the last pass" in text
    assert "The kernels were not measured. There is nothing to plot." in text
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert text.count('<table class="loops">') == 3
    assert text.startswith("<!DOCTYPE html>\n<html lang=") and text.endswith("</html>\n")


def test_the_page_of_a_model_has_every_pass(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    invoke("inspect", hostile_page.save(tmp_path), "--html", str(page))
    names = re.findall(r'<span class="name">([^<]*)</span>', page.read_text())
    assert names == [*PASS_NAMES, "compose", "lower", "schedule", "llvm", "prepare", "plan"]


def test_a_page_loads_nothing_and_escapes_everything(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    invoke("inspect", hostile_page.save(tmp_path), "--html", str(page), "--no-profile")
    text = page.read_text()
    assert not re.search(r"""(src|href|action|data)=["'](?!#)""", text.replace("\\", ""))
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", text)
    tags = set(re.findall(r"<([a-zA-Z][\w-]*)", re.sub(r"<script[^>]*>.*?</script>|<style>.*?</style>", "", text)))
    assert not tags & {"img", "iframe", "object", "embed", "link", "base", "form", "foreignObject"}
    for name in (hostile_page.INPUT, *hostile_page.OUTPUTS, hostile_page.FILE):
        assert name not in text
    assert hostile_page.INPUT in unescape(text)


def test_markup_is_escaped_by_construction() -> None:
    made = tag("a", "<b>", Html("<i></i>"), [None, "&", ["'"]], title='"<', _class="x", hidden=True, id=None)
    assert made == '<a title="&quot;&lt;" class="x" hidden>&lt;b&gt;<i></i>&amp;&#x27;</a>'
    assert tag("meta", name="n", content="c") == '<meta name="n" content="c">'
    assert escape("a\x00\u202e\udc80\u2028\n\té") == r"a\u0000\u202e\udc80\u2028" + "\n\té"
    assert shortened("abcdef", 4) == "abc…" and shortened("abcd", 4) == "abcd"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 B"), (7, "7.00 B"), (999, "999 B"), (46788032, "46.8 MB"), (1.5e9, "1.50 GB"), (3e15, "3000 TB")],
)
def test_quantities(value: float, shown: str) -> None:
    assert quantity(value, "B") == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 ns"), (4.41e-7, "441 ns"), (1.234e-5, "12.3 µs"), (0.0712, "71.2 ms"), (83, "83.0 s")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def _cells(table: Html) -> list[list[str]]:
    body = table.split("<tbody>")[1]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
    return [
        [unescape(re.sub(r"<[^>]*>", "", c)) for c in re.findall(r"<td[^>]*>(.*?)</td>", r, re.DOTALL)] for r in rows
    ]


def test_equal_texts_are_unchanged() -> None:
    assert compare("a\n", "a\n") == compare("", "")
    assert compare("a\n", "a\n").note == "(unchanged)"


def test_lines_that_define_one_name_stand_side_by_side() -> None:
    before = "    a: f32[2] = relu(x)\n    b: f32[2] = relu(a)\n    return b\n"
    after = "    n: f32[2] = exp(x)\n    m: f32[2] = exp(n)\n    b: f32[2] = relu(m)\n    return b\n"
    result = compare(before, after)
    assert result.table is not None and (result.removed, result.added) == (2, 3)
    rows = _cells(result.table)
    assert ["2", "    b: f32[2] = relu(a)", "3", "    b: f32[2] = relu(m)"] in rows
    assert "relu(<mark>a</mark>)" in result.table and "relu(<mark>m</mark>)" in result.table
    assert ["", "", "1", "    n: f32[2] = exp(x)"] in rows


def test_a_comparison_loses_no_line() -> None:
    rng = random.Random(3)
    for _ in range(60):
        before = [f"v{rng.randrange(9)}: f({rng.randrange(3)}) <b>" for _ in range(rng.randrange(30))]
        after = [line for line in before if rng.random() < 0.8]
        for _ in range(rng.randrange(4)):
            after.insert(rng.randrange(len(after) + 1), f"v{rng.randrange(9)}: g()")
        result = compare("".join(f"{x}\n" for x in before), "".join(f"{x}\n" for x in after))
        if result.table is None:
            assert before == after
            continue
        left: dict[int, str] = {}
        right: dict[int, str] = {}
        for kind, row in zip(
            re.findall(r"<tr( [^>]*)?>", result.table.split("<tbody>")[1]), _cells(result.table), strict=True
        ):
            if len(row) == 1:
                a, b, count = (int(n) for n in re.findall(r'data-\w="(\d+)"', kind))
                for k in range(count):
                    assert before[a + k - 1] == after[b + k - 1]
                    left[a + k], right[b + k] = before[a + k - 1], after[b + k - 1]
            else:
                left |= {int(row[0]): row[1]} if row[0] else {}
                right |= {int(row[2]): row[3]} if row[2] else {}
        assert [left[k + 1] for k in range(len(before))] == before and len(left) == len(before)
        assert [right[k + 1] for k in range(len(after))] == after and len(right) == len(after)


def test_digests_are_cut() -> None:
    digest = "0123456789abcdef" * 4
    assert abbreviated(f'c = const("{digest}", f32[3])') == 'c = const("0123456789ab…", f32[3])'


def test_separated_is_the_nearest_arrangement() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 2, 5, 40):
        desired, weights = rng.normal(0, 30, size), rng.uniform(0.1, 3, size)
        gaps = rng.uniform(1, 20, max(0, size - 1))
        x = np.array(separated(desired.tolist(), weights.tolist(), gaps.tolist()))
        assert (np.diff(x) >= gaps - 1e-9).all()
        # Optimal: no block of touching neighbours gains by moving, as a whole or split anywhere.
        edges = np.flatnonzero(np.diff(x) > gaps + 1e-9) + 1
        pull = weights * (desired - x)
        for block in np.split(pull, edges):
            assert abs(block.sum()) < 1e-6
            assert (np.cumsum(block)[:-1] >= -1e-6).all()


def test_drawings_have_no_overlaps_and_wires_run_down() -> None:
    rng = random.Random(7)
    for count in (1, 2, 9, 60):
        names = [f"n{k}" for k in range(count)]
        sizes = {n: (rng.uniform(30, 200), rng.uniform(20, 90)) for n in names}
        wires = [
            Wire(names[k], tuple(sorted(set(rng.sample(names[k + 1 :], min(count - k - 1, rng.randrange(1, 4)))))))
            for k in range(count - 1)
            if rng.random() < 0.9
        ]
        drawing = arrange(sizes, wires)
        assert drawing is not None
        boxes = {n: (*drawing.places[n], *sizes[n]) for n in names}
        for k, a in enumerate(names):
            ax, ay, aw, ah = boxes[a]
            assert ax >= 0 and ax + aw <= drawing.width and ay >= 0 and ay + ah <= drawing.height
            for b in names[k + 1 :]:
                bx, by, bw, bh = boxes[b]
                assert ax + aw <= bx + 1e-6 or bx + bw <= ax + 1e-6 or ay + ah <= by + 1e-6 or by + bh <= ay + 1e-6
        assert {(wires[r.wire].source, r.target) for r in drawing.routes} == {
            (w.source, t) for w in wires for t in w.targets
        }
        for route in drawing.routes:
            x, y, w, _ = boxes[route.target]
            end_x, end_y = route.points[-1]
            assert end_y == pytest.approx(y) and x <= end_x <= x + w
            assert all(b[1] >= a[1] - 1e-9 for a, b in pairwise(route.points))
            for start, end in zip(route.points[::2], route.points[1::2], strict=True):
                assert start[0] == end[0]
                for name, (bx, by, bw, bh) in boxes.items():
                    inside = bx < start[0] < bx + bw and start[1] < by + bh - 1e-6 and by + 1e-6 < end[1]
                    assert not inside, f"{wires[route.wire].source} → {route.target} runs through {name}"


def test_a_chain_is_drawn_straight() -> None:
    names = [f"n{k}" for k in range(200)]
    wires = [Wire(a, (b,)) for a, b in pairwise(names)]
    drawing = arrange(dict.fromkeys(names, (100.0, 30.0)), wires)
    assert drawing is not None
    assert {round(x, 3) for x, _ in drawing.places.values()} == {16.0}
    empty = arrange({}, ())
    assert empty is not None and empty.width > 0


def test_what_would_take_too_long_is_not_drawn() -> None:
    names = [f"n{k}" for k in range(300)]
    far = [Wire(a, (names[-1],)) for a in names[:-1]]
    assert arrange(dict.fromkeys(names, (9.0, 9.0)), far + [Wire(a, (b,)) for a, b in pairwise(names)]) is None
    assert arrange({str(k): (9.0, 9.0) for k in range(40_000)}, ()) is None


def test_a_graph_is_drawn_with_a_link_for_each_call(model: Model) -> None:
    rows = facts.kernel_facts(model, MACHINE, [0.1, 0.2, 0.3])
    picture = draw_graph(parse_graph(model.text("graph")), model.manifest["calls"], rows, [0.1, 0.2, 0.3])
    assert picture is not None
    links = [int(k) for k in re.findall(r'href="#kernel-(\d+)"', picture)]
    assert [rows[k].symbol for k in links] == [call["kernel"] for call in model.manifest["calls"]]
    assert re.findall(r'class="note"[^>]*>([^<]*)<', picture)[1:4] == ["100 ms", "200 ms", "300 ms"]


def test_a_graph_without_nodes_is_drawn() -> None:
    text = '@graph\ndef g(x: tensor(f32[2], label="<x>")):\n    return output(x, label="&y")\n'
    picture = draw_graph(parse_graph(text), [], [], None)
    assert picture is not None and "&lt;x&gt;" in picture and "&amp;y" in picture


def test_a_roofline_has_a_point_for_each_kernel_that_computes() -> None:
    row = facts.KernelFacts("k", (), "s", 1, 100, 100, 50, 1e-9, "compute", 1e-6)
    rows = [row, replace(row, executed_flops=0), replace(row, seconds=None), replace(row, executed_flops=10**12)]
    plot = draw_roofline(rows, MACHINE, 1)
    assert plot is not None
    assert [int(k) for k in re.findall(r'href="#kernel-(\d+)"', plot)] == [0, 3]
    for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', plot):
        assert 0 <= float(x) <= 960
        assert -400 <= float(y) <= 500
    assert draw_roofline([rows[1]], MACHINE, 1) is None
    assert draw_roofline([], MACHINE, 1) is None
