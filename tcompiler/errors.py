"""Errors: the user's (a model, a schedule, a file) apart from ours."""

from __future__ import annotations


class TCompilerError(Exception):
    """Base class of every error that tcompiler raises on purpose."""


class UserError(TCompilerError):
    """Something the user gave is wrong; the message says what, where, what was expected, what would work."""


class InternalError(TCompilerError):
    """A bug of ours: an invariant between two parts of the compiler does not hold."""


class ParseError(UserError):
    """A text of one of the languages cannot be read.

    Args:
        message: What was found and what was expected.
        line: Line of the offence, from 1.
        column: Column of the offence, from 1.
        source_line: The offending line, shown with a caret under the column.
        length: How many characters the caret underlines.
    """

    def __init__(self, message: str, line: int, column: int, source_line: str, length: int = 1) -> None:
        self.message = message
        self.line = line
        self.column = column
        self.source_line = source_line
        caret = " " * (column - 1) + "^" * max(1, length)
        super().__init__(f"line {line}, column {column}: {message}\n  {source_line}\n  {caret}")


class VerifyError(UserError):
    """A program of one of the languages breaks a rule of that language.

    Args:
        message: The rule that is broken and by what.
        where: Name of the node that breaks it (a block, a scope, a value).
    """

    def __init__(self, message: str, where: str = "") -> None:
        self.message = message
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)


class ScheduleError(UserError):
    """A schedule primitive refuses: the rewrite would not keep the program's meaning, or has none here."""


class CompileError(UserError):
    """A model cannot be compiled as asked; the message names every reason."""


class OpenShapeError(CompileError):
    """A model leaves the shape of an input open, and none was given."""


class OpenValueError(CompileError):
    """Shapes inside a model depend on the values of inputs, and these were not given.

    Args:
        message: What was found, where.
        inputs: Names of the inputs.
    """

    def __init__(self, message: str, inputs: tuple[str, ...]) -> None:
        self.inputs = inputs
        super().__init__(message)


class LoadError(UserError):
    """A saved model cannot be loaded: wrong version, wrong target, or damaged."""


class ArgumentError(UserError):
    """A compiled model was called with arguments that it does not take."""
