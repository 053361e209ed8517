"""Results do not depend on which thread computes what, nor on who else wants the processors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.frontend.tensor import SymbolicTensor

RUNS = 100


@pytest.fixture
def competitors() -> Iterator[None]:
    """Processes that keep every processor busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    yield
    for process in busy:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("competitors")
@pytest.mark.parametrize("threads", [2, 3])
def test_results_are_identical_to_the_bit_under_load(threads: int) -> None:
    rng = np.random.default_rng(7)
    weights = rng.standard_normal((40, 24, 3, 3), dtype=np.float32)
    dense = rng.standard_normal((40, 100), dtype=np.float32)

    def model(x: SymbolicTensor) -> tuple[SymbolicTensor, ...]:
        y = tc.maximum(tc.conv(x, weights, pads=1), 0.0)
        return tc.softmax(tc.mean(y, axis=(2, 3)) @ dense, axis=-1), y

    graph = tc.trace(model, x=tc.spec("f32", (1, 24, 37, 29)))
    compiled = tc.compile(graph, threads=threads)
    x = rng.standard_normal((1, 24, 37, 29), dtype=np.float32)
    first = [np.array(y, copy=True) for y in compiled(x)]
    for _ in range(RUNS):
        for expected, found in zip(first, compiled(x), strict=True):
            assert expected.tobytes() == found.tobytes()
