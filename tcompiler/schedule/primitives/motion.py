"""What moving blocks needs: nests, program order, dependences, and loops made anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from tcompiler.ir.loop.analysis import accesses, touched
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterVar, LoopKind, Seq, Stmt, Store, Update, seq
from tcompiler.ir.scalar.canonical import bounds, simplify
from tcompiler.ir.scalar.grammar import (
    TRUE,
    Binary,
    Load,
    Scalar,
    Var,
    add,
    as_int,
    conjunction,
    conjuncts,
    greater_equal,
    less,
    loop_var,
    postorder,
)
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import free_vars, loads, rewrite, substitute
from tcompiler.schedule.affine.linear import linear
from tcompiler.schedule.legality import At, Condition, refuse
from tcompiler.schedule.primitives.boxes import ZERO, Span, clip
from tcompiler.schedule.tree import fresh, tree


def nest(function: Function, block: Block) -> Stmt:
    """The largest statement that holds this block and no other statement beside it."""
    parent = tree(function).parent
    stmt: Stmt = block
    above = parent[stmt]
    while isinstance(above, For):
        stmt, above = above, parent[above]
    return stmt


def top(function: Function, stmt: Stmt) -> Stmt:
    """The statement at the function's top level that holds this one."""
    parent = tree(function).parent
    above = parent[stmt]
    while above is not None and not (isinstance(above, Seq) and parent[above] is None):
        stmt, above = above, parent[above]
    return stmt


def child_towards(function: Function, loop: For, block: Block) -> Stmt:
    """The statement directly in a loop's body (or one of its sequence) that holds a block below the loop."""
    parent = tree(function).parent
    stmt: Stmt = block
    while True:
        above = parent[stmt]
        if above is loop or (isinstance(above, Seq) and parent[above] is loop):
            return stmt
        assert above is not None
        stmt = above


def rebuilt(
    function: Function,
    changes: Mapping[Stmt, Stmt],
    *,
    before: Mapping[Stmt, Stmt] | None = None,
    after: Mapping[Stmt, Stmt] | None = None,
    buffers: tuple[Buffer, ...] | None = None,
) -> Function:
    """The function with several statements of its tree replaced and others put beside them, in one pass.

    Args:
        function: The function.
        changes: What to replace; an empty Seq removes, and loops that are left with nothing to do go as well. No
            statement that is replaced holds another one that is named here.
        before: What to put in front of a statement.
        after: What to put behind a statement.
        buffers: The buffers of the new function, if they change.
    """
    before, after = before or {}, after or {}
    parent = tree(function).parent
    marked: set[Stmt] = set()
    for named in (changes, before, after):
        for s in named:
            above = parent[s]
            while above is not None and above not in marked:
                marked.add(above)
                above = parent[above]

    def build(stmt: Stmt) -> Stmt:
        new = changes.get(stmt)
        if new is None:
            new = stmt
            if stmt in marked:
                if isinstance(stmt, For):
                    body = build(stmt.body)
                    empty = isinstance(body, Seq) and not body.stmts
                    new = body if empty else For(stmt.var, stmt.kind, body, stmt.annotations)
                else:
                    assert isinstance(stmt, Seq)
                    new = seq(*[build(s) for s in stmt.stmts])
        first, last = before.get(stmt), after.get(stmt)
        if first is not None or last is not None:
            new = seq(*[s for s in (first, new, last) if s is not None])
        return new

    return Function(
        function.name,
        function.params,
        function.buffers if buffers is None else buffers,
        function.inputs,
        function.outputs,
        build(function.body),
    )


def readers(function: Function, buffer: str) -> list[Block]:
    """The blocks that read or update a buffer, in program order."""
    return [b for b in tree(function).blocks.values() if buffer in touched(b).reads]


def writers(function: Function, buffer: str) -> list[Block]:
    """The blocks that write a buffer, in program order."""
    return [b for b in tree(function).blocks.values() if buffer in touched(b).writes]


def parts(loop: For) -> tuple[Stmt, ...]:
    """The statements that a loop runs one after another."""
    return loop.body.stmts if isinstance(loop.body, Seq) else (loop.body,)


def order(function: Function) -> dict[str, int]:
    """Every block's position in program order."""
    return {name: k for k, name in enumerate(tree(function).blocks)}


def shared_loops(function: Function, a: Stmt, b: Stmt) -> list[For]:
    """The loops around both statements, outermost first (a loop counts as around itself)."""
    t = tree(function)
    first = t.loops_above(a) + ([a] if isinstance(a, For) else [])
    second = t.loops_above(b) + ([b] if isinstance(b, For) else [])
    result = []
    for x, y in zip(first, second, strict=False):
        if x is not y:
            break
        result.append(x)
    return result


