"""Index expressions as linear forms over loop variables, the shape in which addresses are computed."""

from __future__ import annotations

from collections.abc import Mapping

from tcompiler.ir.scalar.canonical import bounds, simplify
from tcompiler.ir.scalar.grammar import Binary, Const, Scalar, Var, as_int, index
from tcompiler.ir.scalar.rewrite import substitute


class Linear:
    """constant + sum of coefficient * atom, over i64.

    An atom is a loop variable or an expression that is not linear (a load, a division that does not come out even).
    """

    __slots__ = ("const", "terms")

    def __init__(self, const: int, terms: dict[Scalar, int]) -> None:
        self.const = const
        self.terms = terms

    def __add__(self, other: Linear) -> Linear:
        if not other.terms:
            return Linear(self.const + other.const, self.terms)
        terms = dict(self.terms)
        for atom, c in other.terms.items():
            total = terms.get(atom, 0) + c
            if total:
                terms[atom] = total
            else:
                terms.pop(atom, None)
        return Linear(self.const + other.const, terms)

    def scaled(self, factor: int) -> Linear:
        """Every coefficient times an integer."""
        if factor == 0:
            return ZERO
        if factor == 1:
            return self
        return Linear(self.const * factor, {a: c * factor for a, c in self.terms.items()})

    def expression(self) -> Scalar:
        """The form as a scalar."""
        result: Scalar = index(0)
        for atom, c in self.terms.items():
            result = result + atom * c
        return result + self.const

    def range(self) -> tuple[int | None, int | None]:
        """Inclusive bounds, None where there is none."""
        low: int | None = self.const
        high: int | None = self.const
        for atom, c in self.terms.items():
            a, b = bounds(atom)
            if c < 0:
                a, b = b, a
            low = None if low is None or a is None else low + a * c
            high = None if high is None or b is None else high + b * c
        return low, high


ZERO = Linear(0, {})
Env = Mapping[Scalar, Linear]


def linear(node: Scalar, env: Env, sums: dict[Scalar, Linear] | None = None) -> Linear:
    """Reads an i64 expression as a linear form.

    Args:
        node: The expression.
        env: The forms of variables that stand for something else.
        sums: What `parts` said of expressions before; it is added to.

    Returns:
        The form, over variables that env does not name.
    """
    if isinstance(node, Var):
        return env.get(node) or Linear(0, {node: 1})
    return at(parts(node, {} if sums is None else sums), env)


def parts(node: Scalar, sums: dict[Scalar, Linear]) -> Linear:
    """An expression as a sum before anything is put in for its variables: atoms are whatever is no sum itself.

    Args:
        node: The expression.
        sums: Expressions that were taken apart before; the result is added.
    """
    known = sums.get(node)
    if known is not None:
        return known
    match node:
        case Const():
            form = Linear(int(node.value), {})
        case Binary(op="add", a=a, b=b):
            form = parts(a, sums) + parts(b, sums)
        case Binary(op="sub", a=a, b=b):
            form = parts(a, sums) + parts(b, sums).scaled(-1)
        case Binary(op="mul", a=a, b=b):
            x, y = parts(a, sums), parts(b, sums)
            form = x.scaled(y.const) if not y.terms else y.scaled(x.const) if not x.terms else Linear(0, {node: 1})
        case _:
            form = Linear(0, {node: 1})
    sums[node] = form
    return form


def at(form: Linear, env: Env) -> Linear:
    """A sum with forms put in for the variables of its atoms."""
    if not form.terms:
        return form
    const, terms = form.const, dict[Scalar, int]()
    for atom, c in form.terms.items():
        if isinstance(atom, Var):
            known = env.get(atom)
            if known is None:
                terms[atom] = terms.get(atom, 0) + c
                continue
        else:
            known = _value(atom, env)
        const += c * known.const
        for inner, k in known.terms.items():
            terms[inner] = terms.get(inner, 0) + c * k
    return Linear(const, terms if all(terms.values()) else {a: c for a, c in terms.items() if c})


def _value(node: Scalar, env: Env) -> Linear:
    """The form of an expression that is no sum, with others put in for its variables."""
    match node:
        case Binary(op="mul", a=a, b=b):
            x, y = linear(a, env), linear(b, env)
            if not y.terms:
                return x.scaled(y.const)
            if not x.terms:
                return y.scaled(x.const)
            return _atom(x.expression() * y.expression())
        case Binary(op="floordiv" | "floormod" as op, a=a, b=b) if (as_int(b) or 0) > 0:
            divisor = int(b.value)  # type: ignore[attr-defined]
            return _divide(op, linear(a, env), divisor)
    return _atom(simplify(_resolve(node, env)))


def _atom(node: Scalar) -> Linear:
    if isinstance(node, Const):
        return Linear(int(node.value), {})
    if isinstance(node, Binary) and node.op in ("add", "sub", "mul"):
        return linear(node, {}) if _is_sum(node) else Linear(0, {node: 1})
    return Linear(0, {node: 1})


def _is_sum(node: Binary) -> bool:
    return node.op != "mul" or isinstance(node.a, Const) or isinstance(node.b, Const)


def _divide(op: str, x: Linear, divisor: int) -> Linear:
    """Splits off what the divisor divides; exact where the rest is within [0, divisor)."""
    quotient = Linear(x.const // divisor, {a: c // divisor for a, c in x.terms.items() if c % divisor == 0})
    rest = Linear(x.const % divisor, {a: c for a, c in x.terms.items() if c % divisor})
    low, high = rest.range()
    if low is not None and high is not None and low >= 0 and high < divisor:
        return quotient if op == "floordiv" else rest
    if op == "floordiv":
        return quotient + _atom(simplify(Binary("floordiv", rest.expression(), index(divisor))))
    return _atom(simplify(Binary("floormod", rest.expression(), index(divisor))))


def _resolve(node: Scalar, env: Env) -> Scalar:
    return substitute(node, {var: form.expression() for var, form in env.items()})
