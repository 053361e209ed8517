"""Models for machines that this one is not: constants are laid out here, by code that runs here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.errors import UserError
from tcompiler.frontend.tensor import SymbolicTensor
from tcompiler.target.named import NAMED, host, maker
from tcompiler.target.target import Target

FOREIGN = NAMED["sapphirerapids"]

needs_foreign = pytest.mark.skipif(maker(FOREIGN) is FOREIGN, reason="runs on a processor without AMX")


def _missing(target: Target) -> list[str]:
    return [f[1:] for f in target.features if f.startswith("+") and f not in host().features]


def _model(target: str) -> tc.Model:
    rng = np.random.default_rng(0)
    w, taps = rng.standard_normal((96, 40), np.float32), rng.standard_normal((33, 17, 3, 3), np.float32)

    def model(x: SymbolicTensor, y: SymbolicTensor) -> tuple[SymbolicTensor, ...]:
        return x @ w, tc.conv(y, taps)

    graph = tc.trace(model, x=tc.spec("f32", (13, 96)), y=tc.spec("f32", (1, 17, 9, 9)))
    made = tc.compile(graph, target=target, threads=1)
    assert isinstance(made, tc.Model)
    return made


def test_this_machine_lays_out_constants_for_those_whose_code_it_runs() -> None:
    assert maker(host()) is host()
    assert maker(NAMED["x86-64-v2"]) is NAMED["x86-64-v2"]


@needs_foreign
def test_constants_for_another_machine_are_laid_out_here(tmp_path: Path) -> None:
    assert maker(FOREIGN) is host()
    model = _model(FOREIGN.name)
    model.save(tmp_path / "m.tcm")
    assert model.artifact.constants_block().nbytes > 4 * (96 * 40 + 33 * 17 * 9)


@needs_foreign
def test_a_model_for_another_machine_is_not_called() -> None:
    model = _model(FOREIGN.name)
    with pytest.raises(UserError) as error:
        model(np.zeros((13, 96), np.float32), np.zeros((1, 17, 9, 9), np.float32))
    assert str(error.value) == (
        f"the model cannot be called here: it is compiled for a sapphirerapids with {', '.join(_missing(FOREIGN))}, "
        f"which this machine ({host().cpu}) lacks; it can be saved"
    )
