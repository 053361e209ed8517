"""`tcompiler compile`: a model to a saved artifact."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tcompiler.errors import UserError


def run(
    model: Annotated[str, typer.Argument(help="A .onnx file, or example:NAME.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to save: MODEL.tcm.")] = None,
    target: Annotated[str, typer.Option(help="cpu, or a name from `tcompiler targets`.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Threads that a call may use; default: one per core.")] = None,
    accuracy: Annotated[str, typer.Option(help="exact, high or fast.")] = "high",
    shape: Annotated[list[str] | None, typer.Option(help="NAME=1,3,224,224 where the model leaves it open.")] = None,
    value: Annotated[list[str] | None, typer.Option(help="NAME=FILE.npy of an input that decides shapes.")] = None,
    stop_after: Annotated[str | None, typer.Option(help="Stop after this stage and print its text.")] = None,
    print_between_passes: Annotated[bool, typer.Option(help="Print the program after every pass.")] = False,
    time_passes: Annotated[bool, typer.Option(help="Print a table of the passes' times.")] = False,
) -> None:
    """Compile a model and save it."""
    from tcompiler import api
    from tcompiler.cli import models
    from tcompiler.cli.progress import Reporter
    from tcompiler.runtime.specialised import SpecialisedModel

    console = Console(stderr=True)
    if output is None and stop_after is None and not (print_between_passes or time_passes):
        raise UserError("say where to save the model: -o MODEL.tcm (or --stop-after STAGE to print a stage)")
    reporter = Reporter(console, print_between_passes)
    shapes = models.parse_shapes(shape or []) or None
    values = models.load_arrays(value or []) or None
    start = time.perf_counter()
    if stop_after is not None:
        with reporter.showing():
            done = api.compile_stages(
                models.source(model), stop_after, target, threads, accuracy, shapes, values, reporter
            )
        for key, text in done.texts.items():
            if key.split("/")[0] == stop_after:
                print(text)
    else:
        with reporter.showing():
            compiled = api.compile(models.source(model), target, threads, accuracy, shapes, values, reporter)
        seconds = time.perf_counter() - start
        if isinstance(compiled, SpecialisedModel) and not compiled.specialisations:
            inputs = "; ".join(map(str, compiled.inputs))
            raise UserError(
                f"{model} leaves shapes open ({inputs}): fix them with --shape NAME=1,3,224,224, or with "
                f"--value NAME=FILE.npy where the value of an input decides shapes"
            )
        if output is not None:
            compiled.save(output)
            console.print(
                f"compiled {model} in {seconds:.2f} s: {len(compiled.kernels)} kernels, "
                f"arena {compiled.manifest['arena_bytes']} bytes → {output}"
            )
    if time_passes:
        reporter.print_times()
