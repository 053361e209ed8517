"""The command line: one file per command."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `tcompiler` command; user errors become one message and exit code 1."""
    import sys

    from tcompiler.cli.app import app
    from tcompiler.errors import UserError

    try:
        app()
    except UserError as error:
        print(f"tcompiler: {error}", file=sys.stderr)
        raise SystemExit(1) from None
