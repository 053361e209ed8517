"""`tcompiler inspect`: the kernels of a model, every stage of each, and a page of all that."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from tcompiler.errors import UserError

if TYPE_CHECKING:
    from tcompiler.cli.report.facts import KernelFacts


def run(
    model: Annotated[str, typer.Argument(help="A saved .tcm, a .onnx file, or example:NAME.")],
    stage: Annotated[str | None, typer.Option(help="Print the text of a stage.")] = None,
    kernel: Annotated[str | None, typer.Option(help="Of one kernel only.")] = None,
    sort: Annotated[
        str, typer.Option(help="Sort by time, limit, flops, executed, bytes, calls, attained or name.")
    ] = "time",
    profile: Annotated[bool, typer.Option(help="Run the model to measure each kernel.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as one JSON object.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one self-contained page with all there is to see.")
    ] = None,
    shape: Annotated[list[str] | None, typer.Option(help="NAME=1,3,224,224 where the model leaves it open.")] = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", help="NAME=FILE.npy; others are random.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads that a call may use.")] = None,
) -> None:
    """List a model's kernels, or print a stage: imported, graph, expr, loop, scheduled, trace, llvm, asm.

    For each kernel: operations that its definition asks for and that its schedule executes, least traffic, the time
    that the machine needs at least (limit) and what sets it (compute, a cache, memory, the latency of a call), and the
    time measured with its share of the whole and how much of the limit it attains.
    """
    from tcompiler.cli import models
    from tcompiler.cli.report import facts
    from tcompiler.target import machine

    facts.sort_rows((), sort)
    if (html is not None) + as_json + (stage is not None or kernel is not None) > 1:
        raise UserError(
            "--html is a page of all stages, --stage and --kernel print one, --json prints the table: give one of them"
        )
    given = models.load_arrays(inputs or [])
    recorder = None
    if html is not None and not model.endswith(".tcm"):
        from tcompiler.cli.report.passes import PassRecorder

        recorder = PassRecorder()
    loaded = models.open_model(model, threads, models.parse_shapes(shape or []), given, recorder)
    if stage is not None or kernel is not None:
        print(loaded.text("scheduled" if stage is None else stage, kernel))
        return
    status = Console(stderr=True)
    with status.status("measuring this machine's peaks"):
        peaks = machine.measure()
    seconds = None
    if profile:
        arrays = {**models.random_inputs(loaded.inputs), **given}
        with status.status("measuring the kernels"):
            seconds = facts.measure_calls(loaded, [arrays[s.name] for s in loaded.inputs])
    rows = facts.kernel_facts(loaded, peaks, seconds)
    if any((r.attained or 0.0) > 1 for r in rows):
        # Kernels faster than the machine: other programs ran when its peaks were measured.
        with status.status("measuring this machine's peaks again"):
            peaks = machine.measure(again=True)
        rows = facts.kernel_facts(loaded, peaks, seconds)
    rows = facts.sort_rows(rows, sort)
    total = facts.totals(rows)
    if html is not None:
        from tcompiler.cli.report.page import Report, write_page

        with status.status("writing the page"):
            passes = None if recorder is None else recorder.records
            size = write_page(Report(model, loaded, peaks, rows, seconds, passes), html)
        status.print(f"wrote {html}: {size / 1e6:.1f} MB", highlight=False, markup=False)
        return
    if as_json:
        kernels = [r.to_json(total.seconds or 0.0) for r in rows]
        print(json.dumps({"model": model, "threads": loaded.threads, "total": asdict(total), "kernels": kernels}))
        return
    console = Console()
    if not console.is_terminal:
        # A file or another program gets whole names, not what fits a window that is not there.
        console.width = max(console.width, 200)
    console.print(_table(model, rows))
    console.print(facts.memory_line(loaded.manifest), highlight=False)


def _table(title: str, rows: list[KernelFacts]) -> Table:
    """The kernels, one a line, and their sum."""
    from rich.text import Text

    from tcompiler.cli.report import facts

    total = facts.totals(rows)
    heads = ("calls", "MFLOP", "executed", "KB", "limit ms", "by", "ms", "share", "of limit", "GFLOP/s")
    table = Table(title=Text(title))
    table.add_column("kernel", overflow="fold")
    for head in heads:
        table.add_column(head, justify="left" if head == "by" else "right", no_wrap=True)
    for r in rows:
        share = r.share(total.seconds or 0.0)
        table.add_row(
            Text(r.name + "".join(f", {a}" for a in r.aliases)),
            str(r.calls),
            f"{r.flops / 1e6:.2f}",
            f"{r.executed_flops / 1e6:.2f}",
            f"{r.bytes / 1e3:.0f}",
            _ms(r.limit),
            facts.BOUNDS[r.bound],
            "" if r.seconds is None else _ms(r.seconds),
            "" if share is None else f"{share:.1%}",
            "" if r.attained is None else f"{r.attained:.0%}",
            "" if r.gflops is None else f"{r.gflops:.1f}",
        )
    table.add_section()
    spent = total.seconds
    table.add_row(
        "total",
        str(total.calls),
        f"{total.flops / 1e6:.2f}",
        f"{total.executed_flops / 1e6:.2f}",
        f"{total.bytes / 1e3:.0f}",
        _ms(total.limit),
        "",
        "" if spent is None else _ms(spent),
        "",
        f"{total.limit / spent:.0%}" if spent else "",
        f"{total.flops / spent / 1e9:.1f}" if spent else "",
    )
    return table


def _ms(seconds: float) -> str:
    """Milliseconds, to a microsecond or to two digits."""
    return f"{seconds * 1e3:.3f}" if seconds >= 1e-5 else f"{seconds * 1e3:.2g}"
