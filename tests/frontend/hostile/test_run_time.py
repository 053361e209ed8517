"""Values that a caller may give: compiled code reads and writes nothing outside, and no arithmetic traps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import tcompiler as tc
from tests.frontend.hostile.corpus import INT64_MAX, INT64_MIN, graph, info, model, node

F = np.float32
KINDS = {
    np.dtype(t): helper.np_dtype_to_tensor_dtype(np.dtype(t))
    for t in (F, np.float64, np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint16, np.uint32, np.uint64, np.bool_)
}
FAR = np.array([0, 2, 3, -1, -3, -4, 7, -9, 1 << 20, -(1 << 20), 1 << 40, -(1 << 40), INT64_MAX, INT64_MIN])
NEAR = FAR[np.abs(FAR) < 1 << 31].astype(np.int32)


def run(op: str, *arrays: np.ndarray, outputs: int = 1, threads: int = 1, **attrs: Any) -> Any:
    """What compiled code makes of arguments of a single node."""
    names = [f"x{k}" for k in range(len(arrays))]
    declared = [info(n, a.shape, KINDS[a.dtype]) for n, a in zip(names, arrays, strict=True)]
    results = [f"y{k}" for k in range(outputs)]
    return tc.compile(model([node(op, names, results, **attrs)], declared, results), threads=threads)(*arrays)


def places(at: np.ndarray, extent: int) -> np.ndarray:
    """Where an index reads: negative ones count from the end, and what is outside is brought to the nearest place."""
    front = [int(i) + extent if i < 0 else int(i) for i in at.reshape(-1)]
    return np.array([min(max(i, 0), extent - 1) for i in front]).reshape(at.shape)


def target(i: int, extent: int) -> int | None:
    """Where an index writes, None for nowhere."""
    i = i + extent if i < 0 else i
    return i if 0 <= i < extent else None


X = np.arange(12, dtype=F).reshape(3, 4)


@pytest.mark.parametrize("at", [FAR, NEAR], ids=["i64", "i32"])
@pytest.mark.parametrize("axis", [0, 1])
def test_gather(at: np.ndarray, axis: int) -> None:
    got = run("Gather", X, at, axis=axis)
    np.testing.assert_array_equal(got, np.take(X, places(at, X.shape[axis]), axis))


@pytest.mark.parametrize("at", [FAR, NEAR], ids=["i64", "i32"])
def test_gather_elements(at: np.ndarray) -> None:
    wide = np.stack([np.roll(at, k) for k in range(4)], 1)
    got = run("GatherElements", X, wide, axis=0)
    np.testing.assert_array_equal(got, np.take_along_axis(X, places(wide, 3), 0))


def test_gather_nd() -> None:
    at = np.stack([FAR, np.roll(FAR, 5)], 1)
    got = run("GatherND", X, at)
    np.testing.assert_array_equal(got, X[places(at[:, 0], 3), places(at[:, 1], 4)])


@pytest.mark.parametrize("op", ["ScatterND", "ScatterElements"])
@pytest.mark.parametrize("reduction", ["none", "add", "max"])
@pytest.mark.parametrize("threads", [1, 2])
def test_scatter(op: str, reduction: str, threads: int) -> None:
    at = FAR if op == "ScatterND" else np.repeat(FAR[:, None], 4, 1)
    updates = np.arange(FAR.size * 4, dtype=F).reshape(-1, 4) - 20
    indices = at[:, None] if op == "ScatterND" else at
    got = run(op, X, indices, updates, threads=threads, reduction=reduction)
    want = X.copy()
    for i, row in zip(FAR, updates, strict=True):
        place = target(int(i), 3)
        if place is not None:
            want[place] = {"none": row, "add": want[place] + row, "max": np.maximum(want[place], row)}[reduction]
    np.testing.assert_array_equal(got, want)


def test_scatter_of_more_than_the_data_has() -> None:
    """Indices in all axes of a larger box: what is outside is not written."""
    at = np.tile(np.array([0, 1, 2, 5, -3]), (6, 1))
    updates = np.ones((6, 5), F)
    got = run("ScatterElements", X, at, updates, axis=1, reduction="add")
    want = X.copy()
    for i in range(3):
        for j in (0, 1, 2, 1):
            want[i, j] += 1
    np.testing.assert_array_equal(got, want)


def test_one_hot() -> None:
    made = model(
        [node("OneHot", ["i", "d", "v"], ["y"])],
        [info("i", FAR.shape, TensorProto.INT64)],
        constants={"d": np.array(3), "v": np.array([0, 1], F)},
    )
    got = tc.compile(made, threads=1)(FAR)
    want = np.array([[float(target(int(i), 3) == k) for k in range(3)] for i in FAR], F)
    np.testing.assert_array_equal(got, want)


def test_reverse_sequence_of_any_length() -> None:
    lengths = np.array([INT64_MIN, -1, 0, 2, 3, 9, INT64_MAX])
    x = np.arange(21, dtype=F).reshape(3, 7)
    got = run("ReverseSequence", x, lengths, time_axis=0, batch_axis=1)
    want = x.copy()
    for k, n in enumerate(lengths):
        n = min(max(int(n), 0), 3)
        want[:n, k] = x[:n, k][::-1]
    np.testing.assert_array_equal(got, want)


def test_max_unpool_of_any_place() -> None:
    at = np.array([0, 5, 15, 16, -1, INT64_MAX, INT64_MIN, 1 << 40]).reshape(1, 1, 2, 4)
    x = np.arange(1, 9, dtype=F).reshape(1, 1, 2, 4)
    got = run("MaxUnpool", x, at, kernel_shape=[2, 1], strides=[2, 1])
    want = np.zeros(16, F)
    for i, v in zip(at.reshape(-1), x.reshape(-1), strict=True):
        place = target(int(i), 16)
        if place is not None:
            want[place] = v
    np.testing.assert_array_equal(got.reshape(-1), want)


INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8]


def pairs(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of awkward integers."""
    lim = np.iinfo(dtype)
    some = np.array(
        sorted({lim.min, lim.min + 1, lim.max, lim.max - 1, 0, 1, 2, 3, 7, *([-1, -2, -3] if lim.min else [])}), dtype
    )
    a, b = np.meshgrid(some, some)
    return a.reshape(-1).copy(), b.reshape(-1).copy()


