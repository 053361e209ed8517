"""Contractions: matmul, gemm and einsum.

The three define the same program for the same mathematics: axes in the order of the output, reduced axes in the order
in which the operands name them, a product in the operands' order. So one kernel serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, index
from tcompiler.ops.define import (
    Definition,
    Handle,
    accumulator,
    broadcast_read,
    cast,
    plus,
    product,
    summed,
    times,
)
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import (
    ONE,
    Shape,
    broadcast,
    expect_kind,
    fail,
    flag,
    number,
    present,
    required,
    same_dtype,
    show,
    show_shape,
    word,
)


def _matmul_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    a, b = present(types)
    dtype = same_dtype("matmul", (a, b))
    expect_kind("matmul", a, "number")
    if not a.shape or not b.shape:
        fail(f"matmul: {show(a)} @ {show(b)}: an operand has rank 0, expected 1 or more (multiply by it instead)")
    inner_b = b.shape[0] if len(b.shape) == 1 else b.shape[-2]
    if a.shape[-1] is not inner_b:
        fail(
            f"matmul: {show(a)} @ {show(b)}: the last extent of the first is {a.shape[-1]!r} and the "
            f"{'only' if len(b.shape) == 1 else 'second-to-last'} extent of the second is {inner_b!r}, "
            f"expected them to be equal"
        )
    batch = broadcast("matmul", (TensorType(dtype, a.shape[:-2]), TensorType(dtype, b.shape[:-2])))
    rows = a.shape[-2:-1]
    columns = b.shape[-1:] if len(b.shape) > 1 else ()
    return (TensorType(dtype, (*batch, *rows, *columns)),)


def _matmul(types: Types, attrs: Attrs) -> Program:
    (out,) = _matmul_type(types, attrs)
    d = Definition("matmul", types, ("a", "b"))
    a, b = d.inputs()
    has_m, has_n = len(a.shape) > 1, len(b.shape) > 1
    batch = len(out.shape) - has_m - has_n

    def body(*axes: Scalar) -> Scalar:
        *points, k = axes
        lead = points[:batch]
        x = a[[*_batch(a.shape[:-2], lead, out.shape), *points[batch : batch + has_m], k]]
        y = b[[*_batch(b.shape[:-2], lead, out.shape), k, *(points[-1:] if has_n else [])]]
        return product((x, y))

    names = [f"b{k}" for k in range(batch)] + ["m"] * has_m + ["n"] * has_n
    return d.program(summed(d, out.dtype, out.shape, (a.shape[-1],), body, names, ("k",)))


def _batch(shape: Shape, lead: Sequence[Scalar], extents: Shape) -> list[Scalar]:
    """Batch indices of an operand whose batch extents broadcast to the leading extents of the result."""
    offset = len(lead) - len(shape)
    return [lead[offset + k] if e is extents[offset + k] else index(0) for k, e in enumerate(shape)]


register(Operator("matmul", ("a", "b"), _matmul_type, _matmul))


def _gemm_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    a, b = required(types, 0), required(types, 1)
    dtype = same_dtype("gemm", present(types))
    expect_kind("gemm", a, "number")
    if len(a.shape) != 2 or len(b.shape) != 2:
        fail(f"gemm: operands are {show(a)} and {show(b)}, expected rank 2 (matmul takes other ranks)")
    rows, k_a = reversed(a.shape) if flag(attrs, "trans_a") else a.shape
    k_b, columns = reversed(b.shape) if flag(attrs, "trans_b") else b.shape
    if k_a is not k_b:
        fail(
            f"gemm: {show(a)}{_transposed(attrs, 'trans_a')} @ {show(b)}{_transposed(attrs, 'trans_b')}: the summed "
            f"extents are {k_a!r} and {k_b!r}, expected them to be equal"
        )
    out = TensorType(dtype, (rows, columns))
    c = types[2]
    if c is not None and (len(c.shape) > 2 or broadcast("gemm", (out, c)) != out.shape):
        fail(f"gemm: the third operand is {show(c)}, expected a shape that broadcasts to {show_shape(out.shape)}")
    return (out,)


def _transposed(attrs: Attrs, key: str) -> str:
    return " transposed" if flag(attrs, key) else ""


def _gemm(types: Types, attrs: Attrs) -> Program:
    (out,) = _gemm_type(types, attrs)
    d = Definition("gemm", types, ("a", "b", "c"))
    a, b, c = d.input(0), d.input(1), d.optional(2)
    trans_a, trans_b = flag(attrs, "trans_a"), flag(attrs, "trans_b")
    alpha, beta = number(attrs, "alpha"), number(attrs, "beta")
    wide = accumulator(out.dtype)

    def body(m: Scalar, n: Scalar, k: Scalar) -> Scalar:
        return product((a[(k, m) if trans_a else (m, k)], b[(n, k) if trans_b else (k, n)]))

    add_c = c is not None and beta != 0
    if not add_c and alpha == 1:
        return d.program(summed(d, out.dtype, out.shape, (a.shape[0 if trans_a else 1],), body, ("m", "n"), ("k",)))
    acc = d.reduce("sum", "acc", out.shape, (a.shape[0 if trans_a else 1],), body, ("m", "n"), ("k",))

    def epilogue(m: Scalar, n: Scalar) -> Scalar:
        value = acc[m, n] if alpha == 1 else times(acc[m, n], alpha)
        if c is not None and add_c:
            bias = cast(wide, broadcast_read(c, (m, n), out.shape))
            value = plus(value, bias if beta == 1 else times(bias, beta))
        return cast(out.dtype, value)

    return d.program(d.compute("y", out.shape, epilogue, ("m", "n")))


register(
    Operator(
        "gemm",
        ("a", "b", "c?"),
        _gemm_type,
        _gemm,
        {
            "alpha": Attribute("float", 1.0),
            "beta": Attribute("float", 1.0),
            "trans_a": Attribute("bool", False),
            "trans_b": Attribute("bool", False),
        },
    )
)


@dataclass(frozen=True, slots=True)
class Equation:
    """An einsum equation with ellipses written out: one letter per axis; those of an ellipsis are "0", "1", ….

    Attributes:
        operands: The letters of each operand's axes.
        result: Those of the result's axes.
        extents: The extent of each letter.
    """

    operands: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]
    extents: dict[str, Scalar]


def parse_equation(equation: str, types: Sequence[TensorType]) -> Equation:
    """Reads an einsum's equation.

    Args:
        equation: Terms separated by commas, "->" and the result's axes, which may be left out.
        types: Types of the operands.

    Raises:
        CompileError: If the equation cannot be read or does not fit the operands.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(types):
        fail(f"einsum: equation '{equation}' has {len(terms)} terms for {len(types)} operands")
    for term in (*terms, right):
        if not all(c.isalpha() for c in term.replace("...", "", 1)):
            fail(
                f"einsum: equation '{equation}': cannot read the term '{term}', expected letters and at most one '...'"
            )
    stretch = 0
    for term, t in zip(terms, types, strict=True):
        letters = len(term.replace("...", ""))
        if letters > len(t.shape) or ("..." not in term and letters != len(t.shape)):
            fail(f"einsum: equation '{equation}': the term '{term}' names {letters} axes of an operand {show(t)}")
        stretch = max(stretch, len(t.shape) - letters if "..." in term else 0)
    operands = tuple(
        _letters(term, len(t.shape) - len(term.replace("...", "")), stretch)
        for term, t in zip(terms, types, strict=True)
    )
    extents: dict[str, Scalar] = {}
    for letters_, t in zip(operands, types, strict=True):
        for letter, extent in zip(letters_, t.shape, strict=True):
            old = extents.get(letter, ONE)
            if old is not ONE and extent is not ONE and old is not extent:
                fail(f"einsum: equation '{equation}': axis '{letter}' has extents {old!r} and {extent!r}")
            extents[letter] = extent if old is ONE else old
    if arrow:
        result = _letters(right, stretch, stretch)
    else:
        count = {c: sum(o.count(c) for o in operands) for c in extents}
        result = (*map(str, range(stretch)), *sorted(c for c in extents if c.isalpha() and count[c] == 1))
    for letter in result:
        if letter not in extents or result.count(letter) > 1:
            fail(f"einsum: equation '{equation}': the result names axis '{letter}', expected one axis of the operands")
    return Equation(operands, result, extents)


