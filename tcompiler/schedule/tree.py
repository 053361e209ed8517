"""The loop tree of a function: handles to nodes, parents, and rewriting by copying the path to the root only.

What lies inside a block is not part of the tree: primitives see a block by its signature.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping

from tcompiler.ir.loop.analysis import loops as every_loop
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function, Seq, Stmt, memo, seq, walk
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import TRUE, Scalar, Var, conjunction, conjuncts
from tcompiler.ir.scalar.rewrite import free_vars, substituter
from tcompiler.schedule.legality import UnknownNameError


class Tree:
    """Handles of one function: loops and blocks outside of block bodies, and every statement's parent.

    `inside` has the names of the loops and blocks in block bodies: no handles, but names that are taken.
    """

    __slots__ = ("_position", "blocks", "inside", "loops", "parent")

    def __init__(self, function: Function) -> None:
        self._position: dict[Block, int] | None = None
        self.loops: dict[str, For] = {}
        self.blocks: dict[str, Block] = {}
        self.inside: set[str] = set()
        self.parent: dict[Stmt, Stmt | None] = {function.body: None}
        loops, blocks, parent = self.loops, self.blocks, self.parent
        stack = [function.body]
        while stack:
            stmt = stack.pop()
            if isinstance(stmt, For):
                loops[stmt.var.name] = stmt
                parent[stmt.body] = stmt
                stack.append(stmt.body)
            elif isinstance(stmt, Block):
                blocks[stmt.name] = stmt
                if type(stmt.body) in _NESTING:
                    self.inside.update(_names_in(stmt.body))
            elif isinstance(stmt, Seq):
                for child in stmt.stmts:
                    parent[child] = stmt
                stack.extend(reversed(stmt.stmts))

    @property
    def position(self) -> dict[Block, int]:
        """Every block's place in program order."""
        if self._position is None:
            self._position = {b: k for k, b in enumerate(self.blocks.values())}
        return self._position

    def ancestors(self, stmt: Stmt) -> Iterator[Stmt]:
        """The statements around one, innermost first."""
        above = self.parent[stmt]
        while above is not None:
            yield above
            above = self.parent[above]

    def loops_above(self, stmt: Stmt) -> list[For]:
        """The loops around a statement, outermost first."""
        parent = self.parent
        found = []
        above = parent[stmt]
        while above is not None:
            if isinstance(above, For):
                found.append(above)
            above = parent[above]
        found.reverse()
        return found


_NESTING = frozenset({For, Block, Seq})


def _names_in(body: Stmt) -> Iterator[str]:
    for s in walk(body):
        if isinstance(s, For):
            yield s.var.name
        elif isinstance(s, Block):
            yield s.name


def tree(function: Function) -> Tree:
    """The function's tree, made once."""
    facts = memo(function)
    found: Tree | None = facts.get("tree")
    if found is None:
        found = facts["tree"] = Tree(function)
    return found


def loop_named(function: Function, name: str) -> For:
    """The loop with this name.

    Raises:
        UnknownNameError: If there is none.
    """
    found = tree(function).loops.get(name)
    if found is None:
        raise _unknown(function, "loop", name)
    return found


def block_named(function: Function, name: str) -> Block:
    """The block with this name.

    Raises:
        UnknownNameError: If there is none.
    """
    found = tree(function).blocks.get(name)
    if found is None:
        raise _unknown(function, "block", name)
    return found


def buffer_named(function: Function, name: str) -> Buffer:
    """The buffer with this name.

    Raises:
        UnknownNameError: If there is none.
    """
    for b in function.buffers:
        if b.name == name:
            return b
    raise _unknown(function, "buffer", name)


