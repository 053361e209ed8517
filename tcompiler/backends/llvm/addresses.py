"""Element addresses: index expressions as linear forms, each part computed at the loop that it depends on."""

from __future__ import annotations

from abc import abstractmethod

from tcompiler.backends.llvm.arithmetic import Arithmetic
from tcompiler.backends.llvm.linear import ZERO, Linear, at, linear, parts
from tcompiler.backends.llvm.ssa import Value
from tcompiler.errors import InternalError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.grammar import Buffer
from tcompiler.ir.scalar import canonical
from tcompiler.ir.scalar.grammar import Const, Scalar, Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars, loads
from tcompiler.target.target import Target


class Addresses(Arithmetic):
    """Emits indices and addresses.

    Attributes:
        env: What iter vars stand for, as linear forms over loop variables.
        loop_values: Each open loop's variable: its SSA name and the depth of its level.
        pointers: The base address of each buffer.
        lane: The variable of the vectorized loop being emitted, or None.
        lanes: Length of the vectors (a power of two, at least the loop's extent).
    """

    def __init__(self, target: Target, buffers: dict[str, Buffer]) -> None:
        super().__init__(target)
        self.buffers = buffers
        self.env: dict[Scalar, Linear] = {}
        self.loop_values: dict[Scalar, tuple[str, int]] = {}
        self.pointers: dict[str, str] = {}
        self.lane: Var | None = None
        self._strides: dict[str, tuple[int, ...]] = {}
        self._sums: dict[Scalar, Linear] = {}
        self._flat: dict[tuple[str, tuple[Scalar, ...]], Linear] = {}

    @abstractmethod
    def operation(self, node: Scalar) -> Value:
        """An operation on the values of its operands, not read as a linear form."""

    def linear(self, node: Scalar) -> Linear:
        """An i64 expression as a linear form over loop variables."""
        return linear(node, self.env, self._sums)

    def strides(self, name: str) -> tuple[int, ...]:
        """A buffer's strides in elements."""
        known = self._strides.get(name)
        if known is None:
            known = constant_strides(self.buffers[name])
            self._strides[name] = known
        return known

    def offset(self, buffer: str, indices: tuple[Scalar, ...]) -> Linear:
        """The flat element offset of an access."""
        flat = self._flat.get((buffer, indices))
        if flat is None:
            flat = ZERO
            for i, stride in zip(indices, self.strides(buffer), strict=True):
                flat = flat + parts(i, self._sums).scaled(stride)
            self._flat[buffer, indices] = flat
        total = at(flat, self.env)
        if all(isinstance(a, Var) for a in total.terms):
            return total
        # digits of one number (a fused loop's // and %) may have come together
        form = canonical.linear(total.expression())
        return Linear(form.const, form.terms)

    def depth_of(self, atom: Scalar) -> int:
        """The level of the innermost loop that an atom depends on."""
        if isinstance(atom, Var):
            return self.loop_values[atom][1]
        if loads(atom):
            return self.w.depth
        return max((self.loop_values[v][1] for v in free_vars(atom)), default=0)

    def _by_depth(self, x: Linear) -> dict[int, list[tuple[Scalar, int]]]:
        result: dict[int, list[tuple[Scalar, int]]] = {}
        for atom, c in x.terms.items():
            result.setdefault(self.depth_of(atom), []).append((atom, c))
        return dict(sorted(result.items()))

    def _atom(self, atom: Scalar) -> str:
        if isinstance(atom, Var):
            return self.loop_values[atom][0]
        depth = self.depth_of(atom)
        memo = self.w.levels[depth].memo
        key = ("atom", atom)
        if depth == self.w.depth and has_load(atom):
            return self.operation(atom).ssa
        if key not in memo:
            with self.w.at(depth):
                memo[key] = self.operation(atom).ssa
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

    def split_lane(self, x: Linear) -> tuple[Linear, int | None]:
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
        uniform, c = self.split_lane(x)
        if c is None:
            lane = self.lane
            total: Value = Value(str(x.const), dt.i64)
            for atom, k in x.terms.items():
                part = Value(self.lane_numbers(), dt.i64, self.lanes) if atom is lane else self.operation(atom)
                total = self.binary("add", total, self.binary("mul", part, Value(str(k), dt.i64)))
            return total
        steps = "<" + ", ".join(f"i64 {k * c}" for k in range(self.lanes)) + ">"
        return self.binary("add", self.splat(Value(self.index(uniform), dt.i64)), Value(steps, dt.i64, self.lanes))


def constant(node: Scalar | None) -> int:
    """The value of an extent or a stride.

    Raises:
        InternalError: If it names a parameter; `codegen.generate` refuses those.
    """
    if isinstance(node, Const):
        return int(node.value)
    value = as_int(None if node is None else canonical.simplify(node))
    if value is None:
        raise InternalError(f"{node!r} is not constant")
    return value


def constant_strides(buffer: Buffer) -> tuple[int, ...]:
    """Strides in elements as integers."""
    if buffer.strides is not None:
        return tuple(constant(s) for s in buffer.strides)
    result: list[int] = []
    step = 1
    for extent in reversed(buffer.shape):
        result.append(step)
        step *= constant(extent)
    return tuple(reversed(result))


def has_load(node: Scalar) -> bool:
    """Whether an expression reads a buffer."""
    return bool(loads(node))
