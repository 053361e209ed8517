"""Chains over rows: a sum is taken up where its vectors are made, and rows that come from far are asked for."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.frontend import builder as b
from tcompiler.frontend.module import GraphModule
from tests.schedule.operators import traced

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _log_softmax(x: Array) -> Array:
    return np.log(_softmax(x))


def _layer_norm(x: Array) -> Array:
    spread = x.var(-1, keepdims=True) + 1e-5
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(spread)


CHAINS: dict[str, tuple[Callable[..., object], Callable[[Array], Array]]] = {
    "softmax": (b.softmax, _softmax),
    "log_softmax": (b.log_softmax, _log_softmax),
    "layer_norm": (b.layer_norm, _layer_norm),
    "masked": (lambda x: b.softmax(x * 0.5 + 1.0), lambda x: _softmax(x * 0.5 + 1.0)),
}


def _model(chain: str, rows: int, length: int) -> GraphModule:
    return traced(CHAINS[chain][0], (rows, length))


@pytest.mark.parametrize("target", ["cpu", "x86-64-v3"])
@pytest.mark.parametrize("length", [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 95, 100, 127, 128, 129, 255, 1001])
@pytest.mark.parametrize("chain", CHAINS)
def test_rows_of_any_length(chain: str, length: int, target: str) -> None:
    x = 3 * np.random.default_rng(length).standard_normal((5, length)).astype(np.float32)
    made = tc.compile(_model(chain, 5, length), target=target)(x)
    np.testing.assert_allclose(made, CHAINS[chain][1](x.astype(np.float64)), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("target", "together"), [("znver5", True), ("znver3", False)])
def test_exponentials_are_summed_where_registers_hold_both(target: str, together: bool) -> None:
    text = tc.compile(_model("softmax", 40, 1001), target=target).text("scheduled")
    made, summed = text.index("= exp("), text.index("total_rf[0, v_softmax_0_total_block_ax1_1] +=")
    between = text[made:summed]
    assert ("in range(" not in between and between.count("in vectorized(") == 1) == together


@pytest.mark.parametrize(
    ("chain", "target", "masked"), [("softmax", "znver5", 2), ("layer_norm", "znver5", 0), ("softmax", "znver3", 0)]
)
def test_last_exponentials_of_a_row_are_a_whole_vector_under_a_mask(chain: str, target: str, masked: int) -> None:
    text = tc.compile(_model(chain, 40, 133), target=target).text("scheduled")
    assert len(re.findall(r"in vectorized\(16\):\n +with block\(.*, where=\w+ < 5\):", text)) == masked


@pytest.mark.parametrize(
    ("length", "target", "tails"), [(127, "znver3", [16, 15]), (120, "znver3", [24]), (127, "znver5", [63])]
)
def test_tails_of_a_row_have_the_lanes_of_what_wrote_them(length: int, target: str, tails: list[int]) -> None:
    text = tc.compile(_model("softmax", 40, length), target=target, threads=1).text("scheduled")
    found = re.findall(r"for (\w+) in vectorized\((\d+)\):", text[text.index("= exp(") :])
    for loop in ("softmax_0_total_block_ax1_1", "v1_i1_1"):
        assert [int(lanes) for name, lanes in found if name.startswith(f"{loop}_t")] == tails


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("chain", ["softmax", "layer_norm"])
def test_rows_from_far_are_asked_for_ahead(chain: str, threads: int) -> None:
    rows, length = 301, 4095
    model = tc.compile(_model(chain, rows, length), threads=threads, target="znver3")
    asked = re.findall(r'intrinsic\("prefetch", reads=\((\w+)\[span\((.*?), 1\)', model.text("scheduled"))
    assert sorted(name for name, _ in asked) == ["v0", "v1"]
    assert all(re.fullmatch(rf"min\(\w+ \+ 1, {rows - 1}\)", row) for _, row in asked)
    x = np.random.default_rng(0).standard_normal((rows, length)).astype(np.float32)
    np.testing.assert_allclose(model(x), CHAINS[chain][1](x.astype(np.float64)), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("rows", "length"), [(5000, 1024), (8, 4096), (8, 400_000)], ids=["short", "near", "long"])
def test_other_rows_are_not(rows: int, length: int) -> None:
    # a processor sees the next short row coming; a cache has few rows already, and of long ones it has no room for two
    text = tc.compile(_model("softmax", rows, length), target="znver3").text("scheduled")
    assert "prefetch" not in text


@pytest.mark.parametrize(("length", "written_out"), [(96, True), (128, True), (129, False), (1000, False)])
def test_reductions_of_a_few_vectors_are_written_out(length: int, written_out: bool) -> None:
    model = traced(lambda x: tc.max(x, -1), (300, length))
    text = tc.compile(model, target="x86-64-v4").text("scheduled")
    loops = re.findall(r"for \w+ in (?:parallel|range)\((\d+)\)", text)
    assert (loops == ["300"]) == written_out
    x = np.random.default_rng(0).standard_normal((300, length)).astype(np.float32)
    np.testing.assert_array_equal(tc.compile(model)(x), x.max(-1))


def test_where_the_last_pass_writes_is_asked_for_with_what_is_read() -> None:
    text = tc.compile(_model("layer_norm", 301, 4095), target="znver3").text("scheduled")
    assert text.index('block("v1_prefetch")') < text.index("squares_rf[0, v_layer_norm_0_squares_block_ax1_1] +=")
