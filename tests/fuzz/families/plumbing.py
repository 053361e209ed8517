"""What surrounds operators in a model: constants, shapes computed in the graph, values used twice or not at all."""

from __future__ import annotations

import math

import numpy as np

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.convolution import conv
from tests.fuzz.families.elementwise import broadcast, smooth
from tests.fuzz.families.movement import DTYPES, rearranged, slice_of
from tests.fuzz.families.table import family


@family("plumbing", opsets=(22, 13), weight=5)
def plumbing(d: Draw) -> None:
    """Inputs that are outputs, constants that are, an output twice, nodes alike, inputs and nodes that nobody reads."""
    x = d.input(d.shape(1, 4, 1000), d.choice(DTYPES))
    pool = [x, d.weight(x.shape, x.dtype.name)]
    for _ in range(d.integer(1, 5)):
        op = d.choice(("Identity", "Identity", "Transpose", "Concat", "Where", "Reshape"))
        v = d.choice(pool)
        if op == "Concat":
            v = d.node(op, *([v] * d.integer(1, 3)), axis=0)
        elif op == "Where":
            v = d.node(op, d.constant(d.chance(0.5), "bool"), v, v)
        elif op == "Reshape":
            v = d.node(op, v, d.constant([0] * v.rank))
        else:
            v = d.node(op, v)
        pool.append(v)
    if d.chance(0.3):
        d.input((3,))
    d.exact = True
    d.result(*(d.node("Identity", d.choice(pool)) if d.chance(0.5) else v for v in _some(d, pool)))


def _some(d: Draw, pool: list[Value]) -> list[Value]:
    """Different values; onnx has no output twice, and no output that is an input."""
    made = [v for v in pool if v.name.startswith("v")]
    order = d.rng.permutation(len(made))[: d.integer(1, 3)]
    return [made[int(k)] for k in order]


