"""`tcompiler inspect`: the kernels of a model and every stage of each."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def run(
    model: Annotated[str, typer.Argument(help="A saved .tcm, a .onnx file, or example:NAME.")],
    stage: Annotated[str | None, typer.Option(help="Print the text of a stage.")] = None,
    kernel: Annotated[str | None, typer.Option(help="Of one kernel only.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="NAME=1,3,224,224 where the model leaves it open.")] = None,
    profile: Annotated[bool, typer.Option(help="Run the model to measure each kernel.")] = True,
) -> None:
    """List a model's kernels, or print a stage: imported, graph, expr, loop, scheduled, trace, llvm, asm."""
    from tcompiler.cli import models

    loaded = models.open_model(model, shapes=models.parse_shapes(shape or []))
    if stage is not None:
        print(loaded.text(stage, kernel))
        return
    seconds: dict[str, float] = {}
    calls: dict[str, int] = {}
    if profile:
        arrays = models.random_inputs(loaded.inputs)
        operands = [arrays[s.name] for s in loaded.inputs]
        runs = [loaded.run_profiled(*operands)[1] for _ in range(5)]
        for k, call in enumerate(loaded.manifest["calls"]):
            symbol = call["kernel"]
            seconds[symbol] = seconds.get(symbol, 0.0) + sorted(r[k] for r in runs)[2]
            calls[symbol] = calls.get(symbol, 0) + 1
    table = Table("kernel", "calls", "MFLOP", "executed", "KB", "ms", "GFLOP/s", "share", title=str(model))
    total = sum(seconds.values()) or 1.0
    for entry in loaded.kernels:
        spent, count = seconds.get(entry["symbol"], 0.0), calls.get(entry["symbol"], 0)
        table.add_row(
            entry["name"],
            str(count),
            f"{entry['flops'] / 1e6:.2f}",
            f"{entry['executed_flops'] / 1e6:.2f}",
            f"{entry['bytes'] / 1e3:.0f}",
            f"{spent * 1e3:.3f}" if profile else "",
            f"{entry['flops'] * count / spent / 1e9:.1f}" if spent else "",
            f"{spent / total:.1%}" if profile else "",
        )
    console = Console()
    console.print(table)
    m = loaded.manifest
    console.print(
        f"arena {m['arena_bytes']} bytes (lower bound {m['arena_lower_bound']}), "
        f"constants {m['constants_bytes']} bytes, "
        f"scratch {m['scratch_bytes']} bytes per thread, threads {m['threads']}",
        highlight=False,
    )
