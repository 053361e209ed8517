"""Sums of products as matrix products over strided windows: what makes full-size convolutions quick to evaluate.

Each factor becomes an array over the axes that it depends on: a read with affine indices is a view of its tensor with
computed strides (a convolution's windows, its stride, dilation and groups included), anything else is evaluated over a
grid. A matrix product contracts the two; the box of all axes is halved until the arrays in it are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tcompiler.ir.expr.arguments import Array
from tcompiler.ir.scalar.canonical import linear
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Var
from tcompiler.ir.scalar.reduction import contract
from tcompiler.ir.scalar.rewrite import free_vars

Box = tuple[tuple[int, int], ...]
"""The start and end of every axis."""

_ELEMENTS = 1 << 22
"""Elements of both factors and the product that are in memory at once."""
_EXACT = 1 << 53
"""Integers up to here are exact in f64."""

Evaluate = Callable[[Scalar, Mapping[Var, Array]], Array]


@dataclass(frozen=True, slots=True, eq=False)
class _Factor:
    """One side of the product.

    Attributes:
        node: Its expression.
        used: Positions of the axes that it depends on.
        view: Its values, with extent 1 on the other axes; None where they are evaluated box by box.
    """

    node: Scalar
    used: frozenset[int]
    view: Array | None


def boxes(sizes: Sequence[int], small: Callable[[Box], bool], heavy: Callable[[Box], Sequence[int]]) -> Iterator[Box]:
    """Cuts a box in halves until every part is small.

    Args:
        sizes: The extents of the whole box, none of them 0.
        small: Whether a part needs no further cut.
        heavy: The axes of a part that are worth cutting; the longest of them is.

    Yields:
        The parts, in the order of their starts along each axis that was cut.
    """
    stack: list[Box] = [tuple((0, n) for n in sizes)]
    while stack:
        box = stack.pop()
        lengths = [hi - lo for lo, hi in box]
        axes = [k for k in heavy(box) if lengths[k] > 1]
        if small(box) or not axes:
            yield box
            continue
        longest = max(axes, key=lambda k: lengths[k])
        lo, hi = box[longest]
        middle = (lo + hi) // 2
        for part in ((middle, hi), (lo, middle)):
            stack.append((*box[:longest], part, *box[longest + 1 :]))


def grid(axes: Sequence[Var], box: Box, used: frozenset[int] | None = None) -> dict[Var, Array]:
    """The axes as index arrays that broadcast to a box; axes that are not used stay at their start."""
    rank = len(axes)
    result: dict[Var, Array] = {}
    for k, (axis, (lo, hi)) in enumerate(zip(axes, box, strict=True)):
        end = hi if used is None or k in used else lo + 1
        result[axis] = np.arange(lo, end, dtype=np.int64).reshape([-1 if j == k else 1 for j in range(rank)])
    return result


def sum_of_products(
    value: Scalar,
    axes: Sequence[Var],
    sizes: Sequence[int],
    kept: int,
    env: Mapping[Var, Any],
    arrays: Mapping[str, Array],
    evaluate: Evaluate,
) -> Array | None:
    """The sum of a product over the last axes.

    Args:
        value: What is summed.
        axes: All axes, those that are kept first.
        sizes: Their extents.
        kept: How many axes are kept.
        env: Values of the parameters and of the axes around.
        arrays: The tensors that can be read, by name.
        evaluate: The values of an expression over index arrays.

    Returns:
        The sum over the kept axes, rounded differently than a loop would (integers exactly); None where the value is
        no product of two numbers, or of a type whose sums numpy rounds in another way.
    """
    if not (isinstance(value, Binary) and value.op == "mul") or 0 in sizes:
        return None
    factors = [_factor(node, axes, sizes, env, arrays) for node in (value.a, value.b)]
    work = math.prod(sizes)
    if all(len(f.used) == len(axes) for f in factors) and work > _ELEMENTS and any(f.view is None for f in factors):
        # both factors depend on everything: no product is saved, and the general way needs less memory
        return None

    def weight(f: _Factor, box: Box) -> int:
        return math.prod(hi - lo for k, (lo, hi) in enumerate(box) if k in f.used)

    def heavy(box: Box) -> Sequence[int]:
        a, b = (weight(f, box) for f in factors)
        out = math.prod(hi - lo for lo, hi in box[:kept])
        return range(kept) if out > max(a, b) else sorted(factors[0 if a >= b else 1].used)

    def small(box: Box) -> bool:
        out = math.prod(hi - lo for lo, hi in box[:kept])
        return max(out, *(weight(f, box) for f in factors)) <= _ELEMENTS

    reduced = tuple(range(kept, len(axes)))
    result: Array | None = None
    for box in boxes(sizes, small, heavy):
        sides = [_values(f, axes, box, evaluate) for f in factors]
        part = _contract(sides[0], sides[1], tuple(hi - lo for lo, hi in box), reduced)
        if part is None:
            return None
        if result is None:
            result = np.zeros(tuple(sizes[:kept]), part.dtype)
        with np.errstate(all="ignore"):
            result[tuple(slice(lo, hi) for lo, hi in box[:kept])] += part.reshape(part.shape[:kept])
    return result


def _factor(
    node: Scalar, axes: Sequence[Var], sizes: Sequence[int], env: Mapping[Var, Any], arrays: Mapping[str, Array]
) -> _Factor:
    view = _window(node, axes, sizes, env, arrays) if isinstance(node, Load) else None
    if view is not None:
        return _Factor(node, frozenset(k for k, n in enumerate(view.shape) if n > 1), view)
    free = free_vars(node)
    return _Factor(node, frozenset(k for k, axis in enumerate(axes) if axis in free and sizes[k] > 1), None)


def _values(f: _Factor, axes: Sequence[Var], box: Box, evaluate: Evaluate) -> Array:
    """The values of a factor in a box, with extent 1 on the axes that it does not depend on."""
    if f.view is not None:
        return f.view[tuple(slice(lo, hi) if k in f.used else slice(None) for k, (lo, hi) in enumerate(box))]
    value = evaluate(f.node, grid(axes, box, f.used))
    shape = tuple(hi - lo if k in f.used else 1 for k, (lo, hi) in enumerate(box))
    return np.broadcast_to(value, shape)


def _contract(a: Array, b: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array | None:
    """The sum of a * b over some axes: with BLAS if it is exact there; None for types without such a product."""
    dtype = a.dtype
    if dtype in (np.float32, np.float64):
        return _broadcast(contract(a, b, shape, axes), shape, axes)
    if dtype.kind not in "iu":
        return None
    count = math.prod(shape[k] for k in axes)
    most = _largest(a) * _largest(b) * count
    if most < _EXACT:
        a, b = a.astype(np.float64), b.astype(np.float64)
        wide = contract(a, b, shape, axes).astype(np.int64)
        return _broadcast(wide.astype(dtype), shape, axes)
    return _broadcast(contract(a, b, shape, axes).astype(dtype), shape, axes)


def _broadcast(x: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    return np.broadcast_to(x, tuple(1 if k in axes else n for k, n in enumerate(shape)))


def _largest(x: Array) -> int:
    return max(abs(int(x.min())), abs(int(x.max())))


def _window(
    load: Load, axes: Sequence[Var], sizes: Sequence[int], env: Mapping[Var, Any], arrays: Mapping[str, Array]
) -> Array | None:
    """A read with affine indices as a view, with extent 1 on the axes that it does not depend on.

    None where an index is not affine in the axes or leaves the tensor somewhere in their box.
    """
    array = arrays[load.buffer]
    position = {axis: k for k, axis in enumerate(axes)}
    strides = [0] * len(axes)
    start: list[int] = []
    free: set[int] = set()
    for index, extent, stride in zip(load.indices, array.shape, array.strides, strict=True):
        form = linear(index)
        origin = form.const
        below = above = 0
        for atom, c in form.terms.items():
            if not isinstance(atom, Var):
                return None
            k = position.get(atom)
            if k is None:
                origin += c * int(env[atom])
                continue
            free.add(k)
            strides[k] += c * stride
            reach = c * (sizes[k] - 1)
            below, above = below + min(reach, 0), above + max(reach, 0)
        if origin + below < 0 or origin + above >= extent:
            return None
        start.append(origin)
    corner = array[tuple(slice(i, None) for i in start)]
    return as_strided(corner, [n if k in free else 1 for k, n in enumerate(sizes)], strides, writeable=False)
