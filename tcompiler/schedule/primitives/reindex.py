"""reindex: a factor of a block's product gets a buffer of its own, indexed by the block's iter vars."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from tcompiler.ir.dtypes import DTYPES
from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import Block, Buffer, Function, IterVar, Store, Update
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import (
    Binary,
    Cast,
    Load,
    Scalar,
    Select,
    Var,
    add,
    as_int,
    conjunction,
    conjuncts,
    index,
    loop_var,
    sub,
)
from tcompiler.ir.scalar.rewrite import free_vars, loads, rewrite, substitute
from tcompiler.schedule.affine.linear import linear
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.narrowing import representable
from tcompiler.schedule.primitives.boxes import ZERO, filled
from tcompiler.schedule.primitives.motion import loops, order, own_domain, rebuilt, top, writers
from tcompiler.schedule.tree import block_named, blocks_under, fresh, names_used

UPDATE = condition("reindex.update", "the block is one Update of one target, over spatial and reduce iters")
FACTOR = condition("reindex.factor", "the update's value has that many factors, and this one loads something")
DTYPE = condition("reindex.dtype", "the type, where one is given, can hold every value that the factor may have")
APART = condition("reindex.apart", "the iter vars that are to be kept apart are the block's")
DOMAIN = condition("reindex.domain", "the block runs at every point of its iter vars' domains, which are constants")
BEFORE = condition("reindex.before", "what the factor reads is complete before the block's outermost loop")
DEFINED = condition("reindex.defined", "what the factor reads is an input, or all of it has been written by one block")


@primitive
def reindex(function: Function, block: str, factor: int, dtype: str | None = None, apart: Sequence[str] = ()) -> Result:
    """Computes a factor of a block's product ahead, over the iter vars that it depends on.

    Before:

        for n in range(8):
            for k in range(4):
                with block("C"):
                    vn = spatial(8, n); vk = reduce(4, k)
                    C[vn] += cast(i32, A[vk]) * (cast(i32, B[vn + vk]) - i32(3))

    After ``reindex("C", 1, "i16")``:

        C_1 = alloc(i16[11])
        for C_f1_ax0 in range(11):
            with block("C_f1"):
                v0 = spatial(11, C_f1_ax0)
                C_1[v0] = cast(i16, cast(i32, B[v0]) - i32(3))
        …
                    C[vn] += cast(i32, A[vk]) * cast(i32, C_1[vn + vk])

    An axis of the new buffer is an iter var, or a sum of several that the factor knows as this sum alone, as a window
    does; with ``apart=["vn", "vk"]`` each of these gets an axis of its own (C_1 would be [8, 4]). Axes stand in the
    order of the indices that they come from.

    Args:
        function: The function.
        block: A reduction.
        factor: Which factor of the product, from the left; 0 is the whole value where it is no product.
        dtype: What to keep it as: a type in which none of its values changes. By default its own.
        apart: Names of iter vars that are axes by themselves.

    Returns:
        The new function and the name of the block that computes the factor, `{block}_f{factor}`.

    Raises:
        ScheduleError: If a condition of reindex does not hold.
    """
    b = block_named(function, block)
    update = b.body
    if not isinstance(update, Update) or len(update.values) != 1 or any(it.kind == "ordered" for it in b.iters):
        refuse(UPDATE, b, f"{block} is not an Update of one target", "choose a reduction")
        return Result(function)
    parts = factors(update.values[0])
    if not 0 <= factor < len(parts) or not loads(parts[factor]):
        found = (
            f"{block} has {len(parts)} factor(s)" if not 0 <= factor < len(parts) else f"factor {factor} is constant"
        )
        refuse(FACTOR, b, found, f"choose one of 0 to {len(parts) - 1} that loads")
        return Result(function)
    value = parts[factor]
    kept = value.dtype if dtype is None else DTYPES.get(dtype)
    if kept is None or not representable(value, kept):
        refuse(
            DTYPE,
            b,
            f"factor {factor} is {value.dtype.name} and may have values that {dtype} has not",
            "leave the type out, or choose one that is wide enough",
        )
        kept = value.dtype
    own = {it.var.name: it.var for it in b.iters}
    for name in apart:
        if name not in own:
            refuse(APART, b, f"{block} has no iter var {name}", f"choose of {', '.join(own)}")
    if own_domain(b) or any(as_int(v.extent) is None for v in free_vars(value) if v in own.values()):
        refuse(
            DOMAIN,
            b,
            f"{block} is a piece of a reduction, or of unknown extent",
            "reindex before the block is split in several (peel), and with constant extents",
        )
    _complete(function, b, sorted({load.buffer for load in loads(value)}))

    axes = _axes(value, [it.var for it in b.iters], frozenset(apart))
    used = names_used(function)
    (made,) = fresh(used, [f"{block}_f{factor}"])
    (buffer,) = fresh(used, [f"{update.targets[0].buffer}_{factor}"])
    iters = [
        IterVar(loop_var(n, e), "spatial")
        for n, (_, e) in zip(fresh(used, [f"v{k}" for k in range(len(axes))]), axes, strict=True)
    ]
    variables = [
        loop_var(n, e) for n, (_, e) in zip(fresh(used, [f"{made}_ax{k}" for k in range(len(axes))]), axes, strict=True)
    ]
    stored = value
    for it, (form, _) in zip(iters, axes, strict=True):
        stored = _indices_simplified(substitute(stored, {form[0][0]: _lead(it.var, form)}))
    if kept is not value.dtype:
        stored = Cast(kept, stored)
    copy = Block(made, tuple(iters), tuple(variables), Store(buffer, tuple(it.var for it in iters), stored))
    place: Scalar = Load(buffer, kept, tuple(_total(form) for form, _ in axes))
    parts[factor] = place if kept is value.dtype else Cast(value.dtype, place)
    product = parts[0]
    for p in parts[1:]:
        product = Binary("mul", product, p)
    changed = Block(
        b.name,
        b.iters,
        b.bindings,
        Update(update.targets, update.reducer, (product,)),
        b.predicate,
        b.init,
        annotations=b.annotations,
    )
    new = Buffer(buffer, kept, tuple(index(e) for _, e in axes))
    return Result(
        rebuilt(
            function,
            {b: changed},
            before={top(function, b): loops(variables, copy)},
            buffers=(*function.buffers, new),
        ),
        (made,),
    )


def factors(value: Scalar) -> list[Scalar]:
    """The factors of a product, from left to right."""
    if isinstance(value, Binary) and value.op == "mul":
        return [*factors(value.a), *factors(value.b)]
    return [value]


_Form = tuple[tuple[Var, int], ...]
"""A sum of iter vars, each with its weight; the first one's is 1."""


