"""The meaning of graphs, twice: through the expr interpreter and through the expr evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tcompiler.errors import ArgumentError
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.graph.grammar import ConstantStore
from tcompiler.ir.graph.interpret import interpret
from tcompiler.ir.graph.text import parse_graph
from tests.ir.graph.operators import OPERATORS, Case, cases

LOOKUP = OPERATORS.__getitem__


@given(cases())
@settings(max_examples=80)
def test_interpreter_and_evaluator_agree(case: Case) -> None:
    given_arguments: dict[str, Any] = {"operators": LOOKUP, "constants": case.constants}
    expected = interpret(case.graph, case.inputs, case.params, **given_arguments)
    found = evaluate(case.graph, case.inputs, case.params, **given_arguments)
    assert set(expected) == set(found) == {v.name for v in case.graph.outputs}
    for v in case.graph.outputs:
        assert expected[v.name].dtype == found[v.name].dtype == v.type.dtype.numpy
        np.testing.assert_allclose(found[v.name], expected[v.name], rtol=1e-5)


NET = """@graph
def net(n: i64, x: tensor(f32[n, 3], label="the input")):
    c = const([1.0, 2.0], f32[2])
    a: tensor(f32[n, 3], layout=layout(lambda i, j: (j, i), (3, n), zero_padding=False)) = shift(x, by=2)
    s: f32[n] = total(a)
    t: f32[n] = times(s, s)
    u: f32[n] = plus(t, None)
    v: f32[2]
    w: i64[2]
    v, w = ordered(c, axis=0)
    return t, output(w, label="where"), x, u
"""


@pytest.mark.parametrize("run", [interpret, evaluate])
def test_a_small_network(run: Any) -> None:
    store = ConstantStore()
    g = parse_graph(NET, store)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    out = run(g, {"x": x}, {"n": 2}, operators=LOOKUP, constants=store)
    assert list(out) == ["t", "w", "x", "u"]
    assert np.array_equal(out["t"], (x + 2).sum(1) ** 2) and np.array_equal(out["u"], out["t"])
    assert out["w"].tolist() == [0, 1] and np.array_equal(out["x"], x)


def test_widened_floats_are_the_reference() -> None:
    store = ConstantStore()
    g = parse_graph(NET, store)
    x = np.full((2, 3), 0.1)
    for given_input in (x, x.astype(np.float32)):
        out = evaluate(g, {"x": given_input}, {"n": 2}, operators=LOOKUP, constants=store, widen=True)
        assert out["t"].dtype == np.float64 and out["w"].dtype == np.int64
        assert np.allclose(out["t"], (given_input.astype(np.float64) + 2).sum(1) ** 2, rtol=1e-14)


@pytest.mark.parametrize("run", [interpret, evaluate])
def test_arguments_are_checked(run: Any) -> None:
    store = ConstantStore()
    g = parse_graph(NET, store)
    x = np.zeros((2, 3), np.float32)
    bad: list[tuple[dict[str, Any], dict[str, int], str]] = [
        ({}, {"n": 2}, "net needs its input 'x'"),
        ({"x": x, "y": x}, {"n": 2}, "net has no input 'y'; it has x"),
        ({"x": x}, {}, "net needs a value for its parameter 'n'"),
        ({"x": x}, {"n": 2, "k": 2}, "net has no parameter 'k'; it has n"),
        ({"x": x}, {"n": -2}, "parameter 'n' of net is -2; it is at least 0"),
        ({"x": x}, {"n": 3}, "input 'x' of net is f32[3, 3], not float32[2, 3]"),
        ({"x": x.astype(np.int64)}, {"n": 2}, "input 'x' of net is f32[2, 3], not int64[2, 3]"),
    ]
    for inputs, params, message in bad:
        with pytest.raises(ArgumentError) as e:
            run(g, inputs, params, operators=LOOKUP, constants=store)
        assert str(e.value) == message
