"""Checks a call's arguments against the model's inputs, and makes arrays for its outputs.

Nothing is cast silently: a wrong type or shape is an error that says how to make it right.
"""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tcompiler.errors import ArgumentError
from tcompiler.runtime.abi import ALIGNMENT, PAGE
from tcompiler.runtime.dtypes import NUMPY
from tcompiler.runtime.manifest import TensorEntry
from tcompiler.runtime.memory import Array, address_of


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or an output of a compiled model.

    Attributes:
        name: Its name in the model.
        dtype: Element type: f32, f64, f16, bf16, i8, u8, i16, u16, i32, u32, i64, u64 or bool.
        shape: Extents.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @staticmethod
    def of(entry: TensorEntry) -> TensorSpec:
        """Make one from a manifest's entry."""
        return TensorSpec(entry["name"], entry["dtype"], tuple(entry["shape"]))

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The numpy type that holds its elements (uint16 for bf16)."""
        return NUMPY[self.dtype]

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape can be the input."""
        return shape == self.shape

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class OpenSpec:
    """An input of a specialised model, whose shape may be open.

    Attributes:
        name: Its name in the model.
        dtype: Element type: f32, f64, f16, bf16, i8, u8, i16, u16, i32, u32, i64, u64 or bool.
        shape: Extents; one that a call decides is the model's name for it ("" if it has none). None where not even the
            rank is known.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The numpy type that holds its elements (uint16 for bf16)."""
        return NUMPY[self.dtype]

    @property
    def closed_shape(self) -> tuple[int, ...] | None:
        """The extents where the model fixes all of them."""
        if self.shape is None:
            return None
        fixed = tuple(e for e in self.shape if isinstance(e, int))
        return fixed if len(fixed) == len(self.shape) else None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape can be the input."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            isinstance(d, str) or d == e for d, e in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        shown = "…" if self.shape is None else ", ".join(str(e) or "?" for e in self.shape)
        return f"{self.name}: {self.dtype}[{shown}]"


Spec = TensorSpec | OpenSpec


def _shown(shape: tuple[int | str, ...] | None) -> str:
    """A shape as Python writes a tuple, names of open extents bare."""
    if shape is None:
        return "(…)"
    return f"({', '.join(str(e) or '?' for e in shape)}{',' if len(shape) == 1 else ''})"


def bind(specs: Sequence[Spec], args: tuple[object, ...], named: Mapping[str, object]) -> list[object]:
    """Put arguments into the order of the inputs.

    Args:
        specs: The inputs.
        args: Arguments by position.
        named: Arguments by name.

    Returns:
        One argument per input.

    Raises:
        ArgumentError: Too many or too few, an unknown name, or one input given twice.
    """
    if len(args) > len(specs):
        raise ArgumentError(f"{_takes(specs)}, but {len(args)} were given")
    values = dict(zip((spec.name for spec in specs), args, strict=False))
    names = [spec.name for spec in specs]
    for name, value in named.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ArgumentError(f"the model has no input {name!r}{hint}; {_takes(specs)}")
        if name in values:
            raise ArgumentError(
                f"input {name!r} is given twice: by position (argument {names.index(name) + 1}) and by name"
            )
        values[name] = value
    missing = [str(spec) for spec in specs if spec.name not in values]
    if missing:
        raise ArgumentError(f"{_takes(specs)}; missing: {'; '.join(missing)}")
    return [values[name] for name in names]


