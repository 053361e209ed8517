"""rolling_update: sums of exponentials follow the maximum so far, and need not wait for the last one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterVar, Stmt, Store, Update, seq
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import (
    Binary,
    Cast,
    Const,
    Load,
    Scalar,
    Unary,
    Var,
    as_int,
    children,
    conjunction,
    conjuncts,
    const,
    map_children,
    postorder,
)
from tcompiler.ir.scalar.reducers import is_maximum, reducer_name
from tcompiler.ir.scalar.rewrite import free_vars, rewrite, substitute
from tcompiler.schedule.affine.coverage import stays_inside
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import ZERO
from tcompiler.schedule.primitives.compute_with import joined
from tcompiler.schedule.primitives.motion import loops, readers, rebuilt, shared_loops, simple_body, writers
from tcompiler.schedule.primitives.reduction import (
    DISTINCT,
    GUARD,
    OUTSIDE,
    PRIVATE,
    SEPARATE,
    Quoted,
    decomposed,
    spatial_predicate,
)
from tcompiler.schedule.tree import (
    block_named,
    blocks_under,
    buffer_named,
    fed_iters,
    feeds,
    fresh,
    loop_named,
    names_used,
    tree,
)

MAXIMUM = condition(
    "rolling_update.maximum",
    "the block is one Update with an init, the maximum of f32 or f64 numbers, and nothing else writes it",
)
UNREAD = condition(
    "rolling_update.unread",
    "the loop surrounds the block and feeds its reduce iters alone, and nothing under it reads the maximum",
)
FACTOR = condition(
    "rolling_update.factor",
    "what a block under the other loop stores or sums up has a factor exp(x - maximum), or exp(min(x - maximum, 0)) "
    "of an x that the maximum is taken over in the same iteration, or the maximum has no part in it",
)
SUM = condition(
    "rolling_update.sum",
    "what has that factor is read in the iteration of the other loop that makes it and nowhere else, or is a sum over "
    "this loop from 0 on, which nothing under it reads",
)
_QUOTED = Quoted(OUTSIDE, SEPARATE, GUARD, DISTINCT, PRIVATE)


@primitive
def rolling_update(function: Function, block: str, loop: str, other: str) -> Result:
    """Joins the loop over a maximum with a loop over sums of exponentials less the maximum, which are kept up with it.

    Before:

        for k0 in range(8):
            for k1 in range(16):
                with block("M"):  vk = reduce(128, k0 * 16 + k1); M[0] = max(M[0], X[vk])          # init: -inf
        for j0 in range(8):
            for j1 in range(16):
                with block("S"):  vk = reduce(128, j0 * 16 + j1); S[0] += exp(X[vk] - M[0]) * Y[vk]  # init: 0

    After ``rolling_update("M", "k0", "j0")``:

        M[0] = -inf;  M_run[0] = lowest;  S[0] = 0
        for k0 in range(8):
            for k1 in range(16):
                with block("M"):  M[0] = max(M[0], X[vk])
            with block("M_scale"):  M_scale[0] = exp(M_run[0] - max(M[0], lowest))
            with block("M_run"):  M_run[0] = max(M[0], lowest)
            with block("S_scaled"):  S[0] = S[0] * M_scale[0]
            for j1 in range(16):
                with block("S"):  S[0] += exp(X[vk] - M_run[0]) * Y[vk]
        with block("S_last"):  S[0] = S[0] * exp(M_run[0] - M[0])

    exp(x - n) = exp(x - m) · exp(m - n): a sum of products with such a factor is carried over from one maximum to the
    next by one multiplication. `lowest` is the least finite number, so that a stretch of minus infinities leaves zeros
    behind; where there is nothing else in all the loop, M_run - M is infinite, and the result the NaN that it was.

    M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax" (2018), for sums; T. Dao, D. Fu, S. Ermon,
    A. Rudra, C. Ré, "FlashAttention" (2022), for products with rows of a matrix.

    Args:
        function: The function.
        block: The maximum.
        loop: A loop around it, over a part of what it is taken over.
        other: A loop behind that one, around all blocks that read the maximum until it ends.

    Returns:
        The new function and the names of the new blocks: those that init the maximum and `M_run`, `{block}_scale`,
        `{block}_run`, and for each sum those that init it, `{sum}_scaled` and `{sum}_last`.

    Raises:
        ScheduleError: If a condition of rolling_update, of compute_with for the two loops or of decompose_reduction for
            the maximum and the sums does not hold.
    """
    b, first, second = block_named(function, block), loop_named(function, loop), loop_named(function, other)
    peak = _peak(function, b, first)
    sums = _Flow(function, b, peak, first, second).sums()
    made: list[str] = []
    function, names = decomposed(function, b, loop_named(function, loop), _QUOTED)
    made += names
    used = names_used(function)
    running, scale = fresh(used, [f"{peak.buffer}_run", f"{peak.buffer}_scale"])
    old = buffer_named(function, peak.buffer)
    lowest = const(old.dtype, float(np.finfo(np.float32 if old.dtype.name == "f32" else np.float64).min))
    table = tuple(Buffer(n, old.dtype, old.shape, old.strides, old.scope) for n in (running, scale))
    function = Function(
        function.name, function.params, (*function.buffers, *table), function.inputs, function.outputs, function.body
    )

    before, at = Load(running, old.dtype, peak.indices), Binary("max", peak, lowest)
    b, first = block_named(function, block), loop_named(function, loop)
    maker = _Maker(function, b, first, used)
    begin = maker.nest({f"{block}_run_init": Store(running, peak.indices, lowest)}, ())
    carried = Store(scale, peak.indices, Unary("exp", Binary("sub", before, at)))
    step = maker.nest({f"{block}_scale": carried, f"{block}_run": Store(running, peak.indices, at)}, (), inside=True)
    grown = For(first.var, first.kind, seq(first.body, step), first.annotations)
    function = rebuilt(function, {first: grown}, before={first: begin})
    made += maker.made

    for name, over in sums.items():
        function, names = decomposed(function, block_named(function, name), loop_named(function, other), _QUOTED)
        made += names
        b, second = block_named(function, name), loop_named(function, other)
        assert isinstance(b.body, Update)
        (target,) = b.body.targets
        place, more = _over_iters(b, over)
        now, past = (Load(n, old.dtype, place) for n in (running, peak.buffer))
        left = Unary("exp", Binary("sub", now, past))
        maker = _Maker(function, b, second, names_used(function))
        scaled = maker.nest({f"{name}_scaled": _times(target, Load(scale, old.dtype, place))}, more, inside=True)
        last = maker.nest({f"{name}_last": _times(target, left)}, more)
        grown = For(second.var, second.kind, seq(scaled, second.body), second.annotations)
        function = rebuilt(function, {second: grown}, after={second: last})
        made += maker.made
    second = loop_named(function, other)
    changes = {x: _retargeted(x, peak.buffer, running) for x in blocks_under(second) if x.name not in made}
    function = rebuilt(function, {x: y for x, y in changes.items() if x is not y})
    function = joined(function, loop_named(function, loop), loop_named(function, other), (running, scale))
    return Result(function, tuple(made))


def _times(target: Load, factor: Scalar) -> Store:
    product: Scalar = Binary("mul", target, factor if factor.dtype is target.dtype else Cast(target.dtype, factor))
    return Store(target.buffer, target.indices, product)


def _peak(function: Function, b: Block, first: For) -> Load:
    """The element that a maximum is in, as the block names it."""
    update = b.body
    good = isinstance(update, Update) and b.init is not None and len(update.targets) == 1
    good = good and isinstance(update, Update) and is_maximum(update.reducer)
    if not good or not isinstance(update, Update) or update.targets[0].dtype.name not in ("f32", "f64"):
        refuse(MAXIMUM, b, f"{b.name} is no such maximum", "choose a maximum that is still whole")
    assert isinstance(update, Update)
    (peak,) = update.targets
    for w in writers(function, peak.buffer):
        if w is not b:
            refuse(MAXIMUM, w, f"{w.name} writes {peak.buffer} too", "choose a maximum that one block takes")
    inside = blocks_under(first)
    if b not in inside:
        refuse(UNREAD, first, f"{first.var.name} does not surround {b.name}", "choose a loop around it")
    if feeds(b, first.var) != {"reduce"}:
        fed = ", ".join(fed_iters(b, first.var)) or "no iter"
        refuse(UNREAD, first, f"{first.var.name} feeds {fed} of {b.name}", "choose a loop of the reduction alone")
    for r in readers(function, peak.buffer):
        if r is not b and r in inside:
            refuse(UNREAD, r, f"{r.name} reads {peak.buffer} under {first.var.name}", f"move {r.name} behind the loop")
    return peak


@dataclass(frozen=True, slots=True)
class _Part:
    """How an expression depends on the maximum.

    Attributes:
        degree: 1 if it has the factor, 0 if it does not depend on the maximum.
        place: Where the maximum is read, over loops; () if it is not.
    """

    degree: int
    place: tuple[Scalar, ...] = ()


class _Flow:
    """Follows the maximum through the blocks under the other loop."""

    def __init__(self, function: Function, b: Block, peak: Load, first: For, second: For) -> None:
        self.function = function
        self.b = b
        self.peak = peak
        self.first = first
        self.second = second
        self.made: dict[str, tuple[Block, Load, _Part]] = {}
        """Buffers whose elements have the factor: who writes which element, and with which maximum."""

    def sums(self) -> dict[str, tuple[Scalar, ...]]:
        """The sums that are carried over: names of blocks, with the place of the maximum over loops."""
        result: dict[str, tuple[Scalar, ...]] = {}
        blocks = blocks_under(self.second)
        for x in blocks:
            names = touched(x).reads & {self.peak.buffer, *self.made}
            if not names:
                continue
            target, value = self._one(x)
            part = self._part(x, value)
            if part is None:
                self._refused(x)
            assert part is not None
            if part.degree == 0:
                continue
            if isinstance(x.body, Update) and not _from_zero(x):
                found = "is started elsewhere" if x.init is None else "does not start from 0"
                refuse(SUM, x, f"{x.name} {found}", "choose a loop around sums from 0 on that are still whole")
            if isinstance(x.body, Update) and not self._begins_inside(x):
                self._sum(x, target, part)
                result[x.name] = part.place
            else:
                self._piece(x, target, part)
        if not result:
            found = f"nothing under {self.second.var.name} is summed up with such a factor"
            refuse(SUM, self.second, found, "choose a loop around the sums")
        return result

    def _one(self, x: Block) -> tuple[Load, Scalar]:
        """The one element that a block stores or sums up, and with what."""
        leaf = x.body
        if isinstance(leaf, Store) and simple_body(x):
            value = leaf.value
            return Load(leaf.buffer, value.dtype, leaf.indices), value
        if isinstance(leaf, Update) and len(leaf.values) == 1 and reducer_name(leaf.reducer) == "sum":
            return leaf.targets[0], leaf.values[0]
        self._refused(x)
        raise AssertionError("a block without a value")

    def _refused(self, x: Block) -> None:
        refuse(
            FACTOR,
            x,
            f"{x.name} depends on {self.peak.buffer} in another way",
            "choose a loop around sums of products with one exponential",
        )

    def _begins_inside(self, x: Block) -> bool:
        above = tree(self.function).loops_above(x)
        outer = {s.var for s in above[: above.index(self.second) + 1]}
        return all(
            free_vars(e).isdisjoint(outer) for it, e in zip(x.iters, x.bindings, strict=True) if it.kind == "reduce"
        )

    def _piece(self, x: Block, target: Load, part: _Part) -> None:
        """Enters what one iteration makes and reads."""
        outer = [s.var for s in tree(self.function).loops_above(self.second)]
        alone = writers(self.function, target.buffer) == [x]
        if not alone or not stays_inside(self.function, self.second.body, [*outer, self.second.var], target.buffer):
            refuse(
                SUM,
                x,
                f"{target.buffer}, which {x.name} writes, may be read in another iteration of {self.second.var.name}",
                f"compute {x.name} at {self.second.var.name}, or choose a loop around what reads it",
            )
        self.made[target.buffer] = (x, target, part)

    def _sum(self, x: Block, target: Load, part: _Part) -> None:
        fed = {v for it, e in zip(x.iters, x.bindings, strict=True) if it.kind == "reduce" for v in free_vars(e)}
        others = [r for r in readers(self.function, target.buffer) if r is not x and r in blocks_under(self.second)]
        fixed = fed.isdisjoint(frozenset().union(*map(free_vars, part.place)))
        if self.second.var not in fed or others or not fixed:
            found = f"{x.name} does not sum over {self.second.var.name} with one maximum"
            if others:
                found = f"{others[0].name} reads {target.buffer} under {self.second.var.name}"
            refuse(SUM, x, found, "choose a loop around whole sums, and move their readers behind it")

    def _part(self, x: Block, value: Scalar) -> _Part | None:
        """How a value depends on the maximum; None if in another way than by a factor."""
        known: dict[Scalar, _Part | None] = {}
        for n in postorder(value):
            known[n] = self._folded(x, n, known)
        return known[value]

    def _folded(self, x: Block, n: Scalar, known: Mapping[Scalar, _Part | None]) -> _Part | None:
        if isinstance(n, Unary) and n.op == "exp":
            found = self._exponent(x, n.a, known)
            if found is not None:
                return found
        if isinstance(n, Load):
            if n.buffer == self.peak.buffer:
                return None
            if n.buffer in self.made:
                return self._read(x, n)
        parts = [known[c] for c in children(n)]
        if all(p is not None and p.degree == 0 for p in parts):
            return _Part(0)
        if isinstance(n, Binary) and n.op == "mul":
            a, b = known[n.a], known[n.b]
            if a is not None and b is not None and a.degree + b.degree == 1:
                return a if a.degree else b
        if isinstance(n, Binary) and n.op == "div" and (b := known[n.b]) is not None and b.degree == 0:
            return known[n.a]
        if isinstance(n, Cast) and n.dtype.is_float:
            return known[n.a]
        return None

    def _read(self, x: Block, n: Load) -> _Part | None:
        """The part of an element that another block made: with the maximum of the iteration that made it."""
        w, target, part = self.made[n.buffer]
        common = shared_loops(self.function, w, x)
        last = common[-1]
        if not stays_inside(self.function, last.body, [s.var for s in common], n.buffer):
            common = common[: common.index(self.second) + 1]
        inner = [s.var for s in tree(self.function).loops_above(w) if s not in common]
        bound: dict[Scalar, Scalar] = {}
        for i, j in zip(target.indices, n.indices, strict=True):
            if not _matched(_over_loops(w, i, {}), _over_loops(x, j, {}), inner, bound):
                return None
        place = tuple(simplify(substitute(i, bound)) for i in part.place)
        free = frozenset().union(*map(free_vars, part.place))
        return None if any(v in free and v not in bound for v in inner) else _Part(part.degree, place)

    def _exponent(self, x: Block, e: Scalar, known: Mapping[Scalar, _Part | None]) -> _Part | None:
        """The part of exp(e), if e is something less the maximum, or the least of that and 0."""
        below = isinstance(e, Binary) and e.op == "min" and isinstance(e.b, Const) and e.b.value == 0
        difference = e.a if below and isinstance(e, Binary) else e
        if not isinstance(difference, Binary) or difference.op != "sub" or not isinstance(difference.b, Load):
            return None
        peak, rest = difference.b, known[difference.a]
        if peak.buffer != self.peak.buffer or rest is None or rest.degree:
            return None
        if below and not self._taken_over(x, difference.a, peak):
            return None
        return _Part(1, tuple(_over_loops(x, i, {}) for i in peak.indices))

    def _stays(self, value: Scalar, block: Block) -> bool:
        """Whether what a value reads is the same when a block reads it under the first loop and under the other."""
        position = tree(self.function).position
        late = {*blocks_under(self.second), *(x for x in blocks_under(self.first) if position[x] >= position[block])}
        return late.isdisjoint(
            w for n in postorder(value) if isinstance(n, Load) for w in writers(self.function, n.buffer)
        )

    def _taken_over(self, x: Block, value: Scalar, peak: Load) -> bool:
        """Whether the maximum is taken over a value, in the iteration of the loop that stands for the block's."""
        update = self.b.body
        assert isinstance(update, Update)
        mine: dict[Scalar, Scalar] = {self.second.var: self.first.var}
        wanted = _over_loops(x, value, mine)
        place = [_over_loops(x, i, mine) for i in peak.indices]
        inner = [s.var for s in _inside(self.function, self.first, self.b)]
        source = update.values[0]
        bound: dict[Scalar, Scalar] = {}
        holds = conjuncts(substitute(x.predicate, mine))
        block = self.b
        if isinstance(source, Load):
            # a maximum of maxima: each is of a part that the same iteration walks
            (y, *others) = writers(self.function, source.buffer) or [self.b]
            below = blocks_under(self.first)
            before = y in below and below.index(y) < below.index(self.b)
            if before and not others and isinstance(y.body, Update) and is_maximum(y.body.reducer):
                block = y
                inner += [s.var for s in _inside(self.function, self.first, y)]
                if not _matched(_over_loops(y, y.body.values[0], {}), wanted, inner, bound):
                    return False
                for i, j in zip(y.body.targets[0].indices, source.indices, strict=True):
                    made = simplify(substitute(_over_loops(y, i, {}), bound))
                    if not _matched(_over_loops(self.b, j, {}), made, inner, bound):
                        return False
        if not self._stays(wanted, block):
            return False
        if block is self.b and not _matched(_over_loops(self.b, source, {}), wanted, inner, bound):
            return False
        same = all(
            _matched(_over_loops(self.b, i, {}), j, inner, bound) for i, j in zip(self.peak.indices, place, strict=True)
        )
        guards = [simplify(substitute(c, bound)) for y in (block, self.b) for c in conjuncts(y.predicate)]
        return same and all(g in holds or simplify(g) in map(simplify, holds) for g in guards)


