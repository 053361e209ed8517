"""What a constant mask hides is not computed, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.api import compile_stages
from tcompiler.ir.graph.grammar import tensor_type
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.ops.registry import get
from tcompiler.transform.visible import cut, forgets

RNG = np.random.default_rng(6)
LOW = np.float32(np.finfo(np.float32).min)


def _band(rows: int, columns: int, before: int, behind: int) -> np.ndarray:
    """Which columns a row sees: so many before and behind its own."""
    apart = np.arange(columns)[None] - np.arange(rows)[:, None]
    return (apart >= -before) & (apart <= behind)


def _packed(rows: int, *lengths: int) -> np.ndarray:
    """Sequences behind each other that do not see one another."""
    owner = np.repeat(np.arange(len(lengths)), lengths)[:rows]
    return owner[:, None] == owner[None]


def _some_rows_see_nothing() -> np.ndarray:
    visible = _band(130, 130, 130, 0)
    visible[[0, 77]] = False
    return visible


MASKS: dict[str, np.ndarray] = {
    "causal": _band(128, 128, 128, 0),
    "odd causal": _band(131, 131, 131, 0),
    "more columns than rows": _band(97, 151, 97, 54),
    "more rows than columns": _band(201, 97, 97, 0),
    "window": _band(192, 192, 20, 20),
    "packed": _packed(150, 60, 17, 73),
    "columns that no row sees": np.broadcast_to(np.arange(200) < 83, (70, 200)),
    "rows that see nothing": _some_rows_see_nothing(),
}


def added(low: float) -> Callable[..., Any]:
    def model(visible: np.ndarray) -> Callable[..., Any]:
        mask = np.where(visible, np.float32(0), np.float32(low))[None]
        return lambda q, k, v: tc.softmax((q @ tc.transpose(k, (0, 2, 1))) * 0.25 + mask, axis=-1) @ v

    return model


def chosen(visible: np.ndarray) -> Callable[..., Any]:
    return lambda q, k, v: tc.softmax(tc.where(visible, q @ tc.transpose(k, (0, 2, 1)), LOW), axis=-1) @ v


def heads_last(visible: np.ndarray) -> Callable[..., Any]:
    """Heads between the sequence and its features, before and behind, and the operands slices of one tensor."""
    mask = np.where(visible, np.float32(0), np.float32(-np.inf))

    def model(q: Any, k: Any, v: Any) -> Any:
        q, k, v = (tc.transpose(x.reshape(x.shape[1], 2, -1), (1, 0, 2)) for x in (q[:1], k[:1], v[:1]))
        return tc.transpose(tc.softmax(q @ tc.transpose(k, (0, 2, 1)) + mask, axis=-1) @ v, (1, 0, 2))

    return model


FORMS: dict[str, Callable[[np.ndarray], Callable[..., Any]]] = {
    "added": added(-np.inf),
    "added lowest": added(LOW),
    "chosen": chosen,
    "heads last": heads_last,
}


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("name", list(MASKS))
def test_values(name: str, form: str) -> None:
    visible = MASKS[name]
    rows, columns = visible.shape
    shapes = {"q": (2, rows, 24), "k": (2, columns, 24), "v": (2, columns, 24)}
    inputs = {n: RNG.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    fn = FORMS[form](visible)
    module = tc.trace(fn, **{n: tc.spec("f32", s) for n, s in shapes.items()})
    want = _reference(visible, inputs, form)
    got = tc.compile(module, threads=1)(*inputs.values())
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def _reference(visible: np.ndarray, inputs: dict[str, np.ndarray], form: str) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in inputs.values())
    if form == "heads last":
        q, k, v = (x[0].reshape(x.shape[1], 2, -1).transpose(1, 0, 2) for x in (q, k, v))
    scores = q @ k.transpose(0, 2, 1) * (0.25 if form.startswith("added") else 1.0)
    hidden = -np.inf if form in ("added", "heads last") else float(LOW)
    scores = np.where(visible, scores, hidden)
    with np.errstate(invalid="ignore"):
        e = np.exp(scores - scores.max(axis=-1, keepdims=True))
        y = e / e.sum(axis=-1, keepdims=True) @ v
    return y.transpose(1, 0, 2) if form == "heads last" else y


def test_a_causal_mask_makes_kernels_for_parts_of_the_rows() -> None:
    fn = FORMS["heads last"](MASKS["causal"])
    module = tc.trace(fn, **{n: tc.spec("f32", (2, 128, 24)) for n in "qkv"})
    kernels = compile_stages(module, "expr", threads=1).kernels
    assert len(kernels) == 3
    made = [s.tensors[0].shape for k in kernels.values() for s in k.program.scopes]
    shapes = {tuple(as_int(e) for e in shape) for shape in made}
    assert {(2, 48, 48), (2, 48, 96), (2, 32, 128)} <= shapes
    assert (2, 128, 128) not in shapes


def test_cut() -> None:
    assert cut(MASKS["causal"]) == ((0, 48, 0, 48), (48, 96, 0, 96), (96, 128, 0, 128))
    assert cut(MASKS["columns that no row sees"]) == ((0, 70, 0, 96),)
    assert cut(np.ones((128, 128), np.bool_)) == ()
    assert cut(_band(16, 16, 16, 0)) == ()


@pytest.mark.parametrize(
    "op, attrs, expected",
    [
        ("softmax", {"axis": -1}, True),
        ("softmax", {"axis": 0}, False),
        ("log_softmax", {"axis": -1}, False),
        ("relu", {}, False),
        ("exp", {}, True),
        ("cumsum", {"axis": -1}, False),
        ("layer_norm", {"axis": -1, "epsilon": 1e-5}, False),
    ],
)
def test_what_forgets_minus_infinity(op: str, attrs: dict[str, Any], expected: bool) -> None:
    assert (
        forgets(get(op).define([tensor_type("f32", (3, 40))] + ([None] * 2 if op == "layer_norm" else []), attrs))
        is expected
    )
