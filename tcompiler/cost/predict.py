"""How long a scheduled function takes, from its loops and the analytic model of a core.

Computing and moving are looked at apart, and the longer of them counts. What a core computes: the straight-line code of
every innermost loop (its unrolled and vectorized loops expanded) goes through `tcompiler.target.model.cycles`, times
the loops around it. What it moves: loops whose data fit a cache bring them in once, others anew in each iteration (the
working sets of J. Dongarra and R. Schreiber's and later blocking analyses, with capacity alone looked at).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

from tcompiler.ir.loop.analysis import accesses
from tcompiler.ir.loop.grammar import (
    Block,
    Buffer,
    Commit,
    For,
    Function,
    Intrinsic,
    Seq,
    Stmt,
    Store,
    Update,
    Wait,
    buffer_table,
    children,
    walk,
)
from tcompiler.ir.loop.teams import makespan, teams
from tcompiler.ir.scalar import canonical
from tcompiler.ir.scalar.grammar import Binary, Cast, Load, Scalar, Select, Unary, Var, as_int, postorder
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.target.model import Core, Work, cycles
from tcompiler.target.target import LINE_BYTES

_POLYNOMIAL = 14
"""Multiply-adds of an elementary function, about: its polynomial and the reduction of its argument."""
_CHEAP = frozenset({"neg", "abs", "not", "isnan", "isinf", "sign", "floor", "ceil", "round"})
_LOOP_INSTRUCTIONS = 2
"""An addition and a jump, which a core takes as one with the comparison."""
LEVELS = (("L1", "L2"), ("L2", "L3"), ("L3", "DRAM"))
"""Each cache, and where that comes from which it does not hold."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a scheduled function costs.

    Attributes:
        cycles: Of computing, on the thread that has most to do.
        traffic: Bytes from each level ("L2", "L3", "DRAM") if nothing lies in a cache before, over all threads.
        footprint: Bytes of memory that it touches.
    """

    cycles: float
    traffic: Mapping[str, float]
    footprint: float


def predict(function: Function, made: Core, threads: int = 1) -> Prediction:
    """What a scheduled function costs.

    Args:
        function: Scheduled, with constant extents; an unknown extent counts as one iteration.
        made: The core that runs it.
        threads: How many of them share parallel loops.
    """
    counter = _Counter(function, made, threads)
    whole = counter.footprint(function.body)
    traffic = {beyond: counter.traffic(function.body, made.capacities[level]) for level, beyond in LEVELS}
    return Prediction(counter.cycles(function.body), traffic, sum(whole.values()))


def _extent(loop: For) -> int:
    size = as_int(loop.var.extent) if loop.var.extent is not None else None
    return 1 if size is None else size


class _Counter:
    """Counts one function."""

    def __init__(self, function: Function, made: Core, threads: int) -> None:
        self.function, self.made, self.threads = function, made, threads
        self.buffers = buffer_table(function)
        self._footprints: dict[int, dict[str, float]] = {}
        self._kept: list[Stmt] = [function.body]

    # computing

    def cycles(self, stmt: Stmt) -> float:
        """Cycles of a statement that stands in serial loops or in none."""
        match stmt:
            case For() if stmt.kind not in ("unrolled", "vectorized"):
                count = _extent(stmt)
                if stmt.kind != "serial":
                    count = ceil(count / self.threads)
                return count * self._iteration(stmt)
            case Seq() if not _straight(stmt):
                return sum(map(self._team, teams(self.function, stmt.stmts)))
            case For() if not _straight(stmt):
                return _extent(stmt) * self.cycles(stmt.body)
            case Block() if not _straight(stmt):
                return sum(self.cycles(s) for s in children(stmt))
            case _:
                work = self.work(stmt, ())
                # What runs once hides its latency behind what comes before and after.
                return cycles(_combined([work], chain=0.0), self.made)[0]

    def _team(self, team: Sequence[Stmt]) -> float:
        """Cycles of loops that begin together, or of one statement."""
        if len(team) == 1:
            return self.cycles(team[0])
        return makespan([(_extent(s), self._iteration(s)) for s in team if isinstance(s, For)], self.threads)

    def _iteration(self, loop: For) -> float:
        """Cycles of an iteration of a loop that is not expanded."""
        if not _straight(loop.body):
            return self.cycles(loop.body) + 1
        work = self.work(loop.body, ())
        return cycles(dataclasses.replace(work, instructions=work.instructions + _LOOP_INSTRUCTIONS), self.made)[0]

    def work(self, stmt: Stmt, expanded: tuple[For, ...]) -> Work:
        """Instructions of straight-line code: unrolled and vectorized loops stand for their iterations."""
        match stmt:
            case For():
                return self.work(stmt.body, (*expanded, stmt))
            case Seq():
                return _combined([self.work(s, expanded) for s in stmt.stmts])
            case Block():
                # An init runs once in a reduction: its part in all iterations is small.
                return self.leaf(stmt, stmt.body, expanded)
            case _:
                return Work()

    def leaf(self, block: Block, body: Stmt, expanded: tuple[For, ...]) -> Work:
        """Instructions of a block's body."""
        place = _place(block)
        works = []
        for s in walk(body):
            if isinstance(s, Store):
                works.append(self.statement(place, [(s.buffer, s.indices)], [s.value], None, expanded))
            elif isinstance(s, Update):
                targets = [(t.buffer, t.indices) for t in s.targets]
                works.append(self.statement(place, targets, s.values, s, expanded))
            elif isinstance(s, Intrinsic):
                count = prod(_extent(e) for e in expanded)
                work = Work(count, 0, 0, count * len(s.reads), count, count * 2, self.made.vector_bits)
                works.append(work)
        return _combined(works)

    def statement(
        self,
        place: Mapping[Scalar, Scalar],
        targets: Iterable[tuple[str, tuple[Scalar, ...]]],
        values: Iterable[Scalar],
        update: Update | None,
        expanded: tuple[For, ...],
    ) -> Work:
        """Instructions of a store, or of an update."""
        values, targets = list(values), list(targets)
        element = max(self.buffers[name].dtype.bits for name, _ in targets)
        lanes = prod(_extent(e) for e in expanded if e.kind == "vectorized")
        bits = min(self.made.vector_bits, max(lanes * element, 32))
        count = self.instances(values, targets, place, expanded, element)
        fma, add, divide, other = _operations(values)
        chain = 0.0
        if update is not None:
            combine = _operations(update.reducer.combine)
            multiplied = any(isinstance(v, Binary) and v.op == "mul" and v.dtype.is_float for v in values)
            # A product that is added is one instruction: it counts among the multiplications already.
            if not (multiplied and combine[:3] == (0, 1, 0)):
                fma, add = fma + combine[0], add + combine[1]
            other += combine[3]
            depends = _target_vars(targets, place)
            repeated = prod(_extent(e) for e in expanded if e.var not in depends and e.kind == "unrolled")
            chain = repeated * (self.made.fma_latency if multiplied else self.made.add_latency)
        loads = stores = 0.0
        read = [n for n in postorder(*values) if isinstance(n, Load)]
        for load in dict.fromkeys(read):
            loads += self.accessed(load.buffer, load.indices, place, expanded, element)
        for name, indices in targets:
            n = self.accessed(name, indices, place, expanded, element)
            stores += n
            if update is not None:
                loads += n
                if n:
                    chain += self.made.load_latency
        arithmetic = count * (fma + add + divide + other)
        return Work(
            count * fma,
            count * add,
            count * divide,
            loads,
            stores,
            arithmetic + (loads if not fma else max(0.0, loads - count * fma)) + stores,
            bits,
            chain,
        )

    def instances(
        self,
        values: Iterable[Scalar],
        targets: Iterable[tuple[str, tuple[Scalar, ...]]],
        place: Mapping[Scalar, Scalar],
        expanded: tuple[For, ...],
        element: int,
    ) -> float:
        """How many instructions each operation of a statement becomes."""
        used = _target_vars(targets, place)
        for v in values:
            used |= _vars(v, place)
        return _count(used, expanded, self.made.vector_bits, element)

    def accessed(
        self,
        name: str,
        indices: tuple[Scalar, ...],
        place: Mapping[Scalar, Scalar],
        expanded: tuple[For, ...],
        element: int,
    ) -> float:
        """How many instructions read or write the elements of an access: none, if they live in registers."""
        buffer = self.buffers[name]
        if buffer.scope == "register":
            return 0.0
        # As canonical forms, so that what a packed layout's quotient cancels is gone.
        forms = [canonical.linear(substitute(i, place)) for i in indices]
        used = {v for form in forms for atom in form.terms for v in free_vars(atom)}
        lanes = [e for e in expanded if e.kind == "vectorized" and e.var in used]
        width = self.made.vector_bits
        if lanes:
            others = {v for form in forms[:-1] for atom in form.terms for v in free_vars(atom)}
            if abs(forms[-1].terms.get(lanes[-1].var, 0)) != 1 or lanes[-1].var in others:
                width = element  # lane by lane
        return _count(used, expanded, width, buffer.dtype.bits)

    # moving

    def footprint(self, stmt: Stmt) -> dict[str, float]:
        """Bytes of each buffer that a statement touches, whole cache lines, private registers not counted."""
        known = self._footprints.get(id(stmt))
        if known is None:
            known = {}
            self._collect(stmt, (), known)
            self._footprints[id(stmt)] = known
            self._kept.append(stmt)
        return known

    def _collect(self, stmt: Stmt, inside: tuple[For, ...], into: dict[str, float]) -> None:
        match stmt:
            case For():
                self._collect(stmt.body, (*inside, stmt), into)
            case Block():
                place = _place(stmt)
                found = accesses(stmt)
                for load in found.reads:
                    self._touch(self.buffers[load.buffer], load.indices, place, inside, into)
                for a in found.writes:
                    self._touch(self.buffers[a.buffer], a.indices, place, inside, into)
            case Seq():
                for s in stmt.stmts:
                    self._collect(s, inside, into)
            case Store() | Update() | Intrinsic() | Commit() | Wait():
                pass

    def _touch(
        self,
        buffer: Buffer,
        indices: tuple[Scalar, ...],
        place: Mapping[Scalar, Scalar],
        inside: tuple[For, ...],
        into: dict[str, float],
    ) -> None:
        if buffer.scope == "register":
            return
        reach = {s.var: _extent(s) for s in inside}
        elements, contiguous, used = 1, 1, set[Var]()
        for i, dimension in zip(indices, buffer.shape, strict=True):
            form = canonical.linear(substitute(i, place))
            span = 1
            for atom, by in form.terms.items():
                found = free_vars(atom)
                used |= found
                span += abs(by) * (prod(reach.get(v, 1) for v in found) - 1)
            contiguous = min(span, as_int(dimension) or 1)
            elements *= contiguous
        # Indices that share loops, as a quotient and a remainder do, have no more values than those have iterations.
        elements = min(elements, prod(reach.get(v, 1) for v in used))
        # Memory comes in lines: as much of one as the last dimension has.
        last = (as_int(buffer.shape[-1]) or 1) if buffer.shape else 1
        line = min(LINE_BYTES, last * buffer.dtype.bytes)
        size = elements * max(1.0, line / (contiguous * buffer.dtype.bytes)) * buffer.dtype.bytes
        into[buffer.name] = max(into.get(buffer.name, 0.0), size)

    def traffic(self, stmt: Stmt, capacity: float) -> float:
        """Bytes that one run of a statement brings into a cache of that capacity, which holds nothing of it before."""
        total = sum(self.footprint(stmt).values())
        if total <= capacity:
            return total
        match stmt:
            case For():
                inner = sum(self.footprint(stmt.body).values())
                if inner <= capacity:
                    # What one iteration leaves is there for the next.
                    return total
                return max(total, _extent(stmt) * self.traffic(stmt.body, capacity))
            case Seq():
                return max(total, sum(self.traffic(s, capacity) for s in stmt.stmts))
            case _:
                return total


