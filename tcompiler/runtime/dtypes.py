"""Element types at the runtime's border: the manifest's names, numpy's types and safetensors' names.

numpy has no bfloat16: such values travel as their bits in uint16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NUMPY: dict[str, np.dtype[Any]] = {
    "f32": np.dtype("float32"),
    "f64": np.dtype("float64"),
    "f16": np.dtype("float16"),
    "bf16": np.dtype("uint16"),
    "i8": np.dtype("int8"),
    "u8": np.dtype("uint8"),
    "u16": np.dtype("uint16"),
    "u32": np.dtype("uint32"),
    "u64": np.dtype("uint64"),
    "i16": np.dtype("int16"),
    "i32": np.dtype("int32"),
    "i64": np.dtype("int64"),
    "bool": np.dtype("bool"),
}

SAFETENSORS: dict[str, str] = {
    "f32": "F32",
    "f64": "F64",
    "f16": "F16",
    "bf16": "BF16",
    "i8": "I8",
    "u8": "U8",
    "u16": "U16",
    "u32": "U32",
    "u64": "U64",
    "i16": "I16",
    "i32": "I32",
    "i64": "I64",
    "bool": "BOOL",
}