def _from_zero(x: Block) -> bool:
    return isinstance(x.init, Store) and isinstance(x.init.value, Const) and x.init.value.value == 0


def _inside(function: Function, loop: For, b: Block) -> Sequence[For]:
    above = tree(function).loops_above(b)
    return above[above.index(loop) + 1 :]


def _over_loops(b: Block, value: Scalar, renamed: Mapping[Scalar, Scalar]) -> Scalar:
    """An expression of a block's iter vars as one of loops, those of one iteration left out, its indices simplified."""
    units: dict[Scalar, Scalar] = {v: ZERO for e in b.bindings for v in free_vars(e) if as_int(v.extent) == 1}
    bound: dict[Scalar, Scalar] = {
        it.var: substitute(e, {**renamed, **units}) for it, e in zip(b.iters, b.bindings, strict=True)
    }

    def index(n: Scalar) -> Scalar:
        if isinstance(n, Load):
            return Load(n.buffer, n.dtype, tuple(simplify(i) for i in n.indices))
        return n

    value = substitute(value, bound)
    return rewrite(value, index) if value.dtype.is_float else simplify(value)


def _matched(pattern: Scalar, value: Scalar, free: Sequence[Var], bound: dict[Scalar, Scalar]) -> bool:
    """Whether a pattern with free variables is a value; binds these, each to a variable of its extent."""
    if isinstance(pattern, Var) and pattern in free:
        if pattern in bound:
            return bound[pattern] is value
        if not isinstance(value, Var) or value.extent is not pattern.extent:
            return False
        bound[pattern] = value
        return True
    if pattern is value:
        return free_vars(pattern).isdisjoint(free)
    ours, theirs = children(pattern), children(value)
    if type(pattern) is not type(value) or len(ours) != len(theirs) or not ours:
        return False
    if not all(_matched(p, v, free, bound) for p, v in zip(ours, theirs, strict=True)):
        return False
    # what else a node says is the same if the pattern with the value's operands is the value
    swapped = dict(zip(ours, theirs, strict=True))
    return map_children(pattern, swapped.__getitem__) is value


