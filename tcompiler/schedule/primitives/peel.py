"""peel: a loop is cut into pieces that run one after the other, each with what it knows of its iterations."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from itertools import pairwise

from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import Block, For, Function, IterVar, Seq, Stmt, Store, Update, map_children, seq
from tcompiler.ir.scalar.canonical import bounds, simplify
from tcompiler.ir.scalar.grammar import FALSE, Scalar, Var, add, as_int, conjunction, conjuncts, loop_var
from tcompiler.ir.scalar.rewrite import free_vars, substituter
from tcompiler.schedule.affine.coverage import left_unread
from tcompiler.schedule.bodies import map_expressions, map_regions, with_fresh_names
from tcompiler.schedule.bounds import bounds_of, rest_of
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.tree import (
    blocks_under,
    fresh,
    loop_named,
    loops_under,
    names_used,
    replace,
)

CONSTANT = condition("peel.constant", "the loop's extent is a constant")
POINTS = condition("peel.points", "the points rise and lie strictly inside the loop's range")
GUARDED = condition(
    "peel.guarded", "without points, a predicate below depends on the loop and holds for some iterations"
)


@primitive
def peel(function: Function, loop: str, points: Sequence[int] | None = None) -> Result:
    """Cuts a loop into pieces; in each, predicates and guards that the piece decides are gone.

    ``peel("i_0")``::

        for i_0 in range(167):                                for i_0 in range(166):
            for i_1 in range(6):                                  for i_1 in range(6):
                with block("B", where=i_0 * 6 + i_1 < 1000):          with block("B"):
                    vi = spatial(1000, i_0 * 6 + i_1)     →               vi = spatial(996, i_0 * 6 + i_1)
                    C[vi] = A[vi]                                         C[vi] = A[vi]
                                                              for i_0_t in range(1):
                                                                  for i_1_t in range(4):
                                                                      with block("B_t"):
                                                                          vi = spatial(4, i_1_t)
                                                                          C[vi + 996] = A[vi + 996]

    Loops inside a piece lose the iterations that a predicate masks throughout, whatever their kind. The domains of the
    iter vars that the loop feeds shrink to what the piece computes, and their body is simplified with that knowledge,
    so that guards of padding go as well. Of a loop that a reduction runs over, the piece that starts it has the init;
    if it is one step, from the reducer's identity, it stores what it would have added.

    Args:
        function: The function.
        loop: A loop of constant extent.
        points: The first iterations of the second piece, the third, …; rising. None cuts out the iterations for which
            all predicates below hold, the main piece.

    Returns:
        The loops of the pieces. Without points: the main piece's first, which keeps all names, then the others in the
        order in which they run; with points: all in the order in which they run, and the first keeps the names. Loops
        and blocks of the others are named as before with ``_t`` behind.

    Raises:
        ScheduleError: If the extent is not constant, the points do not rise inside the range, or no predicate below
            gives a cut where none is given.
    """
    target = loop_named(function, loop)
    extent = as_int(target.var.extent)
    if extent is None:
        refuse(CONSTANT, target, f"the extent of {loop} depends on parameters", "split it and peel the inner loop")
        extent = 1
    main = 0
    if points is None:
        first, last = _unmasked(target, extent)
        if (first, last) == (0, extent):
            refuse(
                GUARDED,
                target,
                f"no predicate below {loop} depends on it",
                "give the points at which to cut",
            )
        cuts = [0, extent] if first >= last else sorted({0, first, last, extent})
        main = 0 if first >= last else cuts.index(first)
    else:
        cuts = [0, *points, extent]
        if any(a >= b for a, b in pairwise(cuts)) or not points:
            refuse(
                POINTS,
                target,
                f"the points {list(points)} do not cut the range 0 … {extent - 1} into pieces",
                f"give rising points between 1 and {extent - 1}",
            )
    used = names_used(function)
    pieces: list[Stmt] = []
    names: list[str] = []
    for k, (start, stop) in enumerate(pairwise(cuts)):
        piece = _piece(target, start, stop - start, None if k == main else used)
        if len(blocks_under(piece)) < len(blocks_under(target)):
            piece = _without_dead(function, target, piece)
        if isinstance(piece, For):
            pieces.append(piece)
            names.insert(0 if k == main else len(names), piece.var.name)
    return Result(replace(function, target, seq(*pieces)), tuple(names))


def _unmasked(target: For, extent: int) -> tuple[int, int]:
    """The range of iterations for which every linear predicate below that names the loop holds."""
    first, last = 0, extent
    for block in blocks_under(target.body):
        for bound in bounds_of(block.predicate):
            rest = rest_of(bound, target.var)
            if rest is None:
                continue
            by, _, high = rest
            if by > 0:
                last = min(last, -high // by + 1)
            else:
                first = max(first, -(-high // -by))
    return first, max(last, 0)


def _piece(target: For, start: int, extent: int, used: set[str] | None) -> Stmt:
    """The iterations start, …, start + extent - 1 of a loop.

    Args:
        target: The loop.
        start: The first iteration.
        extent: How many.
        used: Names in use, for new names of all loops and blocks; None to keep the names.

    Returns:
        A loop; an empty Seq if no iteration runs anything.
    """
    old = target.var
    var = loop_var(_name(old.name, used), extent)
    mapping: dict[Scalar, Scalar] = {old: add(var, start)}
    limits = _limits(target, start, extent)
    for s in loops_under(target.body):
        inner = s.var
        limit = limits.get(inner)
        if used is not None or limit is not None:
            assert inner.extent is not None
            mapping[inner] = loop_var(_name(inner.name, used), inner.extent if limit is None else limit)
    replaced = substituter(mapping)
    changed = frozenset(v for v in mapping if v is old or v in limits)

    def copy(stmt: Stmt) -> Stmt:
        if isinstance(stmt, For):
            body = copy(stmt.body)
            if isinstance(body, Seq) and not body.stmts:
                return body
            inner = mapping.get(stmt.var, stmt.var)
            assert isinstance(inner, Var)
            return For(inner, stmt.kind, body, stmt.annotations)
        if isinstance(stmt, Seq):
            return seq(*[copy(s) for s in stmt.stmts])
        assert isinstance(stmt, Block)
        conditions = []
        for c in conjuncts(stmt.predicate):
            new = replaced(c)
            conditions.append(new if changed.isdisjoint(free_vars(c)) else simplify(new))
        predicate = conjunction(*conditions)
        if predicate is FALSE:
            return Seq(())
        narrow = _narrowed(stmt, _name(stmt.name, used), predicate, old, changed, replaced)
        return narrow if used is None else map_children(narrow, lambda s: with_fresh_names(s, lambda n: _name(n, used)))

    body = copy(target.body)
    if isinstance(body, Seq) and not body.stmts:
        return body
    return For(var, target.kind, body, target.annotations)


def _without_dead(function: Function, target: For, piece: Stmt) -> Stmt:
    """A piece without the blocks that work for those alone that it has left out.

    Args:
        function: The function.
        target: The loop of which it is a piece.
        piece: The piece.
    """
    while True:
        blocks = blocks_under(piece)
        used = {n for b in blocks for n in touched(b).reads - touched(b).writes}
        dead = {n for n in touched(piece).writes - used if left_unread(function, target, n)}
        left = {b for b in blocks if not touched(b).writes <= dead}
        if len(left) == len(blocks):
            return piece
        piece = _only(piece, left)


def _only(stmt: Stmt, left: Set[Block]) -> Stmt:
    """A statement with some of its blocks, and without the loops that have nothing left to do."""
    if isinstance(stmt, Seq):
        return seq(*[_only(s, left) for s in stmt.stmts])
    if isinstance(stmt, For):
        body = _only(stmt.body, left)
        if isinstance(body, Seq) and not body.stmts:
            return body
        return For(stmt.var, stmt.kind, body, stmt.annotations)
    return stmt if stmt in left else Seq(())


def _name(name: str, used: set[str] | None) -> str:
    return name if used is None else fresh(used, [f"{name}_t"])[0]


def _limits(target: For, start: int, extent: int) -> dict[Var, int]:
    """For loops inside a piece, the first iteration from which on nothing below runs, where that is not the end."""
    found: dict[Scalar, dict[Block, int]] = {}
    for block in blocks_under(target.body):
        for bound in bounds_of(block.predicate):
            by = bound.terms.get(target.var)
            if by is None:
                continue
            first = start if by > 0 else start + extent - 1
            for atom, scale in bound.terms.items():
                if atom is target.var or scale <= 0 or not isinstance(atom, Var):
                    continue
                low = bound.constant + by * first
                for other, weight in bound.terms.items():
                    if other is not atom and other is not target.var:
                        least = bounds(other)[weight < 0]
                        if least is None or atom in free_vars(other) or target.var in free_vars(other):
                            break
                        low += weight * least
                else:
                    blocks = found.setdefault(atom, {})
                    limit = -low // scale + 1
                    blocks[block] = min(limit, blocks.get(block, limit))
    if not found:
        return {}
    limits: dict[Var, int] = {}
    for loop in loops_under(target.body):
        blocks = found.get(loop.var, {})
        # What asks for memory ahead (it writes nothing) has no say; a block that never runs is left out altogether.
        below = [b for b in blocks_under(loop.body) if touched(b).writes] if blocks else []
        limit = max([blocks[b] for b in below]) if blocks and all(b in blocks for b in below) else 0
        size = as_int(loop.var.extent)
        if limit > 0 and size is not None and limit < size:
            limits[loop.var] = limit
    return limits


def _narrowed(
    block: Block,
    name: str,
    predicate: Scalar,
    old: Var,
    changed: Set[Scalar],
    replaced: Callable[[Scalar], Scalar],
) -> Block:
    """The block of a piece: iter vars whose loops run less shrink to the values of their bindings, bodies simplify.

    Args:
        block: A block below the loop.
        name: What it is called in the piece.
        predicate: Its predicate in the piece.
        old: The loop's variable.
        changed: Loop variables of which the piece runs fewer iterations.
        replaced: Replaces the loop variables by those of the piece.
    """
    iters, bindings = list(block.iters), []
    mapping: dict[Scalar, Scalar] = {}
    init = block.init
    for k, (it, binding) in enumerate(zip(block.iters, block.bindings, strict=True)):
        new = replaced(binding)
        if not changed.isdisjoint(free_vars(binding)):
            new = simplify(new)
        free = free_vars(binding)
        domain = as_int(it.var.extent) if old in free or not changed.isdisjoint(free) else None
        if domain is not None:
            low, high = bounds(new)
            if low is not None and high is not None and (low > 0 or high < domain - 1):
                low, high = max(low, 0), min(high, domain - 1)
                var = loop_var(it.var.name, high - low + 1)
                mapping[it.var] = add(var, low)
                iters[k] = IterVar(var, it.kind)
                if low:
                    new = simplify(add(new, -low))
                    if it.kind == "reduce":
                        init = None  # it runs where every reduce iter is 0, which none of these iterations is
        bindings.append(new)
    if not mapping:
        return Block(
            name,
            block.iters,
            tuple(bindings),
            block.body,
            predicate,
            init,
            block.opaque,
            block.reads,
            block.writes,
            block.annotations,
        )
    narrow = substituter(mapping)

    def rewritten(node: Scalar) -> Scalar:
        new = narrow(node)
        return new if new is node else simplify(new)

    body = map_expressions(block.body, rewritten)
    init = None if init is None else map_expressions(init, rewritten)
    stored = _stored(body, init) if init is not None else None
    if stored is not None and all(as_int(it.var.extent) == 1 for it in iters if it.kind == "reduce"):
        body, init = stored, None
        iters = [IterVar(it.var, "spatial") if it.kind == "reduce" else it for it in iters]
    return Block(
        name,
        tuple(iters),
        tuple(bindings),
        body,
        predicate,
        init,
        block.opaque,
        map_regions(block.reads, rewritten),
        map_regions(block.writes, rewritten),
        block.annotations,
    )


def _stored(body: Stmt, init: Stmt) -> Stmt | None:
    """What an init to the identity and one step after it store; None for any other init."""
    first = init.stmts if isinstance(init, Seq) else (init,)
    if not isinstance(body, Update) or len(first) != len(body.targets):
        return None
    for target, identity, store in zip(body.targets, body.reducer.identity, first, strict=True):
        if not isinstance(store, Store) or (store.buffer, store.indices) != (target.buffer, target.indices):
            return None
        if store.value is not identity:
            return None
    return seq(*[Store(t.buffer, t.indices, v) for t, v in zip(body.targets, body.values, strict=True)])
