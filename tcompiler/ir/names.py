"""Names and strings as the languages' texts hold them."""

from __future__ import annotations

import keyword


def is_identifier(name: str) -> bool:
    """Whether a name can stand in a text: a Python identifier in ASCII and no keyword.

    ASCII, because Python's parser takes other identifiers in normal form (NFKC) and would read another name back.
    """
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def quote(text: str) -> str:
    """A Python string literal in double quotes, for any string; what does not print is escaped."""
    literal = repr(text)
    if literal[0] == "'":
        literal = '"' + literal[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    return literal
