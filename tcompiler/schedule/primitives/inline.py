"""compute_inline and reverse_compute_inline: a block's expression moves into its consumers, or into its producer."""

from __future__ import annotations

from tcompiler.ir.loop.analysis import accesses, touched
from tcompiler.ir.loop.grammar import Block, Buffer, Function, Seq, Stmt, Store, seq
from tcompiler.ir.scalar.canonical import Linear, bounds, linear, simplify
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, add, as_int, conjunction, less, sub
from tcompiler.ir.scalar.proof import prove
from tcompiler.ir.scalar.rewrite import loads, rewrite, substitute
from tcompiler.schedule.legality import Condition, Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import ZERO
from tcompiler.schedule.primitives.motion import (
    buffer_of,
    guarded_only_by_domain,
    is_output,
    map_scalars,
    nest,
    order,
    readers,
    rebuilt,
    shared_loops,
    simple_body,
    writers,
    written_once,
)
from tcompiler.schedule.tree import block_named, tree

CI_STORE = condition("compute_inline.store", "the block has spatial iters only and its body is one Store")
CI_INDEX = condition(
    "compute_inline.index",
    "the Store's indices are distinct plain iter vars, and there are no others of more than one value",
)
CI_DOMAIN = condition("compute_inline.domain", "the block's predicate only keeps its iter vars inside their domains")
CI_INTERMEDIATE = condition("compute_inline.intermediate", "the block writes no output of the function")
CI_WRITER = condition("compute_inline.sole_writer", "the block is the only writer of what it writes")
CI_CONSUMERS = condition("compute_inline.consumers", "somebody reads what the block writes, by plain loads, after it")
CI_INPUTS = condition(
    "compute_inline.inputs", "what the block reads is complete, and not written again, where its consumers stand"
)

RCI_STORE = condition("reverse_compute_inline.store", "the block has spatial iters only and its body is one Store")
RCI_INDEX = condition(
    "reverse_compute_inline.index",
    "the block reads the producer's buffer at one place, by distinct plain iter vars, each from the first to the last "
    "or back, and has no others of more than one value",
)
RCI_EXTENT = condition(
    "reverse_compute_inline.extent", "no iter var that reads the producer's buffer reaches beyond it"
)
RCI_DOMAIN = condition(
    "reverse_compute_inline.domain", "the block's predicate only keeps its iter vars inside their domains"
)
RCI_PRODUCER = condition(
    "reverse_compute_inline.producer",
    "the block reads an intermediate buffer whose writers have no reduce iters, and each one Store to it among Stores "
    "alone",
)
RCI_CONSUMER = condition("reverse_compute_inline.sole_consumer", "nothing else reads what the producer writes")
RCI_INPUTS = condition(
    "reverse_compute_inline.inputs", "everything else that the block reads is complete where the producer stands"
)
RCI_TARGET = condition(
    "reverse_compute_inline.target",
    "nothing between the producer and the block reads what the block writes, nor writes the same elements",
)

RCI_PRIVATE = condition(
    "reverse_compute_inline.private",
    "no parallel loop around the producer that is not around the block, where the block writes a private buffer",
)


@primitive
def compute_inline(function: Function, block: str) -> Result:
    """Puts the value that a block stores in the place of every load of it; the block and its buffer go.

    Before:

        with block("B"):  vi = spatial(64, i); B[vi] = exp(A[vi])
        with block("C"):  vi = spatial(62, i); vr = reduce(3, r); C[vi] += B[vi + vr]

    After ``compute_inline("B")``:

        with block("C"):  vi = spatial(62, i); vr = reduce(3, r); C[vi] += exp(A[vi + vr])

    Loads that a Select guards stay guarded.

    Args:
        function: The function.
        block: The producer.

    Returns:
        The new function, and no names.

    Raises:
        ScheduleError: If a condition of compute_inline does not hold.
    """
    b = block_named(function, block)
    store = _one_store(CI_STORE, b, "inline")
    places = _plain(CI_INDEX, function, b, store.buffer, store.indices, [store.value])
    guarded_only_by_domain(CI_DOMAIN, b, "inline")
    if is_output(function, store.buffer):
        refuse(
            CI_INTERMEDIATE,
            b,
            f"{block} writes the output {store.buffer}",
            "inline its consumers into it instead (reverse_compute_inline)",
        )
    written_once(CI_WRITER, function, b, "inline it")
    at = order(function)
    consumers = readers(function, store.buffer)
    if not consumers:
        refuse(CI_CONSUMERS, b, f"nothing reads {store.buffer}", "choose a block with consumers")
    for reader in consumers:
        if reader is b or not simple_body(reader) or at[reader.name] < at[block]:
            refuse(
                CI_CONSUMERS,
                reader,
                f"{reader.name} reads {store.buffer} {'by regions' if at[reader.name] > at[block] else 'too early'}",
                "choose a block that is read by plain loads after it",
            )
        _complete_at(CI_INPUTS, function, b, reader)

    unit: dict[Scalar, Scalar] = {it.var: ZERO for it in b.iters if it.var not in places}

    def load(node: Scalar) -> Scalar:
        if not isinstance(node, Load) or node.buffer != store.buffer:
            return node
        return substitute(store.value, {**unit, **{v: node.indices[k] for v, k in places.items()}})

    def value(node: Scalar) -> Scalar:
        return rewrite(node, load) if any(n.buffer == store.buffer for n in loads(node)) else node

    changes: dict[Stmt, Stmt] = {nest(function, b): Seq(())}
    for reader in consumers:
        changes[reader] = Block(
            reader.name,
            reader.iters,
            reader.bindings,
            map_scalars(reader.body, value),
            reader.predicate,
            None if reader.init is None else map_scalars(reader.init, value),
            annotations=reader.annotations,
        )
    return Result(rebuilt(function, changes, buffers=_without(function, store.buffer)))


