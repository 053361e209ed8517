"""Random scalars, well typed by construction, for hypothesis and for plain loops over seeds."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DTYPES, DType
from tcompiler.ir.scalar.grammar import (
    BINARY,
    COMPARISONS,
    PREDICATES,
    UNARY,
    Binary,
    Cast,
    Const,
    Load,
    Scalar,
    Select,
    Unary,
    Var,
    const,
    index,
)
from tcompiler.ir.scalar.text import operand_error

EXACT_UNARY = ("neg", "abs", "sign", "not", "sqrt", "floor", "ceil", "round", "trunc", "isnan", "isinf")
"""Unary operations with one right answer: the others are right to some ulps only."""
EXACT_BINARY = tuple(sorted(set(BINARY) - {"pow", "atan2"}))
"""Binary operations with one right answer."""

_SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.0, 127.5, 1e9, -1e9, float("inf"), float("-inf"), float("nan"))


@dataclass(frozen=True)
class Scene:
    """What a random scalar may name.

    Attributes:
        variables: i64 variables with constant extents.
        tensors: Element types and shapes of tensors; no extent is 0.
        unary: The unary operations to use.
        binary: The binary operations to use.
    """

    variables: Sequence[Var]
    tensors: Mapping[str, tuple[DType, tuple[int, ...]]]
    unary: Sequence[str] = tuple(UNARY)
    binary: Sequence[str] = tuple(BINARY)


def any_constant(r: random.Random, dtype: DType) -> Const:
    """A constant: often a small or special value, else any bits."""
    if dtype.kind == "bool":
        return const(dtype, r.random() < 0.5)
    kind = r.random()
    if kind < 0.4:
        return const(dtype, r.choice(_SPECIAL) if dtype.is_float else r.randint(-4, 9))
    if kind < 0.6 and not dtype.is_float:
        return const(dtype, r.choice((-1, 0, 1)) + (1 << dtype.bits - 1))
    if kind < 0.7 and dtype.is_float:
        # a denormal, or a NaN with a payload
        return Const(dtype, r.choice((1, 3, (1 << dtype.bits) - 1, (1 << dtype.bits - 1) + 5)))
    return Const(dtype, r.getrandbits(dtype.bits))


def any_scalar(r: random.Random, dtype: DType, scene: Scene, depth: int) -> Scalar:
    """A scalar of a dtype; all its reads are in range, some of them thanks to a guard."""
    variables = [v for v in scene.variables if v.dtype is dtype]
    if depth <= 0 or r.random() < 0.12:
        if variables and r.random() < 0.7:
            return r.choice(variables)
        return any_constant(r, dtype)
    choice = r.random()
    if choice < 0.15:
        names = [n for n, (d, _) in scene.tensors.items() if d is dtype]
        if names:
            return _read(r, r.choice(names), scene, depth)
    if choice < 0.3:
        return Select(any_scalar(r, dt.bool_, scene, depth - 1), *(_sides(r, dtype, scene, depth - 1)))
    if choice < 0.45:
        return Cast(dtype, any_scalar(r, r.choice(list(DTYPES.values())), scene, depth - 1))
    if dtype is dt.bool_ and choice < 0.75:
        operand = r.choice(list(DTYPES.values()))
        predicates = [p for p in PREDICATES if p in scene.unary]
        if operand.is_float and predicates and r.random() < 0.2:
            return Unary(r.choice(sorted(predicates)), any_scalar(r, operand, scene, depth - 1))
        a, b = _sides(r, operand, scene, depth - 1)
        return Binary(r.choice(sorted(COMPARISONS & set(scene.binary))), a, b)
    unary = [op for op in scene.unary if op not in PREDICATES and operand_error(op, [dtype]) is None]
    if unary and choice < 0.6:
        return Unary(r.choice(unary), any_scalar(r, dtype, scene, depth - 1))
    binary = [op for op in scene.binary if op not in COMPARISONS and operand_error(op, [dtype, dtype]) is None]
    return Binary(r.choice(binary), *_sides(r, dtype, scene, depth - 1))


def _sides(r: random.Random, dtype: DType, scene: Scene, depth: int) -> tuple[Scalar, Scalar]:
    return any_scalar(r, dtype, scene, depth), any_scalar(r, dtype, scene, depth)


def _read(r: random.Random, name: str, scene: Scene, depth: int) -> Scalar:
    dtype, shape = scene.tensors[name]
    if shape and r.random() < 0.4:
        # in range only where the guard holds
        at = [any_scalar(r, dt.i64, scene, depth - 2) for _ in shape]
        guard: Scalar | None = None
        for i, n in zip(at, shape, strict=True):
            inside = Binary("and", Binary("ge", i, index(0)), Binary("lt", i, index(n)))
            guard = inside if guard is None else Binary("and", guard, inside)
        assert guard is not None
        return Select(guard, Load(name, dtype, tuple(at)), any_constant(r, dtype))
    wrapped = [Binary("floormod", any_scalar(r, dt.i64, scene, depth - 2), index(n)) for n in shape]
    return Load(name, dtype, tuple(wrapped))


def scalars(scene: Scene, depth: int = 4) -> st.SearchStrategy[Scalar]:
    """Scalars of any dtype."""
    return st.builds(
        lambda seed, dtype: any_scalar(random.Random(seed), dtype, scene, depth),
        st.integers(0, 1 << 32),
        st.sampled_from(list(DTYPES.values())),
    )
