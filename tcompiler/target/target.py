"""A description of the machine that code is generated for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from hashlib import blake2b
from typing import Any

from tcompiler.errors import UserError

KIB = 1024
MIB = 1024 * KIB
LINE_BYTES = 64
"""A line of a cache, on every machine that there is code for."""
HIDES_A_COPY = 256
"""How often an operand's elements are read until that hides a copy of it in another order of axes, which passes by
twice more. With fewer reads it is read where it lies, and panels that stay in the caches are laid out where it pays."""


@dataclass(frozen=True)
class Target:
    """A machine, as far as code generation and scheduling depend on it.

    Args:
        name: What users and tuning logs call it.
        kind: "cpu".
        triple: LLVM's target triple.
        cpu: LLVM's name of the processor, which chooses its instruction latencies.
        features: LLVM's feature flags, "+avx2" or "-avx512f", sorted; they win over what `cpu` implies.
        vector_bits: Width of the widest vector registers to be used.
        vector_registers: How many of them.
        fma: Whether there is a fused multiply-add.
        l1_bytes: Level 1 data cache of a core.
        l2_bytes: Level 2 cache of a core.
        l3_bytes: Level 3 cache that a core can reach; 0 if there is none.
        cores: Physical cores that a program may use.
        line_bytes: A cache line.
    """

    name: str
    kind: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    vector_bits: int
    vector_registers: int
    fma: bool
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    cores: int
    line_bytes: int = 64

    def vector_lanes(self, dtype_bits: int) -> int:
        """How many elements of that many bits a vector register holds, at least 1."""
        return max(1, self.vector_bits // dtype_bits)

    def has(self, feature: str) -> bool:
        """Whether the machine has a feature, named as LLVM does without the sign: "avx512vnni"."""
        return f"+{feature}" in self.features

    @property
    def vnni(self) -> bool:
        """Whether one instruction multiplies bytes, sums their products and adds that to 32 bits (vpdpbusd)."""
        return self.has("avx512vnni") or self.has("avxvnni")

    @property
    def llvm_features(self) -> str:
        """The flags as LLVM takes them."""
        return ",".join(self.features)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write and `from_json` reads."""
        return asdict(self) | {"features": list(self.features)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Target:
        """Reads what `to_json` wrote.

        Raises:
            UserError: A field is missing, unknown or of another type.
        """
        kinds = {"str": str, "int": int, "bool": bool, "tuple[str, ...]": list}
        known = {f.name: kinds[str(f.type)] for f in fields(Target)}
        if missing := [name for name in known if name not in data]:
            raise UserError(f"description of a target has no {', '.join(missing)}; it needs {', '.join(known)}")
        if unknown := [name for name in data if name not in known]:
            raise UserError(f"description of a target has {', '.join(unknown)}; it takes only {', '.join(known)}")
        for name, kind in known.items():
            if type(data[name]) is not kind:
                raise UserError(f"description of a target: {name} is {data[name]!r}, expected {kind.__name__}")
        return Target(**{**data, "features": tuple(data["features"])})

    def digest(self) -> str:
        """A name for everything that code depends on: 32 hexadecimal digits, the same in every process."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        content = self.to_json()
        del content["name"]
        return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def widest_vector(features: frozenset[str]) -> tuple[int, int]:
    """Width in bits and number of the vector registers of an x86-64 with those features (without signs)."""
    if "avx512f" in features and "avx512vl" in features:
        return 512, 32
    return (256, 16) if "avx" in features else (128, 16)
