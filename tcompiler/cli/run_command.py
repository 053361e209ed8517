"""`tcompiler run`: a model on given or random inputs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
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
    files = _file_names([s.name for s in loaded.outputs])
    for file, spec, y in zip(files, loaded.outputs, results, strict=True):
        shown = f"mean {y.mean():.6g}, min {y.min():.6g}, max {y.max():.6g}" if y.size else "empty"
        line = f"{_label(spec.name)}: {spec.dtype}{list(y.shape)} {shown}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            temporary = output / f".{file}.{os.getpid()}.npy"
            np.save(temporary, y)
            temporary.replace(output / f"{file}.npy")
    console.print(
        f"median of {len(times)} calls: {sorted(times)[len(times) // 2] * 1e3:.3f} ms on {loaded.threads} thread(s)",
        highlight=False,
    )


_LONGEST = 60
"""Characters of a model's name that are shown, or become a file's."""


def _label(name: str) -> str:
    """A name of a model's on one line, with nothing in it that a terminal would obey."""
    text = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
    return text if text.isprintable() else repr(text)[1:-1]


def _file_names(names: Sequence[str]) -> list[str]:
    """A name for each output's file: what of its own is harmless in a path, and a number where two would be one."""
    result: list[str] = []
    for k, name in enumerate(names):
        safe = "".join(ch if ch.isascii() and (ch.isalnum() or ch in "_-") else "_" for ch in name[:_LONGEST])
        # file systems may not tell capitals from small letters
        taken = not safe or safe.lower() in map(str.lower, result)
        result.append(f"{safe or 'output'}_{k}" if taken else safe)
    return result
