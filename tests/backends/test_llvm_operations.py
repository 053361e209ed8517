"""Every operation on every dtype, scalar and in vectors, against what the scalar language says it does."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from tcompiler.backends.llvm.math import FUNCTIONS, ulp_bound
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DTYPES, DType
from tcompiler.ir.loop.grammar import Buffer, Function, LoopKind, Stmt, Store, seq
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar import semantics
from tcompiler.ir.scalar.evaluate import evaluate
from tcompiler.ir.scalar.grammar import (
    BINARY,
    COMPARISONS,
    UNARY,
    Binary,
    Cast,
    Const,
    Load,
    Scalar,
    Select,
    Unary,
    Var,
    index,
    postorder,
)
from tcompiler.ir.scalar.rewrite import substitute
from tcompiler.ir.scalar.text import operand_error
from tcompiler.runtime.elf import symbols
from tcompiler.target.named import get
from tests.backends.kernels import Array, built, call, nest, same

LANES = (1, 8, 5, 13)
COUNT = 520
"""Elements of every operand: a multiple of every vector length."""

MACHINES = [
    (d, m) for d in DTYPES.values() for m in ("host", "x86-64-v2") if m == "host" or d in (dt.f16, dt.f32, dt.u8)
]
"""Every dtype here, and some as on a machine without conversions of halves and fused multiply-add."""

_NARROW = ("f16", "bf16")


def specials(dtype: DType) -> list[int]:
    """Bit patterns that something is special about."""
    if dtype is dt.bool_:
        return [0, 1]
    if not dtype.is_float:
        n = dtype.bits
        values = [0, 1, -1, 2, -2, 3, 7, n - 1, n, n + 1, -n, 1 << (n - 1), (1 << (n - 1)) - 1, (1 << (n - 1)) + 1]
        return [v & ((1 << n) - 1) for v in values]
    mantissa = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}[dtype.name]
    top = dtype.bits - 1
    exponents = ((1 << top) - 1) >> mantissa << mantissa
    one = ((1 << (top - mantissa - 1)) - 1) << mantissa
    step = 1 << (mantissa - 1)
    positive = [
        *(0, 1, 3, (1 << mantissa) - 1, 1 << mantissa),  # zero, denormals, the smallest normal number
        *(one, one - 1, one + 1, one - 2 * step, one + step, one + 2 * step, one + 3 * step),  # 1 and near, .5 1.5 2 3
        *(one + 4 * step + step // 2, exponents - 1, exponents, exponents + step),  # 4.5, the largest, inf, NaN
    ]
    return [*positive, *(p | 1 << top for p in positive)]


def operands(dtype: DType, seed: int) -> tuple[Array, Array]:
    """Two arrays: pairs of special values, and random ones."""
    rng = random.Random(seed)
    pairs = list(product(specials(dtype), repeat=2))
    rng.shuffle(pairs)
    del pairs[COUNT * 4 // 5 :]
    width = 1 << (1 if dtype is dt.bool_ else dtype.bits)
    while len(pairs) < COUNT:
        pairs.append((rng.randrange(width), rng.randrange(width)))
    unsigned = np.dtype(f"u{dtype.bytes}")
    a, b = (np.array(column, unsigned).view(dtype.numpy) for column in zip(*pairs, strict=True))
    return a, b


def legal(dtype: DType) -> list[tuple[str, int]]:
    """The operations that take operands of a dtype, with how many."""
    return [(op, 1) for op in UNARY if operand_error(op, [dtype]) is None] + [
        (op, 2) for op in BINARY if operand_error(op, [dtype, dtype]) is None
    ]


def function_of(
    name: str, inputs: list[Buffer], cells: list[tuple[str, DType, list[Scalar]]], v: Var, lanes: tuple[int, ...]
) -> Function:
    """A function that computes expressions over v in [0, COUNT) in loops of every vector length.

    Args:
        name: Its name.
        inputs: Its inputs.
        cells: Output buffers by name and dtype, with the expressions that fill their rows.
        v: The variable in the expressions.
        lanes: Vector lengths; output rows come once for each.
    """
    outputs = [Buffer(n, d, (index(len(lanes)), index(len(rows)), index(COUNT))) for n, d, rows in cells if rows]
    body: list[Stmt] = []
    for form, length in enumerate(lanes):
        kind: LoopKind = "serial" if length == 1 else "vectorized"

        def stores(x: Var, form: int = form) -> Stmt:
            return seq(
                *(
                    Store(n, (index(form), index(row), x), substitute(e, {v: x}))
                    for n, _, rows in cells
                    for row, e in enumerate(rows)
                )
            )

        body.append(
            nest(
                f"lanes{length}",
                [(COUNT // length, "serial"), (length, kind)],
                lambda i, j, length=length: [(COUNT, i * length + j)],
                stores,
            )
        )
    function = Function(
        name,
        (),
        (*inputs, *outputs),
        tuple(b.name for b in inputs),
        tuple(b.name for b in outputs),
        seq(*body),
    )
    verify(function)
    return function


V = Var("v", dt.i64, index(COUNT))


def check(op: str, dtype: DType, found: Array, expected: Array, operands: tuple[Array, ...], where: str) -> None:
    """The same bits, or for what is no exact function a result within its error."""
    right = same(found, expected)
    if op in FUNCTIONS and not right.all():
        right |= _near(op, dtype, found, expected)
    elif op in ("min", "max") and dtype.is_float:
        right |= (found == 0) & (expected == 0)
    elif op == "rsqrt":
        right |= _near(op, dtype, found, expected)
    if not right.all():
        k = int(np.flatnonzero(~right)[0])
        given = ", ".join(repr(a[k]) for a in operands)
        raise AssertionError(f"{op}({given}) is {expected[k]!r}; {where} gives {found[k]!r} ({(~right).sum()} differ)")


def _near(op: str, dtype: DType, found: Array, expected: Array) -> Array:
    """Where two results differ by no more than the function's error and the roundings of the reference's."""
    bound = 1.0
    if dtype.name not in _NARROW and op in FUNCTIONS:
        # numpy's own functions in double are a few units off
        bound = ulp_bound(op, dtype.name) + (0.5 if dtype is dt.f32 else 4.0)
    with np.errstate(all="ignore"):
        wide = expected.astype(np.float64)
        ulp = np.abs(np.spacing(expected)).astype(np.float64)
        near: Array = np.isfinite(wide) & (np.abs(found.astype(np.float64) - wide) <= bound * ulp)
    return near


def operations(dtype: DType) -> tuple[Function, list[tuple[str, int, str, int]]]:
    """Every legal operation on X and Y; with each its operands' number, its output and the row there."""
    x, y = Buffer("X", dtype, (index(COUNT),)), Buffer("Y", dtype, (index(COUNT),))
    p, q = Load("X", dtype, (V,)), Load("Y", dtype, (V,))
    cells: dict[DType, list[Scalar]] = {dtype: [], dt.bool_: []}
    places = []
    for op, arity in legal(dtype):
        node = Unary(op, p) if arity == 1 else Binary(op, p, q)
        places.append((op, arity, f"R_{node.dtype}", len(cells[node.dtype])))
        cells[node.dtype].append(node)
    rows = [(f"R_{d}", d, found) for d, found in cells.items()]
    return function_of("operations", [x, y], rows, V, LANES), places


