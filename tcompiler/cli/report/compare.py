"""Two texts side by side, with what differs marked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from tcompiler.cli.report.markup import Html, join, tag

LIMIT = 10_000
"""Texts of more lines are not compared."""
_CONTEXT = 3
_WORD = re.compile(r"\w+|\s+|.", re.DOTALL)
_KEY = re.compile(r"\s*([\w, ]*\w)\s*[:=]")
_LONG = 600
"""Words are not marked in longer lines, nor in any line where more than _MANY lines differ: it would take too long."""
_MANY = 3000
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison as a table; rows of left-out lines refer to lines of the text after the pass.

    Args:
        table: The table, None if the texts are equal or too long.
        removed: Lines that are gone or changed.
        added: Lines that are new or changed.
        note: Why there is no table.
    """

    table: Html | None
    removed: int = 0
    added: int = 0
    note: str = ""


def abbreviated(text: str) -> str:
    """A text with the digests of constants cut to twelve digits."""
    return _DIGEST.sub(r"\1…", text)


def compare(before: str, after: str, heads: tuple[str, str] = ("before", "after")) -> Comparison:
    """Compares two texts line by line.

    Args:
        before: The left text.
        after: The right text.
        heads: What stands above them.
    """
    if before == after:
        return Comparison(None, note="(unchanged)")
    left, right = before.splitlines(), after.splitlines()
    if max(len(left), len(right)) > LIMIT:
        return Comparison(None, note=f"too long to compare here: {len(left)} lines before, {len(right)} after")
    rows: list[Html] = []
    removed = added = 0
    blocks = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    mark = sum(max(a1 - a0, b1 - b0) for kind, a0, a1, b0, b1 in blocks if kind != "equal") <= _MANY
    for at, (kind, a0, a1, b0, b1) in enumerate(blocks):
        if kind == "equal":
            rows += _unchanged(left, a0, a1, b0, at == 0, at == len(blocks) - 1)
            continue
        removed += a1 - a0
        added += b1 - b0
        for i, j in _pairs(left[a0:a1], right[b0:b1]):
            rows.append(_changed(left, right, None if i is None else a0 + i, None if j is None else b0 + j, mark))
    head = tag("tr", tag("th", heads[0], colspan=2, scope="col"), tag("th", heads[1], colspan=2, scope="col"))
    columns = tag("colgroup", [tag("col", _class=kind) for kind in ("n", None, "n", None)])
    table = tag("table", columns, tag("thead", head), tag("tbody", rows), _class="compare")
    return Comparison(table, removed, added)


def _unchanged(left: Sequence[str], a0: int, a1: int, b0: int, first: bool, last: bool) -> Iterator[Html]:
    """Unchanged lines: three beside each change, the rest folded."""
    head = 0 if first else _CONTEXT
    tail = 0 if last else _CONTEXT
    if a1 - a0 <= head + tail + 2:
        head, tail = a1 - a0, 0
    for k in range(a0, a0 + head):
        yield _row(k, b0 + k - a0, left[k], left[k], "", "")
    hidden = a1 - a0 - head - tail
    if hidden:
        label = f"… {hidden} unchanged line{'s' if hidden > 1 else ''} …"
        button = tag("button", label, type="button")
        start = {"data_a": a0 + head + 1, "data_b": b0 + head + 1, "data_n": hidden}
        yield tag("tr", tag("td", button, colspan=4), _class="fold", **start)
    for k in range(a1 - tail, a1):
        yield _row(k, b0 + k - a0, left[k], left[k], "", "")


def _pairs(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[int | None, int | None]]:
    """Which lines stand side by side in a changed stretch: those that define the same name, in order."""
    a, b = ([_key(line) for line in lines] for lines in (left, right))
    for kind, a0, a1, b0, b1 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal" or a1 - a0 == b1 - b0:
            yield from zip(range(a0, a1), range(b0, b1), strict=True)
        else:
            yield from ((i, None) for i in range(a0, a1))
            yield from ((None, j) for j in range(b0, b1))


def _key(line: str) -> str:
    match = _KEY.match(line)
    return match[1] if match else line.split("(")[0]


def _changed(left: Sequence[str], right: Sequence[str], i: int | None, j: int | None, mark: bool) -> Html:
    if i is None:
        assert j is not None
        return _row(None, j, "", right[j], "", "add")
    if j is None:
        return _row(i, None, left[i], "", "del", "")
    before, after = _marked(left[i], right[j]) if mark else (left[i], right[j])
    return _row(i, j, before, after, "del", "add")


def _marked(before: str, after: str) -> tuple[Html | str, Html | str]:
    """Two versions of a line with the words that differ marked; as they are where little is left of the first."""
    if len(before) > _LONG or len(after) > _LONG:
        return before, after
    a, b = _WORD.findall(before), _WORD.findall(after)
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if matcher.ratio() < 0.4:
        return before, after
    left: list[str] = []
    right: list[str] = []
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        for side, words in ((left, a[a0:a1]), (right, b[b0:b1])):
            if words:
                side.append("".join(words) if kind == "equal" else tag("mark", "".join(words)))
    return join(left), join(right)


def _row(i: int | None, j: int | None, before: str, after: str, left: str, right: str) -> Html:
    return tag(
        "tr",
        tag("td", "" if i is None else str(i + 1), _class="n"),
        tag("td", before, _class=left or None),
        tag("td", "" if j is None else str(j + 1), _class="n"),
        tag("td", after, _class=right or None),
    )