def _straight(stmt: Stmt) -> bool:
    """Whether nothing in a statement is a loop that stays one."""
    return not any(isinstance(s, For) and s.kind not in ("unrolled", "vectorized") for s in walk(stmt))


def _place(block: Block) -> dict[Scalar, Scalar]:
    """A block's iter vars in terms of the loops around it."""
    return dict(zip((i.var for i in block.iters), block.bindings, strict=True))


def _vars(node: Scalar, place: Mapping[Scalar, Scalar]) -> set[Var]:
    """The loop variables that an expression over a block's iter vars depends on."""
    return {v for i in free_vars(node) for v in free_vars(place.get(i, i))}


def _target_vars(targets: Iterable[tuple[str, tuple[Scalar, ...]]], place: Mapping[Scalar, Scalar]) -> set[Var]:
    """The loop variables that accesses depend on."""
    return {v for _, indices in targets for i in indices for v in _vars(i, place)}


def _count(used: set[Var], expanded: tuple[For, ...], width: int, element: int) -> float:
    """Instructions for all that expanded loops make different, `width` bits at a time."""
    unrolled = prod(_extent(e) for e in expanded if e.var in used and e.kind == "unrolled")
    lanes = prod(_extent(e) for e in expanded if e.var in used and e.kind == "vectorized")
    return float(unrolled * ceil(lanes * element / max(width, element)))