def meaning(op: str, dtype: DType, *values: Array) -> Array:
    apply = semantics.unary if len(values) == 1 else semantics.binary
    return apply(op, dtype, *values)


@pytest.mark.parametrize(("dtype", "machine"), MACHINES, ids=str)
def test_every_operation(dtype: DType, machine: str) -> None:
    a, b = operands(dtype, 1)
    function, places = operations(dtype)
    (kernel,) = built([function], get(machine))
    got = call(function, kernel, {"X": a, "Y": b})
    for op, arity, output, row in places:
        expected = meaning(op, dtype, *(a, b)[:arity])
        for form, lanes in enumerate(LANES):
            check(op, dtype, got[output][form, row], expected, (a, b)[:arity], f"{dtype} in {lanes} lanes on {machine}")


@pytest.mark.parametrize("dtype", [dt.f16, dt.bf16, dt.f32, dt.i8, dt.i64], ids=str)
def test_code_for_wider_machines_calls_nothing_from_outside(dtype: DType) -> None:
    (kernel,) = built([operations(dtype)[0]], get("sapphirerapids"))
    _, undefined = symbols(kernel.object_bytes)
    assert undefined <= {"memcpy", "memmove", "memset"}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_operands_that_are_constants_or_the_same_in_every_lane(dtype: DType) -> None:
    a, _ = operands(dtype, 2)
    p = Load("X", dtype, (V,))
    bits = specials(dtype)
    if dtype.is_float:
        # zeros, a denormal, one, the largest, infinity, a NaN, a negative one
        bits = [bits[k] for k in (0, 1, 5, 13, 14, 15, 16, 21)]
    elif dtype is not dt.bool_:
        # 0, 1, -1, -2, 7, the width, the smallest and the largest
        bits = [bits[k] for k in (0, 1, 2, 4, 6, 8, 11, 12)]
    constants = [Const(dtype, k) for k in bits]
    every = np.array(bits, np.dtype(f"u{dtype.bytes}")).view(dtype.numpy)
    cells: dict[DType, list[Scalar]] = {dtype: [], dt.bool_: []}
    wanted: list[tuple[str, DType, int, Array, tuple[Array, ...]]] = []
    for op, arity in legal(dtype):
        if arity == 1 or op in FUNCTIONS:
            continue
        for k, c in enumerate(constants):
            given = Load("C", dtype, (index(k),))
            for node in (Binary(op, p, c), Binary(op, c, p), Binary(op, p, given), Binary(op, given, p)):
                assert isinstance(node.a, Load | Const)
                values = tuple(a if side is p else np.full_like(a, every[k]) for side in (node.a, node.b))
                wanted.append((op, node.dtype, len(cells[node.dtype]), meaning(op, dtype, *values), values))
                cells[node.dtype].append(node)
    buffers = [Buffer("X", dtype, (index(COUNT),)), Buffer("C", dtype, (index(len(constants)),))]
    function = function_of("operands", buffers, [(f"R_{d}", d, found) for d, found in cells.items()], V, (1, 8))
    got = call(function, built([function])[0], {"X": a, "C": every})
    for op, d, row, expected, values in wanted:
        for form, lanes in enumerate((1, 8)):
            check(op, dtype, got[f"R_{d}"][form, row], expected, values, f"{dtype} in {lanes} lanes")


