"""What the code generator makes of one kernel: text, and what calling it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KernelCode:
    """One kernel as LLVM text and what calling it takes.

    Attributes:
        symbol: The function's name, as `void symbol(ctx*, void** buffers, i64* scalars)`.
        text: A whole LLVM module.
        buffers: Names of the buffers that the caller passes, in order: inputs, outputs, then workspaces.
        workspaces: Bytes of each workspace (the buffers shared by threads that only live during the call).
        scratch_bytes: Bytes of scratch that each thread needs.
        passes: The LLVM passes that the text relies on ("" or "always-inline").
    """

    symbol: str
    text: str
    buffers: tuple[str, ...]
    workspaces: tuple[int, ...]
    scratch_bytes: int
    passes: str
