"""Scalar expressions as LLVM values: uniform ones as scalars, those that vary over a vectorized loop as vectors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager

from tcompiler.backends.llvm import math
from tcompiler.backends.llvm.linear import ZERO, Linear, linear
from tcompiler.backends.llvm.math.remainder import remainder
from tcompiler.backends.llvm.ssa import Value, literal, memory_type, value_type
from tcompiler.backends.llvm.writer import Level, Writer
from tcompiler.errors import CompileError, InternalError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.loop.grammar import Buffer
from tcompiler.ir.scalar import canonical
from tcompiler.ir.scalar.grammar import (
    COMPARISONS,
    Binary,
    Cast,
    Const,
    Load,
    Scalar,
    Select,
    Unary,
    Var,
    as_int,
    const,
    index,
    postorder,
)
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.target.target import Target

_INTRINSICS = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven", "abs": "fabs"}
_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_INT_OPS = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_FLOAT_CMP = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_INT_CMP = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge"}
_UINT_CMP = {"eq": "eq", "ne": "ne", "lt": "ult", "le": "ule", "gt": "ugt", "ge": "uge"}
_NARROW = (dt.f16, dt.bf16)

Key = tuple[int, frozenset[tuple[Scalar, int]]]


def linear_key(x: Linear) -> Key:
    """A hashable form of a linear form."""
    return x.const, frozenset(x.terms.items())


class Carried:
    """A run of registers at the start of a loop's body: a phi, if the body reads it before it writes it.

    Args:
        phis: The loop's phis so far: run to the phi's name and its value before the loop.
        run: Buffer and start.
        before: The value before the loop, which may itself be carried by a loop around.
        name: Makes a fresh name.
    """

    __slots__ = ("_before", "_name", "_phis", "_run", "value")

    def __init__(
        self,
        phis: dict[tuple[str, int], tuple[Value, Value]],
        run: tuple[str, int],
        before: Lazy,
        name: Callable[[], str],
    ) -> None:
        self._phis = phis
        self._run = run
        self._before = before
        self._name = name
        self.value: Value | None = None

    def force(self) -> Value:
        """The phi, made now if it was not needed before."""
        if self.value is None:
            before = forced(self._before)
            self.value = Value(self._name(), before.dtype, before.lanes)
            self._phis[self._run] = (self.value, before)
        return self.value

    def outside(self) -> Lazy:
        """What stands for the run behind the loop if the body left it alone."""
        return self.value if self.value is not None else self._before


class Element:
    """One element of a run that another run has overwritten in part; extracted only if somebody reads it."""

    __slots__ = ("_extract", "_value", "lane", "parent")

    def __init__(self, parent: Lazy, lane: int, extract: Callable[[Value, int], Value]) -> None:
        self.parent = parent
        self.lane = lane
        self._extract = extract
        self._value: Value | None = None

    def force(self) -> Value:
        """The element's value."""
        if self._value is None:
            self._value = self._extract(forced(self.parent), self.lane)
        return self._value

    def outside(self, ended: Carried) -> Element:
        """The same behind a loop that has ended."""
        if self.parent is not ended or self._value is not None:
            return self
        return Element(ended.outside(), self.lane, self._extract)


Lazy = Value | Carried | Element


def forced(x: Lazy) -> Value:
    """The value of a run."""
    return x if isinstance(x, Value) else x.force()


Run = tuple[Lazy, int]
"""A run of register elements: its value and its length."""


class Registers:
    """The contents of register buffers as SSA values: runs of elements as they were written, by buffer and start."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, Run]] = {}

    def snapshot(self) -> dict[tuple[str, int], Run]:
        """Every run with its value and length, for phis and merges."""
        return {(b, start): run for b, runs in self.runs.items() for start, run in runs.items()}

    def restore(self, snapshot: Mapping[tuple[str, int], Run]) -> None:
        """Goes back to a snapshot."""
        self.runs = {}
        for (buffer, start), run in snapshot.items():
            self.runs.setdefault(buffer, {})[start] = run

    def covering(self, buffer: str, element: int) -> tuple[int, Value, int] | None:
        """The run that holds an element: its start, value and length."""
        for start, (value, length) in self.runs.get(buffer, {}).items():
            if start <= element < start + length:
                return start, forced(value), length
        return None


class Values:
    """Emits values of scalar expressions into a Writer.

    Attributes:
        env: What iter vars stand for, as linear forms over loop variables.
        lane: The variable of the vectorized loop being emitted, or None.
        lanes: Length of the vectors (a power of two, at least the loop's extent).
    """

    def __init__(self, target: Target, buffers: dict[str, Buffer]) -> None:
        self.target = target
        self.buffers = buffers
        self.w = Writer()
        self.env: dict[Scalar, Linear] = {}
        self.values: dict[Var, Value] = {}
        self.loop_values: dict[Scalar, tuple[str, int]] = {}
        self.pointers: dict[str, str] = {}
        self.registers = Registers()
        self.lane: Var | None = None
        self.lanes = 0
        self.mask: Value | None = None
        self.declarations: set[str] = set()
        self.math_functions: dict[str, str] = {}
        self.read_only: frozenset[str] = frozenset()
        self._strides: dict[str, tuple[int, ...]] = {}

    # -- indices ---------------------------------------------------------------------------------------------------

    def linear(self, node: Scalar) -> Linear:
        """An i64 expression as a linear form over loop variables."""
        return linear(node, self.env)

    def strides(self, name: str) -> tuple[int, ...]:
        """A buffer's strides in elements.

        Raises:
            CompileError: If an extent is symbolic: code is generated for constant extents.
        """
        known = self._strides.get(name)
        if known is None:
            known = constant_strides(self.buffers[name])
            self._strides[name] = known
        return known

    def offset(self, buffer: str, indices: tuple[Scalar, ...]) -> Linear:
        """The flat element offset of an access."""
        total = ZERO
        for i, stride in zip(indices, self.strides(buffer), strict=True):
            total = total + self.linear(i).scaled(stride)
        if all(isinstance(a, Var) for a in total.terms):
            return total
        # digits of one number (a fused loop's // and %) may have come together
        form = canonical.linear(total.expression())
        return Linear(form.const, form.terms)

    def _depth_of(self, atom: Scalar) -> int:
        if isinstance(atom, Var):
            return self.loop_values[atom][1]
        if any(isinstance(n, Load) for n in postorder(atom)):
            return self.w.depth
        return max((self.loop_values[v][1] for v in free_vars(atom)), default=0)

    def _by_depth(self, x: Linear) -> dict[int, list[tuple[Scalar, int]]]:
        result: dict[int, list[tuple[Scalar, int]]] = {}
        for atom, c in x.terms.items():
            result.setdefault(self._depth_of(atom), []).append((atom, c))
        return dict(sorted(result.items()))

    def _atom(self, atom: Scalar) -> str:
        if isinstance(atom, Var):
            return self.loop_values[atom][0]
        depth = self._depth_of(atom)
        memo = self.w.levels[depth].memo
        key = ("atom", atom)
        if depth == self.w.depth and _has_load(atom):
            return self._generic(atom).ssa
        if key not in memo:
            with self.w.at(depth):
                memo[key] = self._generic(atom).ssa
        return memo[key]

    def _sum(self, terms: list[tuple[Scalar, int]], depth: int) -> str:
        total: str | None = None
        for atom, c in terms:
            ssa = self._atom(atom)
            if c != 1:
                ssa = self.w.instruction(f"mul i64 {ssa}, {c}", depth)
            total = ssa if total is None else self.w.instruction(f"add i64 {total}, {ssa}", depth)
        return total if total is not None else "0"

    def index(self, x: Linear) -> str:
        """A uniform index as an i64 operand; each part is computed at the loop that it depends on."""
        total: str | None = None
        depth = 0
        for depth, terms in self._by_depth(x).items():
            part = self._sum(terms, depth)
            total = part if total is None else self.w.instruction(f"add i64 {total}, {part}", depth)
        if total is None:
            return str(x.const)
        return self.w.instruction(f"add i64 {total}, {x.const}", depth) if x.const else total

    def pointer(self, buffer: str, x: Linear) -> str:
        """The address of an element; the parts that change in outer loops are added outside the inner ones."""
        element = self.buffers[buffer].dtype.bytes
        address = self.pointers[buffer]
        depth = 0
        for depth, terms in self._by_depth(x).items():
            part = self._sum([(a, c * element) for a, c in terms], depth)
            address = self.w.instruction(f"getelementptr i8, ptr {address}, i64 {part}", depth)
        if x.const:
            address = self.w.instruction(f"getelementptr i8, ptr {address}, i64 {x.const * element}", depth)
        return address

    def _split_lane(self, x: Linear) -> tuple[Linear, int | None]:
        """Splits off the lane's coefficient; None where the form depends on the lane in another way."""
        lane = self.lane
        if lane is None:
            return x, 0
        if any(a is not lane and lane in free_vars(a) for a in x.terms):
            return x, None
        c = x.terms.get(lane, 0)
        return (Linear(x.const, {a: k for a, k in x.terms.items() if a is not lane}), c) if c else (x, 0)

    def lane_numbers(self) -> str:
        """The vector 0, 1, 2, … as an i64 literal."""
        return "<" + ", ".join(f"i64 {k}" for k in range(self.lanes)) + ">"

    def vector_index(self, x: Linear) -> Value:
        """A lane-varying index as a vector of i64."""
        uniform, c = self._split_lane(x)
        if c is None:
            lane = self.lane
            total: Value = Value(str(x.const), dt.i64)
            for atom, k in x.terms.items():
                part = Value(self.lane_numbers(), dt.i64, self.lanes) if atom is lane else self._generic(atom)
                total = self.binary("add", total, self.binary("mul", part, Value(str(k), dt.i64)))
            return total
        steps = "<" + ", ".join(f"i64 {k * c}" for k in range(self.lanes)) + ">"
        return self.binary("add", self.splat(Value(self.index(uniform), dt.i64)), Value(steps, dt.i64, self.lanes))

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
        return self.w.instruction(text, self.w.made_at.get(operand))

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
        if d in _NARROW and op not in COMPARISONS:
            wide = self.binary(op, self.cast(a, dt.f32), self.cast(b, dt.f32))
            return self.cast(wide, d)
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
            return Value(w.effect(f"{_INT_OPS[op]} {a.typed}, {b.ssa}"), d, n)
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
        if "%" not in b.ssa and "nan" not in b.ssa:
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
        if op == "isnan":
            return Value(w.effect(f"fcmp uno {a.typed}, {a.ssa}"), dt.bool_, n)
        if d in _NARROW:
            if op == "neg":
                return Value(w.effect(f"fneg {a.typed}"), d, n)
            wide = self.unary(op, self.cast(a, dt.f32))
            return wide if wide.dtype is dt.bool_ else self.cast(wide, d)
        if op == "isinf":
            size = Value(self.call(f"llvm.fabs.{_suffix(a)}", a.type, a), d, n)
            return self.binary("eq", size, self.constant(const(d, float("inf")), n))
        if op == "not":
            return self.binary("xor", a, self._int(-1, a) if d is not dt.bool_ else self._bool(True, n))
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

    def _bool(self, value: bool, lanes: int) -> Value:
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
        if to is dt.bool_:
            zero = self.constant(const(d, 0), n)
            if d.is_float:
                return Value(w.effect(f"fcmp une {a.typed}, {zero.ssa}"), to, n)
            return Value(w.effect(f"icmp ne {a.typed}, {zero.ssa}"), to, n)
        if d is dt.bool_:
            instruction = "uitofp" if to.is_float else "zext"
            return Value(w.effect(f"{instruction} {a.typed} to {target}"), to, n)
        if d.is_float and to.is_float:
            if d in _NARROW and to in _NARROW:
                return self.cast(self.cast(a, dt.f32), to)
            instruction = "fpext" if to.bits > d.bits else "fptrunc"
            return Value(w.effect(f"{instruction} {a.typed} to {target}"), to, n)
        if d.is_float:
            sign = "s" if to.kind == "int" else "u"
            result = _vector_suffix(to, n)
            return Value(self.call(f"llvm.fpto{sign}i.sat.{result}.{_suffix(a)}", target, a), to, n)
        if to.is_float:
            instruction = "sitofp" if d.kind == "int" else "uitofp"
            return Value(w.effect(f"{instruction} {a.typed} to {target}"), to, n)
        if to.bits == d.bits:
            return Value(a.ssa, to, n)
        instruction = "trunc" if to.bits < d.bits else "sext" if d.kind == "int" else "zext"
        return Value(w.effect(f"{instruction} {a.typed} to {target}"), to, n)

    # -- expressions -----------------------------------------------------------------------------------------------

    def value(self, node: Scalar) -> Value:
        """The value of an expression at the current point."""
        match node:
            case Const():
                return self.constant(node)
            case Var():
                known = self.values.get(node)
                return known if known is not None else self._index_value(node)
            case Load():
                return self.load(node)
            case Select():
                return self._select_expression(node)
            case Cast(dtype=d, a=a):
                return self.cast(self.value(a), d)
            case Unary(op=op, a=a):
                return self.unary(op, self.value(a))
            case Binary() if node.dtype is dt.i64 and not _has_load(node) and not self._has_value(node):
                return self._index_value(node)
            case Binary():
                return self._generic(node)
        raise InternalError(f"no code for {type(node).__name__}")

    def _has_value(self, node: Scalar) -> bool:
        return any(v in self.values for v in free_vars(node))

    def _generic(self, node: Scalar) -> Value:
        """An operation on the values of its operands, not read as a linear form."""
        match node:
            case Binary(op=op, a=a, b=b):
                if op in COMPARISONS and a.dtype is dt.i64:
                    known = self.decide(node)
                    if known is not None:
                        return Value("true" if known else "false", dt.bool_)
                if op in ("and", "or") and node.dtype is dt.bool_:
                    return self._connective(op, self.value(a), self.value(b))
                return self.binary(op, self.value(a), self.value(b))
            case Var() if node is self.lane:
                return Value(self.lane_numbers(), dt.i64, self.lanes)
            case _:
                return self.value(node)

    def _connective(self, op: str, a: Value, b: Value) -> Value:
        neutral, absorbing = ("true", "false") if op == "and" else ("false", "true")
        for x, y in ((a, b), (b, a)):
            if x.ssa == neutral:
                return y
            if x.ssa == absorbing:
                return x
        return self.binary(op, a, b)

    def decide(self, node: Binary) -> bool | None:
        """Decides a comparison of indices from the ranges of the loop variables, if they suffice."""
        if _has_load(node) or self._has_value(node):
            return None
        low, high = (self.linear(node.a) + self.linear(node.b).scaled(-1)).range()
        return _compare_zero(node.op, low, high)

    def _index_value(self, node: Scalar) -> Value:
        x = self.linear(node)
        _, c = self._split_lane(x)
        return Value(self.index(x), dt.i64) if c == 0 else self.vector_index(x)

    def _select_expression(self, node: Select) -> Value:
        cond = self.value(node.cond)
        if cond.ssa in ("true", "false"):
            return self.value(node.a if cond.ssa == "true" else node.b)
        if not (self._reads_memory(node.a) or self._reads_memory(node.b)):
            a, b = self.value(node.a), self.value(node.b)
            return self.select(cond, a, b)
        if cond.lanes:
            with self.masked(cond):
                a = self.value(node.a)
            with self.masked(self.binary("xor", cond, self._bool(True, cond.lanes))):
                b = self.value(node.b)
            return self.select(cond, a, b)
        return self.branch_value(cond, lambda: self.value(node.a), lambda: self.value(node.b))

    def _reads_memory(self, node: Scalar) -> bool:
        return any(isinstance(n, Load) and self.buffers[n.buffer].scope != "register" for n in postorder(node))

    @contextmanager
    def masked(self, condition: Value) -> Iterator[None]:
        """Restricts memory accesses to the lanes where a condition holds."""
        before = self.mask
        self.mask = condition if before is None else self.binary("and", before, condition)
        try:
            yield
        finally:
            self.mask = before

    def branch_value(self, cond: Value, then: Callable[[], Value], other: Callable[[], Value]) -> Value:
        """A value computed on one of two sides of a branch."""
        w = self.w
        names = [w.fresh_label("then"), w.fresh_label("else"), w.fresh_label("join")]
        values: list[Value] = []
        levels: list[Level] = []
        for name, side in zip(names[:2], (then, other), strict=True):
            with w.level("branch", name) as level:
                values.append(side())
                levels.append(level)
        if values[0].lanes != values[1].lanes:
            for k, level in enumerate(levels):
                w.levels.append(level)
                values[k] = self.splat(values[k])
                w.levels.pop()
        sides = [(x, level.label, level.lines) for x, level in zip(values, levels, strict=True)]
        w.line(f"br i1 {cond.ssa}, label %{names[0]}, label %{names[1]}")
        for name, (_, _, lines) in zip(names[:2], sides, strict=True):
            w.top.lines.append(f"{name}:")
            w.top.lines.extend(lines)
            w.line(f"br label %{names[2]}")
        w.label(names[2])
        (a, from_a, _), (b, from_b, _) = sides
        return Value(w.effect(f"phi {a.type} [ {a.ssa}, %{from_a} ], [ {b.ssa}, %{from_b} ]"), a.dtype, a.lanes)

    # -- memory ----------------------------------------------------------------------------------------------------

    def load(self, node: Load) -> Value:
        """The value of an element, or of one element per lane."""
        x = self.offset(node.buffer, node.indices)
        if self.buffers[node.buffer].scope == "register":
            return self.read_register(node.buffer, x)
        d = node.dtype
        uniform, c = self._split_lane(x)
        mask = self.mask
        key: Hashable = (node.buffer, linear_key(x), self.lanes if c != 0 else 0, mask.ssa if mask else None)
        for level in reversed(self.w.levels):
            known = level.loads.get(key)
            if known is not None:
                return Value(known[0], d, self.lanes if c != 0 else 0)
        if c == 0:
            if mask is not None:
                return self._guarded_load(node.buffer, uniform, d)
            depth = self._load_depth(node.buffer, uniform)
            address = self.pointer(node.buffer, uniform)
            ssa = self._load_instruction(d, address, depth)
            self.w.made_at[ssa] = depth
            self.w.levels[depth].loads[key] = (ssa, node.buffer)
            return Value(ssa, d)
        if c == 1:
            depth = self._load_depth(node.buffer, uniform) if mask is None else self.w.depth
            ssa = self._load_vector(d, self.pointer(node.buffer, uniform), mask, depth)
            self.w.levels[depth].loads[key] = (ssa, node.buffer)
            return Value(ssa, d, self.lanes)
        return self._gather(node.buffer, x, d)

    def _load_depth(self, buffer: str, x: Linear) -> int:
        """Where a load may stand: out of the loops that it does not depend on, if nobody writes its buffer."""
        if buffer not in self.read_only:
            return self.w.depth
        return max([self._depth_of(a) for a in x.terms] + [self.w.guard_depth()])

    def _load_instruction(self, d: DType, address: str, depth: int) -> str:
        level = self.w.levels[depth]
        name = self.w.fresh()
        if d is dt.bool_:
            raw = self.w.fresh()
            level.lines.append(f"  {raw} = load i8, ptr {address}, align 1")
            level.lines.append(f"  {name} = icmp ne i8 {raw}, 0")
        else:
            level.lines.append(f"  {name} = load {memory_type(d)}, ptr {address}, align {d.bytes}")
        return name

    def _load_vector(self, d: DType, address: str, mask: Value | None, depth: int) -> str:
        level, n = self.w.levels[depth], self.lanes
        vector = memory_type(d, n)
        ssa = self.w.fresh()
        full = self._lane_mask(mask)
        if full is None:
            level.lines.append(f"  {ssa} = load {vector}, ptr {address}, align {d.bytes}")
        else:
            name = f"llvm.masked.load.{_memory_suffix(d, n)}.p0"
            self.declarations.add(f"declare {vector} @{name}(ptr, <{n} x i1>, {vector})")
            level.lines.append(
                f"  {ssa} = call {vector} @{name}(ptr align {d.bytes} {address}, <{n} x i1> {full}, "
                f"{vector} zeroinitializer)"
            )
        if d is dt.bool_:
            bits = self.w.fresh()
            level.lines.append(f"  {bits} = icmp ne {vector} {ssa}, zeroinitializer")
            return bits
        return ssa

    def _extent(self) -> int:
        extent = as_int(self.lane.extent) if self.lane is not None else None
        return extent if extent is not None else self.lanes

    def _lane_mask(self, mask: Value | None) -> str | None:
        """The lanes that exist and that the mask admits; None where that is all of them."""
        extent = self._extent()
        if extent == self.lanes:
            return None if mask is None else self.splat(mask).ssa
        tail = "<" + ", ".join(f"i1 {'true' if k < extent else 'false'}" for k in range(self.lanes)) + ">"
        if mask is None:
            return tail
        return self.w.effect(f"and <{self.lanes} x i1> {self.splat(mask).ssa}, {tail}")

    def _guarded_load(self, buffer: str, x: Linear, d: DType) -> Value:
        """A uniform load that only some lanes ask for: done if any lane asks."""
        full = self._lane_mask(self.mask)
        any_lane = self.call(
            f"llvm.vector.reduce.or.v{self.lanes}i1", "i1", Value(full or "splat (i1 true)", dt.bool_, self.lanes)
        )

        def read() -> Value:
            return Value(self._load_instruction(d, self.pointer(buffer, x), self.w.depth), d)

        return self.branch_value(Value(any_lane, dt.bool_), read, lambda: self.constant(const(d, 0)))

    def _addresses(self, buffer: str, x: Linear) -> str:
        offsets = self.vector_index(x)
        element = self.buffers[buffer].dtype.bytes
        scaled = self.binary("mul", offsets, Value(str(element), dt.i64))
        base = self.pointers[buffer]
        return self.w.effect(f"getelementptr i8, ptr {base}, <{self.lanes} x i64> {scaled.ssa}")

    def _gather(self, buffer: str, x: Linear, d: DType) -> Value:
        n, vector = self.lanes, memory_type(d, self.lanes)
        name = f"llvm.masked.gather.{_memory_suffix(d, n)}.v{n}p0"
        self.declarations.add(f"declare {vector} @{name}(<{n} x ptr>, <{n} x i1>, {vector})")
        mask = self._lane_mask(self.mask) or "splat (i1 true)"
        addresses = self._addresses(buffer, x)
        ssa = self.w.effect(
            f"call {vector} @{name}(<{n} x ptr> align {d.bytes} {addresses}, <{n} x i1> {mask}, "
            f"{vector} zeroinitializer)"
        )
        if d is dt.bool_:
            ssa = self.w.effect(f"icmp ne {vector} {ssa}, zeroinitializer")
        return Value(ssa, d, n)

    def store(self, buffer: str, indices: tuple[Scalar, ...], x: Value) -> None:
        """Writes an element, or one element per lane."""
        place = self.offset(buffer, indices)
        if self.buffers[buffer].scope == "register":
            self.write_register(buffer, place, x)
            return
        d, w = x.dtype, self.w
        uniform, c = self._split_lane(place)
        for level in w.levels:
            for key in [k for k, (_, b) in level.loads.items() if b == buffer]:
                del level.loads[key]
        if c == 0 and self.lane is None:
            ssa = w.effect(f"zext i1 {x.ssa} to i8") if d is dt.bool_ else x.ssa
            w.line(f"store {memory_type(d)} {ssa}, ptr {self.pointer(buffer, uniform)}, align {d.bytes}")
            return
        if c == 0:
            raise InternalError(f"every lane of {self.lane!r} writes one element of {buffer}")
        x = self.splat(x)
        n, vector = self.lanes, memory_type(d, self.lanes)
        ssa = w.effect(f"zext {x.typed} to {vector}") if d is dt.bool_ else x.ssa
        mask = self._lane_mask(self.mask)
        if c == 1 and mask is None:
            w.line(f"store {vector} {ssa}, ptr {self.pointer(buffer, uniform)}, align {d.bytes}")
        elif c == 1:
            name = f"llvm.masked.store.{_memory_suffix(d, n)}.p0"
            self.declarations.add(f"declare void @{name}({vector}, ptr, <{n} x i1>)")
            address = self.pointer(buffer, uniform)
            w.line(f"call void @{name}({vector} {ssa}, ptr align {d.bytes} {address}, <{n} x i1> {mask})")
        else:
            name = f"llvm.masked.scatter.{_memory_suffix(d, n)}.v{n}p0"
            self.declarations.add(f"declare void @{name}({vector}, <{n} x ptr>, <{n} x i1>)")
            addresses = self._addresses(buffer, place)
            full = mask or "splat (i1 true)"
            w.line(f"call void @{name}({vector} {ssa}, <{n} x ptr> align {d.bytes} {addresses}, <{n} x i1> {full})")

    # -- registers -------------------------------------------------------------------------------------------------

    def _register_place(self, buffer: str, x: Linear) -> tuple[int, int]:
        uniform, c = self._split_lane(x)
        if c not in (0, 1) or uniform.terms:
            raise InternalError(f"register buffer {buffer} is indexed by {x.expression()!r}, which is not constant")
        return uniform.const, self.lanes if c else 0

    def read_register(self, buffer: str, x: Linear) -> Value:
        """The current value of an element (or of one element per lane) of a register buffer."""
        start, n = self._register_place(buffer, x)
        length = self._extent() if n else 1
        run = self.registers.runs.get(buffer, {}).get(start)
        if run is not None and run[1] == length:
            whole = forced(run[0])
            if whole.lanes == n:
                return whole
        elements = [self._register_element(buffer, start + k) for k in range(length)]
        if not n:
            return elements[0]
        d = self.buffers[buffer].dtype
        result = "poison"
        for k, e in enumerate(elements):
            result = self.w.effect(f"insertelement {value_type(d, n)} {result}, {e.typed}, i64 {k}")
        return Value(result, d, n)

    def _register_element(self, buffer: str, element: int) -> Value:
        found = self.registers.covering(buffer, element)
        if found is None:
            return Value("poison", self.buffers[buffer].dtype)
        start, value, _ = found
        if not value.lanes:
            return value
        return Value(self.w.effect(f"extractelement {value.typed}, i64 {element - start}"), value.dtype)

    def write_register(self, buffer: str, x: Linear, new: Value) -> None:
        """Replaces an element (or one element per lane) of a register buffer."""
        start, n = self._register_place(buffer, x)
        length = self._extent() if n else 1
        if n:
            new = self.splat(new)
            if self.mask is not None:
                new = self.select(self.splat(self.mask), new, self.read_register(buffer, x))
        elif self.lane is not None:
            raise InternalError(f"every lane of {self.lane!r} writes one element of {buffer}")
        runs = self.registers.runs.setdefault(buffer, {})
        known = runs.get(start)
        if known is None or known[1] != length:
            self._split_overlapping(buffer, start, length)
        runs[start] = (new, length)

    def _split_overlapping(self, buffer: str, start: int, length: int) -> None:
        """Breaks runs that a new one of another shape overlaps into single elements."""
        runs = self.registers.runs[buffer]
        for s, (run, n) in list(runs.items()):
            if s < start + length and start < s + n:
                del runs[s]
                if start <= s and s + n <= start + length:
                    continue
                for k in range(n):
                    if not start <= s + k < start + length:
                        runs[s + k] = (Element(run, k, self._extracted), 1)

    def _extracted(self, value: Value, lane: int) -> Value:
        if not value.lanes:
            return value
        return Value(self.w.effect(f"extractelement {value.typed}, i64 {lane}"), value.dtype)


def constant_strides(buffer: Buffer) -> tuple[int, ...]:
    """Strides in elements as integers.

    Raises:
        CompileError: If an extent or stride is symbolic.
    """
    if buffer.strides is not None:
        given = [as_int(s) for s in buffer.strides]
        if all(s is not None for s in given):
            return tuple(s for s in given if s is not None)
    shape = [as_int(s) for s in buffer.shape]
    if buffer.strides is not None or any(s is None for s in shape):
        raise CompileError(
            f"buffer {buffer.name} has a symbolic extent {buffer.shape!r}: code is generated for constant extents; "
            "give the model's dimensions as integers"
        )
    result: list[int] = []
    step = 1
    for extent in reversed(shape):
        result.append(step)
        step *= extent or 0
    return tuple(reversed(result))


def _has_load(node: Scalar) -> bool:
    return any(isinstance(n, Load) for n in postorder(node))


def _literal_int(x: Value) -> int | None:
    text = x.ssa
    if text.startswith("splat ("):
        text = text[len("splat (") : -1].split(" ", 1)[1]
    try:
        return int(text)
    except ValueError:
        return None


def _bools(lanes: int) -> str:
    return f"<{lanes} x i1>" if lanes else "i1"


def _vector_suffix(dtype: DType, lanes: int) -> str:
    name = {"bf16": "bf16", "bool": "i1"}.get(dtype.name) or f"{'f' if dtype.is_float else 'i'}{dtype.bits}"
    return f"v{lanes}{name}" if lanes else name


def _suffix(x: Value) -> str:
    return _vector_suffix(x.dtype, x.lanes)


def _memory_suffix(dtype: DType, lanes: int) -> str:
    return f"v{lanes}i8" if dtype is dt.bool_ else _vector_suffix(dtype, lanes)


def _compare_zero(op: str, low: int | None, high: int | None) -> bool | None:
    """Decides `x op 0` for x in [low, high]."""
    if op in ("gt", "le"):
        positive = None if low is None or low <= 0 else True
        if positive is None and high is not None and high <= 0:
            positive = False
        return positive if op == "gt" or positive is None else not positive
    if op in ("lt", "ge"):
        negative = None if high is None or high >= 0 else True
        if negative is None and low is not None and low >= 0:
            negative = False
        return negative if op == "lt" or negative is None else not negative
    if low is not None and low == high:
        return (low == 0) == (op == "eq")
    if (low is not None and low > 0) or (high is not None and high < 0):
        return op == "ne"
    return None


__all__ = ["Registers", "Values", "constant_strides", "index", "linear_key"]
