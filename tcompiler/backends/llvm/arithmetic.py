"""Operations of the scalar language on SSA values, scalars and vectors alike.

What LLVM leaves undefined or would call a library for is spelt out: integer division never traps, shifts are masked,
NaN passes through min and max, narrow floats are computed in f32 and rounded by code of our own.
"""

from __future__ import annotations

from collections.abc import Callable

from tcompiler.backends.llvm import math
from tcompiler.backends.llvm.masks import known_lanes, literal_mask
from tcompiler.backends.llvm.math.remainder import remainder
from tcompiler.backends.llvm.ssa import Value, literal, value_type
from tcompiler.backends.llvm.writer import Level, Writer
from tcompiler.errors import InternalError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.scalar.grammar import COMPARISONS, Const, const
from tcompiler.target.target import Target

_INTRINSICS = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven", "abs": "fabs"}
_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_INT_OPS = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_FLOAT_CMP = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_INT_CMP = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge"}
_UINT_CMP = {"eq": "eq", "ne": "ne", "lt": "ult", "le": "ule", "gt": "ugt", "ge": "uge"}
_NARROW = (dt.f16, dt.bf16)


class Arithmetic:
    """Emits operations into a Writer.

    Attributes:
        w: The function being written.
        lanes: Length of the vectors that a scalar is splatted to; 0 outside vectorized loops.
        declarations: Declarations of the intrinsics and functions called so far.
        math_functions: Definitions of the functions of our own called so far, by symbol.
        admitted: Of masks that only the running code knows, the lanes that may be on.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.w = Writer()
        self.lanes = 0
        self.declarations: set[str] = set()
        self.math_functions: dict[str, str] = {}
        self.admitted: dict[str, list[bool]] = {}

    def admits(self, mask: Value) -> list[bool]:
        """The lanes of a mask that may be on."""
        known = known_lanes(mask.ssa, mask.lanes)
        return list(known) if known is not None else self.admitted.get(mask.ssa, [True] * mask.lanes)

    # -- vectors ---------------------------------------------------------------------------------------------------

    def splat(self, x: Value) -> Value:
        """A scalar in every lane."""
        if x.lanes:
            return x
        n, vector = self.lanes, value_type(x.dtype, self.lanes)
        if not x.ssa.startswith("%"):
            return Value(f"splat ({x.typed})", x.dtype, n)
        one = self._local(f"insertelement {vector} poison, {x.typed}, i64 0", x.ssa)
        return Value(
            self._local(f"shufflevector {vector} {one}, {vector} poison, <{n} x i32> zeroinitializer", one),
            x.dtype,
            n,
        )

    def _local(self, text: str, operand: str) -> str:
        """A pure instruction on one operand, placed and remembered at the level where the operand was made."""
        # what was made in a loop that has ended is used behind it
        return self.w.instruction(text, min(self.w.made_at.get(operand, self.w.depth), self.w.depth))

    def unify(self, *xs: Value) -> tuple[Value, ...]:
        """Splats the scalars among values if any is a vector."""
        return tuple(self.splat(x) for x in xs) if any(x.lanes for x in xs) else xs

    # -- operations ------------------------------------------------------------------------------------------------

    def call(self, name: str, result: str, *args: Value) -> str:
        """Calls an LLVM intrinsic, declaring it."""
        self.declarations.add(f"declare {result} @{name}({', '.join(a.type for a in args)})")
        return self.w.effect(f"call {result} @{name}({', '.join(a.typed for a in args)})")

    def binary(self, op: str, a: Value, b: Value) -> Value:
        """A binary operation of the scalar language."""
        a, b = self.unify(a, b)
        d, n = a.dtype, a.lanes
        if d in _NARROW:
            wide = self.binary(op, self.cast(a, dt.f32), self.cast(b, dt.f32))
            return wide if op in COMPARISONS else self.cast(wide, d)
        w = self.w
        if op in COMPARISONS:
            if d.is_float:
                return Value(w.effect(f"fcmp {_FLOAT_CMP[op]} {a.typed}, {b.ssa}"), dt.bool_, n)
            table = _INT_CMP if d.kind == "int" else _UINT_CMP
            return Value(w.effect(f"icmp {table[op]} {a.typed}, {b.ssa}"), dt.bool_, n)
        if op in ("min", "max"):
            return self._min_max(op, a, b)
        if d.is_float:
            if op in _FLOAT_OPS:
                return Value(w.effect(f"{_FLOAT_OPS[op]} {a.typed}, {b.ssa}"), d, n)
            return self._float_binary(op, a, b)
        if op in _INT_OPS:
            if d is dt.bool_ and n and (decided := _decided(op, a, b)) is not None:
                return decided
            result = Value(w.effect(f"{_INT_OPS[op]} {a.typed}, {b.ssa}"), d, n)
            if d is dt.bool_ and n and op == "and":
                self.admitted[result.ssa] = [x and y for x, y in zip(self.admits(a), self.admits(b), strict=True)]
            return result
        if op in ("shl", "shr"):
            amount = self.binary("and", b, Value(str(d.bits - 1), d))
            instruction = "shl" if op == "shl" else "ashr" if d.kind == "int" else "lshr"
            return Value(w.effect(f"{instruction} {a.typed}, {amount.ssa}"), d, n)
        if op == "pow":
            return self._integer_power(a, b)
        return self._divide(op, a, b)

    def _min_max(self, op: str, a: Value, b: Value) -> Value:
        d, n = a.dtype, a.lanes
        if d is dt.bool_:
            return Value(self.w.effect(f"{'and' if op == 'min' else 'or'} {a.typed}, {b.ssa}"), d, n)
        if not d.is_float:
            sign = "s" if d.kind == "int" else "u"
            return Value(self.call(f"llvm.{sign}{op}.{_suffix(a)}", a.type, a, b), d, n)
        if "%" not in a.ssa:
            a, b = b, a
        if "%" not in b.ssa and not _literal_nan(b):
            # x86's minps and maxps give the second operand on NaN; with a constant first, NaN passes in one instruction
            test = self.w.effect(f"fcmp {'olt' if op == 'max' else 'ogt'} {a.typed}, {b.ssa}")
            return Value(self.w.effect(f"select {_bools(n)} {test}, {b.typed}, {a.typed}"), d, n)
        better = self.w.effect(f"fcmp {'ogt' if op == 'max' else 'olt'} {a.typed}, {b.ssa}")
        picked = self.w.effect(f"select {_bools(n)} {better}, {a.typed}, {b.typed}")
        nan = self.w.effect(f"fcmp uno {a.typed}, {a.ssa}")
        return Value(self.w.effect(f"select {_bools(n)} {nan}, {a.typed}, {a.type} {picked}"), d, n)

    def _float_binary(self, op: str, a: Value, b: Value) -> Value:
        d, n = a.dtype, a.lanes
        if op in ("pow", "atan2"):
            return self._math(op, a, b)
        if op == "floordiv":
            quotient = self.binary("div", a, b)
            return Value(self.call(f"llvm.floor.{_suffix(a)}", a.type, quotient), d, n)
        # exact, where x - trunc(x / y) * y is not
        rest = Value(self._remainder(a, b), d, n)
        if op == "truncmod":
            return rest
        zero = self.constant(const(d, 0.0), n)
        moved = self.binary("add", rest, b)
        differs = self.binary("xor", self.binary("lt", rest, zero), self.binary("lt", b, zero))
        wrong = self.binary("and", self.binary("ne", rest, zero), differs)
        return self.select(wrong, moved, rest)

    def _remainder(self, a: Value, b: Value) -> str:
        """C's fmod, lane by lane."""
        symbol, text, declarations = remainder(a.dtype.name)
        self.math_functions[symbol] = text
        self.declarations.update(declarations)
        element = value_type(a.dtype)
        if not a.lanes:
            return self.w.effect(f"call {element} @{symbol}({a.typed}, {b.typed})")
        result = "poison"
        for k in range(a.lanes):
            x = self.w.effect(f"extractelement {a.typed}, i64 {k}")
            y = self.w.effect(f"extractelement {b.typed}, i64 {k}")
            r = self.w.effect(f"call {element} @{symbol}({element} {x}, {element} {y})")
            result = self.w.effect(f"insertelement {a.type} {result}, {element} {r}, i64 {k}")
        return result

    def _divide(self, op: str, a: Value, b: Value) -> Value:
        """Integer division and modulo that never trap: by zero gives 0, the smallest integer by -1 wraps."""
        d, n, w = a.dtype, a.lanes, self.w
        divisor = _literal_int(b)
        modulo = op.endswith("mod")
        if d.kind == "uint":
            safe = b if divisor else self.select(self._is(b, 0), self._int(1, b), b)
            result = Value(w.effect(f"{'urem' if modulo else 'udiv'} {a.typed}, {safe.ssa}"), d, n)
            return result if divisor else self.select(self._is(b, 0), self._int(0, b), result)
        if op.startswith("floor") and divisor is not None and divisor > 0 and divisor & (divisor - 1) == 0:
            if modulo:
                return self.binary("and", a, self._int(divisor - 1, b))
            return Value(w.effect(f"ashr {a.typed}, {self._int(divisor.bit_length() - 1, b).ssa}"), d, n)
        minus = None if divisor is not None else self._is(b, -1)
        if divisor is None:
            assert minus is not None
            special = self.binary("or", self._is(b, 0), minus)
            safe = self.select(special, self._int(1, b), b)
        else:
            safe = self._int(1, b) if divisor in (0, -1) else b
        quotient = Value(w.effect(f"sdiv {a.typed}, {safe.ssa}"), d, n)
        rest = Value(w.effect(f"srem {a.typed}, {safe.ssa}"), d, n)
        if op.startswith("floor") and (divisor is None or divisor not in (0, -1)):
            zero = self._int(0, b)
            differs = self.binary("lt", self.binary("xor", rest, safe), zero)
            wrong = self.binary("and", self.binary("ne", rest, zero), differs)
            quotient = self.select(wrong, self.binary("sub", quotient, self._int(1, b)), quotient)
            rest = self.select(wrong, self.binary("add", rest, safe), rest)
        if divisor == 0 or (divisor == -1 and modulo):
            return self._int(0, b)
        if divisor == -1:
            return self.binary("sub", self._int(0, b), a)
        result = rest if modulo else quotient
        if divisor is None:
            assert minus is not None
            by_minus = self._int(0, b) if modulo else self.binary("sub", self._int(0, b), a)
            result = self.select(minus, by_minus, result)
            result = self.select(self._is(b, 0), self._int(0, b), result)
        return result

    def _integer_power(self, a: Value, b: Value) -> Value:
        """Square and multiply; a negative exponent gives what truncation of the real power gives (0 or ±1)."""
        one, zero = self._int(1, a), self._int(0, a)
        result, base, exponent = one, a, b
        for _ in range(a.dtype.bits):
            odd = self._is(self.binary("and", exponent, one), 1)
            result = self.select(odd, self.binary("mul", result, base), result)
            base = self.binary("mul", base, base)
            exponent = Value(self.w.effect(f"lshr {exponent.typed}, {one.ssa}"), a.dtype, a.lanes)
        if a.dtype.kind == "uint":
            return result
        parity = self._is(self.binary("and", b, one), 1)
        unit = self.select(parity, a, one)
        magnitude_one = self.binary("or", self._is(a, 1), self._is(a, -1))
        negative = self.select(magnitude_one, unit, zero)
        return self.select(self.binary("lt", b, zero), negative, result)

    def _int(self, value: int, like: Value) -> Value:
        x = Value(str(value), like.dtype)
        return self.splat(x) if like.lanes else x

    def _is(self, x: Value, value: int) -> Value:
        return self.binary("eq", x, self._int(value, x))

    def constant(self, node: Const, lanes: int = 0) -> Value:
        """A literal, in every lane if asked."""
        x = Value(literal(node), node.dtype)
        return self.splat(x) if lanes else x

    def unary(self, op: str, a: Value) -> Value:
        """A unary operation of the scalar language."""
        d, n, w = a.dtype, a.lanes, self.w
        if d in _NARROW:
            if op in ("neg", "abs"):
                bits = self.bitcast(a, dt.u16)
                sign = self._int(0x8000 if op == "neg" else 0x7FFF, bits)
                return self.bitcast(self.binary("xor" if op == "neg" else "and", bits, sign), d)
            wide = self.unary(op, self.cast(a, dt.f32))
            return wide if wide.dtype is dt.bool_ else self.cast(wide, d)
        if op == "isnan":
            return Value(w.effect(f"fcmp uno {a.typed}, {a.ssa}"), dt.bool_, n)
        if op == "isinf":
            size = Value(self.call(f"llvm.fabs.{_suffix(a)}", a.type, a), d, n)
            return self.binary("eq", size, self.constant(const(d, float("inf")), n))
        if op == "not":
            return self.binary("xor", a, self._int(-1, a) if d is not dt.bool_ else self.boolean(True, n))
        if not d.is_float:
            zero = self._int(0, a)
            if op == "neg":
                return self.binary("sub", zero, a)
            if op == "abs":
                return (
                    a if d.kind == "uint" else self.select(self.binary("lt", a, zero), self.binary("sub", zero, a), a)
                )
            if op == "sign":
                positive = self.select(self.binary("gt", a, zero), self._int(1, a), zero)
                return self.select(self.binary("lt", a, zero), self._int(-1, a), positive)
            raise InternalError(f"{op} of {d} has no code")
        if op == "neg":
            return Value(w.effect(f"fneg {a.typed}"), d, n)
        if op in _INTRINSICS:
            return Value(self.call(f"llvm.{_INTRINSICS[op]}.{_suffix(a)}", a.type, a), d, n)
        if op == "rsqrt":
            return self.binary("div", self.constant(const(d, 1.0), n), self.unary("sqrt", a))
        if op == "sign":
            zero = self.constant(const(d, 0.0), n)
            one = self.constant(const(d, 1.0), n)
            positive = self.select(self.binary("gt", a, zero), one, a)
            return self.select(self.binary("lt", a, zero), self.constant(const(d, -1.0), n), positive)
        return self._math(op, a)

    def boolean(self, value: bool, lanes: int) -> Value:
        """true or false, in every lane if asked."""
        x = Value("true" if value else "false", dt.bool_)
        return self.splat(x) if lanes else x

    def _math(self, name: str, *args: Value) -> Value:
        """A function of our own, on vectors no longer than the machine's (longer ones spill inside)."""
        a = args[0]
        limit = max(1, self.target.vector_lanes(a.dtype.bits))
        if a.lanes > limit:
            halves = [self._math(name, *(self._half(x, part) for x in args)) for part in (0, 1)]
            lanes = ", ".join(f"i32 {k}" for k in range(a.lanes))
            joined = self.w.effect(f"shufflevector {halves[0].typed}, {halves[1].typed}, <{a.lanes} x i32> <{lanes}>")
            return Value(joined, a.dtype, a.lanes)
        function = math.definition(name, a.dtype.name, a.lanes or 1, self.target.fma)
        self.math_functions[function.symbol] = function.ir
        self.declarations.update(function.declarations)
        text = f"call {a.type} @{function.symbol}({', '.join(x.typed for x in args)})"
        return Value(self.w.effect(text), a.dtype, a.lanes)

    def _half(self, x: Value, part: int) -> Value:
        n = x.lanes // 2
        lanes = ", ".join(f"i32 {part * n + k}" for k in range(n))
        text = f"shufflevector {x.typed}, {x.type} poison, <{n} x i32> <{lanes}>"
        return Value(self.w.effect(text), x.dtype, n)

    def select(self, cond: Value, a: Value, b: Value) -> Value:
        """cond ? a : b, both computed."""
        if a.lanes or b.lanes or cond.lanes:
            a, b = (self.splat(a), self.splat(b))
        return Value(self.w.effect(f"select {cond.typed}, {a.typed}, {b.typed}"), a.dtype, a.lanes)

    def cast(self, a: Value, to: DType) -> Value:
        """A conversion as the scalar language defines it."""
        d, n, w = a.dtype, a.lanes, self.w
        if d is to:
            return a
        target = value_type(to, n)
        if d in _NARROW:
            return self.cast(self._widen(a), to)
        if to in _NARROW:
            return self._narrow(a, to)
        if to is dt.bool_:
            zero = self.constant(const(d, 0), n)
            if d.is_float:
                return Value(w.effect(f"fcmp une {a.typed}, {zero.ssa}"), to, n)
            return Value(w.effect(f"icmp ne {a.typed}, {zero.ssa}"), to, n)
        if d is dt.bool_:
            instruction = "uitofp" if to.is_float else "zext"
        elif d.is_float and to.is_float:
            instruction = "fpext" if to.bits > d.bits else "fptrunc"
        elif d.is_float and to.bits <= 16:
            return self._saturated(a, to)
        elif d.is_float:
            sign = "s" if to.kind == "int" else "u"
            result = type_suffix(to, n)
            return Value(self.call(f"llvm.fpto{sign}i.sat.{result}.{_suffix(a)}", target, a), to, n)
        elif to.is_float:
            instruction = "sitofp" if d.kind == "int" else "uitofp"
        elif to.bits == d.bits:
            return Value(a.ssa, to, n)
        else:
            instruction = "trunc" if to.bits < d.bits else "sext" if d.kind == "int" else "zext"
        return Value(w.effect(f"{instruction} {a.typed} to {target}"), to, n)

    def _saturated(self, a: Value, to: DType) -> Value:
        """A float as an integer of few bits: clamped first, so that it converts as i32 in whole vectors."""
        w, n = self.w, a.lanes
        low, high = (0, (1 << to.bits) - 1) if to.kind == "uint" else (-(1 << (to.bits - 1)), (1 << (to.bits - 1)) - 1)
        if low:
            known = Value(w.effect(f"fcmp ord {a.typed}, {a.ssa}"), dt.bool_, n)
            a = self.select(known, a, self.constant(const(a.dtype, 0.0), n))
        # each comparison and choice is one instruction, which takes the bound where x is not a number
        for test, bound in (("ogt", low), ("olt", high)):
            limit = self.constant(const(a.dtype, float(bound)), n)
            a = self.select(Value(w.effect(f"fcmp {test} {a.typed}, {limit.ssa}"), dt.bool_, n), a, limit)
        whole = Value(w.effect(f"fptosi {a.typed} to {value_type(dt.i32, n)}"), dt.i32, n)
        return self.cast(whole, to)

    def _widen(self, a: Value) -> Value:
        """f16 or bf16 as f32."""
        if a.dtype is dt.f16 and self.target.has("f16c"):
            half = self._half_type(a.lanes)
            bits = self.w.effect(f"bitcast {a.typed} to {half}")
            return Value(self.w.effect(f"fpext {half} {bits} to {value_type(dt.f32, a.lanes)}"), dt.f32, a.lanes)
        word = self.cast(self.bitcast(a, dt.u16), dt.u32)
        if a.dtype is dt.bf16:
            return self.bitcast(self._shift("shl", word, 16), dt.f32)
        # exponent and mantissa in their places of an f32, whose exponent is then 112 too small
        size = self._shift("shl", self.binary("and", word, self._int(0x7FFF, word)), 13)
        scaled = self.binary("mul", self.bitcast(size, dt.f32), self.constant(const(dt.f32, 2.0**112), a.lanes))
        special = self.binary("ge", size, self._int(0x7C00 << 13, size))
        infinite = self.binary("or", size, self._int(0x7F800000, size))
        sign = self._shift("shl", self.binary("and", word, self._int(0x8000, word)), 16)
        number = self.select(special, infinite, self.bitcast(scaled, dt.u32))
        return self.bitcast(self.binary("or", number, sign), dt.f32)

    def _narrow(self, a: Value, to: DType) -> Value:
        """f16 or bf16 of a number, rounded once to nearest even."""
        exact = a.dtype is dt.bool_ or (a.dtype.bits < 32 or a.dtype is dt.f32)
        x = self.cast(a, dt.f32) if exact else self._round_to_odd(self.cast(a, dt.f64))
        if to is dt.f16:
            return self._narrow_half(x)
        bits = self.bitcast(x, dt.u32)
        high = self._shift("shr", bits, 16)
        half = self.binary("add", self.binary("and", high, self._int(1, bits)), self._int(0x7FFF, bits))
        rounded = self._shift("shr", self.binary("add", bits, half), 16)
        quiet = self.binary("or", high, self._int(0x40, bits))
        return self.bitcast(self.cast(self.select(self.unary("isnan", x), quiet, rounded), dt.u16), to)

    def _narrow_half(self, x: Value) -> Value:
        """f16 of an f32."""
        if self.target.has("f16c"):
            half = self._half_type(x.lanes)
            rounded = self.w.effect(f"fptrunc {x.typed} to {half}")
            return Value(self.w.effect(f"bitcast {half} {rounded} to {value_type(dt.f16, x.lanes)}"), dt.f16, x.lanes)
        bits = self.bitcast(x, dt.u32)
        size = self.binary("and", bits, self._int(0x7FFFFFFF, bits))
        odd = self.binary("and", self._shift("shr", size, 13), self._int(1, size))
        # the exponent's bias changes from 127 to 15; half a unit less one is added, one more if the result is odd
        moved = self.binary("add", self.binary("sub", size, self._int((112 << 23) - 0xFFF, size)), odd)
        normal = self._shift("shr", moved, 13)
        # a denormal's last place is the last place of a half: adding a half rounds it there
        shift = self.constant(const(dt.f32, 0.5), x.lanes)
        added = self.bitcast(self.binary("add", self.bitcast(size, dt.f32), shift), dt.u32)
        denormal = self.binary("sub", added, self.bitcast(shift, dt.u32))
        number = self.select(self.binary("lt", size, self._int(113 << 23, size)), denormal, normal)
        large = self.select(
            self.binary("gt", size, self._int(0x7F800000, size)), self._int(0x7E00, size), self._int(0x7C00, size)
        )
        number = self.select(self.binary("ge", size, self._int(143 << 23, size)), large, number)
        sign = self.binary("and", self._shift("shr", bits, 16), self._int(0x8000, bits))
        return self.bitcast(self.cast(self.binary("or", number, sign), dt.u16), dt.f16)

    def _half_type(self, lanes: int) -> str:
        return f"<{lanes} x half>" if lanes else "half"

    def _shift(self, op: str, x: Value, places: int) -> Value:
        return self.binary(op, x, self._int(places, x))

    def _round_to_odd(self, a: Value) -> Value:
        """f64 as f32, inexact results made odd, so that a later rounding to fewer bits is the only one.

        Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd".
        """
        n = a.lanes
        near = Value(self.w.effect(f"fptrunc {a.typed} to {value_type(dt.f32, n)}"), dt.f32, n)
        back = self.cast(near, dt.f64)
        bits = self.bitcast(near, dt.u32)
        over = self.binary("gt", self.unary("abs", back), self.unary("abs", a))
        toward_zero = self.select(over, self.binary("sub", bits, self._int(1, bits)), bits)
        odd = self.binary("or", toward_zero, self._int(1, bits))
        exact = self.binary("eq", back, a)
        keep = self.binary("or", exact, self.unary("isnan", a))
        return self.bitcast(self.select(keep, bits, odd), dt.f32)

    def bitcast(self, a: Value, to: DType) -> Value:
        """The same bits as another dtype."""
        return Value(self.w.effect(f"bitcast {a.typed} to {value_type(to, a.lanes)}"), to, a.lanes)

    def connective(self, op: str, a: Value, b: Value) -> Value:
        """a and b, or a or b, where literals are decided at once."""
        neutral, absorbing = ("true", "false") if op == "and" else ("false", "true")
        for x, y in ((a, b), (b, a)):
            if x.ssa == neutral:
                return y
            if x.ssa == absorbing:
                return x
        return self.binary(op, a, b)

    def branch_value(self, cond: Value, then: Callable[[], Value], other: Callable[[], Value]) -> Value:
        """A value computed on one of two sides of a branch."""
        return self.branch_values(cond, lambda: [then()], lambda: [other()])[0]

    def branch_values(
        self, cond: Value, then: Callable[[], list[Value]], other: Callable[[], list[Value]]
    ) -> list[Value]:
        """Values computed on one of two sides of a branch; scalars are put in every lane where the others have them."""
        w = self.w
        names = [w.fresh_label("then"), w.fresh_label("else"), w.fresh_label("join")]
        values: list[list[Value]] = []
        levels: list[Level] = []
        for name, side in zip(names[:2], (then, other), strict=True):
            with w.level("branch", name) as level:
                values.append(side())
                levels.append(level)
        vectors = [a.lanes != b.lanes for a, b in zip(*values, strict=True)]
        for k, level in enumerate(levels):
            w.levels.append(level)
            values[k] = [self.splat(x) if vector else x for x, vector in zip(values[k], vectors, strict=True)]
            w.levels.pop()
        w.line(f"br i1 {cond.ssa}, label %{names[0]}, label %{names[1]}")
        for name, level in zip(names[:2], levels, strict=True):
            w.top.lines.append(f"{name}:")
            w.top.lines.extend(level.lines)
            w.line(f"br label %{names[2]}")
        w.label(names[2])
        ends = [level.label for level in levels]
        return [
            Value(w.effect(f"phi {a.type} [ {a.ssa}, %{ends[0]} ], [ {b.ssa}, %{ends[1]} ]"), a.dtype, a.lanes)
            for a, b in zip(*values, strict=True)
        ]