def _over_iters(b: Block, place: Sequence[Scalar]) -> tuple[tuple[Scalar, ...], list[tuple[IterVar, Scalar]]]:
    """Indices over loops as indices over a block's spatial iters, and the iters that it needs besides."""
    mapping: dict[Scalar, Scalar] = {
        e: it.var for it, e in zip(b.iters, b.bindings, strict=True) if it.kind == "spatial"
    }
    taken = {it.var.name for it in b.iters}
    more: list[tuple[IterVar, Scalar]] = []
    for v in sorted(frozenset().union(*map(free_vars, place)), key=lambda v: v.name):
        if v.extent is not None and v not in mapping:
            (name,) = fresh(taken, [f"v_{v.name}"])
            mapping[v] = new = Var(name, v.dtype, v.extent)
            more.append((IterVar(new, "spatial"), v))
    loops_only: dict[Scalar, Scalar] = {v: i for v, i in mapping.items() if isinstance(v, Var)}
    return tuple(substitute(i, loops_only) for i in place), more


class _Maker:
    """Makes nests over what one iteration of a loop reduces to.

    Args:
        function: The function.
        b: A reduction.
        around: The loop; none inside it feeds spatial and reduce iters.
        used: Names in use.

    Attributes:
        made: Names of the blocks made.
    """

    def __init__(self, function: Function, b: Block, around: For, used: set[str]) -> None:
        self.function = function
        self.b = b
        self.around = around
        self.used = used
        self.made: list[str] = []

    def nest(
        self, stores: Mapping[str, Store], more: Sequence[tuple[IterVar, Scalar]], *, inside: bool = False
    ) -> Stmt:
        """Loops over the spatial iters around blocks.

        Args:
            stores: Names of the blocks, and what each does, over the reduction's spatial iters.
            more: Further iters, with the loops that they are bound to.
            inside: Whether the nest stands in the loop, whose iterations it takes in order.
        """
        b, loop = self.b, self.around.var
        reduced = {v for it, e in zip(b.iters, b.bindings, strict=True) if it.kind == "reduce" for v in free_vars(e)}
        kept = [(it, e) for it, e in zip(b.iters, b.bindings, strict=True) if it.kind == "spatial"] + list(more)
        spatial = frozenset().union(*(free_vars(e) for _, e in kept))
        copied = [s for s in _inside(self.function, self.around, b) if s.var in spatial]
        first = next(iter(stores))
        names = fresh(self.used, [f"{first}_{s.var.name}" for s in copied])
        variables = [Var(n, s.var.dtype, s.var.extent) for n, s in zip(names, copied, strict=True)]
        renamed: dict[Scalar, Scalar] = dict(zip([s.var for s in copied], variables, strict=True))
        iters = [it for it, _ in kept]
        bindings = [substitute(e, renamed) for _, e in kept]
        if inside:
            (step,) = fresh({it.var.name for it in iters}, [f"v_{loop.name}"])
            iters.append(IterVar(Var(step, loop.dtype, loop.extent), "ordered"))
            bindings.append(loop)
        holds = conjunction(*(substitute(c, renamed) for c in spatial_predicate(b, reduced, GUARD)))
        names = fresh(self.used, stores)
        self.made += names
        blocks = [
            Block(n, tuple(iters), tuple(bindings), body, holds) for n, body in zip(names, stores.values(), strict=True)
        ]
        return loops(variables, seq(*blocks))


def _retargeted(b: Block, old: str, new: str) -> Block:
    """A block that reads another buffer at the same places."""
    if old not in touched(b).reads:
        return b

    def one(n: Scalar) -> Scalar:
        return Load(new, n.dtype, n.indices) if isinstance(n, Load) and n.buffer == old else n

    leaf = b.body
    if isinstance(leaf, Store):
        body: Stmt = Store(leaf.buffer, leaf.indices, rewrite(leaf.value, one))
    else:
        assert isinstance(leaf, Update)
        body = Update(leaf.targets, leaf.reducer, tuple(rewrite(v, one) for v in leaf.values))
    return Block(b.name, b.iters, b.bindings, body, b.predicate, b.init, annotations=b.annotations)
