"""Kernels from the builder: one kernel for one mathematics, and schedules that replay and parse to the same code."""

from __future__ import annotations

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.backends.llvm.build import kernel_hash
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.pipeline import Compilation, compose_programs, lower_programs, run_graph_passes, schedule_functions
from tcompiler.schedule.schedule import replay
from tcompiler.schedule.trace import Trace
from tcompiler.target.named import host

SIZES = [(64, 64, 64), (17, 13, 31), (1, 7, 5), (100, 1, 37), (1, 1, 1), (130, 70, 3), (5, 133, 1)]


def scheduled(fn: object, m: int, n: int, k: int, threads: int = 1) -> Compilation:
    module = tc.trace(fn, a=tc.spec("f32", (m, k)), b=tc.spec("f32", (k, n)))
    c = Compilation(module, host(), threads)
    for stage in (run_graph_passes, compose_programs, lower_programs, schedule_functions):
        stage(c)
    return c


def only(c: Compilation) -> str:
    (kernel,) = c.kernels.values()
    assert kernel.schedule is not None
    return kernel_hash(kernel.schedule.function, host())


@pytest.mark.parametrize(("m", "n", "k"), [(64, 48, 32), (1000, 1021, 997), (13, 7, 5)])
def test_an_einsum_with_other_names_is_the_same_kernel(m: int, n: int, k: int) -> None:
    def plain(a: tc.SymbolicTensor, b: tc.SymbolicTensor) -> tc.SymbolicTensor:
        return a @ b

    def other(a: tc.SymbolicTensor, b: tc.SymbolicTensor) -> tc.SymbolicTensor:
        return tc.einsum("qz,zu->qu", a, b)

    assert only(scheduled(plain, m, n, k)) == only(scheduled(other, m, n, k))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("m", "n", "k"), [(1024, 1024, 1024), (1000, 1021, 997), (33, 65, 17)])
def test_text_and_trace_give_the_identical_kernel(m: int, n: int, k: int, threads: int) -> None:
    c = scheduled(lambda a, b: a @ b, m, n, k, threads)
    (kernel,) = c.kernels.values()
    assert kernel.function is not None and kernel.schedule is not None
    expected = only(c)
    parsed = parse_function(print_function(kernel.schedule.function))
    assert kernel_hash(parsed, host()) == expected
    unscheduled = parse_function(print_function(kernel.function))
    again = replay(unscheduled, Trace.from_python(kernel.schedule.trace.to_python()))
    assert kernel_hash(again.function, host()) == expected


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("m", "n", "k"), SIZES)
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64"])
def test_matmul(m: int, n: int, k: int, threads: int, dtype: str) -> None:
    rng = np.random.default_rng(m * n + k)
    spec_a, spec_b = tc.spec(dtype, (m, k)), tc.spec(dtype, (k, n))
    model = tc.compile(tc.trace(lambda a, b: a @ b, a=spec_a, b=spec_b), threads=threads)
    numpy = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64}[dtype]
    if dtype.startswith("f"):
        a, b = rng.standard_normal((m, k)).astype(numpy), rng.standard_normal((k, n)).astype(numpy)
        tolerance = 4 * k * np.finfo(numpy).eps
    else:
        a, b = rng.integers(-9, 9, (m, k)).astype(numpy), rng.integers(-9, 9, (k, n)).astype(numpy)
        tolerance = 0
    expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(model(a, b), expected, rtol=tolerance, atol=tolerance * 4)


EXPRESSIONS = {
    "softmax": lambda x: tc.softmax(x, axis=-1),
    "softmax over rows": lambda x: tc.softmax(x, axis=0),
    "layer norm": lambda x: tc.layer_norm(x),
    "mean": lambda x: tc.mean(x, axis=0),
    "sum of all": lambda x: tc.sum(x),
    "max over the last": lambda x: tc.max(x, axis=-1),
    "transpose": lambda x: x.T,
    "reshape": lambda x: tc.reshape(x, (-1,)),
    "gelu": lambda x: tc.gelu(x),
    "broadcast": lambda x: x[:, None, :] - x[None, :, :],
    "slice": lambda x: x[::2, 1:],
    "concatenate": lambda x: tc.concatenate([x, x * np.float32(2)], axis=1),
    "argmax": lambda x: tc.argmax(x, axis=-1),
    "chain": lambda x: tc.tanh(tc.exp(-tc.maximum(x, np.float32(0)))) * x + tc.mean(x, axis=-1, keepdims=True),
    "gram": lambda x: x @ x.T,
    "identity": lambda x: x,
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(4, 8), (7, 13), (1, 1), (1, 37), (61, 2), (33, 129), (3, 5000)])
@pytest.mark.parametrize("name", list(EXPRESSIONS))
def test_expression(name: str, shape: tuple[int, int], threads: int) -> None:
    from tcompiler.ir.graph.evaluate import evaluate
    from tcompiler.ops.registry import get

    if name == "broadcast" and shape[0] * shape[0] * shape[1] > 1 << 18:
        pytest.skip("the result would be large; smaller shapes cover it")
    module = tc.trace(EXPRESSIONS[name], x=tc.spec("f32", shape))
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    (expected,) = evaluate(
        module.graph, {module.graph.inputs[0].name: x}, operators=get, constants=module.constants, widen=True
    ).values()
    result = tc.compile(module, threads=threads)(x)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_zero_size(shape: tuple[int, int]) -> None:
    x = np.zeros(shape, np.float32)
    model = tc.compile(tc.trace(lambda x: (tc.relu(x), tc.sum(x, axis=0), x @ x.T), x=tc.spec("f32", shape)), threads=2)
    for y, e in zip(model(x), (x, x.sum(0), x @ x.T), strict=True):
        np.testing.assert_array_equal(y, e)
