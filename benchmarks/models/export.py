"""PyTorch modules written as ONNX files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

_OPSET = 18


def export(
    module: torch.nn.Module,
    inputs: Mapping[str, np.ndarray[Any, Any]],
    outputs: Sequence[str],
    path: str,
    *,
    optimize: bool,
) -> None:
    """Write a module to one file, weights included.

    Args:
        module: In eval mode.
        inputs: Arrays to trace it with, by the names that the file's inputs get.
        outputs: Names of the file's outputs.
        path: Of the file, which is overwritten.
        optimize: Whether batch norms are folded into convolutions, and the like; else constants alone are folded.
    """
    import onnxscript.optimizer

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(x) for x in inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=_OPSET,
            dynamo=True,
            optimize=optimize,
            verbose=False,
        )
    assert program is not None
    if not optimize:
        onnxscript.optimizer.fold_constants(program.model)
        onnxscript.optimizer.remove_unused_nodes(program.model)
    program.save(path, external_data=False)
