"""Running one compiled kernel on arrays: for packing constants, and for tests."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from tcompiler.backends.llvm.build import BuiltKernel
from tcompiler.runtime.abi import Context
from tcompiler.runtime.loader import Library, load_objects
from tcompiler.runtime.memory import address_of, aligned_bytes
from tcompiler.runtime.threads import thread_runtime

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


@lru_cache(maxsize=64)
def _loaded(object_bytes: bytes, symbol: str) -> Library:
    """A kernel's library; a few are kept, as a model packs many constants by one kernel."""
    return load_objects([object_bytes], [symbol])


def call_kernel(kernel: BuiltKernel, arrays: Sequence[NDArray[Any]], threads: int = 1) -> None:
    """Calls a kernel on its inputs and outputs; workspaces and scratch are made for the call.

    Args:
        kernel: The kernel.
        arrays: Contiguous arrays in the order of the kernel's buffers; outputs are written in place.
        threads: Threads that it may use.
    """
    code = kernel.code
    library = _loaded(kernel.object_bytes, code.symbol)
    spaces = [aligned_bytes(max(size, 1)) for size in code.workspaces]
    stride = -(-max(code.scratch_bytes, 1) // 4096) * 4096
    scratch = aligned_bytes(stride * threads, 4096)
    buffers = (ctypes.c_void_p * (len(arrays) + len(spaces) or 1))(
        *(address_of(a) for a in (*arrays, *spaces)),
    )
    context = Context(thread_runtime().address, threads, address_of(scratch), stride)
    _KERNEL(library.addresses[code.symbol])(ctypes.addressof(context), ctypes.addressof(buffers), None)
