"""peel: a loop is cut into pieces that run one after the other, each with what it knows of its iterations."""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import pairwise
from typing import NamedTuple

from tcompiler.ir.loop.grammar import Block, For, Function, IterVar, Seq, Stmt, seq
from tcompiler.ir.scalar.canonical import bounds, linear, simplify
from tcompiler.ir.scalar.grammar import FALSE, TRUE, Binary, Scalar, Var, add, as_int, conjunction, loop_var
from tcompiler.ir.scalar.rewrite import free_vars, substituter
from tcompiler.schedule.bodies import map_expressions, map_regions
from tcompiler.schedule.legality import At, Result, condition, primitive, refuse
from tcompiler.schedule.tree import (
    blocks_under,
    conjuncts,
    feeds,
    fresh,
    loop_named,
    loops_under,
    names_used,
    rebind,
    replace,
)

CONSTANT = condition("peel.constant", "the loop's extent is a constant")
POINTS = condition("peel.points", "the points rise and lie strictly inside the loop's range")
GUARDED = condition(
    "peel.guarded", "without points, a predicate below depends on the loop and holds for some iterations"
)
INIT = condition("peel.init", "the loop feeds no reduce iter of a block with an init")


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
    so that guards of padding go as well.

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
        ScheduleError: If the extent is not constant, the points do not rise inside the range, no predicate below
            gives a cut where none is given, or the loop feeds a reduce iter of a block with an init.
    """
    target = loop_named(function, loop)
    extent = as_int(target.var.extent)
    if extent is None:
        refuse(CONSTANT, target, f"the extent of {loop} depends on parameters", "split it and peel the inner loop")
        extent = 1
    for block in blocks_under(target.body):
        if block.init is not None and "reduce" in feeds(block, target.var):
            refuse(
                INIT,
                At(block, "with init()"),
                f"{loop} feeds a reduce iter of {block.name}, whose init would run in the first piece alone",
                f'decompose_reduction("{block.name}", …) first',
            )
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
        if isinstance(piece, For):
            pieces.append(piece)
            names.insert(0 if k == main else len(names), piece.var.name)
    return Result(replace(function, target, seq(*pieces)), tuple(names))


class _Bound(NamedTuple):
    """A condition ``sum of terms + constant <= 0``."""

    terms: dict[Scalar, int]
    constant: int


_bounds: dict[Scalar, list[_Bound]] = {}


def _bounds_of(predicate: Scalar) -> list[_Bound]:
    """The conjuncts of a predicate that are linear comparisons."""
    found = _bounds.get(predicate)
    if found is None:
        found = _bounds[predicate] = []
        for c in conjuncts(predicate):
            if isinstance(c, Binary) and c.op in ("lt", "le", "gt", "ge"):
                a, b = (c.a, c.b) if c.op in ("lt", "le") else (c.b, c.a)
                form = linear(a - b)
                found.append(_Bound(form.terms, form.const + (c.op in ("lt", "gt"))))
    return found


def _rest(bound: _Bound, var: Var) -> tuple[int, int, int] | None:
    """The variable's coefficient and the bounds of everything else in the sum; None where they are not known."""
    by = bound.terms.get(var)
    if by is None:
        return None
    low = high = bound.constant
    for atom, scale in bound.terms.items():
        if atom is var:
            continue
        lo, hi = bounds(atom)
        if lo is None or hi is None or var in free_vars(atom):
            return None
        if scale < 0:
            lo, hi = hi, lo
        low, high = low + scale * lo, high + scale * hi
    return by, low, high


def _unmasked(target: For, extent: int) -> tuple[int, int]:
    """The range of iterations for which every linear predicate below that names the loop holds."""
    first, last = 0, extent
    for block in blocks_under(target.body):
        for bound in _bounds_of(block.predicate):
            rest = _rest(bound, target.var)
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
    if used is not None:
        for s in loops_under(target.body):
            mapping[s.var] = Var(_name(s.var.name, used), s.var.dtype, s.var.extent)
    replaced = substituter(mapping)
    narrow: dict[str, list[int]] = {}
    masking: set[Var] = set()

    def copy(stmt: Stmt) -> Stmt:
        if isinstance(stmt, For):
            inner = mapping.get(stmt.var, stmt.var)
            assert isinstance(inner, Var)
            return For(inner, stmt.kind, copy(stmt.body), stmt.annotations)
        if isinstance(stmt, Seq):
            return seq(*[copy(s) for s in stmt.stmts])
        assert isinstance(stmt, Block)
        return header(stmt)

    def header(block: Block) -> Block:
        bindings = []
        fed = []
        for k, b in enumerate(block.bindings):
            new = replaced(b)
            if old in free_vars(b):
                new = simplify(new)
                fed.append(k)
            bindings.append(new)
        predicate = block.predicate
        if predicate is not TRUE:
            predicate = conjunction(*[simplify(c) for c in conjuncts(replaced(predicate))])
            masking.update(free_vars(predicate))
        name = _name(block.name, used)
        narrow[name] = fed
        return Block(
            name,
            block.iters,
            tuple(bindings),
            block.body,
            predicate,
            block.init,
            block.opaque,
            block.reads,
            block.writes,
            block.annotations,
        )

    body = _narrowed(_tightened(copy(target.body), masking), narrow)
    if isinstance(body, Seq) and not body.stmts:
        return body
    return For(var, target.kind, body, target.annotations)


