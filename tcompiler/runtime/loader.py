"""Loads relocatable object code into the process and finds the addresses of its functions.

Objects are linked with LLVM's JITLink: it places each object's sections together and reaches other objects through
its own stubs and offset tables, so the small code model is right however far apart the pieces land in memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence

import llvmlite.binding as llvm

from tcompiler.errors import InternalError
from tcompiler.runtime.elf import symbols

_LIBC_SYMBOLS = ("memcpy", "memmove", "memset")
"""All that compiled code may take from outside: what LLVM itself lowers loads, stores and fills to."""


def initialize() -> None:
    """Initialise LLVM's native target; further calls cost nothing."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


class Library:
    """Linked native code, alive for as long as this object is.

    Attributes:
        addresses: Address of every exported symbol.
    """

    __slots__ = ("_jit", "_tracker", "addresses")

    def __init__(self, jit: llvm.LLJIT, tracker: llvm.ResourceTracker, addresses: dict[str, int]) -> None:
        self._jit = jit
        self._tracker = tracker
        self.addresses = addresses

    def keep_forever(self) -> None:
        """Never unload this code, not even when the interpreter ends (threads may still stand in it)."""
        self._tracker.detach()
        self._jit.detach()

    def __del__(self) -> None:
        # The code goes before the engine that owns its memory. The engine is missing if __init__ never ran.
        for reference in (getattr(self, "_tracker", None), getattr(self, "_jit", None)):
            if reference is not None:
                reference.close()


def load_objects(objects: Sequence[bytes], exports: Sequence[str]) -> Library:
    """Link relocatable objects with each other and give the addresses of some of their functions.

    Args:
        objects: ELF relocatable objects for this machine.
        exports: Names of functions that the objects define.

    Returns:
        The library; dropping it unloads the code.

    Raises:
        InternalError: An export or something that the objects refer to is nowhere defined; apart from each other
            objects may refer to memcpy, memmove and memset only.
    """
    # Checked here because the linker would take anything that the process happens to have, another libm included.
    tables = [symbols(data) for data in objects]
    defined = set(_LIBC_SYMBOLS).union(*(table[0] for table in tables))
    missing = set(exports).union(*(table[1] for table in tables)) - defined
    if missing:
        names = ", ".join(sorted(missing))
        raise InternalError(f"compiled code refers to functions that no object defines: {names}")
    builder = llvm.JITLibraryBuilder()
    for data in objects:
        builder.add_object_img(data)
    libc = ctypes.CDLL(None)
    for name in _LIBC_SYMBOLS:
        builder.import_symbol(name, _address(libc, name))
    return _link(builder, exports)


def load_ir(text: str, imports: Mapping[str, int], exports: Sequence[str]) -> Library:
    """Compile LLVM text as it stands and load it.

    Args:
        text: One LLVM module.
        imports: Addresses of the external functions that it declares.
        exports: Names of functions that it defines.

    Returns:
        The library; dropping it unloads the code.

    Raises:
        InternalError: The text cannot be read, or a symbol is nowhere defined.
    """
    builder = llvm.JITLibraryBuilder()
    builder.add_ir(text)
    for name, address in imports.items():
        builder.import_symbol(name, address)
    return _link(builder, exports)


def symbol_addresses(library: str | None, names: Sequence[str]) -> dict[str, int] | None:
    """Look functions up in a shared library (None: the process itself).

    Args:
        library: Path or name for the dynamic loader.
        names: Functions wanted.

    Returns:
        Address of each name, or None where the library cannot be loaded or lacks one of them.
    """
    try:
        handle = ctypes.CDLL(library)
        return {name: _address(handle, name) for name in names}
    except (OSError, AttributeError):
        return None


def _address(handle: ctypes.CDLL, name: str) -> int:
    address = ctypes.cast(getattr(handle, name), ctypes.c_void_p).value
    assert address is not None
    return address


def _link(builder: llvm.JITLibraryBuilder, exports: Sequence[str]) -> Library:
    initialize()
    for name in exports:
        builder.export_symbol(name)
    jit = llvm.create_lljit_compiler(use_jit_link=True, suppress_errors=True)
    try:
        tracker = builder.link(jit, "code")
    except RuntimeError as error:
        jit.close()
        raise InternalError(f"compiled code does not link: {str(error).strip()}") from error
    return Library(jit, tracker, {name: tracker[name] for name in exports})