@family("shapes", opsets=(22, 15), weight=4)
def shapes(d: Draw) -> None:
    """Shape, gather, arithmetic and concat feed reshapes, expands and slices; all of it is known when compiling."""
    x = d.input(d.shape(2, 4, 2000, zero=0))
    if d.chance(0.5):
        x = smooth(d, x)
    extents = [d.node("Gather", d.node("Shape", x), d.constant(k)) for k in range(x.rank)]
    pick = d.integer(0, 3)
    if pick == 0:
        merged = d.node("Mul", extents[0], extents[1])
        parts = [merged, *extents[2:]]
        target = d.node("Concat", *(d.node("Unsqueeze", p, d.constant([0])) for p in parts), axis=0)
        shape = (x.shape[0] * x.shape[1], *x.shape[2:])
        y = d.node_as("Reshape", x.dtype, shape, x, target)
    elif pick == 1:
        half = d.node("Div", extents[-1], d.constant(2))
        end = d.node("Unsqueeze", half, d.constant([0]))
        shape = (*x.shape[:-1], x.shape[-1] // 2)
        y = d.node_as("Slice", x.dtype, shape, x, d.constant([0]), end, d.constant([-1]))
    elif pick == 2:
        size = d.node("Shape", x)
        filled = d.node_as("ConstantOfShape", np.dtype("float32"), x.shape, size)
        y = d.node("Add", x, filled)
    else:
        row = d.weight(x.shape[-1:])
        y = d.node("Sub", d.node_as("Expand", row.dtype, x.shape, row, d.node("Shape", x)), x)
    d.result(y)


@family("typed_graph", opsets=(22, 18), weight=6)
def typed_graph(d: Draw) -> None:
    """Graphs in float64 or float16, or that cast between types on the way."""
    dtype = d.choice(("float64", "float64", "float16", "float32"))
    pool = [d.input(d.shape(1, 4, 2000, zero=0), dtype)]
    for _ in range(d.integer(2, 7)):
        x = pool[-1] if d.chance(0.75) else d.choice(pool)
        pick = d.integer(0, 7)
        if pick <= 1:
            y = d.node(d.choice(("Tanh", "Sigmoid", "Relu", "Abs", "Neg")), x)
        elif pick == 2:
            y = d.node(d.choice(("Add", "Mul", "Sub", "Max")), x, d.weight(broadcast(d, x.shape), x.dtype.name))
        elif pick == 3 and x.rank:
            y = d.node(d.choice(("ReduceMean", "ReduceSum", "ReduceMax")), x, d.constant(d.axes(x.rank)))
        elif pick == 4 and x.rank and math.prod(x.shape):
            y = d.node("MatMul", x, d.weight((x.shape[-1], d.dim(17)), x.dtype.name, "unit"))
        elif pick == 5 and x.rank:
            y = d.node("Softmax", x, axis=d.axis(x.rank))
        elif pick == 6 and 0 not in x.shape:
            y = rearranged(d, x, 3000)
        else:
            # only ever to a type that holds more, so that rounding is not blown up
            kinds = {"float16": 10, "float32": 1, "float64": 11}
            wider = {"float16": "float32", "float32": "float64", "float64": "float64"}[x.dtype.name]
            y = d.node("Cast", x, to=kinds[wider])
        if y.name != x.name and 0 not in y.shape:
            pool.append(y)
    if len(pool) == 1:
        pool.append(d.node("Neg", pool[0]))
    d.result(pool[-1])


@family("deep_graph", opsets=(22, 13), weight=5)
def deep_graph(d: Draw) -> None:
    """Eight to thirty nodes with long-lived values: what memory planning, sharing and grouping are about."""
    image = d.chance(0.5)
    shape = (d.choice((1, 2)), d.dim(16), d.dim(9), d.dim(9)) if image else (d.choice((1, 3)), d.dim(17), d.dim(33))
    pool = [d.input(shape)]
    for _ in range(d.integer(8, 30)):
        x = d.choice(pool[-4:]) if d.chance(0.8) else d.choice(pool)
        alike = [v for v in pool if v.shape == x.shape]
        pick = d.integer(0, 8)
        if pick <= 1 and x.rank == 4 and image and math.prod(x.shape) <= 4000:
            y = d.node("Tanh", conv(d, x))
        elif pick <= 1 and x.rank == 3:
            y = d.node("Tanh", d.node("MatMul", x, d.weight((x.shape[-1], d.dim(33)), kind="unit")))
        elif pick <= 4:
            y = d.node(d.choice(("Add", "Sub", "Mul", "Max")), x, d.choice(alike))
            y = smooth(d, y) if d.chance(0.5) else d.node("Tanh", y)
        elif pick == 5 and 0 not in x.shape:
            axis = d.integer(0, x.rank - 1)
            joined = d.node("Concat", x, d.choice(alike), axis=axis)
            start = d.constant([d.integer(0, x.shape[axis])])
            end = d.constant([10**9])
            y = d.node("Slice", joined, start, end, d.constant([axis]))
            y = joined if 0 in y.shape or d.chance(0.3) else y
        elif pick == 6 and 0 not in x.shape:
            y = slice_of(d, x)
        elif pick == 7:
            perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
            y = d.node("Transpose", x, perm=perm)
        else:
            y = d.node("Softmax", x, axis=d.axis(x.rank)) if 0 not in x.shape else smooth(d, x)
        if 0 not in y.shape and math.prod(y.shape) <= 6000:
            pool.append(y)
    if len(pool) == 1:
        pool.append(d.node("Neg", pool[0]))
    d.result(pool[-1])
    for v in {v.name: v for v in (d.choice(pool) for _ in range(d.integer(0, 3)))}.values():
        if v.name not in (pool[0].name, pool[-1].name):
            d.result(v)


@family("wild_reduce", opsets=(22, 18), weight=3)
def wild_reduce(d: Draw) -> None:
    """NaN and infinities in reductions, softmaxes, norms, pools and products."""
    shape = d.shape(2, 3, 600, zero=0)
    x = d.input(shape, "float32", "normal")
    array = d.inputs[x.name]
    # a few only, so that most results stay numbers
    for _ in range(d.integer(1, 3)):
        array[tuple(d.integer(0, e - 1) for e in shape)] = d.choice((np.nan, np.inf, -np.inf))
    pick = d.integer(0, 4)
    if pick == 0:
        op = d.choice(("ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean", "ReduceL1", "ReduceSumSquare"))
        y = d.node(op, x, d.constant([d.axis(x.rank)]))
    elif pick == 1:
        y = d.node(d.choice(("Softmax", "LogSoftmax")), x, axis=d.axis(x.rank))
    elif pick == 2:
        y = d.node("MatMul", x, d.weight((shape[-1], d.dim(17)), kind="away"))
    elif pick == 3:
        y = d.node("Relu", d.node("Mul", x, d.weight(broadcast(d, shape), kind="away")))
    else:
        y = d.node("CumSum", x, d.constant(d.axis(x.rank)))
    d.result(y)
