"""The canonical form of index expressions: what decides bindings, bounds and predicates without a solver.

An i64 expression is read as `constant + sum of coefficient * atom`. Atoms are variables, products of variables,
`x // c`, `x % c` of canonical x and positive constant c, min and max, and whatever else (loads, selects), opaquely.
Sums are collected; a division or modulo gives up every part that the divisor divides, exactly; digits of one number
(`x // c * c + x % c`) are put together again. Variables range over their extents, so `(i*6 + j) // 6` is `i` for j < 6.

Everything is over the integers: index arithmetic does not overflow. Expressions that load are only taken apart by
sums and products, which hold modulo 2^64 as well. Forms are remembered per node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import gcd

from tcompiler.ir import dtypes as dt
from tcompiler.ir.scalar.grammar import (
    COMPARISONS,
    FALSE,
    TRUE,
    Binary,
    Cast,
    Const,
    Load,
    Scalar,
    Select,
    Unary,
    Var,
    children,
    index,
    map_children,
    postorder,
)

Bounds = tuple[int | None, int | None]


class Linear:
    """constant + sum of coefficient * atom; terms keep the order of first occurrence and have no zeros."""

    __slots__ = ("const", "terms")

    def __init__(self, const: int, terms: dict[Scalar, int]) -> None:
        self.const = const
        self.terms = terms

    def plus(self, other: Linear, factor: int = 1) -> Linear:
        """self + factor * other."""
        if factor == 0:
            return self
        if not other.terms:
            return Linear(self.const + factor * other.const, self.terms)
        terms = dict(self.terms)
        for atom, c in other.terms.items():
            total = terms.get(atom, 0) + factor * c
            if total:
                terms[atom] = total
            else:
                del terms[atom]
        return Linear(self.const + factor * other.const, terms)

    def scaled(self, factor: int) -> Linear:
        """factor * self."""
        if factor == 1:
            return self
        if factor == 0:
            return Linear(0, {})
        return Linear(self.const * factor, {a: c * factor for a, c in self.terms.items()})

    def bounds(self) -> Bounds:
        """Inclusive bounds over the ranges of the atoms."""
        low: int | None = self.const
        high: int | None = self.const
        for atom, c in self.terms.items():
            a, b = _atom_bounds(atom)
            if c < 0:
                a, b = b, a
            low = None if low is None or a is None else low + a * c
            high = None if high is None or b is None else high + b * c
            if low is None and high is None:
                break
        return low, high

    def expression(self) -> Scalar:
        """The form as a scalar: positive terms, negative terms, constant."""
        result: Scalar | None = None
        for positive in (True, False):
            for atom, c in self.terms.items():
                if (c > 0) is not positive:
                    continue
                size = abs(c)
                term = atom if size == 1 else Binary("mul", atom, index(size))
                if result is None:
                    if positive:
                        result = term
                    else:
                        result = (
                            Binary("mul", atom, index(c)) if self.const == 0 else Binary("sub", index(self.const), term)
                        )
                else:
                    result = Binary("add" if positive else "sub", result, term)
        if result is None:
            return index(self.const)
        started = not any(c > 0 for c in self.terms.values()) and self.const != 0
        if self.const == 0 or started:
            return result
        op = "add" if self.const > 0 else "sub"
        return Binary(op, result, index(abs(self.const)))


_linear: dict[Scalar, Linear] = {}
_bounds_of_atoms: dict[Scalar, Bounds] = {}
_simplified: dict[Scalar, Scalar] = {}
_loading: dict[Scalar, bool] = {}


def linear(node: Scalar) -> Linear:
    """The canonical form of an i64 expression."""
    known = _linear.get(node)
    if known is not None:
        return known
    for n in _pending(node, _linear):
        if n.dtype is dt.i64:
            _linear[n] = _combine(n)
    return _linear[node]


def _pending(node: Scalar, known: Mapping[Scalar, object]) -> Iterator[Scalar]:
    """What lies below a node and is not known yet, operands first; what is known is not entered again."""
    # what the caller does not remember, a condition for one, must not be entered twice either
    seen: set[Scalar] = set()
    stack = [(node, False)]
    while stack:
        n, ready = stack.pop()
        if n in known or n in seen:
            continue
        if ready:
            seen.add(n)
            yield n
        else:
            stack.append((n, True))
            stack.extend((c, False) for c in reversed(children(n)))


def _form(node: Scalar) -> Linear:
    known = _linear.get(node)
    return known if known is not None else linear(node)


def _single(node: Scalar) -> Linear:
    return Linear(0, {node: 1})


def _combine(node: Scalar) -> Linear:
    match node:
        case Const():
            return Linear(int(node.value), {})
        case Var():
            return _single(node)
        case Binary(op="add", a=a, b=b):
            return _recombined(_form(a).plus(_form(b)))
        case Binary(op="sub", a=a, b=b):
            return _recombined(_form(a).plus(_form(b), -1))
        case Binary(op="mul", a=a, b=b):
            x, y = _form(a), _form(b)
            if not y.terms:
                return x.scaled(y.const)
            if not x.terms:
                return y.scaled(x.const)
            return _product(x, y)
        case Binary(op="floordiv" | "floormod" as op, a=a, b=b):
            x, y = _form(a), _form(b)
            if not y.terms and y.const > 0 and (y.const == 1 or not _loads(a)):
                return _quotient(x, y.const) if op == "floordiv" else _remainder(x, y.const)
            return _opaque(node, op, x, y)
        case Binary(op="min" | "max" as op, a=a, b=b):
            return _extremum(op, _form(a), _form(b))
        case Select():
            done = _simplify(node)
            return _single(done) if isinstance(done, Select) else _form(done)
    return _single(map_children(node, simplify))


def _opaque(node: Binary, op: str, x: Linear, y: Linear) -> Linear:
    if not y.terms and y.const == 0:
        return Linear(0, {})
    if not x.terms and not y.terms:
        return Linear(x.const // y.const if op == "floordiv" else x.const % y.const, {})
    return _single(Binary(op, x.expression(), y.expression()))


def _product(x: Linear, y: Linear) -> Linear:
    """A product of two sums, multiplied out; atoms that are products have an order of their own."""
    result = Linear(x.const * y.const, {})
    for atom, c in x.terms.items():
        result = result.plus(_single(atom), c * y.const)
    for atom, c in y.terms.items():
        result = result.plus(_single(atom), c * x.const)
    for a, ca in x.terms.items():
        for b, cb in y.terms.items():
            # either order of the factors is one atom: the text decides, as it is the same in every process
            first, second = (a, b) if repr(a) <= repr(b) else (b, a)
            made = Binary("mul", first, second)
            _linear.setdefault(made, _single(made))
            result = result.plus(_single(made), ca * cb)
    return result


def _loads(node: Scalar) -> bool:
    known = _loading.get(node)
    if known is None:
        known = _loading[node] = any(isinstance(n, Load) for n in postorder(node))
    return known


def _split(x: Linear, divisor: int) -> tuple[Linear, Linear]:
    """x = divisor * quotient + rest, with every coefficient of the rest smaller than the divisor."""
    quotient: dict[Scalar, int] = {}
    rest: dict[Scalar, int] = {}
    for atom, c in x.terms.items():
        q = abs(c) // divisor * (1 if c > 0 else -1)
        if q:
            quotient[atom] = q
        r = c - q * divisor
        if r:
            rest[atom] = r
    return Linear(x.const // divisor, quotient), Linear(x.const % divisor, rest)


def _within(x: Linear, low: int, high: int) -> bool:
    a, b = x.bounds()
    return a is not None and b is not None and low <= a and b <= high


def _quotient(x: Linear, divisor: int) -> Linear:
    if divisor == 1:
        return x
    quotient, rest = _split(x, divisor)
    if not rest.terms:
        return quotient
    low, high = rest.bounds()
    if low is not None and high is not None and low // divisor == high // divisor:
        return Linear(quotient.const + low // divisor, quotient.terms)
    parts = _aligned(rest, divisor)
    if parts is not None:
        step, number, _ = parts
        return _recombined(quotient.plus(_quotient(number, divisor // step)))
    return _recombined(quotient.plus(_quotient_atom(rest, divisor)))


def _aligned(x: Linear, divisor: int) -> tuple[int, Linear, Linear] | None:
    """x = step * number + digit, 0 <= digit < step, and step divides `divisor`: then the digit does not carry."""
    for step in sorted({gcd(divisor, c) for c in x.terms.values()} - {1, divisor}, reverse=True):
        digit = Linear(x.const % step, {a: c for a, c in x.terms.items() if c % step})
        if digit.terms and _within(digit, 0, step - 1):
            number = Linear(x.const // step, {a: c // step for a, c in x.terms.items() if c % step == 0})
            return step, number, digit
    return None


def _quotient_atom(rest: Linear, divisor: int) -> Linear:
    common = divisor
    for c in rest.terms.values():
        common = gcd(common, c)
    if common > 1:
        smaller = Linear(rest.const // common, {a: c // common for a, c in rest.terms.items()})
        return _quotient(smaller, divisor // common)
    if len(rest.terms) == 1:
        ((atom, c),) = rest.terms.items()
        if c == 1 and isinstance(atom, Binary) and atom.op == "floordiv" and isinstance(atom.b, Const):
            inner = int(atom.b.value)
            if inner > 0:
                return _quotient(_form(atom.a).plus(Linear(rest.const * inner, {})), inner * divisor)
    made = Binary("floordiv", rest.expression(), index(divisor))
    _linear.setdefault(made, _single(made))
    return _single(made)


def _remainder(x: Linear, divisor: int) -> Linear:
    if divisor == 1:
        return Linear(0, {})
    # k * (y % a) is k * y modulo the divisor, if that divides k * a
    opened = x
    for atom, c in x.terms.items():
        if isinstance(atom, Binary) and atom.op == "floormod" and isinstance(atom.b, Const):
            inner = int(atom.b.value)
            if inner > 0 and (c * inner) % divisor == 0 and not _loads(atom.a):
                opened = opened.plus(_single(atom), -c).plus(_form(atom.a), c)
    _, rest = _split(opened, divisor)
    if not rest.terms:
        return rest
    low, high = rest.bounds()
    if low is not None and high is not None and low // divisor == high // divisor:
        return Linear(rest.const - low // divisor * divisor, rest.terms)
    parts = _aligned(rest, divisor)
    if parts is not None:
        step, number, digit = parts
        return _recombined(_remainder(number, divisor // step).scaled(step).plus(digit))
    common = divisor
    for c in rest.terms.values():
        common = gcd(common, c)
    if common > 1 and rest.const % common == 0:
        smaller = Linear(rest.const // common, {a: c // common for a, c in rest.terms.items()})
        return _remainder(smaller, divisor // common).scaled(common)
    made = Binary("floormod", rest.expression(), index(divisor))
    _linear.setdefault(made, _single(made))
    return _single(made)


def _recombined(x: Linear) -> Linear:
    """Puts the digits of one number together: k*c*(x // c) + k*(x % c), and k*c*(x // c % d) + k*(x % c)."""
    changed = True
    while changed:
        changed = False
        for atom, k in x.terms.items():
            if not (isinstance(atom, Binary) and atom.op == "floormod" and isinstance(atom.b, Const)):
                continue
            c = int(atom.b.value)
            if c <= 1 or _loads(atom.a):
                continue
            number = _form(atom.a)
            high = _quotient(number, c)
            if not high.const and len(high.terms) == 1:
                ((digit, one),) = high.terms.items()
                if one == 1 and x.terms.get(digit) == k * c:
                    x = x.plus(_single(atom), -k).plus(_single(digit), -k * c).plus(number, k)
                    changed = True
                    break
            digits = [a for a in high.terms if not isinstance(a, Var)] or list(high.terms)
            for other, coefficient in x.terms.items():
                if (
                    digits
                    and coefficient == k * c
                    and isinstance(other, Binary)
                    and other.op == "floormod"
                    and isinstance(other.b, Const)
                    and int(other.b.value) > 0
                    and not _loads(other.a)
                ):
                    # the number may have lost multiples of c, which its next digit still has
                    lost = _form(other.a).plus(high, -1)
                    if any(a in lost.terms for a in digits):
                        continue
                    whole = _remainder(number.plus(lost, c), c * int(other.b.value))
                    x = x.plus(_single(atom), -k).plus(_single(other), -k * c).plus(whole, k)
                    changed = True
                    break
            if changed:
                break
    return x


def _extremum(op: str, x: Linear, y: Linear) -> Linear:
    low, high = x.plus(y, -1).bounds()
    if low is not None and low >= 0:
        return x if op == "max" else y
    if high is not None and high <= 0:
        return y if op == "max" else x
    made = Binary(op, x.expression(), y.expression())
    _linear.setdefault(made, _single(made))
    return _single(made)


def _atom_bounds(atom: Scalar) -> Bounds:
    known = _bounds_of_atoms.get(atom)
    if known is None:
        known = _bounds_of_atoms[atom] = _range(atom)
    return known


def _range(atom: Scalar) -> Bounds:
    match atom:
        case Var(extent=None):
            return 0, None
        case Var(extent=extent):
            assert extent is not None
            high = linear(extent).bounds()[1]
            return 0, None if high is None else max(high - 1, 0)
        case Binary(op="floormod", b=Const() as b):
            c = int(b.value)
            if c == 0:
                return 0, 0
            low, high = linear(atom.a).bounds()
            if c > 0 and low is not None and high is not None and low // c == high // c:
                return low % c, high % c
            return (0, c - 1) if c > 0 else (c + 1, 0)
        case Binary(op="floordiv", b=Const() as b):
            c = int(b.value)
            low, high = linear(atom.a).bounds()
            if c > 0:
                return None if low is None else low // c, None if high is None else high // c
            return None, None
        case Binary(op="mul", a=a, b=b):
            (a_low, a_high), (b_low, b_high) = linear(a).bounds(), linear(b).bounds()
            if None not in (a_low, a_high, b_low, b_high):
                corners = [p * q for p in (a_low, a_high) for q in (b_low, b_high)]  # type: ignore[operator]
                return min(corners), max(corners)
            if a_low is not None and b_low is not None and a_low >= 0 and b_low >= 0:
                return a_low * b_low, None
            return None, None
        case Binary(op="min" | "max" as op, a=a, b=b):
            (a_low, a_high), (b_low, b_high) = linear(a).bounds(), linear(b).bounds()
            if op == "min":
                return _smaller(a_low, b_low), _present(min, a_high, b_high)
            return _present(max, a_low, b_low), _larger(a_high, b_high)
        case Select(a=a, b=b):
            (a_low, a_high), (b_low, b_high) = linear(a).bounds(), linear(b).bounds()
            return _smaller(a_low, b_low), _larger(a_high, b_high)
        case Cast(a=a) if a.dtype is dt.bool_:
            return 0, 1
        case Cast(a=a) if a.dtype.kind == "uint" and a.dtype.bits < 64:
            return 0, (1 << a.dtype.bits) - 1
    return None, None


def _smaller(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else min(a, b)


def _larger(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else max(a, b)


def _present(pick: object, a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b) if pick is min else max(a, b)


def bounds(node: Scalar) -> Bounds:
    """Inclusive bounds of an i64 expression over the ranges of its variables; None where there is none."""
    return linear(node).bounds()


def simplify(node: Scalar) -> Scalar:
    """An expression of the same value, for all values of the variables within their extents.

    i64 expressions come out in canonical form, conditions that always or never hold as constants, selects on them as
    their side. Deterministic and idempotent.
    """
    known = _simplified.get(node)
    if known is not None:
        return known
    for n in _pending(node, _simplified):
        done = _simplify(n)
        _simplified[n] = done
        _simplified.setdefault(done, done)
    return _simplified[node]


def _simplify(node: Scalar) -> Scalar:
    if isinstance(node, (Const, Var)):
        return node
    if node.dtype is dt.i64 and not isinstance(node, (Load, Select)):
        return linear(node).expression()
    new = map_children(node, lambda child: _simplified.get(child) or simplify(child))
    match new:
        case Binary(op=op, a=a, b=b) if op in COMPARISONS and a.dtype is dt.i64:
            known = _decide(new)
            if known is not None:
                return TRUE if known else FALSE
        case Binary(op="and", a=a, b=b) if new.dtype is dt.bool_:
            if a is FALSE or b is FALSE:
                return FALSE
            if a is TRUE or a is b:
                return b
            return a if b is TRUE else new
        case Binary(op="or", a=a, b=b) if new.dtype is dt.bool_:
            if a is TRUE or b is TRUE:
                return TRUE
            if a is FALSE or a is b:
                return b
            return a if b is FALSE else new
        case Unary(op="not", a=a) if a is TRUE or a is FALSE:
            return FALSE if a is TRUE else TRUE
        case Select(cond=cond, a=a, b=b):
            if cond is TRUE or a is b:
                return a
            if cond is FALSE:
                return b
        case _:
            pass
    return new


def _decide(node: Binary) -> bool | None:
    """Decides a comparison of indices from the bounds of the difference."""
    low, high = linear(node.a).plus(linear(node.b), -1).bounds()
    return compare_zero(node.op, low, high)


def compare_zero(op: str, low: int | None, high: int | None) -> bool | None:
    """Whether a comparison with 0 holds for all, or for no, numbers between inclusive bounds."""
    if op in ("gt", "le"):
        holds = True if low is not None and low > 0 else False if high is not None and high <= 0 else None
        return holds if op == "gt" or holds is None else not holds
    if op in ("ge", "lt"):
        holds = True if low is not None and low >= 0 else False if high is not None and high < 0 else None
        return holds if op == "ge" or holds is None else not holds
    if low == 0 and high == 0:
        return op == "eq"
    if (low is not None and low > 0) or (high is not None and high < 0):
        return op == "ne"
    return None