def is_output(function: Function, buffer: str) -> bool:
    """Whether the caller sees the buffer."""
    return buffer in function.outputs or buffer in function.inputs


def written_once(failed: Condition, function: Function, block: Block, verb: str) -> None:
    """Refuses where another block writes what this one writes."""
    for name in sorted(touched(block).writes):
        for other in writers(function, name):
            if other is not block:
                refuse(
                    failed,
                    other,
                    f"{name}, which {block.name} writes, is also written by {other.name}",
                    f"{verb} before the block is split in several (decompose_reduction, peel)",
                )


def bound_to(block: Block, around: Set[Var]) -> set[Scalar]:
    """The iter vars of a block that are bound to expressions of the given loop variables, constants left out."""
    result: set[Scalar] = set()
    for it, binding in zip(block.iters, block.bindings, strict=True):
        running = [v for v in free_vars(binding) if v.extent is not None]
        if running and all(v in around for v in running):
            result.add(it.var)
    return result


def untied(failed: Condition, block: Block, spans: Mapping[Scalar, Span], kept: Set[Scalar]) -> None:
    """Refuses a block whose iter vars would get new loops although the old ones say more than their domains.

    So it is where the loops that feed an iter var feed another one too, and where what the block writes does not
    depend on a spatial iter var: its buffer is private to a loop that would not stay around.
    """
    fed = [{v for v in free_vars(b) if v.extent is not None} for b in block.bindings]
    named = [frozenset().union(*map(free_vars, w.indices)) for w in accesses(block).writes]
    for k, it in enumerate(block.iters):
        if it.var in kept or it.var in spans or not fed[k]:
            continue
        tied = [fed[k] & fed[j] for j in range(len(fed)) if j != k and fed[k] & fed[j]]
        if it.kind == "spatial" and not all(it.var in variables for variables in named):
            tied.append(fed[k])
        if tied:
            loop = min(v.name for v in tied[0])
            refuse(
                failed,
                At(block, f"{it.var.name} = "),
                f"{it.var.name} of {block.name} is tied to {loop}, which would not stay around it",
                f"choose a loop inside {loop}, or move {block.name} before a buffer is made private to {loop}",
            )


def own_domain(block: Block) -> list[Scalar]:
    """The conjuncts of a block's predicate that leave out points of its iter vars' domains.

    What keeps a binding inside its domain leaves out none, nor does what keeps the digits of a binding from running on
    (``i0 * 3 + i1 < 4`` beside the binding ``i * 4 + i0 * 3 + i1``): the next digit reaches the same values.
    """
    if block.predicate is TRUE:
        return []
    inside: set[Scalar] = set()
    facts: list[Scalar] = []
    sums: list[tuple[Scalar, int | None]] = []
    for it, binding in zip(block.iters, block.bindings, strict=True):
        assert it.var.extent is not None
        upper, lower = less(binding, it.var.extent), greater_equal(binding, 0)
        inside.update((upper, lower, simplify(upper), simplify(lower)))
        facts += [upper, lower]
        sums.append((binding, as_int(it.var.extent)))
        for node in postorder(binding):
            if isinstance(node, Binary) and node.op in ("floordiv", "floormod"):
                sums.append((node.a, None))
        if isinstance(binding, Binary) and binding.op == "floordiv" and (as_int(binding.b) or 0) > 0:
            # the leading part of a fused index: x // c < n says that x < c * n
            fused = less(binding.a, it.var.extent * binding.b)
            inside.update((fused, simplify(fused)))
    return [
        c
        for c in conjuncts(block.predicate)
        if c not in inside
        and simplify(c) not in inside
        and not any(_keeps_digit(c, s, n) for s, n in sums)
        and prove(c, facts) is not True
    ]


def _keeps_digit(c: Scalar, whole_sum: Scalar, extent: int | None) -> bool:
    """Whether a condition s < n bounds a digit of a sum that needs to reach all numbers below the extent.

    The digit is m * s; beside it stand terms that stay below m, and multiples of m * n that go on where it ends.
    """
    n = as_int(c.b) if isinstance(c, Binary) and c.op == "lt" else None
    if n is None or n < 1:
        return False
    assert isinstance(c, Binary)
    digit, offset = linear(c.a)
    terms, constant = linear(whole_sum)
    if offset or constant or not digit:
        return False
    first, by = next(iter(digit.items()))
    weight, rest = divmod(terms.get(first, 0), by) if by > 0 else (0, 1)
    if rest or weight < 1 or any(terms.get(atom) != weight * by for atom, by in digit.items()):
        return False
    below, above = 0, [] if extent is None else [extent]
    for atom, by in terms.items():
        if atom in digit:
            continue
        if by % (weight * n) == 0:
            above.append(by)
            continue
        high = bounds(atom)[1]
        if high is None or by < 0:
            return False
        below += by * high
    return below < weight and bool(above) and min(above) <= weight * n


