"""A small emitter of straight-line LLVM IR, so that a vector function reads like the mathematics it computes.

`Emitter` collects instructions; `Value` is an SSA value (a vector, or a scalar at one lane) with Python's operators.
Identical instructions are emitted once. Plain numbers become splat constants of the other operand's type.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tcompiler.errors import InternalError

FLOATS = {"f32": "float", "f64": "double"}
MANTISSA = {"f32": 23, "f64": 52}
EXPONENT_BIAS = {"f32": 127, "f64": 1023}
_SUFFIX = {"float": "f32", "double": "f64"}

Number = int | float


def vector_type(element: str, lanes: int) -> str:
    """The LLVM type of `lanes` elements; a plain scalar at one lane."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def type_suffix(element: str, lanes: int) -> str:
    """The suffix of an overloaded intrinsic for that type, as `v8f32` or `f64`."""
    name = _SUFFIX.get(element, element)
    return name if lanes == 1 else f"v{lanes}{name}"


def _literal(number: Number, element: str) -> str:
    if element in _SUFFIX:
        value = float(number)
        if element == "float" and abs(value) != float("inf"):
            value = float(struct.unpack("<f", struct.pack("<f", value))[0])
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if element == "i1":
        return "true" if number else "false"
    bits = int(element[1:])
    wrapped = int(number) & ((1 << bits) - 1)
    return str(wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """An SSA value: a result, a parameter or a constant.

    Args:
        emitter: Where operations on it are emitted.
        element: LLVM type of one lane: `float`, `double`, `i1`, `i32`, `i64`, ....
        name: The operand's text, `%12` or a constant.
    """

    emitter: Emitter
    element: str
    name: str

    @property
    def type(self) -> str:
        """The LLVM type of the whole value."""
        return vector_type(self.element, self.emitter.lanes)

    @property
    def dtype(self) -> str:
        """The lanes' type as we name it, "f32" or "f64"; only for floats."""
        return _SUFFIX[self.element]

    @property
    def is_float(self) -> bool:
        """Whether its lanes are floating-point numbers."""
        return self.element in _SUFFIX

    def like(self, other: Value | Number) -> Value:
        """A number as a constant of this value's type; a value of that type as it is."""
        if not isinstance(other, Value):
            return self.emitter.constant(other, self.element)
        if other.element != self.element:
            raise InternalError(f"vector function mixes {self.element} and {other.element}")
        return other

    def _binary(self, opcode: str, other: Value | Number) -> Value:
        right = self.like(other)
        return self.emitter.emit(f"{opcode} {self.type} {self.name}, {right.name}", self.element)

    def _arithmetic(self, opcode: str, other: Value | Number) -> Value:
        return self._binary(f"f{opcode}" if self.is_float else opcode, other)

    def __add__(self, other: Value | Number) -> Value:
        return self._arithmetic("add", other)

    def __sub__(self, other: Value | Number) -> Value:
        return self._arithmetic("sub", other)

    def __mul__(self, other: Value | Number) -> Value:
        return self._arithmetic("mul", other)

    def __radd__(self, other: Number) -> Value:
        return self._arithmetic("add", other)

    def __rsub__(self, other: Number) -> Value:
        return self.like(other) - self

    def __rmul__(self, other: Number) -> Value:
        return self._arithmetic("mul", other)

    def __truediv__(self, other: Value | Number) -> Value:
        return self._binary("fdiv", other)

    def __rtruediv__(self, other: Number) -> Value:
        return self.like(other) / self

    def __neg__(self) -> Value:
        if self.is_float:
            return self.emitter.emit(f"fneg {self.type} {self.name}", self.element)
        return self.like(0) - self

    def __and__(self, other: Value | Number) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Value | Number) -> Value:
        return self._binary("or", other)

    def __xor__(self, other: Value | Number) -> Value:
        return self._binary("xor", other)

    def __invert__(self) -> Value:
        return self._binary("xor", 1 if self.element == "i1" else -1)

    def __lshift__(self, other: Value | Number) -> Value:
        return self._binary("shl", other)

    def __rshift__(self, other: Value | Number) -> Value:
        """The logical shift: zeros come in from the left."""
        return self._binary("lshr", other)

    def sar(self, other: Value | Number) -> Value:
        """The arithmetic shift: the sign comes in from the left."""
        return self._binary("ashr", other)

    def _compare(self, predicate: str, other: Value | Number) -> Value:
        right = self.like(other)
        opcode = f"fcmp o{predicate}" if self.is_float else f"icmp {predicate}"
        return self.emitter.emit(f"{opcode} {self.type} {self.name}, {right.name}", "i1")

    def eq(self, other: Value | Number) -> Value:
        """Lane-wise ==, false where a lane is NaN."""
        return self._compare("eq", other)

    def ne(self, other: Value | Number) -> Value:
        """Lane-wise !=; for floats, the ordered one: false where a lane is NaN."""
        return self._compare("ne", other)

    def lt(self, other: Value | Number) -> Value:
        """Lane-wise <, false where a lane is NaN; signed for integers."""
        return self._compare("lt" if self.is_float else "slt", other)

    def gt(self, other: Value | Number) -> Value:
        """Lane-wise >, false where a lane is NaN; signed for integers."""
        return self._compare("gt" if self.is_float else "sgt", other)

    def ge(self, other: Value | Number) -> Value:
        """Lane-wise >=, false where a lane is NaN; signed for integers."""
        return self._compare("ge" if self.is_float else "sge", other)

    def is_nan(self) -> Value:
        """Whether each lane is NaN."""
        return self.emitter.emit(f"fcmp uno {self.type} {self.name}, {self.name}", "i1")

    def cast(self, opcode: str, element: str) -> Value:
        """A conversion of each lane: `opcode` is LLVM's (`fpext`, `fptrunc`, `sitofp`, `fptosi`, `trunc`, ...)."""
        to = vector_type(element, self.emitter.lanes)
        return self.emitter.emit(f"{opcode} {self.type} {self.name} to {to}", element)

    def bits(self) -> Value:
        """The float's bits as an integer of the same width."""
        return self.cast("bitcast", "i32" if self.element == "float" else "i64")

    def as_float(self) -> Value:
        """The integer's bits as a float of the same width."""
        return self.cast("bitcast", "float" if self.element == "i32" else "double")