def _name(name: str, used: set[str] | None) -> str:
    return name if used is None else fresh(used, [f"{name}_t"])[0]


def _tightened(stmt: Stmt, masking: Set[Var]) -> Stmt:
    """Cuts loops down to the iterations that some predicate below lets run, the outermost first.

    Args:
        stmt: A piece.
        masking: The variables that predicates name.
    """
    if isinstance(stmt, Seq):
        return seq(*[_tightened(s, masking) for s in stmt.stmts])
    if isinstance(stmt, Block):
        return Seq(()) if stmt.predicate is FALSE else stmt
    if not isinstance(stmt, For):
        return stmt
    limit = _limit(stmt) if stmt.var in masking else None
    if limit is not None:
        if limit <= 0:
            return Seq(())
        var = loop_var(stmt.var.name, limit)
        stmt = For(var, stmt.kind, rebind(stmt.body, {stmt.var: var}), stmt.annotations)
    body = _tightened(stmt.body, masking)
    if isinstance(body, Seq) and not body.stmts:
        return body
    return stmt if body is stmt.body else For(stmt.var, stmt.kind, body, stmt.annotations)


def _limit(loop: For) -> int | None:
    """The first iteration of a loop from which on no predicate below holds; None if the last ones run something."""
    limit = 0
    for block in blocks_under(loop.body):
        least: int | None = None
        if block.predicate is not TRUE:
            for bound in _bounds_of(block.predicate):
                rest = _rest(bound, loop.var)
                if rest is not None and rest[0] > 0:
                    first = -rest[1] // rest[0] + 1
                    least = first if least is None else min(least, first)
        if least is None:
            return None
        limit = max(limit, least)
    extent = as_int(loop.var.extent)
    return None if extent is None or limit >= extent else limit


def _narrowed(stmt: Stmt, fed: dict[str, list[int]]) -> Stmt:
    """Shrinks iter vars to the values that their bindings take, and simplifies bodies with that.

    Args:
        stmt: A piece.
        fed: By block, the positions of the iter vars that the piece's loop feeds.
    """
    if isinstance(stmt, For):
        body = _narrowed(stmt.body, fed)
        return stmt if body is stmt.body else For(stmt.var, stmt.kind, body, stmt.annotations)
    if isinstance(stmt, Seq):
        return seq(*[_narrowed(s, fed) for s in stmt.stmts])
    assert isinstance(stmt, Block)
    mapping: dict[Scalar, Scalar] = {}
    for k in fed[stmt.name]:
        old = stmt.iters[k].var
        domain = as_int(old.extent)
        low, high = bounds(stmt.bindings[k])
        if domain is None or low is None or high is None:
            continue
        low, high = max(low, 0), min(high, domain - 1)
        if low == 0 and high == domain - 1:
            continue
        if not mapping:
            iters, bindings = list(stmt.iters), list(stmt.bindings)
        var = loop_var(old.name, high - low + 1)
        mapping[old] = add(var, low)
        iters[k] = IterVar(var, iters[k].kind)
        if low:
            bindings[k] = simplify(add(bindings[k], -low))
    if not mapping:
        return stmt

    replaced = substituter(mapping)

    def rewritten(node: Scalar) -> Scalar:
        new = replaced(node)
        return new if new is node else simplify(new)

    return Block(
        stmt.name,
        tuple(iters),
        tuple(bindings),
        map_expressions(stmt.body, rewritten),
        stmt.predicate,
        None if stmt.init is None else map_expressions(stmt.init, rewritten),
        stmt.opaque,
        map_regions(stmt.reads, rewritten),
        map_regions(stmt.writes, rewritten),
        stmt.annotations,
    )
