"""Facts about loop functions that schedules and code generators ask for again and again.

Everything here is computed once per object and kept with it (`grammar.memo`). A rewrite copies only the path to what
it changes, so the facts of blocks that it does not touch stay.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from tcompiler.ir.loop.grammar import (
    Block,
    Commit,
    For,
    Function,
    Intrinsic,
    Region,
    Seq,
    Stmt,
    Store,
    Update,
    Wait,
    children,
    memo,
    seq,
)
from tcompiler.ir.scalar.canonical import bounds, simplify
from tcompiler.ir.scalar.grammar import (
    Binary,
    Load,
    Scalar,
    Var,
    as_int,
    floordiv,
    index,
    maximum,
    minimum,
    mul,
)
from tcompiler.ir.scalar.rewrite import free_vars, loads, substitute

_ZERO = index(0)


class Access(NamedTuple):
    """An element of a buffer that a block touches; a Load can stand wherever an Access is asked for."""

    buffer: str
    indices: tuple[Scalar, ...]


class Accesses(NamedTuple):
    """What a block touches, over its iter vars and the loops inside it, each access once, in program order.

    Attributes:
        reads: Loads in values and indices. The targets of an Update are not among them.
        writes: Targets of stores and updates, those of init included.
        updates: Targets of updates, which are read as well as written.
        read_regions: Regions that intrinsics read. An opaque block has the declared ones, and nothing in `reads`.
        write_regions: Regions that intrinsics write. An opaque block has the declared ones, and nothing in `writes`.
    """

    reads: tuple[Load, ...]
    writes: tuple[Access, ...]
    updates: tuple[Load, ...]
    read_regions: tuple[Region, ...]
    write_regions: tuple[Region, ...]


def accesses(block: Block) -> Accesses:
    """What a block reads and writes; blocks nested in it are seen through their bindings."""
    return Accesses((), (), (), block.reads, block.writes) if block.opaque else body_accesses(block)


def body_accesses(block: Block) -> Accesses:
    """What the body and the init of a block read and write, even if the block is opaque and declares it."""
    facts = memo(block)
    result: Accesses | None = facts.get("accesses")
    if result is None:
        collector = _Collector()
        if block.init is not None:
            collector.visit(block.init)
        collector.visit(block.body)
        result = facts["accesses"] = collector.result()
    return result


class _Collector:
    """Gathers accesses; dictionaries keep the first occurrence's place."""

    def __init__(self) -> None:
        self.reads: dict[Load, None] = {}
        self.writes: dict[Access, None] = {}
        self.updates: dict[Load, None] = {}
        self.read_regions: list[Region] = []
        self.write_regions: list[Region] = []

    def result(self) -> Accesses:
        return Accesses(
            tuple(self.reads),
            tuple(self.writes),
            tuple(self.updates),
            tuple(self.read_regions),
            tuple(self.write_regions),
        )

    def _loads(self, *values: Scalar) -> None:
        for value in values:
            for load in loads(value):
                self.reads[load] = None

    def visit(self, stmt: Stmt) -> None:
        stack = [stmt]
        while stack:
            s = stack.pop()
            match s:
                case Store(buffer=buffer, indices=indices, value=value):
                    self._loads(*indices, value)
                    self.writes[Access(buffer, indices)] = None
                case Update(targets=targets, values=values):
                    for t in targets:
                        self._loads(*t.indices)
                        self.writes[Access(t.buffer, t.indices)] = None
                        self.updates[t] = None
                    self._loads(*values)
                case Intrinsic(writes=writes, reads=reads, args=args):
                    self._loads(*args)
                    for r in (*writes, *reads):
                        for start, extent in r.ranges:
                            self._loads(start, extent)
                    self.read_regions.extend(reads)
                    self.write_regions.extend(writes)
                case Block():
                    self._nested(s)
                case For() | Seq() | Commit() | Wait():
                    stack.extend(reversed(children(s)))

    def _nested(self, block: Block) -> None:
        """Takes a nested block's accesses with its iter vars replaced by their bindings."""
        inner = accesses(block)
        mapping: dict[Scalar, Scalar] = {
            it.var: binding for it, binding in zip(block.iters, block.bindings, strict=True)
        }

        def at(indices: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
            return tuple(substitute(i, mapping) for i in indices)

        def shifted(region: Region) -> Region:
            return Region(
                region.buffer, tuple((substitute(a, mapping), substitute(b, mapping)) for a, b in region.ranges)
            )

        for r in inner.reads:
            self.reads[Load(r.buffer, r.dtype, at(r.indices))] = None
        for w in inner.writes:
            self.writes[Access(w.buffer, at(w.indices))] = None
        for u in inner.updates:
            self.updates[Load(u.buffer, u.dtype, at(u.indices))] = None
        self.read_regions.extend(map(shifted, inner.read_regions))
        self.write_regions.extend(map(shifted, inner.write_regions))


class Touched(NamedTuple):
    """Names of the buffers that a statement reads (updates' targets included) and writes."""

    reads: frozenset[str]
    writes: frozenset[str]


def _names_of(a: Accesses) -> Touched:
    reads = {r.buffer for r in (*a.reads, *a.updates)} | {r.buffer for r in a.read_regions}
    writes = {w.buffer for w in a.writes} | {r.buffer for r in a.write_regions}
    return Touched(frozenset(reads), frozenset(writes))


_NOTHING = Touched(frozenset(), frozenset())


def touched(stmt: Stmt) -> Touched:
    """The buffers that a statement reads and writes, everything inside it included."""
    facts = memo(stmt)
    result: Touched | None = facts.get("touched")
    if result is None:
        match stmt:
            case Block():
                a = accesses(stmt)
                result = _names_of(a)
            case For(body=body):
                result = touched(body)
            case Seq(stmts=stmts):
                parts = [touched(s) for s in stmts]
                result = Touched(
                    frozenset().union(*(p.reads for p in parts)), frozenset().union(*(p.writes for p in parts))
                )
            case Store() | Update() | Intrinsic():
                collector = _Collector()
                collector.visit(stmt)
                a = collector.result()
                result = _names_of(a)
            case Commit() | Wait():
                result = _NOTHING
        facts["touched"] = result
    return result


class Place:
    """Where a statement stands in a function: a link to the place of its parent.

    Attributes:
        stmt: The statement.
        parent: The place of the statement directly around it; None for the function's body.
        slot: Position among `children(parent.stmt)`; 0 for the function's body.
    """

    __slots__ = ("parent", "slot", "stmt")

    def __init__(self, stmt: Stmt, parent: Place | None, slot: int) -> None:
        self.stmt = stmt
        self.parent = parent
        self.slot = slot

    @property
    def path(self) -> tuple[Stmt, ...]:
        """The statements from the function's body down to this one."""
        result: list[Stmt] = []
        place: Place | None = self
        while place is not None:
            result.append(place.stmt)
            place = place.parent
        return tuple(reversed(result))

    def loops(self) -> tuple[For, ...]:
        """The loops around this statement, outermost first, this one not included."""
        result: list[For] = []
        place = self.parent
        while place is not None:
            if type(place.stmt) is For:
                result.append(place.stmt)
            place = place.parent
        result.reverse()
        return tuple(result)

    def inside(self, other: Place) -> bool:
        """Whether this place is the other one or lies below it."""
        place: Place | None = self
        while place is not None:
            if place is other:
                return True
            place = place.parent
        return False


class _Index:
    """The loops and blocks of a function by name."""

    __slots__ = ("blocks", "loops")

    def __init__(self, function: Function) -> None:
        self.loops: dict[str, Place] = {}
        self.blocks: dict[str, Place] = {}
        loops, blocks = self.loops, self.blocks
        stack = [Place(function.body, None, 0)]
        while stack:
            place = stack.pop()
            s = place.stmt
            if isinstance(s, For):
                loops[s.var.name] = place
                stack.append(Place(s.body, place, 0))
            elif isinstance(s, Block):
                blocks[s.name] = place
                if type(s.body) in _NESTING or type(s.init) in _NESTING:
                    stack.extend(Place(c, place, slot) for slot, c in reversed(tuple(enumerate(children(s)))))
            elif isinstance(s, Seq):
                stmts = s.stmts
                for slot in range(len(stmts) - 1, -1, -1):
                    if type(stmts[slot]) in _NESTING:
                        stack.append(Place(stmts[slot], place, slot))


_NESTING = frozenset({For, Block, Seq})


def _index(function: Function) -> _Index:
    facts = memo(function)
    result: _Index | None = facts.get("index")
    if result is None:
        result = facts["index"] = _Index(function)
    return result


def find(function: Function, name: str) -> Place:
    """The place of the block or loop with this name; `.path` holds its ancestors.

    Raises:
        KeyError: If the function has no such block or loop.
    """
    table = _index(function)
    place = table.blocks.get(name)
    return table.loops[name] if place is None else place


def find_block(function: Function, name: str) -> Block:
    """The block with this name.

    Raises:
        KeyError: If the function has no such block.
    """
    stmt = _index(function).blocks[name].stmt
    assert isinstance(stmt, Block)
    return stmt


def find_loop(function: Function, name: str) -> For:
    """The loop whose variable has this name.

    Raises:
        KeyError: If the function has no such loop.
    """
    stmt = _index(function).loops[name].stmt
    assert isinstance(stmt, For)
    return stmt


def loops_above(function: Function, name: str) -> tuple[For, ...]:
    """The loops around a block or loop, outermost first.

    Raises:
        KeyError: If the function has no block or loop with this name.
    """
    return find(function, name).loops()


def blocks(function: Function) -> list[Block]:
    """Every block in program order, an outer block before those nested in it."""
    return [p.stmt for p in _index(function).blocks.values() if isinstance(p.stmt, Block)]


def loops(function: Function) -> list[For]:
    """Every loop in program order, an outer loop before those inside it."""
    return [p.stmt for p in _index(function).loops.values() if isinstance(p.stmt, For)]


def replace_at(function: Function, place: Place, new: Stmt) -> Function:
    """The function with one statement replaced; only the path to it is copied.

    An empty Seq as the new statement removes the old one from the Seq around it. Loops around it stay, even if their
    bodies are empty now.
    """
    stmt = new
    while place.parent is not None:
        stmt = with_child(place.parent.stmt, place.slot, stmt)
        place = place.parent
    return with_body(function, stmt)


def with_child(parent: Stmt, slot: int, new: Stmt) -> Stmt:
    """A statement with one of its `children` replaced.

    Raises:
        TypeError: If the parent is a statement without children.
    """
    match parent:
        case For(var=var, kind=kind, annotations=annotations):
            return For(var, kind, new, annotations)
        case Seq(stmts=stmts):
            return seq(*stmts[:slot], new, *stmts[slot + 1 :])
        case Block(init=init, body=body):
            if init is not None and slot == 0:
                init = new
            else:
                body = new
            return Block(
                parent.name,
                parent.iters,
                parent.bindings,
                body,
                parent.predicate,
                init,
                parent.opaque,
                parent.reads,
                parent.writes,
                parent.annotations,
            )
        case _:
            raise TypeError(f"a {type(parent).__name__} has no children")


def with_body(function: Function, body: Stmt) -> Function:
    """The function with another body."""
    return Function(function.name, function.params, function.buffers, function.inputs, function.outputs, body)


def region(function: Function, block: Block, access: Access | Load, inner: Set[Var]) -> Region:
    """A box that holds every element an access touches while the inner loop variables run over their extents.

    Starts are expressions over the other loops around the block; extents are free of loop variables. The box is exact
    for indices that are sums of terms with distinct inner variables, one with |coefficient| 1 or nested as in 8*i + j;
    otherwise it may be larger. An index that loads, or that no bound is known for, covers its whole dimension. The box
    is not clipped to the buffer: a guarded read (padding) may reach outside.

    Args:
        function: Where the buffer is declared.
        block: Whose access it is.
        access: An access of this block, over its iter vars.
        inner: Loop variables (also those of loops inside the block) that run within the box.
    """
    mapping: dict[Scalar, Scalar] = {it.var: b for it, b in zip(block.iters, block.bindings, strict=True)}
    shape: Sequence[Scalar] | None = None
    ranges: list[tuple[Scalar, Scalar]] = []
    for k, i in enumerate(access.indices):
        span = _span(simplify(substitute(i, mapping)), inner)
        if span is None:
            if shape is None:
                shape = next(b.shape for b in function.buffers if b.name == access.buffer)
            ranges.append((_ZERO, shape[k]))
        else:
            ranges.append((simplify(span[0]), simplify(span[1] + 1)))
    return Region(access.buffer, tuple(ranges))


def _span(node: Scalar, inner: Set[Var]) -> tuple[Scalar, Scalar] | None:
    """Bounds (lo, width) with lo <= node <= lo + width for all values of the inner variables, or None."""
    if free_vars(node).isdisjoint(inner):
        return None if loads(node) else (node, _ZERO)
    if isinstance(node, Var):
        return None if node.extent is None else (_ZERO, node.extent - 1)
    if not isinstance(node, Binary):
        return None
    a = _span(node.a, inner)
    b = _span(node.b, inner)
    if node.op == "floormod" and as_int(node.b) is not None:
        c = as_int(node.b)
        assert c is not None
        if c <= 0:
            return None
        if a is not None:
            width = as_int(a[1])
            offset = as_int(simplify(a[0] % c))
            if width is not None and offset is not None and offset + width < c:
                return index(offset), a[1]
        return _ZERO, index(c - 1)
    if a is None or b is None:
        return None
    match node.op:
        case "add":
            return a[0] + b[0], a[1] + b[1]
        case "sub":
            return a[0] - b[0] - b[1], a[1] + b[1]
        case "mul":
            if b[1] is not _ZERO:
                a, b = b, a
            if b[1] is not _ZERO:
                return None
            low, high = bounds(b[0])
            if low is not None and low >= 0:
                return mul(a[0], b[0]), mul(a[1], b[0])
            if high is not None and high <= 0:
                return mul(a[0] + a[1], b[0]), mul(a[1], 0 - b[0])
            return None
        case "floordiv":
            c = as_int(node.b)
            if c is None or c <= 0:
                return None
            offset = as_int(simplify(a[0] % c))
            if offset is not None:
                return floordiv(a[0], c), floordiv(a[1] + offset, c)
            return floordiv(a[0], c), floordiv(a[1] + (c - 1), c)
        case "min":
            return minimum(a[0], b[0]), maximum(a[1], b[1])
        case "max":
            return maximum(a[0], b[0]), maximum(a[1], b[1])
        case _:
            return None
