"""Structural hashes: 128 bits over everything that a meaning depends on, with bound variables numbered.

A Hasher walks a program in a fixed order and is told of each binder; a scalar is written as a sequence of tokens in
postorder, each distinct node once, so sharing costs nothing and depth does not matter. Names do not count: variables
and tensors are numbered in the order in which they are bound or first met.
"""

from __future__ import annotations

from hashlib import blake2b

from tcompiler.ir.scalar.grammar import (
    Binary,
    Cast,
    Const,
    Load,
    Reducer,
    Scalar,
    Select,
    Unary,
    Var,
    children,
    postorder,
)

DIGEST_BYTES = 16


class Hasher:
    """Collects the tokens of one program."""

    def __init__(self) -> None:
        self._tokens: list[str] = []
        self._variables: dict[Var, int] = {}
        self._count = 0
        self._names: dict[str, int] = {}

    def token(self, *parts: object) -> None:
        """Adds strings, numbers, booleans or None, as Python literals: no two sequences of them read alike."""
        self._tokens.extend(map(ascii, parts))

    def bind(self, var: Var) -> None:
        """Numbers a variable from here on; its dtype and extent count, its name does not."""
        self.token("bind", var.dtype.name)
        if var.extent is None:
            self.token("parameter")
        else:
            self.scalar(var.extent)
        self._variables[var] = self._next()

    def name(self, name: str) -> None:
        """A tensor, buffer or block by its number in the order of first mention."""
        self.token("name", self._names.setdefault(name, len(self._names)))

    def scalar(self, node: Scalar) -> None:
        """Adds an expression."""
        numbers: dict[Scalar, int] = {}
        for n in postorder(node):
            numbers[n] = len(numbers)
            match n:
                case Const(dtype=d, bits=bits):
                    self.token("const", d.name, bits)
                case Var():
                    self._variable(n)
                case Unary(op=op):
                    self.token("unary", op)
                case Binary(op=op):
                    self.token("binary", op)
                case Select():
                    self.token("select")
                case Cast(dtype=d):
                    self.token("cast", d.name)
                case Load(buffer=buffer, dtype=d, indices=indices):
                    self.token("load", d.name, len(indices))
                    self.name(buffer)
                case _:
                    raise TypeError(f"not a scalar: {type(n).__name__}")
            for c in children(n):
                self.token(numbers[c])
        self.token("end")

    def _next(self) -> int:
        """A number that no binder had before: one variable may be bound again in another scope."""
        self._count += 1
        return self._count

    def _variable(self, var: Var) -> None:
        number = self._variables.get(var)
        if number is None:
            # free here: a parameter, or a variable that an incomplete program does not bind
            number = self._variables[var] = self._next()
            self.token("free", var.dtype.name, var.extent is None)
        self.token("var", number)

    def reducer(self, reducer: Reducer) -> None:
        """Adds a reducer; its variables are bound."""
        self.token("reducer", len(reducer.lhs))
        for var in (*reducer.lhs, *reducer.rhs):
            self.bind(var)
        for value in (*reducer.combine, *reducer.identity):
            self.scalar(value)

    def digest(self) -> str:
        """The hash of all tokens, as 32 hex digits."""
        return blake2b(",".join(self._tokens).encode(), digest_size=DIGEST_BYTES).hexdigest()


def hash_scalar(node: Scalar) -> str:
    """The hash of an expression on its own: free variables are numbered in the order of first use."""
    h = Hasher()
    h.scalar(node)
    return h.digest()
