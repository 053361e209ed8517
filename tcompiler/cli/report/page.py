"""One self-contained page about a compiled model: no script, font or picture is loaded from anywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import IO

import llvmlite
import numpy as np

from tcompiler.cli.report.compare import Comparison, abbreviated, compare
from tcompiler.cli.report.drawing import draw_graph, kernel_hues
from tcompiler.cli.report.facts import BOUNDS, KernelFacts, totals
from tcompiler.cli.report.markup import Child, Html, duration, join, quantity, tag
from tcompiler.cli.report.passes import PassRecord
from tcompiler.cli.report.roofline import draw_roofline
from tcompiler.ir.graph.grammar import Graph
from tcompiler.ir.graph.text import parse_graph
from tcompiler.runtime.assembly import assembly
from tcompiler.runtime.manifest import TensorEntry
from tcompiler.runtime.model import Model
from tcompiler.runtime.package import write_file
from tcompiler.target.machine import Machine

_TEXT_LIMIT = 1_500_000
"""Characters of a text that is put into the page; a longer one is left out, with a note."""
_PAGE_LIMIT = 9_000_000
"""Bytes of packed texts in the page; when they are used up, later kernels' long stages are left out."""
_STAGES = ("expr", "loop", "scheduled", "trace", "llvm", "asm")


@dataclass(frozen=True, slots=True)
class Report:
    """What the page is made of.

    Args:
        name: The model as the user named it.
        model: The compiled model.
        machine: Measured peaks.
        rows: The kernels' figures, in the order of the page.
        call_seconds: The time of each step, if it was measured.
        passes: The passes that ran; None for a saved model, which does not keep them.
    """

    name: str
    model: Model
    machine: Machine
    rows: Sequence[KernelFacts]
    call_seconds: Sequence[float] | None
    passes: Sequence[PassRecord] | None


def write_page(report: Report, path: str | os.PathLike[str]) -> int:
    """Writes the page: first beside the file, then renamed.

    Returns:
        Its size in bytes.

    Raises:
        UserError: The file cannot be written.
    """
    content = render(report).encode()

    def write(file: IO[bytes]) -> None:
        file.write(content)

    write_file(path, write)
    return len(content)


def render(report: Report) -> str:
    """The page's text."""
    style = _file("style.css") + kernel_hues(len(report.rows))
    script = _file("script.js")
    # Nothing may be loaded or run but these two texts, not even if markup from a model slipped through.
    policy = f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; "
    policy += "form-action 'none'"
    graph = _graph(report.model)
    title = f"{report.name} – tcompiler"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(style)),
    )
    body = tag(
        "body",
        _header(report),
        tag(
            "main",
            _summary(report),
            _graph_section(report, graph),
            _table_section(report),
            _roofline_section(report),
            _passes_section(report),
            _kernel_sections(report),
        ),
        tag("script", Html(script)),
    )
    return "<!DOCTYPE html>\n" + tag("html", head, "\n", body, lang="en") + "\n"


