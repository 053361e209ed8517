"""Scheduled functions to object code: generation, the cache on disk, and compilation in parallel processes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import llvmlite

from tcompiler.backends.llvm.codegen import KernelCode, generate
from tcompiler.backends.llvm.object_cache import ObjectCache
from tcompiler.backends.llvm.workers import CompileFailure, CompileJob, compile_objects
from tcompiler.errors import InternalError
from tcompiler.ir.loop.grammar import Function
from tcompiler.ir.loop.hash import structural_hash
from tcompiler.target.target import Target


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """A kernel's code and object."""

    code: KernelCode
    object_bytes: bytes
    cached: bool


@cache
def source_digest() -> str:
    """A digest of the code generator's own source and of llvmlite's version: part of every cache key."""
    digest = hashlib.blake2b(llvmlite.__version__.encode(), digest_size=16)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kernel_hash(function: Function, target: Target) -> str:
    """The cache key of a scheduled function: its structure, the machine, and the compiler's own source."""
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
    codes = {key: generate(f, target, f"k_{key[:24]}") for key, f in functions.items()}
    objects = {key: found for key in codes if (found := store.get(key)) is not None}
    cached = frozenset(objects)
    jobs = [job(key, code.text, target, code.passes) for key, code in codes.items() if key not in objects]
    for key, data in compile_texts(jobs, processes).items():
        objects[key] = data
        store.put(key, data)
    return {key: BuiltKernel(code, objects[key], key in cached) for key, code in codes.items()}


def job(key: str, text: str, target: Target, passes: str = "") -> CompileJob:
    """A compile job for a target."""
    return CompileJob(key, text, target.triple, target.cpu, feature_string(target), passes, 3, False)


def feature_string(target: Target) -> str:
    """The target's features as LLVM takes them."""
    return ",".join(f if f[0] in "+-" else f"+{f}" for f in target.features)


def compile_texts(jobs: Sequence[CompileJob], processes: int) -> dict[str, bytes]:
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
