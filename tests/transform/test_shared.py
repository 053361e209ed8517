"""Heads that share keys and values read them where they lie, as do vectors that are multiplied by a matrix once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.api import compile_stages

RNG = np.random.default_rng(11)
Shape = tuple[int, ...]


def inner(x: Any, times: int) -> Any:
    """Every head so many times, its copies next to each other."""
    b, h, n, d = x.shape
    return tc.broadcast_to(x.reshape(b, h, 1, n, d), (b, h, times, n, d)).reshape(b, h * times, n, d)


def outer(x: Any, times: int) -> Any:
    """All heads, so many times."""
    b, h, n, d = x.shape
    return tc.broadcast_to(x.reshape(b, 1, h, n, d), (b, times, h, n, d)).reshape(b, h * times, n, d)


def plain(x: Any, times: int) -> Any:
    """One head for all, by an expansion alone."""
    b, _, n, d = x.shape
    return tc.broadcast_to(x, (b, times, n, d))


def swapped(x: Any) -> Any:
    return tc.transpose(x, (0, 1, 3, 2))


def grouped(repeat: Callable[[Any, int], Any], times: int, masked: bool = False) -> Callable[..., Any]:
    def model(q: Any, k: Any, v: Any, *mask: Any) -> Any:
        scores = (q @ swapped(repeat(k, times))) * 0.25
        return tc.softmax(scores + mask[0] if masked else scores, axis=-1) @ repeat(v, times)

    return model


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | float) -> np.ndarray:
    scores = q.astype(np.float64) @ k.swapaxes(-1, -2) * 0.25 + mask
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


CASES: dict[str, tuple[Callable[[Any, int], Any], int, Shape, Shape]] = {
    "four share one, whole": (inner, 4, (1, 8, 45, 16), (1, 2, 61, 16)),
    "four share one, a row": (inner, 4, (1, 8, 1, 32), (1, 2, 1021, 32)),
    "three share one, a row": (inner, 3, (2, 6, 1, 33), (2, 2, 77, 33)),
    "two share one, three rows": (inner, 2, (1, 4, 3, 40), (1, 2, 130, 40)),
    "copies apart": (outer, 3, (1, 6, 19, 16), (1, 2, 33, 16)),
    "all share one": (inner, 6, (2, 6, 29, 16), (2, 1, 40, 16)),
    "expanded only": (plain, 6, (2, 6, 29, 16), (2, 1, 40, 16)),
    "one key": (inner, 2, (1, 4, 1, 8), (1, 2, 1, 8)),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", list(CASES))
def test_shared_heads(name: str, masked: bool) -> None:
    repeat, times, queries, keys = CASES[name]
    shapes = [queries, keys, keys, *([(1, 1, queries[2], keys[2])] if masked else [])]
    inputs = [RNG.standard_normal(s).astype(np.float32) for s in shapes]
    specs = {f"x{k}": tc.spec("f32", s) for k, s in enumerate(shapes)}
    module = tc.trace(lambda **x: grouped(repeat, times, masked)(*x.values()), **specs)
    kernels = compile_stages(module, "expr", threads=1).kernels
    # a single key is no matrix to transpose, and its copies are not worth looking for
    assert keys[2] == 1 or not any("expand" in k for k in kernels), list(kernels)
    q, k, v = inputs[:3]
    many = (lambda x: np.repeat(x, times, 1)) if repeat is not outer else (lambda x: np.tile(x, (1, times, 1, 1)))
    want = _attention(q, many(k), many(v), inputs[3] if masked else 0.0)
    for threads in (1, 2):
        np.testing.assert_allclose(tc.compile(module, threads=threads)(*inputs), want, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("keys, size", [(4096, 64), (1021, 128), (300, 80), (5000, 136), (16, 7)])
def test_a_few_rows_of_queries(rows: int, keys: int, size: int) -> None:
    q, k, v = (RNG.standard_normal(s).astype(np.float32) for s in ((3, rows, size), (3, keys, size), (3, keys, size)))

    def model(q: Any, k: Any, v: Any) -> Any:
        return tc.softmax((q @ tc.transpose(k, (0, 2, 1))) * 0.25, axis=-1) @ v

    module = tc.trace(model, **{n: tc.spec("f32", x.shape) for n, x in zip("qkv", (q, k, v), strict=True)})
    if rows < 4:  # more are worth a copy of the keys, which a chain of contractions makes close to the core
        names = list(compile_stages(module, "expr", threads=1).kernels)
        assert not any(n.startswith("transpose_") and n[10:].isdigit() for n in names), names
    want = _attention(q, k, v, 0.0)
    for threads in (1, 2):
        np.testing.assert_allclose(tc.compile(module, threads=threads)(q, k, v), want, rtol=1e-4, atol=2e-5)


def test_other_repetitions_stay() -> None:
    """Rows that repeat are no heads that share: the product does not know them."""
    k = RNG.standard_normal((2, 5, 3)).astype(np.float32)
    q = RNG.standard_normal((2, 15, 3)).astype(np.float32)

    def model(q: Any, k: Any) -> Any:
        rows = tc.broadcast_to(k.reshape(2, 5, 1, 3), (2, 5, 3, 3)).reshape(2, 15, 3)
        return q @ tc.transpose(rows, (0, 2, 1))

    got = tc.compile(tc.trace(model, q=tc.spec("f32", q.shape), k=tc.spec("f32", k.shape)), threads=1)(q, k)
    np.testing.assert_allclose(got, q @ np.repeat(k, 3, 1).swapaxes(1, 2), rtol=1e-5, atol=1e-5)
