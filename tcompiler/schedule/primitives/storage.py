"""set_scope, compact, transform_layout and pad_stride: where and how a buffer lies in memory."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import cast

import numpy as np

from tcompiler.ir import dtypes as dt
from tcompiler.ir.layout import IndexMap
from tcompiler.ir.loop.grammar import SCOPES, Block, Buffer, For, Function, IterVar, Stmt, Store
from tcompiler.ir.scalar.canonical import bounds, simplify
from tcompiler.ir.scalar.evaluate import evaluate
from tcompiler.ir.scalar.grammar import Scalar, Var, as_int, const, index, loop_var, parameter
from tcompiler.ir.scalar.rewrite import free_vars, substitute
from tcompiler.ir.scalar.text import ScalarReader
from tcompiler.schedule.affine.coverage import stays_inside
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.primitives.boxes import inner_loops
from tcompiler.schedule.primitives.compaction import compacted
from tcompiler.schedule.primitives.motion import (
    is_output,
    loops,
    readers,
    rebuilt,
    retarget,
    simple_body,
    top,
    with_iters,
    writers,
)
from tcompiler.schedule.tree import blocks_under, buffer_named, fresh, loop_named, names_used, tree

SCOPE = condition("set_scope.scope", "the scope is global, shared, local, register or fragment")
OWNED = condition("set_scope.intermediate", "the buffer is no input or output of the function")
PRIVATE = condition(
    "set_scope.private",
    "no iteration of a parallel loop would lose what others read, or share what was private to it",
)

COMPACT_OWNED = condition("compact.intermediate", "the buffer is no input or output of the function")
COMPACT_INSIDE = condition("compact.inside", "a loop surrounds all that uses the buffer")
COMPACT_FLOW = condition(
    "compact.flow", "every value that is read in an iteration of the loop was written, by one block, in that iteration"
)
COMPACT_ALONE = condition(
    "compact.alone",
    "where one block stands alone under the loop, its spatial iterations still write different elements",
)

MAP_RANK = condition(
    "transform_layout.rank", "the map takes one index per dimension of the buffer, and names no others"
)
MAP_CONSTANT = condition(
    "transform_layout.extents", "dimensions whose extents are parameters stay as they are (their places may change)"
)
MAP_NEGATIVE = condition("transform_layout.range", "no index maps below 0")
MAP_INJECTIVE = condition("transform_layout.injective", "different elements go to different places")
MAP_PLAIN = condition("transform_layout.accesses", "all blocks that use the buffer use it by loads, stores and updates")
MAP_PAD = condition(
    "transform_layout.padding", "padding is filled in a buffer that the function writes and all iterations share"
)

STRIDE_OWNED = condition("pad_stride.intermediate", "the buffer is no input or output of the function")
STRIDE_DIM = condition("pad_stride.dimension", "the dimension is one of the buffer's")
STRIDE_CONSTANT = condition("pad_stride.extents", "the extents behind the dimension are constants")
STRIDE_MULTIPLE = condition("pad_stride.multiple", "0 <= offset < multiple")

_MOST_POINTS = 1 << 22


@primitive
def set_scope(function: Function, buffer: str, scope: str) -> Result:
    """Changes the scope of an intermediate buffer.

    Before ``B = alloc(f32[8, 16])``, after ``set_scope("B", "register")``: ``B = alloc(f32[8, 16], scope="register")``.

    Args:
        function: The function.
        buffer: The buffer.
        scope: One of global, shared, local, register, fragment.

    Returns:
        The new function, and no names.

    Raises:
        ScheduleError: If a condition of set_scope does not hold.
    """
    old = buffer_named(function, buffer)
    if scope not in SCOPES:
        refuse(SCOPE, old, f'there is no scope "{scope}"', f"choose one of {', '.join(SCOPES)}")
    if is_output(function, buffer):
        refuse(OWNED, old, f"{buffer} belongs to the caller", "cache it first (cache_read, cache_write)")
    if (scope == "global") != (old.scope == "global"):
        makers = writers(function, buffer)
        for w in makers:
            for loop in tree(function).loops_above(w):
                if loop.kind != "parallel" and not loop.kind.startswith("blockIdx"):
                    continue
                if scope == "global":
                    refuse(
                        PRIVATE,
                        loop,
                        f"the iterations of {loop.var.name}, each with a {buffer} of its own, would share one",
                        "choose another private scope, or change the scope before the loop is made parallel",
                    )
                for user in (*readers(function, buffer), *makers):
                    if loop not in tree(function).loops_above(user):
                        refuse(
                            PRIVATE,
                            user,
                            f"{user.name} uses {buffer} outside {loop.var.name}, whose iterations would lose it",
                            f"move {user.name} under {loop.var.name}",
                        )
    return Result(_with_buffer(function, old, Buffer(old.name, old.dtype, old.shape, old.strides, scope)))


@primitive
def compact(function: Function, buffer: str, loop: str | None = None) -> Result:
    """Shrinks an intermediate buffer to the box that one iteration of a loop uses.

    Before:

        for i0 in range(8):
            for i1 in range(8):
                with block("B"):  vi = spatial(64, i0 * 8 + i1); B[vi] = f(A[vi])
            for i2 in range(8):
                with block("C"):  vi = spatial(64, i0 * 8 + i2); C[vi] = B[vi]

    After ``compact("B")``: B has the shape [8], scope "local", and the index ``vi - v_i0 * 8``, v_i0 bound to i0.
    compute_at and reverse_compute_at do this by themselves.

    Args:
        function: The function.
        buffer: The buffer.
        loop: The loop; by default the innermost one around all that uses the buffer.

    Returns:
        The new function, and no names. It is the old one where no dimension shrinks and the scope is private already.

    Raises:
        ScheduleError: If a condition of compact does not hold.
    """
    old = buffer_named(function, buffer)
    if is_output(function, buffer):
        refuse(COMPACT_OWNED, old, f"{buffer} belongs to the caller", "cache it first (cache_read, cache_write)")
    users = list(dict.fromkeys([*writers(function, buffer), *readers(function, buffer)]))
    around: list[For] | None = None
    for user in users:
        above = tree(function).loops_above(user)
        around = above if around is None else [s for s in around if s in above]
    chosen = None if loop is None else loop_named(function, loop)
    if not around or (chosen is not None and chosen not in around):
        outside = next((u for u in users if chosen is not None and chosen not in tree(function).loops_above(u)), None)
        refuse(
            COMPACT_INSIDE,
            outside or old,
            f"{outside.name} uses {buffer} outside {loop}" if outside else f"no loop surrounds all that uses {buffer}",
            "move what uses it under one loop (compute_at, reverse_compute_at)",
        )
        return Result(function)
    innermost = around[-1] if chosen is None else chosen
    inside = [*(s.var for s in tree(function).loops_above(innermost)), innermost.var]
    if not stays_inside(function, innermost.body, inside, buffer):
        refuse(
            COMPACT_FLOW,
            innermost,
            f"it is not known that an iteration of {innermost.var.name} reads of {buffer} only what it wrote",
            "choose a loop outside, or move the block that writes it under the loop (compute_at)",
        )
    new, changes = compacted(function, old, innermost, users, inner_loops(innermost.body), names_used(function))
    below = blocks_under(innermost.body)
    if (
        changes
        and len(below) == 1
        and as_int(innermost.var.extent or index(1)) != 1
        and _feeds_spatial(below[0], innermost)
    ):
        refuse(
            COMPACT_ALONE,
            below[0],
            f"all iterations of {innermost.var.name}, in which {below[0].name} stands alone, would write the same "
            f"elements of {buffer}",
            f"leave {buffer} as it is, or move what reads it under the loop",
        )
    buffers = tuple(new if b is old else b for b in function.buffers)
    return Result(rebuilt(function, cast(dict[Stmt, Stmt], changes), buffers=buffers))


def _feeds_spatial(block: Block, loop: For) -> bool:
    """Whether a loop feeds spatial iters of a block, and no others."""
    fed = [i.kind for i, b in zip(block.iters, block.bindings, strict=True) if loop.var in free_vars(b)]
    return bool(fed) and set(fed) == {"spatial"}


@primitive
def transform_layout(function: Function, buffer: str, index_map: str | IndexMap, pad_zero: bool = False) -> Result:
    """Stores a buffer's elements in other places.

    Before: ``B: f32[100, 60]`` and accesses ``B[vk, vn]``. After
    ``transform_layout("B", "lambda k, n: (n // 16, k, n % 16)")``: ``B: f32[4, 100, 16]`` and accesses
    ``B[vn // 16, vk, vn % 16]``.

    The new shape holds all mapped indices; where the extents do not divide, it also holds padding, which nothing reads.
    The buffer of an input or output changes its shape too: the caller has to pack the argument, by the same map.

    Args:
        function: The function.
        buffer: The buffer.
        index_map: From old indices to new ones, as text (in a trace) or as a map.
        pad_zero: Fill the padding with zeros, before the first block that writes the buffer.

    Returns:
        The new function; with `pad_zero`, where there is padding, the name of the block that fills, `{buffer}_fill`.

    Raises:
        ScheduleError: If a condition of transform_layout does not hold.
        ParseError: If the text is no lambda of this form.
    """
    old = buffer_named(function, buffer)
    mapping = parse_index_map(index_map) if isinstance(index_map, str) else index_map
    if len(mapping.inputs) != len(old.shape):
        refuse(
            MAP_RANK,
            old,
            f"the map takes {len(mapping.inputs)} indices and {buffer} has {len(old.shape)} dimensions",
            f"give a map of {len(old.shape)} indices",
        )
    shape = mapped_shape(old, mapping)
    users = list(dict.fromkeys([*writers(function, buffer), *readers(function, buffer)]))
    for user in users:
        if not simple_body(user):
            refuse(
                MAP_PLAIN,
                user,
                f"{user.name} uses {buffer} by regions",
                "change the layout before the block is made opaque",
            )
    new = Buffer(old.name, old.dtype, shape, None, old.scope)
    padded = prod(as_int(n) or 1 for n in shape) > prod(as_int(n) or 1 for n in old.shape)
    if pad_zero and buffer in function.inputs:
        refuse(
            MAP_PAD,
            old,
            f"{buffer} is an input",
            "leave pad_zero out and let the caller fill the padding with zeros",
        )

    if pad_zero and padded and old.scope != "global":
        for w in writers(function, buffer):
            for s in tree(function).loops_above(w):
                if s.kind == "parallel":
                    refuse(
                        MAP_PAD,
                        s,
                        f"{buffer} is private to the iterations of {s.var.name}, which is parallel",
                        "change the layout before the loop is made parallel",
                    )

    def at(name: str, indices: tuple[Scalar, ...]) -> tuple[str, tuple[Scalar, ...]]:
        values: dict[Scalar, Scalar] = dict(zip(mapping.inputs, indices, strict=True))
        return name, tuple(simplify(substitute(o, values)) for o in mapping.outputs)

    changes: dict[Stmt, Stmt] = {}
    for user in users:
        init = None if user.init is None else retarget(user.init, {buffer}, at)
        changes[user] = with_iters(user, (), retarget(user.body, {buffer}, at), init)
    buffers = tuple(new if b is old else b for b in function.buffers)
    names: tuple[str, ...] = ()
    fill: dict[Stmt, Stmt] = {}
    makers = writers(function, buffer)
    if pad_zero and padded and makers:
        name, nest = _fill(function, new)
        names, fill = (name,), {top(function, makers[0]): nest}
    return Result(rebuilt(function, changes, before=fill, buffers=buffers), names)


def _fill(function: Function, buffer: Buffer) -> tuple[str, Stmt]:
    used = names_used(function)
    (name,) = fresh(used, [f"{buffer.name}_fill"])
    extents = buffer.shape
    variables = [
        loop_var(n, e)
        for n, e in zip(fresh(used, [f"{name}_ax{k}" for k in range(len(extents))]), extents, strict=True)
    ]
    iters = [loop_var(n, e) for n, e in zip(fresh(used, [f"v{k}" for k in range(len(extents))]), extents, strict=True)]
    block = Block(
        name,
        tuple(IterVar(v, "spatial") for v in iters),
        tuple(variables),
        Store(buffer.name, tuple(iters), const(buffer.dtype, 0)),
    )
    return name, loops(variables, block)


@lru_cache(maxsize=1024)
def parse_index_map(text: str) -> IndexMap:
    """Reads ``lambda k, n: (n // 16, k, n % 16)``.

    Raises:
        ParseError: If the text is no lambda of plain arguments that gives an index or a tuple of them.
    """
    reader = ScalarReader(text)
    node = reader.parse("eval").body
    if not isinstance(node, ast.Lambda):
        raise reader.error(node, "expected an index map such as `lambda i, j: (j, i)`")
    spec = node.args
    if spec.vararg or spec.kwarg or spec.kwonlyargs or spec.defaults or spec.posonlyargs:
        raise reader.error(node, "an index map takes plain arguments")
    inputs = tuple(parameter(a.arg) for a in spec.args)
    variables = {v.name: v for v in inputs}
    parts = node.body.elts if isinstance(node.body, ast.Tuple) else [node.body]
    outputs = []
    for part in parts:
        value = reader.read(part, variables, {})
        if value.dtype is not dt.i64:
            raise reader.error(part, f"an index is i64, not {value.dtype.name}")
        outputs.append(value)
    return IndexMap(inputs, tuple(outputs))


_shapes: dict[tuple[IndexMap, tuple[Scalar, ...]], tuple[Scalar, ...]] = {}


def mapped_shape(buffer: Buffer, mapping: IndexMap) -> tuple[Scalar, ...]:
    """The shape that holds all mapped indices, and the proof that no two elements meet."""
    key = (mapping, buffer.shape)
    known = _shapes.get(key)
    if known is not None:
        return known
    ranged: dict[Var, Var] = {v: loop_var(v.name, e) for v, e in zip(mapping.inputs, buffer.shape, strict=False)}
    shape: list[Scalar] = []
    groups: list[tuple[set[Var], list[Scalar]]] = []
    whole: set[Var] = set()
    for k, output in enumerate(mapping.outputs):
        used = set(free_vars(output))
        if isinstance(output, Var) and output in ranged:
            shape.append(buffer.shape[mapping.inputs.index(output)])
            whole.add(output)
            continue
        if not used <= ranged.keys():
            refuse(MAP_RANK, buffer, f"result {k} of the map is {output!r}", "use the map's own arguments")
        node = simplify(substitute(output, cast(dict[Scalar, Scalar], ranged)))
        low, high = bounds(node)
        if any(as_int(buffer.shape[mapping.inputs.index(v)]) is None for v in used):
            refuse(
                MAP_CONSTANT,
                buffer,
                f"result {k} of the map computes with a dimension of unknown extent",
                "keep that dimension as it is",
            )
        if low is None or high is None or low < 0:
            refuse(
                MAP_NEGATIVE,
                buffer,
                f"result {k} of the map runs from {low} to {high}",
                "add a constant, so that it starts at 0",
            )
        shape.append(index((high or 0) + 1))
        joined: tuple[set[Var], list[Scalar]] = (used, [node])
        apart = []
        for group in groups:
            if group[0].isdisjoint(used):
                apart.append(group)
            else:
                joined = (joined[0] | group[0], [*group[1], *joined[1]])
        groups = [*apart, joined]
    covered = set(whole)
    for used, nodes in groups:
        covered |= used
        if not used <= whole and not _injective(nodes, [ranged[v] for v in used]):
            refuse(
                MAP_INJECTIVE,
                buffer,
                f"two elements of {buffer.name} would go to one place, or too many to tell",
                "let each index, or its quotient and remainder by one number, appear in the map",
            )
    for v, e in zip(mapping.inputs, buffer.shape, strict=False):
        if v not in covered and as_int(e) != 1:
            refuse(
                MAP_INJECTIVE,
                buffer,
                f"the map leaves out {v.name}, so that elements of {buffer.name} would go to one place",
                "let each index, or its quotient and remainder by one number, appear in the map",
            )
    result = tuple(shape)
    _shapes[key] = result
    return result


def _injective(nodes: Sequence[Scalar], variables: Sequence[Var]) -> bool:
    """Whether a tuple of expressions differs at all points of its variables, by trying them all."""
    extents = [as_int(v.extent) or 0 for v in variables]
    points = int(np.prod(extents))
    if points > _MOST_POINTS:
        return False
    axes = np.meshgrid(*(np.arange(n, dtype=np.int64) for n in extents), indexing="ij", sparse=True)
    env = dict(zip(variables, axes, strict=True))
    place = np.zeros(extents, np.int64)
    for node in nodes:
        value = np.broadcast_to(evaluate(node, env, {}), extents)
        place = place * (int(value.max(initial=0)) + 1) + value
    return len(np.unique(place)) == points


@primitive
def pad_stride(function: Function, buffer: str, dim: int, multiple: int, offset: int) -> Result:
    """Pads the memory between the rows of an intermediate buffer.

    Before: ``B = alloc(f32[64, 1024])``, rows 4 KB apart. After ``pad_stride("B", 0, 32, 16)``:
    ``B = alloc(f32[64, 1024], strides=(1040, 1))``: the stride of dimension 0 is the next number, from what it was,
    that leaves the remainder 16 by 32.

    Args:
        function: The function.
        buffer: The buffer.
        dim: The dimension whose stride grows; those before it follow.
        multiple: In elements.
        offset: In elements.

    Returns:
        The new function, and no names.

    Raises:
        ScheduleError: If a condition of pad_stride does not hold.
    """
    old = buffer_named(function, buffer)
    if is_output(function, buffer):
        refuse(STRIDE_OWNED, old, f"{buffer} belongs to the caller", "cache it first (cache_read, cache_write)")
    if not 0 <= dim < len(old.shape):
        refuse(STRIDE_DIM, old, f"there is no dimension {dim}", f"choose 0 to {len(old.shape) - 1}")
    if not 0 <= offset < multiple:
        refuse(STRIDE_MULTIPLE, old, f"the offset is {offset} and the multiple {multiple}", "choose a smaller offset")
    strides: list[Scalar] = []
    step: Scalar = index(1)
    for k in range(len(old.shape) - 1, -1, -1):
        if k == dim:
            size = as_int(step)
            if size is None:
                refuse(STRIDE_CONSTANT, old, f"the stride of dimension {dim} is {step!r}", "pad an inner dimension")
            step = index((size or 0) + (offset - (size or 0)) % multiple)
        strides.append(step)
        step = simplify(step * old.shape[k])
    strides.reverse()
    return Result(_with_buffer(function, old, Buffer(old.name, old.dtype, old.shape, tuple(strides), old.scope)))


def _with_buffer(function: Function, old: Buffer, new: Buffer) -> Function:
    return Function(
        function.name,
        function.params,
        tuple(new if b.name == old.name else b for b in function.buffers),
        function.inputs,
        function.outputs,
        function.body,
    )
