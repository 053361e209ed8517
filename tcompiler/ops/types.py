"""What type rules share: reading attributes, axes, broadcasting, and how types look in messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from tcompiler.errors import CompileError, InternalError
from tcompiler.ir.dtypes import DType
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import Scalar, as_int, index, mul
from tcompiler.ops.registry import Attrs, Types

Shape = tuple[Scalar, ...]
ONE = index(1)


def fail(message: str) -> NoReturn:
    """Refuses inputs or attributes.

    Raises:
        CompileError: Always.
    """
    raise CompileError(message)


def show(t: TensorType) -> str:
    """A type as messages show it: ``f32[2, 3]``."""
    return f"{t.dtype.name}{show_shape(t.shape)}"


def show_shape(shape: Iterable[Scalar]) -> str:
    """A shape as messages show it: ``[2, n]``."""
    return "[" + ", ".join(map(_extent, shape)) + "]"


def _extent(extent: Scalar) -> str:
    value = as_int(extent)
    return repr(extent) if value is None else str(value)


def required(types: Types, k: int) -> TensorType:
    """The type of an input that cannot be absent."""
    t = types[k]
    if t is None:
        raise InternalError(f"input {k} is absent past the arity check")
    return t


def present(types: Types) -> list[TensorType]:
    """The types of the inputs that are not absent."""
    return [t for t in types if t is not None]


def integer(attrs: Attrs, key: str) -> int:
    """An attribute of kind int."""
    value = attrs[key]
    if not isinstance(value, int):
        raise InternalError(f"attribute {key} is {value!r}")
    return value


def integers(attrs: Attrs, key: str) -> tuple[int, ...]:
    """An attribute of kind ints."""
    value = attrs[key]
    if not isinstance(value, tuple):
        raise InternalError(f"attribute {key} is {value!r}")
    return tuple(v for v in value if isinstance(v, int))


def number(attrs: Attrs, key: str) -> float:
    """An attribute of kind float."""
    value = attrs[key]
    if not isinstance(value, float):
        raise InternalError(f"attribute {key} is {value!r}")
    return value


def flag(attrs: Attrs, key: str) -> bool:
    """An attribute of kind bool."""
    return bool(attrs[key])


def word(attrs: Attrs, key: str) -> str:
    """An attribute of kind str."""
    return str(attrs[key])


def element_type(attrs: Attrs, key: str) -> DType:
    """An attribute of kind dtype."""
    value = attrs[key]
    if not isinstance(value, DType):
        raise InternalError(f"attribute {key} is {value!r}")
    return value


def same_dtype(op: str, types: Sequence[TensorType]) -> DType:
    """The one element type of several inputs."""
    if any(t.dtype is not types[0].dtype for t in types):
        fail(f"{op}: inputs of different element types {', '.join(map(show, types))}; cast them to one")
    return types[0].dtype


def expect_kind(op: str, t: TensorType, kind: str) -> None:
    """Refuses an element type that an operator is not defined for (kinds as in the scalar grammar)."""
    d = t.dtype
    ok = {
        "any": True,
        "float": d.is_float,
        "integer": d.is_integer,
        "number": d.kind != "bool",
        "bits": not d.is_float,
        "bool": d.kind == "bool",
    }[kind]
    if not ok:
        words = {
            "float": "a float element type (cast to f32)",
            "integer": "an integer element type",
            "number": "a float or integer element type (cast from bool)",
            "bits": "bool or an integer element type (compare with 0)",
            "bool": "bool (compare with 0)",
        }
        fail(f"{op}: input is {show(t)}, expected {words[kind]}")


def axis_of(op: str, axis: int, rank: int) -> int:
    """An axis counted from the front; negative ones count from the back."""
    if not -rank <= axis < rank:
        fail(f"{op}: axis {axis} is out of range for a tensor of rank {rank}")
    return axis % rank


def axes_of(op: str, axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Distinct axes counted from the front, sorted."""
    result = [axis_of(op, a, rank) for a in axes]
    if len(set(result)) != len(result):
        fail(f"{op}: axes {tuple(axes)} name one axis twice")
    return tuple(sorted(result))


def broadcast(op: str, types: Sequence[TensorType]) -> Shape:
    """The common shape of inputs by numpy's rules: aligned at the last axis, extents of 1 stretch."""
    rank = max((len(t.shape) for t in types), default=0)
    result: list[Scalar] = []
    for k in range(rank):
        extent: Scalar = ONE
        for t in types:
            at = k - rank + len(t.shape)
            if at < 0 or t.shape[at] is ONE or t.shape[at] is extent:
                continue
            if extent is not ONE:
                fail(
                    f"{op}: shapes {' and '.join(show_shape(t.shape) for t in types)} do not broadcast: extents "
                    f"{_extent(extent)} and {_extent(t.shape[at])} at axis {k - rank}; expected equal extents or 1"
                )
            extent = t.shape[at]
        result.append(extent)
    return tuple(result)


def elements(shape: Iterable[Scalar]) -> Scalar:
    """The number of elements of a shape."""
    total: Scalar = ONE
    for extent in shape:
        total = mul(total, extent)
    return total


def known(op: str, extent: Scalar, what: str) -> int:
    """The value of an extent that has to be constant here."""
    value = as_int(extent)
    if value is None:
        fail(f"{op}: {what} is {extent!r}, expected a constant; give the model's inputs fixed shapes")
    return value
