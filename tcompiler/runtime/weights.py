"""Reads and writes constants in the safetensors format, straight from and to the constants block.

The format: a little-endian u64, the length of the header; the header, a JSON object of name → {dtype, shape,
data_offsets}, padded with spaces; the tensors' bytes without gaps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import IO, Protocol

from tcompiler.runtime.dtypes import SAFETENSORS
from tcompiler.runtime.manifest import ConstantEntry
from tcompiler.runtime.memory import Array, aligned_bytes, constant_bytes


class _Sink(Protocol):
    def write(self, data: bytes | memoryview, /) -> object: ...


def header_of(entries: Sequence[ConstantEntry]) -> bytes:
    """Return the length field and the header of a file that holds these constants in this order."""
    header: dict[str, dict[str, object]] = {}
    position = 0
    for entry in entries:
        end = position + constant_bytes(entry)
        header[entry["name"]] = {
            "dtype": SAFETENSORS[entry["dtype"]],
            "shape": entry["shape"],
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    # The data begin at a multiple of 64, for readers that map the file.
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text


def write(sink: _Sink, entries: Sequence[ConstantEntry], block: Array) -> str:
    """Write constants as a safetensors file.

    Args:
        sink: Where the bytes go.
        entries: The constants and their places in the block.
        block: The constants block.

    Returns:
        SHA-256 of what was written, in hexadecimal.
    """
    digest = hashlib.sha256()
    header = header_of(entries)
    view = block.data
    parts: list[bytes | memoryview] = [header]
    parts += [view[entry["offset"] : entry["offset"] + constant_bytes(entry)] for entry in entries]
    for part in parts:
        digest.update(part)
        sink.write(part)
    return digest.hexdigest()


def read(source: IO[bytes], size: int, entries: Sequence[ConstantEntry], block_size: int) -> tuple[Array, str]:
    """Read a file that `write` wrote into a new constants block.

    Args:
        source: An unbuffered file, at the first byte.
        size: How many bytes it holds.
        entries: The constants that it must hold, and their places in the block.
        block_size: Size of the block in bytes.

    Returns:
        The block, read-only, and the SHA-256 of what was read.

    Raises:
        ValueError: The file holds other constants, or ends early.
    """
    expected = header_of(entries)
    if size != len(expected) + sum(map(constant_bytes, entries)) or source.read(len(expected)) != expected:
        raise ValueError("weights.safetensors does not hold the constants that the manifest lists")
    digest = hashlib.sha256(expected)
    block = aligned_bytes(block_size)
    view = block.data
    for entry in entries:
        place = view[entry["offset"] : entry["offset"] + constant_bytes(entry)]
        done = 0
        while done < len(place):
            count = source.readinto(place[done:])  # type: ignore[attr-defined]
            if not count:
                raise ValueError("weights.safetensors ends early")
            done += count
        digest.update(place)
    block.flags.writeable = False
    return block, digest.hexdigest()
