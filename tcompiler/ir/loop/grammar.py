"""All node kinds of the loop language, and what they mean.

    function = Function(name, params, buffers, inputs, outputs, body)
    stmt     = For(var, kind, body, annotations)
             | Seq(stmts)
             | Block(name, iters, bindings, predicate, init, body, opaque, reads, writes, annotations)
             | Store(buffer, indices, value)
             | Update(targets, reducer, values)
             | Intrinsic(name, writes, reads, args, queue) | Commit(queue) | Wait(queue, pending)

Meaning:
  * A For runs its body for var = 0 … extent-1. "serial" is in order; "parallel" iterations may run at once, on
    threads; "vectorized" iterations run in lockstep, as lanes; "unrolled" is serial, expanded before code generation;
    a GPU kind ("blockIdx.x", "threadIdx.x", …) binds the iterations to that hardware index. A kind never changes the
    result of a legal program: the interpreter runs every kind as serial. The hint `together` on a parallel loop says
    that threads had better begin with it when they begin with the parallel loop in front of it (`teams.py`).
  * A Block is a unit of computation with a signature: each iter var ranges over a domain [0, extent) and is bound to
    an expression of the loops around it. For each point of the surrounding loops where predicate holds, the body runs
    with the iter vars set to their bindings. Bindings and predicate name the loops around the block (for a block
    inside another: also the outer block's iter vars) and parameters, and load nothing. The body names the block's own
    iter vars, loops inside the block, parameters and buffers, never anything around the block. If init is given, it
    runs first at points where all iter vars of kind "reduce" are 0.
  * Stores, updates and intrinsics stand inside a block: what has an effect has a signature.
  * Iter kinds: "spatial" iterations are independent; "reduce" iterations combine with an Update and may be reordered,
    not run in parallel; "ordered" iterations run in order and are never reordered.
  * What a block reads and writes follows from its body. An opaque block declares it in reads and writes instead and
    its body must stay inside; only opaque blocks have these fields non-empty.
  * Store sets an element. Update combines: targets = reducer(targets, values), as one simultaneous assignment.
  * An Intrinsic is one machine instruction, by name, with the regions it writes and reads. With a queue it is
    asynchronous: its effect is visible after a Wait on that queue that leaves no more than `pending` groups, as
    closed by Commit, unfinished.
  * A buffer lives as long as the function. Its elements are undefined before they are written, and reading an
    undefined element or one outside the buffer is an error. Inputs are never written. Buffers of scope "register" are
    small arrays that code generation keeps in registers: every index must be constant once unrolled loops are
    expanded. Buffers of any other scope than "global" written under a parallel loop are private to the iteration of
    that loop: undefined when it starts and lost when it ends.
  * Buffers do not overlap, except where a plan says that an output takes an input's place.
  * Memory order: element (i0, i1, …) lies at sum of index*stride; strides None is row-major and compact.

Names are the handles of schedule primitives: those of blocks and loop variables are unique in a function, and so are
those of buffers, loop variables and parameters (identifiers; a block's name may be any string). Iter vars are named
within their block. Statements compare by identity. `seq` flattens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tcompiler.ir.dtypes import DType
from tcompiler.ir.scalar.grammar import TRUE, Load, Reducer, Scalar, Var

LoopKind = Literal[
    "serial",
    "parallel",
    "vectorized",
    "unrolled",
    "blockIdx.x",
    "blockIdx.y",
    "blockIdx.z",
    "threadIdx.x",
    "threadIdx.y",
    "threadIdx.z",
]
IterKind = Literal["spatial", "reduce", "ordered"]
LOOP_KINDS: tuple[str, ...] = get_args(LoopKind)
ITER_KINDS: tuple[str, ...] = get_args(IterKind)
SCOPES = ("global", "shared", "local", "register", "fragment")

Annotation = int | float | bool | str
Annotations = tuple[tuple[str, Annotation], ...]
"""Sorted (key, value) pairs: hints that never change a result."""


class Memo:
    """Base of statements and functions: room for facts derived from a node, which are never part of its meaning."""

    __slots__ = ("_memo",)
    _memo: dict[str, Any]


def memo(node: Memo) -> dict[str, Any]:
    """The facts kept with a node: analyses store what they derived from it, each under a key of its own."""
    try:
        return node._memo
    except AttributeError:
        facts: dict[str, Any] = {}
        object.__setattr__(node, "_memo", facts)
        return facts


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """Memory for a tensor.

    Attributes:
        name: Unique in its function.
        dtype: Element type.
        shape: Extents, over constants and parameters.
        strides: In elements, one per dimension; None is row-major and compact.
        scope: One of SCOPES.
    """

    name: str
    dtype: DType
    shape: tuple[Scalar, ...]
    strides: tuple[Scalar, ...] | None = None
    scope: str = "global"


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A box of a buffer: a start and an extent per dimension."""

    buffer: str
    ranges: tuple[tuple[Scalar, Scalar], ...]


