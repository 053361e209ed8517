"""Products of matrices and of tensors."""

from __future__ import annotations

from tcompiler.frontend.functions.shape import reshape
from tcompiler.frontend.tensor import ArrayLike, SymbolicTensor, apply, binary, promote


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


__all__ = [
    "dot",
    "einsum",
    "matmul",
    "outer",
]
