"""What a MODEL argument may be: a file, or one of the built-in examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import UserError

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
