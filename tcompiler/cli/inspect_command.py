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
    from tcompiler.cli.report.facts import KernelFacts, Totals


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
    time measured (beside it the one predicted from the schedule by the analytic model of the machine) with its share
    of the whole and how much of the limit it attains. The stage asm is annotated: what each inner loop does in an
    iteration, and the cycles that it takes at the least; --json and --html have that too.
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
        text = loaded.text("scheduled" if stage is None else stage, kernel)
        if stage == "asm":
            from tcompiler.cli.report.listings import annotated

            text = annotated(text, loaded.manifest["target"])
        print(text)
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
        from tcompiler.cli.report.listings import kernel_loops

        kernels = [
            r.to_json(total.seconds or 0.0) | {"loops": [x.to_json() for x in kernel_loops(loaded, r.name)]}
            for r in rows
        ]
        print(json.dumps({"model": model, "threads": loaded.threads, "total": asdict(total), "kernels": kernels}))
        return
    console = Console()
    if not console.is_terminal:
        # A file or another program gets whole names, not what fits a window that is not there.
        console.width = max(console.width, 200)
    console.print(_table(model, rows, console.width))
    console.print(facts.memory_line(loaded.manifest), highlight=False)


_LEAST_NEEDED = ("executed", "KB", "GFLOP/s", "calls", "MFLOP", "predicted", "by")
"""Columns that a narrow window is spared, in this order."""


def _table(title: str, rows: list[KernelFacts], width: int) -> Table:
    """The kernels, one a line, and their sum; what a window of this width has no room for is left out."""
    from rich.measure import measure_renderables
    from rich.text import Text

    from tcompiler.cli.report.markup import visible

    columns = _columns(rows)
    console = Console(width=1000)
    missing: list[str] = []
    while True:
        table = Table(title=Text(visible(title)))
        for head in columns:
            table.add_column(head, justify="left" if head in ("kernel", "by") else "right", overflow="fold")
        *lines, last = zip(*columns.values(), strict=True)
        for line in lines:
            table.add_row(*map(Text, line))
        table.add_section()
        table.add_row(*map(Text, last))
        wide = measure_renderables(console, console.options, [table]).maximum > width
        if not wide or len(missing) == len(_LEAST_NEEDED):
            break
        missing.append(_LEAST_NEEDED[len(missing)])
        del columns[missing[-1]]
    if missing:
        table.caption = Text(f"no room for {', '.join(missing)}: widen the window, or take --json")
    return table


def _columns(rows: list[KernelFacts]) -> dict[str, list[str]]:
    """The table's cells by heading; the last of each column is the sum."""
    from tcompiler.cli.report import facts

    total = facts.totals(rows)
    spent = total.seconds
    lines: list[KernelFacts | Totals] = [*rows, total]
    shares = [r.share(spent or 0.0) for r in rows]
    return {
        "kernel": [", ".join((r.name, *r.aliases)) for r in rows] + ["total"],
        "calls": [str(r.calls) for r in lines],
        "MFLOP": [f"{r.flops / 1e6:.2f}" for r in lines],
        "executed": [f"{r.executed_flops / 1e6:.2f}" for r in lines],
        "KB": [f"{r.bytes / 1e3:.0f}" for r in lines],
        "limit ms": [_ms(r.limit) for r in lines],
        "by": [facts.BOUNDS[r.bound] for r in rows] + [""],
        "ms": ["" if r.seconds is None else _ms(r.seconds) for r in lines],
        "predicted": ["" if r.predicted is None else _ms(r.predicted) for r in lines],
        "share": ["" if share is None else f"{share:.1%}" for share in shares] + [""],
        "of limit": ["" if r.attained is None else f"{r.attained:.0%}" for r in lines],
        "GFLOP/s": ["" if r.gflops is None else f"{r.gflops:.1f}" for r in lines],
    }


def _ms(seconds: float) -> str:
    """Milliseconds, to a microsecond or to two digits."""
    return f"{seconds * 1e3:.3f}" if seconds >= 1e-5 else f"{seconds * 1e3:.2g}"