def convert(spec: Spec, position: int, value: object) -> Array:
    """Make a C-contiguous, element-aligned array of an argument, copying only if it has another layout.

    Args:
        spec: The input that it is for.
        position: Which input, from 0.
        value: An array, a numpy scalar, or any object with `__dlpack__` on the CPU.

    Returns:
        The array, of the input's type and shape.

    Raises:
        ArgumentError: It is no array, or has another type or shape.
    """
    what = f"input {spec.name!r} (argument {position + 1})"
    wanted = spec.numpy_dtype
    array: Array
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
    elif hasattr(value, "__dlpack__"):
        try:
            array = np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            kind = type(value).__name__
            raise ArgumentError(
                f"{what} is a {kind} that numpy cannot view: {error}; pass an array in the CPU's memory"
            ) from error
    else:
        raise ArgumentError(
            f"{what} is a {type(value).__name__}, but the model takes an array of {wanted} with shape "
            f"{_shown(spec.shape)}; make one with numpy.asarray(value, numpy.{wanted})"
        )
    if array.dtype != wanted:
        if spec.dtype == "bf16" and array.dtype.name == "bfloat16":
            array = array.view(np.uint16)
        else:
            expected = "bfloat16 (or its bits in uint16)" if spec.dtype == "bf16" else str(wanted)
            cast = "ml_dtypes.bfloat16" if spec.dtype == "bf16" else f"numpy.{wanted}"
            raise ArgumentError(
                f"{what} has elements of {array.dtype}, but the model takes {expected}; convert with .astype({cast})"
            )
    if not spec.fits(array.shape):
        raise ArgumentError(f"{what} has shape {array.shape}, but the model takes {_shown(spec.shape)}")
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.array(array, order="C")


LARGE = 1 << 20
"""Bytes of an output from which on its memory is kept: the system clears fresh pages at the speed of memory."""
APART = 1 << 18
"""Bytes of an output from which on its place in a page is chosen: shorter ones were no quicker for it."""
KEPT = 2
"""Outputs whose memory is kept: `y = model(x)` in a loop lets go of the one before when the next is made."""


def _references(kept: list[Array]) -> tuple[Array, int]:
    """Takes the first of some arrays out of a list; returns it and how many references there are to it."""
    array = kept.pop(0)
    return array, sys.getrefcount(array)


_UNUSED = _references([np.empty(1)])[1]
"""How many references `_references` counts where nobody else has one, which interpreters disagree on."""


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """How to allocate an output, worked out once.

    The memory of large outputs is used again once nothing refers to it: neither the array nor any view of it is left.

    Attributes:
        shape: Its extents.
        dtype: Its numpy type.
        elements: How many elements to allocate so that a stretch of the output's size fits at the place it is given.
        room: Bytes of them that are there for choosing the place: a page or 64.
        kept: What was allocated for large ones lately.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    elements: int
    room: int
    kept: list[Array] = field(default_factory=list, compare=False)

    @staticmethod
    def of(spec: TensorSpec) -> OutputPlan:
        """Make one for an output."""
        dtype = spec.numpy_dtype
        size = math.prod(spec.shape)
        room = PAGE if size * dtype.itemsize >= APART else ALIGNMENT
        return OutputPlan(spec.shape, dtype, size + room // dtype.itemsize, room)

    def allocate(self, near: int) -> tuple[Array, int]:
        """Return a new uninitialised array and its address, a multiple of 64.

        A core takes a load for one of what was just stored where the addresses' places in a page are the same, and
        waits: long outputs lie half a page from an input that is read at the same pace.

        Args:
            near: The address of that input; 0 if there is none.
        """
        raw = np.empty(self.elements, self.dtype) if self.elements * self.dtype.itemsize < LARGE else self._memory()
        address = address_of(raw)
        offset = ((near & -ALIGNMENT) + PAGE // 2 - address) % self.room
        return np.ndarray(self.shape, self.dtype, raw, offset), address + offset

    def _memory(self) -> Array:
        """Memory for a large output: what an earlier one left, if nobody has it any more."""
        for _ in range(len(self.kept)):
            try:
                # out of the list while its references are counted: two threads never get the same
                raw, references = _references(self.kept)
            except IndexError:
                break
            self.kept.append(raw)
            if references == _UNUSED:
                return raw
        raw = np.empty(self.elements, self.dtype)
        if len(self.kept) < KEPT:
            self.kept.append(raw)
        return raw


def _takes(specs: Sequence[Spec]) -> str:
    count = len(specs)
    return f"the model takes {count} input{'' if count == 1 else 's'} ({'; '.join(map(str, specs))})"
