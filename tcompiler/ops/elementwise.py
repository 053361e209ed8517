"""Elementwise operators: one table of formulas over the scalar operations.

Inputs broadcast by numpy's rules and have one element type, as the scalar language wants it; promotion is the front
ends' business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import BINARY, COMPARISONS, PREDICATES, UNARY, Scalar, const
from tcompiler.ops.define import (
    Definition,
    accumulator,
    binary,
    broadcast_read,
    cast,
    minus,
    over,
    plus,
    select,
    times,
    unary,
)
from tcompiler.ops.registry import Attribute, Attrs, Operator, Types, register
from tcompiler.ops.types import (
    broadcast,
    element_type,
    expect_kind,
    fail,
    number,
    present,
    required,
    same_dtype,
    show,
    word,
)

Formula = Callable[..., Scalar]


@dataclass(frozen=True, slots=True)
class _Form:
    """One elementwise operator: which element types, what they become, and the formula.

    Attributes:
        kind: What element types it takes (as in the scalar grammar).
        formula: The value from the attributes and the operands.
        arity: How many operands.
        predicate: Whether the result is bool.
        attributes: Attributes by name.
        wide: Whether half floats are computed in f32 and rounded once, because the formula has several steps.
    """

    kind: str
    formula: Formula
    arity: int = 1
    predicate: bool = False
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    wide: bool = True


def sigmoid(x: Scalar) -> Scalar:
    """1 / (1 + exp(-x))."""
    return unary("sigmoid", x)


def softplus(x: Scalar) -> Scalar:
    """log(1 + exp(x)) in a form that neither overflows nor cancels."""
    return plus(binary("max", x, 0.0), unary("log1p", unary("exp", unary("neg", unary("abs", x)))))


def _clamp(x: Scalar, low: float, high: float) -> Scalar:
    return binary("min", binary("max", x, low), high)


def _gelu(attrs: Attrs, x: Scalar) -> Scalar:
    """Hendrycks and Gimpel, Gaussian Error Linear Units, 2016: exact, or with tanh."""
    if word(attrs, "approximate") == "tanh":
        inner = times(math.sqrt(2 / math.pi), plus(x, times(0.044715, times(x, times(x, x)))))
        return times(times(0.5, x), plus(1.0, unary("tanh", inner)))
    return times(times(0.5, x), plus(1.0, unary("erf", times(x, math.sqrt(0.5)))))


def _leaky_relu(attrs: Attrs, x: Scalar) -> Scalar:
    return select(binary("lt", x, 0.0), times(number(attrs, "alpha"), x), x)


def _elu(attrs: Attrs, x: Scalar) -> Scalar:
    return select(binary("lt", x, 0.0), times(number(attrs, "alpha"), unary("expm1", x)), x)


def _selu(attrs: Attrs, x: Scalar) -> Scalar:
    alpha, gamma = number(attrs, "alpha"), number(attrs, "gamma")
    return times(gamma, select(binary("gt", x, 0.0), x, times(alpha, unary("expm1", x))))


def _celu(attrs: Attrs, x: Scalar) -> Scalar:
    alpha = number(attrs, "alpha")
    low = times(alpha, unary("expm1", over(binary("min", x, 0.0), alpha)))
    return plus(binary("max", x, 0.0), low)


def _hard_sigmoid(attrs: Attrs, x: Scalar) -> Scalar:
    return _clamp(plus(times(number(attrs, "alpha"), x), number(attrs, "beta")), 0.0, 1.0)


def _hard_swish(attrs: Attrs, x: Scalar) -> Scalar:
    return times(x, _clamp(plus(times(1 / 6, x), 0.5), 0.0, 1.0))


def _thresholded_relu(attrs: Attrs, x: Scalar) -> Scalar:
    return select(binary("gt", x, number(attrs, "alpha")), x, 0.0)


def _shrink(attrs: Attrs, x: Scalar) -> Scalar:
    lambd, bias = number(attrs, "lambd"), number(attrs, "bias")
    low = select(binary("lt", x, -lambd), plus(x, bias), const(x.dtype, 0.0))
    return select(binary("gt", x, lambd), minus(x, bias), low)


def _swish(attrs: Attrs, x: Scalar) -> Scalar:
    return times(x, sigmoid(times(number(attrs, "alpha"), x)))


def _prelu(attrs: Attrs, x: Scalar, slope: Scalar) -> Scalar:
    return select(binary("lt", x, 0), times(slope, x), x)


def _shift(op: str) -> Formula:
    """A shift as numpy's: by a negative amount or by the width and more nothing is left but the sign."""

    def formula(attrs: Attrs, x: Scalar, amount: Scalar) -> Scalar:
        bits = x.dtype.bits
        within = binary("lt", amount, bits)
        if x.dtype.kind == "int":
            within = binary("and", binary("ge", amount, 0), within)
            if op == "shr":
                return binary("shr", x, select(within, amount, bits - 1))
        return select(within, binary(op, x, amount), 0)

    return formula


def _isinf(attrs: Attrs, x: Scalar) -> Scalar:
    positive, negative = bool(attrs["positive"]), bool(attrs["negative"])
    if positive and negative:
        return unary("isinf", x)
    if positive or negative:
        return binary("eq", x, math.inf if positive else -math.inf)
    return binary("and", unary("isinf", x), const(dt.bool_, False))


def _float(default: float) -> Attribute:
    return Attribute("float", default)


