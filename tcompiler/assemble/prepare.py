"""The constants block: every constant in the layout that its kernels take, written by our own prepare functions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.assemble.finished import FinishedKernel, Packing
from tcompiler.backends.llvm.build import BuiltKernel
from tcompiler.backends.llvm.run import call_kernel
from tcompiler.ir.dtypes import DTYPES
from tcompiler.ir.graph.grammar import Constant, ConstantStore
from tcompiler.runtime.manifest import ConstantEntry
from tcompiler.runtime.memory import aligned_bytes, view_constant

if TYPE_CHECKING:
    from tcompiler.pipeline import Compilation

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A constant as kernels want it: its data, and the prepare functions to run on them in order."""

    constant: Constant
    steps: Sequence[Packing]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        return self.steps[-1].shape if self.steps else self.constant.type.dims()

    @property
    def dtype(self) -> str:
        """Name of the result's element type."""
        return self.steps[-1].dtype if self.steps else self.constant.type.dtype.name


def recipes(
    c: Compilation, kernels: Mapping[str, FinishedKernel], root: Callable[[str], tuple[str, int]]
) -> tuple[dict[str, Recipe], dict[tuple[int, str], str]]:
    """What is to be prepared.

    Args:
        c: The model.
        kernels: Its kernels by name.
        root: What a value is in memory.

    Returns:
        Recipes by the name of the constant that they make; and these names by step and program input.
    """
    by_name = {k.name: k for k in c.graph.constants}
    wanted: dict[str, Recipe] = {}
    chosen: dict[tuple[int, str], str] = {}
    for at, step in enumerate(c.steps):
        kernel = kernels[step.kernel]
        for formal, actual in kernel.fed(step.inputs):
            constant = by_name.get(root(actual)[0])
            if constant is None:
                continue
            # What is looked at in another shape has no layout of its own.
            steps = kernel.packings.get(formal, ()) if actual in by_name else ()
            chain = blake2b("".join(s.object for s in steps).encode(), digest_size=16).hexdigest() if steps else ""
            recipe = Recipe(constant, steps)
            name = f"{constant.sha256[:32]}{'.' + chain if chain else ''}.{recipe.dtype}"
            chosen[at, formal] = name
            wanted.setdefault(name, recipe)
    return wanted, chosen


def prepare(
    wanted: Mapping[str, Recipe],
    store: ConstantStore,
    built: Mapping[str, BuiltKernel],
    entries: Sequence[ConstantEntry],
    size: int,
    threads: int,
) -> Array:
    """Runs the prepare functions; each writes its constant straight to its place.

    Args:
        wanted: Recipes by name.
        store: The model's constants.
        built: The prepare functions by their keys.
        entries: The constants' places.
        size: Bytes of the block.
        threads: How many constants are made at once.

    Returns:
        The block, [size] of uint8, read-only.
    """
    block = aligned_bytes(size)

    scratch = threading.local()

    def aligned(array: Array) -> Array:
        """An array at an address that kernels take: a view of a file's bytes may lie anywhere."""
        if array.flags.c_contiguous and array.flags.aligned:
            return array
        # One piece of memory for all of a thread's: fresh pages cost more than the copy.
        kept = getattr(scratch, "block", None)
        if kept is None or kept.nbytes < array.nbytes:
            kept = scratch.block = aligned_bytes(array.nbytes)
        copy = kept[: array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    def fill(entry: ConstantEntry) -> None:
        recipe, place = wanted[entry["name"]], view_constant(block, entry)
        array: Array = store.typed(recipe.constant)
        if not recipe.steps:
            place[...] = array.view(place.dtype)  # bf16 travels as its bits
            return
        array = aligned(array)
        for step in recipe.steps[:-1]:
            result = np.empty(step.shape, DTYPES[step.dtype].numpy)
            call_kernel(built[step.object], [array, result])
            array = result
        call_kernel(built[recipe.steps[-1].object], [array, place])

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, entries):
            pass
    block.flags.writeable = False
    return block
