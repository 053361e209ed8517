"""The public face: `compile`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.backends.llvm.workers import start_workers
from tcompiler.errors import CompileError, OpenShapeError, OpenValueError
from tcompiler.frontend.module import GraphModule
from tcompiler.runtime.model import Model
from tcompiler.runtime.package import Artifact
from tcompiler.runtime.specialised import SpecialisedModel
from tcompiler.target.named import get, host
from tcompiler.target.target import Target

if TYPE_CHECKING:
    from tcompiler.frontend.onnx.declarations import ShapeMap
    from tcompiler.pipeline import Compilation, Observer


Values = Mapping[str, NDArray[np.generic]]
"""Arrays by the names of inputs."""


def compile(
    model: str | os.PathLike[str] | GraphModule | Any,
    target: str | Target = "cpu",
    threads: int | None = None,
    accuracy: str = "high",
    shapes: ShapeMap | Sequence[ShapeMap] | None = None,
    values: Values | None = None,
    observer: Observer | None = None,
    example_inputs: Sequence[Any] | None = None,
    dynamic_shapes: Any = None,
) -> Model | SpecialisedModel:
    """Compiles a model.

    A model that leaves dimensions open, or takes inputs whose values decide shapes (axes, pads, sizes), is compiled
    when it is called, once for each set of these; `shapes` does so ahead.

    Args:
        model: Path of an ONNX file, an `onnx.ModelProto`, its bytes, a traced graph (`tc.trace`), or a
            `torch.nn.Module`.
        target: "cpu" for this machine, a target's name (`tcompiler targets` lists them), or a Target.
        threads: Threads that a call may use; None means one per core of the target.
        accuracy: "exact" (reassociation only), "high" (at most ten times the error of a plain fp32 evaluation) or
            "fast" (lower precisions too).
        shapes: Shapes to compile for, by the names of inputs or of dimensions that the model leaves open; or a list of
            such mappings, one for each specialisation.
        values: Arrays for inputs whose values decide shapes, by name, to compile for ahead as well.
        observer: Hears of every pass.
        example_inputs: Arguments of a PyTorch module's forward function, which its exporter traces with.
        dynamic_shapes: Which dimensions of a PyTorch module's inputs stay open, in the form that torch.export takes.

    Returns:
        A Model if the model fixes everything, else a SpecialisedModel; either is ready to be called or saved.

    Raises:
        CompileError: If the model or a part of it is not supported; the message names every such part.
        UserError: If the target is unknown or a file cannot be read.
    """
    machine = resolve_target(target)
    start_workers(machine.cores)
    from tcompiler.pipeline import compile_module

    count = machine.cores if threads is None else threads
    if count < 1:
        raise CompileError(f"threads is {count}, expected 1 or more")

    def build(module: GraphModule) -> Artifact:
        artifact = compile_module(module, machine, count, accuracy, observer)
        assert isinstance(artifact, Artifact)
        return artifact

    if isinstance(model, GraphModule):
        return Model(build(read(model, shapes, values)))
    from tcompiler.frontend.onnx.reader import OnnxModel
    from tcompiler.frontend.onnx.specialise import specialised

    source = OnnxModel(_exported(model, example_inputs, dynamic_shapes))
    if not shapes and not values:
        try:
            module = source.read()
        except (OpenShapeError, OpenValueError):
            pass
        else:
            del source  # the weights as they were in the file
            return Model(build(module))
    if shapes is None or isinstance(shapes, Mapping):
        wanted = [shapes or {}] if shapes or values else []
    else:
        wanted = list(shapes)
    return specialised(source, count, build, wanted, values or {})


def _exported(model: Any, example_inputs: Sequence[Any] | None, dynamic_shapes: Any) -> Any:
    """A PyTorch module as an ONNX model; anything else as it is."""
    from tcompiler.frontend.torch import export, is_module

    if is_module(model):
        if example_inputs is None:
            raise CompileError("a PyTorch module is traced with example_inputs, and none are given")
        return export(model, example_inputs, dynamic_shapes)
    if example_inputs is not None or dynamic_shapes is not None:
        raise CompileError(f"example_inputs are for a PyTorch module, but the model is a {type(model).__name__}")
    return model


def compile_stages(
    model: str | os.PathLike[str] | GraphModule | Any,
    stop_after: str,
    target: str | Target = "cpu",
    threads: int | None = None,
    accuracy: str = "high",
    shapes: ShapeMap | None = None,
    values: Values | None = None,
    observer: Observer | None = None,
) -> Compilation:
    """Compiles a model up to a stage and returns what there is of it, its texts by stage included.

    Args:
        model: As for compile.
        stop_after: One of pipeline.STAGES.
        target: As for compile.
        threads: As for compile.
        accuracy: As for compile.
        shapes: As for compile, one mapping.
        values: As for compile; the inputs that they fix are no inputs of the stages.
        observer: As for compile.

    Raises:
        CompileError: As for compile, or if there is no such stage.
    """
    from tcompiler.pipeline import STAGES, Compilation, compile_module

    if stop_after not in STAGES:
        raise CompileError(f'there is no stage "{stop_after}"; the stages are {", ".join(STAGES)}')
    machine = resolve_target(target)
    count = machine.cores if threads is None else threads
    result = compile_module(read(model, shapes, values), machine, count, accuracy, observer, stop_after)
    assert isinstance(result, Compilation)
    return result


def resolve_target(target: str | Target) -> Target:
    """The target that a name stands for.

    Raises:
        UserError: If there is none; the message lists them.
    """
    if isinstance(target, Target):
        return target
    return host() if target in ("cpu", "host") else get(target)


def read(
    model: str | os.PathLike[str] | GraphModule | Any,
    shapes: ShapeMap | Sequence[ShapeMap] | None,
    values: Values | None = None,
) -> GraphModule:
    """Reads a model in any of the forms that compile takes, for one set of shapes.

    Raises:
        CompileError: If it is of no such form, not supported, or leaves shapes open that are not given.
    """
    if isinstance(model, GraphModule):
        if shapes or values:
            raise CompileError("shapes are given for a traced graph, whose shapes are fixed; they are for ONNX models")
        return model
    from tcompiler.frontend.onnx import read as read_onnx

    if shapes is not None and not isinstance(shapes, Mapping):
        raise CompileError("a list of shapes is given where one mapping is expected: a stage is that of one of them")
    return read_onnx(model, shapes, values)
