"""Element types of tensors and scalars."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

Kind = Literal["float", "int", "uint", "bool"]


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """One element type; the instances below are the only ones, so `is` compares them.

    Attributes:
        name: Short name, as printed in every language ("f32", "i64", "bool").
        kind: "float", "int" (two's complement), "uint" or "bool".
        bits: Width of a value; a bool has one bit of meaning.
        bytes: Width in memory.
    """

    name: str
    kind: Kind
    bits: int
    bytes: int

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (dtype, (self.name,))

    @property
    def is_float(self) -> bool:
        """Whether values are floating-point numbers."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether values are signed or unsigned integers (bool is neither)."""
        return self.kind in ("int", "uint")

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype with the same bits (bf16 is ml_dtypes.bfloat16)."""
        return _numpy(self.name)


@cache
def _numpy(name: str) -> np.dtype[np.generic]:
    if name == "bf16":
        import ml_dtypes

        bfloat16: np.dtype[np.generic] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(_NUMPY[name])


f16 = DType("f16", "float", 16, 2)
bf16 = DType("bf16", "float", 16, 2)
f32 = DType("f32", "float", 32, 4)
f64 = DType("f64", "float", 64, 8)
i8 = DType("i8", "int", 8, 1)
i16 = DType("i16", "int", 16, 2)
i32 = DType("i32", "int", 32, 4)
i64 = DType("i64", "int", 64, 8)
u8 = DType("u8", "uint", 8, 1)
u16 = DType("u16", "uint", 16, 2)
u32 = DType("u32", "uint", 32, 4)
u64 = DType("u64", "uint", 64, 8)
bool_ = DType("bool", "bool", 1, 1)

_NUMPY = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "bool": "bool",
}

DTYPES: dict[str, DType] = {d.name: d for d in (f32, f64, f16, bf16, i8, u8, i16, u16, i32, u32, i64, u64, bool_)}


def dtype(name: str) -> DType:
    """Looks up an element type by its short name.

    Raises:
        KeyError: If no such type exists.
    """
    return DTYPES[name]


def from_numpy(np_dtype: np.dtype[np.generic]) -> DType:
    """The element type with the same bits as a numpy dtype.

    Raises:
        KeyError: If tcompiler has no such type.
    """
    if np_dtype.name == "bfloat16":
        return bf16
    return _FROM_NUMPY[np_dtype.name]


_FROM_NUMPY = {v: DTYPES[k] for k, v in _NUMPY.items()}
