"""Short ways to write a definition: named tensors, scopes, and scalar helpers.

d = Definition("softmax", types, ("x",))
x = d.input(0)
m = d.reduce("max", "m", (rows,), (cols,), lambda i, j: x[i, j])
…
return d.program(y)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tcompiler.errors import InternalError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor
from tcompiler.ir.scalar.grammar import (
    TRUE,
    Binary,
    Cast,
    Load,
    Reducer,
    Scalar,
    Select,
    Unary,
    Var,
    conjunction,
    const,
    greater_equal,
    index,
    less,
    loop_var,
    postorder,
)
from tcompiler.ir.scalar.reducers import named_reducer
from tcompiler.ops.registry import Types

Extent = Scalar | int


class Handle:
    """A declared tensor that reads itself: ``x[i, j]`` is a Load."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def shape(self) -> tuple[Scalar, ...]:
        """The extents."""
        return self.tensor.shape

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.tensor.dtype

    def __getitem__(self, at: Scalar | int | Sequence[Scalar | int]) -> Scalar:
        indices: Sequence[Scalar | int] = (at,) if isinstance(at, (Scalar, int)) else at
        if len(indices) != len(self.tensor.shape):
            raise InternalError(f"{self.tensor.name} of rank {len(self.tensor.shape)} read with {len(indices)} indices")
        return Load(self.tensor.name, self.tensor.dtype, tuple(index(i) if isinstance(i, int) else i for i in indices))


class Definition:
    """An expr program under construction.

    Args:
        name: The operator's name.
        types: The types of the operator's inputs, None where absent.
        names: A name for each input; the last one serves any number more, with a number added.
    """

    def __init__(self, name: str, types: Types, names: Sequence[str]) -> None:
        self._name = name
        self._scopes: list[Scope] = []
        self._inputs: list[Handle | None] = []
        self._declared: dict[str, Tensor] = {}
        for k, t in enumerate(types):
            label = names[k] if k < len(names) else f"{names[-1]}{k - len(names) + 1}"
            self._inputs.append(None if t is None else self.declare(label, t.dtype, t.shape))

    def declare(self, name: str, dtype: DType, shape: Iterable[Extent]) -> Handle:
        """A new tensor; the name gets a number if it is taken."""
        unique, n = name, 1
        while unique in self._declared:
            n += 1
            unique = f"{name}_{n}"
        tensor = Tensor(unique, dtype, tuple(index(s) if isinstance(s, int) else s for s in shape))
        self._declared[unique] = tensor
        return Handle(tensor)

    def input(self, k: int) -> Handle:
        """An input that is present."""
        handle = self._inputs[k]
        if handle is None:
            raise InternalError(f"{self._name}: input {k} is absent")
        return handle

    def optional(self, k: int) -> Handle | None:
        """An input, or None where it is absent."""
        return self._inputs[k]

    def inputs(self) -> list[Handle]:
        """All inputs that are present."""
        return [h for h in self._inputs if h is not None]

    def compute(
        self,
        name: str,
        shape: Sequence[Extent],
        body: Callable[..., Scalar],
        axes: Sequence[str] | None = None,
    ) -> Handle:
        """A tensor defined pointwise: body(*axes) is its value."""
        variables = make_axes(shape, axes or [f"i{k}" for k in range(len(shape))])
        value = body(*variables)
        out = self.declare(name, value.dtype, shape)
        self._scopes.append(Compute((out.tensor,), variables, (), None, (value,)))
        return out

    def reduce(
        self,
        reducer: str,
        name: str,
        shape: Sequence[Extent],
        over: Sequence[Extent],
        body: Callable[..., Scalar],
        axes: Sequence[str] | None = None,
        reduce_axes: Sequence[str] | None = None,
    ) -> Handle:
        """A tensor defined by a named reduction of body(*axes, *reduce_axes) over the extents `over`.

        Over no axes at all the value itself is the result.
        """
        if not over:
            return self.compute(name, shape, body, axes)
        (out,) = self.reduce_tuple(
            lambda dtypes: named_reducer(reducer, *dtypes),
            (name,),
            shape,
            over,
            lambda *at: (body(*at),),
            axes,
            reduce_axes,
        )
        return out

    def reduce_tuple(
        self,
        reducer: Callable[[Sequence[DType]], Reducer],
        names: Sequence[str],
        shape: Sequence[Extent],
        over: Sequence[Extent],
        body: Callable[..., tuple[Scalar, ...]],
        axes: Sequence[str] | None = None,
        reduce_axes: Sequence[str] | None = None,
    ) -> tuple[Handle, ...]:
        """Tensors defined by one reduction of a tuple of values."""
        variables = make_axes(shape, axes or [f"i{k}" for k in range(len(shape))])
        reduced = make_axes(over, reduce_axes or [f"r{k}" for k in range(len(over))])
        values = body(*variables, *reduced)
        outs = tuple(self.declare(n, v.dtype, shape) for n, v in zip(names, values, strict=True))
        self._scopes.append(
            Compute(tuple(o.tensor for o in outs), variables, reduced, reducer([v.dtype for v in values]), values)
        )
        return outs

    def scope(self, scope: Scan | Scatter | Sort) -> None:
        """Adds a scope whose tensors were declared here."""
        self._scopes.append(scope)

    def program(self, *outputs: Handle) -> Program:
        """The finished program. An output that is an input is copied, so that every output has a scope."""
        produced = [self._produce(o) for o in outputs]
        inputs = tuple(h.tensor for h in self._inputs if h is not None)
        params = {
            node: None
            for t in inputs
            for extent in t.shape
            for node in postorder(extent)
            if isinstance(node, Var) and node.extent is None
        }
        return Program(self._name, tuple(params), inputs, tuple(self._scopes), tuple(p.tensor.name for p in produced))

    def _produce(self, out: Handle) -> Handle:
        if any(h is not None and h.tensor is out.tensor for h in self._inputs):
            return self.compute("y", out.shape, lambda *i: out[i])
        return out