def _total(form: _Form) -> Scalar:
    total: Scalar = ZERO
    for v, weight in form:
        total = add(total, v * weight)
    return total


def _lead(total: Scalar, form: _Form) -> Scalar:
    """The first iter var of a form, given the form's total and the others."""
    return sub(total, _total(form[1:])) if len(form) > 1 else total


def _indices_simplified(value: Scalar) -> Scalar:
    def simpler(n: Scalar) -> Scalar:
        if isinstance(n, Load):
            return Load(n.buffer, n.dtype, tuple(map(simplify, n.indices)))
        if isinstance(n, Select):
            return Select(conjunction(*map(simplify, conjuncts(n.cond))), n.a, n.b)
        return n

    return rewrite(value, simpler)


def _axes(value: Scalar, variables: Sequence[Var], apart: frozenset[str]) -> list[tuple[_Form, int]]:
    """The axes of a factor: sums of iter vars, and how many values each has."""
    left = [v for v in variables if v in free_vars(value)]
    found: dict[Var, _Form] = {}
    for load in loads(value):
        for i in load.indices:
            terms, _ = linear(i)
            weights = {v: terms[v] for v in left if v in terms and v.name not in apart and v not in found}
            step = gcd(*weights.values())
            form = tuple(sorted(((v, by // step) for v, by in weights.items()), key=lambda t: t[1]))
            if len(form) > 1 and form[0][1] == 1 and _only_as_sum(value, form):
                found.update({v: form for v, _ in form})
    axes: dict[_Form, int] = {}
    for v in left:
        form = found.get(v, ((v, 1),))
        axes[form] = 1 + sum(by * ((as_int(u.extent) or 1) - 1) for u, by in form)
    # in the order of what is read, so that what is near in memory stays near
    indices = [free_vars(i) for load in loads(value) for i in load.indices]
    places = {form: [k for k, names in enumerate(indices) if form[0][0] in names] for form in axes}
    return sorted(axes.items(), key=lambda axis: min(places[axis[0]], default=len(indices)))


def _only_as_sum(value: Scalar, form: _Form) -> bool:
    """Whether an expression depends on some iter vars by their sum alone."""
    lead, rest = form[0][0], [v for v, _ in form[1:]]
    return free_vars(_indices_simplified(substitute(value, {lead: _lead(lead, form)}))).isdisjoint(rest)


def _complete(function: Function, b: Block, read: Sequence[str]) -> None:
    under = blocks_under(top(function, b))
    at = order(function)
    for name in read:
        for other in writers(function, name):
            if other in under or at[other.name] > at[b.name]:
                refuse(
                    BEFORE,
                    other,
                    f"{other.name} writes {name} "
                    + (f"in the same nest as {b.name}" if other in under else f"after {b.name} has read it"),
                    f"reindex before {other.name} is moved there" if other in under else "choose a later reader",
                )
        if name in function.inputs:
            continue
        buffer = next(x for x in function.buffers if x.name == name)
        if not any(fills(w, buffer) for w in writers(function, name)):
            refuse(
                DEFINED,
                buffer,
                f"no block is known to write all of {name}, which {b.name} reads",
                f"reindex before the layout of {name} is changed",
            )


def fills(w: Block, buffer: Buffer) -> bool:
    """Whether a block is known to write every element of a buffer."""
    spans = filled(w, buffer.name)
    if spans is None or own_domain(w) or buffer.name not in touched(w).writes:
        return False
    return all(s.start is ZERO and s.extent is e for s, e in zip(spans, buffer.shape, strict=True))
