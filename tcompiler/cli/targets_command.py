"""`tcompiler targets`: the machines that code can be generated for."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def run(measure: Annotated[bool, typer.Option(help="Measure this machine's peaks.")] = False) -> None:
    """List targets; the first is this machine."""
    from tcompiler.target.named import NAMED, host

    table = Table("target", "cpu", "vector bits", "registers", "L1", "L2", "L3", "cores")
    for t in (host(), *NAMED.values()):
        table.add_row(
            t.name,
            t.cpu,
            str(t.vector_bits),
            str(t.vector_registers),
            *(f"{size // 1024} KB" for size in (t.l1_bytes, t.l2_bytes, t.l3_bytes)),
            str(t.cores),
        )
    console = Console()
    console.print(table)
    if measure:
        from tcompiler.target.peak import fma_peak

        for threads in dict.fromkeys((1, host().cores)):
            peak = fma_peak("f32", threads)
            console.print(f"measured f32 FMA peak, {threads} thread(s): {peak:.1f} GFLOP/s", highlight=False)
