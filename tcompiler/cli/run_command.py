"""`tcompiler run`: a model on given or random inputs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console


def run(
    model: Annotated[str, typer.Argument(help="A saved .tcm, a .onnx file, or example:NAME.")],
    inputs: Annotated[list[str] | None, typer.Option("--input", help="NAME=FILE.npy; others are random.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="NAME=1,3,224,224 where the model leaves it open.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the outputs, as NAME.npy.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads that a call may use.")] = None,
    repeat: Annotated[int, typer.Option(help="Calls to time.")] = 10,
) -> None:
    """Run a model once, print its outputs' shapes and statistics and the time of a call."""
    from tcompiler.cli import models

    console = Console()
    given = models.load_arrays(inputs or [])
    loaded = models.open_model(model, threads, models.parse_shapes(shape or []), given)
    arrays = {**models.random_inputs(loaded.inputs), **given}
    operands = [arrays[s.name] for s in loaded.inputs]
    result = loaded(*operands)
    results = result if isinstance(result, tuple) else (result,)
    times = []
    for _ in range(max(1, repeat)):
        start = time.perf_counter()
        loaded(*operands)
        times.append(time.perf_counter() - start)
    for k, (spec, y) in enumerate(zip(loaded.outputs, results, strict=True)):
        shown = f"mean {y.mean():.6g}, min {y.min():.6g}, max {y.max():.6g}" if y.size else "empty"
        console.print(f"{spec.name}: {spec.dtype}{list(y.shape)} {shown}", highlight=False)
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            safe = "".join(ch if ch.isalnum() or ch in "_-" else "_" for ch in spec.name) or f"output{k}"
            temporary = output / f".{safe}.{os.getpid()}.npy"
            np.save(temporary, y)
            temporary.replace(output / f"{safe}.npy")
    console.print(
        f"median of {len(times)} calls: {sorted(times)[len(times) // 2] * 1e3:.3f} ms on {loaded.threads} thread(s)",
        highlight=False,
    )