@pytest.mark.parametrize(("dtype", "machine"), MACHINES, ids=str)
def test_casts_and_selects(dtype: DType, machine: str) -> None:
    a, b = operands(dtype, 3)
    p, q = Load("X", dtype, (V,)), Load("Y", dtype, (V,))
    chosen = Select(Load("M", dt.bool_, (V,)), p, q)
    by_first = Select(Binary("lt", p, q), q, p)
    rows: list[tuple[str, DType, list[Scalar]]] = [
        (f"R_{d}", d, [Cast(d, p), chosen, by_first] if d is dtype else [Cast(d, p)]) for d in DTYPES.values()
    ]
    buffers = [Buffer(n, d, (index(COUNT),)) for n, d in (("X", dtype), ("Y", dtype), ("M", dt.bool_))]
    function = function_of("casts", buffers, rows, V, LANES)
    mask = np.random.default_rng(4).integers(0, 2, COUNT).astype(bool)
    (kernel,) = built([function], get(machine))
    got = call(function, kernel, {"X": a, "Y": b, "M": mask})
    for form, lanes in enumerate(LANES):
        where = f"in {lanes} lanes on {machine}"
        for d in DTYPES.values():
            check(f"cast to {d}", d, got[f"R_{d}"][form, 0], semantics.cast(a, dtype, d), (a,), where)
        own = got[f"R_{dtype}"][form]
        check("select", dtype, own[1], np.where(mask, a, b), (mask, a, b), where)
        check("select", dtype, own[2], np.where(meaning("lt", dtype, a, b), b, a), (a, b), where)


