"""Operators of random small sizes, as lowering leaves them: what random schedules are drawn for."""

from __future__ import annotations

import random
from collections.abc import Callable

from tcompiler.api import compile_stages
from tcompiler.frontend import builder as b
from tcompiler.frontend.module import GraphModule
from tcompiler.frontend.tensor import SymbolicTensor
from tcompiler.ir.loop.analysis import loops
from tcompiler.ir.loop.grammar import Function
from tcompiler.ir.loop.text import parse_function

Draw = Callable[[random.Random, bool], GraphModule]
_PRIMES = (3, 5, 7, 11, 13)
_EVEN = (2, 4, 6, 8)


def size(rng: random.Random, prime: bool, most: int = 13) -> int:
    """An extent: 1 now and then, otherwise a prime, or one that factors divide."""
    if rng.random() < 0.08:
        return 1
    return rng.choice([n for n in (_PRIMES if prime else _EVEN) if n <= most])


OPERATORS: dict[str, Draw] = {}


def operator(draw: Draw) -> Draw:
    """Enters an operator under its name."""
    OPERATORS[draw.__name__] = draw
    return draw


def traced(model: Callable[..., SymbolicTensor], *shapes: tuple[int, ...], dtype: str = "f32") -> GraphModule:
    """A model of inputs a, b, c … of those shapes."""
    return b.trace(model, *(b.spec(dtype, shape) for shape in shapes))


@operator
def matmul(rng: random.Random, prime: bool) -> GraphModule:
    m, n, k = (size(rng, prime) for _ in range(3))
    return traced(lambda x, y: x @ y, (m, k), (k, n))


@operator
def dense(rng: random.Random, prime: bool) -> GraphModule:
    m, n, k = (size(rng, prime) for _ in range(3))
    return traced(lambda x, y, z: b.relu(x @ y + z), (m, k), (k, n), (n,))


@operator
def einsum(rng: random.Random, prime: bool) -> GraphModule:
    x, y, i, j, k = (size(rng, prime, 5) for _ in range(5))
    return traced(lambda a, c: b.einsum("bikl,bjlk->bij", a, c), (i, x, y, k), (i, j, k, y))


@operator
def gemv(rng: random.Random, prime: bool) -> GraphModule:
    m, k = size(rng, prime), size(rng, prime) * 3
    return traced(lambda x, y: x @ y, (m, k), (k,))


@operator
def convolution(rng: random.Random, prime: bool) -> GraphModule:
    n, c, k = 1, rng.choice([1, 2, 3]), size(rng, prime, 5)
    h, w, r = size(rng, prime, 7) + 2, size(rng, prime, 7) + 2, rng.choice([1, 3])
    stride, pad = rng.choice([1, 2]), rng.choice([0, 1])
    return traced(lambda x, y: b.relu(b.conv(x, y, strides=stride, pads=pad)), (n, c, h, w), (k, c, r, r))


@operator
def depthwise(rng: random.Random, prime: bool) -> GraphModule:
    c, h, w = size(rng, prime, 7), size(rng, prime, 7) + 2, size(rng, prime, 7) + 2
    return traced(lambda x, y: b.conv(x, y, pads=1, groups=c), (1, c, h, w), (c, 1, 3, 3))


@operator
def transposed_convolution(rng: random.Random, prime: bool) -> GraphModule:
    c, k, n = rng.choice([1, 2]), rng.choice([1, 3]), size(rng, prime, 5)
    return traced(lambda x, y: b.conv_transpose(x, y, strides=2), (1, c, n), (c, k, 3))


@operator
def max_pool(rng: random.Random, prime: bool) -> GraphModule:
    c, h = size(rng, prime, 5), size(rng, prime, 7) + 2
    return traced(lambda x: b.max_pool(x, 3, strides=rng.choice([1, 2]), pads=1), (1, c, h, h))


@operator
def softmax(rng: random.Random, prime: bool) -> GraphModule:
    return traced(b.softmax, (size(rng, prime), size(rng, prime)))


