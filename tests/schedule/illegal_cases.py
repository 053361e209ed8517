"""Illegal applications of primitives, one per file: which condition refuses, the program, the schedule, the message.

    condition: split.positive
    program: matmul
    schedule:
    sch.split("i", [0, None])
    message:
    split("i", [0, None]): the factor 0 is not a positive integer
    …

The last line of the schedule is refused, the lines before it are not. The program is the name of one in `programs`,
or its text on the lines below "program:". A case whose condition is "none" is refused by what every primitive does (a
handle that names nothing). ``python -m tests.schedule.illegal_cases FILE…`` writes the messages anew, to be read.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tcompiler.errors import ScheduleError
from tcompiler.ir.loop.grammar import Function
from tcompiler.ir.loop.text import parse_function
from tcompiler.schedule import Schedule, Trace
from tests.schedule.programs import PROGRAMS

HERE = Path(__file__).parent
FOLDERS = (HERE / "illegal", HERE / "data")
_HEADS = ("condition", "program", "schedule", "message")


@dataclass(frozen=True)
class IllegalCase:
    """An application that must be refused.

    Attributes:
        path: Its file.
        condition: Id of the condition that refuses it, or "none".
        program: Name of a program, or its text.
        schedule: Calls as a trace prints them; the last one is refused.
        message: The whole message.
    """

    path: Path
    condition: str
    program: str
    schedule: str
    message: str

    def function(self) -> Function:
        """The program."""
        return PROGRAMS[self.program]() if self.program in PROGRAMS else parse_function(self.program)

    def refusal(self) -> str | None:
        """The message with which the last call is refused, None if it is not refused."""
        *before, last = Trace.from_python(self.schedule).steps
        sch = Schedule(self.function(), debug=True)
        for step in before:
            sch.apply(step)
        try:
            sch.apply(last)
        except ScheduleError as error:
            return str(error)
        return None


def read(path: Path) -> IllegalCase:
    """Reads a case from its file."""
    parts: dict[str, list[str]] = {}
    current = ""
    for line in path.read_text().splitlines():
        head, colon, rest = line.partition(":")
        if colon and head in _HEADS and head not in parts and (head == "condition" or parts):
            current = head
            parts[head] = [rest.strip()] if rest.strip() else []
        else:
            parts[current].append(line)
    text = {head: "\n".join(parts.get(head, [])).strip("\n") for head in _HEADS}
    return IllegalCase(path, text["condition"], text["program"], text["schedule"], text["message"])


def load() -> list[IllegalCase]:
    """Every case."""
    return [read(path) for folder in FOLDERS for path in sorted(folder.glob("*.txt"))]


def _write(path: Path) -> None:
    case = read(path)
    program = f" {case.program}" if case.program in PROGRAMS else f"\n{case.program}"
    message = case.refusal()
    if message is None:
        print(f"{path.name}: NOT REFUSED")
        return
    path.write_text(
        f"condition: {case.condition}\nprogram:{program}\nschedule:\n{case.schedule}\nmessage:\n{message}\n"
    )
    print(f"--- {path.name}\n{message}")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        _write(Path(argument))
