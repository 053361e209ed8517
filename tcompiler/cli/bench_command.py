"""`tcompiler bench`: a model beside other systems, a process for each, in alternating rounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tcompiler.errors import UserError


def run(
    model: Annotated[str, typer.Argument(help="A .onnx file.")],
    against: Annotated[str, typer.Option(help="Peers, comma-separated: onnxruntime, openvino, torch.")] = "",
    threads: Annotated[int, typer.Option(help="Threads for every system.")] = 1,
    rounds: Annotated[int, typer.Option(help="Alternating rounds.")] = 7,
    shape: Annotated[
        list[str] | None, typer.Option(help="NAME=1,3,224,224 where the model leaves it open; else 1.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a model's latency beside peers and the machine's peak."""
    from tcompiler.cli import models
    from tcompiler.cli.bench import run_bench

    if not Path(model).is_file():
        raise UserError(f"there is no file {model}; bench takes a .onnx file, as every system must read it")
    peers = [p for p in against.split(",") if p]
    with Console(stderr=True).status("measuring"):
        result = run_bench(model, peers, threads, rounds, models.parse_shapes(shape or []))
    if as_json:
        print(json.dumps(result))
        return
    table = Table("system", "median ms", "min ms", "GFLOP/s", "max rel. error", "compile s", title=str(model))
    for row in result["rows"]:
        if "error" in row:
            table.add_row(row["system"], str(row["error"]))
            continue
        table.add_row(
            row["system"],
            *(f"{row[k]:.3f}" for k in ("median_ms", "min_ms", "gflops")),
            f"{row['max_rel_error']:.1e}" if row["max_rel_error"] is not None else "",
            f"{row['compile_s']:.2f}",
        )
    console = Console()
    console.print(table)
    console.print(f"measured peak: {result['peak_gflops']:.1f} GFLOP/s on {threads} thread(s)", highlight=False)