class Emitter:
    """Collects the instructions of one function over `lanes` lanes.

    Args:
        lanes: Lanes of every value; 1 means scalars.
        fma: Whether the target has fused multiply-add. Without it an exact one is emulated where exactness matters,
            because `llvm.fma` would otherwise become a call into libm.
    """

    def __init__(self, lanes: int, fma: bool = True) -> None:
        self.lanes = lanes
        self.has_fma = fma
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self._known: dict[str, Value] = {}

    def parameter(self, name: str, element: str) -> Value:
        """The function's parameter `%name`."""
        return Value(self, element, f"%{name}")

    def constant(self, number: Number, element: str) -> Value:
        """A constant in every lane; floats are rounded to the type."""
        literal = _literal(number, element)
        return Value(self, element, literal if self.lanes == 1 else f"splat ({element} {literal})")

    def emit(self, text: str, element: str) -> Value:
        """Appends `%n = text` (once: an identical instruction is reused) and returns its value."""
        known = self._known.get(text)
        if known is None:
            known = Value(self, element, f"%v{len(self.lines)}")
            self.lines.append(f"  {known.name} = {text}")
            self._known[text] = known
        return known

    def intrinsic(self, name: str, *arguments: Value) -> Value:
        """A call of the overloaded intrinsic llvm.`name`, whose arguments and result have one type."""
        value = arguments[0]
        symbol = f"@llvm.{name}.{type_suffix(value.element, self.lanes)}"
        self.declarations.add(f"declare {value.type} {symbol}({', '.join(a.type for a in arguments)})")
        return self.emit(
            f"call {value.type} {symbol}({', '.join(f'{a.type} {a.name}' for a in arguments)})", value.element
        )

    def mad(self, x: Value, y: Value | Number, z: Value | Number) -> Value:
        """x·y + z with one rounding where the target can, with two where it cannot."""
        y, z = x.like(y), x.like(z)
        return self.intrinsic("fma", x, y, z) if self.has_fma else x * y + z

    def fma(self, x: Value, y: Value | Number, z: Value | Number) -> Value:
        """x·y + z as if rounded once, which error-free transformations rely on.

        Without the instruction: f32 goes through f64, where the product is exact; f64 is summed from an exact product
        (T. J. Dekker 1971) and an exact sum (D. E. Knuth), which is exact whenever the result is representable and
        no product overflows or underflows: all that the callers rely on.
        """
        y, z = x.like(y), x.like(z)
        if self.has_fma:
            return self.intrinsic("fma", x, y, z)
        if x.element == "float":
            a, b, c = (v.cast("fpext", "double") for v in (x, y, z))
            return (a * b + c).cast("fptrunc", "float")
        product, product_error = self._dekker_product(x, y)
        total, total_error = self.two_sum(product, z)
        return total + (total_error + product_error)

    def _dekker_product(self, x: Value, y: Value) -> tuple[Value, Value]:
        x_high = (x.bits() & -(1 << 27)).as_float()
        y_high = (y.bits() & -(1 << 27)).as_float()
        x_low, y_low = x - x_high, y - y_high
        product = x * y
        return product, ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low

    def two_sum(self, x: Value, y: Value) -> tuple[Value, Value]:
        """x + y and its rounding error, exactly (D. E. Knuth, TAOCP 2, 4.2.2)."""
        total = x + y
        back = total - x
        return total, (x - (total - back)) + (y - back)

    def fast_two_sum(self, x: Value, y: Value) -> tuple[Value, Value]:
        """x + y and its rounding error, exactly if |x| >= |y| (T. J. Dekker 1971)."""
        total = x + y
        return total, y - (total - x)

    def two_product(self, x: Value, y: Value | Number) -> tuple[Value, Value]:
        """x·y and its rounding error, exactly unless it underflows."""
        product = x * y
        return product, self.fma(x, y, -product)

    def select(self, condition: Value, yes: Value | Number, no: Value | Number) -> Value:
        """Lane-wise choice; one of the two must be a `Value`."""
        if isinstance(yes, Value):
            no = yes.like(no)
        elif isinstance(no, Value):
            yes = no.like(yes)
        else:
            raise InternalError("select between two plain numbers has no type")
        kind = vector_type("i1", self.lanes)
        return self.emit(f"select {kind} {condition.name}, {yes.type} {yes.name}, {no.type} {no.name}", yes.element)

    def clamp(self, x: Value, low: Number, high: Number) -> Value:
        """x limited to [low, high]; NaN stays NaN (the operand order is that of x86's min and max)."""
        bottom, top = x.like(low), x.like(high)
        x = self.select(top.lt(x), top, x)
        return self.select(bottom.gt(x), bottom, x)

    def abs(self, x: Value) -> Value:
        """|x|."""
        return self.intrinsic("fabs", x)

    def copysign(self, x: Value, sign: Value) -> Value:
        """|x| with the sign of `sign`."""
        return self.intrinsic("copysign", x, sign)

    def leading_zeros(self, x: Value) -> Value:
        """How many of the integer's leading bits are zero; its width for 0."""
        symbol = f"@llvm.ctlz.{type_suffix(x.element, self.lanes)}"
        self.declarations.add(f"declare {x.type} {symbol}({x.type}, i1)")
        return self.emit(f"call {x.type} {symbol}({x.type} {x.name}, i1 false)", x.element)

    def trunc(self, x: Value) -> Value:
        """x rounded towards zero to an integer."""
        return self.intrinsic("trunc", x)

    def sqrt(self, x: Value) -> Value:
        """The correctly rounded square root."""
        return self.intrinsic("sqrt", x)

    def poly(self, x: Value, coefficients: Sequence[float]) -> Value:
        """The polynomial with those coefficients, lowest power first.

        Horner's scheme when short; the even and the odd powers side by side when long, which halves the latency for
        one more multiplication.
        """
        if len(coefficients) > 9:
            square = x * x
            return self.mad(self.horner(square, coefficients[1::2]), x, self.horner(square, coefficients[0::2]))
        return self.horner(x, coefficients)

    def horner(self, x: Value, coefficients: Sequence[float]) -> Value:
        """The polynomial with those coefficients, lowest power first, by Horner's scheme."""
        result = x.like(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            result = self.mad(result, x, coefficient)
        return result
