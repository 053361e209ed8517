"""pad_einsum: the iter vars of a sum of products get extents that divide."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, IterVar, Stmt, Store, Update, buffer_table, seq
from tcompiler.ir.scalar.grammar import (
    TRUE,
    Cast,
    Load,
    Scalar,
    Select,
    Var,
    as_int,
    conjunction,
    const,
    index,
    less,
    loop_var,
)
from tcompiler.ir.scalar.reducers import reducer_name
from tcompiler.ir.scalar.rewrite import free_vars, rewrite, substitute
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.primitives.motion import loops, order, readers, rebuilt, writers
from tcompiler.schedule.primitives.reindex import factors, fills
from tcompiler.schedule.tree import block_named, blocks_under, fresh, names_used, tree

EINSUM = condition(
    "pad_einsum.einsum", "the block is a sum with an init, of products of elements, cast perhaps, of other buffers"
)
MULTIPLES = condition("pad_einsum.multiples", "there is a multiple of at least 1 for every iter var of the block")
PLAIN = condition(
    "pad_einsum.plain", "an iter var that grows is an index by itself wherever it occurs, once in each element"
)
ZEROS = condition(
    "pad_einsum.zeros", "a reduce iter var that grows indexes every factor, so that all products are zero"
)
NEST = condition("pad_einsum.nest", "the block stands in serial loops of its own, each bound to one iter var, unsplit")
BEFORE = condition("pad_einsum.before", "what the block reads is complete before its outermost loop")
ALONE = condition("pad_einsum.writer", "the block is the only writer of its target")


@primitive
def pad_einsum(function: Function, block: str, multiples: Sequence[int]) -> Result:
    """Rounds the extents of a sum of products up to multiples; padded copies of its operands hold zeros.

    Before:

        for i in range(5):
            for k in range(7):
                with block("C"):
                    vi = spatial(5, i); vk = reduce(7, k)
                    with init(): C[vi] = i32(0)
                    C[vi] += cast(i32, A[vi, vk]) * cast(i32, B[vk])

    After ``pad_einsum("C", [1, 2])``:

        for A_pad_ax0 in range(5):
            for A_pad_ax1 in range(8):
                with block("A_pad"):
                    v0 = spatial(5, A_pad_ax0); v1 = spatial(8, A_pad_ax1)
                    A_pad[v0, v1] = select(v1 < 7, A[v0, v1], i16(0))
        …                                                                            # B_pad likewise
        for i in range(5):
            for k in range(8):
                with block("C"):  … C[vi] += cast(i32, A_pad[vi, vk]) * cast(i32, B_pad[vk])

    Where a spatial iter var grows the target is padded too, `C_pad`, and `C_unpad` copies what counts of it.

    Args:
        function: The function.
        block: The sum.
        multiples: For every iter var of the block, what its extent becomes a multiple of.

    Returns:
        The new function and the names of the blocks that pad operands, in the order in which the block names them,
        then of the one that copies the result, if the target was padded.

    Raises:
        ScheduleError: If a condition of pad_einsum does not hold.
    """
    b = block_named(function, block)
    found = _elements(b)
    if found is None:
        refuse(
            EINSUM, b, f"{block} is no sum of products with an init", "choose a whole contraction; reindex its factors"
        )
        return Result(function)
    target, elements = found
    if len(multiples) != len(b.iters) or any(type(m) is not int or m < 1 for m in multiples):
        refuse(
            MULTIPLES,
            b,
            f"{list(multiples)!r} for {len(b.iters)} iter vars",
            f"give {len(b.iters)} integers, 1 where nothing is to be padded",
        )
    nest = _nest(function, b)
    grown: dict[Var, int] = {}
    for it, multiple in zip(b.iters, multiples, strict=False):
        extent = as_int(it.var.extent)
        if extent is None:
            if multiple != 1:
                refuse(MULTIPLES, b, f"the extent of {it.var.name} is a parameter", "give 1 for it")
        elif extent % multiple:
            grown[it.var] = -(-extent // multiple) * multiple
    if not grown:
        return Result(function)
    _check_indices(b, target, elements, grown)
    _check_neighbours(function, b, target.buffer, [e.buffer for e in elements])

    table = buffer_table(function)
    used = names_used(function)
    wider: dict[Scalar, Scalar] = {v: loop_var(v.name, e) for v, e in grown.items()}
    buffers: list[Buffer] = []
    before: list[Stmt] = []
    names: list[str] = []
    moved: dict[Load, Scalar] = {}
    for e in dict.fromkeys(elements):
        if free_vars(e).isdisjoint(grown):
            continue
        (name,) = fresh(used, [f"{e.buffer}_pad"])
        new, copy = _padded(e, table[e.buffer], grown, name, used)
        buffers.append(new)
        before.append(copy)
        names.append(name)
        moved[e] = Load(new.name, e.dtype, e.indices)
    after: Stmt | None = None
    goal = target
    if not free_vars(target).isdisjoint(grown):
        (name, back) = fresh(used, [f"{target.buffer}_pad", f"{target.buffer}_unpad"])
        old = table[target.buffer]
        shape = tuple(
            index(grown[i]) if isinstance(i, Var) and i in grown else n
            for i, n in zip(target.indices, old.shape, strict=True)
        )
        buffers.append(Buffer(name, old.dtype, shape, None, old.scope))
        goal = Load(name, target.dtype, target.indices)
        after = _copy_back(target, old, name, back, used)
        names.append(back)
    update = b.body
    assert isinstance(update, Update)
    value = rewrite(update.values[0], lambda n: moved.get(n, n) if isinstance(n, Load) else n)
    init = Store(goal.buffer, _at(goal.indices, wider), update.reducer.identity[0])
    inner = Block(
        b.name,
        tuple(IterVar(_var(wider.get(it.var, it.var)), it.kind) for it in b.iters),
        b.bindings,
        Update((Load(goal.buffer, goal.dtype, _at(goal.indices, wider)),), update.reducer, (substitute(value, wider),)),
        init=init,
        annotations=b.annotations,
    )
    by_loop = {loop.var: grown.get(v) for v, loop in nest.items()}
    runs: dict[Scalar, Scalar] = {v: loop_var(v.name, e) for v, e in by_loop.items() if e is not None}
    stmt: Stmt = Block(
        inner.name,
        inner.iters,
        tuple(substitute(x, runs) for x in inner.bindings),
        inner.body,
        init=inner.init,
        annotations=inner.annotations,
    )
    chain = tree(function).loops_above(b)
    for s in reversed(chain):
        stmt = For(_var(runs.get(s.var, s.var)), s.kind, stmt, s.annotations)
    outermost: Stmt = chain[0] if chain else b
    changed = rebuilt(
        function,
        {outermost: stmt},
        before={outermost: seq(*before)} if before else None,
        after={outermost: after} if after is not None else None,
        buffers=(*function.buffers, *buffers),
    )
    return Result(changed, tuple(names))


def _var(node: Scalar) -> Var:
    assert isinstance(node, Var)
    return node


def _at(indices: Sequence[Scalar], values: dict[Scalar, Scalar]) -> tuple[Scalar, ...]:
    return tuple(substitute(i, values) for i in indices)


def _elements(b: Block) -> tuple[Load, list[Load]] | None:
    """The target and the elements that are multiplied, None where the block is no sum of products."""
    update, init = b.body, b.init
    if not isinstance(update, Update) or not isinstance(init, Store) or len(update.targets) != 1 or b.opaque:
        return None
    target = update.targets[0]
    if reducer_name(update.reducer) != "sum" or init.buffer != target.buffer or init.indices != target.indices:
        return None
    if init.value is not update.reducer.identity[0] or any(it.kind == "ordered" for it in b.iters):
        return None
    elements = []
    for f in factors(update.values[0]):
        while isinstance(f, Cast):
            f = f.a
        if not isinstance(f, Load) or f.buffer == target.buffer:
            return None
        elements.append(f)
    return target, elements


def _nest(function: Function, b: Block) -> dict[Var, For]:
    """The loop that every iter var is bound to."""
    above = tree(function).loops_above(b)
    by_var = {s.var: s for s in above}
    result: dict[Var, For] = {}
    for it, binding in zip(b.iters, b.bindings, strict=True):
        loop = by_var.get(binding) if isinstance(binding, Var) else None
        if loop is None and as_int(it.var.extent) == 1 and as_int(binding) == 0:
            continue
        if loop is None or loop.var.extent is not it.var.extent or loop in result.values():
            refuse(
                NEST,
                b,
                f"{it.var.name} of {b.name} is not bound to a loop of its own",
                "pad before the loops are split or fused",
            )
            continue
        result[it.var] = loop
    for s in above:
        if s.kind != "serial" or s not in result.values() or len(blocks_under(s)) != 1:
            refuse(
                NEST,
                s,
                f"{s.var.name} is {s.kind}, feeds no iter var alone or surrounds other blocks",
                "pad before the loops are scheduled",
            )
    if b.predicate is not TRUE:
        refuse(NEST, b, f"{b.name} has a predicate", "pad before the loops are split")
    return result


def _check_indices(b: Block, target: Load, elements: Sequence[Load], grown: dict[Var, int]) -> None:
    for v in grown:
        for e in (target, *elements):
            plain = sum(i is v for i in e.indices)
            if plain > 1 or any(v in free_vars(i) and i is not v for i in e.indices):
                refuse(
                    PLAIN,
                    b,
                    f"{v.name} is part of another index of {e.buffer}, or indexes it twice",
                    f'reindex that factor with apart=["{v.name}"]',
                )
        if v in free_vars(target) and not all(isinstance(i, Var) or as_int(i) == 0 for i in target.indices):
            refuse(PLAIN, b, f"{target.buffer} is written at {target!r}", "write another buffer first (cache_write)")
        kind = next(it.kind for it in b.iters if it.var is v)
        if kind == "reduce":
            for e in elements:
                if v not in free_vars(e):
                    refuse(
                        ZEROS,
                        b,
                        f"{v.name} grows, and {e.buffer} does not depend on it",
                        "pad iter vars that all factors have, or a spatial one",
                    )


def _check_neighbours(function: Function, b: Block, target: str, read: Sequence[str]) -> None:
    at = order(function)
    for name in read:
        for w in writers(function, name):
            if at[w.name] > at[b.name]:
                refuse(BEFORE, w, f"{w.name} writes {name} after {b.name} has read it", "choose a later reader")
        buffer = next(x for x in function.buffers if x.name == name)
        if name not in function.inputs and not any(fills(w, buffer) for w in writers(function, name)):
            refuse(
                BEFORE,
                buffer,
                f"no block is known to write all of {name}, which {b.name} reads",
                f"pad before the layout of {name} is changed",
            )
    for w in writers(function, target):
        if w is not b:
            refuse(ALONE, w, f"{w.name} writes {target} too", "pad before the block is split in several")
    for r in readers(function, target):
        if r is not b and at[r.name] < at[b.name]:
            refuse(ALONE, r, f"{r.name} reads {target} before {b.name} writes it", "choose another block")


def _padded(e: Load, old: Buffer, grown: dict[Var, int], name: str, used: set[str]) -> tuple[Buffer, Stmt]:
    """A copy of an operand, with zeros where an index is past the old extent of its iter var."""
    shape: list[Scalar] = []
    for i, n in zip(e.indices, old.shape, strict=True):
        shape.append(index(grown[i]) if isinstance(i, Var) and i in grown else n)
    new = Buffer(name, e.dtype, tuple(shape))
    iters = [loop_var(n, s) for n, s in zip(fresh(used, [f"v{k}" for k in range(len(shape))]), shape, strict=True)]
    variables = [
        loop_var(n, s) for n, s in zip(fresh(used, [f"{name}_ax{k}" for k in range(len(shape))]), shape, strict=True)
    ]
    inside = [
        less(v, i.extent)
        for v, i in zip(iters, e.indices, strict=True)
        if isinstance(i, Var) and i in grown and i.extent is not None
    ]
    value = Select(conjunction(*inside), Load(e.buffer, e.dtype, tuple(iters)), const(e.dtype, 0))
    block = Block(name, tuple(IterVar(v, "spatial") for v in iters), tuple(variables), Store(name, tuple(iters), value))
    return new, loops(variables, block)


def _copy_back(target: Load, old: Buffer, padded: str, name: str, used: set[str]) -> Stmt:
    shape = [i.extent if isinstance(i, Var) and i.extent is not None else index(1) for i in target.indices]
    iters = [loop_var(n, s) for n, s in zip(fresh(used, [f"v{k}" for k in range(len(shape))]), shape, strict=True)]
    variables = [
        loop_var(n, s) for n, s in zip(fresh(used, [f"{name}_ax{k}" for k in range(len(shape))]), shape, strict=True)
    ]
    store = Store(old.name, tuple(iters), Load(padded, target.dtype, tuple(iters)))
    return loops(variables, Block(name, tuple(IterVar(v, "spatial") for v in iters), tuple(variables), store))
