"""A compiled model that can be called."""

from __future__ import annotations

import ctypes
import difflib
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tcompiler.errors import UserError
from tcompiler.runtime import package, threads
from tcompiler.runtime.abi import (
    ARENA_SLOT,
    CONSTANTS_SLOT,
    ENTER_PROTOTYPE,
    FIRST_INPUT_SLOT,
    PAGE,
    Context,
    Invocation,
    round_up,
)
from tcompiler.runtime.arguments import OutputPlan, TensorSpec, bind, convert
from tcompiler.runtime.assembly import assembly
from tcompiler.runtime.loader import load_objects
from tcompiler.runtime.manifest import KernelEntry, Manifest
from tcompiler.runtime.memory import Array, address_of, aligned_bytes
from tcompiler.runtime.package import Artifact
from tcompiler.runtime.threads import ThreadRuntime

Result = Array | tuple[Array, ...]


class _Frame:
    """What one running call needs for itself: arena, scratch, and the native structures that point to them."""

    __slots__ = ("address", "arena", "arena_address", "context", "invocation", "scratch", "slots")

    def __init__(
        self,
        arena_bytes: int,
        scratch_bytes: int,
        thread_count: int,
        constants: int,
        slot_count: int,
        entry: int,
        parallel: int,
    ) -> None:
        # Scratch areas start on pages of their own, so that threads share neither pages nor prefetched lines.
        stride = round_up(max(scratch_bytes, 1), PAGE)
        self.arena = aligned_bytes(arena_bytes)
        self.arena_address = address_of(self.arena)
        self.scratch = aligned_bytes(stride * thread_count, PAGE)
        self.context = Context(parallel, thread_count, address_of(self.scratch), stride)
        self.slots = (ctypes.c_void_p * slot_count)()
        self.slots[ARENA_SLOT] = self.arena_address
        self.slots[CONSTANTS_SLOT] = constants
        self.invocation = Invocation(entry, ctypes.addressof(self.context), ctypes.addressof(self.slots), None)
        self.address = ctypes.addressof(self.invocation)


