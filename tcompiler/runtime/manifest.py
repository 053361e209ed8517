"""The manifest of a compiled model: everything about it but its object code, its constants and its texts.

It is JSON: the types here say which keys it has. Extents are in elements, sizes and offsets in bytes.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

FORMAT_VERSION = 2
"""Version of the container and of this schema; a file of another version is refused."""


class TargetEntry(TypedDict):
    """The machine that the object code is for.

    `features` lists the CPU features that it needs, in LLVM's names, with or without a leading `+`; an entry with a
    leading `-` says that a feature is not used.
    """

    triple: str
    cpu: str
    features: list[str]


class TensorEntry(TypedDict):
    """An input or an output; `dtype` is one of f32, f64, f16, bf16, i8, u8, i16, u16, i32, u32, i64, u64, bool."""

    name: str
    dtype: str
    shape: list[int]


class ConstantEntry(TypedDict):
    """A constant and its place in the constants block."""

    name: str
    offset: int
    dtype: str
    shape: list[int]


class KernelEntry(TypedDict):
    """A compiled kernel.

    `object` names the member of `Artifact.objects` that defines `symbol`. `flops` is what the operator's definition
    asks for, `executed_flops` what the schedule does, `bytes` the least traffic: operands and results once.
    """

    name: str
    symbol: str
    object: str
    flops: int
    executed_flops: int
    bytes: int


class CallEntry(TypedDict):
    """One step of the model: a kernel by its symbol, and its buffers.

    An argument is `["arena", offset]`, `["const", offset]`, `["input", index]` or `["output", index]`; the latter two
    may have a third item, an offset into that tensor.
    """

    kernel: str
    args: list[list[str | int]]


class Manifest(TypedDict):
    """The whole manifest.

    `entry` is the symbol of the model's entry point, `scratch_bytes` what each thread needs, `arena_lower_bound` the
    most bytes that are live at once, `calls` the entry point's steps in order (it may be empty), `stages` the names of
    the stages whose text is kept, in the order of the pipeline. `members` (the SHA-256 of every other file in the
    container) is written by `save`.
    """

    format_version: int
    compiler_version: str
    target: TargetEntry
    entry: str
    threads: int
    arena_bytes: int
    arena_lower_bound: int
    scratch_bytes: int
    constants_bytes: int
    constants: list[ConstantEntry]
    inputs: list[TensorEntry]
    outputs: list[TensorEntry]
    kernels: list[KernelEntry]
    calls: list[CallEntry]
    stages: list[str]
    members: NotRequired[dict[str, str]]


REQUIRED_KEYS = frozenset(Manifest.__required_keys__)