def within(values: Iterable[tuple[Scalar, Scalar]]) -> list[Scalar]:
    """The conditions 0 <= value < extent that are not provable, for (value, extent) pairs."""
    conditions = []
    for value, extent in values:
        for c in (greater_equal(value, 0), less(value, extent)):
            if prove(c) is not True:
                conditions.append(simplify(c))
    return conditions


def loops(variables: Sequence[Var], body: Stmt, kinds: Sequence[LoopKind] | None = None) -> Stmt:
    """A nest of loops around a body, the first variable outermost; serial unless kinds are given."""
    for k in range(len(variables) - 1, -1, -1):
        body = For(variables[k], "serial" if kinds is None else kinds[k], body)
    return body


def regenerated(
    block: Block,
    spans: Mapping[Scalar, Span],
    kept: Set[Scalar],
    used: set[str],
    conditions: Sequence[Scalar] = (),
) -> tuple[Block, list[Var]]:
    """A block for new serial loops, one per iter var, that run over the given spans.

    Args:
        block: The block; its old bindings and predicate are dropped.
        spans: What to run over, clipped by predicates to the iter vars' domains; the whole domain where not given.
        kept: Iter vars that keep their bindings.
        used: Names in use; those of the new loops (`{block}_ax{k}`, k counting iter vars) are added.
        conditions: More conjuncts for the predicate, over the block's iter vars and the loops around.

    Returns:
        The block, and the variables of its loops, those of spatial iter vars outside.
    """
    bindings: list[Scalar] = []
    outer: list[Var] = []
    inner: list[Var] = []
    bounded: list[tuple[Scalar, Scalar]] = []
    for k, (it, old) in enumerate(zip(block.iters, block.bindings, strict=True)):
        if it.var in kept:
            assert it.var.extent is not None
            bindings.append(old)
            bounded.append((old, it.var.extent))
            continue
        extent = it.var.extent
        assert extent is not None
        span = clip(spans.get(it.var), extent)
        value = span.start
        if as_int(span.extent) != 1:
            (name,) = fresh(used, [f"{block.name}_ax{k}"])
            var = loop_var(name, span.extent)
            (outer if it.kind == "spatial" else inner).append(var)
            value = add(span.start, var)
        bindings.append(value)
        if not (span.start is ZERO and span.extent is extent):
            bounded.append((value, extent))
    predicate: dict[Scalar, None] = {}
    if conditions:
        mapping: dict[Scalar, Scalar] = {it.var: b for it, b in zip(block.iters, bindings, strict=True)}
        predicate = dict.fromkeys(and_parts(conditions, mapping))
    predicate.update(dict.fromkeys(within(bounded)))
    moved = Block(
        block.name,
        block.iters,
        tuple(bindings),
        block.body,
        conjunction(*predicate),
        block.init,
        block.opaque,
        block.reads,
        block.writes,
        block.annotations,
    )
    return moved, outer + inner


def with_iters(
    block: Block,
    more: Iterable[tuple[IterVar, Scalar]],
    body: Stmt,
    init: Stmt | None,
) -> Block:
    """The block with more iter vars, another body and another init."""
    added = list(more)
    return Block(
        block.name,
        (*block.iters, *(it for it, _ in added)),
        (*block.bindings, *(b for _, b in added)),
        body,
        block.predicate,
        init,
        block.opaque,
        block.reads,
        block.writes,
        block.annotations,
    )


Retarget = Callable[[str, tuple[Scalar, ...]], tuple[str, tuple[Scalar, ...]]]


def retarget(stmt: Stmt, buffers: Set[str], at: Retarget, *, reads: bool = True, writes: bool = True) -> Stmt:
    """Sends the accesses to some buffers elsewhere.

    Args:
        stmt: A statement without nested blocks and intrinsics on these buffers.
        buffers: Names of the buffers.
        at: The new buffer and indices of an access.
        reads: Change loads.
        writes: Change targets of stores and updates.
    """

    def load(node: Scalar) -> Scalar:
        if isinstance(node, Load) and node.buffer in buffers:
            name, indices = at(node.buffer, node.indices)
            return Load(name, node.dtype, indices)
        return node

    def value(node: Scalar) -> Scalar:
        if not reads or all(n.buffer not in buffers for n in loads(node)):
            return node
        return rewrite(node, load)

    return map_scalars(stmt, value, (lambda b, i: at(b, i) if b in buffers else (b, i)) if writes else None)


