"""The builder against numpy: one function, run on arrays and traced."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tcompiler.frontend.builder as tb
from tcompiler.errors import CompileError
from tcompiler.frontend.module import GraphModule
from tcompiler.frontend.tensor import lift
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.graph.verify import verify
from tcompiler.ops.registry import get

RNG = np.random.default_rng(7)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(module: GraphModule, *arrays: np.ndarray) -> list[np.ndarray]:
    """The outputs in order, after verification."""
    verify(module.graph, operators=get, constants=module.constants)
    inputs = {v.name: a for v, a in zip(module.graph.inputs, arrays, strict=True)}
    results = evaluate(module.graph, inputs, operators=get, constants=module.constants)
    return [results[v.name] for v in module.graph.outputs]


def specs(*arrays: np.ndarray) -> list[tb.Spec]:
    return [tb.spec(a.dtype, a.shape) for a in arrays]


def same(fn: Callable[..., Any], *arrays: np.ndarray, exact_dtype: bool = True) -> None:
    """A function gives the same on arrays and traced."""
    want = fn(*arrays)
    got = run(tb.trace(fn, *specs(*arrays)), *arrays)
    for g, w in zip(got, want if isinstance(want, (tuple, list)) else [want], strict=True):
        w = np.asarray(w)
        assert g.shape == w.shape
        assert not exact_dtype or g.dtype == w.dtype
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5)


def test_operators() -> None:
    x, y = f32(3, 5), f32(5)
    same(lambda a, b: (a + b, a - b, a * b, a / b, -a, abs(a), +a, a**2), x, y)
    same(lambda a: (1 + a, 2 - a, 3 * a, 4 / a, 2**a, a + 1.5, a / 2, a > 0, a >= 0.5, a == a, a != 0), x)
    i, j = RNG.integers(-9, 9, (3, 5)), RNG.integers(1, 9, 5)
    same(lambda a, b: (a // b, a % b, a & b, a | b, a ^ b, ~a, a << 2, a >> 1, 7 // b, 7 % b, a / b), i, j)
    same(lambda a, b: (a @ b, b.T @ a.T), f32(3, 5), f32(5, 2))


def test_numpy_functions() -> None:
    x, y = np.abs(f32(3, 5)) + 0.1, f32(3, 5)
    same(
        lambda a, b: (
            np.exp(b),
            np.log(a),
            np.sqrt(a),
            np.tanh(b),
            np.maximum(b, 0),
            np.minimum(a, b),
            np.where(b > 0, a, -1.0),
            np.power(a, 1.5),
            np.sign(b),
            np.floor(b),
            np.rint(b),
            np.square(b),
            np.absolute(b),
            np.logical_and(a > 1, b > 0),
            np.logical_not(b > 0),
            np.isfinite(b),
            np.arctan2(a, b),
            np.clip(b, -0.5, 0.5),
        ),
        x,
        y,
    )
    same(
        lambda a, b: (
            np.concatenate([a, b], axis=1),
            np.stack([a, b], axis=-1),
            np.transpose(a),
            np.reshape(a, (5, 3)),
            np.expand_dims(a, (0, -1)),
            np.squeeze(np.expand_dims(a, 1)),
            np.broadcast_to(a, (2, 3, 5)),
            np.tile(a, (2, 1, 2)),
            np.flip(a, 1),
            np.swapaxes(a, 0, 1),
            np.moveaxis(np.stack([a, b]), 0, -1),
            np.pad(a, ((1, 2), (0, 1)), mode="edge"),
            np.tril(a),
            np.triu(a, 1),
            *np.split(a, [2, 3], axis=1),
        ),
        x,
        y,
    )
    same(
        lambda a, b: (
            np.sum(a),
            np.mean(a, axis=0),
            np.max(b, axis=1, keepdims=True),
            np.min(b),
            np.prod(a, axis=(0, 1)),
            np.var(b, axis=1),
            np.std(b),
            np.any(b > 0, axis=0),
            np.all(b > -9),
            np.argmax(b, axis=1),
            np.argmin(b),
            np.einsum("ij,kj->ik", a, b),
            np.matmul(a, b.T),
            np.dot(a, b.T),
            np.outer(a[0], b[1]),
            np.take(b, np.array([2, 0]), axis=1),
        ),
        x,
        y,
    )


def test_methods() -> None:
    x = f32(2, 3, 4)
    same(
        lambda a: (
            a.T,
            a.reshape(6, 4),
            a.reshape((4, -1)),
            a.transpose(1, 0, 2),
            a.transpose((2, 1, 0)),
            a.transpose(),
            a.flatten(),
            a.sum(axis=(0, 2)),
            a.mean(),
            a.max(axis=-1, keepdims=True),
            a.min(axis=0),
            a.prod(axis=1),
            a.astype(np.int32),
            a.astype(np.float64),
        ),
        x,
    )


def test_indexing() -> None:
    x = f32(4, 5, 6)
    same(
        lambda a: (
            a[1],
            a[-1, 2],
            a[1:3],
            a[:, ::2],
            a[..., 0],
            a[:, None, 1:-1],
            a[::-1],
            a[3:0:-2, ..., -1],
            a[2:2],
            a[0, 1, 2],
            a[None],
            a[..., None],
            a[np.array([3, 0, -1])],
            a[:, [1, 1]],
            a[1:, :, np.array([[0, 5], [2, 3]])],
        ),
        x,
    )
    same(lambda a, i: a[i], x, np.array([[1, -1], [0, 3]]))


def test_promotion_follows_numpy() -> None:
    f, d, i, b = f32(3), RNG.standard_normal(3), np.arange(3, dtype=np.int32), np.array([True, False, True])
    same(lambda a, c: (a + c, a + 1, a + 1.5, a * 2.0), f, d)
    same(lambda a, c: (a + c, a + 1, a + 1.5, a / 2, np.exp(a), a.sum(), a.mean()), i, i.astype(np.int64))
    same(lambda a, c: (a + c, c + 1, c.sum(), np.where(c, a, 0)), f, b)
    half = f.astype(np.float16)
    same(lambda a: (a + 1.5, a + np.float32(1)), half, exact_dtype=True)


def test_constants_are_shared_and_small_ones_folded() -> None:
    w = f32(5, 2)
    module = tb.trace(lambda x: x @ w + x @ w.copy(), tb.spec("f32", (3, 5)))
    assert len(module.graph.constants) == 1

    def fn(x: Any) -> Any:
        half = lift(x.writer, np.float32(0.5))
        return x * (half + 1)

    module = tb.trace(fn, tb.spec("f32", (3,)))
    assert [n.op for n in module.graph.nodes] == ["mul"]


def test_networks_functions() -> None:
    x, w, b = f32(2, 4, 9, 7), f32(6, 2, 3, 3), f32(6)

    def fn(x: Any) -> dict[str, Any]:
        y = tb.relu(tb.conv(x, w, b, strides=2, pads=1, groups=2))
        y = tb.batch_norm(y, np.abs(b), b, b, np.abs(b))
        return {"pooled": tb.max_pool(y, 2), "mean": tb.average_pool(y, 3, strides=1, pads=1), "last": tb.gelu(y)}

    module = tb.trace(fn, tb.spec("f32", x.shape))
    assert [v.label for v in module.graph.outputs] == ["pooled", "mean", "last"]
    pooled, mean, last = run(module, x)
    assert pooled.shape == (2, 6, 2, 2)
    assert mean.shape == last.shape == (2, 6, 5, 4)


def test_attention() -> None:
    q, k, v, mask = f32(2, 3, 5, 8), f32(2, 3, 7, 8), f32(2, 3, 7, 4), f32(5, 7)

    def reference(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray) -> np.ndarray:
        s = q @ k.swapaxes(-1, -2) / np.sqrt(8) + mask
        e = np.exp(s - s.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True) @ v

    (got,) = run(tb.trace(tb.scaled_dot_product_attention, *specs(q, k, v, mask)), q, k, v, mask)
    np.testing.assert_allclose(got, reference(q, k, v, mask), rtol=1e-5, atol=1e-5)


def test_names_and_labels() -> None:
    def fn(x: Any, weight: Any, *, bias: Any) -> Any:
        return x @ weight + bias

    module = tb.trace(fn, tb.spec("f32", (2, 3)), tb.spec("f32", (3, 4)), bias=tb.spec("f32", 4))
    assert module.graph.name == "fn"
    assert [v.label for v in module.graph.inputs] == ["x", "weight", "bias"]
    assert [v.name for v in module.graph.inputs] == ["v0", "v1", "v2"]
    assert [v.label for v in module.graph.outputs] == ["output"]


def test_outputs_are_distinct_buffers() -> None:
    x = f32(3)
    module = tb.trace(lambda a: (a, a + 1, np.float32(7)), tb.spec("f32", (3,)))
    got = run(module, x)
    np.testing.assert_array_equal(got[0], x)
    assert got[2].item() == 7

    def twice(a: Any) -> Any:
        y = a + 1
        return y, y

    module = tb.trace(twice, tb.spec("f32", (3,)))
    assert len({v.name for v in module.graph.outputs}) == 2
    np.testing.assert_array_equal(*run(module, x))


def test_symbolic_extents() -> None:
    def fn(x: Any, w: Any) -> Any:
        y = tb.softmax(x @ w)
        return y.reshape(-1, 2, 2).transpose(1, 0, 2), y[:, 1:3], x[None].sum(axis=-1)

    module = tb.trace(fn, tb.spec("f32", ("n", 3)), tb.spec("f32", (3, 4)))
    assert [p.name for p in module.graph.params] == ["n"]
    x, w = f32(5, 3), f32(3, 4)
    inputs = dict(zip((v.name for v in module.graph.inputs), (x, w), strict=True))
    results = evaluate(module.graph, inputs, {"n": 5}, operators=get, constants=module.constants)
    assert [results[v.name].shape for v in module.graph.outputs] == [(2, 5, 2), (5, 2), (1, 5)]


def test_decorator() -> None:
    @tb.function(tb.spec("f32", (3,)), y=tb.spec("f32", (3,)))
    def double_sum(x: Any, y: Any) -> Any:
        return (x + y) * 2

    assert isinstance(double_sum, GraphModule)
    assert double_sum.graph.name == "double_sum"


REFUSED: list[tuple[Callable[..., Any], str]] = [
    (
        lambda x: 1 if x > 0 else 2,
        "a symbolic tensor has no truth value while tracing; use where(condition, a, b)",
    ),
    (lambda x: float(x), "a symbolic tensor has no value while tracing"),
    (lambda x: np.linalg.norm(x), "numpy.norm has no counterpart for symbolic tensors"),
    (lambda x: np.add.reduce(x), "numpy.add.reduce has no counterpart for symbolic tensors"),
    (lambda x: np.exp(x, where=False), "numpy.exp with where has no counterpart for symbolic tensors"),
    (lambda x: x[9], "index 9 is out of range for axis 0 of SymbolicTensor(f32[4, 3])"),
    (lambda x: x[0, 0, 0], "3 indices for SymbolicTensor(f32[4, 3]), expected at most 2 and one '...'"),
    (
        lambda x: x["a"],
        "an index of type str; expected an integer, a slice, None, '...' or an array of integers",
    ),
    (lambda x: x[[0], [1]], "two arrays of indices for SymbolicTensor(f32[4, 3]), expected at most one"),
    (
        lambda x: x + np.zeros(3, np.complex64),
        "no element type dtype('complex64'); expected one of f32, f64, f16, bf16, i8, u8, i16, u16, i32, "
        "u32, i64, u64, bool",
    ),
    (
        lambda x: x + "a",
        "expected a number or an array of numbers, found str",
    ),
    (lambda x: tb.split(x, 3), "split: an axis of 4 elements does not divide into 3 equal sections"),
]


@pytest.mark.parametrize(("fn", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(fn: Callable[..., Any], message: str) -> None:
    with pytest.raises(CompileError) as error:
        tb.trace(fn, tb.spec("f32", (4, 3)))
    assert str(error.value) == message


def test_refused_specs() -> None:
    with pytest.raises(CompileError) as error:
        tb.spec("f32", (-1,))
    assert str(error.value) == "spec: extent -1, expected an integer of at least 0 or a name"
    with pytest.raises(CompileError) as error:
        tb.spec("float128", (1,))
    assert str(error.value).startswith("no element type 'float128'")
    with pytest.raises(CompileError) as error:
        tb.trace(lambda x: x, np.zeros(3))  # type: ignore[arg-type]
    assert str(error.value) == "trace: an argument is ndarray, expected a spec(dtype, shape)"
