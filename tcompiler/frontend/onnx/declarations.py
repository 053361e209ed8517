"""The inputs of a model as it declares them, with dimensions that may be open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tcompiler.errors import CompileError, OpenShapeError
from tcompiler.frontend.onnx.data import element_type
from tcompiler.frontend.onnx.report import plain, quoted
from tcompiler.ir.dtypes import DType

ShapeMap = Mapping[str, Sequence[int] | int]
"""Shapes by the names of inputs, or extents by the names of open dimensions."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """An input as a model declares it.

    Attributes:
        name: Its name.
        dtype: Element type.
        shape: Extents; a dimension that the model leaves open is its name there ("" where it has none). None where not
            even the rank is known.
    """

    name: str
    dtype: DType
    shape: tuple[int | str, ...] | None


def declarations(graph: Any, name: str) -> Iterator[Declaration]:
    """The inputs of a GraphProto that are no initializers.

    Raises:
        CompileError: If one is declared twice, or is no tensor of a type that we have.
    """
    stored = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    seen: set[str] = set()
    for v in graph.input:
        if v.name in stored:
            continue
        if v.name in seen:
            raise CompileError(f"{name}: input {quoted(v.name)} is declared twice")
        seen.add(v.name)
        kind = v.type.WhichOneof("value")
        if kind != "tensor_type":
            found = kind.removesuffix("_type").replace("_", " ") if kind else "value without a type"
            raise CompileError(f"{name}: input {quoted(v.name)} is {_article(found)}, expected a tensor")
        t = v.type.tensor_type
        dtype = element_type(t.elem_type, f"{name}: input {quoted(v.name)}")
        dims = [int(d.dim_value) if d.HasField("dim_value") else str(d.dim_param) for d in t.shape.dim]
        yield Declaration(v.name, dtype, tuple(dims) if t.HasField("shape") else None)


def narrowed(declared: Sequence[Declaration], shapes: ShapeMap, name: str) -> tuple[Declaration, ...]:
    """Inputs with given shapes and named extents put in.

    Args:
        declared: The inputs.
        shapes: Shapes of some of them, and extents by the names of dimensions.
        name: What messages call the model.

    Raises:
        CompileError: If a name is none of the model's, or a shape does not fit.
    """
    sizes = {key: int(s) for key, s in shapes.items() if isinstance(s, (int, np.integer))}
    given = {key: tuple(int(e) for e in s) for key, s in shapes.items() if not isinstance(s, (int, np.integer))}
    names = [v.name for v in declared]
    for key in given:
        if key not in names:
            raise CompileError(f"{name} has no input {quoted(key)}; its inputs are {plain(', '.join(names)) or 'none'}")
    for v in declared:
        if v.name in given and v.shape is not None and len(given[v.name]) == len(v.shape):
            for d, e in zip(v.shape, given[v.name], strict=True):
                if isinstance(d, str) and d:
                    sizes.setdefault(d, e)
    dimensions = {d for v in declared for d in v.shape or () if isinstance(d, str) and d}
    for key in sizes:
        if key not in dimensions:
            known = (
                f"its open dimensions are {plain(', '.join(sorted(dimensions)))}"
                if dimensions
                else "it leaves none open"
            )
            raise CompileError(f"{name} has no dimension {quoted(key)}; {known}")
    result = []
    for v in declared:
        dims = None if v.shape is None else tuple(sizes.get(d, d) if isinstance(d, str) else d for d in v.shape)
        new = given.get(v.name, dims)
        if dims is not None and new is not dims and new is not None:
            pairs = zip(dims, new, strict=False)
            if len(new) != len(dims) or not all(isinstance(d, str) or d == e for d, e in pairs):
                raise CompileError(
                    f"{name}: input {quoted(v.name)} has the shape {_dims(v)}, which {list(new)} does not fit"
                )
        if new is not None and any(isinstance(e, int) and e < 0 for e in new):
            found = "has the shape " + _dims(v) if new is dims else f"is given the shape {list(new)}"
            raise CompileError(f"{name}: input {quoted(v.name)} {found}, expected extents of at least 0")
        result.append(Declaration(v.name, v.dtype, new))
    return tuple(result)


def closed_shape(v: Declaration, name: str) -> tuple[int, ...]:
    """The shape of an input that has to be fixed by now.

    Raises:
        OpenShapeError: If it is not.
    """
    if v.shape is None:
        raise OpenShapeError(
            f"{name}: input {quoted(v.name)} has no shape; pass shapes={{{quoted(v.name)}: (…)}} to fix it"
        )
    open_dims = [_dim(d) for d in v.shape if isinstance(d, str)]
    if open_dims:
        example = plain(", ".join("1" if isinstance(d, str) else str(d) for d in v.shape))
        raise OpenShapeError(
            f"{name}: input {quoted(v.name)} has the shape {_dims(v)}, where {plain(', '.join(open_dims))} "
            f"{'is' if len(open_dims) == 1 else 'are'} not fixed; pass its shape, for example "
            f"shapes={{{quoted(v.name)}: ({example}{',' if len(v.shape) == 1 else ''})}}"
        )
    return tuple(d for d in v.shape if isinstance(d, int))


def _dims(v: Declaration) -> str:
    return plain("[" + ", ".join(_dim(d) for d in v.shape or ()) + "]")


def _dim(d: int | str) -> str:
    """An extent as messages show it; a name that is no plain word in quotes."""
    return (
        d
        if isinstance(d, str) and d.isidentifier() and len(d) < 40
        else quoted(d)
        if d and isinstance(d, str)
        else str(d) or "?"
    )


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
