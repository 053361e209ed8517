"""Traces: a schedule as a list of primitive calls, in JSON and as Python text."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tcompiler.errors import ParseError, ScheduleError
from tcompiler.ir.layout import IndexMap
from tcompiler.ir.scalar.text import print_scalar

FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One call of a primitive; arguments are ints, floats, bools, strings, None, and lists and tuples of them."""

    primitive: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return call_text(self.primitive, self.args, self.kwargs)


@dataclass(slots=True, eq=False)
class Trace:
    """A replayable list of calls."""

    steps: list[Step] = field(default_factory=list)

    def to_json(self) -> str:
        """The trace as one line of JSON: ``{"format": 1, "steps": [[primitive, [args], {kwargs}], ...]}``."""
        steps: list[list[Any]] = [
            [s.primitive, list(s.args), dict(s.kwargs)] if s.kwargs else [s.primitive, list(s.args)] for s in self.steps
        ]
        return json.dumps({"format": FORMAT, "steps": steps}, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Trace:
        """Reads what to_json wrote.

        Raises:
            ScheduleError: If the text is not a trace, or of another format.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ScheduleError(
                f"this is no trace: not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
            ) from None
        if not isinstance(data, dict) or not isinstance(data.get("steps"), list):
            raise ScheduleError('this is no trace: expected an object with "format" and a list "steps"')
        if data.get("format") != FORMAT:
            raise ScheduleError(f"a trace of format {data.get('format')!r}; this version reads format {FORMAT}")
        return Trace([_step(entry, k) for k, entry in enumerate(data["steps"])])

    def to_python(self) -> str:
        """The trace as Python, one ``sch.primitive(...)`` a line."""
        return "".join(f"sch.{step}\n" for step in self.steps)

    @staticmethod
    def from_python(text: str) -> Trace:
        """Reads what to_python wrote, comments and assignments of the names allowed; nothing is executed.

        Raises:
            ParseError: If a line is anything but a call ``sch.primitive(literals)``.
        """
        try:
            module = ast.parse(text)
        except SyntaxError as error:
            line = error.lineno or 1
            raise ParseError(
                f"not Python: {error.msg}", line, error.offset or 1, (error.text or "").rstrip("\n")
            ) from None
        lines = text.splitlines()
        return Trace([_call(statement, lines) for statement in module.body])


def _step(entry: object, k: int) -> Step:
    match entry:
        case [str() as name, list() as args]:
            return Step(name, tuple(args))
        case [str() as name, list() as args, dict() as kwargs]:
            return Step(name, tuple(args), kwargs)
    raise ScheduleError(f"step {k} of the trace is {json.dumps(entry)}; expected [primitive, [arguments], {{options}}]")


def _call(statement: ast.stmt, lines: Sequence[str]) -> Step:
    node: ast.AST = statement
    if isinstance(node, ast.Expr | ast.Assign):
        node = node.value
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="sch"), attr=name), args=args, keywords=keywords):
            return Step(
                name,
                tuple(_literal(a, lines) for a in args),
                {_keyword(k, lines): _literal(k.value, lines) for k in keywords},
            )
    raise _error(node, lines, "expected a call sch.primitive(...)")


def _keyword(keyword: ast.keyword, lines: Sequence[str]) -> str:
    if keyword.arg is None:
        raise _error(keyword, lines, "expected name=value, not **")
    return keyword.arg


def _literal(node: ast.expr, lines: Sequence[str]) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _error(node, lines, "expected a literal: a number, a string, None, or a list of them") from None


def _error(node: ast.AST, lines: Sequence[str], message: str) -> ParseError:
    line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    end = getattr(node, "end_col_offset", column + 1) if getattr(node, "end_lineno", line) == line else column + 1
    return ParseError(message, line, column + 1, lines[line - 1] if line <= len(lines) else "", end - column)


def plain(value: Any) -> Any:
    """An argument as a trace keeps it: an index map as its text, everything else as it is."""
    if isinstance(value, IndexMap):
        outputs = ", ".join(map(print_scalar, value.outputs))
        comma = "," if len(value.outputs) == 1 else ""
        return f"lambda {', '.join(v.name for v in value.inputs)}: ({outputs}{comma})"
    return value


def literal_text(value: object) -> str:
    """A value as a Python literal, strings in double quotes, sequences as lists."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal_text, value)) + "]"
    return repr(value)


def call_text(primitive: str, args: Iterable[object], kwargs: Mapping[str, object]) -> str:
    """A call as it stands in a trace: ``split("i", [4, None])``."""
    parts = [literal_text(a) for a in args]
    parts += [f"{k}={literal_text(v)}" for k, v in kwargs.items()]
    return f"{primitive}({', '.join(parts)})"
