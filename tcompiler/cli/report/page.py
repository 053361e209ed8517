"""One self-contained page about a compiled model: no script, font or picture is loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import IO

import llvmlite
import numpy as np

from tcompiler.cli.report.drawing import draw_graph, kernel_hues
from tcompiler.cli.report.facts import BOUNDS, KernelFacts, totals
from tcompiler.cli.report.markup import Html, duration, join, quantity, section, tag
from tcompiler.cli.report.passes import PassRecord, passes_section
from tcompiler.cli.report.roofline import draw_roofline
from tcompiler.cli.report.stages import kernel_sections
from tcompiler.ir.graph.grammar import Graph
from tcompiler.ir.graph.text import parse_graph
from tcompiler.runtime.manifest import TensorEntry
from tcompiler.runtime.model import Model
from tcompiler.runtime.package import write_file
from tcompiler.target.machine import Machine


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
            passes_section(report.model.artifact.texts, report.passes),
            kernel_sections(report.name, report.model, report.rows),
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
        return section("graph", "Graph", tag("p", f"{why} It is not drawn."))
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
    view = tag("div", picture, _class="viewport", tabindex=0, data_colour="kernel", role="region", aria_label="Graph")
    return section("graph", "Graph", tag("p", note, _class="note"), tools, view)


_COLUMNS = (
    ("kernel", "Kernel", ""),
    ("calls", "Calls", "calls of the kernel in one call of the model; all figures are sums over them"),
    ("flops", "MFLOP", "operations that the operators’ definitions ask for"),
    ("executed", "Executed", "operations that the schedule does, in MFLOP"),
    ("bytes", "MB", "the least traffic: operands and results once"),
    ("limit", "Limit ms", "the time that this machine needs at least"),
    ("bound", "By", "what the limit is due to"),
    ("seconds", "ms", "the time measured, kernel by kernel"),
    ("predicted", "Predicted", "milliseconds that the schedule takes by the analytic model of this machine"),
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
        tag("td", "" if total.predicted is None else f"{total.predicted * 1e3:.3f}"),
        tag("td"),
        tag("td", "" if total.attained is None else f"{total.attained:.0%}"),
        tag("td", "" if total.gflops is None else f"{total.gflops:.1f}"),
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
    return section("kernels", "Kernels", tag("p", note, _class="note"), tag("div", table, _class="scroll"))


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
        cell(row.predicted, "" if row.predicted is None else f"{row.predicted * 1e3:.4f}"),
        cell(share, "", bar),
        cell(row.attained, "" if row.attained is None else f"{row.attained:.0%}"),
        cell(row.gflops, "" if row.gflops is None else f"{row.gflops:.1f}"),
    )


def _roofline_section(report: Report) -> Html:
    plot = draw_roofline(report.rows, report.machine, report.model.threads)
    if plot is None:
        why = "The kernels were not measured." if report.call_seconds is None else "No kernel computes with floats."
        return section("roofline", "Roofline", tag("p", f"{why} There is nothing to plot."))
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
    return section("roofline", "Roofline", tag("p", note, _class="note"), tag("div", plot, _class="plot"), moved)