def map_scalars(stmt: Stmt, value: Callable[[Scalar], Scalar], target: Retarget | None = None) -> Stmt:
    """Applies `value` to every expression of a statement and `target` to every element it writes; loops keep theirs."""
    match stmt:
        case Store(buffer=buffer, indices=indices, value=v):
            indices = tuple(map(value, indices))
            if target is not None:
                buffer, indices = target(buffer, indices)
            return Store(buffer, indices, value(v))
        case Update(targets=targets, reducer=reducer, values=values):
            new = []
            for t in targets:
                name, indices = t.buffer, tuple(map(value, t.indices))
                if target is not None:
                    name, indices = target(name, indices)
                new.append(Load(name, t.dtype, indices))
            return Update(tuple(new), reducer, tuple(map(value, values)))
        case Seq(stmts=stmts):
            return seq(*[map_scalars(s, value, target) for s in stmts])
        case For(var=var, kind=kind, body=body, annotations=annotations):
            return For(var, kind, map_scalars(body, value, target), annotations)
        case _:
            return stmt


def simple_body(block: Block) -> bool:
    """Whether a block consists of stores and updates, in loops perhaps: no blocks, no intrinsics, nothing opaque."""
    a = accesses(block)
    if block.opaque or a.read_regions or a.write_regions:
        return False
    stack = [block.body] if block.init is None else [block.body, block.init]
    while stack:
        s = stack.pop()
        match s:
            case Store() | Update():
                pass
            case Seq(stmts=stmts):
                stack.extend(stmts)
            case For(body=body):
                stack.append(body)
            case _:
                return False
    return True


def lanes_above(failed: Condition, function: Function, loop: For, what: str) -> None:
    """Refuses where a loop or one around it is vectorized."""
    for around in (*tree(function).loops_above(loop), loop):
        if around.kind == "vectorized":
            refuse(
                failed,
                around,
                f"the loop {around.var.name} is vectorized: its iterations are lanes, which hold no {what}",
                "vectorize afterwards, or choose a loop outside",
            )


def block_with_init(block: Block) -> bool:
    """Whether a block is a whole reduction: spatial and reduce iters, an init, an Update."""
    return block.init is not None and isinstance(block.body, Update)


def reads_own_target(block: Block) -> bool:
    """Whether a block reads what it writes, apart from the targets of its updates."""
    a = accesses(block)
    names = touched(block).writes
    return any(r.buffer in names for r in a.reads) or any(r.buffer in names for r in a.read_regions)


def whole(failed: Condition, block: Block, verb: str) -> None:
    """Refuses a block that cannot be computed at will: each point once more or elsewhere gives the same."""
    ordered = [it for it in block.iters if it.kind == "ordered"]
    if ordered:
        name = ordered[0].var.name
        refuse(
            failed,
            At(block, f"{name} = ordered"),
            f"{block.name} runs {name} in order",
            f"{verb} only blocks of spatial and reduce iters",
        )
    elif not simple_body(block):
        refuse(
            failed,
            block,
            f"{block.name} is opaque, or holds blocks or intrinsics",
            f"{verb} it before it is made so",
        )
    elif reads_own_target(block):
        refuse(
            failed,
            block,
            f"{block.name} reads what it writes",
            "let it write another buffer (cache_write)",
        )
    elif accesses(block).updates and not block_with_init(block):
        refuse(
            failed,
            block,
            f"{block.name} updates {accesses(block).updates[0].buffer} and has no init",
            f"{verb} before decompose_reduction takes the init away",
        )


def guarded_only_by_domain(failed: Condition, block: Block, verb: str) -> None:
    """Refuses a block whose predicate leaves out points of its domain."""
    if own_domain(block):
        _leaves_out(failed, block, verb)


def on_iter_vars(failed: Condition, block: Block, verb: str) -> list[Scalar]:
    """What a block's predicate asks beside the domains of its iter vars, as conditions on these; refuses others."""
    extra = own_domain(block)
    plain: dict[Scalar, Scalar] = {
        b: it.var
        for it, b in zip(block.iters, block.bindings, strict=True)
        if isinstance(b, Var) and b.extent is not None
    }
    if any(v.extent is not None and v not in plain for c in extra for v in free_vars(c)):
        _leaves_out(failed, block, verb)
    return [substitute(c, plain) for c in extra]


def _leaves_out(failed: Condition, block: Block, verb: str) -> None:
    refuse(
        failed,
        At(block, "where="),
        f"the predicate of {block.name} leaves out points of its iter vars' domains",
        f"{verb} before the block is split in several (peel), or shrink the domains to what is computed",
    )


def buffer_of(function: Function, name: str) -> Buffer:
    """The buffer with a name that is known to exist."""
    return next(b for b in function.buffers if b.name == name)


def and_parts(nodes: Iterable[Scalar], mapping: Mapping[Scalar, Scalar]) -> list[Scalar]:
    """Conditions with variables replaced, simplified; those that hold always are left out."""
    result = []
    for c in nodes:
        new = simplify(substitute(c, mapping))
        if new is TRUE:
            continue
        result.append(new)
    return result