def summed(
    d: Definition,
    dtype: DType,
    shape: Sequence[Extent],
    over: Sequence[Extent],
    body: Callable[..., Scalar],
    axes: Sequence[str] | None = None,
    reduce_axes: Sequence[str] | None = None,
    name: str = "y",
) -> Handle:
    """A sum of body(*axes, *reduce_axes) kept in the accumulator type, then rounded once to dtype."""
    acc = accumulator(dtype)
    wide = acc is not dtype
    total = d.reduce("sum", "acc" if wide else name, shape, over, lambda *i: cast(acc, body(*i)), axes, reduce_axes)
    return d.compute(name, shape, lambda *i: cast(dtype, total[i]), axes) if wide else total


def product(factors: Iterable[Scalar]) -> Scalar:
    """A product of values, each widened to the accumulator type."""
    wide = [cast(accumulator(f.dtype), f) for f in factors]
    result = wide[0]
    for f in wide[1:]:
        result = times(result, f)
    return result


def make_axes(shape: Iterable[Extent], names: Iterable[str]) -> tuple[Var, ...]:
    """One loop variable per extent."""
    return tuple(loop_var(n, s) for n, s in zip(names, shape, strict=True))


def broadcast_read(x: Handle, axes: Sequence[Scalar], extents: Sequence[Scalar]) -> Scalar:
    """Reads a tensor that broadcasts to a box: aligned at the last axis, extents of 1 read at 0."""
    offset = len(axes) - len(x.shape)
    return x[[axes[offset + k] if extent is extents[offset + k] else index(0) for k, extent in enumerate(x.shape)]]


def accumulator(dtype: DType) -> DType:
    """The type that sums of a type are kept in: f32 for the half floats, else the type itself."""
    return dt.f32 if dtype in (dt.f16, dt.bf16) else dtype


def cast(dtype: DType, a: Scalar) -> Scalar:
    """A conversion; nothing where the type is already right."""
    return a if a.dtype is dtype else Cast(dtype, a)


def unary(op: str, a: Scalar) -> Scalar:
    """A unary operation."""
    return Unary(op, a)


def binary(op: str, a: Scalar | float, b: Scalar | float) -> Scalar:
    """A binary operation; a Python number takes the other side's type."""
    if isinstance(a, Scalar):
        return Binary(op, a, b if isinstance(b, Scalar) else const(a.dtype, b))
    if isinstance(b, Scalar):
        return Binary(op, const(b.dtype, a), b)
    raise InternalError("a binary operation of two Python numbers")


def plus(a: Scalar | float, b: Scalar | float) -> Scalar:
    """a + b of any number type."""
    return binary("add", a, b)


def minus(a: Scalar | float, b: Scalar | float) -> Scalar:
    """a - b of any number type."""
    return binary("sub", a, b)


def times(a: Scalar | float, b: Scalar | float) -> Scalar:
    """a * b of any number type."""
    return binary("mul", a, b)


def over(a: Scalar | float, b: Scalar | float) -> Scalar:
    """a / b of floats."""
    return binary("div", a, b)


def select(cond: Scalar, a: Scalar | float, b: Scalar | float) -> Scalar:
    """a where cond holds, else b; a Python number takes the other side's type."""
    if cond is TRUE and isinstance(a, Scalar):
        return a
    if isinstance(a, Scalar):
        return Select(cond, a, b if isinstance(b, Scalar) else const(a.dtype, b))
    if isinstance(b, Scalar):
        return Select(cond, const(b.dtype, a), b)
    raise InternalError("a select of two Python numbers")


def inside(at: Scalar, extent: Scalar, before: bool = True, after: bool = True) -> Scalar:
    """0 <= at < extent; a side that cannot be crossed is left out."""
    return conjunction(*([greater_equal(at, 0)] if before else []), *([less(at, extent)] if after else []))