@primitive
def reverse_compute_inline(function: Function, block: str) -> Result:
    """Puts what an elementwise block does to its producer's values into the producer; the block goes.

    Before:

        with block("B"):  vi = spatial(64, i); vj = spatial(32, j); B[vi, vj] = acc[vi, vj]
        with block("C"):  vi = spatial(64, i); vj = spatial(32, j); C[vj, vi] = max(B[vi, vj] + bias[vj], f32(0.0))

    After ``reverse_compute_inline("C")``:

        with block("B"):  vi = spatial(64, i); vj = spatial(32, j); C[vj, vi] = max(acc[vi, vj] + bias[vj], f32(0.0))

    The producer's buffer goes; where it has several writers (main part and tails after a peel) each of them takes the
    expression. If the block covers a part of the buffer only, the writers' predicates leave out the rest.

    Args:
        function: The function.
        block: The consumer.

    Returns:
        The new function, and no names.

    Raises:
        ScheduleError: If a condition of reverse_compute_inline does not hold.
    """
    b = block_named(function, block)
    store = _one_store(RCI_STORE, b, "inline")
    guarded_only_by_domain(RCI_DOMAIN, b, "inline")
    buffer, made = _producer(function, b)
    for other in readers(function, buffer.name):
        if other is not b:
            refuse(
                RCI_CONSUMER,
                other,
                f"{other.name} reads {buffer.name} too",
                f"inline or move {other.name} first, or compute {block} at a loop (reverse_compute_at)",
            )
    sources = [r for r in accesses(b).reads if r.buffer == buffer.name]
    if len(sources) > 1:
        refuse(
            RCI_INDEX,
            b,
            f"{block} reads {buffer.name} at several places: {sources[0]!r} and {sources[1]!r}",
            "compute it at a loop (reverse_compute_at), or inline the producer (compute_inline)",
        )
    source = sources[0]
    places = _plain(RCI_INDEX, function, b, buffer.name, source.indices, [*store.indices, store.value], mirrored=True)
    for var, k in places.items():
        if prove(less(var, buffer.shape[k])) is not True:
            refuse(
                RCI_EXTENT,
                b,
                f"{var.name} runs to {var.extent!r} and dimension {k} of {buffer.name} has "
                f"{buffer.shape[k]!r} elements",
                "leave it a block of its own, or split the part that the guard selects off first",
            )
    for maker, _ in made:
        _complete_at(RCI_INPUTS, function, b, maker, but=buffer.name)
        _private(function, b, store.buffer, maker)
    _target_free(function, b, store, [maker for maker, _ in made])

    unit: dict[Scalar, Scalar] = {it.var: ZERO for it in b.iters if it.var not in places}
    changes: dict[Stmt, Stmt] = {nest(function, b): Seq(())}
    for maker, stored in made:
        mapping: dict[Scalar, Scalar] = {
            **unit,
            **{v: _solved(stored.indices[k], source.indices[k], v) for v, k in places.items()},
            source: stored.value,
        }
        body = Store(
            store.buffer,
            tuple(substitute(i, mapping) for i in store.indices),
            substitute(store.value, mapping),
        )
        bound: dict[Scalar, Scalar] = {it.var: e for it, e in zip(maker.iters, maker.bindings, strict=True)}
        part = []
        for var, k in places.items():
            size = as_int(buffer.shape[k])
            assert var.extent is not None
            if var.extent is not buffer.shape[k] and (size is None or size != as_int(var.extent)):
                covered = simplify(less(substitute(stored.indices[k], bound), var.extent))
                if prove(covered) is not True:
                    part.append(covered)
        changes[maker] = Block(
            maker.name,
            maker.iters,
            maker.bindings,
            seq(*(body if s is stored else s for s in _stores(maker))),
            conjunction(maker.predicate, *part),
            None,
            annotations=maker.annotations,
        )
    return Result(rebuilt(function, changes, buffers=_without(function, buffer.name)))


