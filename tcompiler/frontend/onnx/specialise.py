"""An ONNX model that leaves shapes open, read and compiled for those of each call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import CompileError, OpenValueError
from tcompiler.frontend.module import GraphModule
from tcompiler.frontend.onnx.declarations import Declaration, ShapeMap
from tcompiler.frontend.onnx.reader import OnnxModel
from tcompiler.runtime.arguments import OpenSpec
from tcompiler.runtime.memory import Array
from tcompiler.runtime.package import Artifact
from tcompiler.runtime.specialised import Shapes, SpecialisedModel

Values = Mapping[str, NDArray[np.generic]]


def specialised(
    source: OnnxModel,
    threads: int,
    build: Callable[[GraphModule], Artifact],
    wanted: Sequence[ShapeMap],
    values: Values,
) -> SpecialisedModel:
    """A model that is compiled when it is called.

    Args:
        source: The model.
        threads: How many threads a call may use.
        build: Compiles a graph.
        wanted: Shapes to compile for at once, by the names of inputs or open dimensions. One mapping may leave
            dimensions open; these are then left to the calls.
        values: Arrays for inputs whose values decide shapes, used with each of `wanted`.

    Raises:
        CompileError: If the model is not supported, or shapes do not fit it.
    """
    source.check_operators()
    narrowed = [source.narrow({**shapes, **{name: np.shape(a) for name, a in values.items()}}) for shapes in wanted]
    partial = [inputs for inputs in narrowed if not _closed(inputs)]
    if partial and len(narrowed) > 1:
        spec = next(spec for spec in map(_spec, partial[0]) if spec.closed_shape is None)
        raise CompileError(f"{source.name}: input {spec} is left open in one of {len(narrowed)} sets of shapes")

    def compiler(shapes: Shapes, arrays: Mapping[str, Array]) -> tuple[Artifact, frozenset[str]]:
        fixed: dict[str, NDArray[np.generic]] = {}
        while True:
            try:
                module = source.read({n: s for n, s in shapes.items() if n not in fixed}, fixed)
            except OpenValueError as error:
                if not all(name in arrays for name in error.inputs):
                    raise
                # The value of one may show that another matters: the branch that a condition takes.
                fixed.update(
                    {d.name: arrays[d.name].view(d.dtype.numpy) for d in source.inputs if d.name in error.inputs}
                )
                continue
            return build(module), frozenset(fixed)

    model = SpecialisedModel([_spec(d) for d in (partial[0] if partial else source.inputs)], threads, compiler)
    if not partial:
        for inputs in narrowed:
            model.specialise({d.name: shape for d in inputs if (shape := _spec(d).closed_shape) is not None}, values)
    return model


def _spec(declaration: Declaration) -> OpenSpec:
    return OpenSpec(declaration.name, declaration.dtype.name, declaration.shape)


def _closed(inputs: Sequence[Declaration]) -> bool:
    return all(_spec(d).closed_shape is not None for d in inputs)
