"""A float64 evaluation of an ONNX file that shares nothing with the compiler, and the error measured against it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def reference64(path: str | Path, inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Evaluate an ONNX model in float64 with PyTorch's kernels.

    Every float of the model (inputs, weights, constants, casts to float32) becomes a float64.

    Args:
        path: The ONNX file.
        inputs: Arrays by input name.

    Returns:
        The outputs in the model's order, f64 where the model says f32.

    Raises:
        tcompiler.errors.UserError: The model uses an operator that the evaluator does not know.
    """
    import torch

    from tcompiler.cli.bench.onnx_torch import TorchModel

    model = TorchModel(path, floats=torch.float64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a network of many small nodes waits for threads longer than they save
    try:
        return [y.numpy() for y in model(*(torch.from_numpy(np.array(inputs[name])) for name in model.input_names))]
    finally:
        torch.set_num_threads(threads)


def relative_l2(y: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Relative L2 error ‖y − reference‖ / ‖reference‖, computed in float64.

    Args:
        y: What was computed.
        reference: What is right, of the same shape.

    Returns:
        The error; NaN if either holds a NaN, inf if the shapes differ or `reference` is zero and `y` is not.
    """
    a, b = np.asarray(y, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        return float("inf")
    difference, norm = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if difference == 0.0:
        return 0.0
    return difference / norm if norm else float("inf")
