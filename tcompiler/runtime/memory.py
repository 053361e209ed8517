"""Aligned memory, and the block that holds a model's constants."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tcompiler.errors import InternalError
from tcompiler.runtime.abi import ALIGNMENT, round_up
from tcompiler.runtime.dtypes import NUMPY
from tcompiler.runtime.manifest import ConstantEntry

Array = np.ndarray[Any, np.dtype[Any]]

_first_byte: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer
_address = ctypes.addressof


def address_of(array: Array) -> int:
    """Return the address of an array's first element."""
    try:
        # A quarter of the time of the way below, but for writeable, contiguous, non-empty arrays only.
        return _address(_first_byte(array))
    except (TypeError, ValueError, BufferError):
        address: int = array.__array_interface__["data"][0]
        return address


def aligned_bytes(size: int, alignment: int = ALIGNMENT) -> Array:
    """Allocate uninitialised bytes at an aligned address.

    Args:
        size: How many bytes.
        alignment: A power of two.

    Returns:
        An array [size] of uint8.
    """
    raw = np.empty(size + alignment, np.uint8)
    start = -address_of(raw) % alignment
    return raw[start : start + size]


def lay_out_constants(constants: Mapping[str, tuple[str, Sequence[int]]]) -> tuple[list[ConstantEntry], int]:
    """Give every constant a place in the constants block, each at a multiple of 64 bytes, in the mapping's order.

    Args:
        constants: Element type (in the manifest's names) and shape of each, by name.

    Returns:
        The entries for `Manifest.constants`, and `Manifest.constants_bytes`.
    """
    entries: list[ConstantEntry] = []
    offset = 0
    for name, (dtype, shape) in constants.items():
        entry: ConstantEntry = {"name": name, "offset": offset, "dtype": dtype, "shape": list(shape)}
        entries.append(entry)
        offset = round_up(offset + constant_bytes(entry), ALIGNMENT)
    return entries, offset


def constant_bytes(entry: ConstantEntry) -> int:
    """Return how many bytes a constant takes."""
    return math.prod(entry["shape"]) * NUMPY[entry["dtype"]].itemsize


def pack_constants(entries: Sequence[ConstantEntry], size: int, constants: Mapping[str, Array]) -> Array:
    """Copy constants to their places in a new block.

    Args:
        entries: `Manifest.constants`.
        size: `Manifest.constants_bytes`.
        constants: The arrays by name.

    Returns:
        The block, [size] of uint8, read-only.

    Raises:
        InternalError: An entry has no array, or one of another size or type.
    """
    block = aligned_bytes(size)
    for entry in entries:
        array = constants.get(entry["name"])
        if array is None or list(array.shape) != entry["shape"] or array.dtype != NUMPY[entry["dtype"]]:
            found = "nothing" if array is None else f"{array.dtype}{list(array.shape)}"
            wanted = f"{entry['dtype']}{entry['shape']}"
            raise InternalError(f"constant {entry['name']!r}: expected {wanted}, found {found}")
        view_constant(block, entry)[...] = array
    block.flags.writeable = False
    return block


def view_constant(block: Array, entry: ConstantEntry) -> Array:
    """Return a constant's view of the block, with its type and shape."""
    part = block[entry["offset"] : entry["offset"] + constant_bytes(entry)]
    return part.view(NUMPY[entry["dtype"]]).reshape(entry["shape"])
