"""What is said of a model that cannot be taken: one message that names everything, in bounded space.

Names and attributes come from the model. They are shown as Python would write them, so that no line break or terminal
escape of a model's gets into a message, and shortened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tcompiler.errors import CompileError, OpenValueError

_NAME = 80
_REASON = 600
_LINES = 60
_EXAMPLES = 4


def quoted(name: str | bytes) -> str:
    """A name of a model's, in quotes and at most a line long."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    if len(text) > _NAME:
        return f"{text[:_NAME]!r}… ({len(text)} characters)"
    return repr(text)


def plain(text: str, most: int = _REASON) -> str:
    """A text with what cannot be printed escaped, shortened in the middle."""
    if len(text) > most:
        text = f"{text[: most * 2 // 3]} … {text[-most // 3 :]}"
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(slots=True)
class Problem:
    """Why one part of a model cannot be converted.

    Attributes:
        noun: What it is: "node", "initializer", "output".
        name: Its name, as the model has it.
        why: What was found and what was expected.
        op: A node's operator.
        inputs: Inputs whose values, given, would solve it.
        path: Where it stands, from the outside in, if in the definition of something else.
    """

    noun: str
    name: str
    why: str
    op: str = ""
    inputs: tuple[str, ...] = ()
    path: str = ""

    def where(self) -> str:
        """The part as a message names it."""
        if not self.name:
            place = f"a {self.noun} {_operator(self.op)}" if self.op else f"{self.noun} ''"
        else:
            place = f"{self.noun} {quoted(self.name)}" + (f" ({_operator(self.op)})" if self.op else "")
        return f"{self.path}, in {place} of its definition" if self.path else place


def refuse(model: str, problems: Sequence[Problem]) -> None:
    """Raises one error for all problems; parts of one kind with one reason share a line.

    Args:
        model: What messages call the model.
        problems: What is wrong; nothing happens if that is nothing.

    Raises:
        OpenValueError: If nothing is wrong but that inputs' values decide shapes.
        CompileError: If anything else is.
    """
    if not problems:
        return
    groups: dict[tuple[str, str, str, str], list[Problem]] = {}
    for p in problems:
        groups.setdefault((p.path, p.noun, p.op, p.why), []).append(p)
    shown, rest = list(groups.values())[:_LINES], list(groups.values())[_LINES:]
    lines = [f"  {_where(same)}: {plain(same[0].why)}" for same in shown]
    if rest:
        kinds = list(dict.fromkeys(same[0].noun + (f" {_operator(same[0].op)}" if same[0].op else "") for same in rest))
        more = ", ".join(kinds[:_LINES]) + (f" and {len(kinds) - _LINES} more" if kinds[_LINES:] else "")
        lines.append(f"  … and {sum(map(len, rest))} more: {more}")
    noun = "problem" if len(problems) == 1 else "problems"
    message = f"{model} cannot be compiled, {len(problems)} {noun}:\n" + "\n".join(lines)
    if all(p.inputs for p in problems):
        raise OpenValueError(message, tuple(dict.fromkeys(i for p in problems for i in p.inputs)))
    raise CompileError(message)


def _operator(op: str) -> str:
    """An operator's name; one that is no plain word in quotes."""
    return op if op.isidentifier() and op.isascii() and len(op) <= _NAME else quoted(op)


def _where(same: Sequence[Problem]) -> str:
    """A part of the model, or the number of parts with one reason and the first of their names."""
    first = same[0]
    if len(same) == 1:
        return first.where()
    names = [quoted(p.name) for p in same if p.name]
    count = f"{len(same)} {first.noun}s" + (f" {_operator(first.op)}" if first.op else "")
    shown = f" ({', '.join(names[:_EXAMPLES])}{', …' if len(names) > _EXAMPLES else ''})" if names else ""
    return f"{first.path}, in {count}{shown} of its definition" if first.path else f"{count}{shown}"
