"""The native calling convention between compiled code and the runtime, mirrored in ctypes.

All native functions follow the x86-64 System V C convention::

    struct Ctx { parallel; i64 threads; u8* scratch; i64 scratch_stride; }
    void parallel(Ctx*, void (*body)(Ctx*, void* closure, i64 thread, i64 threads), void* closure, i64 n)
    void kernel  (Ctx*, void** buffers, i64* scalars)   // inputs..., outputs... of the kernel
    void model   (Ctx*, void** slots,   i64* scalars)   // arena, constants, inputs..., outputs... of the model

Arena, constants and scratch are aligned to `ALIGNMENT` bytes; buffers of the user's to their element only.
"""

from __future__ import annotations

import ctypes

ALIGNMENT = 64
"""Bytes: the alignment of arenas, of the constants block and of each thread's scratch."""

PAGE = 4096
"""Bytes: threads' scratch areas start on pages of their own."""

ARENA_SLOT = 0
CONSTANTS_SLOT = 1
FIRST_INPUT_SLOT = 2


class Context(ctypes.Structure):
    """`Ctx`: what a kernel is told about the call it runs in; kernels only read it."""

    _fields_ = (
        ("parallel", ctypes.c_void_p),
        ("threads", ctypes.c_int64),
        ("scratch", ctypes.c_void_p),
        ("scratch_stride", ctypes.c_int64),
    )


class Invocation(ctypes.Structure):
    """One prepared call of a native function: what `ThreadRuntime.enter` takes.

    `function` has the kernel's and the model's common signature and is called with the other three fields.
    """

    _fields_ = (
        ("function", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("buffers", ctypes.c_void_p),
        ("scalars", ctypes.c_void_p),
    )


ENTER_PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
"""Prototype of `enter(Invocation*)`; ctypes releases the interpreter lock around calls through it."""


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple
