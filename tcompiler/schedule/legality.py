"""Legality as data: every condition of a primitive has an id and a statement, and a refusal quotes it.

A primitive asks its conditions itself and calls `refuse` where one fails:

    POSITIVE = condition("split.positive", "every given factor is at least 1")
    ...
    if factor < 1:
        refuse(POSITIVE, loop, f"the factor {factor} is less than 1", "give factors of at least 1")

The decorator `primitive` turns the refusal into a ScheduleError that shows the call and the piece of IR.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Concatenate, NamedTuple, ParamSpec

from tcompiler.errors import ScheduleError
from tcompiler.ir.loop.grammar import Block, Buffer, For, Function

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition under which a primitive is legal.

    Attributes:
        id: "primitive.condition".
        statement: The condition in one line, as it is shown to the user.
    """

    id: str
    statement: str


CONDITIONS: dict[str, Condition] = {}
"""Every condition of every primitive, by id."""

_disabled: set[str] = set()


def condition(condition_id: str, statement: str) -> Condition:
    """Registers a condition.

    Raises:
        ValueError: If the id is taken.
    """
    if condition_id in CONDITIONS:
        raise ValueError(f"the condition {condition_id} is registered twice")
    CONDITIONS[condition_id] = result = Condition(condition_id, statement)
    return result


class Result(NamedTuple):
    """What a primitive returns: the new function and the names that it made, in the order its docstring says."""

    function: Function
    names: tuple[str, ...] = ()


class At(NamedTuple):
    """A place in the IR to underline: a loop, block or buffer, and within its text the line with `detail`."""

    node: For | Block | Buffer
    detail: str | None = None


class RefusalError(Exception):
    """Raised by `refuse`; the decorator `primitive` makes a ScheduleError of it."""

    def __init__(self, failed: Condition, where: At | None, found: str, remedy: str) -> None:
        self.failed = failed
        self.where = where
        self.found = found
        self.remedy = remedy


class UnknownNameError(ScheduleError):
    """A handle names nothing in the function. The Schedule adds what became of the name.

    Attributes:
        name: The handle.
        detail: What the function has instead.
    """

    def __init__(self, name: str, detail: str) -> None:
        self.name = name
        self.detail = detail
        super().__init__(detail)


def refuse(failed: Condition, where: For | Block | Buffer | At | None, found: str, remedy: str) -> None:
    """Refuses the call under way, unless a test has taken this condition out.

    Args:
        failed: The condition that does not hold.
        where: The offending node, underlined in the message.
        found: What breaks the condition, as a clause.
        remedy: What would make the call legal, as an imperative.

    Raises:
        RefusalError: Always, but with the condition taken out.
    """
    if failed.id not in _disabled:
        raise RefusalError(failed, where if where is None or isinstance(where, At) else At(where), found, remedy)


@contextmanager
def without(condition_id: str) -> Iterator[None]:
    """Takes one condition out, for tests that show that something depends on it.

    Raises:
        KeyError: If no condition has this id.
    """
    CONDITIONS[condition_id]
    _disabled.add(condition_id)
    try:
        yield
    finally:
        _disabled.discard(condition_id)


def primitive(fn: Callable[Concatenate[Function, P], Result]) -> Callable[Concatenate[Function, P], Result]:
    """Makes a schedule primitive of a function on IR: its refusals become ScheduleErrors with the call and the IR."""

    @functools.wraps(fn)
    def call(function: Function, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            return fn(function, *args, **kwargs)
        except RefusalError as refusal:
            from tcompiler.schedule.explain import explain

            message = explain(function, fn.__name__, args, kwargs, refusal)
        except UnknownNameError as unknown:
            from tcompiler.schedule.trace import call_text

            raise UnknownNameError(unknown.name, f"{call_text(fn.__name__, args, kwargs)}: {unknown.detail}") from None
        raise ScheduleError(message)

    return call


Primitive = Callable[..., Result]
