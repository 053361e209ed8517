"""Functions of elements: arithmetic, comparisons, logic, activations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tcompiler.frontend.functions.operands import to_float, to_truth
from tcompiler.frontend.tensor import ArrayLike, SymbolicTensor, apply, binary, lift, promote, to_dtype, writer_of


def _unary(op: str, name: str, floats: bool = True) -> Callable[[ArrayLike], SymbolicTensor]:
    def function(x: ArrayLike) -> SymbolicTensor:
        return apply(op, to_float(x) if floats else lift(writer_of(x), x))

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
    return apply("div", to_float(x), to_float(y))


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
    return apply("atan2", to_float(x), to_float(y))


def logical_not(x: ArrayLike) -> SymbolicTensor:
    """Whether every element is zero."""
    return apply("invert", to_truth(x))


def _logical(op: str, a: ArrayLike, b: ArrayLike) -> SymbolicTensor:
    writer = writer_of(a, b)
    return apply(op, to_truth(lift(writer, a)), to_truth(lift(writer, b)))


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
    return apply("where", to_truth(lift(writer, condition)), x, y)


def clip(x: ArrayLike, low: ArrayLike | None = None, high: ArrayLike | None = None) -> SymbolicTensor:
    """Elements brought into [low, high]."""
    result = lift(writer_of(x, low, high), x)
    if low is not None:
        result = maximum(result, low)
    return result if high is None else minimum(result, high)


def gelu(x: ArrayLike, approximate: str = "none") -> SymbolicTensor:
    """The Gaussian error linear unit: exact ("none") or by tanh ("tanh")."""
    return apply("gelu", to_float(x), approximate=approximate)


def leaky_relu(x: ArrayLike, alpha: float = 0.01) -> SymbolicTensor:
    """x where positive, else alpha · x."""
    return apply("leaky_relu", to_float(x), alpha=float(alpha))


def elu(x: ArrayLike, alpha: float = 1.0) -> SymbolicTensor:
    """x where positive, else alpha · (exp(x) - 1)."""
    return apply("elu", to_float(x), alpha=float(alpha))


def prelu(x: ArrayLike, slope: ArrayLike) -> SymbolicTensor:
    """x where positive, else slope · x."""
    return binary("prelu", x, slope)


def hard_sigmoid(x: ArrayLike, alpha: float = 0.2, beta: float = 0.5) -> SymbolicTensor:
    """alpha · x + beta, brought into [0, 1]."""
    return apply("hard_sigmoid", to_float(x), alpha=float(alpha), beta=float(beta))


__all__ = [
    "abs",
    "absolute",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "ceil",
    "clip",
    "cos",
    "cosh",
    "divide",
    "elu",
    "equal",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "fmod",
    "gelu",
    "greater",
    "greater_equal",
    "hard_sigmoid",
    "hard_swish",
    "invert",
    "isfinite",
    "isinf",
    "isnan",
    "leaky_relu",
    "left_shift",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mish",
    "mod",
    "multiply",
    "negative",
    "not_equal",
    "pow",
    "power",
    "prelu",
    "reciprocal",
    "relu",
    "remainder",
    "right_shift",
    "rint",
    "rsqrt",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "softplus",
    "softsign",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "trunc",
    "where",
]
