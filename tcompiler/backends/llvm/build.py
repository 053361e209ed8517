"""Scheduled functions to object code: generation, the cache on disk, and compilation in parallel processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import llvmlite

from tcompiler.backends.llvm.code import KernelCode
from tcompiler.backends.llvm.object_cache import ObjectCache
from tcompiler.backends.llvm.workers import CompileFailure, CompileJob, compile_objects
from tcompiler.errors import InternalError
from tcompiler.target.target import Target

if TYPE_CHECKING:
    from tcompiler.ir.loop.grammar import Function


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """A kernel's code and object."""

    code: KernelCode
    object_bytes: bytes
    cached: bool


@cache
def source_digest() -> str:
    """A digest of llvmlite's version and of all source that code depends on: part of every cache key."""
    digest = hashlib.blake2b(llvmlite.__version__.encode(), digest_size=16)
    package = Path(__file__).parents[2]
    for room in ("backends/llvm", "ir", "target"):
        for path in sorted((package / room).rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def kernel_hash(function: Function, target: Target) -> str:
    """The cache key of a scheduled function: its structure, the machine, and the compiler's own source."""
    from tcompiler.ir.loop.hash import structural_hash

    text = f"{structural_hash(function)}|{target.digest()}|{source_digest()}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def build_kernels(functions: Mapping[str, Function], target: Target, processes: int) -> dict[str, BuiltKernel]:
    """Compiles functions, each under a symbol made of its hash.

    Args:
        functions: Scheduled functions by cache key.
        target: The machine.
        processes: Worker processes for what is not in the cache.

    Returns:
        Kernels by cache key.

    Raises:
        InternalError: If LLVM refuses the code of a kernel.
    """
    store = ObjectCache()
    built: dict[str, BuiltKernel] = {}
    for key in functions:
        known = cached_kernel(store, key)
        if known is not None:
            built[key] = known
    if len(built) == len(functions):
        return built
    from tcompiler.backends.llvm.codegen import generate

    codes: dict[str, KernelCode] = {}

    def jobs() -> Iterator[CompileJob]:
        for key, function in functions.items():
            if key not in built:
                codes[key] = generate(function, target, f"k_{key[:24]}")
                yield job(key, codes[key].text, target, codes[key].passes)

    for key, data in compile_texts(jobs(), processes).items():
        built[key] = BuiltKernel(codes[key], data, False)
        store.put(key, _pack(built[key]))
    return built


def cached_kernel(store: ObjectCache, key: str) -> BuiltKernel | None:
    """A kernel from the cache.

    Args:
        store: The cache.
        key: What `kernel_hash` said.

    Returns:
        The kernel, None if there is no usable entry.
    """
    entry = store.get(key)
    if entry is None:
        return None
    try:
        return _unpack(entry)
    except (KeyError, TypeError, ValueError):
        return None


def _pack(kernel: BuiltKernel) -> bytes:
    """A cache entry: the length of a JSON header, the header with all but the object, the object."""
    header = json.dumps(asdict(kernel.code)).encode()
    return len(header).to_bytes(8, "little") + header + kernel.object_bytes


def _unpack(entry: bytes) -> BuiltKernel:
    size = int.from_bytes(entry[:8], "little")
    fields = json.loads(entry[8 : 8 + size])
    fields["buffers"], fields["workspaces"] = tuple(fields["buffers"]), tuple(fields["workspaces"])
    return BuiltKernel(KernelCode(**fields), entry[8 + size :], True)


def build_text(text: str, target: Target) -> bytes:
    """Compiles one module of text, or takes its object from the cache."""
    key = hashlib.blake2b(f"{text}|{target.digest()}|{source_digest()}".encode(), digest_size=16).hexdigest()
    store = ObjectCache()
    known = store.get(key)
    if known is None:
        known = compile_texts([job(key, text, target)], 1)[key]
        store.put(key, known)
    return known


def job(key: str, text: str, target: Target, passes: str = "") -> CompileJob:
    """A compile job for a target."""
    return CompileJob(key, text, target.triple, target.cpu, feature_string(target), passes, 3, False)


def feature_string(target: Target) -> str:
    """The target's features as LLVM takes them."""
    return ",".join(f if f[0] in "+-" else f"+{f}" for f in target.features)


def compile_texts(jobs: Iterable[CompileJob], processes: int) -> dict[str, bytes]:
    """Compiles modules to objects by key.

    Raises:
        InternalError: If one does not compile; the message has what LLVM says.
    """
    result: dict[str, bytes] = {}
    for done in compile_objects(jobs, processes):
        if isinstance(done, CompileFailure):
            raise InternalError(f"LLVM refuses the code of kernel {done.key}: {done.message}")
        result[done.key] = done.object_bytes
    return result
