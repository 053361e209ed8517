"""Scalar expressions as LLVM values: uniform ones as scalars, those that vary over a vectorized loop as vectors."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from tcompiler.backends.llvm import math
from tcompiler.backends.llvm.addresses import has_load
from tcompiler.backends.llvm.bounds import at_most
from tcompiler.backends.llvm.masks import literal_mask
from tcompiler.backends.llvm.memory import Memory
from tcompiler.backends.llvm.ssa import Value
from tcompiler.errors import InternalError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.grammar import Buffer
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
    children,
)
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.target.target import Target


class Values(Memory):
    """Emits values of scalar expressions.

    Attributes:
        values: Values of the variables that are not indices (a reducer's operands).
        given: Values of nodes that were computed for a whole tile.
    """

    def __init__(self, target: Target, buffers: dict[str, Buffer]) -> None:
        super().__init__(target, buffers)
        self.values: dict[Var, Value] = {}
        self.given: Mapping[Scalar, Value] = {}

    def root(self, node: Scalar) -> Value:
        """The value of a whole expression, after whatever was written before it."""
        self.begin()
        return self.value(node)

    def begin(self) -> None:
        """Forgets the values of the last statement's expressions: memory may have changed since."""
        for level in self.w.levels:
            level.values.clear()

    def value(self, node: Scalar) -> Value:
        """The value of an expression at the current point; what occurs in it twice is computed once.

        Operands come first, from a list of our own, so that long chains do not end at Python's limit of nested calls.
        """
        pending = [node]
        while True:
            top = pending[-1]
            result = self._known(top)
            if result is None:
                missing = [x for x in self._needed(top) if self._known(x) is None]
                if missing:
                    pending.extend(reversed(missing))
                    continue
                result = self._emit(top)
                self.w.top.values[top, self.masks[-1]] = result
            pending.pop()
            if not pending:
                return result

    def _known(self, node: Scalar) -> Value | None:
        """The value if it was computed before where it can be used here: under no mask that is not in force."""
        if node in self.given:
            return self.given[node]
        for level in reversed(self.w.levels):
            for mask in self.masks:
                found = level.values.get((node, mask))
                if found is not None:
                    return found
        return None

    def _needed(self, node: Scalar) -> tuple[Scalar, ...]:
        """The operands whose values are needed in any case."""
        match node:
            case Cast(a=a) | Unary(a=a):
                return (a,)
            case Select(cond=cond):
                return (cond,)
            case Binary(a=a, b=b) if a.dtype is not dt.i64 or has_load(node) or self._has_value(node):
                return (a, b)
        return ()

    def _emit(self, node: Scalar) -> Value:
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
                if op == "exp" and at_most(a) <= math.FUNCTIONS["exp_below"].highest.get(a.dtype.name, -inf):
                    return self._math("exp_below", self.value(a))
                return self.unary(op, self.value(a))
            case Binary() if node.dtype is dt.i64 and not has_load(node) and not self._has_value(node):
                return self._index_value(node)
            case Binary():
                return self.operation(node)
        raise InternalError(f"no code for {type(node).__name__}")

    def _has_value(self, node: Scalar) -> bool:
        return any(v in self.values for v in free_vars(node))

    def operation(self, node: Scalar) -> Value:
        """An operation on the values of its operands, not read as a linear form."""
        match node:
            case Binary(op=op, a=a, b=b):
                if op in COMPARISONS and a.dtype is dt.i64:
                    known = self.decide(node)
                    if known is not None:
                        return Value("true" if known else "false", dt.bool_)
                    lanes = self._decide_lanes(node)
                    if lanes is not None:
                        return Value(literal_mask(lanes), dt.bool_, len(lanes))
                if op in ("and", "or") and node.dtype is dt.bool_:
                    return self.connective(op, self.value(a), self.value(b))
                return self.binary(op, self.value(a), self.value(b))
            case Var() if node is self.lane:
                return Value(self.lane_numbers(), dt.i64, self.lanes)
            case _:
                return self.value(node)

    def decide(self, node: Binary) -> bool | None:
        """Decides a comparison of indices from the ranges of the loop variables, if they suffice."""
        if has_load(node) or self._has_value(node):
            return None
        low, high = (self.linear(node.a) + self.linear(node.b).scaled(-1)).range()
        return _compare_zero(node.op, low, high)

    def _decide_lanes(self, node: Binary) -> list[bool] | None:
        """Decides a comparison of indices that depends on the lane alone, for every lane."""
        if self.lane is None or has_load(node) or self._has_value(node):
            return None
        form = self.linear(node.a) + self.linear(node.b).scaled(-1)
        uniform, c = self.split_lane(form)
        if c is None and (apart := self.lane_offsets(form)) is not None:
            uniform, offsets = apart
        else:
            offsets = [(c or 0) * k for k in range(self.extent())]
        if c == 0 or uniform.terms:
            return None
        places = [uniform.const + offsets[min(k, self.extent() - 1)] for k in range(self.lanes)]
        return [bool(_compare_zero(node.op, p, p)) for p in places]

    def _index_value(self, node: Scalar) -> Value:
        x = self.linear(node)
        _, c = self.split_lane(x)
        return Value(self.index(x), dt.i64) if c == 0 else self.vector_index(x)

    def _select_expression(self, node: Select) -> Value:
        cond = self.value(node.cond)
        if cond.ssa in ("true", "false"):
            return self.value(node.a if cond.ssa == "true" else node.b)
        if not (self._reads_memory(node.a) or self._reads_memory(node.b)):
            a, b = self.value(node.a), self.value(node.b)
            return self.select(cond, a, b)
        if cond.lanes:
            if not (self._needs_guard(node.a) or self._needs_guard(node.b)):
                return self.select(cond, self.value(node.a), self.value(node.b))
            if isinstance(node.a, Load) and isinstance(node.b, Const) and node.b.bits == 0:
                found = self._load_or_zero(node.a, cond)
                if found is not None:
                    return found
            with self.masked(cond):
                a = self.value(node.a)
            with self.masked(self.binary("xor", cond, self.boolean(True, cond.lanes))):
                b = self.value(node.b)
            return self.select(cond, a, b)
        return self.branch_value(cond, lambda: self.value(node.a), lambda: self.value(node.b))

    def _load_or_zero(self, node: Load, cond: Value) -> Value | None:
        """A load of lanes side by side, zero where the condition does not hold: what a masked load gives by itself."""
        _, c = self.split_lane(self.offset(node.buffer, node.indices))
        if self.buffers[node.buffer].scope == "register" or not c:
            return None
        with self.masked(cond):
            return self.load(node) if c == 1 or self._known_mask() is not None else None

    def _needs_guard(self, node: Scalar) -> bool:
        """Whether the value takes a read of memory that was not done before and may lie outside its buffer."""
        return self._reads_memory(node, inside=True)

    def _reads_memory(self, node: Scalar, inside: bool = False) -> bool:
        """Whether the value takes a read of memory that was not done before.

        Args:
            node: The value.
            inside: Whether reads that are within their buffers, whatever loops are at, are let pass.
        """
        stack, seen = [node], {node}
        while stack:
            n = stack.pop()
            if self._known(n) is not None:
                continue
            if isinstance(n, Load) and self.buffers[n.buffer].scope != "register":
                if not (inside and self._is_inside(n)):
                    return True
                continue
            new = [c for c in children(n) if c not in seen]
            seen.update(new)
            stack += new
        return False

    def _is_inside(self, node: Load) -> bool:
        """Whether a read is within its buffer by the ranges of the loop variables alone."""
        for i, extent in zip(node.indices, self.buffers[node.buffer].shape, strict=True):
            size = as_int(extent)
            low, high = (None, None) if has_load(i) or self._has_value(i) else self.linear(i).range()
            if size is None or low is None or high is None or low < 0 or high >= size:
                return False
        return True


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
