"""Random operators and small graphs: no wrong result.

Two processes share the seeds, so that a crash of generated code is a finding with a name and not the end of the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.fuzz.families import FAMILIES, draw, family_of

COUNT = 1200
SHARDS = 2
TIMEOUT = 1200


def test_no_wrong_result() -> None:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", "--count", str(COUNT), "--step", str(SHARDS)]
    runs = [
        subprocess.Popen(
            [*command, "--start", str(k)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(os.environ),
        )
        for k in range(SHARDS)
    ]
    texts = [run.communicate(timeout=TIMEOUT)[0] for run in runs]
    for run, text in zip(runs, texts, strict=True):
        lines = text.splitlines()
        # batches are announced before they are compiled: the last one is where a crash happened
        told = [line for line in lines if not line.startswith("[")] if run.returncode in (0, 1) else lines[-60:]
        assert run.returncode == 0, f"seeds {', '.join(run.args[4:])}: exit status {run.returncode}\n" + "\n".join(told)
        print(lines[-1])


def test_every_family_has_its_share() -> None:
    counts = Counter(family_of(seed) for seed in range(COUNT))
    assert set(counts) == set(FAMILIES)
    assert min(counts.values()) >= 5


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_seed_is_one_model(name: str) -> None:
    first, second = draw(name, 7), draw(name, 7)
    assert first.proto == second.proto
    assert all((a == second.inputs[k]).all() or a.dtype.kind == "f" for k, a in first.inputs.items())
    assert draw(name, 8).proto != first.proto