_FORMS: dict[str, _Form] = {
    "relu": _Form("number", lambda attrs, x: binary("max", x, 0)),
    "gelu": _Form("float", _gelu, attributes={"approximate": Attribute("str", "none")}),
    "silu": _Form("float", lambda attrs, x: times(x, sigmoid(x))),
    "swish": _Form("float", _swish, attributes={"alpha": _float(1.0)}),
    "mish": _Form("float", lambda attrs, x: times(x, unary("tanh", softplus(x)))),
    "softplus": _Form("float", lambda attrs, x: softplus(x)),
    "softsign": _Form("float", lambda attrs, x: over(x, plus(1.0, unary("abs", x)))),
    "leaky_relu": _Form("float", _leaky_relu, attributes={"alpha": _float(0.01)}),
    "elu": _Form("float", _elu, attributes={"alpha": _float(1.0)}),
    "selu": _Form(
        "float",
        _selu,
        attributes={"alpha": _float(1.67326319217681884765625), "gamma": _float(1.05070102214813232421875)},
    ),
    "celu": _Form("float", _celu, attributes={"alpha": _float(1.0)}),
    "hard_sigmoid": _Form("float", _hard_sigmoid, attributes={"alpha": _float(0.2), "beta": _float(0.5)}),
    "hard_swish": _Form("float", _hard_swish),
    "thresholded_relu": _Form("float", _thresholded_relu, attributes={"alpha": _float(1.0)}),
    "shrink": _Form("number", _shrink, attributes={"lambd": _float(0.5), "bias": _float(0.0)}),
    "prelu": _Form("number", _prelu, arity=2),
    "shl": _Form("integer", _shift("shl"), arity=2, wide=False),
    "shr": _Form("integer", _shift("shr"), arity=2, wide=False),
    "reciprocal": _Form("float", lambda attrs, x: over(1.0, x)),
    "isinf": _Form(
        "float",
        _isinf,
        predicate=True,
        attributes={"positive": Attribute("bool", True), "negative": Attribute("bool", True)},
        wide=False,
    ),
}


def _scalar_unary(op: str) -> Formula:
    return lambda attrs, x: unary(op, x)


def _scalar_binary(op: str) -> Formula:
    return lambda attrs, a, b: binary(op, a, b)


# Python's keywords cannot name an operator in a graph's text; these have numpy's names.
_NAMES = {"not": "invert", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}

for _op, _kind in UNARY.items():
    if _op not in _FORMS:
        _FORMS[_NAMES.get(_op, _op)] = _Form(_kind, _scalar_unary(_op), 1, _op in PREDICATES, wide=False)
for _op, _kind in BINARY.items():
    if _op in _FORMS:
        continue
    _FORMS[_NAMES.get(_op, _op)] = _Form(_kind, _scalar_binary(_op), 2, _op in COMPARISONS, wide=False)

_APPROXIMATIONS = ("none", "tanh")


def _form_rule(name: str, form: _Form) -> Callable[[Types, Attrs], tuple[TensorType, ...]]:
    def rule(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
        operands = present(types)
        dtype = same_dtype(name, operands)
        expect_kind(name, operands[0], form.kind)
        if "approximate" in attrs and attrs["approximate"] not in _APPROXIMATIONS:
            fail(f"{name}: approximate is {attrs['approximate']!r}, expected 'none' or 'tanh'")
        return (TensorType(dt.bool_ if form.predicate else dtype, broadcast(name, operands)),)

    return rule


def _form_definition(name: str, form: _Form, rule: Callable[[Types, Attrs], tuple[TensorType, ...]]) -> Formula:
    def definition(types: Types, attrs: Attrs) -> Program:
        (out,) = rule(types, attrs)
        d = Definition(name, types, ("x",) if form.arity == 1 else ("a", "b"))

        def body(*axes: Scalar) -> Scalar:
            operands = [broadcast_read(x, axes, out.shape) for x in d.inputs()]
            if form.wide:
                operands = [cast(accumulator(x.dtype), x) for x in operands]
            return cast(out.dtype, form.formula(attrs, *operands))

        return d.program(d.compute("y", out.shape, body))

    return definition  # type: ignore[return-value]


def _register_form(name: str, form: _Form) -> None:
    rule = _form_rule(name, form)
    inputs = ("x",) if form.arity == 1 else ("a", "b")
    register(Operator(name, inputs, rule, _form_definition(name, form, rule), form.attributes))  # type: ignore[arg-type]


for _name, _form in _FORMS.items():
    _register_form(_name, _form)


def _where_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    cond, a, b = present(types)
    if cond.dtype is not dt.bool_:
        fail(f"where: the condition is {show(cond)}, expected bool (compare with 0)")
    dtype = same_dtype("where", (a, b))
    return (TensorType(dtype, broadcast("where", (cond, a, b))),)


def _where(types: Types, attrs: Attrs) -> Program:
    (out,) = _where_type(types, attrs)
    d = Definition("where", types, ("cond", "a", "b"))
    cond, a, b = d.inputs()
    y = d.compute(
        "y",
        out.shape,
        lambda *i: select(*(broadcast_read(x, i, out.shape) for x in (cond, a, b))),
    )
    return d.program(y)


def _cast_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return (TensorType(element_type(attrs, "to"), required(types, 0).shape),)


def _cast(types: Types, attrs: Attrs) -> Program:
    d = Definition("cast", types, ("x",))
    x = d.input(0)
    return d.program(d.compute("y", x.shape, lambda *i: cast(element_type(attrs, "to"), x[i])))


def _identity_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = required(types, 0)
    return (TensorType(x.dtype, x.shape),)


def _identity(types: Types, attrs: Attrs) -> Program:
    d = Definition("identity", types, ("x",))
    return d.program(d.input(0))


register(Operator("where", ("cond", "a", "b"), _where_type, _where))
register(Operator("cast", ("x",), _cast_type, _cast, {"to": Attribute("dtype")}))
register(Operator("identity", ("x",), _identity_type, _identity))
