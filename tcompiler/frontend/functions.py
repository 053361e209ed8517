"""Functions over symbolic tensors: numpy's names and conventions, and those of neural networks.

Where numpy has a function of the same name, it means the same here: broadcasting, promotion of element types, negative
axes. Results are symbolic tensors; at least one argument has to be one.
"""

from __future__ import annotations

import builtins
import itertools
import math
import operator as python_operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import CompileError
from tcompiler.frontend.tensor import (
    ArrayLike,
    DTypeLike,
    SymbolicTensor,
    apply,
    binary,
    lift,
    promote,
    to_dtype,
    writer_of,
)
from tcompiler.ir import dtypes as dt
from tcompiler.ir.scalar.grammar import as_int

Axis = int | Sequence[int] | None


def _float(x: ArrayLike) -> SymbolicTensor:
    """An operand of a function on floats; integers become f64, as in numpy."""
    t = lift(writer_of(x), x)
    return t if t.dtype.is_float else apply("cast", t, to=dt.f64)


def _unary(op: str, name: str, floats: bool = True) -> Callable[[ArrayLike], SymbolicTensor]:
    def function(x: ArrayLike) -> SymbolicTensor:
        return apply(op, _float(x) if floats else lift(writer_of(x), x))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name} of every element."
    return function


def _binary(op: str, name: str) -> Callable[[ArrayLike, ArrayLike], SymbolicTensor]:
    def function(a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
        return binary(op, a, b)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name} of every pair of elements, with broadcasting and promotion."
    return function


exp = _unary("exp", "exp")
exp2 = _unary("exp2", "exp2")
expm1 = _unary("expm1", "expm1")
log = _unary("log", "log")
log2 = _unary("log2", "log2")
log1p = _unary("log1p", "log1p")
sqrt = _unary("sqrt", "sqrt")
rsqrt = _unary("rsqrt", "rsqrt")
tanh = _unary("tanh", "tanh")
sin = _unary("sin", "sin")
cos = _unary("cos", "cos")
tan = _unary("tan", "tan")
arcsin = _unary("asin", "arcsin")
arccos = _unary("acos", "arccos")
arctan = _unary("atan", "arctan")
sinh = _unary("sinh", "sinh")
cosh = _unary("cosh", "cosh")
arcsinh = _unary("asinh", "arcsinh")
arccosh = _unary("acosh", "arccosh")
arctanh = _unary("atanh", "arctanh")
erf = _unary("erf", "erf")
floor = _unary("floor", "floor")
ceil = _unary("ceil", "ceil")
trunc = _unary("trunc", "trunc")
rint = _unary("round", "rint")
isnan = _unary("isnan", "isnan")
isinf = _unary("isinf", "isinf")
reciprocal = _unary("reciprocal", "reciprocal")
absolute = abs = _unary("abs", "absolute", floats=False)
negative = _unary("neg", "negative", floats=False)
sign = _unary("sign", "sign", floats=False)
invert = bitwise_not = _unary("invert", "invert", floats=False)
sigmoid = _unary("sigmoid", "sigmoid")
silu = _unary("silu", "silu")
mish = _unary("mish", "mish")
softplus = _unary("softplus", "softplus")
softsign = _unary("softsign", "softsign")
hard_swish = _unary("hard_swish", "hard_swish")
relu = _unary("relu", "relu", floats=False)

add = _binary("add", "add")
subtract = _binary("sub", "subtract")
multiply = _binary("mul", "multiply")
floor_divide = _binary("floordiv", "floor_divide")
remainder = mod = _binary("floormod", "remainder")
fmod = _binary("truncmod", "fmod")
minimum = _binary("min", "minimum")
maximum = _binary("max", "maximum")
bitwise_and = _binary("bitwise_and", "bitwise_and")
bitwise_or = _binary("bitwise_or", "bitwise_or")
bitwise_xor = _binary("bitwise_xor", "bitwise_xor")
left_shift = _binary("shl", "left_shift")
right_shift = _binary("shr", "right_shift")
equal = _binary("eq", "equal")
not_equal = _binary("ne", "not_equal")
less = _binary("lt", "less")
less_equal = _binary("le", "less_equal")
greater = _binary("gt", "greater")
greater_equal = _binary("ge", "greater_equal")


