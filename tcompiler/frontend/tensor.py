"""Symbolic tensors: stand-ins for arrays that record what is done with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import CompileError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.graph.grammar import Attr, Value
from tcompiler.ir.scalar.grammar import Scalar, as_int
from tcompiler.ops.construct import GraphWriter, as_array

ArrayLike = Union["SymbolicTensor", NDArray[np.generic], np.generic, int, float, bool, Sequence[Any]]
DTypeLike = DType | str | np.dtype[Any] | type


def to_dtype(d: DTypeLike) -> DType:
    """An element type from ours, its name, or numpy's.

    Raises:
        CompileError: If we have no such type.
    """
    if isinstance(d, DType):
        return d
    if isinstance(d, str) and d in dt.DTYPES:
        return dt.DTYPES[d]
    try:
        return dt.from_numpy(np.dtype(d))
    except (KeyError, TypeError):
        raise CompileError(f"no element type {d!r}; expected one of {', '.join(dt.DTYPES)}") from None


class SymbolicTensor:
    """A tensor inside a traced function.

    It has numpy's operators, indexing, and the usual methods; numpy's own functions accept it too. Its values do not
    exist yet, so nothing may ask for them (`if x > 0`, `float(x)`).
    """

    __slots__ = ("value", "writer")
    __array_priority__ = 1000

    def __init__(self, writer: GraphWriter, value: Value) -> None:
        self.writer = writer
        self.value = value

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.value.type.dtype

    @property
    def extents(self) -> tuple[Scalar, ...]:
        """The shape as scalars, symbolic ones included."""
        return self.value.type.shape

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as integers.

        Raises:
            CompileError: If an extent is symbolic.
        """
        result = []
        for extent in self.extents:
            size = as_int(extent)
            if size is None:
                raise CompileError(f"extent {extent!r} is symbolic where an integer is needed; use .extents or -1")
            result.append(size)
        return tuple(result)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.extents)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def T(self) -> SymbolicTensor:  # noqa: N802 (numpy's name)
        """The tensor with its axes reversed."""
        return self.transpose()

    def __repr__(self) -> str:
        return f"SymbolicTensor({self.dtype.name}[{', '.join(map(repr, self.extents))}])"

    def __len__(self) -> int:
        if not self.extents:
            raise TypeError("a tensor of rank 0 has no length")
        return self.shape[0]

    def __bool__(self) -> bool:
        raise CompileError("a symbolic tensor has no truth value while tracing; use where(condition, a, b)")

    def __float__(self) -> float:
        raise CompileError("a symbolic tensor has no value while tracing")

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, *args: object, **kwargs: object) -> NDArray[np.generic]:
        raise CompileError(
            "numpy cannot take a symbolic tensor here; use the function of the same name in tcompiler.frontend.builder"
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> SymbolicTensor:
        function = getattr(_functions(), ufunc.__name__, None)
        if method != "__call__" or kwargs or function is None:
            what = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
            options = f" with {', '.join(sorted(kwargs))}" if kwargs else ""
            raise CompileError(f"{what}{options} has no counterpart for symbolic tensors")
        result = function(*inputs)
        assert isinstance(result, SymbolicTensor)
        return result

    def __array_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        function = getattr(_functions(), func.__name__, None)
        if function is None:
            raise CompileError(f"numpy.{func.__name__} has no counterpart for symbolic tensors")
        return function(*args, **kwargs)

    def __add__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("add", self, other)

    def __radd__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("add", other, self)

    def __sub__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("sub", self, other)

    def __rsub__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("sub", other, self)

    def __mul__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("mul", self, other)

    def __rmul__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("mul", other, self)

    def __truediv__(self, other: ArrayLike) -> SymbolicTensor:
        return _call("divide", self, other)

    def __rtruediv__(self, other: ArrayLike) -> SymbolicTensor:
        return _call("divide", other, self)

    def __floordiv__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("floordiv", self, other)

    def __rfloordiv__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("floordiv", other, self)

    def __mod__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("floormod", self, other)

    def __rmod__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("floormod", other, self)

    def __pow__(self, other: ArrayLike) -> SymbolicTensor:
        return _call("power", self, other)

    def __rpow__(self, other: ArrayLike) -> SymbolicTensor:
        return _call("power", other, self)

    def __matmul__(self, other: ArrayLike) -> SymbolicTensor:
        return _call("matmul", self, other)

    def __rmatmul__(self, other: ArrayLike) -> SymbolicTensor:
        return _call("matmul", other, self)

    def __and__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("bitwise_and", self, other)

    def __rand__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("bitwise_and", other, self)

    def __or__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("bitwise_or", self, other)

    def __ror__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("bitwise_or", other, self)

    def __xor__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("bitwise_xor", self, other)

    def __rxor__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("bitwise_xor", other, self)

    def __lshift__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("shl", self, other)

    def __rshift__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("shr", self, other)

    def __eq__(self, other: object) -> SymbolicTensor:  # type: ignore[override]
        return binary("eq", self, other)

    def __ne__(self, other: object) -> SymbolicTensor:  # type: ignore[override]
        return binary("ne", self, other)

    def __lt__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("lt", self, other)

    def __le__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("le", self, other)

    def __gt__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("gt", self, other)

    def __ge__(self, other: ArrayLike) -> SymbolicTensor:
        return binary("ge", self, other)

    def __neg__(self) -> SymbolicTensor:
        return apply("neg", self)

    def __pos__(self) -> SymbolicTensor:
        return self

    def __abs__(self) -> SymbolicTensor:
        return apply("abs", self)

    def __invert__(self) -> SymbolicTensor:
        return apply("invert", self)

    def __getitem__(self, key: Any) -> SymbolicTensor:
        return _call("getitem", self, key)

    def astype(self, dtype: DTypeLike) -> SymbolicTensor:
        """The tensor converted to another element type."""
        return _call("astype", self, dtype)

    def reshape(self, *shape: int | Sequence[int]) -> SymbolicTensor:
        """The elements in another shape; one extent may be -1."""
        return _call("reshape", self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: int | Sequence[int]) -> SymbolicTensor:
        """The axes in another order, reversed by default."""
        return _call("transpose", self, (axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes) or None)

    def flatten(self) -> SymbolicTensor:
        """The elements in one axis."""
        return self.reshape(-1)

    def sum(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> SymbolicTensor:
        """The sum over axes, all by default."""
        return _call("sum", self, axis, keepdims)

    def prod(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> SymbolicTensor:
        """The product over axes, all by default."""
        return _call("prod", self, axis, keepdims)

    def mean(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> SymbolicTensor:
        """The mean over axes, all by default."""
        return _call("mean", self, axis, keepdims)

    def max(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> SymbolicTensor:
        """The maximum over axes, all by default."""
        return _call("max", self, axis, keepdims)

    def min(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> SymbolicTensor:
        """The minimum over axes, all by default."""
        return _call("min", self, axis, keepdims)


def _functions() -> Any:
    # The functions are written with symbolic tensors, so this import waits until one is used.
    from tcompiler.frontend import functions

    return functions


def _call(name: str, *args: Any) -> SymbolicTensor:
    result = getattr(_functions(), name)(*args)
    assert isinstance(result, SymbolicTensor)
    return result


def writer_of(*operands: object) -> GraphWriter:
    """The graph that operands belong to.

    Raises:
        CompileError: If there is no symbolic tensor among them, or they belong to two graphs.
    """
    writers = {id(x.writer): x.writer for x in operands if isinstance(x, SymbolicTensor)}
    if len(writers) != 1:
        raise CompileError(
            "symbolic tensors of two traced functions were mixed"
            if writers
            else "no symbolic tensor among the arguments; call this inside a traced function"
        )
    return next(iter(writers.values()))


def lift(writer: GraphWriter, x: object, dtype: DType | None = None) -> SymbolicTensor:
    """A symbolic tensor from one, or a constant from anything that numpy takes."""
    if isinstance(x, SymbolicTensor):
        return x if dtype is None or x.dtype is dtype else apply("cast", x, to=dtype)
    if dtype is not None:
        return SymbolicTensor(writer, writer.constant(as_array(x).astype(dtype.numpy)))
    return SymbolicTensor(writer, writer.constant(as_array(x)))


def apply(op: str, *operands: SymbolicTensor | None, **attrs: Attr) -> SymbolicTensor:
    """A node of one output over operands that have the right types already."""
    writer = writer_of(*operands)
    (value,) = writer.emit(op, [None if x is None else x.value for x in operands], attrs)
    return SymbolicTensor(writer, value)


def promote(*operands: object) -> list[SymbolicTensor]:
    """Operands brought to one element type by numpy's rules; Python numbers adapt to the others.

    Raises:
        CompileError: If the common type is none of ours.
    """
    writer = writer_of(*operands)
    dtypes: list[Any] = []
    for x in operands:
        if isinstance(x, SymbolicTensor):
            dtypes.append(x.dtype.numpy)
        elif isinstance(x, (bool, int, float)) and not isinstance(x, np.generic):
            dtypes.append(x)
        else:
            dtypes.append(as_array(x).dtype)
    common = to_dtype(np.result_type(*dtypes))
    return [lift(writer, x, common) for x in operands]


def binary(op: str, a: object, b: object) -> SymbolicTensor:
    """A node over two promoted operands."""
    return apply(op, *promote(a, b))
