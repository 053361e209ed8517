"""peel: a loop is cut into pieces that run one after the other, each with what it knows of its iterations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from tcompiler.ir.loop.grammar import Block, For, Function, IterVar, Seq, Stmt, seq
from tcompiler.ir.scalar.canonical import bounds, simplify
from tcompiler.ir.scalar.grammar import FALSE, Binary, Scalar, Var, add, as_int, loop_var
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.schedule.affine.linear import linear
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
        source = target if k == main else _renamed(target, used)
        piece = _piece(source, start, stop - start)
        if isinstance(piece, For):
            pieces.append(piece)
            names.insert(0 if k == main else len(names), source.var.name)
    return Result(replace(function, target, seq(*pieces)), tuple(names))


class _Bound(NamedTuple):
    """A condition ``sum of terms + constant <= 0``."""

    terms: dict[Scalar, int]
    constant: int


def _bounds_of(predicate: Scalar) -> list[_Bound]:
    """The conjuncts of a predicate that are linear comparisons."""
    found = []
    for c in conjuncts(predicate):
        if not isinstance(c, Binary) or c.op not in ("lt", "le", "gt", "ge"):
            continue
        a, b = (c.a, c.b) if c.op in ("lt", "le") else (c.b, c.a)
        terms, constant = linear(a - b)
        found.append(_Bound(terms, constant + (c.op in ("lt", "gt"))))
    return found


def _rest(bound: _Bound, var: Var) -> tuple[int, int, int] | None:
    """The variable's coefficient and the bounds of everything else in the sum; None where they are not known."""
    by = bound.terms.get(var, 0)
    low = high = bound.constant
    for atom, scale in bound.terms.items():
        if atom is var:
            continue
        lo, hi = bounds(atom)
        if lo is None or hi is None or var in free_vars(atom):
            return None
        low, high = low + min(scale * lo, scale * hi), high + max(scale * lo, scale * hi)
    return by, low, high


def _unmasked(target: For, extent: int) -> tuple[int, int]:
    """The range of iterations for which every linear predicate below that names the loop holds."""
    first, last = 0, extent
    for block in blocks_under(target.body):
        for bound in _bounds_of(block.predicate):
            rest = _rest(bound, target.var)
            if rest is None or rest[0] == 0:
                continue
            by, _, high = rest
            if by > 0:
                last = min(last, -high // by + 1)
            else:
                first = max(first, -(-high // -by))
    return first, max(last, 0)


def _renamed(target: For, used: set[str]) -> For:
    """A copy with new names for all loops and blocks."""
    mapping: dict[Scalar, Scalar] = {}
    renamed: dict[str, str] = {}
    for s in loops_under(target):
        (name,) = fresh(used, [f"{s.var.name}_t"])
        assert s.var.extent is not None
        mapping[s.var] = loop_var(name, s.var.extent)
    for b in blocks_under(target):
        (renamed[b.name],) = fresh(used, [f"{b.name}_t"])

    def copy(stmt: Stmt) -> Stmt:
        if isinstance(stmt, For):
            var = mapping[stmt.var]
            assert isinstance(var, Var)
            return For(var, stmt.kind, copy(stmt.body), stmt.annotations)
        if isinstance(stmt, Seq):
            return Seq(tuple([copy(s) for s in stmt.stmts]))
        assert isinstance(stmt, Block)
        return Block(
            renamed[stmt.name],
            stmt.iters,
            tuple([substitute(b, mapping) for b in stmt.bindings]),
            stmt.body,
            substitute(stmt.predicate, mapping),
            stmt.init,
            stmt.opaque,
            stmt.reads,
            stmt.writes,
            stmt.annotations,
        )

    result = copy(target)
    assert isinstance(result, For)
    return result


def _piece(source: For, start: int, extent: int) -> Stmt:
    """The iterations start, …, start + extent - 1 of a loop; an empty Seq if none of them runs anything."""
    fed = {
        b.name: [k for k, binding in enumerate(b.bindings) if source.var in free_vars(binding)]
        for b in blocks_under(source.body)
    }
    var = loop_var(source.var.name, extent)
    body = _tightened(rebind(source.body, {source.var: simplify(add(var, start))}))
    if isinstance(body, Seq) and not body.stmts:
        return body
    return For(var, source.kind, _narrowed(body, fed), source.annotations)


def _tightened(stmt: Stmt) -> Stmt:
    """Cuts loops down to the iterations that some predicate below lets run, the outermost first."""
    if isinstance(stmt, Seq):
        return seq(*[_tightened(s) for s in stmt.stmts])
    if isinstance(stmt, Block):
        return Seq(()) if stmt.predicate is FALSE else stmt
    if not isinstance(stmt, For):
        return stmt
    extent = as_int(stmt.var.extent)
    if extent is not None:
        limit = max((_limit(b, stmt.var, extent) for b in blocks_under(stmt.body)), default=extent)
        if limit <= 0:
            return Seq(())
        if limit < extent:
            var = loop_var(stmt.var.name, limit)
            stmt = For(var, stmt.kind, rebind(stmt.body, {stmt.var: var}), stmt.annotations)
    body = _tightened(stmt.body)
    if isinstance(body, Seq) and not body.stmts:
        return body
    return stmt if body is stmt.body else For(stmt.var, stmt.kind, body, stmt.annotations)


def _limit(block: Block, var: Var, extent: int) -> int:
    """The first iteration of a loop from which on a block's predicate never holds."""
    limit = extent
    for bound in _bounds_of(block.predicate):
        rest = _rest(bound, var)
        if rest is not None and rest[0] > 0:
            limit = min(limit, -rest[1] // rest[0] + 1)
    return limit


def _narrowed(stmt: Stmt, fed: dict[str, list[int]]) -> Stmt:
    """Shrinks iter vars to the values that their bindings take, and simplifies bodies with that."""
    if isinstance(stmt, For):
        return For(stmt.var, stmt.kind, _narrowed(stmt.body, fed), stmt.annotations)
    if isinstance(stmt, Seq):
        return Seq(tuple([_narrowed(s, fed) for s in stmt.stmts]))
    assert isinstance(stmt, Block)
    iters, bindings = list(stmt.iters), list(stmt.bindings)
    mapping: dict[Scalar, Scalar] = {}
    for k in fed[stmt.name]:
        old = iters[k].var
        domain = as_int(old.extent)
        low, high = bounds(bindings[k])
        if domain is None or low is None or high is None:
            continue
        low, high = max(low, 0), min(high, domain - 1)
        if low == 0 and high == domain - 1:
            continue
        var = loop_var(old.name, high - low + 1)
        mapping[old] = add(var, low)
        iters[k] = IterVar(var, iters[k].kind)
        bindings[k] = simplify(add(bindings[k], -low))
    if not mapping:
        return stmt

    def rewritten(node: Scalar) -> Scalar:
        return simplify(substitute(node, mapping))

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