def _one_store(failed: Condition, b: Block, verb: str) -> Store:
    if not isinstance(b.body, Store) or b.init is not None or b.opaque or any(i.kind != "spatial" for i in b.iters):
        refuse(
            failed,
            b,
            f"{b.name} is no elementwise block",
            f"{verb} blocks that store one value per point; compute others at a loop",
        )
    assert isinstance(b.body, Store)
    if any(r.buffer == b.body.buffer for r in accesses(b).reads):
        refuse(failed, b, f"{b.name} reads what it writes", "let it write another buffer (cache_write)")
    return b.body


def _plain(
    failed: Condition,
    function: Function,
    b: Block,
    buffer: str,
    indices: tuple[Scalar, ...],
    values: list[Scalar],
    mirrored: bool = False,
) -> dict[Var, int]:
    """The dimension that each iter var indexes; dimensions and iter vars of one value need not take part.

    With `mirrored`, an iter var may index its dimension from the end.
    """
    shape = buffer_of(function, buffer).shape
    places: dict[Var, int] = {}
    for k, node in enumerate(indices):
        var = _mirrored(node, shape[k]) if mirrored else None
        if isinstance(node, Var) and node not in places:
            places[node] = k
        elif var is not None and var not in places:
            places[var] = k
        elif not (as_int(node) == 0 and as_int(shape[k]) == 1):
            refuse(
                failed,
                b,
                f"index {k} of {buffer} in {b.name} is {node!r}",
                "compute the block at a loop of the others instead (compute_at, reverse_compute_at)",
            )
    for it in b.iters:
        if it.var not in places and as_int(it.var.extent) != 1:
            refuse(
                failed,
                b,
                f"{it.var.name} of {b.name} does not index {buffer}",
                "compute the block at a loop of the others instead (compute_at, reverse_compute_at)",
            )
    return places


def _mirrored(node: Scalar, size: Scalar) -> Var | None:
    """The variable that an index counts back from the last element to the first, if it does."""
    form = linear(node)
    var, by = next(iter(form.terms.items()), (None, 0))
    if not isinstance(var, Var) or len(form.terms) != 1 or by != -1 or var.extent is not size:
        return None
    return var if as_int(size) == form.const + 1 else None


def _complete_at(failed: Condition, function: Function, b: Block, place: Block, but: str | None = None) -> None:
    """Refuses where something that a block reads is not yet complete, or written again, where another block stands."""
    at = order(function)
    stay = shared_loops(function, b, place)
    low, high = sorted((at[b.name], at[place.name]))
    for name in sorted(touched(b).reads):
        if name == but:
            continue
        for other in writers(function, name):
            if other is b:
                continue
            before = shared_loops(function, other, b)
            if any(s not in stay for s in before) or any(s not in before for s in shared_loops(function, other, place)):
                shared = (before if len(before) > len(stay) else shared_loops(function, other, place))[-1]
                refuse(
                    failed,
                    other,
                    f"{other.name} writes {name}, which {b.name} reads, in the same iteration of {shared.var.name}",
                    f"move or inline {other.name} first",
                )
            elif low <= at[other.name] <= high:
                refuse(
                    failed,
                    other,
                    f"{other.name} writes {name}, which {b.name} reads, between {b.name} and {place.name}"
                    if at[b.name] < at[place.name]
                    else f"{other.name} writes {name}, which {b.name} reads, after {place.name}",
                    f"move or inline {other.name} first",
                )


