"""annotate: a hint on a loop or a block."""

from __future__ import annotations

import math

from tcompiler.ir.loop.grammar import Block, For, Function
from tcompiler.ir.names import is_identifier, quote
from tcompiler.schedule.legality import Result, condition, primitive, refuse
from tcompiler.schedule.tree import block_named, replace, tree

KEY = condition("annotate.key", "the key is an identifier, and not one that a block's header uses: where, opaque")
VALUE = condition("annotate.value", "the value is a bool, a string or a finite number; None takes the hint away")

_RESERVED = ("where", "opaque")


@primitive
def annotate(function: Function, handle: str, key: str, value: int | float | bool | str | None) -> Result:
    """Puts a hint on a loop or a block, in place of an older one of that key.

    ``annotate("i", "unroll_hint", 4)``::

        for i in range(64):                  for i in range(64, unroll_hint=4):
            with block("B"): …         →         with block("B"): …

    A hint never changes a result; it is part of the text and of the hash.

    Args:
        function: The function.
        handle: A loop or a block.
        key: The hint's name.
        value: Its value; None takes it away.

    Raises:
        ScheduleError: If the key or the value is not one that the text can hold.
    """
    t = tree(function)
    target = t.loops.get(handle) or block_named(function, handle)
    if not is_identifier(key) or key in _RESERVED:
        refuse(KEY, target, f"{quote(key)} cannot be the key of a hint", 'choose an identifier, such as "pipeline"')
    if type(value) not in (bool, int, float, str, type(None)) or (type(value) is float and not math.isfinite(value)):
        refuse(VALUE, target, f"the value is {value!r}", "give a finite number, a bool, a string or None")
    kept = {k: v for k, v in target.annotations if k != key}
    if value is not None:
        kept[key] = value
    annotations = tuple(sorted(kept.items()))
    if isinstance(target, For):
        return Result(replace(function, target, For(target.var, target.kind, target.body, annotations)))
    new = Block(
        target.name,
        target.iters,
        target.bindings,
        target.body,
        target.predicate,
        target.init,
        target.opaque,
        target.reads,
        target.writes,
        annotations,
    )
    return Result(replace(function, target, new))