def _literal_int(x: Value) -> int | None:
    text = x.ssa
    if text.startswith("splat ("):
        text = text[len("splat (") : -1].split(" ", 1)[1]
    try:
        return int(text)
    except ValueError:
        return None


def _literal_nan(x: Value) -> bool:
    """Whether a literal of f32 or f64, both written as the bits of a double, is NaN."""
    bits = int(x.ssa.removeprefix("splat (").removesuffix(")").split()[-1], 16)
    return bits & ((1 << 63) - 1) > 0x7FF << 52


def _decided(op: str, a: Value, b: Value) -> Value | None:
    """A connective of two masks that are known, lane by lane."""
    x, y = known_lanes(a.ssa, a.lanes), known_lanes(b.ssa, b.lanes)
    if x is None or y is None:
        return None
    match op:
        case "and":
            lanes = [p and q for p, q in zip(x, y, strict=True)]
        case "or":
            lanes = [p or q for p, q in zip(x, y, strict=True)]
        case "xor":
            lanes = [p is not q for p, q in zip(x, y, strict=True)]
        case _:
            return None
    return Value(literal_mask(lanes), a.dtype, a.lanes)


def _bools(lanes: int) -> str:
    return f"<{lanes} x i1>" if lanes else "i1"


def type_suffix(dtype: DType, lanes: int) -> str:
    """How the names of LLVM's intrinsics end for a type."""
    bits = 1 if dtype is dt.bool_ else dtype.bits
    name = f"{'f' if dtype.is_float and dtype not in _NARROW else 'i'}{bits}"
    return f"v{lanes}{name}" if lanes else name


def _suffix(x: Value) -> str:
    return type_suffix(x.dtype, x.lanes)
