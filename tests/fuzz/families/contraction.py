"""Matrix products, gemms and einsums."""

from __future__ import annotations

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.table import family

DTYPES = ("float32",) * 8 + ("float64", "float16")


def _sides(d: Draw) -> tuple[int, int, int]:
    """Rows, columns and depth; now and then enough columns for several panels on each of two threads."""
    large = d.chance(0.12)
    while True:
        m, n, k = (d.dim(260, 0.015) for _ in range(3))
        if large:
            n = d.choice((255, 256, 257, 320, 511, 512, 513, 530, 1000, 1024, 1031))
        points, elements = (3_000_000, 60_000) if large else (150_000, 20_000)
        if m * n * k <= points and max(m * n, m * k, n * k) <= elements:
            return m, n, k


@family("matmul", opsets=(22, 13, 9), weight=8)
def matmul(d: Draw) -> None:
    m, n, k = _sides(d)
    dtype = d.choice((*DTYPES, "int32", "int64", "uint32", "uint64"))
    batch = d.shape(0, 3, max(4000 // max(m * k, k * n, 1), 1), zero=0)
    left, right = ([e if d.chance(0.7) else 1 for e in batch] for _ in range(2))
    left, right = left[d.integer(0, len(left)) :] if d.chance(0.4) else left, right
    if d.chance(0.4):
        right = right[d.integer(0, len(right)) :]
    a = (*left, m, k) if left or d.chance(0.85) else (k,)
    b = (*right, k, n) if right or d.chance(0.85) else (k,)
    x = d.input(a, dtype)
    y = d.weight(b, dtype) if d.chance(0.5) else d.input(b, dtype)
    z = d.node("MatMul", x, y)
    if dtype == "float32" and z.rank and d.chance(0.5):
        z = d.node("Add", z, d.weight(z.shape[-1:] if d.chance(0.7) else z.shape))
        if d.chance(0.5):
            z = d.node(d.choice(("Relu", "Sigmoid", "Tanh")), z)
    d.result(z)


@family("gemm", opsets=(22, 11, 7), weight=8)
def gemm(d: Draw) -> None:
    m, n, k = _sides(d)
    dtype = d.choice(DTYPES)
    attrs: dict[str, object] = {}
    over, under = d.chance(0.4), d.chance(0.4)
    if over:
        attrs["transA"] = 1
    if under:
        attrs["transB"] = 1
    if d.chance(0.4):
        attrs["alpha"] = d.choice((0.5, -2.0, 0.0, 1.5))
    if d.chance(0.4):
        attrs["beta"] = d.choice((0.5, -2.0, 0.0, 1.5))
    a = d.input((k, m) if over else (m, k), dtype)
    b = d.weight((n, k) if under else (k, n), dtype)
    c = None
    if d.opset < 11 or d.chance(0.7):
        c = d.weight(d.choice(((n,), (m, n), (1, n), (m, 1), (1,), ())), dtype)
    y = d.node("Gemm", a, b, c, **attrs)
    if d.chance(0.4):
        y = d.node(d.choice(("Relu", "Tanh", "LeakyRelu", "Softmax")), y)
    d.result(y)


@family("einsum", opsets=(22, 12), weight=8)
def einsum(d: Draw) -> None:
    """Random letters: batch, outer, summed away in one operand, repeated; an ellipsis now and then."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [letters[int(k)] for k in d.rng.permutation(26)[: d.integer(1, 6)]]
    size = {c: d.dim(20 if len(names) > 3 else 40) for c in names}
    while _product(size.values()) > 150_000:
        widest = max(size, key=lambda c: size[c])
        size[widest] = max(size[widest] // 2, 1)
    terms = []
    operands = d.choice((1, 2, 2, 2, 2, 3))
    for _ in range(operands):
        term = [c for c in names if d.chance(0.65)]
        d.rng.shuffle(term)
        terms.append(term)
    missing = [c for c in names if not any(c in t for t in terms)]
    terms[0] += missing
    repeated = d.chance(0.08) and bool(terms[0])
    if repeated:
        terms[0].append(d.choice(terms[0]))
    used = list(dict.fromkeys(c for t in terms for c in t))
    result = [c for c in used if d.chance(0.55)]
    d.rng.shuffle(result)
    ellipsis = d.chance(0.15)
    batch = d.shape(0, 2, 12, zero=0) if ellipsis else ()
    dtype = d.choice(("float32",) * 6 + ("float64", "int32"))
    inputs: list[Value] = []
    texts = []
    for t in terms:
        # what the dots stand for broadcasts
        with_dots = ellipsis and (not inputs or d.chance(0.6))
        own = [e if d.chance(0.75) else 1 for e in batch] if with_dots else []
        inputs.append(d.input((*own, *(size[c] for c in t)), dtype))
        texts.append(("..." if with_dots else "") + "".join(t))
    equation = ",".join(texts)
    if d.chance(0.85) or ellipsis:
        equation += "->" + ("..." if ellipsis else "") + "".join(result)
    if d.chance(0.1):
        equation = equation.replace(",", " , ").replace("->", " -> ")
    d.result(d.node("Einsum", *inputs, equation=equation))


def _product(sizes: object) -> int:
    total = 1
    for s in sizes:  # type: ignore[attr-defined]
        total *= s
    return total


@family("integer_matmul", opsets=(22, 10), weight=2)
def integer_matmul(d: Draw) -> None:
    """u8·s8 within what onnxruntime's pairwise 16-bit sums hold."""
    m, n, k = _sides(d)
    d.exact = True
    a = d.given(d.rng.integers(0, 100, (m, k)).astype("uint8"))
    b = d.given(d.rng.integers(-64, 64, (k, n)).astype("int8"))
    zero_a = d.constant(d.integer(0, 9), "uint8") if d.chance(0.6) else None
    zero_b = d.constant(d.integer(-5, 5), "int8") if d.chance(0.5) else None
    d.result(d.node("MatMulInteger", a, b, *([zero_a, zero_b] if zero_b else [zero_a] if zero_a else [])))