def _producer(function: Function, b: Block) -> tuple[Buffer, list[tuple[Block, Store]]]:
    """The buffer to fold and its writers."""
    found: list[tuple[Buffer, list[tuple[Block, Store]]]] = []
    reason = f"{b.name} reads no intermediate buffer"
    for name in sorted(touched(b).reads):
        if is_output(function, name):
            continue
        makers = writers(function, name)
        stores = [
            (w, own[0])
            for w in makers
            if w.init is None
            and all(i.kind != "reduce" for i in w.iters)
            and name not in touched(w).reads
            and len(own := [s for s in _stores(w) if s.buffer == name]) == 1
        ]
        if makers and len(stores) == len(makers):
            found.append((buffer_of(function, name), stores))
        elif makers:
            other = next(w for w in makers if all(w is not s for s, _ in stores))
            reason = f"{other.name}, which writes {name}, is no elementwise block"
    if not found:
        refuse(
            RCI_PRODUCER,
            b,
            reason,
            "stage the reduction with all its reduce loops inside (stage_accumulate, cache_write), or compute the "
            "block at a loop (reverse_compute_at)",
        )
    at = order(function)
    # several candidates: the one written last, so that all other inputs stand before it
    return max(found, key=lambda f: min(at[w.name] for w, _ in f[1]))


def _stores(b: Block) -> list[Store]:
    """The stores that a block's body is made of; none where it is made of anything else."""
    parts = b.body.stmts if isinstance(b.body, Seq) else (b.body,)
    stores = [s for s in parts if isinstance(s, Store)]
    return stores if len(stores) == len(parts) and simple_body(b) else []


def _solved(value: Scalar, index_: Scalar, var: Var) -> Scalar:
    """The value of an iter var for which an index, the iter var itself or a constant less it, has a value."""
    return value if index_ is var else simplify(sub(add(index_, var), value))


def _target_free(function: Function, b: Block, store: Store, made: list[Block]) -> None:
    at = order(function)
    first = min(at[m.name] for m in made)
    for other in tree(function).blocks.values():
        if other is b or other in made:
            continue
        names = touched(other)
        if store.buffer in names.reads:
            for maker in made:
                shared = shared_loops(function, other, b)
                if first < at[other.name] < at[b.name] or any(
                    s not in shared_loops(function, maker, b) for s in shared
                ):
                    refuse(
                        RCI_TARGET,
                        other,
                        f"{other.name} reads {store.buffer}, which {b.name} writes, on the way from {maker.name}",
                        f"move {other.name} first",
                    )
        if store.buffer in names.writes and not _apart(other, b, store.buffer):
            refuse(
                RCI_TARGET,
                other,
                f"{other.name} writes {store.buffer} too",
                f"inline {b.name} before {other.name} writes there",
            )


def _private(function: Function, b: Block, buffer: str, maker: Block) -> None:
    """Refuses where the consumer's target would become private to a parallel loop around the producer."""
    if buffer_of(function, buffer).scope == "global":
        return
    for s in tree(function).loops_above(maker):
        if s.kind == "parallel" and s not in tree(function).loops_above(b):
            refuse(
                RCI_PRIVATE,
                s,
                f"{s.var.name} is parallel, and {buffer}, which {b.name} writes, would be private to its iterations",
                f"inline {b.name} before {s.var.name} is made parallel",
            )


def _apart(a: Block, b: Block, buffer: str) -> bool:
    """Whether two blocks write different elements of a buffer, by one index."""
    if not simple_body(a):
        return False
    for x in accesses(a).writes:
        for y in accesses(b).writes:
            if (
                x.buffer == buffer
                and y.buffer == buffer
                and not any(_disjoint(i, j) for i, j in zip(x.indices, y.indices, strict=True))
            ):
                return False
    return True


def _disjoint(i: Scalar, j: Scalar) -> bool:
    """Whether two indices never meet: by their ranges, or by their remainders of a factor that both are steps of."""
    (low, high), (least, most) = bounds(i), bounds(j)
    if high is not None and least is not None and high < least:
        return True
    if most is not None and low is not None and most < low:
        return True
    a, b = linear(i), linear(j)
    steps = {abs(c) for form in (a, b) for c in form.terms.values() if abs(c) > 1}
    return any(_never_meet(a, b, step) for step in steps)


def _never_meet(a: Linear, b: Linear, step: int) -> bool:
    """Whether no values of two forms differ by a multiple of a step."""
    low = high = a.const - b.const
    for form, sign in ((a, 1), (b, -1)):
        for atom, c in form.terms.items():
            if c % step:
                least, most = bounds(atom)
                if least is None or most is None:
                    return False
                ends = (sign * c * least, sign * c * most)
                low, high = low + min(ends), high + max(ends)
    return high // step < -(-low // step)


def _without(function: Function, buffer: str) -> tuple[Buffer, ...]:
    return tuple(x for x in function.buffers if x.name != buffer)