def _operations(values: Iterable[Scalar]) -> tuple[float, float, float, float]:
    """Multiplications, additions, divisions and other instructions in evaluating expressions once."""
    fma = add = divide = other = 0.0
    for n in postorder(*values):
        if isinstance(n, Binary):
            if not n.a.dtype.is_float:
                other += 0 if n.dtype.name == "i64" else 1
            elif n.op == "mul":
                fma += 1
            elif n.op in ("div", "floordiv", "floormod", "truncmod"):
                divide += 1
            elif n.op in ("pow", "atan2"):
                fma += 2 * _POLYNOMIAL
            else:
                add += 1
        elif isinstance(n, Unary):
            if n.op in ("sqrt", "rsqrt"):
                divide += 1
            elif n.op in _CHEAP:
                other += 1
            elif n.dtype.is_float:
                fma += _POLYNOMIAL
        elif isinstance(n, (Select, Cast)):
            other += 1
    return fma, add, divide, other


def _combined(works: Iterable[Work], chain: float | None = None) -> Work:
    """Work one after the other; chains of different results run side by side."""
    works = list(works)
    return Work(
        sum(w.fma for w in works),
        sum(w.add for w in works),
        sum(w.divide for w in works),
        sum(w.loads for w in works),
        sum(w.stores for w in works),
        sum(w.instructions for w in works),
        max((w.bits for w in works), default=0),
        max((w.chain for w in works), default=0.0) if chain is None else chain,
    )
