"""Generated models: real ONNX files exported from PyTorch, seeded, kept in a cache folder and never committed.

`build(name)` gives the file and seeded inputs; `reference64` evaluates any such file in float64 without our compiler.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import platformdirs

from benchmarks.models.reference import reference64, relative_l2

if TYPE_CHECKING:
    import torch

__all__ = ["NAMES", "ModelFile", "build", "make_module", "reference64", "relative_l2"]

_OPSET = 18


@dataclass(frozen=True, slots=True)
class ModelFile:
    """An ONNX file and inputs for it.

    Args:
        name: Name of the model, one of `NAMES`.
        path: The ONNX file, one file with its weights.
        inputs: Seeded f32 arrays by input name, standard normal.
    """

    name: str
    path: Path
    inputs: dict[str, npt.NDArray[Any]]

    def more_inputs(self, seed: int) -> dict[str, npt.NDArray[Any]]:
        """Other inputs of the same names, shapes and distribution, from `seed`."""
        rng = np.random.default_rng(seed)
        return {name: rng.standard_normal(x.shape).astype(x.dtype) for name, x in self.inputs.items()}


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a model is made: a function that builds the module (torch is seeded before it), and the input's shape."""

    make: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]
    optimize: bool = True


def _resnet(widths: tuple[int, ...], depth: int, classes: int, shape: tuple[int, ...]) -> torch.nn.Module:
    import torch

    from benchmarks.models.networks import ResNet

    model = ResNet(widths, depth, classes)
    model.initialise(torch.randn(2, *shape[1:]))
    return model


def _resnet18() -> torch.nn.Module:
    return _resnet((64, 128, 256, 512), 2, 1000, (1, 3, 224, 224))


def _mlp(sizes: tuple[int, ...]) -> torch.nn.Module:
    from benchmarks.models.networks import MLP

    return MLP(sizes).eval()


def _transformer(dim: int, heads: int) -> torch.nn.Module:
    from benchmarks.models.networks import TransformerBlock

    return TransformerBlock(dim, heads).eval()


# `optimize=False` keeps the BatchNormalization nodes that torch's exporter otherwise folds into the convolutions.
_RECIPES: dict[str, _Recipe] = {
    "resnet18": _Recipe(_resnet18, (1, 3, 224, 224), optimize=False),
    "resnet18_batch2": _Recipe(_resnet18, (2, 3, 224, 224), optimize=False),
    "resnet18_folded": _Recipe(_resnet18, (1, 3, 224, 224)),
    "resnet_tiny": _Recipe(lambda: _resnet((8, 12, 17), 1, 10, (1, 3, 45, 37)), (1, 3, 45, 37), optimize=False),
    "mlp": _Recipe(lambda: _mlp((256, 512, 512, 128, 10)), (32, 256)),
    "mlp_odd": _Recipe(lambda: _mlp((61, 127, 93, 33, 5)), (7, 61)),
    "transformer": _Recipe(lambda: _transformer(128, 4), (1, 64, 128)),
    "transformer_odd": _Recipe(lambda: _transformer(60, 3), (1, 37, 60)),
}

NAMES: tuple[str, ...] = tuple(_RECIPES)


def make_module(name: str) -> torch.nn.Module:
    """The PyTorch module that `build(name)` exports, the same weights every time.

    Args:
        name: One of `NAMES`.

    Returns:
        The module in eval mode, f32.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _RECIPES[name].make()


def build(name: str) -> ModelFile:
    """Make a model's ONNX file, or find it in the cache.

    Args:
        name: One of `NAMES`.

    Returns:
        The file with seeded inputs.

    Raises:
        KeyError: There is no such model.
    """
    recipe = _RECIPES[name]
    path = _cache_folder() / f"{name}.onnx"
    if not path.exists():
        _export(make_module(name), recipe, path)
    rng = np.random.default_rng(1)
    return ModelFile(name, path, {"x": rng.standard_normal(recipe.shape).astype(np.float32)})


def _cache_folder() -> Path:
    """A folder named after everything that a file depends on: our source and the exporter's version."""
    digest = hashlib.sha256()
    for source in ("__init__.py", "networks.py"):
        digest.update((Path(__file__).parent / source).read_bytes())
    for package in ("torch", "onnxscript"):
        digest.update(f"{package} {importlib.metadata.version(package)}\n".encode())
    folder = Path(platformdirs.user_cache_dir("tcompiler")) / "models" / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _export(module: torch.nn.Module, recipe: _Recipe, path: Path) -> None:
    """Write the ONNX file; published by rename, so that a reader sees a whole file or none."""
    import onnxscript.optimizer
    import torch

    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".onnx")
    os.close(handle)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (torch.zeros(recipe.shape),),
            input_names=["x"],
            output_names=["y"],
            opset_version=_OPSET,
            dynamo=True,
            optimize=recipe.optimize,
            verbose=False,
        )
    assert program is not None
    if not recipe.optimize:
        onnxscript.optimizer.fold_constants(program.model)
        onnxscript.optimizer.remove_unused_nodes(program.model)
    program.save(temporary, external_data=False)
    os.replace(temporary, path)
