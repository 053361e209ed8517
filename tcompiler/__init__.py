"""tcompiler: a tensor-program compiler and autotuner.

The names below are loaded when they are first used (PEP 562): `tc.load` imports the runtime and no compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tcompiler.api import compile as compile
    from tcompiler.frontend.builder import *  # noqa: F403
    from tcompiler.runtime.model import Model as Model
    from tcompiler.runtime.specialised import SpecialisedModel as SpecialisedModel
    from tcompiler.runtime.specialised import load_model

    load = load_model

_LAZY = {
    "compile": ("tcompiler.api", "compile"),
    "load": ("tcompiler.runtime.specialised", "load_model"),
    "Model": ("tcompiler.runtime.model", "Model"),
    "SpecialisedModel": ("tcompiler.runtime.specialised", "SpecialisedModel"),
    "UserError": ("tcompiler.errors", "UserError"),
    "InternalError": ("tcompiler.errors", "InternalError"),
}
"""Public names that do not come from the builder, with the module and name that they are loaded from."""

_BUILDER = "tcompiler.frontend.builder"


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'tcompiler' has no attribute {name!r}")
    module, attribute = _LAZY.get(name, (_BUILDER, name))
    try:
        value = getattr(importlib.import_module(module), attribute)
    except AttributeError:
        raise AttributeError(f"module 'tcompiler' has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    builder = importlib.import_module(_BUILDER)
    return sorted({*_LAZY, *(n for n in vars(builder) if not n.startswith("_")), "__version__"})
