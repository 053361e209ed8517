"""Tensors in an ONNX file: element types, raw and typed data, and data in files beside the model."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.limits import Limits
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


class TensorReader:
    """Reads the tensors of one model and counts their bytes.

    Args:
        folder: The model's own folder, where external data may lie; None if the model came from memory.
        limits: What is allowed.
    """

    def __init__(self, folder: Path | None, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._bytes = 0

    def read(self, proto: Any) -> NDArray[np.generic]:
        """The data of a TensorProto.

        Raises:
            CompileError: If its type, shape or data cannot be taken.
        """
        what = f"tensor '{proto.name}'"
        d = element_type(proto.data_type, what)
        shape = tuple(proto.dims)
        if any(e < 0 for e in shape):
            raise CompileError(f"{what} has the shape {list(shape)}, expected extents of at least 0")
        count = math.prod(shape)
        if count > self._limits.elements:
            raise CompileError(f"{what} has {count} elements, more than the limit of {self._limits.elements}")
        size = count * d.bytes
        self._bytes += size
        if self._bytes > self._limits.weight_bytes:
            raise CompileError(f"the model's weights exceed the limit of {self._limits.weight_bytes} bytes")
        if proto.data_location == _EXTERNAL:
            raw: bytes = self._external(proto, what, size)
        elif proto.HasField("raw_data"):
            raw = proto.raw_data
        else:
            return self._typed(proto, what, d, shape, count)
        if len(raw) != size:
            raise CompileError(f"{what} of {d.name}{list(shape)} holds {len(raw)} bytes, expected {size}")
        # A byte other than 0 or 1 is no bool in memory.
        if d is dt.bool_:
            return np.reshape(np.frombuffer(raw, dtype=np.uint8) != 0, shape)
        return np.reshape(np.frombuffer(raw, dtype=d.numpy), shape)

    def _typed(self, proto: Any, what: str, d: DType, shape: tuple[int, ...], count: int) -> NDArray[np.generic]:
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
            raise CompileError(f"{what} of {d.name}{list(shape)} holds {len(values)} values, expected {count}")
        if bits is not None:
            return np.reshape(np.array(values, dtype=np.int64).astype(bits).view(d.numpy), shape)
        if d is dt.bool_:
            return np.reshape(np.array(values, dtype=np.int64) != 0, shape)
        return np.reshape(np.array(values, dtype=np.uint64 if d is dt.u64 else None).astype(d.numpy), shape)

    def _external(self, proto: Any, what: str, size: int) -> bytes:
        """Bytes from a file in the model's own folder; no path or link leads out of it."""
        entries = {e.key: e.value for e in proto.external_data}
        location = entries.get("location", "")
        if self._folder is None:
            raise CompileError(
                f"{what} lies in the file '{location}' beside the model; read the model by its path, not from memory"
            )
        pure = PurePosixPath(location)
        windows = PureWindowsPath(location)
        leads_out = pure.is_absolute() or windows.drive or windows.root or ".." in windows.parts
        if not location or "\0" in location or leads_out:
            raise CompileError(f"{what} lies in '{location}', expected a file inside the model's folder")
        folder = self._folder.resolve()
        path = (folder / pure).resolve()
        if not path.is_relative_to(folder):
            raise CompileError(f"{what} lies in '{location}', a link that leads out of the model's folder")
        try:
            offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(size)))
        except ValueError:
            raise CompileError(f"{what}: its external offset or length is no integer") from None
        try:
            with open(path, "rb", opener=_no_block) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                    raise CompileError(f"{what} lies in '{location}', expected a plain file with one name")
                if offset < 0 or length != size or offset + length > status.st_size:
                    raise CompileError(
                        f"{what} needs {size} bytes; '{location}' has {status.st_size}, and {length} at {offset} were "
                        f"promised"
                    )
                file.seek(offset)
                return file.read(length)
        except OSError as error:
            raise CompileError(f"{what} lies in '{location}', which cannot be read: {error.strerror}") from None


def _no_block(path: str, flags: int) -> int:
    # A named pipe would block an ordinary open for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
