"""The last step of moving a block: it stands at its new place, and buffers that only the loop uses shrink."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import Block, For, Function, Seq, Stmt
from tcompiler.ir.scalar.grammar import Var
from tcompiler.schedule.primitives.boxes import inner_loops
from tcompiler.schedule.primitives.compaction import compacted
from tcompiler.schedule.primitives.motion import is_output, loops, nest, parts, readers, rebuilt, writers
from tcompiler.schedule.tree import blocks_under


def placed(
    function: Function,
    old: Block,
    around: For,
    new: Block,
    variables: Sequence[Var],
    between: Iterable[str],
    shrinking: Iterable[str],
    used: set[str],
    *,
    produces: bool,
) -> Function:
    """Moves a block into a loop's body.

    Args:
        function: The function.
        old: The block as it stands.
        around: The loop.
        new: The block as it will stand.
        variables: Its loops, outermost first.
        between: The buffers between the block and what is there already.
        shrinking: Those of them that shrink if the loop holds all their users.
        used: Names in use.
        produces: Place it before the first block that reads these buffers; else behind the last that writes them.
    """
    names, shrink = set(between), set(shrinking)
    inner = inner_loops(around.body) | set(variables)
    under = {b for b in blocks_under(around) if b is not old}
    changes: dict[Block, Block] = {}
    declared = list(function.buffers)
    for k, buffer in enumerate(declared):
        if buffer.name not in shrink or is_output(function, buffer.name):
            continue
        users = list(dict.fromkeys([*writers(function, buffer.name), *readers(function, buffer.name)]))
        if all(b in under or b is old for b in users):
            now = [changes.get(new, new) if b is old else changes.get(b, b) for b in users]
            declared[k], shifted = compacted(function, buffer, around, now, inner, used)
            origin = {c: b for b, c in changes.items()}
            changes.update({origin.get(b, b): c for b, c in shifted.items()})
    moved = loops(variables, changes.pop(new, new))
    gone = nest(function, old)
    here = [s for s in parts(around) if s is not gone]
    if produces:
        place = next((s for s in here if not names.isdisjoint(touched(s).reads)), here[0])
    else:
        place = next((s for s in reversed(here) if not names.isdisjoint(touched(s).writes)), here[-1])
    statements: dict[Stmt, Stmt] = {gone: Seq(()), **dict[Stmt, Stmt](changes.items())}
    return rebuilt(
        function,
        statements,
        before={place: moved} if produces else None,
        after=None if produces else {place: moved},
        buffers=tuple(declared),
    )