def test_operations_on_indices() -> None:
    # not values from memory: what code generation reads as linear forms over the loops
    x = V - 260
    y = V % 13 - 6
    c = [index(k) for k in (-7, -1, 0, 1, 2, 8)]
    rows: list[Scalar] = [x * y, x * 3 + y * 5 - V, Unary("abs", x), Unary("neg", y), Unary("not", x), Unary("sign", y)]
    for op in (op for op, arity in legal(dt.i64) if arity == 2 and op not in COMPARISONS):
        rows += [Binary(op, x, y), Binary(op, y, x)]
        rows += [Binary(op, x, k) for k in c] + [Binary(op, k, y) for k in c]
    rows += [(x * 6 + y * 4) // 4 + (x * 6 + y) % 4, (V // 13) * 13 + V % 13, (V * 3 + 1) // 3 * 2 + (V * 3 + 1) % 3]
    rows += [Select(Binary(op, x, y), x // 3, y * 7) for op in sorted(COMPARISONS)]
    tests = [
        Binary(op, x, k) for op in sorted(COMPARISONS) for k in (y, *(index(n) for n in (-261, -260, 0, 259, 260)))
    ]
    floats: list[Scalar] = [Cast(dt.f32, x), Cast(dt.f32, x * y)]
    cells: list[tuple[str, DType, list[Scalar]]] = [
        ("I", dt.i64, rows),
        ("B", dt.bool_, list(tests)),
        ("F", dt.f32, floats),
    ]
    function = function_of("indices", [], cells, V, (1, 5))
    got = call(function, built([function])[0], {})
    grid = {V: np.arange(COUNT)}
    for name, d, nodes in cells:
        for row, node in enumerate(nodes):
            expected = np.broadcast_to(evaluate(node, grid, {}), (COUNT,))
            for form, lanes in enumerate((1, 5)):
                check("", d, got[name][form, row], expected, (np.arange(COUNT),), f"{node!r} in {lanes} lanes")


def _deep(x: Scalar) -> Scalar:
    node = x
    for k in range(3000):
        node = Binary(("add", "max", "xor")[k % 3], node, x)
    return node


def _shared(x: Scalar) -> Scalar:
    node = x
    for k in range(40):
        larger = Binary("gt", node, Const(dt.i32, k))
        node = Select(larger, Binary("sub", node, x), Binary("add", node, node))
    return node


@pytest.mark.parametrize("expression", [_deep, _shared])
def test_expressions_of_any_depth_whose_parts_occur_again(expression: Callable[[Scalar], Scalar]) -> None:
    node = expression(Load("X", dt.i32, (V,)))
    function = function_of("deep", [Buffer("X", dt.i32, (index(COUNT),))], [("R", dt.i32, [node])], V, (1, 8))
    (kernel,) = built([function])
    # every node once for scalars and once for vectors, and what is around them
    assert kernel.code.text.count("\n") < 2 * sum(1 for _ in postorder(node)) + 60
    a, _ = operands(dt.i32, 5)
    got = call(function, kernel, {"X": a})
    expected = np.broadcast_to(evaluate(node, {V: np.arange(COUNT)}, {"X": a}), (COUNT,))
    for form, lanes in enumerate((1, 8)):
        check("", dt.i32, got["R"][form, 0], expected, (a,), f"i32 in {lanes} lanes")
