"""Reductions, arg-reductions, cumulative operators, top-k and softmax."""

from __future__ import annotations

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.table import family

_REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare", "ReduceL1")
_REDUCTIONS += ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp")
_SINCE = {"ReduceSum": 13}


@family("reduce", opsets=(22, 18, 13, 11), weight=10)
def reduce(d: Draw) -> None:
    op = d.choice(_REDUCTIONS)
    dtype = d.choice(("float32",) * 7 + ("float64", "float16", "int32", "int64"))
    if op in ("ReduceLogSum", "ReduceLogSumExp", "ReduceL2", "ReduceMean") and dtype.startswith("int"):
        dtype = "float32"
    # the mean, maximum or logarithm of nothing is a matter of taste
    zero = 0.03 if op in ("ReduceSum", "ReduceProd") else 0.0
    x_shape = d.shape(0 if d.chance(0.05) else 1, 5, 20_000 if d.chance(0.2) else 3000, zero=zero)
    x = d.input(x_shape, dtype, "positive" if op in ("ReduceLogSum", "ReduceProd") else "normal")
    if d.chance(0.25) and x.rank and dtype == "float32":
        x = d.node(d.choice(("Relu", "Abs")) if op != "ReduceLogSum" else "Sqrt", x)
    attrs: dict[str, object] = {}
    if d.chance(0.6):
        attrs["keepdims"] = d.integer(0, 1)
    axes = d.axes(x.rank) if x.rank and d.chance(0.85) else None
    if d.opset >= _SINCE.get(op, 18):
        if axes is None and d.chance(0.4):
            attrs["noop_with_empty_axes"] = 1
        y = d.node(op, x, d.constant(axes) if axes is not None else None, **attrs)
    else:
        y = d.node(op, x, axes=axes, **attrs)
    if d.chance(0.25) and dtype == "float32" and attrs.get("keepdims", 1):
        y = d.node("Sub", x, y)
    d.result(y)


@family("arg_reduce", opsets=(22, 13), weight=3)
def arg_reduce(d: Draw) -> None:
    op = d.choice(("ArgMax", "ArgMin"))
    shape = d.shape(1, 4, 4000, zero=0)
    dtype = d.choice(("float32", "float32", "float32", "float64", "int32", "int8", "uint8"))
    x = d.input(shape, dtype, "coarse")
    d.exact = True
    attrs: dict[str, object] = {"axis": d.axis(x.rank)}
    if d.chance(0.5):
        attrs["keepdims"] = d.integer(0, 1)
    if d.chance(0.3):
        attrs["select_last_index"] = 1
    d.result(d.node(op, x, **attrs))


@family("cumulative", opsets=(22, 11), weight=3)
def cumulative(d: Draw) -> None:
    dtype = d.choice(("float32", "float32", "float64", "int32", "int64"))
    x = d.input(d.shape(1, 4, 4000), dtype)
    axis = d.constant(d.axis(x.rank)) if d.chance(0.7) else d.constant([d.axis(x.rank)], "int32")
    attrs = {k: 1 for k in ("exclusive", "reverse") if d.chance(0.4)}
    y = d.node("CumSum", x, axis, **attrs)
    if d.chance(0.3) and dtype == "float32":
        y = d.node("Mul", y, d.input(x.shape))
    d.result(y)


@family("top_k", opsets=(22, 11), weight=3)
def top_k(d: Draw) -> None:
    dtype = d.choice(("float32", "float32", "float64", "int64", "int32"))
    x = d.input(d.shape(1, 4, 3000, zero=0), dtype, "coarse")
    d.exact = True
    axis = d.axis(x.rank)
    attrs: dict[str, object] = {"axis": axis}
    if d.chance(0.5):
        attrs["largest"] = d.integer(0, 1)
    k = d.integer(1, x.shape[axis])
    d.result(*d.node_of("TopK", 2, x, d.constant([k]), **attrs))


@family("softmax", opsets=(22, 13, 11), weight=7)
def softmax(d: Draw) -> None:
    op = d.choice(("Softmax", "Softmax", "LogSoftmax", "Hardmax"))
    dtype = d.choice(("float32",) * 6 + ("float64", "float16"))
    x: Value = d.input(
        d.shape(1, 4, 10_000 if d.chance(0.3) else 2000, zero=0.02),
        dtype,
        "coarse" if op == "Hardmax" else "normal",
    )
    if op != "Hardmax" and dtype == "float32" and d.chance(0.3):
        x = d.node("Mul", x, d.constant(0.25, "float32"))
        if d.chance(0.5):
            x = d.node("Add", x, d.input([e if d.chance(0.6) else 1 for e in x.shape]))
    y = d.node(op, x, axis=d.axis(x.rank) if d.chance(0.85) or x.rank == 1 else None)
    if op != "Hardmax" and dtype == "float32" and y.rank >= 2 and d.chance(0.25):
        y = d.node("MatMul", y, d.input((y.shape[-1], d.dim(20))))
    d.result(y)
