"""Tensors in an ONNX file: element types, raw and typed data, and data in files beside the model."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.limits import Limits
from tcompiler.frontend.onnx.report import quoted
from tcompiler.frontend.onnx.wire import kept_data
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType

# Numbers from onnx.proto's TensorProto.DataType, so that reading a type imports nothing.
_DTYPES: dict[int, DType] = {
    1: dt.f32,
    2: dt.u8,
    3: dt.i8,
    4: dt.u16,
    5: dt.i16,
    6: dt.i32,
    7: dt.i64,
    9: dt.bool_,
    10: dt.f16,
    11: dt.f64,
    12: dt.u32,
    13: dt.u64,
    16: dt.bf16,
}
_EXTERNAL = 1


def element_type(code: int, what: str) -> DType:
    """Our element type for a number of ONNX's.

    Raises:
        CompileError: If we have no such type.
    """
    d = _DTYPES.get(code)
    if d is None:
        from onnx import TensorProto

        known = dict(zip(TensorProto.DataType.values(), TensorProto.DataType.keys(), strict=True))
        raise CompileError(f"{what} has element type {known.get(code, code)}; expected one of {', '.join(dt.DTYPES)}")
    return d


def element_code(d: DType) -> int:
    """ONNX's number for an element type of ours."""
    return next(code for code, known in _DTYPES.items() if known is d)


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Where a model's data lie, apart from those in the parsed model.

    Attributes:
        folder: The model's own folder, where external data may lie; None if the model came from memory.
        kept: Data that were taken out of the model's bytes before these were parsed (see wire.py).
    """

    folder: Path | None
    kept: Sequence[memoryview] = ()


class TensorReader:
    """Reads the tensors of one model and counts their bytes.

    Args:
        storage: Where data lie.
        limits: What is allowed.
    """

    def __init__(self, storage: Storage, limits: Limits) -> None:
        self._folder = storage.folder
        self._kept = storage.kept
        self._limits = limits
        self._bytes = 0
        self._computed = 0

    def computed(self, count: int, what: str) -> int:
        """Counts the elements of a constant that importing is about to make.

        Raises:
            CompileError: If all of them together are too many.
        """
        self._computed += count
        if self._computed > self._limits.computed:
            raise CompileError(
                f"{what} has {count} elements, more than what is left of the limit of {self._limits.computed} for "
                f"constants that are computed"
            )
        return count

    def read(self, proto: Any) -> NDArray[np.generic]:
        """The data of a TensorProto.

        Raises:
            CompileError: If its type, shape or data cannot be taken; the message speaks of the tensor as "it".
        """
        d = element_type(proto.data_type, "it")
        shape = tuple(proto.dims)
        self._limits.check_shape(shape, "it")
        count = math.prod(shape)
        size = count * d.bytes
        self._bytes += size
        if self._bytes > self._limits.weight_bytes:
            raise CompileError(f"with it the model's weights exceed the limit of {self._limits.weight_bytes} bytes")
        if proto.data_location == _EXTERNAL:
            raw: bytes | memoryview = self._external(proto, size)
        elif proto.HasField("raw_data"):
            raw = proto.raw_data
        else:
            return self._typed(proto, d, shape, count)
        if len(raw) != size:
            raise CompileError(f"it is {_show(d, shape)} and holds {len(raw)} bytes, expected {size}")
        # A byte other than 0 or 1 is no bool in memory.
        if d is dt.bool_:
            return np.reshape(np.frombuffer(raw, dtype=np.uint8) != 0, shape)
        return np.reshape(np.frombuffer(raw, dtype=d.numpy), shape)

    def _typed(self, proto: Any, d: DType, shape: tuple[int, ...], count: int) -> NDArray[np.generic]:
        """Data in the typed field: f16 and bf16 as bit patterns in int32_data, as onnx.proto says."""
        if d is dt.f32:
            values, bits = proto.float_data, None
        elif d is dt.f64:
            values, bits = proto.double_data, None
        elif d is dt.i64:
            values, bits = proto.int64_data, None
        elif d in (dt.u32, dt.u64):
            values, bits = proto.uint64_data, None
        else:
            values, bits = proto.int32_data, (np.uint16 if d.is_float else None)
        if len(values) != count:
            raise CompileError(f"it is {_show(d, shape)} and holds {len(values)} values, expected {count}")
        if bits is not None:
            return np.reshape(np.array(values, dtype=np.int64).astype(bits).view(d.numpy), shape)
        if d is dt.bool_:
            return np.reshape(np.array(values, dtype=np.int64) != 0, shape)
        return np.reshape(np.array(values, dtype=np.uint64 if d is dt.u64 else None).astype(d.numpy), shape)

    def _external(self, proto: Any, size: int) -> bytes | memoryview:
        """Bytes from a file in the model's own folder; no path or link leads out of it."""
        entries = {e.key: e.value for e in proto.external_data}
        if len(entries) < len(proto.external_data):
            raise CompileError("its external data name one key twice")
        location = entries.get("location", "")
        if not isinstance(location, str):
            raise CompileError(f"it lies in {quoted(location)}, expected a file name in UTF-8")
        kept = kept_data(location, self._kept)
        if kept is not None:
            return kept
        if self._folder is None:
            raise CompileError(
                f"it lies in the file {quoted(location)} beside the model; read the model by its path, not from memory"
            )
        pure = PurePosixPath(location)
        windows = PureWindowsPath(location)
        leads_out = pure.is_absolute() or windows.drive or windows.root or ".." in windows.parts
        if not location or "\0" in location or leads_out:
            raise CompileError(f"it lies in {quoted(location)}, expected a file inside the model's folder")
        offset, length = _number(entries, "offset", 0), _number(entries, "length", size)
        try:
            folder = self._folder.resolve(strict=True)
            path = (folder / pure).resolve(strict=True)
            if not path.is_relative_to(folder):
                raise CompileError(f"it lies in {quoted(location)}, a link that leads out of the model's folder")
            with open(path, "rb", opener=_no_block) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                    raise CompileError(f"it lies in {quoted(location)}, expected a plain file with one name")
                if length != size or offset + length > status.st_size:
                    raise CompileError(
                        f"it needs {size} bytes; {quoted(location)} has {status.st_size}, and {length} at {offset} "
                        f"were promised"
                    )
                file.seek(offset)
                return file.read(length)
        except RuntimeError:
            # what Python 3.11 and 3.12 make of links in a circle
            raise CompileError(f"it lies in {quoted(location)}, a link that leads to itself") from None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "the name is none that a file can have"
            raise CompileError(f"it lies in {quoted(location)}, which cannot be read: {why}") from None


def _show(d: DType, shape: tuple[int, ...]) -> str:
    return f"{d.name}[{', '.join(map(str, shape))}]"


def _number(entries: dict[str, str], key: str, default: int) -> int:
    """A place or length in a file: decimal digits, as few as a file can need."""
    text = entries.get(key)
    if text is None:
        return default
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 19):
        raise CompileError(f"its external {key} is {quoted(text)}, expected a number of at least 0")
    return int(text)


def _no_block(path: str, flags: int) -> int:
    # A named pipe would block an ordinary open for ever, and a link put in the file's place meanwhile is not followed.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
