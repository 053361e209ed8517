"""Elementwise operators with broadcasting, casts, and chains of them."""

from __future__ import annotations

from typing import Any

from onnx import helper

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.table import family

SMOOTH = ("Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Atan", "Abs", "Neg", "Relu", "LeakyRelu", "Elu", "Selu", "Softplus")
SMOOTH += ("Softsign", "HardSigmoid", "Celu", "Identity")
SINCE = {"Erf": 9, "Celu": 12}
FUNCTIONS: dict[str, str] = {
    **dict.fromkeys((*SMOOTH, "Exp", "Sinh", "Cosh", "Asinh", "ThresholdedRelu", "Shrink"), "normal"),
    **dict.fromkeys(("Log", "Sqrt"), "positive"),
    **dict.fromkeys(("Asin", "Acos", "Atanh", "Tan"), "unit"),
    "Reciprocal": "away",
    **dict.fromkeys(("Floor", "Ceil", "Round", "Sign"), "coarse"),
}
WILD = ("Abs", "Neg", "Relu", "Exp", "Tanh", "Sigmoid", "Floor", "Ceil", "Sqrt", "Sign", "IsNaN", "IsInf", "LeakyRelu")
INTEGERS = ("int32", "int64", "int32", "int64", "int8", "uint8", "int16", "uint16", "uint32", "uint64")


def smooth(d: Draw, x: Value) -> Value:
    """A function that neither blows up nor jumps."""
    options = [op for op in SMOOTH if SINCE.get(op, 0) <= d.opset and (op != "Celu" or x.dtype == "float32")]
    return d.node(d.choice(options), x)