def _unknown(function: Function, kind: str, name: str) -> UnknownNameError:
    t = tree(function)
    names: dict[str, list[str]] = {
        "loop": list(t.loops),
        "block": list(t.blocks),
        "buffer": [b.name for b in function.buffers],
    }
    for other, those in names.items():
        if other != kind and name in those:
            return UnknownNameError(
                name, f'"{name}" is a {other}; expected a {kind}, and these are {_listed(names[kind])}'
            )
    if kind == "loop" and any(s.var.name == name for s in every_loop(function)):
        return UnknownNameError(
            name, f'the loop "{name}" is inside a block; primitives see a block by its signature alone'
        )
    near = difflib.get_close_matches(name, names[kind], n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    return UnknownNameError(name, f'there is no {kind} "{name}"{hint}; the {kind}s are {_listed(names[kind])}')


def _listed(names: list[str], most: int = 16) -> str:
    shown = ", ".join(names[:most])
    return (shown + f" and {len(names) - most} more" if len(names) > most else shown) or "none"


def replace(
    function: Function,
    old: Stmt,
    new: Stmt,
    buffers: tuple[Buffer, ...] | None = None,
) -> Function:
    """The function with one statement of its tree replaced; only the path to the root is copied.

    Args:
        function: Where old stands.
        old: A statement of the function's tree.
        new: Takes its place; an empty Seq removes old, and loops that are left with nothing to do go as well.
        buffers: The buffers of the new function, if they change.
    """
    parent = tree(function).parent
    above = parent[old]
    while above is not None:
        if isinstance(above, Seq):
            new = seq(*[new if s is old else s for s in above.stmts])
        elif isinstance(above, For) and not (isinstance(new, Seq) and not new.stmts):
            new = For(above.var, above.kind, new, above.annotations)
        old, above = above, parent[above]
    return Function(
        function.name,
        function.params,
        function.buffers if buffers is None else buffers,
        function.inputs,
        function.outputs,
        new,
    )


def blocks_under(stmt: Stmt) -> list[Block]:
    """The blocks of a subtree in program order."""
    found: list[Block] = []
    stack = [stmt]
    while stack:
        s = stack.pop()
        if isinstance(s, Block):
            found.append(s)
        elif isinstance(s, For):
            stack.append(s.body)
        elif isinstance(s, Seq):
            stack.extend(reversed(s.stmts))
    return found


def loops_under(stmt: Stmt) -> list[For]:
    """The loops of a subtree in program order, the statement itself included if it is one."""
    found: list[For] = []
    stack = [stmt]
    while stack:
        s = stack.pop()
        if isinstance(s, For):
            found.append(s)
            stack.append(s.body)
        elif isinstance(s, Seq):
            stack.extend(reversed(s.stmts))
    return found


def map_blocks(stmt: Stmt, fn: Callable[[Block], Block]) -> Stmt:
    """Applies fn to every block of a subtree; what does not change is shared."""
    if isinstance(stmt, Block):
        return fn(stmt)
    if isinstance(stmt, For):
        body = map_blocks(stmt.body, fn)
        return stmt if body is stmt.body else For(stmt.var, stmt.kind, body, stmt.annotations)
    if isinstance(stmt, Seq):
        new = [map_blocks(s, fn) for s in stmt.stmts]
        return stmt if all(a is b for a, b in zip(new, stmt.stmts, strict=True)) else seq(*new)
    return stmt


def with_header(block: Block, bindings: tuple[Scalar, ...], predicate: Scalar) -> Block:
    """The block with other bindings and another predicate; itself if they are the same."""
    if predicate is block.predicate and all(a is b for a, b in zip(bindings, block.bindings, strict=True)):
        return block
    return Block(
        block.name,
        block.iters,
        bindings,
        block.body,
        predicate,
        block.init,
        block.opaque,
        block.reads,
        block.writes,
        block.annotations,
    )


def rebind(stmt: Stmt, mapping: Mapping[Scalar, Scalar], guard: Scalar = TRUE) -> Stmt:
    """Replaces loop variables in the headers of a subtree's blocks, simplifies, and adds a guard to every predicate."""
    replaced = substituter(mapping)

    def header(block: Block) -> Block:
        bindings = tuple([b if (new := replaced(b)) is b else simplify(new) for b in block.bindings])
        predicate = block.predicate
        if predicate is not TRUE and (new := replaced(predicate)) is not predicate:
            predicate = conjunction(*[simplify(c) for c in conjuncts(new)])
        if guard is not TRUE:
            predicate = conjunction(predicate, guard)
        return with_header(block, bindings, predicate)

    return map_blocks(stmt, header)


def feeds(block: Block, var: Var) -> set[str]:
    """The kinds of the iter vars whose bindings name a loop variable."""
    return {v.kind for v, b in zip(block.iters, block.bindings, strict=True) if var in free_vars(b)}


def fed_iters(block: Block, var: Var) -> list[str]:
    """The names of the iter vars whose bindings name a loop variable, with their kinds, for messages."""
    return [f"{v.var.name} ({v.kind})" for v, b in zip(block.iters, block.bindings, strict=True) if var in free_vars(b)]


def names_used(function: Function) -> set[str]:
    """Every name of a function: loops, blocks, buffers and parameters."""
    t = tree(function)
    used = {*t.loops, *t.blocks, *t.inside}
    used.update([b.name for b in function.buffers])
    used.update([p.name for p in function.params])
    return used


def fresh(used: set[str], wanted: Iterable[str]) -> tuple[str, ...]:
    """The wanted names where they are free, else with the first free suffix _2, _3, …; they count as used from now."""
    result = []
    for name in wanted:
        free, k = name, 2
        while free in used:
            free, k = f"{name}_{k}", k + 1
        used.add(free)
        result.append(free)
    return tuple(result)