def square(x: ArrayLike) -> SymbolicTensor:
    """x · x."""
    t = lift(writer_of(x), x)
    return apply("mul", t, t)


def divide(a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    """a / b; integers become f64, as in numpy."""
    x, y = promote(a, b)
    return apply("div", _float(x), _float(y))


true_divide = divide


def power(a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    """a ** b; small constant exponents become products."""
    if isinstance(a, SymbolicTensor) and isinstance(b, (int, float)):
        if b == 2:
            return square(a)
        if b == 0.5 and a.dtype.is_float:
            return sqrt(a)
    return binary("pow", a, b)


pow = power


def arctan2(a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    """The angle of the point (b, a)."""
    x, y = promote(a, b)
    return apply("atan2", _float(x), _float(y))


def _truth(x: ArrayLike) -> SymbolicTensor:
    return astype(lift(writer_of(x), x), dt.bool_)


def logical_not(x: ArrayLike) -> SymbolicTensor:
    """Whether every element is zero."""
    return apply("invert", _truth(x))


def _logical(op: str, a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    writer = writer_of(a, b)
    return apply(op, _truth(lift(writer, a)), _truth(lift(writer, b)))


def logical_and(a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    """Whether both elements are nonzero."""
    return _logical("bitwise_and", a, b)


def logical_or(a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    """Whether either element is nonzero."""
    return _logical("bitwise_or", a, b)


def logical_xor(a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    """Whether one of the elements is nonzero."""
    return _logical("bitwise_xor", a, b)


def isfinite(x: ArrayLike) -> SymbolicTensor:
    """Whether every element is neither infinite nor NaN."""
    return logical_not(logical_or(isnan(x), isinf(x)))


def where(condition: ArrayLike, a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    """Elements of a where the condition holds, else of b."""
    writer = writer_of(condition, a, b)
    if not isinstance(a, SymbolicTensor) and not isinstance(b, SymbolicTensor):
        common = to_dtype(
            np.result_type(*(x if isinstance(x, (bool, int, float)) else np.asarray(x).dtype for x in (a, b)))
        )
        x, y = lift(writer, a, common), lift(writer, b, common)
    else:
        x, y = promote(a, b)
    return apply("where", _truth(lift(writer, condition)), x, y)


def clip(x: ArrayLike, low: ArrayLike | None = None, high: ArrayLike | None = None) -> SymbolicTensor:
    """Elements brought into [low, high]."""
    result = lift(writer_of(x, low, high), x)
    if low is not None:
        result = maximum(result, low)
    return result if high is None else minimum(result, high)


def astype(x: ArrayLike, dtype: DTypeLike) -> SymbolicTensor:
    """The tensor converted to another element type."""
    t, to = lift(writer_of(x), x), to_dtype(dtype)
    return t if t.dtype is to else apply("cast", t, to=to)


cast = astype


def gelu(x: ArrayLike, approximate: str = "none") -> SymbolicTensor:
    """The Gaussian error linear unit: exact ("none") or by tanh ("tanh")."""
    return apply("gelu", _float(x), approximate=approximate)


def leaky_relu(x: ArrayLike, alpha: float = 0.01) -> SymbolicTensor:
    """x where positive, else alpha · x."""
    return apply("leaky_relu", _float(x), alpha=float(alpha))


def elu(x: ArrayLike, alpha: float = 1.0) -> SymbolicTensor:
    """x where positive, else alpha · (exp(x) - 1)."""
    return apply("elu", _float(x), alpha=float(alpha))


def prelu(x: ArrayLike, slope: ArrayLike) -> SymbolicTensor:
    """x where positive, else slope · x."""
    return binary("prelu", x, slope)


def hard_sigmoid(x: ArrayLike, alpha: float = 0.2, beta: float = 0.5) -> SymbolicTensor:
    """alpha · x + beta, brought into [0, 1]."""
    return apply("hard_sigmoid", _float(x), alpha=float(alpha), beta=float(beta))


def matmul(a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    """The matrix product, with batch axes that broadcast."""
    return binary("matmul", a, b)


def dot(a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    """numpy.dot: a product by a scalar, or a sum over the last axis of a and the second-to-last of b."""
    x, y = promote(a, b)
    if x.ndim == 0 or y.ndim == 0:
        return apply("mul", x, y)
    if x.ndim <= 2 and y.ndim <= 2:
        return apply("matmul", x, y)
    left, right = _ALPHABET[: x.ndim - 1], _ALPHABET[x.ndim - 1 : x.ndim + y.ndim - 2]
    inner = "z"
    other = inner if y.ndim == 1 else right[:-1] + inner + right[-1]
    return einsum(f"{left}{inner},{other}->{left}{'' if y.ndim == 1 else right}", x, y)


_ALPHABET = "abcdefghijklmnopqrstuvwxy"


def outer(a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    """All products of an element of a with one of b."""
    x, y = promote(a, b)
    return einsum("i,j->ij", reshape(x, -1), reshape(y, -1))


def einsum(equation: str, *operands: ArrayLike) -> SymbolicTensor:
    """A sum of products in Einstein's notation."""
    return apply("einsum", *promote(*operands), equation=equation)


def _axes(x: SymbolicTensor, axis: Axis) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    return (int(axis),) if isinstance(axis, (int, np.integer)) else tuple(int(a) for a in axis)


def _reduction(op: str, x: SymbolicTensor, axis: Axis, keepdims: bool) -> SymbolicTensor:
    return apply(op, x, axes=_axes(x, axis), keepdims=bool(keepdims))


def _summand(x: ArrayLike) -> SymbolicTensor:
    """numpy sums small integers and bools as i64."""
    t = lift(writer_of(x), x)
    return t if t.dtype.is_float else astype(t, dt.i64)


def sum(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The sum over axes, all by default."""
    return _reduction("sum", _summand(x), axis, keepdims)


def prod(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The product over axes, all by default."""
    return _reduction("prod", _summand(x), axis, keepdims)


def mean(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The mean over axes, all by default."""
    return _reduction("mean", _float(x), axis, keepdims)


def var(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The variance over axes, all by default."""
    t = _float(x)
    return mean(square(subtract(t, mean(t, axis, keepdims=True))), axis, keepdims)


def std(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The standard deviation over axes, all by default."""
    return sqrt(var(x, axis, keepdims))


def max(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The maximum over axes, all by default; NaN if there is one."""
    return _reduction("amax", lift(writer_of(x), x), axis, keepdims)


def min(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """The minimum over axes, all by default; NaN if there is one."""
    return _reduction("amin", lift(writer_of(x), x), axis, keepdims)


amax, amin = max, min


def all(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """Whether all elements over axes are nonzero."""
    return _reduction("all", _truth(x), axis, keepdims)


def any(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """Whether any element over axes is nonzero."""
    return _reduction("any", _truth(x), axis, keepdims)


def _arg(op: str, x: ArrayLike, axis: int | None, keepdims: bool) -> SymbolicTensor:
    t = lift(writer_of(x), x)
    if axis is None:
        t, axis = reshape(t, -1), 0
    return apply(op, t, axis=int(axis), keepdims=bool(keepdims))


def argmax(x: ArrayLike, axis: int | None = None, keepdims: bool = False) -> SymbolicTensor:
    """Where the first maximum lies along an axis, or in the flattened tensor."""
    return _arg("argmax", x, axis, keepdims)


def argmin(x: ArrayLike, axis: int | None = None, keepdims: bool = False) -> SymbolicTensor:
    """Where the first minimum lies along an axis, or in the flattened tensor."""
    return _arg("argmin", x, axis, keepdims)


def logsumexp(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> SymbolicTensor:
    """log(sum(exp(x))), without overflow."""
    return _reduction("log_sum_exp", _float(x), axis, keepdims)


def softmax(x: ArrayLike, axis: int = -1) -> SymbolicTensor:
    """exp(x) / sum(exp(x)) along an axis."""
    return apply("softmax", _float(x), axis=axis)


def log_softmax(x: ArrayLike, axis: int = -1) -> SymbolicTensor:
    """log(softmax(x)) along an axis."""
    return apply("log_softmax", _float(x), axis=axis)


def _with_parameters(x: ArrayLike, *parameters: ArrayLike | None) -> list[SymbolicTensor | None]:
    """Parameters (None where absent) converted to the element type of the data."""
    writer = writer_of(x, *parameters)
    data = lift(writer, x)
    return [data, *(None if p is None else lift(writer, p, data.dtype) for p in parameters)]


def layer_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    axis: int = -1,
    epsilon: float = 1e-5,
) -> SymbolicTensor:
    """Layer normalization over an axis and all after it."""
    return apply("layer_norm", *_with_parameters(x, scale, bias), axis=axis, epsilon=float(epsilon))


def rms_norm(x: ArrayLike, scale: ArrayLike | None = None, axis: int = -1, epsilon: float = 1e-5) -> SymbolicTensor:
    """Root mean square normalization over an axis and all after it."""
    return apply("rms_norm", *_with_parameters(x, scale), axis=axis, epsilon=float(epsilon))


def batch_norm(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    epsilon: float = 1e-5,
) -> SymbolicTensor:
    """Batch normalization with stored statistics; channels are axis 1."""
    return apply("batch_norm", *_with_parameters(x, scale, bias, mean, variance), epsilon=float(epsilon))


def group_norm(
    x: ArrayLike, groups: int, scale: ArrayLike | None = None, bias: ArrayLike | None = None, epsilon: float = 1e-5
) -> SymbolicTensor:
    """Group normalization; channels are axis 1. One group per channel is instance normalization."""
    return apply("group_norm", *_with_parameters(x, scale, bias), groups=groups, epsilon=float(epsilon))


def _per_axis(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _pads(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """Pads given as one number, one per axis, or all before then all after."""
    pads = _per_axis(value, rank)
    return pads * 2 if len(pads) == rank else pads


def conv(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    strides: int | Sequence[int] = 1,
    pads: int | Sequence[int] = 0,
    dilations: int | Sequence[int] = 1,
    groups: int = 1,
) -> SymbolicTensor:
    """A convolution over any number of spatial axes.

    Args:
        x: Data (N, C, spatial…).
        w: Weight (K, C / groups, taps…).
        bias: One value per filter (K,).
        strides: One number, or one per spatial axis.
        pads: One number, one per spatial axis, or all before and then all after.
        dilations: One number, or one per spatial axis.
        groups: Number of groups.
    """
    operands = promote(x, w) if bias is None else promote(x, w, bias)
    rank = operands[0].ndim - 2
    return apply(
        "conv",
        *operands,
        strides=_per_axis(strides, rank),
        pads=_pads(pads, rank),
        dilations=_per_axis(dilations, rank),
        groups=groups,
    )


def conv_transpose(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    strides: int | Sequence[int] = 1,
    pads: int | Sequence[int] = 0,
    dilations: int | Sequence[int] = 1,
    groups: int = 1,
    output_padding: int | Sequence[int] = 0,
) -> SymbolicTensor:
    """A transposed convolution; arguments as for `conv`, with a weight (C, K / groups, taps…)."""
    operands = promote(x, w) if bias is None else promote(x, w, bias)
    rank = operands[0].ndim - 2
    return apply(
        "conv_transpose",
        *operands,
        strides=_per_axis(strides, rank),
        pads=_pads(pads, rank),
        dilations=_per_axis(dilations, rank),
        groups=groups,
        output_padding=_per_axis(output_padding, rank),
    )


def _pool(
    op: str,
    x: ArrayLike,
    kernel: int | Sequence[int],
    strides: int | Sequence[int] | None,
    pads: int | Sequence[int],
    dilations: int | Sequence[int],
    ceil_mode: bool,
    **more: bool,
) -> SymbolicTensor:
    t = lift(writer_of(x), x)
    window = _per_axis(kernel, t.ndim - 2)
    rank = len(window)
    return apply(
        op,
        t,
        kernel=window,
        strides=window if strides is None else _per_axis(strides, rank),
        pads=_pads(pads, rank),
        dilations=_per_axis(dilations, rank),
        ceil_mode=ceil_mode,
        **more,
    )


def max_pool(
    x: ArrayLike,
    kernel: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    pads: int | Sequence[int] = 0,
    dilations: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> SymbolicTensor:
    """The maximum over windows of the trailing axes; strides are the kernel's extents by default."""
    return _pool("max_pool", x, kernel, strides, pads, dilations, ceil_mode)


def average_pool(
    x: ArrayLike,
    kernel: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    pads: int | Sequence[int] = 0,
    dilations: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> SymbolicTensor:
    """The mean over windows of the trailing axes; strides are the kernel's extents by default."""
    return _pool("average_pool", x, kernel, strides, pads, dilations, ceil_mode, count_include_pad=count_include_pad)


def reshape(x: ArrayLike, shape: int | Sequence[int]) -> SymbolicTensor:
    """The elements in another shape; one extent may be -1."""
    target = (shape,) if isinstance(shape, (int, np.integer)) else shape
    return apply("reshape", lift(writer_of(x), x), shape=tuple(int(e) for e in target))


def ravel(x: ArrayLike) -> SymbolicTensor:
    """The elements in one axis."""
    return reshape(x, -1)


def transpose(x: ArrayLike, axes: Sequence[int] | None = None) -> SymbolicTensor:
    """The axes in another order, reversed by default."""
    t = lift(writer_of(x), x)
    perm = tuple(reversed(range(t.ndim))) if axes is None else tuple(int(a) % builtins.max(t.ndim, 1) for a in axes)
    return apply("transpose", t, perm=perm)


def swapaxes(x: ArrayLike, a: int, b: int) -> SymbolicTensor:
    """Two axes exchanged."""
    t = lift(writer_of(x), x)
    perm = list(range(t.ndim))
    perm[a], perm[b] = perm[b], perm[a]
    return transpose(t, perm)


def moveaxis(x: ArrayLike, source: int, destination: int) -> SymbolicTensor:
    """One axis moved to another place."""
    t = lift(writer_of(x), x)
    perm = list(range(t.ndim))
    axis = perm.pop(source)
    perm.insert(destination % t.ndim, axis)
    return transpose(t, perm)


def concatenate(parts: Sequence[ArrayLike], axis: int = 0) -> SymbolicTensor:
    """Tensors joined along an axis."""
    return apply("concat", *promote(*parts), axis=axis)


concat = concatenate


def stack(parts: Sequence[ArrayLike], axis: int = 0) -> SymbolicTensor:
    """Tensors joined along a new axis."""
    return concatenate([expand_dims(p, axis) for p in promote(*parts)], axis)


def split(x: ArrayLike, sections: int | Sequence[int], axis: int = 0) -> list[SymbolicTensor]:
    """numpy.split: into equal sections, or at places along an axis."""
    t = lift(writer_of(x), x)
    extent = t.shape[axis]
    if isinstance(sections, int):
        if sections < 1 or extent % sections:
            raise CompileError(f"split: an axis of {extent} elements does not divide into {sections} equal sections")
        places = [extent // sections * k for k in range(1, sections)]
    else:
        places = [int(s) for s in sections]
    ends = [0, *places, extent]
    return [_narrow(t, axis, a, b) for a, b in itertools.pairwise(ends)]


def _narrow(t: SymbolicTensor, axis: int, start: int, end: int) -> SymbolicTensor:
    return apply("slice", t, axes=(axis,), starts=(start,), sizes=(builtins.max(end - start, 0),), steps=(1,))


def expand_dims(x: ArrayLike, axis: int | Sequence[int]) -> SymbolicTensor:
    """New axes of extent 1 at places of the result."""
    t = lift(writer_of(x), x)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    rank = t.ndim + len(axes)
    places = sorted(a % rank for a in axes)
    if len(set(places)) != len(axes) or not builtins.all(-rank <= a < rank for a in axes):
        raise CompileError(f"expand_dims: axes {axes} for a result of rank {rank}, expected distinct axes within it")
    shape = list(_reshapable(t))
    for a in places:
        shape.insert(a, 1)
    return reshape(t, shape)


def _reshapable(t: SymbolicTensor) -> tuple[int, ...]:
    """The shape for a reshape that keeps it: one symbolic extent may be said as -1."""
    sizes = [as_int(e) for e in t.extents]
    if sizes.count(None) > 1:
        raise CompileError(f"a reshape of {t!r}: expected at most one symbolic extent")
    return tuple(-1 if s is None else s for s in sizes)


def squeeze(x: ArrayLike, axis: Axis = None) -> SymbolicTensor:
    """Axes of extent 1 removed, all by default."""
    t = lift(writer_of(x), x)
    sizes = [as_int(e) for e in t.extents]
    axes = (
        tuple(k for k, s in enumerate(sizes) if s == 1) if axis is None else tuple(a % t.ndim for a in _axes(t, axis))
    )
    if builtins.any(sizes[a] != 1 for a in axes):
        raise CompileError(f"squeeze: axes {axes} of {t!r}, expected extents of 1")
    return reshape(t, [s for k, s in enumerate(_reshapable(t)) if k not in axes])


def broadcast_to(x: ArrayLike, shape: Sequence[int]) -> SymbolicTensor:
    """A tensor stretched to a shape."""
    return apply("expand", lift(writer_of(x), x), shape=tuple(int(e) for e in shape))


def tile(x: ArrayLike, reps: int | Sequence[int]) -> SymbolicTensor:
    """A tensor repeated along its axes."""
    t = lift(writer_of(x), x)
    repeats = (reps,) if isinstance(reps, int) else tuple(reps)
    if len(repeats) > t.ndim:
        t = reshape(t, (1,) * (len(repeats) - t.ndim) + t.shape)
    return apply("tile", t, repeats=(1,) * (t.ndim - len(repeats)) + repeats)


def pad(
    x: ArrayLike,
    pad_width: int | Sequence[int] | Sequence[Sequence[int]],
    mode: str = "constant",
    constant_values: float = 0.0,
) -> SymbolicTensor:
    """numpy.pad with modes constant, edge, reflect and wrap."""
    t = lift(writer_of(x), x)
    widths: NDArray[np.int64] = np.broadcast_to(np.asarray(pad_width, dtype=np.int64), (t.ndim, 2))
    pads = tuple(int(w) for w in widths.T.reshape(-1))
    return apply("pad", t, pads=pads, mode=mode, value=float(constant_values))


def flip(x: ArrayLike, axis: Axis = None) -> SymbolicTensor:
    """Elements in reverse order along axes, all by default."""
    t = lift(writer_of(x), x)
    axes = _axes(t, axis)
    sizes = tuple(t.shape[a] for a in axes)
    return apply("slice", t, axes=axes, starts=tuple(s - 1 for s in sizes), sizes=sizes, steps=(-1,) * len(axes))


def take(x: ArrayLike, indices: ArrayLike, axis: int | None = None) -> SymbolicTensor:
    """Slices along an axis, by index; an index outside reads the nearest element."""
    writer = writer_of(x, indices)
    t = lift(writer, x)
    if axis is None:
        t, axis = reshape(t, -1), 0
    return apply("gather", t, _index(writer, indices), axis=axis)


def take_along_axis(x: ArrayLike, indices: ArrayLike, axis: int) -> SymbolicTensor:
    """Elements along an axis, by an index for each; an index outside reads the nearest element."""
    writer = writer_of(x, indices)
    return apply("gather_elements", lift(writer, x), _index(writer, indices), axis=axis)


def _index(writer: Any, indices: ArrayLike) -> SymbolicTensor:
    t = lift(writer, indices)
    if not t.dtype.is_integer:
        raise CompileError(f"indices are {t!r}, expected integers")
    return t if t.dtype in (dt.i32, dt.i64) else astype(t, dt.i64)


def tril(x: ArrayLike, k: int = 0) -> SymbolicTensor:
    """Elements on and below a diagonal, zero above."""
    return apply("trilu", lift(writer_of(x), x), k=k, upper=False)


def triu(x: ArrayLike, k: int = 0) -> SymbolicTensor:
    """Elements on and above a diagonal, zero below."""
    return apply("trilu", lift(writer_of(x), x), k=k, upper=True)


def getitem(x: SymbolicTensor, key: object) -> SymbolicTensor:
    """x[key] with integers, slices, None, Ellipsis, and at most one array or tensor of indices.

    Raises:
        CompileError: If an index is out of range or of a kind that has no counterpart here.
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    used = builtins.sum(1 for k in keys if k is not None and k is not Ellipsis)
    dots = [n for n, k in enumerate(keys) if k is Ellipsis]
    if len(dots) > 1 or used > x.ndim:
        raise CompileError(f"{used} indices for {x!r}, expected at most {x.ndim} and one '...'")
    at = dots[0] if dots else len(keys)
    keys[at : at + 1] = [slice(None)] * (x.ndim - used)
    axes: list[int] = []
    starts: list[int] = []
    sizes: list[int] = []
    steps: list[int] = []
    shape: list[int] = []
    advanced: tuple[int, object] | None = None
    integers = False
    axis = 0
    for k in keys:
        if k is None:
            shape.append(1)
            continue
        extent = as_int(x.extents[axis])
        if isinstance(k, slice):
            if k != slice(None):
                start, stop, step = k.indices(_fixed(x, axis))
                size = len(range(start, stop, step))
                axes.append(axis)
                starts.append(start if size else 0)
                sizes.append(size)
                steps.append(step if size else 1)
                shape.append(size)
            else:
                shape.append(-1 if extent is None else extent)
        elif isinstance(k, (list, np.ndarray, SymbolicTensor)):
            if advanced is not None:
                raise CompileError(f"two arrays of indices for {x!r}, expected at most one")
            advanced = (len(shape), k)
            shape.append(-1 if extent is None else extent)
        else:
            place = _integer(k)
            extent = _fixed(x, axis)
            if not -extent <= place < extent:
                raise CompileError(f"index {place} is out of range for axis {axis} of {x!r}")
            integers = True
            axes.append(axis)
            starts.append(place % extent)
            sizes.append(1)
            steps.append(1)
        axis += 1
    if advanced is not None and integers:
        raise CompileError("an array of indices beside an integer index; index in two steps")
    result = x
    if axes:
        result = apply("slice", x, axes=tuple(axes), starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))
    if shape != [-1 if (s := as_int(e)) is None else s for e in result.extents]:
        result = reshape(result, shape)
    if advanced is not None:
        result = take(result, advanced[1], advanced[0])  # type: ignore[arg-type]
    return result


def _fixed(x: SymbolicTensor, axis: int) -> int:
    extent = as_int(x.extents[axis])
    if extent is None:
        raise CompileError(f"axis {axis} of {x!r} is symbolic; only ':' can index it")
    return extent


def _integer(k: object) -> int:
    try:
        return python_operator.index(k)  # type: ignore[arg-type]
    except TypeError:
        raise CompileError(
            f"an index of type {type(k).__name__}; expected an integer, a slice, None, '...' or an array of integers"
        ) from None


def scaled_dot_product_attention(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, mask: ArrayLike | None = None, scale: float | None = None
) -> SymbolicTensor:
    """softmax(q · kᵀ · scale + mask) · v over the last two axes; scale is 1 / sqrt(head size) by default."""
    queries, keys, values = promote(q, k, v)
    factor = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    scores = multiply(matmul(queries, swapaxes(keys, -1, -2)), factor)
    if mask is not None:
        scores = add(scores, mask)
    return matmul(softmax(scores), values)


__all__ = [
    "abs",
    "absolute",
    "add",
    "all",
    "amax",
    "amin",
    "any",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "astype",
    "average_pool",
    "batch_norm",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "broadcast_to",
    "cast",
    "ceil",
    "clip",
    "concat",
    "concatenate",
    "conv",
    "conv_transpose",
    "cos",
    "cosh",
    "divide",
    "dot",
    "einsum",
    "elu",
    "equal",
    "erf",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "flip",
    "floor",
    "floor_divide",
    "fmod",
    "gelu",
    "getitem",
    "greater",
    "greater_equal",
    "group_norm",
    "hard_sigmoid",
    "hard_swish",
    "invert",
    "isfinite",
    "isinf",
    "isnan",
    "layer_norm",
    "leaky_relu",
    "left_shift",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "matmul",
    "max",
    "max_pool",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mish",
    "mod",
    "moveaxis",
    "multiply",
    "negative",
    "not_equal",
    "outer",
    "pad",
    "pow",
    "power",
    "prelu",
    "prod",
    "ravel",
    "reciprocal",
    "relu",
    "remainder",
    "reshape",
    "right_shift",
    "rint",
    "rms_norm",
    "rsqrt",
    "scaled_dot_product_attention",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "softmax",
    "softplus",
    "softsign",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "swapaxes",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "tile",
    "transpose",
    "tril",
    "triu",
    "true_divide",
    "trunc",
    "var",
    "where",
]