@operator
def layer_norm(rng: random.Random, prime: bool) -> GraphModule:
    n, m = size(rng, prime), size(rng, prime) + 1
    return traced(lambda x, s, t: b.layer_norm(x, s, t), (n, m), (m,), (m,))


@operator
def mean(rng: random.Random, prime: bool) -> GraphModule:
    axis = rng.choice([0, 1, 2])
    return traced(lambda x: b.mean(x, axis) * 2.0, tuple(size(rng, prime, 7) for _ in range(3)))


@operator
def logsumexp(rng: random.Random, prime: bool) -> GraphModule:
    return traced(lambda x: b.logsumexp(x, 1), (size(rng, prime), size(rng, prime)))


@operator
def argmax(rng: random.Random, prime: bool) -> GraphModule:
    return traced(lambda x: b.argmax(x, 1), (size(rng, prime), size(rng, prime)))


@operator
def transpose(rng: random.Random, prime: bool) -> GraphModule:
    x, y, z = (size(rng, prime, 7) for _ in range(3))
    return traced(lambda a, c: b.transpose(a, (2, 0, 1)) + c, (x, y, z), (z, x, y))


@operator
def concatenate(rng: random.Random, prime: bool) -> GraphModule:
    m, n, k = (size(rng, prime) for _ in range(3))
    return traced(lambda x, y: b.concatenate([x, y * 2.0], 1), (m, n), (m, k))


@operator
def pad(rng: random.Random, prime: bool) -> GraphModule:
    m, n = size(rng, prime), size(rng, prime)
    return traced(lambda x: b.relu(b.pad(x, [(0, 1), (2, 1)])), (m, n))


@operator
def gelu(rng: random.Random, prime: bool) -> GraphModule:
    m, n = size(rng, prime), size(rng, prime)
    return traced(lambda x, y: b.gelu(x + y) * y, (m, n), (n,))


@operator
def integer_product(rng: random.Random, prime: bool) -> GraphModule:
    m, n, k = (size(rng, prime) for _ in range(3))
    return traced(lambda x, y: b.astype(x, "i32") @ b.astype(y, "i32"), (m, k), (k, n), dtype="i8")


def lowered(module: GraphModule) -> list[Function]:
    """The loop functions of a model's kernels."""
    c = compile_stages(module, "loop", threads=1)
    found = [parse_function(text) for name, text in c.texts.items() if name.startswith("loop/")]
    return [f for f in found if loops(f)]


def dot(rng: random.Random, prime: bool) -> Function:
    """A product of matrices whose right side is packed for an instruction of four lanes."""
    a, c, pack, zero = rng.choice(
        [("u8", "i32", 4, "i32(0)"), ("i16", "i32", 2, "i32(0)"), ("bf16", "f32", 2, "f32(0.0)")]
    )
    w = {"u8": "i8"}.get(a, a)
    m, n, k = size(rng, prime, 7), 4 * rng.choice([1, 2, 3]), pack * rng.choice([1, 2, 3])
    return parse_function(f"""
@loop.function
def dot(A: {a}[{m}, {k}], B: {w}[{k // pack}, {n}, {pack}], C: out({c}[{m}, {n}])):
    for m in range({m}):
        for n in range({n}):
            for k in range({k}):
                with block("C"):
                    vm = spatial({m}, m)
                    vn = spatial({n}, n)
                    vk = reduce({k}, k)
                    with init():
                        C[vm, vn] = {zero}
                    C[vm, vn] += cast({c}, A[vm, vk]) * cast({c}, B[vk // {pack}, vn, vk % {pack}])
""")


def program(rng: random.Random, prime: bool, names: tuple[str, ...]) -> Function:
    """A kernel of one of the operators named ("dot" is the packed product)."""
    name = rng.choice(names)
    return dot(rng, prime) if name == "dot" else rng.choice(lowered(OPERATORS[name](rng, prime)))


NAMES = (*OPERATORS, "dot")
