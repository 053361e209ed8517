"""A model that leaves shapes, or values that decide shapes, open: it holds one compiled model for each set of them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tcompiler.errors import ArgumentError, UserError
from tcompiler.runtime import collection
from tcompiler.runtime.arguments import OpenSpec, TensorSpec, bind, convert
from tcompiler.runtime.collection import Collection, Member
from tcompiler.runtime.manifest import KernelEntry, Manifest
from tcompiler.runtime.memory import Array
from tcompiler.runtime.model import Model, Result
from tcompiler.runtime.package import Artifact

CAPACITY = 64
"""How many specialisations a model keeps; the one that was used longest ago is dropped first."""

Shapes = Mapping[str, tuple[int, ...]]
Compiler = Callable[[Shapes, Mapping[str, Array]], tuple[Artifact, frozenset[str]]]
"""Compiles for the shapes and values of the inputs; returns also the names of inputs whose values were needed."""

_Signature = tuple[tuple[int, ...], ...]
_Key = tuple[_Signature, tuple[str, ...], tuple[bytes, ...]]
"""Shapes of all inputs, names of those whose values are compiled in, and their bytes. Which values matter may depend on
the shapes and on other values (the branch of an If): so one signature may occur with several sets of names."""


@dataclass(slots=True, eq=False)
class _Specialisation:
    """A model compiled for some shapes and values."""

    model: Model
    shapes: dict[str, tuple[int, ...]]
    values: dict[str, Array]


class SpecialisedModel:
    """A model that is compiled anew for every set of input shapes (and of values such as axes, pads and sizes).

    What was compiled is kept, so a second call with the same shapes costs a lookup. Calls are safe from any number of
    threads; one of them compiles while those that need nothing new go on.

    Args:
        inputs: The inputs as the model declares them.
        threads: How many threads a call may use.
        compiler: Compiles for new shapes; None for a model that was loaded from a file.
        members: What is compiled already.
    """

    __slots__ = ("_compiler", "_fixed", "_inputs", "_known", "_lock", "_threads")

    def __init__(
        self,
        inputs: Sequence[OpenSpec],
        threads: int,
        compiler: Compiler | None,
        members: Sequence[Member] = (),
    ) -> None:
        self._inputs = tuple(inputs)
        self._threads = threads
        self._compiler = compiler
        self._known: OrderedDict[_Key, _Specialisation] = OrderedDict()
        self._fixed: dict[_Signature, set[tuple[str, ...]]] = {}
        self._lock = threading.RLock()
        for member in members:
            self._keep(member.artifact, member.shapes, member.values)

    def __call__(self, /, *args: object, **named: object) -> Result:
        """Run the model, compiling it first if these shapes (or values that decide shapes) are new.

        Args:
            *args: Inputs in the model's order, as for `Model`.
            **named: Inputs by name.

        Returns:
            A new array, or a tuple of arrays in the model's order if it has more than one output (or none).

        Raises:
            ArgumentError: The arguments are not those that the model takes, or the model was loaded from a file that
                has no code for their shapes.
            CompileError: The model cannot be compiled for these shapes.
        """
        values = bind(self._inputs, args, named)
        arrays = {
            spec.name: convert(spec, k, value) for k, (spec, value) in enumerate(zip(self._inputs, values, strict=True))
        }
        model = self._model({name: a.shape for name, a in arrays.items()}, arrays)
        return model(*(arrays[spec.name] for spec in model.inputs))

    def specialise(self, shapes: Mapping[str, Sequence[int]], values: Mapping[str, Array] | None = None) -> Model:
        """The model for some shapes, compiled if there is none yet.

        Args:
            shapes: The shape of every input that leaves its own open, by name.
            values: Arrays for inputs whose values decide shapes, by name; a shape is not needed for these.

        Returns:
            The compiled model; inputs whose values were needed are none of its inputs.

        Raises:
            ArgumentError: A name is none of the model's, a shape does not fit or is missing.
            CompileError: The model cannot be compiled for these shapes, or needs a value that is not given.
        """
        arrays = dict(values or {})
        known = {spec.name: spec for spec in self._inputs}
        for name in (*shapes, *arrays):
            if name not in known:
                raise ArgumentError(f"the model has no input {name!r}; its inputs are {', '.join(known)}")
        given = {name: tuple(int(e) for e in shape) for name, shape in shapes.items()}
        for k, spec in enumerate(self._inputs):
            if spec.name in arrays:
                arrays[spec.name] = convert(spec, k, arrays[spec.name])
                given[spec.name] = arrays[spec.name].shape
            shape = given.get(spec.name, spec.closed_shape)
            if shape is None:
                raise ArgumentError(f"input {spec} leaves its shape open: give its shape")
            if not spec.fits(shape):
                raise ArgumentError(f"input {spec} cannot have the shape {shape}")
            given[spec.name] = shape
        return self._model(given, arrays)

    @property
    def inputs(self) -> tuple[OpenSpec, ...]:
        """The inputs, in order; an extent that a call decides is its name in the model."""
        return self._inputs

    @property
    def specialisations(self) -> tuple[Model, ...]:
        """The compiled models, the one that was used longest ago first."""
        with self._lock:
            return tuple(s.model for s in self._known.values())

    @property
    def threads(self) -> int:
        """How many threads a call may use."""
        return self._threads

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs of the specialisation that was used last."""
        return self._latest().outputs

    @property
    def manifest(self) -> Manifest:
        """The manifest of the specialisation that was used last; not to be changed."""
        return self._latest().manifest

    @property
    def kernels(self) -> list[KernelEntry]:
        """What is known of each kernel of the specialisation that was used last."""
        return self._latest().kernels

    def text(self, stage: str, kernel: str | None = None) -> str:
        """The text of a stage of the specialisation that was used last: see `Model.text`.

        Raises:
            UserError: There is none yet, or it has no such stage or kernel.
        """
        return self._latest().text(stage, kernel)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all specialisations to one file that `load_model` reads.

        Args:
            path: File to write; replaced if it exists.

        Raises:
            UserError: There is no specialisation yet, or the file cannot be written.
        """
        with self._lock:
            self._latest()
            members = [Member(s.model.artifact, s.shapes, s.values) for s in self._known.values()]
        collection.save(Collection(self._inputs, self._threads, members), path)

    def __repr__(self) -> str:
        return f"<SpecialisedModel ({', '.join(map(str, self._inputs))}), compiled for {len(self._known)}>"

    def _latest(self) -> Model:
        with self._lock:
            if not self._known:
                names = ", ".join(f"{spec.name!r}: (…)" for spec in self._inputs if spec.closed_shape is None)
                how = f" (shapes={{{names}}})" if names else ""
                raise UserError(f"this model is compiled for no shapes yet: call it, or compile it for some{how}")
            return next(reversed(self._known.values())).model

    def _model(self, shapes: Shapes, arrays: Mapping[str, Array]) -> Model:
        signature = tuple(shapes[spec.name] for spec in self._inputs)
        with self._lock:
            found = self._find(signature, arrays)
            if found is None:
                if self._compiler is None:
                    raise ArgumentError(self._unknown(shapes))
                artifact, fixed = self._compiler(shapes, arrays)
                found = self._keep(artifact, shapes, {name: arrays[name] for name in fixed})
            return found.model

    def _find(self, signature: _Signature, arrays: Mapping[str, Array]) -> _Specialisation | None:
        for names in self._fixed.get(signature, ()):
            if all(name in arrays for name in names):
                key = (signature, names, tuple(arrays[name].tobytes() for name in names))
                if key in self._known:
                    self._known.move_to_end(key)
                    return self._known[key]
        return None

    def _keep(self, artifact: Artifact, shapes: Shapes, values: Mapping[str, Array]) -> _Specialisation:
        signature = tuple(shapes[spec.name] for spec in self._inputs)
        names = tuple(sorted(values))
        kept = {name: values[name].copy() for name in names}
        new = _Specialisation(Model(artifact, self._threads), dict(shapes), kept)
        self._fixed.setdefault(signature, set()).add(names)
        self._known[signature, names, tuple(kept[name].tobytes() for name in names)] = new
        while len(self._known) > CAPACITY:
            self._known.popitem(last=False)
        return new

    def _unknown(self, shapes: Shapes) -> str:
        latest = list(self._known.values())[:-4:-1]
        described = "; ".join(map(_described, latest)) + ("; …" if len(self._known) > len(latest) else "")
        asked = ", ".join(f"{name}: {shape}" for name, shape in shapes.items())
        return (
            f"this saved model has no code for ({asked}), or for the values that decide shapes; it has code for "
            f"{described}; compile the model for these (shapes=…) and save it again"
        )


def _described(s: _Specialisation) -> str:
    shown = [f"{name}: {shape}" for name, shape in s.shapes.items() if name not in s.values]
    shown += [f"{name} = {value.tolist()}" for name, value in s.values.items()]
    return f"({', '.join(shown)})"


def load_model(path: str | os.PathLike[str], threads: int | None = None) -> Model | SpecialisedModel:
    """Load a saved model.

    Args:
        path: A file that `save` wrote.
        threads: How many threads a call may use; None means as many as the model was compiled for.

    Returns:
        The model, ready to be called.

    Raises:
        LoadError: The file is no saved model, damaged, of another version, or for another machine.
    """
    loaded = collection.load(path)
    if isinstance(loaded, Artifact):
        return Model(loaded, threads)
    count = loaded.threads if threads is None else threads
    return SpecialisedModel(loaded.inputs, count, None, loaded.members)
