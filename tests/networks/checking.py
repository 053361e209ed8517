"""The check that every network has to pass: its error against float64, beside onnxruntime's own."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks import models

LIMIT = 10.0
"""Our relative L2 error may be this many times onnxruntime's."""


@cache
def reference(name: str) -> tuple[list[NDArray[Any]], list[float]]:
    """Outputs in float64, and onnxruntime's relative L2 errors."""
    model = models.build(name)
    expected = models.reference64(model.path, model.inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    errors = [models.relative_l2(y, e) for y, e in zip(session.run(None, model.inputs), expected, strict=True)]
    return expected, errors


def excess(name: str, outputs: Any) -> float:
    """How many times LIMIT's allowance the worst output's error is: at most 1 is right."""
    expected, errors = reference(name)
    results = outputs if isinstance(outputs, tuple) else (outputs,)
    worst = 0.0
    for y, e, error in zip(results, expected, errors, strict=True):
        mine = models.relative_l2(y, e) if np.isfinite(y).all() else np.inf
        worst = max(worst, float(mine / (LIMIT * max(error, 1e-9))))
    return worst


def operands(name: str, specs: Any) -> list[NDArray[Any]]:
    """The seeded inputs of a network in the order of a compiled model."""
    inputs = models.build(name).inputs
    return [inputs[s.name] for s in specs]
