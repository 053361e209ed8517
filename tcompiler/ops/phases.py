"""Transposed convolutions by the phases of their result."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, floordiv, floormod, index
from tcompiler.ops.convolution import padded, spatial_names
from tcompiler.ops.define import Definition, accumulator, cast, plus, product
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import expect_kind, fail, integers, known, present, required, same_dtype, show


def _type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, w = required(types, 0), required(types, 1)
    same_dtype("conv_phases", present(types))
    expect_kind("conv_phases", x, "number")
    rank = len(x.shape) - 2
    sizes, pads = integers(attrs, "sizes"), integers(attrs, "pads")
    if rank < 1 or len(w.shape) != 2 + 2 * rank or w.shape[1] != x.shape[1]:
        fail(f"conv_phases: data {show(x)}, weight {show(w)}: expected a weight (K, C, strides…, taps…)")
    if len(sizes) != rank or len(pads) != rank or min(sizes) < 1:
        fail(f"conv_phases: sizes {sizes}, pads {pads}: expected one of each for each of the {rank} spatial axes")
    return (TensorType(x.dtype, (x.shape[0], w.shape[0], *map(index, sizes))),)


def _define(types: Types, attrs: Attrs) -> Program:
    """y[k, s·h + p] = Σ x[c, h + (p + pad) // s - (taps - 1) + j] · w[k, c, p, j], for each phase p of each axis.

    The sums have the phases as axes of their own, so that nothing is multiplied by the zeros between the data.
    """
    (out,) = _type(types, attrs)
    d = Definition("conv_phases", types, ("x", "weight", "bias"))
    x, w, bias = d.input(0), d.input(1), d.optional(2)
    rank = len(x.shape) - 2
    sizes, pads = integers(attrs, "sizes"), integers(attrs, "pads")
    data = [known("conv_phases", e, "an extent") for e in x.shape[2:]]
    strides = [known("conv_phases", e, "a stride") for e in w.shape[2 : 2 + rank]]
    taps = [known("conv_phases", e, "a weight's extent") for e in w.shape[2 + rank :]]
    first = [pad // s for pad, s in zip(pads, strides, strict=True)]
    counts = [-(-size // s) for size, s in zip(sizes, strides, strict=True)]
    before = [t - 1 - f for t, f in zip(taps, first, strict=True)]
    reach = [
        n + (s - 1 + pad) // s - f + t - 1 for n, s, pad, f, t in zip(counts, strides, pads, first, taps, strict=True)
    ]
    after = [r - e - b for r, e, b in zip(reach, data, before, strict=True)]
    xp = padded(d, x, before, after, 0)
    split = [k for k in range(rank) if strides[k] > 1]
    live = [k for k in range(rank) if taps[k] > 1]
    outer, inner = spatial_names(rank, ("d", "h", "w")), spatial_names(rank, ("t", "r", "s"))

    def body(*axes: Scalar) -> Scalar:
        n, k, *point = axes[: 2 + len(split) + rank]
        c, *over = axes[2 + len(split) + rank :]
        phase: list[Scalar] = [index(0)] * rank
        tap: list[Scalar] = [index(0)] * rank
        for at, value in zip(split, point, strict=False):
            phase[at] = value
        for at, value in zip(live, over, strict=True):
            tap[at] = value
        # where the padding is whole steps, every phase reads the same place
        places = [
            i + (floordiv(p + pad, index(s)) - f if pad % s else 0) + t
            for i, p, pad, s, f, t in zip(point[len(split) :], phase, pads, strides, first, tap, strict=True)
        ]
        return product((xp[[n, c, *places]], w[[k, c, *phase, *tap]]))

    shape = (out.shape[0], out.shape[1], *(index(strides[k]) for k in split), *map(index, counts))
    acc = d.reduce(
        "sum",
        "phases",
        shape,
        [x.shape[1], *(index(taps[k]) for k in live)],
        body,
        ["n", "k", *(f"p{k}" for k in split), *outer],
        ["c", *(inner[k] for k in live)],
    )

    def finish(n: Scalar, k: Scalar, *at: Scalar) -> Scalar:
        value = acc[[n, k, *(floormod(at[a], index(strides[a])) for a in split), *_quotients(at, strides)]]
        if bias is not None:
            value = plus(value, cast(accumulator(out.dtype), bias[k]))
        return cast(out.dtype, value)

    return d.program(d.compute("y", out.shape, finish, ["n", "k", *outer]))


def _quotients(at: Sequence[Scalar], strides: Sequence[int]) -> list[Scalar]:
    return [i if s == 1 else floordiv(i, index(s)) for i, s in zip(at, strides, strict=True)]


register(
    Operator(
        "conv_phases",
        ("x", "w", "bias?"),
        _type,
        _define,
        {"sizes": Attribute("ints", ()), "pads": Attribute("ints", ())},
    )
)
