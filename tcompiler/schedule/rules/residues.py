"""Maps that take their positions from several operands, or axes, by the remainder of an index."""

from __future__ import annotations

from tcompiler.backends.llvm.linear import linear
from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.analysis import find_block
from tcompiler.ir.loop.grammar import Block, Store
from tcompiler.ir.scalar.grammar import Binary, Load, Scalar, Select, Var, as_int, postorder
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.rules.accesses import shape_of
from tcompiler.schedule.rules.attempt import attempt
from tcompiler.schedule.rules.pieces import buffers
from tcompiler.schedule.schedule import Schedule


def cut_residues(sch: Schedule, block: str) -> None:
    """Cuts the nest of a map where the operand that it reads depends on the remainder of an index.

        for i in range(9):                               for r_t in range(1):
            y[i] = a[i // 2] if i % 2 < 1 else b[i // 2]     for q in range(5): y[2 * q] = a[q]
                                                 →       for r in range(1):
                                                             for q in range(4): y[2 * q + 1] = b[q]

    Args:
        sch: The schedule.
        block: A block that only stores, in a nest of its own. Nothing changes where there is nothing to cut.
    """
    found = _remainders(find_block(sch.function, block))
    if found:
        attempt(sch, _cut, sch, block, found)


def _cut(sch: Schedule, block: str, found: dict[Var, tuple[int, set[int]]]) -> bool:
    loops = sch.loops(block)
    if not loops or sch.blocks_under(loops[0]) != [block]:
        return False
    position = {i.var: k for k, i in enumerate(sch.iters(block))}
    for var, (modulus, _) in found.items():
        loop = sch.loop_of(block, position[var])
        if not loop or sch.extent(loop) != as_int(var.extent) or (sch.extent(loop) or 0) <= modulus:
            return False
        sch.split(loop, [None, modulus])
    pieces = [block]
    for var, (modulus, turns) in found.items():
        rest = (as_int(var.extent) or 0) % modulus
        points = sorted(t for t in {*turns, rest} if 0 < t < modulus)
        if not points:
            continue
        done: list[str] = []
        for piece in pieces:
            # the remainders outermost, so that each class of them has a nest of its own
            inner = sch.loop_of(piece, position[var])
            sch.reorder(inner, *(n for n in sch.loops(piece) if n != inner))
            done += [b for loop in sch.peel(inner, points) for b in sch.blocks_under(loop)]
        pieces = done
    for piece in pieces:
        for loop in sch.loops(piece):
            if sch.extent(loop) == 1:
                sch.elide(loop)
        sch.unfold(piece)
    return True


def _remainders(block: Block) -> dict[Var, tuple[int, set[int]]]:
    """Iter vars whose remainders decide between loads of different buffers: the modulus, and where decisions turn."""
    found: dict[Var, tuple[int, set[int]]] = {}
    axes = {i.var for i in block.iters if i.kind == "spatial"}
    values = [block.body.value] if isinstance(block.body, Store) else []
    if any(isinstance(n, Load) and any(len(free_vars(i)) > 1 for i in n.indices) for n in postorder(*values)):
        return found  # the operands' places are not the map's: no sum could be stored where it belongs
    for node in postorder(*values):
        if not isinstance(node, Select) or buffers(node.a) == buffers(node.b):
            continue
        cond = node.cond
        if not isinstance(cond, Binary) or cond.op != "lt" or cond.a.dtype is not dt.i64:
            continue
        turn, remainder = as_int(cond.b), _remainder(cond.a)
        if turn is not None and remainder is not None and remainder[0] in axes:
            known = found.setdefault(remainder[0], (remainder[1], set()))
            if known[0] == remainder[1]:
                known[1].add(turn)
    for node in postorder(*values) if found else ():
        # where nothing turns, operands may still have an axis for the quotient and one for the remainder
        other = _remainder(node)
        if other is not None and other[0] in axes and (as_int(other[0].extent) or 0) > other[1]:
            found.setdefault(other[0], (other[1], set()))
    return found


def _remainder(node: Scalar) -> tuple[Var, int] | None:
    """A variable and the constant that a node is its remainder of."""
    if isinstance(node, Binary) and node.op == "floormod" and isinstance(node.a, Var):
        modulus = as_int(node.b)
        return None if modulus is None else (node.a, modulus)
    return None


def align_residues(sch: Schedule, block: str) -> list[str]:
    """Cuts the first and last positions off a map that reads by quotients and remainders of an index and an offset.

        for i in range(9): y[i] = a[(i + 1) % 2, (i + 1) // 2]
        →
        for i in range(1):   y[i] = a[1, 0]
        for i_t in range(8): y[i_t + 1] = a[i_t % 2, i_t // 2 + 1]

    Vectors hold whole steps then.

    Args:
        sch: The schedule.
        block: A block in a nest of its own.

    Returns:
        The blocks of the pieces, the block itself where there is nothing to cut.
    """
    node = find_block(sch.function, block)
    shape = shape_of(sch.function, node)
    lane = shape.innermost() if shape is not None and not shape.reduce else None
    loop = sch.loop_of(block, [i.var for i in node.iters].index(lane)) if lane is not None else ""
    if shape is None or lane is None or not loop or sch.extent(loop) != shape.extents[lane]:
        return [block]
    nodes = postorder(*(i for o in shape.operands for i in o.indices))
    steps = {step for n in nodes if (step := _offset(n, lane)) is not None}
    if len(steps) != 1:
        return [block]
    ((offset, modulus),) = steps
    first = -offset % modulus
    if not first or shape.extents[lane] - first < modulus:
        return [block]
    found: list[str] = []

    def cut() -> None:
        sch.reorder(loop, *(n for n in sch.loops(block) if n != loop))
        found.extend(b for piece in sch.peel(loop, [first]) for b in sch.blocks_under(piece))

    return found if attempt(sch, cut) else [block]


def _offset(node: Scalar, var: Var) -> tuple[int, int] | None:
    """What is added to a variable before a node takes its quotient or remainder, and by what this divides."""
    if not isinstance(node, Binary) or node.op not in ("floordiv", "floormod"):
        return None
    form, by = linear(node.a, {}), as_int(node.b)
    return (form.const, by) if by is not None and form.terms == {var: 1} else None
