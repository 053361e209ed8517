"""Elements that lie in turn: taken apart and put together in registers, and nothing read or written beside them.

Every buffer ends right before a page that nobody may touch, and then begins right behind one.
"""

from __future__ import annotations

import pytest

from tcompiler.backends.llvm.codegen import generate
from tcompiler.target.named import get
from tests.backends.cases import Cases
from tests.backends.kernels import parsed

CASES = Cases()
case = CASES.add


def tile(inputs: str, output: str, count: int, lanes: int, statement: str, tiles: int = 2) -> str:
    """A nest of tiles of some streams, lanes along them."""
    return f"""
def f({inputs}, B: out({output})):
    for i in range({tiles}):
        for u in unrolled({count}):
            for j in vectorized({lanes}):
                with block("b"):
                    k = spatial({count}, u)
                    r = spatial({tiles * lanes}, i * {lanes} + j)
                    {statement}
"""


def dealt(dtype: str, count: int, lanes: int, step: int = 0) -> str:
    """Streams of a row each, from elements in turn."""
    step = step or count
    return tile(f"A: {dtype}[{2 * lanes}, {step}]", f"{dtype}[{count}, {2 * lanes}]", count, lanes, "B[k, r] = A[r, k]")


def woven(dtype: str, count: int, lanes: int, value: str = "A[k, r]", inputs: str = "") -> str:
    """Elements in turn, from streams of a row each."""
    inputs = inputs or f"A: {dtype}[{count}, {2 * lanes}]"
    return tile(inputs, f"{dtype}[{2 * lanes}, {count}]", count, lanes, f"B[r, k] = {value}")


for dtype in ("f32", "f64", "f16", "u8", "bool"):
    for count in (2, 3, 5, 6, 8, 12, 16):
        for lanes in (2, 5, 16, 64):
            case(f"{count} {dtype} streams dealt out to {lanes} lanes", dealt(dtype, count, lanes))
            case(f"{count} {dtype} streams woven from {lanes} lanes", woven(dtype, count, lanes))
for count in (7, 13):
    for lanes in (4, 13, 32):
        for dtype in ("f32", "u8"):
            case(f"{count} {dtype} streams dealt out to {lanes} lanes", dealt(dtype, count, lanes))
            case(f"{count} {dtype} streams woven from {lanes} lanes", woven(dtype, count, lanes))
for count, step in ((3, 4), (2, 3), (5, 9)):
    for lanes in (3, 16):
        case(f"{count} of {step} streams dealt out to {lanes} lanes", dealt("u8", count, lanes, step))
case("streams in another order", woven("f32", 3, 16, "A[r, 2 - k]", "A: f32[32, 3]"))
case("streams in their order", woven("f32", 3, 16, "A[r, k]", "A: f32[32, 3]"))
case("some of the streams in their order", woven("f32", 3, 16, "A[r, k]", "A: f32[32, 4]"))
case("the same for all", woven("f32", 3, 8, "A[k]", "A: f32[3]"))
case("the same in all streams", woven("f32", 3, 8, "A[r]", "A: f32[16]"))
case("a stream of ones beside others", woven("u8", 3, 16, "select(k < 2, A[k, r], u8(1))", "A: u8[2, 32]"))
case(
    "streams from here and there",
    woven("f32", 4, 16, "select(k < 1, A[r], select(k < 3, C[r, k - 1], A[r] * C[r, 0]))", "A: f32[32], C: f32[32, 2]"),
)
case(
    "widened, scaled and put together",
    tile("A: u8[3, 64], C: f32[3]", "f32[64, 3]", 3, 32, "B[r, k] = cast(f32, A[k, r]) * C[k]"),
)
case(
    "taken apart, narrowed and put together in another order",
    tile("A: f32[64, 3]", "u8[64, 3]", 3, 32, "B[r, k] = cast(u8, A[r, 2 - k] * f32(2.0))"),
)
case(
    "not all of what lies in turn is written",
    """
def f(A: f32[2, 16], B: out(f32[16, 3])):
    for q in range(16):
        with block("c"):
            vq = spatial(16, q)
            B[vq, 2] = f32(7.0)
    for u in unrolled(2):
        for j in vectorized(16):
            with block("b"):
                k = spatial(2, u)
                r = spatial(16, j)
                B[r, k] = A[k, r]
""",
)


@pytest.mark.parametrize("machine", ["host", "x86-64-v3", "x86-64-v2"])
@pytest.mark.parametrize("name", CASES.named)
def test_streams(name: str, machine: str) -> None:
    CASES.check(name, machine)


@pytest.mark.parametrize("text", [dealt("f32", 3, 16), woven("f32", 3, 16)])
def test_memory_is_touched_in_whole_vectors(text: str) -> None:
    code = generate(parsed("@loop.function" + text), get("znver5"), "k").text
    assert code.count("= load <16 x float>") == code.count("store <16 x float>") == 3
    assert "insertelement" not in code and "extractelement" not in code and "masked" not in code
