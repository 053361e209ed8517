"""The public face: `compile`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tcompiler.backends.llvm.workers import start_workers
from tcompiler.errors import CompileError
from tcompiler.frontend.module import GraphModule
from tcompiler.runtime.model import Model
from tcompiler.target.named import get, host
from tcompiler.target.target import Target

if TYPE_CHECKING:
    from tcompiler.pipeline import Compilation, Observer


def compile(
    model: str | os.PathLike[str] | GraphModule | Any,
    target: str | Target = "cpu",
    threads: int | None = None,
    accuracy: str = "high",
    shapes: Mapping[str, Sequence[int]] | None = None,
    observer: Observer | None = None,
) -> Model:
    """Compiles a model.

    Args:
        model: Path of an ONNX file, an `onnx.ModelProto`, its bytes, or a traced graph (`tc.trace`).
        target: "cpu" for this machine, a target's name (`tcompiler targets` lists them), or a Target.
        threads: Threads that a call may use; None means one per core of the target.
        accuracy: "exact" (reassociation only), "high" (at most ten times the error of a plain fp32 evaluation) or
            "fast" (lower precisions too).
        shapes: Shapes of inputs that the model leaves open, by the model's names.
        observer: Hears of every pass.

    Returns:
        The compiled model, ready to be called or saved.

    Raises:
        CompileError: If the model or a part of it is not supported; the message names every such part.
        UserError: If the target is unknown or a file cannot be read.
    """
    machine = resolve_target(target)
    start_workers(machine.cores)
    from tcompiler.pipeline import compile_module
    from tcompiler.runtime.package import Artifact

    count = machine.cores if threads is None else threads
    if count < 1:
        raise CompileError(f"threads is {count}, expected 1 or more")
    artifact = compile_module(read(model, shapes), machine, count, accuracy, observer)
    assert isinstance(artifact, Artifact)
    return Model(artifact)


def compile_stages(
    model: str | os.PathLike[str] | GraphModule | Any,
    stop_after: str,
    target: str | Target = "cpu",
    threads: int | None = None,
    accuracy: str = "high",
    shapes: Mapping[str, Sequence[int]] | None = None,
    observer: Observer | None = None,
) -> Compilation:
    """Compiles a model up to a stage and returns what there is of it, its texts by stage included.

    Args:
        model: As for compile.
        stop_after: One of pipeline.STAGES.
        target: As for compile.
        threads: As for compile.
        accuracy: As for compile.
        shapes: As for compile.
        observer: As for compile.

    Raises:
        CompileError: As for compile, or if there is no such stage.
    """
    from tcompiler.pipeline import STAGES, Compilation, compile_module

    if stop_after not in STAGES:
        raise CompileError(f'there is no stage "{stop_after}"; the stages are {", ".join(STAGES)}')
    machine = resolve_target(target)
    count = machine.cores if threads is None else threads
    result = compile_module(read(model, shapes), machine, count, accuracy, observer, stop_after)
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


def read(model: str | os.PathLike[str] | GraphModule | Any, shapes: Mapping[str, Sequence[int]] | None) -> GraphModule:
    """Reads a model in any of the forms that compile takes.

    Raises:
        CompileError: If it is of no such form, or not supported.
    """
    if isinstance(model, GraphModule):
        if shapes:
            raise CompileError("shapes are given for a traced graph, whose shapes are fixed; they are for ONNX models")
        return model
    from tcompiler.frontend.onnx import read as read_onnx

    return read_onnx(model, shapes=shapes) if shapes is not None else read_onnx(model)