class Model:
    """A compiled model, loaded into this process and ready to be called from any number of threads.

    Each running call has an arena and scratch of its own, taken from a pool and given back. Dropping the model unloads
    its code.

    Args:
        artifact: The compiled model.
        threads: How many threads a call may use; None means as many as the model was compiled for.

    Raises:
        UserError: `threads` is not positive.
        InternalError: The object code does not link.
    """

    __slots__ = (
        "__weakref__",
        "_artifact",
        "_constants",
        "_enter",
        "_entry",
        "_fork_count",
        "_frames",
        "_input_plan",
        "_inputs",
        "_library",
        "_output_plan",
        "_outputs",
        "_runtime",
        "_threads",
    )

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        manifest = artifact.manifest
        self._artifact = artifact
        self._threads = manifest["threads"] if threads is None else threads
        if self._threads < 1:
            raise UserError(f"a model runs on 1 or more threads, not on {self._threads}")
        symbols = dict.fromkeys([manifest["entry"], *(kernel["symbol"] for kernel in manifest["kernels"])])
        self._library = load_objects(list(artifact.objects.values()), list(symbols))
        self._entry = self._library.addresses[manifest["entry"]]
        self._constants = artifact.constants_block()
        self._inputs = tuple(map(TensorSpec.of, manifest["inputs"]))
        self._outputs = tuple(map(TensorSpec.of, manifest["outputs"]))
        first_output = FIRST_INPUT_SLOT + len(self._inputs)
        self._input_plan = [
            (FIRST_INPUT_SLOT + i, spec, spec.numpy_dtype, spec.shape) for i, spec in enumerate(self._inputs)
        ]
        self._output_plan = [(first_output + i, OutputPlan.of(spec)) for i, spec in enumerate(self._outputs)]
        self._bind_threads()

    def __call__(self, /, *args: object, **named: object) -> Result:
        """Run the model.

        Args:
            *args: Inputs in the model's order: numpy arrays, or objects with `__dlpack__` in the CPU's memory, of
                exactly the inputs' types and shapes. Any layout is taken; what is not C-contiguous is copied.
            **named: Inputs by name.

        Returns:
            A new array, or a tuple of arrays in the model's order if it has more than one output (or none).

        Raises:
            ArgumentError: The arguments are not those that the model takes.
            UserError: The model was compiled for another machine, whose code this one cannot run.
        """
        arrays = self._arrays(args, named)
        frame = self._take_frame()
        outputs = self._fill_slots(frame, arrays)
        self._enter(frame.address)
        self._frames.append(frame)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run_profiled(self, /, *args: object, **named: object) -> tuple[Result, list[float]]:
        """Run the model kernel by kernel and time each.

        Args:
            *args: As for a call.
            **named: As for a call.

        Returns:
            What a call returns, and the seconds that each step of `manifest["calls"]` took.

        Raises:
            ArgumentError: The arguments are not those that the model takes.
            UserError: The model was compiled without a table of its steps, or for another machine.
        """
        calls = self.manifest["calls"]
        if not calls and self.manifest["kernels"]:
            raise UserError("this model cannot be profiled: it was compiled without a table of its steps")
        arrays = self._arrays(args, named)
        frame = self._take_frame()
        outputs = self._fill_slots(frame, arrays)
        tables = {
            "arena": frame.arena_address,
            "const": address_of(self._constants),
            "input": FIRST_INPUT_SLOT,
            "output": FIRST_INPUT_SLOT + len(self._inputs),
        }
        prepared = []
        for call in calls:
            addresses = []
            for kind, place, *rest in call["args"]:
                base = tables[str(kind)] + int(place)
                if kind in ("input", "output"):
                    base = int(frame.slots[base] or 0) + sum(map(int, rest))
                addresses.append(base)
            buffers = (ctypes.c_void_p * len(addresses))(*addresses)
            function = self._library.addresses[call["kernel"]]
            invocation = Invocation(function, frame.invocation.context, ctypes.addressof(buffers), None)
            prepared.append((ctypes.addressof(invocation), invocation, buffers))
        seconds = []
        enter, clock = self._enter, time.perf_counter
        for address, *_ in prepared:
            start = clock()
            enter(address)
            seconds.append(clock() - start)
        self._frames.append(frame)
        return outputs[0] if len(outputs) == 1 else tuple(outputs), seconds

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, in order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in order."""
        return self._outputs

    @property
    def threads(self) -> int:
        """How many threads a call may use."""
        return self._threads

    @property
    def thread_runtime(self) -> ThreadRuntime:
        """Where the threads come from."""
        return self._runtime

    @property
    def manifest(self) -> Manifest:
        """The manifest; not to be changed."""
        return self._artifact.manifest

    @property
    def kernels(self) -> list[KernelEntry]:
        """What is known of each kernel."""
        return self.manifest["kernels"]

    @property
    def artifact(self) -> Artifact:
        """The compiled model as data."""
        return self._artifact

    def text(self, stage: str, kernel: str | None = None) -> str:
        """Return the text of a stage of compilation.

        Args:
            stage: One of `manifest["stages"]`, or "asm", which is made from the LLVM text when asked for.
            kernel: One kernel's part of it; None gives the whole stage, kernel after kernel if it is kept so.

        Returns:
            The text.

        Raises:
            UserError: There is no such stage, or the stage has no such kernel.
            LoadError: The file that the model came from was damaged in this place.
        """
        texts = self._artifact.texts
        stages = list(dict.fromkeys([*self.manifest["stages"], *(key.partition("/")[0] for key in texts)]))
        derived = "asm" not in stages and any(key.startswith("llvm/") for key in texts)
        if derived:
            stages.append("asm")
        if stage not in stages:
            raise UserError(f"no stage {stage!r}{_nearest(stage, stages)}; this model keeps: {', '.join(stages)}")
        kept = "llvm" if derived and stage == "asm" else stage
        kernels = [key.partition("/")[2] for key in texts if key.startswith(kept + "/")]
        if kernel is None:
            if stage in texts:
                return texts[stage]
            return "\n".join(self._text(stage, kept, name) for name in kernels)
        if kernel not in kernels:
            if not kernels:
                raise UserError(f"stage {stage!r} is one text for the whole model: ask for it without a kernel")
            raise UserError(
                f"stage {stage!r} has no kernel {kernel!r}{_nearest(kernel, kernels)}; it has: {', '.join(kernels)}"
            )
        return self._text(stage, kept, kernel)

    def _text(self, stage: str, kept: str, kernel: str) -> str:
        text = self._artifact.texts[f"{kept}/{kernel}"]
        return text if stage == kept else assembly(text, self.manifest["target"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file that `load_model` reads.

        Args:
            path: File to write; replaced if it exists.

        Raises:
            UserError: The file cannot be written.
        """
        package.save(self._artifact, path)

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self._inputs, self._outputs))
        return f"<Model ({inputs}) -> ({outputs}), threads: {self._threads} ({self._runtime.kind})>"

    def _bind_threads(self) -> None:
        self._runtime = threads.thread_runtime(self._threads > 1)
        self._enter = ENTER_PROTOTYPE(self._runtime.enter)
        self._fork_count = threads.fork_count
        self._frames: list[_Frame] = []

    def _take_frame(self) -> _Frame:
        if self._fork_count != threads.fork_count:
            self._bind_threads()
        try:
            return self._frames.pop()
        except IndexError:
            manifest = self.manifest
            mismatch = package.check_target(manifest["target"])
            if mismatch is not None:
                raise UserError(f"the model cannot be called here: it is {mismatch}; it can be saved") from None
            return _Frame(
                manifest["arena_bytes"],
                manifest["scratch_bytes"],
                self._threads,
                address_of(self._constants),
                FIRST_INPUT_SLOT + len(self._inputs) + len(self._outputs),
                self._entry,
                self._runtime.address,
            )

    def _arrays(self, args: tuple[object, ...], named: Mapping[str, object]) -> list[Array]:
        values: Any = args
        if named or len(args) != len(self._inputs):
            values = bind(self._inputs, args, named)
        arrays = []
        for (slot, spec, dtype, shape), value in zip(self._input_plan, values, strict=True):
            # The usual case without a function call; `convert` says what is wrong with anything else.
            if type(value) is np.ndarray and value.dtype == dtype and value.shape == shape:
                flags = value.flags
                if flags.c_contiguous and flags.aligned:
                    arrays.append(value)
                    continue
            arrays.append(convert(spec, slot - FIRST_INPUT_SLOT, value))
        return arrays

    def _fill_slots(self, frame: _Frame, arrays: list[Array]) -> list[Array]:
        slots = frame.slots
        slot = FIRST_INPUT_SLOT
        for array in arrays:
            slots[slot] = address_of(array)
            slot += 1
        outputs = []
        near = slots[FIRST_INPUT_SLOT] or 0  # any will do where there is no input
        for slot, plan in self._output_plan:
            output, slots[slot] = plan.allocate(near)
            outputs.append(output)
        return outputs


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""
