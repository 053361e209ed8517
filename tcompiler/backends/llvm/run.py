"""Running one compiled kernel on arrays: for packing constants, and for tests."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from tcompiler.backends.llvm.build import BuiltKernel
from tcompiler.runtime.abi import Context
from tcompiler.runtime.loader import load_objects
from tcompiler.runtime.memory import address_of, aligned_bytes
from tcompiler.runtime.threads import thread_runtime

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def call_kernel(kernel: BuiltKernel, arrays: Sequence[NDArray[Any]], threads: int = 1) -> None:
    """Calls a kernel on its inputs and outputs; workspaces and scratch are made for the call.

    Args:
        kernel: The kernel.
        arrays: Contiguous arrays in the order of the kernel's buffers; outputs are written in place.
        threads: Threads that it may use.
    """
    code = kernel.code
    library = load_objects([kernel.object_bytes], [code.symbol])
    spaces = [aligned_bytes(max(size, 1)) for size in code.workspaces]
    stride = -(-max(code.scratch_bytes, 1) // 4096) * 4096
    scratch = aligned_bytes(stride * threads, 4096)
    buffers = (ctypes.c_void_p * (len(arrays) + len(spaces) or 1))(
        *(address_of(a) for a in (*arrays, *spaces)),
    )
    context = Context(thread_runtime().address, threads, address_of(scratch), stride)
    _KERNEL(library.addresses[code.symbol])(ctypes.addressof(context), ctypes.addressof(buffers), None)
    del library