def wrap(value: int, dtype: Any) -> int:
    bits = np.iinfo(dtype).bits
    value &= (1 << bits) - 1
    return value - (1 << bits) if np.iinfo(dtype).min < 0 and value >> (bits - 1) else value


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.__name__)
def test_division_of_integers(dtype: Any) -> None:
    """Division rounds towards zero, the modulo has the divisor's sign; by zero both are 0, and nothing traps."""
    a, b = pairs(dtype)

    def quotient(m: int, n: int) -> int:
        return 0 if n == 0 else wrap(abs(m) // abs(n) * (1 if (m < 0) == (n < 0) else -1), dtype)

    def remainder(m: int, n: int) -> int:
        return 0 if n == 0 else m % n

    both = list(zip(a.tolist(), b.tolist(), strict=True))
    np.testing.assert_array_equal(run("Div", a, b), np.array([quotient(m, n) for m, n in both], dtype))
    np.testing.assert_array_equal(run("Mod", a, b), np.array([remainder(m, n) for m, n in both], dtype))
    truncated = [0 if n == 0 else m - n * (abs(m) // abs(n) * (1 if (m < 0) == (n < 0) else -1)) for m, n in both]
    np.testing.assert_array_equal(run("Mod", a, b, fmod=1), np.array(truncated, dtype))


@pytest.mark.parametrize("dtype", [np.int32, np.int64], ids=lambda d: d.__name__)
def test_powers_of_integers(dtype: Any) -> None:
    """They wrap; a negative exponent gives the integer part of the reciprocal, and of zero 0."""
    a = np.array([0, 1, -1, 2, -2, 3, 10, np.iinfo(dtype).max, np.iinfo(dtype).min] * 7, dtype)
    b = np.repeat(np.array([0, 1, 2, 5, -1, -2, -63], dtype), 9)

    def power(m: int, n: int) -> int:
        if n >= 0:
            return wrap(pow(m, n), dtype)
        return {1: 1, -1: -1 if n % 2 else 1}.get(m, 0)

    want = np.array([power(m, n) for m, n in zip(a.tolist(), b.tolist(), strict=True)], dtype)
    np.testing.assert_array_equal(run("Pow", a, b), want)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts_past_the_width(direction: str) -> None:
    """Nothing is left of what is shifted by the width or more."""
    a, b = pairs(np.uint8)
    m, n = a.astype(int), np.minimum(b.astype(int), 8)
    want = (m << n if direction == "LEFT" else m >> n) & 255
    np.testing.assert_array_equal(run("BitShift", a, b, direction=direction), want.astype(np.uint8))


ODD = np.array(
    [np.nan, np.inf, -np.inf, 1e30, -1e30, 300.7, -300.7, 127.5, -128.5, 0.9, -0.9, -0.0, 2.0**63, 1e-40] * 3
)


@pytest.mark.parametrize("source", [F, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("to", INTEGERS, ids=lambda d: d.__name__)
def test_casts_of_floats_out_of_range(source: Any, to: Any) -> None:
    """They truncate and saturate, NaN gives 0."""
    x = ODD.astype(source)
    lim = np.iinfo(to)
    want = [0 if np.isnan(v) else int(min(max(v if np.isinf(v) else int(v), lim.min), lim.max)) for v in x.tolist()]
    np.testing.assert_array_equal(run("Cast", x, to=KINDS[np.dtype(to)]), np.array(want, to))


def test_casts_of_integers_wrap() -> None:
    x = np.array([0, 255, 256, -1, 1 << 31, 1 << 40, INT64_MAX, INT64_MIN])
    for to in (np.int8, np.uint8, np.int32):
        np.testing.assert_array_equal(run("Cast", x, to=KINDS[np.dtype(to)]), x.astype(to))


def test_quantization_by_any_scale() -> None:
    """x / 0 is infinite or NaN, and that saturates or is the zero point's 0."""
    x = np.array([1, -1, 0, np.nan, np.inf, -np.inf, 1e38, 3], F)
    for scale in (0.0, -0.0, np.nan, np.inf, 1e-45, -1.0):
        with np.errstate(all="ignore"):
            value = np.rint(x / F(scale)) + F(7)
        want = np.where(np.isnan(value), 0, np.clip(value, 0, 255)).astype(np.uint8)
        got = run("QuantizeLinear", x, np.array(scale, F), np.array(7, np.uint8))
        np.testing.assert_array_equal(got, want, err_msg=str(scale))


def test_sums_and_products_of_integers_wrap() -> None:
    x = np.array([[INT64_MAX, 1], [INT64_MIN, -1], [1 << 62, 1 << 62]])
    np.testing.assert_array_equal(run("ReduceSum", x, np.array([1]))[:, 0], [INT64_MIN, INT64_MAX, INT64_MIN])
    np.testing.assert_array_equal(run("Mul", x, x), x * x)
    np.testing.assert_array_equal(run("Abs", x), np.abs(x))
    np.testing.assert_array_equal(run("Neg", x), -x)


def test_bytes_that_are_no_bool() -> None:
    """A stored bool of 2 or 255 is true, and so is one that a caller's array has."""
    tensor = TensorProto(name="c", data_type=TensorProto.BOOL, dims=[4], raw_data=b"\x00\x01\x02\xff")
    made = model(
        [node("Where", ["c", "x", "z"], ["y"])], [info("x", [4])], constants={"z": np.zeros(4, F)}, tensors=[tensor]
    )
    np.testing.assert_array_equal(tc.compile(made, threads=1)(np.ones(4, F)), [0, 1, 1, 1])
    odd = np.array([0, 1, 2, 255] * 9, np.uint8).view(np.bool_)
    np.testing.assert_array_equal(run("Not", odd).view(np.uint8), [1, 0, 0, 0] * 9)
    np.testing.assert_array_equal(run("Cast", odd, to=TensorProto.FLOAT), [0, 1, 1, 1] * 9)


def test_top_k_takes_what_there_is() -> None:
    x = np.array([np.nan, 1, -np.inf, np.inf, 2, -0.0, 0.0], F)
    made = model([node("TopK", ["x", "k"], ["v", "i"])], [info("x", x.shape)], ["v", "i"], {"k": np.array([7])})
    values, at = tc.compile(made, threads=1)(x)
    assert sorted(at.tolist()) == list(range(7))
    np.testing.assert_array_equal(values, x[at])


def test_constants_and_calls_agree() -> None:
    """What is folded at compile time is what compiled code gives."""
    for dtype in (np.int32, np.int64):
        a, b = pairs(dtype)
        for op in ("Div", "Mod", "Pow", "Add", "Mul", "Sub"):
            g = graph([node(op, ["a", "b"], ["y"])], [], ["y"], {"a": a, "b": b})
            assert {numpy_helper.to_array(t).size for t in g.initializer} == {a.size}
            np.testing.assert_array_equal(tc.compile(model(g), threads=1)(), run(op, a, b), err_msg=op)
