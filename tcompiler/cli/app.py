"""The commands, put together."""

from __future__ import annotations

import typer

from tcompiler.cli import bench_command, compile_command, inspect_command, run_command, targets_command

app = typer.Typer(
    name="tcompiler",
    help="Compile tensor programs, run them, and read how they came to be.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("compile")(compile_command.run)
app.command("run")(run_command.run)
app.command("inspect")(inspect_command.run)
app.command("bench")(bench_command.run)
app.command("targets")(targets_command.run)
