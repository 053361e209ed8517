"""LLVM types and literals for our dtypes."""

from __future__ import annotations

from dataclasses import dataclass

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.scalar.grammar import Const

# Narrow floats are their bits: LLVM would call functions that nobody links to convert its own half and bfloat.
_VALUE_TYPES = {"f16": "i16", "bf16": "i16", "f32": "float", "f64": "double", "bool": "i1"}


@dataclass(frozen=True, slots=True)
class Value:
    """An SSA value or literal. lanes is 0 for a scalar, otherwise the length of its vector."""

    ssa: str
    dtype: DType
    lanes: int = 0

    @property
    def type(self) -> str:
        """Its LLVM type."""
        return value_type(self.dtype, self.lanes)

    @property
    def typed(self) -> str:
        """Type and name, as an operand."""
        return f"{self.type} {self.ssa}"


def value_type(dtype: DType, lanes: int = 0) -> str:
    """The type of a value in registers (bool is i1, f16 and bf16 are i16)."""
    scalar = _VALUE_TYPES.get(dtype.name) or f"i{dtype.bits}"
    return f"<{lanes} x {scalar}>" if lanes else scalar


def memory_type(dtype: DType, lanes: int = 0) -> str:
    """The type of a value in memory (bool is a byte)."""
    scalar = "i8" if dtype is dt.bool_ else value_type(dtype)
    return f"<{lanes} x {scalar}>" if lanes else scalar


def literal(node: Const) -> str:
    """A constant as LLVM writes it, bit for bit."""
    d, bits = node.dtype, node.bits
    if d is dt.bool_:
        return "true" if bits else "false"
    if not d.is_float:
        return str(node.value)
    if d.bits == 16:
        return str(bits)
    if d is dt.f64:
        return f"0x{bits:016X}"
    return f"0x{_widen_f32(bits):016X}"


def _widen_f32(bits: int) -> int:
    """The f64 bit pattern that LLVM prints for an f32: the same number, NaN payloads kept at the top."""
    sign, exponent, mantissa = bits >> 31, (bits >> 23) & 0xFF, bits & 0x7FFFFF
    if exponent == 0xFF:
        return sign << 63 | 0x7FF << 52 | mantissa << 29
    if exponent == 0:
        if mantissa == 0:
            return sign << 63
        shift = 24 - mantissa.bit_length()
        return sign << 63 | (1 - shift - 127 + 1023) << 52 | ((mantissa << shift) & 0x7FFFFF) << 29
    return sign << 63 | (exponent - 127 + 1023) << 52 | mantissa << 29


def next_power(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()