def broadcast(d: Draw, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to another."""
    dims = [1 if d.chance(0.3) else e for e in shape]
    return tuple(dims[d.integer(0, len(dims)) if d.chance(0.3) else 0 :])


@family("unary", weight=8)
def unary(d: Draw) -> None:
    """Chains of one to four functions."""
    shape = d.shape(0 if d.chance(0.1) else 1, 5, 30_000 if d.chance(0.15) else 3000)
    dtype = d.choice(("float32",) * 8 + ("float64", "float16"))
    op = d.choice([op for op in FUNCTIONS if op != "Celu" or dtype == "float32"])
    y = d.node(op, d.input(shape, dtype, FUNCTIONS[op]))
    for _ in range(d.choice((0, 0, 1, 3))):
        y = smooth(d, y)
    d.result(y)


@family("wild", opsets=(22, 16), weight=3)
def wild(d: Draw) -> None:
    """NaN, infinities and signed zeros through functions, comparisons, minima and maxima."""
    shape = d.shape(1, 3, 600)
    x = d.input(shape, "float32", "wild")
    pick = d.integer(0, 4)
    if pick == 0:
        y = d.node(d.choice(WILD), x)
    elif pick == 1:
        y = d.node(d.choice(("Add", "Mul", "Sub", "Min", "Max")), x, d.input(broadcast(d, shape), "float32", "wild"))
    elif pick == 2:
        y = d.node(
            d.choice(("Less", "Greater", "Equal", "LessOrEqual", "GreaterOrEqual")), x, d.input(shape, kind="wild")
        )
    elif pick == 3:
        y = d.node("Where", d.node("IsNaN", x), d.constant(0, "float32"), x)
    else:
        y = d.node("Clip", x, d.constant(-0.5, "float32"), d.constant(0.5, "float32"))
    d.result(y)


@family("binary", opsets=(22, 13, 8), weight=8)
def binary(d: Draw) -> None:
    shape = d.shape(0 if d.chance(0.05) else 1, 5, 20_000 if d.chance(0.15) else 3000)
    left, right = (shape, broadcast(d, shape)) if d.chance(0.5) else (broadcast(d, shape), shape)
    if d.chance(0.2):
        left = tuple(e if d.chance(0.5) else 1 for e in shape)
    dtype = d.choice(("float32",) * 8 + ("float64", "float16"))
    op = d.choice(("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow", "PRelu", "Sum", "Mean"))
    if op in ("Mean", "Sum"):
        dtype = "float32"
    kinds = {"Div": ("normal", "away"), "Pow": ("positive", "normal")}.get(op, ("normal", "normal"))
    if op == "PRelu":
        left, right = shape, broadcast(d, shape)
    x, y = d.input(left, dtype, kinds[0]), d.input(right, dtype, kinds[1])
    if op in ("Sum", "Mean", "Min", "Max") and d.chance(0.5):
        z = d.node(op, x, y, d.input(broadcast(d, shape), dtype))
    elif op == "Pow" and d.chance(0.5):
        z = d.node(op, x, d.constant(d.choice((2, 3, 0.5, -1, 0, 1)), dtype))
    else:
        z = d.node(op, x, y)
    d.result(z)


@family("compare", opsets=(22, 16), weight=4)
def compare(d: Draw) -> None:
    """Comparisons, logic, and a choice by them."""
    shape = d.shape(1, 4, 3000)
    dtype = d.choice(("float32", "float32", "float64", "int32", "int64"))
    x, y = d.input(shape, dtype, "coarse"), d.input(broadcast(d, shape), dtype, "coarse")
    d.exact = True
    c = d.node(d.choice(("Less", "Greater", "Equal", "LessOrEqual", "GreaterOrEqual")), x, y)
    for _ in range(d.integer(0, 2)):
        if d.chance(0.3):
            c = d.node("Not", c)
        else:
            c = d.node(d.choice(("And", "Or", "Xor")), c, d.input(broadcast(d, shape), "bool"))
    d.result(d.node("Where", c, x, y) if d.chance(0.6) else c)


@family("integer", opsets=(22, 18, 14), weight=7)
def integer(d: Draw) -> None:
    """Arithmetic on integers of every width: wrapping, truncation, shifts, bits."""
    shape = d.shape(1, 4, 3000)
    dtype = d.choice(INTEGERS)
    d.exact = True
    ops = ["Add", "Sub", "Mul", "Div", "Mod", "Fmod", "Min", "Max"]
    if dtype.startswith("u"):
        ops += ["BitShift"]
    if d.opset >= 18:
        ops += ["BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"]
    y = d.input(shape, dtype, "wide" if d.chance(0.4) else "normal")
    for _ in range(d.choice((1, 1, 2, 3))):
        y = _integer_step(d, d.choice(ops), y)
    if d.chance(0.2) and not dtype.startswith("u"):
        y = d.node(d.choice(("Abs", "Neg", "Sign")), y)
    d.result(y)


def _integer_step(d: Draw, op: str, x: Value) -> Value:
    dtype = x.dtype.name
    shape = broadcast(d, x.shape)
    if op == "BitwiseNot":
        return d.node(op, x)
    if op == "BitShift":
        amounts = d.given(d.rng.integers(0, x.dtype.itemsize * 8, shape).astype(x.dtype))
        return d.node(op, x, amounts, direction=d.choice(("LEFT", "RIGHT")))
    y = d.input(shape, dtype, "away" if op in ("Div", "Mod", "Fmod") else d.choice(("normal", "wide")))
    if op == "Fmod":
        return d.node("Mod", x, y, fmod=1)
    return d.node(op, x, y)


@family("cast", opsets=(22, 13), weight=5)
def cast(d: Draw) -> None:
    """One to three casts: what fits is kept, floats are rounded or cut off."""
    shape = d.shape(1, 3, 3000)
    types: list[str] = [
        "float32",
        "float64",
        "float16",
        "int32",
        "int64",
        "int8",
        "uint8",
        "bool",
        "int16",
        "uint16",
        "uint32",
        "uint64",
    ]
    source = d.choice(types)
    d.exact = True
    x = d.input(shape, source, "positive" if source.startswith("float") else "normal")
    values: Any = d.inputs[x.name]
    if source.startswith(("int", "float")) and source != "int8":
        d.inputs[x.name] = (values * (5 if source.startswith("float") else 1)).astype(source)
    for k in range(d.choice((1, 1, 2, 3))):
        options = [t for t in types if not (t.startswith("u") and source.startswith("int") and k >= 0)]
        target = d.choice(options)
        x = d.node("Cast", x, to=int(helper.np_dtype_to_tensor_dtype(_dtype(target))))
    d.result(x)


def _dtype(name: str) -> Any:
    import numpy as np

    return np.dtype(name)


@family("chain", opsets=(22, 13), weight=8)
def chain(d: Draw) -> None:
    """Graphs of two to eight elementwise nodes over values that broadcast."""
    shape = d.shape(1, 4, 20_000 if d.chance(0.2) else 3000)
    pool = [d.input(shape)]
    for _ in range(d.integer(2, 8)):
        x = d.choice(pool)
        pick = d.rng.random()
        if pick < 0.35:
            y = smooth(d, x)
        elif pick < 0.7:
            other = d.choice(pool) if d.chance(0.5) else d.weight(broadcast(d, shape))
            y = d.node(d.choice(("Add", "Sub", "Mul", "Min", "Max")), x, other)
        elif pick < 0.8:
            y = d.node("Div", x, d.weight(broadcast(d, shape), kind="away"))
        elif pick < 0.9:
            y = d.node("Clip", x, d.constant(-1.5, "float32"), d.constant(1.5, "float32") if d.chance(0.7) else None)
        else:
            y = d.node("Where", d.input(broadcast(d, shape), "bool"), x, d.choice(pool))
        pool.append(y)
    d.result(pool[-1])
    if d.chance(0.3):
        middle = d.choice(pool[1:])
        if middle.name != pool[-1].name:
            d.result(middle)
