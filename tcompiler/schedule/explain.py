"""What a refusal says: the call, the piece of IR with the offending node underlined, the condition, the way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tcompiler.ir.loop.grammar import Block, Buffer, For, Function
from tcompiler.ir.loop.text import print_function
from tcompiler.schedule.legality import At, RefusalError
from tcompiler.schedule.trace import call_text

_BEFORE = 2
_AFTER = 6


def explain(
    function: Function, primitive: str, args: Iterable[object], kwargs: Mapping[str, object], refusal: RefusalError
) -> str:
    """The message of a refusal.

    Args:
        function: What the primitive was called on.
        primitive: Its name.
        args: Its arguments.
        kwargs: Its named arguments.
        refusal: What it found.
    """
    parts = [f"{call_text(primitive, args, kwargs)}: {refusal.found}"]
    if refusal.where is not None:
        parts += _excerpt(print_function(function).splitlines(), refusal.where)
    parts.append(f"condition {refusal.failed.id}: {refusal.failed.statement}")
    parts.append(f"to make it legal: {refusal.remedy}")
    return "\n".join(parts)


def _excerpt(lines: list[str], where: At) -> list[str]:
    at, start, end = _locate(lines, where)
    first = max(0, at - _BEFORE)
    last = min(len(lines), at + 1 + _AFTER)
    margin = min(_indent(line) for line in lines[first:last])
    shown = ["  ..."] if first > 0 else []
    for k in range(first, last):
        shown.append("  " + lines[k][margin:])
        if k == at:
            shown.append("  " + " " * (start - margin) + "^" * (end - start))
    if last < len(lines):
        shown.append("  ...")
    return shown


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _locate(lines: list[str], where: At) -> tuple[int, int, int]:
    """Line, first and last column of the text to underline."""
    node = where.node
    if isinstance(node, For):
        pattern = rf"\s*(for {re.escape(node.var.name)} in .*):"
    elif isinstance(node, Block):
        pattern = rf'\s*(with block\("{re.escape(node.name)}".*\)):'
    else:
        assert isinstance(node, Buffer)
        pattern = rf".*?\b({re.escape(node.name)}(?:: .*?\]\)?| = alloc\(.*\)))"
    at, match = next((k, m) for k, line in enumerate(lines) if (m := re.match(pattern, line)) is not None)
    if where.detail is not None:
        outer = _indent(lines[at])
        for k in range(at, len(lines)):
            if k > at and _indent(lines[k]) <= outer:
                break
            column = lines[k].find(where.detail)
            if column >= 0:
                return k, column, column + len(where.detail)
    return at, match.start(1), match.end(1)
