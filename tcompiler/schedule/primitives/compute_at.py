"""compute_at: a producer moves under a loop of its consumers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from tcompiler.ir.loop.analysis import accesses, touched
from tcompiler.ir.loop.grammar import Block, For, Function
from tcompiler.ir.scalar.grammar import Scalar, Var
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.schedule.affine.dependence import Conflict, conflict
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import Span, box, inner_loops, iter_spans, union
from tcompiler.schedule.primitives.motion import (
    bound_to,
    buffer_of,
    is_output,
    lanes_above,
    nest,
    on_iter_vars,
    order,
    readers,
    regenerated,
    shared_loops,
    untied,
    whole,
    writers,
)
from tcompiler.schedule.primitives.placing import placed
from tcompiler.schedule.tree import block_named, blocks_under, loop_named, names_used, tree

AT_WHOLE = condition(
    "compute_at.whole",
    "the block has spatial and reduce iters only, does not read what it writes, and inits what it updates",
)
AT_INTERMEDIATE = condition("compute_at.intermediate", "the block writes no output of the function")
AT_WRITER = condition(
    "compute_at.sole_writer",
    "the block is the only writer of what it writes, or those that change it later do so under the loop, each "
    "iteration its own elements",
)
AT_CONSUMERS = condition("compute_at.consumers", "every reader of what the block writes is under the loop")
AT_OWN = condition("compute_at.own_loop", "the loop is not one that only surrounds the block")
AT_DOMAIN = condition(
    "compute_at.domain", "the block's predicate keeps its iter vars inside their domains, or is a condition on them"
)
AT_REDUCTION = condition("compute_at.reduction", "no loop that stays around the block feeds its reduce iters")
AT_INPUTS = condition(
    "compute_at.inputs", "what the block reads is complete, and not written again, where the block will stand"
)
AT_LANES = condition("compute_at.lanes", "neither the loop nor one around it is vectorized")


AT_TIED = condition(
    "compute_at.tied",
    "iter vars that share loops, or that what is written does not depend on, keep the loops that feed them",
)


@primitive
def compute_at(function: Function, block: str, loop: str) -> Result:
    """Moves a producer under a loop of its consumers, where it computes what one iteration of the loop needs.

    Before:

        for i in range(64):
            with block("B"):  vi = spatial(64, i); B[vi] = f(A[vi])
        for i0 in range(8):
            for i1 in range(8):
                with block("C"):  vi = spatial(64, i0 * 8 + i1); C[vi] = g(B[vi])

    After ``compute_at("B", "i0")``:

        for i0 in range(8):
            for B_ax0 in range(8):
                with block("B"):  vi = spatial(64, i0 * 8 + B_ax0); v_i0 = spatial(8, i0); B[vi - v_i0 * 8] = f(A[vi])
            for i1 in range(8):
                with block("C"):  ...  C[vi] = g(B[vi - v_i0 * 8])

    The block's loops are made anew, `{block}_ax{k}` for the k-th iter var, over a box that holds all that is read;
    where the box may leave the domain a predicate keeps the block inside, and conditions on iter vars go along. A
    reduction moves whole, with its init and its reduce loops. The buffer shrinks to the box and becomes private to the
    iteration (see `compaction.compacted`). Consumers that overlap (the windows of a convolution) compute shared
    elements again.

    Args:
        function: The function.
        block: The producer.
        loop: A loop around all consumers; the block is placed in its body, before the first consumer.

    Returns:
        The new function, and no names.

    Raises:
        ScheduleError: If a condition of compute_at does not hold.
    """
    b, around = block_named(function, block), loop_named(function, loop)
    whole(AT_WHOLE, b, "move")
    written = sorted(touched(b).writes)
    for name in written:
        if is_output(function, name):
            refuse(
                AT_INTERMEDIATE,
                b,
                f"{block} writes the output {name}, of which each iteration of {loop} would compute a part only",
                "move its consumers under its loops instead (reverse_compute_at)",
            )
    _first_writer(function, b, around, written)
    _under_loop(function, b, around, written)
    conditions = on_iter_vars(AT_DOMAIN, b, "move")
    lanes_above(AT_LANES, function, around, "loops")
    stay = shared_loops(function, b, around)
    for outer in stay:
        for it, binding in zip(b.iters, b.bindings, strict=True):
            if it.kind != "spatial" and outer.var in free_vars(binding):
                refuse(
                    AT_REDUCTION,
                    outer,
                    f"{outer.var.name}, which stays around {block}, feeds its {it.kind} iter {it.var.name}",
                    f"stage the partial results of {block} first (stage_accumulate)",
                )
    _inputs_stay(function, b, around, stay)

    stayed = bound_to(b, {s.var for s in stay})
    spans = _needed(function, b, around, written, stayed)
    kept = stayed - spans.keys()
    untied(AT_TIED, b, spans, kept)
    used = names_used(function)
    moved, variables = regenerated(b, spans, kept, used, conditions)
    return Result(placed(function, b, around, moved, variables, written, written, used, produces=True))


def _first_writer(function: Function, b: Block, around: For, written: Sequence[str]) -> None:
    """Refuses where another block writes the same, unless it changes under the loop what the block begins there."""
    stay = shared_loops(function, b, around)
    moved = [s.var for s in (*tree(function).loops_above(around), around) if s not in stay]
    under = blocks_under(around)
    at = order(function)
    for name in written:
        others = [w for w in writers(function, name) if w is not b]
        if not others:
            continue
        first = min((at[r.name] for r in readers(function, name) if r is not b), default=0)
        # a loop that begins anew for the others in each of its iterations does so with the block inside it alone
        left = [s for s in tree(function).loops_above(b) if s not in stay and s is not around]
        outside = next(
            (
                w
                for w in others
                if w not in under or at[w.name] < max(first, at[b.name]) or any(w in blocks_under(s) for s in left)
            ),
            None,
        )
        if outside is not None:
            refuse(
                AT_WRITER,
                outside,
                f"{name}, which {b.name} writes, is also written by {outside.name}",
                "move it before the block is split in several (decompose_reduction, peel)",
            )
        shared = _passed_on(function, around, [s.var for s in stay], moved, name)
        if shared is not None:
            refuse(
                AT_WRITER,
                shared.second,
                f"different iterations of {' and '.join(v.name for v in moved)} may touch the same elements of {name}",
                f"choose a loop whose iterations do not pass {name} on",
            )


def _passed_on(
    function: Function, around: For, outer: Sequence[Var], moved: Sequence[Var], name: str
) -> Conflict | None:
    """Blocks of different iterations of some loops that may touch one element of a buffer."""
    if not moved:
        return None
    return conflict(function, around.body, outer, moved, lambda buffer: buffer != name, lambda block: False)


def _under_loop(function: Function, b: Block, around: For, written: Sequence[str]) -> None:
    t = tree(function)
    loop = around.var.name
    at = order(function)
    own = nest(function, b)
    if own is around or own in t.ancestors(around):
        refuse(
            AT_OWN,
            around,
            f"the loop {loop} surrounds {b.name} and nothing else",
            "choose a loop around the consumers",
        )
    under = {x.name for x in blocks_under(around)}
    found = False
    for name in written:
        for reader in readers(function, name):
            if reader is b:
                continue
            found = True
            if reader.name not in under:
                refuse(
                    AT_CONSUMERS,
                    reader,
                    f"{reader.name} reads {name} and is not under {loop}",
                    "choose a loop around all consumers, or move or inline that consumer first",
                )
            elif at[reader.name] < at[b.name]:
                refuse(
                    AT_CONSUMERS,
                    reader,
                    f"{reader.name} reads {name} before {b.name} writes it",
                    "choose a block whose consumers come after it",
                )
    if not found:
        refuse(
            AT_CONSUMERS,
            b,
            f"nothing reads what {b.name} writes",
            "choose a block with consumers",
        )


def _inputs_stay(function: Function, b: Block, around: For, stay: Sequence[For]) -> None:
    """Refuses where an input of the block would be incomplete or overwritten at the new place."""
    at = order(function)
    last = max(at[x.name] for x in blocks_under(around))
    for name in sorted(touched(b).reads):
        for other in writers(function, name):
            if other is b:
                continue
            shared = shared_loops(function, other, b)
            if any(s not in stay for s in shared):
                refuse(
                    AT_INPUTS,
                    other,
                    f"{other.name} writes {name}, which {b.name} reads, in the same iteration of {shared[-1].var.name}",
                    f"move {other.name} after {b.name} has moved",
                )
            again = any(s not in stay for s in shared_loops(function, other, around))
            if at[other.name] > at[b.name] and (at[other.name] < last or again):
                refuse(
                    AT_INPUTS,
                    other,
                    f"{other.name} writes {name} again between {b.name} and the end of {around.var.name}",
                    "let it write another buffer (cache_write)",
                )


def _needed(
    function: Function, b: Block, around: For, written: Sequence[str], stayed: Set[Scalar]
) -> dict[Scalar, Span]:
    """Spans of the block's iter vars that make all that one iteration of the loop reads of what the block writes."""
    inner = inner_loops(around.body)
    under = [x for x in blocks_under(around) if x is not b]
    known: dict[Scalar, Scalar] = {
        it.var: binding for it, binding in zip(b.iters, b.bindings, strict=True) if it.var in stayed
    }
    needed: dict[Scalar, list[Span]] = {}
    count = 0
    for name in written:
        spans = box(function, buffer_of(function, name), [x for x in under if name in touched(x).reads], inner)
        if spans is None:
            continue
        for w in dict.fromkeys(w.indices for w in accesses(b).writes if w.buffer == name):
            count += 1
            for var, span in _unknown_first(w, spans, known).items():
                needed.setdefault(var, []).append(span)
    result = {}
    for var, several in needed.items():
        joined = union(several) if len(several) == count else None
        if joined is not None:
            result[var] = joined
    return result


def _unknown_first(
    indices: tuple[Scalar, ...], spans: Sequence[Span], known: Mapping[Scalar, Scalar]
) -> dict[Scalar, Span]:
    """Spans of iter vars: those that index plainly are bounded even if their bindings are known."""
    found = iter_spans(indices, spans, {})
    found.update({v: s for v, s in iter_spans(indices, spans, known).items() if v not in found})
    return found