@dataclass(frozen=True, slots=True, eq=False)
class IterVar:
    """A block's iteration variable: its domain is [0, var.extent)."""

    var: Var
    kind: IterKind


@dataclass(frozen=True, slots=True, eq=False)
class Store(Memo):
    """buffer[indices] = value."""

    buffer: str
    indices: tuple[Scalar, ...]
    value: Scalar


@dataclass(frozen=True, slots=True, eq=False)
class Update(Memo):
    """targets = reducer(targets, values)."""

    targets: tuple[Load, ...]
    reducer: Reducer
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Intrinsic(Memo):
    """One machine instruction with declared regions."""

    name: str
    writes: tuple[Region, ...]
    reads: tuple[Region, ...]
    args: tuple[Scalar, ...] = ()
    queue: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Commit(Memo):
    """Closes the group of asynchronous intrinsics issued since the last one on this queue."""

    queue: str


@dataclass(frozen=True, slots=True, eq=False)
class Wait(Memo):
    """Waits until at most `pending` committed groups of a queue are unfinished."""

    queue: str
    pending: int


@dataclass(frozen=True, slots=True, eq=False)
class Block(Memo):
    """A unit of computation behind a signature; see the module's text."""

    name: str
    iters: tuple[IterVar, ...]
    bindings: tuple[Scalar, ...]
    body: Stmt
    predicate: Scalar = TRUE
    init: Stmt | None = None
    opaque: bool = False
    reads: tuple[Region, ...] = ()
    writes: tuple[Region, ...] = ()
    annotations: Annotations = ()


@dataclass(frozen=True, slots=True, eq=False)
class For(Memo):
    """A loop over [0, var.extent)."""

    var: Var
    kind: LoopKind
    body: Stmt
    annotations: Annotations = ()


@dataclass(frozen=True, slots=True, eq=False)
class Seq(Memo):
    """Statements in order; never nested directly in another Seq. Empty does nothing."""

    stmts: tuple[Stmt, ...]


Stmt = For | Seq | Block | Store | Update | Intrinsic | Commit | Wait


@dataclass(frozen=True, slots=True, eq=False)
class Function(Memo):
    """A kernel.

    Attributes:
        name: For people and symbols; not part of the hash.
        params: Free i64 parameters.
        buffers: Every buffer: inputs, outputs and those that live inside.
        inputs: Names of the buffers that the caller fills, in the order of the ABI.
        outputs: Names of the buffers that the caller takes, behind the inputs in the ABI.
        body: What it does.
    """

    name: str
    params: tuple[Var, ...]
    buffers: tuple[Buffer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    body: Stmt


def seq(*stmts: Stmt) -> Stmt:
    """Statements in order: flattened, and a single one stands alone."""
    flat: list[Stmt] = []
    for s in stmts:
        if isinstance(s, Seq):
            flat.extend(s.stmts)
        else:
            flat.append(s)
    return flat[0] if len(flat) == 1 else Seq(tuple(flat))


def children(stmt: Stmt) -> tuple[Stmt, ...]:
    """The statements directly inside a statement (a block's init comes before its body)."""
    match stmt:
        case Seq(stmts=stmts):
            return stmts
        case For(body=body):
            return (body,)
        case Block(init=init, body=body):
            return (body,) if init is None else (init, body)
        case Store() | Update() | Intrinsic() | Commit() | Wait():
            return ()


def map_children(stmt: Stmt, fn: Callable[[Stmt], Stmt]) -> Stmt:
    """Applies fn to every statement directly inside; the same object comes back when nothing changed."""
    match stmt:
        case Seq(stmts=stmts):
            new = [fn(s) for s in stmts]
            return stmt if all(a is b for a, b in zip(new, stmts, strict=True)) else seq(*new)
        case For(var=var, kind=kind, body=body, annotations=annotations):
            x = fn(body)
            return stmt if x is body else For(var, kind, x, annotations)
        case Block(init=init, body=body):
            x = fn(body)
            y = None if init is None else fn(init)
            if x is body and y is init:
                return stmt
            return Block(
                stmt.name,
                stmt.iters,
                stmt.bindings,
                x,
                stmt.predicate,
                y,
                stmt.opaque,
                stmt.reads,
                stmt.writes,
                stmt.annotations,
            )
        case Store() | Update() | Intrinsic() | Commit() | Wait():
            return stmt


def walk(stmt: Stmt) -> Iterator[Stmt]:
    """Every statement, parents before children, in program order; iterative."""
    stack = [stmt]
    while stack:
        s = stack.pop()
        yield s
        stack.extend(reversed(children(s)))


def buffer_table(function: Function) -> dict[str, Buffer]:
    """A function's buffers by name."""
    return {b.name: b for b in function.buffers}
