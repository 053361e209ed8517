"""What a MODEL argument may be: a file, or one of the built-in examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tcompiler.errors import UserError
from tcompiler.runtime.model import Model

if TYPE_CHECKING:
    from tcompiler.pipeline import Observer

PREFIX = "example:"


def source(model: str) -> Any:
    """What the compiler is given for a MODEL argument.

    Raises:
        UserError: If there is no such file or example.
    """
    if model.startswith(PREFIX):
        from tcompiler.frontend import example_models

        return example_models.build(model[len(PREFIX) :])
    if not Path(model).is_file():
        raise UserError(f"there is no file {model}; give a .onnx file, or {PREFIX}NAME for a built-in example")
    return model


def open_model(
    model: str,
    threads: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    arrays: Mapping[str, NDArray[Any]] | None = None,
    observer: Observer | None = None,
) -> Model:
    """Loads a .tcm file, or compiles anything else, for one set of shapes.

    Args:
        model: The MODEL argument.
        threads: Threads that a call may use.
        shapes: Shapes where the model leaves them open, by name.
        arrays: Inputs that are given: their shapes, and their values where these decide shapes.
        observer: Hears of every pass, where something is compiled.

    Raises:
        UserError: If there is no such model or input, or its shapes stay open.
    """
    from tcompiler.errors import OpenValueError

    if model.endswith(".tcm"):
        from tcompiler.runtime.specialised import load_model

        loaded = load_model(model, threads)
    else:
        from tcompiler import api

        with Console(stderr=True).status("compiling"):
            loaded = api.compile(source(model), threads=threads, observer=observer)
    known = [spec.name for spec in loaded.inputs]
    for name in (*(shapes or {}), *(arrays or {})):
        if name not in known:
            raise UserError(f"the model has no input {name}; its inputs are {', '.join(sorted(known))}")
    if isinstance(loaded, Model):
        return loaded
    if not shapes and not arrays and len(loaded.specialisations) == 1:
        return loaded.specialisations[0]
    given = {*(shapes or {}), *(arrays or {})}
    left = [spec for spec in loaded.inputs if spec.closed_shape is None and spec.name not in given]
    if left:
        raise UserError(
            f"{model} leaves shapes open ({'; '.join(map(str, left))}): give them with --shape NAME=1,3,224,224"
        )
    try:
        return loaded.specialise(shapes or {}, arrays)
    except OpenValueError as error:
        needed = " ".join(f"--input {name}=FILE.npy" for name in error.inputs)
        raise UserError(f"{error}\non the command line: {needed}") from None


def parse_shapes(shapes: list[str]) -> dict[str, tuple[int, ...]]:
    """Reads NAME=1,3,224,224 options.

    Raises:
        UserError: If one is not of this form.
    """
    result = {}
    for text in shapes:
        name, separator, dims = text.partition("=")
        try:
            result[name] = tuple(int(d) for d in dims.split(",") if d)
        except ValueError:
            separator = ""
        if not separator:
            raise UserError(f'--shape "{text}": expected NAME=1,3,224,224')
    return result


def random_inputs(specs: Any, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random arrays for a model's inputs: normal floats, small integers.

    Args:
        specs: The model's input specifications (name, dtype, shape).
        seed: Of the generator.
    """
    rng = np.random.default_rng(seed)
    result: dict[str, NDArray[Any]] = {}
    for s in specs:
        dtype = np.dtype(s.numpy_dtype)
        if dtype.kind == "f":
            result[s.name] = rng.standard_normal(s.shape).astype(dtype)
        elif dtype.kind == "b":
            result[s.name] = rng.integers(0, 2, s.shape).astype(dtype)
        else:
            result[s.name] = rng.integers(0, 8, s.shape).astype(dtype)
    return result


def load_arrays(pairs: list[str]) -> Mapping[str, NDArray[Any]]:
    """Reads NAME=FILE.npy options.

    Raises:
        UserError: If one is not of this form or the file is no array.
    """
    result = {}
    for text in pairs:
        name, separator, path = text.partition("=")
        if not separator:
            raise UserError(f'--input "{text}": expected NAME=FILE.npy')
        try:
            result[name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"--input {name}: {path} cannot be read as a .npy array: {error}") from None
    return result
