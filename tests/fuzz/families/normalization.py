"""Normalizations."""

from __future__ import annotations

from tests.fuzz.draw import Draw
from tests.fuzz.families.table import family

DTYPES = ("float32",) * 6 + ("float64", "float16")


@family("batch_norm", opsets=(22, 14, 9), weight=4)
def batch_norm(d: Draw) -> None:
    shape = d.shape(2, 4, 4000, zero=0)
    dtype = "float32"
    x = d.input(shape, dtype)
    scale, shift, mean, variance = (d.weight(shape[1:2], dtype, k) for k in ("normal", "normal", "normal", "positive"))
    y = d.node("BatchNormalization", x, scale, shift, mean, variance, epsilon=d.choice((None, 1e-3)))
    if d.chance(0.4):
        y = d.node(d.choice(("Relu", "Tanh")), y)
    d.result(y)


@family("channel_norm", opsets=(22, 21), weight=5)
def channel_norm(d: Draw) -> None:
    """Instance and group norms, LRN."""
    op = d.choice(("InstanceNormalization", "GroupNormalization", "LRN"))
    groups = d.choice((1, 2, 3, 4)) if op == "GroupNormalization" else 1
    space = d.shape(1, 3, 300, zero=0) if op != "LRN" else d.shape(2, 2, 300, zero=0)
    x = d.input((d.choice((1, 2, 3)), groups * d.dim(9), *space), kind="positive" if d.chance(0.2) else "normal")
    if op == "LRN":
        y = d.node(
            "LRN", x, size=d.choice((1, 3, 5, 7)), alpha=0.1, beta=d.choice((0.5, 0.75)), bias=d.choice((1.0, 2.0))
        )
    else:
        scale, shift = d.weight(x.shape[1:2]), d.weight(x.shape[1:2])
        attrs = {"num_groups": groups} if op == "GroupNormalization" else {}
        y = d.node_like(op, x, scale, shift, epsilon=1e-2, **attrs)
    d.result(y)


@family("layer_norm", opsets=(22, 17), weight=6)
def layer_norm(d: Draw) -> None:
    x = d.input(d.shape(1, 4, 10_000 if d.chance(0.3) else 3000, zero=0), d.choice(DTYPES))
    source = x
    if x.dtype == "float32" and d.chance(0.4):
        x = d.node("Add", x, d.input(x.shape))
    axis = d.axis(x.rank) if d.chance(0.7) else -1
    shape = x.shape[axis % x.rank :]
    scale = d.weight(shape, x.dtype.name)
    shift = d.weight(shape, x.dtype.name) if d.chance(0.7) else None
    y, *_ = d.node_of("LayerNormalization", 1, x, scale, shift, axis=axis, epsilon=1e-2)
    if source.dtype == "float32" and d.chance(0.3):
        y = d.node("Add", y, source)
    d.result(y)


@family("rms_norm", opsets=(23,), weight=3)
def rms_norm(d: Draw) -> None:
    x = d.input(d.shape(1, 4, 3000, zero=0), d.choice(("float32",) * 4 + ("float64",)))
    axis = d.axis(x.rank) if d.chance(0.6) else -1
    scale = d.weight(x.shape[axis % x.rank :], x.dtype.name)
    d.result(d.node_like("RMSNormalization", x, scale, axis=axis, epsilon=1e-2))


@family("other_norm", opsets=(22, 13), weight=2)
def other_norm(d: Draw) -> None:
    if d.chance(0.5):
        x = d.input(d.shape(1, 4, 2000, zero=0))
        d.result(d.node_like("LpNormalization", x, axis=d.axis(x.rank), p=d.choice((1, 2))))
    else:
        x = d.input((d.integer(1, 3), d.dim(9), d.dim(12), d.dim(12) + 1))
        # over one element alone it divides nothing by nothing, but for rounding
        axes = None if d.chance(0.6) else [*sorted(int(a) for a in d.rng.permutation(3)[: d.integer(0, 3)]), 3]
        x = d.node("Add", x, d.input((1, 1, 1, x.shape[3])))
        d.result(d.node_like("MeanVarianceNormalization", x, axes=axes))
