"""Generated models: real ONNX files, seeded, kept in a cache folder and never committed.

`build(name)` gives the file and seeded inputs; `reference64` evaluates any such file in float64 without our compiler.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import platformdirs

from benchmarks.models.catalogue import NETWORKS, RECIPES, Exported, Light
from benchmarks.models.inputs import Input
from benchmarks.models.reference import reference64, relative_l2

if TYPE_CHECKING:
    import torch

__all__ = ["NAMES", "NETWORKS", "ModelFile", "build", "make_module", "reference64", "relative_l2"]

NAMES: tuple[str, ...] = tuple(RECIPES)
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class ModelFile:
    """An ONNX file and inputs for it.

    Args:
        name: Name of the model, one of `NAMES`.
        path: The ONNX file, one file with its weights.
        specs: What the inputs are, by name.
    """

    name: str
    path: Path
    specs: dict[str, Input]

    @property
    def inputs(self) -> dict[str, npt.NDArray[Any]]:
        """Seeded arrays by input name, the same every time."""
        return self.more_inputs(1)

    def more_inputs(self, seed: int) -> dict[str, npt.NDArray[Any]]:
        """Other inputs of the same names, shapes and distribution, from `seed`."""
        rng = np.random.default_rng(seed)
        return {name: spec.draw(rng) for name, spec in self.specs.items()}


def make_module(name: str) -> torch.nn.Module:
    """The PyTorch module that `build(name)` exports, the same weights every time.

    Args:
        name: One of `NAMES`, not of the light models.

    Returns:
        The module in eval mode, f32.

    Raises:
        KeyError: There is no such model, or it is no module.
    """
    import torch

    recipe = RECIPES[name]
    if not isinstance(recipe, Exported):
        raise KeyError(f"{name} is an ONNX file from the start, no PyTorch module")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return recipe.make()


def build(name: str) -> ModelFile:
    """Make a model's ONNX file, or find it in the cache.

    Args:
        name: One of `NAMES`.

    Returns:
        The file with its inputs.

    Raises:
        KeyError: There is no such model.
    """
    recipe = RECIPES[name]
    path = _cached_path(name, recipe)
    if not path.exists():
        for old in path.parent.glob(f"{name}-*.onnx"):
            if old.stem.rsplit("-", 1)[0] == name:
                old.unlink(missing_ok=True)
        _write(name, recipe, path)
    if isinstance(recipe, Light):
        from benchmarks.models.light import image_input

        return ModelFile(name, path, image_input(recipe.name))
    return ModelFile(name, path, dict(recipe.inputs))


def _cached_path(name: str, recipe: Exported | Light) -> Path:
    """A file named after everything that it depends on: its recipe, our sources and the exporter's version."""
    if isinstance(recipe, Light):
        sources, packages = ["light"], ["onnx"]
    else:
        sources, packages = ["export", *recipe.sources], ["torch", "onnxscript", "transformers"]
    digest = hashlib.sha256(repr(recipe).encode())
    for source in sources:
        digest.update((_FOLDER / f"{source}.py").read_bytes())
    for package in packages:
        digest.update(f"{package} {importlib.metadata.version(package)}\n".encode())
    folder = Path(platformdirs.user_cache_dir("tcompiler")) / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{digest.hexdigest()[:16]}.onnx"


def _write(name: str, recipe: Exported | Light, path: Path) -> None:
    """Write the ONNX file; published by rename, so that a reader sees a whole file or none."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".onnx")
    os.close(handle)
    try:
        if isinstance(recipe, Light):
            import onnx

            from benchmarks.models.light import light_model

            onnx.save(light_model(recipe.name, recipe.narrow), temporary)
        else:
            from benchmarks.models.export import export

            arrays = ModelFile(name, path, dict(recipe.inputs)).inputs
            export(make_module(name), arrays, recipe.outputs, temporary, optimize=recipe.optimize)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
