"""Reads the symbol table of an ELF relocatable object: which names it defines and which it wants from elsewhere.

Source: System V ABI, chapters 4 and 5 (sections, symbol table), in the 64-bit little-endian form.
"""

from __future__ import annotations

import struct

_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMBOL_TABLE = 2
_LOCAL = 0


def symbols(data: bytes) -> tuple[set[str], set[str]]:
    """List the global symbols of a relocatable object.

    Args:
        data: The object file; must be well-formed 64-bit little-endian ELF.

    Returns:
        The names it defines, and the names it refers to without defining them.
    """
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    headers = [_SECTION_HEADER.unpack_from(data, sections_at + size * i) for i in range(count)]
    defined: set[str] = set()
    undefined: set[str] = set()
    for _, kind, _, _, offset, length, link, *_ in headers:
        if kind != _SYMBOL_TABLE:
            continue
        names_at = headers[link][4]
        for at in range(offset, offset + length, _SYMBOL.size):
            name_at, info, _, section, _, _ = _SYMBOL.unpack_from(data, at)
            if name_at == 0 or info >> 4 == _LOCAL:
                continue
            start = names_at + name_at
            name = data[start : data.index(0, start)].decode()
            (defined if section else undefined).add(name)
    return defined, undefined
