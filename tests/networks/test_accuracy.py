"""Networks end to end: accuracy at one and two threads, and after save and load in a process without the compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tcompiler as tc
from benchmarks import models
from tests.networks.checking import excess, operands
from tests.networks.conftest import Network


@pytest.mark.parametrize("threads", [1, 2])
def test_error_is_close_to_onnxruntimes(network: Network, threads: int) -> None:
    model = network.models[threads]
    assert excess(network.name, model(*operands(network.name, model.inputs))) <= 1


@pytest.mark.parametrize("name", ["resnet_tiny", "mlp", "transformer"])
def test_same_result_every_time(name: str) -> None:
    model = tc.compile(models.build(name).path, threads=2)
    inputs = operands(name, model.inputs)
    first = model(*inputs)
    for _ in range(20):
        np.testing.assert_array_equal(model(*inputs), first)


LOADED = """
import sys
import numpy as np
import tcompiler as tc
model = tc.load(sys.argv[1])
given = np.load(sys.argv[2])
y = model(*(given[s.name] for s in model.inputs))
np.savez(sys.argv[3], *(y if isinstance(y, tuple) else (y,)))
ours = {"tcompiler", "tcompiler.errors"}
others = [m for m in sys.modules if m.startswith("tcompiler") and m not in ours]
extra = [m for m in others if not m.startswith("tcompiler.runtime")]
assert not extra, extra
"""


def test_saved_model_runs_in_a_process_that_imports_no_compiler(network: Network, tmp_path: Path) -> None:
    model = network.models[2]
    expected = model(*operands(network.name, model.inputs))
    model.save(tmp_path / "model.tcm")
    np.savez(tmp_path / "in.npz", **network.file.inputs)
    command = [sys.executable, "-c", LOADED, *(str(tmp_path / n) for n in ("model.tcm", "in.npz", "out.npz"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = np.load(tmp_path / "out.npz")
    results = tuple(loaded[k] for k in loaded.files)
    assert excess(network.name, results) <= 1
    for y, e in zip(results, expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_array_equal(y, e)