def _letters(term: str, rank: int, stretch: int) -> tuple[str, ...]:
    before, dots, after = term.partition("...")
    return (*before, *(map(str, range(stretch - rank, stretch)) if dots else ()), *after)


def _einsum_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    operands = present(types)
    dtype = same_dtype("einsum", operands)
    expect_kind("einsum", operands[0], "number")
    eq = parse_equation(word(attrs, "equation"), operands)
    return (TensorType(dtype, tuple(eq.extents[c] for c in eq.result)),)


def _einsum(types: Types, attrs: Attrs) -> Program:
    eq = parse_equation(word(attrs, "equation"), present(types))
    # Axes have the equation's letters, so operands have longer names.
    d = Definition("einsum", types, [f"x{k}" for k in range(len(types))])
    operands = list(zip(d.inputs(), eq.operands, strict=True))
    # Operands are contracted from left to right, two at a time, so that n operands do not make one nest over all axes.
    while len(operands) > 2:
        (x, xs), (y, ys), *rest = operands
        needed = {c for _, letters in rest for c in letters} | set(eq.result)
        kept = tuple(dict.fromkeys(c for c in (*xs, *ys) if c in needed))
        operands = [(_contract(d, eq, [(x, xs), (y, ys)], kept, "part"), kept), *rest]
    return d.program(_contract(d, eq, operands, eq.result, "y"))


def _contract(
    d: Definition, eq: Equation, operands: Sequence[tuple[Handle, tuple[str, ...]]], result: Sequence[str], name: str
) -> Handle:
    """One sum of products over the letters that the result does not have."""
    reduced = list(dict.fromkeys(c for _, letters in operands for c in letters if c not in result))
    names = [c if c.isalpha() else f"b{c}" for c in (*result, *reduced)]

    def body(*axes: Scalar) -> Scalar:
        at = dict(zip((*result, *reduced), axes, strict=True))
        return product(
            x[[at[c] if e is eq.extents[c] else index(0) for c, e in zip(letters, x.shape, strict=True)]]
            for x, letters in operands
        )

    return summed(
        d,
        operands[0][0].dtype,
        [eq.extents[c] for c in result],
        [eq.extents[c] for c in reduced],
        body,
        names[: len(result)],
        names[len(result) :],
        name,
    )


register(Operator("einsum", ("operands*",), _einsum_type, _einsum, {"equation": Attribute("str")}))
