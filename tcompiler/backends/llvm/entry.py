"""The native entry point of a model: its kernels called one after the other on their buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Place = tuple[Literal["arena", "const", "input", "output"], int, int]
"""Where a buffer begins: which memory, which input or output (0 for arena and constants), and an offset in bytes."""

_FIRST_TENSOR = 2


@dataclass(frozen=True, slots=True)
class Call:
    """One step of a model.

    Attributes:
        kernel: Symbol of the kernel.
        args: Its buffers in the order of its ABI.
    """

    kernel: str
    args: tuple[Place, ...]


def entry_text(symbol: str, calls: Sequence[Call], inputs: int) -> str:
    """LLVM text of `void symbol(ctx*, void** slots, i64* scalars)`.

    Args:
        symbol: Name of the entry point.
        calls: The steps in order.
        inputs: Number of the model's inputs: the slots are arena, constants, inputs, outputs.
    """
    lines = [f"define void @{symbol}(ptr %ctx, ptr %slots, ptr %scalars) nounwind {{"]
    widest = max((len(c.args) for c in calls), default=0)
    lines.append(f"  %args = alloca [{max(1, widest)} x ptr], align 8")
    slots: dict[int, str] = {}
    body: list[str] = []
    for n, call in enumerate(calls):
        for k, (kind, which, offset) in enumerate(call.args):
            slot = {"arena": 0, "const": 1, "input": _FIRST_TENSOR + which, "output": _FIRST_TENSOR + inputs + which}[
                kind
            ]
            if slot not in slots:
                slots[slot] = f"%s{slot}"
                lines.append(f"  %a{slot} = getelementptr ptr, ptr %slots, i64 {slot}")
                lines.append(f"  %s{slot} = load ptr, ptr %a{slot}, align 8")
            base = slots[slot]
            if offset:
                body.append(f"  %p{n}.{k} = getelementptr i8, ptr {base}, i64 {offset}")
                base = f"%p{n}.{k}"
            body.append(f"  %d{n}.{k} = getelementptr ptr, ptr %args, i64 {k}")
            body.append(f"  store ptr {base}, ptr %d{n}.{k}, align 8")
        body.append(f"  call void @{call.kernel}(ptr %ctx, ptr %args, ptr %scalars)")
    lines += [*body, "  ret void", "}"]
    lines += [f"declare void @{k}(ptr, ptr, ptr)" for k in dict.fromkeys(c.kernel for c in calls)]
    return "\n".join(lines) + "\n"
