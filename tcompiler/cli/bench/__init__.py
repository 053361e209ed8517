"""Measuring a model beside other systems, each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tcompiler.cli.bench.rounds import Bench, Result, Subject
from tcompiler.cli.bench.systems import PEERS, SYSTEMS

__all__ = ["PEERS", "SYSTEMS", "Bench", "Result", "Subject", "run_bench"]


def run_bench(
    model_path: str | Path,
    against: Sequence[str],
    threads: int,
    rounds: int = 7,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Result:
    """Measure an ONNX model with this compiler and with peers, in alternating rounds beside the FMA units' peak.

    Args:
        model_path: The ONNX file.
        against: Names from `PEERS`.
        threads: Threads that each system may use.
        rounds: Turns per system.
        shapes: Shapes of inputs that the model leaves open, by name; open dimensions of others are 1.

    Returns:
        The object that `tcompiler bench --json` prints. Errors are relative to the first peer's outputs (None where
        outputs differ in shape or in their NaNs); a system that cannot run the model has an `error` instead of
        figures.

    Raises:
        UserError: A peer is unknown, a shape does not fit, or no inputs can be made for the model.
    """
    from tcompiler.cli.bench.flops import model_flops, random_inputs

    inputs, flops = random_inputs(model_path, shapes=shapes), model_flops(model_path, shapes)
    with Bench([*against, "tcompiler"], threads) as bench:
        (result,) = bench.measure(Subject(model_path, inputs, flops), rounds=rounds)
    result["rows"].sort(key=lambda row: row["system"] != "tcompiler")
    return result