def _file(name: str) -> str:
    return files("tcompiler.cli.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _graph(model: Model) -> Graph | None:
    """The graph after the last pass."""
    text = model.artifact.texts.get("graph")
    return None if text is None else parse_graph(text)


def _section(anchor: str, heading: str, *children: Child) -> Html:
    return tag("section", tag("h2", heading), children, id=anchor)


def _header(report: Report) -> Html:
    links = (("graph", "Graph"), ("kernels", "Kernels"), ("roofline", "Roofline"), ("passes", "Passes"))
    return tag(
        "header",
        tag("h1", tag("bdi", report.name)),
        tag("nav", (tag("a", label, href=f"#{anchor}") for anchor, label in links), aria_label="Sections"),
        tag("button", "◐", id="theme", type="button", title="Light or dark", aria_label="Light or dark"),
    )


def _summary(report: Report) -> Html:
    manifest, total = report.model.manifest, totals(report.rows)
    target, machine = manifest["target"], report.machine
    peak = machine.peak_gflops("f32", report.model.threads)
    time = "not measured" if total.seconds is None else duration(total.seconds)
    tiles = [
        ("time of a call", time, f"limit {duration(total.limit)}" + _attained(total.limit, total.seconds)),
        ("operations", quantity(total.flops, "FLOP"), f"executed {quantity(total.executed_flops, 'FLOP')}"),
        ("least traffic", quantity(total.bytes, "B"), "every kernel’s operands and results"),
        ("kernels", str(len(report.rows)), f"{total.calls} calls in a call of the model"),
        (
            "arena",
            quantity(manifest["arena_bytes"], "B"),
            _arena(manifest["arena_bytes"], manifest["arena_lower_bound"]),
        ),
        (
            "constants",
            quantity(manifest["constants_bytes"], "B"),
            f"arrays: {len(manifest['constants'])}; scratch {quantity(manifest['scratch_bytes'], 'B')} per thread",
        ),
    ]
    if total.seconds and total.flops:
        speed = total.flops / total.seconds
        part = f"{speed / 1e9 / peak:.0%} of the peak, {peak:.0f} GFLOP/s"
        tiles.insert(1, ("speed", quantity(speed, "FLOP/s"), part))
    facts = [
        ("target", f"{target['cpu']} ({target['triple']})"),
        ("threads", str(report.model.threads)),
        ("compiler", f"tcompiler {manifest['compiler_version']}"),
        ("versions", _versions()),
        ("inputs", _tensors(manifest["inputs"])),
        ("outputs", _tensors(manifest["outputs"])),
    ]
    cards = (
        tag("div", tag("dt", label), tag("dd", value, tag("small", note)), _class="tile")
        for label, value, note in tiles
    )
    lines = (tag("div", tag("dt", label), tag("dd", value)) for label, value in facts)
    return tag("section", tag("dl", cards, _class="tiles"), tag("dl", lines, _class="facts"), id="summary")


def _attained(limit: float, seconds: float | None) -> str:
    return f", {limit / seconds:.0%} attained" if seconds else ""


def _arena(size: int, bound: int) -> str:
    return "at its lower bound" if size == bound else f"lower bound {quantity(bound, 'B')}"


def _versions() -> str:
    llvm = ".".join(map(str, llvmlite.binding.llvm_version_info))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"LLVM {llvm}, llvmlite {llvmlite.__version__}, numpy {np.__version__}, {python}, {platform.system()}"


def _tensors(entries: Sequence[TensorEntry]) -> Html:
    shown = [tag("code", tag("bdi", e["name"]), f": {e['dtype']}{e['shape']}") for e in entries[:40]]
    if len(entries) > 40:
        shown.append(Html(f"… {len(entries) - 40} more"))
    return join(part for k, piece in enumerate(shown) for part in ((", ", piece) if k else (piece,)))


def _graph_section(report: Report, graph: Graph | None) -> Html:
    picture = None
    if graph is not None:
        picture = draw_graph(graph, report.model.manifest["calls"], report.rows, report.call_seconds)
    if picture is None:
        why = "The model keeps no graph." if graph is None else "The graph is too large for a picture."
        return _section("graph", "Graph", tag("p", f"{why} It is not drawn."))
    options = [("kernel", "kernel"), ("time", "share of the time")] if report.call_seconds else [("kernel", "kernel")]
    tools = tag(
        "div",
        tag("button", "−", type="button", data_zoom="out", aria_label="Smaller"),
        tag("button", "+", type="button", data_zoom="in", aria_label="Larger"),
        tag("button", "1:1", type="button", data_zoom="one"),
        tag("button", "width", type="button", data_zoom="width"),
        tag("button", "all", type="button", data_zoom="all"),
        tag(
            "label",
            "colour by ",
            tag("select", (tag("option", label, value=value) for value, label in options), id="colour"),
        ),
        tag(
            "input", type="search", id="find", placeholder="find an operator or kernel", aria_label="Find in the graph"
        ),
        tag("output", id="found"),
        _class="tools",
    )
    note = (
        "A card is one call of a kernel, with its operators and the shapes that they make; one colour is one kernel. "
        "A dashed box makes no kernel: it is the same memory in another shape. Click a card for its kernel; rest on "
        "a wire or an operator to read it. Drag to move, Ctrl and the wheel to zoom."
    )
    view = tag("div", picture, _class="viewport", tabindex=0, data_colour="kernel", aria_label="The graph, scrollable")
    return _section("graph", "Graph", tag("p", note, _class="note"), tools, view)


_COLUMNS = (
    ("kernel", "Kernel", ""),
    ("calls", "Calls", "calls of the kernel in one call of the model; all figures are sums over them"),
    ("flops", "MFLOP", "operations that the operators’ definitions ask for"),
    ("executed", "Executed", "operations that the schedule does, in MFLOP"),
    ("bytes", "MB", "the least traffic: operands and results once"),
    ("limit", "Limit ms", "the time that this machine needs at least"),
    ("bound", "By", "what the limit is due to"),
    ("seconds", "ms", "the time measured, kernel by kernel"),
    ("share", "Share", "part of the whole time"),
    ("attained", "Of limit", "limit over time: 100% is as fast as the machine allows"),
    ("gflops", "GFLOP/s", "operations asked for, per second"),
)


def _table_section(report: Report) -> Html:
    heads = (
        tag(
            "th",
            tag("button", label, type="button", title=hint or None),
            scope="col",
            data_key=key,
            aria_sort="descending" if key == ("share" if report.call_seconds else "limit") else None,
        )
        for key, label, hint in _COLUMNS
    )
    total = totals(report.rows)
    whole = total.seconds or 0.0
    longest = max((r.seconds or 0.0 for r in report.rows), default=0.0)
    body = [_table_row(k, row, whole, longest) for k, row in enumerate(report.rows)]
    foot = tag(
        "tr",
        tag("th", "all", scope="row"),
        tag("td", str(total.calls)),
        tag("td", _mega(total.flops)),
        tag("td", _mega(total.executed_flops)),
        tag("td", _mega(total.bytes)),
        tag("td", f"{total.limit * 1e3:.3f}"),
        tag("td"),
        tag("td", "" if total.seconds is None else f"{total.seconds * 1e3:.3f}"),
        tag("td"),
        tag("td", f"{total.limit / total.seconds:.0%}" if total.seconds else ""),
        tag("td", f"{total.flops / total.seconds / 1e9:.1f}" if total.seconds else ""),
    )
    table = tag(
        "table", tag("thead", tag("tr", heads)), tag("tbody", body), tag("tfoot", foot), _class="figures", id="figures"
    )
    levels = ", ".join(
        f"{BOUNDS[name]} {report.machine.peak_gbps(name, report.model.threads):.0f} GB/s"
        for name in report.machine.gbps
    )
    note = (
        f"The limit is the longest of computing at the measured peak, moving what has to be moved at the measured "
        f"bandwidths ({levels}), and a call that does nothing ({duration(report.machine.call_seconds)}). What fits in "
        f"a cache is taken to lie there; constants only as far as all of the model’s constants fit."
    )
    return _section("kernels", "Kernels", tag("p", note, _class="note"), tag("div", table, _class="scroll"))


def _mega(value: float) -> str:
    """Millions, to two decimals or two digits."""
    scaled = value / 1e6
    return f"{scaled:.2f}" if scaled >= 1 or not scaled else f"{scaled:.2g}" if scaled >= 1e-4 else f"{scaled:.0e}"


def _table_row(k: int, row: KernelFacts, whole: float, longest: float) -> Html:
    share = row.share(whole)
    swatch = tag("i", _class=f"swatch k{k}")
    name = tag("a", swatch, row.name, href=f"#kernel-{k}")
    also = tag("small", " also ", ", ".join(row.aliases)) if row.aliases else None
    bar = None
    if row.seconds is not None and longest:
        fill = tag("rect", width=60 * row.seconds / longest, height=8, rx=2, _class="fill")
        track = tag("rect", width=60, height=8, rx=2, _class="track")
        bar = tag("svg", track, fill, _class="bar", width=60, height=8, aria_hidden="true")
        bar = join((bar, tag("span", "" if share is None else f"{share:.1%}")))

    def cell(value: float | None, text: str, extra: Html | None = None) -> Html:
        return tag("td", extra, text, data_v="" if value is None else f"{value:.9g}")

    return tag(
        "tr",
        tag("th", name, also, scope="row", data_v=row.name),
        cell(row.calls, str(row.calls)),
        cell(row.flops, _mega(row.flops)),
        cell(row.executed_flops, _mega(row.executed_flops)),
        cell(row.bytes, _mega(row.bytes)),
        cell(row.limit, f"{row.limit * 1e3:.4f}"),
        tag("td", tag("span", BOUNDS[row.bound], _class=f"bound {row.bound}"), data_v=BOUNDS[row.bound]),
        cell(row.seconds, "" if row.seconds is None else f"{row.seconds * 1e3:.4f}"),
        cell(share, "", bar),
        cell(row.attained, "" if row.attained is None else f"{row.attained:.0%}"),
        cell(row.gflops, "" if row.gflops is None else f"{row.gflops:.1f}"),
    )


def _roofline_section(report: Report) -> Html:
    plot = draw_roofline(report.rows, report.machine, report.model.threads)
    if plot is None:
        why = "The kernels were not measured." if report.call_seconds is None else "No kernel computes with floats."
        return _section("roofline", "Roofline", tag("p", f"{why} There is nothing to plot."))
    note = (
        "A point is a kernel, its area the share of the time; rest on it to read it. The flat roof is the measured "
        "peak of the multiply-add units, the slopes are the measured bandwidths of reading from each level."
    )
    without = [r for r in report.rows if not r.executed_flops]
    moved = None
    if without:
        total = totals(report.rows).seconds or 0.0
        share = sum(r.share(total) or 0.0 for r in without)
        listed = ", ".join(r.name for r in without[:12]) + (", …" if len(without) > 12 else "")
        moved = tag(
            "p", f"Without operations, and so without a point: {listed} ({share:.1%} of the time).", _class="note"
        )
    return _section("roofline", "Roofline", tag("p", note, _class="note"), tag("div", plot, _class="plot"), moved)


def _passes_section(report: Report) -> Html:
    imported = abbreviated(report.model.artifact.texts.get("imported", ""))
    if report.passes is None:
        final = abbreviated(report.model.artifact.texts.get("graph", ""))
        note = (
            "A saved model keeps the graph as it was imported and as it was after the last pass, not what each pass "
            "did: inspect the model that it was compiled from to see that."
        )
        texts = [imported, final]
        entries = [_pass("all graph passes", None, compare(imported, final, ("imported", "graph")), 0, 1)]
        return _section("passes", "Passes", tag("p", note, _class="note"), entries, _packed("texts-passes", texts))
    texts, entries = [imported], []
    for record in report.passes:
        if record.text is None:
            entries.append(_stage_pass(record))
            continue
        before = len(texts) - 1
        heads = (f"before {record.name}", f"after {record.name}")
        comparison = compare(texts[before], record.text, heads)
        if record.text != texts[before]:
            texts.append(record.text)
        entries.append(_pass(record.name, record.seconds, comparison, before, len(texts) - 1))
    note = (
        "Every pass in order, with the graph before and after it. Digests of constants are shortened. Later passes "
        "change the language: their texts are the stages of each kernel, below."
    )
    return _section("passes", "Passes", tag("p", note, _class="note"), entries, _packed("texts-passes", texts))


def _pass(name: str, seconds: float | None, comparison: Comparison, before: int, after: int) -> Html:
    """A pass with its comparison, folded; what did nothing is one line."""
    time = "" if seconds is None else duration(seconds)
    heading = tag("span", name, _class="name"), tag("span", time, _class="time")
    if comparison.table is None:
        return tag("p", heading, tag("span", comparison.note, _class="quiet"), _class="pass")
    counts = (
        tag("span", f"−{comparison.removed}", _class="minus"),
        " ",
        tag("span", f"+{comparison.added}", _class="plus"),
        " lines",
    )
    return tag(
        "details",
        tag("summary", heading, tag("span", counts)),
        tag("div", comparison.table, _class="scroll"),
        _class="pass",
        data_before=before,
        data_after=after,
    )


_MAKES = {"compose": "graph → expr", "lower": "expr → loop", "schedule": "loop → scheduled", "llvm": "scheduled → llvm"}


def _stage_pass(record: PassRecord) -> Html:
    makes = _MAKES.get(record.name)
    told: Child = "no text of its own"
    if makes:
        told = f"{makes}: side by side among ", tag("a", "the stages of each kernel", href="#stages")
    time = tag("span", duration(record.seconds), _class="time")
    return tag("p", tag("span", record.name, _class="name"), time, tag("span", told, _class="quiet"), _class="pass")


def _kernel_sections(report: Report) -> list[Html]:
    total = totals(report.rows).seconds or 0.0
    left = _PAGE_LIMIT
    parts = [tag("h2", "Stages of each kernel", id="stages")]
    for k, row in enumerate(report.rows):
        texts, missing = _stage_texts(report.model, row, left > 0)
        payload = _packed(f"texts-{k}", texts)
        left -= len(payload)
        parts.append(_kernel_section(report, k, row, total, texts, missing, payload))
    return parts


def _stage_texts(model: Model, row: KernelFacts, all_of_them: bool) -> tuple[dict[str, str], list[str]]:
    """The texts of a kernel by stage, and the stages that are too long to be put into the page."""
    kept = model.artifact.texts
    texts: dict[str, str] = {}
    missing: list[str] = []
    for stage in _STAGES:
        source = "llvm" if stage == "asm" else stage
        if f"{source}/{row.name}" not in kept:
            continue
        if stage == "asm" and ("llvm" in missing or not all_of_them):
            missing.append(stage)
            continue
        text = kept[f"{source}/{row.name}"]
        if stage == "asm":
            text = assembly(text, model.manifest["target"])
        if len(text) > _TEXT_LIMIT or (stage == "llvm" and not all_of_them):
            missing.append(stage)
        else:
            texts[stage] = text
    return texts, missing


def _kernel_section(
    report: Report,
    k: int,
    row: KernelFacts,
    total: float,
    texts: Mapping[str, str],
    missing: Sequence[str],
    payload: Html,
) -> Html:
    share = row.share(total)
    figures = [
        f"{row.calls} call{'' if row.calls == 1 else 's'}",
        quantity(row.flops, "FLOP"),
        f"executed {quantity(row.executed_flops, 'FLOP')}" if row.executed_flops != row.flops else None,
        quantity(row.bytes, "B"),
        f"limit {duration(row.limit)} ({BOUNDS[row.bound]})",
        f"measured {duration(row.seconds)}, {row.attained or 0.0:.0%} of the limit" if row.seconds else None,
        f"{share:.1%} of the time" if share is not None else None,
    ]
    also = tag("small", " also ", ", ".join(row.aliases)) if row.aliases else None
    stages = list(texts)
    left = "loop" if "loop" in texts else stages[0] if stages else ""
    right = "scheduled" if "scheduled" in texts else stages[-1] if stages else ""
    panes = (_pane(stages, chosen, side) for chosen, side in ((left, "Left"), (right, "Right")))
    command = f"tcompiler inspect {shlex.quote(report.name)} --stage STAGE --kernel {shlex.quote(row.name)}"
    note = tag("p", f"Left out for their length: {', '.join(missing)}. ", tag("code", command), _class="note")
    pairs = [
        tag("button", f"{a} → {b}", type="button", data_left=a, data_right=b)
        for a, b in pairwise(s for s in stages if s != "trace")
    ]
    if "trace" in texts and "scheduled" in texts:
        pairs.append(tag("button", "trace → scheduled", type="button", data_left="trace", data_right="scheduled"))
    content = (
        [tag("div", pairs, _class="pairs"), tag("div", panes, _class="panes")]
        if stages
        else [tag("p", "No text of it is kept.")]
    )
    return tag(
        "section",
        tag("h3", tag("i", _class=f"swatch k{k}"), row.name, also),
        tag("p", " · ".join(f for f in figures if f), _class="note"),
        note if missing else None,
        tag("details", tag("summary", "stages: ", " → ".join(stages)), content, _class="stages", data_k=k),
        payload,
        id=f"kernel-{k}",
        _class="kernel",
    )


def _pane(stages: Sequence[str], chosen: str, side: str) -> Html:
    options = (tag("option", s, selected=s == chosen) for s in stages)
    return tag(
        "div",
        tag("div", tag("select", options, aria_label=f"{side} stage"), tag("small"), _class="panehead"),
        tag("pre", tabindex=0),
        _class="pane",
    )


def _packed(anchor: str, texts: Mapping[str, str] | Sequence[str]) -> Html:
    """Texts as packed data that the page's script unpacks when they are asked for."""
    data = gzip.compress(json.dumps(texts).encode(), 9, mtime=0)
    return tag("script", Html(base64.b64encode(data).decode()), type="application/octet-stream", id=anchor)
